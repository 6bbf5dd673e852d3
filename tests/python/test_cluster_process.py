"""Processes: watched to their end, signalled safely, swept with their group."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from roundhouse.cluster import process as module
from roundhouse.cluster.process import Process, start_key, tail_of

PYTHON = [sys.executable, "-S", "-c"]


def spawn(code, tmp_path, **kwargs):
    return Process.spawn(
        [*PYTHON, code],
        env=dict(os.environ),
        cwd=str(tmp_path),
        output=str(tmp_path / "out.log"),
        **kwargs,
    )


def wait_until(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


@pytest.fixture(params=["pidfd", "threads"])
def watching(request, monkeypatch):
    """Both ways of noticing an end."""
    if request.param == "threads":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no pidfd")
    return request.param


@pytest.mark.parametrize(
    "code, expected",
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -9),
    ],
)
def test_exit_code(watching, tmp_path, code, expected):
    p = spawn(code, tmp_path)
    assert p.join(30)
    assert p.exit_code == expected
    assert not p.running


def test_callbacks_run_once_and_late_ones_too(watching, tmp_path):
    calls = []
    p = spawn("input()", tmp_path)  # stdin is empty: ends at once
    p.on_end(calls.append)
    assert p.join(30)
    wait_until(lambda: calls, "the callback")
    p.on_end(calls.append)
    assert calls == [p, p]


def test_a_bad_callback_does_not_stop_the_watcher(watching, tmp_path, capfd):
    def bad(_):
        raise ZeroDivisionError

    p = spawn("import time; time.sleep(60)", tmp_path)
    p.on_end(bad)
    p.signal(signal.SIGTERM)
    assert p.join(30)
    assert spawn("pass", tmp_path).join(30)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_wait_in_a_loop_times_out_and_then_ends(watching, tmp_path):
    p = spawn("import time; time.sleep(60)", tmp_path)

    async def main():
        assert not await p.wait(0.05)
        p.signal(signal.SIGKILL)
        assert await p.wait(30)

    asyncio.run(main())
    assert p.exit_code == -signal.SIGKILL


def test_end_after_the_waiting_loop_is_closed(watching, tmp_path):
    p = spawn("import time; time.sleep(60)", tmp_path)
    asyncio.run(p.wait(0.01))
    p.signal(signal.SIGKILL)
    assert p.join(30)


def test_attach_to_a_stranger(watching, tmp_path):
    # The grandchild is nobody's child here.
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-S', '-c',"
        "'import time; time.sleep(60)'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,"
        "start_new_session=True); print(p.pid, flush=True)"
    )
    pid = int(subprocess.run([*PYTHON, code], capture_output=True, check=True).stdout)
    p = Process.attach(pid, start_key(pid))
    assert p.running
    p.signal(signal.SIGTERM)
    assert p.join(30)
    assert p.exit_code is None


def test_attach_refuses_another_process_of_the_same_id(tmp_path):
    p = spawn("import time; time.sleep(60)", tmp_path)
    try:
        with pytest.raises(ProcessLookupError):
            Process.attach(p.pid, p.start_key + "1")
        assert Process.is_running(p.pid, p.start_key)
        assert not Process.is_running(p.pid, p.start_key + "1")
    finally:
        p.kill()
        p.join(30)
    with pytest.raises(ProcessLookupError):
        Process.attach(p.pid)


def test_an_unreaped_child_counts_as_ended(tmp_path):
    popen = subprocess.Popen([*PYTHON, "pass"])
    wait_until(lambda: not Process.is_running(popen.pid), "the end")
    with pytest.raises(ProcessLookupError):
        Process.attach(popen.pid)
    popen.wait()


def test_signal_after_the_end_is_false(watching, tmp_path):
    p = spawn("pass", tmp_path)
    assert p.join(30)
    assert p.signal(signal.SIGTERM) is False
    p.kill()


@pytest.mark.parametrize("stubborn", [False, True])
def test_sweep_ends_what_a_process_left(watching, tmp_path, stubborn):
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
    child = f"import signal, time; {ignore} print('ready', flush=True); time.sleep(60)"
    code = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-S', '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    p = spawn(code, tmp_path)
    wait_until(
        lambda: tail_of(str(tmp_path / "out.log"), 1).endswith("\n"), "the child"
    )
    child_pid = int(tail_of(str(tmp_path / "out.log"), 1))
    assert Process.is_running(child_pid)

    async def stop():
        p.sweep_group = True
        p.signal(signal.SIGTERM)
        await p.wait()
        await p.sweep()

    asyncio.run(stop())
    wait_until(lambda: not Process.is_running(child_pid), "the end of the child")


def test_children_have_their_own_session(tmp_path):
    p = spawn("import os; print(os.getsid(0) == os.getpid())", tmp_path)
    assert p.join(30)
    assert tail_of(str(tmp_path / "out.log"), 0) == "True\n"


def test_output_is_private_and_appended(tmp_path):
    for _ in range(2):
        assert spawn("print('x')", tmp_path).join(30)
    path = tmp_path / "out.log"
    assert path.read_text() == "x\nx\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_descriptor_and_no_thread_per_process_is_left(tmp_path):
    assert spawn("pass", tmp_path).join(30)  # makes the watcher
    before = len(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    ps = [spawn("pass", tmp_path) for _ in range(10)]
    assert all(p.join(30) for p in ps)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "descriptors closed")
    assert threading.active_count() == threads


def test_a_forked_child_has_no_watcher_of_its_parent(tmp_path):
    p = spawn("import time; time.sleep(60)", tmp_path)
    pid = os.fork()
    if pid == 0:
        ok = module._the_watcher is None and spawn("pass", tmp_path).join(30)
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert p.running
    p.kill()
    assert p.join(30)


@pytest.mark.parametrize(
    "text, lines, limit, expected",
    [
        ("", 3, 100, ""),
        ("a\nb\nc\n", 2, 100, "b\nc\n"),
        ("a\nb\nc", 0, 100, "a\nb\nc"),
        ("aaaa\nbbbb\ncccc\n", 9, 12, "bbbb\ncccc\n"),
        ("x" * 50, 9, 10, "x" * 10),
    ],
)
def test_tail_of(tmp_path, text, lines, limit, expected):
    path = tmp_path / "f"
    path.write_text(text)
    assert tail_of(str(path), lines, limit) == expected


def test_tail_of_nothing(tmp_path):
    assert tail_of(str(tmp_path / "none"), 5) == ""
