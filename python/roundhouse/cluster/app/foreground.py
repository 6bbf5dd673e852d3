"""A cluster that is watched from the foreground until somebody stops it.

`Foreground` brings up what the verb asks for, tells how far it got, and ends in
exactly one of these ways: everything is up and left running (--daemonize); a
signal asked to stop; the controller ended; all engines ended too early.  In all
but the first, everything it started is gone when it returns.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..aio import maybe_await
from ..cluster import Cluster, ClusterRunning
from ..launcher.base import LauncherError, describe_exit
from .arrivals import EngineCounter
from .common import ALREADY_STARTED
from .signals import Signals

__all__ = ["Foreground"]

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Seconds between two progress lines.
_PROGRESS_S = 0.25

_ADVICE = """\
All engines ended early, so nothing is left running.
If they are on other machines than the controller, it has to listen on more than
localhost (--ip='*'), and --location has to name it as those machines see it.
Anybody who reaches its ports and has the connection file can run code here."""


class Failure(Exception):
    """Why the cluster could not be brought up; the text is for people."""


class Foreground:
    """One run of ``ipcluster start`` or ``ipcluster engines``.

    start() brings things up and returns the id of the engine set; stop() ends
    what the verb started, kill() does so by force.
    """

    def __init__(
        self,
        cluster: Cluster,
        log: Any,
        *,
        start: Callable[[Foreground], Coroutine[Any, Any, str]],
        stop: Callable[[], Coroutine[Any, Any, None]],
        kill: Callable[[], None],
        daemonize: bool,
        early_shutdown: float,
        ends_with_engines: bool,
    ):
        self.cluster = cluster
        self.log = log
        self._start = start
        self._stop = stop
        self._kill = kill
        self._daemonize = daemonize
        self._early_shutdown = early_shutdown
        self._ends_with_engines = ends_with_engines
        self._began = time.monotonic()
        self._base: int | None = None  # engines registered before ours
        self._came = 0
        self._lost = 0
        self._asked_for = 0
        self._progress: asyncio.Future[None] | None = None
        self._said_at = 0.0
        self._up = False
        self._counter: EngineCounter | None = None

    # -- from other threads ----------------------------------------------------

    def _later(self, f: Callable[..., Any], *args: Any) -> None:
        """Call f in the loop's thread; silently not once the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(f, *args)
        except RuntimeError:
            pass

    # -- the run ---------------------------------------------------------------

    async def run(self) -> int:
        """Returns the exit code."""
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[int] = self._loop.create_future()
        self._changed = asyncio.Event()
        self._signals = Signals(self._loop)
        self._catch_signals()
        self.cluster.watch_engine_sets(self._watch_set)
        code = 1
        up = asyncio.ensure_future(self._bring_up())
        either: list[asyncio.Future[Any]] = [up, self._over]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and up.exception() is None:
                if self._daemonize and not self._over.done():
                    self._signals.close()  # too late to change it
                    return 0
                code = await self._over
            elif up.done():
                code = self._explain(up.exception())
            else:
                code = self._over.result()
        finally:
            if not up.done():
                up.cancel()
                await asyncio.wait({up})
            if self._progress is not None:
                self._progress.cancel()
            if self._counter is not None:
                self._counter.close()
            if code != ALREADY_STARTED and not (
                self._daemonize and self._up and not self._over.done()
            ):
                await self._shut_down()
        return code

    def _explain(self, error: BaseException | None) -> int:
        """Say why the cluster is not up; returns the exit code."""
        self.log.critical("%s", error)
        if not isinstance(
            error, (Failure, TimeoutError, LauncherError, ClusterRunning)
        ):
            self.log.debug("in detail", exc_info=error)
        return ALREADY_STARTED if isinstance(error, ClusterRunning) else 1

    async def _bring_up(self) -> None:
        set_id = await self._start(self)
        engine_set = self.cluster.engines[set_id]
        self._asked_for = engine_set.n
        engine_set.on_stop(lambda data: self._later(self._set_ended, data))
        if not getattr(engine_set, "starts_at_once", True):
            self.log.info("%d engines are queued", engine_set.n)
            if self._base is not None and not self._daemonize:
                # Only to tell how far it is; nobody waits for it.
                self._progress = asyncio.ensure_future(
                    self._wait_for_engines(engine_set.n, queued=True)
                )
        elif self._base is not None and engine_set.n:
            await self._wait_for_engines(engine_set.n)
        else:
            self.log.info("%d engines started", engine_set.n)
        self._up = True
        if not self._daemonize:
            self.log.info("Stop with Ctrl-C, or with `ipcluster stop` from elsewhere")

    # -- engines ---------------------------------------------------------------

    def count_engines(
        self, client_info: dict[str, Any], *, fresh: bool, timeout: float = 10.0
    ) -> asyncio.Future[None]:
        """Begin to count registered engines; the result is set once connected.

        A fresh controller has none, so nobody has to wait before starting some.
        """
        self._base = 0 if fresh else None
        self._connected = self._loop.create_future()

        def tell(n: int) -> None:
            self._later(self._engines_are, n)

        def fail(text: str) -> None:
            self._later(self._counting_failed, text)

        self._counter = EngineCounter(client_info, tell, fail, timeout)
        return self._connected

    def _engines_are(self, n: int) -> None:
        if self._base is None:
            self._base = n
        self._came = max(self._came, n - self._base)
        self._changed.set()
        if not self._connected.done():
            self._connected.set_result(None)

    def _counting_failed(self, text: str) -> None:
        self.log.warning("Cannot ask the controller which engines are there: %s", text)
        self._base = None
        self._changed.set()
        if not self._connected.done():
            self._connected.set_result(None)

    def _watch_set(self, engine_set: Any) -> None:
        """Notice when single engines of a set end."""
        if hasattr(engine_set, "on_engine_stop"):
            engine_set.on_engine_stop(
                lambda data: self._later(self._engine_ended, data)
            )

    def _engine_ended(self, data: dict[str, Any]) -> None:
        if data["expected"]:
            return
        self._lost += 1
        self._changed.set()

    async def _wait_for_engines(self, n: int, queued: bool = False) -> None:
        """Tell how many have come until all have, or no more can.

        Raises Failure if none comes, or with --daemonize if one is missing;
        queued engines may take their time.
        """
        deadline = self._began + self.cluster.engine_timeout
        while self._came < n and self._base is not None:
            if self._lost and (self._daemonize or self._lost >= n):
                raise Failure(
                    f"{self._lost} of {n} engines ended before they registered"
                )
            self._tell_progress(n)
            left = deadline - time.monotonic()
            if left <= 0 and not queued:
                self._late(n)
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), 1.0)
            except asyncio.TimeoutError:
                pass
            if self._came + self._lost >= n > self._came:
                break
        if self._base is None:
            self.log.info("%d engines started", n)
            return
        took = time.monotonic() - self._began
        lost = f"; {self._lost} ended" if self._lost else ""
        self.log.info("%d of %d engines (%.2f s)%s", self._came, n, took, lost)
        if self._lost and self._came == 0:
            raise Failure("no engine registered")

    def _late(self, n: int) -> None:
        text = (
            f"{self._came} of {n} engines registered in {self.cluster.engine_timeout} s "
            "(Cluster.engine_timeout)"
        )
        if self._daemonize:
            raise Failure(text)
        self.log.warning("%s; still waiting for the others", text)

    def _tell_progress(self, n: int) -> None:
        now = time.monotonic()
        if self._came and now - self._said_at >= _PROGRESS_S:
            self._said_at = now
            self.log.info("%d of %d engines", self._came, n)

    # -- ends ------------------------------------------------------------------

    def finish(self, code: int) -> None:
        """End the run; only the first reason counts."""
        if not self._over.done():
            self._over.set_result(code)

    def watch_controller(self) -> None:
        """End when the controller does."""
        controller = self.cluster.controller
        controller.on_stop(lambda data: self._later(self._controller_ended, data))

    def _controller_ended(self, data: Any) -> None:
        if self._over.done():
            return
        code = (data or {}).get("exit_code")
        if code:
            self.log.critical(
                "The controller ended (%s); stopping", describe_exit(code)
            )
        else:
            self.log.info("The controller has stopped; stopping the rest")
        self.finish(1 if code else 0)

    def _set_ended(self, data: Any) -> None:
        if self._over.done():
            return
        code = (data or {}).get("exit_code")
        early = time.monotonic() - self._began < self._early_shutdown
        failed = code or (self._base is not None and not self._came)
        if early and failed and self._asked_for:
            self.log.error("%s", _ADVICE)
            self.finish(1)
        elif self._ends_with_engines:
            self.finish(1 if code else 0)

    def _catch_signals(self) -> None:
        for stop in _STOP_SIGNALS:
            if signal.getsignal(stop) == signal.SIG_IGN:
                continue  # nohup wants a hang-up to be ignored
            self._signals.catch(stop, self._asked_to_stop)
        for name in ("SIGUSR1", "SIGUSR2", "SIGINFO"):
            signum = getattr(signal, name, None)
            if signum is not None:
                self._signals.catch(signum, self._relay)

    def _asked_to_stop(self, signum: int) -> None:
        name = signal.Signals(signum).name
        if not self._over.done():
            self.log.info("%s: stopping; once more to kill", name)
            self.finish(0 if self._up else 128 + signum)
            return
        self.log.warning("%s again: killing", name)
        self._kill()

    def _relay(self, signum: int) -> None:
        self.log.debug("Relaying signal %d to the engines", signum)
        task = asyncio.ensure_future(maybe_await(self.cluster.signal_engines(signum)))
        task.add_done_callback(self._relayed)

    def _relayed(self, task: asyncio.Future[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.log.error("Cannot signal the engines: %s", task.exception())

    async def _shut_down(self) -> None:
        if not self._over.done():
            self._over.set_result(1)  # from here on a signal kills
        try:
            await self._stop()
        except Exception as e:
            self.log.error("Cannot stop everything: %s", e)
            self._kill()
        self._signals.close()
        self.log.info("Stopped")
