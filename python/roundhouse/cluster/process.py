"""Processes that are watched, not polled.

A `Process` is one that we started (`Process.spawn`) or one that somebody else
started and whose id we know (`Process.attach`).  Its end is reported by the
kernel through a pidfd; one daemon thread watches all of them.  Where there is
no pidfd a thread per process waits instead.

Invariants: a signal never reaches a stranger that got the id of a dead process
(signals go through the pidfd, and an attached process is compared by its start
time); a child is always reaped; callbacks run exactly once, in the watcher's
thread, and must be short.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Process", "boot_id", "start_key", "tail_of"]

# Seconds between looks at a foreign process where there is no pidfd.
_FALLBACK_LOOK = 0.05
# Seconds that what an ended process left in its process group has to end.
_LEFTOVER_GRACE = 1.0


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            text = f.read().decode("utf-8", "replace")
    except OSError:
        return None
    # The second field is a name in parentheses and may contain anything.
    return text[text.rfind(")") + 2 :].split()


def boot_id() -> str:
    """Names this run of this machine's kernel ('' if the system has no name)."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as f:
            return f.read().strip()
    except OSError:
        return ""


def start_key(pid: int) -> str:
    """A text that differs for two processes which had the same id.

    Boot and start time; '' where the system does not tell.
    """
    fields = _stat(pid)
    return f"{boot_id()}/{fields[19]}" if fields and len(fields) > 19 else ""


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended but was not reaped does not."""
    fields = _stat(pid)
    if fields is not None:
        return fields[0] not in ("Z", "X", "x")
    if os.path.isdir("/proc/self"):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _group_is_alive(pgid: int) -> bool:
    """Whether any process of the group runs."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not os.path.isdir("/proc/self"):
        return True
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and int(fields[2]) == pgid and fields[0] not in ("Z", "X", "x"):
                return True
    return False


