"""A cluster: one controller and any number of engine sets.

`Cluster` starts, stops, signals and finds again; the work is done by launchers.
Every coroutine method has a blocking twin (``start_cluster_sync``...).  What
runs is kept in a cluster file, so that any process can stop it later.

A Cluster belongs to no event loop.  Launchers report ends from a thread of
their own; what they touch here is guarded by `_file_lock`.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import random
import socket
import string
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import (
    Bool,
    Dict,
    Float,
    Integer,
    List,
    Unicode,
    default,
    import_item,
    validate,
)
from traitlets.config import Config, LoggingConfigurable

from . import clusterfile
from .aio import Syncable, maybe_await
from .config import load_profile_config
from .launcher.base import LauncherError, NotRunning, UnknownStatus, describe_exit
from .launcher.registry import (
    LauncherClass,
    abbreviate_launcher_class,
    find_launcher_class,
)
from .process import Process, start_key
from .profile import (
    abbreviate_profile_dir,
    create_profile_dir,
    default_profile_dir,
    ipython_dir,
    ipython_session,
)

__all__ = ["Cluster", "ClusterRunning"]


class ClusterRunning(RuntimeError):
    """There is a cluster of this profile and id already."""


# For clusters that are only looked at.
_silent = logging.Logger("silent", logging.CRITICAL + 1)

# Clusters that this process has to stop when it ends.
_owned: weakref.WeakSet[Cluster] = weakref.WeakSet()


def _stop_owned() -> None:
    for cluster in list(_owned):
        if cluster._owner != os.getpid() or not cluster.shutdown_atexit:
            continue  # a forked child does not own what its parent started
        if cluster._is_running():
            try:
                cluster.stop_cluster_sync()
            except Exception as e:
                sys.stderr.write(f"{cluster} could not be stopped: {e}\n")


atexit.register(_stop_owned)


def _cpu_count() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class Cluster(Syncable, LoggingConfigurable):
    """One controller and its engines.

    Parameters
    ----------
    engines, controller : str or class, optional
        Launchers, the same as `engine_launcher_class` and
        `controller_launcher_class`: "local", a class, a dotted name...
    **traits
        Any trait of the class.

    Examples
    --------
    >>> with Cluster(n=4) as rc:                             # doctest: +SKIP
    ...     rc[:].apply_sync(os.getpid)
    """

    shutdown_atexit = Bool(
        True, help="Stop the cluster when this process ends; False leaves it running."
    )
    cluster_id = Unicode(help="Tells clusters of one profile apart.").tag(to_dict=True)
    profile_dir = Unicode(help="Folder of the profile.").tag(to_dict=True)
    profile = Unicode("", help="Name of the profile, short for its folder.")
    cluster_file = Unicode(
        help="Where this cluster is kept on disk; '' keeps it nowhere."
    )

    engine_timeout = Integer(
        60, help="Seconds in which engines have to register.", config=True
    )
    send_engines_connection_env = Bool(
        True,
        help="Wait for the controller and give engines its address in the "
        "environment.  False starts them at once; they wait for the connection "
        "file then, which has to reach their machine.",
        config=True,
    )
    controller_launcher_class = LauncherClass(
        "controller", help="How the controller is launched.", config=True
    ).tag(alias="controller")
    engine_launcher_class = LauncherClass(
        "engine", help="How engines are launched.", config=True
    ).tag(alias="engines")
    controller_args = List(
        Unicode(), help="Arguments to add to the controller's command.", config=True
    ).tag(to_dict=True)
    controller_ip = Unicode(
        help="Address on which the controller listens; '*' is every one.", config=True
    ).tag(to_dict=True)
    controller_location = Unicode(
        help="Host name or address under which engines and clients find the "
        "controller if it listens on all.",
        config=True,
    ).tag(to_dict=True)
    delay = Float(
        0.0,
        help="Seconds between the starts of the controller and the engines.",
        config=True,
    ).tag(to_dict=True)
    n = Integer(
        None,
        allow_none=True,
        help="Number of engines; unset is one per processor.",
        config=True,
    ).tag(to_dict=True)
    load_profile = Bool(
        True,
        help="Read ipcluster_config.py of the profile, if there is one.",
        config=True,
    )
    log_level = Integer(logging.INFO)

    controller = AnyTrait(help="The controller's launcher, or None.")
    engines = Dict(help="Launchers of the engine sets, by id.")
    profile_config = AnyTrait(help="The configuration read from the profile.")

    def __init__(
        self,
        *,
        engines: str | type | None = None,
        controller: str | type | None = None,
        **kwargs: Any,
    ):
        for short, value in (("engine", engines), ("controller", controller)):
            trait = f"{short}_launcher_class"
            if value is None:
                continue
            if trait in kwargs:
                given = "engines" if short == "engine" else short
                raise TypeError(f"give {given} or {trait}, not both")
            kwargs[trait] = value
        if "parent" not in kwargs and "config" not in kwargs:
            kwargs["parent"] = ipython_session()
        self._owner = os.getpid()
        self._file_lock = threading.RLock()
        # Engine sets that are or were ours; the file may hold others.
        self._known_sets: set[str] = set()
        self._knew_controller = False
        # Parts on other machines: "controller" or set id -> (state, why).
        self.elsewhere: dict[str, tuple[dict[str, Any], str]] = {}
        # Who is starting this cluster right now, if it is another process.
        self._starting: dict[str, Any] | None = None
        self._set_watchers: list[Callable[[Any], Any]] = []
        self._context_client: Any = None
        warnings: list[str] = []
        config = self._merged_config(kwargs, warnings)
        super().__init__(config=config, **kwargs)
        for sentence in warnings:
            self.log.warning(sentence)

    def _merged_config(self, kwargs: dict[str, Any], warnings: list[str]) -> Config:
        """The configuration given, over that of the profile."""
        given = kwargs.pop("config", None)
        parent = kwargs.get("parent")
        if given is None:
            given = parent.config if parent is not None else Config()
        load = kwargs.get(
            "load_profile", given.get("Cluster", {}).get("load_profile", True)
        )
        folder = kwargs.get("profile_dir") or default_profile_dir(
            kwargs.get("profile", "")
        )
        profile_config = Config()
        if load and os.path.isdir(folder):
            profile_config = load_profile_config(folder, warnings.append)
        kwargs.setdefault("profile_config", profile_config)
        merged = Config()
        merged.merge(profile_config)
        merged.merge(given)
        return merged

    @default("cluster_id")
    def _default_cluster_id(self) -> str:
        letters = string.ascii_lowercase + string.digits
        return f"{int(time.time())}-{''.join(random.choices(letters, k=4))}"

    @default("profile_dir")
    def _default_profile_dir(self) -> str:
        return default_profile_dir(self.profile)

    @validate("profile_dir")
    def _absolute_profile_dir(self, proposal: Any) -> str:
        return os.path.abspath(proposal.value) if proposal.value else ""

    @default("cluster_file")
    def _default_cluster_file(self) -> str:
        return os.path.join(
            self.profile_dir, "security", f"cluster-{self.cluster_id}.json"
        )

    @default("log")
    def _default_log(self) -> Any:
        session = ipython_session()
        if self.parent is not None and self.parent is not session:
            return self.parent.log
        log = logging.getLogger(f"{__name__}.{self.cluster_id}")
        log.setLevel(self.log_level)
        if session is not None and not log.handlers:
            # In a notebook the person wants to see what happens.
            log.addHandler(logging.StreamHandler(sys.stdout))
            log.propagate = False
        return log

    @property
    def engine_set(self) -> Any:
        """The first engine set's launcher, or None; most clusters have one."""
        return next(iter(self.engines.values()), None)

    def __repr__(self) -> str:
        top, name = os.path.split(self.profile_dir)
        short = abbreviate_profile_dir(self.profile_dir)
        key = "profile" if top == ipython_dir() and name != short else "profile_dir"
        fields = [f"cluster_id={self.cluster_id!r}", f"{key}={short!r}"]
        if self.controller:
            fields.append(f"controller=<{self.controller.state}>")
        if self.engines:
            fields.append(f"engine_sets={list(self.engines)}")
        return f"<{type(self).__name__}({', '.join(fields)})>"

    # -- the cluster file ------------------------------------------------------

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
    def from_dict(cls, d: dict[str, Any], **kwargs: Any) -> Cluster:
        """A cluster as another process described it.

        Parts that have ended are not in it.  Parts on another machine, of which
        nobody can tell from here, are in `elsewhere`.
        """
        info = d["cluster"]
        name = info.get("class") or ""
        if name and name not in (_class_name(cls), _class_name(Cluster)):
            named = import_item(name)
            if named is not cls:
                return named.from_dict(d, **kwargs)
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
        cls,
        cluster_file: str | None = None,
        *,
        profile: str | None = None,
        profile_dir: str | None = None,
        cluster_id: str = "",
        **kwargs: Any,
    ) -> Cluster:
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
        other = Cluster.from_dict(old, cluster_file="", log=_silent, load_profile=False)
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

    # -- the controller --------------------------------------------------------

    async def start_controller(self, **kwargs: Any) -> None:
        """Start the controller; `kwargs` are traits of its launcher.

        Raises RuntimeError if it runs already (ClusterRunning if another process
        started it), LauncherError if it cannot be started.  That it was started does not mean that it is ready.
        """
        if self.controller is not None and self.controller.state != "after":
            raise RuntimeError(
                "the controller runs already; stop_controller() stops it"
            )
        create_profile_dir(self.profile_dir)
        self._own()
        controller = self.controller_launcher_class(
            work_dir=".",
            parent=self,
            log=self.log,
            profile_dir=self.profile_dir,
            cluster_id=self.cluster_id,
            **kwargs,
        )
        self._add_controller_args(controller)
        self._claim_file()
        self.controller, self._knew_controller = controller, True
        controller.on_stop(self._controller_stopped)
        try:
            await maybe_await(controller.start())
        except BaseException:
            self.controller = None
            self._try_update()
            raise
        self.update_cluster_file()

    def _own(self) -> None:
        if self.shutdown_atexit:
            _owned.add(self)

    def _add_controller_args(self, controller: Any) -> None:
        args = [f"--ip={self.controller_ip}"] if self.controller_ip else []
        if self.controller_location:
            args.append(f"--location={self.controller_location}")
        args += self.controller_args
        if not args:
            return
        if not hasattr(controller, "controller_args"):
            self.log.warning(
                "%s takes no arguments; ignoring %s", type(controller).__name__, args
            )
            return
        controller.controller_args = [*controller.controller_args, *args]

    def _controller_stopped(self, data: Any = None) -> None:
        wanted = getattr(self.controller, "stopping", False)
        code = (data or {}).get("exit_code")
        log = self.log.warning if code and not wanted else self.log.info
        log("Controller stopped (%s)", describe_exit(code))
        self._try_update()

    async def stop_controller(self) -> None:
        """Stop the controller; nothing happens if it does not run."""
        controller = self.controller
        if controller is not None:
            if controller.running:
                self.log.info("Stopping controller")
                await maybe_await(controller.stop())
            controller.get_output(remove=True)
            self.controller = None
        self.update_cluster_file()

    # -- engines ---------------------------------------------------------------

    def _new_engine_set_id(self) -> str:
        base = set_id = str(int(time.time()))
        i = 1
        while set_id in self._known_sets:
            set_id = f"{base}-{i}"
            i += 1
        return set_id

    async def start_engines(
        self, n: int | None = None, engine_set_id: str | None = None, **kwargs: Any
    ) -> str:
        """Start a set of engines and return its id.

        Parameters
        ----------
        n : int, optional
            How many; by default `self.n`, else what the launcher's own settings
            say, else one per processor.
        engine_set_id : str, optional
            Name of the set; by default a new one.
        **kwargs
            Traits of the launcher.

        Raises
        ------
        LauncherError
            If they cannot be started; none is left then.
        TimeoutError
            If the controller does not get ready (see `send_engines_connection_env`).
        """
        if engine_set_id is None:
            engine_set_id = self._new_engine_set_id()
        create_profile_dir(self.profile_dir)
        self._own()
        engine_set = self.engine_launcher_class(
            work_dir=".",
            parent=self,
            log=self.log,
            profile_dir=self.profile_dir,
            cluster_id=self.cluster_id,
            engine_set_id=engine_set_id,
            **kwargs,
        )
        if self.send_engines_connection_env and self.controller:
            info = await maybe_await(self.controller.get_connection_info())
            engine_set.environment = {
                **engine_set.environment,
                "IPP_CONNECTION_INFO": json.dumps(info["engine"]),
            }
        n = self._engine_count(engine_set, n)
        self.log.info("Starting %d engines with %s", n, type(engine_set).__name__)
        self.engines[engine_set_id] = engine_set
        self._known_sets.add(engine_set_id)
        engine_set.on_stop(partial(self._engines_stopped, engine_set_id))
        for f in self._set_watchers:
            f(engine_set)
        try:
            await maybe_await(engine_set.start(n))
        except BaseException:
            self.engines.pop(engine_set_id, None)
            raise
        self.update_cluster_file()
        return engine_set_id

    def watch_engine_sets(self, f: Callable[[Any], Any]) -> None:
        """Call f(launcher) for every engine set that is about to be started."""
        self._set_watchers.append(f)

    def _engine_count(self, engine_set: Any, n: int | None) -> int:
        if n is None:
            n = self.n
        n = getattr(engine_set, "engine_count", n)
        if n is None:
            n = _cpu_count()
        if n < 0:
            raise ValueError(f"there cannot be {n} engines")
        return n

    def _engines_stopped(self, engine_set_id: str, data: Any = None) -> None:
        launcher = self.engines.get(engine_set_id)
        wanted = getattr(launcher, "stopping", False)
        code = (data or {}).get("exit_code")
        log = self.log.warning if code and not wanted else self.log.info
        log("Engine set %s stopped (%s)", engine_set_id, describe_exit(code))
        self._try_update()

    async def stop_engines(self, engine_set_id: str | None = None) -> None:
        """Stop one engine set, or all.  Raises KeyError for an unknown one."""
        if engine_set_id is None:
            await _together([self.stop_engines(i) for i in list(self.engines)])
            return
        engine_set = self.engines[engine_set_id]
        if engine_set.state != "after":
            self.log.info("Stopping engine set %s", engine_set_id)
            await maybe_await(engine_set.stop())
        engine_set.get_output(remove=True)
        self.engines.pop(engine_set_id, None)
        self.update_cluster_file()

    async def restart_engines(self, engine_set_id: str | None = None) -> None:
        """Stop one engine set, or all, and start as many engines again."""
        if engine_set_id is None:
            for set_id in list(self.engines):
                await self.restart_engines(set_id)
            return
        n = self.engines[engine_set_id].n
        await self.stop_engines(engine_set_id)
        await self.start_engines(n, engine_set_id)

    async def signal_engines(
        self, signum: int, engine_set_id: str | None = None
    ) -> None:
        """Send a signal to the engines of one set, or of all."""
        if engine_set_id is None:
            for set_id in list(self.engines):
                await self.signal_engines(signum, set_id)
            return
        self.log.info("Sending signal %d to engine set %s", signum, engine_set_id)
        await maybe_await(self.engines[engine_set_id].signal(signum))

    # -- single engines --------------------------------------------------------

    async def _engine_by_id(self, engine_id: int) -> tuple[Any, str]:
        """The engine set that has an engine, and the set's name for it.

        Raises KeyError if no such engine is registered, LauncherError if none
        of our launchers knows it as a single one.
        """
        if self.controller is None:
            raise RuntimeError("the cluster has no controller to ask for engines")
        info = await maybe_await(self.controller.get_connection_info())
        registered = await _in_thread(lambda: _registered(info["client"]))
        if engine_id not in registered:
            known = ", ".join(map(str, sorted(registered))) or "none"
            raise KeyError(f"there is no engine {engine_id}; registered: {known}")
        for engine_set in self.engines.values():
            find = getattr(engine_set, "find_engine", None)
            identifier = find(registered[engine_id]) if find else None
            if identifier is not None:
                return engine_set, identifier
        raise LauncherError(
            f"no launcher of this cluster knows engine {engine_id} by itself; "
            "act on its set, or use a Client"
        )

    async def stop_engine(self, engine_id: int) -> None:
        """Stop one engine by its id.

        Raises KeyError if there is none, LauncherError if it was not started by
        this cluster or can only be stopped with its whole set.
        """
        engine_set, identifier = await self._engine_by_id(engine_id)
        await engine_set.stop_one(identifier)
        self.update_cluster_file()

    async def restart_engine(self, engine_id: int) -> None:
        """Stop one engine and start another in its place.

        The new one asks for the same id.  Raises as stop_engine() does.
        """
        engine_set, identifier = await self._engine_by_id(engine_id)
        await engine_set.restart_one(identifier, engine_id)
        self.update_cluster_file()

    async def signal_engine(self, signum: int, engine_id: int) -> None:
        """Send a signal to one engine.  Raises as stop_engine() does."""
        engine_set, identifier = await self._engine_by_id(engine_id)
        engine_set.signal_one(identifier, signum)

    # -- the whole -------------------------------------------------------------

    async def start_cluster(self, n: int | None = None) -> Cluster:
        """Start the controller, if it does not run, and n engines.

        Returns the cluster itself.  If something cannot be started, what was
        started here is stopped again before the error is raised.
        """
        fresh = self.controller is None
        try:
            if fresh:
                await self.start_controller()
            if self.delay:
                await asyncio.sleep(self.delay)
            await self.start_engines(n)
        except BaseException:
            if fresh:
                await self._abandon()
            raise
        return self

    async def _abandon(self) -> None:
        """Stop everything after a failure, which is what the caller must see."""
        try:
            await self.stop_cluster()
        except Exception as e:
            self.log.error("Cannot stop what was started: %s", e)

    async def stop_cluster(self) -> None:
        """Stop the controller and all engines, also those that other processes
        added.  Nothing happens if nothing runs."""
        self._adopt_others()
        try:
            # Engines first: they take their leave of the controller.
            await self.stop_engines()
        finally:
            await self.stop_controller()

    def kill_cluster(self) -> None:
        """Kill the controller and all engines at once; for those in a hurry."""
        self._adopt_others()
        for launcher in [self.controller, *list(self.engines.values())]:
            if launcher is not None and hasattr(launcher, "kill"):
                launcher.kill()

    async def connect_client(self, **client_kwargs: Any) -> Any:
        """A Client of this cluster; `client_kwargs` are the Client's."""
        if self.controller is None:
            raise RuntimeError(
                "the cluster has no controller; start_cluster() starts one"
            )
        info = await maybe_await(self.controller.get_connection_info())
        from roundhouse import Client

        # Connecting waits for the network: not in the loop's thread.
        return await _in_thread(
            lambda: Client(
                info["client"],
                cluster=self,
                profile_dir=self.profile_dir,
                cluster_id=self.cluster_id,
                **client_kwargs,
            )
        )

    async def start_and_connect(
        self, n: int | None = None, activate: bool = False
    ) -> Any:
        """Start the cluster, connect, and wait for n engines.

        With `activate` the ``%px`` magics work on all engines.  Returns the
        Client.  If the engines do not come within `engine_timeout` seconds, the
        cluster is stopped again and the error raised.
        """
        fresh = self.controller is None
        client = None
        if n is None:
            n = self.n
        try:
            await self.start_cluster(n=n)
            client = await self.connect_client()
            if n is None:
                n = sum(es.n for es in self.engines.values())
            if n:
                arrived = client.wait_for_engines(
                    n, block=False, timeout=self.engine_timeout
                )
                await asyncio.wrap_future(arrived)
            if activate:
                view = client[:]
                view.block = True
                view.activate()
        except BaseException:
            if client is not None:
                client.close()
            if fresh:
                await self._abandon()
            raise
        return client

    async def __aenter__(self) -> Any:
        self._context_client = await self.start_and_connect()
        return self._context_client

    async def __aexit__(self, *args: Any) -> None:
        self._close_client()
        await self.stop_cluster()

    def __enter__(self) -> Any:
        self._context_client = self.start_and_connect_sync()
        return self._context_client

    def __exit__(self, *args: Any) -> None:
        self._close_client()
        self.stop_cluster_sync()

    def _close_client(self) -> None:
        client, self._context_client = self._context_client, None
        if client is not None:
            client.close()


