"""Views that address engines directly, each by its own message."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from .. import serialize
from ..serialize.canning import interactive
from ..serialize.serialize import PrePickled, pack_apply_message
from ..util import _pull, _push
from . import map as maps
from .asyncresult import AsyncMapResult, AsyncResult
from .baseview import _NO_METADATA, MUX, View, _check_callable, _check_map
from .message import Message
from .remotefunction import ParallelFunction, getname

if TYPE_CHECKING:
    from .client import Client

__all__ = ["DirectView"]


class DirectView(View):
    """Engines addressed directly, each by its own message.

    Also a mapping to the engines' user namespaces: ``view['a'] = 5`` pushes,
    ``view['a']`` pulls.

    Examples
    --------
    >>> client[0], client[:], client[::2]  # doctest: +SKIP
    """

    def __init__(
        self, client: Client, socket: Any = None, targets: Any = None, **flags: Any
    ) -> None:
        super().__init__(client, socket, targets=targets, **flags)

    # Sending

    def _metadata(self, label: Any) -> bytes:
        if label is None:
            return _NO_METADATA
        return json.dumps({"label": label}).encode()

    def _send(
        self,
        uuids: Sequence[str],
        msg_type: str,
        content: bytes,
        bufs: Sequence[Any],
        label: Any,
        track: bool = False,
    ) -> list[Message]:
        """One message to each engine."""
        send = self.client._send
        metadata = self._metadata(label)
        kind = msg_type.partition("_")[0]
        if len(uuids) > 1 and bufs:
            bufs = self.client._core.share(bufs)
        return [
            send(MUX, uuid, msg_type, content, metadata, bufs, kind, label, track, self)
            for uuid in uuids
        ]

    def _direct_sender(
        self, uuids: Sequence[str], flags: dict[str, Any]
    ) -> Callable[..., Message]:
        """A function that sends part i of a map to engine i."""
        label = flags.get("label", self.label)
        track = flags.get("track", self.track)

        def send(i: int, f: PrePickled, args: Sequence[Any]) -> Message:
            bufs = pack_apply_message(f, args, {})
            return self._send([uuids[i]], "apply_request", b"{}", bufs, label, track)[0]

        return send

    def _result(
        self, messages: list[Message], targets: Any, ids: list[int], fname: str
    ) -> AsyncResult:
        children: Any = messages[0] if isinstance(targets, int) else messages
        return AsyncResult(self.client, children, fname, ids, owner=True)

    def _really_apply(
        self,
        f: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        block: bool | None = None,
        targets: Any = None,
        track: bool | None = None,
        label: Any = None,
        **options: Any,
    ) -> Any:
        _check_callable(f)
        targets = self.targets if targets is None else targets
        uuids, ids = self.client._build_targets(targets)
        bufs = pack_apply_message(f, args, kwargs or {}, *self.client._thresholds)
        messages = self._send(
            uuids,
            "apply_request",
            b"{}",
            bufs,
            self.label if label is None else label,
            self.track if track is None else track,
        )
        ar = self._result(messages, targets, ids, getname(f))
        return self._finish(ar, self._block(block))

    def map(
        self,
        f: Any,
        *sequences: Any,
        block: bool | None = None,
        track: bool = False,
        return_exceptions: bool = False,
        label: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Parallel version of the builtin map: one message per engine.

        Parameters
        ----------
        f : callable
        *sequences
            Cut into contiguous parts, one per engine; used up to the end of
            the shortest.
        block : bool, optional
        track : bool
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
            return_exceptions=return_exceptions,
            track=track,
            label=self.label if label is None else label,
        )
        return pf.map(*sequences)

    def execute(
        self,
        code: str,
        silent: bool = True,
        targets: Any = None,
        block: bool | None = None,
        label: Any = None,
    ) -> AsyncResult:
        """Run code on the engines, as a cell of IPython there.

        Parameters
        ----------
        code : str
        silent : bool
            Do not display results nor count the execution.

        Returns
        -------
        AsyncResult
            Also with block, which waits for the output, too, and raises
            errors.  Its values are ExecuteReply objects.

        Raises
        ------
        TypeError
            If code is no str.
        RemoteError, CompositeError
            With block, what the code raised.
        """
        if not isinstance(code, str):
            raise TypeError(f"execute takes code as str, not {type(code).__name__}")
        targets = self.targets if targets is None else targets
        uuids, ids = self.client._build_targets(targets)
        messages = self._send(
            uuids,
            "execute_request",
            _execute_content(code, silent),
            (),
            self.label if label is None else label,
        )
        ar = self._result(messages, targets, ids, "execute")
        return self._finish_execute(ar, self._block(block))

    @staticmethod
    def _finish_execute(ar: AsyncResult, block: bool) -> AsyncResult:
        if block:
            try:
                ar.get()
                ar.wait_for_output()
            except KeyboardInterrupt:
                pass
        return ar

    def run(
        self,
        filename: str,
        targets: Any = None,
        block: bool | None = None,
        label: Any = None,
    ) -> AsyncResult:
        """Run the text of a local file on the engines; see `execute`.

        The file is read as UTF-8; OSError if it cannot be.
        """
        with open(filename, encoding="utf-8") as f:
            # a last line of blanks only would be an error without a newline
            code = f.read() + "\n"
        options = {} if label is None else {"label": label}
        return self.execute(code, targets=targets, block=block, **options)

    # Namespaces

    def push(
        self,
        ns: dict[str, Any],
        targets: Any = None,
        block: bool | None = None,
        track: bool | None = None,
    ) -> Any:
        """Set names on the engines.

        Parameters
        ----------
        ns : dict
            Values by name; a name may be anything that can be assigned to:
            ``a``, ``a.b``.  Functions are bound to the engine's namespace.
        track : bool, optional
            Whether `AsyncResult.wait_for_send` is of use.

        Returns
        -------
        AsyncResult; with block None, or a list of them

        Raises
        ------
        TypeError
            If ns is no dict, or a value cannot be sent.
        """
        if not isinstance(ns, dict):
            raise TypeError(
                f"push takes a dict of names and values, not {type(ns).__name__}"
            )
        return self._really_apply(
            _push, (), ns, block=block, targets=targets, track=track
        )

    def pull(self, names: Any, targets: Any = None, block: bool | None = None) -> Any:
        """Get objects from the engines, by name or expression.

        Parameters
        ----------
        names : str, or list, tuple or set of str
            A list gives a list of objects per engine.

        Returns
        -------
        AsyncResult; with block the object, or a list of one per engine

        Raises
        ------
        TypeError
            If a name is no str.
        RemoteError, CompositeError
            With block: NameError on an engine that has no such name.
        """
        if isinstance(names, (list, tuple, set)):
            for key in names:
                if not isinstance(key, str):
                    raise TypeError(f"pull takes names as str, not {key!r}")
        elif not isinstance(names, str):
            raise TypeError(f"pull takes a name or a list of names, not {names!r}")
        return self._really_apply(_pull, (names,), block=block, targets=targets)

    def update(self, ns: dict[str, Any]) -> Any:
        """`push` with the flags `block` and `track` of the view."""
        return self.push(ns, block=self.block, track=self.track)

    def get(self, key_s: Any) -> Any:
        """`pull`, waiting: the object, or a list of one per engine."""
        return self.pull(key_s, block=True)

    def __getitem__(self, key: Any) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    __iter__ = None  # not a sequence, despite []

    def scatter(
        self,
        key: str,
        seq: Any,
        dist: str = "b",
        flatten: bool = False,
        targets: Any = None,
        block: bool | None = None,
        track: bool | None = None,
    ) -> Any:
        """Spread a sequence over the engines, each part bound to a name.

        Parameters
        ----------
        key : str
            The name that is bound to a part on each engine.
        seq : sequence, array, or iterable
            Cut into as many parts as there are targets; the first
            ``len(seq) % n`` contiguous ones have one item more.  An iterable
            without a length is read first.
        dist : 'b' or 'r'
            Contiguous parts, or every n-th item.
        flatten : bool
            Bind the item itself where a part has only one.

        Returns
        -------
        AsyncResult; with block, a list of None

        Raises KeyError for another dist.
        """
        targets = self.targets if targets is None else targets
        uuids, ids = self.client._build_targets(targets)
        mapper = maps.dists[dist]()
        if not hasattr(seq, "__len__"):
            seq = list(seq)
        messages = []
        lengths = []
        for i, uuid in enumerate(uuids):
            part = mapper.getPartition(seq, i, len(uuids))
            lengths.append(len(part))
            if flatten and len(part) == 1:
                part = part[0]
            bufs = pack_apply_message(_push, (), {key: part}, *self.client._thresholds)
            messages += self._send(
                [uuid],
                "apply_request",
                b"{}",
                bufs,
                self.label,
                self.track if track is None else track,
            )
        ar = AsyncResult(self.client, messages, "scatter", ids, owner=True)
        ar._scatter_lengths = lengths  # type: ignore[attr-defined]
        return self._finish(ar, self._block(block))

    def gather(
        self, key: str, dist: str = "b", targets: Any = None, block: bool | None = None
    ) -> Any:
        """Join the parts of a scattered sequence again, in the order of targets.

        dist must be that of the scatter.  Parts that are arrays of one kind
        make an array; all others a list.

        Returns an AsyncMapResult, or with block the list or array.
        """
        targets = self.targets if targets is None else targets
        mapper = maps.dists[dist]()
        uuids, ids = self.client._build_targets(targets)
        bufs = pack_apply_message(_pull, (key,), {})
        messages = self._send(uuids, "apply_request", b"{}", bufs, self.label)
        ar = AsyncMapResult(self.client, messages, mapper, fname="gather")
        ar._targets = ids
        return self._finish(ar, self._block(block))

    # Engines' state

    @property
    def importer(self) -> AbstractContextManager[None]:
        """`sync_imports()`."""
        return self.sync_imports(True)

    def sync_imports(
        self, local: bool = True, quiet: bool = False
    ) -> AbstractContextManager[None]:
        """Context manager: imports in the block happen on the engines as well.

        ``as`` names are not used there.  An ImportError of an engine is raised
        at the end of the block.

        Parameters
        ----------
        local : bool
            Must be True: the import happens here first.
        quiet : bool
            Do not print what is imported.
        """
        from .imports import sync_imports

        return sync_imports(self, local, quiet)

    def _use(self, name: str) -> Any:
        if name != "pickle":
            __import__(name)  # not here: leave everything as it was
        ar = self.apply_async(_use_pickler, name)
        getattr(serialize, "use_" + name)()
        return self._finish(ar, self.block)

    def use_dill(self) -> Any:
        """Pickle with dill, here and on the engines, until `use_pickle`.

        ImportError if it is missing here; the result raises it if it is there.
        """
        return self._use("dill")

    def use_cloudpickle(self) -> Any:
        """Pickle with cloudpickle, here and on the engines, until `use_pickle`.

        ImportError if it is missing here; the result raises it if it is there.
        """
        return self._use("cloudpickle")

    def use_pickle(self) -> Any:
        """Go back to the standard pickle, here and on the engines."""
        return self._use("pickle")

    def clear(self, targets: Any = None, block: bool | None = None) -> Any:
        """Empty the user namespaces of the engines."""
        return self.client.clear(
            targets=self.targets if targets is None else targets,
            block=self._block(block),
        )

    def activate(self, suffix: str = "") -> None:
        """Bind the IPython magics ``%px``, ``%%px``, ``%autopx``… to this view.

        suffix is added to their names, so that several views can have magics.
        """
        from .display import get_shell

        shell = get_shell()
        if shell is None:
            warnings.warn(
                "no magics here: %px and its kin need an IPython session",
                stacklevel=2,
            )
            return
        from .magics import ParallelMagics

        shell.magics_manager.register(ParallelMagics(shell, self, suffix))


@interactive
def _use_pickler(name: str) -> None:
    # Runs on the engine, ours or upstream's: it may use nothing of here.
    import importlib
    import sys

    home = "roundhouse" if "roundhouse.engine" in sys.modules else "ipyparallel"
    getattr(importlib.import_module(home + ".serialize"), "use_" + name)()


def _execute_content(code: str, silent: bool) -> bytes:
    return json.dumps(
        {"code": code, "silent": bool(silent), "user_expressions": {}},
        ensure_ascii=False,
    ).encode("utf-8", "surrogatepass")
