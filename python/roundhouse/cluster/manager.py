"""Clusters of all profiles: finding them, and cleaning up after dead ones."""

from __future__ import annotations

import glob
import logging
import os
import re
from typing import Any

from traitlets import Dict
from traitlets.config import LoggingConfigurable

from . import clusterfile
from .cluster import Cluster
from .profile import abbreviate_profile_dir, all_profile_dirs, locate_profiles

__all__ = ["ClusterManager", "clean_cluster_files", "clean_logs"]

_LOG_FILE = re.compile(r"ip(engine|controller|cluster)-.+\.(log|err|out)$")


class ClusterManager(LoggingConfigurable):
    """The clusters that this process knows of, by key ``profile:id``."""

    clusters = Dict(help="Clusters by key.")

    @staticmethod
    def _cluster_key(cluster: Cluster) -> str:
        return f"{abbreviate_profile_dir(cluster.profile_dir)}:{cluster.cluster_id}"

    @staticmethod
    def _cluster_files_in_profile_dir(profile_dir: str) -> list[str]:
        return clusterfile.find(profile_dir)

    def load_clusters(
        self,
        *,
        profile_dirs: list[str] | None = None,
        profile_dir: str | None = None,
        profiles: list[str] | None = None,
        profile: str | None = None,
        init_default_clusters: bool = False,
        **kwargs: Any,
    ) -> dict[str, Cluster]:
        """Find the clusters of some profiles (all, if none is named).

        What the cluster files say is added to `clusters`, and clusters that
        have stopped are dropped.  With `init_default_clusters` a profile without
        a cluster gets one that is not started, with the id ''.  Returns
        `clusters`.
        """
        for key, cluster in list(self.clusters.items()):
            # One without a controller is new rather than stopped.
            if cluster.controller and not cluster._is_running():
                del self.clusters[key]
        if profile_dirs is None:
            profile_dirs = self._choose(profile_dir, profiles, profile)
        known = {c.cluster_file for c in self.clusters.values()}
        for folder in profile_dirs:
            files = clusterfile.find(folder)
            for path in files:
                if path not in known:
                    self._load(path)
            if init_default_clusters and not files:
                cluster = Cluster(profile_dir=folder, cluster_id="", parent=self)
                self.clusters.setdefault(self._cluster_key(cluster), cluster)
        return self.clusters

    @staticmethod
    def _choose(
        profile_dir: str | None, profiles: list[str] | None, profile: str | None
    ) -> list[str]:
        if profile_dir is not None:
            return [profile_dir]
        if profiles is None and profile is not None:
            profiles = [profile]
        return all_profile_dirs() if profiles is None else locate_profiles(profiles)

    def _load(self, path: str) -> None:
        try:
            cluster = Cluster.from_file(path, parent=self)
        except FileNotFoundError:
            pass  # stopped just now
        except Exception as e:
            # A file that cannot be used must not hide the others.
            self.log.warning("Cannot load %s: %s", path, e)
        else:
            self.clusters[self._cluster_key(cluster)] = cluster

    def new_cluster(self, **kwargs: Any) -> tuple[str, Cluster]:
        """Make a cluster (not started) and return its key and it.

        Raises KeyError if there is one of that profile and id.
        """
        cluster = Cluster(parent=self, **kwargs)
        key = self._cluster_key(cluster)
        if key in self.clusters:
            raise KeyError(f"there is a cluster {key} already")
        self.clusters[key] = cluster
        return key, cluster

    def get_cluster(self, cluster_id: str) -> Cluster:
        """The cluster of a key.  Raises KeyError."""
        cluster: Cluster = self.clusters[cluster_id]
        return cluster

    def remove_cluster(self, cluster_id: str) -> None:
        """Forget a cluster; it is not stopped.  Raises KeyError."""
        del self.clusters[cluster_id]


def clean_cluster_files(
    profile_dirs: list[str] | str | None = None,
    *,
    log: Any = None,
    force: bool = False,
) -> None:
    """Remove cluster files, logs and connection files of profiles.

    `profile_dirs` is one folder or several; None is all profiles.  Raises
    ValueError, before anything of that profile is removed, if a cluster of it
    runs, unless `force` is given (processes may be left then).
    """
    log = log or logging.getLogger(__name__)
    if profile_dirs is None:
        profile_dirs = all_profile_dirs()
    if isinstance(profile_dirs, str):
        profile_dirs = [profile_dirs]
    for folder in profile_dirs:
        log.info("Cleaning %s", folder)
        files = clusterfile.find(folder)
        if not force:
            for path in files:
                _refuse_running(path, log)
        patterns = ("log/*", "security/ipcontroller-*.json")
        for pattern in patterns:
            files += glob.glob(os.path.join(glob.escape(folder), pattern))
        for path in files:
            _remove(path, log)


def _refuse_running(path: str, log: Any) -> None:
    try:
        cluster = Cluster.from_file(path, log=log)
    except FileNotFoundError:
        return
    except Exception as e:
        log.warning("%s cannot be read, so it is removed: %s", path, e)
        return
    for _, why in cluster.elsewhere.values():
        raise ValueError(f"{path}: {why}; if it does not any more, clean with --force")
    if cluster._is_running():
        raise ValueError(
            f"cluster {ClusterManager._cluster_key(cluster)} is running; stop it first "
            "(`ipcluster stop`), or clean with --force, which may leave its processes"
        )


def _remove(path: str, log: Any) -> None:
    try:
        if os.path.isfile(path) or os.path.islink(path):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as e:
        log.error("Cannot remove %s: %s", path, e)


def clean_logs(profile_dir: str, keep: str = "") -> None:
    """Remove the log files of earlier clusters, not those still written to.

    `keep` is one that no cluster file names.
    """
    folder = os.path.join(profile_dir, "log")
    used = {keep}
    for path in clusterfile.find(profile_dir):
        try:
            used |= _output_files(clusterfile.read(path))
        except (OSError, ValueError):
            continue
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if _LOG_FILE.match(name) and path not in used:
            _remove(path, logging.getLogger(__name__))


def _output_files(part: Any) -> set[str]:
    """Every output file named anywhere in a cluster file."""
    if not isinstance(part, dict):
        return set()
    found = {part["output_file"]} if isinstance(part.get("output_file"), str) else set()
    for value in part.values():
        found |= _output_files(value)
    return found
