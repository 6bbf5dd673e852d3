"""The direct interface on a running cluster, row by row.

What other files of this folder show is not shown again; tests/CHECKLIST.md
says where everything is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import pytest
import roundhouse as ipp

pytest_plugins = ["cluster_fixtures"]


def typed(code, name):
    """A function as if typed in at a prompt."""
    ns = {"__name__": "__main__"}
    exec(code, ns)
    return ns[name]


@pytest.fixture
def gate(tmp_path):
    """A file that calls wait for: gate() lets them go on."""
    path = str(tmp_path / "gate")
    hold = typed(
        "def hold(path, x=None):\n"
        " import os, time\n"
        " while not os.path.exists(path): time.sleep(.01)\n"
        " return x",
        "hold",
    )

    def release():
        open(path, "w").close()

    release.call = functools.partial(hold, path)
    yield release
    release()


# Views


def test_what_targets_decide(rc):
    """A bare value for an id, a list for a list of any length."""
    n = len(rc)
    for view, want in [
        (rc[0], 3),
        (rc[-1], 3),
        (rc[[0]], [3]),
        (rc[:1], [3]),
        (rc[:], [3] * n),
        (rc.direct_view(), [3] * n),
        (rc.broadcast_view(), [3] * n),
        (rc.load_balanced_view(), 3),
    ]:
        assert view.apply_sync(len, "abc") == want, view
        assert view.apply_async(len, "abc").get(60) == want
        assert view.set_flags(block=True).apply(len, "abc") == want
    assert [v.apply_sync(len, "") for v in rc] == [0] * n
    assert rc[0].apply_sync(dict, f=5, self=6, targets=7, block=8, view=9) == {
        "f": 5, "self": 6, "targets": 7, "block": 8, "view": 9,
    }  # fmt: skip


def test_results_of_a_blocking_method(rc):
    one, all_ = rc[0], rc[:]
    n = len(rc)
    for got, want in [
        (one.push({"a": 2}, block=True), None),
        (all_.push({"a": 2}, block=True), [None] * n),
        (one.pull("a + 1", block=True), 3),
        (one.pull(["a", "a * a"], block=True), [2, 4]),
        (all_.pull(("a", "-a"), block=True), [[2, -2]] * n),
        (all_.scatter("s", [1] * n, flatten=True, block=True), [None] * n),
        (all_["s"], [1] * n),
        (one.get("a"), 2),
        (all_.gather("s", targets=[0], block=True), [1]),
    ]:
        assert got == want
    assert type(one.execute("b = 1", block=True)) is ipp.AsyncResult
    with pytest.raises(ipp.RemoteError, match="ZeroDivisionError"):
        one.execute("1/0", block=True)
    all_.execute("class C: pass\nc = C()", block=True)
    all_.push({"c.x": 5}, block=True)
    assert all_["c.x"] == [5] * n


def test_run_a_file(rc, tmp_path):
    path = tmp_path / "script.py"
    path.write_text("where = __name__\nprint('ran')\n   ")
    ar = rc[:].run(str(path), block=True)
    assert ar.stdout == ["ran\n"] * len(rc)
    assert rc[:]["where"] == ["__main__"] * len(rc)
    with pytest.raises(FileNotFoundError):
        rc[:].run(str(tmp_path / "missing.py"))


def test_flags_of_a_remote_function(rc):
    there = rc[0].remote(block=True, track=True)(len)
    assert there("ab") == 2 and not rc[0].track
    waits = rc[:].remote()(len)
    assert isinstance(waits("ab"), ipp.AsyncResult)
    with pytest.raises(KeyError, match="colour"):
        rc[0].remote(colour=1)(len)("")


def test_imports_that_fail_on_the_engines(rc, tmp_path, monkeypatch):
    (tmp_path / "only_here_module.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    there = rc[:].apply_sync(typed("def f():\n import sys\n return sys.path", "f"))
    assert str(tmp_path) not in there[0]
    with (
        pytest.raises(ipp.CompositeError, match="only_here_module"),
        rc[:].sync_imports(quiet=True),
    ):
        import only_here_module  # noqa: F401
    with pytest.raises(NotImplementedError), rc[:].sync_imports(local=False):
        pass


def test_reference_expressions(rc):
    rc[:].execute("a = 5\nb = [1, 2]\nimport math", block=True)
    R = ipp.Reference
    f = typed("def f(*args, **kw): return args, kw", "f")
    got = rc[0].apply_sync(f, R("a * 2 + b[-1]"), [R("b")], k={"x": R("math.pi > 3")})
    assert got == ((12, [[1, 2]]), {"k": {"x": True}})
    assert rc[0].apply_sync(R("math.floor"), 2.5) == 2
    rc[0].push({"c": R("a - 1")}, block=True)
    assert rc[0]["c"] == 4
    with pytest.raises(ipp.RemoteError, match="NameError"):
        rc[0].apply_sync(len, R("not_there"))


def test_functions_see_the_engines_globals(rc):
    rc[:].push({"there": 7}, block=True)
    assert rc[0].apply_sync(ipp.interactive(lambda: there)) == 7  # noqa: F821
    bound = functools.partial(typed("def f(a, b): return a + b + there", "f"), 1)
    assert rc[0].apply_sync(bound, 2) == 10
    packed = ipp.PrePickled(typed("def f(x): return x * there", "f"))
    assert rc[:].apply_sync(packed, ipp.PrePickled(2)) == [14] * len(rc)


# Results


def test_asyncio(rc):
    view, every = rc.load_balanced_view(), rc[:]
    nap = typed("def nap(t):\n import time\n time.sleep(t)\n return t", "nap")
    fail = typed("def fail(): raise KeyError('k')", "fail")

    async def main():
        assert await every.apply_async(len, "ab") == [2] * len(rc)
        wrapped = [asyncio.wrap_future(view.apply_async(abs, -i)) for i in range(9)]
        assert await asyncio.gather(*wrapped) == list(range(9))
        with pytest.raises(ipp.RemoteError, match="KeyError"):
            await view.apply_async(fail)
        first = asyncio.as_completed(
            [
                asyncio.wrap_future(rc[i].apply_async(nap, t))
                for i, t in [(0, 1), (1, 0)]
            ]
        )
        assert await next(iter(first)) == 0
        slow = rc[0].apply_async(nap, 0.2)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(slow)), 0.01)
        assert await slow == 0.2

    asyncio.run(main())


def test_waiting_for_some(rc, gate):
    held = rc[0].apply_async(gate.call, "late")
    quick = rc[1].apply_async(len, "a")
    both = ipp.AsyncResult.join(held, quick)
    for wait in (
        lambda: both.wait(60, return_when=ipp.FIRST_COMPLETED),
        lambda: concurrent.futures.wait(
            both.split(), 60, concurrent.futures.FIRST_COMPLETED
        ),
    ):
        done, pending = wait()
        assert [len(done), len(pending)] == [1, 1]
        assert [ar.get(0) for ar in done] == [1]
    assert both.progress == 1 and not both.ready()
    assert both.metadata[1].status == "ok" and both.metadata[0].status is None
    with pytest.raises(TimeoutError):
        both[1]
    failing = ipp.AsyncResult.join(held, rc[1].apply_async(divmod, 1, 0))
    with pytest.raises(ipp.RemoteError, match="ZeroDivisionError"):
        failing.get(60, return_when=ipp.FIRST_EXCEPTION)
    gate()
    assert both.get(60) == ["late", 1] and both.wait(return_when=ipp.ALL_COMPLETED)[0]
    assert [type(r).__name__ for r in failing.get(60, return_exceptions=True)] == [
        "str", "RemoteError",
    ]  # fmt: skip


def test_results_are_taken_while_others_run(rc, gate):
    first_held = typed(
        "def f(path, i):\n"
        " import os, time\n"
        " while i == 3 and not os.path.exists(path): time.sleep(.01)\n"
        " return i",
        "f",
    )
    path = gate.call.args[0]
    amr = rc.load_balanced_view().map_async(first_held, [path] * 4, range(4))
    it = iter(amr)
    assert [next(it) for _ in range(3)] == [0, 1, 2]
    assert not amr.done() and amr.progress == 3 and len(amr) == 4
    gate()
    assert list(it) == [3] and functools.reduce(max, amr) == 3


def test_a_returned_exception_is_a_value(rc):
    make = typed("def make(): return ValueError('made, not raised')", "make")
    assert isinstance(rc[0].apply_sync(make), ValueError)
    assert [str(e) for e in rc[:].apply_sync(make)] == ["made, not raised"] * len(rc)


def test_other_clients_output_is_theirs(rc, cluster):
    other = cluster.client()
    mine, theirs = rc[0].execute("print('mine')"), None
    theirs = other.direct_view(0).execute("print('theirs')")
    for ar, text in ((mine, "mine\n"), (theirs, "theirs\n")):
        ar.get(60)
        assert ar.wait_for_output(60) and ar.stdout == text


@pytest.mark.parametrize("groupby", ["type", "engine", "order"])
def test_grouped_output(rc, capsys, groupby):
    code = "import sys; print('out'); print('err', file=sys.stderr)"
    ar = rc[:2].execute(code)
    ar.get(60)
    ar.display_outputs(groupby)
    out, err = capsys.readouterr()
    assert out == "[stdout:0] \nout\n[stdout:1] \nout\n"
    assert err == "[stderr:0] \nerr\n[stderr:1] \nerr\n"
    one = rc[0].execute(code)
    one.get(60)
    one.display_outputs()
    assert capsys.readouterr().out == "out\n"


def test_progress_bars(rc, capsys):
    ar = rc[:].apply_async(typed("def nap():\n import time; time.sleep(.1)", "nap"))
    ar.wait_interactive(interval=0.02)
    shown = capsys.readouterr().out
    assert ar.done() and f"{len(rc)}/{len(rc)}" in shown and "nap" in shown
    rc.wait_interactive(rc[:].apply_async(len, ""), interval=0.02)
    assert "tasks" in capsys.readouterr().out


# Signals


def test_signals(rc, cluster, start_cluster, wait_until):
    if cluster.kind == "peer":
        assert rc.send_signal(0, block=True) is None
        return
    c = start_cluster(2)
    rc, pids = c.rc, c.pids()
    # an idle engine does not care; a name and a number are the same
    for sig in ("SIGINT", signal.SIGINT, 2):
        assert rc.send_signal(sig, block=True) is None
    assert rc[:].apply_sync(len, "") == [0, 0]
    rc[0].execute(
        "import signal\ncaught = []\n"
        "signal.signal(signal.SIGUSR1, lambda *a: caught.append(a[0]))",
        block=True,
    )
    assert rc[0].apply_async(len, "").get(60) == 0
    rc.send_signal("SIGUSR1", targets=0, block=True)
    wait_until(lambda: rc[0]["caught"] == [int(signal.SIGUSR1)])
    with pytest.raises(ipp.RemoteError, match="NOSUCH"):
        rc.send_signal("SIGNOSUCH", targets=0, block=True)
    rc.send_signal("SIGTERM", targets=1, block=True)
    wait_until(lambda: rc.ids == [0])
    (ended,) = [e for e in c.engines if e.pid == pids[1]]
    assert ended.wait(60) == 0


# Interrupts

WAITS = [
    # what waits; whether Ctrl-C gives the result back instead of being raised
    ("v.apply_sync(nap)", True),
    ("v.execute('import time; time.sleep(600)', block=True)", True),
    ("v.push({'a': 1}, block=True)", True),
    ("v.pull('__name__', block=True)", True),
    ("v.scatter('s', [1, 2], block=True)", True),
    ("v.gather('s', block=True)", True),
    ("v.map_sync(abs, [1, 2])", True),
    ("v.remote(block=True)(len)('')", True),
    ("v.parallel(block=True)(len)('ab')", True),
    ("rc.broadcast_view().apply_sync(len, '')", True),
    ("rc.load_balanced_view().map_sync(abs, [1])", True),
    ("ar.get()", False),
    ("ar.wait()", False),
    ("ar.wait_for_output()", False),
    ("list(ar)", False),
    ("ar.wait_interactive()", False),
    ("concurrent.futures.wait([ar])", False),
    ("rc.wait()", False),
    ("rc.wait_for_engines(9)", False),
    ("other.get_result(ar.msg_ids).get()", False),
]


def test_ctrl_c_wherever_one_can_wait(start_cluster):
    """Every wait ends at once, and everything goes on working."""
    c = start_cluster(2)
    script = f"""
        import concurrent.futures, functools, sys, time, roundhouse as ipp
        say = functools.partial(print, file=sys.stderr, flush=True)
        rc, other = (ipp.Client({str(c.client_file)!r}) for _ in range(2))
        rc.wait_for_engines(2, timeout=60)
        v = rc[:]
        def nap():
            import time
            time.sleep(600)
        ar = v.apply_async(nap)
        while not set(ar.msg_ids) <= set(other.hub_history()):
            time.sleep(.01)
        for code, gives_back in {WAITS!r}:
            got = "raised"
            try:
                say(code)
                value = eval(code)
                got = "given back" if isinstance(value, ipp.AsyncResult) else value
            except KeyboardInterrupt:
                pass
            say(got)
        rc.abort(block=True)
        rc.send_signal("SIGINT", block=True)
        say([r.ename for r in ar.get(60, return_exceptions=True)])
        say(v.apply_sync(len, "abc"), rc.load_balanced_view().map_sync(abs, [-1]))
        """
    p = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.DEVNULL,  # progress bars
        stderr=subprocess.PIPE,
        text=True,
    )
    for code, gives_back in WAITS:
        said = p.stderr.readline()
        assert said == code + "\n", said + p.stderr.read()
        time.sleep(0.1)  # it is waiting now, or soon: right in both cases
        p.send_signal(signal.SIGINT)
        got = p.stderr.readline().strip()
        assert got in ("raised", "given back" if gives_back else "raised"), (code, got)
    _, said = p.communicate(timeout=60)
    assert said == "['KeyboardInterrupt', 'KeyboardInterrupt']\n[3, 3] [1]\n"


# In an IPython session


def test_errors_in_an_ipython_session(start_cluster):
    """Once per different error, with the source of what was typed."""
    c = start_cluster(2)
    session = textwrap.dedent(
        f"""
        import roundhouse as ipp
        rc = ipp.Client({str(c.client_file)!r})
        rc.wait_for_engines(2, timeout=60)
        def half_typed(x):
            y = 0
            return x / y

        rc[:].apply_sync(half_typed, 1)
        import sys; print("post mortem of", repr(sys.last_value), sys.last_value.elist[1][0])
        rc[0].apply_sync(half_typed, 1)
        %px 1/0
        rc.close()
        """
    )
    env = {**os.environ, "IPYTHONDIR": str(c.folder), "NO_COLOR": "1"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner"),
            *("--colors=nocolor", "--HistoryManager.enabled=False"),
        ],
        input=session,
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
    )
    text = done.stdout + done.stderr
    assert text.count("[0-1:apply], 2 times:") == 1, text
    assert "post mortem of CompositeError(2) ZeroDivisionError" in text
    assert text.count("return x / y") == 2 and "[0:apply]" in text
    assert text.count("2 errors") == 1  # %px showed them as they came


# joblib


def test_joblib_starts_a_cluster_if_there_is_none(tmp_path, monkeypatch):
    pytest.importorskip("joblib")
    env = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    code = """
        import joblib, roundhouse as ipp
        ipp.register_joblib_backend()
        with joblib.parallel_backend("ipyparallel"):
            print(joblib.Parallel()(joblib.delayed(pow)(i, 2) for i in range(5)))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
    )
    assert "[0, 1, 4, 9, 16]" in done.stdout, done.stderr
    assert not list(tmp_path.rglob("ipcontroller-*.json"))
    assert not list(tmp_path.rglob("cluster-*.json"))


# Deprecated, and not there


def test_what_does_nothing_warns(rc):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        rc.spin()
        rc.spin_thread(1)
        rc.stop_spin_thread()
    assert [w.category for w in seen] == [DeprecationWarning] * 3
    with pytest.raises(NotImplementedError, match="restart"):
        rc.shutdown(restart=True)
    assert rc.curve_serverkey == rc.curve_publickey == rc.curve_secretkey == b""
    assert time.time() - rc[0].apply_async(len, "").submitted.timestamp() < 3600
