"""The protocol by hand: clients and engines made of nothing but pyzmq.

They do what a test tells them and no more, so that a test can also do what no
real peer would: sign with another key, answer twice, or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import socket
import threading
import time
import uuid
from datetime import datetime, timezone

import zmq

DELIM = b"<IDS|MSG>"


def packed(value) -> bytes:
    return json.dumps(value).encode()


class Message:
    """A received message, its dicts parsed."""

    def __init__(self, frames: list[bytes]):
        at = frames.index(DELIM)
        self.frames = frames
        self.idents = frames[:at]
        self.signature = frames[at + 1]
        self.parts = frames[at + 2 : at + 6]
        self.header, self.parent, self.metadata, self.content = map(
            json.loads, self.parts
        )
        self.buffers = frames[at + 6 :]

    @property
    def type(self) -> str:
        return self.header["msg_type"]

    def __repr__(self) -> str:
        return f"<{self.type} {self.idents} {self.metadata} {self.content}>"


class Session:
    def __init__(self, key: str, name: str | None = None, scheme: str = "hmac-sha256"):
        self.key = key.encode()
        self.name = name or uuid.uuid4().hex
        self.digest = getattr(hashlib, scheme.partition("-")[2])
        self.count = itertools.count()

    def sign(self, parts: list[bytes]) -> bytes:
        if not self.key:
            return b""
        return hmac.new(self.key, b"".join(parts), self.digest).hexdigest().encode()

    def header(self, msg_type: str) -> dict:
        return {
            "msg_id": f"{self.name}_{next(self.count)}",
            "msg_type": msg_type,
            "username": "raw",
            "session": self.name,
            "date": datetime.now(timezone.utc).isoformat(),
            "version": "5.3",
        }

    def frames(
        self,
        msg_type,
        content=None,
        metadata=None,
        parent=None,
        buffers=(),
        header=None,
    ):
        header = header or self.header(msg_type)
        parts = [
            packed(d) for d in (header, parent or {}, metadata or {}, content or {})
        ]
        return header, [DELIM, self.sign(parts), *parts, *buffers]


def url(info: dict, channel: str, i: int | None = None) -> str:
    port = info[channel] if i is None else info[channel][i % len(info[channel])]
    return f"{info['interface'].replace('*', '127.0.0.1')}:{port}"


def free_context() -> zmq.Context:
    context = zmq.Context()
    context.linger = 0
    return context


class Client:
    """Sockets of a client; each is made when it is first used."""

    def __init__(self, info: dict, key: str | None = None, curve: bool = True):
        self.info = info
        self.session = Session(
            info["key"] if key is None else key, scheme=info["signature_scheme"]
        )
        self.context = free_context()
        self.curve = curve and info.get("curve_serverkey")
        self.sockets: dict[str, zmq.Socket] = {}

    def socket(self, channel: str) -> zmq.Socket:
        if channel not in self.sockets:
            sub = channel in ("notification", "iopub")
            s = self.context.socket(zmq.SUB if sub else zmq.DEALER)
            if self.curve:
                s.curve_publickey, s.curve_secretkey = zmq.curve_keypair()
                s.curve_serverkey = self.curve.encode()
            if sub:
                s.subscribe(b"")
            s.connect(url(self.info, channel))
            self.sockets[channel] = s
        return self.sockets[channel]

    def send(self, channel, msg_type, content=None, *, target=None, **kwargs) -> str:
        header, frames = self.session.frames(msg_type, content, **kwargs)
        prefix = [] if target is None else [target.encode()]
        self.socket(channel).send_multipart(prefix + frames)
        return header["msg_id"]

    def recv(self, channel: str, timeout: float = 60) -> Message | None:
        s = self.socket(channel)
        if not s.poll(timeout * 1000):
            return None
        return Message(s.recv_multipart())

    def recv_parent(
        self, channel: str, msg_id: str, timeout: float = 60
    ) -> Message | None:
        """The reply to *msg_id*; others are dropped."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            m = self.recv(channel, max(0.0, end - time.monotonic()))
            if m and m.parent.get("msg_id") == msg_id:
                return m
        return None

    def ask(
        self, msg_type: str, content=None, *, channel="registration", **kwargs
    ) -> Message:
        """One request and its reply; fails if there is none within a minute."""
        msg_id = self.send(channel, msg_type, content, **kwargs)
        reply = self.recv_parent(channel, msg_id)
        assert reply, f"no reply to {msg_type}"
        return reply

    def engines(self) -> dict[int, str]:
        content = self.ask("connection_request").content
        assert content["status"] == "ok"
        return {int(k): v for k, v in content["engines"].items()}

    def apply(self, target: str, op: str = "echo", buffers=(), **content) -> str:
        return self.send(
            "mux",
            "apply_request",
            {"op": op, **content},
            target=target,
            buffers=buffers,
        )

    def task(self, op: str = "echo", metadata=None, buffers=(), **content) -> str:
        return self.send(
            "task",
            "apply_request",
            {"op": op, **content},
            metadata=metadata,
            buffers=buffers,
        )

    def close(self):
        for s in self.sockets.values():
            s.close()
        self.context.term()


