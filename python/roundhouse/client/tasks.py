"""What a controller of ours can tell about tasks, and do to those that wait.

These functions are methods of Client.  They use requests that ipyparallel's
controllers do not know, so the controller is asked first what it offers:
docs/protocol/extensions.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import error
from .message import Message

if TYPE_CHECKING:
    from .client import Client

__all__ = ["Explanation", "Explanations"]

_BATCH = 1000  # ids per request: no more are explained at once
# A request to the hub may overtake the task it is about, which travels on
# another connection.
_OVERTAKEN_S = 1.0
_PAUSE_S = 0.005


class Explanation(dict):  # type: ignore[type-arg]
    """Why a task is where it is; prints as a sentence.

    Keys: ``msg_id``; ``state``: 'waiting' (for other tasks, or for a retry),
    'queued' (for an engine), 'running', 'finished' or 'unknown'; ``engine``: id
    or None; ``waiting_for``: msg_ids; ``excluded``: list of {'engine', 'why'};
    ``behind``: number of tasks before it; ``tries``; ``text``.
    """

    def __repr__(self) -> str:
        return f"{self['msg_id']}: {self['text']}"

    __str__ = __repr__

    def _repr_pretty_(self, p: Any, cycle: bool) -> None:
        p.text(repr(self))


class Explanations(list):  # type: ignore[type-arg]
    """A list of Explanation; prints as lines."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    __str__ = __repr__

    def _repr_pretty_(self, p: Any, cycle: bool) -> None:
        p.text(repr(self))


def _explained(msg_id: str, state: str, text: str, **more: Any) -> Explanation:
    keys: dict[str, Any] = {
        "engine": None,
        "waiting_for": [],
        "excluded": [],
        "behind": 0,
        "tries": 0,
    }
    return Explanation({"msg_id": msg_id, "state": state, **keys, **more, "text": text})


def offers(self: Client, name: str) -> bool:
    """Whether the controller offers an extension; it is asked once."""
    if self._offered is None:
        offered = self._query("connection_request", {})[0].get("roundhouse") or {}
        self._offered = offered if offered.get("version") == 1 else {}
    return bool(self._offered.get(name))


def _need(self: Client, name: str) -> None:
    if not self._offers(name):
        raise RuntimeError(
            f"Client.{name} needs Roundhouse's controller: the controller of "
            "this cluster is ipyparallel's, or older, and does not offer it"
        )


def _ask(
    self: Client,
    ids: Sequence[str],
    msg_type: str,
    read: Callable[[dict[str, Any]], dict[str, dict[str, Any]]],
) -> dict[str, dict[str, Any]]:
    """What the scheduler says of tasks, by id; read() finds it in a reply.

    Those that it does not know, and this client sent, are asked about again for
    a while.
    """
    told: dict[str, dict[str, Any]] = {}
    deadline = None
    while ids:
        for i in range(0, len(ids), _BATCH):
            content = {"msg_ids": list(ids[i : i + _BATCH])}
            told.update(read(self._query(msg_type, content)[0]))
        live = self._live
        ids = [
            i
            for i in ids
            if told[i]["state"] == "unknown" and i in live and not live[i].done
        ]
        if deadline is None:
            deadline = time.monotonic() + _OVERTAKEN_S
        elif time.monotonic() > deadline:
            break
        if ids:
            time.sleep(_PAUSE_S)
    return told


def _of_here(self: Client, ids: Sequence[str]) -> dict[str, Explanation]:
    """What this client knows itself: of finished tasks, and of direct calls."""
    known = {}
    for msg_id in ids:
        message = self._local(msg_id)
        if message is None:
            continue
        if message.done:
            known[msg_id] = _explain_finished(message)
        elif isinstance(message, Message) and message.request.engine_uuid is not None:
            known[msg_id] = _explain_direct(self, message)
    return known


def _explain_finished(message: Any) -> Explanation:
    value, engine = message.value(), message.metadata["engine_id"]
    where = "" if engine is None else f" on engine {engine}"
    if not message.failed:
        text = f"it succeeded{where}"
    elif isinstance(value, error.TaskAborted):
        text = "it was aborted before it started"
    else:
        text = f"it failed{where}: {value}"
    return _explained(message.msg_id, "finished", text, engine=engine)


