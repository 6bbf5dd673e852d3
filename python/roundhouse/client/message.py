"""One request and what has come back for it.

A Message pairs a request of the core with what Python makes of it: the value,
the error, the metadata.  Everything is made when it is asked for, in the thread
that asks, so a result nobody looks at costs nothing but its bytes.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .. import error
from ..serialize.serialize import deserialize_object, deserialize_result
from .debug import print_reply

if TYPE_CHECKING:
    from .._core import Request
    from .client import Client

__all__ = ["ExecuteReply", "Message", "Metadata"]

_UNSET: Any = object()

_FIELDS: dict[str, Any] = {
    "msg_id": None,
    "submitted": None,
    "started": None,
    "completed": None,
    "received": None,
    "engine_uuid": None,
    "engine_id": None,
    "follow": None,
    "after": None,
    "status": None,
    "execute_input": None,
    "execute_result": None,
    "error": None,
    "stdout": "",
    "stderr": "",
    "outputs": None,
    "data": None,
    "label": None,
}
# Names of older versions for the same things.
_OLD_NAMES = {"pyin": "execute_input", "pyout": "execute_result", "pyerr": "error"}

# Text of a line that a carriage return overwrites.
_overwritten = re.compile(r".*\r(?=[^\n])")


class Metadata(dict):  # type: ignore[type-arg]
    """What is known about one call; keys are also attributes.

    The set of keys is fixed: a new one raises KeyError (AttributeError).  Times
    are aware datetimes, UTC.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(_FIELDS)
        dict.__setitem__(self, "outputs", [])
        dict.__setitem__(self, "data", {})
        self.update(*args, **kwargs)

    def __missing__(self, key: str) -> Any:
        try:
            return dict.__getitem__(self, _OLD_NAMES[key])
        except KeyError:
            raise KeyError(key) from None

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(key) from None

    def __setattr__(self, key: str, value: Any) -> None:
        try:
            self[key] = value
        except KeyError:
            raise AttributeError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self:
            raise KeyError(f"{key!r} is not a field of call metadata")
        dict.__setitem__(self, key, value)


FIELD_NAMES = frozenset(_FIELDS) | frozenset(_OLD_NAMES)


def from_epoch(t: float | None) -> datetime | None:
    """Seconds since the epoch as an aware datetime."""
    return None if t is None else datetime.fromtimestamp(t, timezone.utc)


def parse_date(text: Any) -> Any:
    """A datetime for an ISO 8601 text of the protocol; others unchanged.

    A date without zone is local time.
    """
    if not isinstance(text, str):
        return text
    if text.endswith("Z"):
        text = text[:-1] + "+00:00"
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    return when if when.tzinfo is not None else when.astimezone()


