"""What strangers may send must leave the rest working."""

from __future__ import annotations

import random
import signal
import socket
import struct
import threading
import time

import pytest
import rawzmq
import zmq

GREETING = (
    b"\xff"
    + b"\x00" * 8
    + b"\x7f"
    + b"\x03\x00"
    + b"NULL"
    + b"\x00" * 16
    + b"\x00" * 32
)


@pytest.fixture
def cluster(controller, raw_engine, raw_client):
    """A controller with an engine and a client, and a check that all work."""
    engine = raw_engine(controller)
    client = raw_client(controller)

    class Cluster:
        def works(self):
            for channel in ("mux", "control"):
                m = client.ask("apply_request", channel=channel, target=engine.name)
                assert m.content["status"] == "ok"
            assert client.recv_parent("task", client.task()).content["status"] == "ok"
            metadata = {"targets": [[engine.name, engine.id]], "is_coalescing": False}
            client.send("broadcast", "apply_request", metadata=metadata)
            assert client.recv("broadcast").content["status"] == "ok"
            assert client.engines()[engine.id] == engine.name
            assert controller.alive()

    c = Cluster()
    c.controller, c.engine, c.client = controller, engine, client
    c.works()
    yield c
    c.works()
    assert controller.stop(signal.SIGTERM) == 0


def ports(controller) -> list[int]:
    found = set()
    for info in (controller.client_info, controller.engine_info):
        for value in info.values():
            found.update([value] if isinstance(value, int) else [])
        found.update(
            [info["broadcast"]]
            if isinstance(info["broadcast"], int)
            else info["broadcast"]
        )
    return sorted(found)


def test_random_bytes_on_every_port(cluster):
    rng = random.Random(1)
    lifeline = cluster.engine.reply.content["roundhouse"]["lifeline"]["port"]
    for port in [*ports(cluster.controller), lifeline]:
        for size in (0, 1, 9, 64, 1000, 100_000):
            with socket.create_connection(("127.0.0.1", port)) as s:
                s.settimeout(10)
                try:
                    s.sendall(rng.randbytes(size))
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except OSError:
                    pass


def handshake(port: int, kind: bytes = b"DEALER") -> socket.socket:
    """A ZMTP 3 connection made by hand, ready for frames."""
    s = socket.create_connection(("127.0.0.1", port))
    s.settimeout(10)
    s.sendall(GREETING)
    got = b""
    while len(got) < 64:
        got += s.recv(64 - len(got))
    body = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    s.sendall(b"\x04" + bytes([len(body)]) + body)
    s.recv(1000)
    return s


SOCKET_KINDS = {
    "registration": b"DEALER",
    "control": b"DEALER",
    "mux": b"DEALER",
    "task": b"DEALER",
    "broadcast": b"DEALER",
    "iopub": b"SUB",
    "notification": b"SUB",
    "hb_ping": b"SUB",
    "hb_pong": b"DEALER",
}


def channels(controller):
    for info in (controller.client_info, controller.engine_info):
        engine = "hb_ping" in info
        for name, kind in SOCKET_KINDS.items():
            if name not in info:
                continue
            if name == "iopub" and engine:
                kind = b"PUB"
            port = info[name]
            yield name, port[0] if isinstance(port, list) else port, kind


def test_frame_headers_of_gigabytes(cluster):
    before = cluster.controller
    open_sockets = []
    for name, port, kind in channels(before):
        for size in (4 << 30, 1 << 40, (1 << 63) - 1, (1 << 64) - 1):
            s = handshake(port, kind)
            open_sockets.append(s)
            try:
                s.sendall(b"\x02" + struct.pack(">Q", size) + b"x" * 1000)
                # A first frame that promises more, and then the same.
                s.sendall(b"\x01\x01a\x02" + struct.pack(">Q", size))
            except OSError:
                pass  # it has hung up on us
        assert name
    cluster.works()
    for s in open_sockets:
        s.close()


def test_truncated_frames(cluster):
    _, frames = cluster.client.session.frames("apply_request")
    wire = b"".join(
        bytes([1 if i + 1 < len(frames) else 0, len(f)]) + f
        for i, f in enumerate(frames)
        if len(f) < 256
    )
    for _, port, kind in channels(cluster.controller):
        for cut in (1, 2, len(wire) // 2, len(wire) - 1):
            with handshake(port, kind) as s:
                s.sendall(wire[:cut])


@pytest.mark.parametrize("missing", range(1, 7))
def test_messages_without_all_their_parts(cluster, missing):
    _, frames = cluster.client.session.frames("apply_request")
    frames = frames[:-missing]
    for channel in ("registration", "mux", "control", "task", "broadcast"):
        s = cluster.client.socket(channel)
        s.send_multipart(frames or [b""])
        s.send_multipart([cluster.engine.name.encode(), *frames])


def test_a_million_bytes_of_header(cluster):
    client = cluster.client
    for text in (
        "[" * 1_000_000,
        '{"msg_id": "' + "x" * 1_000_000 + '"}',
        '{"a":' * 200_000,
    ):
        parts = [text.encode(), b"{}", b"{}", b"{}"]
        frames = [rawzmq.DELIM, client.session.sign(parts), *parts]
        for channel in ("registration", "task", "broadcast"):
            client.socket(channel).send_multipart(frames)
        for channel in ("mux", "control"):
            client.socket(channel).send_multipart([b"nobody", *frames])
    # A correct header that is merely long is served.
    header = client.session.header("apply_request")
    header["padding"] = "x" * 1_000_000
    _, frames = client.session.frames("apply_request", header=header)
    client.socket("task").send_multipart(frames)
    assert client.recv_parent("task", header["msg_id"]).content["status"] == "ok"


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b"{", b"\xff\xfe", b'{"msg_type": 1}']
)
def test_signed_nonsense(cluster, part, text):
    client = cluster.client
    for channel in ("registration", "mux", "control", "task", "broadcast"):
        _header, frames = client.session.frames("apply_request")
        frames[2 + part] = text
        frames[1] = client.session.sign(frames[2:6])
        prefix = [cluster.engine.name.encode()] if channel in ("mux", "control") else []
        client.socket(channel).send_multipart(prefix + frames)
    # Some of these are answered, with an error or what the engine makes of it.
    time.sleep(0.05)
    for s in client.sockets.values():
        while s.poll(20):
            s.recv_multipart()


