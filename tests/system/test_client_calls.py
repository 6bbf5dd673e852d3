"""Calls end to end, on our cluster and on the real one."""

import os
import threading
import time
from itertools import count

import pytest
import roundhouse as ipp

pytest_plugins = ["cluster_fixtures"]
numpy = pytest.importorskip("numpy")


def interactive(code, name):
    """A function as if typed in at a prompt."""
    ns = {"__name__": "__main__", "ipp": ipp}
    exec(code, ns)
    return ns[name]


slow = interactive(
    "def slow(t, x=None):\n import time\n time.sleep(t)\n return x", "slow"
)


def test_apply(rc):
    assert rc[:].apply_sync(os.getpid) == [rc[i].apply_sync(os.getpid) for i in rc.ids]
    f = interactive("def f(a, b=2, *c, d, **e): return (a, b, c, d, e)", "f")
    for view in (rc[0], rc.load_balanced_view()):
        assert view.apply_sync(f, 1, d=4) == (1, 2, (), 4, {})
        assert view.apply_sync(f, 1, 3, 5, d=4, f=6, self=7) == (
            1,
            3,
            (5,),
            4,
            {"f": 6, "self": 7},
        )


@pytest.mark.parametrize("n", [0, 1, 1000, 1025, 100_000, 20_000_000])
def test_bytes_and_arrays(rc, n):
    echo = interactive("def echo(x): return x", "echo")
    a = numpy.arange(n, dtype="u1")
    for view in (rc[-1], rc.load_balanced_view()):
        back = view.apply_sync(echo, a)
        assert numpy.array_equal(back, a) and back.dtype == a.dtype
        assert view.apply_sync(echo, a.tobytes()) == a.tobytes()


def test_memory_may_be_reused_once_it_is_sent(rc):
    total = interactive("def total(a): return float(a.sum())", "total")
    a = numpy.ones(4_000_000)
    ar = rc[0].set_flags(track=True).apply_async(total, a)
    ar.wait_for_send(60)
    assert ar.sent
    a[:] = 2
    assert ar.get(60) == 4_000_000


def test_many_buffers_in_order(rc):
    parts = [bytes([i]) * (1000 + 100 * i) for i in range(60)]
    join = interactive(
        "def join(parts, **kw): return b''.join(parts) + kw['last']", "join"
    )
    got = rc[0].apply_sync(join, parts, last=b"end" * 1000)
    assert got == b"".join(parts) + b"end" * 1000


def test_namespace(rc):
    dv = rc[:]
    dv.push({"a": 1, "b": [1, 2]}, block=True)
    assert dv.pull(("a", "b"), block=True) == [[1, [1, 2]]] * len(rc)
    f = interactive("def f(): return a + 1", "f")
    dv.push({"g": f}, block=True)
    assert dv.apply_sync(ipp.Reference("g")) == [2] * len(rc)
    assert dv.apply_sync(f) == [2] * len(rc)
    assert rc[0].apply_sync(max, [ipp.Reference("a"), ipp.Reference("b[1]")]) == 2
    dv["c"] = numpy.arange(5000)
    assert all((c == numpy.arange(5000)).all() for c in dv["c"])
    dv.execute("d = c.sum()", block=True)
    assert dv["d"] == [12497500] * len(rc)
    with pytest.raises(ipp.CompositeError, match="NameError"):
        dv.pull("no_such_name", block=True)
    dv.clear(block=True)
    with pytest.raises(ipp.CompositeError, match="NameError"):
        dv.pull("a", block=True)


@pytest.mark.parametrize("dist", "br")
@pytest.mark.parametrize("broadcast", [False, True])
def test_scatter_and_gather(rc, dist, broadcast):
    view = rc.broadcast_view() if broadcast else rc[:]
    seq = list(range(17))
    view.scatter("part", seq, dist=dist, block=True)
    assert view.gather("part", dist=dist, block=True) == seq
    a = numpy.linspace(0, 1, 10_001)
    view.scatter("part", a, dist=dist, block=True)
    assert numpy.array_equal(view.gather("part", dist=dist, block=True), a)


