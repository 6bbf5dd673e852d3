"""What the README promises, done as it says, in an empty folder."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 240


def blocks(language: str, path: Path = ROOT / "README.md") -> list[str]:
    text = path.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder, a profile of its own, and the commands on PATH."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    work = tmp_path / "empty"
    work.mkdir()
    monkeypatch.chdir(work)
    yield work
    subprocess.run(["ipcluster", "stop", "--all"], timeout=PATIENCE, check=False)


def run_doctest(text: str, name: str = "README.md") -> doctest.TestResults:
    names = {"__name__": "__main__"}
    test = doctest.DocTestParser().get_doctest(text, names, name, name, 0)
    report: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert not results.failed, "".join(report)
    return results


def test_the_first_session_works_when_pasted(empty):
    (session,) = [b for b in blocks("python") if ">>>" in b]
    start, stop = (b for b in blocks("sh") if "ipcluster" in b)
    # The environment is active already; `python` is this process.
    for line in start.splitlines():
        if line.startswith("ipcluster"):
            subprocess.run(line, shell=True, check=True, timeout=PATIENCE)
    assert run_doctest(session).attempted > 10
    subprocess.run(stop, shell=True, check=True, timeout=PATIENCE)
    assert not list((empty.parent / "ipython").rglob("ipcontroller-*.json"))


def test_a_cluster_from_python(empty):
    (script,) = [b for b in blocks("python") if "Cluster(n=4)" in b]
    out = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        timeout=PATIENCE,
        capture_output=True,
        text=True,
    ).stdout
    assert out == str(["Hello, World"] * 4) + "\n"


def test_the_demo_counts_the_digits_of_pi(empty):
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples/pi/parallelpi.py"),
            *(
                "-n",
                "2",
                "--files",
                "5",
                "--digits",
                "20000",
                "--out",
                str(empty / "out"),
            ),
        ],
        timeout=PATIENCE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first 100,000 decimals agree with the published counts" in done.stdout
    for name in ("single_digits.png", "two_digits.png"):
        assert (empty / "out" / name).read_bytes().startswith(b"\x89PNG")
