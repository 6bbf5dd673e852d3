"""Registration, hearts, lifelines and queries, with peers made by hand."""

from __future__ import annotations

import itertools
import json
import os
import socket
import time

import psutil
import pytest
import rawzmq
import zmq


def test_registration(controller, raw_engine):
    engine = raw_engine(controller)
    m = engine.reply
    assert (m.type, m.parent) == ("registration_reply", {})
    content = m.content
    assert (content["status"], content["id"], content["hb_period"]) == ("ok", 0, 3000)
    info = controller.engine_info
    assert content["connection_info"] == {
        k: v
        for k, v in info.items()
        if k in ("interface", "broadcast") or (isinstance(v, int) and k in info)
    }
    assert "key" not in content["connection_info"]
    offer = content["roundhouse"]
    assert offer["version"] == 1
    assert 0 < offer["lifeline"]["port"] < 65536
    assert len(offer["lifeline"]["token"]) == 32


def test_admission_is_quick(controller, raw_engine, raw_client):
    """Within a fraction of the heartbeat period of 3 s, for each of them."""
    client = raw_client(controller)
    client.engines()
    for n in range(1, 4):
        engine = raw_engine(controller)
        assert client.engines()[engine.id] == engine.name
        assert len(client.engines()) == n
    # Periods are 3 s: three of them one after another would take at least 9.
    waits = [
        int(line.split(" connected in ")[1].split()[0])
        for line in controller.log().splitlines()
        if " connected in " in line
    ]
    assert len(waits) == 3


def test_notifications(controller, raw_engine, raw_client, wait_until):
    client = raw_client(controller)
    s = client.socket("notification")
    probe = raw_engine(controller)
    # Subscriptions are not acknowledged: until one notice arrives.
    for _ in range(100):
        if s.poll(100):
            break
        raw_engine(controller)
    while s.poll(200):
        s.recv_multipart()
    engine = raw_engine(controller)
    m = client.recv("notification")
    assert (m.idents, m.type, m.parent) == ([], "registration_notification", {})
    assert m.content == {"id": engine.id, "uuid": engine.name}
    engine.die()
    m = client.recv("notification")
    assert m.type == "unregistration_notification"
    assert m.content == {"id": engine.id, "uuid": engine.name}
    assert probe.id in client.engines()


def test_who_learns_of_an_engine_may_use_it_at_once(controller, raw_client):
    """Notifications come when all queues know the engine, not before."""
    client = raw_client(controller)
    client.engines()
    for _ in range(20):
        engine = rawzmq.Engine(controller.engine_info)
        while engine.name not in client.engines().values():
            pass
        m = client.ask("apply_request", channel="mux", target=engine.name)
        assert m.content["status"] == "ok"
        engine.die()
        while engine.name in client.engines().values():
            pass
        m = client.ask("apply_request", channel="mux", target=engine.name)
        assert m.content["ename"] == "EngineError"


def test_ids_and_names(controller, raw_engine, raw_client):
    a = raw_engine(controller)
    b = raw_engine(controller, id=7)
    c = raw_engine(controller)
    assert (a.id, b.id, c.id) == (0, 7, 8)
    with pytest.raises(RuntimeError, match="in use"):
        rawzmq.Engine(controller.engine_info, name=a.name, identity="other")
    assert raw_client(controller).engines() == {0: a.name, 7: b.name, 8: c.name}


def test_unregistration(controller, raw_engine, raw_client, wait_until):
    engine = raw_engine(controller)
    client = raw_client(controller)
    engine.unregister()
    wait_until(lambda: client.engines() == {})


def test_a_heart_that_stops(start_controller, raw_engine, raw_client, wait_until):
    c = start_controller("--ping=50", "--HeartMonitor.max_heartmonitor_misses=3")
    engine = raw_engine(c, lifeline=False)
    client = raw_client(c)
    time.sleep(0.5)
    assert client.engines() == {0: engine.name}, "it beats"
    task = client.task(op="hang")
    while not engine.seen:
        time.sleep(0.01)
    engine.beat = False
    wait_until(lambda: client.engines() == {})
    m = client.recv_parent("task", task)
    assert m.content["ename"] == "EngineError"
    assert "heart" in m.content["evalue"]


def test_a_heart_that_never_beats(start_controller, raw_engine, raw_client):
    c = start_controller("--IPController.registration_timeout=1")
    engine = raw_engine(c, wait=False, beat=False)
    client = raw_client(c)
    assert client.engines() == {}
    # The name is free again when its registration has expired.
    end = time.monotonic() + 60
    for i in itertools.count():
        try:
            # A socket name of its own each time: a ROUTER may not have seen yet
            # that the last one is gone.
            again = rawzmq.Engine(
                c.engine_info, engine.name, identity=f"other{i}", start=False
            )
            again.register()
            break
        except RuntimeError:
            assert time.monotonic() < end
            time.sleep(0.1)


