"""Where the time of a task goes: processor time and switches of every thread.

    python bench/profile.py [--tasks N] [--markdown]

Runs a cluster of two engines and, for some kinds of work, divides what the
kernel has counted for each thread (schedstat and status in /proc) by the number
of tasks.  Unlike elapsed time these figures hardly depend on what else the
machine does.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import roundhouse as ipp

ENGINES = 2


def noop() -> None:
    pass


def counts_of(pid: int, who: str) -> dict[tuple[str, str], tuple[float, int]]:
    """Of every thread: microseconds on a processor, and times it went to sleep."""
    out: dict[tuple[str, str], tuple[float, int]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        us = int((task / "schedstat").read_text().split()[0]) / 1000
        sleeps = 0
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                sleeps = int(line.split()[1])
        before = out.get((who, name), (0.0, 0))
        out[who, name] = (before[0] + us, before[1] + sleeps)
    return out


def snapshot(pids: dict[int, str]) -> tuple[Counter[Any], Counter[Any]]:
    us: Counter[Any] = Counter()
    sleeps: Counter[Any] = Counter()
    for pid, who in pids.items():
        for key, (a, b) in counts_of(pid, who).items():
            us[key] += a
            sleeps[key] += b
    return us, sleeps


def profile(pids: dict[int, str], work: Callable[[int], None], n: int) -> None:
    """Print a table for *n* tasks of *work*."""
    work(n // 10 + 1)
    us, sleeps = snapshot(pids)
    begin = time.perf_counter()
    work(n)
    elapsed = time.perf_counter() - begin
    us_after, sleeps_after = snapshot(pids)
    print("| process | thread | us | sleeps |\n|---|---|---:|---:|")
    total = 0.0
    for key in sorted(us_after):
        spent = (us_after[key] - us[key]) / n
        total += spent
        if spent >= 0.1:
            slept = (sleeps_after[key] - sleeps[key]) / n
            print(f"| {key[0]} | {key[1]} | {spent:.1f} | {slept:.2f} |")
    print(f"| all | | {total:.1f} | |\n\n{elapsed / n * 1e6:.0f} us a task elapsed\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10000, help="of each kind")
    n = parser.parse_args().tasks
    with ipp.Cluster(n=ENGINES, log_level=40) as rc:
        pids = {os.getpid(): "client"}
        pids[cases.controller_pid(rc.cluster.cluster_id)] = "controller"
        pids.update(dict.fromkeys(rc[:].apply_sync(os.getpid), "engines"))
        direct, balanced = rc[0], rc.load_balanced_view()

        def calls(view: Any) -> Callable[[int], None]:
            return lambda n: [view.apply_sync(noop) for _ in range(n)] and None

        def stream(view: Any) -> Callable[[int], None]:
            def run(n: int) -> None:
                for r in [view.apply_async(noop) for _ in range(n)]:
                    r.get()

            return run

        for title, work, share in (
            ("blocking calls, direct", calls(direct), 5),
            ("blocking calls, balanced", calls(balanced), 5),
            ("calls one by one, direct", stream(direct), 1),
            ("tasks one by one, balanced", stream(balanced), 1),
        ):
            print(f"### {title}\n")
            profile(pids, work, n // share)


if __name__ == "__main__":
    main()
