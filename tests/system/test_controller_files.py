"""Connection files, locks, keys, and how ipcontroller ends."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import time

import psutil
import pytest
import rawzmq
import zmq
from conftest import program

CLIENT_KEYS = [
    "ssh",
    "interface",
    "registration",
    "control",
    "mux",
    "task",
    "task_scheme",
    "iopub",
    "notification",
    "broadcast",
    "key",
    "curve_serverkey",
    "location",
    "pack",
    "unpack",
    "signature_scheme",
]
ENGINE_KEYS = [
    "ssh",
    "interface",
    "registration",
    "control",
    "mux",
    "task",
    "iopub",
    "hb_ping",
    "hb_pong",
    "broadcast",
    "key",
    "curve_serverkey",
    "location",
    "pack",
    "unpack",
    "signature_scheme",
]


def test_both_files(controller):
    client, engine = controller.client_info, controller.engine_info
    assert list(client) == CLIENT_KEYS
    assert list(engine) == ENGINE_KEYS
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{24}", client["key"])
    assert client["key"] == engine["key"]
    assert client["registration"] == engine["registration"]
    assert client["task_scheme"] == "leastload"
    assert client["location"] == socket.gethostname()
    assert (client["ssh"], client["curve_serverkey"]) == ("", None)
    assert isinstance(client["broadcast"], int)
    assert isinstance(engine["broadcast"], list)
    for path in (controller.client_file, controller.engine_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.read_text().endswith("\n")


def test_only_loopback_listens(controller):
    listening = {
        c.laddr
        for c in psutil.Process(controller.pid).net_connections()
        if c.status == "LISTEN"
    }
    assert {a.ip for a in listening} == {"127.0.0.1"}
    ports = {a.port for a in listening}
    info = controller.client_info
    assert {info["control"], info["registration"]} <= ports


def test_addresses_and_tunnels(start_controller):
    c = start_controller(
        "--ip=0.0.0.0",
        "--location=head.example",
        "--ssh=me@gate:22",
        "--enginessh=me@inner",
        "--scheme=lru",
        "--IPController.broadcast_scheduler_depth=2",
    )
    client, engine = c.client_info, c.engine_info
    assert client["interface"] == engine["interface"] == "tcp://0.0.0.0"
    assert client["location"] == "head.example"
    assert (client["ssh"], engine["ssh"]) == ("me@gate:22", "me@inner")
    assert client["task_scheme"] == "lru"
    assert len(set(engine["broadcast"])) == 4


def test_own_file_names(start_controller):
    c = start_controller(
        "--IPController.client_json_file=k.json",
        "--IPController.engine_json_file=e.json",
        wait=False,
    )
    folder = c.profile_dir / "security"
    end = time.monotonic() + 60
    while not (folder / "e.json").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert json.loads((folder / "k.json").read_text())["task_scheme"]
    assert c.stop() == 0
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGABRT, signal.SIGHUP]
)
def test_signals_end_it_cleanly(controller, number):
    assert controller.stop(number) == 0
    controller.check_clean(keeps_files=False)
    assert f"Received signal {int(number)}, shutting down" in controller.log()


def test_two_clusters_in_one_profile(start_controller):
    a = start_controller("--cluster-id=a")
    b = start_controller("--cluster-id=b")
    assert a.client_file != b.client_file
    assert a.client_info["registration"] != b.client_info["registration"]


def test_a_second_controller_is_refused(controller, start_controller):
    before = controller.client_file.read_text()
    second = start_controller(wait=False)
    assert second.wait() == 1
    assert f"another controller (pid {controller.pid}) is running" in second.log()
    assert "--cluster-id" in second.log()
    assert controller.client_file.read_text() == before
    assert controller.pid_file.exists()


def test_the_lock_of_a_dead_controller_is_taken_over(controller, start_controller):
    controller.kill()
    assert controller.pid_file.exists() and controller.client_file.exists()
    second = start_controller(wait=False)
    end = time.monotonic() + 60
    while controller.pid_file.read_text().strip() != str(second.pid):
        assert time.monotonic() < end and second.alive()
        time.sleep(0.01)


def test_reuse(start_controller, raw_client):
    first = start_controller("--reuse", "--location=here", "--ssh=gate")
    client, engine = first.client_file.read_bytes(), first.engine_file.read_bytes()
    assert first.stop() == 0
    assert first.client_file.read_bytes() == client, "kept"
    second = start_controller("--reuse")
    raw_client(second).engines()
    assert second.client_file.read_bytes() == client
    assert second.engine_file.read_bytes() == engine
    assert second.stop() == 0
    # Without --reuse they are replaced, and removed at the end.
    third = start_controller(wait=False)
    end = time.monotonic() + 60
    while third.client_file.read_bytes() == client:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert third.stop() == 0
    third.check_clean(keeps_files=False)


def test_reuse_of_files_that_disagree(start_controller):
    first = start_controller("--reuse")
    info = first.engine_info
    first.stop()
    key = info["key"] = "another"
    first.engine_file.write_text(json.dumps(info))
    second = start_controller("--reuse", wait=False)
    end = time.monotonic() + 60
    while second.engine_info["key"] == key:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert (
        second.client_info["key"]
        == second.engine_info["key"]
        != first.client_info.get("x")
    )
    assert "'key'" in second.log()


def test_reuse_of_files_with_several_broadcast_ports(
    start_controller, raw_engine, raw_client
):
    first = start_controller("--reuse", "--IPController.broadcast_scheduler_depth=1")
    ports = first.engine_info["broadcast"]
    assert len(ports) == 2
    first.stop()
    second = start_controller("--reuse")
    assert second.engine_info["broadcast"] == ports
    engines = [raw_engine(second) for _ in range(3)]
    client = raw_client(second)
    targets = [[e.name, e.id] for e in engines]
    metadata = {"targets": targets, "is_broadcast": True, "is_coalescing": True}
    msg_id = client.send(
        "broadcast", "apply_request", {}, metadata=metadata, buffers=[b"x" * 9000]
    )
    m = client.recv("broadcast")
    assert m.metadata["original_msg_id"] == msg_id
    assert m.metadata["broadcast_targets"] == targets
    assert m.buffers == [b"x" * 9000] * 3


def test_restore(start_controller, raw_engine, raw_client, wait_until):
    first = start_controller("--restore", "--ping=100")
    engines = [raw_engine(first, lifeline=False) for _ in range(2)]
    client = raw_client(first)
    first.kill()
    second = start_controller("--restore", "--ping=100")
    known = client.engines()
    assert known == {e.id: e.name for e in engines}
    for e in engines:
        msg_id = client.apply(e.name, buffers=[b"hi"])
        assert client.recv_parent("mux", msg_id).buffers == [b"hi"]
        assert client.recv_parent("task", client.task()).content["status"] == "ok"
    # One that is not there any more is noticed, as its heart does not beat.
    engines[0].stop()
    wait_until(lambda: client.engines() == {engines[1].id: engines[1].name})
    assert second.alive()
    # Ids go on where they were.
    assert raw_engine(second).id == 2


def test_keys(start_controller, tmp_path, raw_client):
    assert (
        start_controller("--Session.key=sesame", "--cluster-id=1").client_info["key"]
        == "sesame"
    )
    path = tmp_path / "key"
    path.write_text("from a file\n")
    c = start_controller(f"--keyfile={path}", "--cluster-id=2")
    assert c.client_info["key"] == "from a file"
    env = {"IPP_SESSION_KEY": "from the environment"}
    c = start_controller("--cluster-id=3", env=env)
    assert c.client_info["key"] == "from the environment"
    c = start_controller("--secure", "--cluster-id=4", env=env)
    assert len(c.client_info["key"]) == 33
    c = start_controller("--no-secure", "--cluster-id=5", env=env)
    assert c.client_info["key"] == ""
    assert raw_client(c).engines() == {}
    assert "not signed" in c.log()


def test_a_key_file_that_is_not_there(start_controller, tmp_path):
    c = start_controller(f"--keyfile={tmp_path}/none", wait=False)
    assert c.wait() == 1
    assert f"{tmp_path}/none" in c.log()
    c.check_clean(keeps_files=False)


@pytest.mark.parametrize("scheme", ["hmac-sha512", "hmac-sha1", "hmac-md5"])
def test_signature_schemes(start_controller, scheme, raw_client, raw_engine):
    c = start_controller(f"--Session.signature_scheme={scheme}")
    assert c.client_info["signature_scheme"] == scheme
    engine = raw_engine(c)
    client = raw_client(c)
    assert (
        client.recv_parent("mux", client.apply(engine.name)).content["status"] == "ok"
    )


def test_an_unknown_signature_scheme(start_controller):
    c = start_controller("--Session.signature_scheme=hmac-crc32", wait=False)
    assert c.wait() == 1
    assert "crc32" in c.log()
    c.check_clean(keeps_files=False)


def test_curve(start_controller, raw_client, raw_engine):
    c = start_controller("--IPController.enable_curve=True")
    info = c.client_info
    assert info["key"] == ""
    assert len(info["curve_serverkey"]) == 40 == len(c.engine_info["curve_serverkey"])
    engine = raw_engine(c)
    client = raw_client(c)
    assert (
        client.recv_parent("mux", client.apply(engine.name)).content["status"] == "ok"
    )
    assert client.recv_parent("task", client.task()).content["status"] == "ok"
    # Without the server's key nothing is answered.
    plain = raw_client(c, curve=False)
    plain.send("registration", "connection_request")
    assert plain.recv("registration", timeout=0.5) is None
    assert client.engines() == {0: engine.name}


def test_curve_keys_from_outside(start_controller):
    public, secret = (k.decode() for k in zmq.curve_keypair())
    env = {
        "IPP_ENABLE_CURVE": "1",
        "IPP_CURVE_PUBLICKEY": public,
        "IPP_CURVE_SECRETKEY": secret,
    }
    c = start_controller(env=env)
    assert c.client_info["curve_serverkey"] == public
    other = zmq.curve_keypair()[0].decode()
    d = start_controller(
        "--cluster-id=x", env={**env, "IPP_CURVE_PUBLICKEY": other}, wait=False
    )
    assert d.wait() == 1
    assert "do not belong together" in d.log()


def limited(size: int):
    def set_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return set_limit


@pytest.mark.parametrize("room", [0, 200])
def test_no_room_for_the_connection_files(start_controller, room):
    # The log file is limited as well: the message comes through a pipe.
    c = start_controller(wait=False)
    c.kill()
    for path in (c.client_file, c.engine_file, c.pid_file):
        path.unlink(missing_ok=True)
    done = subprocess.run(
        [program("ipcontroller")],
        env=c.env,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limited(room),
    )
    assert done.returncode == 1
    assert str(c.client_file) in done.stderr
    assert "File too large" in done.stderr
    files = [p for p in c.profile_dir.rglob("*") if p.is_file()]
    assert files == []


def test_ipc_transport(start_controller, raw_client, raw_engine):
    c = start_controller("--transport=ipc")
    engine = raw_engine(c)
    client = raw_client(c)
    assert (
        client.recv_parent("mux", client.apply(engine.name)).content["status"] == "ok"
    )
    assert client.recv_parent("task", client.task()).content["status"] == "ok"
    folder = c.profile_dir / "security"
    assert any(p.is_socket() for p in folder.iterdir())
    engine.stop()
    assert c.stop() == 0
    assert not list(folder.iterdir()), "sockets are removed"


def test_descriptors_and_memory(controller):
    process = psutil.Process(controller.pid)
    soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    assert soft == hard
    assert len(process.children()) == 0
    if not os.environ.get("ROUNDHOUSE_SANITIZED"):
        assert process.memory_info().rss < 20 << 20


@pytest.mark.skipif(
    "ROUNDHOUSE_SANITIZED" in os.environ, reason="sanitizers have threads of their own"
)
def test_idle_means_idle(start_controller):
    c = start_controller("--ping=1000000")
    process = psutil.Process(c.pid)

    def switches():
        return sum(
            int(line.split()[1])
            for t in process.threads()
            for line in open(f"/proc/{c.pid}/task/{t.id}/status")
            if line.startswith("voluntary_ctxt")
        )

    # Start-up is over when nothing has happened for a while.
    before, after = -1, switches()
    while before != after:
        before = after
        time.sleep(0.5)
        after = switches()
    time.sleep(1)
    assert switches() - after <= 2


def test_shutdown_request(controller, raw_client, wait_until):
    client, other = raw_client(controller), raw_client(controller)
    s = other.socket("notification")
    wait_until(lambda: other.engines() == {})
    time.sleep(0.2)  # a subscription is not acknowledged
    reply = client.ask("shutdown_request")
    assert reply.content == {"status": "ok"}
    assert s.poll(60000)
    notice = rawzmq.Message(s.recv_multipart())
    assert (notice.type, notice.content) == ("shutdown_notification", {"status": "ok"})
    assert controller.wait() == 0
    controller.check_clean(keeps_files=False)


def test_the_python_helper_alone(tmp_path):
    path = tmp_path / "c.py"
    path.write_text("c = get_config()\nc.A.b = (1, {2: b'x'}, dict)\n")
    out = subprocess.check_output(
        [sys.executable, "-m", "roundhouse.controller.config", str(path)], text=True
    )
    assert json.loads(out) == {"A": {"b": [1, {"2": "x"}, "builtins.dict"]}}
