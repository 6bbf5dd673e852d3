"""AsyncResult: a future, lazily; values, errors, metadata, times."""

import asyncio
import concurrent.futures
import gc
import json
import threading
import time
import weakref

import pytest
import roundhouse as ipp
from roundhouse.client.asyncresult import NotReady


@pytest.fixture
def held(rc, core):
    """A balanced view whose tasks are answered by the test."""
    core.hold = True
    return rc.load_balanced_view()


def test_value(rc):
    ar = rc.load_balanced_view().apply_async(lambda x: x + 1, 2)
    assert ar.get() == ar.r == ar.result() == 3
    assert ar.ready() and ar.done() and ar.successful() and ar.exception() is None
    assert repr(ar) == "<AsyncResult(<lambda>): finished>"


def test_list_targets_give_lists(rc):
    assert rc[[0]].apply_sync(len, "ab") == [2]
    assert rc[0].apply_sync(len, "ab") == 2
    assert rc[:].apply_sync(len, "ab") == [2, 2, 2]


def test_pending(held):
    ar = held.apply_async(len, "a")
    assert not ar.ready() and not ar.done()
    assert ar.wait(0) is False and ar.wait(0.01) is False
    assert repr(ar) == "<AsyncResult(len): pending>"
    for question in (ar.get, ar.result, ar.exception):
        with pytest.raises(TimeoutError):
            question(0.01)
    with pytest.raises(RuntimeError, match="successful"):
        ar.successful()
    with pytest.raises(AssertionError):
        ar.successful()
    with pytest.raises(TimeoutError):
        ar[0]
    with pytest.raises(TimeoutError):
        _ = ar.wall_time


def test_error(held, core):
    ar = held.apply_async(len, "a")
    core.requests[-1].error("KeyError", "'a'", engine_id=3)
    with pytest.raises(ipp.RemoteError, match=r"^\[3:apply\] KeyError: 'a'$") as e:
        ar.get()
    assert e.value.ename == "KeyError"
    assert ar.exception() is e.value
    assert ar.successful() is False
    assert ar.get(return_exceptions=True) is e.value
    assert repr(ar).endswith("failed>")


def test_one_of_several_fails(rc, core):
    core.hold = True
    ar = rc[:].apply_async(len, "ab")
    first, second, third = core.requests[-3:]
    first.value(1)
    second.error(engine_id=1)
    third.value(3)
    with pytest.raises(ipp.CompositeError, match="one or more exceptions") as e:
        ar.get()
    assert len(e.value.elist) == 1
    got = ar.get(return_exceptions=True)
    assert [got[0], got[2]] == [1, 3] and isinstance(got[1], ipp.RemoteError)
    it = iter(ar)
    assert next(it) == 1
    with pytest.raises(ipp.CompositeError):
        next(it)


def test_returned_exception_is_a_value(held, core):
    ar = held.apply_async(len, "a")
    core.requests[-1].value(ValueError("not raised"))
    assert isinstance(ar.get(), ValueError)


def test_aborted(rc, core):
    core.hold = True
    one, several = rc[0].apply_async(len, ""), rc[:].apply_async(len, "")
    for req in core.requests[-4:]:
        req.finish({"status": "aborted"})
    with pytest.raises(ipp.TaskAborted, match=one.msg_id):
        one.get()
    with pytest.raises(ipp.CompositeError, match="TaskAborted"):
        several.get()


def test_value_that_cannot_be_loaded(held, core):
    ar = held.apply_async(len, "a")
    core.requests[-1].finish({"status": "ok"}, [b"\x80\x04cno_such_mod\nx\n."])
    with pytest.raises(ModuleNotFoundError):
        ar.get()


def test_is_a_future(held, core):
    ar = held.apply_async(len, "a")
    assert isinstance(ar, concurrent.futures.Future)
    threading.Timer(0.05, core.requests[-1].value, [7]).start()
    done, pending = concurrent.futures.wait([ar], timeout=10)
    assert done == {ar} and not pending
    assert ar.result() == 7


