"""Roundhouse: interactive parallel computing with live engines.

``import roundhouse as ipp`` is a drop-in for ipyparallel.  Importing the
package costs next to nothing, because engines do it: names other than errors
are loaded when they are first used.

Examples
--------
>>> import roundhouse as ipp
>>> with ipp.Cluster(n=4) as rc:  # doctest: +SKIP
...     rc[:].apply_sync(os.getpid)
"""

from __future__ import annotations

from .error import (  # noqa: F401
    AlreadyDisplayedError,
    CompositeError,
    DependencyTimeout,
    EngineError,
    ImpossibleDependency,
    InvalidDependency,
    IPythonError,
    KernelError,
    NoEnginesRegistered,
    RemoteError,
    TaskAborted,
    TaskRejectError,
    TaskTimeout,
    TimeoutError,
    UnmetDependency,
    collect_exceptions,
    unwrap_exception,
    wrap_exception,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # the same table, for type checkers
    from concurrent.futures import ALL_COMPLETED as ALL_COMPLETED
    from concurrent.futures import FIRST_COMPLETED as FIRST_COMPLETED
    from concurrent.futures import FIRST_EXCEPTION as FIRST_EXCEPTION
    from typing import Any

    from traitlets.config import MultipleInstanceError as MultipleInstanceError

    from .client.asyncresult import AsyncMapResult as AsyncMapResult
    from .client.asyncresult import AsyncResult as AsyncResult
    from .client.client import Client as Client
    from .client.dependency import Dependency as Dependency
    from .client.dependency import depend as depend
    from .client.dependency import dependent as dependent
    from .client.dependency import require as require
    from .client.executor import ViewExecutor as ViewExecutor
    from .client.hubresult import AsyncHubResult as AsyncHubResult
    from .client.remotefunction import ParallelFunction as ParallelFunction
    from .client.remotefunction import RemoteFunction as RemoteFunction
    from .client.remotefunction import parallel as parallel
    from .client.remotefunction import remote as remote
    from .client.view import BroadcastView as BroadcastView
    from .client.view import DirectView as DirectView
    from .client.view import LoadBalancedView as LoadBalancedView
    from .cluster import Cluster as Cluster
    from .cluster import ClusterManager as ClusterManager
    from .compat import bind_kernel as bind_kernel
    from .compat import install_as_ipyparallel as install_as_ipyparallel
    from .compat import register_joblib_backend as register_joblib_backend
    from .serialize import *  # noqa: F403
    from .util import interactive as interactive

__version__ = "0.1.0"
version_info = (0, 1, 0)

# Where each public name lives; modules are relative to this package.
_HOMES = {
    ".client.client": ("Client",),
    ".client.view": ("DirectView", "LoadBalancedView", "BroadcastView"),
    ".client.executor": ("ViewExecutor",),
    ".client.asyncresult": ("AsyncResult", "AsyncMapResult"),
    ".client.hubresult": ("AsyncHubResult",),
    ".client.remotefunction": (
        "RemoteFunction",
        "ParallelFunction",
        "remote",
        "parallel",
    ),
    ".client.dependency": ("Dependency", "depend", "dependent", "require"),
    ".cluster": ("Cluster", "ClusterManager"),
    ".serialize": (
        "PrePickled",
        "Reference",
        "can",
        "can_map",
        "deserialize_object",
        "pack_apply_message",
        "serialize_object",
        "uncan",
        "uncan_map",
        "unpack_apply_message",
        "use_cloudpickle",
        "use_dill",
        "use_pickle",
    ),
    ".util": ("interactive",),
    ".compat": ("bind_kernel", "install_as_ipyparallel", "register_joblib_backend"),
    "concurrent.futures": ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"),
    "traitlets.config": ("MultipleInstanceError",),
}
_SUBMODULES = frozenset(
    [
        "client",
        "cluster",
        "controller",
        "datapub",
        "engine",
        "error",
        "joblib",
        "nbextension",
        "serialize",
        "util",
    ]
)
_home_of = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", "version_info", *sorted(_home_of)]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    module = _home_of.get(name)
    if module is not None:
        value = getattr(import_module(module, __name__), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        try:
            return import_module("." + name, __name__)
        except ModuleNotFoundError as e:
            if e.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_home_of, *_SUBMODULES})
