"""A client's session against a running cluster, as a program.

    python controller_scenario.py MODULE PROFILE_DIR STEP

MODULE is "ipyparallel" or "roundhouse".  STEP is a function of this file; its
requirements (engines, options) are in test_controller_peer.py.  Ends with 0 if
everything was as it should be.
"""

import importlib
import os
import signal
import sys
import time

PATIENCE = 60


def until(predicate, what=""):
    end = time.monotonic() + PATIENCE
    while not predicate():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


def raises(name, call, *args):
    """The text of the error that *call* raises; it must mention *name*."""
    try:
        value = call(*args)
    except Exception as e:
        text = f"{type(e).__name__} {e}"
        assert name in text, text
        return text
    raise AssertionError(f"returned {value!r}, and should have raised {name}")


def pid():
    import os

    return os.getpid()


def nap(seconds):
    import time

    time.sleep(seconds)
    return seconds


def fail():
    raise ValueError("as asked")


def calls(ipp, rc):
    dv, lv = rc[:], rc.load_balanced_view()
    pids = dv.apply_sync(pid)
    assert len(set(pids)) == len(rc.ids)
    assert rc[0].apply_sync(pid) == pids[0]
    dv.push({"a": 5})
    assert dv.pull("a", block=True) == [5] * len(pids)
    raises("ValueError", rc[0].apply_sync, fail)
    assert lv.map_sync(abs, range(-50, 0)) == list(range(50, 0, -1))
    big = b"x" * (8 << 20)
    assert rc[0].apply_sync(len, big) == len(big)
    assert lv.apply_sync(len, big) == len(big)
    ar = rc[0].execute("print('hello')\n6*7", silent=False)
    ar.get(PATIENCE)
    ar.wait_for_output(PATIENCE)
    assert ar.stdout.strip() == "hello"


def tasks(ipp, rc):
    lv = rc.load_balanced_view()
    first = lv.apply_async(nap, 0.2)
    with lv.temp_flags(after=[first], follow=[first]):
        second = lv.apply_async(pid)
    second.get(PATIENCE)
    assert second.engine_id == first.engine_id
    with lv.temp_flags(after=["never-seen"]):
        raises("InvalidDependency", lv.apply_sync, pid)
    broken = lv.apply_async(fail)
    with lv.temp_flags(after=[broken]):
        raises("ImpossibleDependency", lv.apply_sync, pid)
    with lv.temp_flags(retries=1):
        raises("ValueError", lv.apply_sync, fail)
    only = rc.load_balanced_view(targets=[rc.ids[-1]])
    assert {only.apply_async(nap, 0).get(PATIENCE) for _ in range(5)} == {0}
    ars = [lv.apply_async(pid) for _ in range(300)]
    assert set(rc.ids) == {ar.engine_id for ar in ars if ar.get(PATIENCE)}


def broadcasts(ipp, rc):
    pids = rc[:].apply_sync(pid)
    for coalescing in (False, True):
        bv = rc.broadcast_view(is_coalescing=coalescing)
        for _ in range(20):
            assert sorted(bv.apply_sync(pid)) == sorted(pids)
        raises("ValueError", bv.apply_sync, fail)
    bv = rc.broadcast_view(targets=rc.ids[:1])
    assert bv.apply_sync(pid) == pids[:1]


def queries(ipp, rc):
    other = ipp.Client(profile_dir=PROFILE_DIR, timeout=PATIENCE)
    lv = rc.load_balanced_view()
    ars = [lv.apply_async(nap, 0), rc[0].apply_async(nap, 0)]
    for ar in ars:
        ar.get(PATIENCE)
        assert other.get_result(ar.msg_ids[0]).get(PATIENCE) == 0
    ar = rc[0].execute("print('seen')", silent=False)
    ar.get(PATIENCE)

    def recorded():
        seen = other.get_result(ar.msg_ids[0])
        seen.get(PATIENCE)
        return seen.stdout.strip() == "seen"

    until(recorded, "output in the hub")
    history = rc.hub_history()
    assert [a.msg_ids[0] for a in ars] == history[:2]
    found = rc.db_query(
        {"msg_id": {"$in": history[:2]}}, keys=["msg_id", "completed", "queue"]
    )
    assert sorted(r["queue"] for r in found) == ["mux", "task"]
    assert all(r["completed"] for r in found)
    status = rc.queue_status()
    assert status[0]["queue"] == status[0]["tasks"] == status["unassigned"] == 0
    again = rc.resubmit(ars[0].msg_ids[0])
    assert again.get(PATIENCE) in (0, [0])
    rc.purge_results(history[:1])
    assert history[0] not in rc.hub_history()
    rc.purge_hub_results("all")
    assert rc.hub_history() == []
    other.close()


def control(ipp, rc):
    one = rc[0]
    running = one.apply_async(nap, 1)
    waiting = one.apply_async(nap, 1)
    rc.abort(waiting)
    raises("TaskAborted", waiting.get, PATIENCE)
    running.get(PATIENCE)
    one.push({"a": 1}, block=True)
    rc.clear(targets=[0], block=True)
    raises("NameError", lambda: one.pull("a", block=True))
    one.execute("busy = True", block=True)
    sleeper = one.apply_async(nap, 30)
    time.sleep(0.5)
    rc.send_signal(signal.SIGINT, targets=[0], block=True)
    raises("KeyboardInterrupt", sleeper.get, PATIENCE)
    assert one.apply_sync(nap, 0) == 0


def deaths(ipp, rc):
    """Each kill costs an engine: direct, task, both broadcasts."""
    pids = dict(zip(rc.ids, rc[:].apply_sync(pid)))
    victims = list(rc.ids)[1:]

    def kill(request):
        time.sleep(0.5)
        victim = victims.pop()
        os.kill(pids[victim], signal.SIGKILL)
        text = raises("EngineError", request.get, PATIENCE)
        until(lambda: victim not in rc.ids, "unregistration")
        return text

    assert "died while running" in kill(rc[victims[-1]].apply_async(nap, 60))
    kill(rc.load_balanced_view(targets=[victims[-1]]).apply_async(nap, 60))
    kill(rc.broadcast_view().apply_async(nap, 3))
    kill(rc.broadcast_view(is_coalescing=True).apply_async(nap, 3))
    # A task with retries survives.
    lv = rc.load_balanced_view()
    survivor = rc.ids[0]
    assert lv.apply_sync(pid) == pids[survivor]
    assert rc[survivor].apply_sync(pid) == pids[survivor]


def retried(ipp, rc):
    pids = dict(zip(rc.ids, rc[:].apply_sync(pid)))
    lv = rc.load_balanced_view()
    lv.retries = 3

    def die_once(victim):
        import os
        import signal

        if os.getpid() == victim:
            os.kill(victim, signal.SIGKILL)
        return os.getpid()

    victim = pids[rc.ids[0]]
    got = [lv.apply_async(die_once, victim) for _ in range(4)]
    assert {ar.get(PATIENCE) for ar in got} == set(pids.values()) - {victim}


def shutdown(ipp, rc):
    rc.shutdown(hub=True)


def main():
    global PROFILE_DIR
    module, PROFILE_DIR, step = sys.argv[1:]
    ipp = importlib.import_module(module)
    rc = ipp.Client(profile_dir=PROFILE_DIR, timeout=PATIENCE)
    rc.wait_for_engines(int(os.environ["N_ENGINES"]), timeout=2 * PATIENCE)
    globals()[step](ipp, rc)
    rc.close()


if __name__ == "__main__":
    main()
