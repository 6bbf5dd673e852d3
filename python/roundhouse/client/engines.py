"""The engines of a client: which there are, and how they are named."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import error
from .asyncresult import _seconds
from .display import get_shell

if TYPE_CHECKING:
    from .. import _core
    from .view import DirectView

_SLICE_S = 0.5


class EngineMap(dict):  # type: ignore[type-arg]
    """Engine ids to uuids; lookups by uuid work as well."""

    def __missing__(self, key: Any) -> Any:
        for engine_id, uuid in self.items():
            if uuid == key:
                return engine_id
        raise KeyError(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """The uuid of an id, the id of a uuid, or default."""
        try:
            return self[key]
        except KeyError:
            return default


class Engines:
    """The part of Client that knows the engines.

    `_by_id` and `_ids` are replaced as a whole, so they may be read from any
    thread; `_by_uuid` remembers engines that are gone.
    """

    _core: _core.Client
    _closed: bool
    cluster: Any

    def _init_engines(self) -> None:
        self._version: int | None = None
        self._engines_lock = threading.RLock()
        self._by_id: dict[int, str] = {}
        self._ids: list[int] = []
        self._by_uuid: dict[str, int] = {}

    def direct_view(self, targets: Any = "all", **kwargs: Any) -> DirectView:
        raise NotImplementedError

    def _check_open(self) -> None:
        raise NotImplementedError

    def _flush(self) -> None:
        raise NotImplementedError

    def _refresh(self) -> None:
        """Take over the core's engines if they changed."""
        if self._closed:
            return
        version = self._core.engines_version
        if version == self._version:
            return
        with self._engines_lock:
            engines = self._core.engines()
            for engine_id, uuid in engines.items():
                self._by_uuid[uuid] = engine_id
            self._by_id = engines
            self._ids = sorted(engines)
            self._version = version

    @property
    def ids(self) -> list[int]:
        """The ids of the registered engines, sorted; no request is made."""
        self._refresh()
        return list(self._ids)

    @property
    def _engines(self) -> EngineMap:
        self._refresh()
        return EngineMap(self._by_id)

    def _engine_id(self, uuid: str) -> int | None:
        """The id of an engine, present or past."""
        found = self._by_uuid.get(uuid)
        if found is None:
            self._refresh()
            found = self._by_uuid.get(uuid)
        return found

    def __len__(self) -> int:
        self._refresh()
        return len(self._ids)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[DirectView]:
        """One view per engine."""
        for engine_id in self.ids:
            yield self.direct_view(engine_id)

    def __getitem__(self, key: Any) -> DirectView:
        """A DirectView of engines: an index of `ids`, a slice, or a list of ids."""
        if isinstance(key, bool) or not isinstance(
            key, (int, slice, tuple, list, range)
        ):
            if hasattr(type(key), "__index__") and not isinstance(key, bool):
                key = key.__index__()
            else:
                raise TypeError(
                    f"engines are chosen by id, slice or list of ids, not by {type(key).__name__}"
                )
        return self.direct_view(key)

    def _build_targets(self, targets: Any) -> tuple[list[str], list[int]]:
        """(uuids, ids) of engines given as an id, slice, list, 'all' or None.

        Raises NoEnginesRegistered, IndexError for an unknown id, TypeError for
        something else.
        """
        self._check_open()
        self._refresh()
        ids, by_id = self._ids, self._by_id
        if not ids:
            self._flush()
            self._refresh()
            ids, by_id = self._ids, self._by_id
            if not ids:
                raise error.NoEnginesRegistered(
                    "Can't build targets without any engines."
                )
        if type(targets) is int:
            uuid = by_id.get(targets)
            if uuid is not None:
                return [uuid], [targets]
            chosen = [self._index(targets)]
        elif targets is None:
            chosen = ids
        elif isinstance(targets, str):
            if targets.lower() != "all":
                raise TypeError(f"targets={targets!r}: the only name is 'all'")
            chosen = ids
        elif isinstance(targets, slice):
            chosen = ids[targets]
        elif isinstance(targets, (list, tuple, range, set)):
            chosen = list(targets)
        elif hasattr(type(targets), "__index__") and not isinstance(targets, bool):
            chosen = [self._index(targets.__index__())]
        else:
            raise TypeError(
                f"targets are ids, a slice or a list of ids, not {type(targets).__name__}"
            )
        try:
            return [by_id[t] for t in chosen], list(chosen)
        except KeyError as e:
            raise IndexError(f"No such engine: {e.args[0]}; there are {ids}") from None

    def _index(self, target: int) -> int:
        """The id for an int target; a negative one counts from the end."""
        if target < 0:
            try:
                return self._ids[target]
            except IndexError:
                pass
        elif target in self._by_id:
            return target
        raise IndexError(f"No such engine: {target}; there are {self._ids}")

    def wait_for_engines(
        self,
        n: int | None = None,
        *,
        timeout: float | None = -1,
        block: bool = True,
        interactive: bool | None = None,
        widget: bool | None = None,
    ) -> Any:
        """Wait until n engines are registered.

        Parameters
        ----------
        n : int
            By default the number the cluster of this client was started with.
        timeout : float
            Seconds; negative or None for no limit.
        block : bool
            False returns a Future instead of waiting.
        interactive : bool, optional
            Show a progress bar; by default within IPython.
        widget : bool, optional
            The bar is a notebook widget.

        Raises
        ------
        TimeoutError
            If there are fewer after timeout seconds; the text says how many.
        EngineError
            If an engine leaves while we wait, or all that the cluster started
            have ended.
            Both say what engines of the cluster that ended said last.
        TypeError
            Without n and without a cluster.
        """
        if n is None:
            n = self._expected_engines()
        if block:
            self._wait_for_engines(n, _seconds(timeout), interactive, widget)
            return None
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        if len(self) >= n:
            future.set_result(None)
            return future

        def wait() -> None:
            try:
                self._wait_for_engines(n, _seconds(timeout), interactive, widget)
            except BaseException as e:
                future.set_exception(e)
            else:
                future.set_result(None)

        threading.Thread(target=wait, name="roundhouse-wait", daemon=True).start()
        return future

    def _expected_engines(self) -> int:
        if self.cluster is None:
            raise TypeError("how many engines? give n, as no Cluster says it")
        n: int | None = self.cluster.n
        return n or sum(es.n for es in self.cluster.engines.values())

    def _wait_for_engines(
        self,
        n: int,
        timeout: float | None,
        interactive: bool | None,
        widget: bool | None,
    ) -> None:
        if len(self) >= n:
            return
        if interactive is None:
            interactive = (
                os.environ.get("IPP_NONINTERACTIVE", "") in ("", "0")
                and get_shell() is not None
            )
        bar: Any = None
        if interactive:
            from .progress import progress

            bar = progress(widget=widget, initial=len(self), total=n, unit="engine")
        watch = _EngineSetWatch(self.cluster)
        try:
            self._count_engines(n, timeout, bar, watch)
        finally:
            watch.close()
            if bar is not None:
                bar.close()

    def _count_engines(
        self, n: int, timeout: float | None, bar: Any, watch: _EngineSetWatch
    ) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        before = set(self.ids)
        while True:
            self._check_open()
            version = self._core.engines_version
            now = set(self.ids)
            if bar is not None:
                bar.update(len(now) - bar.n)
            if len(now) >= n:
                return
            if before - now:
                raise error.EngineError(
                    f"Engine {min(before - now)} left while others were waited for"
                )
            if watch.stopped:
                raise error.EngineError(
                    f"Engine set stopped: {len(now)} of {n} engines are there"
                    + watch.reasons()
                )
            before = now
            left = _SLICE_S
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left <= 0:
                    raise TimeoutError(
                        f"{n} engines not ready in {timeout} seconds. "
                        f"Currently ready: {len(now)}" + watch.reasons()
                    )
            self._core.wait_engines(version, left)


