"""Canning: making objects fit for the wire.

`can` replaces what pickle cannot send, or should not copy, by a Canned object
whose large data is in its `buffers`; `uncan` restores it in the receiver, with
the engine's user namespace as globals.  The attributes of the Canned classes
are the wire format (docs/protocol: section 6.3), so they are never renamed.

`can_map` and `uncan_map` may be extended: keys are types, tuples of types, or
dotted names that are imported when first needed.  A type in can_map is matched
exactly; one in uncan_map with isinstance.

Receivers treat a missing `kwdefaults` or `annotations` as None: old peers do
not send them.
"""

from __future__ import annotations

import builtins
import copy
import functools
import pickle
import sys
from collections.abc import Iterable
from types import CellType, FunctionType
from typing import Any, Callable

from . import codeutil  # noqa: F401  (teaches pickle code objects)
from .wire import HOME, UPSTREAM, backend, dumps, home_module, loads, wire_module

__all__ = [
    "Reference",
    "can",
    "can_map",
    "interactive",
    "uncan",
    "uncan_map",
    "use_cloudpickle",
    "use_dill",
    "use_pickle",
]

cell_type = CellType
sequence_types = (list, tuple, set)


def interactive(f: Any) -> Any:
    """Make a function of a module behave as if it had been typed in.

    On an engine its globals are the user namespace instead of its module.
    A function is rebuilt; any other object only gets its ``__module__`` set.
    """
    if isinstance(f, FunctionType):
        main = __import__("__main__")
        made = FunctionType(
            f.__code__, main.__dict__, f.__name__, f.__defaults__, f.__closure__
        )
        made.__kwdefaults__ = f.__kwdefaults__
        made.__doc__ = f.__doc__
        f = made
    f.__module__ = "__main__"
    return f


def _use(name: str) -> None:
    __import__(name)
    backend.use(sys.modules[name], functions=True)
    can_map.pop(FunctionType, None)


def use_dill() -> None:
    """Pickle with dill in this process; functions are left to it.

    Raises ImportError if dill is not installed.  The other side needs it too.
    """
    _use("dill")


def use_cloudpickle() -> None:
    """Pickle with cloudpickle in this process; functions are left to it.

    Raises ImportError if cloudpickle is not installed.  The other side needs
    it too.
    """
    _use("cloudpickle")


def use_pickle() -> None:
    """Go back to the standard pickle and to canned functions."""
    backend.use(pickle)
    can_map[FunctionType] = CannedFunction


class CannedObject:
    """An object some of whose attributes are canned.

    Parameters
    ----------
    obj : object
        Copied (shallow); the original is left alone.
    keys : list of str
        Names of the attributes to can.
    hook : callable(obj, globals), optional
        Run in the receiver after the attributes are restored.
    """

    buffers: list[Any]

    def __init__(
        self,
        obj: Any,
        keys: Iterable[str] = (),
        hook: Callable[..., Any] | None = None,
    ) -> None:
        self.keys = keys
        self.obj = copy.copy(obj)
        self.hook = can(hook)
        for key in keys:
            setattr(self.obj, key, can(getattr(obj, key)))
        self.buffers = []

    def get_object(self, g: dict[str, Any] | None = None) -> Any:
        """Restore the object; g is the namespace it is restored in."""
        if g is None:
            g = {}
        for key in self.keys:
            setattr(self.obj, key, uncan(getattr(self.obj, key), g))
        if self.hook:
            self.hook = uncan(self.hook, g)
            self.hook(self.obj, g)
        return self.obj