def test_wrong_keys(cluster, raw_client, wait_until):
    c = cluster.controller
    stranger = raw_client(c, key="another key")
    unsigned = raw_client(c, key="")
    target = cluster.engine.name
    for client in (stranger, unsigned):
        for _ in range(200):
            client.send("registration", "connection_request")
            client.send("registration", "shutdown_request")
            client.send("task", "apply_request")
            client.send("mux", "apply_request", target="nobody")
            client.send("control", "apply_request", target="nobody")
            client.send(
                "control", "shutdown_request", {"restart": False}, target=target
            )
            client.send(
                "broadcast",
                "apply_request",
                metadata={"targets": [["nobody", 0]], "is_coalescing": False},
            )
    cluster.works()
    for client in (stranger, unsigned):
        for channel in ("registration", "task", "broadcast", "mux"):
            assert client.recv(channel, timeout=0.1) is None
    wait_until(lambda: "the peer has another key" in c.log())
    assert len(c.log().splitlines()) < 200, "complaints are limited"


def test_another_signature_scheme_is_named(controller, wait_until):
    info = {**controller.client_info, "signature_scheme": "hmac-sha512"}
    client = rawzmq.Client(info)
    client.send("task", "apply_request")
    wait_until(lambda: "another signature scheme" in controller.log())
    client.close()


def test_an_engine_with_another_key(controller, raw_client):
    info = {**controller.engine_info, "key": "wrong"}
    engine = rawzmq.Engine(info, start=False)
    s = engine.socket("registration")
    _, frames = engine.session.frames("registration_request", {"uuid": engine.name})
    s.send_multipart(frames)
    assert not s.poll(300)
    engine.stop()
    assert raw_client(controller).engines() == {}


def test_pongs_of_strangers(cluster):
    context = rawzmq.free_context()
    s = context.socket(zmq.DEALER)
    s.connect(rawzmq.url(cluster.controller.engine_info, "hb_pong"))
    for _ in range(1000):
        s.send_multipart([b"x" * 500])
        s.send_multipart([b"1.0", b"2.0", b"3.0"])
    s.send_multipart([b"y" * 100_000])
    cluster.works()
    s.close()
    context.term()


def test_subscriptions_without_end(cluster):
    context = rawzmq.free_context()
    subs = []
    for channel, info in (
        ("hb_ping", cluster.controller.engine_info),
        ("notification", cluster.controller.client_info),
        ("iopub", cluster.controller.client_info),
    ):
        s = context.socket(zmq.SUB)
        s.connect(rawzmq.url(info, channel))
        for i in range(2000):
            s.subscribe(f"{i}".encode())
        s.subscribe(b"z" * 5000)
        subs.append(s)
    cluster.works()
    for s in subs:
        s.close()
    context.term()


def test_a_name_that_is_taken(cluster):
    """A stranger that connects under an engine's name gets nothing of it."""
    context = rawzmq.free_context()
    thief = context.socket(zmq.DEALER)
    thief.identity = cluster.engine.name.encode()
    thief.connect(rawzmq.url(cluster.controller.engine_info, "mux"))
    time.sleep(0.1)
    cluster.works()
    assert not thief.poll(100)
    thief.close()
    context.term()


def test_it_ends_within_a_second_in_a_flood(controller, raw_engine):
    engine = raw_engine(controller)
    info = controller.client_info
    stop = threading.Event()

    def flood():
        client = rawzmq.Client(info)
        for s in map(client.socket, ("mux", "task", "registration", "control")):
            s.sndtimeo = 0
        while not stop.is_set():
            try:
                client.apply(engine.name)
                client.task()
                client.send("registration", "queue_request", {"targets": None})
                client.send("control", "clear_request", target="nobody")
            except zmq.Again:
                pass
        client.close()

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(3)]
    for t in threads:
        t.start()
    try:
        time.sleep(1)
        assert controller.stop(signal.SIGTERM) == 0
        controller.check_clean(keeps_files=False)
    finally:
        stop.set()
        for t in threads:
            t.join(60)
    log = controller.log()
    start = log.index("shutting down")
    assert "Received signal 15" in log[start - 40 : start]
