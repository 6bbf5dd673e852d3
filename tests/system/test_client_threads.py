"""One client, its views and its results, used from sixteen threads at once."""

import concurrent.futures
import threading

import pytest
import roundhouse as ipp
from test_client_calls import interactive

pytest_plugins = ["cluster_fixtures"]

N = 16
ROUNDS = 8

say = interactive("def say(k, i):\n print(k, i)\n return k * i", "say")
fail = interactive("def fail(k): raise ValueError(k)", "fail")


def in_threads(work):
    """work(k) in N threads that start together; raises the first failure."""
    together = threading.Barrier(N)

    def run(k):
        together.wait(60)
        return work(k)

    with concurrent.futures.ThreadPoolExecutor(N) as pool:
        return list(pool.map(run, range(N)))


def test_everything_at_once(rc):
    """Views of one's own, a view for all, and every kind of call."""
    dv, lv = rc[:], rc.load_balanced_view()
    called = []

    def work(k):
        mine = rc[k % len(rc)]
        name = f"of_{k}"
        for i in range(ROUNDS):
            assert mine.apply_sync(say, k, i) == k * i
            assert lv.apply_sync(pow, 2, i) == 2**i
            dv.push({name: (k, i)}, block=True)
            assert dv.pull(name, block=True) == [(k, i)] * len(rc)
            ar = mine.apply_async(say, k, i)
            ar.add_done_callback(lambda ar: called.append(ar.get()))
            assert ar.get(60) == k * i and ar.stdout == f"{k} {i}\n"
            try:
                lv.apply_sync(fail, k)
            except ipp.RemoteError as e:
                assert e.evalue == str(k)
            else:
                raise AssertionError("no error")
            assert rc.ids and ar.msg_id in rc.history and ar.msg_id in mine.history
        assert lv.map_sync(abs, range(-10 * k, 0)) == list(range(10 * k, 0, -1))
        data = bytes([k]) * 200_000
        assert mine.apply_sync(len, data) == len(data)
        return len(mine.history)

    assert all(in_threads(work))
    assert rc.wait(timeout=60) and not rc.outstanding
    assert sorted(called) == sorted(k * i for k in range(N) for i in range(ROUNDS))
    assert len(set(rc.history)) == len(rc.history)


def test_one_result_for_all(rc):
    """Many threads wait for the same results; everyone gets the same object."""
    ars = [rc.load_balanced_view().apply_async(list, range(i)) for i in range(40)]

    def work(k):
        order = ars if k % 2 else ars[::-1]
        return {ar.msg_id: id(ar.get(60)) for ar in order}

    first, *rest = in_threads(work)
    assert all(found == first for found in rest)


def test_cancelling_while_others_call(rc, cluster):
    if cluster.kind == "peer":
        pytest.skip("a signal hits whatever runs")
    nap = interactive("def nap(t):\n import time\n time.sleep(t)\n return t", "nap")

    def work(k):
        view = rc[k % len(rc)]
        for _ in range(ROUNDS):
            ar = view.apply_async(nap, 0.001)
            if k % 4 == 0:
                ar.cancel()
            else:
                assert ar.get(60) == 0.001

    in_threads(work)
    assert rc[:].apply_sync(len, "ab") == [2] * len(rc)


def test_closing_while_others_call(start_cluster):
    """Those that wait fail with an error that says so; none hangs."""
    c = start_cluster(1)
    rc = c.client()
    rc.wait_for_engines(1, timeout=60)
    closing = threading.Event()

    def work(k):
        if k == 0:
            closing.wait(60)
            rc.close()
            return "closed"
        try:
            for i in range(100_000):
                assert rc[0].apply_sync(abs, -i) == i
                if i == 10:
                    closing.set()
        except (OSError, ipp.RemoteError) as e:
            return str(e)

    said = in_threads(work)
    assert said[0] == "closed"
    assert all("closed" in text for text in said), said
