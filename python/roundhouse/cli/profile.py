"""``roundhouse profile``: create and list profiles."""

from __future__ import annotations

import os
import sys

from .. import options
from ..cluster.app.common import version
from ..cluster.app.config_file import command_config, ipcluster_config, write_config
from ..cluster.profile import (
    abbreviate_profile_dir,
    all_profile_dirs,
    create_profile_dir,
    profile_path,
)

CLS = "ProfileApp"


def command(prog: str) -> options.Command:
    return options.Command(
        prog,
        "create makes a profile with commented configuration files of ipcluster and "
        "ipengine (ipcontroller --init writes the controller's); files that exist stay "
        "as they are.  list shows the profiles there are, locate prints the folder of one.",
        [
            options.Option(
                f"{CLS}.profile", options.text, "default", "Name.", alias="profile"
            ),
            options.Option(
                f"{CLS}.profile_dir",
                options.path,
                "",
                "Folder; wins over the name.",
                alias="profile-dir",
            ),
            options.Option(
                f"{CLS}.ipython_dir",
                options.path,
                "",
                "Folder that holds the profiles.",
                alias="ipython-dir",
            ),
            options.Flag(
                "parallel", {f"{CLS}.parallel": True}, "Accepted; it always is so."
            ),
            options.Option(f"{CLS}.parallel", options.boolean, True, "Accepted."),
        ],
        args="create|list|locate [NAME]",
        examples=(f"{prog} create work", f"{prog} list", f"{prog} locate work"),
    )


def run(argv: list[str], prog: str) -> int:
    """Returns the exit code."""
    table = command(prog)
    parsed = table.start(argv, version=version())
    values = table.values(parsed)
    if values[f"{CLS}.ipython_dir"]:
        os.environ["IPYTHONDIR"] = options.find_ipython_dir(
            values[f"{CLS}.ipython_dir"]
        )
    words = parsed.args
    if not words or words[0] not in ("create", "list", "locate") or len(words) > 2:
        sys.stderr.write(f"{prog}: say create, list or locate; see {prog} --help\n")
        return 2
    if words[0] == "list":
        for path in all_profile_dirs():
            print(f"{abbreviate_profile_dir(path):16} {path}")
        return 0
    name = words[1] if len(words) == 2 else values[f"{CLS}.profile"]
    path = values[f"{CLS}.profile_dir"] or profile_path(name)
    path = os.path.abspath(path)
    if words[0] == "create":
        return _create(path, prog)
    if not os.path.isdir(path):
        sys.stderr.write(f"{prog}: there is no profile folder {path}\n")
        return 1
    print(path)
    return 0


def _create(path: str, prog: str) -> int:
    from ..engine.app import COMMAND

    try:
        create_profile_dir(path)
        for name, text in (
            ("ipcluster_config.py", ipcluster_config),
            ("ipengine_config.py", lambda: command_config(COMMAND)),
        ):
            write_config(os.path.join(path, name), text)
    except OSError as e:
        sys.stderr.write(f"{prog}: {e.filename}: {e.strerror}\n")
        return 1
    print(path)
    return 0
