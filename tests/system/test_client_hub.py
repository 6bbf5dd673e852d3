"""What the hub is asked, on our controller and on the real one."""

import concurrent.futures
import os
import time
from datetime import datetime, timezone

import pytest
import roundhouse as ipp

pytest_plugins = ["cluster_fixtures"]


def idle(rc, wait_until):
    """The hub has seen everything."""

    def nothing():
        status = rc.queue_status()
        status.pop("unassigned")
        return not any(s["queue"] or s["tasks"] for s in status.values())

    wait_until(nothing)


def known_to_hub(rc, msg_ids, wait_until):
    """The hub hears of tasks a little later than those who run them."""
    wait_until(lambda: set(msg_ids) <= set(rc.hub_history()))


def test_result_from_another_client(rc, cluster, wait_until):
    other = cluster.client()
    ar = rc[:].apply_async(pow, 2, 10)
    assert ar.get(60) == [1024] * len(rc)
    known_to_hub(other, ar.msg_ids, wait_until)
    got = other.get_result(ar.msg_ids)
    assert isinstance(got, ipp.AsyncHubResult)
    assert got.get(60) == [1024] * len(rc)
    assert got.engine_id == ar.engine_id
    assert got.started == ar.started and got.completed == ar.completed
    one = other.get_result(ar.msg_ids[0])
    assert one.get(60) == 1024
    assert type(rc.get_result(ar)) is ipp.AsyncResult


def test_large_results_from_another_client(rc, cluster, wait_until):
    numpy = pytest.importorskip("numpy")
    other = cluster.client()
    ars = [rc[i % len(rc)].apply_async(bytes, [i] * 3000) for i in range(5)]
    ars.append(rc[0].apply_async(numpy.arange, 5000))
    want = [a.get(60) for a in ars]
    known_to_hub(other, [a.msg_id for a in ars], wait_until)
    got = other.get_result([a.msg_id for a in ars]).get(60)
    assert got[:5] == want[:5] and numpy.array_equal(got[5], want[5])


def test_waiting_for_another_clients_task(rc, cluster, wait_until):
    other = cluster.client()
    ar = rc.load_balanced_view().apply_async(time.sleep, 1)
    known_to_hub(other, ar.msg_ids, wait_until)
    got = other.get_result(ar.msg_id)
    assert not got.ready()
    with pytest.raises(TimeoutError):
        got.get(0.01)
    assert got.get(60) is None


def test_hub_results_are_futures(rc, cluster, wait_until, tmp_path):
    """Split, callbacks and concurrent.futures, without asking again and again."""
    other = cluster.client()
    gate = tmp_path / "gate"
    code = (
        f"import os, time\nprint('begun', flush=True)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(.01)\nprint('done')"
    )
    ar = rc[:].execute(code)
    known_to_hub(other, ar.msg_ids, wait_until)
    got = other.get_result(ar.msg_ids)
    wait_until(lambda: got.stdout == ["begun\n"] * len(rc), what="output so far")
    assert not got.done()
    sent, core = [], other._core

    class Counting:
        def __getattr__(self, name):
            return getattr(core, name)

        def submit(self, *args, **kwargs):
            sent.append(args)
            return core.submit(*args, **kwargs)

    other._core = Counting()
    seen = []
    got.add_done_callback(seen.append)
    parts = got.split()
    done, pending = concurrent.futures.wait(parts, 0.5)
    assert not done and len(pending) == len(rc)
    if cluster.kind == "ours":
        assert len(sent) == 1 + len(parts)
    gate.touch()
    done, _ = concurrent.futures.wait(parts, 60)
    assert done == set(parts) and got.wait(60)
    wait_until(lambda: seen == [got])
    other._core = core


def test_errors_of_another_clients_task(rc, cluster, wait_until):
    other = cluster.client()
    ar = rc[0].apply_async(pow, 1, "x")
    assert ar.exception(60).ename == "TypeError"
    known_to_hub(other, ar.msg_ids, wait_until)
    with pytest.raises(ipp.RemoteError, match="TypeError"):
        other.get_result(ar.msg_id).get(60)
    with pytest.raises(ipp.RemoteError, match="No such message"):
        other.get_result("unheard-of").get(60)


