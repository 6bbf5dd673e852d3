"""The commands `ipcluster` and `roundhouse`, end to end with real processes.

Every test has an IPython folder of its own; afterwards no process, connection
file or cluster file of it may be left.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import roundhouse

SOURCE = str(Path(roundhouse.__file__).parent.parent)
PEER = os.environ.get("ROUNDHOUSE_PEER_PYTHON")
LIMIT = 60


def wait_until(condition, what, timeout=LIMIT):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def is_alive(pid):
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Place:
    """An IPython folder and the commands that use it."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        self.env = {
            k: v for k, v in os.environ.items() if not k.startswith(("IPP_", "IPYTHON"))
        }
        self.env["IPYTHONDIR"] = str(folder)
        self.env["PYTHONPATH"] = SOURCE + os.pathsep + self.env.get("PYTHONPATH", "")

    @property
    def profile(self):
        return self.folder / "profile_default"

    def command(self, *args, module="roundhouse.cluster"):
        return [sys.executable, "-m", module, *map(str, args)]

    def run(self, *args, code=0, module="roundhouse.cluster", **env):
        """Run a verb to its end, which has to be an exit with `code`."""
        done = subprocess.run(
            self.command(*args, module=module),
            capture_output=True,
            text=True,
            env={**self.env, **env},
            timeout=LIMIT,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, done.stderr
        return done

    def begin(self, *args, **env):
        """Start a verb that stays in the foreground."""
        p = Running(self.command(*args), {**self.env, **env})
        self.started.append(p)
        return p

    def list(self):
        return json.loads(self.run("list", "-o", "json").stdout)

    def processes(self, word=""):
        """Living processes of this place whose command line has the word."""
        mark = f"IPYTHONDIR={self.folder}\0".encode()
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                if mark not in Path("/proc", name, "environ").read_bytes():
                    continue
                line = Path("/proc", name, "cmdline").read_bytes().decode()
            except OSError:
                continue
            if is_alive(name) and word in line:
                found.append(int(name))
        return found

    def files(self):
        """Cluster files and connection files there are."""
        return sorted(
            p.name for p in self.folder.glob("profile_*/security/*") if p.is_file()
        )

    def assert_nothing_left(self):
        assert self.processes() == []
        assert self.files() == []


class Running:
    """A command in the foreground, its log read as it comes."""

    def __init__(self, command, env):
        self.popen = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.log = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.popen.stderr:
            self.log += line

    def wait_for(self, pattern):
        """Wait until the log has a line with this pattern."""

        def there():
            return re.search(pattern, self.log) or self.popen.poll() is not None

        wait_until(there, f"{pattern!r} in the log:\n{self.log}")
        found = re.search(pattern, self.log)
        assert found, (
            f"ended with {self.popen.returncode} before {pattern!r}:\n{self.log}"
        )
        return found

    def signal(self, signum):
        self.popen.send_signal(signum)

    def end(self, code=0):
        """Wait for the end, which has to be an exit with `code`."""
        assert self.popen.wait(LIMIT) == code, self.log
        self._reader.join(LIMIT)
        return self.log


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path / "ipython")
    yield place
    for p in place.started:
        if p.popen.poll() is None:
            p.signal(signal.SIGKILL)
            p.popen.wait()
        p.popen.stdout.close()
    left = place.processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "processes were left behind"


def python_engine(code):
    """Options that make ipcluster run this code in place of an engine."""
    return f"--EngineLauncher.engine_cmd={[sys.executable, '-c', code]!r}"


def python_controller(code):
    return f"--ControllerLauncher.controller_cmd={[sys.executable, '-c', code]!r}"


# -- start and stop ------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_start_until_a_signal(place, signum):
    p = place.begin("start", "-n", 2)
    p.wait_for("2 of 2 engines")
    (cluster,) = place.list()
    assert cluster["cluster"]["cluster_id"] == ""
    assert place.files() == [
        "cluster-.json",
        "ipcontroller-client.json",
        "ipcontroller-engine.json",
    ]
    p.signal(signum)
    p.end()
    place.assert_nothing_left()


