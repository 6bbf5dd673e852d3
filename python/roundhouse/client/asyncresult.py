"""Results of calls: futures over one or more messages.

An AsyncResult is a `concurrent.futures.Future`, but it is not fed by anybody:
it looks at its messages when it is asked.  Only when somebody wants to be told
(a callback, `concurrent.futures.wait`, asyncio) is the condition of the Future
made and are the messages subscribed to.  A thread that waits drives the
sockets itself.  Values are decoded on access, in the thread that asks.

Invariant: `_finished` changes once, under `_lock`, when every message is done;
everybody who was to be told is told then.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
import warnings
from _thread import RLock  # threading.RLock is a function around it
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    InvalidStateError,
)
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from itertools import chain
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from .. import error
from .cancel import cancel_calls
from .message import FIELD_NAMES, HubMessage, Message, Metadata

if TYPE_CHECKING:
    from .client import Client

__all__ = ["AsyncMapResult", "AsyncResult"]

_PENDING = "PENDING"
_FINISHED = "FINISHED"
_CANCELLED = "CANCELLED_AND_NOTIFIED"
_OUTPUT_S = 10.0  # output follows its reply at once, unless its engine is gone


class NotReady(RuntimeError, AssertionError):
    """A question that has no answer before, or after, the result is here."""


def _seconds(timeout: float | None) -> float | None:
    """None for 'no limit', which callers also write as a negative number."""
    return None if timeout is None or timeout < 0 else timeout


class AsyncResult(Future):  # type: ignore[type-arg]
    """The result of a call that may still be running.

    Parameters
    ----------
    client : Client
    children : Message, msg_id, or a list of these
        A list makes the value a list, even with one item.
    fname : str
        Name of the function, for messages.
    targets : list of int, optional
        Engine ids, parallel to children; None if a scheduler chooses.
    owner : bool
        Whether the client may forget the result once it is here.
    return_exceptions : bool
        Whether `get` returns errors in place of values instead of raising.
    chunk_sizes : dict of msg_id to int, optional
        How many items each message stands for; 1 if missing.

    Attributes of the calls' metadata (``engine_id``, ``stdout``, ``started``…)
    are attributes and string items of the result: the value for a single call,
    a list for several.  They do not wait for the result; once it is here, they
    see all of its output.
    """

    _single_result = False
    _finished = False
    _cancelled_here = False
    _cond: threading.Condition | None = None
    _callbacks: list[Callable[[Any], Any]] | None = None
    _waiting: list[Any] | None = None
    _outcome: tuple[Any, BaseException | None] | None = None
    _upto = 0  # children before this index are done
    _left = 0  # children that have not reported yet, once subscribed

    def __init__(
        self,
        client: Client,
        children: Any,
        fname: str = "unknown",
        targets: Any = None,
        owner: bool = False,
        return_exceptions: bool = False,
        chunk_sizes: dict[str, int] | None = None,
    ) -> None:
        # Future.__init__ is not called: what it makes is made when needed.
        if type(children) is not list:
            if isinstance(children, (Message, str, HubMessage)):
                children = [children]
                self._single_result = True
            else:
                children = list(children)
        self._client = client
        if children and isinstance(children[0], str):
            children = [client._message(i) for i in children]
        self._children: list[Any] = children
        self._fname = fname
        self._targets = targets
        self.owner = owner
        self._return_exceptions = return_exceptions
        self._chunk_sizes = chunk_sizes
        self._lock = RLock()

    # What concurrent.futures uses of a Future

    @property
    def _state(self) -> str:  # type: ignore[override]
        if self._cancelled_here:
            return _CANCELLED
        return _FINISHED if self._finished or self._look() else _PENDING

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        cond = self._cond
        if cond is None:
            with self._lock:
                cond = self._cond
                if cond is None:
                    cond = self._cond = threading.Condition(self._lock)
                    self._subscribe()
        return cond

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        if self._waiting is None:
            self._waiting = []
        return self._waiting

    @property
    def _done_callbacks(self) -> list[Any]:
        if self._callbacks is None:
            self._callbacks = []
        return self._callbacks

    @property
    def _result(self) -> Any:  # type: ignore[override]
        return self._take()[0] if self._finished else None

    @property
    def _exception(self) -> Any:  # type: ignore[override]
        return self._take()[1] if self._finished else None

    def _subscribe(self) -> None:
        """Ask every message to report; `_lock` is held."""
        self._left = len(self._children)
        if not self._left:
            self._settle()
        for child in self._children:
            child.subscribe(self._child_done)

    def _child_done(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left > 0:
                return
        self._settle()

    def _look(self) -> bool:
        """Whether every message is done; settles if so."""
        children = self._children
        i, n = self._upto, len(children)
        while i < n and children[i].done:
            i += 1
        self._upto = i
        if i < n:
            return False
        self._settle()
        return True

    def _settle(self) -> None:
        """All messages are done: tell everybody, once."""
        with self._lock:
            if self._finished or self._cancelled_here:
                self._finished = True
                return
            self._finished = True
            if self._cond is not None:
                self._cond.notify_all()
            if self._waiting:
                failed = not self._return_exceptions and not all(
                    [c.success for c in self._children]
                )
                for waiter in self._waiting:
                    (waiter.add_exception if failed else waiter.add_result)(self)
            callbacks, self._callbacks = self._callbacks, None
        self._client._forget(self)
        for callback in callbacks or ():
            self._call(callback)

    def _call(self, callback: Callable[[Any], Any]) -> None:
        try:
            callback(self)
        except Exception:
            import logging

            logging.getLogger("roundhouse").exception(
                "exception in a callback of %r", self
            )

    def done(self) -> bool:
        """Whether the result is here, or was given up with `cancel`."""
        return self._finished or self._cancelled_here or self._look()

    def running(self) -> bool:
        """Always False: it is not known here what has started."""
        return False

    def cancelled(self) -> bool:
        """Whether `cancel` was called in time."""
        return self._cancelled_here

    def cancel(self, *, grace: float = 5.0, kill: bool = False) -> bool:
        """Give up the result, and stop the calls.

        Calls that wait are skipped.  One that runs is interrupted, as by
        Ctrl-C on its engine; no other call is ever hit.  Does not wait for any
        of that.

        Parameters
        ----------
        grace : float
            Seconds a call has to end once it was interrupted.
        kill : bool
            Kill the engine if the call has not ended then; what waits there
            fails with EngineError.  If this client belongs to a Cluster that
            started the engine, another one takes its place, with the same id
            and an empty namespace.

        Returns
        -------
        bool
            False if the result was here already.

        Engines of ipyparallel know signals only: there a direct call is
        interrupted if it was seen to begin, and a task goes on.
        """
        with self._lock:
            if self._cancelled_here:
                return True
            if self._finished or self._look():
                return False
            self._cancelled_here = True
            if self._cond is not None:
                self._cond.notify_all()
            for waiter in self._waiting or ():
                waiter.add_cancelled(self)
            callbacks, self._callbacks = self._callbacks, None
        try:
            cancel_calls(self._client, self._children, self._targets, grace, kill)
        except Exception:
            pass  # no engines, or closed: then nothing runs anyway
        for callback in callbacks or ():
            self._call(callback)
        return True

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Call fn(self) when the result is here, or at once if it is.

        The call is made from the receiving thread, or from a thread that waits.
        """
        with self._condition:
            if not self.done():
                self._done_callbacks.append(fn)
                return
        self._call(fn)

    def result(self, timeout: float | None = None) -> Any:
        """As `get`, but errors are always raised."""
        self._await(timeout)
        value, exc = self._take()
        if exc is not None:
            raise exc
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait, and return the error that `get` would raise, or None."""
        self._await(timeout)
        return self._take()[1]

    def _await(self, timeout: float | None) -> None:
        if not self._cancelled_here and not self._finished and not self.wait(timeout):
            raise TimeoutError("Result not ready.")
        if self._cancelled_here:
            raise CancelledError()

    def set_running_or_notify_cancel(self) -> bool:
        """Not for callers: raises InvalidStateError, as the next two do."""
        raise InvalidStateError("the result of a remote call is not set here")

    def set_result(self, result: Any) -> None:
        """Raises InvalidStateError: the engine sets it."""
        raise InvalidStateError("the result of a remote call is not set here")

    def set_exception(self, exception: BaseException | None) -> None:
        """Raises InvalidStateError: the engine sets it."""
        raise InvalidStateError("the result of a remote call is not set here")

    def __await__(self) -> Any:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    # Values

    def _take(self) -> tuple[Any, BaseException | None]:
        """(value, error); decoded by the first thread that asks."""
        out = self._outcome
        if out is None:
            with self._lock:
                if self._outcome is None:
                    self._outcome = self._decode()
                out = self._outcome
        return out

    def _decode(self) -> tuple[Any, BaseException | None]:
        if self._single_result:
            child = self._children[0]
            value = child.value()
            return (None, value) if child.failed else (value, None)
        values = [c.value() for c in self._children]
        if not self._return_exceptions:
            exc = _collect(self._children, values, self._fname)
            if exc is not None:
                return None, exc
        try:
            return self._reconstruct_result(values), None
        except Exception as e:
            return None, e

    def _reconstruct_result(self, res: list[Any]) -> Any:
        """The value of the whole from the list of values."""
        return res[0] if self._single_result else res

    def get(
        self,
        timeout: float | None = None,
        return_exceptions: bool | None = None,
        return_when: str | None = None,
    ) -> Any:
        """Wait for the call and return its value.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; None (or negative) for ever.  0 only looks.
        return_exceptions : bool, optional
            Return errors instead of raising them; the default is what the call
            was made with.
        return_when : optional
            FIRST_EXCEPTION raises the first error that arrives without waiting
            for the rest.

        Raises
        ------
        TimeoutError
            If it is still running.  It goes on; `get` may be called again.
        RemoteError
            If a single call failed.
        CompositeError
            If one of several calls failed.
        TaskAborted
            If it was aborted before it started.
        """
        if return_when is not None and return_when != ALL_COMPLETED:
            if return_when == FIRST_EXCEPTION:
                self._wait_first_exception(timeout, return_exceptions)
            elif return_when == FIRST_COMPLETED:
                warnings.warn(
                    "get(return_when=FIRST_COMPLETED) waits for all",
                    UserWarning,
                    stacklevel=2,
                )
            else:
                raise ValueError(f"unknown return_when: {return_when!r}")
        if self._cancelled_here or not (self._finished or self._look()):
            self._await(timeout)
        if return_exceptions is None:
            return_exceptions = self._return_exceptions
        value, exc = self._take()
        if exc is None:
            return value
        if return_exceptions:
            if self._single_result:
                return exc
            return self._with_errors()
        raise exc

    def _with_errors(self) -> Any:
        """The list of values with errors in their places."""
        return [c.value() for c in self._children]

    def _wait_first_exception(
        self, timeout: float | None, return_exceptions: bool | None
    ) -> None:
        """Raise as soon as one of several calls has failed."""
        if self._single_result or return_exceptions or self._return_exceptions:
            return
        done, pending = self.wait(timeout, return_when=FIRST_EXCEPTION)
        if not pending:
            return
        for ar in done:
            exc = ar.exception()
            if exc is not None:
                raise exc
        raise TimeoutError("Result not ready.")

    @property
    def r(self) -> Any:
        """The value: `get()`."""
        return self.get()

    def get_dict(self, timeout: float | None = -1) -> dict[int, Any]:
        """The values by engine id.

        Raises ValueError if two of the calls ran on one engine.
        """
        results = self.get(timeout)
        if self._single_result:
            results = [results]
        ids = [md["engine_id"] for md in self._metadata]
        if self._single_result and isinstance(ids[0], list):  # coalesced
            ids, results = ids[0], results[0]
        found: dict[int, Any] = {}
        for engine_id, value in zip(ids, results):
            if engine_id in found:
                n = ids.count(engine_id)
                raise ValueError(
                    f"engine {engine_id} ran {n} of the calls: a dict by engine would lose results"
                )
            found[engine_id] = value
        return found

    @property
    def result_dict(self) -> dict[int, Any]:
        """`get_dict()`."""
        return self.get_dict()

    # Waiting

    def ready(self) -> bool:
        """Whether the call is finished, well or not."""
        if self._finished:
            return True
        self._client._flush()
        return self.done()

    def successful(self) -> bool:
        """Whether the call is finished and raised nothing.

        Raises NotReady (a RuntimeError and an AssertionError) while it runs.
        """
        if not self.ready():
            raise NotReady("successful() has no answer before the call is done")
        return not self._cancelled_here and self._take()[1] is None

    def wait(self, timeout: float | None = -1, return_when: str | None = None) -> Any:
        """Wait until the result is here, or timeout seconds pass.

        Parameters
        ----------
        timeout : float
            None or negative: no limit.
        return_when : optional
            A constant of `concurrent.futures.wait`.

        Returns
        -------
        bool
            Whether the result is here; or, with return_when,
        (done, pending)
            Sets of the AsyncResults that `split` makes.
        """
        if return_when is not None:
            return concurrent.futures.wait(
                self.split(), timeout=_seconds(timeout), return_when=return_when
            )
        if self._finished or self._look():
            return True
        if self._cancelled_here:
            return False
        if timeout == 0:
            self._client._flush()
        else:
            self._wait_children(_seconds(timeout))
        return self._finished or self._look()

    def _wait_children(self, timeout: float | None, output: bool = False) -> bool:
        requests = [
            c.request
            for c in self._children[0 if output else self._upto :]
            if isinstance(c, Message)
        ]
        return self._client._wait_requests(requests, timeout, output)

    def wait_for_output(self, timeout: float | None = -1) -> bool:
        """Wait until all output has arrived too; False on timeout.

        The result may arrive before the last output does.
        """
        if timeout == 0:
            self._client._flush()
        else:
            self._wait_children(_seconds(timeout), output=True)
        return all([c.output_done for c in self._children])

    @property
    def _output_ready(self) -> bool:
        return all([c.output_done for c in self._children])

    def wait_interactive(
        self,
        interval: float = 0.1,
        timeout: float | None = -1,
        widget: bool | None = None,
        return_when: str = ALL_COMPLETED,
    ) -> None:
        """Wait while a progress bar counts finished tasks.

        Parameters
        ----------
        interval : float
            Seconds between updates.
        timeout : float
            Seconds after which to stop waiting; None or negative for no limit.
        widget : bool, optional
            A notebook widget instead of text; guessed by default.
        return_when : optional
            A constant of `concurrent.futures`.
        """
        from .progress import progress

        limit = _seconds(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        bar = progress(widget=widget, total=len(self), unit="tasks", desc=self._fname)
        try:
            finished = self.ready()
            while not finished:
                left = interval
                if deadline is not None:
                    left = min(interval, deadline - time.monotonic())
                    if left <= 0:
                        break
                finished = self._wait_some(left, return_when)
                bar.update(self.progress - bar.n)
            bar.update(self.progress - bar.n)
        finally:
            bar.close()

    def _wait_some(self, timeout: float, return_when: str) -> bool:
        """Wait a little; whether the condition of return_when holds."""
        finished: bool = self.wait(timeout)
        if finished or return_when == ALL_COMPLETED:
            return finished
        done = [c for c in self._children if c.done]
        if return_when == FIRST_COMPLETED:
            return bool(done)
        if return_when == FIRST_EXCEPTION:
            return not all([c.success for c in done])
        raise ValueError(f"unknown return_when: {return_when!r}")

    @property
    def sent(self) -> bool:
        """Whether the arguments' memory may be changed again (needs track)."""
        return all([c.sent for c in self._children])

    def wait_for_send(self, timeout: float | None = -1) -> None:
        """Wait until the arguments' memory may be changed again.

        Raises TimeoutError after timeout seconds (None or negative: never).
        """
        limit = _seconds(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        for child in self._children:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not child.wait_sent(left):
                raise TimeoutError("some buffers have not been sent yet")

    wait_on_send = wait_for_send

    def abort(self) -> Any:
        """Ask the engines to skip the calls that have not started.

        Raises NotReady (a RuntimeError and an AssertionError) if finished.
        """
        if self.ready():
            raise NotReady("nothing to abort: the call is done")
        return self._client.abort(self.msg_ids, targets=self._targets, block=True)

    # Parts

    @property
    def msg_ids(self) -> list[str]:
        """The ids of the messages, in order."""
        return [c.msg_id for c in self._children]

    @property
    def msg_id(self) -> str:
        """The id of the first message."""
        msg_id: str = self._children[0].msg_id
        return msg_id

    def split(self) -> tuple[AsyncResult, ...]:
        """One result per message, for `concurrent.futures.wait` and the like."""
        if len(self._children) == 1:
            return (self,)
        parts = self.__dict__.get("_parts")
        if parts is None:
            targets = self._targets or [None] * len(self._children)
            flat = not isinstance(self, AsyncMapResult)
            parts = self._parts = tuple(
                AsyncResult(
                    self._client,
                    child if flat else [child],
                    fname=self._fname,
                    targets=None if target is None else [target],
                    return_exceptions=self._return_exceptions,
                )
                for target, child in zip(targets, self._children)
            )
        found: tuple[AsyncResult, ...] = parts
        return found

    @classmethod
    def join(cls, *async_results: AsyncResult) -> AsyncResult:
        """One result of several: the inverse of `split`."""
        if not async_results:
            raise ValueError("join needs at least one result")
        first = async_results[0]
        if len(async_results) == 1:
            return first
        targets: list[Any] | None = []
        for ar in async_results:
            if ar._targets is None:
                targets = None
                break
            targets.extend(ar._targets)  # type: ignore[union-attr]
        return cls(
            client=first._client,
            fname=first._fname,
            return_exceptions=first._return_exceptions,
            children=list(chain.from_iterable(ar._children for ar in async_results)),
            targets=targets,
            owner=False,
        )

    # Metadata

    @property
    def _metadata(self) -> list[Metadata]:
        # Replies and output take different ways: a reply may be here first.
        late = [
            c.request
            for c in self._children
            if isinstance(c, Message) and c.done and not c.output_done
        ]
        if late:
            self._client._wait_requests(late, _OUTPUT_S, output=True)
        return [c.metadata for c in self._children]

    @property
    def metadata(self) -> Any:
        """A Metadata for a single call, a list of them for several.

        Of a call whose result is here, the output is complete.
        """
        mds = self._metadata
        return mds[0] if self._single_result else mds

    def __getitem__(self, key: Any) -> Any:
        """Values by index or slice, metadata by name.

        Raises TimeoutError for a value that is not here yet.
        """
        if isinstance(key, str):
            values = [md[key] for md in self._metadata]
            return values[0] if self._single_result else values
        if not isinstance(key, (int, slice)):
            raise TypeError(
                f"index by int or slice, or name a metadata key, not {type(key).__name__}"
            )
        if not self.ready():
            raise TimeoutError("Result not ready.")
        return self.get()[key]

    def __getattr__(self, key: str) -> Any:
        if key in FIELD_NAMES or key in ("is_broadcast", "is_coalescing"):
            try:
                return self[key]
            except KeyError:
                pass
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *FIELD_NAMES]

    def __iter__(self) -> Iterator[Any]:
        """Values in the order of submission, as they arrive."""
        if self._single_result:
            raise TypeError(
                "the result of a call on one engine is a value, not a sequence of them"
            )
        return self._iter_values()

    def _iter_values(self) -> Iterator[Any]:
        for child in self._children:
            yield self._checked(child)

    def _checked(self, child: Any) -> Any:
        """Wait for one message; its value, or raise its error."""
        if not child.done:
            self._client._wait_requests([child.request], None)
        value = child.value()
        if child.failed and not self._return_exceptions:
            exc = _collect([child], [value], self._fname)
            if exc is not None:
                raise exc
        return value

    def _count(self, children: Sequence[Any]) -> int:
        sizes = self._chunk_sizes
        if not sizes:
            return len(children)
        return sum([sizes.get(c.msg_id, 1) for c in children])

    def __len__(self) -> int:
        """How many items: messages, or elements of a map."""
        return self._count(self._children)

    def __bool__(self) -> bool:
        return True

    # Times

    def timedelta(
        self,
        start: Any,
        end: Any,
        start_key: Callable[..., Any] = min,
        end_key: Callable[..., Any] = max,
    ) -> float:
        """Seconds from one (list of) datetimes to another.

        start_key and end_key choose one of a list: by default the earliest
        start and the latest end.
        """
        if not isinstance(start, datetime):
            start = start_key(start)
        if not isinstance(end, datetime):
            end = end_key(end)
        seconds: float = (_aware(end) - _aware(start)).total_seconds()
        return seconds

    @property
    def progress(self) -> int:
        """How many items are finished; of `len()`."""
        self.ready()
        return self._count([c for c in self._children if c.done])

    @property
    def elapsed(self) -> float:
        """Seconds since the first submission; `wall_time` once finished."""
        if self.ready():
            return self.wall_time
        times = [md["submitted"] for md in self._metadata if md["submitted"]]
        now = datetime.now(timezone.utc)
        return (now - min(times)).total_seconds() if times else 0.0

    def _need_ready(self) -> None:
        if not self.ready():
            raise TimeoutError("result not ready")

    @property
    def serial_time(self) -> float:
        """Seconds of work: the sum of completed - started over the calls."""
        self._need_ready()
        times: list[float] = [
            (md["completed"] - md["started"]).total_seconds()
            for md in self._metadata
            if md["completed"] and md["started"]
        ]
        return sum(times)

    @property
    def wall_time(self) -> float:
        """Seconds from the first submission to the last arrival."""
        self._need_ready()
        mds = self._metadata
        return self.timedelta(
            [md["submitted"] for md in mds if md["submitted"]],
            [md["received"] for md in mds if md["received"]],
        )

    # Output

    def display_outputs(self, groupby: str = "type", result_only: bool = False) -> None:
        """Show the output of the calls here.

        Parameters
        ----------
        groupby : 'type', 'engine' or 'order'
            All stdout, then all stderr, then displays; or engine by engine; or
            as type, with the first displays of all engines before the second.
        result_only : bool
            Only the displayed values.
        """
        self._need_ready()
        from .display import display_outputs

        display_outputs(self, groupby, result_only)

    def stream_output(self) -> AbstractContextManager[None]:
        """Context manager: show output as it arrives."""
        from .display import stream_output

        return stream_output(self)

    def __repr__(self) -> str:
        if self._cancelled_here:
            state = "cancelled"
        elif not self.done():
            state = "pending"
        else:
            good = all([c.success for c in self._children])
            state = "finished" if good else "failed"
        return f"<{type(self).__name__}({self._fname}): {state}>"


