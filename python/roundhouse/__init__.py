"""Roundhouse: interactive parallel computing with live engines.

``import roundhouse as ipp`` is a drop-in for ipyparallel.  Importing the
package costs next to nothing, because engines do it: names are loaded when they
are first used.

Examples
--------
>>> import roundhouse as ipp
>>> with ipp.Cluster(n=4) as rc:  # doctest: +SKIP
...     rc[:].apply_sync(os.getpid)
"""

from __future__ import annotations

__version__ = "0.1.0"
version_info = (0, 1, 0)

# Where each public name lives; modules are relative to this package.
_HOMES = {
    ".client.client": ("Client",),
    ".client.view": ("DirectView", "LoadBalancedView", "BroadcastView"),
    ".client.executor": ("ViewExecutor",),
    ".client.asyncresult": ("AsyncResult", "AsyncMapResult", "AsyncHubResult"),
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
    ".error": (
        "AlreadyDisplayedError",
        "CompositeError",
        "DependencyTimeout",
        "EngineError",
        "IPythonError",
        "ImpossibleDependency",
        "InvalidDependency",
        "KernelError",
        "NoEnginesRegistered",
        "RemoteError",
        "TaskAborted",
        "TaskRejectError",
        "TaskTimeout",
        "TimeoutError",
        "UnmetDependency",
        "collect_exceptions",
        "unwrap_exception",
        "wrap_exception",
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


def __getattr__(name: str) -> object:
    from importlib import import_module

    module = _home_of.get(name)
    if module is not None:
        value: object = getattr(import_module(module, __name__), name)
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