def test_start_makes_ids_from_0(place):
    p = place.begin("start", "--n=3")
    p.wait_for("3 of 3 engines")
    code = "import roundhouse as ipp; print(sorted(ipp.Client().ids))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=place.env
    )
    assert out.stdout == "[0, 1, 2]\n", out.stderr
    p.signal(signal.SIGINT)
    p.end()


def test_stop_from_elsewhere(place):
    p = place.begin("start", "-n", 1)
    p.wait_for("1 of 1 engines")
    place.run("stop")
    assert "The controller has stopped" in p.end()
    place.assert_nothing_left()


def test_start_twice(place):
    p = place.begin("start", "-n", 1)
    p.wait_for("1 of 1 engines")
    before = place.processes("engine")
    refused = place.run("start", "-n", 1, code=10)
    assert "is running" in refused.stderr
    place.run("start", "--daemonize", code=10)
    assert place.processes("engine") == before
    p.signal(signal.SIGINT)
    p.end()
    place.assert_nothing_left()


def test_two_starts_at_once(place):
    both = [place.begin("start", "-n", 1) for _ in range(2)]
    wait_until(lambda: any(p.popen.poll() is not None for p in both), "one refused")
    loser, winner = sorted(both, key=lambda p: p.popen.poll() is None)
    loser.end(10)
    winner.wait_for("1 of 1 engines")
    winner.signal(signal.SIGINT)
    winner.end()
    place.assert_nothing_left()


def test_daemonize_returns_when_everything_is_up(place):
    done = place.run("start", "-n", 2, "--daemonize")
    path = done.stdout.strip()
    assert path == str(place.profile / "security" / "cluster-.json")
    assert "2 of 2 engines" in done.stderr
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert place.processes("roundhouse.cluster") == []
    (cluster,) = place.list()
    (state,) = cluster["engines"]["sets"].values()
    assert len(state["engines"]) == 2
    # Children are in sessions of their own: no terminal can interrupt them.
    for pid in place.processes():
        assert os.getsid(pid) == pid
    place.run("stop")
    place.assert_nothing_left()
    place.run("stop", code=11)


def test_daemonized_start_that_fails_leaves_nothing(place):
    done = place.run(
        "start",
        "-n",
        2,
        "--daemonize",
        python_engine("raise SystemExit('no way')"),
        code=1,
    )
    assert "no way" in done.stderr
    assert done.stdout == ""
    place.assert_nothing_left()


def test_two_clusters_of_one_profile(place):
    place.run("start", "-n", 1, "--daemonize", "--cluster-id=a")
    place.run("start", "-n", 2, "--daemonize", "--cluster-id=b")
    ids = {c["cluster"]["cluster_id"]: c for c in place.list()}
    assert set(ids) == {"a", "b"}
    table = place.run("list").stdout.splitlines()
    assert table[0].split() == [
        "PROFILE",
        "CLUSTER",
        "ID",
        "RUNNING",
        "ENGINES",
        "LAUNCHER",
    ]
    assert [line.split() for line in table[1:]] == [
        ["default", "a", "True", "1", "Local"],
        ["default", "b", "True", "2", "Local"],
    ]
    place.run("stop", code=11)  # the one without an id does not run
    place.run("stop", "a")
    assert [c["cluster"]["cluster_id"] for c in place.list()] == ["b"]
    place.run("stop", "a", "b", code=11)
    place.assert_nothing_left()


def test_stop_all(place):
    for cluster_id in ("a", "b"):
        place.run("start", "-n", 1, "--daemonize", f"--cluster-id={cluster_id}")
    place.run("stop", "--all")
    place.assert_nothing_left()
    place.run("stop", "--all")


def test_profiles(place):
    place.run("start", "-n", 1, "--daemonize", "--profile=one")
    place.run("start", "-n", 1, "--daemonize", "--profile-dir", place.folder / "two")
    assert len(place.list()) == 1  # the other folder is not among the profiles
    out = place.run("list", "--profile-dir", place.folder / "two", "-o", "json").stdout
    assert len(json.loads(out)) == 1
    place.run("stop", "--profile=one")
    place.run("stop", IPP_PROFILE_DIR=str(place.folder / "two"))
    place.assert_nothing_left()


# -- more engines --------------------------------------------------------------


