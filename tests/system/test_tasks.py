"""The task interface end to end; tests with `rc` also run on the real cluster."""

from __future__ import annotations

import os
import signal
import time
from functools import reduce
from itertools import count, islice
from operator import add

import pytest
import roundhouse as ipp

pytest_plugins = ["cluster_fixtures"]


def typed(code: str, name: str = "f"):
    """A function as if typed in at a prompt."""
    ns = {"__name__": "__main__", "ipp": ipp}
    exec(code, ns)
    return ns[name]


slow = typed("def f(t=0, x=None):\n import time\n time.sleep(t)\n return x")
pid = typed("def f():\n import os\n return os.getpid()")
fail = typed("def f(*args): raise ValueError('on purpose')")
# Notes its process in a file, then does what it is told.
note = typed(
    "def f(path, then=None):\n"
    " import os\n"
    " with open(path, 'a') as out: out.write(f'{os.getpid()}\\n')\n"
    " if then: exec(then)\n"
    " return os.getpid()"
)

gated = typed(
    "def f(path):\n"
    " import os, time\n"
    " while not os.path.exists(path): time.sleep(.005)\n"
    " return os.getpid()"
)


def noted(path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def error_of(ar) -> str:
    exc = ar.exception(60)
    return getattr(exc, "ename", type(exc).__name__)


@pytest.fixture
def lv(rc):
    return rc.load_balanced_view()


@pytest.fixture
def ours(start_cluster):
    """A cluster of ours with two engines, for one test."""
    return start_cluster(2)


# Where and when tasks run


def test_one_engine_is_chosen_per_call(rc, lv):
    pids = rc[:].apply_sync(os.getpid)
    assert lv.apply_sync(pid) in pids
    ars = [lv.apply_async(slow, 0.05) for _ in range(8)]
    rc.wait(ars)
    assert {ar.engine_id for ar in ars} == set(rc.ids)


def test_direct_and_balanced_work_share_the_engines(rc, lv):
    direct = [rc[:].apply_async(slow, 0.01, i) for i in range(5)]
    tasks = [lv.apply_async(slow, 0.01, i) for i in range(10)]
    assert [ar.get(60) for ar in direct] == [[i] * len(rc) for i in range(5)]
    assert [ar.get(60) for ar in tasks] == list(range(10))


def test_no_task_waits_behind_another_while_an_engine_idles(rc, lv, tmp_path):
    long = lv.apply_async(gated, str(tmp_path / "gate"))
    quick = [lv.apply_async(slow) for _ in range(20)]
    assert rc.wait(quick, timeout=60)
    (tmp_path / "gate").touch()
    long.get(60)
    assert {ar.engine_id for ar in quick} == set(rc.ids) - {long.engine_id}


def test_without_hwm_tasks_are_assigned_at_once(start_cluster, wait_until, tmp_path):
    c = start_cluster(2, "--hwm=0")
    lv = c.rc.load_balanced_view()
    ars = [lv.apply_async(gated, str(tmp_path / "gate")) for _ in range(10)]

    def tasks():
        status = c.rc.queue_status()
        return [status[i]["tasks"] for i in c.rc.ids] + [status["unassigned"]]

    wait_until(lambda: tasks() == [5, 5, 0])
    (tmp_path / "gate").touch()
    assert c.rc.wait(ars, timeout=60)
    wait_until(lambda: tasks() == [0, 0, 0])


def test_tasks_wait_for_an_engine_in_order(start_cluster, tmp_path):
    c = start_cluster(0)
    lv = c.rc.load_balanced_view()
    f = typed("def f(path, i):\n with open(path, 'a') as out: out.write(f'{i}\\n')\n")
    ars = [lv.apply_async(f, str(tmp_path / "log"), i) for i in range(20)]
    assert c.rc.explain(ars[0])["state"] == "queued"
    c.add_engine()
    assert c.rc.wait(ars, timeout=60)
    assert noted(tmp_path / "log") == list(range(20))


def test_targets(rc, lv):
    for engine_id in rc.ids:
        with lv.temp_flags(targets=[engine_id]):
            ars = [lv.apply_async(pid) for _ in range(4)]
        assert rc.wait(ars, timeout=60)
        assert {ar.engine_id for ar in ars} == {engine_id}
    sliced = rc.load_balanced_view(slice(1, None))
    assert sliced.targets == rc.ids[1:] and len(sliced) == len(rc) - 1
    assert sliced.apply_sync(pid) in rc[1:].apply_sync(os.getpid)


def test_targets_that_are_gone(ours, wait_until, tmp_path):
    lv = ours.rc.load_balanced_view([0])
    victim = ours.pids()[0]
    busy = lv.apply_async(gated, str(tmp_path / "gate"))
    waits = lv.apply_async(pid)
    os.kill(victim, signal.SIGKILL)
    assert error_of(busy) == "EngineError"
    assert error_of(waits) == "ImpossibleDependency"


# Dependencies in the graph


def test_after_and_follow(rc, lv):
    first = [lv.apply_async(slow, 0.05) for _ in range(4)]
    with lv.temp_flags(after=first):
        last = lv.apply_async(slow)
    followers = []
    for ar in first:
        with lv.temp_flags(follow=ar, after=ar):
            followers.append(lv.apply_async(slow))
    assert rc.wait([last, *followers], timeout=60)
    assert last.started >= max(ar.completed for ar in first)
    assert [a.engine_id for a in followers] == [a.engine_id for a in first]


@pytest.mark.parametrize("form", [list, tuple, set, lambda d: d[0], ipp.Dependency])
def test_forms_of_a_dependency(rc, lv, form):
    done, ok = lv.apply_async(slow, 0.02), lv.apply_async(slow, 0.02)
    lv.after = form([done, ok.msg_id])
    assert lv.apply_async(slow, 0, 5).get(60) == 5
    assert done.done()


def test_dependencies_by_outcome(rc, lv):
    good, bad, bad2 = (lv.apply_async(f) for f in (slow, fail, fail))
    ids = {"good": good, "bad": bad, "bad2": bad2}
    table = [
        # of which, all, success, failure, and how it ends
        ("good bad", True, True, False, "ImpossibleDependency"),
        ("good bad", False, True, False, None),
        ("bad bad2", False, True, False, "ImpossibleDependency"),
        ("bad bad2", True, False, True, None),
        ("good bad", True, False, True, "ImpossibleDependency"),
        ("good bad", False, False, True, None),
        ("good bad", True, True, True, None),
        ("bad bad2", False, True, True, None),
    ]
    for names, all_, success, failure, ename in table:
        on = [ids[name] for name in names.split()]
        with lv.temp_flags(after=ipp.Dependency(on, all_, success, failure)):
            ar = lv.apply_async(slow, 0, "ran")
        if ename:
            assert error_of(ar) == ename, names
        else:
            assert ar.get(60) == "ran"


def test_impossible_dependencies(rc, lv):
    """At once: nobody waits for what cannot come; and so do those that depend."""
    direct = rc[0].apply_async(slow)
    on_each = [lv.set_flags(targets=[i]).apply_async(slow) for i in rc.ids]
    lv.set_flags(targets=None)
    bad = lv.apply_async(fail)
    rc.wait([direct, bad, *on_each], timeout=60)
    for flags, ename in (
        ({"after": "no such task"}, "InvalidDependency"),
        ({"after": direct}, "InvalidDependency"),  # the scheduler never saw it
        ({"follow": on_each}, "ImpossibleDependency"),  # on two engines
        ({"after": [bad, on_each[0]]}, "ImpossibleDependency"),
        ({"after": ipp.Dependency([bad, bad], all=False)}, "ImpossibleDependency"),
    ):
        with lv.temp_flags(**flags):
            never = lv.apply_async(slow)
        with lv.temp_flags(after=never):
            nor_this = lv.apply_async(slow)
        with lv.temp_flags(after=ipp.Dependency(never, success=False, failure=True)):
            cleanup = lv.apply_async(slow, 0, "tidy")
        assert error_of(never) == ename, flags
        assert error_of(nor_this) == "ImpossibleDependency"
        assert cleanup.get(60) == "tidy"
    with lv.temp_flags(follow=ipp.Dependency(on_each, all=False)):
        anywhere = lv.apply_async(slow)
    anywhere.get(60)
    assert anywhere.engine_id in rc.ids


def test_timeout_covers_the_queue_and_not_the_run(rc, lv, tmp_path):
    gate = tmp_path / "gate"
    busy = [lv.apply_async(gated, str(gate)) for _ in rc.ids]
    with lv.temp_flags(timeout=0.2):
        queued = lv.apply_async(slow)
    with lv.temp_flags(timeout=0.2, after=busy[0]):
        waiting = lv.apply_async(slow)
    assert error_of(queued) == error_of(waiting) == "TaskTimeout"
    gate.touch()
    assert rc.wait(busy, timeout=60)
    with lv.temp_flags(timeout=0.5):
        assert lv.apply_async(slow, 0.8, "in time").get(60) == "in time"


def test_a_graph_of_many_tasks(ours):
    """2,000 tasks, each after up to three earlier ones; EX-04 has a picture."""
    import random

    rng = random.Random(1)
    lv, ars, parents = ours.rc.load_balanced_view(), [], []
    for i in range(2000):
        before = sorted({rng.randrange(i) for _ in range(min(i, 3))}) if i else []
        with lv.temp_flags(after=[ars[p] for p in before]):
            ars.append(lv.apply_async(slow))
        parents.append(before)
    assert ours.rc.wait(ars, timeout=120)
    for ar, before in zip(ars, parents):
        assert all(ars[p].completed <= ar.started for p in before)


# Retries


def test_retries_go_to_another_engine(rc, lv, tmp_path):
    path = tmp_path / "log"
    with lv.temp_flags(retries=1):
        ar = lv.apply_async(note, str(path), "raise OSError('again')")
    assert error_of(ar) == "OSError"
    assert sorted(noted(path)) == sorted(rc[:].apply_sync(os.getpid))


@pytest.mark.parametrize("how", ["shutdown", "kill"])
def test_the_task_of_a_lost_engine_runs_elsewhere(ours, wait_until, tmp_path, how):
    rc, path, pids = ours.rc, tmp_path / "log", ours.pids()
    lv = rc.load_balanced_view(retries=1)
    once = f"import os, time\nwhile len(open({str(path)!r}).readlines()) < 2: time.sleep(.005)"
    ar = lv.apply_async(note, str(path), once)
    wait_until(lambda: noted(path))
    first = noted(path)[0]
    if how == "kill":
        os.kill(first, signal.SIGKILL)
    else:
        rc.shutdown([i for i in pids if pids[i] == first], block=False)
    assert ar.get(60) == noted(path)[1] != noted(path)[0]


def test_a_map_survives_a_lost_engine(ours, wait_until):
    slowly = typed("def f(x):\n import time\n time.sleep(.002)\n return x")
    lv, victim = ours.rc.load_balanced_view(retries=2), ours.pids()[0]
    amr = lv.map_async(slowly, range(600), chunksize="auto")
    wait_until(lambda: amr.progress > 20)
    os.kill(victim, signal.SIGKILL)
    assert amr.get(60) == list(range(600))


# Functions with conditions


def test_depend_moves_a_task_to_where_it_may_run(rc, lv, tmp_path):
    rc[:].scatter("rank", range(len(rc)), flatten=True, block=True)
    pids = rc[:].apply_sync(os.getpid)
    path = str(tmp_path / "checked")
    f = typed(
        "def last(path, n):\n"
        " import os\n"
        " with open(path, 'a') as out: out.write(f'{os.getpid()}\\n')\n"
        " return rank == n - 1\n"
        f"@ipp.depend(last, {path!r}, {len(rc)})\n"
        "def f():\n import os\n return os.getpid()"
    )
    for _ in range(4):
        (tmp_path / "checked").write_text("")
        assert lv.apply_async(f).get(60) == pids[-1]
        checked = noted(tmp_path / "checked")
        assert len(checked) == len(set(checked)), "never twice on an engine"


def test_only_false_is_unmet(rc, lv):
    for value in (None, 0, "", [], True):
        assert lv.apply_sync(ipp.dependent(pid, typed(f"f = lambda: {value!r}"))) > 0
    f = ipp.dependent(pid, typed("def f(a, b=1): return a == b"), 2, b=3)
    with lv.temp_flags(timeout=0.3):
        assert error_of(lv.apply_async(f)) == "TaskTimeout"


def test_a_task_that_is_unmet_everywhere_waits_for_a_new_engine(ours, wait_until):
    lv = ours.rc.load_balanced_view()
    ours.rc[:].push({"old": True}, block=True)
    f = typed("@ipp.depend(lambda: 'old' not in globals())\ndef f(): return 'new'")
    ars = [lv.apply_async(f) for _ in range(5)]
    wait_until(lambda: all(e["tries"] == 2 for e in ours.rc.explain(ars)))
    why = ours.rc.explain(ars[0])
    assert why["state"] == "queued"
    assert {e["engine"] for e in why["excluded"]} == {0, 1}
    ours.add_engine()
    assert [ar.get(60) for ar in ars] == ["new"] * 5
    assert {ar.engine_id for ar in ars} == {2}


def test_with_targets_unmet_everywhere_is_impossible(rc, lv):
    f = typed("@ipp.depend(lambda: False)\ndef f(): pass")
    with lv.temp_flags(targets=rc.ids):
        assert error_of(lv.apply_async(f)) == "ImpossibleDependency"


def test_raising_unmet_dependency_in_the_task(rc, lv, tmp_path):
    first = rc[0].apply_sync(os.getpid)
    f = typed(
        "def f(path, not_here):\n"
        " import os\n"
        " with open(path, 'a') as out: out.write(f'{os.getpid()}\\n')\n"
        " if os.getpid() == not_here: raise ipp.error.UnmetDependency()\n"
        " return os.getpid()"
    )
    rc[:].execute("import ipyparallel as ipp", block=True)
    ars = [lv.apply_async(f, str(tmp_path / "log"), first) for _ in range(6)]
    assert {ar.get(60) for ar in ars} == set(rc[1:].apply_sync(os.getpid))


def test_require(rc, lv):
    baz = typed(
        "@ipp.require('colorsys', k=10)\n"
        "def bar(a): return a * k * (colorsys is not None)\n"
        "@ipp.require(bar, 'math')\n"
        "def baz(a, b): return math.floor(bar(a)) - bar(b)",
        "baz",
    )
    assert lv.apply_sync(baz, 4, 5) == -10
    assert rc[0].apply_sync(baz, 4, 5) == -10
    for bad in (3, [1]):
        with pytest.raises(TypeError):
            ipp.require(bad)
    nowhere = typed("@ipp.require('no_such_module')\ndef f(): pass")
    for view in (rc[0], rc[:]):  # a direct call cannot move
        with pytest.raises(ipp.RemoteError, match="UnmetDependency"):
            view.apply_sync(nowhere)


def test_conditions_hold_for_maps(rc, lv):
    rc[:].scatter("rank", range(len(rc)), flatten=True, block=True)
    f = typed(
        "@ipp.depend(lambda: rank == 0)\ndef f(x):\n import os\n return os.getpid()"
    )
    first = rc[0].apply_sync(os.getpid)
    for chunksize in (1, 3, "auto"):
        assert set(lv.map_sync(f, range(9), chunksize=chunksize)) == {first}


def test_references(rc, lv):
    numpy = pytest.importorskip("numpy")
    rc[:].push({"A": numpy.arange(4.0)}, block=True)
    assert lv.apply_sync(numpy.dot, ipp.Reference("A"), numpy.ones(4)) == 6.0


# Maps


@pytest.mark.parametrize("chunksize", [1, 7, 100, "auto"])
def test_maps(rc, lv, chunksize):
    square = typed("def f(x): return x * x")
    want = [x * x for x in range(50)]
    amr = lv.map_async(square, range(50), chunksize=chunksize)
    assert len(amr) == 50 and amr.get(60) == want and amr.progress == 50
    if chunksize != "auto":
        assert len(amr.msg_ids) == -(-50 // chunksize)
    assert list(amr) == want and sum(amr) == sum(want) and amr[3] == 9
    unordered = lv.map_async(square, range(50), chunksize=chunksize, ordered=False)
    assert sorted(unordered) == want
    assert reduce(add, lv.map(square, range(50), chunksize=chunksize)) == sum(want)
    assert (
        sorted(lv.imap(square, range(50), chunksize=chunksize, ordered=False)) == want
    )


def test_unordered_results_come_first_come_first_served(rc, lv, tmp_path):
    wait = typed(
        "def f(path):\n"
        " import os, time\n"
        " while path and not os.path.exists(path): time.sleep(.005)\n"
        " return path"
    )
    gate = str(tmp_path / "gate")
    for lazy in (False, True):
        parallel_map = lv.imap if lazy else lv.map_async
        it = iter(parallel_map(wait, [gate, "", "", ""], ordered=False))
        assert [next(it) for _ in range(3)] == [""] * 3
        (tmp_path / "gate").touch()
        assert list(it) == [gate]
        (tmp_path / "gate").unlink()


def test_endless_maps(rc, lv):
    square = typed("def f(x): return x * x")
    for chunksize in (1, "auto"):
        it = lv.imap(square, count(), chunksize=chunksize, max_outstanding=4)
        assert list(islice(it, 200)) == [x * x for x in range(200)]
        it.cancel()
        rest = list(it)
        assert rest == [x * x for x in range(200, 200 + len(rest))]
    assert not lv._feeders


def test_errors_of_maps(rc, lv):
    invert = typed("def f(x): return 1 // x")
    for chunksize in (1, "auto"):
        amr = lv.map_async(invert, [1, 0, -1], chunksize=chunksize)
        with pytest.raises(ipp.CompositeError, match="ZeroDivisionError"):
            amr.get(60)
        got = amr.get(return_exceptions=True)
        assert [got[0], got[1].ename, got[2]] == [1, "ZeroDivisionError", -1]
        assert got[1].engine_info["engine_id"] in rc.ids
        assert "ZeroDivisionError" in got[1].traceback

    def inputs():
        yield 1
        raise OSError("no more")

    it = lv.imap(invert, inputs())
    assert next(it) == 1
    with pytest.raises(OSError, match="no more"):
        next(it)


def test_the_rms_demo(lv):
    numpy = pytest.importorskip("numpy")
    x = numpy.linspace(0, 100)
    add_, sq = typed("f = lambda a, b: a + b"), typed("f = lambda x: x * x")
    squares = lv.map(sq, x)
    assert abs(numpy.sqrt(reduce(add_, squares) / len(x)) - 58.0288) < 1e-3
    back = sorted(lv.map(sq, x, ordered=False, chunksize=5))
    assert numpy.allclose(back, x * x)


def test_parallel_functions(rc, lv):
    f = lv.parallel(block=True)(typed("def f(part): return [x + 1 for x in part]"))
    assert f(list(range(5))) == [1, 2, 3, 4, 5]
    g = lv.parallel(chunksize=2)(typed("def f(x): return x + 1"))
    amr = g.map(range(5))
    assert amr.get(60) == [1, 2, 3, 4, 5] and len(amr.msg_ids) == 3


# Looking


def test_labels(rc, lv, wait_until):
    rc[:].set_flags(label="direct").apply_async(slow).get(60)
    with lv.temp_flags(label="tidy-1"):
        one = lv.apply_async(slow)
    two = lv.map_async(abs, range(2), label="tidy-2")
    rc.wait([one, two], timeout=60)
    assert one.label == "tidy-1" and two.label == ["tidy-2"] * 2

    def labels():
        found = rc.db_query({"label": {"$glob": "tidy-*"}}, keys=["label", "completed"])
        return sorted(r["label"] for r in found if r["completed"])

    wait_until(lambda: labels() == ["tidy-1", "tidy-2", "tidy-2"])


def test_resubmit(rc, lv, tmp_path, wait_until):
    path = tmp_path / "log"
    good = lv.apply_async(note, str(path))
    bad = lv.apply_async(
        note, str(path), f"if len(open({str(path)!r}).readlines()) < 3: raise OSError"
    )
    rc.wait([good, bad], timeout=60)
    ids = good.msg_ids + bad.msg_ids
    wait_until(
        lambda: all(r["completed"] for r in rc.db_query({"msg_id": {"$in": ids}}))
    )
    again = rc.resubmit(failed=True)
    assert len(again) == 1 and again.msg_ids[0] not in ids
    assert again.get(60) == [noted(path)[2]]
    (record,) = rc.db_query({"msg_id": bad.msg_id}, keys="resubmitted")
    assert record["resubmitted"] == again.msg_ids[0]
    assert sorted(rc.resubmit([good, bad]).get(60)) == sorted(noted(path)[3:])
    assert rc.resubmit(good, failed=True).get(60) == []
    with pytest.raises(ipp.RemoteError, match="KeyError"):
        rc.resubmit("of nobody")


def test_queue_status(ours, tmp_path, wait_until):
    rc, gate = ours.rc, tmp_path / "gate"
    lv = rc.load_balanced_view()
    tasks = [lv.apply_async(gated, str(gate)) for _ in range(4)]

    def waiting():
        status = rc.queue_status()
        return status["unassigned"], [status[i]["tasks"] for i in rc.ids]

    wait_until(lambda: waiting() == (2, [1, 1]))
    verbose = rc.queue_status(verbose=True)
    assert set(verbose["unassigned"]) == {a.msg_id for a in tasks[-2:]}
    assert rc.queue_status(rc.ids[0])["tasks"] == 1
    assert lv.queue_status().keys() == rc.queue_status().keys()
    gate.touch()
    assert rc.wait(tasks, timeout=60)
    wait_until(lambda: waiting() == (0, [0, 0]))


# With our scheduler only


def test_explain(ours, tmp_path, wait_until):
    rc, gate = ours.rc, tmp_path / "gate"
    lv = rc.load_balanced_view()
    busy = [lv.apply_async(gated, str(gate)) for _ in rc.ids]
    queued = [lv.apply_async(slow) for _ in range(3)]
    with lv.temp_flags(after=queued):
        waiting = lv.apply_async(slow)
    running, second, later = rc.explain([busy[0], queued[1], waiting])
    assert running["state"] == "running"
    assert second["state"] == "queued" and second["behind"] == 1
    assert {e["engine"] for e in second["excluded"]} == {0, 1}
    assert later["state"] == "waiting"
    assert set(later["waiting_for"]) == {a.msg_id for a in queued}
    assert waiting.msg_id in str(later) and "wait" in later["text"]
    gate.touch()
    waiting.get(60)
    assert busy[0].get(60) == ours.pids()[running["engine"]]
    assert rc.explain(waiting)["state"] == "finished"
    other = ours.client()
    assert other.explain(waiting.msg_id)["state"] == "finished"
    assert other.explain("of nobody")["state"] == "unknown"


@pytest.mark.parametrize("how", ["cancel", "abort", "result.cancel", "result.abort"])
def test_cancelling_what_waits(ours, tmp_path, how):
    rc, gate = ours.rc, tmp_path / "gate"
    lv = rc.load_balanced_view()
    busy = [lv.apply_async(gated, str(gate)) for _ in rc.ids]
    ars = [lv.apply_async(slow) for _ in range(5)]
    with lv.temp_flags(after=ars[0]):
        dependent = lv.apply_async(slow)
    if how == "cancel":
        told = rc.cancel([busy[0], *ars])
        assert set(told["cancelled"]) == {ar.msg_id for ar in ars}
        assert list(told["running"]) == [busy[0].msg_id]
    elif how == "abort":
        lv.abort(ars)
    for ar in ars:
        if how.startswith("result"):
            getattr(ar, how.partition(".")[2])()
        result = rc.get_result(ar.msg_id, owner=False)
        assert error_of(result) == "TaskAborted"
    assert error_of(dependent) == "ImpossibleDependency"
    assert not any(ar.done() for ar in busy)
    gate.touch()
    assert sorted(ar.get(60) for ar in busy) == sorted(ours.pids().values())


def test_cancelling_with_no_engine(start_cluster):
    rc = start_cluster(0).rc
    ar = rc.load_balanced_view().apply_async(slow)
    ar.abort()
    assert error_of(ar) == "TaskAborted"


def test_explain_and_cancel_are_refused_elsewhere(rc, cluster, lv):
    if cluster.kind == "ours":
        pytest.skip("for controllers that do not offer it")
    ar = lv.apply_async(slow, 0.3)
    for ask in (rc.explain, rc.cancel):
        with pytest.raises(RuntimeError, match="needs Roundhouse's controller"):
            ask(ar)
    with pytest.warns(RuntimeWarning, match="ignores priority"):
        assert lv.set_flags(priority=5).apply_sync(slow) is None


def test_priority(ours, tmp_path):
    rc, gate, log = ours.rc, tmp_path / "gate", tmp_path / "log"
    lv = rc.load_balanced_view([0])
    busy = lv.apply_async(gated, str(gate))
    f = typed("def f(path, i):\n with open(path, 'a') as out: out.write(f'{i}\\n')")
    ars = []
    for priority in (0, -5, 7, 0, 7):
        with lv.temp_flags(priority=priority):
            ars.append(lv.apply_async(f, str(log), priority))
    assert rc.wait([ars[0]], timeout=0) is False
    gate.touch()
    assert rc.wait([busy, *ars], timeout=60)
    assert noted(log) == [7, 7, 0, 0, -5]


def test_a_million_tasks_of_one_client_do_not_hold_up_another(ours, tmp_path):
    rc, gate = ours.rc, tmp_path / "gate"
    lv = rc.load_balanced_view()
    busy = [lv.apply_async(gated, str(gate)) for _ in rc.ids]
    many = [lv.apply_async(slow, 0.01) for _ in range(300)]
    other = ours.client()
    single = other.load_balanced_view().apply_async(slow)
    assert other.explain(single)["behind"] <= 2
    gate.touch()
    single.get(60)
    assert not many[-1].done()
    rc.abort(many)
    assert rc.wait([*busy, *many], timeout=60)


def test_retries_as_wished(ours, tmp_path):
    lv, path = ours.rc.load_balanced_view(retries=3), tmp_path / "log"

    def tries(then="raise OSError", **flags):
        path.write_text("")
        with lv.temp_flags(**flags):
            ar = lv.apply_async(note, str(path), then)
        return error_of(ar), noted(path)

    assert tries(retry_on=KeyError)[1:] == (noted(path),) and len(noted(path)) == 1
    assert len(tries(retry_on=[KeyError, "OSError"], retries=1)[1]) == 2
    assert len(tries(retry_on="engine-loss")[1]) == 1
    start = time.monotonic()
    assert len(tries(retry_delay=0.3, retries=1)[1]) == 2
    assert time.monotonic() - start >= 0.3
    name, where = tries(retry_same_engine=True, targets=[0])
    assert name == "OSError" and len(where) == 4 and len(set(where)) == 1


def test_a_task_that_kills_engines_is_stopped(start_cluster, tmp_path, wait_until):
    c = start_cluster(3)
    path = tmp_path / "log"
    lv = c.rc.load_balanced_view(retries=5, max_deaths=2)
    ar = lv.apply_async(note, str(path), "import os; os.kill(os.getpid(), 9)")
    assert error_of(ar) == "EngineError"
    assert len(noted(path)) == 2 and len(set(noted(path))) == 2
    wait_until(lambda: len(c.rc.ids) == 1)  # the news of a death come after it
    assert c.rc[:].apply_sync(slow, 0, 1) == [1], "the third engine lives"


def test_the_pure_scheme(start_cluster, wait_until):
    c = start_cluster(2, "--scheme=pure")
    lv = c.rc.load_balanced_view()
    assert lv.map_sync(abs, range(-20, 0)) == list(range(20, 0, -1))
    assert list(lv.imap(abs, range(-20, 0), chunksize="auto")) == list(range(20, 0, -1))
    for flags in ({"retries": 1}, {"after": "x"}, {"timeout": 1}, {"targets": [0]}):
        with lv.temp_flags(**flags), pytest.raises(RuntimeError, match="pure"):
            lv.apply(slow)
    with pytest.warns(RuntimeWarning, match="cannot move"):
        lv.apply_sync(ipp.dependent(slow, typed("f = lambda: True")))
    with pytest.warns(RuntimeWarning, match="disabled"):
        c.engines[0].kill()
        wait_until(lambda: c.rc._farming_stopped)
    with pytest.raises(RuntimeError, match="Task farming is disabled"):
        lv.apply(slow)
