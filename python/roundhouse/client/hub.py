"""Requests to the hub: results, queues, history, the task database.

These functions are methods of Client; they stand here because they share the
forms in which jobs are named and records are read.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .. import error
from ..util import int_keys
from .asyncresult import AsyncResult
from .baseview import QUERY
from .history import History
from .hubresult import AsyncHubResult
from .message import HubMessage, Message, parse_date

if TYPE_CHECKING:
    from .._core import Request
    from .client import Client

_COLLECTIONS = (list, tuple, set, frozenset, types.GeneratorType)
_DATES = ("submitted", "started", "completed", "received")


def _jsonable(obj: Any) -> Any:
    if isinstance(obj, datetime):
        if obj.tzinfo is None:
            obj = obj.astimezone()
        return obj.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    if isinstance(obj, (set, frozenset)):
        return list(obj)
    if isinstance(obj, bytes):
        return obj.decode()
    if hasattr(obj, "__index__"):
        return obj.__index__()
    raise TypeError(f"cannot be sent as JSON: {obj!r}")


def to_json(content: dict[str, Any]) -> bytes:
    """A request's content as JSON; datetimes become ISO 8601, UTC."""
    return json.dumps(content, default=_jsonable).encode()


def msg_ids_from_jobs(client: Client, jobs: Any = None) -> list[str]:
    """The msg_ids of jobs: ids, indices of history, AsyncResults, or lists."""
    if not isinstance(jobs, _COLLECTIONS):
        jobs = [jobs]
    ids: list[str] = []
    for job in jobs:
        if isinstance(job, str):
            ids.append(job)
        elif isinstance(job, int):
            ids.append(client.history[job])
        elif isinstance(job, AsyncResult):
            ids.extend(job.msg_ids)
        else:
            raise TypeError(
                f"{job!r} names no request: take a msg_id, an index into history or a result"
            )
    return ids


def asyncresult_from_jobs(
    client: Client, jobs: Any = None, owner: bool = False
) -> AsyncResult:
    """An AsyncResult of jobs; an AsyncHubResult if some are not held here."""
    single = not isinstance(jobs, _COLLECTIONS)
    children: list[Any] = []
    for job in [jobs] if single else jobs:
        if isinstance(job, int):
            job = client.history[job]
        if isinstance(job, str):
            children.append(client._local(job) or HubMessage(client, job))
        elif isinstance(job, AsyncResult):
            children.extend(job._children)
            single = single and job._single_result
        else:
            raise TypeError(
                f"{job!r} names no request: take a msg_id, an index into history or a result"
            )
    of_hub = any(isinstance(c, HubMessage) and not c.done for c in children)
    kind = AsyncHubResult if of_hub else AsyncResult
    if single and len(children) == 1:
        return kind(client, children[0], owner=owner)
    return kind(client, children, owner=owner)


def get_result(
    self: Client,
    indices_or_msg_ids: Any = None,
    block: bool | None = None,
    owner: bool = True,
) -> AsyncResult:
    """The result of tasks, of this client or any other.

    Parameters
    ----------
    indices_or_msg_ids : msg_id, index of history, AsyncResult, or a list of these
        By default the last.
    block : bool, optional
        Wait for it.
    owner : bool
        Whether the client may forget it once it is here.

    Returns
    -------
    AsyncResult
        An AsyncHubResult if it has to be asked from the hub.
    """
    jobs = -1 if indices_or_msg_ids is None else indices_or_msg_ids
    ar = self._asyncresult_from_jobs(jobs, owner=owner)
    if self.block if block is None else block:
        ar.wait()
    return ar


def resubmit(
    self: Client,
    indices_or_msg_ids: Any = None,
    metadata: Any = None,
    block: bool | None = None,
    failed: bool = False,
) -> AsyncHubResult:
    """Run tasks again, as new tasks with new ids.

    Parameters
    ----------
    indices_or_msg_ids
        As for get_result; by default the last request.
    metadata
        Not used: they keep theirs.
    failed : bool
        Of these only the ones that raised an error; by default of all tasks of
        this client, without those that were resubmitted before.

    Raises RemoteError (KeyError) for tasks the hub does not know.
    """
    if failed:
        ids = _failed_tasks(self, indices_or_msg_ids)
    else:
        jobs = -1 if indices_or_msg_ids is None else indices_or_msg_ids
        ids = self._msg_ids_from_jobs(jobs)
    mapping = {}
    if ids:
        reply, _ = self._query("resubmit_request", {"msg_ids": ids})
        mapping = reply["resubmitted"]
    ar = AsyncHubResult(self, [mapping[i] for i in ids])
    if self.block if block is None else block:
        ar.wait()
    return ar