class Engine:
    """An engine on DEALER sockets, run by a thread.

    What it does with a request says the request's content: ``op`` is "echo"
    (answer with the request's buffers), "hang" (no answer), "fail", "unmet",
    "sleep" (``seconds``).  Everything it got is in ``seen``.
    """

    CHANNELS = ("mux", "task", "control")

    def __init__(
        self,
        info: dict,
        name: str | None = None,
        *,
        identity: str | None = None,
        lifeline=True,
        id=None,
        beat=True,
        start=True,
    ):
        self.info = info
        self.name = name or str(uuid.uuid4())
        self.identity = identity or self.name
        self.session = Session(info["key"], self.name, info["signature_scheme"])
        self.context = free_context()
        self.curve = info.get("curve_serverkey")
        self.sockets: dict[str, zmq.Socket] = {}
        self.seen: list[Message] = []
        self.beat = beat
        self.id: int | None = None
        self.lifeline: socket.socket | None = None
        self.want_lifeline = lifeline
        self.want_id = id
        self.reply: Message | None = None
        self.thread: threading.Thread | None = None
        self.running = False
        if start:
            self.register()
            self.run()

    def socket(
        self, name: str, kind=zmq.DEALER, address: str | None = None
    ) -> zmq.Socket:
        s = self.context.socket(kind)
        if self.curve:
            s.curve_publickey, s.curve_secretkey = zmq.curve_keypair()
            s.curve_serverkey = self.curve.encode()
        if kind == zmq.DEALER:
            s.identity = self.identity.encode()
        if kind == zmq.SUB:
            s.subscribe(b"")
        s.connect(address or url(self.info, name))
        self.sockets[name] = s
        return s

    def register(self) -> dict:
        s = self.sockets.get("registration") or self.socket("registration")
        content = {"uuid": self.name}
        if self.want_id is not None:
            content["id"] = self.want_id
        _, frames = self.session.frames("registration_request", content)
        s.send_multipart(frames)
        assert s.poll(60000), "no registration reply"
        self.reply = Message(s.recv_multipart())
        content = self.reply.content
        if content["status"] != "ok":
            raise RuntimeError(content["evalue"])
        self.id = content["id"]
        offer = content.get("roundhouse", {}).get("lifeline")
        if self.want_lifeline and offer:
            self.open_lifeline(offer["port"], offer["token"])
        return content

    def open_lifeline(self, port: int, token: str):
        self.lifeline = socket.create_connection(("127.0.0.1", port))
        self.lifeline.sendall(f"RHLIFE1 {self.name} {token}\n".encode())

    def run(self):
        for name in self.CHANNELS:
            self.socket(name)
        self.socket("broadcast", address=url(self.info, "broadcast", self.id))
        self.socket("iopub", zmq.PUB)
        if self.beat:
            self.socket("hb_pong")
            self.socket("hb_ping", zmq.SUB)
        self.running = True
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        poller = zmq.Poller()
        for name, s in self.sockets.items():
            if name != "iopub":
                poller.register(s, zmq.POLLIN)
        names = {s: name for name, s in self.sockets.items()}
        while self.running:
            for s, _ in poller.poll(50):
                name = names[s]
                frames = s.recv_multipart()
                if name == "hb_ping":
                    if self.beat:
                        self.sockets["hb_pong"].send_multipart(frames)
                elif DELIM in frames:
                    # Nonsense that was passed on is not answered.
                    with contextlib.suppress(
                        ValueError, KeyError, AttributeError, TypeError
                    ):
                        self.on_request(name, s, Message(frames))

    def on_request(self, name: str, s: zmq.Socket, m: Message):
        m.channel = name
        self.seen.append(m)
        op = m.content.get("op", "echo")
        if op == "hang":
            return
        if op == "sleep":
            time.sleep(m.content["seconds"])
        self.answer(s, m, op)

    def answer(self, s: zmq.Socket, m: Message, op: str = "echo"):
        metadata = {
            "started": datetime.now(timezone.utc).isoformat(),
            "dependencies_met": op != "unmet",
            "engine": self.name,
            "is_broadcast": m.metadata.get("is_broadcast", False),
            "is_coalescing": m.metadata.get("is_coalescing", False),
            "original_msg_id": m.metadata.get("original_msg_id", ""),
            "status": "ok",
        }
        content = {"status": "ok", "args": m.content}
        buffers = m.buffers
        if op in ("fail", "unmet"):
            metadata["status"] = "error"
            content = {
                "status": "error",
                "ename": "UnmetDependency" if op == "unmet" else "RuntimeError",
                "evalue": "as asked",
                "traceback": [],
                "engine_info": {
                    "engine_uuid": self.name,
                    "engine_id": self.id,
                    "method": "apply",
                },
            }
            buffers = []
        _, frames = self.session.frames(
            m.type.replace("_request", "_reply"), content, metadata, m.header, buffers
        )
        with contextlib.suppress(zmq.ZMQError):
            s.send_multipart(m.idents + frames)

    def publish(self, kind: str, msg_type: str, content: dict, parent: dict):
        _, frames = self.session.frames(
            msg_type, content, {"engine": self.name}, parent
        )
        self.sockets["iopub"].send_multipart(
            [f"engine.{self.id}.{kind}".encode(), *frames]
        )

    def unregister(self):
        _, frames = self.session.frames("unregistration_request", {"id": self.id})
        self.sockets["registration"].send_multipart(frames)

    def die(self):
        """What the kernel does for a killed process: every connection ends."""
        self.stop()

    def stop(self):
        self.running = False
        if self.thread:
            self.thread.join(30)
        if self.lifeline:
            self.lifeline.close()
        for s in self.sockets.values():
            s.close(linger=0)
        self.context.term()
