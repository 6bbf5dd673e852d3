"""Cluster from Python, with the real controller, engines and Client."""

import asyncio
import os
import signal
import time

import pytest
import roundhouse as ipp


@pytest.fixture(autouse=True)
def ipython_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    for name in [n for n in os.environ if n.startswith("IPP_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def cluster():
    cluster = ipp.Cluster(n=2)
    yield cluster
    cluster.stop_cluster_sync()
    assert not os.listdir(os.path.join(cluster.profile_dir, "security"))


def test_context_manager():
    cluster = ipp.Cluster(n=2)
    with cluster as rc:
        assert rc.ids == [0, 1]
        pids = rc[:].apply_sync(os.getpid)
        launched = {el.pid for el in cluster.engine_set.launchers.values()}
        assert set(pids) == launched
        assert rc.cluster is cluster
    assert cluster.controller is None
    assert cluster.engines == {}


def test_async_context_manager():
    async def main():
        async with ipp.Cluster(n=1) as rc:
            return rc[0].apply_sync(pow, 2, 10)

    assert asyncio.run(main()) == 1024


def test_start_and_connect_and_connect_again(cluster):
    rc = cluster.start_and_connect_sync(n=1)
    assert len(rc) == 1
    other = cluster.connect_client_sync()
    assert other.ids == rc.ids
    from_file = ipp.Cluster.from_file(cluster.cluster_file)
    third = from_file.connect_client_sync()
    assert third.ids == rc.ids
    for client in (rc, other, third):
        client.close()


def test_engines_that_do_not_come(cluster):
    cluster.config.EngineLauncher.engine_cmd = ["sleep"]
    cluster.engine_timeout = 1
    with pytest.raises(ipp.EngineError):
        cluster.start_and_connect_sync()
    assert cluster.controller is None
    assert cluster.engines == {}


def test_single_engines(cluster, wait_until):
    rc = cluster.start_and_connect_sync()
    launchers = cluster.engine_set.launchers

    def pid(engine_id):
        return rc[engine_id].apply_sync(os.getpid)

    before = pid(1)
    cluster.restart_engine_sync(1)
    wait_until(lambda: rc.ids == [0, 1] and pid_or_none(rc, 1) not in (None, before))
    assert pid(1) in {el.pid for el in launchers.values()}

    cluster.stop_engine_sync(0)
    wait_until(lambda: rc.ids == [1])
    with pytest.raises(KeyError, match="no engine 0; registered: 1"):
        cluster.signal_engine_sync(signal.SIGINT, 0)

    started = rc[1].apply_async(time.sleep, 600)
    wait_until(lambda: rc.queue_status(1)["queue"] == 1)
    cluster.signal_engine_sync(signal.SIGINT, 1)
    with pytest.raises(ipp.RemoteError, match="KeyboardInterrupt"):
        started.get(timeout=60)
    rc.close()


def pid_or_none(rc, engine_id):
    try:
        return rc[engine_id].apply_async(os.getpid).get(timeout=10)
    except Exception:
        return None


def test_restart_engines_and_signals(cluster, wait_until):
    rc = cluster.start_and_connect_sync()
    pids = set(rc[:].apply_sync(os.getpid))
    cluster.restart_engines_sync()
    wait_until(lambda: len(rc.ids) == 2 and not {0, 1} & set(rc.ids))
    assert not pids & set(rc[:].apply_sync(os.getpid))
    cluster.signal_engines_sync(signal.SIGTERM)
    wait_until(lambda: rc.ids == [])
    rc.close()


def test_work_started_by_engines_goes_with_them(cluster, wait_until):
    rc = cluster.start_and_connect_sync(n=1)
    rc[0].execute(
        "import subprocess; p = subprocess.Popen(['sleep', '600'])", block=True
    )
    pid = rc[0].pull("p.pid", block=True)
    os.kill(pid, 0)
    rc.close()
    cluster.stop_cluster_sync()

    def gone():
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rpartition(")")[2].split()[0] in "ZX"
        except FileNotFoundError:
            return True

    wait_until(gone)
