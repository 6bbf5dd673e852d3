"""Profiles: the folders in which a cluster keeps its files.

IPython's layout (``<ipython dir>/profile_<name>`` with ``security``, ``log``,
``pid`` and ``startup``), found and made without importing IPython.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from ..options import find_ipython_dir

__all__ = [
    "abbreviate_profile_dir",
    "all_profile_dirs",
    "create_profile_dir",
    "default_profile_dir",
    "ipython_dir",
    "ipython_session",
    "locate_profiles",
    "profile_path",
]


def ipython_session() -> Any:
    """The running IPython shell, or None; IPython is not imported for it."""
    module = sys.modules.get("IPython")
    get = getattr(module, "get_ipython", None)
    return get() if get is not None else None


def ipython_dir() -> str:
    """The folder of all profiles."""
    session = ipython_session()
    given = getattr(session, "ipython_dir", "") if session is not None else ""
    found: str = find_ipython_dir(given)
    return found


def profile_path(name: str) -> str:
    """The folder of the profile `name`; it need not exist."""
    return os.path.join(ipython_dir(), f"profile_{name}")


def default_profile_dir(profile: str = "") -> str:
    """The named profile's folder, or without a name the one in use.

    In use is the IPython session's, else $IPP_PROFILE_DIR, else ``default``.
    """
    if not profile:
        session = ipython_session()
        folder = getattr(getattr(session, "profile_dir", None), "location", "")
        folder = folder or os.environ.get("IPP_PROFILE_DIR", "")
        if folder:
            return os.path.abspath(folder)
    return profile_path(profile or "default")


def all_profile_dirs() -> list[str]:
    """The folders of all profiles that exist, sorted."""
    top = ipython_dir()
    try:
        names = sorted(os.listdir(top))
    except OSError:
        return []
    paths = [os.path.join(top, n) for n in names if n.startswith("profile_")]
    return [p for p in paths if os.path.isdir(p)]


def locate_profiles(names: Iterable[str]) -> list[str]:
    """The folders of the named profiles.

    Raises FileNotFoundError for one that does not exist.
    """
    paths = [profile_path(n) for n in names]
    for p in paths:
        if not os.path.isdir(p):
            raise FileNotFoundError(f"there is no profile folder {p}")
    return paths


def abbreviate_profile_dir(path: str) -> str:
    """A short form for people: the profile's name, or the path with ~."""
    top, name = os.path.split(path)
    if name.startswith("profile_") and top == ipython_dir():
        return name[len("profile_") :]
    home = os.path.expanduser("~")
    if path.startswith(home + os.sep):
        return "~" + path[len(home) :]
    return path


def create_profile_dir(path: str) -> None:
    """Make a profile's folders where they are missing."""
    for name in ("log", "pid", "startup"):
        os.makedirs(os.path.join(path, name), exist_ok=True)
    security = os.path.join(path, "security")
    try:
        os.mkdir(security, 0o700)
    except FileExistsError:
        pass
