"""Real peers with a wrong key, signature scheme, packer or version.

Our controller says in one line of its log who it was and what did not fit, and
its other peers go on working.
"""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from test_swap import PATIENCE, PEERS, Processes, command

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(
        not PEERS, reason="ROUNDHOUSE_PEER_PYTHON names no Python with ipyparallel"
    ),
]

# What is changed in the connection file, and what the log says then.
MISTAKES = {
    "key": ({"key": "another"}, "the peer has another key"),
    "scheme": (
        {"signature_scheme": "hmac-sha512"},
        "the peer uses another signature scheme",
    ),
    "unsigned": ({"key": ""}, "the peer does not sign at all"),
    "packer": (
        {"pack": "pickle", "unpack": "pickle"},
        "the peer packs messages as pickle, not as JSON",
    ),
}
CONNECT = """
import sys
import jupyter_client.session
import ipyparallel
jupyter_client.session.protocol_version = sys.argv[2]
ipyparallel.Client(sys.argv[1], timeout=2)
"""
GOOD = """
import sys
import ipyparallel
rc = ipyparallel.Client(sys.argv[1])
rc.wait_for_engines(1, timeout=60)
for line in sys.stdin:
    print(rc[0].apply_sync(len, line), flush=True)
"""


@pytest.fixture
def cluster(tmp_path):
    """The processes of our controller with a real engine and a real client."""
    peer = PEERS[0]
    processes = Processes(tmp_path)
    processes.security = tmp_path / "profile/security"
    file = processes.security / "ipcontroller-client.json"
    profile = f"--profile-dir={tmp_path / 'profile'}"
    try:
        processes.start("controller", [*command(peer, "ours", "ipcontroller"), profile])
        until(file.exists, processes)
        processes.start("engine", [*command(peer, "real", "ipengine"), profile])
        processes.client = subprocess.Popen(
            [peer, "-c", GOOD, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        yield processes
    finally:
        processes.client.kill()
        processes.client.communicate()
        processes.stop()


def until(condition, processes):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, processes.logs()
        time.sleep(0.02)


def assert_works(processes):
    processes.client.stdin.write("four\n")
    processes.client.stdin.flush()
    assert processes.client.stdout.readline() == "5\n", processes.logs()


def lines_of(processes) -> list[str]:
    return (processes.folder / "controller.log").read_text().splitlines()


def test_mistakes_are_named_and_harm_nobody_else(cluster):
    assert_works(cluster)
    for name, (change, _) in MISTAKES.items():
        for side in ("client", "engine"):
            file = cluster.security / f"ipcontroller-{side}.json"
            wrong = cluster.folder / f"{name}-{side}.json"
            wrong.write_text(json.dumps({**json.loads(file.read_text()), **change}))
            if side == "client":
                argv = [PEERS[0], "-c", CONNECT, str(wrong), "5.3"]
            else:
                argv = command(PEERS[0], "real", "ipengine")
                argv += [f"--file={wrong}", "--timeout=1"]
            cluster.start(f"{name}-{side}", argv)
        assert_works(cluster)
    for _, says in MISTAKES.values():
        # A client has a name of five bytes, shown escaped; an engine its uuid.
        until(lambda s=says: senders(cluster, s) >= {"client", "engine"}, cluster)
    assert_works(cluster)


def senders(processes, says: str) -> set[str]:
    peers = [
        line.partition("(from ")[2].partition(";")[0]
        for line in lines_of(processes)
        if says in line
    ]
    return {"client" if peer.startswith("\\x00") else "engine" for peer in peers}


def test_another_version_is_named_and_answered(cluster):
    assert_works(cluster)
    file = cluster.security / "ipcontroller-client.json"
    other = cluster.start("other", [PEERS[0], "-c", CONNECT, str(file), "6.0"])
    assert other.wait(PATIENCE) == 0, cluster.logs()
    until(
        lambda: any("speaks version 6.0" in line for line in lines_of(cluster)), cluster
    )
    assert_works(cluster)
