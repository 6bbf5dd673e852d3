"""What can be sent: functions of all kinds, arrays, tables, large data."""

import functools
import os

import pytest
import roundhouse as ipp
from test_client_calls import interactive

pytest_plugins = ["cluster_fixtures"]
numpy = pytest.importorskip("numpy")

echo = interactive("def echo(x): return x", "echo")

FUNCTIONS = """
import functools
base = 100

def outer(n):
    def inner(x):
        return recursive_free(x) + n
    def recursive_free(x):
        return 2 * x
    return inner

def counter():
    n = 0
    def add(k):
        nonlocal n
        n += k
        return n
    return add

def with_defaults(a, b=[1, 2], *, c={"k": 3}):
    return a, b, c

def generator(n):
    return list(i * i for i in range(n))

def comprehension(n):
    return [i + n for i in range(n)]

def documented(x: int = 3) -> int:
    "Doubles."
    return 2 * x

class Base:
    def hello(self): return "hello " + self.name()

class Point(Base):
    unit = "m"
    def __init__(self, x): self.x = x
    def name(self): return f"{self.x} {self.unit}"
    @staticmethod
    def double(x): return 2 * x
    @classmethod
    def make(cls, x): return cls(x)
    @property
    def twice(self): return 2 * self.x

def use(cls, x):
    p = cls.make(x)
    return p.hello(), p.twice, cls.double(x), isinstance(p, cls)
"""


@pytest.fixture(scope="module")
def typed():
    """A namespace as if FUNCTIONS had been typed in."""
    ns = {"__name__": "__main__"}
    exec(FUNCTIONS, ns)
    return ns


def test_functions(rc, typed):
    view = rc[0]
    assert view.apply_sync(typed["outer"](5), 1) == 7
    assert view.apply_sync(typed["counter"](), 4) == 4
    assert view.apply_sync(typed["with_defaults"], 0) == (0, [1, 2], {"k": 3})
    assert view.apply_sync(typed["generator"], 4) == [0, 1, 4, 9]
    assert view.apply_sync(typed["comprehension"], 3) == [3, 4, 5]
    assert view.apply_sync(typed["documented"]) == 6
    assert view.apply_sync(interactive("f = lambda x, k=2: x * k", "f"), 4) == 8
    p = functools.partial(typed["outer"](5), 10)
    assert view.apply_sync(p) == 25
    call = interactive("def call(fs, x): return [f(x) for f in fs]", "call")
    fs = [typed["outer"](1), functools.partial(pow, 2), abs, str.upper]
    assert view.apply_sync(call, fs[:3], 3) == [7, 8, 3]
    assert view.apply_sync(fs[3], "x") == "X"


def test_bound_methods(rc):
    assert rc[0].apply_sync("{} {}".format, 1, 2) == "1 2"
    assert rc[0].apply_sync(numpy.arange(2000).sum) == 1999000
    assert rc[0].apply_sync([3, 1, 2].index, 1) == 1
    fraction = __import__("fractions").Fraction(7, 2)
    assert rc[0].apply_sync(fraction.limit_denominator, 1) in (3, 4)


def test_functions_come_back(rc, typed):
    make = interactive("def make(n):\n def f(x): return x + n\n return f", "make")
    f = rc[0].apply_sync(make, 5)
    assert f(2) == 7


def test_classes_typed_in(rc, typed):
    try:  # it has a property, which takes cloudpickle
        rc[0].apply_sync(interactive("def f(): import cloudpickle", "f"))
    except ipp.RemoteError:
        pytest.skip("its engines have no cloudpickle")
    got = rc[0].apply_sync(typed["use"], typed["Point"], 4)
    assert got == ("hello 4 m", 8, 8, True)
    rc[:].push({"Point": typed["Point"]}, block=True)
    assert rc[:].apply_sync(interactive("f = lambda: Point(1).twice", "f")) == [
        2
    ] * len(rc)


def test_objects_of_classes_typed_in(cluster, rc, typed, monkeypatch):
    """Pickle sends them by name; the error says what to do."""
    main = __import__("__main__")
    monkeypatch.setattr(main, "Point", typed["Point"], raising=False)
    point, call = typed["Point"](3), interactive("f = lambda p: p.hello()", "f")
    rc[:].clear(block=True)
    with pytest.raises(ipp.RemoteError, match="AttributeError") as e:
        rc[0].apply_sync(call, point)
    if cluster.kind == "peer":
        return  # nor can it be sent this class without cloudpickle
    assert "push it first" in e.value.evalue and "Point" in e.value.evalue
    rc[:].push({"Point": typed["Point"]}, block=True)
    assert rc[0].apply_sync(call, point) == "hello 3 m"
    assert rc[0].apply_sync(point.hello) == "hello 3 m"


def every_array():
    yield numpy.array(3.5)
    yield numpy.zeros((0, 3))
    yield numpy.array(["text", "é"])
    yield numpy.array([None, {"a": 1}, [2]], dtype=object)
    yield numpy.zeros(3, dtype=[("a", "i4"), ("b", "S3"), ("c", "f8", (2,))])
    for code in numpy.typecodes["All"]:
        if code not in "OV":
            yield numpy.ones(700).astype(code)
    yield numpy.asfortranarray(numpy.arange(600).reshape(20, 30))
    yield numpy.arange(4000)[::-3]


