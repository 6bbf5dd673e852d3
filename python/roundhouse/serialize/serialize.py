"""Serialized objects and apply messages as lists of buffers.

An object is one pickle followed by the large buffers taken out of it; an apply
message is the function, a pickled description of the arguments, and the
arguments (docs/protocol: section 6).  Containers are looked into one level
deep, so a large array inside a list travels without a copy, one inside a list
inside a list does not.

The buffers of a plain function are kept for as long as the function lives:
most programs send one function many times.  Only functions whose bound values
cannot change under us are kept, see `_fingerprint`.
"""

from __future__ import annotations

import pickle
import types
import weakref
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from .canning import (
    CannedArray,
    CannedBytes,
    CannedFunction,
    CannedObject,
    can,
    can_map,
    get_annotations,
    sequence_types,
    uncan,
)
from .codeutil import code_ctor
from .wire import PROTOCOL, Names, all_names, backend, dumps, loads, wire_module

MAX_ITEMS = 64  # containers of this many items or more are not looked into
MAX_BYTES = 1024  # buffers longer than this travel on their own

PICKLE_PROTOCOL = PROTOCOL

__all__ = [
    "PrePickled",
    "deserialize_object",
    "pack_apply_message",
    "serialize_object",
    "unpack_apply_message",
]

# What a pickler, or canning, may raise for an object that cannot be sent.
_REFUSALS = (
    pickle.PicklingError,
    TypeError,
    AttributeError,
    ValueError,
    RecursionError,
    NotImplementedError,
)

_function_names = Names(
    [
        (CannedFunction, wire_module(CannedFunction.__module__), "CannedFunction"),
        (code_ctor, wire_module(code_ctor.__module__), "code_ctor"),
    ]
)
_array_names = Names(
    [(CannedArray, wire_module(CannedArray.__module__), "CannedArray")]
)
_bytes_names = Names(
    [(CannedBytes, wire_module(CannedBytes.__module__), "CannedBytes")]
)
# The smallest table that names all of a canned object of this type.
_names_for = {
    CannedFunction: _function_names,
    CannedArray: _array_names,
    CannedBytes: _bytes_names,
}

_OURS = CannedObject.__module__.partition(".")[0].encode() + b"."


class PrePickled:
    """An object serialized once, to be sent several times.

    Later changes of the object are not seen.  May be used as the function or
    as any argument of an apply.
    """

    __slots__ = ("buffers",)

    def __init__(self, obj: Any) -> None:
        self.buffers = [
            bytes(b) if isinstance(b, memoryview) else b for b in serialize_object(obj)
        ]


def _pickle_canned(cobj: Any) -> bytes:
    """Pickle a canned object, naming only the classes it needs."""
    names = _names_for.get(type(cobj))
    if names is None:
        return all_names().dumps(cobj)
    data = names.dumps(cobj)
    return all_names().dumps(cobj) if _OURS in data else data


def _extract_buffers(obj: Any, threshold: int = MAX_BYTES) -> list[Any]:
    """Take the buffers above threshold bytes out of a canned object."""
    taken: list[Any] = []
    if not isinstance(obj, CannedObject):
        return taken
    bufs = getattr(obj, "buffers", None)
    for i, buf in enumerate(bufs or ()):
        view = isinstance(buf, memoryview)
        if (buf.nbytes if view else len(buf)) > threshold:
            bufs[i] = None  # type: ignore[index]
            taken.append(buf)
        elif view:
            bufs[i] = buf.tobytes()  # type: ignore[index]
    return taken


def _restore_buffers(obj: Any, bufs: list[Any]) -> None:
    """Invert `_extract_buffers`; takes from the front of bufs."""
    own = getattr(obj, "buffers", None) if _may_have_buffers(obj) else None
    for i, buf in enumerate(own or ()):
        if buf is None:
            if not bufs:
                raise ValueError(f"a {type(obj).__name__} came without its buffer {i}")
            own[i] = bufs.pop(0)  # type: ignore[index]


def _may_have_buffers(obj: Any) -> bool:
    if isinstance(obj, CannedObject):
        return True
    return type(obj).__module__ == "ipyparallel.serialize.canning"


