"""The examples do what they say; each checks its own results and fails if not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("dag", ["--seconds=0.05"], "4 fails: 0 ok, 1 ok, 2 ok, 3 ok, 4 RuntimeError"),
        ("dependencies", [], "the clean-up ran"),
        ("customresults", [], "s of work in"),
        ("itermapresult", [], "one, as they come: "),
        ("task_profiler", ["-t", "50", "-s", "5000"], "50 tasks"),
    ],
    ids=["dag", "dependencies", "customresults", "itermapresult", "task_profiler"],
)
def test_tasks(tmp_path, monkeypatch, name, options, says):
    if name == "dag":
        pytest.importorskip("networkx")
        pytest.importorskip("matplotlib")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    programs = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", programs + os.pathsep + os.environ["PATH"])
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "tasks" / f"{name}.py"), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert says in done.stdout
    if name == "dag":
        assert "32 tasks kept the order of 128 dependencies" in done.stdout
        assert (tmp_path / "dag.png").read_bytes().startswith(b"\x89PNG")
