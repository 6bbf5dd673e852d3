"""Run ipyparallel's installed test suite in four modes and tell the difference.

    python tests/compat/run_suite.py PYTHON [--modes a,b,c,d]
        [--write docs/compatibility.md] [arguments for pytest]

PYTHON belongs to an environment that holds ipyparallel, its test requirements
and roundhouse.  Modes: (a) our controller; (b) our controller and engines;
(c) our package in place of theirs; (d) nothing of ours, the reference.  Tests
that pass in (d) and not elsewhere must be named in reasons.json, with a reason;
one that is not makes this program fail.  A name there may be a pattern.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).parent
MODES = {
    "a": ("our controller", "controller"),
    "b": ("our controller and engines", "controller,engine"),
    "c": ("our package in place of theirs", "package,controller,engine"),
    "d": ("nothing of ours", ""),
}
TEST_TIMEOUT_S = 120


def suite_folder(python: str) -> str:
    return subprocess.check_output(
        [
            python,
            "-c",
            "import importlib.util as u; "
            "print(u.find_spec('ipyparallel').submodule_search_locations[0])",
        ],
        text=True,
    ).strip()


def run(python: str, mode: str, extra: list[str]) -> dict[str, str]:
    """Outcome (passed, failed, skipped) of each test, by its id."""
    folder = Path(suite_folder(python), "tests")
    environ = dict(
        os.environ,
        ROUNDHOUSE_SWAP=MODES[mode][1],
        ROUNDHOUSE_SUITE=str(folder),
        PYTHONPATH=str(HERE / "plugin"),
        PATH=f"{Path(python).parent}:{os.environ['PATH']}",
    )
    with tempfile.TemporaryDirectory() as work:
        report = Path(work, "report.xml")
        command = [python, "-m", "pytest", "-p", "roundhouse_swap", "-q"]
        command += ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", work]
        command += ["-o", "asyncio_mode=auto", f"--timeout={TEST_TIMEOUT_S}"]
        command += ["--continue-on-collection-errors"]
        # By its path: as a package, pytest would look for ours in mode (c).
        command += [f"--junitxml={report}", str(folder), *extra]
        log = Path("build", f"compat-{mode}.log")
        log.parent.mkdir(exist_ok=True)
        with open(log, "wb") as out:
            subprocess.run(command, env=environ, cwd=work, stdout=out, stderr=out)
        if not report.exists():
            raise SystemExit(f"mode {mode}: no report; see {log}")
        return outcomes(report)


def differing(reference: dict[str, str], result: dict[str, str]) -> list[str]:
    """The tests that pass in the reference and not here."""
    return sorted(
        t for t, o in reference.items() if o == "passed" and result.get(t) != "passed"
    )


def run_again(python: str, mode: str, tests: list[str]) -> dict[str, str]:
    """Outcome of *tests* alone: a busy machine makes some of them too slow."""
    names = {t.rpartition("::")[2].partition("[")[0] for t in tests}
    again = run(python, mode, ["-k", " or ".join(sorted(names))])
    return {t: again[t] for t in tests if t in again}


def outcomes(report: Path) -> dict[str, str]:
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        module = case.get("classname", "").replace("ipyparallel.tests.", "")
        kinds = {child.tag for child in case}
        outcome = (
            "failed"
            if kinds & {"failure", "error"}
            else "skipped"
            if "skipped" in kinds
            else "passed"
        )
        key = f"{module.split('tests.')[-1]}::{case.get('name')}"
        if found.get(key) != "failed":
            found[key] = outcome
    return found


def explain(tests: list[str], reasons: dict[str, str]) -> dict[str, list[str]]:
    """The tests by the pattern in reasons.json that names them, or by themselves."""
    groups: dict[str, list[str]] = {}
    for test in tests:
        for pattern in reasons:
            if fnmatchcase(test, pattern):
                groups.setdefault(pattern, []).append(test)
                break
        else:
            groups[test] = [test]
    return groups


PREFACE = """\
# Compatibility with ipyparallel

