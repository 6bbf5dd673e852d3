"""What ``Client(debug=True)`` prints: requests when sent, replies when read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["TalkingCore", "print_reply"]

# ORDER channels: as roundhouse._core numbers them
_CHANNELS = ("mux", "task", "control", "broadcast", "query")
_LONG = 500  # characters of JSON that are shown


def _short(json: bytes | None) -> str:
    text = (json or b"").decode(errors="replace")
    return text if len(text) <= _LONG else text[:_LONG] + "..."


def _sizes(buffers: Sequence[Any]) -> str:
    return f"{len(buffers)} buffers of {[memoryview(b).nbytes for b in buffers]} bytes"


class TalkingCore:
    """A core that prints what it is given to send."""

    def __init__(self, core: Any) -> None:
        self.silent = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self.silent, name)

    def submit(
        self,
        channel: int,
        ident: str | None,
        msg_type: str,
        content: bytes,
        metadata: bytes,
        buffers: Sequence[Any] = (),
        /,
        **options: Any,
    ) -> Any:
        """As the core's."""
        request = self.silent.submit(
            channel, ident, msg_type, content, metadata, buffers, **options
        )
        print(
            f"-> {_CHANNELS[channel]} {ident or ''} {msg_type} {request.msg_id}\n"
            f"   {_short(content)} {_short(metadata)} {_sizes(buffers)}"
        )
        return request


def print_reply(request: Any) -> None:
    """Print the reply of a request that is done."""
    print(
        f"<- {request.status} {request.msg_id} of {request.engine_uuid or 'the hub'}\n"
        f"   {_short(request.content)} {_short(request.metadata)} "
        f"{_sizes(request.buffers)}"
    )
