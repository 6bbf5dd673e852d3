"""Types: what the stubs say of the C core is what it has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_stub_says_what_the_core_has():
    """Every name, parameter and default, in both directions."""
    pytest.importorskip("mypy.stubtest")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest", "roundhouse._core"),
            *("--concise", "--mypy-config-file", str(ROOT / "pyproject.toml")),
        ],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_typed():
    import roundhouse

    assert (Path(roundhouse.__file__).parent / "py.typed").exists()
