"""Fixtures of the Python unit tests.

`peer` is a process of the real ipyparallel ($ROUNDHOUSE_PEER_PYTHON) that
serializes and deserializes for us.
"""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "python"

try:
    import roundhouse  # noqa: F401
except ImportError:
    sys.path.insert(0, str(SOURCE))


def run_python(code, *args, **kwargs):
    """Run code in a fresh interpreter that finds this package; its stdout."""
    import roundhouse

    env = dict(os.environ)
    where = str(Path(roundhouse.__file__).parent.parent)
    env["PYTHONPATH"] = where + os.pathsep + env.get("PYTHONPATH", "")
    done = subprocess.run(
        [kwargs.pop("python", sys.executable), "-c", code, *args],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
        **kwargs,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Peer:
    """Requests to peer_serialize.py: an operation and frames each way."""

    def __init__(self, python):
        self.process = subprocess.Popen(
            [python, str(HERE / "peer_serialize.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, op, frames):
        frames = [op.encode(), *[bytes(f) for f in frames]]
        out = struct.pack("<I", len(frames))
        for f in frames:
            out += struct.pack("<Q", len(f)) + f
        self.process.stdin.write(out)
        self.process.stdin.flush()
        (n,) = struct.unpack("<I", self.process.stdout.read(4))
        answer = []
        for _ in range(n):
            (size,) = struct.unpack("<Q", self.process.stdout.read(8))
            answer.append(self.process.stdout.read(size))
        status = answer.pop(0)
        if status != b"ok":
            raise RuntimeError(answer[0].decode())
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def peer_python():
    python = os.environ.get("ROUNDHOUSE_PEER_PYTHON")
    if not python:
        pytest.skip("ROUNDHOUSE_PEER_PYTHON is not set")
    return python


@pytest.fixture(scope="session")
def peer(peer_python):
    peer = Peer(peer_python)
    yield peer
    peer.close()


CONNECTION = {
    "ssh": "",
    "interface": "tcp://127.0.0.1",
    "registration": 1,
    "control": 2,
    "mux": 3,
    "task": 4,
    "task_scheme": "leastload",
    "iopub": 5,
    "notification": 6,
    "broadcast": 7,
    "key": "k",
    "curve_serverkey": None,
    "location": "localhost",
    "pack": "json",
    "unpack": "json",
    "signature_scheme": "hmac-sha256",
}


@pytest.fixture
def fake(monkeypatch):
    """Clients made in the test are given the fake core."""
    import fake_core
    import roundhouse

    monkeypatch.setitem(sys.modules, "roundhouse._core", fake_core)
    monkeypatch.setattr(roundhouse, "_core", fake_core, raising=False)
    return fake_core


@pytest.fixture
def rc(fake):
    """A client with three engines: 0, 1 and 3."""
    import roundhouse

    with roundhouse.Client(dict(CONNECTION)) as rc:
        yield rc


@pytest.fixture
def core(rc):
    """The fake core of `rc`."""
    return rc._core
