"""Task flags of our scheduler, explain and cancel: what is sent, and read."""

import warnings

import pytest
import roundhouse as ipp

OFFER = {"engines": {}, "roundhouse": {"version": 1, "explain": True, "cancel": True}}


@pytest.fixture
def ours(core):
    core.answers["connection_request"] = OFFER
    return core


@pytest.fixture
def lv(rc):
    return rc.load_balanced_view()


def metadata(core):
    return [s[4] for s in core.sent if s[2] == "apply_request"][-1]


@pytest.mark.parametrize(
    "flag, value, sent",
    [
        ("priority", -3, -3),
        ("retry_on", "engine-loss", "engine-loss"),
        ("retry_on", OSError, ["OSError"]),
        ("retry_on", [KeyError, "Weird"], ["KeyError", "Weird"]),
        ("retry_delay", 0.5, 0.5),
        ("retry_same_engine", True, True),
        ("max_deaths", 0, 0),
    ],
)
def test_flags_of_our_scheduler(lv, ours, flag, value, sent):
    with lv.temp_flags(**{flag: value}):
        lv.apply_async(len, "")
    assert metadata(ours)[flag] == sent
    lv.apply_async(len, "")
    assert metadata(ours) == {}
    lv.remote(**{flag: value})(len)("")
    assert metadata(ours)[flag] == sent
    setattr(lv, flag, value)
    lv.apply_async(len, "")
    assert metadata(ours)[flag] == sent


@pytest.mark.parametrize(
    "flag, value, error",
    [
        ("priority", 101, ValueError),
        ("priority", 1.0, TypeError),
        ("priority", True, TypeError),
        ("retry_on", 3, TypeError),
        ("retry_on", [3], TypeError),
        ("retry_delay", -1, ValueError),
        ("retry_same_engine", 1, TypeError),
        ("max_deaths", -1, ValueError),
    ],
)
def test_bad_flags_of_our_scheduler(lv, flag, value, error):
    with pytest.raises(error):
        lv.set_flags(**{flag: value})


def test_a_controller_that_ignores_flags(lv, core):
    with pytest.warns(RuntimeWarning, match="ignores priority") as caught:
        lv.set_flags(priority=1).apply_async(len, "")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lv.set_flags(retry_delay=1).apply_async(len, "")


def test_flags_are_rendered_anew_when_they_change(lv, core):
    lv.set_flags(retries=1).apply_async(len, "")
    assert metadata(core)["retries"] == 1
    lv.retries = 2
    lv.apply_async(len, "")
    assert metadata(core)["retries"] == 2
    after = lv.after = ["a"]
    lv.apply_async(len, "")
    after.append("b")
    lv.apply_async(len, "")
    assert sorted(metadata(core)["after"]) == ["a", "b"]


def told(state, text="because", **more):
    keys = {"engine": None, "waiting_for": [], "excluded": [], "behind": 0, "tries": 0}
    return {"state": state, **keys, **more, "text": text}


def test_explain(rc, lv, ours):
    ours.hold = True
    ars = [lv.apply_async(len, "") for _ in range(3)]
    for req in ours.requests[-3:]:
        req.engine_uuid = None  # as the real core has it before the reply
    first, second, third = (ar.msg_id for ar in ars)
    ours.answers["task_explain_request"] = lambda content: {
        "tasks": {i: told("waiting", waiting_for=[first]) for i in content["msg_ids"]}
    }
    why = rc.explain(ars[1])
    assert why["waiting_for"] == [first] and why["state"] == "waiting"
    assert str(why) == f"{second}: because"
    ours.requests[0].value(0)
    several = rc.explain([first, ars[1], -1])
    assert [e["msg_id"] for e in several] == [first, second, third]
    assert several[0]["state"] == "finished"
    assert str(several).count("\n") == 2


