"""A stand-in for the controller and for an engine, for tests of launchers.

Run as a program: ``cluster_fakes.py controller|engine MODE...``.  It does what
launchers can see: connection files, output, exit codes, signals.
"""

import json
import os
import signal
import sys
import time


def paths():
    folder = os.path.join(os.environ["IPP_PROFILE_DIR"], "security")
    cluster_id = os.environ["IPP_CLUSTER_ID"]
    stem = f"ipcontroller-{cluster_id}" if cluster_id else "ipcontroller"
    return {k: os.path.join(folder, f"{stem}-{k}.json") for k in ("client", "engine")}


def info(kind):
    return {
        "interface": "tcp://127.0.0.1",
        "registration": 1,
        "kind": kind,
        "pid": os.getpid(),
    }


def controller(modes):
    def stop(*_):
        if "reuse" not in modes:
            for path in paths().values():
                os.unlink(path)
        sys.exit(0)

    if "crash" in modes:
        print("cannot bind the port")
        sys.exit(3)
    if "never" in modes:
        time.sleep(600)
    if "stubborn" in modes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, stop)
    for kind, path in paths().items():
        if "halves" in modes:  # a writer that is seen at work
            with open(path, "w") as f:
                f.write('{"registration": ')
                f.flush()
                time.sleep(0.1)
        with open(path, "w") as f:
            json.dump(info(kind), f)
    time.sleep(600)


def engine(modes):
    print("environment", json.dumps(dict(os.environ)))
    print("arguments", json.dumps(modes), flush=True)
    if "crash" in modes:
        print("engine cannot do anything")
        sys.exit(4)
    if "stubborn" in modes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGUSR1, lambda *_: print("USR1", flush=True))
    print("ready", flush=True)
    while True:
        time.sleep(600)


if __name__ == "__main__":
    {"controller": controller, "engine": engine}[sys.argv[1]](sys.argv[2:])
