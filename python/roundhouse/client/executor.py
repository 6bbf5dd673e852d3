"""PEP 3148 executors."""

from __future__ import annotations

import concurrent.futures
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .view import View

__all__ = ["ViewExecutor"]


class ViewExecutor(concurrent.futures.Executor):
    """A `concurrent.futures.Executor` over a view; made as ``view.executor``."""

    def __init__(self, view: View) -> None:
        self.view = view

    @property
    def _max_workers(self) -> int:
        return len(self.view)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As ``view.apply_async``."""
        return self.view.apply_async(fn, *args, **kwargs)

    def map(  # type: ignore[override]
        self, func: Callable[..., Any], *iterables: Any, **kwargs: Any
    ) -> Any:
        """As ``view.imap``, with its chunks; a timeout is ignored."""
        if "timeout" in kwargs:
            warnings.warn("timeout unsupported in ViewExecutor.map", stacklevel=2)
            kwargs.pop("timeout")
        if not self.view._balanced:
            kwargs.pop("chunksize", None)  # there is a chunk per engine
        return self.view.imap(func, *iterables, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what was submitted; the engines are left running.

        cancel_futures asks the engines to skip what has not started.
        """
        if cancel_futures:
            for feeder in list(self.view._feeders):
                feeder.cancel()
            self.view.abort(block=False)
        if not wait:
            return
        for feeder in list(self.view._feeders):
            feeder.hurry()
            feeder.fed.wait()
        self.view.wait()