# --- lifeline ---------------------------------------------------------------


def test_exit_reason(controller, raw_engine, raw_client, wait_until):
    engine = raw_engine(controller)
    client = raw_client(controller)
    task = client.task(op="hang")
    while not engine.seen:
        time.sleep(0.01)
    engine.lifeline.sendall(b"EXIT asked to stop by signal 15\n")
    engine.lifeline.close()
    m = client.recv_parent("task", task)
    assert "it exited (asked to stop by signal 15)" in m.content["evalue"]
    assert client.engines() == {}
    assert "asked to stop by signal 15" in controller.log()


def test_a_reset_lifeline(controller, raw_engine, raw_client, wait_until):
    engine = raw_engine(controller)
    client = raw_client(controller)
    engine.lifeline.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
    )
    engine.lifeline.close()
    wait_until(lambda: client.engines() == {})


def lifeline_port(engine) -> int:
    return engine.reply.content["roundhouse"]["lifeline"]["port"]


def is_closed(s: socket.socket) -> bool:
    s.settimeout(60)
    try:
        return s.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "line",
    [
        b"RHLIFE1 {uuid} 00000000000000000000000000000000\n",
        b"RHLIFE1 nobody {token}\n",
        b"RHLIFE2 {uuid} {token}\n",
        b"RHLIFE1 {uuid}{token}\n",
        b"RHLIFE1 \n",
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"x" * 600,
    ],
)
def test_lifelines_of_strangers(controller, raw_engine, raw_client, line):
    engine = raw_engine(controller)
    offer = engine.reply.content["roundhouse"]["lifeline"]
    line = line.replace(b"{uuid}", engine.name.encode())
    line = line.replace(b"{token}", offer["token"].encode())
    with socket.create_connection(("127.0.0.1", offer["port"])) as s:
        s.sendall(line)
        assert is_closed(s)
    client = raw_client(controller)
    m = client.ask("apply_request", channel="mux", target=engine.name)
    assert m.content["status"] == "ok"


def test_a_line_in_pieces(controller, raw_engine, raw_client, wait_until):
    engine = raw_engine(controller, lifeline=False)
    client = raw_client(controller)
    offer = engine.reply.content["roundhouse"]["lifeline"]
    with socket.create_connection(("127.0.0.1", offer["port"])) as s:
        for part in (
            b"RHLI",
            b"FE1 ",
            engine.name.encode(),
            b" ",
            offer["token"].encode(),
            b"\n",
        ):
            s.sendall(part)
            time.sleep(0.02)
        time.sleep(0.1)
        assert client.engines() == {0: engine.name}
    wait_until(lambda: client.engines() == {})


def test_a_second_lifeline_replaces_the_first(
    controller, raw_engine, raw_client, wait_until
):
    engine = raw_engine(controller)
    client = raw_client(controller)
    old = engine.lifeline
    offer = engine.reply.content["roundhouse"]["lifeline"]
    engine.open_lifeline(offer["port"], offer["token"])
    assert is_closed(old)
    assert client.engines() == {0: engine.name}
    engine.lifeline.close()
    wait_until(lambda: client.engines() == {})


def test_many_silent_lifelines(controller, raw_engine, raw_client):
    """The number of connections that say nothing is bounded."""
    engine = raw_engine(controller)
    port = lifeline_port(engine)
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        other = raw_engine(controller)
        client = raw_client(controller)
        assert set(client.engines()) == {engine.id, other.id}
        other.die()
        end = time.monotonic() + 60
        while other.id in client.engines():
            assert time.monotonic() < end
        process = psutil.Process(controller.pid)
        ours = [
            c for c in process.net_connections() if c.laddr.port == port and c.raddr
        ]
        assert len(ours) <= 70
    finally:
        for s in silent:
            s.close()


# --- queries ----------------------------------------------------------------


