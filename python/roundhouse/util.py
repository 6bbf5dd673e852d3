"""Small things shared by client and engine.

`_push`, `_pull` and `_execute` are sent as code to the engines: the name of
their module and their own names are part of the protocol.  An engine of ours
recognises them and runs the native_* twin instead, which needs no IPython.
"""

from __future__ import annotations

import builtins
from datetime import datetime, timezone
from typing import Any, Callable

from .serialize.canning import interactive

__all__ = [
    "Namespace",
    "ensure_timezone",
    "int_keys",
    "interactive",
    "utc",
    "utcnow",
]

utc = timezone.utc


class Namespace(dict):  # type: ignore[type-arg]
    """A dict whose keys are also attributes."""

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(key) from None

    def __setattr__(self, key: str, value: Any) -> None:
        if hasattr(dict, key):
            raise KeyError(f"{key!r} is a method of dict, not a key to set")
        self[key] = value


def int_keys(d: dict[Any, Any]) -> dict[Any, Any]:
    """Turn keys that read as integers into integers, in place; returns d.

    Raises KeyError, leaving d alone, if d already has the integer.
    """
    numbers = {}
    for key in d:
        if isinstance(key, str):
            try:
                number = int(key)
            except ValueError:
                continue
            if number in d:
                raise KeyError(f"the dict already has the key {number}")
            numbers[key] = number
    for key, number in numbers.items():
        d[number] = d.pop(key)
    return d


def utcnow() -> datetime:
    """The time, with its zone: UTC."""
    return datetime.now(timezone.utc)


def ensure_timezone(dt: datetime) -> datetime:
    """dt with a zone; a naive one is taken as local time."""
    return dt if dt.tzinfo is not None else dt.astimezone()


# These three run on engines of any kind, so they may use nothing of here.


def _push(**ns: Any) -> None:
    try:
        user_ns = get_ipython().user_global_ns  # type: ignore[name-defined]
    except NameError:
        user_ns = __import__("sys").modules["__main__"].__dict__
    slot = "_IP_PUSH_TMP_"
    while slot in user_ns:
        slot += "_"
    try:
        for name, value in ns.items():
            user_ns[slot] = value
            exec(f"{name} = {slot}", user_ns)
    finally:
        user_ns.pop(slot, None)


def _pull(keys: Any) -> Any:
    try:
        user_ns = get_ipython().user_global_ns  # type: ignore[name-defined]
    except NameError:
        user_ns = __import__("sys").modules["__main__"].__dict__
    if isinstance(keys, (list, tuple, set)):
        return [eval(key, user_ns) for key in keys]
    return eval(keys, user_ns)


def _execute(code: str) -> None:
    try:
        user_ns = get_ipython().user_global_ns  # type: ignore[name-defined]
    except NameError:
        user_ns = __import__("sys").modules["__main__"].__dict__
    exec(code, user_ns)


def native_push(g: dict[str, Any]) -> Callable[..., None]:
    """`_push` for the namespace g."""

    def push(**ns: Any) -> None:
        for name, value in ns.items():
            if name.isidentifier():
                g[name] = value
                continue
            # 'a.b' and 'a[0]' are assigned as written
            slot = "_roundhouse_push_"
            while slot in g:
                slot += "_"
            g[slot] = value
            try:
                exec(f"{name} = {slot}", g)
            finally:
                del g[slot]

    return push


def native_pull(g: dict[str, Any]) -> Callable[[Any], Any]:
    """`_pull` for the namespace g."""

    def value(key: str) -> Any:
        if key.isidentifier():
            found = g.get(key, g)
            if found is not g:
                return found
            if not hasattr(builtins, key):
                raise NameError(f"name {key!r} is not defined")
        return eval(key, g)

    def pull(keys: Any) -> Any:
        if isinstance(keys, (list, tuple, set)):
            return [value(key) for key in keys]
        return value(keys)

    return pull


def native_execute(g: dict[str, Any]) -> Callable[[str], None]:
    """`_execute` for the namespace g."""

    def execute(code: str) -> None:
        exec(code, g)

    return execute
