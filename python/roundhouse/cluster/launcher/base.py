"""What every launcher has in common.

A launcher starts one thing (a controller, or a set of engines), notices its
end, and stops it.  It is a traitlets configurable; subclasses override
`find_args`, `start`, `stop`, `signal`, `join` and, to be found again by another
process, `to_dict`/`from_dict` (traits tagged ``to_dict=True``).

The state goes "before", "running", "after" and never back.  `notify_stop` may
be called from any thread; callbacks run in that thread.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import sys
import sysconfig
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from traitlets import Any as AnyTrait
from traitlets import Dict, Float, Integer, List, Unicode, default
from traitlets.config.configurable import LoggingConfigurable

from ..connection import LOOK_S, Arrival

__all__ = [
    "BaseLauncher",
    "ControllerLauncher",
    "EngineLauncher",
    "LauncherError",
    "NotRunning",
    "ProcessStateError",
    "UnknownStatus",
    "describe_exit",
    "find_program",
]

L = TypeVar("L", bound="BaseLauncher")

# Never inherited by what we start: they speak of the cluster that we may
# ourselves be an engine of.
_OWN_ENVIRONMENT = ("IPP_CLUSTER_ID", "IPP_PROFILE_DIR", "IPP_CONNECTION_INFO")


class LauncherError(Exception):
    """Something could not be launched, signalled or stopped."""


class ProcessStateError(LauncherError):
    """A launcher was used in the wrong state."""


class UnknownStatus(LauncherError):
    """Nobody can tell from here whether it runs."""


class NotRunning(LauncherError):
    """What a launcher was to take up again does not run any more."""


def find_program(name: str) -> list[str]:
    """The command for one of our programs.

    Looked for beside the Python interpreter, where scripts are installed, and
    on PATH, in this order; the bare name if it is nowhere.
    """
    folders = [os.path.dirname(sys.executable), sysconfig.get_path("scripts") or ""]
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return [path]
    return [shutil.which(name) or name]


def describe_exit(code: int | None) -> str:
    """ "exit code 3", "killed by SIGKILL", or "ended" if nobody knows."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class BaseLauncher(LoggingConfigurable):
    """Starts, signals, stops and watches one thing."""

    environment = Dict(
        help="Environment variables to set for what is launched.", config=True
    )
    output_limit = Integer(
        100,
        help="When something fails, show up to this many lines of its output; 0: all.",
        config=True,
    )
    stop_timeout = Integer(
        60,
        help="Seconds to wait for an end before stop() raises TimeoutError.",
        config=True,
    )

    work_dir = Unicode(".", help="Folder in which the command is run.")
    name = Unicode("process", help="What is launched, for names and texts.")
    identifier = Unicode(help="Tells this launcher from others, in names and texts.")
    profile_dir = Unicode("").tag(to_dict=True)
    cluster_id = Unicode("").tag(to_dict=True)
    state = Unicode("before", help="before, running or after").tag(to_dict=True)
    start_data = AnyTrait()
    stop_data = AnyTrait()
    stop_callbacks: Any = List()

    # Whether start() means that it runs; False where a queue decides when.
    starts_at_once = True
    # Set once somebody wants it to end, so that the end is not a failure.
    stopping = False
    # Who shows the output of what fails: this launcher, or the set it is in.
    shows_output = True

    def __init__(self, **kwargs: Any):
        # Guards the step to "after" and the list of callbacks.
        self._state_lock = threading.Lock()
        super().__init__(**kwargs)

    @default("identifier")
    def _default_identifier(self) -> str:
        parts = [self.name, self.cluster_id, getattr(self, "engine_set_id", "")]
        return "-".join([p for p in parts if p] + [str(os.getpid())])

    # what is run

    @property
    def args(self) -> list[str]:
        """The command with its arguments."""
        return self.find_args()

    @property
    def arg_str(self) -> str:
        return " ".join(self.args)

    def find_args(self) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__} has no find_args")

    @property
    def cluster_args(self) -> list[str]:
        """Arguments that name the cluster; none, the environment does."""
        return []

    @property
    def cluster_env(self) -> dict[str, str]:
        return {
            "IPP_CLUSTER_ID": self.cluster_id,
            "IPP_PROFILE_DIR": self.profile_dir,
        }

    def get_env(self) -> dict[str, str]:
        """What is set beyond the environment of this process."""
        return {**self.cluster_env, **self.environment}

    def full_env(self) -> dict[str, str]:
        """The whole environment of a local child."""
        env = {k: v for k, v in os.environ.items() if k not in _OWN_ENVIRONMENT}
        env.update(self.get_env())
        return env

    @property
    def connection_files(self) -> dict[str, str]:
        """Paths of the connection files, by kind."""
        prefix = "ipcontroller"
        if self.cluster_id:
            prefix += f"-{self.cluster_id}"
        folder = os.path.join(self.profile_dir, "security")
        return {
            kind: os.path.join(folder, f"{prefix}-{kind}.json")
            for kind in ("client", "engine")
        }

    # to be overridden

    def start(self) -> Any:
        """Start it (may be a coroutine); the end is reported by notify_stop."""
        raise NotImplementedError(f"{type(self).__name__} has no start")

    def stop(self) -> Any:
        """Stop it (may be a coroutine) and return when it has ended."""
        raise NotImplementedError(f"{type(self).__name__} has no stop")

    def signal(self, sig: int) -> Any:
        """Send it a signal (may be a coroutine)."""
        raise NotImplementedError(f"{type(self).__name__} has no signal")

    async def join(self, timeout: float | None = None) -> None:
        """Wait for the end.  Raises TimeoutError."""
        raise NotImplementedError(f"{type(self).__name__} has no join")

    def poll(self) -> Any:
        """None while it runs, else an exit code or a text."""
        if self.state != "after":
            return None
        code = (self.stop_data or {}).get("exit_code")
        return "unknown" if code is None else code

    def kill(self) -> None:
        """End it by force and at once; nothing where that cannot be done."""

    def get_output(self, remove: bool = False) -> str:
        """The last part of its output; with `remove`, forget where it was."""
        return ""

    # states

    @property
    def running(self) -> bool:
        return self.state == "running"

    def on_stop(self, f: Callable[[Any], Any]) -> Any:
        """Call f(stop_data) when it has ended; at once if it has."""
        with self._state_lock:
            if self.state != "after":
                self.stop_callbacks.append(f)
                return None
        return f(self.stop_data)

    def notify_start(self, data: Any) -> Any:
        """It runs now; `data` says where (a process or job id)."""
        self.log.debug("%s %s started: %s", type(self).__name__, self.identifier, data)
        self.start_data = data
        self.state = "running"
        return data

    def notify_stop(self, data: Any) -> Any:
        """It has ended.  Only the first call counts."""
        with self._state_lock:
            if self.state == "after":
                return data
            self.stop_data = data
            self.state = "after"
            callbacks, self.stop_callbacks = list(self.stop_callbacks), []
        self.log.debug("%s %s stopped: %s", type(self).__name__, self.identifier, data)
        self._log_output(data)
        for f in callbacks:
            f(data)
        return data

    def failed(self, data: Any) -> bool:
        """Whether an end with this stop data is a failure nobody asked for."""
        return bool(not self.stopping and data and data.get("exit_code"))

    def _log_output(self, stop_data: Any = None) -> None:
        """Show the output of what failed, at debug level that of the rest."""
        failed = self.failed(stop_data)
        output = self.get_output(remove=not failed)
        if output and self.shows_output:
            log = self.log.warning if failed else self.log.debug
            log("Output of %s:\n%s", self.identifier, output)

    # another process

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to take up this launcher."""
        return {name: getattr(self, name) for name in self.traits(to_dict=True)}

    @classmethod
    def from_dict(
        cls: type[L],
        d: dict[str, Any],
        *,
        config: Any = None,
        parent: Any = None,
        **kwargs: Any,
    ) -> L:
        """A launcher as it was in another process.

        Raises NotRunning if what it launched has ended, UnknownStatus if that
        cannot be told from here.  Subclasses call this and go on from there.
        """
        if config is not None:
            kwargs["config"] = config
        self = cls(parent=parent, **kwargs)
        for name in self.traits(to_dict=True):
            if name in d:
                setattr(self, name, d[name])
        return self


class ControllerLauncher(BaseLauncher):
    """Base of what launches a controller."""

    name = Unicode("ipcontroller")

    controller_cmd = List(
        Unicode(),
        help="Command of the controller; a real ipyparallel's works too.",
        config=True,
    )
    controller_args = List(
        Unicode(), help="Arguments to add to the controller's command.", config=True
    )
    connection_info_timeout = Float(
        60,
        help="Seconds to wait for the connection files; negative: for ever.",
        config=True,
    )

    # Seconds between looks for the connection files.
    look_s = LOOK_S

    _arrival: Arrival | None = None

    @default("controller_cmd")
    def _default_controller_cmd(self) -> list[str]:
        return find_program("ipcontroller")

    @property
    def keeps_files(self) -> bool:
        """Whether the controller was told to keep its connection files."""
        args = self.controller_args + list(getattr(self.parent, "controller_args", ()))
        words = [a.partition("=")[0] for a in args]
        return "--reuse" in words or "--restore" in words

    def remove_files(self) -> None:
        """Remove the files of a controller that was killed.

        One that ends by itself has removed them.
        """
        if self.keeps_files:
            return
        paths = list(self.connection_files.values())
        if self._arrival is not None:
            self._arrival.remove_new()
            paths = []
        for path in self.connection_files.values():
            paths += glob.glob(glob.escape(path) + ".*")  # not finished
        stem = "-".join(filter(None, ["ipcontroller", self.cluster_id]))
        paths.append(os.path.join(self.profile_dir, "pid", f"{stem}.pid"))
        for path in paths:
            if os.path.exists(path):
                os.remove(path)

    def is_queued(self) -> bool:
        """Whether it waits for its turn, so that nothing can be expected yet."""
        return False

    def note_files(self) -> None:
        """Remember which connection files are there before the start."""
        self._arrival = Arrival(self.connection_files)

    async def get_connection_info(
        self, timeout: float | None = None
    ) -> dict[str, dict[str, Any]]:
        """The contents of the connection files, by kind, once they are there.

        Raises TimeoutError after `timeout` seconds (connection_info_timeout if
        None), or LauncherError if the controller ends before.  Either text ends
        with the last lines that the controller printed.
        """
        if timeout is None:
            timeout = self.connection_info_timeout
        arrival = self._arrival or _anything(self.connection_files)
        try:
            info = await arrival.wait(
                timeout, self._why_stopped, queued=self.is_queued, look_s=self.look_s
            )
        except TimeoutError as e:
            raise TimeoutError(f"{e}{self._said()}") from None
        except RuntimeError as e:
            raise LauncherError(f"{e}{self._said()}") from None
        return info

    def _why_stopped(self) -> str | None:
        status = self.poll()
        if status is None:
            return None
        code = status if isinstance(status, int) else None
        return f"the controller ended before it was ready ({describe_exit(code)})"

    def _said(self) -> str:
        output = self.get_output().strip()
        return f"; it printed:\n{output}" if output else "; it printed nothing"


def _anything(paths: dict[str, str]) -> Arrival:
    """An Arrival to which no file is old."""
    arrival = Arrival(paths)
    arrival.forget()
    return arrival


class EngineLauncher(BaseLauncher):
    """Base of what launches engines."""

    name = Unicode("ipengine")

    engine_cmd = List(
        Unicode(),
        help="Command of an engine; a real ipyparallel's works too.",
        config=True,
    )
    engine_args = List(
        Unicode(), help="Arguments to add to the engines' command.", config=True
    )
    n = Integer(1, help="Number of engines.").tag(to_dict=True)
    engine_set_id = Unicode(help="Tells this set from others of the cluster.")

    def __init__(self, **kwargs: Any):
        self._engine_callbacks: list[Callable[[dict[str, Any]], Any]] = []
        super().__init__(**kwargs)

    @default("engine_cmd")
    def _default_engine_cmd(self) -> list[str]:
        return [sys.executable, "-m", "roundhouse.engine"]

    def warn_if_local_only(self) -> None:
        """Say so if engines elsewhere cannot reach the controller."""
        info = self.environment.get("IPP_CONNECTION_INFO")
        interface = json.loads(info).get("interface", "") if info else ""
        if interface.startswith(("tcp://127.", "tcp://localhost")):
            self.log.warning(
                "The controller listens on %s only: engines on other machines cannot "
                "reach it.  Start it with --ip='*' (Cluster.controller_ip).",
                interface,
            )

    def on_engine_stop(self, f: Callable[[dict[str, Any]], Any]) -> None:
        """Call f(stop_data) for every single engine that ends.

        stop_data has identifier, pid, exit_code, expected and output.
        Launchers that see only the whole set never call it.
        """
        self._engine_callbacks.append(f)

    def find_engine(self, uuid: str) -> str | None:
        """The identifier of the engine that has this name on the wire.

        None if it is not of this set, or if the launcher sees only the whole
        set.  Launchers that know single engines have kept_open(), stop_one(),
        start_one() and signal_one() too; see LocalEngineSetLauncher.
        """
        return None
