"""``ipcluster list``: what runs, as a table or as JSON."""

from __future__ import annotations

import json
from typing import Any

from ... import options
from ..cluster import Cluster
from ..manager import ClusterManager
from ..profile import abbreviate_profile_dir
from .common import common_rows, make_command, open_session

CLS = "IPClusterList"
_COLUMNS = ("PROFILE", "CLUSTER ID", "RUNNING", "ENGINES", "LAUNCHER")
_LEAST_WIDTHS = (16, 32, 7, 7, 0)


def command(prog: str) -> Any:
    rows = [
        options.Option(
            f"{CLS}.output_format",
            options.choice("text", "json"),
            "text",
            "Form of the output.",
            alias="o",
        )
    ]
    return make_command(
        prog,
        "List the clusters of all profiles, or of the one that is named.",
        [*rows, *common_rows(CLS)],
        traits=False,
        examples=(prog, f"{prog} -o json"),
    )


def run(argv: list[str], prog: str) -> int:
    session = open_session(CLS, command(prog), argv)
    folders = [session.profile_dir] if session.profile_is_chosen() else None
    manager = ClusterManager(config=session.config, log=session.log)
    clusters = list(manager.load_clusters(profile_dirs=folders).values())
    clusters.sort(key=lambda c: (c.profile_dir, c.cluster_id))
    if session.get("output_format") == "json":
        print(json.dumps([c.to_dict() for c in clusters]))
        return 0
    rows = [_COLUMNS, *map(_row, clusters)]
    widths = [
        max(least, *(len(r[i]) for r in rows)) for i, least in enumerate(_LEAST_WIDTHS)
    ]
    for row in rows:
        print(" ".join(f"{cell:{w}}" for cell, w in zip(row, widths)).rstrip())
    return 0


def _row(cluster: Cluster) -> tuple[str, ...]:
    """One line of the table.  RUNNING is about the controller."""
    running = str(bool(cluster.controller))
    if cluster._starting:
        running = "starts"
    elif "controller" in cluster.elsewhere:
        running = cluster.elsewhere["controller"][0]["state"].get("host", "?")
    sets = [*cluster.engines.values(), *_sets_elsewhere(cluster)]
    launcher = cluster.engine_launcher_class.__name__
    return (
        abbreviate_profile_dir(cluster.profile_dir),
        cluster.cluster_id or "''",
        running,
        str(sum(s["n"] if isinstance(s, dict) else s.n for s in sets)),
        launcher[: -len("EngineSetLauncher")]
        if launcher.endswith("EngineSetLauncher")
        else launcher,
    )


def _sets_elsewhere(cluster: Cluster) -> list[dict[str, Any]]:
    return [
        {"n": 0, **d}
        for part, (d, _) in cluster.elsewhere.items()
        if part != "controller"
    ]
