"""``ipcluster clean``: remove what clusters that have ended left behind."""

from __future__ import annotations

from typing import Any

from ... import options
from ..manager import clean_cluster_files
from .common import common_rows, make_command, open_session

CLS = "IPClusterClean"


def command(prog: str) -> Any:
    rows = [
        options.Flag("all", {f"{CLS}.all_profiles": True}, "Clean every profile."),
        options.Option(
            f"{CLS}.all_profiles", options.boolean, False, "Clean every profile."
        ),
        options.Flag(
            "force",
            {f"{CLS}.force": True},
            "Remove the files of running clusters too; their processes may be left.",
        ),
        options.Option(
            f"{CLS}.force",
            options.boolean,
            False,
            "Remove the files of running clusters too.",
        ),
    ]
    return make_command(
        prog,
        "Remove the cluster files, connection files and logs of a profile.  Refused while "
        "a cluster of it runs.",
        [*rows, *common_rows(CLS)],
        traits=False,
        examples=(prog, f"{prog} --all"),
    )


def run(argv: list[str], prog: str) -> int:
    session = open_session(CLS, command(prog), argv)
    folders = None if session.get("all_profiles") else [session.profile_dir]
    try:
        clean_cluster_files(folders, log=session.log, force=session.get("force"))
    except ValueError as e:
        session.log.critical("%s", e)
        return 1
    return 0