def test_wait_first_completed(held, core):
    ars = [held.apply_async(len, "a") for _ in range(4)]
    core.requests[2].value(2)
    done, pending = concurrent.futures.wait(ars, 10, concurrent.futures.FIRST_COMPLETED)
    assert done == {ars[2]} and len(pending) == 3
    threading.Timer(0.05, core.requests[1].error).start()
    done, _ = concurrent.futures.wait(ars, 10, concurrent.futures.FIRST_EXCEPTION)
    assert ars[1] in done


def test_as_completed(held, core):
    ars = [held.apply_async(len, "a") for _ in range(3)]
    order = []
    for ar in concurrent.futures.as_completed(ars, timeout=10):
        order.append(ars.index(ar))
    # nothing finishes by itself: answered from a thread below
    assert sorted(order) == [0, 1, 2]


@pytest.fixture(autouse=True)
def answer_as_completed(request, monkeypatch):
    """For test_as_completed: answers arrive while it iterates."""
    if request.node.name != "test_as_completed":
        yield
        return
    core = request.getfixturevalue("core")

    def answer():
        while len(core.requests) < 3:
            time.sleep(0.001)
        for i in (2, 0, 1):
            core.requests[i].value(i)

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    thread.join()


def test_callback(held, core):
    ar = held.apply_async(len, "a")
    seen = []
    ar.add_done_callback(lambda f: seen.append((f, f.result())))
    assert not seen
    core.requests[-1].value(5)
    core.settle()
    assert seen == [(ar, 5)]
    ar.add_done_callback(lambda f: seen.append("again"))
    assert seen[-1] == "again"


def test_callback_that_raises_stops_nothing(held, core, caplog):
    ar = held.apply_async(len, "a")
    seen = []
    ar.add_done_callback(lambda f: 1 / 0)
    ar.add_done_callback(seen.append)
    core.requests[-1].value(5)
    core.settle()
    assert seen == [ar] and "ZeroDivisionError" in caplog.text


def test_several_results_of_one_message(held, core):
    ar = held.apply_async(len, "a")
    seen = []
    again = held.client.get_result(ar.msg_id)
    for one in (ar, again):
        one.add_done_callback(seen.append)
    core.requests[-1].value(5)
    core.settle()
    assert seen == [ar, again] or seen == [again, ar]


def test_await(held, core):
    async def main():
        ar = held.apply_async(len, "a")
        threading.Timer(0.05, core.requests[-1].value, [9]).start()
        wrapped = await asyncio.wait_for(asyncio.wrap_future(ar), 10)
        return wrapped, await ar

    assert asyncio.run(main()) == (9, 9)


def test_cancel(held, core):
    ar = held.apply_async(len, "a")
    seen = []
    ar.add_done_callback(seen.append)
    assert ar.cancel() and ar.cancelled() and ar.done()
    assert seen == [ar]
    assert core.sent[-1][2] == "abort_request"
    assert core.sent[-1][3] == {
        "msg_ids": [ar.msg_id],
        "roundhouse": {"interrupt": True},
    }
    with pytest.raises(concurrent.futures.CancelledError):
        ar.get()
    core.requests[0].value(1)  # the answer comes all the same
    core.settle()
    assert ar.cancelled() and seen == [ar]
    done = held.apply_async(len, "a")
    core.requests[-1].value(1)
    assert not done.cancel()


def test_not_settable(held):
    ar = held.apply_async(len, "a")
    with pytest.raises(concurrent.futures.InvalidStateError):
        ar.set_result(1)


def test_many_threads_get_one_object(held, core):
    ar = held.apply_async(len, "a")
    core.requests[-1].value([1, 2])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: ar.get(), range(32)))
    assert all(g is got[0] for g in got)


def test_wait_return_when_and_split(rc, core):
    core.hold = True
    ar = rc[:].apply_async(len, "")
    core.requests[-1].value(1)
    done, pending = ar.wait(10, return_when=ipp.FIRST_COMPLETED)
    assert len(done) == 1 and len(pending) == 2
    parts = ar.split()
    assert len(parts) == 3 and parts[2].get() == 1
    assert ar.split() is parts
    joined = ipp.AsyncResult.join(*parts)
    for req in core.requests[-3:-1]:
        req.value(0)
    assert joined.get() == ar.get() == [0, 0, 1]
    with pytest.raises(ValueError):
        ipp.AsyncResult.join()


