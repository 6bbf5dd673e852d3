"""Engines, controllers and clients that come, go and die."""

import gc
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import roundhouse as ipp

pytest_plugins = ["cluster_fixtures"]


def test_engines_come_and_go(start_cluster, wait_until):
    c = start_cluster(1)
    assert c.rc.ids == [0]
    every, now = c.rc.direct_view(), c.rc[:]
    future = c.rc.wait_for_engines(2, block=False)
    c.add_engine()
    assert future.result(60) is None
    assert c.rc.ids == [0, 1]
    assert len(every.apply_sync(os.getpid)) == 2 and len(now.apply_sync(os.getpid)) == 1
    c.rc.shutdown([0], block=True)
    wait_until(lambda: c.rc.ids == [1])
    with pytest.raises(IndexError, match="No such engine: 0"):
        now.apply(os.getpid)
    assert len(every.apply_sync(os.getpid)) == 1
    assert c.engines[0].wait(30) == 0


def test_waiting_for_engines_in_vain(start_cluster):
    c = start_cluster(1)
    with pytest.raises(TimeoutError, match="Currently ready: 1"):
        c.rc.wait_for_engines(5, timeout=0.2)
    future = c.rc.wait_for_engines(5, block=False)
    c.engines[0].kill()
    with pytest.raises(ipp.EngineError, match="Engine 0 left"):
        future.result(60)


def test_no_engines(start_cluster):
    c = start_cluster(0)
    with pytest.raises(ipp.NoEnginesRegistered):
        c.rc[:].apply(len, "")
    ar = c.rc.load_balanced_view().apply_async(len, "abc")
    assert not ar.ready()
    c.add_engine()
    assert ar.get(60) == 3


def test_engine_is_killed(start_cluster, wait_until):
    c = start_cluster(2)
    pids = c.pids()
    direct = c.rc[0].apply_async(time.sleep, 600)
    other = c.rc[1].apply_async(time.sleep, 0.1)
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(ipp.RemoteError, match="Engine 0 died") as e:
        direct.get(60)
    assert e.value.ename == "EngineError"
    assert direct.wait_for_output(60)
    assert other.get(60) is None
    wait_until(lambda: c.rc.ids == [1])


def test_task_of_a_killed_engine_is_retried(start_cluster):
    c = start_cluster(2)
    lv = c.rc.load_balanced_view(retries=1)
    suicide = c.rc.load_balanced_view()
    ns = {"__name__": "__main__"}
    exec(
        "def f(path):\n"
        " import os, signal\n"
        " if not os.path.exists(path):\n"
        "  open(path, 'w').close(); os.kill(os.getpid(), signal.SIGKILL)\n"
        " return 'done'\n",
        ns,
    )
    path = str(c.folder / "died")
    assert lv.apply_async(ns["f"], path).get(60) == "done"
    os.unlink(path)
    with pytest.raises(ipp.RemoteError, match="died while running task"):
        suicide.apply_async(ns["f"], path).get(60)


def test_hub_is_shut_down(start_cluster):
    c = start_cluster(1)
    watching = c.client()
    c.rc.shutdown(hub=True)
    assert c.controller.wait(30) == 0
    assert c.engines[0].wait(30) == 0
    for rc in (c.rc, watching):
        rc._io_thread.join(30)
        assert not rc._io_thread.is_alive()
        with pytest.raises(OSError, match="closed"):
            rc[:]


def test_pending_work_fails_when_the_client_closes(start_cluster):
    c = start_cluster(1)
    rc = c.client()
    rc.wait_for_engines(1, timeout=30)
    ar = rc[0].apply_async(time.sleep, 600)
    waiter = threading.Thread(target=ar.wait)
    waiter.start()
    rc.close()
    waiter.join(30)
    assert not waiter.is_alive()
    with pytest.raises(ipp.RemoteError, match="ClientClosed"):
        ar.get(30)
    c.rc.send_signal("SIGINT", block=True)