def _explain_direct(self: Client, message: Message) -> Explanation:
    uuid = message.request.engine_uuid
    engine = self._engine_id(uuid) if uuid is not None else None
    before = [
        m.msg_id
        for m in list(self._live.values())
        if m.request.engine_uuid == uuid and not m.done
    ]
    msg_id = message.msg_id
    behind = before.index(msg_id) if msg_id in before else 0
    text = f"it was sent to engine {engine} directly, which has not answered"
    if behind:
        text += f"; {behind} earlier calls of this client wait there"
    state = "queued" if behind else "running"
    return _explained(msg_id, state, text, engine=engine, behind=behind)


def explain(self: Client, task: Any) -> Any:
    """Why a task is where it is: what it waits for, and why not elsewhere.

    Parameters
    ----------
    task : msg_id, index of history, AsyncResult, or a list of these

    Returns
    -------
    Explanation
        A dict that prints as a sentence; a list of them for several tasks.

    Raises
    ------
    RuntimeError
        If the scheduler has to be asked, and the controller is not ours.
    """
    ids = self._msg_ids_from_jobs(task)
    known = _of_here(self, ids)
    ask = [i for i in ids if i not in known]
    if ask:
        _need(self, "explain")
        told = _ask(self, ask, "task_explain_request", lambda reply: reply["tasks"])
        unknown = [i for i in ask if told[i]["state"] == "unknown"]
        known.update((i, Explanation({"msg_id": i, **told[i]})) for i in ask)
        known.update(_of_here(self, unknown))  # finished while it was asked about
    found = Explanations([known[i] for i in ids])
    single = isinstance(task, (str, int)) or getattr(task, "_single_result", False)
    return found[0] if single else found


def _read_cancelled(reply: dict[str, Any]) -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = {
        i: {"state": state}
        for state in ("cancelled", "finished", "unknown")
        for i in reply.get(state, ())
    }
    for i, engine in reply["running"].items():
        told[i] = {"state": "running", "engine": engine}
    return told


def cancel_waiting(self: Client, ids: Sequence[str]) -> dict[str, Any]:
    """Have the scheduler take tasks from its queue; see `cancel`."""
    told = _ask(self, ids, "task_cancel_request", _read_cancelled)
    answer: dict[str, Any] = {
        state: [i for i in told if told[i]["state"] == state]
        for state in ("cancelled", "finished", "unknown")
    }
    for i in list(answer["unknown"]):  # finished while it was asked about
        message = self._local(i)
        if message is not None and message.done:
            answer["unknown"].remove(i)
            answer["finished"].append(i)
    running = {i: told[i]["engine"] for i in told if told[i]["state"] == "running"}
    return {**answer, "running": running}


def cancel(self: Client, jobs: Any = None) -> dict[str, Any]:
    """Take tasks that wait in the scheduler from its queue.

    Each of them is answered at once: its result raises TaskAborted, and tasks
    that depend on it fail.  What runs goes on, but is not retried.

    Parameters
    ----------
    jobs : msg_id, index of history, AsyncResult, or a list of these
        By default all tasks of this client that are outstanding.

    Returns
    -------
    dict
        ``cancelled``, ``finished``, ``unknown``: lists of msg_ids; ``running``:
        engine ids by msg_id.

    Raises
    ------
    RuntimeError
        If the controller is not ours: `abort` works with all.
    """
    ids = list(self.outstanding) if jobs is None else self._msg_ids_from_jobs(jobs)
    _need(self, "cancel")
    return cancel_waiting(self, _tasks_of(self, ids))


def _tasks_of(self: Client, ids: Sequence[str]) -> list[str]:
    """Those of the ids that the scheduler may know."""
    return [i for i in ids if not _is_direct(self._live.get(i))]


def _is_direct(message: Message | None) -> bool:
    return message is not None and message.request.engine_uuid is not None


def abort_waiting(self: Client, ids: Sequence[str]) -> list[str]:
    """Cancel what waits in the scheduler, if it can; the ids that are left."""
    tasks = _tasks_of(self, ids)
    if not tasks or not self._offers("cancel"):
        return list(ids)
    told = cancel_waiting(self, tasks)
    over = {*told["cancelled"], *told["finished"]}
    return [i for i in ids if i not in over]
