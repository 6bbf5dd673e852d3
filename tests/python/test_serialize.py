"""Serialization: round trips, the wire format, errors, and what is kept."""

import functools
import gc
import math
import pickle
import pickletools
import tempfile
import threading

import pytest
from client_support import run_python
from roundhouse.serialize import (
    PrePickled,
    Reference,
    can,
    can_map,
    deserialize_object,
    pack_apply_message,
    serialize_object,
    uncan,
    uncan_map,
    unpack_apply_message,
    use_cloudpickle,
    use_dill,
    use_pickle,
)
from roundhouse.serialize import serialize as core
from roundhouse.serialize.canning import (
    CannedBytes,
    CannedFunction,
    CannedPartial,
    can_columnar,
    interactive,
)

numpy = pytest.importorskip("numpy")


def there_and_back(obj, g=None, **thresholds):
    bufs = serialize_object(obj, **thresholds)
    # as they arrive: read-only views
    back, rest = deserialize_object([memoryview(bytes(b)) for b in bufs], g)
    assert rest == []
    return back


@interactive
def plain(a, b=2, *, c=3):
    return (a, b, c)


def globals_named(data):
    """The classes a pickle names, as module.name."""
    found, strings = set(), []
    for op, arg, _ in pickletools.genops(data):
        if op.name == "GLOBAL":
            found.add(arg.replace(" ", "."))
        elif op.name == "STACK_GLOBAL":
            found.add(".".join(strings[-2:]))
        elif "UNICODE" in op.name:
            strings.append(arg)
    return found


SMALL = [
    None,
    True,
    0,
    -(1 << 80),
    1.5,
    2j,
    "text",
    "ipyparallel.serialize.canning",
    "roundhouse.serialize.canning",
    b"short",
    b"L" * 5000,
    bytearray(b"x" * 3000),
    (),
    [],
    {},
    set(),
    [1, "a", b"b" * 4000, (b"c" * 4000,)],
    (1, [2, [3]]),
    {1, b"z" * 4000, b"y" * 4000},
    {"b": b"1" * 2000, "a": b"2" * 3000, "c": {"d": b"3" * 2000}},
    {1: "int", "s": "mixed keys"},
    list(range(100)),
    {str(i): i for i in range(100)},
    ["ipyparallel.serialize.canning"] * 3,
    frozenset([1, 2]),
    slice(1, 2),
    range(5),
    len,
    math.pi,
    int,
    ValueError("x", 1).args,
]


@pytest.mark.parametrize("obj", SMALL, ids=lambda o: repr(o)[:30])
def test_round_trip(obj):
    back = there_and_back(obj)
    assert type(back) is type(obj)
    assert back == obj


@pytest.mark.parametrize("obj", SMALL, ids=lambda o: repr(o)[:30])
def test_peer_understands_us_and_we_it(peer, obj):
    bufs = peer.ask("echo", serialize_object(obj)) if _sortable(obj) else None
    if bufs is None:
        pytest.skip("upstream cannot receive a dict with keys of mixed types")
    back, rest = deserialize_object(bufs)
    assert rest == []
    assert back == obj


def _sortable(obj):
    try:
        return type(obj) is not dict or sorted(obj) is not None
    except TypeError:
        return False


def test_dict_keeps_its_order():
    d = {"z": b"1" * 2000, "a": b"2" * 2000}
    assert list(there_and_back(d)) == ["z", "a"]


class _Matrix(numpy.ndarray):
    """A subclass: not canned, its class has to arrive."""