def run_script(cluster, code, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(cluster.client_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def test_ctrl_c_in_a_blocking_call(start_cluster):
    c = start_cluster(1)
    p = run_script(
        c,
        """
        import sys, time, roundhouse as ipp
        rc = ipp.Client(sys.argv[1])
        rc.wait_for_engines(1, timeout=60)
        ar = rc[0].apply_async(time.sleep, 600)
        print("waiting", flush=True)
        try:
            ar.get()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        print(type(rc[0].apply_sync(time.sleep, 600)).__name__, flush=True)
        rc.send_signal("SIGINT", block=True)
        """,
    )
    assert p.stdout.readline() == "waiting\n"
    time.sleep(0.2)
    p.send_signal(signal.SIGINT)
    assert p.stdout.readline() == "interrupted\n"
    time.sleep(0.2)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert out == "AsyncResult\n" and p.returncode == 0, err


@pytest.mark.parametrize(
    "end", ["pass", "rc.close()", "del rc, lv, ars", "raise SystemExit(0)"]
)
def test_exit_with_work_pending(start_cluster, end):
    c = start_cluster(1)
    p = run_script(
        c,
        f"""
        import sys, time, roundhouse as ipp
        rc = ipp.Client(sys.argv[1])
        rc.wait_for_engines(1, timeout=60)
        lv = rc.load_balanced_view()
        ars = [lv.apply_async(time.sleep, 0.001) for i in range(50)]
        ars[3].add_done_callback(lambda ar: None)
        ars[0].get()
        {end}
        """,
    )
    out, err = p.communicate(timeout=60)
    assert (p.returncode, out, err) == (0, "", "")


def test_many_tasks(start_cluster):
    c = start_cluster(2)
    lv = c.rc.load_balanced_view()
    ars = [lv.apply_async(pow, i, 2) for i in range(5000)]
    assert [a.get(120) for a in ars] == [i * i for i in range(5000)]
    assert lv.map_sync(abs, range(-3000, 0)) == list(range(3000, 0, -1))
    assert not c.rc.outstanding and not c.rc._live


def test_results_do_not_pile_up(start_cluster):
    """Memory grows with what is kept, not with what was done."""
    c = start_cluster(1)
    lv = c.rc.load_balanced_view()

    def work():
        for _ in range(300):
            lv.apply_async(bytes, 200_000).get(60)
        ipp.AsyncResult.join(*[lv.apply_async(bytes, 200_000) for _ in range(20)]).get()
        gc.collect()
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    work()
    first = work()
    last = [work() for _ in range(3)][-1]
    assert last - first < 40_000_000, "900 results of 200 kB were 180 MB"


def test_clients_come_and_go(start_cluster):
    c = start_cluster(1)

    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def use():
        with ipp.Client(str(c.client_file)) as rc:
            rc.wait_for_engines(1, timeout=60)
            assert rc[0].apply_sync(len, "") == 0

    use()
    before = descriptors()
    for _ in range(5):
        use()
    assert descriptors() == before


def test_wrong_key_is_not_answered(start_cluster):
    c = start_cluster(0)
    info = json.loads(c.client_file.read_text())
    with pytest.raises(TimeoutError):
        ipp.Client({**info, "key": "wrong"}, timeout=0.5)


def test_nobody_there(tmp_path, start_cluster):
    c = start_cluster(0)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        info = json.loads(c.client_file.read_text())
        info["registration"] = s.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            ipp.Client(info, timeout=0.3)
        assert time.monotonic() - start < 30


FAKE_SSH = '''\
#!{python}
"""Forwards ports as ssh -N -L does, and notes how it was called."""
import socket, sys, threading

def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def serve(listener, to):
    while True:
        a, _ = listener.accept()
        b = socket.create_connection(to)
        for x, y in ((a, b), (b, a)):
            threading.Thread(target=pump, args=(x, y), daemon=True).start()

args = sys.argv[1:]
open({note!r}, "a").write(" ".join(args) + "\\n")
if args[-1] == "me@refused":
    sys.exit(255)
for flag, value in zip(args, args[1:]):
    if flag == "-L":
        host, port, to_host, to_port = value.split(":")
        listener = socket.create_server((host, int(port)))
        threading.Thread(
            target=serve, args=(listener, ("127.0.0.1", int(to_port))), daemon=True
        ).start()
threading.Event().wait()
'''


@pytest.fixture
def fake_ssh(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    note = tmp_path / "ssh-calls"
    program = folder / "ssh"
    program.write_text(FAKE_SSH.format(python=sys.executable, note=str(note)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return note


def test_tunnel(start_cluster, fake_ssh, tmp_path):
    c = start_cluster(1)
    rc = c.client(sshserver="me@somewhere:2222", sshkey="/tmp/key")
    rc.wait_for_engines(1, timeout=60)
    assert rc[0].apply_sync(len, "ab") == 2
    assert rc[0].execute("1", block=True) and rc.hub_history()
    (call,) = fake_ssh.read_text().splitlines()
    assert call.endswith("-p 2222 -i /tmp/key me@somewhere")
    assert call.count("-L 127.0.0.1:") == 7
    process = rc._tunnel._process
    rc.close()
    assert process.poll() is not None


def test_tunnel_named_in_the_file(start_cluster, fake_ssh):
    c = start_cluster(1)
    info = json.loads(c.client_file.read_text())
    info.update(ssh="me@elsewhere", location="192.0.2.7", interface="tcp://127.0.0.1")
    with ipp.Client(info) as rc:
        rc.wait_for_engines(1, timeout=60)
        assert rc[0].apply_sync(len, "ab") == 2
    assert "me@elsewhere" in fake_ssh.read_text()


def test_tunnel_that_is_refused(start_cluster, fake_ssh):
    c = start_cluster(0)
    with pytest.raises(
        OSError, match="me@refused could not be opened: ssh ended with 255"
    ):
        c.client(sshserver="me@refused")


def test_ipc_transport(start_cluster):
    rc = start_cluster(2, "--transport=ipc").rc
    assert rc[:].apply_sync(len, "abc") == [3, 3]
    assert rc.load_balanced_view().map_sync(abs, [-1, 2]) == [1, 2]
