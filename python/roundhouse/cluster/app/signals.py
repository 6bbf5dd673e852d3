"""Signals for an event loop, up to the last moment of the process.

The loop's own handlers end with the loop, and with default handlers a signal
could still kill a process whose exit code stands already.  These handlers stay
until `close` replaces them, in one step, by ignoring.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable

__all__ = ["Signals"]


class Signals:
    """Calls f(signum) in the loop's thread, which is the main thread.

    There can be one at a time in a process.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._calls: dict[int, Callable[[int], None]] = {}
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        # Any thread may get the signal; the byte wakes the loop's.
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        loop.add_reader(self._read, self._arrived)

    def catch(self, signum: int, f: Callable[[int], None]) -> None:
        """Call f(signum) from now on."""
        self._calls[signum] = f
        signal.signal(signum, lambda *_: None)

    def _arrived(self) -> None:
        for signum in self._read.recv(256):
            if signum in self._calls:
                self._calls[signum](signum)

    def close(self) -> None:
        """Ignore all that were caught."""
        for signum in self._calls:
            signal.signal(signum, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        self._loop.remove_reader(self._read)
        self._read.close()
        self._write.close()
