"""Launchers: how controllers and engines are started, watched and stopped.

Every launcher class is an attribute of this module, loaded when it is asked
for, so that a local cluster does not pay for batch systems.
"""

from __future__ import annotations

import importlib
import sys
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

from .base import (
    BaseLauncher,
    ControllerLauncher,
    EngineLauncher,
    LauncherError,
    NotRunning,
    ProcessStateError,
    UnknownStatus,
    find_program,
)
from .registry import abbreviate_launcher_class, find_launcher_class, launcher_names

# module -> the classes it offers here
_FAMILIES = {
    "local": (
        "LocalControllerLauncher",
        "LocalEngineLauncher",
        "LocalEngineSetLauncher",
        "LocalProcessLauncher",
    ),
    "mpi": ("MPIControllerLauncher", "MPIEngineSetLauncher", "MPILauncher"),
    "batch": (
        "BatchControllerLauncher",
        "BatchEngineSetLauncher",
        "BatchSystemLauncher",
    ),
    "queues": tuple(
        f"{family}{kind}Launcher"
        for family in ("PBS", "SGE", "Slurm", "LSF", "HTCondor")
        for kind in ("", "Controller", "EngineSet")
    ),
}
_HOME = {name: module for module, names in _FAMILIES.items() for name in names}

__all__ = [
    "SIGINT",
    "SIGKILL",
    "SIGTERM",
    "BaseLauncher",
    "ControllerLauncher",
    "EngineLauncher",
    "LauncherError",
    "NotRunning",
    "ProcessStateError",
    "UnknownStatus",
    "abbreviate_launcher_class",
    "all_launchers",
    "find_launcher_class",
    "ipcontroller_cmd_argv",
    "ipengine_cmd_argv",
    "launcher_names",
    *_HOME,
]


# What launchers start unless controller_cmd or engine_cmd says otherwise.
ipcontroller_cmd_argv = find_program("ipcontroller")
ipengine_cmd_argv = [sys.executable, "-m", "roundhouse.engine"]


def all_launchers() -> list[type]:
    """Every launcher class of this package."""
    return [BaseLauncher, ControllerLauncher, EngineLauncher] + [
        __getattr__(name) for name in _HOME
    ]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
