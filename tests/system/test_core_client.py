"""The client core, driven without the Python API above it."""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
from roundhouse import _core

PATIENCE = 60


def call(f, *args):
    """The buffers of f(*args)."""
    shape = {"nargs": len(args), "narg_bufs": len(args), "kw_keys": []}
    return [pickle.dumps(x) for x in (f, shape, *args)]


def code(text, **kwargs):
    content = {"code": text, "silent": False, "user_expressions": {}, **kwargs}
    return json.dumps(content).encode()


class Driver:
    """A core client with its background thread."""

    def __init__(self, controller):
        self.core = _core.Client(controller.client_file.read_text(), timeout=PATIENCE)
        self.events: list[tuple[str, object]] = []
        self.thread = threading.Thread(
            target=self.core.run, args=(lambda *e: self.events.append(e),), daemon=True
        )
        self.thread.start()

    def apply(self, uuid, f, *args, **kwargs):
        channel = _core.TASK if uuid is None else _core.MUX
        return self.core.submit(
            channel, uuid, "apply_request", b"{}", b"{}", call(f, *args), **kwargs
        )

    def execute(self, uuid, text):
        return self.core.submit(_core.MUX, uuid, "execute_request", code(text), b"{}")

    def finish(self, *requests, output=True):
        assert self.core.wait(requests, PATIENCE, output=output)
        return requests[0]

    def value(self, request):
        self.finish(request, output=False)
        assert request.status == "ok", request.content
        return pickle.loads(request.buffers[0])

    def close(self):
        self.core.close()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def start_engine(controller, start_process):
    def start():
        args = [sys.executable, "-m", "roundhouse.engine"]
        args += [f"--profile-dir={controller.profile_dir}", "--cluster-id="]
        return start_process(args, "engine", env=controller.env)

    return start


@pytest.fixture
def driver(controller):
    driver = Driver(controller)
    yield driver
    driver.close()


@pytest.fixture
def engines(driver, start_engine):
    """uuids of two engines, and their processes by uuid."""
    processes = [start_engine() for _ in range(2)]
    while len(found := driver.core.engines()) < 2:
        assert driver.core.wait_engines(driver.core.engines_version, PATIENCE)
    uuids = [found[i] for i in sorted(found)]
    pids = {u: driver.value(driver.apply(u, os.getpid)) for u in uuids}
    by_pid = {p.pid: p for p in processes}
    return {u: by_pid[pid] for u, pid in pids.items()}


@pytest.fixture
def engine(engines):
    return next(iter(engines))


def test_apply_and_what_can_be_read(driver, engine):
    before = time.time()
    request = driver.apply(engine, len, [1, 2, 3])
    assert driver.value(request) == 3
    driver.finish(request)
    assert (request.done, request.output_done, request.status) == (True, True, "ok")
    assert request.engine_uuid == engine
    header = json.loads(request.header)
    assert header["msg_id"] == request.msg_id
    assert header["session"] == driver.core.session
    assert json.loads(request.reply_header)["msg_type"] == "apply_reply"
    assert json.loads(request.metadata)["engine"] == engine
    assert json.loads(request.content)["status"] == "ok"
    assert before - 1 < request.submitted <= request.received < time.time() + 1
    assert (request.stdout, request.stderr) == ("", "")
    view = request.buffers[0]
    assert view.readonly
    del request
    gc.collect()
    assert pickle.loads(view) == 3  # the view keeps the bytes


def test_output_in_order(driver, engine):
    text = "import sys; print('out \u20ac'); print('err', file=sys.stderr); 6 * 7"
    request = driver.finish(driver.execute(engine, text))
    assert request.stdout == "out \u20ac\n"
    assert request.stderr == "err\n"
    kinds = [output[0] for output in request.outputs]
    assert kinds[0] == "execute_input"
    assert kinds.count("stream") == 2
    kind, header, _, content, buffers = request.outputs[-1]
    assert kind == json.loads(header)["msg_type"] == "execute_result"
    assert json.loads(content)["data"]["text/plain"] == "42"
    assert buffers == ()


def test_errors_come_back(driver, engine):
    request = driver.finish(driver.execute(engine, "1 / 0"))
    assert request.status == "error"
    assert json.loads(request.content)["ename"] == "ZeroDivisionError"


def test_errors_of_the_scheduler(driver, engine):
    metadata = json.dumps({"after": ["never-heard-of"]}).encode()
    request = driver.core.submit(
        _core.TASK, None, "apply_request", b"{}", metadata, call(len, ())
    )
    driver.finish(request)  # no engine saw it, so no output will come
    assert json.loads(request.content)["ename"] == "InvalidDependency"


def test_abort(driver, engine):
    first = driver.apply(engine, time.sleep, 0.5)
    rest = [driver.apply(engine, time.sleep, 0.5) for _ in range(2)]
    body = json.dumps({"msg_ids": [r.msg_id for r in rest]}).encode()
    abort = driver.core.submit(_core.CONTROL, engine, "abort_request", body, b"{}")
    driver.finish(abort, first, *rest)
    assert [r.status for r in (abort, first, *rest)] == [
        "ok",
        "ok",
        "aborted",
        "aborted",
    ]


