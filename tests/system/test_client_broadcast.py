"""Broadcast views end to end: one message out, one or many back."""

import os
import signal

import pytest
import roundhouse as ipp
from test_client_calls import interactive

pytest_plugins = ["cluster_fixtures"]

rank = interactive("def rank(x):\n import os\n return x, os.getpid()", "rank")
say = interactive("def say(x):\n print('said', x)\n return x", "say")


@pytest.mark.parametrize("coalescing", [False, True])
def test_values_output_and_metadata(rc, coalescing):
    bv = rc.broadcast_view(is_coalescing=coalescing)
    pids = dict(zip(rc.ids, rc[:].apply_sync(os.getpid)))
    ar = bv.apply_async(rank, "b")
    values = ar.get(60)
    assert dict(zip(ar.engine_id, values)) == {i: ("b", pids[i]) for i in rc.ids}
    ar = bv.apply_async(say, 1)
    assert ar.get(60) == [1] * len(rc)
    text = ar.stdout if coalescing else "".join(ar.stdout)
    assert text == "said 1\n" * len(rc)
    big = bv.apply_sync(len, b"x" * 3_000_000)
    assert big == [3_000_000] * len(rc)


def test_calls_that_say_nothing_are_quiet(rc, cluster):
    """Two messages per engine, not four: what makes a broadcast pay."""
    if cluster.kind == "peer":
        pytest.skip("its engines always say busy and idle")
    ar = rc.broadcast_view().apply_async(rank, 0)
    ar.get(60)
    for child in ar._children:
        assert child.request.output_done and not child.request.begun
    ar = rc.broadcast_view().apply_async(say, 0)
    ar.get(60)
    assert ar.stdout == ["said 0\n"] * len(rc)


@pytest.mark.parametrize("coalescing", [False, True])
def test_errors(rc, coalescing):
    bv = rc.broadcast_view(is_coalescing=coalescing)
    some = interactive(
        "def some(first):\n"
        " import os\n"
        " if os.getpid() == first: raise ValueError('here')\n"
        " return 'fine'",
        "some",
    )
    ar = bv.apply_async(some, rc[0].apply_sync(os.getpid))
    with pytest.raises((ipp.CompositeError, ipp.RemoteError), match="here"):
        ar.get(60)
    assert ar.wait_for_output(60)
    if not coalescing:
        ar = bv.apply_async(some, rc[0].apply_sync(os.getpid))
        got = ar.get(60, return_exceptions=True)
        assert got[0].ename == "ValueError" and got[1:] == ["fine"] * (len(rc) - 1)
    assert bv.apply_sync(len, "ab") == [2] * len(rc)


def test_hub_records(rc, cluster, wait_until):
    """One per engine, as for direct calls; another client finds the results."""
    if cluster.kind == "peer":
        pytest.skip("its hub records no broadcasts")
    ar = rc.broadcast_view(label="named").apply_async(rank, "r")
    values = ar.get(60)
    query = {"msg_id": {"$in": ar.msg_ids}}
    wait_until(lambda: len(rc.db_query({"label": "named"})) == len(rc))

    def records():
        found = rc.db_query(query, keys=["msg_id", "engine_uuid", "completed"])
        return found if all(r["completed"] for r in found) else []

    found = wait_until(lambda: len(records()) == len(rc) and records())
    uuids = {r["msg_id"]: r["engine_uuid"] for r in found}
    assert [uuids[i] for i in ar.msg_ids] == [rc._engines[i] for i in rc.ids]
    other = cluster.client()
    assert other.get_result(ar.msg_ids).get(60) == values
    ar = rc.broadcast_view(is_coalescing=True).apply_async(rank, "r")
    ar.get(60)
    wait_until(lambda: set(ar.msg_ids) <= set(rc.hub_history()))


def test_cancelling(rc, cluster, tmp_path, wait_until):
    if cluster.kind == "peer":
        pytest.skip("its broadcasts have other ids")
    nap = interactive(
        "def nap(folder):\n"
        " import os, time\n"
        " open(f'{folder}/{os.getpid()}', 'w').close()\n"
        " time.sleep(600)",
        "nap",
    )
    ar = rc.broadcast_view().apply_async(nap, str(tmp_path))
    wait_until(lambda: len(os.listdir(tmp_path)) == len(rc))
    assert ar.cancel()
    wait_until(lambda: not rc.outstanding)
    assert rc.broadcast_view().apply_sync(len, "ab") == [2] * len(rc)


@pytest.mark.parametrize("coalescing", [False, True])
def test_an_engine_dies(start_cluster, coalescing, tmp_path, wait_until):
    c = start_cluster(2)
    pids = c.pids()
    nap = interactive(
        "def nap(pid, path):\n"
        " import os, time\n"
        " if os.getpid() == pid:\n"
        "  open(path, 'w').close(); time.sleep(600)\n"
        " return 'alive'",
        "nap",
    )
    bv = c.rc.broadcast_view(is_coalescing=coalescing)
    ar = bv.apply_async(nap, pids[0], str(tmp_path / "x"))
    wait_until((tmp_path / "x").exists)
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises((ipp.CompositeError, ipp.RemoteError), match="died"):
        ar.get(60)
    assert ar.wait_for_output(60)
    if not coalescing:
        assert ar.get(return_exceptions=True)[1] == "alive"
    wait_until(lambda: c.rc.ids == [1])
    assert c.rc.broadcast_view().apply_sync(len, "a") == [1]
