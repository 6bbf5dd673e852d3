"""Widgets of engines in this kernel's frontend: relaying comm messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client

__all__ = ["relay"]


def relay(
    client: Client,
    topic: bytes,
    msg_type: str,
    header: bytes,
    parent: bytes,
    metadata: bytes,
    content: bytes,
    buffers: Any,
) -> None:
    """Pass a comm message of an engine on to the frontend of this kernel.

    A comm that opens gets a twin here, which sends the frontend's messages back
    to the engine.  Outside a kernel there is nobody to pass it to.
    """
    from .display import get_shell

    shell = get_shell()
    kernel = getattr(shell, "kernel", None)
    if kernel is None or not msg_type.startswith("comm_"):
        return
    body = json.loads(content)
    meta = json.loads(metadata or b"{}")
    if msg_type == "comm_open":
        _open_twin(client, kernel, body["comm_id"], meta.get("engine", ""))
    kernel.session.send(
        kernel.iopub_socket,
        msg_type,
        content=body,
        metadata=meta,
        buffers=list(buffers),
        parent=kernel.get_parent("shell"),
    )


def _open_twin(client: Client, kernel: Any, comm_id: str, engine: str) -> None:
    from ipykernel.comm import Comm

    def send(msg_type: str, content: dict[str, Any], buffers: Any = ()) -> None:
        client._core.submit(
            0, engine, msg_type, json.dumps(content).encode(), b"{}", list(buffers)
        )

    comm = Comm(comm_id=comm_id, primary=False)
    comm.on_msg(lambda msg: send("comm_msg", msg["content"], msg.get("buffers", ())))
    comm.on_close(lambda msg: send("comm_close", {"comm_id": comm_id}))
    kernel.comm_manager.register_comm(comm)
