"""Cluster files: what runs, so that another process can stop it.

``<profile>/security/cluster-<id>.json`` holds the JSON form of a Cluster.
Several processes may change one file (``ipcluster start`` owns the controller,
``ipcluster engines`` adds engines), so a change is read-modify-write under a
lock on the folder.  A reader never sees a half-written file: a new one is moved
over the old one.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

try:
    import fcntl
except ImportError:  # no locks on this system: the last writer wins
    fcntl = None  # type: ignore[assignment]

__all__ = ["find", "locked", "read", "remove", "write"]


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep other processes from changing the cluster files beside `path`.

    The folder itself is locked, so no lock file is left behind.
    """
    folder = os.path.dirname(path) or "."
    if fcntl is None:
        yield
        return
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(fd)


def read(path: str) -> dict[str, Any]:
    """The contents of a cluster file.

    Raises FileNotFoundError, another OSError, or ValueError if it is not one.
    """
    with open(path, encoding="utf-8") as f:
        data = json.load(f)
    if not isinstance(data, dict) or not isinstance(data.get("cluster"), dict):
        raise ValueError(f"{path} is not a cluster file")
    return data


def write(path: str, data: dict[str, Any]) -> None:
    """Replace a cluster file in one step; for the owner's eyes only (0600)."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fd, temporary = tempfile.mkstemp(".tmp", os.path.basename(path) + ".", folder)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as f:
            json.dump(data, f)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def remove(path: str) -> bool:
    """Remove a cluster file; False if there is none."""
    try:
        os.remove(path)
    except FileNotFoundError:
        return False
    return True


def find(profile_dir: str) -> list[str]:
    """The cluster files of a profile, sorted."""
    pattern = os.path.join(glob.escape(profile_dir), "security", "cluster-*.json")
    return sorted(glob.glob(pattern))
