"""ipcontroller's command line, environment and configuration file."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import program


@pytest.fixture
def run(tmp_path):
    """run(*args, env=...) -> CompletedProcess of an ipcontroller that must end."""

    def run(*args: str, env=None):
        environ = {k: v for k, v in os.environ.items() if not k.startswith("IPP_")}
        environ["IPYTHONDIR"] = str(tmp_path / "ipython")
        environ.setdefault("ROUNDHOUSE_PYTHON", sys.executable)
        environ.update(env or {})
        return subprocess.run(
            [program("ipcontroller"), *args],
            env=environ,
            text=True,
            capture_output=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    return run


def test_help_lists_every_short_option(run):
    out = run("--help").stdout
    for name in [
        "--ip",
        "--location",
        "--ports",
        "--port",
        "--ssh",
        "--enginessh",
        "--transport",
        "--ping",
        "--scheme",
        "--hwm",
        "--ident",
        "--user",
        "--keyfile",
        "--profile",
        "--profile-dir",
        "--ipython-dir",
        "--cluster-id",
        "--config",
        "--work-dir",
        "--log-to-file",
        "--log-level",
        "--clean-logs",
        "--url",
    ]:
        assert f"  {name}=" in out
    for flag in [
        "--reuse",
        "--restore",
        "--usethreads",
        "--nodb",
        "--dictdb",
        "--sqlitedb",
        "--mongodb",
        "--secure",
        "--no-secure",
        "--debug",
        "--quiet",
        "--init",
        "--show-config",
        "--show-config-json",
    ]:
        assert f"  {flag}\n" in out or f"  {flag} " in out


def test_help_all_names_every_class_option(run):
    out = run("--help-all").stdout
    for trait in [
        "IPController.engine_ports",
        "IPController.client_ip",
        "IPController.broadcast_scheduler_depth",
        "IPController.registration_timeout",
        "IPController.enable_curve",
        "IPController.curve_secretkey",
        "TaskScheduler.hwm",
        "TaskScheduler.scheme_name",
        "HeartMonitor.period",
        "HeartMonitor.max_heartmonitor_misses",
        "DictDB.record_limit",
        "DictDB.size_limit",
        "DictDB.cull_fraction",
        "SQLiteDB.filename",
        "SQLiteDB.location",
        "SQLiteDB.table",
        "MongoDB.connection_args",
        "MongoDB.connection_kwargs",
        "MongoDB.database",
        "Session.key",
        "Session.keyfile",
        "Session.session",
        "Session.username",
        "Session.packer",
        "Session.unpacker",
        "Session.signature_scheme",
        "Session.buffer_threshold",
        "Session.check_pid",
    ]:
        assert f"--{trait}=" in out
    assert "HubFactory.ip" in out and "IPControllerApp.reuse_files" in out


def test_the_manual_page_knows_every_option(run):
    page = Path(__file__).parents[2] / "docs" / "man" / "ipcontroller.1"
    text = page.read_text().replace("\\fB", "").replace("\\fR", "").replace("\\-", "-")
    names = {line.strip() for line in text.splitlines()}
    known = {name.partition("=")[0] for name in names}
    out = run("--help-all").stdout
    options = re.findall(r"^  (--[a-z-]+)", out, re.M)
    traits = re.findall(r"^--([A-Za-z]+\.[a-z_]+)=", out, re.M)
    assert len(options) > 30 and len(traits) > 60
    assert not [name for name in [*options, *traits] if name not in known]


def test_version(run):
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.strip().count(".") == 2


@pytest.mark.parametrize(
    "args, names",
    [
        (["--profle=x"], ["--profle", "--profile"]),
        (
            ["--IPController.engine_prots=1"],
            ["engine_prots", "IPController.engine_ports"],
        ),
        (["--hwm=-1"], ["--hwm=-1", "at least 0"]),
        (["--ping", "fast"], ["--ping=fast", "not an integer"]),
        (["--ping=1"], ["--ping=1", "between 10 and"]),
        (["--scheme=best"], ["best", "leastload"]),
        (["--ports=1-70000"], ["between 1 and 65535", "70000"]),
        (["--ports=9-3"], ["9-3"]),
        (["--ports=a"], ["'a'"]),
        (["--port=99999"], ["99999"]),
        (["--log-level=LOUD"], ["LOUD", "DEBUG"]),
        (["--IPController.reuse_files=perhaps"], ["perhaps", "True"]),
        (["--transport=udp"], ["udp", "tcp"]),
        (["--DictDB.cull_fraction=2"], ["between 0 and 1"]),
        (["--log-url=tcp://127.0.0.1:20202"], ["log-url", "not available"]),
        (["--Session.packer=marshal"], ["marshal", "json"]),
        (["--ip"], ["--ip needs a value"]),
        (["start"], ["'start'"]),
        (["-x"], ["'-x'"]),
    ],
)
def test_mistakes_are_refused_with_what_would_be_right(run, args, names):
    done = run(*args)
    assert done.returncode == 2
    for name in names:
        assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "args, shown",
    [
        (["--hwm=0"], {"TaskScheduler.hwm": 0}),
        (["--hwm", "7"], {"TaskScheduler.hwm": 7}),
        (["--TaskScheduler.hwm=7"], {"TaskScheduler.hwm": 7}),
        (["--TaskScheduler.schemename=lru"], {"TaskScheduler.scheme_name": "lru"}),
        (["--HubFactory.ip=*"], {"IPController.ip": "*"}),
        (["--IPControllerApp.reuse_files=True"], {"IPController.reuse_files": True}),
        (["--IPController.reuse_files"], {"IPController.reuse_files": True}),
        (
            ["--restore"],
            {"IPController.reuse_files": True, "IPController.restore_engines": True},
        ),
        (["--debug"], {"IPController.log_level": 10}),
        (["--log-level=WARN"], {"IPController.log_level": 30}),
        (["--nodb"], {"IPController.db_class": "NoDB"}),
        (["--ports=10101-10103,9"], {"IPController.ports": "10101-10103,9"}),
        (["--IPController.hb=(101, 102)"], {"IPController.hb": "101-102"}),
        (["--log-to-file"], {"IPController.log_to_file": True}),
        (["--log-to-file=False"], {"IPController.log_to_file": False}),
        (
            ["--clean-logs", "--ip=::1"],
            {"IPController.clean_logs": True, "IPController.ip": "::1"},
        ),
        (["--BaseParallelApplication.cluster_id=x"], {"IPController.cluster_id": "x"}),
        (["--no-secure"], {"Session.key": "...", "Session.keyfile": ""}),
        (
            ["--MongoDB.connection_kwargs={}"],
            {"MongoDB.connection_kwargs": {}},
        ),
    ],
)
def test_forms_of_options(run, args, shown):
    done = run("--show-config-json", *args)
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)
    config.pop("IPController.show_config_json")
    config.pop("IPController.ipython_dir")
    assert config == shown


def test_environment(run, tmp_path):
    env = {
        "IPP_CLUSTER_ID": "blue",
        "IPP_PROFILE_DIR": str(tmp_path / "p"),
        "IPP_SESSION_KEY": "secret",
        "IPP_ENABLE_CURVE": "0",
    }
    config = json.loads(run("--show-config-json", "--cluster-id=red", env=env).stdout)
    assert config["IPController.cluster_id"] == "red"
    assert config["ProfileDir.location"] == str(tmp_path / "p")
    assert "IPController.enable_curve" not in config
    assert "secret" not in run("--show-config", env=env).stdout


def write_config(tmp_path, text: str, name="ipcontroller_config.py"):
    folder = tmp_path / "ipython" / "profile_default"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_config_file(run, tmp_path):
    write_config(
        tmp_path, "c = get_config()\nc.TaskScheduler.scheme_name = 'lru'", "base.py"
    )
    write_config(
        tmp_path,
        "load_subconfig('base.py')\n"
        "c = get_config()\n"
        "c.HubFactory.ip = '*'\n"
        "c.IPController.ports = range(10101, 10104)\n"
        "c.IPController.engine_ports.append(9)\n"
        "c.TaskScheduler.hwm = 3\n"
        "c.Session.key = b'abc'\n"
        "c.IPController.reuse_files = True\n"
        "c.NotOurs.thing = object()\n"
        "print('noise')\n",
    )
    extra = tmp_path / "extra.py"
    extra.write_text(
        "c = get_config()\nc.TaskScheduler.hwm = 4\nc.HeartMonitor.period = 99"
    )
    done = run("--show-config-json", f"--config={extra}", "--ping=100")
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)
    assert config["IPController.ip"] == "*"
    assert config["IPController.ports"] == "10101-10103"
    assert config["IPController.engine_ports"] == "9"
    assert config["TaskScheduler.scheme_name"] == "lru"
    assert config["TaskScheduler.hwm"] == 4
    assert config["HeartMonitor.period"] == 100, "the command line is stronger"
    assert config["IPController.reuse_files"] is True


def test_a_config_file_that_names_another(run, tmp_path):
    """Also while the one of --config is being read."""
    extra = tmp_path / "extra.py"
    extra.write_text("c = get_config()\nc.IPController.extra_config_file = 'x' * 200")
    write_config(
        tmp_path, f"c = get_config()\nc.IPController.extra_config_file = {str(extra)!r}"
    )
    done = run("--show-config")
    assert done.returncode == 0, done.stderr
    assert "x" * 200 in done.stdout


def test_mistakes_in_the_config_file(run, tmp_path):
    write_config(
        tmp_path, "c = get_config()\nc.IPController.prots = 1\nc.Session.metadata = {}"
    )
    done = run("--show-config")
    assert done.returncode == 0
    assert (
        "c.IPController.prots is not known; the nearest is c.IPController.ports"
        in done.stderr
    )
    assert "Session.metadata: not available" in done.stderr

    write_config(tmp_path, "c = get_config()\nc.TaskScheduler.hwm = 'many'")
    done = run()
    assert done.returncode == 1
    assert (
        "TaskScheduler.hwm" in done.stderr and "'many' is not an integer" in done.stderr
    )

    write_config(tmp_path, "1/0")
    done = run()
    assert done.returncode == 1
    assert (
        "ZeroDivisionError" in done.stderr and "ipcontroller_config.py" in done.stderr
    )

    write_config(tmp_path, "")
    assert "nowhere.py" in run("--config=nowhere.py").stderr


def test_init_stages_a_config_file_that_changes_nothing(
    run, tmp_path, start_controller
):
    c = start_controller("--init")
    text = (c.profile_dir / "ipcontroller_config.py").read_text()
    assert "# c.TaskScheduler.hwm = 1\n" in text
    config = json.loads(run("--show-config-json").stdout)
    assert set(config) == {"IPController.show_config_json", "IPController.ipython_dir"}
    on = text.replace("# c.", "c.")
    (c.profile_dir / "ipcontroller_config.py").write_text(on)
    done = run("--show-config-json")
    assert done.returncode == 0, done.stderr


def test_profile_rules(start_controller, tmp_path):
    c = start_controller("--profile=mine", "--cluster-id=a1")
    assert c.client_file.name == "ipcontroller-a1-client.json"
    for name, mode in (
        ("security", 0o700),
        ("pid", 0o700),
        ("log", None),
        ("startup", None),
    ):
        folder = c.profile_dir / name
        assert folder.is_dir()
        if mode:
            assert stat.S_IMODE(folder.stat().st_mode) == mode
    d = start_controller(f"--profile-dir={tmp_path}/deep/er")
    assert d.profile_dir.is_dir()
    (tmp_path / "open" / "security").mkdir(parents=True)
    (tmp_path / "open" / "security").chmod(0o755)
    e = start_controller(env={"IPP_PROFILE_DIR": str(tmp_path / "open")})
    assert stat.S_IMODE((e.profile_dir / "security").stat().st_mode) == 0o700


def test_profile_that_shall_not_be_made(run, tmp_path):
    done = run("--IPController.auto_create=False")
    assert done.returncode == 1
    assert "profile_default" in done.stderr
    assert not (tmp_path / "ipython").exists()
    assert "slash" in run("--cluster-id=a/b").stderr


def test_log_options(start_controller, wait_until):
    c = start_controller("--log-to-file", "--debug")
    log = c.profile_dir / "log" / f"ipcontroller--{c.pid}.log"
    wait_until(lambda: "hub::created hub" in log.read_text())
    assert f"Sending logs to {log}" in c.log()
    c.stop()
    d = start_controller("--clean-logs", "--quiet")
    assert not log.exists()
    assert d.log() == ""


def test_start_up_log_lines(start_controller, wait_until):
    c = start_controller("--ip=*", "--IPController.client_ip=127.0.0.1")
    wait_until(lambda: str(c.engine_file) in c.log())
    log = c.log()
    port = c.client_info["registration"]
    for line in (
        f"Created profile dir: '{c.profile_dir}'",
        f"Hub listening on tcp://127.0.0.1:{port} for registration.",
        f"Hub listening on tcp://*:{port} for registration.",
        "Hub using DB backend: DictDB",
        "hub::created hub",
        f"writing connection info to {c.client_file}",
        f"writing connection info to {c.engine_file}",
        "task::using leastload Task scheduler",
        "Task scheduler started [leastload]",
        "Heartmonitor beating every 3000ms",
    ):
        assert line in log


def test_work_dir(start_controller, tmp_path):
    c = start_controller(f"--work-dir={tmp_path}")
    assert os.readlink(f"/proc/{c.pid}/cwd") == str(tmp_path)


def free_port_range(n: int) -> int:
    """The first of *n* ports in a row that are free now."""
    for start in range(21000, 60000, 97):
        with_sockets = []
        try:
            for port in range(start, start + n):
                s = socket.socket()
                with_sockets.append(s)
                s.bind(("127.0.0.1", port))
            return start
        except OSError:
            continue
        finally:
            for s in with_sockets:
                s.close()
    raise AssertionError("no free ports")


def test_port_pools(start_controller):
    first = free_port_range(20)
    pool = set(range(first, first + 20))
    taken = socket.socket()
    taken.bind(("127.0.0.1", first + 1))
    taken.listen()
    c = start_controller(
        f"--IPController.engine_ports={first}-{first + 3}",
        f"--IPController.client_ports={first + 4}",
        f"--ports={first + 5}-{first + 19}",
    )
    taken.close()
    engine, client = c.engine_info, c.client_info
    assert engine["registration"] == client["registration"] == first
    assert [engine["control"], engine["mux"]] == [first + 2, first + 3], (
        "the taken one is skipped"
    )
    assert engine["task"] == first + 5
    assert client["control"] == first + 4
    used = [v for k, v in engine.items() if isinstance(v, int)] + engine["broadcast"]
    used += [v for k, v in client.items() if isinstance(v, int) and k != "registration"]
    assert set(used) <= pool
    assert len(used) == len(set(used))


def test_deprecated_ports(start_controller):
    p = free_port_range(12)
    c = start_controller(
        f"--port={p}",
        f"--IPController.hb=({p + 1},{p + 2})",
        f"--HubFactory.mux=({p + 3},{p + 4})",
        f"--HubFactory.notifier_port={p + 5}",
    )
    e, k = c.engine_info, c.client_info
    assert (e["registration"], e["hb_ping"], e["hb_pong"]) == (p, p + 1, p + 2)
    assert (k["mux"], e["mux"], k["notification"]) == (p + 3, p + 4, p + 5)


def test_url_option(start_controller):
    p = free_port_range(1)
    c = start_controller(f"--url=tcp://127.0.0.1:{p}")
    assert c.client_info["registration"] == p


def test_a_port_that_is_taken(run):
    p = free_port_range(1)
    with socket.socket() as s:
        s.bind(("127.0.0.1", p))
        s.listen()
        done = run(f"--port={p}")
    assert done.returncode == 1
    assert str(p) in done.stderr and "in use" in done.stderr


def test_an_address_that_is_not_ours(run):
    done = run("--ip=192.0.2.1")
    assert done.returncode == 1
    assert "192.0.2.1" in done.stderr


def test_nothing_left_behind_after_a_failed_start(run, tmp_path):
    run("--ip=192.0.2.1")
    profile = tmp_path / "ipython" / "profile_default"
    assert [p for p in profile.rglob("*") if p.is_file()] == []