ARRAYS = {
    "float": lambda: numpy.linspace(0, 1, 1000),
    "small": lambda: numpy.arange(3),
    "zero_d": lambda: numpy.array(3.0),
    "empty": lambda: numpy.zeros((0,)),
    "empty_2d": lambda: numpy.zeros((3, 0)),
    "two_d": lambda: numpy.arange(4000).reshape(40, 100),
    "fortran": lambda: numpy.asfortranarray(numpy.arange(4000).reshape(40, 100)),
    "strided": lambda: numpy.arange(4000)[::3],
    "bool": lambda: numpy.ones(2000, dtype=bool),
    "complex": lambda: numpy.ones(2000, dtype="c8"),
    "half": lambda: numpy.ones(2000, dtype="f2"),
    "big_endian": lambda: numpy.arange(2000, dtype=">i4"),
    "text": lambda: numpy.array(["aa", "b"] * 1000),
    "bytes": lambda: numpy.array([b"aa", b"b"] * 1000),
    "objects": lambda: numpy.array([None, 1, "x"] * 500, dtype=object),
    "record": lambda: numpy.zeros(500, dtype=[("a", "i4"), ("b", "f8", (2,))]),
    "aligned": lambda: numpy.zeros(
        500, dtype=numpy.dtype([("a", "i1"), ("b", "f8")], align=True)
    ),
    "record_objects": lambda: numpy.zeros(500, dtype=[("a", "i4"), ("b", "O")]),
    "void": lambda: numpy.zeros(500, dtype="V7"),
    "datetime": lambda: numpy.arange(2000).astype("M8[ns]"),
    "timedelta": lambda: numpy.arange(2000).astype("m8[us]"),
    "long_double": lambda: numpy.arange(2000).astype("g"),
    "masked": lambda: numpy.ma.masked_less(numpy.arange(2000), 5),
    "matrix": lambda: numpy.arange(2000.0).reshape(2, -1).view(_Matrix),
    "reversed": lambda: numpy.arange(2000)[::-1],
    "broadcast": lambda: numpy.broadcast_to(numpy.arange(3), (500, 3)),
    "nested_record": lambda: numpy.zeros(
        500, dtype=[("a", [("x", "f4"), ("y", "S3")]), ("b", "u1", (2, 3))]
    ),
    "offsets": lambda: numpy.zeros(
        500, dtype={"names": ["a", "b"], "formats": ["i2", "f8"], "offsets": [6, 8]}
    ),
}
ARRAYS.update(
    {
        f"dtype {c}": lambda c=c: numpy.arange(2000).astype(c)
        for c in numpy.typecodes["AllInteger"] + numpy.typecodes["AllFloat"]
    }
)


@pytest.mark.parametrize("name", ARRAYS)
def test_array_round_trip(name):
    a = ARRAYS[name]()
    for b in (there_and_back(a), there_and_back([1, {}, a])[2]):
        assert type(b) is type(a)
        assert b.dtype == a.dtype
        assert b.shape == a.shape
        assert numpy.array_equal(a, b)
        if name == "masked":
            assert (a.mask == b.mask).all()


@pytest.mark.parametrize("name", ARRAYS)
def test_array_through_peer(peer, name):
    if name in ("datetime", "timedelta", "aligned", "offsets"):
        pytest.skip("upstream reads these but cannot send them unchanged")
    if name == "matrix":
        pytest.skip("its class is not there")
    a = ARRAYS[name]()
    b, rest = deserialize_object(peer.ask("echo", serialize_object(a)))
    assert rest == []
    assert b.dtype == a.dtype
    assert numpy.array_equal(a, b)


@pytest.mark.parametrize(
    "name, word", [("datetime", b"datetime64[ns]"), ("aligned", b"'aligned': True")]
)
def test_peer_reads(peer, name, word):
    assert word in peer.ask("show", serialize_object(ARRAYS[name]()))[0]


def test_array_is_sent_without_a_copy_and_arrives_read_only():
    a = numpy.arange(1000.0)
    bufs = serialize_object(a)
    assert len(bufs) == 2
    assert numpy.shares_memory(numpy.frombuffer(bufs[1]), a)
    back, _ = deserialize_object([bytes(b) for b in bufs])
    assert not back.flags.writeable


def tables():
    """Name to (object, its large arrays, equal)."""
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    a = numpy.arange(5000.0)
    frame = pandas.DataFrame({"a": a, "b": a * 2})
    same = pandas.testing.assert_frame_equal
    table = pyarrow.table({"a": a, "s": [str(i) for i in range(5000)]})
    return {
        "frame": (frame, [frame["a"].to_numpy()], same),
        "series": (frame["a"], [frame["a"].to_numpy()], None),
        "table": (table, [table["a"].chunk(0).to_numpy()], None),
        "array": (table["a"].chunk(0), [table["a"].chunk(0).to_numpy()], None),
    }


