"""Large buffers as files in /dev/shm: who gets them, and what is left of them."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import roundhouse as ipp
from conftest import PATIENCE
from roundhouse import _core
from roundhouse.serialize import deserialize_object, pack_apply_message

numpy = pytest.importorskip("numpy")
pytest_plugins = ["cluster_fixtures"]

ROOT = Path("/dev/shm")
if not os.access(ROOT, os.W_OK):
    pytest.skip("no /dev/shm", allow_module_level=True)
SIZE = 1 << 20


def folder_of(rc) -> Path | None:
    """The directory of a client's controller."""
    name = f"roundhouse-{os.geteuid()}-*/to-{rc._core.session}"
    return next((p.parent for p in ROOT.glob(name)), None)


def origin(array) -> str:
    """Inode and file that the memory of *array* is mapped from, or ''."""
    at = array.ctypes.data
    with open("/proc/self/maps") as f:
        for line in f:
            fields = line.split(None, 5)
            low, high = (int(x, 16) for x in fields[0].split("-"))
            if low <= at < high and "/dev/shm/roundhouse-" in line:
                return fields[4] + " " + fields[5].strip()
    return ""


def origin_and_double(array):
    return origin(array), array + array


def main(function):
    """The function, to travel as code."""
    function.__module__ = "__main__"
    return function


main(origin), main(origin_and_double)


@pytest.fixture
def here(start_cluster):
    """A cluster and its directory."""
    cluster = start_cluster(2)
    cluster.shm = folder_of(cluster.rc)
    cluster.rc[:].push({"origin": origin}, block=True)
    return cluster


@pytest.fixture
def array():
    return numpy.arange(SIZE // 8)


def suspend(pid: int, wait_until) -> None:
    os.kill(pid, signal.SIGSTOP)
    state = Path(f"/proc/{pid}/stat")
    wait_until(lambda: ") T " in state.read_text())


def is_empty(folder: Path) -> bool:
    gc.collect()
    return not any(folder.iterdir())


def view_of(rc, kind):
    if kind == "balanced":
        return rc.load_balanced_view()
    return rc[0] if kind == "direct" else rc.broadcast_view()


@pytest.mark.parametrize("kind", ["direct", "balanced", "broadcast", "coalescing"])
def test_both_ways(here, array, wait_until, kind):
    view = view_of(here.rc, kind)
    if kind == "coalescing":
        view.is_coalescing = True
    results = view.apply_sync(origin_and_double, array)
    if kind in ("direct", "balanced"):
        results = [results]
    for where, double in results:
        assert str(here.shm) in where
        assert str(here.shm) in origin(double)
        assert not double.flags.writeable
        assert numpy.array_equal(double, array + array)
    del results, double
    here.rc.purge_everything()
    wait_until(lambda: is_empty(here.shm / "in"))


def test_push_is_one_copy(here, array):
    here.rc[:].push({"a": array}, block=True)
    where = here.rc[:].apply_sync(main(lambda: origin(a)))  # noqa: F821
    inodes = {w.split()[0] for w in where}
    assert len(where) == 2 and len(inodes) == 1 and inodes != {""}
    # A further value does not disturb the first.
    here.rc[:].push({"b": array + 1}, block=True)
    same = here.rc[:].apply_sync(main(lambda: bool((b == a + 1).all())))  # noqa: F821
    assert same == [True, True]


def test_small_buffers_use_the_socket(here):
    where, _ = here.rc[0].apply_sync(origin_and_double, numpy.zeros(1000))
    assert where == ""


def test_values_stay_when_files_are_used_again(here, array):
    view = here.rc[0]
    results = [view.apply_sync(origin_and_double, array + i) for i in range(8)]
    for i, (_, double) in enumerate(results):
        assert numpy.array_equal(double, 2 * (array + i))


def test_results_outlive_cluster_and_client(here, array):
    _, double = here.rc[0].apply_sync(origin_and_double, array)
    here.rc.shutdown(hub=True)
    assert here.controller.wait(PATIENCE) == 0
    here.rc.close()
    assert numpy.array_equal(double, array + array)
    assert not here.shm.exists()


def test_the_hub_has_the_bytes(here, array, wait_until):
    """Another client, and a task again, when who sent it is gone."""
    rc = here.client()
    rc.wait_for_engines(2, timeout=PATIENCE)
    ar = rc.load_balanced_view().apply_async(main(lambda a: a + 1), array)
    ar.get(PATIENCE)
    msg_id = ar.msg_ids[0]
    del ar
    rc.close()
    for engine in here.engines:
        engine.kill()
    here.add_engine()
    here.rc.wait_for_engines(1, timeout=PATIENCE)
    wait_until(lambda: len(here.rc.ids) == 1)
    got = here.rc.get_result(msg_id).get(PATIENCE)
    assert numpy.array_equal(got, array + 1)
    again = here.rc.resubmit(msg_id)
    assert numpy.array_equal(again.get(PATIENCE)[0], array + 1)


def test_a_retry_has_its_arguments(here, array, tmp_path):
    def dies_once(path, a):
        import os
        import signal

        if not os.path.exists(path):
            open(path, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return a + 1

    view = here.rc.load_balanced_view(retries=1)
    ar = view.apply_async(main(dies_once), str(tmp_path / "died"), array)
    assert numpy.array_equal(ar.get(PATIENCE), array + 1)


def test_killed_processes_leave_nothing(here, array, wait_until):
    code = """
        import os, sys, time, numpy, roundhouse as ipp
        rc = ipp.Client(sys.argv[1])
        rc.wait_for_engines(2, timeout=60)
        rc[:].push({"a": numpy.zeros(1 << 17)}, block=True)
        rc[0].apply_async(time.sleep, 600)
        rc[0].apply_async(len, numpy.zeros(1 << 17))
        print("sent", flush=True)
        time.sleep(600)
    """
    before = set(here.shm.iterdir())
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(here.client_file)],
        stdout=subprocess.PIPE,
    )
    assert client.stdout.readline() == b"sent\n"
    wait_until(lambda: len(set(here.shm.iterdir()) - before) == 1)
    client.kill()
    client.communicate()
    wait_until(lambda: set(here.shm.iterdir()) == before)
    here.engines[0].kill()
    wait_until(lambda: len(set(here.shm.iterdir())) == len(before) - 1)
    assert here.controller.stop(signal.SIGTERM) == 0
    assert not here.shm.exists()


