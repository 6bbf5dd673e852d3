"""Measure Roundhouse, ipyparallel and multiprocessing.Pool side by side.

    python bench/run.py --peer PYTHON [--rounds 3] [--quick] [--out bench/results]

The three take turns, round after round, on the same machine, so that a change
of the machine's speed meets all of them.  Medians over the rounds and ratios of
medians go to results.md and results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).parent
SYSTEMS = ("roundhouse", "ipyparallel", "pool")

# key, title, unit, is a larger figure better
ROWS = (
    ("call_direct_us", "blocking no-op call, direct", "us", False),
    ("call_balanced_us", "blocking no-op call, balanced", "us", False),
    ("rate_direct", "direct no-op calls, one by one", "1/s", True),
    ("rate_balanced", "balanced no-op tasks, one by one", "1/s", True),
    ("rate_dag", "chain of dependent tasks", "1/s", True),
    ("rate_graph", "graph of tasks, each after two others", "1/s", True),
    ("rate_map", "map with automatic chunks, items", "1/s", True),
    ("all_direct_us", "blocking no-op call on 16 engines, direct", "us", False),
    ("all_broadcast_us", "the same, broadcast", "us", False),
    ("memcpy_gb_s", "64 MiB copied in memory", "GB/s", True),
    ("array_gb_s", "64 MiB array to an engine", "GB/s", True),
    ("array_warm_gb_s", "the same after 25 calls", "GB/s", True),
    ("push_ratio", "64 MiB pushed to 8 engines : to 1", "", False),
    ("controller_mb", "idle controller, memory (PSS)", "MB", False),
    ("controller_processes", "idle controller, processes", "", False),
    ("start_s", "`ipcluster start -n 4` to 4 ids", "s", False),
)


def run(python: str, system: str, quick: bool) -> dict:
    command = [python, str(HERE / "cases.py"), system] + ["--quick"] * quick
    bin_dir = str(Path(python).parent)
    environ = dict(os.environ, PATH=f"{bin_dir}:{os.environ['PATH']}")
    environ.setdefault("IPP_NONINTERACTIVE", "1")
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=1800, env=environ
    )
    if done.returncode:
        raise SystemExit(f"{system}: {' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(ours: float | None, theirs: float | None, larger_is_better: bool) -> str:
    """How many times better we are."""
    if not ours or not theirs:
        return "-"
    return f"{ours / theirs if larger_is_better else theirs / ours:.3g} x"


def table(medians: dict[str, dict], about: str) -> str:
    lines = [
        about,
        "",
        "| work | Roundhouse | ipyparallel | Pool | better than ipyparallel | than Pool |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for key, title, unit, larger in ROWS:
        ours, theirs, pool = (medians[s].get(key) for s in SYSTEMS)
        cells = [f"{title}{f', {unit}' if unit else ''}"]
        cells += [figure(v) for v in (ours, theirs, pool)]
        cells += [ratio(ours, theirs, larger), ratio(ours, pool, larger)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--peer", required=True, help="python that has ipyparallel")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--quick", action="store_true", help="small numbers, to try it out")
    p.add_argument("--out", type=Path, default=HERE / "results")
    args = p.parse_args()

    python = {s: sys.executable for s in SYSTEMS}
    python["ipyparallel"] = args.peer
    rounds: dict[str, list[dict]] = {s: [] for s in SYSTEMS}
    for i in range(args.rounds):
        for system in SYSTEMS:
            print(f"round {i + 1} of {args.rounds}: {system}", file=sys.stderr)
            rounds[system].append(run(python[system], system, args.quick))
    medians = {
        s: {k: statistics.median(r[k] for r in rs) for k in rs[0]}
        for s, rs in rounds.items()
    }
    version = subprocess.run(
        [args.peer, "-c", "import ipyparallel as i; print(i.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    about = (
        f"Medians of {args.rounds} rounds, 2 engines, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}, ipyparallel {version}, "
        f"{datetime.now(timezone.utc):%Y-%m-%d}."
    )
    args.out.mkdir(parents=True, exist_ok=True)
    text = table(medians, about)
    (args.out / "results.md").write_text(text)
    (args.out / "results.json").write_text(
        json.dumps({"about": about, "medians": medians, "rounds": rounds}, indent=2)
        + "\n"
    )
    print(text)


if __name__ == "__main__":
    main()
