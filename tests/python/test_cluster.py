"""Cluster and its local launchers, with stand-ins for controller and engine."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from roundhouse.cluster import (
    Cluster,
    ClusterManager,
    ClusterRunning,
    clean_cluster_files,
    clusterfile,
)
from roundhouse.cluster.launcher import LauncherError, NotRunning, UnknownStatus
from roundhouse.cluster.manager import clean_logs
from roundhouse.cluster.process import Process
from traitlets.config import Config

FAKES = str(Path(__file__).parent / "cluster_fakes.py")


def fake(*words):
    return [sys.executable, "-S", "-E", FAKES, *words]


def wait_until(condition, what, timeout=30):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def processes_of(profile_dir):
    """Ids of the living processes that belong to a profile."""
    mark = f"IPP_PROFILE_DIR={profile_dir}\0".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                environ = Path("/proc", name, "environ").read_bytes()
            except OSError:
                continue
            if mark in environ and Process.is_running(int(name)):
                found.append(int(name))
    return found


@pytest.fixture(autouse=True)
def ipython_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID", "IPP_CONNECTION_INFO"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "ipython"


@pytest.fixture
def profile(ipython_dir):
    """The folder of the default profile; nothing of it may run afterwards."""
    folder = ipython_dir / "profile_default"
    yield folder
    left = processes_of(folder)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.fixture
def new(profile):
    """new(controller=modes, engine=modes, **traits) makes a Cluster of stand-ins."""
    made = []

    def make(controller=(), engine=(), config=None, **traits):
        config = config or Config()
        config.ControllerLauncher.controller_cmd = fake("controller", *controller)
        config.EngineLauncher.engine_cmd = fake("engine", *engine)
        traits.setdefault("n", 2)
        cluster = Cluster(config=config, **traits)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.kill_cluster()
        parts = [cluster.controller, *cluster.engines.values()]
        for part in [p for p in parts if p is not None]:
            wait_until(lambda part=part: part.state == "after", "killed")


def output_of(cluster):
    return [
        Path(el.output_file).read_text() for el in cluster.engine_set.launchers.values()
    ]


def engines_ready(cluster):
    wait_until(lambda: all("ready" in t for t in output_of(cluster)), "engines ready")


# -- start and stop ------------------------------------------------------------


def test_start_and_stop_leave_nothing(new, profile):
    cluster = new(n=3)
    assert cluster.start_cluster_sync() is cluster
    assert cluster.controller.running
    assert len(cluster.engine_set.launchers) == cluster.engine_set.n == 3
    wait_until(lambda: len(processes_of(profile)) == 4, "four processes")
    cluster.stop_cluster_sync()
    assert cluster.controller is None
    assert cluster.engines == {}
    assert processes_of(profile) == []
    assert os.listdir(profile / "security") == []
    assert os.listdir(profile / "log") == []


def test_async_methods_under_loops_that_come_and_go(new):
    cluster = new()
    asyncio.run(cluster.start_controller())
    set_id = asyncio.run(cluster.start_engines(1))
    assert list(cluster.engines) == [set_id]
    asyncio.run(cluster.signal_engines(signal.SIGUSR1))
    cluster.stop_cluster_sync()


def test_sync_twin_inside_a_running_loop(new):
    cluster = new(n=1)

    async def main():
        cluster.start_cluster_sync()
        await cluster.stop_cluster()

    asyncio.run(main())
    assert cluster.controller is None


def test_every_coroutine_method_has_a_twin():
    names = [
        "start_controller",
        "start_engines",
        "start_cluster",
        "start_and_connect",
        "connect_client",
        "stop_engines",
        "stop_controller",
        "stop_cluster",
        "restart_engines",
        "signal_engines",
        "stop_engine",
        "restart_engine",
        "signal_engine",
    ]
    for name in names:
        assert asyncio.iscoroutinefunction(getattr(Cluster, name))
        twin = getattr(Cluster, f"{name}_sync")
        assert not asyncio.iscoroutinefunction(twin)
        assert twin.__doc__


def test_a_twin_runs_what_a_subclass_overrides(new):
    class Mine(Cluster):
        async def stop_cluster(self):
            return "mine"

    assert Mine().stop_cluster_sync() == "mine"


def test_engines_get_the_connection_and_nothing_of_an_outer_cluster(new, monkeypatch):
    monkeypatch.setenv("IPP_CONNECTION_INFO", "outer")
    monkeypatch.setenv("IPP_CLUSTER_ID", "outer")
    cluster = new(n=1, cluster_id="inner")
    cluster.start_cluster_sync()
    engines_ready(cluster)
    line = output_of(cluster)[0].splitlines()[0]
    env = json.loads(line.partition(" ")[2])
    assert env["IPP_CLUSTER_ID"] == "inner"
    assert env["IPP_PROFILE_DIR"] == cluster.profile_dir
    assert json.loads(env["IPP_CONNECTION_INFO"])["kind"] == "engine"


def test_without_connection_env_engines_do_not_wait(new):
    cluster = new(["never"], n=1, send_engines_connection_env=False)
    cluster.start_cluster_sync()
    engines_ready(cluster)
    assert "IPP_CONNECTION_INFO" not in output_of(cluster)[0]


def test_engine_environment_and_arguments(new):
    config = Config()
    config.EngineLauncher.engine_args = ["--one", "--two"]
    config.BaseLauncher.environment = {"COLOUR": "green"}
    cluster = new(n=1, config=config)
    cluster.start_cluster_sync()
    engines_ready(cluster)
    said = output_of(cluster)[0]
    assert 'arguments ["--one", "--two", ' in said
    assert '"COLOUR": "green"' in said


def test_controller_arguments_in_order(new):
    config = Config()
    config.ControllerLauncher.controller_args = ["--first"]
    cluster = new(
        config=config,
        controller_ip="*",
        controller_location="there",
        controller_args=["--last"],
    )
    cluster.start_controller_sync()
    tail = cluster.controller.args[-4:]
    assert tail == ["--first", "--ip=*", "--location=there", "--last"]


def test_number_of_engines(new):
    assert new(n=3)._engine_count(object(), None) == 3
    assert new(n=3)._engine_count(object(), 0) == 0
    assert new(n=None)._engine_count(object(), None) == len(os.sched_getaffinity(0))

    class Sized:
        engine_count = 7

    assert new(n=3)._engine_count(Sized(), None) == 7
    with pytest.raises(ValueError, match="-1"):
        new()._engine_count(object(), -1)


def test_a_set_without_engines(new):
    cluster = new(n=0)
    cluster.start_cluster_sync()
    assert cluster.engine_set.state == "after"
    cluster.stop_cluster_sync()


def test_stubborn_processes_are_killed(new, profile):
    config = Config()
    config.LocalProcessLauncher.stop_seconds_until_kill = 0.2
    cluster = new(["stubborn"], ["stubborn"], config=config)
    cluster.start_cluster_sync()
    engines_ready(cluster)
    cluster.stop_cluster_sync()
    assert processes_of(profile) == []
    # The controller could not remove its files, so the launcher did.
    assert os.listdir(profile / "security") == []


def test_files_that_are_to_be_reused_survive_a_kill(new, profile):
    cluster = new(["stubborn"], n=0, controller_args=["--reuse"])
    cluster.start_cluster_sync()
    cluster.kill_cluster()
    cluster.stop_cluster_sync()
    assert sorted(os.listdir(profile / "security")) == sorted(
        f"ipcontroller-{cluster.cluster_id}-{k}.json" for k in ("client", "engine")
    )


def test_two_sets_and_stopping_one(new):
    cluster = new(n=1)
    cluster.start_cluster_sync()
    first = next(iter(cluster.engines))
    second = cluster.start_engines_sync(2)
    assert cluster.engine_set is cluster.engines[first]
    cluster.stop_engines_sync(first)
    assert list(cluster.engines) == [second]
    with pytest.raises(KeyError):
        cluster.stop_engines_sync(first)
    named = cluster.start_engines_sync(1, "named")
    assert named == "named"
    cluster.stop_engines_sync()
    assert cluster.engines == {}
    assert cluster.controller.running


def test_restart_engines_keeps_id_and_number(new):
    cluster = new(n=2)
    cluster.start_cluster_sync()
    set_id = next(iter(cluster.engines))
    before = {el.pid for el in cluster.engine_set.launchers.values()}
    cluster.restart_engines_sync()
    after = {el.pid for el in cluster.engine_set.launchers.values()}
    assert list(cluster.engines) == [set_id]
    assert len(after) == 2
    assert not before & after


def test_signal_engines(new):
    cluster = new(n=2)
    cluster.start_cluster_sync()
    engines_ready(cluster)
    cluster.signal_engines_sync(signal.SIGUSR1)
    wait_until(lambda: all("USR1" in t for t in output_of(cluster)), "the signal")


# -- failures ------------------------------------------------------------------


def test_controller_that_fails_says_why_and_leaves_nothing(new, profile):
    cluster = new(["crash"])
    with pytest.raises(LauncherError, match=r"exit code 3.*\n.*cannot bind the port"):
        cluster.start_cluster_sync()
    assert not cluster._is_running()
    assert os.listdir(profile / "security") == []


def test_controller_that_never_gets_ready(new, profile):
    config = Config()
    config.ControllerLauncher.connection_info_timeout = 0.2
    cluster = new(["never"], config=config)
    with pytest.raises(TimeoutError, match=r"0\.2 s.*client.json is missing"):
        cluster.start_cluster_sync()
    assert processes_of(profile) == []
    assert os.listdir(profile / "security") == []


def test_half_written_files_are_not_read(new):
    cluster = new(["halves"], n=0)
    cluster.start_cluster_sync()
    info = asyncio.run(cluster.controller.get_connection_info())
    assert info["client"]["kind"] == "client"
    assert info["engine"]["kind"] == "engine"


def test_files_of_a_dead_controller_are_not_believed(new, profile):
    first = new(n=0, cluster_id="x")
    first.start_cluster_sync()
    asyncio.run(first.controller.get_connection_info())
    os.kill(first.controller.pid, signal.SIGKILL)
    wait_until(lambda: first.controller.state == "after", "the end")
    assert len(os.listdir(profile / "security")) == 2
    second = new(n=0, cluster_id="x")
    second.start_cluster_sync()
    info = asyncio.run(second.controller.get_connection_info())
    assert info["client"]["pid"] == second.controller.pid


def test_missing_programs(new, profile):
    config = Config()
    config.LocalControllerLauncher.controller_cmd = ["/no/such/controller"]
    with pytest.raises(LauncherError, match="/no/such/controller"):
        new(config=config).start_cluster_sync()
    config = Config()
    config.LocalEngineSetLauncher.engine_cmd = ["/no/such/engine"]
    cluster = new(config=config)
    with pytest.raises(LauncherError, match="/no/such/engine"):
        cluster.start_cluster_sync()
    assert processes_of(profile) == []
    assert os.listdir(profile / "security") == []


def test_engines_that_fail_say_why_once(new, caplog):
    cluster = new(engine=["crash"], n=3)
    ends = []
    cluster.watch_engine_sets(lambda es: es.on_engine_stop(ends.append))
    with caplog.at_level(logging.WARNING):
        cluster.start_cluster_sync()
        wait_until(lambda: cluster.engine_set.state == "after", "the end")
    assert cluster.engine_set.stop_data["exit_code"] == 4
    assert caplog.text.count("\nengine cannot do anything") == 1
    assert caplog.text.count("; as engine ") == 2
    assert sorted(e["identifier"] for e in ends) == ["0", "1", "2"]
    assert not any(e["expected"] for e in ends)
    # Failed: the output is still there to be read.
    assert Path(ends[0]["output_file"]).exists()


def test_one_engine_of_a_set_dies(new):
    cluster = new(n=3)
    cluster.start_cluster_sync()
    os.kill(cluster.engine_set.launchers["1"].pid, signal.SIGKILL)
    wait_until(lambda: len(cluster.engine_set.launchers) == 2, "the end of one")
    assert cluster.engine_set.running
    cluster.stop_cluster_sync()


def test_start_twice(new):
    cluster = new(n=1)
    cluster.start_cluster_sync()
    with pytest.raises(RuntimeError, match="stop_controller"):
        cluster.start_controller_sync()


def test_cancelled_start_leaves_nothing(new, profile):
    cluster = new(["never"])

    async def main():
        task = asyncio.ensure_future(cluster.start_cluster())
        while not processes_of(profile):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert processes_of(profile) == []


# -- the cluster file ----------------------------------------------------------


def test_cluster_file_is_private_and_complete(new):
    cluster = new(n=2)
    cluster.start_cluster_sync()
    path = Path(cluster.cluster_file)
    assert path.name == f"cluster-{cluster.cluster_id}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    d = json.loads(path.read_text())
    assert d == cluster.to_dict()
    assert d["controller"]["state"]["pid"] == cluster.controller.pid
    (state,) = d["engines"]["sets"].values()
    assert sorted(state["engines"]) == ["0", "1"]


def test_from_file_takes_up_and_stops(new, profile):
    cluster = new(n=2)
    cluster.start_cluster_sync()
    other = Cluster.from_file(cluster.cluster_file)
    assert other.to_dict() == cluster.to_dict()
    assert other.engine_set.n == 2
    assert not other.shutdown_atexit
    other.stop_cluster_sync()
    assert processes_of(profile) == []
    wait_until(lambda: not cluster._is_running(), "noticed")
    assert not os.path.exists(cluster.cluster_file)


def test_from_file_finds_the_default_cluster(new):
    cluster = new(n=0, cluster_id="")
    cluster.start_cluster_sync()
    assert Cluster.from_file().controller.pid == cluster.controller.pid
    with pytest.raises(FileNotFoundError):
        Cluster.from_file(cluster_id="other")
    with pytest.raises(FileNotFoundError):
        Cluster.from_file(profile="other")


def test_from_dict_of_a_subclass(new):
    cluster = new(n=0)
    d = cluster.to_dict()
    d["cluster"]["class"] = f"{__name__}.Special"
    made = Cluster.from_dict(d)
    assert type(made) is Special
    assert type(Special.from_dict(made.to_dict())) is Special


class Special(Cluster):
    pass


def test_dead_parts_are_not_taken_up(new):
    cluster = new(n=2)
    cluster.start_cluster_sync()
    d = cluster.to_dict()
    os.kill(cluster.engine_set.launchers["0"].pid, signal.SIGKILL)
    os.kill(cluster.controller.pid, signal.SIGKILL)
    wait_until(lambda: cluster.controller.state == "after", "the end")
    other = Cluster.from_dict(d, cluster_file="")
    assert other.controller is None
    assert list(other.engine_set.launchers) == ["1"]
    assert other.engine_set.n == 1


def test_a_reused_process_id_is_not_taken_up(new):
    cluster = new(n=0)
    cluster.start_cluster_sync()
    d = cluster.to_dict()
    d["controller"]["state"]["process_key"] += "0"
    other = Cluster.from_dict(d, cluster_file="")
    assert other.controller is None
    assert cluster.controller.running


def test_parts_of_another_machine(new):
    cluster = new(n=1)
    cluster.start_cluster_sync()
    d = cluster.to_dict()
    state = d["controller"]["state"]
    state["host"] = "elsewhere"
    state["process_key"] = "another-boot/1"
    with pytest.raises(UnknownStatus, match="elsewhere"):
        type(cluster.controller).from_dict(state)
    other = Cluster.from_dict(d, cluster_file="")
    assert list(other.elsewhere) == ["controller"]
    assert other._is_running()
    assert other.to_dict() == d  # kept as it was


def test_a_renamed_machine_is_the_same(new):
    cluster = new(n=0)
    cluster.start_cluster_sync()
    d = cluster.to_dict()
    d["controller"]["state"]["host"] = "old-name"
    assert Cluster.from_dict(d, cluster_file="").controller.running


def test_only_one_of_two_starts_the_same_cluster(new):
    first = new(n=0, cluster_id="same")
    second = new(n=0, cluster_id="same")
    first.start_cluster_sync()
    before = Path(first.cluster_file).read_text()
    with pytest.raises(ClusterRunning, match="same"):
        second.start_cluster_sync()
    assert first.controller.running
    assert Path(first.cluster_file).read_text() == before
    first.stop_cluster_sync()
    second.start_cluster_sync()


def test_a_cluster_that_is_being_started_is_not_started_again(new):
    cluster = new(n=0, cluster_id="same")
    Path(cluster.profile_dir, "security").mkdir(parents=True)
    starter = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    d = cluster.to_dict()
    d["starting"] = {"pid": starter.pid, "key": "", "host": os.uname().nodename}
    clusterfile.write(cluster.cluster_file, d)
    with pytest.raises(ClusterRunning, match=f"being started by process {starter.pid}"):
        cluster.start_cluster_sync()
    starter.communicate(b"\n")
    cluster.start_cluster_sync()  # it gave up
    assert "starting" not in clusterfile.read(cluster.cluster_file)


def test_damaged_cluster_file(new):
    cluster = new(n=0)
    Path(cluster.profile_dir, "security").mkdir(parents=True)
    for text in ("", "[]", "{}", '{"cluster": 1}'):
        Path(cluster.cluster_file).write_text(text)
        with pytest.raises(ValueError):
            Cluster.from_file(cluster.cluster_file)
    cluster.start_cluster_sync()
    assert Cluster.from_file(cluster.cluster_file).controller


def test_no_cluster_file_if_not_wanted(new, profile):
    cluster = new(n=1, cluster_file="")
    cluster.start_cluster_sync()
    assert not list((profile / "security").glob("cluster-*"))


def test_sets_that_another_process_added(new, profile):
    owner = new(n=1)
    owner.start_cluster_sync()
    guest = new()
    guest = Cluster.from_file(owner.cluster_file, config=guest.config)
    set_id = guest.start_engines_sync(2)
    # A change by the owner keeps what the guest wrote.
    owner.update_cluster_file()
    sets = clusterfile.read(owner.cluster_file)["engines"]["sets"]
    assert set(sets) == {*owner.engines, set_id}
    owner.stop_cluster_sync()
    assert processes_of(profile) == []
    wait_until(lambda: not guest._is_running(), "noticed")
    assert not os.path.exists(owner.cluster_file)


def test_removed_when_the_last_part_dies(new):
    cluster = new(n=0)
    cluster.start_cluster_sync()
    assert os.path.exists(cluster.cluster_file)
    os.kill(cluster.controller.pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(cluster.cluster_file), "removal")


def test_interpreter_exit_stops_the_cluster(profile, tmp_path):
    code = f"""
