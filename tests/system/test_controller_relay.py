"""mux, control, broadcast and iopub, with peers made by hand."""

from __future__ import annotations

import signal
import time

import pytest
import rawzmq


def test_mux_round_trip(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    big = bytes(range(256)) * 40000
    msg_id = client.apply(engine.name, buffers=[b"", b"small", big])
    m = client.recv("mux")
    assert m.idents == [engine.name.encode()]
    assert m.parent["msg_id"] == msg_id
    assert m.buffers == [b"", b"small", big]
    assert len(engine.seen[0].idents) == 1, "the client's name"


def test_order_of_one_client_to_one_engine(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    sent = [client.apply(engine.name, n=i) for i in range(2000)]
    got = [client.recv("mux").parent["msg_id"] for _ in sent]
    assert got == sent
    assert [m.content["n"] for m in engine.seen] == list(range(2000))


def test_extra_routing_frames_survive(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    _, frames = client.session.frames("apply_request")
    client.socket("mux").send_multipart([engine.name.encode(), b"x", b"y", *frames])
    assert client.recv("mux").idents == [engine.name.encode(), b"x", b"y"]


@pytest.mark.parametrize("channel", ["mux", "control"])
def test_an_engine_that_is_not_registered(controller, raw_client, channel):
    client = raw_client(controller)
    kind = {"mux": "execute", "control": "clear"}[channel]
    msg_id = client.send(channel, f"{kind}_request", {}, target="no-such-engine")
    m = client.recv(channel)
    assert m.type == f"{kind}_reply"
    assert m.idents == [b"no-such-engine"]
    assert m.parent["msg_id"] == msg_id
    assert m.content["status"] == "error"
    assert m.content["ename"] == "EngineError"
    assert "Engine no-such-engine is not registered" in m.content["evalue"]
    assert m.content["engine_info"] == {}
    assert m.content["traceback"]
    assert m.metadata["engine"] == "no-such-engine"
    assert client.recv(channel, timeout=0.2) is None, "one answer only"


def test_comm_messages_to_nobody_have_no_answer(controller, raw_client):
    client = raw_client(controller)
    client.send("mux", "comm_msg", {}, target="nobody")
    client.send("mux", "apply_request", {}, target="nobody")
    assert client.recv("mux").type == "apply_reply"
    assert client.recv("mux", timeout=0.2) is None


def test_control_passes_queued_work(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    client.apply(engine.name, op="hang")
    m = client.ask("clear_request", channel="control", target=engine.name)
    assert m.idents == [engine.name.encode()]
    assert m.type == "clear_reply"


def test_control_requests_of_a_dead_engine_are_answered(
    controller, raw_engine, raw_client
):
    engine = raw_engine(controller)
    client = raw_client(controller)
    msg_id = client.send("control", "clear_request", {"op": "hang"}, target=engine.name)
    while not engine.seen:
        time.sleep(0.01)
    engine.die()
    m = client.recv_parent("control", msg_id)
    assert m.content["ename"] == "EngineError"
    assert f"Engine {engine.id} died before it answered" in m.content["evalue"]
    assert client.recv("control", timeout=0.2) is None


def test_requests_wait_for_an_engine_that_is_still_connecting(
    controller, raw_engine, raw_client, wait_until
):
    """Registered and alive, but its queues are not connected yet."""
    slow = raw_engine(controller, wait=False, start=False)
    slow.CHANNELS = ()
    slow.register()
    slow.run()
    client = raw_client(controller)
    wait_until(lambda: slow.name in client.engines().values())
    sent = [client.apply(slow.name, n=i) for i in range(3)]
    clear = client.send("control", "clear_request", {}, target=slow.name)
    task = client.task()
    assert client.recv("mux", timeout=0.3) is None
    slow.stop()
    for msg_id in sent:
        assert client.recv_parent("mux", msg_id).content["ename"] == "EngineError"
    assert client.recv_parent("control", clear).content["ename"] == "EngineError"
    engine = raw_engine(controller)
    assert client.recv_parent("task", task).metadata["engine"] == engine.name


def test_late_connections_get_what_was_held(controller, raw_client, wait_until):
    engine = rawzmq.Engine(controller.engine_info, start=False)
    try:
        engine.register()
        # Only a heart at first.
        channels, engine.CHANNELS = engine.CHANNELS, ()
        pong, ping = engine.socket("hb_pong"), engine.socket("hb_ping", rawzmq.zmq.SUB)
        assert ping.poll(60000)
        pong.send_multipart(ping.recv_multipart())
        client = raw_client(controller)
        wait_until(lambda: engine.name in client.engines().values())
        sent = [client.apply(engine.name, n=i) for i in range(50)]
        task = client.task()
        time.sleep(0.05)
        for s in (engine.sockets.pop("hb_pong"), engine.sockets.pop("hb_ping")):
            s.close()
        engine.CHANNELS = channels
        engine.run()
        assert [client.recv("mux").parent["msg_id"] for _ in sent] == sent
        assert client.recv_parent("task", task).content["status"] == "ok"
    finally:
        engine.stop()


def test_output_reaches_every_client(controller, raw_engine, raw_client, wait_until):
    engine = raw_engine(controller)
    clients = [raw_client(controller) for _ in range(2)]
    for c in clients:
        c.socket("iopub")

    def seen_by_all():
        engine.publish("stdout", "stream", {"name": "stdout", "text": "x"}, {})
        return all(c.sockets["iopub"].poll(50) for c in clients)

    wait_until(seen_by_all)
    for c in clients:
        m = c.recv("iopub")
        assert m.idents == [f"engine.{engine.id}.stdout".encode()]
        assert m.content["text"] == "x"


# --- broadcast --------------------------------------------------------------


def broadcast(client, engines, coalescing: bool, op="echo", **content) -> str:
    return client.send(
        "broadcast",
        "apply_request",
        {"op": op, **content},
        metadata={
            "targets": [[e.name, e.id] for e in engines],
            "is_broadcast": True,
            "is_coalescing": coalescing,
        },
        buffers=[b"data"],
    )


def test_broadcast(controller, raw_engine, raw_client):
    engines = [raw_engine(controller) for _ in range(3)]
    client = raw_client(controller)
    msg_id = broadcast(client, engines, False)
    replies = {
        m.parent["msg_id"]: m for m in (client.recv("broadcast") for _ in engines)
    }
    assert set(replies) == {f"{msg_id}_{e.name}" for e in engines}
    for e in engines:
        m = replies[f"{msg_id}_{e.name}"]
        assert m.idents == []
        assert m.content["status"] == "ok" and m.buffers == [b"data"]
        assert m.signature == client.session.sign(m.parts)
        request = e.seen[0]
        assert request.header["msg_id"] == f"{msg_id}_{e.name}"
        assert request.header["session"] == client.session.name
        assert request.metadata == {
            "targets": [[e.name, e.id]],
            "is_broadcast": True,
            "is_coalescing": False,
            "original_msg_id": msg_id,
        }
        assert request.signature == client.session.sign(request.parts)


def test_coalescing(controller, raw_engine, raw_client):
    engines = [raw_engine(controller) for _ in range(3)]
    client = raw_client(controller)
    msg_id = broadcast(client, engines[::-1], True)
    m = client.recv("broadcast")
    assert m.metadata["original_msg_id"] == msg_id
    assert m.metadata["is_coalescing"] is True
    assert m.metadata["broadcast_targets"] == [[e.name, e.id] for e in engines[::-1]]
    assert m.buffers == [b"data"] * 3
    assert m.content["status"] == "ok"
    assert m.signature == client.session.sign(m.parts)
    assert client.recv("broadcast", timeout=0.2) is None


@pytest.mark.parametrize("coalescing", [False, True])
def test_broadcasts_are_recorded(controller, raw_engine, raw_client, coalescing):
    engines = [raw_engine(controller) for _ in range(2)]
    client = raw_client(controller)
    msg_id = broadcast(client, engines, coalescing)
    ids = [msg_id] if coalescing else sorted(f"{msg_id}_{e.name}" for e in engines)
    for _ in ids:
        assert client.recv("broadcast").content["status"] == "ok"
    m = raw_client(controller).ask("result_request", {"msg_ids": ids})
    assert m.content["completed"] == ids
    assert m.buffers == [b"data"] * 2


def test_a_failure_in_a_coalesced_broadcast(controller, raw_engine, raw_client):
    engines = [raw_engine(controller) for _ in range(2)]
    client = raw_client(controller)
    msg_id = broadcast(client, engines, True, op="fail")
    m = client.recv("broadcast")
    assert m.metadata["original_msg_id"] == msg_id
    assert m.content["ename"] == "RuntimeError"
    assert m.buffers == []
    assert client.recv("broadcast", timeout=0.2) is None, "one answer only"


@pytest.mark.parametrize("coalescing", [False, True])
def test_broadcast_to_unknown_engines(controller, raw_engine, raw_client, coalescing):
    engine = raw_engine(controller)
    client = raw_client(controller)

    class Ghost:
        name, id = "ghost", 77

    msg_id = broadcast(client, [engine, Ghost], coalescing)
    replies = [client.recv("broadcast") for _ in range(1 if coalescing else 2)]
    (fault,) = [m for m in replies if m.content["status"] == "error"]
    assert fault.content["ename"] == "EngineError"
    assert "Engine ghost is not registered" in fault.content["evalue"]
    assert fault.metadata["original_msg_id"] == msg_id
    if coalescing:
        assert fault.metadata["broadcast_targets"] == [
            [engine.name, engine.id],
            ["ghost", 77],
        ]
    else:
        assert fault.parent["msg_id"] == f"{msg_id}_ghost"
    assert client.recv("broadcast", timeout=0.2) is None


@pytest.mark.parametrize("coalescing", [False, True])
def test_an_engine_that_dies_in_a_broadcast(
    controller, raw_engine, raw_client, coalescing
):
    engines = [raw_engine(controller) for _ in range(2)]
    client = raw_client(controller)
    msg_id = broadcast(client, engines, coalescing, op="hang")
    while not all(e.seen for e in engines):
        time.sleep(0.01)
    engines[0].die()
    m = client.recv("broadcast")
    assert m.content["ename"] == "EngineError"
    assert (
        f"Engine {engines[0].id} died while running task '{msg_id}_"
        in m.content["evalue"]
    )
    if coalescing:
        # The whole is answered for; what the other says later is dropped.
        engines[1].answer(engines[1].sockets["broadcast"], engines[1].seen[0])
        assert client.recv("broadcast", timeout=0.2) is None
    else:
        engines[1].answer(engines[1].sockets["broadcast"], engines[1].seen[0])
        assert (
            client.recv("broadcast").parent["msg_id"] == f"{msg_id}_{engines[1].name}"
        )


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"targets": [], "is_broadcast": True, "is_coalescing": False},
        {"targets": "all", "is_broadcast": True, "is_coalescing": False},
        {"targets": [["x"]], "is_broadcast": True, "is_coalescing": True},
        {"targets": [["x", "y"]], "is_broadcast": True, "is_coalescing": True},
        {"targets": [["x", 1]], "is_broadcast": True},
        {"targets": [["", 1]], "is_coalescing": True},
        {"targets": [["x", 10**30]], "is_coalescing": True},
    ],
)
def test_a_broadcast_that_makes_no_sense_is_answered(controller, raw_client, metadata):
    client = raw_client(controller)
    m = client.ask("apply_request", channel="broadcast", metadata=metadata)
    assert m.content["status"] == "error"
    assert m.content["ename"] == "ValueError"


def test_the_same_target_twice(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    broadcast(client, [engine, engine], False)
    assert client.recv("broadcast").content["status"] == "ok"
    assert client.recv("broadcast", timeout=0.2) is None
    broadcast(client, [engine, engine], True)
    assert client.recv("broadcast").buffers == [b"data"]


def test_replies_of_others_do_not_count(controller, raw_engine, raw_client):
    """An engine can answer only what it was asked itself."""
    a, b = raw_engine(controller), raw_engine(controller)
    client = raw_client(controller)
    msg_id = broadcast(client, [a], False, op="hang")
    while not a.seen:
        time.sleep(0.01)
    b.answer(b.sockets["broadcast"], a.seen[0])
    assert client.recv("broadcast", timeout=0.3) is None
    a.answer(a.sockets["broadcast"], a.seen[0])
    assert client.recv("broadcast").parent["msg_id"] == f"{msg_id}_{a.name}"
    # And only once.
    a.answer(a.sockets["broadcast"], a.seen[0])
    assert client.recv("broadcast", timeout=0.2) is None


def test_a_replayed_broadcast_is_dropped(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    _, frames = client.session.frames(
        "apply_request",
        metadata={"targets": [[engine.name, engine.id]], "is_coalescing": False},
    )
    for _ in range(3):
        client.socket("broadcast").send_multipart(frames)
    assert client.recv("broadcast")
    assert client.recv("broadcast", timeout=0.3) is None
    assert len(engine.seen) == 1


def test_many_engines_in_one_broadcast(controller, raw_client, wait_until):
    """A thousand engines that are only names: all are answered for at once."""
    client = raw_client(controller)
    targets = [[f"ghost-{i}", i] for i in range(1000)]
    client.send(
        "broadcast",
        "apply_request",
        metadata={"targets": targets, "is_broadcast": True, "is_coalescing": False},
    )
    got = {
        client.recv("broadcast").parent["msg_id"].rpartition("_")[2] for _ in targets
    }
    assert got == {name for name, _ in targets}


def test_a_stopped_client_does_not_stop_the_others(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    gone = rawzmq.Client(controller.client_info)
    for _ in range(100):
        gone.apply(engine.name, buffers=[b"x" * 100000])
    gone.close()
    client = raw_client(controller)
    assert (
        client.recv_parent("mux", client.apply(engine.name)).content["status"] == "ok"
    )
    assert controller.stop(signal.SIGTERM) == 0
