"""Maps that are cut into chunks, and submitted, while they run.

A feeder, in a thread of its own, takes calls from the input as long as there is
room for more, and sends them in chunks.  `LazyMapIterator` (imap) and
`GrowingMapResult` (map with chunksize='auto') take what it sends.  On the engine
each call of a chunk is guarded, so that one that fails spoils no other.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from .. import error
from ..serialize.canning import interactive
from ..serialize.serialize import PrePickled
from .asyncresult import AsyncMapResult, AsyncResult, _seconds
from .map import Map
from .message import Message

if TYPE_CHECKING:
    from .balanced import LoadBalancedView

__all__ = ["Chunking", "GrowingMapResult", "LazyMapIterator", "check_chunksize"]

# A chunk of this many seconds costs little beside its calls, and is short
# enough for progress to be seen and for the engines to end together.
_CHUNK_S = 0.05
# Finished results of an imap that nobody has taken, before it pauses.
_BACKLOG = 1000


def check_chunksize(chunksize: Any) -> None:
    """Raise unless chunksize is 'auto' or a positive int."""
    if chunksize == "auto":
        return
    if isinstance(chunksize, bool) or not hasattr(type(chunksize), "__index__"):
        raise TypeError(f"chunksize is an int or 'auto', not {chunksize!r}")
    if chunksize < 1:
        raise ValueError(f"chunksize must be at least 1, not {chunksize}")


class Chunking:
    """How many calls the next chunk takes: as many as take `_CHUNK_S`.

    Chunks begin with one call and grow at most to double the longest that was
    measured; what is left is shared by twice as many chunks as there are
    engines, so that the last ones are short and no engine is done early.
    """

    def __init__(self, chunksize: Any, n_engines: int = 1) -> None:
        self.fixed = None if chunksize == "auto" else chunksize
        self.shares = 2 * max(1, n_engines)
        self.limit = 1
        self.mean_s: float | None = None

    def size(self, left: int | None) -> int:
        """For the next chunk; left is the number of calls, if known."""
        if self.fixed is not None:
            n: int = self.fixed
            return n
        if self.mean_s is None:
            return 1
        n = min(self.limit, int(_CHUNK_S / max(self.mean_s, 1e-9)))
        if left is not None:
            n = min(n, -(-left // self.shares))
        return max(1, n)

    def measured(self, n: int, seconds: float) -> None:
        """A chunk of n calls took seconds on its engine."""
        mean_s = max(0.0, seconds) / n
        self.mean_s = mean_s if self.mean_s is None else (self.mean_s + mean_s) / 2
        self.limit = max(self.limit, 2 * n)


@interactive
def _each(f: Callable[..., Any], *sequences: Any) -> list[Any]:
    # Runs on the engine, in the user namespace: it may use nothing of here.
    # Returns the values, None for calls that failed; last, their errors by index.
    from ipyparallel.error import (
        TaskRejectError,
        UnmetDependency,
        wrap_exception,
    )

    values: list[Any] = []
    errors = {}
    for args in zip(*sequences):
        try:
            values.append(f(*args))
        except (TaskRejectError, UnmetDependency):
            raise  # the chunk is for another engine
        except Exception:
            errors[len(values)] = wrap_exception()
            values.append(None)
    values.append(errors)
    return values


class ChunkMessage(Message):
    """The request of a chunk: its value is the list of its n calls' values.

    If calls failed it has failed, with a CompositeError of them.  Once the value
    was asked for, `values` has errors in the places of calls that failed, and
    `wrong` their indices.
    """

    __slots__ = ("n", "values", "wrong")

    n: int
    values: list[Any]
    wrong: Collection[int]

    @property
    def success(self) -> bool:
        self.value()
        return not self.failed

    def outcomes(self) -> Iterator[tuple[bool, Any]]:
        """(failed, value or error) of each call."""
        self.value()
        wrong = self.wrong
        return ((i in wrong, value) for i, value in enumerate(self.values))

    def _read(self) -> tuple[bool, Any]:
        failed, value = super()._read()
        if not failed:
            errors = value.pop()
            if len(value) != self.n:
                text = f"{self.n} calls came back with {len(value)} results"
                failed, value = True, ValueError(text)
        if failed:  # as a whole
            self.values, self.wrong = [value] * self.n, range(self.n)
            return True, value
        self.values, self.wrong = value, errors
        if not errors:
            return False, value
        md = self.metadata
        where = {key: md[key] for key in ("engine_uuid", "engine_id")}
        elist: list[error.ErrorTuple] = []
        for i, content in errors.items():
            info = {**where, "method": "apply"}
            e = value[i] = error.unwrap_exception({**content, "engine_info": info})
            elist.append((e.ename, e.evalue, e.traceback, e.engine_info))
        return True, error.CompositeError("one or more calls failed", elist)


class _Stream:
    """Calls read from iterators, which may be endless."""

    left = None

    def __init__(self, sequences: Sequence[Any]) -> None:
        self.calls = zip(*sequences)

    def take(self, n: int) -> tuple[list[Any], int, BaseException | None]:
        """Columns of the next n calls, their number, and what stopped reading."""
        taken = []
        failed = None
        try:
            for call in islice(self.calls, n):
                taken.append(call)
        except BaseException as e:
            failed = e
        return list(zip(*taken)), len(taken), failed


class _Slices:
    """Calls of sequences that can be sliced."""

    def __init__(self, sequences: Sequence[Any]) -> None:
        self.sequences = [_sliceable(s) for s in sequences]
        self.at = 0
        self.left = min([len(s) for s in self.sequences])

    def take(self, n: int) -> tuple[list[Any], int, BaseException | None]:
        n = min(n, self.left)
        end = self.at + n
        parts = [s[self.at : end] for s in self.sequences]
        self.at, self.left = end, self.left - n
        return parts, n, None


def _sliceable(seq: Any) -> Any:
    try:
        seq[0:0]
    except (TypeError, KeyError):
        return list(seq)
    return seq


class _Feeder:
    """Submits the calls of a map; shared by its thread and its taker.

    `slots` limits how many chunks are unfinished (limit 0: nothing does), `room`
    how many nobody has taken; `sink` is told of each message that is sent, and
    of the end.
    """

    def __init__(
        self,
        view: LoadBalancedView,
        f: Callable[..., Any],
        source: Any,
        chunking: Chunking,
        limit: int,
        flags: dict[str, Any],
        sink: Any,
    ) -> None:
        self.view = view
        self.f = PrePickled(f)
        self.each = None if chunking.fixed == 1 else PrePickled(_each)
        self.source = source
        self.chunking = chunking
        self.limit = limit
        self.slots = threading.Semaphore(limit)
        self.room: threading.Semaphore | None = None
        self.send = view._task_sender(flags, ChunkMessage if self.each else Message)
        self.sink = sink
        self.n_sent = 0
        self.stopped = False
        self.fed = threading.Event()
        self.error: BaseException | None = None

    def start(self) -> None:
        """Submit the first chunk, here, then the others in a thread.

        What is wrong with the function or with the first arguments is raised.
        """
        self.view._feeders.add(self)
        if self.limit:
            self.slots.acquire()
        if self.feed_one():
            run = threading.Thread(target=self.run, name="roundhouse-map", daemon=True)
            run.start()
            return
        if not self.n_sent and self.error is not None:
            self.view._feeders.discard(self)
            raise self.error
        self.end()

    def run(self) -> None:
        """Body of the thread."""
        try:
            while True:
                if self.limit:
                    self.slots.acquire()
                room = self.room  # hurry() may take it away meanwhile
                if room is not None:
                    room.acquire()
                if not self.feed_one():
                    return
        finally:
            self.end()

    def feed_one(self) -> bool:
        """Submit the next chunk; False if there was none, or it was the last."""
        if self.stopped:
            return False
        n = 0
        try:
            columns, n, self.error = self.source.take(
                self.chunking.size(self.source.left)
            )
            if n:
                self.submit(columns, n)
        except BaseException as e:
            self.error = e
        return n > 0 and self.error is None

    def submit(self, columns: list[Any], n: int) -> None:
        if self.each is None:
            message = self.send(0, self.f, [c[0] for c in columns])
        else:
            message = self.send(0, self.each, [self.f, *columns])
            cast(ChunkMessage, message).n = n
        self.n_sent += 1
        self.sink.take_in(message, n)
        message.subscribe(lambda: self.finished(message, n))

    def finished(self, message: Message, n: int) -> None:
        """A reply is here: measure it, and make room."""
        try:
            if self.each is not None and message.request.status == "ok":
                md = message.metadata
                ran = md["completed"] - md["started"]
                self.chunking.measured(n, ran.total_seconds())
        except TypeError:
            pass  # its engine tells no times
        finally:
            self.slots.release()

    def end(self) -> None:
        """Nothing more will be submitted."""
        self.view._feeders.discard(self)
        self.fed.set()
        self.sink.end(self.error)

    def cancel(self) -> None:
        """Take no more input."""
        self.stopped = True
        self.slots.release()
        self.hurry()

    def hurry(self) -> None:
        """Submit on, although nobody takes the results."""
        room, self.room = self.room, None
        if room is not None:
            room.release()


class _Arrivals:
    """The messages of an imap that nobody has taken yet."""

    def __init__(self, ordered: bool) -> None:
        self.ordered = ordered
        self.ready: deque[Message] = deque()
        self.changed = threading.Condition()
        self.pending = 0  # sent, and not in `ready` yet
        self.over = False

    def take_in(self, message: Message, n: int) -> None:
        if self.ordered:
            self.put(message)
            return
        with self.changed:
            self.pending += 1
        message.subscribe(lambda: self.put(message, 1))

    def put(self, message: Message, was_pending: int = 0) -> None:
        with self.changed:
            self.pending -= was_pending
            self.ready.append(message)
            self.changed.notify()

    def end(self, failed: BaseException | None) -> None:
        with self.changed:
            self.over = True
            self.changed.notify()

    def take(self) -> Message | None:
        """The next message, or None at the end."""
        with self.changed:
            while not self.ready:
                if self.over and not self.pending:
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
        view: LoadBalancedView,
        f: Callable[..., Any],
        sequences: Sequence[Any],
        chunksize: Any,
        ordered: bool,
        limit: int,
        return_exceptions: bool,
        flags: dict[str, Any],
    ) -> None:
        self._return_exceptions = return_exceptions
        self._client = view.client
        self._arrivals = _Arrivals(ordered)
        self._outcomes: Iterator[tuple[bool, Any]] = iter(())
        # The thread must not hold this object, or it would not end with it.
        self._feeder = _Feeder(
            view,
            f,
            _Stream(sequences),
            Chunking(chunksize),
            limit,
            flags,
            self._arrivals,
        )
        if limit:
            self._feeder.room = threading.Semaphore(max(limit, _BACKLOG))
        self._feeder.start()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        outcome = next(self._outcomes, None)
        if outcome is None:
            self._outcomes = self._take()
            outcome = next(self._outcomes)
        failed, value = outcome
        if failed and not self._return_exceptions:
            raise value
        return value

    def _take(self) -> Iterator[tuple[bool, Any]]:
        """Wait for a message: what became of its calls."""
        feeder = self._feeder
        message = self._arrivals.take()
        if message is None:
            failed, feeder.error = feeder.error, None
            if failed is not None:
                raise failed
            return iter(())
        if not message.done:
            self._client._wait_requests([message.request], None)
        self._client._live.pop(message.msg_id, None)
        room = feeder.room
        if room is not None:
            room.release()
        if isinstance(message, ChunkMessage):
            return message.outcomes()
        value = message.value()
        return iter([(message.failed, value)])

    def cancel(self) -> None:
        """Stop reading the input; results of submitted calls still come."""
        self._feeder.cancel()

    def __del__(self) -> None:
        feeder = getattr(self, "_feeder", None)
        if feeder is not None:
            feeder.cancel()


class GrowingMapResult(AsyncMapResult):
    """The result of a map whose chunks are cut while it runs.

    Items are those of the input: each has its own value or error, and counts in
    `progress`.  `msg_ids` grows until all chunks are submitted.
    """

    def __init__(
        self,
        view: LoadBalancedView,
        f: Callable[..., Any],
        sequences: Sequence[Any],
        fname: str,
        ordered: bool,
        return_exceptions: bool,
        flags: dict[str, Any],
    ) -> None:
        super().__init__(
            view.client,
            [],
            Map(),
            fname=fname,
            ordered=ordered,
            return_exceptions=return_exceptions,
            chunk_sizes={},
        )
        source = _Slices(sequences)
        self._n = source.left
        self._stopped: BaseException | None = None  # why not all were submitted
        self._fed = False
        self._grew = threading.Condition()
        self._queues: list[SimpleQueue[Any]] = []
        n_engines = len(view)
        self._feeder = _Feeder(
            view,
            f,
            source,
            Chunking("auto", n_engines),
            2 * max(1, n_engines),
            flags,
            self,
        )
        self._feeder.start()

    # What the feeder tells

    def take_in(self, message: Message, n: int) -> None:
        """A chunk of n calls was submitted."""
        assert self._chunk_sizes is not None
        with self._lock:
            self._chunk_sizes[message.msg_id] = n
            self._children.append(message)
            watched = self._cond is not None
            self._left += watched
            queues = list(self._queues)
        if watched:
            message.subscribe(self._child_done)
        for queue in queues:
            message.subscribe(partial(queue.put, message))
        with self._grew:
            self._grew.notify_all()

    def end(self, failed: BaseException | None) -> None:
        """No more chunks will be submitted."""
        with self._lock:
            self._fed = True
            if failed is None and sum((self._chunk_sizes or {}).values()) < self._n:
                failed = error.TaskAborted("aborted before all items were submitted")
            self._stopped = failed
            watched = self._cond is not None
            queues = list(self._queues)
        if watched:
            self._child_done()
        for queue in queues:
            queue.put(None)
        with self._grew:
            self._grew.notify_all()

    # What differs from a result that is complete from the start

    def __len__(self) -> int:
        return self._n

    def _look(self) -> bool:
        return self._fed and super()._look()

    def _subscribe(self) -> None:
        # The feeder counts as one more that has to report.
        self._left = len(self._children) + (not self._fed)
        if not self._left:
            self._settle()
        for child in self._children:
            child.subscribe(self._child_done)

    def _wait_children(self, timeout: float | None, output: bool = False) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._feeder.fed.wait(timeout):
            return False
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return super()._wait_children(left, output)

    def wait(self, timeout: float | None = -1, return_when: str | None = None) -> Any:
        """Wait; return_when is about the chunks that are submitted by now."""
        if return_when is None:
            return super().wait(timeout)
        parts = [
            AsyncResult(
                self._client,
                [child],
                self._fname,
                return_exceptions=self._return_exceptions,
            )
            for child in list(self._children)
        ]
        return concurrent.futures.wait(parts, _seconds(timeout), return_when)

    def _wait_first_exception(
        self, timeout: float | None, return_exceptions: bool | None
    ) -> None:
        if return_exceptions or self._return_exceptions:
            return
        limit = _seconds(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        fed = False
        while not fed:
            fed = self._feeder.fed.wait(0.005)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            super()._wait_first_exception(left, None)
            if left == 0 and not fed:
                raise TimeoutError("Result not ready.")

    def wait_for_output(self, timeout: float | None = -1) -> bool:
        """Wait until all output has arrived too; False on timeout."""
        return super().wait_for_output(timeout) and self._fed

    def _decode(self) -> tuple[Any, BaseException | None]:
        if self._stopped is not None and not self._return_exceptions:
            return None, self._stopped
        return super()._decode()

    def _reconstruct_result(self, res: list[Any]) -> Any:
        return self._with_errors()

    def _with_errors(self) -> Any:
        """The items, with errors in the places of those that failed."""
        for child in self._children:
            child.value()
        values = list(chain.from_iterable([c.values for c in self._children]))
        return values + [self._stopped] * (self._n - len(values))

    def _items(self, child: Any) -> Iterator[Any]:
        if not child.done:
            self._client._wait_requests([child.request], None)
        for failed, value in child.outcomes():
            if failed and not self._return_exceptions:
                raise value
            yield value

    def _iter_values(self) -> Iterator[Any]:
        n = 0
        for child in self._in_order() if self.ordered else self._as_they_arrive():
            for value in self._items(child):
                n += 1
                yield value
        if self._stopped is not None and not self._return_exceptions:
            raise self._stopped
        yield from [self._stopped] * (self._n - n)

    def _in_order(self) -> Iterator[Any]:
        children = self._children
        i = 0
        while True:
            with self._grew:
                while i == len(children) and not self._fed:
                    self._grew.wait(1.0)
            if i == len(children):
                return
            yield children[i]
            i += 1

    def _as_they_arrive(self) -> Iterator[Any]:
        arrived: SimpleQueue[Any] = SimpleQueue()
        with self._lock:
            self._queues.append(arrived)
            children = list(self._children)
            fed = self._fed
        for child in children:
            child.subscribe(partial(arrived.put, child))
        n = 0
        while not fed or n < len(self._children):
            child = arrived.get()
            if child is None:
                fed = True
            else:
                n += 1
                yield child

    def split(self) -> tuple[AsyncResult, ...]:
        """One result per chunk; waits until all chunks are submitted."""
        self._feeder.fed.wait()
        return super().split()

    def _stop_feeding(self) -> None:
        self._feeder.cancel()
        self._feeder.fed.wait()

    def cancel(self, **kwargs: Any) -> bool:
        """Give up the result, submit no more, and stop what runs."""
        self._stop_feeding()
        return super().cancel(**kwargs)

    def abort(self) -> Any:
        """Submit no more, and skip what has not started."""
        if not self.ready():
            self._stop_feeding()
        return super().abort()
