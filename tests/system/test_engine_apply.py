"""Calling functions on an engine: what arrives, what comes back, what stays."""

from __future__ import annotations

import json
import os
import pickle

import pytest
from engine_kit import RemoteFailure
from roundhouse.serialize import Reference, deserialize_object, pack_apply_message

pytest_plugins = ("engine_kit",)


def add(a, b=1, *, c=0):
    return a + b + c


def test_values_come_back(kit):
    assert kit.call(os.getpid) == kit.process.pid
    assert kit.call(add, 1) == 2
    assert kit.call(add, 1, 2, c=3) == 6
    assert kit.call(lambda: None) is None
    assert kit.call(lambda *a, **k: (a, k), 1, [2], x={"y": 3}) == (
        (1, [2]),
        {"x": {"y": 3}},
    )
    value = {
        "bytes": bytes(range(256)) * 100,
        "text": "ü€🚂",
        "nested": [(1, {2: None})],
    }
    assert kit.call(lambda v: v, value) == value


def test_closures_and_defaults_travel(kit):
    n = 5

    def outer(x, y=[1]):  # noqa: B006 - that is the test
        y.append(x)
        return n, y

    assert kit.call(outer, 2) == (5, [1, 2])
    assert kit.call(outer, 3) == (5, [1, 3])  # a function of its own each time


def test_arrays_both_ways(kit):
    np = pytest.importorskip("numpy")
    for a in (
        np.arange(10.0),
        np.arange(24).reshape(2, 3, 4)[:, ::2],
        np.zeros((0, 3)),
        np.array(3.5),
        np.ones(5, dtype=[("a", "i4"), ("b", "f8")]),
        np.random.default_rng(1).random(1 << 20),
        np.array(["x", None], dtype=object),
    ):
        b = kit.call(lambda x: x, a)
        assert b.dtype == a.dtype and b.shape == a.shape
        assert (b == a).all()
    big = kit.call(lambda n: __import__("numpy").arange(n, dtype="u1"), 20_000_000)
    assert big.nbytes == 20_000_000 and big[255] == 255


def test_a_result_does_not_change_on_its_way(kit):
    """An array the engine keeps may be overwritten before it has been sent."""
    pytest.importorskip("numpy")
    kit.call(exec, "import numpy as np; a = np.zeros(4_000_000)")
    ids = []
    for _ in range(5):
        ids.append(kit.send(lambda: a))  # noqa: F821
        ids.append(kit.send(lambda: a.__iadd__(1).sum()))  # noqa: F821
    for i in range(5):
        value = kit.result(ids[2 * i])
        assert (value == i).all(), i
        assert kit.result(ids[2 * i + 1]) == (i + 1) * 4_000_000


def test_received_memory_outlives_its_message(kit):
    pytest.importorskip("numpy")
    import numpy as np

    kit.call(lambda x: globals().update(kept=x), np.arange(300_000))
    for _ in range(20):
        kit.call(len, b"x" * 2_000_000)
    assert kit.call(lambda: int(kept.sum())) == sum(range(300_000))  # noqa: F821


def test_interactive_functions_see_the_namespace(kit):
    kit.call(exec, "q = 4")
    assert kit.call(lambda: q + 1) == 5  # noqa: F821
    assert kit.call(eval, "q * 2") == 8
    assert kit.call(Reference("lambda: q + 3")) == 7
    assert kit.call(abs, Reference("q - 10")) == 6
    # globals() and locals() of a builtin are those of the caller
    assert "q" in kit.call(eval, "list(globals())")
    assert kit.call(dir).count("q") == 1


def test_module_functions_see_their_module(kit):
    kit.call(exec, "path = 'wrong'")
    assert kit.call(os.path.join, "a", "b") == "a/b"


def test_nothing_is_left_behind(kit):
    before = kit.call(lambda: sorted(globals()))
    for args in ((1,), (2, 3)):
        kit.call(add, *args)
    with pytest.raises(RemoteFailure):
        kit.call(lambda: 1 / 0)
    assert kit.call(lambda: sorted(globals())) == before
    kit.call(lambda: globals().update(stays=1))
    assert kit.call(lambda: stays) == 1  # noqa: F821


def test_classes_typed_in_are_found_again(kit):
    kit.call(exec, "class Point:\n    def __init__(self, x): self.x = x")
    kit.call(exec, "import pickle; p = pickle.loads(pickle.dumps(Point(3)))")
    assert kit.call(eval, "p.x") == 3
    assert kit.call(eval, "Point.__module__") == "__main__"


def test_metadata(kit):
    m = kit.reply(
        kit.send_buffers(pack_apply_message(len, ("abc",), {}), {"label": "mine"})
    )
    assert list(m.metadata) == [
        "started", "dependencies_met", "engine", "is_broadcast", "is_coalescing",
        "original_msg_id", "label", "status",
    ]  # fmt: skip
    assert m.metadata["label"] == "mine"
    assert m.metadata["engine"] == m.header["session"] == kit.uuid
    assert m.metadata["dependencies_met"] is True
    assert m.content == {"status": "ok"}
    assert deserialize_object(m.buffers)[0] == 3


