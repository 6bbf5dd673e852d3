"""The command `roundhouse`: every command of the package under one name."""

from __future__ import annotations

import difflib
import os
import sys

from ..cluster.app import VERBS, run_verb

__all__ = ["main"]

# word -> (how to run it, one line for the list)
_PROGRAMS = {
    "controller": ("run a controller (ipcontroller)"),
    "engine": ("run one engine (ipengine)"),
}


def _help() -> str:
    lines = [
        "usage: roundhouse COMMAND [options]",
        "",
        "Interactive parallel computing with live engines.",
        "",
        "Commands",
        *(f"  {verb:12}{text}" for verb, (_, text) in VERBS.items()),
        *(f"  {word:12}{text}" for word, text in _PROGRAMS.items()),
        f"  {'profile':12}create and list profiles",
        "",
        "roundhouse COMMAND --help explains a command.",
        "",
        "Examples",
        "  roundhouse start -n 4",
        "  roundhouse controller --ip='*'",
        "  roundhouse engine --profile=work",
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """The program `roundhouse`; returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words:
        sys.stderr.write("roundhouse: no command given\n\n" + _help())
        return 1
    first, rest = words[0], words[1:]
    if first in VERBS:
        return run_verb(first, rest, "roundhouse")
    if first in _PROGRAMS:
        return _become(first, rest)
    if first == "profile":
        from .profile import run

        return run(rest, "roundhouse profile")
    if first in ("-h", "--help", "--help-all", "help"):
        sys.stdout.write(_help())
        return 0
    if first == "--version":
        from ..cluster.app.common import version

        sys.stdout.write(f"{version()}\n")
        return 0
    known = [*VERBS, *_PROGRAMS, "profile"]
    near = difflib.get_close_matches(first, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "see roundhouse --help"
    sys.stderr.write(f"roundhouse: unknown command {first!r}; {hint}\n")
    return 2


def _become(word: str, args: list[str]) -> int:
    """Replace this process by the controller or an engine."""
    from ..cluster.launcher.base import find_program

    if word == "controller":
        command = find_program("ipcontroller")
    else:
        command = [sys.executable, "-m", "roundhouse.engine"]
    try:
        os.execvp(command[0], [*command, *args])
    except OSError as e:
        sys.stderr.write(f"roundhouse {word}: cannot run {command[0]}: {e.strerror}\n")
        return 127
