"""Requests other than apply: what a Jupyter kernel answers.

A handler gets (hooks, header, metadata, content, buffers) with the three dicts
as JSON text, and returns (status, members, abort_executes): the reply's status,
its other members as JSON without braces, and whether the execute requests that
wait are to be cancelled.  Status "own" is among the members; "silent" makes no
reply.  Raising makes an error reply.
"""

from __future__ import annotations

import json

from . import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


SILENT = ("silent", "", False)


def _ok(reply: Any) -> Any:
    return "ok", jsontext.members(reply), False


def on_execute(
    hooks: Any, header: bytes, metadata: bytes, raw: bytes, buffers: Any
) -> Any:
    content = json.loads(raw)
    code = content["code"]
    silent = bool(content.get("silent", False))
    reply = hooks.shell.do_execute(
        code,
        silent=silent,
        store_history=bool(content.get("store_history", not silent)),
        user_expressions=content.get("user_expressions") or {},
    )
    status = reply.pop("status")
    failed = status == "error"
    abort = failed and not silent and bool(content.get("stop_on_error", True))
    return status, jsontext.members(reply), abort


def on_complete(
    hooks: Any, header: bytes, metadata: bytes, raw: bytes, buffers: Any
) -> Any:
    content = json.loads(raw)
    code = content["code"]
    return _ok(hooks.shell.do_complete(code, content.get("cursor_pos", len(code))))


def on_inspect(
    hooks: Any, header: bytes, metadata: bytes, raw: bytes, buffers: Any
) -> Any:
    content = json.loads(raw)
    code = content["code"]
    return _ok(
        hooks.shell.do_inspect(
            code,
            content.get("cursor_pos", len(code)),
            int(content.get("detail_level", 0)),
        )
    )


def on_is_complete(
    hooks: Any, header: bytes, metadata: bytes, raw: bytes, buffers: Any
) -> Any:
    status, indent = hooks.shell.do_is_complete(json.loads(raw)["code"])
    reply = {"status": status}
    if status == "incomplete":
        reply["indent"] = indent
    return "own", jsontext.members(reply), False


def on_history(
    hooks: Any, header: bytes, metadata: bytes, raw: bytes, buffers: Any
) -> Any:
    return _ok(hooks.shell.do_history(json.loads(raw)))


def on_comm_info(
    hooks: Any, header: bytes, metadata: bytes, raw: bytes, buffers: Any
) -> Any:
    hooks.shell  # noqa: B018 - connects the comm package
    from .comms import comm_info

    return _ok(comm_info(json.loads(raw).get("target_name")))


def _comm_message(msg_type: str) -> Any:
    def on_comm(
        hooks: Any, header: bytes, metadata: bytes, raw: bytes, buffers: Any
    ) -> Any:
        hooks.shell  # noqa: B018 - connects the comm package
        from .comms import handle

        handle(
            msg_type,
            {
                "header": json.loads(header),
                "metadata": json.loads(metadata),
                "content": json.loads(raw),
                "buffers": buffers,
            },
        )
        return SILENT

    return on_comm


handlers = {
    "execute_request": on_execute,
    "complete_request": on_complete,
    "inspect_request": on_inspect,
    "is_complete_request": on_is_complete,
    "history_request": on_history,
    "comm_info_request": on_comm_info,
    "comm_open": _comm_message("comm_open"),
    "comm_msg": _comm_message("comm_msg"),
    "comm_close": _comm_message("comm_close"),
}
