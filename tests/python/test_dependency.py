"""Dependencies: sets of tasks, and functions that must agree."""

import math
import sys

import pytest
import roundhouse as ipp
from roundhouse.serialize import pack_apply_message, unpack_apply_message

CASES = [
    # all, success, failure; completed, failed; met, unreachable
    (True, True, False, "ab", "", True, False),
    (True, True, False, "a", "", False, False),
    (True, True, False, "a", "b", False, True),
    (False, True, False, "a", "b", True, False),
    (False, True, False, "", "a", False, False),
    (False, True, False, "", "ab", False, True),
    (True, False, True, "", "ab", True, False),
    (True, False, True, "a", "", False, True),
    (False, False, True, "a", "", False, False),
    (False, False, True, "ab", "", False, True),
    (False, False, True, "a", "b", True, False),
    (True, True, True, "a", "b", True, False),
    (True, True, True, "a", "", False, False),
    (False, True, True, "", "b", True, False),
]


@pytest.mark.parametrize("all_, success, failure, done, failed, met, dead", CASES)
def test_check(all_, success, failure, done, failed, met, dead):
    dep = ipp.Dependency(["a", "b"], all_, success, failure)
    assert dep.check(set(done), set(failed)) is met
    assert dep.unreachable(set(done), set(failed)) is dead


def test_empty_is_met():
    dep = ipp.Dependency()
    assert dep.check(set()) and not dep.unreachable(set(), {"x"})


def test_neither_outcome():
    with pytest.raises(ValueError, match="successes"):
        ipp.Dependency("a", success=False)


def test_forms(rc):
    ar = rc[:].apply_async(len, "")
    assert ipp.Dependency("a") == {"a"}
    assert ipp.Dependency(["a", ar]) == {"a", *ar.msg_ids}
    assert ipp.Dependency(ar) == set(ar.msg_ids)
    for bad in ([1], [None], [["a"]]):
        with pytest.raises(TypeError):
            ipp.Dependency(bad)


def test_dict_form():
    dep = ipp.Dependency(["a"], all=False, success=False, failure=True)
    d = dep.as_dict()
    assert d == {
        "dependencies": ["a"],
        "all": False,
        "success": False,
        "failure": True,
    }
    again = ipp.Dependency(d)
    assert again.as_dict() == d


def yes(*args):
    return bool(args)


def on_engine(f, *args, ns=None):
    """Run f as an engine does: the check comes while unpacking."""
    ns = {"__name__": "__main__"} if ns is None else ns
    f, args, kwargs = unpack_apply_message(pack_apply_message(f, args, {}), ns)
    return f(*args, **kwargs)


def test_depend():
    @ipp.depend(yes, 1)
    def good(x):
        return x + 1

    assert isinstance(good, ipp.dependent) and good.__name__ == "good"
    assert good(1) == 2
    assert on_engine(good, 1) == 2

    @ipp.depend(yes)
    def bad(x):
        raise AssertionError("must not run")

    with pytest.raises(ipp.UnmetDependency):
        on_engine(bad, 1)


@pytest.mark.parametrize("answer, runs", [(None, 1), (0, 1), ("", 1), (False, 0)])
def test_only_false_is_unmet(answer, runs):
    f = ipp.dependent(lambda: "ran", lambda a: a, answer)
    if runs:
        assert on_engine(f) == "ran"
    else:
        with pytest.raises(ipp.UnmetDependency):
            on_engine(f)


def test_check_runs_in_the_namespace_of_the_engine():
    f = ipp.dependent(ipp.interactive(lambda: a), ipp.interactive(lambda: a > 1))  # noqa: F821
    assert on_engine(f, ns={"a": 2}) == 2
    with pytest.raises(ipp.UnmetDependency):
        on_engine(f, ns={"a": 1})


@pytest.fixture
def as_upstream():
    """`import ipyparallel` finds this package, as on an engine."""
    ipp.install_as_ipyparallel()
    yield
    from roundhouse.compat import _finder

    sys.meta_path.remove(_finder)
    for name in [m for m in sys.modules if m.split(".")[0] == "ipyparallel"]:
        del sys.modules[name]


def test_require_modules(as_upstream):
    for modules in (("math",), (math,)):
        ns = {"__name__": "__main__"}

        @ipp.require(*modules)
        @ipp.interactive
        def f(x):
            return math.floor(x)

        assert on_engine(f, 2.5, ns=ns) == 2
        assert ns["math"] is math


def test_require_missing_module(as_upstream):
    @ipp.require("no_such_module_anywhere")
    def f():
        return 1

    with pytest.raises(ipp.UnmetDependency, match="no_such_module_anywhere"):
        on_engine(f)


def typed_in(code):
    """The names that code defines, as if it had been typed at a prompt."""
    ns = {"__name__": "__main__", "ipp": ipp}
    exec(code, ns)
    return ns


def test_require_objects(as_upstream):
    here = typed_in(
        "def helper(x): return x * k\n"
        "@ipp.require(helper, k=3)\n"
        "def f(x): return helper(x)\n"
    )
    ns = {"__name__": "__main__"}
    assert on_engine(here["f"], 2, ns=ns) == 6
    assert ns["k"] == 3


def test_nested_require(as_upstream):
    here = typed_in(
        "def foo(x): return x + 1\n"
        "@ipp.require(foo)\n"
        "def bar(x): return foo(x) * 2\n"
        "@ipp.require(bar)\n"
        "def baz(x, y): return bar(x) + y\n"
    )
    assert on_engine(here["baz"], 4, 5) == 15


def test_require_refuses_what_has_no_name():
    with pytest.raises(TypeError, match="by keyword"):
        ipp.require(5)


def test_peer_runs_our_dependencies(peer):
    agree = ipp.interactive(yes)
    f = ipp.dependent(ipp.interactive(lambda: there), agree, 1)  # noqa: F821
    from roundhouse.serialize import deserialize_object

    bufs = pack_apply_message(f, (), {})
    assert deserialize_object(peer.ask("call", bufs))[0] == 7
    f = ipp.dependent(ipp.interactive(lambda: 1), ipp.interactive(lambda: False))
    with pytest.raises(RuntimeError, match="UnmetDependency"):
        peer.ask("call", pack_apply_message(f, (), {}))


def test_peer_runs_our_require(peer):
    from roundhouse.serialize import deserialize_object

    @ipp.require("math", k=2)
    @ipp.interactive
    def f(x):
        return math.floor(x) + k  # noqa: F821

    assert (
        deserialize_object(peer.ask("call", pack_apply_message(f, (1.5,), {})))[0] == 3
    )
