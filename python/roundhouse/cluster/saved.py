"""The part of a Cluster that other processes see: its file and its dict form.

What runs is written down after every change, so that any process can take it
up, add to it or stop it.  Several may do so at once; each keeps what it does not
know (see clusterfile.py for the lock).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from traitlets import import_item

from . import clusterfile
from .launcher.base import LauncherError, NotRunning, UnknownStatus
from .launcher.registry import abbreviate_launcher_class, find_launcher_class
from .process import Process, start_key
from .profile import abbreviate_profile_dir, default_profile_dir

__all__ = ["ClusterRunning", "Saved"]

C = TypeVar("C", bound="Saved")

# Our own class goes by ipyparallel's name, which understands the same files:
# then its ``ipcluster list`` and ``ipcluster stop`` work as well.
_OURS = "roundhouse.cluster.cluster.Cluster"
_THEIRS = "ipyparallel.cluster.cluster.Cluster"

# For clusters that are only looked at.
_silent = logging.Logger("silent", logging.CRITICAL + 1)


class ClusterRunning(RuntimeError):
    """There is a cluster of this profile and id already."""


class Saved:
    """Mixin of Cluster: what is kept on disk."""

    cluster_id: Any
    cluster_file: Any
    profile_dir: Any
    controller: Any
    engines: Any
    controller_launcher_class: Any
    engine_launcher_class: Any
    log: Any
    traits: Callable[..., dict[str, Any]]
    _controller_stopped: Callable[..., None]
    _engines_stopped: Callable[..., None]

    def __init__(self, **kwargs: Any):
        # Guards the step from what runs to what the file says.
        self._file_lock = threading.RLock()
        # Engine sets that are or were ours; the file may hold others.
        self._known_sets: set[str] = set()
        self._knew_controller = False
        # Parts on other machines: "controller" or set id -> (state, why).
        self.elsewhere: dict[str, tuple[dict[str, Any], str]] = {}
        # Who is starting this cluster right now, if it is another process.
        self._starting: dict[str, Any] | None = None
        super().__init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to take this cluster up."""
        info = {name: getattr(self, name) for name in self.traits(to_dict=True)}
        info["class"] = _class_name(type(self))
        d: dict[str, Any] = {"cluster": info}
        if self._starting:
            d["starting"] = self._starting
        if self.controller and self.controller.state != "after":
            d["controller"] = {
                "class": abbreviate_launcher_class(type(self.controller)),
                "state": self.controller.to_dict(),
            }
        sets = {}
        for set_id, launcher in list(self.engines.items()):
            if launcher.state != "after":
                kind = abbreviate_launcher_class(type(launcher))
                sets[set_id] = {**launcher.to_dict(), "class": kind}
        for part, (state, _) in self.elsewhere.items():
            if part == "controller":
                d["controller"] = state
            else:
                sets[part] = state
        d["engines"] = {
            "class": abbreviate_launcher_class(self.engine_launcher_class),
            "sets": sets,
        }
        return d

    @classmethod
    def from_dict(cls: type[C], d: dict[str, Any], **kwargs: Any) -> C:
        """A cluster as another process described it.

        Parts that have ended are not in it.  Parts on another machine, of which
        nobody can tell from here, are in `elsewhere`.
        """
        info = d["cluster"]
        name = info.get("class") or ""
        if name and name not in (_class_name(cls), _OURS, _THEIRS):
            named = import_item(name)
            if named is not cls:
                found: C = named.from_dict(d, **kwargs)
                return found
        kwargs.setdefault("shutdown_atexit", False)
        if info.get("profile_dir"):
            kwargs.setdefault("profile_dir", info["profile_dir"])
        self = cls(**kwargs)
        for trait in self.traits(to_dict=True):
            if trait in info:
                setattr(self, trait, info[trait])
        if _is_alive(d.get("starting")):
            self._starting = d["starting"]
        self._take_up_controller(d.get("controller") or {})
        engines = d.get("engines") or {}
        if engines.get("class"):
            self.engine_launcher_class = engines["class"]
        for set_id, state in engines.get("sets", {}).items():
            self._take_up_set(set_id, state)
        if self.to_dict() != d:
            self.update_cluster_file()
        return self

    def _take_up_controller(self, d: dict[str, Any]) -> None:
        if d.get("class"):
            self.controller_launcher_class = d["class"]
        if not d.get("state"):
            return
        self._knew_controller = True
        try:
            self.controller = self.controller_launcher_class.from_dict(
                d["state"], parent=self
            )
        except NotRunning as e:
            self.log.warning(
                "The controller of %r does not run any more: %s", self.cluster_id, e
            )
        except UnknownStatus as e:
            self.elsewhere["controller"] = (d, str(e))
        else:
            self.controller.on_stop(self._controller_stopped)

    def _take_up_set(self, set_id: str, state: dict[str, Any]) -> None:
        self._known_sets.add(set_id)
        kind = state.get("class")
        cls: Any = self.engine_launcher_class
        if kind:
            cls = find_launcher_class(kind, "engine")
        try:
            launcher = cls.from_dict(state, engine_set_id=set_id, parent=self)
        except NotRunning as e:
            self.log.warning("Engine set %s does not run any more: %s", set_id, e)
        except UnknownStatus as e:
            self.elsewhere[set_id] = (state, str(e))
        else:
            self.engines[set_id] = launcher
            launcher.on_stop(partial(self._engines_stopped, set_id))

    @classmethod
    def from_file(
        cls: type[C],
        cluster_file: str | None = None,
        *,
        profile: str | None = None,
        profile_dir: str | None = None,
        cluster_id: str = "",
        **kwargs: Any,
    ) -> C:
        """The cluster that a cluster file describes.

        Without a path: that of the profile with the given id.  With no argument
        at all it is the one that ``ipcluster start`` started.

        Raises FileNotFoundError if there is none, ValueError if the file is
        damaged.
        """
        if cluster_file is None:
            folder = os.path.abspath(profile_dir or default_profile_dir(profile or ""))
            cluster_file = os.path.join(
                folder, "security", f"cluster-{cluster_id}.json"
            )
        kwargs.setdefault("cluster_file", cluster_file)
        return cls.from_dict(clusterfile.read(cluster_file), **kwargs)

    def write_cluster_file(self) -> None:
        """Write the cluster file as it is now."""
        clusterfile.write(self.cluster_file, self.to_dict())

    def remove_cluster_file(self) -> None:
        """Remove the cluster file, if there is one."""
        if clusterfile.remove(self.cluster_file):
            self.log.debug("Removed cluster file %s", self.cluster_file)

    def update_cluster_file(self) -> None:
        """Make the cluster file say what runs; remove it if nothing does.

        Parts that other processes added to the file stay in it.
        """
        if not self.cluster_file or not (self._knew_controller or self._known_sets):
            return  # nothing in the file is ours
        with self._file_lock:
            running = self._is_running()
            if not running and not os.path.exists(self.cluster_file):
                return
            with clusterfile.locked(self.cluster_file):
                d = self.to_dict()
                running |= self._keep_others(d)
                if running:
                    clusterfile.write(self.cluster_file, d)
                else:
                    self.remove_cluster_file()

    def _keep_others(self, d: dict[str, Any]) -> bool:
        """Add to d what the file holds and we never knew."""
        try:
            old = clusterfile.read(self.cluster_file)
        except (OSError, ValueError):
            return False
        kept = False
        if not self._knew_controller and old.get("controller"):
            d["controller"] = old["controller"]
            kept = True
        for set_id, state in (old.get("engines") or {}).get("sets", {}).items():
            if set_id not in self._known_sets:
                d["engines"]["sets"][set_id] = state
                kept = True
        return kept

    def _adopt_others(self) -> None:
        """Take up the engine sets that other processes added to our file."""
        if not self.cluster_file or not self._knew_controller:
            return  # the file, if there is one, is another cluster's
        try:
            old = clusterfile.read(self.cluster_file)
        except (OSError, ValueError):
            return
        for set_id, state in (old.get("engines") or {}).get("sets", {}).items():
            if set_id not in self._known_sets:
                try:
                    self._take_up_set(set_id, state)
                except (LauncherError, KeyError, ImportError) as e:
                    self.log.warning(
                        "Engine set %s cannot be stopped from here: %s", set_id, e
                    )

    def _is_running(self) -> bool:
        """Whether any part runs, or may run on another machine."""
        if self._starting or self.elsewhere:
            return True
        parts = [self.controller, *list(self.engines.values())]
        return any(p is not None and p.state != "after" for p in parts)

    def _claim_file(self) -> None:
        """Make the cluster file ours, in one step with looking at it.

        Raises ClusterRunning if it describes something that runs and that is
        not ours.
        """
        if not self.cluster_file:
            return
        with self._file_lock, clusterfile.locked(self.cluster_file):
            try:
                old = clusterfile.read(self.cluster_file)
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as e:
                self.log.warning("Replacing a cluster file that cannot be read: %s", e)
            else:
                self._refuse_running(old)
            d = self.to_dict()
            pid = os.getpid()
            d["starting"] = {
                "pid": pid,
                "key": start_key(pid),
                "host": socket.gethostname(),
            }
            clusterfile.write(self.cluster_file, d)

    def _refuse_running(self, old: dict[str, Any]) -> None:
        sets = (old.get("engines") or {}).get("sets", {})
        for set_id in [i for i in sets if i in self.engines]:
            del sets[set_id]  # ours, left when the controller was stopped
        # Without a file of its own: it must not change ours.
        other = type(self).from_dict(
            old, cluster_file="", log=_silent, load_profile=False
        )
        if not other._is_running():
            return
        what = "is running"
        if other.elsewhere:
            what = next(iter(other.elsewhere.values()))[1]
        elif other._starting:
            what = f"is being started by process {other._starting['pid']}"
        elif other.controller is None:
            what = "has lost its controller, but its engines run"
        raise ClusterRunning(
            f"cluster {self.cluster_id!r} of profile "
            f"{abbreviate_profile_dir(self.profile_dir)} {what}; `ipcluster stop` "
            f"stops it (cluster file {self.cluster_file})"
        )

    def _try_update(self) -> None:
        """For callbacks: a full disk must not hide that something ended."""
        try:
            self.update_cluster_file()
        except OSError as e:
            self.log.error("Cannot write %s: %s", self.cluster_file, e)


def _class_name(cls: type) -> str:
    """The name of a Cluster class in files."""
    name = f"{cls.__module__}.{cls.__name__}"
    return _THEIRS if name == _OURS else name


def _is_alive(starter: dict[str, Any] | None) -> bool:
    """Whether the process that is starting a cluster still runs."""
    if not starter:
        return False
    if starter.get("host") != socket.gethostname():
        return True  # who knows
    if starter.get("pid") == os.getpid():
        return False  # not another process
    return Process.is_running(starter["pid"], starter.get("key", ""))
