"""The recordings of tests/unit/wire/golden are what the peer still sends."""

import os
from pathlib import Path

import golden
import pytest

FOLDER = Path(__file__).parents[1] / "unit/wire/golden"


def kinds(path: Path) -> set[tuple[str, str]]:
    return {
        (role, golden.message_type(frames[frames.index(golden.DELIMITER) + 2]))
        for role, frames in golden.records(path.read_bytes())
    }


@pytest.mark.peer
def test_a_new_recording_has_the_same_kinds_of_messages(tmp_path):
    peer = os.environ.get("ROUNDHOUSE_PEER_PYTHON")
    if not peer:
        pytest.skip("ROUNDHOUSE_PEER_PYTHON names no Python with ipyparallel")
    golden.record(peer, tmp_path)
    for packer in golden.PACKERS:
        name = f"{packer}.bin"
        assert kinds(tmp_path / name) == kinds(FOLDER / name)
        assert len(kinds(FOLDER / name)) > 40
