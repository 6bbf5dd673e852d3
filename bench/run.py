"""Measure Roundhouse, multiprocessing.Pool and other peers side by side.

    python bench/run.py [--peer NAME=PYTHON]... [--rounds 3] [--quick]
                        [--out bench/results]

NAME is ipyparallel, dask or ray, PYTHON an interpreter that has it; the result
names those that it has not.  All take turns, round after round, on the same
machine, so that a change of the machine's speed meets all of them.  Medians
over the rounds and ratios of medians go to results.md and results.json.
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
TITLES = {
    "roundhouse": "Roundhouse",
    "ipyparallel": "ipyparallel",
    "dask": "Dask",
    "ray": "Ray",
    "pool": "Pool",
}
# The peers with a python of their own: the module that tells the version.
PEERS = {"ipyparallel": "ipyparallel", "dask": "distributed", "ray": "ray"}

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
    ("start_s", "start-up until 4 engines are there", "s", False),
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
    """A column for each system, and one for each ratio to the first."""
    ours, *others = medians.values()
    titles = [TITLES[s] for s in medians]
    heads = ["work", *titles, *(f"better than {t}" for t in titles[1:])]
    lines = [about, "", f"| {' | '.join(heads)} |"]
    lines.append("|---|" + "---:|" * (len(heads) - 1))
    for key, title, unit, larger in ROWS:
        cells = [f"{title}{f', {unit}' if unit else ''}"]
        cells += [figure(m.get(key)) for m in medians.values()]
        cells += [ratio(ours.get(key), m.get(key), larger) for m in others]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def named_python(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if name not in PEERS or not python:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=PYTHON with a NAME of {', '.join(PEERS)}"
        )
    return name, python


def version(python: str, module: str) -> str | None:
    """None if there is no such interpreter, or it has no such module."""
    code = f"import {module}; print({module}.__version__)"
    try:
        return subprocess.check_output([python, "-c", code], text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument(
        "--peer",
        type=named_python,
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="another system, and a python that has it",
    )
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--quick", action="store_true", help="small numbers, to try it out")
    p.add_argument("--out", type=Path, default=HERE / "results")
    args = p.parse_args()

    python = {"roundhouse": sys.executable}
    versions = []
    for name, peer in args.peer:
        found = version(peer, PEERS[name])
        versions.append(f"{TITLES[name]} {found or 'did not install'}")
        if found:
            python[name] = peer
    python["pool"] = sys.executable
    rounds: dict[str, list[dict]] = {s: [] for s in python}
    for i in range(args.rounds):
        for system in python:
            print(f"round {i + 1} of {args.rounds}: {system}", file=sys.stderr)
            rounds[system].append(run(python[system], system, args.quick))
    medians = {
        s: {k: statistics.median(r[k] for r in rs) for k in rs[0]}
        for s, rs in rounds.items()
    }
    facts = [
        f"Medians of {args.rounds} rounds",
        "2 engines",
        f"{os.cpu_count()} processors",
        f"Python {platform.python_version()}",
        *versions,
        f"{datetime.now(timezone.utc):%Y-%m-%d}",
    ]
    about = ", ".join(facts) + "."
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
