"""One scenario for every combination of client, controller and engines.

    python scenario.py MODULE CLIENT_FILE [--skip step=reason ...]

MODULE is roundhouse or ipyparallel; the script runs under that client's Python
and asserts the same things whoever the other two are.  Needs two engines.
Prints one line a step: "ok NAME", "skip NAME: REASON" or "FAIL NAME: ERROR";
the exit status is the number of failures.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time
import traceback

import numpy

PATIENCE = 60
steps = []


def step(f):
    steps.append(f)
    return f


def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s for {what}")
        time.sleep(0.02)


class Context:
    def __init__(self, ipp, file):
        self.ipp = ipp
        self.file = file
        self.rc = ipp.Client(file)
        until(lambda: len(self.rc.ids) >= 2, "two engines")
        self.ids = self.rc.ids[:2]
        self.dv = self.rc[self.ids]
        self.lv = self.rc.load_balanced_view()

    def remote_error(self, name, f):
        """f() must raise a RemoteError (or a composite of them) called name."""
        try:
            f()
        except self.ipp.error.CompositeError as e:
            assert {x[0] for x in e.elist} == {name}, e.elist
        except self.ipp.error.RemoteError as e:
            assert e.ename == name, (e.ename, e.evalue)
        else:
            raise AssertionError(f"no {name} was raised")


@step
def apply(c):
    assert c.dv.apply_sync(lambda a, b=1: a + b, 2, b=3) == [5, 5]
    assert c.rc[c.ids[0]].apply_sync(len, [1, 2, 3]) == 3
    pids = c.dv.apply_sync(os.getpid)
    assert len(set(pids)) == 2
    c.remote_error("ZeroDivisionError", lambda: c.dv.apply_sync(lambda: 1 / 0))
    scale = 7
    assert c.dv.apply_sync(lambda x: x * scale, 6) == [42, 42]


@step
def namespace(c):
    c.dv.push({"a": 5, "words": ["x", "y"]}, block=True)
    assert c.dv.pull(("a", "words"), block=True) == [[5, ["x", "y"]]] * 2
    assert c.dv["a"] == [5, 5]
    c.dv["b"] = 3
    assert c.dv.apply_sync(lambda: a + b) == [8, 8]  # noqa: F821
    assert c.dv.apply_sync(lambda x: x + 1, c.ipp.Reference("a")) == [6, 6]
    c.remote_error("NameError", lambda: c.dv.pull("missing", block=True))


@step
def arrays(c):
    for a in (
        numpy.arange(1000.0),
        numpy.zeros((0, 3)),
        numpy.array(5),
        numpy.arange(24).reshape(2, 3, 4),
    ):
        c.dv.push({"array": a}, block=True)
        for back in c.dv.pull("array", block=True):
            assert back.dtype == a.dtype and back.shape == a.shape
            assert (back == a).all()
    whole = numpy.arange(11.0)
    c.dv.scatter("part", whole, block=True)
    assert [len(p) for p in c.dv.pull("part", block=True)] == [6, 5]
    assert (c.dv.gather("part", block=True) == whole).all()
    c.dv.scatter("part", list(range(5)), block=True)
    assert c.dv.gather("part", block=True) == [0, 1, 2, 3, 4]
    big = os.urandom(3_000_000)
    assert c.dv.apply_sync(lambda x: bytes(x), big) == [big, big]


@step
def maps(c):
    assert list(c.dv.map_sync(lambda x: 2 * x, range(10))) == list(range(0, 20, 2))
    assert list(c.lv.map_sync(lambda x, y: x * y, range(10), range(10))) == [
        i * i for i in range(10)
    ]
    got = c.lv.map_async(lambda x: x, range(30), chunksize=4)
    assert list(got) == list(range(30))
    got = c.lv.map(lambda x: x, range(20), block=False, ordered=False)
    assert sorted(got) == list(range(20))


@step
def execute(c):
    ar = c.dv.execute("z = 41\nz + 1", silent=False, block=False)
    ar.get(PATIENCE)
    ar.wait_for_output(PATIENCE)
    data = [r["data"]["text/plain"] for r in ar.execute_result]
    assert data == ["42", "42"], data
    assert c.dv["z"] == [41, 41]
    ar = c.dv.execute(
        "from IPython.display import HTML, display; display(HTML('<b>x</b>'))",
        silent=False,
        block=False,
    )
    ar.get(PATIENCE)
    ar.wait_for_output(PATIENCE)
    for outputs in ar.outputs:
        assert outputs[0]["data"]["text/html"] == "<b>x</b>"
    c.remote_error("ZeroDivisionError", lambda: c.dv.execute("1/0", block=True))


@step
def output(c):
    def speak():
        import sys

        print("to stdout")
        print("to stderr", file=sys.stderr)
        return 1

    ar = c.dv.apply_async(speak)
    assert ar.get(PATIENCE) == [1, 1]
    ar.wait_for_output(PATIENCE)
    assert ar.stdout == ["to stdout\n"] * 2, ar.stdout
    assert ar.stderr == ["to stderr\n"] * 2, ar.stderr


@step
def streaming(c):
    def talk(path):
        import os
        import sys
        import time

        print("first", flush=True)
        sys.stdout.flush()
        end = time.time() + 60
        while not os.path.exists(path) and time.time() < end:
            time.sleep(0.02)
        print("second")

    path = f"{c.file}.go{os.getpid()}"
    ar = c.rc[c.ids[0]].apply_async(talk, path)
    try:
        until(lambda: "first" in ar.stdout, "output of a running call")
        assert not ar.ready()
    finally:
        open(path, "w").close()
    ar.get(PATIENCE)
    ar.wait_for_output(PATIENCE)
    os.unlink(path)
    assert ar.stdout == "first\nsecond\n", ar.stdout


@step
def data_publication(c):
    def publish():
        try:
            from ipyparallel.datapub import publish_data
        except ImportError:
            from roundhouse.datapub import publish_data
        publish_data({"step": 3})

    ar = c.rc[c.ids[0]].apply_async(publish)
    ar.get(PATIENCE)
    ar.wait_for_output(PATIENCE)
    assert ar.data == {"step": 3}, ar.data


@step
def metadata(c):
    ar = c.rc[c.ids[1]].apply_async(time.sleep, 0.01)
    ar.get(PATIENCE)
    assert ar.engine_id == c.ids[1]
    assert ar.status == "ok"
    assert ar.submitted <= ar.started <= ar.completed <= ar.received
    assert ar.serial_time >= 0.009


@step
def dependencies(c):
    rc, lv, error = c.rc, c.lv, c.ipp.error
    first = lv.apply_async(time.sleep, 0.2)
    with lv.temp_flags(after=first):
        second = lv.apply_async(time.time)
    second.get(PATIENCE)
    assert second.started >= first.completed
    with lv.temp_flags(follow=first):
        third = lv.apply_async(os.getpid)
    third.get(PATIENCE)
    assert third.engine_id == first.engine_id
    bad = lv.apply_async(lambda: 1 / 0)
    with lv.temp_flags(after=bad):
        impossible = lv.apply_async(os.getpid)
    c.remote_error("ImpossibleDependency", lambda: impossible.get(PATIENCE))
    with lv.temp_flags(after=impossible):
        cascade = lv.apply_async(os.getpid)
    c.remote_error("ImpossibleDependency", lambda: cascade.get(PATIENCE))
    with lv.temp_flags(after=c.ipp.Dependency([bad], success=False, failure=True)):
        cleanup = lv.apply_async(lambda: "clean")
    assert cleanup.get(PATIENCE) == "clean"
    with lv.temp_flags(after=["no-such-task"]):
        invalid = lv.apply_async(os.getpid)
    c.remote_error("InvalidDependency", lambda: invalid.get(PATIENCE))
    assert issubclass(error.InvalidDependency, error.ImpossibleDependency)
    assert rc.ids


@step
def unmet(c):
    def only_here(pid):
        import os

        return os.getpid() == pid

    pid = c.rc[c.ids[1]].apply_sync(os.getpid)

    @c.ipp.depend(only_here, pid)
    def where():
        import os

        return os.getpid()

    assert [c.lv.apply_async(where).get(PATIENCE) for _ in range(6)] == [pid] * 6

    @c.ipp.require("time", "os")
    def needs():
        return os.path.sep, time.time() > 0

    assert c.lv.apply_async(needs).get(PATIENCE) == (os.path.sep, True)


@step
def retries(c):
    def fails_once(path):
        if not os.path.exists(path):
            open(path, "w").close()
            raise RuntimeError("first try")
        return "second try"

    path = f"{c.file}.try{os.getpid()}"
    fails = c.ipp.interactive(fails_once)
    c.dv.execute("import os", block=True)
    with c.lv.temp_flags(retries=1):
        ar = c.lv.apply_async(fails, path)
    try:
        assert ar.get(PATIENCE) == "second try"
    finally:
        os.unlink(path)


@step
def abort(c):
    view = c.rc[c.ids[0]]
    running = view.apply_async(time.sleep, 1)
    queued = [view.apply_async(time.sleep, 0) for _ in range(3)]
    view.abort(queued, block=True)
    for ar in queued:
        try:
            ar.get(PATIENCE)
        except c.ipp.error.TaskAborted:
            pass
        except c.ipp.error.RemoteError as e:
            assert e.ename == "TaskAborted", e.ename
        else:
            raise AssertionError("not aborted")
    running.get(PATIENCE)
    assert view.apply_sync(lambda: "on") == "on"


@step
def clear(c):
    c.dv.push({"gone": 1}, block=True)
    c.dv.clear(block=True)
    c.remote_error("NameError", lambda: c.dv.pull("gone", block=True))


@step
def interrupt(c):
    view = c.rc[c.ids[0]]

    def loop(path):
        import time

        open(path, "w").close()
        end = time.time() + 60
        while time.time() < end:
            time.sleep(0.01)

    path = f"{c.file}.loop{os.getpid()}"
    ar = view.apply_async(loop, path)
    until(lambda: os.path.exists(path), "the loop to run")
    os.unlink(path)
    c.rc.send_signal(signal.SIGINT, targets=c.ids[0], block=True)
    c.remote_error("KeyboardInterrupt", lambda: ar.get(PATIENCE))
    assert view.apply_sync(lambda: "alive") == "alive"


@step
def hub_results(c):
    direct = c.rc[c.ids[0]].apply_async(lambda: numpy_free)  # noqa: F821
    direct.wait(PATIENCE)
    task = c.lv.apply_async(lambda x: list(range(x)), 5)
    task.get(PATIENCE)
    with (
        c.ipp.Client(c.file)
        if hasattr(c.ipp.Client, "__enter__")
        else _Closing(c.ipp.Client(c.file)) as other
    ):
        again = other.get_result(task.msg_ids[0])
        assert again.get(PATIENCE) == [0, 1, 2, 3, 4]
        again = other.get_result(direct.msg_ids[0])
        c.remote_error("NameError", lambda: again.get(PATIENCE))
        running = c.lv.apply_async(time.sleep, 0.3)
        until(lambda: running.msg_ids[0] in c.rc.hub_history(), "the hub to know it")
        assert other.get_result(running.msg_ids[0]).get(PATIENCE) is None
        running.get(PATIENCE)


class _Closing:
    def __init__(self, client):
        self.client = client

    def __enter__(self):
        return self.client

    def __exit__(self, *exc):
        self.client.close()


@step
def queue_status(c):
    view = c.rc[c.ids[0]]
    running = view.apply_async(time.sleep, 1)
    waiting = view.apply_async(time.sleep, 0)
    until(
        lambda: c.rc.queue_status(c.ids[0])["queue"] == 2, "two requests in the queue"
    )
    running.get(PATIENCE)
    waiting.get(PATIENCE)
    until(lambda: c.rc.queue_status(c.ids[0])["queue"] == 0, "an empty queue")
    status = c.rc.queue_status(verbose=True)
    assert waiting.msg_ids[0] in status[c.ids[0]]["completed"]


@step
def database(c):
    ar = c.lv.apply_async(lambda: print("recorded"))
    ar.get(PATIENCE)
    ar.wait_for_output(PATIENCE)
    msg_id = ar.msg_ids[0]
    until(
        lambda: c.rc.db_query({"msg_id": msg_id}, keys=["completed"])[0]["completed"],
        "the record",
    )
    assert msg_id in c.rc.hub_history()
    (record,) = c.rc.db_query({"msg_id": {"$in": [msg_id]}})
    assert record["stdout"] == "recorded\n"
    assert record["queue"] == "task"
    assert record["completed"] >= record["started"]
    found = c.rc.db_query({"completed": {"$ne": None}}, keys=["msg_id"])
    assert msg_id in [r["msg_id"] for r in found]
    assert c.rc.result_status([msg_id])["completed"] == [msg_id]


@step
def resubmit(c):
    ar = c.lv.apply_async(os.getpid)
    first = ar.get(PATIENCE)
    until(lambda: c.rc.result_status(ar.msg_ids)["completed"], "the record")
    again = c.rc.resubmit(ar.msg_ids)
    pids = again.get(PATIENCE)
    pids = pids if isinstance(pids, list) else [pids]
    assert set(pids) <= set(c.dv.apply_sync(os.getpid)), (pids, first)
    assert again.msg_ids != ar.msg_ids


@step
def purge(c):
    ar = c.lv.apply_async(os.getpid)
    ar.get(PATIENCE)
    until(lambda: c.rc.result_status(ar.msg_ids)["completed"], "the record")
    c.rc.purge_hub_results(ar.msg_ids)
    assert c.rc.db_query({"msg_id": ar.msg_ids[0]}) == []
    c.rc.purge_results("all")
    assert c.rc.db_query({"completed": {"$ne": None}}) == []


@step
def broadcast(c):
    view = c.rc.broadcast_view(c.ids)
    pids = c.dv.apply_sync(os.getpid)
    assert sorted(view.apply_sync(os.getpid)) == sorted(pids)
    ar = view.apply_async(lambda x: x[0], [4])
    assert ar.get(PATIENCE) == [4, 4]
    c.remote_error("ZeroDivisionError", lambda: view.apply_sync(lambda: 1 / 0))


@step
def broadcast_coalescing(c):
    view = c.rc.broadcast_view(c.ids, is_coalescing=True)
    pids = c.dv.apply_sync(os.getpid)
    assert sorted(view.apply_sync(os.getpid)) == sorted(pids)
    array = numpy.arange(5000.0)
    for back in view.apply_sync(lambda x: x * 2, array):
        assert (back == array * 2).all()


@step
def many(c):
    results = [c.lv.apply_async(lambda x: x + 1, i) for i in range(300)]
    assert [r.get(PATIENCE) for r in results] == list(range(1, 301))
    results = [c.rc[c.ids[i % 2]].apply_async(lambda x: -x, i) for i in range(300)]
    assert [r.get(PATIENCE) for r in results] == [-i for i in range(300)]


@step
def engine_killed(c):
    victim = c.ids[1]
    pid = c.rc[victim].apply_sync(os.getpid)
    direct = c.rc[victim].apply_async(time.sleep, 600)
    view = c.rc.load_balanced_view(targets=[victim])
    until(lambda: c.rc.queue_status(victim)["queue"] >= 1, "the call to arrive")
    task = view.apply_async(time.sleep, 600)
    until(lambda: c.rc.queue_status(victim)["tasks"] >= 1, "the task to arrive")
    os.kill(pid, signal.SIGKILL)
    c.remote_error("EngineError", lambda: direct.get(PATIENCE))
    c.remote_error("EngineError", lambda: task.get(PATIENCE))
    until(lambda: victim not in c.rc.ids, "the engine to be gone")
    c.ids.remove(victim)
    assert c.rc[c.ids[0]].apply_sync(lambda: 1) == 1


@step
def shutdown_engine(c):
    (last,) = c.ids
    c.rc.shutdown(targets=[last], block=True)
    until(lambda: last not in c.rc.ids, "the engine to leave")


@step
def shutdown_hub(c):
    c.rc.shutdown(hub=True, block=True) if c.rc.ids else c.rc.shutdown(
        targets=[], hub=True, block=True
    )
    until(lambda: not os.path.exists(c.file), "the connection file to go")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("module")
    p.add_argument("file")
    p.add_argument("--skip", action="append", default=[], metavar="STEP=REASON")
    p.add_argument("--only", action="append", default=[], metavar="STEP")
    args = p.parse_args()
    skip = dict(s.split("=", 1) for s in args.skip)
    ipp = importlib.import_module(args.module)
    importlib.import_module(args.module + ".error")
    context = Context(ipp, args.file)
    failures = 0
    for f in steps:
        name = f.__name__
        if args.only and name not in args.only:
            continue
        if name in skip:
            print(f"skip {name}: {skip[name]}", flush=True)
            continue
        start = time.monotonic()
        try:
            f(context)
        except Exception as e:
            failures += 1
            traceback.print_exc()
            print(f"FAIL {name}: {type(e).__name__}: {e}"[:500], flush=True)
        else:
            print(f"ok {name} ({time.monotonic() - start:.2f} s)", flush=True)
    sys.exit(failures)


if __name__ == "__main__":
    main()