def tail_of(path: str, lines: int, limit: int = 1 << 16) -> str:
    """The last lines of a file, at most `limit` bytes; '' if it cannot be read.

    lines=0 means as many as fit.
    """
    try:
        with open(path, "rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(0, size - limit))
            data = f.read(limit)
    except OSError:
        return ""
    kept = data.decode("utf-8", "replace").splitlines(keepends=True)
    if size > limit and len(kept) > 1:
        del kept[0]  # it begins somewhere in the middle
    return "".join(kept[-lines:] if lines else kept)


class Process:
    """One operating-system process.

    Attributes
    ----------
    pid : int
    exit_code : int or None
        As in `subprocess`: negative is a signal.  None while it runs, and for
        ever if the process was not our child.
    """

    def __init__(self, pid: int, popen: subprocess.Popen[bytes] | None = None):
        self.pid = pid
        self.exit_code: int | None = None
        self.start_key = start_key(pid)
        self._popen = popen
        self._pidfd = -1
        # Guards _pidfd, _callbacks and the step from running to ended.
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Process], None]] = []
        self._ended = threading.Event()
        # Set before a stop: what is left of the group then goes as well.
        self.sweep_group = False

    @classmethod
    def spawn(
        cls,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        output: str,
    ) -> Process:
        """Start a child in a session of its own, its output appended to a file.

        The file is for the owner's eyes only, since output may hold secrets.
        Raises OSError (no such program, no such folder...).
        """
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            popen = subprocess.Popen(
                list(args),
                stdin=subprocess.DEVNULL,
                stdout=fd,
                stderr=fd,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(fd)
        self = cls(popen.pid, popen)
        self._watch()
        return self

    @classmethod
    def attach(cls, pid: int, key: str = "") -> Process:
        """Watch a process that somebody else started.

        Raises ProcessLookupError if it is gone, which includes that its id was
        given to another process (`key` is what start_key() said of the first).
        """
        self = cls(pid)
        self._watch()
        self.start_key = start_key(pid)  # of the very process that is watched
        if not cls.is_running(pid, key):
            self._finish(None)
            raise ProcessLookupError(f"process {pid} has ended")
        return self

    @staticmethod
    def is_running(pid: int, key: str = "") -> bool:
        """Whether a process runs, and is the one that start_key() named."""
        return _is_alive(pid) and (not key or start_key(pid) in ("", key))

    def _watch(self) -> None:
        opener = getattr(os, "pidfd_open", None)
        if opener is not None:
            try:
                self._pidfd = opener(self.pid)
            except ProcessLookupError:
                raise
            except OSError:
                pass  # kernel too old, or forbidden in this container
        if self._pidfd >= 0:
            _watcher().add(self)
            return
        target = self._wait_child if self._popen else self._wait_stranger
        threading.Thread(
            target=target, daemon=True, name=f"roundhouse-wait-{self.pid}"
        ).start()

    def _wait_child(self) -> None:
        # WNOWAIT keeps the id ours until the group has been signalled.
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except (AttributeError, OSError):
            pass  # _reap() waits as well
        self._reap()

    def _wait_stranger(self) -> None:
        while _is_alive(self.pid) and not self._ended.is_set():
            time.sleep(_FALLBACK_LOOK)
        self._reap()

    def _reap(self) -> None:
        """The process has ended: take its exit code and tell everybody."""
        if self.sweep_group:
            # The unreaped leader still holds the id, so the group is ours.
            self._signal_group(signal.SIGTERM)
        code = None
        if self._popen is not None:
            code = self._popen.wait()
        self._finish(code)

    def _finish(self, code: int | None) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self.exit_code = code
            fd, self._pidfd = self._pidfd, -1
            callbacks, self._callbacks = self._callbacks, []
            self._ended.set()
        if fd >= 0:
            _watcher().remove(fd)
        for f in callbacks:
            _call(f, self)

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def on_end(self, f: Callable[[Process], None]) -> None:
        """Call f(self) once when the process has ended; at once if it has."""
        with self._lock:
            if not self._ended.is_set():
                self._callbacks.append(f)
                return
        _call(f, self)

    def join(self, timeout: float | None = None) -> bool:
        """Block until the end; False if `timeout` seconds pass first."""
        return self._ended.wait(timeout)

    async def wait(self, timeout: float | None = None) -> bool:
        """Like join(), for coroutines of any event loop."""
        if self._ended.is_set():
            return True
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def tell(_: Process) -> None:
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:
                pass  # that loop is closed: nobody waits there any more

        self.on_end(tell)
        await asyncio.wait([done], timeout=timeout)
        return self._ended.is_set()

    def signal(self, signum: int) -> bool:
        """Send a signal to this process alone; False if it has ended."""
        with self._lock:
            if self._ended.is_set():
                return False
            try:
                if self._pidfd >= 0:
                    signal.pidfd_send_signal(self._pidfd, signum)
                else:
                    os.kill(self.pid, signum)
            except ProcessLookupError:
                return False
        return True

    def kill(self) -> None:
        """SIGKILL to the process and to everything in its group."""
        with self._lock:
            if self._ended.is_set():
                return
            self._signal_group(signal.SIGKILL)
        self.signal(signal.SIGKILL)

    def _signal_group(self, signum: int) -> None:
        """A signal to the group, if the process leads one that is not ours."""
        try:
            if self.pid != os.getpgrp():
                os.killpg(self.pid, signum)
        except (ProcessLookupError, PermissionError):
            pass

    async def sweep(self) -> None:
        """After the end: wait shortly for the rest of the group, then kill it.

        User code on an engine may have started processes of its own.
        """
        if not self.sweep_group:
            return
        deadline = time.monotonic() + _LEFTOVER_GRACE
        while _group_is_alive(self.pid):
            if time.monotonic() > deadline:
                self._signal_group(signal.SIGKILL)
                return
            await asyncio.sleep(0.01)


def _call(f: Callable[[Process], None], process: Process) -> None:
    try:
        f(process)
    except Exception:
        # One bad callback must not end the thread that serves all processes.
        import traceback

        sys.stderr.write(f"callback for the end of process {process.pid} failed:\n")
        traceback.print_exc()


class _Watcher:
    """The thread that waits on all pidfds."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        # Guards _orders: what the thread has to do to its selector.
        self._lock = threading.Lock()
        self._orders: list[tuple[int, Process | None]] = []
        self._selector.register(self._wake_r, selectors.EVENT_READ, None)
        self._thread = threading.Thread(
            target=self._run, daemon=True, name="roundhouse-processes"
        )
        self._thread.start()

    def add(self, process: Process) -> None:
        self._order(process._pidfd, process)

    def remove(self, fd: int) -> None:
        """Forget and close a pidfd."""
        self._order(fd, None)

    def _order(self, fd: int, process: Process | None) -> None:
        with self._lock:
            self._orders.append((fd, process))
        try:
            self._wake_w.send(b"\0")
        except BlockingIOError:
            pass  # it is awake

    def _obey(self) -> None:
        with self._lock:
            orders, self._orders = self._orders, []
        for fd, process in orders:
            if process is not None:
                self._selector.register(fd, selectors.EVENT_READ, process)
                continue
            try:
                self._selector.unregister(fd)
            except KeyError:
                pass
            os.close(fd)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                process = key.data
                if process is None:
                    try:
                        self._wake_r.recv(4096)
                    except BlockingIOError:
                        pass
                else:
                    self._selector.unregister(key.fd)
                    process._reap()
            self._obey()


_the_watcher: _Watcher | None = None
_watcher_lock = threading.Lock()


def _watcher() -> _Watcher:
    global _the_watcher
    with _watcher_lock:
        if _the_watcher is None:
            _the_watcher = _Watcher()
        return _the_watcher


def _forget_watcher() -> None:
    """After a fork: the thread stayed in the parent, and so do its children."""
    global _the_watcher, _watcher_lock
    _the_watcher = None
    _watcher_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_watcher)