def test_first_exception_does_not_wait_for_the_rest(rc, core):
    core.hold = True
    ar = rc[:].apply_async(len, "")
    core.requests[-2].error()
    with pytest.raises(ipp.RemoteError):
        ar.get(10, return_when=ipp.FIRST_EXCEPTION)
    with pytest.warns(UserWarning), pytest.raises(TimeoutError):
        ar.get(0.01, return_when=ipp.FIRST_COMPLETED)


def test_metadata(rc):
    ar = rc[3].apply_async(len, "ab")
    ar.get()
    md = ar.metadata
    assert md.engine_id == md["engine_id"] == 3
    assert md.engine_uuid == "u3"
    assert md.msg_id == ar.msg_id
    assert md.status == "ok"
    assert md.started.isoformat() == "2026-11-20T22:56:05.500000+00:00"
    assert (md.completed - md.started).total_seconds() == 1.0
    assert md.submitted.tzinfo is not None and md.received >= md.submitted
    assert md.follow == [] and md.after == [] and md.outputs == []
    with pytest.raises(KeyError):
        md["nonsense"] = 1
    with pytest.raises(AttributeError):
        _ = md.nonsense
    assert ar.engine_id == 3 and ar["engine_id"] == 3
    assert ar.serial_time == 1.0
    assert ar.wall_time >= 0 and ar.elapsed == ar.wall_time
    many = rc[:].apply_async(len, "")
    many.get()
    assert many.engine_id == [0, 1, 3]
    assert [m.engine_id for m in many.metadata] == [0, 1, 3]
    assert many.get_dict() == many.result_dict == {0: 0, 1: 0, 3: 0}


def test_two_jobs_on_one_engine_are_no_dict(rc):
    ar = ipp.AsyncResult.join(
        *[rc[0].apply_async(len, "") for _ in range(2)], rc[1].apply_async(len, "")
    )
    with pytest.raises(ValueError, match="engine 0 ran 2 of the calls"):
        ar.get_dict()


def test_metadata_does_not_wait(held, core):
    ar = held.apply_async(len, "a")
    assert ar.stdout == "" and ar.status is None and ar.completed is None
    req = core.requests[-1]
    req.output("stream", {"name": "stdout", "text": "a\n"})
    assert ar.stdout == "a\n"
    req.output("stream", {"name": "stdout", "text": "10%\r20%\rdone\n"})
    assert ar.stdout == "a\ndone\n"
    req.output("execute_input", {"code": "x"})
    req.output("display_data", {"data": {"text/plain": "d"}, "metadata": {}})
    req.output("execute_result", {"data": {"text/plain": "r"}, "metadata": {}})
    bufs = ipp.serialize_object({"step": 1})
    req.output("data_message", {"keys": ["step"]}, bufs)
    req.output("data_message", {"keys": ["b"]}, ipp.serialize_object({"b": 2}))
    assert ar.execute_input == ar.pyin == "x"
    assert ar.outputs[0]["data"] == {"text/plain": "d"}
    assert ar.execute_result["data"] == ar.pyout["data"]
    assert ar.data == {"step": 1, "b": 2}
    with pytest.raises(AttributeError):
        _ = ar.nonsense
    with pytest.raises(KeyError):
        ar["nonsense"]


def test_items(rc):
    ar = rc[:].apply_async(len, "abc")
    assert ar[0] == 3 and ar[:2] == [3, 3] and len(ar) == 3 and ar.progress == 3
    assert list(ar) == [3, 3, 3]
    with pytest.raises(TypeError):
        ar[1.5]
    with pytest.raises(TypeError, match="not a sequence"):
        iter(rc[0].apply_async(len, ""))


def test_iterates_as_results_arrive(rc, core):
    core.hold = True
    ar = rc[:].apply_async(len, "")
    it = iter(ar)
    core.requests[-3].value("first")
    assert next(it) == "first"
    assert not ar.ready()


def test_map_result(held, core):
    amr = held.map(len, ["a"] * 5, chunksize=2, block=False)
    assert len(amr) == 5 and amr.progress == 0
    core.requests[-3].value([1, 1])
    assert amr.progress == 2
    core.requests[-1].value([5])
    core.requests[-2].value([3, 4])
    assert amr.get() == [1, 1, 3, 4, 5] == list(amr)


