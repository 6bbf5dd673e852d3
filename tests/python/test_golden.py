"""Values in messages that the real ipyparallel sent: see tests/unit/wire/golden."""

import json
import struct
import sys
from pathlib import Path

import numpy
import pytest
from roundhouse.serialize import (
    deserialize_object,
    pack_apply_message,
    serialize_object,
    unpack_apply_message,
)

FILE = Path(__file__).parents[1] / "unit/wire/golden/json.bin"
MAGIC = b"RHGOLD1\n"


def messages():
    """(header, content, buffers) of every recorded message."""
    data = FILE.read_bytes()
    assert data.startswith(MAGIC)
    at = len(MAGIC)
    while at < len(data):
        at += 1 + data[at]
        (n,) = struct.unpack_from("<I", data, at)
        at, frames = at + 4, []
        for _ in range(n):
            (size,) = struct.unpack_from("<I", data, at)
            frames.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        start = frames.index(b"<IDS|MSG>")
        header, content = json.loads(frames[start + 2]), json.loads(frames[start + 5])
        yield header, content, frames[start + 6 :]


def of_type(name):
    found = [(c, b) for h, c, b in messages() if h["msg_type"] == name]
    assert found
    return found


def as_bytes(buffers):
    return [bytes(b) for b in buffers]


def test_results_are_understood_and_written_the_same():
    values = []
    for content, buffers in of_type("apply_reply"):
        if content["status"] != "ok":
            assert buffers == []
            continue
        while buffers:  # coalesced replies hold several
            value, rest = deserialize_object(buffers)
            ours = as_bytes(serialize_object(value))
            theirs = buffers[: len(buffers) - len(rest)]
            if isinstance(value, (numpy.ndarray, bytes)):
                # The pickle in front may use other opcodes for the same.
                assert len(ours) == len(theirs) == 2
                assert ours[1] == theirs[1]
                assert numpy.array_equal(deserialize_object(ours)[0], value)
            else:
                assert ours == theirs
            values.append(value)
            buffers = rest
    assert any(isinstance(v, numpy.ndarray) and v[199] == 199.0 for v in values)
    assert any(isinstance(v, bytes) and v == b"x" * 1500 for v in values)
    assert {3, None} <= {v for v in values if isinstance(v, (int, type(None)))}


def test_a_call_of_a_builtin_is_written_the_same():
    ours = as_bytes(pack_apply_message(len, ([1, 2, 3],), {}))
    assert ours in [buffers for _, buffers in of_type("apply_request")]


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="recorded with the bytecode of Python 3.11"
)
def test_calls_are_understood():
    names, arrays = set(), 0
    for _, buffers in of_type("apply_request"):
        f, _, kwargs = unpack_apply_message(buffers, {"a": 5})
        names.add(getattr(f, "__name__", type(f).__name__))
        arrays += any(isinstance(v, numpy.ndarray) for v in kwargs.values())
    assert {"len", "<lambda>", "push", "pull", "_map"} <= names
    assert arrays
