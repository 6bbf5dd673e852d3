"""Pickling of code objects.

A function crosses the wire as the arguments of its code object, rebuilt on the
other side by `code_ctor`.  Importing this module teaches pickle to do so for
every code object of the process.  Bytecode only runs on the Python minor
version that made it.
"""

from __future__ import annotations

import copyreg
from types import CodeType
from typing import Any

__all__ = ["code_ctor", "reduce_code"]

# The order of the CodeType constructor's arguments.
_FIELDS: tuple[str, ...]
if hasattr(CodeType, "co_exceptiontable"):  # 3.11 and later
    _FIELDS = (
        "co_argcount",
        "co_posonlyargcount",
        "co_kwonlyargcount",
        "co_nlocals",
        "co_stacksize",
        "co_flags",
        "co_code",
        "co_consts",
        "co_names",
        "co_varnames",
        "co_filename",
        "co_name",
        "co_qualname",
        "co_firstlineno",
        "co_linetable",
        "co_exceptiontable",
        "co_freevars",
        "co_cellvars",
    )
else:  # 3.8 to 3.10; 3.10 expects its new line table here
    _FIELDS = (
        "co_argcount",
        "co_posonlyargcount",
        "co_kwonlyargcount",
        "co_nlocals",
        "co_stacksize",
        "co_flags",
        "co_code",
        "co_consts",
        "co_names",
        "co_varnames",
        "co_filename",
        "co_name",
        "co_firstlineno",
        "co_linetable" if hasattr(CodeType, "co_linetable") else "co_lnotab",
        "co_freevars",
        "co_cellvars",
    )


def code_ctor(*args: Any) -> CodeType:
    """Build a code object from the constructor's positional arguments.

    Raises
    ------
    TypeError
        If the sender's Python has another layout of code objects, that is,
        another minor version.
    """
    if len(args) != len(_FIELDS):
        import sys

        raise TypeError(
            f"this function was made by another Python version: its code has "
            f"{len(args)} fields, Python {sys.version_info[0]}."
            f"{sys.version_info[1]} expects {len(_FIELDS)}; use the same "
            f"Python on client and engines, or use_cloudpickle()"
        )
    return CodeType(*args)


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Reduce a code object to `code_ctor` and its arguments."""
    return code_ctor, tuple([getattr(code, name) for name in _FIELDS])


copyreg.pickle(CodeType, reduce_code)
