"""Errors: classes, texts, and how tracebacks are shown."""

import copy
import linecache
import pickle
import re

import pytest
import roundhouse as ipp
from roundhouse import error
from roundhouse.client.sources import add_source


def remote(i=0, ename="ZeroDivisionError", tb="tb line 1\ntb line 2"):
    info = {"engine_uuid": f"u{i}", "engine_id": i, "method": "apply"}
    return ipp.RemoteError(ename, "division by zero", tb, info)


def composite(n):
    return ipp.CompositeError(
        "one or more exceptions raised in: f",
        [
            (e.ename, e.evalue, e.traceback, e.engine_info)
            for e in map(remote, range(n))
        ],
    )


def test_tree():
    for cls, base in [
        ("KernelError", "IPythonError"),
        ("EngineError", "KernelError"),
        ("NoEnginesRegistered", "KernelError"),
        ("TaskAborted", "KernelError"),
        ("TaskTimeout", "KernelError"),
        ("TaskRejectError", "KernelError"),
        ("UnmetDependency", "KernelError"),
        ("ImpossibleDependency", "UnmetDependency"),
        ("DependencyTimeout", "ImpossibleDependency"),
        ("InvalidDependency", "ImpossibleDependency"),
        ("RemoteError", "KernelError"),
        ("CompositeError", "RemoteError"),
        ("AlreadyDisplayedError", "RemoteError"),
    ]:
        assert issubclass(getattr(ipp, cls), getattr(ipp, base)), cls
    assert ipp.TimeoutError is TimeoutError
    assert error.AbortedTask is ipp.TaskAborted
    assert error.UnmetDependencyError is ipp.UnmetDependency


def test_remote_error():
    e = remote(2)
    assert str(e) == "[2:apply] ZeroDivisionError: division by zero"
    assert repr(e) == "<RemoteError[2]:ZeroDivisionError(division by zero)>"
    assert e.render_traceback() == ["[2:apply]", "tb line 1", "tb line 2"]
    assert e._render_traceback_() == e.render_traceback()
    assert e.args == ("ZeroDivisionError", "division by zero")


def test_without_engine_info():
    e = ipp.RemoteError("E", "v", None)
    assert str(e) == "[Engine Exception] E: v"
    assert repr(e) == "<RemoteError[ ]:E(v)>"
    assert e.render_traceback() == ["[Engine Exception]", "No traceback available"]


def test_incomplete_engine_info_is_shown_all_the_same():
    e = ipp.RemoteError("E", "v", None, {"engine_uuid": "u"})
    assert str(e) == "[?:?] E: v"


def test_composite():
    e = composite(3)
    assert str(e).splitlines() == [
        "one or more exceptions raised in: f",
        "[0:apply]ZeroDivisionError: division by zero",
        "[1:apply]ZeroDivisionError: division by zero",
        "[2:apply]ZeroDivisionError: division by zero",
    ]
    assert repr(e) == "CompositeError(3)"
    assert e.args == ("ZeroDivisionError",) * 3
    assert e.render_traceback()[:4] == ["[0:apply]:", "tb line 1", "tb line 2", ""]
    assert e.render_traceback(1) == ["[1:apply]:", "tb line 1", "tb line 2"]


def test_limit(monkeypatch, capsys):
    e = composite(7)
    assert ipp.CompositeError.tb_limit == 4
    assert len(str(e).splitlines()) == 6
    assert str(e).endswith(".... 3 more exceptions ...")
    assert e.render_traceback()[-1] == "... 3 more exceptions ..."
    monkeypatch.setattr(ipp.CompositeError, "tb_limit", 1)
    assert str(e).endswith(".... 6 more exceptions ...")
    e.print_traceback()
    assert capsys.readouterr().out.count("tb line 1") == 1
    e.print_traceback(6)
    assert capsys.readouterr().out.startswith("[6:apply]:")


def test_raise_one():
    e = composite(2)
    with pytest.raises(ipp.RemoteError, match=r"\[1:apply\]"):
        e.raise_exception(1)
    for method in (e.raise_exception, e.render_traceback, e.print_traceback):
        with pytest.raises(IndexError, match="index 2 does not exist"):
            method(2)


def test_already_displayed():
    e = ipp.AlreadyDisplayedError(composite(5))
    assert str(e) == "5 errors"
    assert e.render_traceback() == ["5 errors"]
    assert repr(e) == "<AlreadyDisplayedError(5 errors)>"


def test_collect():
    assert ipp.collect_exceptions([1, 2]) == [1, 2]
    assert ipp.collect_exceptions({0: 1}) == {0: 1}
    with pytest.raises(ipp.CompositeError, match="raised in: g") as e:
        ipp.collect_exceptions([1, remote(0), composite(2)], "g")
    assert len(e.value.elist) == 3
    with pytest.raises(ipp.CompositeError, match="unspecified"):
        ipp.collect_exceptions({0: remote(0), 1: 2})


