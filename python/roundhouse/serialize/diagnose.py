"""Finding the part of an object that cannot be pickled.

Only run after a failure, so it may be slow: it pickles the parts of the object
one by one and goes down into the first that fails.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from .canning import can, get_annotations
from .wire import PROTOCOL, backend

_DEPTH = 50  # levels gone down before giving up on being more precise

_PASS_ON = (TypeError, AttributeError, ValueError, pickle.PicklingError)


def explain(obj: Any, name: str, error: Exception) -> Exception:
    """The error to raise for obj: error's type, with the path to the culprit."""
    path, text = _locate(obj, name, str(error))
    kind = type(error) if type(error) in _PASS_ON else pickle.PicklingError
    if isinstance(error, RecursionError):
        text = "it refers to itself, or is nested too deeply, for pickle"
    hint = ""
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        if isinstance(obj, FunctionType):
            hint = " (installing cloudpickle may help)"
    return kind(f"{path}: {text}{hint}")


def _failure(obj: Any) -> str | None:
    """Why obj cannot be sent, or None if it can."""
    try:
        backend.dumps(can(obj), PROTOCOL)
    except Exception as e:
        return str(e)
    return None


def _locate(obj: Any, path: str, text: str) -> tuple[str, str]:
    seen: set[int] = set()
    for _ in range(_DEPTH):
        if id(obj) in seen:
            break
        seen.add(id(obj))
        for part_path, part in _parts(obj, path):
            why = _failure(part)
            if why is not None:
                obj, path, text = part, part_path, why
                break
        else:
            break
    return path, text


def _parts(obj: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What obj consists of, with the expression that reaches it."""
    if isinstance(obj, dict):
        for k, v in obj.items():
            yield f"{path}[{k!r}]", v
        for k in obj:
            yield f"{path} key {k!r}", k
    elif isinstance(obj, (list, tuple)):
        for i, v in enumerate(obj):
            yield f"{path}[{i}]", v
    elif isinstance(obj, (set, frozenset)):
        for v in obj:
            yield f"{path} item", v
    elif isinstance(obj, FunctionType):
        yield from _function_parts(obj, path)
    elif isinstance(obj, type):
        if obj.__module__ == "__main__":
            for k, v in vars(obj).items():
                if k not in ("__dict__", "__weakref__"):
                    yield f"{path}.{k}", v
    else:
        yield from _state_parts(obj, path)


def _function_parts(f: FunctionType, path: str) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
        try:
            yield f"{path} closure variable {name!r}", cell.cell_contents
        except ValueError:
            continue
    for i, v in enumerate(f.__defaults__ or ()):
        yield f"{path} default {i}", v
    for k, v in (f.__kwdefaults__ or {}).items():
        yield f"{path} default {k!r}", v
    for k, v in get_annotations(f).items():
        yield f"{path} annotation {k!r}", v


def _state_parts(obj: Any, path: str) -> Iterator[tuple[str, Any]]:
    try:
        reduced = obj.__reduce_ex__(PROTOCOL)
    except Exception:
        # pickle cannot even begin; its attributes may still show why
        for k, v in getattr(obj, "__dict__", {}).items():
            yield f"{path}.{k}", v
        return
    if not isinstance(reduced, tuple):
        return
    state = reduced[2] if len(reduced) > 2 else None
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    for part in (state, slots):
        if isinstance(part, dict):
            for k, v in part.items():
                yield f"{path}.{k}", v
        elif part is not None:
            yield f"{path} state", part
    for v in reduced[1]:
        if v is not obj:
            yield f"{path} constructor argument", v
    for items in reduced[3:4]:
        for i, v in enumerate(items or ()):
            yield f"{path}[{i}]", v
    for items in reduced[4:5]:
        for k, v in items or ():
            yield f"{path}[{k!r}]", v
