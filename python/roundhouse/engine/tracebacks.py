"""Errors as clients show them: coloured, with source, in IPython's layout.

IPython itself is not needed, so an engine that only applies functions stays
small even when they fail.
"""

from __future__ import annotations

import linecache
import os
import sys
import traceback

from ..excerpt import GREEN, OFF, excerpt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType
    from typing import Any


RULE = 75
MAX_FRAMES = 60  # deeper recursions lose their middle
MAX_CAUSES = 8

RED = "\x1b[0;31m"
CYAN = "\x1b[0;36m"
BLUE = "\x1b[1;34m"

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_SERIALIZE = os.path.join(os.path.dirname(_HERE.rstrip(os.sep)), "serialize") + os.sep


def explain(exc: BaseException) -> tuple[str, str, list[str], bool]:
    """(ename, evalue, traceback lines, is UnmetDependency) of an exception."""
    name = type(exc).__name__
    try:
        value = str(exc)
    except Exception as e:
        value = f"(str() of the {name} failed: {type(e).__name__})"
    return name, value, render(exc), name == "UnmetDependency"


def render(exc: BaseException) -> list[str]:
    """The lines of a traceback, causes first."""
    out = [f"{RED}{'-' * RULE}{OFF}"]
    chain = _chain(exc)
    for i, (link, e) in enumerate(chain):
        if i:
            out += ["", link, ""]
        out.extend(_one(e, header=True))
    return out


def _chain(exc: BaseException | None) -> list[tuple[str, BaseException]]:
    """[(sentence that leads here, exception)], oldest first."""
    out: list[tuple[str, BaseException]] = []
    seen: set[int] = set()
    link: str
    older: BaseException | None
    while exc is not None and id(exc) not in seen and len(out) < MAX_CAUSES:
        seen.add(id(exc))
        if exc.__cause__ is not None:
            link, older = (
                "The above exception was the direct cause of the following exception:",
                exc.__cause__,
            )
        elif exc.__context__ is not None and not exc.__suppress_context__:
            link, older = (
                "During handling of the above exception, another exception occurred:",
                exc.__context__,
            )
        else:
            link, older = "", None
        out.append((link, exc))
        exc = older
    # Each sentence stands before the newer of its two exceptions.
    return out[::-1]


def _one(exc: BaseException, header: bool) -> list[str]:
    name = type(exc).__name__
    out = []
    if header:
        tail = "Traceback (most recent call last)"
        out.append(
            f"{RED}{name}{OFF}{tail.rjust(max(RULE - len(name), len(tail) + 1))}"
        )
    frames = _frames(exc.__traceback__)
    if len(frames) > MAX_FRAMES:
        half = MAX_FRAMES // 2
        cut = len(frames) - 2 * half
        note = [f"... {cut} frames of a deep recursion are left out ...\n"]
        out.extend(_frame(*f) for f in frames[:half])
        out.extend(note)
        out.extend(_frame(*f) for f in frames[-half:])
    else:
        out.extend(_frame(*f) for f in frames)
    if isinstance(exc, SyntaxError):
        out.append(_syntax(exc))
    out.append(_last_line(exc))
    out.extend(str(n) for n in getattr(exc, "__notes__", ()) or ())
    for i, e in enumerate(getattr(exc, "exceptions", ()) or ()):
        if isinstance(e, BaseException) and i < MAX_CAUSES:
            out.append(f"{BLUE}[{i}]{OFF} " + "\n    ".join(_one(e, header=False)))
    return out


def _frames(tb: TracebackType | None) -> list[tuple[str, int, CodeType, FrameType]]:
    """(file, line, function, frame) of user code; ours is left out."""
    out = []
    while tb is not None:
        code = tb.tb_frame.f_code
        if not _is_ours(code):
            out.append((code.co_filename, tb.tb_lineno, code, tb.tb_frame))
        tb = tb.tb_next
    return out


def _is_ours(code: CodeType) -> bool:
    name = code.co_filename
    return name == "<apply>" or name.startswith((_HERE, _SERIALIZE))


def _frame(filename: str, lineno: int, code: CodeType, frame: FrameType) -> str:
    where = f"File {GREEN}{_short(filename)}:{lineno}{OFF}"
    if code.co_name != "<module>":
        where += f", in {CYAN}{code.co_name}{_signature(code)}{OFF}"
    lines = excerpt(lambda n: linecache.getline(filename, n, frame.f_globals), lineno)
    return where + "\n" + ("\n".join(lines) + "\n" if lines else "")


def _signature(code: CodeType) -> str:
    n = code.co_argcount + code.co_kwonlyargcount
    names = list(code.co_varnames[:n])
    rest = code.co_varnames[n:]
    if code.co_flags & 4:
        names.insert(code.co_argcount, "*" + rest[0])
        rest = rest[1:]
    if code.co_flags & 8:
        names.append("**" + rest[0])
    return f"({', '.join(names)})"


def _short(filename: str) -> Any:
    home = os.path.expanduser("~")
    if home != "~" and filename.startswith(home + os.sep):
        return "~" + filename[len(home) :]
    return filename


def _syntax(exc: BaseException) -> Any:
    lines = traceback.format_exception_only(type(exc), exc)
    return "".join(lines[:-1]).rstrip("\n")


def _last_line(exc: BaseException) -> Any:
    name = type(exc).__name__
    try:
        text = exc.msg if isinstance(exc, SyntaxError) else str(exc)
    except Exception:
        text = "(str() failed)"
    return f"{RED}{name}{OFF}: {text}" if text else f"{RED}{name}{OFF}"


def print_to_console(exc: BaseException) -> None:
    """On the engine's own terminal, for failures nobody asked about."""
    print("\n".join(render(exc)), file=sys.__stderr__)
