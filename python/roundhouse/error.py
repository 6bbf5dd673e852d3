"""Errors, and how the errors of engines are shown.

An error on an engine arrives as text: class name, message, traceback lines and
`engine_info`, which says where it happened.  It is raised as `RemoteError`; a
call on several engines collects its errors in one `CompositeError`.
"""

from __future__ import annotations

import builtins
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Optional

    # One error of a CompositeError: ename, evalue, traceback text, engine_info.
    ErrorTuple = tuple[str, Any, Optional[str], dict[str, Any]]

__all__ = [
    "AbortedTask",
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
    "UnmetDependencyError",
    "collect_exceptions",
    "unwrap_exception",
    "wrap_exception",
]

TimeoutError = builtins.TimeoutError

_NO_TRACEBACK = "No traceback available"

# What differs between engines in one and the same error: colours, addresses,
# numbers of cells and of processes.
_noise = re.compile(r"\x1b\[[0-9;]*m|0x[0-9a-fA-F]+|In\[\d+\]|ipykernel_\d+[/\\]\d+")


class IPythonError(Exception):
    """Base of every error here."""


class KernelError(IPythonError):
    """Something went wrong in a kernel (an engine) or on the way to it."""


class EngineError(KernelError):
    """The engine was lost, or left, before it answered."""


class NoEnginesRegistered(KernelError):
    """The operation needs engines and there are none."""

    def __str__(self) -> str:
        said = super().__str__()
        return (
            said + " " if said else ""
        ) + "No engine is registered: client.wait_for_engines(n) waits for n."


class TaskAborted(KernelError):
    """The task was aborted before it started."""


class TaskTimeout(KernelError):
    """The task waited longer than its timeout to be started."""


class TaskRejectError(KernelError):
    """Raised by a task on an engine to be sent to another one.

    Needs `retries` of at least 1.
    """


class UnmetDependency(KernelError):
    """A dependency does not hold on this engine; another one may be tried."""


class ImpossibleDependency(UnmetDependency):
    """A dependency that can no longer be met anywhere."""


class DependencyTimeout(ImpossibleDependency):
    """A dependency was not met in time."""


class InvalidDependency(ImpossibleDependency):
    """A dependency on a task the scheduler has never seen."""


# Names the manual uses.
AbortedTask = TaskAborted
UnmetDependencyError = UnmetDependency


