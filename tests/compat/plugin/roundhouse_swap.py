"""pytest plugin: run ipyparallel's own suite with parts of ours in place.

ROUNDHOUSE_SWAP names the parts, separated by commas:

- controller: commands that start ipyparallel's controller start ours
- engine: likewise for engines
- package: `import ipyparallel` finds roundhouse; only the test modules still
  come from the installed package, whose folder is ROUNDHOUSE_SUITE
"""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

SWAP = set(filter(None, os.environ.get("ROUNDHOUSE_SWAP", "").split(",")))
BIN = Path(sys.executable).parent
PROGRAMS = {
    "controller": [str(BIN / "ipcontroller")],
    "engine": [sys.executable, "-m", "roundhouse.engine"],
}


def redirect(argv):
    """The command to start instead of `python -m ipyparallel.<part> ...`."""
    if isinstance(argv, (str, bytes)):
        return argv
    words = [os.fspath(a) for a in argv]
    for part, ours in PROGRAMS.items():
        if part not in SWAP:
            continue
        if words[1:3] == ["-m", f"ipyparallel.{part}"]:
            return ours + words[3:]
        if words and os.path.basename(words[0]) == f"ip{part}":
            return ours + words[1:]
    return argv


def swap_commands() -> None:
    init = subprocess.Popen.__init__

    def __init__(self, args, *rest, **kwargs):
        init(self, redirect(args), *rest, **kwargs)

    subprocess.Popen.__init__ = __init__


def swap_package() -> None:
    """`ipyparallel` is ours; `ipyparallel.tests` is the installed suite."""
    import roundhouse

    roundhouse.install_as_ipyparallel()
    folder = os.environ["ROUNDHOUSE_SUITE"]
    tests = types.ModuleType("ipyparallel.tests")
    tests.__path__ = [folder]
    tests.__file__ = os.path.join(folder, "__init__.py")
    spec_source = Path(tests.__file__).read_text()
    sys.modules["ipyparallel.tests"] = tests
    sys.modules["ipyparallel"].tests = tests
    exec(compile(spec_source, tests.__file__, "exec"), tests.__dict__)


def install() -> None:
    swap_commands()
    if "package" in SWAP:
        swap_package()


install()
