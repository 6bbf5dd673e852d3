"""Running joblib's Parallel on a cluster.

Examples
--------
>>> ipp.register_joblib_backend()  # doctest: +SKIP
>>> with joblib.parallel_backend("ipyparallel"):  # doctest: +SKIP
...     joblib.Parallel()(joblib.delayed(f)(i) for i in range(10))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from joblib.parallel import (
    AutoBatchingMixin,
    ParallelBackendBase,
    register_parallel_backend,
)

from .serialize.serialize import PrePickled
from .serialize.wire import PROTOCOL

__all__ = ["IPythonParallelBackend", "register"]


class IPythonParallelBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Sends joblib's batches to a load-balanced view.

    Parameters
    ----------
    view : LoadBalancedView, optional
        By default that of the profile's cluster; if none runs, one is started,
        and stopped when joblib is done with the backend.
    """

    supports_return_generator = True

    def __init__(self, view: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._cluster: Any = None  # that we started
        self._client: Any = None  # that we made
        if view is None:
            view = self._connect()
        self._view = view

    def _connect(self) -> Any:
        from .cluster import Cluster

        try:
            cluster = Cluster.from_file()
        except FileNotFoundError:
            cluster = self._cluster = Cluster()
            cluster.start_cluster_sync()
        else:
            if not cluster.engines:
                cluster.start_engines_sync()
        self._client = cluster.connect_client_sync()
        self._client.wait_for_engines(cluster.n or 1)
        return self._client.load_balanced_view()

    def effective_n_jobs(self, n_jobs: int) -> int:
        """As many jobs at a time as there are engines."""
        return len(self._view)

    def terminate(self) -> None:
        """Close what was opened for the default view."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._cluster is not None:
            self._cluster.stop_cluster_sync()
            self._cluster = None

    def apply_async(
        self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None
    ) -> Any:
        """Run a batch; callback gets its result."""
        future = self._view.apply_async(_by_value(func))
        if callback is not None:
            future.add_done_callback(lambda f: callback(f.result()))
        return future

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None
    ) -> Any:
        """As apply_async; the name in newer versions of joblib."""
        return self.apply_async(func, callback)


def _by_value(func: Any) -> Any:
    """func so that what was typed in travels by value, if that is possible.

    Batches hold functions in attributes, where canning does not look.
    """
    try:
        import cloudpickle
    except ImportError:
        return func
    packed = PrePickled.__new__(PrePickled)
    packed.buffers = [cloudpickle.dumps(func, PROTOCOL)]
    return packed


def register(name: str = "ipyparallel", make_default: bool = False) -> None:
    """Register the backend; see joblib.parallel.register_parallel_backend."""
    register_parallel_backend(name, IPythonParallelBackend, make_default=make_default)