@pytest.mark.parametrize("name", ["frame", "series", "table", "array"])
def test_tables_are_sent_without_a_copy(name):
    obj, arrays, same = tables()[name]
    for sent, pick in ((obj, lambda x: x), ([1, obj], lambda x: x[1])):
        bufs = serialize_object(sent)
        assert len(bufs) > 1 and len(bufs[0]) < 3000
        for a in arrays:
            assert any(
                numpy.shares_memory(numpy.frombuffer(b, dtype="u1"), a)
                for b in bufs
                if isinstance(b, memoryview)
            )
        arrived = [memoryview(bytes(b)) for b in bufs]
        back, rest = deserialize_object(arrived)
        assert rest == []
        back = pick(back)
        assert type(back) is type(obj)
        same(back, obj) if same else None
        assert same or back.equals(obj)
    data = back["a"] if name in ("frame", "table") else back
    data = data.chunk(0) if name == "table" else data
    data = data.to_numpy()
    assert any(
        numpy.shares_memory(numpy.frombuffer(b, dtype="u1"), data)
        for b in arrived
        if b.nbytes
    )
    assert not data.flags.writeable


def test_small_and_foreign_tables_stay_in_the_pickle():
    pandas = pytest.importorskip("pandas")
    small = pandas.DataFrame({"a": [1, 2]})
    assert len(serialize_object(small)) == 1
    assert there_and_back(small).equals(small)
    # names of ours inside: they have to be found by our own loads
    mixed = pandas.Series([Reference("x"), *range(5000)])
    assert there_and_back(mixed)[0].name == "x"
    with pytest.raises(TypeError, match="args\\[0\\]"):
        pack_apply_message(len, (pandas.Series([threading.Lock()]),), {})


def test_peer_reads_what_is_out_of_band(peer):
    a = numpy.arange(5000)
    canned = can_columnar({"x": [a, b"y" * 5000, a[:3]]})
    bufs = core._extract_buffers(canned)
    assert len(bufs) == 2  # the pickle is large, too
    back, rest = deserialize_object(
        peer.ask("echo", [core._pickle_canned(canned), *bufs])
    )
    assert rest == []
    assert numpy.array_equal(back["x"][0], a) and list(back["x"][2]) == [0, 1, 2]
    assert back["x"][1] == b"y" * 5000


@pytest.mark.parametrize(
    "n, frames", [(1024, 1), (1025, 2)], ids=["at threshold", "above"]
)
def test_buffer_threshold(n, frames):
    assert len(serialize_object(b"x" * n)) == frames
    assert len(serialize_object([b"x" * n])) == frames
    assert len(serialize_object(numpy.zeros(n, dtype="u1"))) == frames
    assert len(serialize_object(memoryview(b"x" * n))) == frames


@pytest.mark.parametrize("n, frames", [(63, 64), (64, 1)])
def test_item_threshold(n, frames):
    big = [bytes([i]) * 2000 for i in range(n)]
    for obj in (big, tuple(big), set(big), dict(enumerate(big))):
        assert len(serialize_object(obj)) == frames
        assert there_and_back(obj) == obj


def test_own_thresholds():
    assert len(serialize_object(b"x" * 100, buffer_threshold=99)) == 2
    assert len(serialize_object([b"x" * 2000] * 5, item_threshold=5)) == 1


def test_memoryview():
    for view in (
        memoryview(b"x" * 3000),
        memoryview(b"x" * 10),
        memoryview(bytes(range(200)))[::2],
        memoryview(numpy.arange(1000)),
    ):
        back = there_and_back(view)
        assert isinstance(back, memoryview)
        assert back.tobytes() == view.tobytes()


def test_function():
    f = there_and_back(plain, {})
    assert f(1, c=5) == (1, 2, 5)
    assert f.__name__ == "plain"


def test_function_sees_the_given_namespace():
    f = interactive(lambda: there)  # noqa: F821
    assert there_and_back(f, {"there": 9})() == 9


