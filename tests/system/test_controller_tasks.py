"""The task queue, with peers made by hand."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import conftest
import pytest


def test_task_round_trip(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    msg_id = client.task(buffers=[b"in"])
    m = client.recv("task")
    assert m.idents == [engine.name.encode()]
    assert m.parent["msg_id"] == msg_id
    assert m.buffers == [b"in"]
    assert m.metadata["engine"] == engine.name


def test_tasks_wait_for_an_engine(controller, raw_engine, raw_client):
    client = raw_client(controller)
    sent = [client.task() for _ in range(10)]
    assert client.recv("task", timeout=0.2) is None
    raw_engine(controller)
    assert {client.recv("task").parent["msg_id"] for _ in sent} == set(sent)


def test_dependencies(controller, raw_engine, raw_client):
    engines = [raw_engine(controller) for _ in range(2)]
    client = raw_client(controller)
    first = client.task(op="sleep", seconds=0.2)
    second = client.task(metadata={"after": [first], "follow": [first]})
    one, two = client.recv("task"), client.recv("task")
    assert [one.parent["msg_id"], two.parent["msg_id"]] == [first, second]
    assert one.metadata["engine"] == two.metadata["engine"]
    assert len(engines) == 2


def test_an_error_of_the_scheduler(controller, raw_client):
    client = raw_client(controller)
    msg_id = client.task(metadata={"after": ["never-seen"]})
    m = client.recv("task")
    assert m.idents == []
    assert (m.type, m.parent["msg_id"], m.metadata) == ("apply_reply", msg_id, {})
    assert m.content["ename"] == "InvalidDependency"
    assert m.content["engine_info"] == {}


def test_unmet_dependency_goes_elsewhere(
    controller, raw_engine, raw_client, wait_until
):
    a, b = raw_engine(controller), raw_engine(controller)
    client = raw_client(controller)
    msg_id = client.task(op="unmet", metadata={"targets": [a.name, b.name]})
    m = client.recv("task")
    assert m.parent["msg_id"] == msg_id
    assert m.content["ename"] == "ImpossibleDependency"
    assert [len(e.seen) for e in (a, b)] == [1, 1]


def test_timeout(controller, raw_client):
    client = raw_client(controller)
    client.task(metadata={"timeout": 0.1})
    assert client.recv("task").content["ename"] == "TaskTimeout"


def test_retries_after_a_death(controller, raw_engine, raw_client):
    a = raw_engine(controller)
    client = raw_client(controller)
    msg_id = client.task(op="hang", metadata={"retries": 1})
    while not a.seen:
        time.sleep(0.01)
    b = raw_engine(controller)
    a.die()
    while not b.seen:
        time.sleep(0.01)
    b.answer(b.sockets["task"], b.seen[0])
    m = client.recv("task")
    assert m.parent["msg_id"] == msg_id and m.metadata["engine"] == b.name
    assert client.recv("task", timeout=0.2) is None


def test_death_without_retries(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    msg_id = client.task(op="hang")
    while not engine.seen:
        time.sleep(0.01)
    engine.die()
    m = client.recv("task")
    assert m.content["ename"] == "EngineError"
    assert (
        f"Engine b'{engine.name}' died while running task '{msg_id}'"
        in m.content["evalue"]
    )
    assert "its process ended" in m.content["evalue"]
    assert m.idents == [engine.name.encode()]
    assert m.metadata["engine"] == engine.name


@pytest.mark.parametrize("scheme", ["lru", "plainrandom", "twobin", "weighted", "pure"])
def test_schemes(start_controller, raw_engine, raw_client, scheme):
    c = start_controller(f"--scheme={scheme}", "--hwm=0")
    engines = [raw_engine(c) for _ in range(2)]
    client = raw_client(c)
    sent = [client.task() for _ in range(60)]
    assert {client.recv("task").parent["msg_id"] for _ in sent} == set(sent)
    assert all(e.seen for e in engines)


def test_hwm(start_controller, raw_engine, raw_client):
    c = start_controller("--hwm=2")
    engine = raw_engine(c)
    client = raw_client(c)
    for _ in range(5):
        client.task(op="hang")
    while len(engine.seen) < 2:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(engine.seen) == 2
    engine.answer(engine.sockets["task"], engine.seen[0])
    while len(engine.seen) < 3:
        time.sleep(0.01)


def test_fifty_thousand_tasks_and_no_engine(controller, raw_engine, raw_client):
    client = raw_client(controller)
    n = 50_000
    sent = {client.task() for _ in range(n)}
    assert client.ask("connection_request").content["engines"] == {}
    engines = [raw_engine(controller) for _ in range(2)]
    got = [client.recv("task").parent["msg_id"] for _ in range(n)]
    assert len(got) == len(set(got)) == n
    assert set(got) == sent
    assert sum(len(e.seen) for e in engines) == n


def test_a_client_that_dies_while_it_waits(controller, raw_engine, raw_client):
    gone = raw_client(controller)
    for _ in range(100):
        gone.task()
    gone.ask("connection_request")
    for s in gone.sockets.values():
        s.close(linger=0)
    engine = raw_engine(controller)
    client = raw_client(controller)
    assert client.recv_parent("task", client.task()).content["status"] == "ok"
    assert engine.seen


def test_the_same_task_twice(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    _, frames = client.session.frames("apply_request")
    for _ in range(2):
        client.socket("task").send_multipart(frames)
    assert client.recv("task").content["status"] == "ok"
    assert client.recv("task", timeout=0.3) is None
    assert len(engine.seen) == 1


@pytest.fixture
def example_scheme(tmp_path):
    """examples/c/scheme.c, built as its comment says."""
    root = Path(__file__).parents[2]
    library = tmp_path / "scheme.so"
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-I", root / "include", "-o", library]
        + [root / "examples" / "c" / "scheme.c"],
        check=True,
    )
    return library


def test_a_scheme_of_ones_own(start_controller, raw_engine, raw_client, example_scheme):
    c = start_controller(f"--TaskScheduler.scheme_library={example_scheme}", "--hwm=4")
    engines = [raw_engine(c) for _ in range(3)]
    client = raw_client(c)
    for _ in range(6):
        client.task(op="hang")
    while sum(len(e.seen) for e in engines) < 6:
        time.sleep(0.01)
    assert [len(e.seen) for e in engines] == [4, 2, 0]
    assert "Task scheduler started [fill up]" in c.log()


def test_a_scheme_that_is_none(start_process, tmp_path):
    wrong = tmp_path / "wrong.so"
    wrong.write_text("")
    p = start_process(
        [
            conftest.program("ipcontroller"),
            f"--ipython-dir={tmp_path}",
            f"--TaskScheduler.scheme_library={wrong}",
        ]
    )
    assert p.wait() != 0
    assert "TaskScheduler.scheme_library" in p.log() and str(wrong) in p.log()


def test_a_task_that_can_run_nowhere_says_so(start_controller, raw_engine, raw_client):
    c = start_controller("--TaskScheduler.nowhere_timeout=0.2")
    engine = raw_engine(c)
    client = raw_client(c)
    msg_id = client.task(op="unmet")
    m = client.recv("task")
    assert (m.parent["msg_id"], m.content["ename"]) == (msg_id, "TaskTimeout")
    assert "could run nowhere for 0.200 s: 1 engines are" in m.content["evalue"]
    assert len(engine.seen) == 1


def test_options_of_the_scheduler(start_controller, raw_client):
    c = start_controller("--TaskScheduler.max_tasks=2", "--TaskScheduler.window=1")
    client = raw_client(c)
    sent = [client.task() for _ in range(3)]
    m = client.recv("task")
    assert (m.parent["msg_id"], m.content["ename"]) == (sent[2], "QueueFull")
    reply = client.ask("task_cancel_request", {"msg_ids": sent})
    assert sorted(reply.content["cancelled"]) == sorted(sent[:2])
    # Both are finished, and only the last one is remembered.
    asked = client.ask("task_explain_request", {"msg_ids": sent[:2]}).content
    states = [task["state"] for task in asked["tasks"].values()]
    assert sorted(states) == ["finished", "unknown"]
