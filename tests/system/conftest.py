"""Fixtures for the end-to-end tests: real processes, private folders.

Every test gets an IPYTHONDIR of its own.  What a test starts is ended with it,
nothing may be left behind, and the logs of everything are shown if it fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import rawzmq  # noqa: E402

PATIENCE = 60  # seconds; a condition that holds is seen at once


def _wait_until(predicate, timeout: float = PATIENCE, what: str = ""):
    """Until *predicate* gives something true, which is returned."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            name = what or getattr(predicate, "__name__", "condition")
            raise AssertionError(f"not within {timeout} s: {name}")
        time.sleep(0.01)


def program(name: str) -> str:
    """A program of ours: $ROUNDHOUSE_<NAME>, beside this Python, or on PATH."""
    chosen = os.environ.get("ROUNDHOUSE_" + name.upper())
    if chosen:
        return chosen
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def peer_python() -> str:
    """The Python that has the real ipyparallel, or skip."""
    peer = os.environ.get("ROUNDHOUSE_PEER_PYTHON")
    if not peer:
        pytest.skip("ROUNDHOUSE_PEER_PYTHON names no Python with ipyparallel")
    return peer


@pytest.fixture
def wait_until():
    return _wait_until


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, "report_" + report.when, report)
    if report.failed:
        for path in sorted(getattr(item, "logs", {})):
            with contextlib.suppress(OSError):
                text = Path(path).read_text(errors="replace")
                report.sections.append((f"log {Path(path).name}", text[-20000:]))


class Process:
    """A child with its output in a file."""

    def __init__(self, args: list[str], log: Path, env: dict[str, str], **kwargs):
        self.args = args
        self.log_path = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                **kwargs,
            )
        self.pid = self.process.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait(self, timeout: float = PATIENCE) -> int:
        return self.process.wait(timeout)

    def alive(self) -> bool:
        return self.process.poll() is None

    def send_signal(self, number: int):
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.alive():
            self.send_signal(number)
        return self.wait()

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait()


class Controller(Process):
    """ipcontroller with its profile; its files are there once this is made."""

    def __init__(
        self, ipython_dir: Path, log: Path, args=(), env=None, wait=True, **kwargs
    ):
        self.ipython_dir = ipython_dir
        environ = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("IPP_") and k != "IPYTHONDIR"
        }
        environ["IPYTHONDIR"] = str(ipython_dir)
        environ.setdefault("ROUNDHOUSE_PYTHON", sys.executable)
        environ.update(env or {})
        self.env = environ
        self.options = list(args)
        self.cluster_id = self.option("cluster-id", environ.get("IPP_CLUSTER_ID", ""))
        profile = self.option("profile", "default")
        self.profile_dir = Path(
            self.option("profile-dir", environ.get("IPP_PROFILE_DIR", ""))
            or ipython_dir / f"profile_{profile}"
        )
        super().__init__([program("ipcontroller"), *args], log, environ, **kwargs)
        if wait:
            _wait_until(self.is_up, what="connection files")

    def option(self, name: str, default: str) -> str:
        for arg in self.options:
            if arg.startswith(f"--{name}="):
                return arg.partition("=")[2]
        return default

    def is_up(self) -> bool:
        assert self.alive(), (
            f"ipcontroller ended with {self.process.returncode}:\n{self.log()}"
        )
        return self.client_file.exists() and self.engine_file.exists()

    def _file(self, who: str) -> Path:
        name = "-".join(filter(None, ["ipcontroller", self.cluster_id, who]))
        return self.profile_dir / "security" / (name + ".json")

    @property
    def client_file(self) -> Path:
        return self._file("client")

    @property
    def engine_file(self) -> Path:
        return self._file("engine")

    @property
    def client_info(self) -> dict:
        return json.loads(self.client_file.read_text())

    @property
    def engine_info(self) -> dict:
        return json.loads(self.engine_file.read_text())

    @property
    def pid_file(self) -> Path:
        name = "-".join(filter(None, ["ipcontroller", self.cluster_id]))
        return self.profile_dir / "pid" / (name + ".pid")

    def check_clean(self, keeps_files: bool):
        """After an orderly end nothing is left that was there for its life."""
        left = [] if keeps_files else [self.client_file, self.engine_file]
        left = [str(p) for p in [*left, self.pid_file] if p.exists()]
        assert not left, f"left behind: {left}"
        unfinished = [p.name for p in self.profile_dir.glob("security/*.tmp*")]
        assert not unfinished, f"left behind: {unfinished}"


@pytest.fixture
def logs(request):
    """Paths whose text is shown if the test fails."""
    request.node.logs = set()
    return request.node.logs


@pytest.fixture
def start_process(tmp_path, logs):
    """start_process(args, name=..., env=...) -> Process, ended with the test."""
    started: list[Process] = []

    def start(args, name: str = "process", env=None, **kwargs) -> Process:
        log = tmp_path / f"{name}-{len(started)}.log"
        logs.add(str(log))
        p = Process(list(map(str, args)), log, {**os.environ, **(env or {})}, **kwargs)
        started.append(p)
        return p

    yield start
    for p in started:
        if p.alive():
            p.send_signal(signal.SIGTERM)
    for p in started:
        try:
            p.wait(15)
        except subprocess.TimeoutExpired:
            p.kill()


@pytest.fixture
def start_controller(tmp_path, logs):
    """start_controller(*options, env=..., wait=True) -> Controller.

    Those that still run at the end get SIGTERM, must end with 0 and leave
    nothing behind.
    """
    started: list[Controller] = []

    def start(*options: str, ipython_dir: Path | None = None, **kwargs) -> Controller:
        log = tmp_path / f"ipcontroller-{len(started)}.log"
        logs.add(str(log))
        c = Controller(ipython_dir or tmp_path / "ipython", log, options, **kwargs)
        started.append(c)
        return c

    yield start
    running = [c for c in started if c.alive()]
    try:
        for c in running:
            c.send_signal(signal.SIGTERM)
        for c in running:
            assert c.wait() == 0, f"ipcontroller ended with {c.process.returncode}"
            keeps = any(o in ("--reuse", "--restore") for o in c.options)
            c.check_clean(keeps)
    finally:
        for c in started:
            c.kill()


@pytest.fixture
def controller(start_controller) -> Controller:
    """A running controller of ours."""
    return start_controller()


@pytest.fixture
def raw_client(request):
    """raw_client(controller, ...) -> rawzmq.Client, closed with the test."""
    made: list[rawzmq.Client] = []

    def make(c: Controller, **kwargs) -> rawzmq.Client:
        made.append(rawzmq.Client(c.client_info, **kwargs))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def raw_engine(request):
    """raw_engine(controller, ...) -> rawzmq.Engine that is registered and usable."""
    made: list[rawzmq.Engine] = []

    def make(c: Controller, wait: bool = True, **kwargs) -> rawzmq.Engine:
        engine = rawzmq.Engine(c.engine_info, **kwargs)
        made.append(engine)
        if wait:
            client = rawzmq.Client(c.client_info)
            try:
                _wait_until(
                    lambda: engine.name in client.engines().values(),
                    what="engine registered",
                )
            finally:
                client.close()
        return engine

    yield make
    for engine in made:
        engine.stop()