# errors


def check_error(kit, m, ename, evalue=None):
    assert m.content["status"] == m.metadata["status"] == "error"
    assert m.content["ename"] == ename
    if evalue is not None:
        assert m.content["evalue"] == evalue
    assert isinstance(m.content["traceback"], list)
    assert m.content["engine_info"] == {
        "engine_uuid": kit.uuid,
        "engine_id": kit.id,
        "method": "apply",
    }
    assert m.metadata["engine_info"] == {"engine_uuid": kit.uuid, "engine_id": kit.id}
    assert m.buffers == []


def raise_it(name, *args):
    raise getattr(__import__("builtins"), name)(*args)


@pytest.mark.parametrize(
    "name, args, evalue",
    [
        ("ValueError", ("ü",), "ü"),
        ("KeyError", ("k",), "'k'"),
        ("SystemExit", (3,), "3"),
        ("KeyboardInterrupt", (), ""),
        ("GeneratorExit", (), ""),
        ("BaseException", ("b",), "b"),
        ("StopIteration", (), ""),
        ("ZeroDivisionError", ("\udc80",), None),
    ],
)
def test_every_exception_is_a_reply(kit, name, args, evalue):
    msg_id = kit.send(raise_it, name, *args)
    check_error(kit, kit.reply(msg_id), name, evalue)
    published = [m for m in kit.output(msg_id) if m.type == "error"]
    assert len(published) == 1
    assert published[0].content["ename"] == name
    assert kit.call(len, "ok") == 2


def bad_str():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    raise Broken


def test_an_exception_without_text(kit):
    m = kit.reply(kit.send(bad_str))
    check_error(kit, m, "Broken")
    assert "RuntimeError" in m.content["evalue"]


def test_deep_recursion(kit):
    def deep(n):
        return deep(n + 1)

    m = kit.reply(kit.send(deep, 0))
    # a closure over itself is refused here or recursion is there: both answer
    assert m.content["status"] == "error"
    kit.call(exec, "def down(n): return down(n + 1)")
    m = kit.reply(kit.send(lambda: down(0)))  # noqa: F821
    check_error(kit, m, "RecursionError")
    assert len(json.dumps(m.content)) < 100_000


def test_traceback_shows_the_way(kit):
    def inner():
        raise ValueError("deep down")

    m = kit.reply(kit.send(lambda f: f(), inner))
    text = "\n".join(m.content["traceback"])
    assert "inner()" in text and "ValueError" in text and "deep down" in text
    assert "Traceback (most recent call last)" in text
    assert "hooks.py" not in text
    assert os.path.basename(__file__) in text


def test_causes_are_told(kit):
    def chained():
        try:
            {}["key"]
        except KeyError as e:
            raise RuntimeError("second") from e

    text = "\n".join(kit.reply(kit.send(chained)).content["traceback"])
    assert (
        text.index("KeyError")
        < text.index("direct cause")
        < text.rindex("RuntimeError")
    )


def test_results_that_cannot_be_sent(kit):
    m = kit.reply(kit.send(lambda: (x for x in [])))
    check_error(kit, m, "TypeError")
    assert "generator" in m.content["evalue"]


def test_unmet_dependencies(kit):
    def unmet():
        from roundhouse.error import UnmetDependency

        raise UnmetDependency()

    m = kit.reply(kit.send(unmet))
    check_error(kit, m, "UnmetDependency")
    assert m.metadata["dependencies_met"] is False


info = pickle.dumps({"nargs": 0, "narg_bufs": 0, "kw_keys": []})


@pytest.mark.parametrize(
    "buffers",
    [
        [],
        [b""],
        [b"junk", info],
        [pickle.dumps(len)],
        [pickle.dumps(len), b"junk"],
        [pickle.dumps(len), pickle.dumps({"nargs": 3, "narg_bufs": 1, "kw_keys": []})],
        [pickle.dumps(len), info, b"left over"],
        [pickle.dumps(len), pickle.dumps([1, 2])],
        [pickle.dumps("not callable"), info],
        [b"cno.such.module\nname\n.", info],
    ],
)
def test_malformed_calls_are_refused_with_a_reason(kit, buffers):
    m = kit.reply(kit.send_buffers(buffers))
    assert m.content["status"] == "error"
    assert m.content["ename"]
    assert kit.call(len, "ok") == 2


def test_no_keyboard(kit):
    m = kit.reply(kit.send(lambda: input("name? ")))
    check_error(kit, m, "StdinNotImplementedError")
    assert kit.call(eval, "__import__('sys').stdin.read()") == ""


def test_upstream_names_are_ours(kit):
    def names():
        import ipyparallel as ipp
        from ipyparallel.datapub import publish_data
        from ipyparallel.error import UnmetDependency

        return ipp.__name__, publish_data.__module__, UnmetDependency.__module__

    assert kit.call(names) == ("roundhouse", "roundhouse.datapub", "roundhouse.error")