def test_many_tasks(driver, engines):
    requests = [driver.apply(None, len, range(i % 7)) for i in range(10_000)]
    driver.finish(*requests, output=False)
    assert all(pickle.loads(r.buffers[0]) == i % 7 for i, r in enumerate(requests))
    driver.finish(*requests)


def test_wait_for_some(driver, engines):
    a, b = engines
    slow = driver.apply(a, time.sleep, 30)
    fast = driver.apply(b, len, ())
    assert driver.core.wait([slow, fast], PATIENCE, count=1)
    assert (slow.done, fast.done) == (False, True)
    assert not driver.core.wait([slow, fast], 0)
    assert not driver.core.wait([slow], 0.05)
    engines[a].kill()


@pytest.mark.parametrize("coalescing", [False, True])
def test_broadcast(driver, engines, coalescing):
    pairs = [[uuid, i] for i, uuid in driver.core.engines().items()]
    metadata = {"targets": pairs, "is_broadcast": True, "is_coalescing": coalescing}
    msg_id = driver.core.next_msg_id()
    request = driver.core.submit(
        _core.BROADCAST,
        None,
        "apply_request",
        b"{}",
        json.dumps(metadata).encode(),
        call(os.getpid),
        msg_id=msg_id,
        expect=[(f"{msg_id}_{uuid}", uuid) for uuid, _ in pairs],
        coalescing=coalescing,
    )
    driver.finish(request)
    parts = driver.core.broadcast_parts(request)
    pids = {pickle.loads(b) for part in parts for b in part.buffers}
    assert pids == {p.pid for p in engines.values()}
    assert len(parts) == (1 if coalescing else 2)
    assert (parts[0] is request) == coalescing
    assert driver.core.broadcast_parts(request)[0] is parts[0]


def test_the_death_of_an_engine(driver, engines):
    uuid, process = next(iter(engines.items()))
    number = next(i for i, u in driver.core.engines().items() if u == uuid)
    requests = [driver.apply(uuid, time.sleep, 100) for _ in range(3)]
    process.kill()
    driver.finish(*requests)
    for request in requests:
        content = json.loads(request.content)
        assert content["ename"] == "EngineError"
        # The controller may be faster than the client to say so.
        assert content["evalue"].startswith(f"Engine {number} ")
        assert request.engine_uuid == uuid
    version = driver.core.engines_version
    while uuid in driver.core.engines().values():  # the news takes another way
        assert driver.core.wait_engines(version, PATIENCE)
        version = driver.core.engines_version
    late = driver.apply(uuid, len, ())
    assert late.done and late.output_done
    assert "is not registered" in json.loads(late.content)["evalue"]


def test_the_death_of_the_controller(start_controller, start_process):
    controller = start_controller("--restore")
    driver = Driver(controller)
    args = [sys.executable, "-m", "roundhouse.engine"]
    args += [f"--profile-dir={controller.profile_dir}", "--cluster-id="]
    start_process(args, "engine", env=controller.env)
    while not driver.core.engines():
        driver.core.wait_engines(driver.core.engines_version, PATIENCE)
    uuid = driver.core.engines()[0]
    pid = driver.value(driver.apply(uuid, os.getpid))
    pending = driver.apply(uuid, time.sleep, 0.5)
    controller.kill()
    driver.finish(pending)
    assert json.loads(pending.content)["ename"] == "ConnectionLost"
    start_controller("--restore", ipython_dir=controller.ipython_dir)
    assert driver.value(driver.apply(uuid, os.getpid)) == pid
    driver.close()


def test_events(driver, engines, wait_until):
    def engine_events():
        return [e[1] for e in driver.events if e[0] == "engines"]

    def joined():
        return {pair[1] for j, _ in engine_events() for pair in j}

    wait_until(lambda: set(engines) == joined(), what="all engines joined")
    process = next(iter(engines.values()))
    process.kill()
    wait_until(lambda: any(left for _, left in engine_events()), what="engine left")


def test_callbacks_run_once(driver, engine):
    called: list[_core.Request] = []
    done = threading.Event()

    def on_done(request):
        called.append(request)
        done.set()

    request = driver.apply(engine, len, ())
    request.set_callback(on_done)
    assert done.wait(PATIENCE)
    assert called == [request] and request.done
    done.clear()
    request.set_callback(on_done)  # done already
    assert done.wait(PATIENCE)
    assert len(called) == 2


def test_output_callbacks(driver, engine):
    seen: list[str] = []
    request = driver.execute(
        engine, "import time\nfor i in range(3): print(i, flush=True); time.sleep(0.1)"
    )
    request.set_output_callback(lambda r: seen.append(r.stdout))
    driver.finish(request)
    deadline = time.monotonic() + PATIENCE
    while (not seen or seen[-1] != "0\n1\n2\n") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert seen[-1] == "0\n1\n2\n"


