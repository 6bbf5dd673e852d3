"""Single engines of a cluster: stop, restart or signal one by its id.

Ids are the controller's.  It is asked which engine has the id, and the launcher
that started an engine of this name does the rest; so it works for an engine
that hangs, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from .aio import Syncable, in_thread, maybe_await
from .launcher.base import LauncherError

__all__ = ["Registered", "SingleEngines"]

# Seconds in which a controller notices that an engine has gone.  An older one
# needs longer; nothing depends on it.
_LEAVE_S = 5.0


class Registered:
    """The engines that are registered with a controller.

    Every method waits for the network: call it in a thread.
    """

    def __init__(self, client_info: dict[str, Any]):
        from roundhouse import _core

        self._client = _core.Client(json.dumps(client_info))

    def engines(self) -> dict[int, str]:
        """Id to name on the wire."""
        return self._client.engines()

    def wait_until(self, here: str = "", gone: str = "", timeout: float = 0) -> bool:
        """Wait until one engine is registered and another is not.

        False after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            version = self._client.engines_version
            names = self._client.engines().values()
            if (not here or here in names) and gone not in names:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._client.wait_engines(version, min(left, 0.5))

    def close(self) -> None:
        self._client.close(0)


class SingleEngines(Syncable):
    """Mixin of Cluster: its methods for one engine."""

    controller: Any
    engines: Any
    engine_timeout: int
    update_cluster_file: Callable[[], None]

    async def _ask(self) -> Registered:
        if self.controller is None:
            raise RuntimeError("the cluster has no controller to ask for engines")
        info = await maybe_await(self.controller.get_connection_info())
        return await in_thread(lambda: Registered(info["client"]))

    def _find(self, registered: dict[int, str], engine_id: int) -> tuple[Any, str]:
        """The engine set that has an engine, and the set's name for it."""
        if engine_id not in registered:
            known = ", ".join(map(str, sorted(registered))) or "none"
            raise KeyError(f"there is no engine {engine_id}; registered: {known}")
        for engine_set in list(self.engines.values()):
            find = getattr(engine_set, "find_engine", None)
            identifier = find(registered[engine_id]) if find else None
            if identifier is not None:
                return engine_set, identifier
        raise LauncherError(
            f"no launcher of this cluster knows engine {engine_id} by itself; "
            "act on its set, or use a Client"
        )

    async def stop_engine(self, engine_id: int) -> None:
        """Stop one engine by its id, and wait until the controller knows.

        Raises KeyError if there is none, LauncherError if it was not started by
        this cluster or can only be stopped with its whole set.
        """
        asked = await self._ask()
        try:
            names = asked.engines()
            engine_set, identifier = self._find(names, engine_id)
            await engine_set.stop_one(identifier)
            await in_thread(
                lambda: asked.wait_until(gone=names[engine_id], timeout=_LEAVE_S)
            )
        finally:
            asked.close()
        self.update_cluster_file()

    async def restart_engine(self, engine_id: int) -> None:
        """Stop one engine and start another in its place.

        Returns when the new one is registered; it asks for the same id.  Raises
        as stop_engine() does, and TimeoutError if it does not register within
        `engine_timeout` seconds.
        """
        asked = await self._ask()
        try:
            names = asked.engines()
            engine_set, identifier = self._find(names, engine_id)
            with engine_set.kept_open():
                await engine_set.stop_one(identifier)
                await in_thread(
                    lambda: asked.wait_until(gone=names[engine_id], timeout=_LEAVE_S)
                )
                name = engine_set.start_one(identifier, engine_id)
            self.update_cluster_file()
            timeout = self.engine_timeout
            if not await in_thread(lambda: asked.wait_until(name, timeout=timeout)):
                raise TimeoutError(
                    f"the engine in place of {engine_id} did not register in {timeout} s"
                )
        finally:
            asked.close()

    async def signal_engine(self, signum: int, engine_id: int) -> None:
        """Send a signal to one engine.  Raises as stop_engine() does."""
        asked = await self._ask()
        try:
            engine_set, identifier = self._find(asked.engines(), engine_id)
        finally:
            asked.close()
        engine_set.signal_one(identifier, signum)
