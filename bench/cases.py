"""The measurements, for one system in one process; prints JSON.

    python cases.py roundhouse|ipyparallel|pool [--quick]

roundhouse and ipyparallel run the very same code, since their APIs agree; pool
is multiprocessing.Pool, the yardstick on one host.  Times are wall seconds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENGINES = 2
MANY = 16
PUSH_TO = 8
ARRAY_BYTES = 64 << 20


def noop(x=None):
    return x


def size(a):
    return len(a)


def timed(f) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def call_us(f, n: int) -> float:
    """Median microseconds of one call of f, after a warm-up."""
    for _ in range(max(10, n // 10)):
        f()
    return statistics.median(timed(f) for _ in range(n)) * 1e6


def rate(submit, wait, n: int) -> float:
    """Calls per second, submitted one by one, until the last result is here."""
    wait([submit(i) for i in range(max(10, n // 10))])
    start = time.perf_counter()
    wait([submit(i) for i in range(n)])
    return n / (time.perf_counter() - start)


def rate_graph(view, wait, n: int) -> float:
    """Tasks per second of a graph: each after two of the hundred before it."""
    rng = random.Random(1)
    results = [view.apply_async(noop, i) for i in range(2)]
    wait(results)
    start = time.perf_counter()
    for i in range(n):
        with view.temp_flags(after=rng.sample(results[-100:], 2)):
            results.append(view.apply_async(noop, i))
    wait(results)
    return n / (time.perf_counter() - start)


def processes_below(pid: int) -> list[int]:
    pids = [pid]
    for p in pids:
        for task in Path(f"/proc/{p}/task").glob("*/children"):
            pids += [int(c) for c in task.read_text().split()]
    return pids


def memory_mb(pids: list[int]) -> float:
    """Proportional set size: shared pages are divided among their users."""
    kb = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kb += int(line.split()[1])
    return kb / 1024


def controller_pid(cluster_id: str) -> int:
    """The oldest process whose command line names ipcontroller and the cluster."""
    found = []
    for p in Path("/proc").glob("[0-9]*"):
        try:
            command = (p / "cmdline").read_bytes().decode(errors="replace")
            environ = (p / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        names = "ipcontroller" in command or "ipyparallel.controller" in command
        if names and cluster_id in command + environ:
            found.append(int(p.name))
    return min(found)


def measure_cluster(module: str, quick: bool) -> dict:
    ipp = importlib.import_module(module)
    out = {}
    calls, tasks, chain = (200, 500, 100) if quick else (1000, 20000, 3000)
    if module == "ipyparallel":  # as many as take about as long
        calls, tasks, chain = (50, 100, 30) if quick else (300, 1000, 300)
    with ipp.Cluster(n=ENGINES, log_level=40) as rc:
        rc.wait_for_engines(ENGINES)
        direct, balanced = rc[0], rc.load_balanced_view()
        time.sleep(1)  # idle, as after a coffee
        pids = processes_below(controller_pid(rc.cluster.cluster_id))
        out["controller_mb"] = memory_mb(pids)
        out["controller_processes"] = len(pids)
        out["call_direct_us"] = call_us(lambda: direct.apply_sync(noop), calls)
        out["call_balanced_us"] = call_us(lambda: balanced.apply_sync(noop), calls)

        def wait(results):
            for r in results:
                r.get()

        out["rate_direct"] = rate(lambda i: direct.apply_async(noop, i), wait, tasks)
        out["rate_balanced"] = rate(
            lambda i: balanced.apply_async(noop, i), wait, tasks
        )

        last = [None]

        def dependent(i):
            with balanced.temp_flags(after=last[0]):
                last[0] = balanced.apply_async(noop, i)
            return last[0]

        out["rate_dag"] = rate(dependent, wait, chain)
        out["rate_graph"] = rate_graph(balanced, wait, tasks)
        if module == "roundhouse":  # the other has no automatic chunks
            items = range(50 * tasks)
            seconds = timed(lambda: balanced.map_sync(noop, items, chunksize="auto"))
            out["rate_map"] = len(items) / seconds
    return out


def gb_s(seconds: float) -> float:
    return ARRAY_BYTES / seconds / 1e9


def measure_arrays(module: str, quick: bool) -> dict:
    """64 MiB to one engine and to several; a copy in memory as the yardstick.

    The first calls also pay for fresh memory, in this process and in the hub's
    records, until these are full after about twenty calls.
    """
    import numpy

    ipp = importlib.import_module(module)
    array = numpy.random.default_rng(1).integers(0, 255, ARRAY_BYTES, dtype=numpy.uint8)
    other = array.copy()
    n = 3 if quick else 9
    out = {
        "memcpy_gb_s": gb_s(
            min(timed(lambda: numpy.copyto(other, array)) for _ in range(n))
        )
    }
    with ipp.Cluster(n=PUSH_TO, log_level=40) as rc:
        rc.wait_for_engines(PUSH_TO)
        one, every = rc[0], rc[:]

        def call():
            one.apply_sync(size, array)

        call()
        out["array_gb_s"] = gb_s(min(timed(call) for _ in range(5)))
        for _ in range(0 if quick else 20):
            call()
        out["array_warm_gb_s"] = gb_s(statistics.median(timed(call) for _ in range(n)))

        def push(view):
            return timed(lambda: view.push({"a": array}, block=True))

        pairs = [(push(one), push(every)) for _ in range(n)]
        to_one, to_every = map(statistics.median, zip(*pairs))
        out["push_ratio"] = to_every / to_one
    return out


def measure_many(module: str, quick: bool) -> dict:
    """One call on each of many engines, sent one by one or as one broadcast."""
    ipp = importlib.import_module(module)
    calls = (50 if quick else 500) // (1 if module == "roundhouse" else 5)
    with ipp.Cluster(n=MANY, log_level=40) as rc:
        rc.wait_for_engines(MANY)
        direct, broadcast = rc[:], rc.broadcast_view()
        return {
            "all_direct_us": call_us(lambda: direct.apply_sync(noop), calls),
            "all_broadcast_us": call_us(lambda: broadcast.apply_sync(noop), calls),
        }


def measure_start(module: str) -> dict:
    """Seconds from the command `ipcluster start -n 4` to four ids in a client."""
    ipp = importlib.import_module(module)
    command = str(Path(sys.executable).parent / "ipcluster")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        cluster = subprocess.Popen(
            [command, "start", "-n", "4", f"--profile-dir={folder}/profile"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            file = Path(folder, "profile/security/ipcontroller-client.json")
            while not file.exists():
                time.sleep(0.005)
            with ipp.Client(str(file), timeout=60) as rc:
                while len(rc.ids) < 4:
                    time.sleep(0.005)
                seconds = time.perf_counter() - start
        finally:
            cluster.terminate()
            cluster.wait(60)
    return {"start_s": seconds}


def measure_pool(quick: bool) -> dict:
    calls, tasks = (200, 2000) if quick else (1000, 20000)
    with multiprocessing.Pool(ENGINES) as pool:
        out = {"call_direct_us": call_us(lambda: pool.apply(noop), calls)}
        out["call_balanced_us"] = out["call_direct_us"]
        pool.map(noop, range(1000), chunksize=1)
        seconds = timed(lambda: pool.map(noop, range(tasks), chunksize=1))
        out["rate_balanced"] = tasks / seconds
        items = range(50 * tasks)
        out["rate_map"] = len(items) / timed(lambda: pool.map(noop, items))
        array = bytes(ARRAY_BYTES)
        pool.apply(size, (array,))
        seconds = min(timed(lambda: pool.apply(size, (array,))) for _ in range(5))
        out["array_gb_s"] = gb_s(seconds)
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("system", choices=["roundhouse", "ipyparallel", "pool"])
    p.add_argument("--quick", action="store_true", help="small numbers, to try it out")
    args = p.parse_args()
    if args.system == "pool":
        out = measure_pool(args.quick)
    else:
        out = measure_cluster(args.system, args.quick)
        out.update(measure_many(args.system, args.quick))
        out.update(measure_arrays(args.system, args.quick))
        out.update(measure_start(args.system))
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
