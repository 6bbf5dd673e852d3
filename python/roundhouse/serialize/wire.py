"""Pickles whose class names are those of the protocol.

What travels is named after the upstream package (docs/protocol: section 6.3):
`ipyparallel.serialize.canning.CannedFunction` and so on.  Our classes live
elsewhere and the upstream package need not be installed, so neither direction
may go through the import system:

- dumps: the pickler starts with a memo that already holds our classes.  It
  then writes memo references for them, and a prefix of GLOBAL opcodes with the
  protocol's names fills the same memo slots in the reader.
- loads: an Unpickler whose find_class sends the protocol's names to our
  classes.  Data without such a name goes to plain pickle.loads.

Nothing is put in sys.modules, and the upstream package may be imported in the
same process before or after.
"""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterable
from io import BytesIO
from typing import Any, Callable

PROTOCOL = pickle.DEFAULT_PROTOCOL

UPSTREAM = "ipyparallel"
HOME = __name__.partition(".")[0]

# Modules that do not keep their relative place.
_MOVED = {
    f"{UPSTREAM}.controller.dependency": f"{HOME}.client.dependency",
    f"{UPSTREAM}.client.futures": f"{HOME}.client.asyncresult",
    f"{UPSTREAM}.client._joblib": f"{HOME}.joblib",
}
_MOVED_BACK = {
    f"{HOME}.client.dependency": f"{UPSTREAM}.controller.dependency",
}

# Objects other peers know by name: home module, names.  Everything else of
# ours goes out under its own name and needs this package on the other side.
_SHARED = (
    (
        f"{HOME}.serialize.canning",
        (
            "CannedObject",
            "Reference",
            "CannedCell",
            "CannedFunction",
            "CannedPartial",
            "CannedClass",
            "CannedArray",
            "CannedBytes",
            "CannedMemoryView",
        ),
    ),
    (f"{HOME}.serialize.codeutil", ("code_ctor",)),
    (f"{HOME}.util", ("_push", "_pull", "_execute")),
    (f"{HOME}.client.remotefunction", ("_map",)),
    (f"{HOME}.client.dependency", ("dependent", "depend", "Dependency")),
    (
        f"{HOME}.error",
        (
            "IPythonError",
            "KernelError",
            "EngineError",
            "NoEnginesRegistered",
            "TaskAborted",
            "TaskTimeout",
            "UnmetDependency",
            "ImpossibleDependency",
            "DependencyTimeout",
            "InvalidDependency",
            "RemoteError",
            "TaskRejectError",
            "CompositeError",
        ),
    ),
)

_OURS = HOME.encode() + b"."
_THEIRS = UPSTREAM.encode()
_find_theirs = re.compile(re.escape(_THEIRS)).search

# A pickle shorter than this cannot hold a protocol name.
_SHORT = len(UPSTREAM) + 5
# Above this a search is done in place instead of on a copy.
_LARGE = 1 << 20


def home_module(module: str) -> str:
    """Our module for an upstream module name; other names are returned as is."""
    if module == UPSTREAM or module.startswith(UPSTREAM + "."):
        moved = _MOVED.get(module)
        return moved or HOME + module[len(UPSTREAM) :]
    return module


def wire_module(module: str) -> str:
    """The protocol's name for one of our modules; others are returned as is."""
    if module == HOME or module.startswith(HOME + "."):
        moved = _MOVED_BACK.get(module)
        return moved or UPSTREAM + module[len(HOME) :]
    return module


