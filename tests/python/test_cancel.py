"""What cancel() asks of engines, ours and others, and what it does after."""

import time

import pytest

CANCEL = "abort_request"


class Cluster:
    """As much of a Cluster as cancel() uses."""

    def __init__(self, works=True):
        self.works = works
        self.restarted = []

    def restart_engine_sync(self, engine_id):
        self.restarted.append(engine_id)
        if not self.works:
            raise RuntimeError("not mine")


@pytest.fixture
def wait_until():
    def wait(condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)

    return wait


@pytest.fixture
def sent(core):
    """sent(msg_type): engine and content of each such request."""

    def find(msg_type):
        return [(s[1], s[3]) for s in core.sent if s[2] == msg_type]

    return find


@pytest.fixture
def running(rc, core):
    """A call that runs on engine 3; engines of ours answer that they hit it."""
    core.hold = True
    ar = rc[3].apply_async(len, "a")
    core.answers[CANCEL] = {"roundhouse": {"interrupted": ar.msg_id}}
    return ar


def test_an_engine_of_ours_does_it_all(running, core, sent):
    running.cancel(grace=2.5, kill=True)
    core.settle()
    wish = {"interrupt": True, "kill_ms": 2500}
    assert sent(CANCEL) == [("u3", {"msg_ids": [running.msg_id], "roundhouse": wish})]
    assert not sent("signal_request")


def test_a_cluster_restarts_what_does_not_stop(rc, running, sent, wait_until):
    rc.cluster = Cluster()
    running.cancel(grace=0.01, kill=True)
    wait_until(lambda: rc.cluster.restarted == [3])
    assert sent(CANCEL)[0][1]["roundhouse"] == {"interrupt": True}


def test_what_stops_in_time_is_not_restarted(rc, core, running, monkeypatch):
    later = []
    monkeypatch.setattr(
        "roundhouse.client.cancel.threading.Timer",
        lambda *a: later.append(a) or Timer(),
    )
    rc.cluster = Cluster()
    other = rc[1].apply_async(len, "b")
    running.cancel(kill=True)
    core.settle()
    core.requests[0].error("KeyboardInterrupt", "")
    ((grace, act, args),) = later
    act(*args)
    assert grace == 5.0 and rc.cluster.restarted == [] and not other.done()


class Timer:
    def start(self):
        pass


def test_engines_of_others_are_killed_only(rc, running, sent, wait_until, caplog):
    rc.cluster = Cluster(works=False)
    running.cancel(grace=0.01, kill=True)
    wait_until(lambda: len(sent(CANCEL)) == 2)
    assert sent(CANCEL)[1][1]["roundhouse"] == {"interrupt": True, "kill_ms": 0}
    assert "only killed: not mine" in caplog.text


@pytest.mark.parametrize("begun", [True, False])
def test_other_engines_get_signals(core, running, sent, begun, wait_until):
    core.answers[CANCEL] = {}
    core.requests[0].begun = begun
    running.cancel(grace=0.01, kill=True)
    core.settle()
    if begun:
        wait_until(lambda: len(sent("signal_request")) == 2)
    assert sent("signal_request") == [
        ("u3", {"sig": name}) for name in ("SIGINT", "SIGKILL") if begun
    ]


def test_an_engine_that_does_not_answer_gets_one_signal(
    core, running, sent, wait_until, monkeypatch
):
    """Those before ipyparallel 9 do not answer while they work."""
    monkeypatch.setattr("roundhouse.client.cancel._ANSWER_S", 0.01)
    core.hold_types.add(CANCEL)
    core.requests[0].begun = True
    running.cancel()
    wait_until(lambda: sent("signal_request"))
    core.requests[1].finish({"status": "ok"})
    core.settle()
    assert sent("signal_request") == [("u3", {"sig": "SIGINT"})]


def test_engines_that_are_gone_are_not_asked(rc, core, sent):
    core.hold = True
    ar = rc[:].apply_async(len, "a")
    core.change_engines(left=[(1, "u1")])
    assert ar.cancel() and ar.cancelled()
    assert [uuid for uuid, _ in sent(CANCEL)] == ["u0", "u3"]
