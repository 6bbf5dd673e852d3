"""Commented configuration files, made from the tables that rule.

Every setting is there with its help and its default, commented out, so that the
file says what can be set and sets nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from ... import options
from .common import MACHINE_DEFAULTS, cluster_rows, trait_classes

__all__ = ["command_config", "ipcluster_config", "write_config"]

_HEAD = """\
# Configuration of {prog}.
#
# Every line shows a default.  To change one, remove its '#'.  The command line
# wins over this file.

c = get_config()  # noqa: F821
"""


def ipcluster_config() -> str:
    """The text of ipcluster_config.py."""
    out = [_HEAD.format(prog="ipcluster")]
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


def command_config(command: options.Command) -> str:
    """The text of the configuration file of another command."""
    sections: dict[str, list[str]] = {}
    for row in command.options:
        entry = _entry(row.name, row.help, repr(row.default))
        sections.setdefault(row.name.rpartition(".")[0], []).append(entry)
    out = [_HEAD.format(prog=command.prog)]
    for cls, entries in sections.items():
        out += [_title(cls), *entries]
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


def write_config(path: str, text: Callable[[], str]) -> bool:
    """Write a file unless it exists; True if it was written."""
    try:
        with open(path, "x", encoding="utf-8") as f:
            f.write(text())
    except FileExistsError:
        return False
    return True
