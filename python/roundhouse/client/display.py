"""Showing the output of engines here: at once, or as it arrives.

Streams go to this process's stdout and stderr, headed by ``[stdout:3] `` when
the engine or the stream changes.  Displays and results need IPython; without it
only the streams are shown.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import error
from .comms import relay
from .message import ExecuteReply, Message

if TYPE_CHECKING:
    from .asyncresult import AsyncResult

__all__ = ["display_outputs", "get_shell", "in_kernel", "stream_output"]


def get_shell() -> Any:
    """The running IPython shell, or None; never imports IPython."""
    module = sys.modules.get("IPython")
    get = getattr(module, "get_ipython", None)
    return get() if get is not None else None


def in_kernel() -> bool:
    """Whether this is an IPython kernel (a notebook)."""
    return getattr(get_shell(), "kernel", None) is not None


def prompt_colors() -> tuple[str, str]:
    """Escape sequences around an Out prompt; empty if colours are off."""
    shell = get_shell()
    colors = str(getattr(shell, "colors", "nocolor"))
    if colors.lower() == "nocolor":
        return "", ""
    return "\x1b[0;31m", "\x1b[0m"


def _raw(text: str) -> None:
    from IPython.display import display_pretty

    display_pretty(text, raw=True)


class Printer:
    """Prints pieces of streams, with a header line when the origin changes."""

    def __init__(self) -> None:
        self.last = ""
        self.newline = True

    def stream(self, text: str, prefix: str = "", file: Any = None) -> None:
        """Print text, headed by prefix unless it was printed last."""
        if not text:
            return
        head = ""
        if prefix and prefix != self.last:
            self.last = prefix
            head = ("" if self.newline else "\n") + prefix + "\n"
        self.newline = text.endswith("\n")
        print(head + text, file=file or sys.stdout, end="")


def _republish(content: dict[str, Any], engine: Any) -> None:
    """Show one display of an engine in this frontend."""
    shell = get_shell()
    if shell is None:
        return
    metadata = dict(content.get("metadata") or {})
    metadata["engine"] = engine
    shell.display_pub.publish(data=content["data"], metadata=metadata)


def _show(value: Any) -> None:
    from IPython.display import display

    display(value)


def display_outputs(ar: AsyncResult, groupby: str, result_only: bool) -> None:
    """Show the finished output of a result; see AsyncResult.display_outputs."""
    if groupby not in ("type", "engine", "order"):
        raise ValueError(
            f"groupby must be one of 'type', 'engine', 'order', not {groupby!r}"
        )
    ar.wait_for_output()
    if ar._single_result:
        _display_single(ar, result_only)
    elif groupby == "engine":
        _display_by_engine(ar, result_only)
    else:
        _display_by_type(ar, result_only, groupby == "order")


def _display_single(ar: AsyncResult, result_only: bool) -> None:
    md = ar.metadata
    if not result_only:
        out = Printer()
        out.stream(md["stdout"])
        out.stream(md["stderr"], file=sys.stderr)
    if get_shell() is None:
        return
    if not result_only:
        for content in md["outputs"]:
            _republish(content, md["engine_id"])
    if md["execute_result"] is not None:
        _show(ar.get())


def _display_by_engine(ar: AsyncResult, result_only: bool) -> None:
    out = Printer()
    shell = get_shell()
    for child, md in zip(ar._children, ar._metadata):
        engine = md["engine_id"]
        if not result_only:
            out.stream(md["stdout"], f"[stdout:{engine}] ")
            out.stream(md["stderr"], f"[stderr:{engine}] ", sys.stderr)
        if shell is None:
            continue
        outputs = [] if result_only else md["outputs"]
        if outputs or md["execute_result"] is not None:
            _raw(f"[output:{engine}]")
        for content in outputs:
            _republish(content, engine)
        if md["execute_result"] is not None:
            _show(child.value())


def _display_by_type(ar: AsyncResult, result_only: bool, in_order: bool) -> None:
    mds = ar._metadata
    if not result_only:
        out = Printer()
        for md in mds:
            out.stream(md["stdout"], f"[stdout:{md['engine_id']}] ")
        for md in mds:
            out.stream(md["stderr"], f"[stderr:{md['engine_id']}] ", sys.stderr)
    if get_shell() is None:
        return
    if not result_only:
        if in_order:
            _displays_in_order(mds)
        else:
            for md in mds:
                if md["outputs"]:
                    _raw(f"[output:{md['engine_id']}]")
                for content in md["outputs"]:
                    _republish(content, md["engine_id"])
    for child, md in zip(ar._children, mds):
        if md["execute_result"] is not None:
            _show(child.value())


def _displays_in_order(mds: list[Any]) -> None:
    for i in range(max([len(md["outputs"]) for md in mds], default=0)):
        for md in mds:
            if i < len(md["outputs"]):
                _raw(f"[output:{md['engine_id']}]")
                _republish(md["outputs"][i], md["engine_id"])


class _Streamer:
    """Shows the output of one result as it arrives.

    Every piece is shown once and in order: `shown` counts, per message, the
    pieces already taken; whoever notices new ones shows them under the lock.
    """

    def __init__(self, ar: AsyncResult) -> None:
        self.lock = threading.RLock()
        self.out = Printer()
        self.errors = 0
        self.updating: set[str] = set()
        targets = ar._targets or [None] * len(ar._children)
        self.engines = dict(zip([c.msg_id for c in ar._children], targets))
        self.shown = dict.fromkeys(self.engines, 0)

    def take_from(self, child: Message, request: Any) -> None:
        """`take`, as the callback of a request."""
        self.take(child)

    def take(self, child: Message) -> None:
        """Show what is new of one message."""
        with self.lock:
            outputs = child.request.outputs
            first = self.shown[child.msg_id]
            self.shown[child.msg_id] = len(outputs)
            for msg_type, header, metadata, content, buffers in outputs[first:]:
                try:
                    if msg_type.startswith("comm_"):
                        relay(
                            child.client, b"", msg_type, header, b"{}", metadata,
                            content, buffers,
                        )  # fmt: skip
                    else:
                        self.show(child, msg_type, json.loads(content or b"{}"))
                except Exception as e:  # never into the receiving thread
                    print(f"cannot show {msg_type} output: {e}", file=sys.stderr)

    def engine(self, child: Message) -> Any:
        """The engine's id, for the header."""
        engine = self.engines.get(child.msg_id)
        return child.metadata["engine_id"] if engine is None else engine

    def show(self, child: Message, msg_type: str, content: dict[str, Any]) -> None:
        """Show one piece of output."""
        if msg_type == "stream":
            self.show_stream(child, content)
        elif msg_type == "error":
            self.show_error(child, content)
        elif get_shell() is None:
            return
        elif msg_type == "execute_result":
            md = child.metadata
            reply = ExecuteReply(child.msg_id, content, md)
            if md["execute_result"] is None:
                dict.__setitem__(md, "execute_result", content)
            _show(reply)
        elif msg_type == "display_data":
            engine = self.engine(child)
            _raw(f"[output:{engine}]")
            _republish(content, engine)

    def show_stream(self, child: Message, content: dict[str, Any]) -> None:
        name = content["name"]
        prefix = f"[{name}:{self.engine(child)}] "
        if not in_kernel():
            file = getattr(sys, name, sys.stdout)
            self.out.stream(content["text"], prefix, file)
            return
        # In a notebook each stream is one display that is updated, so that
        # the outputs of several engines do not interleave.
        from IPython.display import publish_display_data

        display_id = f"{child.msg_id}-{name}"
        publish_display_data(
            {"text/plain": prefix + child.metadata[name]},
            transient={"display_id": display_id},
            update=display_id in self.updating,
        )
        self.updating.add(display_id)

    def show_error(self, child: Message, content: dict[str, Any]) -> None:
        if "engine_info" not in content:
            md = child.metadata
            content["engine_info"] = {
                "engine_id": md["engine_id"],
                "engine_uuid": md["engine_uuid"],
                "method": child.kind,
            }
        err = child.client._unwrap_exception(content)
        self.errors += 1
        if self.errors <= error.CompositeError.tb_limit:
            print("\n".join(err.render_traceback()), file=sys.stderr)
        else:
            print(err, file=sys.stderr)


@contextmanager
def stream_output(ar: AsyncResult) -> Iterator[None]:
    """Show output while the block runs; what came before is shown first."""
    streamer = _Streamer(ar)
    children = [c for c in ar._children if isinstance(c, Message)]
    for child in children:
        child.request.set_output_callback(partial(streamer.take_from, child))
        streamer.take(child)
    try:
        yield
    finally:
        for child in children:
            child.request.set_output_callback(None)
        for child in children:
            streamer.take(child)
