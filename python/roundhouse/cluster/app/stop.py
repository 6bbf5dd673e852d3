"""``ipcluster stop``: stop clusters that some process started."""

from __future__ import annotations

import asyncio
from typing import Any

from ... import options
from ..cluster import Cluster
from ..manager import ClusterManager
from ..profile import abbreviate_profile_dir
from .common import ALREADY_STOPPED, Session, common_rows, make_command, open_session

CLS = "IPClusterStop"


def command(prog: str) -> Any:
    rows = [
        options.Flag(
            "all",
            {f"{CLS}.all_cluster_ids": True},
            "Stop every cluster of the profile.",
        ),
        options.Option(
            f"{CLS}.all_cluster_ids",
            options.boolean,
            False,
            "Stop every cluster of the profile.",
        ),
        options.Option(
            f"{CLS}.signal",
            options.integer(1, 64),
            2,
            "Accepted from older scripts; processes get SIGTERM, and SIGKILL if that does not help.",
            alias="signal",
        ),
    ]
    return make_command(
        prog,
        "Stop the controller and the engines of a cluster, or of several by their ids.  "
        "The exit code is 11 if one does not run.",
        [*rows, *common_rows(CLS)],
        traits=True,
        args="CLUSTER_ID ...",
        examples=(prog, f"{prog} --profile=work", f"{prog} a b", f"{prog} --all"),
    )


def run(argv: list[str], prog: str) -> int:
    session = open_session(CLS, command(prog), argv)
    if session.get("all_cluster_ids"):
        manager = ClusterManager(config=session.config, log=session.log)
        found = manager.load_clusters(profile_dirs=[session.profile_dir]).values()
        clusters, missing = [c for c in found if c._is_running()], False
        if not clusters:
            session.log.info("No cluster runs in %s", session.profile_dir)
    else:
        clusters, missing = _find(session, session.parsed.args or [session.cluster_id])
    failed = asyncio.run(_stop_all(session, clusters))
    if failed:
        return 1
    return ALREADY_STOPPED if missing else 0


def _find(session: Session, ids: list[str]) -> tuple[list[Cluster], bool]:
    """The running clusters of these ids, and whether one is missing."""
    found = []
    missing = False
    for cluster_id in ids:
        try:
            cluster = Cluster.from_file(
                profile_dir=session.profile_dir,
                cluster_id=cluster_id,
                config=session.config,
                load_profile=False,
                log=session.log,
            )
        except FileNotFoundError:
            why = "does not run"
        except ValueError as e:
            why = f"cannot be stopped: {e}; `ipcluster clean` removes damaged files"
        else:
            if cluster._is_running():
                found.append(cluster)
                continue
            why = "does not run any more"
        missing = True
        profile = abbreviate_profile_dir(session.profile_dir)
        session.log.critical("Cluster %r of profile %s %s", cluster_id, profile, why)
    return found, missing


async def _stop_all(session: Session, clusters: list[Cluster]) -> bool:
    """Stop side by side; True if something could not be stopped."""
    results = await asyncio.gather(
        *(_stop_one(session, c) for c in clusters), return_exceptions=True
    )
    bad = [r for r in results if isinstance(r, BaseException)]
    for error in bad:
        session.log.error("%s", error)
    return bool(bad)


async def _stop_one(session: Session, cluster: Cluster) -> None:
    session.log.info("Stopping cluster %r", cluster.cluster_id)
    await cluster.stop_cluster()
    if cluster._starting:
        raise RuntimeError(
            f"cluster {cluster.cluster_id!r} is being started by process "
            f"{cluster._starting['pid']}; try again in a moment"
        )
    for _, why in cluster.elsewhere.values():
        raise RuntimeError(f"cluster {cluster.cluster_id!r}: {why}; stop it there")