def _class_name(cls: type) -> str:
    """The name of a Cluster class in files.

    Our own goes by ipyparallel's name, which understands the same files: then
    its ``ipcluster list`` and ``ipcluster stop`` work as well.
    """
    if cls is Cluster:
        return "ipyparallel.cluster.cluster.Cluster"
    return f"{cls.__module__}.{cls.__name__}"


def _is_alive(starter: dict[str, Any] | None) -> bool:
    """Whether the process that is starting a cluster still runs."""
    if not starter:
        return False
    if starter.get("host") != socket.gethostname():
        return True  # who knows
    if starter.get("pid") == os.getpid():
        return False  # not another process
    return Process.is_running(starter["pid"], starter.get("key", ""))


def _registered(client_info: dict[str, Any]) -> dict[int, str]:
    """The registered engines, id to name on the wire, asked of the controller."""
    from roundhouse import _core

    client = _core.Client(json.dumps(client_info))
    try:
        return client.engines()
    finally:
        client.close(0)


async def _together(coroutines: list[Any]) -> None:
    """Run side by side, all of them to the end; then raise the first error."""
    for result in await asyncio.gather(*coroutines, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _in_thread(f: Any) -> Any:
    """f() in a daemon thread, so that an interpreter that ends need not wait."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return  # cancelled
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def work() -> None:
        try:
            value, error = f(), None
        except BaseException as e:
            value, error = None, e
        loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, daemon=True, name="roundhouse-connect").start()
    return await future