def test_function_of_a_module_keeps_its_globals():
    f = there_and_back(functools.wraps, {"WRAPPER_ASSIGNMENTS": ()})
    assert f.__globals__ is functools.__dict__


def test_closure_and_partial():
    n = 5

    @interactive
    def adder(a, b=0):
        return a + b

    def with_cell(x):
        return x + n

    with_cell.__module__ = "__main__"
    assert there_and_back(with_cell, {})(1) == 6
    big = b"p" * 5000
    p = functools.partial(adder, big, b=b"q" * 6000)
    bufs = serialize_object(p)
    assert [len(b) for b in bufs[1:]] == [5000, 6000]
    assert there_and_back(p, {})() == big + b"q" * 6000
    assert isinstance(can(p), CannedPartial)


def test_empty_cell():
    def outer():
        def f():
            return later

        serialized = serialize_object(f)
        later = 1
        return serialized, later

    bufs, _ = outer()
    f, _ = deserialize_object(bufs, {})
    with pytest.raises(NameError):
        f()


def test_reference():
    assert there_and_back(Reference("a + 1"), {"a": 4}) == 5
    assert there_and_back([Reference("a"), 1], {"a": 4}) == [4, 1]
    assert there_and_back({"k": Reference("a")}, {"a": 4}) == {"k": 4}
    deep = there_and_back([[Reference("a")]], {"a": 4})
    assert repr(deep) == "[[<Reference: 'a'>]]"
    with pytest.raises(TypeError):
        Reference(3)


def test_wire_names_are_upstreams():
    bufs = serialize_object(plain)
    assert globals_named(bufs[0]) == {
        "ipyparallel.serialize.canning.CannedFunction",
        "ipyparallel.serialize.codeutil.code_ctor",
    }
    data = serialize_object([b"x" * 2000, [Reference("a")], plain])[0]
    names = globals_named(data)
    assert "ipyparallel.serialize.canning.Reference" in names
    assert not [n for n in names if n.startswith("roundhouse")]


def test_state_of_a_canned_function():
    assert list(vars(CannedFunction(plain))) == [
        "code",
        "defaults",
        "kwdefaults",
        "annotations",
        "closure",
        "module",
        "__name__",
        "buffers",
    ]


def test_function_from_an_old_peer():
    canned = CannedFunction(plain)
    del canned.kwdefaults, canned.annotations
    assert uncan(canned, {})(1, c=0) == (1, 2, 0)


def test_apply_message():
    big = numpy.arange(1000)
    bufs = pack_apply_message(plain, (big, [b"x" * 3000]), {"c": b"y" * 2000})
    # f; info; array + data; list + bytes; bytes + data
    assert len(bufs) == 1 + 1 + 2 + 2 + 2
    assert pickle.loads(bufs[1]) == {"nargs": 2, "narg_bufs": 4, "kw_keys": ["c"]}
    f, args, kwargs = unpack_apply_message([bytes(b) for b in bufs], {})
    assert f(*args, **kwargs)[1:] == ([b"x" * 3000], b"y" * 2000)
    assert numpy.array_equal(args[0], big)


def test_keywords_are_sorted():
    bufs = pack_apply_message(plain, (), {"z": 1, "a": 2})
    assert pickle.loads(bufs[1])["kw_keys"] == ["a", "z"]
    assert unpack_apply_message(bufs)[2] == {"z": 1, "a": 2}


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:1],
        lambda b: [],
        lambda b: b[:-1],
        lambda b: b + [b"\x80\x04N."],
        lambda b: b[:2] + [b"\x80\x04N."] + b[2:],
    ],
    ids=["one", "none", "one short", "one over", "shifted"],
)
def test_wrong_number_of_buffers(damage):
    bufs = pack_apply_message(plain, (1,), {"c": 2})
    with pytest.raises(AssertionError):
        unpack_apply_message(damage(bufs), {})


def test_large_buffer_missing():
    bufs = serialize_object(b"x" * 2000)
    with pytest.raises(ValueError, match="without its buffer 0"):
        deserialize_object(bufs[:1])