def test_arrays_of_every_kind(rc, cluster):
    sent = list(every_array())
    if cluster.kind == "peer":  # which cannot send dates
        sent = [a for a in sent if a.dtype.kind not in "mM"]
    back = []
    for i in range(0, len(sent), 20):  # as arguments, and in a list
        back += rc[0].apply_sync(echo, sent[i : i + 20])
    for a, b in zip(sent, back):
        assert b.dtype == a.dtype and b.shape == a.shape
        assert numpy.array_equal(a, b)
    a = numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3))
    assert numpy.array_equal(rc[0].apply_sync(echo, a), a)


def test_masked_arrays(rc):
    a = numpy.ma.masked_less(numpy.arange(3000), 10)
    b = rc[0].apply_sync(echo, a)
    assert type(b) is type(a) and (a.mask == b.mask).all() and b.sum() == a.sum()


def test_what_arrives_is_read_only(rc, cluster):
    if cluster.kind == "peer":
        pytest.skip("its engines copy small arrays")
    writable = interactive(
        "def f(a, b):\n"
        " try: a[0] = 1\n"
        " except ValueError as e: return str(e), type(b).__name__, b.readonly",
        "f",
    )
    text, kind, readonly = rc[0].apply_sync(
        writable, numpy.zeros(2000), memoryview(b"x" * 2000)
    )
    assert "read-only" in text and kind == "memoryview" and readonly
    back = rc[0].apply_sync(echo, numpy.zeros(2000))
    assert not back.flags.writeable


def test_tables(rc, cluster):
    if cluster.kind == "peer":
        pytest.skip("its engines have no pandas")
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": range(20_000), "b": ["x", "y"] * 10_000})
    grow = interactive(
        "def grow(f):\n"
        " g = f.copy()\n"
        " g['c'] = g['a'] * 2\n"
        " return g, f.groupby('b')['a'].sum().to_dict()",
        "grow",
    )
    for view in (rc[0], rc.load_balanced_view()):
        g, sums = view.apply_sync(grow, frame)
        assert g["c"].sum() == 2 * frame["a"].sum() and set(sums) == {"x", "y"}
        assert g[["a", "b"]].equals(frame)
    table = pyarrow.Table.from_pandas(frame)
    assert rc[0].apply_sync(echo, table).equals(table)
    rows = interactive("def rows(t): return t.num_rows, t.nbytes", "rows")
    assert rc[0].apply_sync(rows, table) == (20_000, table.nbytes)
    rc[:].scatter("part", frame, block=True)
    assert rc[:].apply_sync(interactive("f = lambda: len(part)", "f")) == [10_000] * 2


def test_sent_and_wait_for_send(rc):
    view = rc[0]
    a = numpy.zeros(8_000_000)
    ar = view.set_flags(track=True).apply_async(len, a)
    ar.wait_for_send(60)
    assert ar.sent and ar.get(60) == len(a)
    view.set_flags(track=False)
    ar = view.apply_async(len, a)
    ar.wait_for_send(60)
    assert ar.sent and ar.get(60) == len(a)


def test_dill(rc, cluster):
    if cluster.kind == "peer":
        pytest.skip("its engines have no dill")
    pytest.importorskip("dill")
    make = interactive(
        "def make():\n"
        " class Hidden:\n"
        "  def __init__(self, x): self.x = x\n"
        " return Hidden(4)",
        "make",
    )
    try:
        rc[:].use_dill().get(60)
        assert rc[0].apply_sync(interactive("f = lambda h: h.x", "f"), make()) == 4
    finally:
        rc[:].use_pickle().get(60)


def test_cloudpickle_steps_in(rc, cluster):
    """A function pickle refuses: it refers to itself."""
    if cluster.kind == "peer":
        pytest.skip("its engines have no cloudpickle")
    pytest.importorskip("cloudpickle")
    make = interactive(
        "def make():\n"
        " def fact(n): return 1 if n < 2 else n * fact(n - 1)\n"
        " return fact",
        "make",
    )
    assert rc[0].apply_sync(make(), 5) == 120


def test_what_cannot_be_sent_fails_here(rc):
    before = len(rc.history)
    lock = __import__("threading").Lock()
    for call in (rc[0].apply, rc.load_balanced_view().apply):
        with pytest.raises(TypeError, match=r"args\[0\]\['a'\]"):
            call(len, {"a": lock})
    assert len(rc.history) == before


@pytest.mark.large
@pytest.mark.skipif(
    not os.environ.get("ROUNDHOUSE_LARGE"), reason="needs 14 GB; set ROUNDHOUSE_LARGE"
)
def test_more_than_four_gigabytes(start_cluster):
    c = start_cluster(1)
    n = (4 << 30) + 5000
    a = numpy.zeros(n, dtype="u1")
    a[-1] = 7
    check = interactive("def check(a): return len(a), int(a[-1]), a[-3:]", "check")
    length, last, tail = c.rc[0].apply_sync(check, a)
    assert (length, last, list(tail)) == (n, 7, [0, 0, 7])
    del a
    back = c.rc[0].apply_sync(
        interactive(
            "def make(n):\n"
            " import numpy\n a = numpy.zeros(n, dtype='u1'); a[-1] = 9; return a",
            "make",
        ),
        n,
    )
    assert len(back) == n and back[-1] == 9
