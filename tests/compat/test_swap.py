"""Each of client, controller and engines may be the real ipyparallel's.

Every combination with at least one part of ours runs tests/compat/scenario.py;
so do clusters that sign, pack or encrypt otherwise than by default, in the two
combinations in which each of our parts meets a real one.  Peers: ROUNDHOUSE_PEER_PYTHON, and further ones (other versions) in
ROUNDHOUSE_MORE_PEERS, separated by colons.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from functools import cache
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


@cache
def version(python: str) -> str:
    return subprocess.check_output(
        [python, "-c", "import ipyparallel; print(ipyparallel.__version__)"], text=True
    ).strip()


@cache
def minor(python: str) -> tuple[int, int]:
    """Version of Python."""
    code = "import sys; print(*sys.version_info[:2])"
    major, minor = subprocess.check_output([python, "-c", code], text=True).split()
    return int(major), int(minor)


def impossible(peer: str, parts: tuple[str, str, str]) -> str:
    """Why a combination cannot work; empty if it can."""
    client, controller, engines = parts
    old = int(version(peer).split(".")[0])
    if client != engines and minor(peer) != sys.version_info[:2]:
        return "client and engines need the same version of Python"
    if old < 8 and "real" in (client, engines) and minor(peer) >= (3, 11):
        return "ipyparallel 7 and older cannot send functions of Python 3.11"
    if old < 7 and (controller, "ours") in {("real", client), ("real", engines)}:
        return "the controller of ipyparallel 6 has no broadcasts"
    if old < 7 and client != engines:
        return "functions of ipyparallel 6 have another form"
    return ""


def cases():
    if not PEERS:
        reason = "ROUNDHOUSE_PEER_PYTHON names no Python with ipyparallel"
        return [
            pytest.param(None, None, marks=pytest.mark.skip(reason=reason), id="peer")
        ]
    return [
        pytest.param(
            peer,
            parts,
            id="-".join((version(peer), *parts)),
            marks=pytest.mark.skipif(
                bool(impossible(peer, parts)), reason=impossible(peer, parts)
            ),
        )
        for peer in PEERS
        for parts in COMBINATIONS
        # without the peer all versions are the same
        if "real" in parts or peer == PEERS[0]
    ]


def skips(peer: str, client: str, engines: str) -> list[str]:
    """What this combination cannot do, by name and with the reason."""
    old = int(version(peer).split(".")[0])
    found = {}
    if engines == "real" and old < 9:
        found["abort"] = "engines before 9.0 take abort and requests in any order"
    if client == "real" and old < 7:
        found["interrupt"] = "there is no send_signal before 7.0"
        found["broadcast"] = "there are no broadcasts before 7.0"
        found["broadcast_coalescing"] = found["broadcast"]
        found["engine_killed"] = "clients before 7.0 do not learn of it"
        found["shutdown_engine"] = "it needs the step before"
    return [f"--skip={step}={why}" for step, why in found.items()]


def command(peer: str, part: str, name: str) -> list[str]:
    python = peer if part == "real" else sys.executable
    return [str(Path(python).parent / name)]


class Processes:
    def __init__(self, folder: Path):
        self.folder = folder
        self.running: list[tuple[str, subprocess.Popen]] = []

    def start(self, name: str, argv: list[str], **environ: str) -> subprocess.Popen:
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                argv,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **environ},
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


def play(folder, peer, parts, options=(), environ=None, only=(), says=""):
    """Run the scenario, or *only* some of its steps; the steps that passed.

    The connection file must hold the text *says*.
    """
    client, controller, engines = parts
    environ = environ or {}
    profile = f"--profile-dir={folder / 'profile'}"
    file = folder / "profile/security/ipcontroller-client.json"
    processes = Processes(folder)
    try:
        hub = processes.start(
            "controller",
            [*command(peer, controller, "ipcontroller"), profile, "--ping=500"]
            + list(options),
            **environ,
        )
        deadline = time.monotonic() + PATIENCE
        while not file.exists():
            assert hub.poll() is None, "the controller ended\n" + processes.logs()
            assert time.monotonic() < deadline, (
                "no connection file\n" + processes.logs()
            )
            time.sleep(0.02)
        assert says in file.read_text()
        for i in range(2):
            processes.start(
                f"engine{i}", [*command(peer, engines, "ipengine"), profile], **environ
            )
        python, module = (
            (peer, "ipyparallel")
            if client == "real"
            else (sys.executable, "roundhouse")
        )
        log = folder / "client.log"
        client_process = processes.start(
            "client",
            [python, str(SCENARIO), module, str(file), *skips(peer, client, engines)]
            + [f"--only={step}" for step in only],
            **environ,
        )
        try:
            code = client_process.wait(PATIENCE * 2)
        except subprocess.TimeoutExpired:
            code = -1
        lines = log.read_text(errors="replace").splitlines()
        if code or any(line.startswith("FAIL") for line in lines):
            pytest.fail(processes.logs(), pytrace=False)
        return [line.split()[1] for line in lines if line.startswith("ok ")]
    finally:
        processes.stop()


@pytest.mark.peer
@pytest.mark.parametrize(("peer", "parts"), cases())
def test_scenario(peer, parts, tmp_path):
    assert len(play(tmp_path, peer, parts)) >= 20


# Options of the controller, the environment of everybody, and what the
# connection file must then say.
MSGPACK = {"packer": "msgpack.packb", "unpacker": "msgpack.unpackb"}
VARIANTS = {
    "pickle": (["--Session.packer=pickle"], {}, '"pack": "pickle"'),
    "msgpack": (
        [f"--Session.{key}={value}" for key, value in MSGPACK.items()],
        {},
        '"unpack": "msgpack.unpackb"',
    ),
    "sha512": (
        ["--Session.signature_scheme=hmac-sha512"],
        {},
        '"signature_scheme": "hmac-sha512"',
    ),
    "unsigned": (["--Session.key="], {}, '"key": ""'),
    "curve": ([], {"IPP_ENABLE_CURVE": "1"}, '"curve_serverkey": "'),
}
VARIANT_STEPS = [
    "apply",
    "arrays",
    "execute",
    "output",
    "data_publication",
    "dependencies",
    "abort",
    "interrupt",
    "hub_results",
    "database",
    "resubmit",
    "broadcast",
    "broadcast_coalescing",
    "shutdown_hub",
]


@pytest.mark.peer
@pytest.mark.parametrize(
    "parts",
    [("real", "ours", "real"), ("ours", "real", "ours")],
    ids=["our-controller", "our-client-and-engines"],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant, parts, tmp_path):
    if not PEERS:
        pytest.skip("ROUNDHOUSE_PEER_PYTHON names no Python with ipyparallel")
    if variant == "msgpack" and not has(PEERS[0], "msgpack"):
        pytest.skip("the peer's Python has no msgpack")
    options, environ, says = VARIANTS[variant]
    passed = play(tmp_path, PEERS[0], parts, options, environ, VARIANT_STEPS, says)
    assert passed == VARIANT_STEPS


def has(python: str, module: str) -> bool:
    found = [python, "-c", f"import {module}"]
    return subprocess.run(found, stderr=subprocess.DEVNULL).returncode == 0
