"""Blocking twins: results, errors, interrupts and clean-up."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import roundhouse
from roundhouse.cluster.aio import Syncable, maybe_await, run_sync


class Thing(Syncable):
    async def double(self, x, *, plus=0):
        """Twice as much."""
        await asyncio.sleep(0)
        return 2 * x + plus

    async def fail(self):
        raise ZeroDivisionError("as asked")

    async def outer(self):
        return self.double_sync(1)

    async def nothing(self):
        return None

    def nothing_sync(self):
        return "its own"

    def plain(self):
        return 1


def test_result_and_error():
    assert Thing().double_sync(3, plus=1) == 7
    with pytest.raises(ZeroDivisionError, match="as asked"):
        Thing().fail_sync()


def test_names_and_signature():
    import inspect

    assert Thing.double_sync.__name__ == "double_sync"
    assert "Twice as much." in Thing.double_sync.__doc__
    assert str(inspect.signature(Thing.double_sync)) == "(self, x, *, plus=0)"
    assert not inspect.iscoroutinefunction(Thing.double_sync)
    assert not hasattr(Thing, "plain_sync")
    assert Thing().nothing_sync() == "its own"


def test_a_twin_called_by_a_coroutine_of_the_same_loop_is_refused():
    with pytest.raises(RuntimeError, match="await its twin"):
        Thing().outer_sync()


def test_many_threads_at_once():
    results = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(Thing().double_sync(i)))
        for i in range(20)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(results) == list(range(0, 40, 2))


def test_maybe_await():
    assert run_sync(maybe_await(5)) == 5
    assert run_sync(maybe_await(Thing().double(5))) == 10


def test_after_a_fork():
    Thing().double_sync(1)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if Thing().double_sync(2) == 4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_interrupt_cancels_and_waits_for_clean_up():
    code = """
import asyncio, sys
from roundhouse.cluster.aio import run_sync

async def work():
    try:
        print("working", flush=True)
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0.05)
        print("clean", flush=True)

try:
    run_sync(work())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(roundhouse.__file__).parent.parent)}
    p = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env=env,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert p.stdout.readline() == "working\n"
    p.send_signal(signal.SIGINT)
    assert p.communicate()[0] == "clean\ninterrupted\n"
    assert p.returncode == 0


def test_without_a_background_thread(monkeypatch):
    """As when the interpreter is ending and no thread can be started."""
    from roundhouse.cluster import aio

    monkeypatch.setattr(aio, "_get_thread", lambda: None)
    assert Thing().double_sync(4) == 8