def test_engines_are_added_and_stopped_with_the_cluster(place):
    place.run("start", "-n", 1, "--daemonize")
    more = place.begin("engines", "-n", 2)
    more.wait_for("2 of 2 engines")
    (cluster,) = place.list()
    assert len(cluster["engines"]["sets"]) == 2
    assert "ENGINES" in place.run("list").stdout
    place.run("stop")
    more.end()
    place.assert_nothing_left()


def test_added_engines_go_and_the_cluster_stays(place):
    first = place.begin("start", "-n", 1)
    first.wait_for("1 of 1 engines")
    more = place.begin("engines", "-n", 1)
    more.wait_for("1 of 1 engines")
    more.signal(signal.SIGINT)
    more.end()
    (cluster,) = place.list()
    assert len(cluster["engines"]["sets"]) == 1
    place.run("engines", "-n", 1, "--daemonize")
    (cluster,) = place.list()
    assert len(cluster["engines"]["sets"]) == 2
    first.signal(signal.SIGTERM)
    first.end()
    place.assert_nothing_left()


def test_engines_without_a_controller(place):
    p = place.begin("engines", "-n", 1, "--", "--IPEngine.wait_for_url_file=0.2")
    assert "no controller yet" in p.end(1)
    place.assert_nothing_left()


# -- failures ------------------------------------------------------------------


def test_controller_that_fails_at_start(place):
    code = "import sys; sys.exit('the port is taken')"
    p = place.begin("start", "-n", 1, python_controller(code))
    log = p.end(1)
    assert "the port is taken" in log
    assert "exit code 1" in log
    place.assert_nothing_left()


def test_controller_that_does_not_exist(place):
    p = place.begin("start", "--ControllerLauncher.controller_cmd=/no/such/thing")
    assert "cannot start /no/such/thing" in p.end(1)
    place.assert_nothing_left()


def test_controller_that_never_gets_ready(place):
    p = place.begin(
        "start",
        "--ControllerLauncher.connection_info_timeout=0.3",
        python_controller(
            "import time; print('thinking', flush=True); time.sleep(600)"
        ),
    )
    log = p.end(1)
    assert "no connection files after 0.3 s" in log
    place.assert_nothing_left()


def test_engines_that_die_at_start(place):
    p = place.begin(
        "start", "-n", 2, python_engine("raise SystemExit('broken engine')")
    )
    log = p.end(1)
    assert "broken engine" in log
    assert "exit code 1" in log
    place.assert_nothing_left()


def test_early_shutdown_guard_with_a_wrong_key(place):
    place.run("start", "-n", 0, "--daemonize")
    path = place.profile / "security" / "ipcontroller-engine.json"
    info = json.loads(path.read_text())
    info["key"] = "wrong"
    wrong = place.folder / "wrong.json"
    wrong.write_text(json.dumps(info))
    p = place.begin("engines", "-n", 1, "--", f"--file={wrong}", "--timeout=0.5")
    p.end(1)
    place.run("stop")
    place.assert_nothing_left()


def test_an_engine_that_dies_later_does_not_end_the_cluster(place):
    p = place.begin("start", "-n", 2)
    p.wait_for("2 of 2 engines")
    (cluster,) = place.list()
    (state,) = cluster["engines"]["sets"].values()
    os.kill(state["engines"]["1"]["pid"], signal.SIGKILL)
    p.wait_for(r"engine 1 \(process \d+\): killed by SIGKILL")
    assert p.popen.poll() is None
    p.signal(signal.SIGINT)
    p.end()
    place.assert_nothing_left()


def test_a_dead_controller_ends_the_cluster(place):
    p = place.begin("start", "-n", 1)
    p.wait_for("1 of 1 engines")
    (cluster,) = place.list()
    os.kill(cluster["controller"]["state"]["pid"], signal.SIGKILL)
    assert "The controller ended (killed by SIGKILL)" in p.end(1)
    assert place.processes() == []


