"""Configuration of clusters: the files of a profile, and names of old.

``ipcluster_config.py`` (and ``.json``) set traits of Cluster and of launchers.
Names that earlier versions used are moved to where they belong now, each with
one warning.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

__all__ = ["config_folders", "forward_old_names", "load_files", "load_profile_config"]

# Settings of IPClusterStart and IPClusterEngines that belong to Cluster.
_TO_CLUSTER = {
    "n": "n",
    "delay": "delay",
    "controller_ip": "controller_ip",
    "controller_location": "controller_location",
    "controller_launcher_class": "controller_launcher_class",
    "controller_launcher": "controller_launcher_class",
    "engine_launcher_class": "engine_launcher_class",
    "engine_launcher": "engine_launcher_class",
    "engine_set_launcher_class": "engine_launcher_class",
    "engine_set_launcher": "engine_launcher_class",
}
_OLD_APPS = ("IPClusterStart", "IPClusterEngines", "IPClusterApp")
# Classes of the controller; ipcluster hands their settings on to it.
CONTROLLER_CLASSES = (
    "HubFactory",
    "IPController",
    "IPControllerApp",
    "TaskScheduler",
    "HeartMonitor",
    "DictDB",
    "SQLiteDB",
    "MongoDB",
)
_TO_CONTROLLER = {
    ("HubFactory", "ip"): "controller_ip",
    ("HubFactory", "location"): "controller_location",
    ("IPController", "ip"): "controller_ip",
    ("IPController", "location"): "controller_location",
    ("IPControllerApp", "location"): "controller_location",
}


def config_folders(profile_dir: str) -> list[str]:
    """Where configuration files are read, later ones win."""
    shared = ["/etc/ipython", "/usr/local/etc/ipython"] if os.name == "posix" else []
    own = os.path.join(sys.prefix, "etc", "ipython")
    return [*shared, *([own] if own not in shared else []), profile_dir]


def load_files(folders: list[str], stem: str, extra: str = "") -> Config:
    """Merge ``stem.json`` and ``stem.py`` of the folders, then the file `extra`.

    Raises whatever a configuration file raises: a cluster that ignores half of
    its settings is worse than none.
    """
    merged = Config()
    paths = [os.path.join(f, stem + end) for f in folders for end in (".json", ".py")]
    paths = [p for p in paths if os.path.isfile(p)]
    if extra:
        if not os.path.isfile(extra):
            raise FileNotFoundError(f"there is no configuration file {extra}")
        paths.append(os.path.abspath(extra))
    for path in paths:
        folder, name = os.path.split(path)
        loader = JSONFileConfigLoader if name.endswith(".json") else PyFileConfigLoader
        merged.merge(loader(name, path=folder).load_config())
    return merged


def load_profile_config(
    profile_dir: str, warn: Callable[[str], Any] | None = None
) -> Config:
    """The ipcluster configuration of a profile, old names forwarded."""
    config = load_files(config_folders(profile_dir), "ipcluster_config")
    for sentence in forward_old_names(config):
        if warn is not None:
            warn(sentence)
    return config


def forward_old_names(config: Config) -> list[str]:
    """Move settings with old names in place; one sentence for each.

    A setting with a present name wins over one with an old name.
    """
    said = []
    for app in _OLD_APPS:
        for old, new in _TO_CLUSTER.items():
            if app in config and old in config[app]:
                value = config[app].pop(old)
                said.append(f"{app}.{old} is an old name; use Cluster.{new}")
                config.Cluster.setdefault(new, value)
    for end in ("Launcher", "ControllerLauncher", "EngineSetLauncher"):
        if f"MPIExec{end}" in config:
            section = config.pop(f"MPIExec{end}")
            said.append(f"MPIExec{end} is an old name; use MPI{end}")
            for trait, value in section.items():
                config[f"MPI{end}"].setdefault(trait, value)
    return said + _forward_controller(config)


def _forward_controller(config: Config) -> list[str]:
    """Settings of the controller's classes become its arguments."""
    said = []
    for cls in CONTROLLER_CLASSES:
        if cls not in config:
            continue
        section = config.pop(cls)
        for trait, value in section.items():
            new = _TO_CONTROLLER.get((cls, trait))
            if new is not None:
                said.append(f"{cls}.{trait} is an old name; use Cluster.{new}")
                config.Cluster.setdefault(new, value)
                continue
            said.append(
                f"{cls}.{trait} belongs in ipcontroller_config.py; "
                "handing it on to the controller"
            )
            args = list(config.Cluster.get("controller_args", []))
            config.Cluster.controller_args = args + [f"--{cls}.{trait}={value}"]
    return said
