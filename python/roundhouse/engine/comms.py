"""Comms (widgets and their like) over the engine's iopub."""

import comm
from comm.base_comm import BaseComm, CommManager

from . import jsontext

_engine = None
_manager = CommManager()


class EngineComm(BaseComm):
    """One end of a comm; the other is in a client."""

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
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


def install(engine):
    """Make this engine the place comms of this process go through."""
    global _engine
    _engine = engine
    comm.create_comm = EngineComm
    comm.get_comm_manager = lambda: _manager


def comm_info(target_name=None):
    """Content of a comm_info_reply."""
    return {
        "comms": {
            key: {"target_name": c.target_name}
            for key, c in _manager.comms.items()
            if target_name is None or c.target_name == target_name
        }
    }


def handle(msg_type, msg):
    """Give a comm_open, comm_msg or comm_close to its comm."""
    getattr(_manager, msg_type)(None, None, msg)