def test_after_a_crash_of_everything_one_can_start_again(place):
    p = place.begin("start", "-n", 1)
    p.wait_for("1 of 1 engines")
    for pid in [p.popen.pid, *place.processes()]:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    p.popen.wait(LIMIT)
    wait_until(lambda: not place.processes(), "all dead")
    assert "cluster-.json" in place.files()
    place.run("stop", code=11)
    assert "cluster-.json" not in place.files()
    again = place.begin("start", "-n", 1)
    again.wait_for("1 of 1 engines")
    again.signal(signal.SIGINT)
    again.end()
    place.assert_nothing_left()


def test_interrupt_while_starting(place):
    p = place.begin(
        "start",
        python_controller("import time; time.sleep(600)"),
    )
    wait_until(lambda: len(place.processes()) == 2, "the controller")
    # Its file is written when it has been started.
    wait_until(lambda: place.files() and place.list(), "the cluster file")
    p.signal(signal.SIGINT)
    p.end(128 + signal.SIGINT)
    place.assert_nothing_left()


def test_second_interrupt_kills(place):
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('stubborn', flush=True); time.sleep(600)"
    )
    p = place.begin(
        "start",
        "-n",
        1,
        "--LocalProcessLauncher.stop_seconds_until_kill=600",
        python_engine(stubborn),
    )
    engine_log = place.profile / "log"
    wait_until(
        lambda: any("stubborn" in f.read_text() for f in engine_log.glob("ipengine-*")),
        "the engine",
    )
    p.signal(signal.SIGINT)
    p.wait_for("stopping; once more to kill")
    p.signal(signal.SIGINT)
    p.end(128 + signal.SIGINT)
    place.assert_nothing_left()


def test_signals_are_relayed_to_engines(place):
    code = (
        "import signal, time; signal.signal(signal.SIGUSR1, lambda *a: print('USR1', flush=True));"
        "print('ready', flush=True)\nwhile True: time.sleep(600)"
    )
    p = place.begin("start", "-n", 2, python_engine(code))
    logs = place.profile / "log"

    def said(word):
        texts = [f.read_text() for f in logs.glob("ipengine-*")]
        return len(texts) == 2 and all(word in t for t in texts)

    wait_until(lambda: said("ready"), "both engines")
    p.signal(signal.SIGUSR1)
    wait_until(lambda: said("USR1"), "the signal")
    p.signal(signal.SIGINT)
    p.end(128 + signal.SIGINT)  # these engines never registered
    place.assert_nothing_left()


# -- options -------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, text",
    [
        (["strat"], "did you mean start?"),
        (["start", "--deamonize"], "did you mean --daemonize?"),
        (
            ["start", "--Cluster.engine_timeot=3"],
            "did you mean --Cluster.engine_timeout?",
        ),
        (["start", "--LocalEngineSet.delay=3"], "LocalEngineSetLauncher.delay"),
        (["start", "-n", "many"], "'many' is not a whole number"),
        (["start", "--Cluster.engine_timeout=x"], "--Cluster.engine_timeout:"),
        (["stop", "--sginal=9"], "did you mean --signal?"),
        (["list", "-o", "xml"], "'xml' is not one of text, json"),
        (["clean", "--Cluster.n=1"], "unknown option --Cluster.n"),
    ],
)
def test_wrong_words_are_refused(place, args, text):
    done = place.run(*args, code=2)
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unknown_launcher(place):
    done = place.run("start", "--engines=nope", code=1)
    assert "no engine launcher is called 'nope'" in done.stderr
    place.assert_nothing_left()


@pytest.mark.parametrize("verb", ["start", "engines", "stop", "list", "clean"])
def test_help_and_version(place, verb):
    text = place.run(verb, "--help").stdout
    assert text.startswith(f"usage: ipcluster {verb}")
    everything = place.run(verb, "--help-all").stdout
    assert len(everything) > len(text)
    assert ("LocalEngineSetLauncher.delay" in everything) == (
        verb in ("start", "engines", "stop")
    )
    assert place.run(verb, "--version").stdout.strip()
    assert not place.folder.exists()


def test_no_verb(place):
    done = place.run(code=1)
    for verb in ("start", "engines", "stop", "list", "clean"):
        assert f"\n  {verb} " in done.stderr
    assert place.run("--help").stdout.startswith("usage: ipcluster VERB")


