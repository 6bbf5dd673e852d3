"""Comms (widgets and their like) over the engine's iopub."""

from __future__ import annotations

import comm
from comm.base_comm import BaseComm, CommManager

from . import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_engine = None
_manager = CommManager()


class EngineComm(BaseComm):
    """One end of a comm; the other is in a client."""

    def publish_msg(
        self,
        msg_type: str,
        data: Any = None,
        metadata: Any = None,
        buffers: Any = None,
        **keys: Any,
    ) -> None:
        if _engine is None:
            raise RuntimeError("comms need a running engine")
        content = {"data": data or {}, "comm_id": self.comm_id, **keys}
        meta = {**(metadata or {}), "engine": _engine.uuid}
        _engine.publish(
            "",
            msg_type,
            jsontext.dumps(content),
            jsontext.dumps(meta),
            buffers,
            f"comm-{self.comm_id}",
        )


def install(engine: Any) -> None:
    """Make this engine the place comms of this process go through."""
    global _engine
    _engine = engine
    comm.create_comm = EngineComm
    comm.get_comm_manager = lambda: _manager


def comm_info(target_name: Any = None) -> Any:
    """Content of a comm_info_reply."""
    return {
        "comms": {
            key: {"target_name": c.target_name}
            for key, c in _manager.comms.items()
            if target_name is None or c.target_name == target_name
        }
    }


def handle(msg_type: str, msg: Any) -> None:
    """Give a comm_open, comm_msg or comm_close to its comm."""
    getattr(_manager, msg_type)(None, None, msg)