import sys
from traitlets.config import Config
from roundhouse.cluster import Cluster
config = Config()
config.ControllerLauncher.controller_cmd = {fake("controller")!r}
config.EngineLauncher.engine_cmd = {fake("engine")!r}
c = Cluster(n=2, config=config, shutdown_atexit=sys.argv[1] == "stop")
c.start_cluster_sync()
import os
if os.fork() == 0:
    sys.exit(0)  # a child does not own the cluster
os.wait()
assert c.controller.running
print(c.cluster_file)
"""
    import roundhouse

    where = str(Path(roundhouse.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": where}

    def run(word):
        done = subprocess.run(
            [sys.executable, "-c", code, word], capture_output=True, text=True, env=env
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    path = run("stop")
    assert processes_of(profile) == []
    assert not os.path.exists(path)
    path = run("leave")
    wait_until(lambda: len(processes_of(profile)) == 3, "three processes")
    Cluster.from_file(path).stop_cluster_sync()
    assert processes_of(profile) == []


# -- configuration -------------------------------------------------------------


def write_config(profile, text):
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text(text)


def test_profile_configuration_and_priority(profile):
    write_config(profile, "c.Cluster.n = 3\nc.Cluster.controller_ip = 'file'\n")
    assert Cluster().n == 3
    config = Config()
    config.Cluster.controller_ip = "given"
    cluster = Cluster(config=config, n=5)
    assert (cluster.n, cluster.controller_ip) == (5, "given")
    assert Cluster(load_profile=False).n is None


def test_old_names_are_forwarded_with_a_warning(profile, caplog):
    write_config(
        profile,
        "c.IPClusterEngines.n = 6\nc.IPClusterStart.n = 7\n"
        "c.IPClusterEngines.engine_set_launcher = 'local'\n"
        "c.HubFactory.ip = '*'\nc.TaskScheduler.hwm = 4\n",
    )
    with caplog.at_level(logging.WARNING):
        cluster = Cluster()
    assert cluster.n == 7
    assert cluster.controller_ip == "*"
    assert cluster.controller_args == ["--TaskScheduler.hwm=4"]
    assert "IPClusterStart.n is an old name; use Cluster.n" in caplog.text


def test_launcher_configuration_is_inherited(new):
    config = Config()
    config.LocalProcessLauncher.stop_seconds_until_kill = 1.5
    config.EngineLauncher.engine_args = ["base"]
    config.LocalEngineSetLauncher.engine_args = ["set"]
    cluster = new(n=1, config=config)
    cluster.start_cluster_sync()
    (engine,) = cluster.engine_set.launchers.values()
    assert engine.stop_seconds_until_kill == 1.5
    assert engine.engine_args == ["set"]
    assert cluster.controller.stop_seconds_until_kill == 1.5


def test_short_names_of_launchers():
    with pytest.raises(TypeError, match="not both"):
        Cluster(engines="local", engine_launcher_class="local")
    cluster = Cluster(engines="LOCAL", controller="Local")
    assert cluster.engine_launcher_class.__name__ == "LocalEngineSetLauncher"
    assert cluster.controller_launcher_class.__name__ == "LocalControllerLauncher"


def test_repr(new, ipython_dir):
    cluster = new(n=0, cluster_id="x")
    assert repr(cluster) == "<Cluster(cluster_id='x', profile='default')>"
    cluster.start_cluster_sync()
    assert "controller=<running>" in repr(cluster)
    assert "engine_sets=[" in repr(cluster)
    other = Cluster(cluster_id="y", profile_dir="/some/where")
    assert repr(other) == "<Cluster(cluster_id='y', profile_dir='/some/where')>"


def test_default_id_is_time_and_letters():
    import re

    ids = {Cluster().cluster_id for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch(r"\d+-[a-z0-9]{4}", i) for i in ids)


# -- the manager ---------------------------------------------------------------


def test_manager_finds_clusters_of_all_profiles(new, ipython_dir):
    one = new(n=1, cluster_id="one")
    two = new(n=0, cluster_id="two", profile_dir=str(ipython_dir / "profile_b"))
    one.start_cluster_sync()
    two.start_cluster_sync()
    manager = ClusterManager()
    assert sorted(manager.load_clusters()) == ["b:two", "default:one"]
    assert manager.get_cluster("default:one").engine_set.n == 1
    assert list(ClusterManager().load_clusters(profile="b")) == ["b:two"]
    with pytest.raises(FileNotFoundError):
        ClusterManager().load_clusters(profile="none")
    two.stop_cluster_sync()
    wait_until(lambda: list(manager.load_clusters()) == ["default:one"], "dropped")
    manager.remove_cluster("default:one")
    with pytest.raises(KeyError):
        manager.get_cluster("default:one")


def test_manager_new_and_default_clusters(profile):
    profile.mkdir(parents=True)
    manager = ClusterManager()
    key, _ = manager.new_cluster(cluster_id="a")
    assert key == "default:a"
    with pytest.raises(KeyError):
        manager.new_cluster(cluster_id="a")
    found = manager.load_clusters(init_default_clusters=True)
    assert set(found) == {"default:a", "default:"}


def test_clean(new, profile):
    cluster = new(n=0)
    cluster.start_cluster_sync()
    with pytest.raises(ValueError, match="is running"):
        clean_cluster_files(str(profile))
    assert os.path.exists(cluster.cluster_file)
    cluster.stop_cluster_sync()
    for name in ("log/ipengine-x.log", "security/ipcontroller-x-client.json"):
        (profile / name).write_text("{}")
    (profile / "security" / "cluster-damaged.json").write_text("x")
    (profile / "security" / "mine.txt").write_text("kept")
    clean_cluster_files(str(profile))
    assert os.listdir(profile / "log") == []
    assert os.listdir(profile / "security") == ["mine.txt"]


def test_clean_logs_keeps_what_is_in_use(new, profile):
    cluster = new(n=1)
    cluster.start_cluster_sync()
    used = set(os.listdir(profile / "log"))
    assert len(used) == 2
    (profile / "log" / "ipengine-old-0.log").write_text("")
    (profile / "log" / "engines.json").write_text("")
    clean_logs(str(profile))
    assert set(os.listdir(profile / "log")) == {*used, "engines.json"}


def test_import_needs_no_ipython_and_no_zmq():
    code = "import sys, roundhouse.cluster; print(sorted(m for m in sys.modules if m in ('IPython', 'zmq', 'tornado', 'psutil', 'numpy')))"
    import roundhouse

    env = {**os.environ, "PYTHONPATH": str(Path(roundhouse.__file__).parent.parent)}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env
    )
    assert out.stdout.strip() == "[]", out.stderr


def test_notrunning_is_a_launcher_error():
    assert issubclass(NotRunning, LauncherError)


def registry_of(ids):
    """A stand-in for the controller's list of engines."""

    class Registered:
        def __init__(self, client_info):
            self.waits = []

        def engines(self):
            return ids

        def wait_until(self, here="", gone="", timeout=0):
            return True

        def close(self):
            pass

    return Registered