def test_old_names_warn(place):
    done = place.run("start", "--daemonize", "--IPClusterEngines.n=1")
    assert "--IPClusterEngines.n is an old name; use --Cluster.n" in done.stderr
    assert "1 of 1 engines" in done.stderr
    place.run("stop")


def test_configuration_file_and_command_line(place):
    place.profile.mkdir(parents=True)
    (place.profile / "ipcluster_config.py").write_text(
        "c.Cluster.n = 2\nc.IPClusterStart.daemonize = True\nc.HubFactory.ip = '127.0.0.1'\n"
    )
    done = place.run("start")
    assert "2 of 2 engines" in done.stderr
    assert "HubFactory.ip is an old name" in done.stderr
    place.run("stop")
    assert "1 of 1 engines" in place.run("start", "-n", 1).stderr
    place.run("stop")
    (place.profile / "ipcluster_config.py").write_text("c.Cluster.n = 'x'\n")
    assert "'x' is not a whole number" in place.run("start", code=1).stderr
    (place.profile / "ipcluster_config.py").write_text("c.Cluster.n = (\n")
    assert "SyntaxError" in place.run("start", code=1).stderr
    place.assert_nothing_left()


def test_controller_arguments_after_two_dashes(place):
    done = place.run("start", "-n", 0, "--daemonize", "--", "--nonsense=1", code=1)
    assert "nonsense" in done.stderr
    place.run("start", "-n", 0, "--daemonize", "--", "--scheme=lru", "--ping=500")
    info = json.loads(
        (place.profile / "security" / "ipcontroller-client.json").read_text()
    )
    assert info["task_scheme"] == "lru"
    place.run("stop")
    place.assert_nothing_left()


def test_ip_and_location(place):
    place.run("start", "-n", 1, "--daemonize", "--ip=*", "--location=127.0.0.1")
    info = json.loads(
        (place.profile / "security" / "ipcontroller-client.json").read_text()
    )
    assert info["interface"] == "tcp://*"
    assert info["location"] == "127.0.0.1"
    place.run("stop")


def test_reused_files_survive(place):
    place.run("start", "-n", 0, "--daemonize", "--", "--reuse")
    path = place.profile / "security" / "ipcontroller-client.json"
    before = json.loads(path.read_text())
    place.run("stop")
    assert json.loads(path.read_text()) == before
    done = place.run("start", "-n", 1, "--daemonize", "--", "--reuse")
    assert "1 of 1 engines" in done.stderr
    assert json.loads(path.read_text()) == before
    place.run("stop")
    assert place.processes() == []