def test_call_through_peer(peer):
    bufs = pack_apply_message(plain, (1,), {"c": b"k" * 3000})
    assert deserialize_object(peer.ask("call", bufs))[0] == (1, 2, b"k" * 3000)
    bufs = pack_apply_message(Reference("lambda x: x + there"), (1,), {})
    assert deserialize_object(peer.ask("call", bufs))[0] == 8
    bufs = pack_apply_message(
        PrePickled(plain), (PrePickled(1), Reference("there")), {}
    )
    assert deserialize_object(peer.ask("call", bufs))[0] == (1, 7, 3)


CALLS = {
    "function": (
        "def f(a, b=2, *, c: int = 3): return a + b + c",
        "(f, (1,), {'c': 4})",
    ),
    "closure": (
        "def make(n):\n def f(x): return x + n\n return f",
        "(make(5), (2,), {})",
    ),
    "partial": (
        "def f(a, b): return len(a) + b",
        "(functools.partial(f, b'x' * 5000), (-4993,), {})",
    ),
    "importable": ("", "(len, ([1] * 7,), {})"),
    "reference": ("", "(lambda a: a, (ipp.Reference('there'),), {})"),
    "array": ("", "(lambda a: int(a.sum()), (numpy.ones(7),), {})"),
    "class": (
        "class C:\n  def __init__(self): self.x = 7",
        "(lambda c: c().x, (C,), {})",
    ),
    "dependent": (
        "def yes(): return True\ndef f(): return 7\n",
        "(ipp.dependent(f, yes), (), {})",
    ),
    "require": ("@ipp.require('math')\ndef g(): return math.floor(7.5)", "(g, (), {})"),
}


@pytest.mark.parametrize("name", CALLS)
def test_call_from_peer(peer, name):
    code, expression = CALLS[name]
    bufs = peer.ask("pack", [code.encode(), expression.encode()])
    if name == "require":
        # its body imports names of ipyparallel, as an engine provides them
        out = run_python(
            "import sys, pickle, roundhouse as ipp\n"
            "ipp.install_as_ipyparallel()\n"
            "bufs = pickle.load(sys.stdin.buffer)\n"
            "g = {'__name__': '__main__'}\n"
            "f, a, k = ipp.unpack_apply_message(bufs, globals())\n"
            "print(f(*a, **k))",
            stdin=_file(pickle.dumps(bufs)),
        )
        assert out.strip() == "7"
        return
    g = {"there": 7, "__name__": "__main__"}
    f, args, kwargs = unpack_apply_message(bufs, g)
    assert f(*args, **kwargs) == 7


def _file(data):
    f = tempfile.TemporaryFile()  # noqa: SIM115
    f.write(data)
    f.seek(0)
    return f


def test_push_from_peer_needs_no_ipython(peer):
    bufs = peer.ask(
        "pack", [b"from ipyparallel.util import _push", b"(_push, (), {'a': 1})"]
    )
    g = {"__name__": "__main__"}
    f, args, kwargs = unpack_apply_message(bufs, g)
    f(*args, **kwargs)
    assert g["a"] == 1


def test_prepickled_is_a_snapshot():
    data = [1]
    p = PrePickled(data)
    data.append(2)
    assert deserialize_object(serialize_object(p))[0] == [1]
    assert unpack_apply_message(pack_apply_message(p, (p,), {}))[1] == ([1],)
    a = numpy.zeros(2000)
    p = PrePickled(a)
    a[:] = 1
    assert not deserialize_object(serialize_object(p))[0].any()


# What is kept between calls


def test_function_is_serialized_once():
    f = interactive(lambda x: x)
    first = serialize_object(f)
    assert serialize_object(f)[0] is first[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: setattr(f, "__defaults__", (10,)),
        lambda f: setattr(f, "__kwdefaults__", {"k": 3}),
        lambda f: setattr(f, "__code__", (lambda x=1, *, k=0: ("new", k)).__code__),
        lambda f: setattr(f, "__module__", "math"),
        lambda f: setattr(f, "__name__", "other"),
        lambda f: setattr(f, "__annotations__", {"x": int}),
        lambda f: f.__annotations__.update(x=int),
    ],
    ids=["defaults", "kwdefaults", "code", "module", "name", "annot", "annot in place"],
)
def test_changed_function_is_sent_anew(change):
    @interactive
    def f(x=1, *, k=0):
        return (x, k)

    f.__kwdefaults__ = None
    f.__defaults__ = (1,)
    old = serialize_object(f)[0]
    assert serialize_object(f)[0] is old
    change(f)
    assert serialize_object(f)[0] != old