def _failed_tasks(self: Client, jobs: Any) -> list[str]:
    """Those of jobs, by default of this client's tasks, that raised an error."""
    if jobs is None:
        # A single condition: upstream's memory database mixes up several.
        records = self.db_query(
            {"client_uuid": self.session.session},
            ["queue", "result_content", "resubmitted"],
        )
        return [
            r["msg_id"]
            for r in records
            if r["queue"] == "task" and not r["resubmitted"] and _is_error(r)
        ]
    ids = self._msg_ids_from_jobs(jobs)
    here = {i: m for i in ids if (m := self._local(i)) is not None and m.done}
    ask = [i for i in ids if i not in here]
    query = {"msg_id": {"$in": ask}}
    records = self.db_query(query, ["result_content"]) if ask else []
    wrong = {r["msg_id"] for r in records if _is_error(r)}
    for msg_id, message in here.items():
        value = message.value()
        if message.failed and not isinstance(value, error.TaskAborted):
            wrong.add(msg_id)
    return [i for i in ids if i in wrong]


def _is_error(record: dict[str, Any]) -> bool:
    return (record["result_content"] or {}).get("status") == "error"


def _fill(
    messages: Sequence[HubMessage], reply: dict[str, Any], bufs: list[Any]
) -> None:
    """Give records to messages; buffers come in the order of sorted ids."""
    by_id = {m.msg_id: m for m in messages}
    for msg_id in sorted(by_id):
        if msg_id in reply:
            bufs = by_id[msg_id].fill(reply[msg_id], bufs)


def fill_from_hub(self: Client, messages: Sequence[HubMessage]) -> None:
    """Take what the hub has by now of messages; errors become their results."""
    ids = [m.msg_id for m in messages]
    try:
        if len(ids) > 1:
            content = {"msg_ids": ids, "status_only": True}
            completed = set(self._query("result_request", content)[0]["completed"])
            ids = [i for i in ids if i in completed]
            if not ids:
                return
        # Our hub answers at once about what still runs, but waits for the last
        # output of what is done.
        content = {
            "msg_ids": ids,
            "status_only": False,
            "roundhouse": {"wait": "output"},
        }
        _fill(messages, *self._query("result_request", content))
    except error.RemoteError as e:
        if len(messages) > 1:
            for message in messages:  # find out whose fault it is
                fill_from_hub(self, [message])
        else:
            messages[0].fail(e)


def ask_hub(self: Client, messages: Sequence[HubMessage]) -> Request:
    """Send a request for results that waits at the hub, if it is ours."""
    self._check_open()
    content = {
        "msg_ids": [m.msg_id for m in messages],
        "status_only": False,
        "roundhouse": {"wait": True},
    }
    return self._core.submit(QUERY, None, "result_request", to_json(content), b"{}")


def take_from_hub(
    self: Client, messages: Sequence[HubMessage], request: Request
) -> bool:
    """Take the results that came back for `ask_hub`.

    False if some are missing and the hub did not wait for them.
    """
    reply = json.loads(request.content or b"{}")
    if reply.get("status") != "ok":
        if len(messages) == 1:
            messages[0].fail(self._unwrap_exception(reply))
        else:
            fill_from_hub(self, messages)
        return True
    _fill(messages, reply, list(request.buffers))
    return not reply.get("pending") or "waited" in reply.get("roundhouse", ())


_PEEK = (
    "submitted",
    "engine_uuid",
    "execute_input",
    "execute_result",
    "error",
    "stdout",
    "stderr",
    "label",
)


def peek_at_hub(self: Client, messages: Sequence[HubMessage]) -> None:
    """Bring the metadata of tasks that are not finished up to date."""
    by_id = {m.msg_id: m for m in messages}
    try:
        found = self.db_query({"msg_id": {"$in": list(by_id)}}, keys=_PEEK)
    except error.RemoteError:
        return  # a hub without a database
    for rec in found:
        by_id[rec.pop("msg_id")].peek(rec)


def result_status(
    self: Client, msg_ids: Any, status_only: bool = True
) -> dict[str, Any]:
    """Which tasks are finished, and their results if asked.

    Parameters
    ----------
    msg_ids
        As for get_result.
    status_only : bool
        False: results are in the dict by msg_id, and errors are raised.

    Returns
    -------
    dict
        ``pending`` and ``completed``: lists of msg_ids.
    """
    ids = self._msg_ids_from_jobs(msg_ids)
    local: dict[str, Any] = {}
    ask = []
    for msg_id in ids:
        message = self._local(msg_id)
        if message is not None and message.done:
            local[msg_id] = message
        else:
            ask.append(msg_id)
    content: dict[str, Any] = {"completed": [], "pending": []}
    bufs: list[Any] = []
    if ask:
        content, bufs = self._query(
            "result_request", {"msg_ids": ask, "status_only": status_only}
        )
        content.pop("status", None)
    content["completed"] = [*content["completed"], *local]
    if status_only:
        return content
    fetched = [HubMessage(self, i) for i in ask if i in content]
    _fill(fetched, content, bufs)
    for message in fetched:
        dict.__setitem__(self.results, message.msg_id, message)
    failures = []
    for message in (*fetched, *local.values()):
        value = content[message.msg_id] = message.value()
        if message.failed:
            failures.append(value)
    if failures and len(ids) == 1:
        raise failures[0]
    error.collect_exceptions(failures, "result_status")
    return content


