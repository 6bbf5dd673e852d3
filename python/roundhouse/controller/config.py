"""Evaluate a configuration file for ipcontroller, which is a C program.

``python -m roundhouse.controller.config PATH`` runs the file as traitlets
does (``c = get_config()``, ``load_subconfig``) and prints what it set as one
JSON object: ``{"Class": {"trait": value}}``.  A file that raises gives its
traceback on stderr and exit code 1.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from traitlets.config.loader import Config, LazyConfigValue, PyFileConfigLoader


def plain(value: Any) -> Any:
    """*value* in types that JSON has.

    Bytes become text, classes their dotted name, ranges and tuples lists;
    ``c.Class.list.append(x)`` is taken as a list that was empty before.
    """
    if isinstance(value, LazyConfigValue):
        empties: list[Any] = [[], {}, set()]
        for empty in empties:
            try:
                return plain(value.get_value(empty))
            except (AttributeError, TypeError):
                continue
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return [plain(v) for v in value]
    return str(value)


def evaluate(path: str) -> dict[str, dict[str, Any]]:
    """What the file at *path* sets, by class and trait."""
    folder, name = os.path.split(os.path.abspath(path))
    config = PyFileConfigLoader(name, path=folder).load_config()
    return {
        section: {trait: plain(value) for trait, value in traits.items()}
        for section, traits in config.items()
        if isinstance(traits, Config)
    }


def main(argv: list[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    if len(args) != 1:
        print("usage: python -m roundhouse.controller.config PATH", file=sys.stderr)
        return 2
    # What the file prints must not get between us and the controller.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        found = evaluate(args[0])
    except Exception:
        traceback.print_exc()
        return 1
    with out:
        json.dump(found, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
