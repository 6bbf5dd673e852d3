"""The measurements, for one system in one process; prints JSON.

    python cases.py roundhouse|ipyparallel|pool|dask|ray [--quick]

roundhouse and ipyparallel run the very same code, since their APIs agree; pool
is multiprocessing.Pool, the yardstick on one host.  dask (distributed) and ray
run the same loops on worker processes of one thread, without dashboards, and
otherwise with their defaults.  Times are wall seconds.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENGINES = 2
MANY = 16
START = 4
PUSH_TO = 8
ARRAY_BYTES = 64 << 20


def noop(x=None, *after):
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


def counts(system: str, quick: bool) -> tuple[int, int, int]:
    """Calls, tasks, and tasks in a chain: as many as take about as long."""
    if system == "roundhouse":
        return (200, 500, 100) if quick else (1000, 20000, 3000)
    if quick:
        return 50, 100, 30
    return (300, 1000, 300) if system == "ipyparallel" else (300, 3000, 1000)


def measure_calls(where: str, call, submit, wait, calls: int, tasks: int) -> dict:
    return {
        f"call_{where}_us": call_us(lambda: call(noop), calls),
        f"rate_{where}": rate(lambda i: submit(noop, i), wait, tasks),
    }


def measure_graphs(submit, wait, chain: int, tasks: int) -> dict:
    """Tasks per second of a chain, and of a graph: each after two of the last 100.

    submit(i, after) hands out a task that starts after those in the list.
    """
    last = []

    def dependent(i):
        last[:] = [submit(i, last)]
        return last[0]

    out = {"rate_dag": rate(dependent, wait, chain)}
    rng = random.Random(1)
    results = [submit(i, []) for i in range(2)]
    wait(results)
    start = time.perf_counter()
    for i in range(tasks):
        results.append(submit(i, rng.sample(results[-100:], 2)))
    wait(results)
    out["rate_graph"] = tasks / (time.perf_counter() - start)
    return out


def measure_array(call, quick: bool) -> dict:
    """GB/s of call, which brings ARRAY_BYTES to a worker.

    The first calls also pay for fresh memory, in this process and in the hub's
    records, until these are full after about twenty calls.
    """
    call()
    out = {"array_gb_s": gb_s(min(timed(call) for _ in range(5)))}
    for _ in range(0 if quick else 20):
        call()
    n = 3 if quick else 9
    out["array_warm_gb_s"] = gb_s(statistics.median(timed(call) for _ in range(n)))
    return out


def gb_s(seconds: float) -> float:
    return ARRAY_BYTES / seconds / 1e9


def random_array():
    import numpy

    return numpy.random.default_rng(1).integers(0, 255, ARRAY_BYTES, dtype=numpy.uint8)


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
    calls, tasks, chain = counts(module, quick)
    with ipp.Cluster(n=ENGINES, log_level=40) as rc:
        rc.wait_for_engines(ENGINES)
        direct, balanced = rc[0], rc.load_balanced_view()
        time.sleep(1)  # idle, as after a coffee
        pids = processes_below(controller_pid(rc.cluster.cluster_id))
        out["controller_mb"] = memory_mb(pids)
        out["controller_processes"] = len(pids)

        def wait(results):
            for r in results:
                r.get()

        for where, view in (("direct", direct), ("balanced", balanced)):
            out |= measure_calls(
                where, view.apply_sync, view.apply_async, wait, calls, tasks
            )

        def dependent(i, after):
            with balanced.temp_flags(after=after):
                return balanced.apply_async(noop, i)

        out |= measure_graphs(dependent, wait, chain, tasks)
        if module == "roundhouse":  # the other has no automatic chunks
            items = range(50 * tasks)
            seconds = timed(lambda: balanced.map_sync(noop, items, chunksize="auto"))
            out["rate_map"] = len(items) / seconds
    return out


def measure_arrays(module: str, quick: bool) -> dict:
    """64 MiB to one engine and to several; a copy in memory as the yardstick."""
    import numpy

    ipp = importlib.import_module(module)
    array = random_array()
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
        out |= measure_array(lambda: one.apply_sync(size, array), quick)

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
    """Seconds from the command `ipcluster start` to START ids in a client."""
    ipp = importlib.import_module(module)
    command = str(Path(sys.executable).parent / "ipcluster")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        cluster = subprocess.Popen(
            [command, "start", "-n", str(START), f"--profile-dir={folder}/profile"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            file = Path(folder, "profile/security/ipcontroller-client.json")
            while not file.exists():
                time.sleep(0.005)
            with ipp.Client(str(file), timeout=60) as rc:
                while len(rc.ids) < START:
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
        out |= measure_array(lambda: pool.apply(size, (array,)), quick)
    return out


def measure_futures(system: str, direct, balanced, get, quick: bool) -> dict:
    """The rows of a system whose tasks follow those whose futures they are given.

    direct and balanced submit to one worker and to any; get takes one future
    or a list of them.
    """
    calls, tasks, chain = counts(system, quick)
    out = {}
    for where, submit in (("direct", direct), ("balanced", balanced)):
        out |= measure_calls(
            where, lambda f, s=submit: get(s(f)), submit, get, calls, tasks
        )
    return out | measure_graphs(
        lambda i, after: balanced(noop, i, *after), get, chain, tasks
    )


def measure_dask(quick: bool) -> dict:
    import dask.bag
    from distributed import Client, LocalCluster

    def cluster(n):
        return LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None)

    with cluster(ENGINES) as c, Client(c) as client:
        client.wait_for_workers(ENGINES)
        # "Pure" calls with the same arguments would run only once.
        balanced = functools.partial(client.submit, pure=False)
        first = next(iter(client.scheduler_info()["workers"]))
        direct = functools.partial(balanced, workers=[first])
        out = measure_futures("dask", direct, balanced, client.gather, quick)

        def bag_map(items):  # in Pool's number of chunks: its own takes far longer
            chunks = 4 * ENGINES
            dask.bag.from_sequence(items, npartitions=chunks).map(noop).compute()

        bag_map(range(1000))
        items = range(50 * counts("dask", quick)[1])
        out["rate_map"] = len(items) / timed(lambda: bag_map(items))
        array = random_array()

        def call():  # as its manual has it for large arguments
            there = client.scatter(array, direct=True, hash=False)
            balanced(size, there).result()

        out |= measure_array(call, quick)
    begin = time.perf_counter()
    with cluster(START) as c, Client(c) as client:
        client.wait_for_workers(START)
        out["start_s"] = time.perf_counter() - begin
    return out


def measure_ray(quick: bool) -> dict:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when it is imported
    import ray
    from ray.util.multiprocessing import Pool

    @ray.remote
    class Engine:
        def noop(self, x=None):
            return x

    def cluster(n, folder):
        return ray.init(
            "local",
            num_cpus=n,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )

    remote = functools.cache(ray.remote)

    def balanced(f, *args):
        return remote(f).remote(*args)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with cluster(ENGINES, folder):
            engine = Engine.remote()
            out = measure_futures(
                "ray",
                lambda _, *args: engine.noop.remote(*args),
                balanced,
                ray.get,
                quick,
            )
            array = random_array()
            out |= measure_array(lambda: ray.get(balanced(size, array)), quick)
            items = range(50 * counts("ray", quick)[1])
            with Pool(ENGINES) as pool:
                pool.map(noop, range(1000))
                out["rate_map"] = len(items) / timed(lambda: pool.map(noop, items))
        begin = time.perf_counter()
        with cluster(START, folder):
            engines = [Engine.remote() for _ in range(START)]
            ray.get([e.noop.remote() for e in engines])
            out["start_s"] = time.perf_counter() - begin
    return out


def main() -> None:
    measures = {"pool": measure_pool, "dask": measure_dask, "ray": measure_ray}
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("system", choices=["roundhouse", "ipyparallel", *measures])
    p.add_argument("--quick", action="store_true", help="small numbers, to try it out")
    args = p.parse_args()
    if args.system in measures:
        out = measures[args.system](args.quick)
    else:
        out = measure_cluster(args.system, args.quick)
        out.update(measure_many(args.system, args.quick))
        out.update(measure_arrays(args.system, args.quick))
        out.update(measure_start(args.system))
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
