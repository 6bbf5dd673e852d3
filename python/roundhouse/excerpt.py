"""A few lines of source around the one that matters, as tracebacks show them."""

from __future__ import annotations

from collections.abc import Callable

GREEN = "\x1b[0;32m"
OFF = "\x1b[0m"

_CONTEXT = 2  # lines before and after


def excerpt(getline: Callable[[int], str], lineno: int) -> list[str]:
    """Numbered lines around line lineno, which has an arrow; [] without source.

    getline gives a line by its number, counted from 1, and "" for one that is
    not there.
    """
    if not getline(lineno):
        return []
    lines = []
    for n in range(max(1, lineno - _CONTEXT), lineno + _CONTEXT + 1):
        text = getline(n).rstrip("\n")
        if n == lineno:
            arrow = f"---->{n:>2}" if n < 100 else f"-->{n:>4}"
            lines.append(f"{GREEN}{arrow}{OFF} {text}")
        elif text or n < lineno:
            lines.append(f"{n:>7} {text}")
    return lines