def test_requests_are_let_go(driver, engine):
    request = driver.apply(engine, len, ())
    ref = weakref.ref(request)
    request.set_callback(lambda r: None)
    driver.finish(request)
    del request
    deadline = time.monotonic() + PATIENCE
    while ref() is not None and time.monotonic() < deadline:
        time.sleep(0.01)  # until the event was served
    assert ref() is None


def test_big_buffers_are_not_copied_away(driver, engine):
    data = bytearray(5_000_000)
    request = driver.core.submit(
        _core.MUX,
        engine,
        "apply_request",
        b"{}",
        b"{}",
        [
            *call(len, ())[:1],
            pickle.dumps({"nargs": 1, "narg_bufs": 1, "kw_keys": []}),
            data,
        ],
        track=True,
    )
    assert request.wait_sent(PATIENCE) and request.sent
    driver.finish(request)  # unpickling zeros fails, which is an answer too
    assert request.status == "error"
    gc.collect()
    data.append(1)  # nobody holds a view any more


def test_ctrl_c_leaves_everything_usable(driver, engine):
    request = driver.apply(engine, time.sleep, 1.5)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        driver.core.wait([request])
        time.sleep(PATIENCE)
    timer.join()
    assert driver.value(request) is None


def test_children_of_fork_are_told(driver, engine):
    request = driver.apply(engine, len, ())
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            driver.core.wait([request])
        except RuntimeError as e:
            status = 0 if "fork" in str(e) else 2
        finally:
            driver.core.close()
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert driver.value(request) == 0


def test_closing_ends_every_wait(controller, start_engine):
    driver = Driver(controller)
    start_engine()
    while not driver.core.engines():
        driver.core.wait_engines(driver.core.engines_version, PATIENCE)
    request = driver.apply(driver.core.engines()[0], time.sleep, 100)
    results: list[object] = []

    def wait_engines():
        try:
            driver.core.wait_engines(driver.core.engines_version)
        except RuntimeError as e:
            results.append(str(e))

    threads = [
        threading.Thread(target=lambda: results.append(driver.core.wait([request]))),
        threading.Thread(target=wait_engines),
    ]
    for t in threads:
        t.start()
    time.sleep(0.2)
    driver.close()
    for t in threads:
        t.join(PATIENCE)
    assert sorted(map(str, results)) == ["True", "the client was closed"]
    assert json.loads(request.content)["ename"] == "ClientClosed"
    assert driver.core.closed
    with pytest.raises(RuntimeError, match="closed"):
        driver.apply(None, len, ())
    called: list[object] = []
    request.set_callback(called.append)
    assert called == [request]


def test_leaving_with_everything_open(controller, start_engine, driver):
    start_engine()
    while not driver.core.engines():
        driver.core.wait_engines(driver.core.engines_version, PATIENCE)
    program = f"""
import pickle, threading
from roundhouse import _core
client = _core.Client(open({str(controller.client_file)!r}).read())
threading.Thread(target=client.run, args=(print,), daemon=True).start()
request = client.submit(_core.TASK, None, "apply_request", b"{{}}", b"{{}}", {call(time.sleep, 5)!r})
request.set_callback(print)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(
    "ROUNDHOUSE_SANITIZED" in os.environ, reason="sanitizers keep freed memory"
)
def test_memory_stays_flat(driver, engine):
    def resident():
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def calls(n):
        for i in range(n):
            request = driver.apply(engine, len, ())
            if i % 10 == 0:
                driver.finish(request, output=False)
        driver.finish(request)

    calls(5000)
    before = resident()
    calls(20_000)
    assert resident() - before < 8 << 20


def test_what_is_refused(driver, engine, wait_until):
    submit = driver.core.submit
    with pytest.raises(ValueError, match="uuid"):
        submit(_core.MUX, None, "x", b"", b"")
    with pytest.raises(ValueError, match="channel 9"):
        submit(9, None, "x", b"", b"")
    with pytest.raises(TypeError, match="content"):
        submit(_core.MUX, engine, "x", "text", b"")
    with pytest.raises(TypeError, match="bytes-like"):
        submit(_core.MUX, engine, "x", b"", b"", [1])
    with pytest.raises(TypeError, match="item 0"):
        driver.core.wait([1])
    with pytest.raises(ValueError, match="number"):
        driver.core.wait([], float("nan"))
    wait_until(lambda: driver.events, what="run() is running")
    with pytest.raises(RuntimeError, match="already"):
        driver.core.run(print)
    with pytest.raises(TypeError):
        _core.Request()
    with pytest.raises(_core.ProtocolError):
        _core.Client("{}")


def test_a_wrong_key_is_named(controller):
    info = {**controller.client_info, "key": "wrong"}
    with pytest.raises(TimeoutError, match="connection file"):
        _core.Client(json.dumps(info), timeout=0.3)