def test_execute_from_another_client(rc, cluster, wait_until):
    other = cluster.client()
    ar = rc[0].execute("print('said'); 40 + 2", silent=False)
    ar.get(60)
    ar.wait_for_output(60)
    known_to_hub(other, ar.msg_ids, wait_until)
    wait_until(lambda: other.get_result(ar.msg_id, block=True).stdout == "said\n")
    got = other.get_result(ar.msg_id)
    assert repr(got.get(60)) == repr(ar.get())
    assert got.stdout == "said\n"


def test_output_of_another_clients_task_is_complete(rc, cluster, wait_until):
    """It goes to the hub on another way than the reply."""
    if cluster.kind == "peer":
        pytest.skip("its hub tells what it has")
    other = cluster.client()
    for k in range(20):
        code = f"import time; time.sleep(.005); print({k}); print({k} + 1)"
        ar = rc[k % 2].execute(code)
        known_to_hub(other, ar.msg_ids, wait_until)
        waited = other.get_result(ar.msg_id)
        assert waited.wait(60) and waited.stdout == f"{k}\n{k + 1}\n"
        ar.get(60)
        assert other.get_result(ar.msg_id).stdout == waited.stdout


def test_status_and_history(rc, wait_until):
    before = len(rc.hub_history())
    ar = rc[:].apply_async(len, "")
    ar.get(60)
    idle(rc, wait_until)
    wait_until(lambda: len(rc.hub_history()) == before + len(rc))
    assert rc.hub_history()[-len(rc) :] == ar.msg_ids
    status = rc.queue_status()
    assert set(status) >= {*rc.ids, "unassigned"}
    assert rc.queue_status(rc.ids[0]) == status[rc.ids[0]]
    verbose = rc[0].queue_status(verbose=True)
    assert ar.msg_ids[0] in verbose["completed"]
    assert set(rc.result_status(ar)["completed"]) == set(ar.msg_ids)
    full = rc.result_status(ar.msg_ids, status_only=False)
    assert [full[i] for i in ar.msg_ids] == [0] * len(rc)
    with pytest.raises(IndexError):
        rc.queue_status(99)


def test_database(rc, wait_until):
    start = datetime.now(timezone.utc)
    ar = rc[0].set_flags(label="mine").apply_async(bytes, [7] * 3000)
    ar.get(60)
    wait_until(lambda: rc.db_query({"msg_id": ar.msg_id})[0]["completed"])
    (rec,) = rc.db_query({"msg_id": ar.msg_id})
    assert rec["client_uuid"] == rc.session.session
    assert rec["engine_uuid"] == rc._engines[rc.ids[0]]
    assert start <= rec["submitted"] <= rec["completed"]
    assert "buffers" not in rec
    (rec,) = rc.db_query({"msg_id": ar.msg_id}, keys=["result_buffers", "buffers"])
    value, _ = ipp.deserialize_object(rec["result_buffers"])
    assert value == bytes([7] * 3000)
    f, args, _ = ipp.unpack_apply_message(rec["buffers"])
    assert f is bytes and args == ([7] * 3000,)
    mine = rc.db_query(
        {"submitted": {"$gte": start}, "client_uuid": {"$in": [rc.session.session]}}
    )
    assert ar.msg_id in [r["msg_id"] for r in mine]
    assert rc.db_query({"completed": None}, keys="msg_id") == []


def test_resubmit(rc, wait_until):
    ar = rc.load_balanced_view().apply_async(os.getpid)
    ar.get(60)
    idle(rc, wait_until)
    again = rc.resubmit(ar)
    assert isinstance(again, ipp.AsyncHubResult) and again.msg_id != ar.msg_id
    (pid,) = again.get(60)
    assert pid in rc[:].apply_sync(os.getpid)
    with pytest.raises(ipp.RemoteError, match="KeyError"):
        rc.resubmit("nope")


def test_purge(rc, wait_until):
    ars = [rc[:].apply_async(len, "") for _ in range(3)]
    ipp.AsyncResult.join(*ars).get(60)
    idle(rc, wait_until)
    rc.purge_results(ars[0])
    assert not set(ars[0].msg_ids) & set(rc.hub_history())
    assert set(ars[1].msg_ids) <= set(rc.hub_history())
    with pytest.raises(ipp.RemoteError):
        rc.get_result(ars[0].msg_ids[0]).get(60)
    rc.purge_everything()
    assert rc.hub_history() == [] and rc.history == []
