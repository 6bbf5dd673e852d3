#!/usr/bin/env python3
"""House rules that no general tool knows; prints each breach as file:line: rule."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 1200
FUNCTION_LINES = 120
BANNED = [
    "strcpy",
    "strcat",
    "sprintf",
    "vsprintf",
    "strtok",
    "gets",
    "atoi",
    "atol",
    "atof",
    "alloca",
    "localtime",
    "gmtime",
    "asctime",
    "ctime",
    "rand",
    "srand",
]
# malloc and friends only where the fault injection lives.
ALLOCATORS = ["malloc", "calloc", "realloc", "strdup", "strndup"]
MAY_ALLOCATE = {"src/base/mem.c"}
# What each header may be included by; anything else breaks the layers.
ONLY_IN = {
    "zmq.h": ("src/net/", "tests/unit/net/"),
    "Python.h": ("src/pyext/",),
    "time.h": (
        "src/base/",
        "src/engine/",
        "src/client/",
        "src/net/",
        "src/controller/",
    ),
}
CALL = r"(?<![\w.>])({})\s*\("
BANNED_RE = re.compile(CALL.format("|".join(BANNED)))
ALLOC_RE = re.compile(CALL.format("|".join(ALLOCATORS)))
INCLUDE_RE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]')
COMMENT_RE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.S)


def files(*patterns: str) -> list[Path]:
    out = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *patterns],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(p) for p in out.splitlines() if Path(p).is_file()]


def without_comments(text: str) -> str:
    return COMMENT_RE.sub(lambda m: "\n" * m.group().count("\n"), text)


def functions(lines: list[str]) -> Iterator[tuple[int, int]]:
    """First line and length of each function body (a brace alone in column 0)."""
    start = None
    for i, line in enumerate(lines, 1):
        if line == "{":
            start = i
        elif line == "}" and start:
            yield start, i - start
            start = None


def check_c(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text()
    lines = text.splitlines()
    product = str(path).startswith(("src/", "include/"))
    if len(lines) > FILE_LINES:
        yield 1, f"{len(lines)} lines, at most {FILE_LINES}"
    if product and not text.startswith("/*"):
        yield 1, "no banner comment"
    for start, n in functions(lines):
        if n > FUNCTION_LINES:
            yield start, f"function of {n} lines, at most {FUNCTION_LINES}"
    for i, line in enumerate(lines, 1):
        m = INCLUDE_RE.match(line)
        if not m:
            continue
        if ".." in m.group(1):
            yield i, "include leaves its folder"
        allowed = ONLY_IN.get(m.group(1))
        if product and allowed and not str(path).startswith(allowed):
            yield i, f"<{m.group(1)}> is not for this layer"
    if not product:
        return
    for i, line in enumerate(without_comments(text).splitlines(), 1):
        m = BANNED_RE.search(line)
        if m:
            yield i, f"{m.group(1)}() is banned"
        m = ALLOC_RE.search(line)
        if m and str(path) not in MAY_ALLOCATE:
            yield i, f"{m.group(1)}(): use mem_*"


def check_text(path: Path) -> Iterator[tuple[int, str]]:
    for i, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX)\b", line):
            yield i, "open end left in the text"
        if re.search(r"(?<![\w/])/(work|root)/", line):
            yield i, "path of one machine"


def main() -> int:
    breaches = 0
    for path in files("src/*.[ch]", "include/*.h", "tests/*.[ch]", "bench/*.c"):
        for line, rule in check_c(path):
            print(f"{path}:{line}: {rule}")
            breaches += 1
    for path in files(
        "src", "include", "python", "tests", "bench", "examples", "docs", "*.md"
    ):
        if path.suffix not in {".c", ".h", ".py", ".md", ".sh", ".cmake", ".pyi"}:
            continue
        for line, rule in check_text(path):
            print(f"{path}:{line}: {rule}")
            breaches += 1
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
