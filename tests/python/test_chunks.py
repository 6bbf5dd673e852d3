"""Maps that are cut while they run: chunk sizes, errors, stopping, laziness."""

import concurrent.futures
import sys
import threading
import time
from itertools import count, islice

import pytest
import roundhouse as ipp
from roundhouse.client import chunks
from roundhouse.client.chunks import Chunking


def wait_until(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.001)


@pytest.fixture
def lv(rc, monkeypatch):
    # The fake engines are in this process, where nothing stands for this name.
    monkeypatch.setitem(sys.modules, "ipyparallel", ipp)
    monkeypatch.setitem(sys.modules, "ipyparallel.error", ipp.error)
    # The fake core says that each message took a second.
    monkeypatch.setattr(chunks, "_CHUNK_S", 100.0)
    return rc.load_balanced_view()


def third_fails(x):
    if x % 3 == 0:
        raise ValueError(f"no {x}")
    return x


# How large


@pytest.mark.parametrize("cost_s", [1e-6, 1e-3, 10.0])
def test_chunks_grow_to_what_takes_long_enough(cost_s):
    policy = Chunking("auto", 4)
    assert policy.size(10**9) == 1
    for _ in range(40):
        n = policy.size(10**9)
        policy.measured(n, n * cost_s)
    assert n == max(1, round(chunks._CHUNK_S / cost_s))


def test_chunks_at_most_double():
    policy = Chunking("auto", 1)
    policy.measured(1, 1e-9)
    assert policy.size(None) == 2
    policy.measured(2, 1e-9)
    assert policy.size(None) == 4


def test_chunks_shrink_when_calls_become_slow():
    policy = Chunking("auto", 1)
    for _ in range(20):
        policy.measured(policy.size(None), 1e-9)
    policy.measured(1, 1.0)
    assert policy.size(None) == 1


def test_the_last_chunks_are_shared():
    policy = Chunking("auto", 4)
    for _ in range(20):
        policy.measured(policy.size(None), 1e-9)
    left = sizes = 1000
    sizes = []
    while left:
        sizes.append(policy.size(left))
        left -= sizes[-1]
    assert sizes[0] == 125 and sizes == sorted(sizes, reverse=True) and sizes[-1] == 1


@pytest.mark.parametrize("chunksize", [0, -1, "many", 1.5, True])
def test_bad_chunksize(lv, chunksize):
    for f in (lv.map, lv.imap):
        with pytest.raises((TypeError, ValueError), match="chunksize"):
            f(abs, [1], chunksize=chunksize)


# map(chunksize='auto')


def test_map(lv):
    got = lv.map_async(pow, range(100), [2] * 99, chunksize="auto")
    assert len(got) == 99
    assert got.get() == [x * x for x in range(99)]
    assert got.progress == 99 and got.successful()
    assert len(got.msg_ids) < 99
    assert lv.map_sync(abs, [], chunksize="auto") == []
    assert list(lv.map(abs, {-1: 0}, chunksize="auto")) == [1]
    assert not lv._feeders


def test_map_of_arrays_sends_slices(lv, core):
    numpy = pytest.importorskip("numpy")
    a = numpy.arange(1000.0)
    assert lv.map_sync(float, a, chunksize="auto") == a.tolist()
    for n, req in enumerate(core.requests[:-1]):
        assert len(req.bufs) <= 6, n


def test_each_item_has_its_own_error(lv, core):
    ar = lv.map_async(third_fails, range(1, 8), chunksize="auto")
    with pytest.raises(ipp.CompositeError) as e:
        ar.get()
    assert [x[:2] for x in e.value.elist] == [
        ("ValueError", "no 3"),
        ("ValueError", "no 6"),
    ]
    assert e.value.elist[0][3]["engine_id"] in (0, 1, 3)
    assert not ar.successful() and "failed" in repr(ar)
    values = ar.get(return_exceptions=True)
    assert [v if isinstance(v, int) else v.evalue for v in values] == [
        1, 2, "no 3", 4, 5, "no 6", 7,
    ]  # fmt: skip
    done = []
    with pytest.raises(ipp.RemoteError, match="no 3"):
        done.extend(x for x in ar if done.append(x) or False)
    assert done == [1, 2]
    done = concurrent.futures.wait([ar], return_when="FIRST_EXCEPTION").done
    assert done == {ar}