class Message:
    """A request, its reply and its output.

    `kind` is how the reply is read: ``apply`` (serialized value), ``execute``
    (an ExecuteReply), ``many`` (serialized values of several engines), or
    ``raw``.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_metadata",
        "_taken",
        "_value",
        "client",
        "failed",
        "kind",
        "label",
        "msg_id",
        "request",
    )

    client: Client
    request: Request

    def __init__(self, client: Client, request: Request, kind: str, label: Any) -> None:
        self.client = client
        self.request = request
        self.kind = kind
        self.label = label
        self.msg_id = request.msg_id
        self.failed = False
        self._value = _UNSET
        self._metadata: Metadata | None = None
        self._callbacks: list[Callable[[], None]] | None = None

    @property
    def done(self) -> bool:
        """Whether the reply is here."""
        return self.request.done

    @property
    def output_done(self) -> bool:
        """Whether all output is here too."""
        return self.request.output_done

    @property
    def success(self) -> bool:
        """Whether the reply says so; only once it is here."""
        return self.request.status == "ok"

    @property
    def sent(self) -> bool:
        """Whether the arguments' memory may be changed again."""
        return self.request.sent

    def wait_sent(self, timeout: float | None) -> bool:
        """Wait until `sent`; False on timeout."""
        return self.request.wait_sent(timeout)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call callback() once the reply is here, from the receiving thread."""
        with _subscribing:
            callbacks = self._callbacks
            if callbacks is not None:
                if callbacks is not _FIRED:
                    callbacks.append(callback)
                    return
            else:
                self._callbacks = [callback]
        if callbacks is _FIRED:
            callback()
        else:
            self.request.set_callback(self._fire)

    def _fire(self, request: Any) -> None:
        with _subscribing:
            callbacks, self._callbacks = self._callbacks, _FIRED
        for callback in callbacks or ():
            callback()

    def value(self) -> Any:
        """The result, or the exception it failed with (see `failed`)."""
        v = self._value
        if v is _UNSET:
            failed, v = self._read()
            if self._value is _UNSET:
                self.failed = failed
                self._value = v
            else:  # another thread was faster: everyone sees its object
                v = self._value
        return v

    def _read(self) -> tuple[bool, Any]:
        req = self.request
        status = req.status
        if self.client._debug:
            print_reply(req)
        try:
            if status == "ok":
                if self.kind == "apply":
                    return False, deserialize_result(req.buffers)
                if self.kind == "execute":
                    content = json.loads(req.content or b"{}")
                    return False, ExecuteReply(self.msg_id, content, self)
                if self.kind == "many":
                    return False, self._read_many(list(req.buffers))
                return False, json.loads(req.content or b"{}")
            if status == "aborted":
                return True, error.TaskAborted(self.msg_id)
            content = json.loads(req.content or b"{}")
            return True, self.client._unwrap_exception(content)
        except Exception as e:
            return True, e

    @staticmethod
    def _read_many(bufs: list[Any]) -> list[Any]:
        values = []
        while bufs:
            value, bufs = deserialize_object(bufs)
            values.append(value)
        return values

    @property
    def metadata(self) -> Metadata:
        """What is known so far; always the same dict, brought up to date."""
        md = self._metadata
        req = self.request
        if md is None:
            md = Metadata(
                msg_id=self.msg_id,
                submitted=from_epoch(req.submitted),
                label=self.label,
            )
            self._taken = 0
            self._metadata = md
        with _subscribing:
            self._take_output(md)
            if md["status"] is None and req.done:
                self._take_reply(md)
        return md

    def _take_reply(self, md: Metadata) -> None:
        req = self.request
        meta = json.loads(req.metadata or b"{}")
        header = json.loads(req.reply_header or b"{}")
        uuid = meta.get("engine") or req.engine_uuid
        many = bool(meta.get("is_coalescing", False))
        values: dict[str, Any] = {
            "received": from_epoch(req.received),
            "started": parse_date(meta.get("started")),
            "completed": parse_date(header.get("date")),
            "follow": meta.get("follow", []),
            "after": meta.get("after", []),
            "is_broadcast": bool(meta.get("is_broadcast", False)),
            "is_coalescing": many,
        }
        if "label" in meta:
            values["label"] = meta["label"]
        if many and meta.get("broadcast_targets"):
            uuids, ids = zip(*meta["broadcast_targets"])
            values["engine_uuid"], values["engine_id"] = list(uuids), list(ids)
        elif uuid is not None:
            values["engine_uuid"] = uuid
            values["engine_id"] = self.client._engine_id(uuid)
        values["status"] = req.status
        dict.update(md, values)

    def _take_output(self, md: Metadata) -> None:
        req = self.request
        for name in ("stdout", "stderr"):
            text = getattr(req, name)
            if len(text) != len(md[name]):
                md[name] = _overwritten.sub("", text) if "\r" in text else text
        outputs = req.outputs
        if len(outputs) == self._taken:
            return
        for out in outputs[self._taken :]:
            self._take_one(md, *out)
        self._taken = len(outputs)

    def _take_one(
        self,
        md: Metadata,
        msg_type: str,
        header: bytes,
        metadata: bytes,
        content: bytes,
        buffers: Any,
    ) -> None:
        if md["engine_uuid"] is None:
            uuid = (
                json.loads(metadata or b"{}").get("engine") or self.request.engine_uuid
            )
            if uuid is not None:
                md["engine_uuid"] = uuid
                md["engine_id"] = self.client._engine_id(uuid)
        if msg_type == "stream":
            return
        if msg_type == "data_message":
            md["data"].update(deserialize_object(buffers)[0])
            return
        body = json.loads(content)
        if msg_type == "error":
            md["error"] = self.client._unwrap_exception(body)
        elif msg_type == "execute_input":
            md["execute_input"] = body.get("code")
        elif msg_type == "display_data":
            md["outputs"].append(body)
        elif msg_type == "execute_result":
            md["execute_result"] = body


_FIRED: list[Any] = []
# Guards callback lists and the building of metadata; held for moments only.
_subscribing = threading.RLock()


class HubMessage:
    """A task of another client, or an earlier one: read from the hub's records.

    Has the interface of Message that results need.
    """

    __slots__ = ("client", "failed", "metadata", "msg_id", "result")

    def __init__(self, client: Client, msg_id: str) -> None:
        self.client = client
        self.msg_id = msg_id
        self.metadata = Metadata(msg_id=msg_id)
        self.result = _UNSET
        self.failed = False

    @property
    def done(self) -> bool:
        return self.result is not _UNSET

    @property
    def output_done(self) -> bool:
        return self.result is not _UNSET

    @property
    def success(self) -> bool:
        return not self.failed

    @property
    def sent(self) -> bool:
        return True  # by somebody else, or long ago

    def wait_sent(self, timeout: float | None) -> bool:
        return True

    def subscribe(self, callback: Callable[[], None]) -> None:
        callback()  # only those that are here are subscribed to

    def value(self) -> Any:
        return self.result

    def fail(self, e: Exception) -> None:
        """The hub has no result, for this reason."""
        self.failed = True
        self.result = e

    def peek(self, rec: dict[str, Any]) -> None:
        """Take what a record of the database says of a task that goes on."""
        uuid = rec.get("engine_uuid")
        values = {k: v for k, v in rec.items() if v is not None}
        if uuid:
            values["engine_id"] = self.client._engine_id(uuid)
        dict.update(self.metadata, values)

    def fill(self, rec: dict[str, Any], bufs: list[Any]) -> list[Any]:
        """Take the hub's record of the task; returns the buffers left over."""
        header = rec.get("result_header") or {}
        content = rec.get("result_content") or {}
        if isinstance(content, str):
            content = json.loads(content)
        self._fill_metadata(rec, header, content)
        status = content.get("status", "error")
        if status == "ok":
            if header.get("msg_type") == "execute_reply":
                value: Any = ExecuteReply(self.msg_id, content, self)
            else:
                try:
                    value, bufs = deserialize_object(bufs)
                except Exception as e:
                    self.failed, value = True, e
                    bufs = []
        elif status == "aborted":
            self.failed, value = True, error.TaskAborted(self.msg_id)
        else:
            self.failed, value = True, self.client._unwrap_exception(content)
        self.result = value
        return bufs

    def _fill_metadata(
        self, rec: dict[str, Any], header: dict[str, Any], content: dict[str, Any]
    ) -> None:
        request = rec.get("header") or {}
        meta = rec.get("result_metadata") or {}
        uuid = meta.get("engine") or header.get("engine")
        values: dict[str, Any] = {
            "submitted": parse_date(request.get("date")),
            "started": parse_date(meta.get("started")),
            "completed": parse_date(header.get("date")),
            "received": parse_date(rec.get("received")),
            "follow": meta.get("follow", []),
            "after": meta.get("after", []),
            "status": content.get("status"),
            "label": meta.get("label") or (rec.get("metadata") or {}).get("label"),
            "is_broadcast": bool(meta.get("is_broadcast", False)),
            "is_coalescing": bool(meta.get("is_coalescing", False)),
        }
        if uuid is not None:
            values["engine_uuid"] = uuid
            values["engine_id"] = self.client._engine_id(uuid)
        for key, v in (rec.get("io") or {}).items():
            if key in _FIELDS:
                values[key] = v
        dict.update(self.metadata, values)