def test_maps(rc):
    square = interactive("def square(x): return x * x", "square")
    want = [x * x for x in range(50)]
    lv = rc.load_balanced_view()
    assert rc[:].map_sync(square, range(50)) == want
    assert lv.map_sync(square, range(50)) == want
    assert lv.map_sync(square, range(50), chunksize=7) == want
    assert sorted(lv.map_async(square, range(50), ordered=False)) == want
    assert rc.broadcast_view().map_sync(square, range(50)) == want
    assert list(lv.imap(square, range(50))) == want
    assert lv.map_sync(pow, [2, 3], [5, 2]) == [32, 9]
    endless = lv.imap(square, count(), max_outstanding=3)
    assert [next(endless) for _ in range(10)] == want[:10]
    endless.cancel()


def test_task_per_engine_of_a_map(rc):
    amr = rc[:].map(slow, [0.0] * 9)
    assert len(amr) == 9 and len(amr.msg_ids) == len(rc)
    assert amr.get() == [None] * 9 and amr.progress == 9


def test_decorators(rc):
    pid = rc[:].remote(block=True)(
        interactive("def pid():\n import os\n return os.getpid()", "pid")
    )
    assert pid() == rc[:].apply_sync(os.getpid)
    add = rc.load_balanced_view().parallel(block=True)(
        interactive("def add(a, b): return a + b", "add")
    )
    a, b = numpy.random.rand(2, 20)
    assert numpy.allclose(add(a, b), a + b)


def test_broadcast(rc):
    rank = interactive("def rank(x): import os; return (x, os.getpid())", "rank")
    bv = rc.broadcast_view()
    pids = rc[:].apply_sync(os.getpid)
    assert bv.apply_sync(rank, "b") == [("b", p) for p in pids]
    ar = rc.broadcast_view(is_coalescing=True).apply_async(rank, "c")
    got = ar.get(60)
    assert dict(zip(ar.engine_id, got)) == {i: ("c", p) for i, p in zip(rc.ids, pids)}
    assert bv.apply_async(os.getpid).get_dict() == dict(zip(rc.ids, pids))
    with pytest.raises(ipp.CompositeError, match="ZeroDivisionError"):
        bv.apply_sync(interactive("f = lambda: 1 / 0", "f"))
    ar = bv.execute("e = 5", block=True)
    assert [r.status for r in ar.get()] == ["ok"] * len(rc)
    assert rc[:]["e"] == [5] * len(rc)


def test_errors(rc):
    fail = interactive("def fail(x):\n    raise KeyError(x)", "fail")
    with pytest.raises(ipp.RemoteError) as e:
        rc[0].apply_sync(fail, "why")
    assert (e.value.ename, e.value.evalue) == ("KeyError", "'why'")
    assert str(e.value) == f"[{rc.ids[0]}:apply] KeyError: 'why'"
    assert "raise KeyError(x)" in e.value.traceback or "fail" in e.value.traceback
    with pytest.raises(ipp.CompositeError) as e:
        rc[:].apply_sync(fail, 1)
    assert [t[3]["engine_id"] for t in e.value.elist] == rc.ids
    with pytest.raises(ipp.CompositeError, match="execute"):
        rc[:].execute("1/0", block=True)
    ar = rc.load_balanced_view().map_async(fail, range(3), return_exceptions=True)
    assert [r.ename for r in ar.get()] == ["KeyError"] * 3
    with pytest.raises(ipp.RemoteError, match="SystemExit"):
        rc[0].apply_sync(interactive("def f():\n raise SystemExit(3)", "f"))
    with pytest.raises(ipp.RemoteError, match=r"cannot pickle '_thread\.lock'"):
        rc[0].apply_sync(
            interactive("def f():\n import threading\n return threading.Lock()", "f")
        )
    assert rc[0].apply_sync(len, "ok") == 2


def test_metadata(rc):
    before = time.time()
    ar = rc[:].apply_async(slow, 0.05)
    ar.get()
    assert ar.engine_id == rc.ids
    assert ar.engine_uuid == [rc._engines[i] for i in rc.ids]
    for md in ar.metadata:
        assert before - 1 < md.submitted.timestamp() <= md.started.timestamp() + 0.1
        assert md.started < md.completed <= md.received
        assert md.status == "ok"
    assert 0.05 * len(rc) <= ar.serial_time < 60 and ar.wall_time >= 0.05
    assert ar.elapsed == ar.wall_time


