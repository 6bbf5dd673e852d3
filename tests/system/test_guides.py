"""The guides' sessions, pasted into a Python with four engines."""

from __future__ import annotations

import subprocess

import pytest
from test_readme import PATIENCE, ROOT, blocks, empty, run_doctest  # noqa: F401

GUIDES = sorted(p for p in (ROOT / "docs/guide").glob("*.md") if ">>>" in p.read_text())


@pytest.mark.parametrize("path", GUIDES, ids=lambda p: p.stem)
def test_a_guide_works_when_pasted(empty, path):  # noqa: F811
    """All its blocks in order, as one session."""
    subprocess.run(
        ["ipcluster", "start", "-n", "4", "--daemonize"], check=True, timeout=PATIENCE
    )
    session = "\n".join(b for b in blocks("python", path) if ">>>" in b)
    assert run_doctest(session, path.name).attempted > 10