`make compat` runs ipyparallel's own test suite, as installed from PyPI, with parts of Roundhouse in place, and
writes this page. Tests that fail or are skipped in mode (d) as well are not counted in the last column: they need
programs that are not installed (MPI, Slurm, MongoDB). A test that fails without a known reason is run a second time,
alone.
"""


VERSIONS = """\
## Versions

`tests/compat/test_swap.py` runs one scenario (tasks, namespaces, output, dependencies, broadcasts, the hub's
queries, deaths, shutdown) with client, controller and engines each ours or ipyparallel's, and once more with
messages packed as pickle and msgpack, signed with sha512, unsigned, and under CURVE.

| ipyparallel | what works |
|---|---|
| 9.1, 8.8 | all eight combinations; part of every run of `make test`. In 8.8 an abort and the requests it names may pass each other, so that step is left out |
| 7.1 | all combinations, with Python 3.9 on both sides. With Python 3.11 it cannot send functions, not even to itself |
| 6.3 | its client and engines with our controller, with Python 3.9. It has no broadcasts and no `send_signal`. Its client does not learn that an engine was killed, nor does it with its own controller |

Functions travel as bytecode: client and engines need the same minor version of Python, whoever made them.
"""


def document(
    results: dict[str, dict[str, str]],
    groups: dict[str, dict[str, list[str]]],
    reasons: dict[str, str],
    about: str,
) -> str:
    lines = [
        PREFACE,
        about,
        "",
        "| mode | passed | failed | skipped | pass in (d), not here | for how many reasons |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for mode, result in results.items():
        n = Counter(result.values())
        by_reason = groups.get(mode, {})
        missing = sum(map(len, by_reason.values()))
        lines.append(
            f"| ({mode}) {MODES[mode][0]} | {n['passed']} | {n['failed']} | {n['skipped']} "
            f"| {missing} | {len(by_reason)} |"
        )
    for mode, by_reason in groups.items():
        if not by_reason:
            continue
        lines += ["", f"## Mode ({mode}): {MODES[mode][0]}", ""]
        lines += ["| tests | how many | reason |", "|---|---:|---|"]
        lines += [
            f"| `{pattern}` | {len(tests)} | {reasons.get(pattern, '**none yet**')} |"
            for pattern, tests in by_reason.items()
        ]
    return "\n".join(lines) + "\n\n" + VERSIONS


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("python")
    p.add_argument("--modes", default="a,b,c,d")
    p.add_argument("--write", type=Path)
    p.add_argument("--keep", type=Path, help="folder for outcomes: use those in it")
    args, extra = p.parse_known_args()  # what is not ours is for pytest
    python = os.path.abspath(args.python)
    results = {}
    for mode in args.modes.split(","):
        kept = args.keep and args.keep / f"{mode}.json"
        if kept and kept.exists():
            results[mode] = json.loads(kept.read_text())
        else:
            results[mode] = run(python, mode, extra)
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(results[mode]))
        print(mode, dict(Counter(results[mode].values())), flush=True)
    reference = results.get("d", {})
    reasons = json.loads((HERE / "reasons.json").read_text())
    missing = {}
    for mode, result in results.items():
        if mode == "d":
            continue
        tests = differing(reference, result)
        strange = [t for t in tests if set(explain([t], reasons)).isdisjoint(reasons)]
        if strange:
            result.update(run_again(python, mode, strange))
        missing[mode] = differing(reference, result)
    groups = {mode: explain(tests, reasons) for mode, tests in missing.items()}
    unexplained = 0
    for mode, by_reason in groups.items():
        for name, tests in by_reason.items():
            print(f"({mode}) {name} ({len(tests)}): {reasons.get(name, 'NO REASON')}")
            unexplained += name not in reasons
    version = subprocess.check_output(
        [python, "-c", "import ipyparallel; print(ipyparallel.__version__)"], text=True
    ).strip()
    if args.write:
        about = f"ipyparallel {version}, Python {sys.version.split()[0]}."
        args.write.write_text(document(results, groups, reasons, about))
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