def _sorted_keys(d: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(d)
    except TypeError:
        return list(d)


def _serialize(obj: Any, buffer_threshold: int, item_threshold: int) -> list[Any]:
    t = type(obj)
    plain = can_map.plain
    if t in plain:
        return [dumps(obj)]
    if t in sequence_types:
        if len(obj) < item_threshold and not plain.issuperset(map(type, obj)):
            return _serialize_items(obj, buffer_threshold)
        return [dumps(obj)]
    if t is dict:
        if len(obj) < item_threshold and not plain.issuperset(map(type, obj.values())):
            return _serialize_dict(obj, buffer_threshold)
        return [dumps(obj)]
    if (
        t is bytes
        and len(obj) <= buffer_threshold
        and can_map.get(bytes) is CannedBytes
    ):
        # Too short to travel alone, so there is nothing to can.
        return [dumps(obj)]
    cobj = can(obj)
    if not isinstance(cobj, CannedObject):
        return [dumps(cobj)]
    bufs = _extract_buffers(cobj, buffer_threshold)
    return [_pickle_canned(cobj), *bufs]


def _serialize_items(obj: Any, buffer_threshold: int) -> list[Any]:
    bufs: list[Any] = []
    items = []
    canned = False
    for item in obj:
        c = can(item)
        if c is not item:
            canned = True
            bufs.extend(_extract_buffers(c, buffer_threshold))
        items.append(c)
    if not canned:
        return [dumps(obj)]
    cobj = type(obj)(items)
    if type(obj) is set:
        # Buffers are consumed in iteration order, which only this set has.
        cobj = {can(item) for item in obj}
        bufs = [b for c in cobj for b in _extract_buffers(c, buffer_threshold)]
    return [all_names().dumps(cobj), *bufs]


def _serialize_dict(obj: dict[Any, Any], buffer_threshold: int) -> list[Any]:
    # Buffers go in the order of sorted keys, the dict keeps its own order.
    cobj = {k: can(v) for k, v in obj.items()}
    bufs: list[Any] = []
    for k in _sorted_keys(cobj):
        bufs.extend(_extract_buffers(cobj[k], buffer_threshold))
    if any(isinstance(c, CannedObject) for c in cobj.values()):
        return [all_names().dumps(cobj), *bufs]
    return [dumps(cobj)]


def serialize_object(
    obj: Any,
    buffer_threshold: int = MAX_BYTES,
    item_threshold: int = MAX_ITEMS,
) -> list[Any]:
    """Serialize an object into a list of buffers that can be sent.

    Parameters
    ----------
    obj : object
        A PrePickled gives the buffers it holds.
    buffer_threshold : int
        Data of more bytes than this is taken out of the pickle.
    item_threshold : int
        Lists, tuples, sets and dicts with fewer items are looked into, one
        level deep.

    Returns
    -------
    list
        One pickle (bytes), then the buffers taken out of it.

    Raises
    ------
    TypeError, pickle.PicklingError, AttributeError
        If a part of obj cannot be pickled; the text names the part.
    """
    return _serialize_named(obj, buffer_threshold, item_threshold, "object")


def _serialize_named(
    obj: Any, buffer_threshold: int, item_threshold: int, name: str
) -> list[Any]:
    """`serialize_object`, with the name of obj for errors."""
    if isinstance(obj, PrePickled):
        return obj.buffers[:]
    t = type(obj)
    if t is FunctionType:
        kept = _kept_function(obj)
        if kept is not None:
            return kept[:]
    try:
        bufs = _serialize(obj, buffer_threshold, item_threshold)
    except _REFUSALS as e:
        second = _by_value(obj)
        if second is None:
            from .diagnose import explain

            raise explain(obj, name, e) from e
        return [second]
    if t is FunctionType:
        _keep_function(obj, bufs[:])
    return bufs


def _by_value(obj: Any) -> bytes | None:
    """What cloudpickle makes of an object pickle refused, or None."""
    if backend.name == "cloudpickle":
        return None
    try:
        import cloudpickle  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    try:
        data: bytes = cloudpickle.dumps(obj, PROTOCOL)
        if _OURS in data:
            data = all_names().dumps(obj, cloudpickle.Pickler)
        return data
    except Exception:
        return None


# Functions that were sent: id -> (weak reference, fingerprint, buffers).
# The reference both detects a reused id and removes the entry.
_functions: dict[int, tuple[Any, Any, list[Any]]] = {}

_CONSTANT = frozenset(
    [type(None), bool, int, float, complex, str, bytes, type(Ellipsis)]
)
_ANNOTATION = frozenset(
    [str, type(None), types.GenericAlias, types.BuiltinFunctionType]
    + ([types.UnionType] if hasattr(types, "UnionType") else [])
)


def _constant(value: Any) -> bool:
    """Whether a value can never change."""
    t = type(value)
    if t is tuple:
        return all(_constant(v) for v in value)
    return t in _CONSTANT


def _fingerprint(f: FunctionType) -> Any:
    """Everything the buffers of f depend on, compared by identity; or None.

    None means that f must be serialized each time: something bound to it
    could be changed in place without a trace, or it has a closure, whose
    cells may be assigned at any time.
    """
    if f.__closure__ is not None or f.__kwdefaults__:
        return None
    defaults = f.__defaults__
    if defaults is not None and not _constant(defaults):
        return None
    annotations = get_annotations(f)
    if annotations:
        for v in annotations.values():
            if type(v) not in _ANNOTATION and not (
                type(v) is type and v.__module__ != "__main__"
            ):
                return None
        return (
            f.__code__,
            defaults,
            f.__module__,
            f.__name__,
            *annotations,
            *annotations.values(),
        )
    return (f.__code__, defaults, f.__module__, f.__name__)


def _kept_function(f: FunctionType) -> list[Any] | None:
    entry = _functions.get(id(f))
    if entry is None or entry[0]() is not f or backend.functions:
        return None
    if can_map.get(FunctionType) is not CannedFunction:
        return None
    old = entry[1]
    if (
        len(old) == 4
        and old[0] is f.__code__
        and old[1] is f.__defaults__
        and old[2] is f.__module__
        and old[3] is f.__name__
        and not get_annotations(f)
        and f.__kwdefaults__ is None
    ):
        return entry[2]
    new = _fingerprint(f)
    if new is not None and len(old) == len(new):
        for a, b in zip(old, new):
            if a is not b:
                break
        else:
            return entry[2]
    del _functions[id(f)]
    return None


def _keep_function(f: FunctionType, bufs: list[Any]) -> None:
    if backend.functions or can_map.get(FunctionType) is not CannedFunction:
        return
    print_ = _fingerprint(f)
    if print_ is None:
        return
    key = id(f)
    _functions[key] = (
        weakref.ref(f, lambda _: _functions.pop(key, None)),
        print_,
        bufs,
    )


def deserialize_object(
    buffers: Sequence[Any], g: dict[str, Any] | None = None
) -> tuple[Any, list[Any]]:
    """Rebuild the first object in a list of buffers.

    Parameters
    ----------
    buffers : sequence of buffers
    g : dict, optional
        Namespace for functions and References.

    Returns
    -------
    (object, list)
        The object, and the buffers that were not part of it.
    """
    bufs = list(buffers)
    return _take(bufs, g), bufs


def deserialize_result(buffers: Sequence[Any]) -> Any:
    """The object that a list of buffers is; most are one pickle of a plain one."""
    if len(buffers) == 1:
        value = loads(buffers[0])
        if type(value) in can_map.plain:
            return value
        return _finish(value, [], None)
    return deserialize_object(buffers)[0]


def _take(bufs: list[Any], g: dict[str, Any] | None) -> Any:
    """Deserialize one object from the front of bufs, consuming its buffers."""
    return _finish(loads(bufs.pop(0)), bufs, g)


def _finish(canned: Any, bufs: list[Any], g: dict[str, Any] | None) -> Any:
    """Give a loaded object its buffers and uncan it."""
    t = type(canned)
    plain = can_map.plain
    if t in plain:
        return canned
    if t in sequence_types:
        if len(canned) >= MAX_ITEMS or plain.issuperset(map(type, canned)):
            return canned
        for c in canned:
            _restore_buffers(c, bufs)
        return t([uncan(c, g) for c in canned])
    if t is dict:
        if len(canned) >= MAX_ITEMS:
            return canned
        for k in _sorted_keys(canned):
            _restore_buffers(canned[k], bufs)
        return {k: uncan(v, g) for k, v in canned.items()}
    _restore_buffers(canned, bufs)
    return uncan(canned, g)


# Functions that were received: pickle -> canned function.  Only those with
# nothing mutable bound to them, so that each call still gets its own function
# with fresh defaults.
_received: dict[Any, CannedFunction] = {}
_RECEIVED_MAX = 256
_RECEIVED_BYTES = 16384


def _take_function(bufs: list[Any], g: dict[str, Any] | None) -> Any:
    """`_take` for a function, most of which were seen before."""
    data = bufs[0]
    try:
        canned = _received.get(data)
    except (TypeError, ValueError):  # a writable buffer has no hash
        return _take(bufs, g)
    if canned is not None:
        del bufs[0]
        return canned.get_object(g)
    if len(data) > _RECEIVED_BYTES:
        return _take(bufs, g)
    key = bytes(data)
    obj = loads(key)
    if type(obj) is not CannedFunction:
        del bufs[0]
        return _finish(obj, bufs, g)
    if obj.closure is None and _constant(
        (
            *(obj.defaults or ()),
            *(obj.kwdefaults or {}).values(),
        )
    ):
        if len(_received) >= _RECEIVED_MAX:
            _received.clear()
        _received[key] = obj
    del bufs[0]
    return uncan(obj, g)


# Pickled argument descriptions: they repeat from call to call.
_infos: dict[Any, bytes] = {}


def _info(nargs: int, narg_bufs: int, kw_keys: list[str]) -> bytes:
    key = (nargs, narg_bufs, *kw_keys) if kw_keys else (nargs, narg_bufs)
    data = _infos.get(key)
    if data is None:
        data = pickle.dumps(
            {"nargs": nargs, "narg_bufs": narg_bufs, "kw_keys": kw_keys},
            PROTOCOL,
        )
        if len(_infos) > 512:
            _infos.clear()
        _infos[key] = data
    return data


def pack_apply_message(
    f: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    buffer_threshold: int = MAX_BYTES,
    item_threshold: int = MAX_ITEMS,
) -> list[Any]:
    """Serialize a call into the buffers of an apply request.

    Raises
    ------
    TypeError, pickle.PicklingError, AttributeError
        If the function or an argument cannot be pickled; the text names the
        argument and the attribute, as in ``args[1].conn.lock: cannot pickle
        '_thread.lock' object``.
    """
    if type(f) is FunctionType and (kept := _kept_function(f)) is not None:
        msg = kept[:]
    else:
        msg = _serialize_named(f, MAX_BYTES, MAX_ITEMS, "f")
    at = len(msg)
    msg.append(b"")
    plain = can_map.plain
    for i, arg in enumerate(args):
        if type(arg) in plain:
            msg.append(backend.dumps(arg, PROTOCOL))
        else:
            msg += _serialize_named(arg, buffer_threshold, item_threshold, f"args[{i}]")
    narg_bufs = len(msg) - at - 1
    kw_keys: list[str] = []
    if kwargs:
        kw_keys = sorted(kwargs)
        for key in kw_keys:
            msg += _serialize_named(
                kwargs[key], buffer_threshold, item_threshold, f"kwargs[{key!r}]"
            )
    msg[at] = _info(len(args), narg_bufs, kw_keys)
    return msg


def unpack_apply_message(
    bufs: Sequence[Any],
    g: dict[str, Any] | None = None,
    copy: bool = True,
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Rebuild (function, args, kwargs) from the buffers of an apply request.

    Parameters
    ----------
    bufs : sequence of buffers
    g : dict, optional
        Namespace for functions and References: the user namespace.
    copy : bool
        Accepted for compatibility; data is never copied.

    Raises
    ------
    AssertionError
        If there are too few or too many buffers.
    """
    left = list(bufs)
    if len(left) < 2:
        raise AssertionError("not enough buffers!")
    f = _take_function(left, g)
    if not left:
        raise AssertionError("not enough buffers!")
    info = loads(left.pop(0))
    n = info["narg_bufs"]
    arg_bufs, kwarg_bufs = left[:n], left[n:]
    args = []
    for i in range(info["nargs"]):
        if not arg_bufs:
            raise AssertionError(f"not enough buffers! (argument {i})")
        args.append(_take(arg_bufs, g))
    if arg_bufs:
        raise AssertionError(f"{len(arg_bufs)} buffers of arguments too many")
    kwargs = {}
    for key in info["kw_keys"]:
        if not kwarg_bufs:
            raise AssertionError(f"not enough buffers! (argument {key})")
        kwargs[key] = _take(kwarg_bufs, g)
    if kwarg_bufs:
        raise AssertionError(f"{len(kwarg_bufs)} buffers of keywords too many")
    return f, tuple(args), kwargs
