"""Counting the engines that register with a controller.

A daemon thread holds one connection to the controller and reports the number of
registered engines whenever it changes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["EngineCounter"]

# Seconds between looks at whether anybody still wants to know.
_SLICE_S = 0.5


class EngineCounter:
    """Reports how many engines are registered.

    tell(n) is called from the thread: once when connected, then on every
    change.  fail(text) is called instead if there is no connection.
    """

    def __init__(
        self,
        client_info: dict[str, Any],
        tell: Callable[[int], Any],
        fail: Callable[[str], Any],
        timeout: float = 10.0,
    ):
        self._info = client_info
        self._tell = tell
        self._fail = fail
        self._timeout = timeout
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run, daemon=True, name="roundhouse-count"
        )
        self._thread.start()

    def close(self) -> None:
        """Stop reporting.  The connection is closed a moment later."""
        self._closed.set()

    def _run(self) -> None:
        try:
            from ... import _core

            client = _core.Client(json.dumps(self._info), timeout=self._timeout)
        except Exception as e:
            if not self._closed.is_set():
                self._fail(f"{type(e).__name__}: {e}")
            return
        try:
            version = client.engines_version
            self._tell(len(client.engines()))
            while not self._closed.is_set():
                if client.wait_engines(version, _SLICE_S):
                    version = client.engines_version
                    self._tell(len(client.engines()))
        except Exception as e:
            if not self._closed.is_set():
                self._fail(f"{type(e).__name__}: {e}")
        finally:
            client.close(0)
