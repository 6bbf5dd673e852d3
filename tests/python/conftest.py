"""Fixtures of the Python unit tests.

`peer` is a process of the real ipyparallel ($ROUNDHOUSE_PEER_PYTHON) that
serializes and deserializes for us.
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "python"

try:
    import roundhouse  # noqa: F401
except ImportError:
    sys.path.insert(0, str(SOURCE))


@pytest.fixture(scope="session")
def peer_python():
    python = os.environ.get("ROUNDHOUSE_PEER_PYTHON")
    if not python:
        pytest.skip("ROUNDHOUSE_PEER_PYTHON is not set")
    return python


@pytest.fixture(scope="session")
def peer(peer_python):
    from client_support import Peer

    peer = Peer(peer_python)
    yield peer
    peer.close()


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
    from client_support import CONNECTION

    with roundhouse.Client(dict(CONNECTION)) as rc:
        yield rc


@pytest.fixture
def core(rc):
    """The fake core of `rc`."""
    return rc._core
