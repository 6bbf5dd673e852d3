"""Views whose calls the task scheduler gives to engines."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..serialize.serialize import PrePickled, pack_apply_message
from .asyncresult import AsyncResult
from .baseview import (
    _NO_METADATA,
    TASK,
    View,
    _check_bool,
    _check_callable,
    _check_dependency,
    _check_map,
    _check_retries,
    _check_timeout,
    _render_dependency,
    flag_error,
)
from .chunks import LazyMapIterator, check_chunksize
from .dependency import dependent
from .message import Message
from .remotefunction import ParallelFunction, getname

if TYPE_CHECKING:
    from .client import Client

__all__ = ["LoadBalancedView"]


def _check_priority(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise flag_error(f"{name} must be int, not {value!r}")
    if not -100 <= value <= 100:
        raise ValueError(f"{name} must be from -100 to 100, not {value}")
    return value


def _check_deaths(name: str, value: Any) -> int | None:
    return None if value is None else _check_retries(name, value)


def _check_retry_on(name: str, value: Any) -> Any:
    """Exception classes become their names; None, a name, or a list of names."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, type):
        value = [value]
    if isinstance(value, (list, tuple, set, frozenset)):
        names = [v.__name__ if isinstance(v, type) else v for v in value]
        if all([isinstance(v, str) for v in names]):
            return names
    raise flag_error(f"{name} must be exceptions or their names, not {value!r}")


# What the scheduler is told, and what each is if nothing is wanted; then those
# that only ours knows.
_FLAGS: dict[str, Any] = {"after": None, "follow": None, "timeout": 0.0, "retries": 0}
_OUR_FLAGS: dict[str, Any] = {
    "priority": 0,
    "retry_on": None,
    "retry_delay": 0.0,
    "retry_same_engine": False,
    "max_deaths": None,
}
_ALL_FLAGS = {**_FLAGS, **_OUR_FLAGS}


