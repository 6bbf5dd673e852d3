"""Source lines for functions typed here, in tracebacks of engines.

An engine has no source for a function that was typed into this session, or
that is in a script only this machine has, and shows its frames without.  We
have it; so the lines are put in where the error arrives.
"""

from __future__ import annotations

import linecache
import re
import sys
from functools import partial

from ..excerpt import excerpt

__all__ = ["add_source"]

_color = re.compile(r"\x1b\[[0-9;]*m")
_frame = re.compile(r"File (.+):(\d+)(?:, in .*)?")
_MISSING = "Could not get source"  # what IPython's tracebacks say


def add_source(traceback: str) -> str:
    """The traceback with what this session knows of its source."""
    if "File " not in traceback:
        return traceback
    lines = traceback.split("\n")
    out: list[str] = []
    i = 0
    while i < len(lines):
        out.append(lines[i])
        i += 1
        found = _frame.fullmatch(_color.sub("", out[-1]))
        if found is None:
            continue
        missing = i < len(lines) and _MISSING in lines[i]
        if not missing and i < len(lines) and lines[i].strip():
            continue  # the engine had it
        own = _own_lines(found[1])
        if own:
            out += excerpt(partial(_line, own), int(found[2]))
            i += missing
    return "\n".join(out)


def _own_lines(name: str) -> list[str]:
    """The source under a name, if it is of this session; else [].

    Only what was typed, and the script that runs: names come from afar, and
    must not make us read files.
    """
    entry = linecache.cache.get(name)
    if entry is not None and len(entry) == 4 and entry[1] is None:
        return entry[2]
    if name == getattr(sys.modules.get("__main__"), "__file__", None):
        return linecache.getlines(name)
    return []


def _line(lines: list[str], n: int) -> str:
    return lines[n - 1] if 0 < n <= len(lines) else ""