def _aware(dt: datetime) -> datetime:
    return dt if dt.tzinfo is not None else dt.astimezone()


def _collect(
    children: Sequence[Any], values: Sequence[Any], fname: str
) -> BaseException | None:
    """The error for those of several calls that failed, or None."""
    elist: list[error.ErrorTuple] = []
    for child, value in zip(children, values):
        if not child.failed:
            continue
        if isinstance(value, error.CompositeError):
            elist.extend(value.elist)
        elif isinstance(value, error.RemoteError):
            elist.append(
                (value.ename, value.evalue, value.traceback, value.engine_info)
            )
        else:  # aborted, or its value cannot be loaded here
            elist.append((type(value).__name__, str(value), None, {}))
    if not elist:
        return None
    return error.CompositeError(f"one or more exceptions raised in: {fname}", elist)


class AsyncMapResult(AsyncResult):
    """The result of a map: the parts joined into one sequence.

    Iterating gives items as they arrive; with ordered=False in the order of
    arrival of their chunks.
    """

    def __init__(
        self,
        client: Client,
        children: Any,
        mapObject: Any,
        fname: str = "",
        ordered: bool = True,
        return_exceptions: bool = False,
        chunk_sizes: dict[str, int] | None = None,
    ) -> None:
        self._mapObject = mapObject
        self.ordered = ordered
        super().__init__(
            client,
            children,
            fname=fname,
            owner=True,
            return_exceptions=return_exceptions,
            chunk_sizes=chunk_sizes,
        )
        self._single_result = False

    def _reconstruct_result(self, res: list[Any]) -> Any:
        if any([c.failed for c in self._children]):
            return self._with_errors()
        if not res:
            return []
        return self._mapObject.joinPartitions(res)

    def _with_errors(self) -> Any:
        """Items, with one error in the place of each chunk that failed."""
        flat: list[Any] = []
        for child in self._children:
            value = child.value()
            if child.failed or not isinstance(value, (list, tuple)):
                flat.append(value)
            else:
                flat.extend(value)
        return flat

    def _items(self, child: Any) -> Iterator[Any]:
        value = self._checked(child)
        if isinstance(value, list):
            yield from value
        else:
            yield value

    def _iter_values(self) -> Iterator[Any]:
        if self._finished:
            yield from self.get()
            return
        children = self._children if self.ordered else self._as_they_arrive()
        for child in children:
            yield from self._items(child)

    def _as_they_arrive(self) -> Iterator[Any]:
        arrived: SimpleQueue[Any] = SimpleQueue()
        for child in self._children:
            child.subscribe(lambda c=child: arrived.put(c))
        for _ in self._children:
            yield arrived.get()


def __getattr__(name: str) -> Any:
    # Where upstream has it; there it would be imported in a circle.
    if name == "AsyncHubResult":
        from .hubresult import AsyncHubResult

        return AsyncHubResult
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
