"""Launchers by name.

A launcher is chosen by a short name ("local"), a class name, its beginning, or
a full dotted name; upper and lower case are the same.  Short names come from
the table below and from the entry points that other packages declare.
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any

from traitlets import TraitType

__all__ = [
    "BUILTIN",
    "LauncherClass",
    "abbreviate_launcher_class",
    "find_launcher_class",
    "launcher_names",
]

_HERE = "roundhouse.cluster.launcher"

# kind -> short name -> "module:class".  pyproject.toml has the same rows as
# entry points, for programs that look there.
BUILTIN = {
    "controller": {
        "local": f"{_HERE}.local:LocalControllerLauncher",
        "mpi": f"{_HERE}.mpi:MPIControllerLauncher",
        "pbs": f"{_HERE}.queues:PBSControllerLauncher",
        "sge": f"{_HERE}.queues:SGEControllerLauncher",
        "slurm": f"{_HERE}.queues:SlurmControllerLauncher",
        "lsf": f"{_HERE}.queues:LSFControllerLauncher",
        "htcondor": f"{_HERE}.queues:HTCondorControllerLauncher",
    },
    "engine": {
        "local": f"{_HERE}.local:LocalEngineSetLauncher",
        "mpi": f"{_HERE}.mpi:MPIEngineSetLauncher",
        "pbs": f"{_HERE}.queues:PBSEngineSetLauncher",
        "sge": f"{_HERE}.queues:SGEEngineSetLauncher",
        "slurm": f"{_HERE}.queues:SlurmEngineSetLauncher",
        "lsf": f"{_HERE}.queues:LSFEngineSetLauncher",
        "htcondor": f"{_HERE}.queues:HTCondorEngineSetLauncher",
    },
}

# Where configuration files of ipyparallel say that launchers are.
_OLD_MODULES = re.compile(
    r"(?:ipyparallel\.cluster|ipyparallel\.apps|IPython\.parallel\.apps)\.launcher[.:](\w+)$"
)
_ENDINGS = {"controller": "ControllerLauncher", "engine": "EngineSetLauncher"}
_KINDS = {"controller": "controller", "engine": "engine", "engineset": "engine"}


@functools.cache
def _entry_points(kind: str) -> dict[str, Any]:
    """The entry points of other packages, by lower-case name."""
    from importlib.metadata import entry_points

    out = {}
    for group in (f"ipyparallel.{kind}_launchers", f"roundhouse.{kind}_launchers"):
        try:
            points = entry_points(group=group)
        except TypeError:  # Python 3.9
            points = entry_points().get(group, [])  # type: ignore[arg-type]
        for point in points:
            # ipyparallel's own launchers start ipyparallel's own programs.
            if not point.value.startswith("ipyparallel."):
                out[point.name.lower()] = point
    return out


def _normal_kind(kind: str) -> str:
    try:
        return _KINDS[kind.lower()]
    except KeyError:
        raise ValueError(f"kind is 'engine' or 'controller', not {kind!r}") from None


def launcher_names(kind: str) -> list[str]:
    """The short names there are, sorted."""
    kind = _normal_kind(kind)
    return sorted({*BUILTIN[kind], *_entry_points(kind)})


def _load(reference: str) -> Any:
    module, _, name = reference.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), name)


def _short(name: str, kind: str) -> str:
    """What may be a short name in a class name: "MPIEngineSetLauncher" is mpi."""
    low = name.lower()
    for ending in (_ENDINGS[kind].lower(), "engineset", "controller", "launcher"):
        if low.endswith(ending) and low != ending:
            low = low[: -len(ending)]
    return {"mpiexec": "mpi"}.get(low, low)


def find_launcher_class(name: str, kind: str) -> Any:
    """The launcher class that `name` stands for.

    kind is "engine" or "controller".  Raises KeyError with a text that lists
    the names there are, or ImportError if it is there but cannot be loaded.
    """
    kind = _normal_kind(kind)
    old = _OLD_MODULES.match(name)
    if old:
        name = old.group(1)
    if "." in name or ":" in name:
        try:
            return _load(name)
        except AttributeError as e:
            raise ImportError(f"no launcher {name!r}: {e}") from None
    for short in (name.lower(), _short(name, kind)):
        if short in BUILTIN[kind]:
            return _load(BUILTIN[kind][short])
        if short in _entry_points(kind):
            return _entry_points(kind)[short].load()
    known = ", ".join(launcher_names(kind))
    raise KeyError(
        f"no {kind} launcher is called {name!r}; there are {known}, or give "
        "package.module.Class"
    )


def abbreviate_launcher_class(cls: type) -> str:
    """The short name of a launcher class, else "module:class"."""
    own = getattr(cls, "entrypoint_name", None)
    if own:
        return str(own)
    key = f"{cls.__module__}:{cls.__name__}"
    for kind, table in BUILTIN.items():
        for short, reference in table.items():
            if reference == key:
                return short
        for short, point in _entry_points(kind).items():
            if point.value == key:
                return short
    return key


class LauncherClass(TraitType):  # type: ignore[type-arg]
    """A trait that holds a launcher class and takes any of its names."""

    info_text = "a launcher class or its name"

    def __init__(self, kind: str, **kwargs: Any):
        self.kind = kind
        super().__init__(BUILTIN[kind]["local"], **kwargs)

    def make_dynamic_default(self) -> Any:
        return _load(BUILTIN[self.kind]["local"])

    def default(self, obj: Any = None) -> Any:
        return self.make_dynamic_default()

    def from_string(self, s: str) -> str:
        return s

    def validate(self, obj: Any, value: Any) -> type:
        if isinstance(value, str):
            try:
                value = find_launcher_class(value, self.kind)
            except (KeyError, ImportError) as e:
                from traitlets import TraitError

                raise TraitError(e.args[0]) from None
        if not (
            isinstance(value, type)
            and hasattr(value, "start")
            and hasattr(value, "stop")
        ):
            self.error(obj, value)
        return value