def test_mutable_default_and_closure_are_never_stale():
    @interactive
    def f(x=[]):  # noqa: B006
        return x

    assert there_and_back(f, {})() == []
    f.__defaults__[0].append(1)
    assert there_and_back(f, {})() == [1]

    n = 1

    def g():
        return n

    g.__module__ = "__main__"
    assert there_and_back(g, {})() == 1
    n = 2
    assert there_and_back(g, {})() == 2


def test_received_functions_do_not_share_defaults():
    @interactive
    def f(x=[]):  # noqa: B006
        x.append(1)
        return x

    bufs = pack_apply_message(f, (), {})
    for _ in range(2):
        g, _, _ = unpack_apply_message(bufs, {})
        assert g() == [1]


def test_received_function_is_bound_to_each_namespace():
    f = interactive(lambda: where)  # noqa: F821
    bufs = [memoryview(b) for b in pack_apply_message(f, (), {})]
    for name in "ab":
        assert unpack_apply_message(bufs, {"where": name})[0]() == name


def test_dead_functions_are_forgotten():
    before = len(core._functions)
    for _ in range(10):
        serialize_object(interactive(lambda: 0))
    gc.collect()
    assert len(core._functions) == before


# Errors


class Holder:
    def __init__(self, **kwargs):
        self.__dict__.update(kwargs)


def test_error_names_the_attribute():
    bad = Holder(conn=Holder(ok=1, lock=threading.Lock()))
    with pytest.raises(
        TypeError, match=r"^args\[1\]\.conn\.lock: cannot pickle '_thread.lock'"
    ):
        pack_apply_message(len, (0, bad), {})
    with pytest.raises(TypeError, match=r"^kwargs\['a'\]\[0\]\['k'\]\.lock: "):
        pack_apply_message(len, (), {"a": [{"k": Holder(lock=threading.Lock())}]})


def test_error_names_the_closure_variable():
    lock = threading.Lock()

    def f():
        return lock

    with pytest.raises(TypeError, match="closure variable 'lock'"):
        pack_apply_message(f, (), {})


def test_error_in_a_slot_and_a_set():
    class Slotted:
        __slots__ = ("a",)

    Slotted.__qualname__ = "Slotted"
    globals()["Slotted"] = Slotted
    s = Slotted()
    s.a = threading.Lock()
    with pytest.raises(TypeError, match=r"^object\.a: cannot pickle"):
        serialize_object(s)


def test_recursive_closure_goes_by_cloudpickle():
    pytest.importorskip("cloudpickle")

    def fact(n):
        return n * fact(n - 1) if n else 1

    fact.__module__ = "__main__"
    assert there_and_back(fact, {})(5) == 120


# Maps


class Boxed:
    def __init__(self, x):
        self.x = x


class CanBoxed:
    def __init__(self, box):
        self.x = box.x


def test_own_types():
    can_map[Boxed] = CanBoxed
    uncan_map[CanBoxed] = lambda obj, g: Boxed(obj.x + 1)
    try:
        assert isinstance(can(Boxed(1)), CanBoxed)
        assert there_and_back([Boxed(1)])[0].x == 2

        class Sub(Boxed):
            pass

        assert isinstance(can(Sub(1)), Sub)
    finally:
        del can_map[Boxed], uncan_map[CanBoxed]


def test_own_type_by_name_and_tuple():
    can_map["decimal.Decimal"] = lambda d: ("decimal", str(d))
    can_map[(complex, frozenset)] = lambda c: "seen"
    try:
        from decimal import Decimal

        assert can(Decimal(1)) == ("decimal", "1")
        assert can(1j) == "seen"
        assert can(frozenset()) == "seen"
        assert can(1) == 1
    finally:
        for key in (Decimal, complex, frozenset):
            can_map.pop(key)
    assert can(1j) == 1j


