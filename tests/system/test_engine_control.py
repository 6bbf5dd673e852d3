"""Control while code runs: abort, clear, signals, the ways an engine ends."""

from __future__ import annotations

import os
import signal
import time

import pytest
from engine_kit import RemoteFailure

pytest_plugins = ("engine_kit",)


def wait_for_file(path):
    """Runs on the engine: say that it runs, then wait."""
    import os
    import time

    print("running", flush=True)
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"


@pytest.fixture
def busy(kit, tmp_path):
    """(message id of a call that runs, function that lets it end)"""
    path = tmp_path / "go"
    msg_id = kit.send(wait_for_file, str(path))
    while kit.next_output(msg_id).type != "stream":
        pass
    return msg_id, path.touch


def test_abort_by_id_is_answered_at_once(kit, busy):
    running, go = busy
    waiting = [kit.send(len, "x") for _ in range(3)]
    reply = kit.control("abort_request", {"msg_ids": [waiting[0], waiting[2], running]})
    assert reply.type == "abort_reply"
    assert reply.content == {"status": "ok"}
    assert reply.metadata == {"engine": kit.uuid}
    go()
    assert kit.result(running) == "done"
    for i, msg_id in enumerate(waiting):
        m = kit.reply(msg_id)
        status = "ok" if i == 1 else "aborted"
        assert m.content["status"] == m.metadata["status"] == status
        if status == "aborted":
            assert m.content == {"status": "aborted"} and not m.buffers
    # The same id is not held against a later request.
    assert kit.call(len, "abc") == 3


@pytest.mark.parametrize("msg_ids", [None, []])
def test_abort_of_all_that_waits(kit, busy, msg_ids):
    running, go = busy
    waiting = [kit.send(len, "x"), kit.send_execute("1")]
    # On another connection than the abort: give them time to arrive.
    time.sleep(0.5)
    assert kit.control("abort_request", {"msg_ids": msg_ids}).content == {
        "status": "ok"
    }
    later = kit.send(len, "later")
    go()
    assert kit.result(running) == "done"
    for msg_id in waiting:
        assert kit.reply(msg_id).content == {"status": "aborted"}
    assert kit.result(later) == 5


def test_clear_is_done_between_jobs(kit, busy):
    _, go = busy
    msg_id = kit.client.send("control", "clear_request", {}, target=kit.uuid)
    assert kit.client.recv("control", 0.3) is None
    go()
    assert kit.client.recv_parent("control", msg_id).content == {"status": "ok"}
    kit.call(exec, "x = 1")
    assert kit.call(eval, "x") == 1
    assert kit.control("clear_request").content == {"status": "ok"}
    with pytest.raises(RemoteFailure, match="NameError"):
        kit.call(eval, "x")
    assert callable(kit.call(eval, "len"))  # builtins are there


def test_interrupt(kit, busy):
    running, _ = busy
    reply = kit.control("signal_request", {"sig": "SIGINT"})
    assert reply.type == "_request"
    assert reply.content == {"status": "ok"} and reply.metadata == {}
    assert kit.reply(running).content["ename"] == "KeyboardInterrupt"
    # The next job is not hit by an old signal.
    for sig in (signal.SIGINT.value, "SIGINT", "INT"):
        assert kit.control("signal_request", {"sig": sig}).content["status"] == "ok"
        assert kit.call(sum, range(1000)) == 499500
    assert kit.control("interrupt_request").content["status"] == "ok"


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(600)"])
def test_interrupt_of_any_code(kit, code):
    msg_id = kit.send(exec, "print('running', flush=True)\n" + code)
    while kit.next_output(msg_id).type != "stream":
        pass
    kit.control("signal_request", {"sig": 2})
    assert kit.reply(msg_id).content["ename"] == "KeyboardInterrupt"


def test_handlers_of_user_code(kit):
    """asyncio.run installs and removes handlers of its own."""
    kit.call(
        exec, "import asyncio\nasync def f(): await asyncio.sleep(0)\nasyncio.run(f())"
    )
    kit.process.send_signal(signal.SIGINT)  # idle: ignored
    assert kit.call(len, "x") == 1
    kit.call(
        exec,
        "import signal; got = []; signal.signal(signal.SIGUSR1, lambda *a: got.append(1))",
    )
    kit.control("signal_request", {"sig": "SIGUSR1"})
    assert kit.call(eval, "got") == [1]