def test_work_dir(place, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    place.run("start", "-n", 1, "--daemonize", f"--work-dir={work}")
    (pid,) = place.processes("roundhouse.engine")
    assert os.readlink(f"/proc/{pid}/cwd") == str(work)
    place.run("stop")
    done = place.run("start", "--work-dir=/no/such/folder", code=1)
    assert "/no/such/folder" in done.stderr


def test_log_to_file_and_quiet(place):
    done = place.run("start", "-n", 1, "--daemonize", "--log-to-file")
    assert done.stderr == ""
    (log,) = (place.profile / "log").glob("ipcluster-*.log")
    assert "1 of 1 engines" in log.read_text()
    assert re.match(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[ipcluster\] ", log.read_text()
    )
    assert place.run("stop", "--quiet").stderr == ""
    place.run("clean")
    assert not log.exists()


def test_init_writes_a_configuration_that_changes_nothing(place):
    place.run("start", "-n", 0, "--daemonize", "--init")
    path = place.profile / "ipcluster_config.py"
    lines = [x for x in path.read_text().splitlines() if x and not x.startswith("#")]
    assert lines == ["c = get_config()  # noqa: F821"]
    assert "# c.Cluster.n = None" in path.read_text()
    place.run("stop")
    path.write_text("c.Cluster.n = 0\n")
    place.run("start", "--daemonize", "--init")
    assert path.read_text() == "c.Cluster.n = 0\n"
    place.run("stop")


def test_clean(place):
    place.run("start", "-n", 0, "--daemonize")
    done = place.run("clean", code=1)
    assert "is running" in done.stderr
    place.run("stop")
    (place.profile / "log" / "ipengine-old.log").write_text("")
    place.run("clean")
    assert list((place.profile / "log").iterdir()) == []
    place.assert_nothing_left()


# -- the command `roundhouse` --------------------------------------------------


def test_roundhouse_has_the_same_verbs(place):
    def run(*args, **kwargs):
        return place.run(*args, module="roundhouse.cli", **kwargs)

    run("start", "-n", 1, "--daemonize")
    assert "default" in run("list").stdout
    run("start", code=10)
    run("stop")
    run("stop", code=11)
    place.assert_nothing_left()
    assert run("--help").stdout.startswith("usage: roundhouse")
    assert run("start", "--help").stdout.startswith("usage: roundhouse start")
    assert "did you mean engines?" in run("enginess", code=2).stderr
    run(code=1)


def test_roundhouse_becomes_the_other_programs(place):
    def run(*args):
        return place.run(*args, module="roundhouse.cli").stdout

    assert "ipcontroller" in run("controller", "--help")
    assert "ipengine" in run("engine", "--help")


def test_roundhouse_profile(place):
    def run(*args, **kwargs):
        return place.run("profile", *args, module="roundhouse.cli", **kwargs)

    path = place.folder / "profile_work"
    run("locate", "work", code=1)
    assert run("create", "--parallel", "--profile=work").stdout.strip() == str(path)
    for name in ("ipcluster_config.py", "ipengine_config.py"):
        text = (path / name).read_text()
        compile(text, name, "exec")
        lines = [x for x in text.splitlines() if x and not x.startswith("#")]
        assert lines == ["c = get_config()  # noqa: F821"]
    assert (path / "security").stat().st_mode & 0o777 == 0o700
    (path / "ipengine_config.py").write_text("c.IPEngine.timeout = 9\n")
    run("create", "work")
    assert (path / "ipengine_config.py").read_text() == "c.IPEngine.timeout = 9\n"
    assert run("list").stdout.split() == ["work", str(path)]
    assert run("locate", "work").stdout.strip() == str(path)
    run(code=2)
    run("destroy", code=2)
    done = place.run("start", "-n", 1, "--daemonize", "--profile=work")
    assert "1 of 1 engines" in done.stderr
    place.run("stop", "--profile=work")


# -- with the real ipyparallel -------------------------------------------------


@pytest.mark.peer
def test_mixed_clusters(place):
    if not PEER:
        pytest.skip("ROUNDHOUSE_PEER_PYTHON is not set")
    their_engine = f"--EngineLauncher.engine_cmd={[PEER, '-m', 'ipyparallel.engine']!r}"
    their_controller = f"--ControllerLauncher.controller_cmd={[PEER, '-m', 'ipyparallel.controller', '--ping=200']!r}"
    for options in (
        [their_engine],
        [their_controller],
        [their_engine, their_controller],
    ):
        done = place.run("start", "-n", 2, "--daemonize", *options)
        assert "2 of 2 engines" in done.stderr
        place.run("stop")
        # Their engines have a helper process that ends a little later.
        wait_until(lambda: not place.processes(), "their helpers have ended")
        place.assert_nothing_left()


@pytest.mark.peer
def test_the_real_ipcluster_lists_and_stops_ours(place):
    if not PEER:
        pytest.skip("ROUNDHOUSE_PEER_PYTHON is not set")
    theirs = [PEER, "-m", "ipyparallel.cluster"]
    env = {k: v for k, v in place.env.items() if k != "PYTHONPATH"}
    place.run("start", "-n", 1, "--daemonize")
    out = subprocess.run([*theirs, "list"], capture_output=True, text=True, env=env)
    assert out.stdout.splitlines()[1].split() == ["default", "''", "True", "1", "Local"]
    subprocess.run([*theirs, "stop"], check=True, env=env, capture_output=True)
    place.assert_nothing_left()
    subprocess.run(
        [*theirs, "start", "-n", "1", "--daemonize"],
        check=True,
        env=env,
        capture_output=True,
    )
    place.run("start", code=10)
    place.run("stop")
    # Their helper processes notice a little later.
    wait_until(lambda: not place.processes(), "their processes to end")
    place.assert_nothing_left()
