"""Views: what they send, and what they give back."""

import threading
import time
from itertools import count

import fake_core
import pytest
import roundhouse as ipp
from roundhouse.client.view import LoadBalancedView

numpy = pytest.importorskip("numpy")


def sent(core, msg_type="apply_request"):
    return [s for s in core.sent if s[2] == msg_type]


def ns(core, engine=0):
    return core.namespaces[core.roster[engine]]


# Which engines


def test_ids(rc):
    assert rc.ids == [0, 1, 3] and len(rc) == 3
    rc.ids.append(9)
    assert rc.ids == [0, 1, 3]
    assert [v.targets for v in rc] == [0, 1, 3]


@pytest.mark.parametrize(
    "key, targets",
    [
        (0, 0),
        (3, 3),
        (-1, 3),
        (numpy.int64(1), 1),
        (slice(None), [0, 1, 3]),
        (slice(None, None, 2), [0, 3]),
        (slice(1, None), [1, 3]),
        ((0, 3), [0, 3]),
        ([1], [1]),
        (range(2), [0, 1]),
    ],
)
def test_indexing(rc, key, targets):
    assert rc[key].targets == targets


@pytest.mark.parametrize(
    "key, error",
    [
        (2, IndexError),
        (-4, IndexError),
        ([0, 7], IndexError),
        ("all", TypeError),
        (1.5, TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_bad_indexing(rc, key, error):
    with pytest.raises(error):
        rc[key]


def test_all_follows_the_engines(rc, core):
    every, now = rc.direct_view("all"), rc[:]
    core.change_engines(joined=[(4, "u4")], left=[(0, "u0")])
    assert every.apply_sync(len, "") == [0, 0, 0]
    assert every.apply_async(len, "")._targets == [1, 3, 4]
    assert len(every) == 3
    with pytest.raises(IndexError, match="No such engine: 0"):
        now.apply(len, "")


def test_no_engines(rc, core):
    core.change_engines(left=list(core.roster.items()))
    with pytest.raises(ipp.NoEnginesRegistered, match="wait_for_engines"):
        rc[:]
    with pytest.raises(ipp.NoEnginesRegistered):
        rc.direct_view("all").apply(len, "")


def test_repr(rc):
    assert repr(rc[0]) == "<DirectView 0>"
    assert repr(rc[:]) == "<DirectView [0, 1, 3]>"
    assert repr(rc.direct_view("all")) == "<DirectView all>"
    view = rc.direct_view()
    view.targets = list(range(100))
    assert repr(view) == "<DirectView [0, 1, 2, 3,...]>"


# Flags


def test_flags(rc):
    v = rc[:]
    assert v.set_flags(block=True, track=True, label="x") is v
    assert v.block and v.track and v.label == "x"
    with v.temp_flags(block=False):
        assert not v.block
    assert v.block
    with pytest.raises(KeyError, match="nonsense"):
        v.set_flags(track=False, nonsense=1)
    assert v.track, "a refused call changes nothing"
    with pytest.raises(TypeError):
        v.block = 1
    traitlets = pytest.importorskip("traitlets")
    with pytest.raises(traitlets.TraitError):
        v.set_flags(track=None)


def test_flags_are_restored_after_errors(rc):
    v = rc[:]
    with pytest.raises(ZeroDivisionError), v.temp_flags(block=True):
        1 / 0  # noqa: B018
    assert v.block is False


def test_block_follows_the_client(rc):
    rc.block = True
    assert rc[0].apply(len, "ab") == 2
    assert rc.load_balanced_view().block


@pytest.mark.parametrize(
    "flag, value, error",
    [
        ("timeout", -1, ValueError),
        ("timeout", "1", TypeError),
        ("retries", 1.5, TypeError),
        ("retries", -1, ValueError),
        ("after", 1, ValueError),
        ("after", [1], ValueError),
        ("follow", {"x": 1}, ValueError),
    ],
)
def test_bad_task_flags(rc, flag, value, error):
    lv = rc.load_balanced_view()
    with pytest.raises(error):
        lv.set_flags(**{flag: value})
    with pytest.raises(error):
        setattr(lv, flag, value)


def test_task_flags_are_sent(rc, core):
    lv = rc.load_balanced_view()
    first = lv.apply_async(len, "")
    assert sent(core)[-1][:2] == (fake_core.TASK, None)
    assert sent(core)[-1][4] == {}
    dep = ipp.Dependency(["x"], all=False, failure=True)
    with lv.temp_flags(
        after=first, follow=dep, timeout=2.5, retries=3, targets=[0, 3], label="L"
    ):
        ar = lv.apply_async(len, "")
    assert sent(core)[-1][4] == {
        "after": [first.msg_id],
        "follow": dep.as_dict(),
        "timeout": 2.5,
        "retries": 3,
        "targets": ["u0", "u3"],
        "label": "L",
    }
    assert ar.label == "L"
    for form in ([first, "y"], (first, "y"), {"y", first.msg_id}):
        lv.after = form
        lv.apply_async(len, "")
        assert set(sent(core)[-1][4]["after"]) == {first.msg_id, "y"}
    lv.after = dep.as_dict()
    lv.apply_async(len, "")
    assert sent(core)[-1][4]["after"] == dep.as_dict()


def test_keywords_go_to_the_function(rc):
    def f(**kw):
        return sorted(kw)

    names = ["after", "f", "self", "targets"]
    for view in (rc[0], rc.load_balanced_view()):
        assert view.apply_sync(f, **dict.fromkeys(names, 1)) == names


def test_label_of_a_direct_call(rc, core):
    rc[0].set_flags(label="a b").apply_async(len, "")
    assert sent(core)[-1][4] == {"label": "a b"}


def test_pure_scheme(rc, core):
    lv = rc.load_balanced_view()
    rc._task_scheme = "pure"
    assert lv.apply_sync(len, "") == 0
    with pytest.raises(RuntimeError, match="pure"):
        lv.set_flags(retries=1).apply(len, "")
    lv.retries = 0
    with pytest.warns(RuntimeWarning, match="pure"):
        lv.apply(ipp.dependent(len, len, "a"), "")
    with pytest.warns(RuntimeWarning, match="unregistered"):
        core.change_engines(left=[(0, "u0")])
        core.settle()
    with pytest.raises(RuntimeError, match="Task farming is disabled"):
        lv.apply(len, "")


def test_no_push_on_a_balanced_view(rc):
    for name in ("push", "pull", "scatter", "gather", "execute"):
        with pytest.raises(AttributeError):
            getattr(rc.load_balanced_view(), name)


def test_f_is_checked(rc):
    for view in (rc[:], rc.load_balanced_view(), rc.broadcast_view()):
        with pytest.raises(TypeError, match="callable"):
            view.apply("not a function")


def test_unsendable_argument_fails_at_once(rc, core):
    before = len(core.sent)
    for view in (rc[:], rc.load_balanced_view()):
        with pytest.raises(TypeError, match=r"args\[1\]"):
            view.apply_async(len, 0, threading.Lock())
    assert len(core.sent) == before and not rc.history


# Namespaces


def test_push_and_pull(rc, core):
    dv = rc[:]
    assert dv.push({"a": 1, "b": [2]}, block=True) == [None] * 3
    assert dv.pull("a", block=True) == [1, 1, 1]
    assert dv.pull(["a", "b"], block=True) == [[1, [2]]] * 3
    assert rc[0].pull("a + b[0]", block=True) == 3
    assert dv.get("a") == dv["a"] == [1, 1, 1]
    dv.block = True
    dv["c"] = 5
    dv.update({"d": 6})
    assert rc[1]["c"] == 5 and ns(core, 1)["d"] == 6
    assert dv.pull("a", targets=1) == 1
    with pytest.raises(ipp.CompositeError, match="NameError"):
        dv.pull("nothing")
    for bad in (1, [1]):
        with pytest.raises(TypeError):
            dv.pull(bad)
    with pytest.raises(TypeError):
        dv.push([1])
    with pytest.raises(TypeError):
        iter(dv)


def test_push_attributes(rc, core):
    rc[0].execute("class A: pass\na = A()", block=True)
    rc[0].push({"a.b": 4, "x": 1}, block=True)
    assert ns(core)["a"].b == 4
    assert not [k for k in ns(core) if k.startswith("_roundhouse")]


@pytest.mark.parametrize("dist", "br")
@pytest.mark.parametrize("seq", [list(range(7)), range(2), "abcd", numpy.arange(5)])
def test_scatter_gather(rc, dist, seq):
    dv = rc[:]
    ar = dv.scatter("s", seq, dist=dist)
    assert ar.get() == [None] * 3
    back = dv.gather("s", dist=dist)
    assert isinstance(back, ipp.AsyncMapResult)
    if isinstance(seq, str):
        assert "".join(dv["s"]) == ("abcd" if dist == "b" else "adbc")
    elif not isinstance(seq, range):
        assert list(back.get()) == list(seq)
        assert type(dv.gather("s", dist=dist, block=True)) is type(seq)


def test_scatter_flat(rc):
    rc[:].scatter("s", [1, 2, 3], flatten=True, block=True)
    assert rc[:]["s"] == [1, 2, 3]
    rc[:].scatter("s", [1, 2, 3, 4], flatten=True, block=True)
    assert rc[:]["s"] == [[1, 2], 3, 4]


def test_generator_is_scattered(rc):
    rc[:].scatter("s", (i for i in range(3)), block=True)
    assert rc[:]["s"] == [[0], [1], [2]]


def test_execute(rc, core, tmp_path):
    ar = rc[:].execute("x = 7")
    assert sent(core, "execute_request")[-1][3] == {
        "code": "x = 7",
        "silent": True,
        "user_expressions": {},
    }
    assert [r.execution_count for r in ar.get()] == [1, 1, 1]
    (tmp_path / "f.py").write_text("y = 8\nif y:\n    z = 9\n    ")
    assert rc[0].run(str(tmp_path / "f.py"), block=True) is not None
    assert ns(core)["z"] == 9
    with pytest.raises(TypeError):
        rc[:].execute(5)


# Maps


def test_direct_map(rc, core):
    amr = rc[:].map(lambda x: x * 2, range(8))
    assert amr.get() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert len(amr.msg_ids) == 3 and len(amr) == 8
    assert rc[:].map_sync(pow, [2, 3], [3, 2]) == [8, 9]
    assert rc[:].map_sync(lambda x: x, range(2)) == [0, 1]
    assert rc[:].map_async(abs, []) == []
    assert list(rc[:].imap(abs, [-1, 2])) == [1, 2]
    for method in (rc[:].map_sync, rc[:].map_async):
        with pytest.raises(TypeError, match="block"):
            method(abs, [1], block=True)
    with pytest.raises(TypeError, match="nonsense"):
        rc[:].map(abs, [1], nonsense=1)
    with pytest.raises(AssertionError):
        rc[:].map(abs)
    with pytest.warns(UserWarning, match="chunksize"):
        ipp.ParallelFunction(rc[:], abs, chunksize=2).map([1])


@pytest.mark.parametrize("chunksize", [1, 2, 3, 10, 100])
def test_balanced_map(rc, chunksize):
    amr = rc.load_balanced_view().map(abs, range(-10, 0), chunksize=chunksize)
    assert amr.get() == list(range(10, 0, -1))
    assert len(amr.msg_ids) == -(-10 // chunksize)


def test_map_of_uneven_and_endless(rc):
    lv = rc.load_balanced_view(block=True)
    assert lv.map(lambda a, b: (a, b), [1, 2, 3], "ab") == [(1, "a"), (2, "b")]
    assert lv.map(abs, (i for i in [-1])) == [1]
    assert lv.map(abs, {-3: 0}) == [3]


def test_map_of_arrays(rc):
    a = numpy.arange(6.0)
    got = rc[:].map_sync(lambda x: x + 1, a)
    assert got == [1, 2, 3, 4, 5, 6] and isinstance(got, list)


def test_sent_map_function_is_upstreams(rc, core):
    rc.load_balanced_view().map(abs, [1]).get()
    f = sent(core)[-1][5][0]
    assert b"ipyparallel.client.remotefunction" in f and b"_map" in f


def test_imap(rc):
    lv = rc.load_balanced_view()
    assert list(lv.imap(abs, range(-50, 0))) == list(range(50, 0, -1))
    assert sorted(lv.imap(abs, range(-50, 0), ordered=False)) == list(range(1, 51))
    assert list(lv.imap(abs, range(5), max_outstanding=0)) == list(range(5))
    assert list(lv.imap(abs, [])) == []


def test_imap_is_lazy(rc, core):
    core.hold = True
    taken = []

    def inputs():
        for i in count():
            taken.append(i)
            yield i

    it = rc.load_balanced_view().imap(lambda x: x, inputs(), max_outstanding=4)
    wait_until(lambda: len(core.requests) == 4)
    time.sleep(0.05)
    assert len(taken) <= 5
    core.requests[0].value("a")
    assert next(it) == "a"
    wait_until(lambda: len(core.requests) == 5)
    it.cancel()
    for req in core.requests[1:5]:
        req.value("b")
    assert list(it) == ["b"] * 4
    assert not rc.load_balanced_view()._feeders


def wait_until(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.001)


def test_imap_input_that_raises(rc):
    def inputs(n):
        yield from range(n)
        raise OSError("no more input")

    lv = rc.load_balanced_view()
    it = lv.imap(abs, inputs(3))
    assert [next(it) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="no more input"):
        next(it)
    with pytest.raises(StopIteration):
        next(it)
    with pytest.raises(OSError):
        lv.imap(abs, inputs(0))


def test_imap_errors_in_place(rc):
    lv = rc.load_balanced_view()
    got = list(lv.imap(lambda x: 1 // x, [1, 0, -1], return_exceptions=True))
    assert got[0] == 1 and got[2] == -1 and got[1].ename == "ZeroDivisionError"
    with pytest.raises(ipp.RemoteError):
        list(lv.imap(lambda x: 1 // x, [1, 0]))


def test_dropped_imap_ends(rc, core):
    core.hold = True
    lv = rc.load_balanced_view()
    it = lv.imap(abs, count(), max_outstanding=2)
    wait_until(lambda: len(core.requests) == 2)
    del it
    wait_until(lambda: not lv._feeders)


def test_executor(rc):
    with rc.executor() as ex:
        assert ex.submit(pow, 2, 5).result() == 32
        assert list(ex.map(abs, [-1, -2])) == [1, 2]
        with pytest.warns(UserWarning, match="timeout"):
            ex.map(abs, [1], timeout=3)
        assert ex._max_workers == 3
        assert ex is ex.view.executor and isinstance(ex.view, LoadBalancedView)
    assert rc.executor([0]).view.targets == [0]


# Decorators


def test_remote(rc):
    @rc[:].remote(block=True)
    def f(x, y=1):
        """Adds."""
        return x + y

    assert f(1) == [2, 2, 2] and f(1, y=4) == [5, 5, 5]
    assert f.__name__ == "f" and f.__doc__ == "RemoteFunction wrapping:\nAdds."
    assert list(f.__signature__.parameters) == ["x", "y"]
    g = ipp.remote(rc[0])(len)
    assert g("ab").get() == 2
    assert ipp.remote(rc.load_balanced_view(), block=True, retries=2)(len)("a") == 1


def test_parallel(rc):
    @rc[:].parallel(block=True)
    def total(part):
        return [sum(part)]

    assert total(range(6)) == [1, 5, 9]
    assert total([]) == []
    assert total.map([[1, 2], [3]]) == [[3], [3]]
    with pytest.raises(TypeError, match="keyword"):
        total([1], x=2)

    @rc[:].parallel(block=True)
    def both(a, b):
        return a + b

    with pytest.raises(ValueError, match="different lengths"):
        both([1], [1, 2])
    squares = rc[:].parallel(block=True)(lambda a: a * a)
    a = numpy.arange(5)
    assert numpy.array_equal(squares(a), a * a)
    with pytest.raises(KeyError):
        rc[:].parallel(dist="x")(abs)
    with pytest.warns(UserWarning, match="chunksize has no effect"):
        assert rc[:].parallel(block=True, chunksize=2)(abs).map([-1, 2]) == [1, 2]
    f = ipp.ParallelFunction(rc[:], abs, dist="r", block=True, ordered=False)
    assert (f.view.targets, f.func, f.block, f.ordered) == ([0, 1, 3], abs, True, False)
    assert f.map(range(-3, 0)) == [3, 2, 1] and f.return_exceptions is False


def test_parallel_on_a_balanced_view(rc):
    @rc.load_balanced_view().parallel(chunksize=2)
    def f(part):
        return [len(part)]

    assert f(range(5)).get() == [2, 2, 1]


# Broadcast


def test_broadcast(rc, core):
    bv = rc.broadcast_view()
    ar = bv.apply_async(len, "ab")
    assert ar.get() == [2, 2, 2] and ar.engine_id == [0, 1, 3]
    channel, ident, _, _, metadata, _ = core.sent[-1]
    assert (channel, ident) == (fake_core.BROADCAST, None)
    assert metadata == {
        "targets": [["u0", 0], ["u1", 1], ["u3", 3]],
        "is_broadcast": True,
        "is_coalescing": False,
    }
    assert [m.split("_")[-1] for m in ar.msg_ids] == ["u0", "u1", "u3"]
    assert bv.push({"a": 1}, block=True) == [None] * 3
    assert bv["a"] == [1, 1, 1]
    assert bv.map_sync(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
    assert bv.map_sync(abs, []) == []
    assert bv.scatter("s", range(4), block=True) == [None] * 3
    # On the same way as the rest, or what follows could be there first.
    assert {sent[0] for sent in core.sent[-3:]} == {fake_core.BROADCAST}
    assert bv.gather("s", block=True) is not None
    assert not [k for k in ns(core) if k.startswith("_seq")]


def test_coalescing(rc, core):
    core.hold = True
    bv = rc.broadcast_view(is_coalescing=True)
    ar = bv.apply_async(len, "")
    req = core.requests[-1]
    assert core.sent[-1][4]["is_coalescing"] is True
    req.finish(
        {"status": "ok"},
        [b for i in "abc" for b in ipp.serialize_object(i * 2000)],
        metadata={
            "is_broadcast": True,
            "is_coalescing": True,
            "broadcast_targets": [["u0", 0], ["u3", 3], ["u1", 1]],
        },
    )
    assert [v[0] for v in ar.get()] == ["a", "b", "c"]
    assert ar.engine_id == [0, 3, 1]
    assert {k: v[0] for k, v in ar.get_dict().items()} == {0: "a", 3: "b", 1: "c"}
    with pytest.raises(TypeError):
        bv.is_coalescing = 1


# Imports


def test_sync_imports(rc, core, capsys):
    with rc[:].sync_imports():
        import json
        import os.path
        from math import floor, pi
    assert capsys.readouterr().out.splitlines() == [
        "importing json on engine(s)",
        "importing os.path on engine(s)",
        "importing floor,pi from math on engine(s)",
    ]
    assert ns(core)["json"] is json and ns(core)["os"].path is os.path
    assert ns(core)["floor"] is floor and ns(core)["pi"] == pi
    with rc[:].importer:
        import json
    with rc[:].sync_imports(quiet=True):
        import colorsys  # noqa: F401
    assert capsys.readouterr().out == "importing json on engine(s)\n"
    with pytest.raises(NotImplementedError), rc[:].sync_imports(local=False):
        pass
    with pytest.raises(ImportError), rc[:].sync_imports():
        import no_such_module_here  # noqa: F401
    import builtins

    assert builtins.__import__.__name__ == "__import__"


# Picklers


def test_use_cloudpickle(rc):
    pytest.importorskip("cloudpickle")
    from roundhouse.serialize.wire import backend

    try:
        rc[:].use_cloudpickle()
        assert backend.name == "cloudpickle"
        assert rc[0].apply_sync(lambda: 5) == 5
    finally:
        ipp.use_pickle()