class _EngineSetWatch:
    """Notices when a set of engines of a Cluster stops while we wait."""

    def __init__(self, cluster: Any) -> None:
        self.stopped = False
        self._sets = list(getattr(cluster, "engines", {}).values()) if cluster else []
        for engine_set in self._sets:
            if hasattr(engine_set, "on_stop"):
                engine_set.on_stop(self._stop)

    def _stop(self, data: Any) -> None:
        self.stopped = True

    def reasons(self) -> str:
        """Which engines have ended, and what they said last; a line per reason."""
        found: dict[str, list[str]] = {}
        for engine_set in self._sets:
            for who, why in _ended(engine_set):
                found.setdefault(why, []).append(who)
        return "".join([f"\n{', '.join(who)}: {why}" for why, who in found.items()])

    def close(self) -> None:
        for engine_set in self._sets:
            callbacks = getattr(engine_set, "stop_callbacks", None)
            try:
                callbacks.remove(self._stop)  # type: ignore[union-attr]
            except (AttributeError, ValueError):
                pass


def _ended(engine_set: Any) -> Iterator[tuple[str, str]]:
    """(who, why) of what has ended in a set; single engines if it knows them."""
    from ..cluster.launcher.base import describe_exit

    data = getattr(engine_set, "stop_data", None) or {}
    outputs = getattr(engine_set, "outputs", {})
    parts = [
        (f"engine {name}", one, outputs.get(name, ""))
        for name, one in data.get("engines", {}).items()
    ]
    if not parts and data:
        get_output = getattr(engine_set, "get_output", str)
        parts = [("all engines", data, get_output())]
    for who, one, output in parts:
        last = output.strip().rpartition("\n")[2]
        yield who, describe_exit(one.get("exit_code")) + (f": {last}" if last else "")