def test_unordered_map_result(held, core):
    amr = held.map(len, ["a"] * 3, block=False, ordered=False)
    it = iter(amr)
    core.requests[-1].value(["last"])
    assert next(it) == "last"
    core.requests[-3].value(["first"])
    core.requests[-2].value(["second"])
    assert sorted(it) == ["first", "second"]


def test_map_with_errors_in_place(held, core):
    amr = held.map(len, ["a"] * 4, chunksize=2, block=False, return_exceptions=True)
    core.requests[-2].value([1, 2])
    core.requests[-1].error()
    got = amr.get()
    assert got[:2] == [1, 2] and isinstance(got[2], ipp.RemoteError) and len(got) == 3


def test_wait_interactive(held, core, capsys):
    ar = held.apply_async(len, "a")
    threading.Timer(0.05, core.requests[-1].value, [7]).start()
    ar.wait_interactive(interval=0.01)
    assert ar.done()
    ar = held.apply_async(len, "a")
    ar.wait_interactive(interval=0.01, timeout=0.05)
    assert not ar.done()
    assert "tasks" in capsys.readouterr().out


def test_sent(rc):
    ar = rc[:].apply_async(len, "")
    assert ar.sent
    ar.wait_for_send(1)
    ar.wait_on_send()


def test_abort(held, core):
    ar = held.apply_async(len, "")
    ar.abort()
    assert core.sent[-1][3] == {"msg_ids": [ar.msg_id]}
    core.requests[0].value(1)
    with pytest.raises(NotReady):
        ar.abort()


def test_nothing_is_kept_once_it_is_taken(rc):
    lv = rc.load_balanced_view()
    ar = lv.apply_async(len, "")
    ar.get()
    gone = weakref.ref(ar)
    del ar
    gc.collect()
    assert gone() is None
    assert not rc._live and not rc.results and not rc.metadata


def test_untaken_results_are_let_go_of(rc, monkeypatch):
    monkeypatch.setattr("roundhouse.client.client._SWEEP_S", 0.0)
    lv = rc.load_balanced_view()
    for _ in range(3000):
        lv.apply_async(len, "")
    assert len(rc._live) < 1500


def test_kept_without_owner(rc):
    ar = rc.load_balanced_view().apply_async(len, "abc")
    ar.owner = False
    ar.get()
    assert rc.results[ar.msg_id] == 3
    assert rc.metadata[ar.msg_id].status == "ok"
    again = rc.get_result(ar.msg_id)
    assert type(again) is ipp.AsyncResult and again.get() == 3


def test_result_of_the_hub(rc, core):
    bufs = ipp.serialize_object(5)
    record = {
        "header": {"date": "2026-11-20T22:56:05.5Z"},
        "metadata": {},
        "result_metadata": {"engine": "u1", "started": "2026-11-20T22:56:05.5Z"},
        "result_header": {"msg_type": "apply_reply", "date": "2026-11-20T22:56:06Z"},
        "result_content": {"status": "ok"},
        "received": None,
        "io": {"stdout": "out", "stderr": "", "error": None},
    }
    polls = []

    def answer(content):
        polls.append(content)
        (msg_id,) = content["msg_ids"]
        if len(polls) < 3:
            return {"pending": [msg_id], "completed": []}
        return {"pending": [], "completed": [msg_id], msg_id: record, "buffers": bufs}

    core.answers["result_request"] = answer
    ar = rc.get_result("other_1")
    assert isinstance(ar, ipp.AsyncHubResult) and not ar.ready()
    assert ar.get(10) == 5
    assert ar.engine_id == 1 and ar.stdout == "out" and len(polls) == 3
    bufs[:] = ipp.serialize_object(5)
    assert rc.get_result("other_1").stdout == "out"  # not only after get()


