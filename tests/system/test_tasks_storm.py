"""Engines that die while tasks run: every task is accounted for.

$ROUNDHOUSE_STORM is the number of tasks of the storm (default 5,000), and
$ROUNDHOUSE_GRAPH that of the graph (default 20,000).
"""

from __future__ import annotations

import collections
import os
import random
import signal

import roundhouse as ipp

pytest_plugins = ["cluster_fixtures"]

N = int(os.environ.get("ROUNDHOUSE_STORM", "5000"))
N_GRAPH = int(os.environ.get("ROUNDHOUSE_GRAPH", "20000"))


def note(path, i, die=False):
    """Leave a line that says that task *i* was begun here."""
    import os
    import signal

    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"%d %d\n" % (i, os.getpid()))
    os.close(fd)
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    return i


note.__module__ = "__main__"  # so that its code travels


def runs(path) -> collections.Counter:
    """How often each task was begun."""
    with open(path) as f:
        return collections.Counter(int(line.split()[0]) for line in f)


def test_tasks_sent_ahead_survive_their_engine(start_cluster, tmp_path, wait_until):
    c = start_cluster(1)
    path = str(tmp_path / "runs")
    view = c.rc.load_balanced_view()
    view.map_sync(abs, range(500))  # the scheduler learns that tasks are short
    killer = view.apply_async(note, path, -1, True)
    others = [view.apply_async(note, path, i) for i in range(100)]
    error = killer.exception(60)
    assert isinstance(error, ipp.error.EngineError) or error.ename == "EngineError"
    assert "its process was killed by signal 9 (SIGKILL)" in str(error)
    c.add_engine()
    assert [ar.get(60) for ar in others] == list(range(100))
    assert runs(path) == {i: 1 for i in range(-1, 100)}


def test_the_error_says_what_is_known(start_cluster, wait_until):
    c = start_cluster(2, "--ping=100", "--HeartMonitor.max_heartmonitor_misses=3")
    view = c.rc.load_balanced_view()
    for n, end, known in [
        (2, "import os; os._exit(7)", "its process ended with exit code 7"),
        (
            1,
            "import os; os.kill(os.getpid(), 19)",
            "its heart stopped beating; its process {pid} is stopped",
        ),
    ]:
        # The news of a death come after its errors.
        wait_until(lambda n=n: len(c.rc.ids) == n)
        engine, pid = c.pids().popitem()
        view.targets = [engine]
        error = view.apply_async(eval, f"exec({end!r})").exception(60)
        assert known.format(pid=pid) in str(error)
    os.kill(pid, signal.SIGKILL)


def test_a_storm(start_cluster, tmp_path):
    """No task is lost, and none is run twice that was not to be retried."""
    c = start_cluster(3)
    path = str(tmp_path / "runs")
    dice = random.Random(1)
    once = c.rc.load_balanced_view()
    again = c.rc.load_balanced_view()
    again.retries = 5
    results = []
    kills = max(8, N // 4000)
    for i in range(N):
        view = again if i % 4 == 0 else once
        results.append(view.apply_async(note, path, i))
        if i % (N // kills) == N // kills // 2:
            # One of those at work, in the middle of it.
            results[max(0, i - N // kills // 4)].wait(60)
            alive = [p for p in c.engines if p.alive()]
            victim = dice.choice(alive)
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            c.engines.append(c.add_engine())
    c.rc.wait(results, timeout=600)
    counts = runs(path)
    lost = 0
    for i, ar in enumerate(results):
        error = ar.exception(0)
        if error is None:
            assert ar.get() == i
        else:
            assert "died while running" in str(error)
            assert i % 4  # the others have retries
            lost += 1
        if i % 4:
            assert counts[i] <= 1
            assert error or counts[i] == 1
        else:
            assert counts[i] >= 1
    # No more than what an engine had in its hands, or had answered in vain.
    assert lost <= 50 * kills
    print(f"{N} tasks, {kills} engines killed: {lost} tasks lost with them")
    assert not c.rc.queue_status()["unassigned"]


def test_a_graph(start_cluster):
    """Each task after two earlier ones; none starts before both have ended."""
    c = start_cluster(2)
    dice = random.Random(2)
    view = c.rc.load_balanced_view()
    results, parents = [], []
    for i in range(N_GRAPH):
        before = {dice.randrange(max(0, i - 200), i) for _ in range(2)} if i else ()
        view.after = [results[k] for k in before]
        results.append(view.apply_async(abs, -i))
        parents.append(before)
    assert c.rc.wait(results, timeout=300)
    for i, (ar, before) in enumerate(zip(results, parents)):
        assert ar.get() == i
        assert all(results[k].completed <= ar.started for k in before)
