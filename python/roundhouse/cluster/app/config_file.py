"""A commented ``ipcluster_config.py``, made from the tables that rule.

Every setting is there with its help and its default, commented out, so that the
file says what can be set and sets nothing.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from typing import Any

from ... import options
from .common import MACHINE_DEFAULTS, cluster_rows, trait_classes

__all__ = ["ipcluster_config", "write_config"]

_HEAD = """\
# Configuration of ipcluster.
#
# Every line shows a default.  To change one, remove its '#'.  The command line
# wins over this file.

c = get_config()  # noqa: F821
"""


def ipcluster_config() -> str:
    """The text of the file."""
    out = [_HEAD]
    for app in ("IPClusterStart", "IPClusterEngines"):
        rows = [
            r
            for r in cluster_rows(app, controller=False)
            if isinstance(r, options.Option) and r.name.startswith(app)
        ]
        out += [_title(app), *(_entry(r.name, r.help, repr(r.default)) for r in rows)]
    for cls in trait_classes():
        entries = list(_traits(cls))
        if entries:
            out += [_title(cls.__name__), *entries]
    return "\n".join(out)


def _title(name: str) -> str:
    return f"# -- {name} {'-' * (74 - len(name))}\n"


def _traits(cls: Any) -> Iterator[str]:
    for name, trait in sorted(cls.class_own_traits(config=True).items()):
        default = trait.default_value_repr()
        if name in MACHINE_DEFAULTS:
            default = "..."
        elif name.endswith("launcher_class"):
            default = repr("local")
        yield _entry(f"{cls.__name__}.{name}", trait.help or "", default)


def _entry(name: str, help: str, default: str) -> str:
    text = textwrap.fill(
        " ".join(help.split()), 79, initial_indent="# ", subsequent_indent="# "
    )
    return f"{text}\n# c.{name} = {default}\n"


def write_config(profile_dir: str) -> str | None:
    """Write the file into a profile that has none; returns its path then."""
    path = os.path.join(profile_dir, "ipcluster_config.py")
    try:
        with open(path, "x", encoding="utf-8") as f:
            f.write(ipcluster_config())
    except FileExistsError:
        return None
    return path
