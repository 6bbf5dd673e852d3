"""What all views have: flags, and the client's methods with their defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..serialize.canning import Reference
from ..serialize.serialize import PrePickled
from .asyncresult import AsyncResult
from .dependency import Dependency, msg_ids_of
from .executor import ViewExecutor
from .history import History
from .remotefunction import parallel, remote

if TYPE_CHECKING:
    from .client import Client

__all__ = ["View"]

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
            raise ValueError(
                f"{value!r} is no dependency: take msg_ids, results or Dependency"
            )
        bad = [d for d in value["dependencies"] if not isinstance(d, str)]
    else:
        bad = [value]
    if bad:
        raise ValueError(
            f"{bad[0]!r} is no dependency: a {name} takes msg_ids and "
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
    return list(dict.fromkeys(msg_ids_of(dep)))


def _check_callable(f: Any) -> None:
    if not callable(f) and not isinstance(f, (Reference, PrePickled)):
        raise TypeError(f"cannot call f: {type(f).__name__} is not callable")


def _check_map(f: Any, sequences: Sequence[Any], extra: dict[str, Any]) -> None:
    _check_callable(f)
    if extra:
        raise TypeError(f"map got unexpected keyword arguments: {sorted(extra)}")
    if not sequences:
        raise AssertionError("map needs at least one sequence")


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
    history : sequence of str
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
    _rendered: Any = None  # a subclass's form of the flags, until one is changed

    def __init__(self, client: Client, socket: Any = None, **flags: Any) -> None:
        if type(self) is View:
            raise TypeError("use DirectView, LoadBalancedView or BroadcastView")
        self.client = client
        self.history = History()
        self._feeders: set[Any] = set()
        self._executor: ViewExecutor | None = None
        self.block = client.block
        self.set_flags(**flags)

    def __setattr__(self, name: str, value: Any) -> None:
        check = self._checks.get(name)
        if check is not None:
            value = check(name, value)
        if name in self._flag_names:
            self.__dict__["_rendered"] = None
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
        self.__dict__.update(self._check_flags(kwargs), _rendered=None)
        return self

    def _check_flags(self, flags: dict[str, Any]) -> dict[str, Any]:
        """The flags with checked values; KeyError for an unknown one."""
        checked = {}
        for name, value in flags.items():
            if name not in self._flag_names:
                raise KeyError(f"Invalid name: {name!r}")
            check = self._checks.get(name)
            checked[name] = check(name, value) if check else value
        return checked

    @contextmanager
    def temp_flags(self, **kwargs: Any) -> Iterator[None]:
        """Context manager: set flags, and restore all flags at the end."""
        flags = self.__dict__
        saved = {name: flags[name] for name in self._flag_names if name in flags}
        self.set_flags(**kwargs)
        try:
            yield
        finally:
            for name in self._flag_names:
                flags.pop(name, None)  # back to the class's default
            flags.update(saved, _rendered=None)

    @property
    def outstanding(self) -> set[str]:
        """The msg_ids sent through this view that are not finished."""
        return self.history.among(self.client.outstanding)

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
            raise TypeError("map_async never blocks: leave out block=")
        return self.map(f, *sequences, block=False, **kwargs)

    def map_sync(self, f: Any, *sequences: Any, **kwargs: Any) -> Any:
        """As `map`, waiting: returns the list."""
        if "block" in kwargs:
            raise TypeError("map_sync always blocks: leave out block=")
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
