"""PEP 3148 executors, and the lazy map behind them."""

from __future__ import annotations

import concurrent.futures
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..serialize.serialize import PrePickled

if TYPE_CHECKING:
    from .view import View

__all__ = ["LazyMapIterator", "ViewExecutor"]


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
        """As ``view.imap``; a timeout is not supported and ignored."""
        if "timeout" in kwargs:
            warnings.warn("timeout unsupported in ViewExecutor.map", stacklevel=2)
            kwargs.pop("timeout")
        kwargs.pop("chunksize", None)
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
            feeder.fed.wait()
        self.view.wait()


class _Feeder:
    """Submits the calls of a lazy map; shared by its thread and its iterator.

    `slots` limits how many are outstanding.  Results go to `ready` when they
    are submitted (ordered) or when they are finished (unordered).
    """

    def __init__(self, ordered: bool, limit: int) -> None:
        self.ordered = ordered
        self.slots = threading.Semaphore(limit) if limit else None
        self.ready: deque[Any] = deque()
        self.changed = threading.Condition()
        self.pending = 0  # submitted, not in `ready` yet
        self.cancelled = False
        self.ended = False
        self.fed = threading.Event()
        self.error: BaseException | None = None

    def feed_one(
        self, view: View, f: PrePickled, calls: Iterator[tuple[Any, ...]]
    ) -> bool:
        """Submit the next call; False if there is none."""
        if self.cancelled:
            return False
        try:
            args = next(calls)
            ar = view.apply_async(f, *args)
        except StopIteration:
            return False
        except BaseException as e:
            self.error = e
            return False
        with self.changed:
            if self.ordered:
                self.ready.append(ar)
            else:
                self.pending += 1
            self.changed.notify()
        if not self.ordered or self.slots is not None:
            ar.add_done_callback(self.finished)
        return True

    def finished(self, ar: Any) -> None:
        """A result is here: make room, and hand it on if unordered."""
        if self.slots is not None:
            self.slots.release()
        if not self.ordered:
            with self.changed:
                self.pending -= 1
                self.ready.append(ar)
                self.changed.notify()

    def end(self, view: View) -> None:
        """Nothing more will be submitted."""
        with self.changed:
            self.ended = True
            self.changed.notify()
        view._feeders.discard(self)
        self.fed.set()

    def run(self, view: View, f: PrePickled, calls: Iterator[tuple[Any, ...]]) -> None:
        """Body of the thread: submit while there is room."""
        try:
            while True:
                if self.slots is not None:
                    self.slots.acquire()
                if not self.feed_one(view, f, calls):
                    return
        finally:
            self.end(view)

    def cancel(self) -> None:
        """Take no more input."""
        self.cancelled = True
        if self.slots is not None:
            self.slots.release()

    def take(self) -> Any:
        """The next result, or None at the end."""
        with self.changed:
            while not self.ready:
                if self.ended and not self.pending:
                    return None
                # sliced, so that Ctrl-C is served on every platform
                self.changed.wait(1.0)
            return self.ready.popleft()


class LazyMapIterator:
    """Iterates the results of `LoadBalancedView.imap`.

    Input is read as results come; `cancel` stops reading it.
    """

    def __init__(
        self,
        view: View,
        f: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        ordered: bool,
        limit: int,
        return_exceptions: bool,
    ) -> None:
        self._feeder = feeder = _Feeder(ordered, limit)
        self._return_exceptions = return_exceptions
        view._feeders.add(feeder)
        packed = PrePickled(f)
        # The first call is made here, so that what is wrong with f or its
        # arguments is raised to the caller.
        if feeder.slots is not None:
            feeder.slots.acquire()
        more = feeder.feed_one(view, packed, calls)
        if not more:
            feeder.end(view)
            if feeder.error is not None:
                error, feeder.error = feeder.error, None
                raise error
            return
        threading.Thread(
            target=feeder.run,
            args=(view, packed, calls),
            name="roundhouse-imap",
            daemon=True,
        ).start()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        ar = self._feeder.take()
        if ar is None:
            error, self._feeder.error = self._feeder.error, None
            if error is not None:
                raise error
            raise StopIteration
        return ar.get(return_exceptions=self._return_exceptions)

    def cancel(self) -> None:
        """Stop reading the input; results of submitted calls still come."""
        self._feeder.cancel()

    def __del__(self) -> None:
        feeder = getattr(self, "_feeder", None)
        if feeder is not None:
            feeder.cancel()
