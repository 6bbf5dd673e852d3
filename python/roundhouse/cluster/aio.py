"""Coroutine methods that can be called from plain code as well.

`Syncable` gives every public coroutine method ``f`` of a class a twin
``f_sync`` that blocks.  Twins run on one event loop in a background thread, so
that they work in scripts, in threads and inside a running loop (a notebook)
alike.  Nothing here may keep a loop between two calls: a cluster may be started
under one loop and stopped under another.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

__all__ = ["Syncable", "in_thread", "maybe_await", "run_sync"]

T = TypeVar("T")


class _LoopThread:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(
            target=self._run, daemon=True, name="roundhouse-cluster"
        )
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


_loop_thread: _LoopThread | None = None
_lock = threading.Lock()


def _forget_thread() -> None:
    """After a fork: the thread is not in the child."""
    global _loop_thread, _lock
    _loop_thread = None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_thread)


def _get_thread() -> _LoopThread | None:
    """The background loop; None if the interpreter is ending and has none."""
    global _loop_thread
    with _lock:
        if _loop_thread is None:
            try:
                _loop_thread = _LoopThread()
            except RuntimeError:
                return None
        return _loop_thread


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from plain code and return its result.

    Ctrl-C cancels it, waits for its clean-up and raises KeyboardInterrupt.
    """
    background = _get_thread()
    if background is None:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(coroutine)
        finally:
            loop.close()
    if threading.current_thread() is background.thread:
        coroutine.close()
        raise RuntimeError("a _sync method was called by a coroutine; await its twin")
    call = _Call(coroutine, background.loop)
    try:
        call.over.wait()
    except BaseException:
        call.cancel()
        call.over.wait()  # its clean-up; a second Ctrl-C gives up on it
        raise
    return call.task.result()


class _Call(Generic[T]):
    """A coroutine that runs on the loop of another thread."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop
    ):
        self.over = threading.Event()
        self.task: asyncio.Task[T]
        self._coroutine = coroutine
        self._loop = loop
        loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self.task = self._loop.create_task(self._coroutine)
        self.task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # seen: an interrupted caller does not ask
        self.over.set()

    def cancel(self) -> None:
        # Runs after _start, which was queued first.
        self._loop.call_soon_threadsafe(lambda: self.task.cancel())


async def in_thread(f: Callable[[], T]) -> T:
    """f() in a daemon thread, so that an interpreter that ends need not wait."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return  # cancelled
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def work() -> None:
        error: BaseException | None = None
        value = None
        try:
            value = f()
        except BaseException as e:
            error = e
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            pass  # nobody waits any more, the loop is closed

    threading.Thread(target=work, daemon=True, name="roundhouse-work").start()
    return await future


async def maybe_await(value: Any) -> Any:
    """The value, awaited if it can be (launchers may be plain or async)."""
    return await value if inspect.isawaitable(value) else value


def _twin(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(f)
    def blocking(self: Any, *args: Any, **kwargs: Any) -> Any:
        return run_sync(getattr(self, name)(*args, **kwargs))

    # Not a coroutine function, whatever functools.wraps points at.
    del blocking.__wrapped__
    blocking.__name__ = f"{name}_sync"
    blocking.__qualname__ = f"{f.__qualname__}_sync"
    blocking.__signature__ = inspect.signature(f)  # type: ignore[attr-defined]
    blocking.__doc__ = f"Blocking form of `{name}`.\n\n{inspect.getdoc(f) or ''}"
    return blocking


class Syncable:
    """Mixin: ``async def f`` gets a blocking twin ``f_sync``."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, f in list(vars(cls).items()):
            twin = f"{name}_sync"
            if name.startswith("_") or not inspect.iscoroutinefunction(f):
                continue
            if twin not in vars(cls):
                setattr(cls, twin, _twin(name, f))