class Names:
    """A pickler memo filled with objects, and the opcodes that refill it.

    Parameters
    ----------
    objects : iterable of (object, wire module, wire name)
    """

    __slots__ = ("_filled", "memo", "prefix")

    def __init__(self, objects: Iterable[tuple[Any, str, str]]) -> None:
        self.memo: dict[int, tuple[int, Any]] = {}
        prefix = []
        for i, (obj, module, name) in enumerate(objects):
            self.memo[id(obj)] = (i, obj)
            # GLOBAL module name, MEMOIZE, POP
            prefix.append(f"c{module}\n{name}\n".encode("ascii") + b"\x940")
        self.prefix = b"".join(prefix)
        # Copying the memo of a C pickler is much cheaper than filling one.
        self._filled = pickle.Pickler(BytesIO())
        self._filled.memo = self.memo

    def dumps(self, obj: Any, make: Any = None) -> bytes:
        """Pickle obj with the names of this table.

        make is a pickler class; by default the one in use.
        """
        out = BytesIO()
        p = (make or backend.make)(out, PROTOCOL)
        if isinstance(p, pickle.Pickler):
            p.memo = self._filled.memo
        else:
            p.memo = dict(self.memo)
        p.dump(obj)
        data = out.getvalue()
        # After PROTO (two bytes), before the first frame.
        return data[:2] + self.prefix + data[2:]


def _shared_loaded() -> list[tuple[Any, str, str]]:
    """Every shared object whose module is loaded: only those can be in data."""
    found = []
    for module, names in _SHARED:
        mod = sys.modules.get(module)
        if mod is None:
            continue
        for name in names:
            obj = getattr(mod, name, None)
            if obj is not None:
                found.append((obj, wire_module(module), name))
    return found


_all_names: tuple[int, Names | None] = (0, None)


def all_names() -> Names:
    """The table of everything shared; rebuilt when more modules are loaded."""
    global _all_names
    loaded = sum(module in sys.modules for module, _ in _SHARED)
    count, names = _all_names
    if names is None or count != loaded:
        names = Names(_shared_loaded())
        _all_names = (loaded, names)
    return names


class _Unpickler(pickle.Unpickler):
    """Resolves the protocol's names to our classes."""

    def find_class(self, module: str, name: str) -> Any:
        obj = find_shared(module, name)
        if obj is not None:
            return obj
        if module == "__builtin__" and name == "__main__":
            # dill's name for the dict of the main module
            return sys.modules["__main__"].__dict__
        return super().find_class(module, name)


_resolved: dict[tuple[str, str], Any] = {}


def find_shared(module: str, name: str) -> Any:
    """Our object for a protocol name, or None if it is not one of ours."""
    key = (module, name)
    obj = _resolved.get(key)
    if obj is None and module.startswith(UPSTREAM):
        home = home_module(module)
        if home == module:
            return None
        try:
            __import__(home)
        except ImportError:
            return None
        obj = sys.modules[home]
        for part in name.split("."):
            obj = getattr(obj, part, None)
        if obj is not None:
            _resolved[key] = obj
    return obj


class Backend:
    """The pickle implementation in use: pickle, dill or cloudpickle."""

    __slots__ = ("dumps", "functions", "make", "name")

    def __init__(self) -> None:
        self.use(pickle)

    def use(self, module: Any, functions: bool = False) -> None:
        """Switch to a module that has pickle's interface.

        functions: it sends functions itself, so they are not canned.
        """
        self.name: str = module.__name__
        self.functions = functions
        self.dumps: Callable[..., bytes] = module.dumps
        self.make = module.Pickler


backend = Backend()


def dumps(obj: Any) -> bytes:
    """Pickle obj; our own classes in it get the protocol's names."""
    data = backend.dumps(obj, PROTOCOL)
    if _OURS in data:
        return all_names().dumps(obj)
    return data


def loads(data: Any) -> Any:
    """Unpickle bytes or any buffer; the protocol's names give our classes."""
    n = len(data)
    if n < _SHORT:
        return pickle.loads(data)
    if type(data) is not bytes:
        if n > _LARGE and _find_theirs(data) is None:
            return pickle.loads(data)
        data = bytes(data)
    if _THEIRS in data or backend.name == "dill":
        return _Unpickler(BytesIO(data)).load()
    return pickle.loads(data)
