"""Clusters: starting, stopping and finding them.  Needs traitlets, not IPython."""

from .cluster import Cluster, ClusterRunning
from .manager import ClusterManager, clean_cluster_files

__all__ = ["Cluster", "ClusterManager", "ClusterRunning", "clean_cluster_files"]
