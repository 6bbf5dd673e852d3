"""A cluster: one controller and any number of engine sets.

`Cluster` starts, stops, signals and finds again; the work is done by launchers.
Every coroutine method has a blocking twin (``start_cluster_sync``...).  What
runs is kept in a cluster file, so that any process can stop it later.

A Cluster belongs to no event loop.  Launchers report ends from a thread of
their own; what they touch is in saved.py.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import random
import string
import sys
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
    validate,
)
from traitlets.config import Config, LoggingConfigurable

from .aio import in_thread, maybe_await
from .config import load_profile_config
from .launcher.base import describe_exit
from .launcher.registry import LauncherClass
from .profile import (
    abbreviate_profile_dir,
    create_profile_dir,
    default_profile_dir,
    ipython_dir,
    ipython_session,
)
from .saved import ClusterRunning, Saved
from .single import SingleEngines

__all__ = ["Cluster", "ClusterRunning"]


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


def cpu_count() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class Cluster(SingleEngines, Saved, LoggingConfigurable):
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
            n = cpu_count()
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
        return await in_thread(
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


async def _together(coroutines: list[Any]) -> None:
    """Run side by side, all of them to the end; then raise the first error."""
    for result in await asyncio.gather(*coroutines, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
