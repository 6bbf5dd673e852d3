"""``ipcluster start``: a controller and engines."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ..aio import maybe_await
from ..cluster import Cluster
from ..manager import clean_logs
from ..profile import create_profile_dir
from .common import Session, cluster_rows, common_rows, make_command, open_session
from .config_file import ipcluster_config, write_config
from .foreground import Foreground

CLS = "IPClusterStart"


def command(prog: str) -> Any:
    return make_command(
        prog,
        "Start a controller and engines, and keep them running until Ctrl-C.  With "
        "--daemonize return once all engines are there and leave everything running.",
        [*cluster_rows(CLS, controller=True), *common_rows(CLS, clean_logs=True)],
        traits=True,
        rest="arguments of the controller",
        examples=(
            f"{prog} -n 4",
            f"{prog} -n 4 --profile=work --cluster-id=a --daemonize",
            f"{prog} --ip='*' -- --sqlitedb",
        ),
    )


def run(argv: list[str], prog: str) -> int:
    session = open_session(CLS, command(prog), argv)
    make_profile(session)
    daemonize = session.get("daemonize")
    if session.parsed.rest:
        args = list(session.config.Cluster.get("controller_args", []))
        session.config.Cluster.controller_args = args + session.parsed.rest
    cluster = Cluster(
        config=session.config,
        load_profile=False,
        log=session.log,
        profile_dir=session.profile_dir,
        cluster_id=session.cluster_id,
        shutdown_atexit=not daemonize,
    )
    if session.get("clean_logs"):
        clean_logs(session.profile_dir, keep=session.log_file)
    foreground = Foreground(
        cluster,
        session.log,
        start=bring_up,
        stop=cluster.stop_cluster,
        kill=cluster.kill_cluster,
        daemonize=daemonize,
        early_shutdown=session.get("early_shutdown"),
        ends_with_engines=False,
    )
    code = asyncio.run(foreground.run())
    if daemonize and code == 0:
        session.log.info("Leaving the cluster running; `ipcluster stop` stops it")
        print(cluster.cluster_file)
    return code


def make_profile(session: Session) -> None:
    """Create the profile, or fail if that was forbidden."""
    if not os.path.isdir(session.profile_dir) and not session.get("auto_create"):
        switch = f"{session.cls}.auto_create"
        session.fail(f"there is no profile {session.profile_dir}; {switch} makes one")
    try:
        create_profile_dir(session.profile_dir)
    except OSError as e:
        session.fail(f"cannot create the profile {session.profile_dir}: {e.strerror}")
    if session.get("copy_config_files"):
        path = os.path.join(session.profile_dir, "ipcluster_config.py")
        if write_config(path, ipcluster_config):
            session.log.info("Wrote %s", path)


async def bring_up(foreground: Foreground) -> str:
    """Start everything and return the id of the engine set."""
    cluster = foreground.cluster
    await cluster.start_controller()
    foreground.watch_controller()
    if cluster.delay:
        await asyncio.sleep(cluster.delay)
    if not cluster.send_engines_connection_env:
        return await cluster.start_engines()
    info = await maybe_await(cluster.controller.get_connection_info())
    foreground.count_engines(info["client"], fresh=True)
    return await cluster.start_engines()