def test_output(rc):
    ar = rc[:].execute(
        "import sys; print('out'); print('err', file=sys.stderr); 6 * 7", silent=False
    )
    replies = ar.get(60)
    assert ar.wait_for_output(60)
    assert ar.stdout == ["out\n"] * len(rc) and ar.stderr == ["err\n"] * len(rc)
    assert [r.data["text/plain"] for r in replies] == ["42"] * len(rc)
    assert ar.execute_input[0].startswith("import sys")
    assert (
        [r.execution_count for r in replies] == ar.execution_count
        if hasattr(ar, "execution_count")
        else True
    )
    say = interactive("def say(x):\n print(x)\n return x", "say")
    ar = rc.load_balanced_view().apply_async(say, "hello")
    assert ar.get(60) == "hello" and ar.wait_for_output(60)
    assert ar.stdout == "hello\n"
    ar = rc[0].execute(
        "from IPython.display import display, HTML; display(HTML('<b>x</b>'))"
    )
    ar.get(60)
    assert ar.wait_for_output(60)
    assert ar.outputs[0]["data"]["text/html"] == "<b>x</b>"


def test_streams_arrive_while_the_code_runs(rc, tmp_path, wait_until, capsys):
    gate = tmp_path / "gate"
    code = (
        "import os, time\nprint('first', flush=True)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(.01)\n"
        "print('second')"
    )
    ar = rc[0].execute(code)
    wait_until(lambda: ar.stdout == "first\n")
    assert not ar.done()
    with ar.stream_output():
        gate.touch()
        ar.get(60)
        ar.wait_for_output(60)
    assert capsys.readouterr().out == f"[stdout:{rc.ids[0]}] \nfirst\nsecond\n"


def test_published_data(rc):
    f = interactive(
        "def f():\n"
        " from ipyparallel.datapub import publish_data\n"
        " publish_data({'a': 1}); publish_data({'b': b'x' * 5000})\n",
        "f",
    )
    ar = rc[0].apply_async(f)
    ar.get(60)
    assert ar.wait_for_output(60)
    assert ar.data == {"a": 1, "b": b"x" * 5000}


def test_order_on_one_engine(rc):
    rc[0].push({"seen": []}, block=True)
    note = interactive("def note(i): seen.append(i)", "note")
    view = rc[0]
    for i in range(200):
        view.apply_async(note, i)
    assert view["seen"] == list(range(200))


def test_abort(rc):
    view = rc[0]
    first = view.apply_async(slow, 1)
    rest = [view.apply_async(slow, 0, i) for i in range(5)]
    view.abort(rest[1:4], block=True)
    assert rest[0].get(60) == 0 and rest[4].get(60) == 4
    for ar in rest[1:4]:
        with pytest.raises(ipp.TaskAborted):
            ar.get(60)
        assert ar.wait_for_output(60)
    assert first.get(60) is None


def test_task_flags(rc):
    lv = rc.load_balanced_view()
    first = lv.apply_async(slow, 0.1, 1)
    with lv.temp_flags(after=[first]):
        second = lv.apply_async(slow, 0, 2)
    with lv.temp_flags(follow=first):
        third = lv.apply_async(os.getpid)
    assert second.get(60) == 2
    assert second.started >= first.completed
    assert third.get(60) and third.engine_id == first.engine_id
    only = rc.load_balanced_view(targets=[rc.ids[-1]])
    ars = [only.apply_async(len, "") for _ in range(6)]
    ipp.AsyncResult.join(*ars).get(60)
    assert {a.engine_id for a in ars} == {rc.ids[-1]}


def test_dependencies_that_cannot_be_met(rc):
    lv = rc.load_balanced_view()
    bad = lv.apply_async(interactive("f = lambda: 1 / 0", "f"))
    with lv.temp_flags(after=bad):
        never = lv.apply_async(len, "")
    with lv.temp_flags(after=ipp.Dependency(bad, success=False, failure=True)):
        cleanup = lv.apply_async(len, "")
    with lv.temp_flags(after="no such task"):
        unknown = lv.apply_async(len, "")
    with lv.temp_flags(after=lv.apply_async(slow, 2), timeout=0.2):
        late = lv.apply_async(len, "")
    for ar, name in (
        (never, "ImpossibleDependency"),
        (unknown, "InvalidDependency"),
        (late, "TaskTimeout"),
    ):
        with pytest.raises(ipp.RemoteError) as e:
            ar.get(60)
        assert e.value.ename == name
        assert ar.wait_for_output(60)
    assert cleanup.get(60) == 0


