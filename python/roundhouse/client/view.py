"""Views: ways to run things on sets of engines.

A DirectView sends to each of its engines; a BroadcastView does so through a
tree of schedulers; a LoadBalancedView leaves the choice to the task scheduler.
All of them pack a call once and hand the buffers to the core.
"""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from .. import serialize
from ..serialize.canning import Reference, interactive
from ..serialize.serialize import PrePickled, pack_apply_message
from ..util import _pull, _push
from . import map as maps
from .asyncresult import AsyncMapResult, AsyncResult
from .dependency import Dependency, dependent
from .executor import LazyMapIterator, ViewExecutor
from .message import Message
from .remotefunction import ParallelFunction, getname, parallel, remote

if TYPE_CHECKING:
    from .client import Client

__all__ = ["BroadcastView", "DirectView", "LoadBalancedView", "View", "ViewExecutor"]

# ORDER channels: as roundhouse._core numbers them
MUX, TASK, CONTROL, BROADCAST, QUERY = range(5)

_NO_METADATA = b"{}"


def flag_error(text: str) -> Exception:
    """A TypeError that is a TraitError as well, as upstream raises."""
    try:
        from traitlets import TraitError
    except ImportError:
        return TypeError(text)

    class FlagError(TraitError, TypeError):
        """A flag of a view was given a value of the wrong type."""

    return FlagError(text)


