"""Controllers and engines as processes of this machine.

Children run in sessions of their own, so that a Ctrl-C at the terminal reaches
only whoever started them.  Their output goes to a file in the profile's log
folder: removed when all went well, kept and shown when not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from typing import Any, TypeVar

from traitlets import Dict, Float, Integer, List, Unicode, default

from ..process import Process, boot_id, tail_of
from .base import (
    BaseLauncher,
    ControllerLauncher,
    EngineLauncher,
    LauncherError,
    NotRunning,
    ProcessStateError,
    UnknownStatus,
    describe_exit,
)

__all__ = [
    "LocalControllerLauncher",
    "LocalEngineLauncher",
    "LocalEngineSetLauncher",
    "LocalProcessLauncher",
]

P = TypeVar("P", bound="LocalProcessLauncher")
S = TypeVar("S", bound="LocalEngineSetLauncher")


class LocalProcessLauncher(BaseLauncher):
    """One process on this machine."""

    poll_seconds = Integer(
        30,
        help="Accepted from older configurations and not needed: the end of a "
        "process is reported by the system.",
        config=True,
    )
    stop_seconds_until_kill = Float(
        5, help="Seconds between SIGTERM and SIGKILL when stopping.", config=True
    )

    cmd_and_args = List(Unicode())
    pid = Integer(-1).tag(to_dict=True)
    process_key = Unicode(
        help="Start time; tells it from a later process of the same id."
    ).tag(to_dict=True)
    host = Unicode(help="Machine on which it runs.").tag(to_dict=True)
    output_file = Unicode(help="Where its output goes.").tag(to_dict=True)

    process: Process | None = None
    # Set when it had to be killed, so that it could not tidy up.
    was_killed = False
    _removed_output: str | None = None

    @default("output_file")
    def _default_output_file(self) -> str:
        return os.path.join(self.profile_dir, "log", f"{self.identifier}.log")

    def find_args(self) -> list[str]:
        return list(self.cmd_and_args)

    def start(self) -> int:
        """Start the process.  Raises LauncherError if that cannot be done."""
        if self.state != "before":
            raise ProcessStateError(f"{self.identifier} was started before")
        args = self.args
        os.makedirs(os.path.dirname(self.output_file), exist_ok=True)
        self.log.debug("Starting %s: %s", self.identifier, args)
        try:
            self.process = Process.spawn(
                args, env=self.full_env(), cwd=self.work_dir, output=self.output_file
            )
        except OSError as e:
            raise LauncherError(f"cannot start {args[0]}: {e.strerror}") from e
        self.pid = self.process.pid
        self.process_key = self.process.start_key
        self.host = socket.gethostname()
        self.notify_start(self.pid)
        self.process.on_end(self._process_ended)
        return self.pid

    def _process_ended(self, process: Process) -> None:
        self.notify_stop(
            {
                "exit_code": process.exit_code,
                "pid": process.pid,
                "identifier": self.identifier,
            }
        )

    @classmethod
    def from_dict(cls: type[P], d: dict[str, Any], **kwargs: Any) -> P:
        self = super().from_dict(d, **kwargs)
        self._take_up()
        return self

    def _take_up(self) -> None:
        """Find the process that another one started."""
        if self.pid <= 0 or self.state == "after":
            raise NotRunning(f"{self.identifier} has no process")
        if self._is_elsewhere():
            raise UnknownStatus(
                f"process {self.pid} runs on {self.host}, this is {socket.gethostname()}"
            )
        try:
            self.process = Process.attach(self.pid, self.process_key)
        except ProcessLookupError as e:
            self.state = "after"
            raise NotRunning(str(e)) from None
        self.state = "running"
        self.process.on_end(self._process_ended)

    def _is_elsewhere(self) -> bool:
        """Whether another machine has the process (profiles may be shared)."""
        if not self.host or self.host == socket.gethostname():
            return False
        # A machine that was renamed since is the same one, if not rebooted.
        boot = self.process_key.partition("/")[0]
        return not boot or boot != boot_id()

    async def join(self, timeout: float | None = None) -> None:
        if self.process is not None and not await self.process.wait(timeout):
            raise TimeoutError(f"process {self.pid} did not end in {timeout:g} s")

    def signal(self, sig: int) -> None:
        """Signal the process; nothing happens if it has ended."""
        if self.process is not None:
            self.process.signal(sig)

    def kill(self) -> None:
        if self.process is not None and self.process.running:
            self.stopping = self.was_killed = True
            self.process.kill()

    async def stop(self) -> None:
        """SIGTERM, then after stop_seconds_until_kill SIGKILL.

        Returns when the process and what it left in its process group are
        gone.  Raises TimeoutError if it cannot even be killed.
        """
        process = self.process
        if process is None:
            return
        self.stopping = process.sweep_group = True
        process.signal(signal.SIGTERM)
        if not await process.wait(self.stop_seconds_until_kill):
            self.log.warning(
                "%s (process %d) did not end %g s after SIGTERM; killing it",
                self.identifier, self.pid, self.stop_seconds_until_kill,
            )  # fmt: skip
            self.was_killed = True
            process.kill()
            await self.join(self.stop_timeout)
        await process.sweep()

    def poll(self) -> Any:
        if self.process is None or self.process.running:
            return None
        code = self.process.exit_code
        return "unknown" if code is None else code

    def get_output(self, remove: bool = False) -> str:
        """The last lines it printed (see output_limit)."""
        if self._removed_output is not None:
            return self._removed_output
        output = tail_of(self.output_file, self.output_limit)
        if remove:
            self._removed_output = output
            try:
                os.remove(self.output_file)
            except OSError:
                pass  # never written, or removed by somebody else
        return output


class LocalControllerLauncher(LocalProcessLauncher, ControllerLauncher):
    """A controller on this machine."""

    def find_args(self) -> list[str]:
        return self.controller_cmd + self.cluster_args + self.controller_args

    def start(self) -> int:
        self.note_files()
        return super().start()

    async def stop(self) -> None:
        """Stop it, and remove the connection files if it could not."""
        await super().stop()
        if self.was_killed:
            self.remove_files()

    def kill(self) -> None:
        super().kill()
        if self.was_killed:
            self.remove_files()


class LocalEngineLauncher(LocalProcessLauncher, EngineLauncher):
    """One engine on this machine."""

    engine_uuid = Unicode(help="The engine's name on the wire.").tag(to_dict=True)

    # The id it asks the controller for, when it takes another's place.
    wanted_id: int | None = None

    @default("engine_uuid")
    def _default_engine_uuid(self) -> str:
        return str(uuid.uuid4())

    def find_args(self) -> list[str]:
        args = self.engine_cmd + self.cluster_args + self.engine_args
        if self.engine_uuid:
            args.append(f"--ident={self.engine_uuid}")
        if self.wanted_id is not None:
            args.append(f"--IPEngine.id={self.wanted_id}")
        return args


class LocalEngineSetLauncher(LocalEngineLauncher):
    """Engines on this machine, one launcher each."""

    delay = Float(
        0.0,
        help="Seconds between the starts of two engines.  Engines get ids in the "
        "order in which they register; a delay helps them to keep that of their start.",
        config=True,
    )

    launcher_class = LocalEngineLauncher
    output_file = ""
    engine_uuid = ""

    launchers = Dict(help="The launchers of the engines that run, by identifier.")
    outputs = Dict(help="Last output of the engines that have ended.")
    stop_data = Dict()

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._starting = False
        self._reasons: dict[str, str] = {}  # last line of output: first engine

    def find_args(self) -> list[str]:
        return ["engine set"]

    def to_dict(self) -> dict[str, Any]:
        d = super().to_dict()
        d["engines"] = {i: el.to_dict() for i, el in list(self.launchers.items())}
        return d

    @classmethod
    def from_dict(cls: type[S], d: dict[str, Any], **kwargs: Any) -> S:
        self = super().from_dict(d, **kwargs)
        for i, state in d.get("engines", {}).items():
            try:
                el = cls.launcher_class.from_dict(state, identifier=i, parent=self)
            except NotRunning as e:
                self.log.debug("Engine %s of set %s: %s", i, self.engine_set_id, e)
                continue
            self.launchers[i] = el
            el.on_stop(self._engine_ended)
        if not self.launchers:
            raise NotRunning("none of its engines runs")
        self.n = len(self.launchers)
        self.state = "running"
        return self

    def _take_up(self) -> None:
        """The set has no process of its own."""

    def engine_launcher(self, identifier: str) -> LocalEngineLauncher:
        """The launcher of one engine, not started."""
        stem = [self.name, self.cluster_id, self.engine_set_id, identifier]
        name = "-".join(s for s in stem if s) + ".log"
        el = self.launcher_class(
            parent=self,
            log=self.log,
            work_dir=self.work_dir,
            profile_dir=self.profile_dir,
            cluster_id=self.cluster_id,
            engine_set_id=self.engine_set_id,
            identifier=identifier,
            environment=dict(self.environment),
            engine_cmd=list(self.engine_cmd),
            engine_args=list(self.engine_args),
            output_file=os.path.join(self.profile_dir, "log", name),
        )
        el.shows_output = False
        return el

    async def start(self, n: int) -> list[int]:  # type: ignore[override]
        """Start n engines; all or none.

        Raises LauncherError.
        """
        self.n = n
        self._starting = True
        pids = []
        try:
            for i in range(n):
                if i and self.delay:
                    await asyncio.sleep(self.delay)
                pids.append(self._start_one(str(i)))
        except BaseException:
            await self.stop()
            raise
        self.notify_start(pids)
        with self._state_lock:
            self._starting = False
            over = not self.launchers
        if over:  # none was asked for, or all have ended meanwhile
            self._set_ended()
        return pids

    def _start_one(self, identifier: str, wanted_id: int | None = None) -> int:
        el = self.engine_launcher(identifier)
        el.wanted_id = wanted_id
        pid = el.start()
        self.launchers[identifier] = el
        el.on_stop(self._engine_ended)
        return pid

    def _engine_ended(self, data: dict[str, Any]) -> None:
        identifier = data["identifier"]
        with self._state_lock:
            el = self.launchers.pop(identifier, None)
            if el is None:
                return
            self.outputs[identifier] = el.get_output()
            engines = dict(self.stop_data.get("engines", {}))
            engines[identifier] = data
            self.stop_data = {**self.stop_data, "engines": engines}
            last = not self.launchers and not self._starting
        if el.failed(data):
            self._show_failure(el, data)
        for f in list(self._engine_callbacks):
            f(
                {
                    **data,
                    "expected": not el.failed(data),
                    "output": self.outputs[identifier],
                    "output_file": el.output_file,
                }
            )
        if last:
            self._set_ended()

    def _show_failure(self, el: LocalEngineLauncher, data: dict[str, Any]) -> None:
        """Show why an engine failed; the same reason only once per set."""
        output = self.outputs[el.identifier].strip()
        what = f"engine {el.identifier} (process {el.pid}): {describe_exit(data['exit_code'])}"
        reason = output.rpartition("\n")[2]
        if reason in self._reasons:
            self.log.warning("%s; as engine %s", what, self._reasons[reason])
            return
        self._reasons[reason] = el.identifier
        said = (
            f"it printed (all of it in {el.output_file}):\n{output}"
            if output
            else "it printed nothing"
        )
        self.log.warning("%s; %s", what, said)

    def _set_ended(self) -> None:
        """The exit code of a set is the first bad one of its engines."""
        engines = self.stop_data.get("engines", {})
        codes = [e.get("exit_code") for e in engines.values()]
        bad = [c for c in codes if c]
        known = [c for c in codes if c is not None]
        code = bad[0] if bad else known[0] if known else None
        self.notify_stop({"engines": engines, "exit_code": code})

    def _each(self) -> list[LocalEngineLauncher]:
        return list(self.launchers.values())

    def signal(self, sig: int) -> None:
        for el in self._each():
            el.signal(sig)

    def kill(self) -> None:
        self.stopping = True
        for el in self._each():
            el.kill()

    async def stop(self) -> None:
        self.stopping = True
        await _all(el.stop for el in self._each())

    async def join(self, timeout: float | None = None) -> None:
        await _all(lambda el=el: el.join(timeout) for el in self._each())

    def find_engine(self, uuid: str) -> str | None:
        for identifier, el in list(self.launchers.items()):
            if el.engine_uuid == uuid:
                return identifier
        return None

    async def stop_one(self, identifier: str) -> None:
        """Stop one engine of the set.  Raises KeyError."""
        await self.launchers[identifier].stop()

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """The set does not end meanwhile, even if its last engine does."""
        self._starting = True
        try:
            yield
        finally:
            with self._state_lock:
                self._starting = False
                over = not self.launchers
            if over:
                self._set_ended()

    def start_one(self, identifier: str, engine_id: int) -> str:
        """Start an engine that asks for an id; returns its name on the wire.

        Raises LauncherError.
        """
        self._start_one(identifier, engine_id)
        uuid: str = self.launchers[identifier].engine_uuid
        return uuid

    def signal_one(self, identifier: str, sig: int) -> None:
        """Signal one engine of the set.  Raises KeyError."""
        self.launchers[identifier].signal(sig)

    def poll(self) -> Any:
        return BaseLauncher.poll(self)

    def _log_output(self, stop_data: Any = None) -> None:
        """Each engine's launcher has shown its own."""

    def get_output(self, remove: bool = False) -> str:
        """The last output of every engine, under a line with its identifier."""
        parts = dict(self.outputs)
        for identifier, el in list(self.launchers.items()):
            parts[identifier] = el.get_output(remove=remove)
        return "\n".join(
            f"Output of engine {i}:\n{_indent(text)}"
            for i, text in parts.items()
            if text
        )


async def _all(calls: Any) -> None:
    """Run coroutine functions side by side; raise the first error after all."""
    results = await asyncio.gather(*(f() for f in calls), return_exceptions=True)
    for r in results:
        if isinstance(r, BaseException):
            raise r


def _indent(text: str) -> str:
    return "".join(f"  {line}" for line in text.splitlines(keepends=True))
