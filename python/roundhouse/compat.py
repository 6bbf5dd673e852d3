"""Standing in for the upstream package."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from typing import Any

from .serialize.wire import HOME, UPSTREAM, home_module

__all__ = ["bind_kernel", "install_as_ipyparallel", "register_joblib_backend"]

# Packages of upstream that only hold modules of ours that stand elsewhere.
_SHELLS = frozenset([f"{HOME}.controller", f"{HOME}.apps"])


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``ipyparallel`` and all below it in this package.

    The import system gets the very module that is imported by its own name, so
    there is one Client class, not two.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> Any:
        if fullname != UPSTREAM and not fullname.startswith(UPSTREAM + "."):
            return None
        parent = sys.modules.get(fullname.rpartition(".")[0])
        if parent is not None and not parent.__name__.startswith(HOME):
            return None  # somebody else's package below ours: not our concern
        home = home_module(fullname)
        if home not in _SHELLS and home not in sys.modules:
            try:
                found = importlib.util.find_spec(home)
            except ModuleNotFoundError:
                found = None
            if found is None:
                theirs = _installed(fullname)
                if theirs is not None:
                    return theirs
                raise ModuleNotFoundError(
                    f"No module named {fullname!r} ({HOME} stands in for "
                    f"{UPSTREAM} and has no {home!r})",
                    name=fullname,
                )
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        home = home_module(name)
        if name == UPSTREAM:
            # From here on ours: the path finder would find the files below a
            # second time, under upstream's names.
            _go_first()
        try:
            sys.modules[name] = importlib.import_module(home)
        except ModuleNotFoundError as e:
            if home not in _SHELLS or e.name != home:
                raise
            module.__path__ = []


def _installed(fullname: str) -> Any:
    """The spec of a module only upstream's installed package has, or None.

    Its package is not imported for it: the module finds ours as its parent.
    """
    package = importlib.machinery.PathFinder.find_spec(UPSTREAM)
    where = package and package.submodule_search_locations
    if not where or fullname.count(".") != 1:
        return None  # deeper ones are found through the path of their parent
    return importlib.machinery.PathFinder.find_spec(fullname, list(where))


_finder = _Finder()


def install_as_ipyparallel() -> None:
    """Make ``import ipyparallel`` in this process find this package.

    Holds for everything imported from now on, whether the real package is
    installed or not; if it was imported already, it is forgotten, and modules
    that hold it go on using it.  May be called several times.
    """
    if sys.meta_path[0] is not _finder:
        for name in [*sys.modules]:
            if name == UPSTREAM or name.startswith(UPSTREAM + "."):
                del sys.modules[name]
        _go_first()
        sys.modules[UPSTREAM] = sys.modules[HOME]


def _go_first() -> None:
    sys.meta_path[:] = [_finder, *(f for f in sys.meta_path if f is not _finder)]


def bind_kernel(**kwargs: Any) -> None:
    """Inside an engine: open it to Jupyter frontends as a kernel.

    Raises RuntimeError outside an engine.
    """
    engine = sys.modules.get(f"{HOME}.engine")
    if engine is None:
        raise RuntimeError("bind_kernel works only inside an engine")
    bind = getattr(engine, "bind_kernel", None)
    if bind is None:
        raise RuntimeError("this engine cannot be opened as a Jupyter kernel")
    bind(**kwargs)


def register_joblib_backend(
    name: str = "ipyparallel", make_default: bool = False
) -> None:
    """Let joblib's Parallel run on a cluster; see roundhouse.joblib."""
    from .joblib import register

    register(name=name, make_default=make_default)