def _check_bool(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise flag_error(f"{name} must be True or False, not {value!r}")
    return value


def _check_timeout(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise flag_error(f"{name} must be seconds or None, not {value!r}")
    if value < 0:
        raise ValueError(f"Invalid timeout: {value}")
    return value


def _check_retries(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise flag_error(f"{name} must be int, not {type(value)!r}")
    if value < 0:
        raise ValueError(f"{name} must not be negative: {value}")
    return value


def _check_dependency(name: str, value: Any) -> Any:
    """A dependency in any of the accepted forms, unchanged.

    None, a msg_id, an AsyncResult, a list, set or tuple of these, a
    Dependency, or the dict of one.
    """
    if value is None or isinstance(value, (str, AsyncResult, Dependency)):
        return value
    if isinstance(value, (list, set, tuple)):
        bad = [d for d in value if not isinstance(d, (str, AsyncResult))]
    elif isinstance(value, dict):
        if set(value) != {"dependencies", "all", "success", "failure"}:
            raise ValueError(f"Invalid dependency: {value!r}")
        bad = [d for d in value["dependencies"] if not isinstance(d, str)]
    else:
        bad = [value]
    if bad:
        raise ValueError(
            f"Invalid dependency: {bad[0]!r}; a {name} takes msg_ids and "
            "AsyncResults, lists of them, or a Dependency"
        )
    return value


def _render_dependency(dep: Any) -> Any:
    """The form the scheduler takes."""
    if dep is None:
        return []
    if isinstance(dep, Dependency):
        return dep.as_dict()
    if isinstance(dep, AsyncResult):
        return dep.msg_ids
    if isinstance(dep, dict):
        return Dependency(dep).as_dict()
    return list(Dependency(dep))


def _check_callable(f: Any) -> None:
    if not callable(f) and not isinstance(f, (Reference, PrePickled)):
        raise TypeError(f"f must be callable, not {type(f)}")


class View:
    """What all views have; use the subclasses.

    Attributes
    ----------
    client : Client
    targets
        Where to run: an engine id, a list of ids, 'all', or None.
    block : bool
        Whether calls wait and return values instead of AsyncResults.
    track : bool
        Whether `AsyncResult.wait_for_send` is of use.
    label : str or None
        Stored with the tasks in the hub's database.
    history : list of str
        The msg_ids sent through this view.
    """

    _flag_names: tuple[str, ...] = ("targets", "block", "track", "label")
    _checks: dict[str, Callable[[str, Any], Any]] = {
        "block": _check_bool,
        "track": _check_bool,
    }
    _balanced = False

    client: Client
    targets: Any = None
    block: bool = False
    track: bool = False
    label: Any = None

    def __init__(self, client: Client, socket: Any = None, **flags: Any) -> None:
        if type(self) is View:
            raise TypeError("use DirectView, LoadBalancedView or BroadcastView")
        self.client = client
        self.history: list[str] = []
        self._feeders: set[Any] = set()
        self._executor: ViewExecutor | None = None
        self.block = client.block
        self.set_flags(**flags)

    def __setattr__(self, name: str, value: Any) -> None:
        check = self._checks.get(name)
        if check is not None:
            value = check(name, value)
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        where = str(self.targets)
        if len(where) > 16:
            where = where[:12] + "...]"
        return f"<{type(self).__name__} {where}>"

    def __len__(self) -> int:
        """How many engines are addressed."""
        if isinstance(self.targets, int):
            return 1
        if isinstance(self.targets, (list, tuple, range)):
            return len(self.targets)
        return len(self.client)

    def __bool__(self) -> bool:
        return True

    def set_flags(self, **kwargs: Any) -> Any:
        """Set flags by name; returns the view.

        Raises KeyError for an unknown flag, with no flag changed.
        """
        for name in kwargs:
            if name not in self._flag_names:
                raise KeyError(f"Invalid name: {name!r}")
        checked = {}
        for name, value in kwargs.items():
            check = self._checks.get(name)
            checked[name] = check(name, value) if check else value
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        return self

    @contextmanager
    def temp_flags(self, **kwargs: Any) -> Iterator[None]:
        """Context manager: set flags, and restore all flags at the end."""
        saved = {name: getattr(self, name) for name in self._flag_names}
        self.set_flags(**kwargs)
        try:
            yield
        finally:
            for name, value in saved.items():
                object.__setattr__(self, name, value)

    @property
    def outstanding(self) -> set[str]:
        """The msg_ids sent through this view that are not finished."""
        return self.client.outstanding.intersection(self.history)

    @property
    def results(self) -> Any:
        """The client's results."""
        return self.client.results

    @property
    def executor(self) -> ViewExecutor:
        """A `concurrent.futures.Executor` for this view."""
        if self._executor is None:
            self._executor = ViewExecutor(self)
        return self._executor

    # Calls

    def _really_apply(
        self,
        f: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        block: bool | None = None,
        **options: Any,
    ) -> Any:
        raise NotImplementedError

    def apply(self, __ipp_f: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call ``f(*args, **kwargs)`` on the engines of the view.

        Returns
        -------
        AsyncResult, or with `block` the value
            A list of values, one per engine, unless the view addresses a
            single engine by its id, or a scheduler chooses the engine.

        Raises
        ------
        TypeError, pickle.PicklingError, AttributeError
            At once, if f or an argument cannot be sent; the text names it.
        """
        return self._really_apply(__ipp_f, args, kwargs)

    def apply_async(self, __ipp_f: Any, /, *args: Any, **kwargs: Any) -> Any:
        """As `apply`, not waiting: returns an AsyncResult."""
        return self._really_apply(__ipp_f, args, kwargs, block=False)

    def apply_sync(self, __ipp_f: Any, /, *args: Any, **kwargs: Any) -> Any:
        """As `apply`, waiting: returns the value."""
        return self._really_apply(__ipp_f, args, kwargs, block=True)

    def map(self, f: Any, *sequences: Any, **kwargs: Any) -> Any:
        """Parallel version of the builtin map."""
        raise NotImplementedError

    def map_async(self, f: Any, *sequences: Any, **kwargs: Any) -> Any:
        """As `map`, not waiting: returns an AsyncMapResult."""
        if "block" in kwargs:
            raise TypeError("map_async doesn't take a `block` keyword argument.")
        return self.map(f, *sequences, block=False, **kwargs)

    def map_sync(self, f: Any, *sequences: Any, **kwargs: Any) -> Any:
        """As `map`, waiting: returns the list."""
        if "block" in kwargs:
            raise TypeError("map_sync doesn't take a `block` keyword argument.")
        return self.map(f, *sequences, block=True, **kwargs)

    def imap(self, f: Any, *sequences: Any, **kwargs: Any) -> Iterator[Any]:
        """Iterate over the values of `map` as they arrive."""
        return iter(self.map_async(f, *sequences, **kwargs))

    def remote(self, block: bool | None = None, **flags: Any) -> Callable[..., Any]:
        """Decorator: calls of the function run on this view's engines."""
        block = self.block if block is None else block
        return remote(self, block=block, **flags)

    def parallel(
        self, dist: str = "b", block: bool | None = None, **flags: Any
    ) -> Callable[..., Any]:
        """Decorator: calls of the function are spread over this view's engines."""
        block = self.block if block is None else block
        return parallel(self, dist=dist, block=block, **flags)

    def _block(self, block: bool | None) -> bool:
        return self.block if block is None else block

    def _finish(self, ar: AsyncResult, block: bool) -> Any:
        """The value of ar if block, else ar; Ctrl-C gives ar back."""
        if not block:
            return ar
        try:
            return ar.get()
        except KeyboardInterrupt:
            return ar

    # The client's methods with this view's defaults

    def spin(self) -> None:
        """Take in what has arrived; happens by itself."""
        self.client.spin()

    def wait(self, jobs: Any = None, timeout: float = -1) -> bool:
        """Wait for jobs, by default all sent through this view.

        See Client.wait; indices are those of this view's history.
        """
        if jobs is None:
            jobs = list(self.outstanding)
        return self.client.wait(self._by_history(jobs), timeout)

    def _by_history(self, jobs: Any) -> Any:
        """Replace indices of this view's history by msg_ids."""
        if isinstance(jobs, int):
            return self.history[jobs]
        if isinstance(jobs, (list, tuple, set)):
            return [self.history[j] if isinstance(j, int) else j for j in jobs]
        return jobs

    def abort(
        self, jobs: Any = None, targets: Any = None, block: bool | None = None
    ) -> Any:
        """Ask engines to skip jobs, by default all of this view; Client.abort."""
        return self.client.abort(
            jobs=list(self.outstanding) if jobs is None else jobs,
            targets=self.targets if targets is None else targets,
            block=self._block(block),
        )

    def queue_status(self, targets: Any = None, verbose: bool = False) -> Any:
        """What is queued on this view's engines; see Client.queue_status."""
        targets = self.targets if targets is None else targets
        return self.client.queue_status(
            "all" if targets is None else targets, verbose=verbose
        )

    def purge_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """Forget results, here and in the hub; see Client.purge_results."""
        if targets is None or targets == "all":
            targets = self.targets
        self.client.purge_results(jobs=jobs, targets=targets)

    def shutdown(
        self,
        targets: Any = None,
        restart: bool = False,
        hub: bool = False,
        block: bool | None = None,
    ) -> None:
        """Stop this view's engines, and the hub if asked; see Client.shutdown."""
        if targets is None or targets == "all":
            targets = self.targets
        self.client.shutdown(
            targets="all" if targets is None else targets,
            restart=restart,
            hub=hub,
            block=self._block(block),
        )

    def get_result(
        self,
        indices_or_msg_ids: Any = None,
        block: bool | None = None,
        owner: bool = False,
    ) -> Any:
        """A result by msg_id or index of this view's history; Client.get_result."""
        jobs = -1 if indices_or_msg_ids is None else indices_or_msg_ids
        return self.client.get_result(
            self._by_history(jobs), block=self._block(block), owner=owner
        )


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
        return [
            send(MUX, uuid, msg_type, content, metadata, bufs, kind, label, track, self)
            for uuid in uuids
        ]

    def _direct_sender(self, uuids: Sequence[str]) -> Callable[..., Message]:
        """A function that sends part i of a map to engine i."""

        def send(i: int, f: PrePickled, args: Sequence[Any]) -> Message:
            bufs = pack_apply_message(f, args, {})
            uuid = [uuids[i]]
            return self._send(
                uuid, "apply_request", b"{}", bufs, self.label, self.track
            )[0]

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
        """
        if not isinstance(code, str):
            raise TypeError(f"code must be text, not {type(code)}")
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
        """Run the text of a local file on the engines; see `execute`."""
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
            Keys may be anything that can be assigned to: ``a``, ``a.b``.
        """
        if not isinstance(ns, dict):
            raise TypeError(f"Must be a dict, not {type(ns)}")
        return self._really_apply(
            _push, (), ns, block=block, targets=targets, track=track
        )

    def pull(self, names: Any, targets: Any = None, block: bool | None = None) -> Any:
        """Get objects from the engines, by name or expression.

        Parameters
        ----------
        names : str, or list, tuple or set of str
            A list gives a list of objects per engine.
        """
        if isinstance(names, (list, tuple, set)):
            for key in names:
                if not isinstance(key, str):
                    raise TypeError(f"keys must be str, not type {type(key)!r}")
        elif not isinstance(names, str):
            raise TypeError(f"names must be strs, not {names!r}")
        return self._really_apply(_pull, (names,), block=block, targets=targets)

    def update(self, ns: dict[str, Any]) -> Any:
        """`push` with the flags of the view."""
        return self.push(ns, block=self.block, track=self.track)

    def get(self, key_s: Any) -> Any:
        """`pull`, waiting."""
        return self.pull(key_s, block=True)

    def __getitem__(self, key: Any) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    __iter__ = None  # type: ignore[assignment]  # not a sequence, despite []

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
        dist : 'b' or 'r'
            Contiguous parts, or every n-th item.
        flatten : bool
            Bind the item itself where a part has only one.

        Returns
        -------
        AsyncResult; with block, a list of None
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
        """Join the parts of a scattered sequence again.

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
        """Pickle with dill, here and on the engines."""
        return self._use("dill")

    def use_cloudpickle(self) -> Any:
        """Pickle with cloudpickle, here and on the engines."""
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
                "The IPython parallel magics (%px, etc.) only work within IPython.",
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


def _check_map(f: Any, sequences: Sequence[Any], extra: dict[str, Any]) -> None:
    _check_callable(f)
    if extra:
        raise TypeError(f"map got unexpected keyword arguments: {sorted(extra)}")
    if not sequences:
        raise AssertionError("must have some sequences to map onto!")


class BroadcastView(DirectView):
    """Engines addressed by one message that the controller multiplies.

    Attributes
    ----------
    is_coalescing : bool
        Let the controller join the replies into one.  The order of the values
        is then that of ``ar.engine_id``.

    The hub keeps no record of what is broadcast, and labels are not stored.
    """

    is_coalescing: bool = False
    _checks = {**View._checks, "is_coalescing": _check_bool}

    def _send(
        self,
        uuids: Sequence[str],
        msg_type: str,
        content: bytes,
        bufs: Sequence[Any],
        label: Any,
        track: bool = False,
        coalescing: bool = False,
    ) -> list[Message]:
        client = self.client
        pairs = [[uuid, client._engine_id(uuid)] for uuid in uuids]
        metadata = json.dumps(
            {"targets": pairs, "is_broadcast": True, "is_coalescing": coalescing}
        ).encode()
        kind = msg_type.partition("_")[0]
        return client._broadcast(
            uuids,
            msg_type,
            content,
            metadata,
            bufs,
            kind,
            label,
            track,
            coalescing,
            self,
        )

    def _really_apply(
        self,
        f: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        block: bool | None = None,
        targets: Any = None,
        track: bool | None = None,
        label: Any = None,
        coalescing: bool | None = None,
        **options: Any,
    ) -> Any:
        _check_callable(f)
        targets = self.targets if targets is None else targets
        uuids, ids = self.client._build_targets(targets)
        if coalescing is None:
            coalescing = self.is_coalescing
        bufs = pack_apply_message(f, args, kwargs or {}, *self.client._thresholds)
        messages = self._send(
            uuids,
            "apply_request",
            b"{}",
            bufs,
            None,
            self.track if track is None else track,
            coalescing,
        )
        if coalescing:
            ar = AsyncResult(self.client, messages[0], getname(f), ids, owner=True)
        else:
            ar = self._result(messages, targets, ids, getname(f))
        return self._finish(ar, self._block(block))

    def execute(  # type: ignore[override]
        self,
        code: str,
        silent: bool = True,
        targets: Any = None,
        block: bool | None = None,
    ) -> AsyncResult:
        """Run code on the engines; see DirectView.execute.  Never coalesced."""
        return super().execute(code, silent, targets, block)

    def map(
        self,
        f: Any,
        *sequences: Any,
        block: bool | None = None,
        track: bool = False,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Parallel version of the builtin map.  Never coalesced.

        The sequences are scattered, one message per engine; only the calls are
        broadcast.  Engines with inputs known to them are served better by
        `apply`.
        """
        _check_map(f, sequences, kwargs)
        seqs = [s if hasattr(s, "__len__") else list(s) for s in sequences]
        n = min([len(s) for s in seqs])
        if n == 0:
            return []
        uuids, ids = self.client._build_targets(self.targets)
        direct = DirectView(self.client, targets=ids)
        key = secrets.token_hex(5)
        names = []
        lengths: list[int] = []
        for i, seq in enumerate(seqs):
            names.append(f"_seq_{key}_{i}")
            part = seq if len(seq) == n else seq[:n]
            sent = direct.scatter(names[-1], part, block=False, track=track)
            lengths = sent._scatter_lengths
            # Broadcasts take another way: the parts must be there first.
            sent.get()
        bufs = pack_apply_message(_broadcast_map, (f, *names), {})
        messages = self._send(uuids, "apply_request", b"{}", bufs, None, track)
        ar = AsyncMapResult(
            self.client,
            messages,
            maps.Map(),
            fname=getname(f),
            return_exceptions=return_exceptions,
            chunk_sizes={m.msg_id: k for m, k in zip(messages, lengths)},
        )
        ar._targets = ids
        return self._finish(ar, self._block(block))

    def scatter(self, *args: Any, **kwargs: Any) -> Any:
        """Spread a sequence; see DirectView.scatter.  Sent one by one."""
        direct = DirectView(
            self.client, targets=self.targets, block=self.block, track=self.track
        )
        ar = direct.scatter(*args, **kwargs)
        self.history += direct.history
        return ar


@interactive
def _broadcast_map(f: Any, *names: str) -> list[Any]:
    # Runs on the engine, in the user namespace: it may use nothing of here.
    ns = globals()
    return list(map(f, *[ns.pop(name) for name in names]))


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

    def _task_sender(self) -> Callable[..., Message]:
        """A function that sends part i of a map as a task."""
        self._check_farming(None)
        metadata = self._task_metadata(self.label, {})
        label, track, client = self.label, self.track, self.client

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