def test_a_chunk_that_is_lost_fails_for_each_of_its_items(lv, core, monkeypatch):
    core.hold = True
    monkeypatch.setattr(Chunking, "size", lambda self, left: 2)
    ar = lv.map_async(abs, range(4), chunksize="auto", return_exceptions=True)
    wait_until(lambda: len(core.requests) == 2)
    core.requests[0].error("EngineError", "killed")
    core.requests[1].run()
    got = ar.get(10)
    assert [e.ename for e in got[:2]] == ["EngineError"] * 2 and got[2:] == [2, 3]


def test_a_chunk_that_comes_back_wrong(lv, core):
    core.hold = True
    ar = lv.map_async(abs, range(1), chunksize="auto")
    core.requests[-1].value([1, 2, {}], metadata={"started": "never"})
    with pytest.raises(ipp.CompositeError, match="1 calls came back with 2 results"):
        ar.get(10)


def test_progress_and_order(lv, core):
    core.hold = True
    ar = lv.map_async(abs, range(-20, 0), chunksize="auto", ordered=False)
    assert ar.progress == 0 and not ar.done() and ar.wait(0.01) is False
    wait_until(lambda: len(core.requests) == 6)  # two for each of three engines
    core.requests[3].run()
    it = iter(ar)
    assert next(it) == 17 and ar.progress == 1
    finish(core, ar)
    assert sorted(it) == [*range(1, 17), 18, 19, 20]


def finish(core, ar):
    """Answer all requests as they come."""

    def answer():
        i = 0
        while not ar.done():
            while i < len(core.requests):
                if not core.requests[i].done:
                    core.requests[i].run()
                i += 1
            time.sleep(0.001)

    threading.Thread(target=answer, daemon=True).start()


def test_waiting_for_a_map_that_grows(lv, core):
    core.hold = True
    called = threading.Event()
    ar = lv.map_async(abs, range(50), chunksize="auto")
    ar.add_done_callback(lambda _: called.set())
    finish(core, ar)
    assert concurrent.futures.wait([ar], timeout=30).done == {ar}
    assert called.wait(10)
    assert len(ar.split()) == len(ar.msg_ids)
    assert [x for part in ar.split() for x in part.get()[0]] == list(range(50))


def test_waiting_for_some_of_a_map_that_grows(lv, core, monkeypatch):
    monkeypatch.setattr(Chunking, "size", lambda self, left: 1)
    core.hold = True
    ar = lv.map_async(third_fails, [1, 2, 3, 4] * 10, chunksize="auto")
    wait_until(lambda: len(core.requests) == 6)
    assert ar.wait(0.01, return_when="FIRST_COMPLETED")[0] == set()
    core.requests[1].run()
    done, pending = ar.wait(10, return_when="FIRST_COMPLETED")
    assert [part.get() for part in done] == [[[2]]] and len(pending) >= 5
    with pytest.raises(TimeoutError):
        ar.get(0.01, return_when="FIRST_EXCEPTION")
    core.requests[2].run()
    with pytest.raises(ipp.CompositeError, match="no 3"):
        ar.get(10, return_when="FIRST_EXCEPTION")
    ar.cancel()


@pytest.mark.parametrize("how", ["abort", "cancel"])
def test_stopping_a_map(lv, core, how):
    core.hold = True
    ar = lv.map_async(abs, range(1000), chunksize="auto")
    getattr(ar, how)()
    assert not lv._feeders
    sent = len([s for s in core.sent if s[2] == "apply_request"])
    for req in core.requests:
        if not req.done:
            req.finish({"status": "aborted"})
    if how == "cancel":
        assert ar.cancelled()
        with pytest.raises(concurrent.futures.CancelledError):
            ar.get()
    else:
        with pytest.raises(ipp.TaskAborted):
            ar.get(10)
        assert len(ar.get(return_exceptions=True)) == 1000
    assert sent == len(ar.msg_ids) < 1000