def test_single_engines(new, monkeypatch):
    """What needs the controller's list of engines, with that list made up."""
    cluster = new(n=2)
    cluster.start_cluster_sync()
    engines_ready(cluster)
    launchers = cluster.engine_set.launchers
    ids = {7: launchers["0"].engine_uuid, 9: launchers["1"].engine_uuid, 5: "other"}
    monkeypatch.setattr("roundhouse.cluster.single.Registered", registry_of(ids))
    assert f"--ident={ids[9]}" in launchers["1"].args

    cluster.signal_engine_sync(signal.SIGUSR1, 9)
    path = launchers["1"].output_file
    wait_until(lambda: "USR1" in Path(path).read_text(), "the signal")
    assert "USR1" not in Path(launchers["0"].output_file).read_text()

    old = launchers["1"].pid
    cluster.restart_engine_sync(9)
    assert launchers["1"].pid != old
    assert "--IPEngine.id=9" in launchers["1"].args
    assert launchers["1"].engine_uuid != ids[9]

    cluster.stop_engine_sync(7)
    assert list(launchers) == ["1"]
    cluster.restart_engines_sync()
    with pytest.raises(KeyError, match="no engine 3; registered: 5, 7, 9"):
        cluster.stop_engine_sync(3)
    with pytest.raises(LauncherError, match="engine 5"):
        cluster.stop_engine_sync(5)


def test_the_only_engine_of_a_set_is_restarted(new, monkeypatch):
    cluster = new(n=1)
    cluster.start_cluster_sync()
    (engine,) = cluster.engine_set.launchers.values()
    ids = {0: engine.engine_uuid}
    monkeypatch.setattr("roundhouse.cluster.single.Registered", registry_of(ids))
    cluster.restart_engine_sync(0)
    assert cluster.engine_set.running
    assert len(cluster.engine_set.launchers) == 1


def test_single_engines_survive_the_file(new):
    cluster = new(n=1)
    cluster.start_cluster_sync()
    (engine,) = cluster.engine_set.launchers.values()
    other = Cluster.from_file(cluster.cluster_file)
    assert other.engine_set.find_engine(engine.engine_uuid) == "0"
    assert other.engine_set.find_engine("x") is None