def test_many_tasks_are_asked_about_in_parts(rc, ours):
    asked = []

    def answer(content):
        asked.append(len(content["msg_ids"]))
        return {"tasks": {i: told("queued") for i in content["msg_ids"]}}

    ours.answers["task_explain_request"] = answer
    ids = [f"id-{i}" for i in range(2500)]
    assert [e["msg_id"] for e in rc.explain(ids)] == ids
    assert max(asked) <= 1000  # EXPLAIN_MAX of the controller


def test_explain_what_the_client_knows(rc, core):
    core.hold = True
    first, second = (rc[1].apply_async(len, "") for _ in range(2))
    assert rc.explain(first)["state"] == "running"
    why = rc.explain(second)
    assert (why["state"], why["engine"], why["behind"]) == ("queued", 1, 1)
    core.requests[0].error("KeyError", "x")
    assert "failed on engine 1: [0:apply] KeyError: x" in str(rc.explain(first))
    core.hold = False
    assert "succeeded" in str(rc.explain(rc[0].apply_async(len, "")))


def test_a_request_may_overtake_its_task(rc, lv, ours):
    ours.hold = True
    ar = lv.apply_async(len, "")
    ours.requests[-1].engine_uuid = None
    answers = [told("unknown"), told("unknown"), told("queued")]
    ours.answers["task_explain_request"] = lambda content: {
        "tasks": {i: answers.pop(0) for i in content["msg_ids"]}
    }
    assert rc.explain(ar)["state"] == "queued" and not answers
    answers.append(told("unknown"))
    assert rc.explain("of nobody")["state"] == "unknown"

    def too_late(content):
        if not ar.done():
            ours.requests[0].value(0)
        return {"tasks": {i: told("unknown") for i in content["msg_ids"]}}

    ours.answers["task_explain_request"] = too_late
    assert rc.explain(ar)["state"] == "finished"


def test_explain_and_cancel_need_our_controller(rc, core):
    for ask in (rc.explain, rc.cancel):
        with pytest.raises(RuntimeError, match="Roundhouse's controller"):
            ask("some task")


def test_cancel_and_abort(rc, lv, ours):
    ours.hold = True
    waiting, running = lv.apply_async(len, ""), lv.apply_async(len, "")
    for req in ours.requests:
        req.engine_uuid = None
    direct = rc[1].apply_async(len, "")

    def cancelled(content):
        ids = content["msg_ids"]
        assert direct.msg_id not in ids
        return {
            "cancelled": [i for i in ids if i == waiting.msg_id],
            "running": {i: 1 for i in ids if i == running.msg_id},
            "finished": [],
            "unknown": [i for i in ids if i == "x"],
        }

    ours.answers["task_cancel_request"] = cancelled
    assert rc.cancel([waiting, running, direct, "x"]) == {
        "cancelled": [waiting.msg_id],
        "running": {running.msg_id: 1},
        "finished": [],
        "unknown": ["x"],
    }
    rc.abort([waiting, running, direct], block=True)
    asked = [s for s in ours.sent if s[2] == "abort_request"]
    assert {s[1] for s in asked} == {"u0", "u1", "u3"}
    assert all(s[3]["msg_ids"] == [running.msg_id, direct.msg_id] for s in asked)
    ours.change_engines(left=list(ours.roster.items()))
    assert rc.abort(waiting, block=True) is None
    assert rc.abort(waiting, block=False).get() == []
    with pytest.raises(ipp.NoEnginesRegistered):
        rc.abort(running)


def test_cancelling_a_result_that_waits_asks_no_engine(lv, ours):
    ours.hold = True
    ar = lv.apply_async(len, "")
    ours.requests[-1].engine_uuid = None
    ours.answers["task_cancel_request"] = lambda content: {
        "cancelled": content["msg_ids"],
        "running": {},
        "finished": [],
        "unknown": [],
    }
    assert ar.cancel() and ar.cancelled()
    asked = [s[2] for s in ours.sent]
    assert "task_cancel_request" in asked and "abort_request" not in asked