class Reference(CannedObject):
    """Stands for an object on the engine: the value of an expression there.

    Parameters
    ----------
    name : str
        A name or any expression, evaluated in the engine's user namespace
        when the arguments are unpacked.

    Examples
    --------
    >>> view.apply_sync(sum, Reference("a[:10]"))  # doctest: +SKIP
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a Reference takes a str, not {name!r}")
        self.name = name
        self.buffers = []

    def __repr__(self) -> str:
        return f"<Reference: {self.name!r}>"

    def get_object(self, g: dict[str, Any] | None = None) -> Any:
        return eval(self.name, {} if g is None else g)


class CannedCell(CannedObject):
    """A closure cell; an empty one stays empty."""

    def __init__(self, cell: CellType) -> None:
        try:
            self.cell_contents = can(cell.cell_contents)
        except ValueError:
            pass  # not assigned yet

    def get_object(self, g: dict[str, Any] | None = None) -> CellType:
        try:
            contents = self.cell_contents
        except AttributeError:
            return CellType()
        return CellType(uncan(contents, g))


def get_annotations(f: FunctionType) -> dict[str, Any]:
    """A function's annotations; none if they cannot be evaluated.

    From Python 3.14 on they are evaluated when asked for, and may name what
    does not exist.
    """
    try:
        return f.__annotations__
    except Exception:
        return {}


# Module-level helpers that peers send as code but that need more than their
# code (an IPython shell): they are replaced by ours, bound to the namespace.
_native: dict[tuple[str, str], str] = {
    (f"{UPSTREAM}.util", "_push"): "native_push",
    (f"{UPSTREAM}.util", "_pull"): "native_pull",
    (f"{UPSTREAM}.util", "_execute"): "native_execute",
}


class CannedFunction(CannedObject):
    """A Python function: its code and what is bound to it, not its globals.

    In the receiver the globals are those of the function's module, which has
    to be importable there, or the user namespace for a function that was typed
    in (module ``__main__``).
    """

    kwdefaults: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None

    def __init__(self, f: FunctionType) -> None:
        if not isinstance(f, FunctionType):
            raise TypeError(f"not a Python function: {f!r}")
        defaults, kwdefaults = f.__defaults__, f.__kwdefaults__
        annotations, closure = get_annotations(f), f.__closure__
        self.code = f.__code__
        self.defaults = [can(v) for v in defaults] if defaults else None
        self.kwdefaults = can_dict(kwdefaults) if kwdefaults else None
        self.annotations = can_dict(annotations) if annotations else None
        self.closure = tuple([can(c) for c in closure]) if closure else None
        self.module = wire_module(f.__module__ or "__main__")
        self.__name__ = f.__name__
        self.buffers = []

    def get_object(self, g: dict[str, Any] | None = None) -> Any:
        module = self.module
        native = _native.get((module, self.__name__))
        if native is not None and g is not None:
            util = __import__(f"{HOME}.util", fromlist=["util"])
            return getattr(util, native)(g)
        if not module.startswith("__"):
            g = import_home(module).__dict__
        elif g is None:
            g = {}
        if "__builtins__" not in g:
            # C code called from f may look it up, as eval() provides for
            g["__builtins__"] = builtins
        defaults, closure = self.defaults, self.closure
        f = FunctionType(
            self.code,
            g,
            self.__name__,
            tuple([uncan(v, g) for v in defaults]) if defaults else None,
            tuple([uncan(c, g) for c in closure]) if closure else None,
        )
        if self.kwdefaults:
            f.__kwdefaults__ = uncan_dict(self.kwdefaults, g)
        if self.annotations:
            f.__annotations__ = uncan_dict(self.annotations, g)
        return f


def import_home(name: str) -> Any:
    """Import a module by its protocol name.

    Upstream modules are ours; one we have no counterpart for, and every other
    module, is imported as it is named.
    """
    home = home_module(name)
    if home != name:
        try:
            __import__(home)
            return sys.modules[home]
        except ModuleNotFoundError as e:
            if e.name is None or not home.startswith(e.name):
                raise
    __import__(name)
    return sys.modules[name]


class CannedPartial(CannedObject):
    """A functools.partial; the buffers of its arguments stay outside."""

    def __init__(self, f: functools.partial[Any]) -> None:
        if not isinstance(f, functools.partial):
            raise ValueError(f"not a functools.partial: {f!r}")
        self.func = can(f.func)
        self.args = [can(a) for a in f.args]
        self.keywords = {k: can(v) for k, v in f.keywords.items()}
        self.buffers = []
        self.arg_buffer_counts = [self._hoist(a) for a in self.args]
        self.keyword_buffer_counts = {
            k: self._hoist(self.keywords[k])
            for k in sorted(self.keywords)
            if isinstance(self.keywords[k], CannedObject)
        }

    def _hoist(self, item: Any) -> int:
        """Move the buffers of one canned argument here; return their count."""
        buffers = getattr(item, "buffers", None)
        if not buffers or not isinstance(item, CannedObject):
            return 0
        self.buffers.extend(buffers)
        item.buffers = []
        return len(buffers)

    def get_object(self, g: dict[str, Any] | None = None) -> Any:
        if g is None:
            g = {}
        buffers = self.buffers
        at = 0
        counts = [
            *zip(self.args, self.arg_buffer_counts),
            *(
                (self.keywords[k], self.keyword_buffer_counts[k])
                for k in sorted(self.keyword_buffer_counts)
            ),
        ]
        for item, count in counts:
            if count:
                item.buffers = buffers[at : at + count]
                at += count
        if at != len(buffers):
            raise ValueError(
                f"a partial came with {len(buffers)} buffers, {at} expected"
            )
        self.buffers = []
        return functools.partial(
            uncan(self.func, g),
            *[uncan(a, g) for a in self.args],
            **{k: uncan(v, g) for k, v in self.keywords.items()},
        )


class CannedClass(CannedObject):
    """A class typed in at a prompt: sent by value."""

    old_style = False

    def __init__(self, cls: type) -> None:
        if not isinstance(cls, type):
            raise TypeError(f"not a class: {cls!r}")
        self.name = cls.__name__
        self.old_style = False
        self._canned_dict = {
            k: can(v)
            for k, v in cls.__dict__.items()
            if k not in ("__weakref__", "__dict__")
        }
        self.parents = [can(c) for c in cls.mro()[1:]]
        self.buffers = []

    def get_object(self, g: dict[str, Any] | None = None) -> type:
        parents = tuple([uncan(p, g) for p in self.parents])
        return type(self.name, parents, uncan_dict(self._canned_dict, g))


class CannedArray(CannedObject):
    """A numpy array: raw C-order bytes, or a pickle where those do not do.

    The received array is a read-only view of the received bytes.
    """

    def __init__(self, obj: Any) -> None:
        dtype = obj.dtype
        self.shape = obj.shape
        self.dtype = dtype.descr if dtype.fields else dtype.str
        # hasobject also finds objects deep in structured types; numpy's newer
        # types (variable-length strings) keep their data elsewhere.
        self.pickled = bool(
            obj.size == 0
            or obj.ndim == 0
            or dtype.hasobject
            or dtype.kind not in "biufcSUVmM"
            or (dtype.fields and not _plain_fields(dtype))
        )
        if self.pickled:
            self.buffers = [dumps(obj)]
        else:
            import numpy

            flat = numpy.ascontiguousarray(obj).reshape(-1)
            self.buffers = [flat.view(numpy.uint8).data]

    def get_object(self, g: dict[str, Any] | None = None) -> Any:
        data = self.buffers[0]
        if self.pickled:
            return loads(data)
        import numpy

        return numpy.frombuffer(data, dtype=self.dtype).reshape(self.shape)


def _plain_fields(dtype: Any) -> bool:
    """Whether dtype.descr says everything about a structured type."""
    import numpy

    try:
        return bool(numpy.dtype(dtype.descr) == dtype)
    except (TypeError, ValueError):
        return False


class CannedBytes(CannedObject):
    """bytes, kept out of the pickle when they are large."""

    def __init__(self, obj: Any) -> None:
        self.buffers = [obj]

    def get_object(self, g: dict[str, Any] | None = None) -> Any:
        return self.wrap(self.buffers[0])

    @staticmethod
    def wrap(data: Any) -> Any:
        return data if isinstance(data, bytes) else memoryview(data).tobytes()


class CannedMemoryView(CannedBytes):
    """A memoryview; it arrives as a flat view of bytes."""

    def __init__(self, obj: Any) -> None:
        if not obj.c_contiguous:
            obj = obj.tobytes()
        elif obj.ndim != 1 or obj.format != "B":
            # a zero anywhere in the shape cannot be cast
            obj = obj.cast("B") if obj.nbytes else b""
        self.buffers = [obj]

    @staticmethod
    def wrap(data: Any) -> Any:
        return memoryview(data)


CannedBuffer = CannedMemoryView

# Packages whose objects are large data with a little around it, and good with
# data they may only read.
_COLUMNAR = ("pandas", "pyarrow")
_OUT_OF_BAND = 1024  # bytes from which a buffer leaves the pickle


@functools.lru_cache(maxsize=1024)
def _is_columnar(t: type) -> bool:
    return any([c.__module__.partition(".")[0] in _COLUMNAR for c in t.__mro__])


def can_columnar(obj: Any) -> Any:
    """Can an object by pickle protocol 5: its data is not copied.

    What arrives is made of views of the received bytes, so it is read-only.
    The object is returned as it is if it has no large buffers.

    For the receiver it is bytes, the pickle, with a `wrap` of its own: loads,
    which takes the buffers from behind the pickle in the same list.  Every
    receiver of CannedBytes can do that.
    """
    if backend.name == "dill":  # its pickles need more than pickle.loads
        return obj
    bufs: list[Any] = []

    def stays(buf: pickle.PickleBuffer) -> bool:
        try:
            raw = buf.raw()
        except BufferError:  # not in one piece
            return True
        if raw.nbytes < _OUT_OF_BAND:
            return True
        bufs.append(raw)
        return False

    data = backend.dumps(obj, 5, buffer_callback=stays)
    if not bufs or HOME.encode() in data:  # names of ours need our own loads
        return obj
    canned = CannedBytes(data)
    canned.buffers += bufs
    behind = iter(canned.buffers)
    next(behind)
    canned.__dict__["wrap"] = functools.partial(pickle.loads, buffers=behind)
    return canned


def can_class(obj: type) -> Any:
    """Can a class of ``__main__``; others are sent by name."""
    return CannedClass(obj) if obj.__module__ == "__main__" else obj


def can_dict(obj: Any) -> Any:
    """Can the values of a dict (exact type)."""
    if type(obj) is dict:
        return {k: can(v) for k, v in obj.items()}
    return obj


def can_sequence(obj: Any) -> Any:
    """Can the items of a list, tuple or set (exact types)."""
    if type(obj) in sequence_types:
        return type(obj)([can(i) for i in obj])
    return obj


def uncan_dict(obj: Any, g: dict[str, Any] | None = None) -> Any:
    """Uncan the values of a dict (exact type)."""
    if type(obj) is dict:
        return {k: uncan(v, g) for k, v in obj.items()}
    return obj


def uncan_sequence(obj: Any, g: dict[str, Any] | None = None) -> Any:
    """Uncan the items of a list, tuple or set (exact types)."""
    if type(obj) in sequence_types:
        return type(obj)([uncan(i, g) for i in obj])
    return obj


def _uncan_dependent_hook(dep: Any, g: Any = None) -> None:
    dep.check_dependency()


def can_dependent(obj: Any) -> CannedObject:
    """Can a `dependent` so that its check runs while it is unpacked."""
    return CannedObject(obj, keys=("f", "df"), hook=_uncan_dependent_hook)


# Types that pickle sends best and that need no look inside.
_PLAIN = frozenset([type(None), bool, int, float, complex, str])


class TypeMap(dict):  # type: ignore[type-arg]
    """A dict from types to functions that knows when it was changed.

    `plain` holds the types certain not to be in it; `late` the keys that are
    dotted names or tuples and need work before a lookup can find them.
    """

    def __init__(self, *args: Any, builtin_names: Iterable[str] = ()) -> None:
        super().__init__(*args)
        self._builtin_names = frozenset(builtin_names)
        self._changed()

    def _changed(self) -> None:
        flat = {c for k in self for c in (k if isinstance(k, tuple) else (k,))}
        self.plain = _PLAIN - flat
        self.late = [k for k in self if not isinstance(k, type)]

    def resolve(self) -> None:
        """Import dotted keys and spread tuples.

        A built-in name is only resolved when its module is loaded: otherwise
        no object of that type can exist.
        """
        changed = False
        for key in self.late:
            if isinstance(key, tuple):
                value = dict.pop(self, key)
                for cls in key:
                    dict.setdefault(self, cls, value)
                changed = True
                continue
            module, _, name = key.rpartition(".")
            if key in self._builtin_names and module not in sys.modules:
                continue
            try:
                __import__(module)
                cls = getattr(sys.modules[module], name)
            except Exception as e:
                import logging

                logging.getLogger(HOME).error(
                    "canning map: %r cannot be imported: %s", key, e
                )
                dict.pop(self, key)
            else:
                value = dict.pop(self, key)
                dict.setdefault(self, cls, value)
            changed = True
        if changed:
            self._changed()

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._changed()

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self._changed()

    def pop(self, key: Any, *default: Any) -> Any:
        value = super().pop(key, *default)
        self._changed()
        return value

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        self._changed()

    def setdefault(self, key: Any, default: Any = None) -> Any:
        value = super().setdefault(key, default)
        self._changed()
        return value

    def popitem(self) -> Any:
        item = super().popitem()
        self._changed()
        return item

    def clear(self) -> None:
        super().clear()
        self._changed()

    def copy(self) -> TypeMap:
        return TypeMap(self, builtin_names=self._builtin_names)

    def __ior__(self, other: Any) -> TypeMap:  # type: ignore[misc]
        self.update(other)
        return self


can_map = TypeMap(
    {
        "numpy.ndarray": CannedArray,
        FunctionType: CannedFunction,
        functools.partial: CannedPartial,
        bytes: CannedBytes,
        memoryview: CannedMemoryView,
        CellType: CannedCell,
        type: can_class,
    },
    builtin_names=["numpy.ndarray"],
)

uncan_map = TypeMap(
    {
        CannedObject: lambda obj, g: obj.get_object(g),
        dict: uncan_dict,
    }
)


def can(obj: Any) -> Any:
    """Prepare an object for pickling; most objects are returned as they are."""
    t = type(obj)
    if t in can_map.plain:
        return obj
    canner = can_map.get(t)
    if canner is None and can_map.late:
        can_map.resolve()
        canner = can_map.get(t)
    if canner is None:
        columnar = _is_columnar(t)  # type: ignore[arg-type,unused-ignore]
        return can_columnar(obj) if columnar else obj
    return canner(obj)


def _is_canned(t: type) -> bool:
    """Whether t is a canned class, ours or of the upstream package itself."""
    if issubclass(t, CannedObject):
        return True
    return t.__module__ == f"{UPSTREAM}.serialize.canning"


def uncan(obj: Any, g: dict[str, Any] | None = None) -> Any:
    """Invert `can`; g is the namespace functions and References see."""
    t = type(obj)
    if t in uncan_map.plain:
        return obj
    if uncan_map.late:
        uncan_map.resolve()
    for cls, uncanner in uncan_map.items():
        if isinstance(obj, cls):
            return uncanner(obj, g)
    if hasattr(obj, "get_object") and _is_canned(t):
        return obj.get_object(g)
    return obj