class ExecuteReply:
    """The value of an execute: how it went, and what it displayed.

    Attributes of the call's metadata (``stdout``, ``engine_id``…) are
    attributes and items of it.  IPython shows it as ``Out[engine:count]: …``.
    """

    def __init__(self, msg_id: str, content: dict[str, Any], metadata: Any) -> None:
        self.msg_id = msg_id
        self._content = content
        self.execution_count = content.get("execution_count")
        self._source = metadata

    @property
    def metadata(self) -> Any:
        """The metadata of the call, as far as it is known by now."""
        source = self._source
        return source if isinstance(source, dict) else source.metadata

    @property
    def _result(self) -> dict[str, Any]:
        return self.metadata["execute_result"] or {}

    @property
    def source(self) -> str:
        """The code of the displayed result, if the engine said."""
        text: str = self._result.get("source", "")
        return text

    @property
    def data(self) -> dict[str, Any]:
        """The displayed result by MIME type; empty if nothing was displayed."""
        data: dict[str, Any] = self._result.get("data", {})
        return data

    @property
    def _metadata(self) -> dict[str, Any]:
        md: dict[str, Any] = self._result.get("metadata", {})
        return md

    def display(self) -> None:
        """Show the result in the IPython frontend."""
        from IPython.display import publish_display_data

        publish_display_data(self.data, self._metadata)

    def __getitem__(self, key: str) -> Any:
        return self.metadata[key]

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self.metadata[key]
        except KeyError:
            raise AttributeError(key) from None

    def __repr__(self) -> str:
        text = self.data.get("text/plain", "")
        if len(text) > 32:
            text = text[:29] + "..."
        return f"<ExecuteReply[{self.execution_count}]: {text}>"

    def _plaintext(self) -> str:
        text = self.data.get("text/plain", "")
        if not text:
            return ""
        from .display import prompt_colors

        red, normal = prompt_colors()
        if "\n" in text and not text.startswith("\n"):
            text = "\n" + text
        where = f"Out[{self.metadata['engine_id']}:{self.execution_count}]: "
        return f"{red}{where}{normal}{text}"

    def _repr_pretty_(self, p: Any, cycle: bool) -> None:
        p.text(self._plaintext())

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> Any:
        data = dict(self.data)
        if "text/plain" in data:
            data["text/plain"] = self._plaintext()
        return data, self._metadata

    def _repr_mime_(self, mime: str) -> Any:
        if mime not in self.data:
            return None
        if mime in self._metadata:
            return self.data[mime], self._metadata[mime]
        return self.data[mime]

    def _repr_html_(self) -> Any:
        return self._repr_mime_("text/html")

    def _repr_latex_(self) -> Any:
        return self._repr_mime_("text/latex")

    def _repr_json_(self) -> Any:
        return self._repr_mime_("application/json")

    def _repr_javascript_(self) -> Any:
        return self._repr_mime_("application/javascript")

    def _repr_png_(self) -> Any:
        return self._repr_mime_("image/png")

    def _repr_jpeg_(self) -> Any:
        return self._repr_mime_("image/jpeg")

    def _repr_svg_(self) -> Any:
        return self._repr_mime_("image/svg+xml")