@pytest.mark.parametrize("sig", ["SIGFOO", -3, 4711, None, [1], {}])
def test_signals_that_do_not_exist(kit, sig):
    content = kit.control("signal_request", {"sig": sig}).content
    assert content["status"] == "error"
    assert content["ename"] == "ValueError"
    assert content["engine_info"]["engine_id"] == kit.id


def test_ctrl_c_in_the_terminal(kit, busy):
    running, _ = busy
    kit.process.send_signal(signal.SIGINT)
    assert kit.reply(running).content["ename"] == "KeyboardInterrupt"
    kit.process.send_signal(signal.SIGINT)
    assert kit.call(len, "x") == 1


def gone(kit):
    return not kit.client.engines()


def test_shutdown(kit, wait_until):
    notes = kit.client.socket("notification")
    reply = kit.control("shutdown_request", {"restart": False})
    assert reply.content == {"status": "ok", "restart": False}
    assert kit.process.wait() == 0
    wait_until(lambda: gone(kit), what="unregistration")
    while True:
        m = kit.client.recv("iopub")
        if m.type == "shutdown_reply":
            break
    assert m.idents == [f"engine.{kit.id}.shutdown".encode()]
    assert m.content == {"status": "ok", "restart": False}
    assert m.header["session"] == kit.uuid
    assert notes.poll(60000)


def test_shutdown_answers_what_runs_and_what_waits(kit, busy):
    running, _ = busy
    waiting = kit.send(len, "x")
    time.sleep(0.5)  # until it is there
    kit.control("shutdown_request", {})  # restart is optional for us
    assert kit.reply(running).content["ename"] == "KeyboardInterrupt"
    assert kit.reply(waiting).content == {"status": "aborted"}
    assert kit.process.wait() == 0


def test_code_that_will_not_stop_is_stopped(start_engine, wait_until):
    kit = start_engine("--IPEngine.shutdown_grace=0.3")
    msg_id = kit.send(
        exec,
        "import time; print('x', flush=True)\n"
        "while True:\n"
        "    try:\n"
        "        while True: time.time()\n"
        "    except KeyboardInterrupt: pass\n",
    )
    while kit.next_output(msg_id).type != "stream":
        pass
    kit.control("shutdown_request", {"restart": False})
    assert kit.process.wait() == 0
    wait_until(lambda: gone(kit), what="unregistration")
    assert "did not stop" in kit.process.log()


def test_sigterm(kit, wait_until):
    kit.process.send_signal(signal.SIGTERM)
    assert kit.process.wait() == 0
    wait_until(lambda: gone(kit), what="unregistration")


def test_sigterm_of_a_child_is_not_ours(kit):
    def child():
        import multiprocessing
        import time

        p = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        p.start()
        p.terminate()
        p.join()
        return p.exitcode

    assert kit.call(child) == -signal.SIGTERM
    assert kit.call(len, "x") == 1


@pytest.mark.parametrize("sig", ["SIGKILL", "SIGTERM"])
def test_deadly_signals_are_answered_first(kit, sig, wait_until):
    assert kit.control("signal_request", {"sig": sig}).content == {"status": "ok"}
    assert kit.process.wait() == (0 if sig == "SIGTERM" else -signal.SIGKILL)
    wait_until(lambda: gone(kit), what="unregistration")


def test_kill_is_noticed_by_the_lifeline(start_engine, wait_until):
    """No heartbeat could tell within the patience of this test."""
    kit = start_engine(controller_options=["--ping=600000"])
    kit.process.kill()
    wait_until(lambda: gone(kit), what="unregistration")


def test_a_child_does_not_hold_the_lifeline(start_engine, wait_until):
    kit = start_engine(controller_options=["--ping=600000"])

    def fork():
        import os
        import time

        pid = os.fork()
        if pid == 0:
            time.sleep(600)
        return pid

    child = kit.call(fork)
    try:
        kit.process.kill()
        wait_until(lambda: gone(kit), what="unregistration")
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_loss_of_the_controller(start_engine, start_controller):
    controller = start_controller("--ping=50")
    kit = start_engine("--IPEngine.max_heartbeat_misses=2", controller=controller)
    controller.kill()
    assert kit.process.wait() == 0
    assert "no heartbeat" in kit.process.log()


def test_unknown_requests(kit):
    kit.client.send("control", "no_such_request", {}, target=kit.uuid)
    kit.client.send("mux", "no_such_request", {}, target=kit.uuid)
    assert kit.control("kernel_info_request").content["status"] == "ok"
    content = kit.ask("kernel_info_request").content
    assert content["protocol_version"].startswith("5.")
    assert content["language_info"]["name"] == "python"
    assert "no such" in kit.process.log()
