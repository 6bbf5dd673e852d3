"""``ipcluster engines``: more engines for a controller that runs."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from ..cluster import Cluster, cpu_count
from .common import Session, cluster_rows, common_rows, make_command, open_session
from .foreground import Foreground
from .start import make_profile

CLS = "IPClusterEngines"


def command(prog: str) -> Any:
    return make_command(
        prog,
        "Start engines for a controller that runs, and keep them running until "
        "Ctrl-C.  With --daemonize return once they are there and leave them running.",
        [*cluster_rows(CLS, controller=False), *common_rows(CLS)],
        traits=True,
        rest="arguments of the engines",
        examples=(f"{prog} -n 4", f"{prog} -n 4 --profile=work --daemonize"),
    )


def run(argv: list[str], prog: str) -> int:
    session = open_session(CLS, command(prog), argv)
    make_profile(session)
    daemonize = session.get("daemonize")
    if session.parsed.rest:
        args = list(session.config.EngineLauncher.get("engine_args", []))
        session.config.EngineLauncher.engine_args = args + session.parsed.rest
    cluster = _open_cluster(session)
    started: list[str] = []

    async def start(foreground: Foreground) -> str:
        if cluster.controller is not None:
            foreground.watch_controller()
        await _count(foreground)
        n = session.config.Cluster.get("n")
        set_id = await cluster.start_engines(cpu_count() if n is None else n)
        started.append(set_id)
        return set_id

    def ours() -> list[str]:
        return [i for i in started if i in cluster.engines]

    async def stop() -> None:
        for set_id in ours():
            await cluster.stop_engines(set_id)

    def kill() -> None:
        for set_id in ours():
            cluster.engines[set_id].kill()

    foreground = Foreground(
        cluster,
        session.log,
        start=start,
        stop=stop,
        kill=kill,
        daemonize=daemonize,
        early_shutdown=session.get("early_shutdown"),
        ends_with_engines=True,
    )
    code = asyncio.run(foreground.run())
    if daemonize and code == 0:
        session.log.info(
            "Leaving the engines running; `ipcluster stop` stops the cluster"
        )
        print(cluster.cluster_file)
    return code


def _open_cluster(session: Session) -> Cluster:
    """The cluster that runs, or one without a controller if nobody knows it.

    The controller may have been started by hand, or on another machine that
    shares the profile; engines find it by its connection file.
    """
    kwargs: dict[str, Any] = {
        "config": session.config,
        "load_profile": False,
        "log": session.log,
        "shutdown_atexit": False,  # it holds more than this command started
    }
    where = {"profile_dir": session.profile_dir, "cluster_id": session.cluster_id}
    try:
        cluster = Cluster.from_file(**where, **kwargs)
    except FileNotFoundError:
        return Cluster(**where, **kwargs)
    except ValueError as e:
        session.log.warning("%s", e)
        return Cluster(**where, **kwargs)
    chosen = session.config.Cluster.get("engine_launcher_class")
    if chosen is not None:
        cluster.engine_launcher_class = chosen
    return cluster


async def _count(foreground: Foreground) -> None:
    """Begin to count engines, if the controller can be asked.

    Without a connection file the engines wait for one themselves.
    """
    cluster = foreground.cluster
    path = os.path.join(
        cluster.profile_dir, "security", _client_file(cluster.cluster_id)
    )
    try:
        with open(path, encoding="utf-8") as f:
            info = json.load(f)
    except (OSError, ValueError):
        foreground.log.warning("There is no controller yet (no %s)", path)
        return
    await foreground.count_engines(info, fresh=False)


def _client_file(cluster_id: str) -> str:
    return f"ipcontroller-{cluster_id}-client.json".replace("--", "-")