def test_hub_result_as_a_future(rc, core):
    ready = threading.Event()

    def answer(content):
        if not ready.is_set():
            return {"pending": content["msg_ids"], "completed": []}
        if content["status_only"]:
            return {"pending": [], "completed": content["msg_ids"]}
        records = {
            i: {"result_content": {"status": "ok"}, "result_header": None}
            for i in content["msg_ids"]
        }
        bufs = [b for i in sorted(content["msg_ids"]) for b in ipp.serialize_object(i)]
        return {"completed": content["msg_ids"], **records, "buffers": bufs}

    core.answers["result_request"] = answer
    ar = rc.get_result(["b", "a"])
    seen = threading.Event()
    ar.add_done_callback(lambda f: seen.set())
    ready.set()
    assert seen.wait(10)
    assert ar.get() == ["b", "a"]


def finished_record(status="ok"):
    return {"result_content": {"status": status}, "result_header": None, "io": {}}


def test_the_hub_is_asked_once_if_it_waits(rc, core):
    """No polling: one request is answered when the task is finished."""
    core.hold_types = {"result_request"}
    ar = rc.get_result("theirs")
    assert not ar.wait(0.05) and not ar.wait(0.05)
    (request,) = [
        r for r, s in zip(core.requests, core.sent) if s[2] == "result_request"
    ]
    assert core.sent[-1][3]["roundhouse"] == {"wait": True}
    seen = []
    ar.add_done_callback(seen.append)
    # the hub's patience ended: asked again at once
    request.finish(
        {
            "status": "ok",
            "pending": ["theirs"],
            "completed": [],
            "roundhouse": {"waited": True},
        }
    )
    core.settle()
    again = core.requests[-1]
    assert again is not request and not seen
    again.finish(
        {
            "status": "ok",
            "pending": [],
            "completed": ["theirs"],
            "theirs": finished_record(),
        },
        ipp.serialize_object(11),
    )
    core.settle()
    assert seen == [ar] and ar.get() == 11
    assert len(core.requests) == 2


def test_a_hub_that_does_not_wait_is_asked_again(rc, core):
    polls = []

    def answer(content):
        polls.append(content)
        if len(polls) < 3:
            return {"pending": ["t"], "completed": []}
        bufs = ipp.serialize_object(4)
        return {
            "completed": ["t"],
            "pending": [],
            "t": finished_record(),
            "buffers": bufs,
        }

    core.answers["result_request"] = answer
    done, _ = concurrent.futures.wait([rc.get_result("t")], 10)
    assert [ar.get() for ar in done] == [4] and len(polls) == 3


def test_metadata_of_a_task_that_the_hub_still_waits_for(rc, core):
    core.answers["result_request"] = {"pending": ["t"], "completed": []}
    core.answers["db_request"] = {
        "records": [
            {"msg_id": "t", "stdout": "so far", "engine_uuid": "u1", "error": None}
        ],
        "buffer_lens": None,
        "result_buffer_lens": None,
    }
    ar = rc.get_result("t")
    assert (ar.stdout, ar.engine_id, ar.status) == ("so far", 1, None)
    assert not ar.done()


def test_unknown_to_the_hub(rc, core):
    core.answers["result_request"] = {
        "status": "error",
        "ename": "KeyError",
        "evalue": "'No such message: x'",
        "traceback": [],
        "engine_info": {},
    }
    ar = rc.get_result("x")
    assert ar.wait(1)
    with pytest.raises(ipp.RemoteError, match="No such message"):
        ar.get()


def test_task_of_a_dead_engine_in_the_hub(rc, core):
    record = {
        "header": {},
        "result_metadata": None,
        "result_header": {"engine": "u0", "date": "2026-11-20T22:56:06Z"},
        "result_content": {
            "status": "error",
            "ename": "EngineError",
            "evalue": "Engine 0 died",
            "traceback": [],
            "engine_info": {},
        },
        "io": {},
    }
    core.answers["result_request"] = {"completed": ["x"], "pending": [], "x": record}
    with pytest.raises(ipp.RemoteError, match="EngineError"):
        rc.get_result("x").get(1)


def test_creation_is_cheap(held):
    """Not a measurement: what costs most must not happen."""
    ar = held.apply_async(len, "")
    assert ar._cond is None and ar._callbacks is None and ar._waiting is None
    assert ar._children[0]._metadata is None
    assert json.loads(ar._children[0].request.header)["msg_type"] == "apply_request"
