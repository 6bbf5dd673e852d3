"""Dependencies: where a task may run, and after which others.

Functional dependencies (`depend`, `require`) are checked on the engine while
the task is unpacked; an unmet one sends the task to another engine.  Graph
dependencies (`Dependency`) are sets of message ids for the scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, Callable

from ..error import UnmetDependency
from ..serialize.canning import can, can_dependent, can_map, interactive

__all__ = ["Dependency", "depend", "dependent", "require"]


class depend:
    """Decorator: run the function only where another function agrees.

    ``depend(df, *args, **kwargs)``: the engine first calls ``df(*args,
    **kwargs)``.  If that returns False (exactly) or raises UnmetDependency the
    task is tried on another engine.

    Examples
    --------
    >>> @depend(os.path.exists, "/scratch")  # doctest: +SKIP
    ... def f(n): ...
    """

    def __init__(
        self, _wrapped_f: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        self.f = _wrapped_f
        self.args = args
        self.kwargs = kwargs

    def __call__(self, f: Callable[..., Any]) -> dependent:
        return dependent(f, self.f, *self.args, **self.kwargs)


class dependent:
    """A function together with the check that has to pass before it.

    An object rather than a closure, so that it can be sent.
    """

    def __init__(
        self,
        _wrapped_f: Callable[..., Any],
        _wrapped_df: Callable[..., Any],
        *dargs: Any,
        **dkwargs: Any,
    ) -> None:
        self.f = _wrapped_f
        self.__name__ = getattr(_wrapped_f, "__name__", "f")
        self.df = _wrapped_df
        self.dargs = dargs
        self.dkwargs = dkwargs

    def check_dependency(self) -> None:
        """Raise UnmetDependency if the check returns False."""
        if self.df(*self.dargs, **self.dkwargs) is False:
            raise UnmetDependency()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.f(*args, **kwargs)


can_map[dependent] = can_dependent


@interactive
def _require(*modules: str, **mapping: Any) -> bool:
    # Runs on the engine, in the user namespace: it may use nothing of here.
    from ipyparallel.error import UnmetDependency
    from ipyparallel.serialize import uncan

    user_ns = globals()
    for name in modules:
        try:
            exec(f"import {name}", user_ns)
        except ImportError as e:
            raise UnmetDependency(f"{name}: {e}")
    for name, obj in mapping.items():
        user_ns[name] = uncan(obj, user_ns)
    return True


def require(*objects: Any, **mapping: Any) -> depend:
    """Decorator: import modules and push objects before the function runs.

    Parameters
    ----------
    *objects : str, module, or anything with a ``__name__``
        Modules (or their names) are imported on the engine; functions and
        classes are sent along and bound to their names there.
    **mapping
        Other objects, bound to these names on the engine.

    Returns
    -------
    depend
        Engines that cannot import a module do not get the task.

    Raises
    ------
    TypeError
        For a positional object that is neither module nor named.

    Examples
    --------
    >>> @require("numpy")
    ... def norm(a):
    ...     return numpy.linalg.norm(a)
    """
    modules = []
    for obj in objects:
        if isinstance(obj, ModuleType):
            obj = obj.__name__
        if isinstance(obj, str):
            modules.append(obj)
        elif hasattr(obj, "__name__"):
            mapping[obj.__name__] = obj
        else:
            raise TypeError(
                "only modules and named functions can be required by "
                f"position, pass {type(obj).__name__} objects by keyword"
            )
    canned = {name: can(obj) for name, obj in mapping.items()}
    return depend(_require, *modules, **canned)


class Dependency(set):  # type: ignore[type-arg]
    """A set of tasks to wait for, and which outcomes count.

    Parameters
    ----------
    dependencies : msg_id, AsyncResult, iterable of these, or the dict of as_dict
    all : bool
        Met when all of the tasks are finished, or when any is.
    success, failure : bool
        Whether successful, and failed, tasks count as finished.

    Raises
    ------
    ValueError
        If neither success nor failure counts: that could never be met.
    TypeError
        For dependencies of another type.
    """

    all: bool = True
    success: bool = True
    failure: bool = False

    def __init__(
        self,
        dependencies: Any = (),
        all: bool = True,
        success: bool = True,
        failure: bool = False,
    ) -> None:
        if isinstance(dependencies, dict):
            d = dependencies
            all = d.get("all", True)
            success = d.get("success", success)
            failure = d.get("failure", failure)
            dependencies = d.get("dependencies", [])
        super().__init__(msg_ids_of(dependencies))
        if not (success or failure):
            raise ValueError(
                "a dependency must count successes, failures or both, "
                "otherwise it can never be met"
            )
        self.all = all
        self.success = success
        self.failure = failure

    def _of(
        self,
        successes: bool,
        failures: bool,
        completed: Iterable[str],
        failed: Iterable[str] | None,
    ) -> set[str]:
        chosen: set[str] = set(completed) if successes else set()
        if failures and failed is not None:
            chosen.update(failed)
        return chosen

    def check(
        self, completed: Iterable[str], failed: Iterable[str] | None = None
    ) -> bool:
        """Whether the dependency is met, given the finished tasks."""
        if not self:
            return True
        done = self._of(self.success, self.failure, completed, failed)
        return self.issubset(done) if self.all else not self.isdisjoint(done)

    def unreachable(
        self, completed: Iterable[str], failed: Iterable[str] | None = None
    ) -> bool:
        """Whether the dependency can no longer be met."""
        if not self:
            return False
        bad = self._of(not self.success, not self.failure, completed, failed)
        return not self.isdisjoint(bad) if self.all else self.issubset(bad)

    def as_dict(self) -> dict[str, Any]:
        """A form for JSON, as the scheduler takes it."""
        return {
            "dependencies": list(self),
            "all": self.all,
            "success": self.success,
            "failure": self.failure,
        }

    def __reduce__(self) -> Any:
        return type(self), (self.as_dict(),)


def msg_ids_of(dependencies: Any) -> list[str]:
    """Message ids of ids, results, or an iterable of them."""
    if isinstance(dependencies, str):
        return [dependencies]
    ids = getattr(dependencies, "msg_ids", None)
    if ids is not None:
        return list(ids)
    found: list[str] = []
    for d in dependencies:
        if isinstance(d, str):
            found.append(d)
        elif getattr(d, "msg_ids", None) is not None:
            found.extend(d.msg_ids)
        else:
            raise TypeError(
                "a dependency is a msg_id or an AsyncResult, "
                f"not {type(d).__name__}: {d!r}"
            )
    return found