def test_results_for_another_client(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    one, two = raw_client(controller), raw_client(controller)
    for channel, target in (("mux", engine.name), ("task", None)):
        for _ in range(50):
            msg_id = one.send(
                channel, "apply_request", target=target, buffers=[b"payload"]
            )
            assert one.recv_parent(channel, msg_id)
            # Who has the reply finds it in the hub, too.
            m = two.ask("result_request", {"msg_ids": [msg_id]})
            assert m.content["completed"] == [msg_id], m
            assert m.content[msg_id]["result_content"]["status"] == "ok"
            assert m.buffers == [b"payload"]


def test_queue_status_and_history(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    first = client.apply(engine.name)
    assert client.recv_parent("mux", first)
    hang = client.apply(engine.name, op="hang")
    task = client.task(op="hang")
    while len(engine.seen) < 3:
        time.sleep(0.01)
    m = client.ask("queue_request", {"targets": None, "verbose": True})
    assert m.content["0"] == {"queue": [hang], "completed": [first], "tasks": [task]}
    assert client.ask("history_request").content["history"] == [first, hang, task]
    m = client.ask(
        "db_request", {"query": {"msg_id": first}, "keys": ["msg_id", "buffers"]}
    )
    assert [r["msg_id"] for r in m.content["records"]] == [first]
    m = client.ask("purge_request", {"msg_ids": "all"})
    assert m.content["status"] == "ok"
    assert client.ask("history_request").content["history"] == [hang, task]


def test_resubmit(controller, raw_engine, raw_client, wait_until):
    engine = raw_engine(controller)
    client = raw_client(controller)
    msg_id = client.task(n=5)
    assert client.recv_parent("task", msg_id)
    m = client.ask("resubmit_request", {"msg_ids": [msg_id]})
    new = m.content["resubmitted"][msg_id]
    wait_until(lambda: len(engine.seen) == 2)
    assert engine.seen[1].header["msg_id"] == new
    assert engine.seen[1].content["n"] == 5

    def done():
        return client.ask("result_request", {"msg_ids": [new]}).content[
            "completed"
        ] == [new]

    wait_until(done)
    assert client.recv("task", timeout=0.2) is None, "the reply is the hub's"


def test_unknown_requests(controller, raw_client):
    m = raw_client(controller).ask("make_coffee_request")
    assert m.type == "hub_error"
    assert m.content["ename"] == "KeyError"
    assert "make_coffee_request" in m.content["evalue"]


def test_nodb(start_controller, raw_engine, raw_client):
    c = start_controller("--nodb")
    engine = raw_engine(c)
    client = raw_client(c)
    msg_id = client.apply(engine.name)
    assert client.recv_parent("mux", msg_id).content["status"] == "ok"
    m = client.ask("result_request", {"msg_ids": [msg_id]})
    assert m.content["status"] == "error"
    assert "Hub using DB backend: NoDB" in c.log()


def test_unknown_database(start_controller):
    c = start_controller("--IPController.db_class=RedisDB", wait=False)
    assert c.wait() == 1
    assert "RedisDB" in c.log() and "DictDB" in c.log()


def test_engines_file(controller, raw_engine, raw_client, wait_until):
    path = controller.profile_dir / "log" / "engines.json"
    a, b = raw_engine(controller), raw_engine(controller)

    def saved():
        return path.exists() and json.loads(path.read_text())

    wait_until(lambda: saved() == {"engines": {"0": a.name, "1": b.name}, "next_id": 2})
    a.die()
    wait_until(lambda: saved() == {"engines": {"1": b.name}, "next_id": 2})
    assert not list(path.parent.glob("*.new"))


def test_output_is_recorded(controller, raw_engine, raw_client, wait_until):
    engine = raw_engine(controller)
    client = raw_client(controller)
    msg_id = client.apply(engine.name)
    assert client.recv_parent("mux", msg_id)
    request = engine.seen[0].header

    def recorded():
        engine.publish("stdout", "stream", {"name": "stdout", "text": "x"}, request)
        m = client.ask("result_request", {"msg_ids": [msg_id]})
        return "x" in m.content[msg_id]["io"]["stdout"]

    wait_until(recorded)


def test_a_slow_query_delays_no_task(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    for _ in range(300):
        client.apply(engine.name, buffers=[os.urandom(1000)] * 10)
    for _ in range(300):
        client.recv("mux")
    asker = raw_client(controller)
    for _ in range(20):
        asker.send("registration", "db_request", {"query": {}, "keys": None})
    task = client.task()
    assert client.recv_parent("task", task).content["status"] == "ok"
    for _ in range(20):
        assert asker.recv("registration").content["status"] == "ok"


def test_a_stopped_engine_process_is_noticed_by_its_heart(
    start_controller, raw_client, wait_until, start_process
):
    """A host that hangs keeps its connections open; only pings tell."""
    c = start_controller("--ping=100", "--HeartMonitor.max_heartmonitor_misses=2")
    engine = rawzmq.Engine(c.engine_info)
    client = raw_client(c)
    wait_until(lambda: client.engines() == {0: engine.name})
    engine.beat = False  # as SIGSTOP does
    wait_until(lambda: client.engines() == {})
    engine.stop()


def test_zmq_is_recent_enough():
    assert zmq.zmq_version_info() >= (4, 3)
