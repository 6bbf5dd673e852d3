"""Decorators that make functions run on engines."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..serialize.serialize import PrePickled
from . import map as maps
from .asyncresult import AsyncMapResult
from .chunks import GrowingMapResult, check_chunksize

if TYPE_CHECKING:
    from .view import View

__all__ = ["ParallelFunction", "RemoteFunction", "getname", "parallel", "remote"]


def remote(view: View, block: bool | None = None, **flags: Any) -> Callable[..., Any]:
    """Decorator: calls of the function run on the engines of a view.

    Parameters
    ----------
    block : bool, optional
        Whether calls wait; by default as the view says at the time of the call.
    **flags
        Flags of the view, set for each call.
    """

    def remote_function(f: Callable[..., Any]) -> RemoteFunction:
        return RemoteFunction(view, f, block=block, **flags)

    return remote_function


def parallel(
    view: View,
    dist: str = "b",
    block: bool | None = None,
    ordered: bool = True,
    **flags: Any,
) -> Callable[..., Any]:
    """Decorator: calls of the function are spread over the engines of a view.

    See ParallelFunction for the parameters.
    """

    def parallel_function(f: Callable[..., Any]) -> ParallelFunction:
        return ParallelFunction(
            view, f, dist=dist, block=block, ordered=ordered, **flags
        )

    return parallel_function


def getname(f: Any) -> str:
    """A name for any callable: its ``__name__``, its ``name``, or its text."""
    if type(f) is FunctionType:
        return f.__name__
    for key in ("__name__", "name"):
        try:
            name = getattr(f, key)
        except Exception:
            continue
        if isinstance(name, str):
            return name
    if isinstance(f, PrePickled):
        return "prepickled"
    return str(f)


class RemoteFunction:
    """A function that runs on the engines of a view when it is called.

    Attributes
    ----------
    view, func, block, flags
        As given.
    """

    def __init__(
        self,
        view: View,
        f: Callable[..., Any],
        block: bool | None = None,
        **flags: Any,
    ) -> None:
        self.view = view
        self.func = f
        self.block = block
        self.flags = flags
        self.__name__ = getname(f)
        doc = getattr(f, "__doc__", None)
        if doc:
            self.__doc__ = f"{type(self).__name__} wrapping:\n{doc}"
        try:
            self.__signature__ = inspect.signature(f)
        except (TypeError, ValueError):
            pass  # builtins may have none

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        view = self.view
        flags = view._check_flags(self.flags)
        flags.pop("block", None)
        return view._really_apply(self.func, args, kwargs, block=self.block, **flags)


# Runs on the engines; the protocol knows it by its module and name.
def _map(f: Callable[..., Any], *sequences: Any) -> list[Any]:
    return list(map(f, *sequences))


class ParallelFunction(RemoteFunction):
    """A function that gets parts of sequences on many engines.

    Called, it runs once per part, with the part as argument; its `map` runs it
    once per element.  On a direct view there is one part per engine, on a
    balanced view one per chunk.

    Parameters
    ----------
    dist : 'b' or 'r'
        Contiguous parts, or every n-th element.
    block : bool, optional
        Whether calls wait; by default as the view says at the time of the call.
    chunksize : int or 'auto', optional
        Elements per task of a balanced view; default 1.  'auto', for `map` only,
        measures how long they take.
    ordered : bool
        Whether iterating the result keeps the order of submission.
    return_exceptions : bool
        Whether errors are put in the place of values instead of raised.
    **flags
        Flags of the view, set for each call.
    """

    def __init__(
        self,
        view: View,
        f: Callable[..., Any],
        dist: str = "b",
        block: bool | None = None,
        chunksize: Any = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        **flags: Any,
    ) -> None:
        if chunksize is not None:
            check_chunksize(chunksize)
        super().__init__(view, f, block=block, **flags)
        if dist not in maps.dists:
            raise KeyError(f"dist must be 'b' or 'r', not {dist!r}")
        self.chunksize = chunksize
        self.ordered = ordered
        self.return_exceptions = return_exceptions
        self.mapObject = maps.dists[dist]()

    def __call__(self, *sequences: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise TypeError(
                f"a parallel function takes sequences, no keywords: {sorted(kwargs)}"
            )
        return self._spread(sequences, mapping=False)

    def map(self, *sequences: Any) -> Any:
        """Call the function on each element, like the builtin map.

        Sequences without a length are read first; several are used up to the
        end of the shortest.  Returns an AsyncMapResult, or with block the list.
        """
        return self._spread(sequences, mapping=True)

    def _spread(self, sequences: Sequence[Any], mapping: bool) -> Any:
        seqs = [s if _sized(s) else list(s) for s in sequences]
        lengths = [len(s) for s in seqs]
        if not lengths or max(lengths) == 0:
            return []
        if not mapping and min(lengths) != max(lengths):
            raise ValueError(f"sequences of different lengths: {lengths}")
        if self.chunksize == "auto" and self.view._balanced:
            if not mapping:
                raise ValueError("chunksize='auto' is for the map of the function")
            result: AsyncMapResult = self._grow(seqs)
        else:
            nparts, send = self._sender(min(lengths))
            result = self._send_parts(seqs, min(lengths), nparts, mapping, send)
        if not (self.view.block if self.block is None else self.block):
            return result
        try:
            return result.get()
        except KeyboardInterrupt:
            return result

    def _grow(self, seqs: list[Any]) -> GrowingMapResult:
        view: Any = self.view
        return GrowingMapResult(
            view,
            self.func,
            seqs,
            fname=self.__name__,
            ordered=self.ordered,
            return_exceptions=self.return_exceptions,
            flags=view._check_flags(self.flags),
        )

    def _sender(self, n: int) -> tuple[int, Callable[..., Any]]:
        """How many parts there are, and the function that sends part i."""
        view: Any = self.view
        flags = view._check_flags(self.flags)
        if view._balanced:
            chunk = self.chunksize or 1
            return -(-n // chunk), view._task_sender(flags)
        if self.chunksize:
            warnings.warn(
                "chunksize has no effect on a DirectView: one chunk goes to each engine",
                UserWarning,
                stacklevel=4,
            )
        uuids = view.client._build_targets(flags.get("targets", view.targets))[0]
        return len(uuids), view._direct_sender(uuids, flags)

    def _send_parts(
        self,
        seqs: list[Any],
        n: int,
        nparts: int,
        mapping: bool,
        send: Callable[..., Any],
    ) -> AsyncMapResult:
        part_of = self.mapObject.getPartition
        f = PrePickled(self.func)
        head: tuple[Any, ...] = ()
        if mapping:
            head, f = (f,), PrePickled(_map)
        messages = []
        sizes = {}
        for i in range(nparts):
            parts = [part_of(s, i, nparts, n) for s in seqs]
            if not len(parts[0]):
                continue
            message = send(i, f, (*head, *parts))
            messages.append(message)
            if mapping:
                sizes[message.msg_id] = len(parts[0])
        return AsyncMapResult(
            self.view.client,
            messages,
            self.mapObject,
            fname=self.__name__,
            ordered=self.ordered,
            return_exceptions=self.return_exceptions,
            chunk_sizes=sizes,
        )


def _sized(seq: Any) -> bool:
    """Whether seq has a length and can be cut as it is."""
    return hasattr(type(seq), "__len__") and not isinstance(seq, (dict, set, frozenset))