class LoadBalancedView(View):
    """One engine per call, chosen by the controller's task scheduler.

    Attributes
    ----------
    targets : list of int or None
        Engines that may be chosen; None for all.
    after : dependency
        The task starts after these have finished.
    follow : dependency
        The task runs on an engine where these ran.
    timeout : float or None
        Seconds the task may wait to be started; 0 or None for no limit.
    retries : int
        How often a failed task is tried again, each time on another engine.
    priority : int
        From -100 to 100; tasks of higher priority go first.
    retry_on : exception, name, or a list of these; or None
        Try again only after these errors; 'engine-loss' for a lost engine.
    retry_delay : float
        Seconds between a failure and the next try.
    retry_same_engine : bool
        Whether the next try may be on the same engine.
    max_deaths : int or None
        How many engines may die of the task before it is given up, whatever
        its retries; 0 for any number, None for the controller's default.

    The last five are for our controller; ipyparallel's ignores them.
    """

    _flag_names = (
        *View._flag_names,
        *_ALL_FLAGS,
    )
    _checks = {
        **View._checks,
        "follow": _check_dependency,
        "after": _check_dependency,
        "timeout": _check_timeout,
        "retries": _check_retries,
        "priority": _check_priority,
        "retry_on": _check_retry_on,
        "retry_delay": _check_timeout,
        "retry_same_engine": _check_bool,
        "max_deaths": _check_deaths,
    }
    _balanced = True

    follow: Any = None
    after: Any = None
    timeout: float | None = 0.0
    retries: int = 0
    priority: int = 0
    retry_on: Any = None
    retry_delay: float | None = 0.0
    retry_same_engine: bool = False
    max_deaths: int | None = None

    def __init__(self, client: Client, socket: Any = None, **flags: Any) -> None:
        super().__init__(client, socket, **flags)

    @property
    def _task_scheme(self) -> str:
        return self.client._task_scheme

    def _task_metadata(self, label: Any, options: dict[str, Any]) -> bytes:
        """The flags as the scheduler takes them."""
        if not options:
            rendered = self._rendered
            if rendered is not None and rendered[0] is label:
                metadata: bytes = rendered[1]
                return metadata
        targets = options.get("targets", self.targets)
        wanted = {}
        for name, default in _ALL_FLAGS.items():
            value = options[name] if name in options else getattr(self, name)
            if value is not None and value != default:
                wanted[name] = value
        for name in ("after", "follow"):
            if name in wanted:
                wanted[name] = _render_dependency(wanted[name])
        if label:
            wanted["label"] = label
        metadata = self._render_flags(wanted, targets)
        # Dependencies and engines may change by themselves.
        if not options and targets is None and not (self.after or self.follow):
            self._rendered = label, metadata
        return metadata

    def _render_flags(self, wanted: dict[str, Any], targets: Any) -> bytes:
        if not wanted and targets is None:
            return _NO_METADATA
        if self.client._task_scheme == "pure":
            raise RuntimeError(
                "the pure task scheme forwards tasks without looking at them: "
                "label, targets, after, follow, timeout, retries and the like "
                "need another scheme"
            )
        if not wanted.keys().isdisjoint(_OUR_FLAGS):
            self._check_ours(wanted)
        if targets is not None:
            wanted["targets"] = self.client._build_targets(targets)[0]
        return json.dumps(wanted).encode()

    def _check_ours(self, wanted: dict[str, Any]) -> None:
        """Warn, once per client, of flags that this controller ignores."""
        client = self.client
        if client._offers("explain") or client._warned_of_flags:
            return
        client._warned_of_flags = True
        warnings.warn(
            f"this controller ignores {', '.join(_OUR_FLAGS.keys() & wanted)}: "
            "these flags need "
            "Roundhouse's controller",
            RuntimeWarning,
            stacklevel=6,
        )

    def _check_farming(self, f: Any) -> None:
        """What the pure scheme cannot do, or can no longer."""
        if self.client._farming_stopped:
            raise RuntimeError(
                "Task farming is disabled: an engine has left, and the pure task "
                "scheme does not know which tasks it had"
            )
        if isinstance(f, dependent):
            warnings.warn(
                "the pure task scheme cannot move a task whose dependency is "
                "not met to another engine",
                RuntimeWarning,
                stacklevel=4,
            )

    def _really_apply(
        self,
        f: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        block: bool | None = None,
        track: bool | None = None,
        label: Any = None,
        **options: Any,
    ) -> Any:
        client = self.client
        if not callable(f):
            _check_callable(f)
        for name, value in options.items():
            check = self._checks.get(name)
            if check is not None:
                check(name, value)
        if client._task_scheme == "pure":
            self._check_farming(f)
        label = self.label if label is None else label
        metadata = self._task_metadata(label, options)
        bufs = pack_apply_message(f, args, kwargs or {}, *client._thresholds)
        message = client._send(
            TASK,
            None,
            "apply_request",
            b"{}",
            metadata,
            bufs,
            "apply",
            label,
            self.track if track is None else track,
            self,
        )
        ar = AsyncResult(client, message, getname(f), None, True)
        if self.block if block is None else block:
            return self._finish(ar, True)
        return ar

    def _task_sender(
        self, flags: dict[str, Any], made: type[Message] = Message
    ) -> Callable[..., Message]:
        """A function that sends part i of a map as a task."""
        if self.client._task_scheme == "pure":
            self._check_farming(None)
        label = flags.get("label", self.label)
        track = flags.get("track", self.track)
        metadata = self._task_metadata(label, flags)
        client = self.client

        def send(i: int, f: PrePickled, args: Sequence[Any]) -> Message:
            bufs = pack_apply_message(f, args, {}, *client._thresholds)
            return client._send(
                TASK,
                None,
                "apply_request",
                b"{}",
                metadata,
                bufs,
                "apply",
                label,
                track,
                self,
                made,
            )

        return send

    def map(
        self,
        f: Any,
        *sequences: Any,
        block: bool | None = None,
        chunksize: Any = 1,
        ordered: bool = True,
        return_exceptions: bool = False,
        **flags: Any,
    ) -> Any:
        """Parallel version of the builtin map: one task per chunk.

        Parameters
        ----------
        f : callable
        *sequences
            Used up to the end of the shortest.
        block : bool, optional
        chunksize : int or 'auto'
            Elements per task.  'auto' measures how long they take, and makes
            chunks of about 50 ms; then each element has its own error, and
            arguments are sent while the map runs.
        ordered : bool
            Whether iterating the result keeps the order of the elements.
        return_exceptions : bool
            Put errors in the place of values.
        **flags
            Flags of the view, like ``label`` or ``retries``, for these tasks.

        Returns
        -------
        AsyncMapResult, or with block the list of values
        """
        _check_map(f, sequences, self._not_flags(flags))
        pf = ParallelFunction(
            self,
            f,
            block=self._block(block),
            chunksize=chunksize,
            ordered=ordered,
            return_exceptions=return_exceptions,
            **flags,
        )
        return pf.map(*sequences)

    def imap(
        self,
        f: Any,
        *sequences: Any,
        ordered: bool = True,
        max_outstanding: Any = "auto",
        return_exceptions: bool = False,
        chunksize: Any = 1,
        **flags: Any,
    ) -> LazyMapIterator:
        """Map that reads its inputs as the results come; they may be endless.

        Parameters
        ----------
        ordered : bool
            Give values in the order of the inputs, or as they arrive.
        max_outstanding : int or 'auto'
            How many tasks are unfinished at most: by default one per engine, 0
            for no limit.  With a limit, reading also pauses while 1,000 tasks'
            results wait to be taken.
        return_exceptions : bool
            Give errors instead of raising them; a raised one does not end the
            iteration.
        chunksize : int or 'auto'
            Elements per task, each with its own error; see `map`.
        **flags
            Flags of the view for these tasks.
        """
        _check_map(f, sequences, self._not_flags(flags))
        check_chunksize(chunksize)
        limit = max(1, len(self)) if max_outstanding == "auto" else max_outstanding
        return LazyMapIterator(
            self,
            f,
            sequences,
            chunksize,
            ordered,
            max(0, limit or 0),
            return_exceptions,
            self._check_flags(flags),
        )

    def _not_flags(self, keywords: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in keywords.items() if k not in self._flag_names}

    def register_joblib_backend(
        self, name: str = "ipyparallel", make_default: bool = False
    ) -> None:
        """Let joblib's Parallel run on this view; see joblib's parallel_backend."""
        from joblib.parallel import register_parallel_backend

        from ..joblib import IPythonParallelBackend

        register_parallel_backend(
            name,
            lambda **kwargs: IPythonParallelBackend(view=self, **kwargs),
            make_default=make_default,
        )
