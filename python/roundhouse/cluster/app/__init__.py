"""The command `ipcluster`: one module per verb, found in a table."""

from __future__ import annotations

import difflib
import importlib
import sys
import textwrap

__all__ = ["VERBS", "main", "run_verb"]

# verb -> (module with command() and run(), one line for the list of verbs)
VERBS = {
    "start": ("start", "start a controller and engines"),
    "engines": ("engines", "add engines to a running cluster"),
    "stop": ("stop", "stop a cluster"),
    "list": ("list", "list clusters"),
    "clean": ("clean", "remove the files of clusters that have stopped"),
}


def _help() -> str:
    lines = [
        "usage: ipcluster VERB [options]",
        "",
        "Start, stop and list clusters of IPython engines.",
        "",
        "Verbs",
        *(f"  {verb:10}{text}" for verb, (_, text) in VERBS.items()),
        "",
        "ipcluster VERB --help explains a verb.",
        "",
        "Examples",
        "  ipcluster start -n 4",
        "  ipcluster start -n 4 --profile=work --daemonize",
        "  ipcluster stop --profile=work",
    ]
    return "\n".join(lines) + "\n"


def run_verb(verb: str, argv: list[str], prog: str) -> int:
    """Run one verb with its arguments; returns the exit code.

    SIGINT, SIGTERM and SIGHUP may be ignored afterwards: the process is meant to
    end with this code.
    """
    from traitlets import TraitError

    from .common import ConfigError

    module = importlib.import_module(f".{VERBS[verb][0]}", __name__)
    try:
        code: int = module.run(argv, f"{prog} {verb}")
        return code
    except (ConfigError, TraitError) as e:
        sys.stderr.write(f"{prog} {verb}: {e}\n")
        return 1
    except KeyboardInterrupt:
        return 130  # before there was anything to stop


def main(argv: list[str] | None = None) -> int:
    """The program `ipcluster`; returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words:
        sys.stderr.write("ipcluster: no verb given\n\n" + _help())
        return 1
    first = words[0]
    if first in VERBS:
        return run_verb(first, words[1:], "ipcluster")
    if first in ("-h", "--help", "--help-all"):
        sys.stdout.write(_help())
        return 0
    if first == "--version":
        from .common import version

        sys.stdout.write(f"{version()}\n")
        return 0
    near = difflib.get_close_matches(first, VERBS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "see ipcluster --help"
    sys.stderr.write(
        textwrap.shorten(f"ipcluster: unknown verb {first!r}; {hint}", 200) + "\n"
    )
    return 2
