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
    _check_callable,
    _check_dependency,
    _check_map,
    _check_retries,
    _check_timeout,
    _render_dependency,
)
from .dependency import dependent
from .executor import LazyMapIterator
from .message import Message
from .remotefunction import ParallelFunction, getname

if TYPE_CHECKING:
    from .client import Client

__all__ = ["LoadBalancedView"]


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
    """

    _flag_names = (*View._flag_names, "follow", "after", "timeout", "retries")
    _checks = {
        **View._checks,
        "follow": _check_dependency,
        "after": _check_dependency,
        "timeout": _check_timeout,
        "retries": _check_retries,
    }
    _balanced = True

    follow: Any = None
    after: Any = None
    timeout: float | None = 0.0
    retries: int = 0

    def __init__(self, client: Client, socket: Any = None, **flags: Any) -> None:
        super().__init__(client, socket, **flags)

    @property
    def _task_scheme(self) -> str:
        return self.client._task_scheme

    def _task_metadata(self, label: Any, options: dict[str, Any]) -> bytes:
        """The flags as the scheduler takes them."""
        get = options.get
        after, follow = get("after", self.after), get("follow", self.follow)
        targets = get("targets", self.targets)
        timeout, retries = get("timeout", self.timeout), get("retries", self.retries)
        if not (after or follow or timeout or retries or label) and targets is None:
            return _NO_METADATA
        if self.client._task_scheme == "pure":
            raise RuntimeError(
                "the pure task scheme forwards tasks without looking at them: "
                "follow, after, retries, targets and timeout need another scheme"
            )
        uuids = [] if targets is None else self.client._build_targets(targets)[0]
        return json.dumps(
            {
                "after": _render_dependency(after),
                "follow": _render_dependency(follow),
                "timeout": timeout,
                "targets": uuids,
                "retries": retries,
                "label": label,
            }
        ).encode()

    def _check_farming(self, f: Any) -> None:
        if self.client._task_scheme != "pure":
            return
        if self.client._farming_stopped:
            raise RuntimeError(
                "Task farming is disabled because the pure ZMQ scheduler "
                "cannot handle disappearing engines."
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

    def _task_sender(self, flags: dict[str, Any]) -> Callable[..., Message]:
        """A function that sends part i of a map as a task."""
        self._check_farming(None)
        label = flags.get("label", self.label)
        track = flags.get("track", self.track)
        metadata = self._task_metadata(label, flags)
        client = self.client

        def send(i: int, f: PrePickled, args: Sequence[Any]) -> Message:
            bufs = pack_apply_message(f, args, {})
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
            )

        return send

    def map(
        self,
        f: Any,
        *sequences: Any,
        block: bool | None = None,
        chunksize: int = 1,
        ordered: bool = True,
        return_exceptions: bool = False,
        label: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Parallel version of the builtin map: one task per chunk.

        Parameters
        ----------
        f : callable
        *sequences
            Used up to the end of the shortest.
        block : bool, optional
        chunksize : int
            Elements per task.
        ordered : bool
            Whether iterating the result keeps the order of the elements.
        return_exceptions : bool
            Put errors in the place of values.
        label : str, optional

        Returns
        -------
        AsyncMapResult, or with block the list of values
        """
        _check_map(f, sequences, kwargs)
        pf = ParallelFunction(
            self,
            f,
            block=self._block(block),
            chunksize=chunksize,
            ordered=ordered,
            return_exceptions=return_exceptions,
            label=self.label if label is None else label,
        )
        return pf.map(*sequences)

    def imap(  # type: ignore[override]
        self,
        f: Any,
        *sequences: Any,
        ordered: bool = True,
        max_outstanding: Any = "auto",
        return_exceptions: bool = False,
    ) -> LazyMapIterator:
        """Map that reads its inputs as the results come; they may be endless.

        Parameters
        ----------
        ordered : bool
            Give values in the order of the inputs, or as they arrive.
        max_outstanding : int or 'auto'
            How many tasks are unfinished at most: by default one per engine, 0
            for no limit.
        return_exceptions : bool
            Give errors instead of raising them.
        """
        _check_map(f, sequences, {})
        limit = len(self) if max_outstanding == "auto" else max_outstanding
        if limit is None or limit < 0:
            limit = 0
        return LazyMapIterator(
            self,
            f,
            iter(zip(*sequences)),
            ordered,
            limit or (1 if max_outstanding == "auto" else 0),
            return_exceptions,
        )

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
