"""Starting an engine: options, files, waiting, refusals, cost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

pytest_plugins = ("engine_kit",)


def run(*options: str, env=None, timeout=60):
    return subprocess.run(
        [sys.executable, "-m", "roundhouse.engine", *options],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


# options


@pytest.mark.parametrize(
    "options, says",
    [
        (["--timeou=3"], "did you mean --timeout?"),
        (["--timeout=soon"], "'soon' is not a number"),
        (["--timeout=-1"], "below the smallest value, 0"),
        (["--IPEngine.max_heartbeat_missis=3"], "IPEngine.max_heartbeat_misses?"),
        (["--mpi=mpi5py"], "mpi4py"),
        (["stray"], "unexpected argument 'stray'"),
        (["--id"], "--id"),
        (["-c"], "a value is missing"),
    ],
)
def test_wrong_options_are_named(options, says):
    p = run(*options)
    assert p.returncode == 2
    assert says in p.stderr and "Traceback" not in p.stderr


def test_help_and_version():
    p = run("--help")
    assert p.returncode == 0
    for word in [
        "--file",
        "-c",
        "-s",
        "--url",
        "--ssh",
        "--sshkey",
        "--location",
        "--timeout",
        "--mpi",
        "--profile",
    ]:
        assert re.search(rf"^  {word}\b", p.stdout, re.M), word
    assert "--IPEngine.max_heartbeat_misses=" in run("--help-all").stdout
    assert re.match(r"\d+\.\d+", run("--version").stdout)


# finding the controller


def test_no_connection_file(tmp_path):
    p = run(f"--profile-dir={tmp_path}", "--IPEngine.wait_for_url_file=0.1")
    assert p.returncode == 1
    assert str(tmp_path / "security" / "ipcontroller-engine.json") in p.stderr


def test_the_file_may_come_later(
    tmp_path, start_process, start_controller, wait_until, raw_client
):
    ipython_dir = tmp_path / "ipython"
    profile_dir = ipython_dir / "profile_default"
    p = start_process(
        [sys.executable, "-m", "roundhouse.engine", f"--profile-dir={profile_dir}"],
        env={"IPYTHONDIR": str(ipython_dir)},
    )
    wait_until(lambda: "waiting up to" in p.log(), what="engine waits")
    controller = start_controller(ipython_dir=ipython_dir)
    client = raw_client(controller)
    wait_until(lambda: client.engines(), what="engine")


def test_file_option_cluster_id_and_environment(
    start_engine, start_controller, tmp_path
):
    controller = start_controller("--cluster-id=abc")
    kit = start_engine("--cluster-id=abc", controller=controller)
    assert kit.call(len, "x") == 1
    moved = tmp_path / "elsewhere.json"
    shutil.copy(controller.engine_file, moved)
    kit = start_engine(f"--file={moved}", controller=controller)
    assert kit.call(len, "x") == 1
    env = {
        "IPP_CONNECTION_INFO": controller.engine_file.read_text(),
        "IPP_PROFILE_DIR": str(tmp_path / "none"),
    }
    kit = start_engine(
        "--profile-dir=" + str(tmp_path / "none"), controller=controller, env=env
    )
    assert kit.call(len, "x") == 1


def test_a_controller_that_does_not_answer(start_controller, tmp_path):
    controller = start_controller()
    info = controller.engine_info
    info["key"] = "another key"
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(info))
    p = run(f"--file={path}", "--timeout=0.5")
    assert p.returncode == 255
    assert "no answer" in p.stderr


def test_a_name_that_is_taken(kit):
    p = run(
        f"--profile-dir={kit.controller.profile_dir}",
        f"--ident={kit.uuid}",
        "--timeout=0.5",
    )
    # The controller does not even see a second peer of the same name.
    assert p.returncode == 255
    assert "no answer" in p.stderr
    assert kit.call(len, "x") == 1


@pytest.mark.parametrize(
    "change, says",
    [
        ({"pack": "dill", "unpack": "dill"}, "dill"),
        ({"signature_scheme": "hmac-nope"}, "nope"),
        ({"mux": "x"}, "mux"),
        ({"registration": None}, "registration"),
    ],
)
def test_files_that_cannot_be_used(start_controller, tmp_path, change, says):
    info = {**start_controller().engine_info, **change}
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(info))
    p = run(f"--file={path}", "--timeout=0.5")
    assert p.returncode == 255
    assert says in p.stderr and "Traceback" not in p.stderr


def test_a_file_that_is_no_json(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text("{nonsense}")
    p = run(f"--file={path}")
    assert p.returncode == 1
    assert str(path) in p.stderr and "Traceback" not in p.stderr


# what runs first


def test_startup_code(start_engine, start_controller, tmp_path):
    controller = start_controller()
    script = tmp_path / "script.py"
    script.write_text("from_script = from_command + 1\nwhere = __file__\n")
    startup = controller.profile_dir / "startup"
    startup.mkdir(exist_ok=True)
    (startup / "00-first.py").write_text("order = ['startup']\n")
    kit = start_engine(
        "-c",
        "from_command = 1; order.append('command')",
        "-s",
        str(script),
        controller=controller,
    )
    assert kit.call(eval, "(from_command, from_script, where)") == (1, 2, str(script))
    assert kit.call(eval, "order") == ["startup", "command"]
    assert kit.call(eval, "'__file__' in globals()") is False


def test_startup_code_that_fails(start_engine):
    kit = start_engine("-c", "1/0")
    assert kit.call(len, "x") == 1
    assert "ZeroDivisionError" in kit.process.log()


def test_startup_magics(start_engine):
    pytest.importorskip("IPython")
    kit = start_engine("-c", "%env RH_STARTUP=yes")
    assert kit.call(eval, "__import__('os').environ['RH_STARTUP']") == "yes"


def test_work_dir_id_and_names(start_engine, tmp_path):
    kit = start_engine(
        f"--work-dir={tmp_path}",
        "--IPEngine.id=7",
        "--ident=my-engine",
        "--user=somebody",
    )
    assert kit.call(os.getcwd) == str(tmp_path)
    assert (kit.id, kit.uuid) == (7, "my-engine")
    assert kit.reply(kit.send(len, "x")).header["username"] == "somebody"


def test_config_file(start_engine, start_controller):
    pytest.importorskip("traitlets")
    controller = start_controller()
    (controller.profile_dir / "ipengine_config.py").write_text(
        "c = get_config()\n"
        "c.IPEngine.startup_command = 'configured = 1'\n"
        "c.EngineFactory.timeout = 7\n"
        "c.IPKernelApp.exec_lines = ['line = 2']\n"
        "c.InteractiveShell.ast_node_interactivity = 'all'\n"
    )
    kit = start_engine(controller=controller)
    assert kit.call(eval, "(configured, line)") == (1, 2)
    pytest.importorskip("IPython")
    msg_id = kit.send_execute("1\n2")
    kit.reply(msg_id)
    assert len([m for m in kit.output(msg_id) if m.type == "execute_result"]) == 2


def test_log_file(start_engine):
    kit = start_engine("--log-to-file", "--debug")
    path = kit.controller.profile_dir / "log" / f"ipengine-{kit.process.pid}.log"
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[IPEngine\.0\] Completed registration",
        path.read_text(),
        re.M,
    )


def test_signals_work_when_started_in_the_background(start_engine, start_controller):
    """A shell starts background jobs with SIGINT ignored."""
    controller = start_controller()
    import signal

    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        kit = start_engine(controller=controller)
    finally:
        signal.signal(signal.SIGINT, old)
    msg_id = kit.send(exec, "print('x', flush=True)\nimport time; time.sleep(600)")
    while kit.next_output(msg_id).type != "stream":
        pass
    kit.control("signal_request", {"sig": "SIGINT"})
    assert kit.reply(msg_id).content["ename"] == "KeyboardInterrupt"


def test_curve(start_engine, start_controller):
    import zmq

    if not zmq.has("curve"):
        pytest.skip("libzmq without CURVE")
    controller = start_controller("--IPController.enable_curve=True")
    kit = start_engine(controller=controller)
    assert kit.controller.engine_info["curve_serverkey"]
    assert kit.call(len, "x") == 1
    assert kit.reply(kit.send(len, "x")).signature == b""


FAKE_SSH = """#!{python}
import socket, sys, threading
args = sys.argv[1:]
print("ssh", *args, file=sys.stderr)
def pump(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def serve(local, host, port):
    server = socket.create_server(("127.0.0.1", local))
    while True:
        a, _ = server.accept()
        b = socket.create_connection((host, port))
        for pair in ((a, b), (b, a)):
            threading.Thread(target=pump, args=pair, daemon=True).start()
for flag, value in zip(args, args[1:]):
    if flag == "-L":
        _, local, host, port = value.split(":")
        threading.Thread(target=serve, args=(int(local), host, int(port)), daemon=True).start()
threading.Event().wait()
"""


def test_tunnels(start_engine, start_controller, tmp_path):
    """With a stand-in for ssh that does what -L asks for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    ssh = folder / "ssh"
    ssh.write_text(FAKE_SSH.format(python=sys.executable))
    ssh.chmod(0o755)
    controller = start_controller()
    kit = start_engine(
        "--ssh=me@login.example:2222",
        controller=controller,
        env={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
    )
    assert kit.call(len, "x" * 100_000) == 100_000
    assert "me@login.example" in kit.process.log()
    info = controller.engine_info
    for name in (
        "registration",
        "mux",
        "task",
        "control",
        "iopub",
        "hb_ping",
        "hb_pong",
    ):
        assert f"127.0.0.1:{info[name]}" in kit.process.log()


# cost


def memory_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


@pytest.mark.skipif(
    "ROUNDHOUSE_SANITIZED" in os.environ,
    reason="sanitizers and their environment weigh more",
)
def test_an_idle_engine_is_small(kit, start_process, wait_until):
    bare = start_process(
        [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    )
    wait_until(lambda: "up" in bare.log(), what="bare Python")
    above = memory_kib(kit.process.pid) - memory_kib(bare.pid)
    assert above < 15 * 1024, f"{above} KiB above bare Python"


@pytest.mark.skipif(
    "ROUNDHOUSE_SANITIZED" in os.environ,
    reason="sanitizers and their environment weigh more",
)
def test_starting_imports_little(kit):
    modules = kit.call(eval, "sorted(__import__('sys').modules)")
    heavy = {
        "IPython",
        "traitlets",
        "numpy",
        "asyncio",
        "socket",
        "subprocess",
        "tempfile",
    }
    assert not heavy & set(modules)
    assert len(modules) < 120, modules