def queue_status(self: Client, targets: Any = "all", verbose: bool = False) -> Any:
    """What is queued for the engines.

    Parameters
    ----------
    targets
        'all' includes engines that are gone.
    verbose : bool
        Lists of msg_ids instead of counts.

    Returns
    -------
    dict
        By engine id, a dict of ``queue``, ``tasks`` and ``completed``; and
        ``unassigned``.  For a single int target only its dict.
    """
    every = targets is None or (isinstance(targets, str) and targets == "all")
    ids = None if every else self._build_targets(targets)[1]
    content, _ = self._query("queue_request", {"targets": ids, "verbose": verbose})
    content.pop("status", None)
    status: dict[Any, Any] = int_keys(content)
    if isinstance(targets, int) and ids:
        return status[ids[0]]
    return status


def _check_purge(jobs: Any, targets: Any) -> None:
    if not targets and targets != 0 and not jobs and jobs != 0:
        raise ValueError("purge what? give jobs, targets or both")


def _no_targets(targets: Any) -> bool:
    return targets is None or (
        isinstance(targets, Iterable) and not isinstance(targets, str) and not targets
    )


def purge_local_results(self: Client, jobs: Any = (), targets: Any = ()) -> None:
    """Forget results this client holds.

    Parameters
    ----------
    jobs : 'all', or as for get_result
    targets
        Engines whose results are forgotten.

    Raises
    ------
    RuntimeError
        If one of them is outstanding.
    ValueError
        If nothing is given.
    """
    _check_purge(jobs, targets)
    outstanding = self.outstanding
    held: dict[str, Message] = self._live
    if isinstance(jobs, str) and jobs == "all":
        if outstanding:
            raise RuntimeError(f"Can't purge outstanding tasks: {outstanding}")
        held.clear()
        self.results.clear()
        self.metadata.clear()
        return
    ids = set(self._msg_ids_from_jobs(jobs))
    if not _no_targets(targets):
        uuids = set(self._build_targets(targets)[0])
        for msg_id, md in self.metadata.items():
            if md["engine_uuid"] in uuids:
                ids.add(msg_id)
    if outstanding & ids:
        raise RuntimeError(f"Can't purge outstanding tasks: {outstanding & ids}")
    for msg_id in ids:
        held.pop(msg_id, None)
        self.results.pop(msg_id, None)
        self.metadata.pop(msg_id)


def purge_hub_results(self: Client, jobs: Any = (), targets: Any = ()) -> None:
    """Have the hub forget finished tasks; see purge_local_results."""
    _check_purge(jobs, targets)
    ids = [] if _no_targets(targets) else self._build_targets(targets)[1]
    everything = isinstance(jobs, str) and jobs == "all"
    msg_ids = jobs if everything else self._msg_ids_from_jobs(jobs)
    self._query("purge_request", {"engine_ids": ids, "msg_ids": msg_ids})


def purge_results(self: Client, jobs: Any = (), targets: Any = ()) -> None:
    """Forget results here and in the hub; see purge_local_results."""
    self.purge_local_results(jobs=jobs, targets=targets)
    self.purge_hub_results(jobs=jobs, targets=targets)


def purge_everything(self: Client) -> None:
    """Forget all results here and in the hub, and the history here."""
    self.purge_results("all")
    self.history = History()
    self.session.digest_history.clear()


def hub_history(self: Client) -> list[str]:
    """The msg_ids of all clients the hub knows, in the order of submission."""
    history: list[str] = self._query("history_request", {})[0]["history"]
    return history


def db_query(self: Client, query: dict[str, Any], keys: Any = None) -> list[Any]:
    """Look up task records.

    Parameters
    ----------
    query : dict
        In MongoDB's style: values, or {operator: value}, by key.
    keys : str or list of str, optional
        What to return; by default everything but buffers.  ``msg_id`` always is.

    Returns
    -------
    list of dict
        Dates are aware datetimes.
    """
    if isinstance(keys, str):
        keys = [keys]
    reply, bufs = self._query(
        "db_request", {"query": query, "keys": None if keys is None else list(keys)}
    )
    records: list[Any] = reply["records"]
    lens = {
        "buffers": reply.get("buffer_lens"),
        "result_buffers": reply.get("result_buffer_lens"),
    }
    for i, record in enumerate(records):
        for key in ("header", "result_header"):
            head = record.get(key)
            if isinstance(head, dict) and "date" in head:
                head["date"] = parse_date(head["date"])
        for key in _DATES:
            if key in record:
                record[key] = parse_date(record[key])
        for key, counts in lens.items():
            if counts is not None:
                record[key], bufs = bufs[: counts[i]], bufs[counts[i] :]
    return records