def test_wrap_and_unwrap():
    info = {"engine_uuid": "u", "engine_id": 4, "method": "apply"}
    try:
        raise KeyError("k")
    except KeyError:
        content = ipp.wrap_exception(info)
    assert content["status"] == "error" and content["engine_info"] == info
    e = ipp.unwrap_exception(content)
    assert str(e) == "[4:apply] KeyError: 'k'"
    assert "raise KeyError" in e.traceback
    assert ipp.unwrap_exception({"ename": "E", "evalue": "v"}).traceback == ""


def test_no_engines_says_what_to_do():
    assert "wait_for_engines" in str(ipp.NoEnginesRegistered("no"))


@pytest.mark.parametrize(
    "e", [remote(1), composite(3), ipp.AlreadyDisplayedError(composite(2))]
)
def test_copies(e):
    for twin in (pickle.loads(pickle.dumps(e)), copy.copy(e)):
        assert type(twin) is type(e)
        assert str(twin) == str(e)
        assert twin.render_traceback() == e.render_traceback()


def failed(engine, value="no", tb="tb", ename="ValueError"):
    return ename, value, tb, {"engine_id": engine, "method": "apply"}


def test_equal_errors_are_shown_once():
    same = [
        failed(i, f"at 0x{i:x}", f"\x1b[31mCell In[{i}]\x1b[0m\nend") for i in range(4)
    ]
    other = failed(7, tb="another place")
    e = ipp.CompositeError("m", [*same[:2], other, *same[2:], failed(9, tb=None)])
    assert e.fold() == [[0, 1, 3, 4], [2], [5]]
    assert e.render_folded() == e._render_traceback_() == [
        "[0-3:apply], 4 times:", "\x1b[31mCell In[0]\x1b[0m", "end", "",
        "[7:apply]:", "another place", "",
        "[9:apply]:", "No traceback available", "",
    ]  # fmt: skip
    e.tb_limit = 1
    assert e.render_folded()[-1] == "... 2 more exceptions ..."
    # what upstream shows stays as it is
    assert e.render_traceback()[-1] == "... 5 more exceptions ..."
    assert ipp.CompositeError("m", same[:1]).render_folded()[0] == "[0:apply]:"


@pytest.mark.parametrize(
    "engines, head",
    [
        ([0, 1, 2, 5, 7, 8], "[0-2,5,7-8:apply], 6 times:"),
        ([3, 3, 3], "[3:apply], 3 times:"),
        ([4, 2], "[2,4:apply], 2 times:"),
        ([None, 2, 1], "[1-2:apply], 3 times:"),  # one that nobody knows any more
    ],
)
def test_engines_of_a_folded_error(engines, head):
    e = ipp.CompositeError("m", [failed(i) for i in engines])
    assert e.render_folded()[0] == head


def test_folded_errors_without_an_engine():
    infos = [{}, None]
    e = ipp.CompositeError("m", [("TaskAborted", "x", None, i) for i in infos])
    assert e.render_folded()[0] == "[Engine Exception], 2 times:"


SOURCE = "def f(x):\n    y = 0\n\n    return x / y\n"


@pytest.mark.parametrize(
    "body",
    [
        "File {name}:4, in f(x)\n\nZeroDivisionError: division by zero",
        "\x1b[36mFile \x1b[39m\x1b[32m{name}:4\x1b[39m, in \x1b[36mf\x1b[39m\n"
        "     3 'Could not get source, probably ...'\n\nlast",
    ],
)
def test_source_of_this_session_is_put_in(body, monkeypatch):
    name = "<ipython-input-4-cafe>"
    monkeypatch.setitem(linecache.cache, name, (1, None, SOURCE.splitlines(True), name))
    head, _, rest = add_source(body.format(name=name)).partition("\n")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", rest).split("\n")
    assert lines[:4] == [
        "      2     y = 0",
        "      3 ",
        "----> 4     return x / y",
        "",
    ]
    assert len(lines) == 5 and head == body.format(name=name).partition("\n")[0]


def test_source_is_taken_from_nowhere_else(tmp_path):
    path = tmp_path / "secret.py"
    path.write_text(SOURCE)
    linecache.getlines(str(path))  # known, but a file
    for body in (f"File {path}:2\n\nend", "File <nobody-knows>:1\n\nend", "no frames"):
        assert add_source(body) == body
    has_it = "File <x>:1, in f\n----> 1 the engine's\n\nend"
    assert add_source(has_it) == has_it