def test_functional_dependencies(rc):
    lv = rc.load_balanced_view()
    rc[:].scatter("rank", range(len(rc)), flatten=True, block=True)
    on_last = interactive(
        f"@ipp.depend(lambda: rank == {len(rc) - 1})\ndef f():\n import os; return os.getpid()",
        "f",
    )
    ars = [lv.apply_async(on_last) for _ in range(4)]
    last = rc[-1].apply_sync(os.getpid)
    assert [a.get(60) for a in ars] == [last] * 4
    needs = interactive(
        "def double(x): return 2 * x\n"
        "@ipp.require('math', double, k=3)\n"
        "def f(x): return math.floor(double(x)) + k",
        "f",
    )
    assert lv.apply_sync(needs, 1.6) == 6
    nowhere = interactive("@ipp.require('no_such_module')\ndef f(): pass", "f")
    with pytest.raises(ipp.RemoteError, match="UnmetDependency"):
        rc[0].apply_sync(nowhere)
    with pytest.raises(ipp.RemoteError, match="TaskTimeout"):
        lv.set_flags(timeout=0.3).apply_sync(nowhere)


def test_retries(rc, tmp_path):
    once = interactive(
        "def once(path):\n"
        " import os\n"
        " os.close(os.open(path, os.O_CREAT | os.O_EXCL)) if not os.path.exists(path)"
        " else None\n"
        " with open(path, 'a') as f: f.write('x')\n"
        " if os.path.getsize(path) < 2: raise OSError('first time')\n"
        " return os.path.getsize(path)",
        "once",
    )
    lv = rc.load_balanced_view(retries=1)
    assert lv.apply_async(once, str(tmp_path / "tries")).get(60) == 2


def test_executor(rc):
    with rc.executor() as ex:
        futures = [ex.submit(pow, 2, i) for i in range(20)]
        assert [f.result(60) for f in futures] == [2**i for i in range(20)]
        assert list(ex.map(abs, range(-5, 0))) == [5, 4, 3, 2, 1]


def test_sync_imports(rc, capsys):
    with rc[:].sync_imports():
        import colorsys  # noqa: F401
        from fractions import Fraction  # noqa: F401
    assert "importing colorsys on engine(s)" in capsys.readouterr().out
    names = rc[0].apply_sync(
        interactive("f = lambda: (colorsys.__name__, Fraction.__name__)", "f")
    )
    assert names == ("colorsys", "Fraction")


def test_classes_of_main(rc):
    point = interactive("class P:\n def __init__(self, x): self.x = x", "P")
    make = interactive("def make(c, x): return c(x).x", "make")
    assert rc[0].apply_sync(make, point, 4) == 4


def test_threads_share_a_client(rc):
    lv, failed = rc.load_balanced_view(), []

    def work(k):
        try:
            for i in range(30):
                assert lv.apply_sync(pow, k, i) == k**i
                assert rc[i % len(rc)].apply_sync(len, "x" * k) == k
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert not failed


def test_control_reaches_a_busy_engine(rc, wait_until):
    ar = rc[0].execute(
        "import time\nprint('in', flush=True)\nfor i in range(1000): time.sleep(.1)"
    )
    wait_until(lambda: ar.stdout)
    rc.send_signal("SIGINT", targets=0, block=True)
    with pytest.raises(ipp.RemoteError, match="KeyboardInterrupt"):
        ar.get(60)
    assert rc[0].apply_sync(len, "") == 0


def test_labels(rc):
    lv = rc.load_balanced_view(label="lb")
    assert lv.apply_async(len, "").label == "lb"
    ar = rc[0].execute("1", label="ex")
    ar.get(60)
    assert ar.label == "ex"


def test_cloudpickle(rc):
    cloudpickle = pytest.importorskip("cloudpickle")
    try:
        rc[:].apply_sync(interactive("def f(): import cloudpickle", "f"))
    except ipp.CompositeError:
        pytest.skip("the engines have no cloudpickle")
    assert cloudpickle
    k = 5
    try:
        rc[:].use_cloudpickle().get(60)
        rc[:].push({"z": 1}, block=True)
        assert rc[0].apply_sync(lambda: k + 1) == 6
        assert rc[:].pull("z", block=True) == [1] * len(rc)
    finally:
        rc[:].use_pickle().get(60)
    assert rc[0].apply_sync(len, "") == 0
