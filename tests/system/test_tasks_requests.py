"""Asking the scheduler about tasks, and taking them out of it."""

from __future__ import annotations


def explain(client, *ids):
    m = client.ask("task_explain_request", {"msg_ids": list(ids)})
    assert m.type == "task_explain_reply"
    return m.content["tasks"]


def aborted(client, n):
    """Ids of the next *n* tasks answered, all of them aborted."""
    replies = [client.recv("task") for _ in range(n)]
    assert [m.content for m in replies] == [{"status": "aborted"}] * n
    return {m.parent["msg_id"] for m in replies}


def test_they_are_offered(controller, raw_client):
    content = raw_client(controller).ask("connection_request").content
    assert content["roundhouse"]["explain"] and content["roundhouse"]["cancel"]


def test_explain(controller, raw_engine, raw_client):
    client = raw_client(controller)
    first = client.task(op="hang")
    second = client.task()
    third = client.task(metadata={"after": [first]})
    while explain(client, third)[third]["state"] != "waiting":
        pass  # tasks take another way than questions
    assert explain(client, first)[first]["text"] == "no engine is registered"
    engine = raw_engine(controller)
    tasks = explain(client, first, second, third, "never-seen", second)
    assert [tasks[i]["state"] for i in (first, second, third, "never-seen")] == [
        "running",
        "queued",
        "waiting",
        "unknown",
    ]
    assert tasks[first]["engine"] == 0
    assert tasks[second]["excluded"] == [
        {"engine": 0, "why": "it is busy: 1 unfinished tasks, hwm 1"}
    ]
    assert tasks[third]["waiting_for"] == [first]
    assert len(engine.seen) == 1


def test_a_question_that_is_too_long(controller, raw_client):
    client = raw_client(controller)
    ids = [f"id-{i}" for i in range(1001)]
    m = client.ask("task_explain_request", {"msg_ids": ids})
    assert m.content["status"] == "error"
    assert "ask about 1000 at a time" in m.content["evalue"]
    assert len(explain(client, *ids[:1000])) == 1000


def test_cancel(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client, other = raw_client(controller), raw_client(controller)
    done = client.task()
    client.recv("task")
    running = client.task(op="hang", metadata={"retries": 3})
    queued = [client.task() for _ in range(3)]
    waiting = client.task(metadata={"after": [running]})
    dependent = client.task(metadata={"after": [queued[0]]})
    while explain(client, dependent)[dependent]["state"] != "waiting":
        pass
    # Whoever has the key may do it; who asked for the task is told.
    m = other.ask(
        "task_cancel_request",
        {"msg_ids": [done, running, *queued, waiting, waiting, "never-seen"]},
    )
    assert m.type == "task_cancel_reply"
    content = {k: sorted(v) for k, v in m.content.items() if k != "status"}
    assert content == {
        "cancelled": sorted([*queued, waiting]),
        "running": [running],
        "finished": [done],
        "unknown": ["never-seen"],
    }
    assert m.content["running"] == {running: 0}
    replies = [client.recv("task") for _ in range(5)]
    ends = {r.parent["msg_id"]: r.content for r in replies}
    assert ends.pop(dependent)["ename"] == "ImpossibleDependency"
    assert ends == {i: {"status": "aborted"} for i in [*queued, waiting]}
    engine.die()
    assert client.recv("task").content["ename"] == "EngineError"  # not retried
    assert other.recv("task", timeout=0.1) is None


def test_an_abort_finds_tasks_that_have_not_left(controller, raw_engine, raw_client):
    engine = raw_engine(controller)
    client = raw_client(controller)
    running, *queued = [client.task(op="hang") for _ in range(4)]
    kept = client.task()
    while explain(client, kept)[kept]["state"] != "queued":
        pass
    client.send(
        "control",
        "abort_request",
        {"msg_ids": queued},
        target=engine.name,
    )
    assert aborted(client, 3) == set(queued)
    assert explain(client, running, kept)[running]["state"] == "running"
    # Without names it is the engine's queue that is meant.
    client.send("control", "abort_request", {}, target=engine.name)
    assert explain(client, kept)[kept]["state"] == "queued"