def test_unknown_name_is_dropped(caplog):
    can_map["no.such.Thing"] = None
    box = Boxed(1)
    assert can(box) is box
    assert "no.such.Thing" in caplog.text
    assert "no.such.Thing" not in can_map


# Other picklers


@pytest.mark.parametrize(
    "use, name", [(use_dill, "dill"), (use_cloudpickle, "cloudpickle")]
)
def test_other_pickler(use, name):
    pytest.importorskip(name)
    use()
    try:
        lock_free = 3

        def outer(x):
            def inner():
                return x + lock_free

            return inner

        f, args, _ = unpack_apply_message(
            pack_apply_message(outer, (4, b"x" * 3000), {}), {}
        )
        assert f(args[0])() == 7
        assert args[1] == b"x" * 3000
        assert there_and_back([Reference("a"), numpy.arange(2000)], {"a": 1})[0] == 1
    finally:
        use_pickle()
    assert can_map[type(plain)] is CannedFunction


def test_peer_reads_our_cloudpickle(peer):
    pytest.importorskip("cloudpickle")
    use_cloudpickle()
    try:
        bufs = pack_apply_message(interactive(lambda x: x), (numpy.arange(2000),), {})
    finally:
        use_pickle()
    names = globals_named(bufs[2])
    assert "ipyparallel.serialize.canning.CannedArray" in names


# Weight, and life beside the upstream package


def test_import_is_light():
    out = run_python(
        "import sys, roundhouse.serialize\n"
        "print([m for m in ('numpy', 'IPython', 'traitlets', 'zmq', 'inspect',"
        " 'asyncio', 'concurrent', 'json', 'ipyparallel') if m in sys.modules])"
    )
    assert out.strip() == "[]"


BESIDE = """
{first}
{second}
import sys, pickle
import numpy
assert ipp.__name__ == 'ipyparallel' and hasattr(ipp, '__path__')
assert 'ipyparallel' in ipp.serialize_object.__module__
def f(x): return x + 1
theirs = ipp.pack_apply_message(f, (1, numpy.ones(1000)), {{}})
ours = rh.pack_apply_message(f, (1, numpy.ones(1000)), {{}})
for bufs in (theirs, ours):
    for side in (ipp, rh):
        g, args, kwargs = side.unpack_apply_message(bufs, {{'__name__': '__main__'}})
        assert g(args[0]) == 2 and len(args[1]) == 1000
# their objects in our messages
bufs = rh.serialize_object([ipp.Reference('q')])
for side in (ipp, rh):
    assert side.deserialize_object(bufs, {{'q': 3}})[0] == [3]
print('fine')
"""


@pytest.mark.parametrize("order", [0, 1])
def test_beside_the_real_package(peer_python, order):
    imports = ["import ipyparallel as ipp", "import roundhouse.serialize as rh"]
    first, second = imports[order], imports[1 - order]
    code = BESIDE.format(first=first, second=second)
    assert run_python(code, python=peer_python).strip() == "fine"


def test_bytes_do_not_confuse_the_loader():
    text = "cipyparallel.serialize.canning\nCannedFunction\n"
    for obj in (text, [text] * 3, {text: text}, text.encode() * 100):
        assert there_and_back(obj) == obj


def test_small_bytes_are_not_canned_but_can_still_does_it():
    assert isinstance(can(b"x"), CannedBytes)
    assert pickle.loads(serialize_object(b"x")[0]) == b"x"


def test_packing_twice_gives_the_same():
    f = interactive(lambda x: x)
    bufs = [pack_apply_message(f, (b"x" * 2000, 1), {"k": 2}) for _ in range(3)]
    assert bufs[0] == bufs[1] == bufs[2] and len(bufs[0]) == 6
    p = PrePickled(f)
    assert pack_apply_message(p, (p,), {}) == pack_apply_message(p, (p,), {})
    assert len(p.buffers) == 1
