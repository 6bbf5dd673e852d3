"""Waiting for the connection files of a controller.

A controller says that it is ready by writing two JSON files.  Files of an
earlier controller may still lie there, so `Arrival` remembers what was there
before the start.  A file that did not change counts only if somebody listens on
the port it names: that is a controller told to use its old files again.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Arrival", "listens"]

LOOK_S = 0.005
_PROBE_S = 0.1

Identity = tuple[int, int, int]  # (inode, modification time, size)


def _identity(path: str) -> Identity | None:
    try:
        st = os.stat(path)
    except OSError:
        return None
    return (st.st_ino, st.st_mtime_ns, st.st_size)


def _load(path: str) -> dict[str, Any] | None:
    """The JSON object in a file; None while it is missing or half written."""
    try:
        with open(path, encoding="utf-8") as f:
            info = json.load(f)
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) and "registration" in info else None


def listens(info: Mapping[str, Any], timeout: float = 0.25) -> bool:
    """Whether somebody on this machine listens where `info` says the hub is."""
    transport, _, host = str(info.get("interface", "")).partition("://")
    port: Any = info.get("registration")
    if transport == "ipc":
        path = f"{host}-{port}"
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            return s.connect_ex(path) == 0
    if host in ("*", "0.0.0.0", "::"):
        host = "127.0.0.1"
    try:
        socket.create_connection((host, port), timeout).close()
    except (OSError, TypeError, ValueError, OverflowError):
        return False
    return True


class Arrival:
    """The connection files of one controller, by kind ("client", "engine").

    Make it before the controller is started.
    """

    def __init__(self, paths: Mapping[str, str]):
        self._paths = dict(paths)
        self._before = {kind: _identity(p) for kind, p in self._paths.items()}

    def forget(self) -> None:
        """Count no file as old: the controller runs already."""
        self._before = dict.fromkeys(self._before)

    async def wait(
        self,
        timeout: float,
        stopped: Callable[[], str | None],
        *,
        queued: Callable[[], bool] = lambda: False,
        look_s: float = LOOK_S,
    ) -> dict[str, dict[str, Any]]:
        """The contents of the files, by kind, as soon as they are there.

        stopped() returns a text once the controller cannot write them any
        more.  A negative timeout waits for ever; time in which queued() is true
        does not count.  Raises RuntimeError with the text of stopped(), or
        TimeoutError.
        """
        deadline = time.monotonic() + timeout if timeout >= 0 else None
        probe_at = 0.0
        while True:
            end = stopped()  # asked first: it may write, and then end
            now = time.monotonic()
            found = self._look(probe=now >= probe_at)
            if found is not None:
                return found
            if end is not None:
                raise RuntimeError(end)
            if deadline is not None and queued():
                deadline = now + timeout
            if deadline is not None and now >= deadline:
                raise TimeoutError(self._missing(timeout))
            if now >= probe_at:
                probe_at = now + _PROBE_S
            await asyncio.sleep(look_s)

    def _look(self, probe: bool) -> dict[str, dict[str, Any]] | None:
        out = {}
        for kind, path in self._paths.items():
            identity = _identity(path)
            if identity is None:
                return None
            if identity == self._before[kind] and not probe:
                return None
            info = _load(path)
            if info is None:
                return None
            if identity == self._before[kind] and not listens(info):
                return None
            out[kind] = info
        return out

    def _missing(self, timeout: float) -> str:
        missing = []
        for kind, path in self._paths.items():
            identity = _identity(path)
            if identity is None:
                missing.append(f"{path} is missing")
            elif identity == self._before[kind]:
                missing.append(f"{path} is an old one")
            elif _load(path) is None:
                missing.append(f"{path} is not complete")
        return f"no connection files after {timeout:g} s: {', '.join(missing)}"

    def remove_new(self) -> None:
        """Remove the files that were written since."""
        for kind, path in self._paths.items():
            identity = _identity(path)
            if identity is not None and identity != self._before[kind]:
                try:
                    os.remove(path)
                except OSError:
                    pass