def test_an_argument_that_cannot_be_sent(lv):
    bad = [0, threading.Lock()]
    with pytest.raises(TypeError):
        lv.map(abs, bad[1:], chunksize="auto")
    ar = lv.map_async(abs, bad, chunksize="auto")
    with pytest.raises(TypeError):
        ar.get(10)
    assert ar.get(return_exceptions=True)[0] == 0
    with pytest.raises(TypeError):
        list(ar)
    with pytest.raises(ValueError, match="auto"):
        lv.parallel(chunksize="auto")(abs)([1])


# imap


@pytest.mark.parametrize("chunksize", [1, 3, "auto"])
@pytest.mark.parametrize("ordered", [True, False])
def test_imap(lv, chunksize, ordered):
    def it(*args, **kwargs):
        return lv.imap(*args, chunksize=chunksize, ordered=ordered, **kwargs)

    assert sorted(it(abs, range(-50, 0))) == list(range(1, 51))
    endless = it(abs, count())
    assert sorted(islice(endless, 20)) == list(range(20))
    endless.cancel()
    list(endless)
    assert not lv._feeders
    got = list(it(third_fails, range(1, 8), return_exceptions=True))
    assert sum(isinstance(v, ipp.RemoteError) for v in got) == 2 and len(got) == 7
    calls, values, errors = it(third_fails, range(1, 8)), [], []
    while True:
        try:
            values.append(next(calls))
        except StopIteration:
            break
        except ipp.RemoteError as e:
            errors.append(e.evalue)
    assert sorted(values) == [1, 2, 4, 5, 7] and sorted(errors) == ["no 3", "no 6"]


def test_input_that_raises_within_a_chunk(lv):
    def inputs():
        yield from range(5)
        raise OSError("no more")

    it = lv.imap(abs, inputs(), chunksize=3)
    assert list(islice(it, 5)) == list(range(5))
    with pytest.raises(OSError, match="no more"):
        next(it)
    assert list(it) == []


def test_endless_input_does_not_fill_the_memory(lv, monkeypatch):
    monkeypatch.setattr(chunks, "_BACKLOG", 10)
    taken = []
    it = lv.imap(abs, (taken.append(i) or i for i in count()))
    wait_until(lambda: len(taken) >= 10)
    time.sleep(0.05)
    assert len(taken) <= 11
    assert [next(it) for _ in range(5)] == list(range(5))
    wait_until(lambda: len(taken) >= 15)
    it.cancel()
    wait_until(lambda: not lv._feeders)


def test_an_executor_submits_all_before_it_ends(lv, monkeypatch):
    monkeypatch.setattr(chunks, "_BACKLOG", 10)
    with lv.executor as ex:
        it = ex.map(abs, range(100))
    assert list(it) == list(range(100))


def test_chunks_of_an_executor(rc, lv):
    with lv.executor as ex:
        assert list(ex.map(abs, range(30), chunksize=10)) == list(range(30))
    assert len(lv.history) == 3
    with rc[:].executor as ex:
        assert list(ex.map(abs, range(30), chunksize=10)) == list(range(30))


def test_flags_of_one_map(lv, core):
    def sent():
        metadata = [s[4] for s in core.sent if s[2] == "apply_request"]
        core.sent.clear()
        return metadata

    for chunksize in (1, 7, "auto"):
        lv.map_sync(abs, range(20), chunksize=chunksize, retries=2, label="L")
        assert all(m["retries"] == 2 and m["label"] == "L" for m in sent())
        it = lv.imap(abs, range(20), chunksize=chunksize, priority=0, retries=2)
        assert list(it) == list(range(20))
        assert all(m["retries"] == 2 for m in sent())
    with lv.temp_flags(retries=3):
        it = lv.imap(abs, range(20))
    assert list(it) == list(range(20))
    assert all(m["retries"] == 3 for m in sent())
    for f in (lv.map, lv.imap):
        with pytest.raises(TypeError, match="nonsense"):
            f(abs, [1], nonsense=1)