def test_the_next_controller_sweeps(here, start_cluster, wait_until):
    here.controller.kill()
    for engine in here.engines:
        engine.kill()
    here.rc.close()

    def swept() -> bool:
        start_cluster(0)
        return not here.shm.exists()

    wait_until(swept)


def test_the_switch(start_cluster, array):
    cluster = start_cluster(1, "--IPController.shared_memory=False")
    assert folder_of(cluster.rc) is None
    cluster.rc[0].push({"origin": origin}, block=True)
    where, double = cluster.rc[0].apply_sync(origin_and_double, array)
    assert where == origin(double) == ""
    assert numpy.array_equal(double, array + array)


def test_no_room(here, array):
    """A limit on file sizes is as good as a full /dev/shm."""
    code = """
        import resource, sys, numpy, roundhouse as ipp
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        rc = ipp.Client(sys.argv[1])
        rc.wait_for_engines(2, timeout=60)
        f = lambda a: (origin(a), int(a.sum()))
        print(*rc[0].apply_sync(f, numpy.ones(1 << 17)), sep="|")
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(here.client_file)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert out.stdout == f"|{1 << 17}\n", out.stderr


def test_arguments_that_are_gone_are_an_answer(here, array, wait_until):
    rc = here.rc
    pid = here.pids()[0]
    suspend(pid, wait_until)
    mailbox = here.shm / f"to-{rc._engines[0]}"
    ar = rc[0].apply_async(len, array)
    later = rc[0].apply_async(len, "abc")
    wait_until(lambda: list(mailbox.glob("m*")))
    for path in mailbox.glob("m*"):
        path.unlink()
    os.kill(pid, signal.SIGCONT)
    with pytest.raises(ipp.RemoteError, match="could not map the arguments"):
        ar.get(PATIENCE)
    assert later.get(PATIENCE) == 3


def test_results_that_are_gone_are_an_answer(here, tmp_path, wait_until):
    def slow_zeros(path):
        import os
        import time

        open(path + "/began", "w").close()
        while not os.path.exists(path + "/go"):
            time.sleep(0.01)
        return bytes(1 << 20)

    ar = here.rc[0].apply_async(main(slow_zeros), str(tmp_path))
    wait_until((tmp_path / "began").exists)
    suspend(here.controller.pid, wait_until)
    (tmp_path / "go").touch()
    sent = f"{here.rc._engines[0]}.*"
    wait_until(lambda: list((here.shm / "in").glob(sent)))
    for path in (here.shm / "in").glob(sent):
        path.unlink()
    here.controller.send_signal(signal.SIGCONT)
    with pytest.raises(ipp.RemoteError, match="malformed"):
        ar.get(PATIENCE)
    assert here.rc[0].apply_sync(len, "abc") == 3


def test_foreign_engine(controller, raw_engine, array):
    engine = raw_engine(controller)
    core = _core.Client(controller.client_file.read_text(), timeout=PATIENCE)
    shared = core.share([array, b"small"])
    assert isinstance(shared[0], memoryview) and shared[1] == b"small"
    for buffers in (shared, [array, b"small"]):
        request = core.submit(
            _core.MUX, engine.name, "apply_request", b"{}", b"{}", buffers
        )
        assert core.wait([request], PATIENCE)
        assert [bytes(b) for b in request.buffers] == [array.tobytes(), b"small"]
    core.close()


def test_foreign_client(here, array):
    import rawzmq

    info = here.client_file.read_text()
    client = rawzmq.Client(json.loads(info))
    buffers = [bytes(b) for b in pack_apply_message(origin_and_double, (array,), {})]
    client.apply(here.rc._engines[0], buffers=buffers)
    reply = client.recv("mux", PATIENCE)
    (where, double), _ = deserialize_object(reply.buffers)
    assert where == "" and numpy.array_equal(double, array + array)
    client.close()