class RemoteError(KernelError):
    """An error that was raised elsewhere.

    Attributes
    ----------
    ename : str
        Name of the exception's class.
    evalue : str
        Its text.
    traceback : str
        The formatted remote traceback; may contain terminal colours.
    engine_info : dict
        ``engine_uuid``, ``engine_id`` and ``method``; empty if the error did
        not come from an engine.
    """

    ename: str
    evalue: Any
    traceback: str | None
    engine_info: dict[str, Any]

    def __init__(
        self,
        ename: str,
        evalue: Any,
        traceback: str | None = None,
        engine_info: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(ename, evalue)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback
        self.engine_info = engine_info or {}

    def __reduce__(self) -> Any:
        return (
            type(self),
            (self.ename, self.evalue, self.traceback, self.engine_info),
        )

    def __repr__(self) -> str:
        where = self.engine_info.get("engine_id", " ")
        return f"<{type(self).__name__}[{where}]:{self.ename}({self.evalue})>"

    def __str__(self) -> str:
        where = self._get_engine_str(self.engine_info)
        return f"{where} {self.ename}: {self.evalue}"

    @staticmethod
    def _get_engine_str(engine_info: dict[str, Any] | None) -> str:
        if not engine_info:
            return "[Engine Exception]"
        engine = engine_info.get("engine_id", "?")
        return f"[{engine}:{engine_info.get('method', '?')}]"

    def render_traceback(self) -> list[str]:
        """The remote traceback as lines, headed by where it happened."""
        text = self.traceback or _NO_TRACEBACK
        return [self._get_engine_str(self.engine_info), *text.splitlines()]

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: show this instead of the local traceback."""
        return self.render_traceback()

    def print_traceback(self, excid: int | None = None) -> None:
        """Print the remote traceback."""
        print("\n".join(self.render_traceback()))


class CompositeError(RemoteError):
    """The errors of a call that ran in several places.

    Attributes
    ----------
    msg : str
    elist : list of (ename, evalue, traceback, engine_info)
    tb_limit : int
        How many of the errors are shown; may be set on the class.
    """

    tb_limit = 4

    def __init__(self, message: str, elist: Sequence[ErrorTuple]) -> None:
        Exception.__init__(self, message, elist)
        self.msg = message
        self.elist = list(elist)
        self.ename = "CompositeError"
        self.evalue = self
        self.traceback = None
        self.engine_info = {}
        self.args = tuple([e[0] for e in elist])

    def __reduce__(self) -> Any:
        return type(self), (self.msg, self.elist)

    def __str__(self) -> str:
        lines = [str(self.msg)]
        for ename, evalue, _, info in self.elist[: self.tb_limit]:
            lines.append(f"{self._get_engine_str(info)}{ename}: {evalue}")
        more = len(self.elist) - self.tb_limit
        if more > 0:
            lines.append(f".... {more} more exceptions ...")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"CompositeError({len(self.elist)})"

    def _pick(self, excid: int) -> ErrorTuple:
        try:
            return self.elist[excid]
        except (IndexError, TypeError):
            raise IndexError(
                f"an exception with index {excid} does not exist; "
                f"there are {len(self.elist)}"
            ) from None

    def fold(self) -> list[list[int]]:
        """Numbers of the errors (indices into `elist`), equal ones together.

        Equal are errors of one class, text and traceback; addresses of objects
        and numbers of cells do not count.
        """
        found: dict[Any, list[int]] = {}
        for i, (ename, evalue, tb, _) in enumerate(self.elist):
            text = _noise.sub("", f"{evalue}\n{tb}")
            found.setdefault((ename, text), []).append(i)
        return list(found.values())

    def _folded_head(self, group: list[int]) -> str:
        """Where a group of equal errors happened, with ids as ranges."""
        infos = [self.elist[i][3] or {} for i in group]
        head = self._get_engine_str(infos[0])
        if len(group) == 1:
            return head + ":"
        # An engine that is gone may be known by its uuid only.
        found = {info.get("engine_id") for info in infos}
        ids = {i for i in found if isinstance(i, int)}
        if len(ids) > 1:
            head = f"[{_ranges(ids)}:{infos[0].get('method', '?')}]"
        return f"{head}, {len(group)} times:"

    def render_folded(self) -> list[str]:
        """Tracebacks as lines, each once for all engines where it happened.

        The first `tb_limit` different ones.  IPython shows this.
        """
        groups = self.fold()
        shown = groups[: self.tb_limit]
        lines: list[str] = []
        for group in shown:
            tb = self.elist[group[0]][2] or _NO_TRACEBACK
            lines += [self._folded_head(group), *tb.splitlines(), ""]
        more = len(self.elist) - sum([len(g) for g in shown])
        if more > 0:
            lines.append(f"... {more} more exceptions ...")
        return lines

    def _render_traceback_(self) -> list[str]:
        return self.render_folded()

    def render_traceback(self, excid: int | None = None) -> list[str]:
        """One traceback, or the first `tb_limit` of them, as lines.

        Raises IndexError if there is no error number excid.
        """
        if excid is not None:
            _, _, tb, info = self._pick(excid)
            head = self._get_engine_str(info) + ":"
            return [head, *(tb or _NO_TRACEBACK).splitlines()]
        lines: list[str] = []
        for i in range(min(len(self.elist), self.tb_limit)):
            lines += [*self.render_traceback(i), ""]
        more = len(self.elist) - self.tb_limit
        if more > 0:
            lines.append(f"... {more} more exceptions ...")
        return lines

    def print_traceback(self, excid: int | None = None) -> None:
        """Print one traceback, or the first `tb_limit` of them."""
        print("\n".join(self.render_traceback(excid)))

    def raise_exception(self, excid: int = 0) -> None:
        """Raise one of the errors as a RemoteError.

        Raises IndexError if there is no error number excid.
        """
        raise RemoteError(*self._pick(excid))


def _ranges(ids: set[int]) -> str:
    """Engine ids in short: 0-3,7."""
    parts: list[list[int]] = []
    for i in sorted(ids):
        if parts and parts[-1][-1] == i - 1:
            parts[-1] = [parts[-1][0], i]
        else:
            parts.append([i])
    return ",".join(["-".join(map(str, p)) for p in parts])


class AlreadyDisplayedError(RemoteError):
    """Stands in for a CompositeError whose parts were shown as they came."""

    def __init__(self, original_error: CompositeError) -> None:
        Exception.__init__(self, original_error)
        self.original_error = original_error
        self.n = len(original_error.elist)
        self.ename = type(self).__name__
        self.evalue = str(self)
        self.traceback = None
        self.engine_info = {}

    def __reduce__(self) -> Any:
        return type(self), (self.original_error,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self.n} errors)>"

    def __str__(self) -> str:
        return f"{self.n} errors"

    def render_traceback(self) -> list[str]:
        """Only the count: the tracebacks were shown already."""
        return [str(self)]


def collect_exceptions(rdict_or_list: Any, method: str = "unspecified") -> Any:
    """Return the results, or raise a CompositeError of the errors in them.

    Parameters
    ----------
    rdict_or_list : dict or list
        Results; a dict's values are looked at.
    method : str
        What was called, for the message.
    """
    results = (
        rdict_or_list.values() if isinstance(rdict_or_list, dict) else rdict_or_list
    )
    elist: list[ErrorTuple] = []
    for r in results:
        if isinstance(r, CompositeError):
            elist.extend(r.elist)
        elif isinstance(r, RemoteError):
            if r.ename == "CompositeError" and hasattr(r.evalue, "elist"):
                elist.extend(r.evalue.elist)
            else:
                elist.append((r.ename, r.evalue, r.traceback, r.engine_info))
    if not elist:
        return rdict_or_list
    raise CompositeError(f"one or more exceptions raised in: {method}", elist)


def wrap_exception(engine_info: dict[str, Any] | None = None) -> dict[str, Any]:
    """The exception being handled, as the content of an error reply."""
    import traceback

    kind, value, tb = sys.exc_info()
    return {
        "status": "error",
        "traceback": traceback.format_exception(kind, value, tb),
        "ename": kind.__name__ if kind else "None",
        "evalue": str(value),
        "engine_info": {} if engine_info is None else engine_info,
    }


def unwrap_exception(content: dict[str, Any]) -> RemoteError:
    """The RemoteError for the content of an error reply."""
    return RemoteError(
        content.get("ename", "UnknownError"),
        content.get("evalue", ""),
        "\n".join(content.get("traceback") or []),
        content.get("engine_info") or {},
    )
