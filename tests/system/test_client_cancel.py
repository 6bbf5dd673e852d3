"""Calls that are stopped while they wait, while they run, and by force."""

import concurrent.futures
import os

import pytest
import roundhouse as ipp
from test_client_calls import interactive

pytest_plugins = ["cluster_fixtures"]

stubborn = interactive(
    "def stubborn(path):\n"
    " import time\n"
    " open(path, 'w').close()\n"
    " while True:\n"
    "  try:\n"
    "   time.sleep(600)\n"
    "  except KeyboardInterrupt:\n"
    "   open(path + '.interrupted', 'w').close()\n",
    "stubborn",
)
sleeper = interactive(
    "def sleeper(path):\n"
    " import time\n"
    " open(path, 'w').close()\n"
    " try:\n"
    "  time.sleep(600)\n"
    " except KeyboardInterrupt:\n"
    "  open(path + '.interrupted', 'w').close()\n"
    "  raise\n",
    "sleeper",
)


def begun(ar, path, wait_until):
    """The call runs; on an engine of ipyparallel this client saw it begin."""
    wait_until(path.exists)
    message = ar._children[0]
    if ar._client.is_peer:
        wait_until(lambda: message.request.begun)


@pytest.fixture
def rc(rc, cluster):
    rc.is_peer = cluster.kind == "peer"
    return rc


def test_a_running_call_is_interrupted(rc, tmp_path, wait_until):
    path, mark = tmp_path / "x", tmp_path / "x.interrupted"
    ar = rc[0].apply_async(sleeper, str(path))
    behind = rc[0].apply_async(len, "abc")
    begun(ar, path, wait_until)
    assert ar.cancel() and ar.cancelled()
    wait_until(mark.exists)
    assert behind.get(60) == 3
    with pytest.raises(concurrent.futures.CancelledError):
        ar.get()
    # its one answer has come, and was let go
    wait_until(lambda: not rc.outstanding)


def test_a_waiting_call_is_skipped_and_the_running_one_goes_on(
    rc, tmp_path, wait_until
):
    path = tmp_path / "x"
    first = rc[0].apply_async(
        interactive(
            "def f(path, go):\n"
            " import os, time\n"
            " open(path, 'w').close()\n"
            " while not os.path.exists(go): time.sleep(.01)\n"
            " return 'whole'",
            "f",
        ),
        str(path),
        str(tmp_path / "go"),
    )
    second = rc[0].apply_async(sleeper, str(tmp_path / "never"))
    begun(first, path, wait_until)
    assert second.cancel()
    rc.abort(["unknown"], targets=0, block=True)  # behind the cancel
    (tmp_path / "go").touch()
    assert first.get(60) == "whole"
    assert rc[0].apply_sync(len, "") == 0
    assert not (tmp_path / "never").exists()


def test_a_running_task_is_interrupted(rc, tmp_path, wait_until):
    if rc.is_peer:
        pytest.skip("nobody knows where a task runs")
    path, mark = tmp_path / "x", tmp_path / "x.interrupted"
    ar = rc.load_balanced_view(retries=3).apply_async(sleeper, str(path))
    wait_until(path.exists)
    assert ar.cancel()
    wait_until(mark.exists)
    wait_until(lambda: not rc.outstanding)  # not tried again
    assert rc[:].apply_sync(len, "") == [0] * len(rc)


def test_no_other_call_is_ever_hit(rc):
    """Cancel calls that are about to end; those behind them must not notice."""
    if rc.is_peer:
        pytest.skip("a signal hits whatever runs")
    nap = interactive("def nap(t):\n import time\n time.sleep(t)\n return t", "nap")
    view, hits = rc[0], 0
    for i in range(300):
        victim = view.apply_async(nap, 0.0005)
        after = [view.apply_async(nap, 0.0001) for _ in range(3)]
        if i % 3:
            after[0].done()
        victim.cancel()
        assert [ar.get(60) for ar in after] == [0.0001] * 3
        hits += victim._children[0].request.status != "ok"
    assert hits > 0


def test_what_does_not_stop_is_killed(start_cluster, tmp_path, wait_until):
    c = start_cluster(2)
    (process,) = [p for p in c.engines if p.pid == c.pids()[0]]
    path = tmp_path / "x"
    ar = c.rc[0].apply_async(stubborn, str(path))
    behind = c.rc[0].apply_async(len, "abc")
    wait_until(path.exists)
    ar.cancel(grace=0.2, kill=True)
    with pytest.raises(ipp.RemoteError, match="EngineError"):
        behind.get(60)
    assert (tmp_path / "x.interrupted").exists()
    wait_until(lambda: c.rc.ids == [1])
    assert "a cancelled call did not stop" in c.controller.log()
    process.wait(30)
    assert ar.cancelled() and not c.rc.outstanding
    # One that does stop leaves its engine alone.
    ar = c.rc[1].apply_async(sleeper, str(tmp_path / "y"))
    wait_until((tmp_path / "y").exists)
    ar.cancel(grace=30, kill=True)
    wait_until((tmp_path / "y.interrupted").exists)
    assert c.rc[1].apply_sync(len, "") == 0


def test_a_cluster_replaces_what_was_killed(tmp_path, wait_until):
    with ipp.Cluster(n=1, profile_dir=str(tmp_path / "p"), log_level=40) as rc:
        before = rc[0].apply_sync(os.getpid)
        path = tmp_path / "x"
        ar = rc[0].apply_async(stubborn, str(path))
        wait_until(path.exists)
        ar.cancel(grace=0.2, kill=True)
        wait_until(
            lambda: (
                rc._engines.get(0) not in (None, ar._children[0].request.engine_uuid)
            )
        )
        assert rc.ids == [0] and rc[0].apply_sync(os.getpid) != before
