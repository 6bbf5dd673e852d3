"""Each of client, controller and engines may be the real ipyparallel's.

Every combination with at least one part of ours runs tests/compat/scenario.py.
Peers: ROUNDHOUSE_PEER_PYTHON, and further ones (other versions) in
ROUNDHOUSE_MORE_PEERS, separated by colons.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCENARIO = Path(__file__).with_name("scenario.py")
PATIENCE = 120

PEERS = [
    p
    for p in [
        os.environ.get("ROUNDHOUSE_PEER_PYTHON"),
        *os.environ.get("ROUNDHOUSE_MORE_PEERS", "").split(":"),
    ]
    if p
]
COMBINATIONS = [
    parts
    for parts in itertools.product(("ours", "real"), repeat=3)
    if parts != ("real", "real", "real")
]


def version(python: str) -> str:
    return subprocess.check_output(
        [python, "-c", "import ipyparallel; print(ipyparallel.__version__)"], text=True
    ).strip()


def cases():
    if not PEERS:
        reason = "ROUNDHOUSE_PEER_PYTHON names no Python with ipyparallel"
        return [
            pytest.param(None, None, marks=pytest.mark.skip(reason=reason), id="peer")
        ]
    return [
        pytest.param(peer, parts, id="-".join((version(peer), *parts)))
        for peer in PEERS
        for parts in COMBINATIONS
        # without the peer all versions are the same
        if "real" in parts or peer == PEERS[0]
    ]


def skips(peer: str, engines: str) -> list[str]:
    """What this combination cannot do, by name and with the reason."""
    if engines == "real" and int(version(peer).split(".")[0]) < 9:
        why = "engines before 9.0 take abort and queued requests in any order"
        return [f"--skip=abort={why}"]
    return []


def command(peer: str, part: str, name: str) -> list[str]:
    python = peer if part == "real" else sys.executable
    return [str(Path(python).parent / name)]


class Processes:
    def __init__(self, folder: Path):
        self.folder = folder
        self.running: list[tuple[str, subprocess.Popen]] = []

    def start(self, name: str, argv: list[str]) -> subprocess.Popen:
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                argv, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.running.append((name, process))
        return process

    def stop(self) -> None:
        for _, p in reversed(self.running):
            if p.poll() is None:
                p.terminate()
        for _, p in self.running:
            try:
                p.wait(30)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()

    def logs(self) -> str:
        return "\n".join(
            f"--- {name}\n"
            + (self.folder / f"{name}.log").read_text(errors="replace")[-6000:]
            for name, _ in self.running
        )


@pytest.mark.peer
@pytest.mark.parametrize(("peer", "parts"), cases())
def test_scenario(peer, parts, tmp_path):
    client, controller, engines = parts
    profile = f"--profile-dir={tmp_path / 'profile'}"
    file = tmp_path / "profile/security/ipcontroller-client.json"
    processes = Processes(tmp_path)
    try:
        hub = processes.start(
            "controller",
            [*command(peer, controller, "ipcontroller"), profile, "--ping=500"],
        )
        deadline = time.monotonic() + PATIENCE
        while not file.exists():
            assert hub.poll() is None, "the controller ended\n" + processes.logs()
            assert time.monotonic() < deadline, (
                "no connection file\n" + processes.logs()
            )
            time.sleep(0.02)
        for i in range(2):
            processes.start(
                f"engine{i}", [*command(peer, engines, "ipengine"), profile]
            )
        python, module = (
            (peer, "ipyparallel")
            if client == "real"
            else (sys.executable, "roundhouse")
        )
        done = subprocess.run(
            [python, str(SCENARIO), module, str(file), *skips(peer, engines)],
            capture_output=True,
            text=True,
            timeout=PATIENCE * 10,
        )
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
        if done.returncode or failed:
            pytest.fail(
                "\n".join(failed)
                + f"\n{done.stdout}\n{done.stderr[-6000:]}\n{processes.logs()}",
                pytrace=False,
            )
        steps = [line for line in done.stdout.splitlines() if line.startswith("ok ")]
        assert len(steps) > 20
    finally:
        processes.stop()
