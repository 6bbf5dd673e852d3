"""What the tests of the client share."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import roundhouse

HERE = Path(__file__).parent

CONNECTION = {
    "ssh": "",
    "interface": "tcp://127.0.0.1",
    "registration": 1,
    "control": 2,
    "mux": 3,
    "task": 4,
    "task_scheme": "leastload",
    "iopub": 5,
    "notification": 6,
    "broadcast": 7,
    "key": "k",
    "curve_serverkey": None,
    "location": "localhost",
    "pack": "json",
    "unpack": "json",
    "signature_scheme": "hmac-sha256",
}


def run_python(code, *args, **kwargs):
    """Run code in a fresh interpreter that finds this package; its stdout."""
    env = dict(os.environ)
    where = str(Path(roundhouse.__file__).parent.parent)
    env["PYTHONPATH"] = where + os.pathsep + env.get("PYTHONPATH", "")
    done = subprocess.run(
        [kwargs.pop("python", sys.executable), "-c", code, *args],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
        **kwargs,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Peer:
    """Requests to peer_serialize.py: an operation and frames each way."""

    def __init__(self, python):
        self.process = subprocess.Popen(
            [python, str(HERE / "peer_serialize.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, op, frames):
        frames = [op.encode(), *[bytes(f) for f in frames]]
        out = struct.pack("<I", len(frames))
        for f in frames:
            out += struct.pack("<Q", len(f)) + f
        self.process.stdin.write(out)
        self.process.stdin.flush()
        (n,) = struct.unpack("<I", self.process.stdout.read(4))
        answer = []
        for _ in range(n):
            (size,) = struct.unpack("<Q", self.process.stdout.read(8))
            answer.append(self.process.stdout.read(size))
        status = answer.pop(0)
        if status != b"ok":
            raise RuntimeError(answer[0].decode())
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
