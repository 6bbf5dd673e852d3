"""A running cluster and a client, for the tests of the client.

`cluster` is shared by the tests of a module and runs them twice: on our
controller and engines, and, if $ROUNDHOUSE_PEER_PYTHON is set, on the real
ones.  `start_cluster` makes one of ours for a single test.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import conftest
import pytest
import roundhouse as ipp


class Cluster:
    """Processes of one cluster; `rc` is a client with all engines."""

    def __init__(self, folder: Path, kind: str = "ours", n: int = 2, options=()):
        self.folder = folder
        self.kind = kind
        self.profile_dir = folder / "profile"
        self.profile_dir.mkdir(parents=True)
        self.count = itertools.count()
        self.clients: list[ipp.Client] = []
        self.processes: list[conftest.Process] = []
        self.controller = self.start("controller", "--ping=500", *options)
        conftest._wait_until(self.has_files, what="connection files")
        self.engines = [self.add_engine() for _ in range(n)]
        self.rc = self.client()
        self.rc.wait_for_engines(n, timeout=conftest.PATIENCE)

    def start(self, part: str, *options: str) -> conftest.Process:
        if self.kind == "peer":
            command = [conftest.peer_python(), "-m", f"ipyparallel.{part}"]
        elif part == "controller":
            command = [conftest.program("ipcontroller")]
        else:
            command = [sys.executable, "-m", f"roundhouse.{part}"]
        log = self.folder / f"{part}-{next(self.count)}.log"
        env = {k: v for k, v in os.environ.items() if not k.startswith("IPP_")}
        env.setdefault("ROUNDHOUSE_PYTHON", sys.executable)
        command += [f"--profile-dir={self.profile_dir}", *options]
        p = conftest.Process(command, log, env)
        self.processes.append(p)
        return p

    def add_engine(self, *options: str) -> conftest.Process:
        return self.start("engine", *options)

    @property
    def client_file(self) -> Path:
        return self.profile_dir / "security" / "ipcontroller-client.json"

    def has_files(self) -> bool:
        assert self.controller.alive(), self.controller.log()
        engine = self.client_file.with_name("ipcontroller-engine.json")
        return self.client_file.exists() and engine.exists()

    def client(self, **kwargs) -> ipp.Client:
        rc = ipp.Client(str(self.client_file), **kwargs)
        self.clients.append(rc)
        return rc

    def pids(self) -> dict[int, int]:
        """Process ids of the engines by engine id."""
        return self.rc[:].apply_async(os.getpid).get_dict(30)

    def stop(self):
        for rc in self.clients:
            rc.close()
        running = [p for p in reversed(self.processes) if p.alive()]
        for p in running:
            p.send_signal(15)
        for p in running:
            try:
                p.wait(15)
            except subprocess.TimeoutExpired:
                p.kill()


@pytest.fixture(scope="module", params=["ours", "peer"])
def shared_cluster(request, tmp_path_factory):
    if request.param == "peer" and not os.environ.get("ROUNDHOUSE_PEER_PYTHON"):
        pytest.skip("ROUNDHOUSE_PEER_PYTHON names no Python with ipyparallel")
    cluster = Cluster(tmp_path_factory.mktemp(request.param), request.param)
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(shared_cluster, logs):
    """The module's cluster of two engines; our logs are shown on failure."""
    logs.update(str(p.log_path) for p in shared_cluster.processes)
    yield shared_cluster
    for rc in shared_cluster.clients[1:]:
        rc.close()
    del shared_cluster.clients[1:]


@pytest.fixture
def rc(cluster):
    """A client of the module's cluster, closed with the test."""
    rc = cluster.client()
    rc.wait_for_engines(len(cluster.rc.ids), timeout=conftest.PATIENCE)
    yield rc
    rc.wait(timeout=30)


@pytest.fixture
def start_cluster(tmp_path, logs):
    """start_cluster(n=2, *controller options) -> Cluster of ours, for one test."""
    started = []

    def start(n: int = 2, *options: str) -> Cluster:
        cluster = Cluster(tmp_path / f"cluster-{len(started)}", "ours", n, options)
        started.append(cluster)
        logs.update(str(p.log_path) for p in cluster.processes)
        return cluster

    yield start
    for cluster in started:
        logs.update(str(p.log_path) for p in cluster.processes)
        cluster.stop()
