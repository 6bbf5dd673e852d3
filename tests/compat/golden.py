"""Record what the real ipyparallel sends, for tests/unit/wire/golden.

    python tests/compat/golden.py PYTHON FOLDER

PYTHON belongs to an environment with ipyparallel and numpy.  A controller, two
engines and a client of it run with record/sitecustomize.py; once with messages
in JSON, once in pickle.  Of each kind of message the first few are kept, byte
for byte.  Left out are those that hold a path of this machine (tracebacks of
the scheduler) and those the tests have no use for (large ones).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
KEY = "golden-0123456789abcdef"
PACKERS = ["json", "pickle"]
MAGIC = b"RHGOLD1\n"
DELIMITER = b"<IDS|MSG>"
KEEP = 2  # of each kind
MAX_BYTES = 6000  # of a message
PATIENCE = 60

# Runs in the real client.  Functions travel with the name of their file: this
# code is compiled under a name without a folder, and the package's own functions
# that views send get one.
CALLS = """
import signal, sys, time, types
import numpy
import ipyparallel as ipp
import ipyparallel.client.remotefunction, ipyparallel.client.view, ipyparallel.util

def renamed(code):
    inner = (renamed(c) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    return code.replace(co_filename="ipyparallel.py", co_consts=tuple(inner))

for module in ipp.util, ipp.client.remotefunction, ipp.client.view:
    for f in vars(module).values():
        if isinstance(f, types.FunctionType):
            f.__code__ = renamed(f.__code__)

rc = ipp.Client(sys.argv[1])
rc.wait_for_engines(2, timeout=60)
dv = rc[:]
lv = rc.load_balanced_view()

def fails():
    return 1 / 0

def quietly(call, *args, **kwargs):
    try:
        return call(*args, **kwargs)
    except Exception:
        pass

dv.apply_sync(len, [1, 2, 3])
dv.apply_sync(lambda a, b=2: a + b, 5, b=7)
dv.push({"a": 5, "text": "r\\u00e4der"}, block=True)
dv.pull("a", block=True)
array = numpy.arange(200.0)
dv.push({"array": array}, block=True)
dv.pull("array", block=True)
dv.apply_sync(lambda x: bytes(x), b"x" * 1500)
dv.apply_sync(lambda x: x, ipp.Reference("a"))
dv.scatter("part", list(range(4)), block=True)
dv.gather("part", block=True)
quietly(rc[0].apply_sync, fails)
lv.map_sync(abs, range(-3, 3))
first = lv.apply_async(time.sleep, 0.01)
with lv.temp_flags(after=first, follow=first, timeout=30, retries=1):
    lv.apply_sync(len, "four")
dv.execute("x = 6 * 7; print(x); x", silent=False, block=True)
quietly(dv.execute, "1 / 0", block=True)
rc[0].apply_sync(print, "printed")
for coalescing in (False, True):
    view = rc.broadcast_view(is_coalescing=coalescing)
    view.apply_sync(len, "four")
slow = rc[0].apply_async(time.sleep, 0.5)
waiting = rc[0].apply_async(len, "")
rc.abort(waiting, targets=0, block=True)
quietly(waiting.get, 30)
slow.get(30)
rc.send_signal(signal.SIGCONT, targets=0, block=True)
rc.queue_status()
rc.queue_status(0, verbose=True)
rc.get_result(first.msg_ids, block=True)
rc.result_status(first.msg_ids)
rc.hub_history()
rc.db_query({"msg_id": first.msg_ids[0]}, keys=["msg_id", "completed"])
rc.resubmit(first.msg_ids).wait(30)
rc.purge_results(jobs=first.msg_ids)
quietly(rc.purge_results, jobs=["no such"])
dv.clear(block=True)
rc.shutdown(targets=[1], block=True)
while 1 in rc.ids:
    time.sleep(0.02)
rc.shutdown(hub=True, block=True)
"""


def records(data: bytes):
    """(role, frames) of each message of a log or of a file written here."""
    at = len(MAGIC) if data.startswith(MAGIC) else 0
    while at < len(data):
        end = at + 1 + data[at]
        role = data[at + 1 : end].decode()
        (n,) = struct.unpack_from("<I", data, end)
        at, frames = end + 4, []
        for _ in range(n):
            (size,) = struct.unpack_from("<I", data, at)
            frames.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        yield role, frames


def message_type(header: bytes) -> str:
    """By its text, whoever packed it: the string after the key."""
    at = header.index(b"msg_type") + len(b"msg_type")
    names = [
        word.decode()
        for word in header[at:]
        .replace(b"\x94", b'"')
        .replace(b"\x8c", b'"')
        .split(b'"')
        if word.strip(b":, \t") and len(word) > 3
    ]
    return "".join(c for c in names[0] if c == "_" or c.isalpha())


def is_signed(frames: list[bytes], at: int) -> bool:
    mac = hmac.new(KEY.encode(), b"".join(frames[at + 2 : at + 6]), hashlib.sha256)
    return frames[at + 1].decode() == mac.hexdigest()


def choose(log: bytes, forbidden: list[bytes]) -> list[tuple[str, list[bytes]]]:
    seen: Counter = Counter()
    chosen = []
    for role, frames in records(log):
        if DELIMITER not in frames:
            continue  # heartbeats
        text = b"".join(frames)
        if len(text) > MAX_BYTES or any(word in text for word in forbidden):
            continue
        at = frames.index(DELIMITER)
        if not is_signed(frames, at):
            raise SystemExit(f"{role}: a message is not signed with the key")
        buffers = tuple(map(len, frames[at + 6 :]))
        kind = (role, message_type(frames[at + 2]), at, buffers)
        seen[kind] += 1
        if seen[kind] <= KEEP:
            chosen.append((role, frames))
    return sorted(chosen, key=lambda m: m[0])


def run_cluster(python: str, packer: str, folder: Path) -> bytes:
    """Everything that was sent."""
    log = folder / "log"
    file = folder / "profile/security/ipcontroller-client.json"
    started = []

    def start(role: str, *argv: str) -> subprocess.Popen:
        environ = dict(
            os.environ,
            PYTHONPATH=str(HERE / "record"),
            GOLDEN_LOG=str(log),
            GOLDEN_ROLE=role,
            USER="user",
            IPYTHONDIR=str(folder),
        )
        process = subprocess.Popen(
            [python, *argv], env=environ, cwd=folder, stderr=subprocess.DEVNULL
        )
        started.append(process)
        return process

    try:
        profile = f"--profile-dir={folder / 'profile'}"
        start(
            "controller",
            *["-m", "ipyparallel.controller", profile, "--ping=200"],
            *[f"--Session.packer={packer}", f"--Session.key={KEY}"],
            "--location=127.0.0.1",
        )
        deadline = time.monotonic() + PATIENCE
        while not file.exists():
            if time.monotonic() > deadline:
                raise SystemExit("the controller did not start")
            time.sleep(0.05)
        for _ in range(2):
            start("engine", "-m", "ipyparallel.engine", profile)
        code = f"exec(compile({CALLS!r}, 'calls.py', 'exec'))"
        if start("client", "-c", code, str(file)).wait(3 * PATIENCE):
            raise SystemExit(f"the client failed ({packer})")
        for process in started:
            process.wait(PATIENCE)
        return log.read_bytes()
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
                process.wait()


def record(python: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "key").write_text(KEY)
    prefix = subprocess.check_output([python, "-c", "import sys; print(sys.prefix)"])
    for packer in PACKERS:
        with tempfile.TemporaryDirectory() as folder:
            log = run_cluster(python, packer, Path(folder))
            forbidden = [prefix.strip(), folder.encode(), str(HERE).encode()]
            with open(out / f"{packer}.bin", "wb") as f:
                f.write(MAGIC)
                for role, frames in choose(log, forbidden):
                    f.write(struct.pack("<B", len(role)) + role.encode())
                    f.write(struct.pack("<I", len(frames)))
                    for frame in frames:
                        f.write(struct.pack("<I", len(frame)) + frame)


if __name__ == "__main__":
    record(sys.argv[1], Path(sys.argv[2]))
