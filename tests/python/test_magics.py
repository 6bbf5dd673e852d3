"""The IPython magics, in a shell of their own."""

import json
import threading

import pytest
import roundhouse as ipp

pytest.importorskip("IPython")

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.io import capture_output
from roundhouse.client.magics import ParallelMagics


@pytest.fixture
def shell(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(colors="NoColor")
    with shell.builtin_trap:
        yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def px(shell, rc, core):
    """Cells run on the fake engines; the magics of all of them."""
    return shell.magics_manager.registry["ParallelMagics"]


def run(shell, text):
    with capture_output() as io:
        result = shell.run_cell(text)
    return result, io


def ns(core, engine=0):
    return core.namespaces[core.roster[engine]]


def code_sent(core):
    return [s[3]["code"] for s in core.sent if s[2] == "execute_request"]


def test_first_client_brings_the_magics(shell, rc):
    magics = shell.magics_manager.magics
    for name in ("px", "pxresult", "result", "pxconfig", "autopx"):
        assert name in magics["line"]
    assert "px" in magics["cell"]
    assert isinstance(magics["cell"]["px"].__self__, ParallelMagics)
    assert magics["cell"]["px"].__self__.view.targets == "all"


def test_px(shell, rc, core):
    run(shell, "%px a = 5")
    run(shell, "%%px\nb = a + 1\nc = b")
    assert [ns(core, i)["c"] for i in rc.ids] == [6, 6, 6]
    assert core.sent[-1][3]["silent"] is False


def test_nothing_is_expanded_in_the_code(shell, rc, core):
    shell.user_ns["x"] = "here"
    run(shell, "%px y = '{x} $x'")
    run(shell, "%%px\nz = '{x} $x'")
    assert ns(core)["y"] == ns(core)["z"] == "{x} $x"


@pytest.mark.parametrize(
    "option, engines",
    [
        ("--targets 1", ["u1"]),
        ("-t ::2", ["u0", "u3"]),
        ("-t 1:", ["u1", "u3"]),
        ("--targets=[0,3]", ["u0", "u3"]),
        ("--targets 0,1", ["u0", "u1"]),
        ("-t -1", ["u3"]),
        ("-t all", ["u0", "u1", "u3"]),
    ],
)
def test_targets(shell, rc, core, option, engines):
    run(shell, f"%%px {option}\n1")
    assert [s[1] for s in core.sent if s[2] == "execute_request"] == engines
    assert shell.magics_manager.magics["cell"]["px"].__self__.view.targets == "all"


def test_bad_targets(shell, rc, core):
    result, _ = run(shell, "%%px -t nonsense\n1")
    assert "not engines" in str(result.error_in_exec)
    assert not code_sent(core)


def test_noblock_and_out(shell, rc, core):
    result, _ = run(shell, "%%px --noblock -o saved\n1")
    assert isinstance(result.result, ipp.AsyncResult)
    assert shell.user_ns["saved"] is result.result
    run(shell, "%pxresult -o again")
    assert shell.user_ns["again"] is result.result


def test_local(shell, rc, core):
    run(shell, "%%px --local\nboth = 3")
    assert shell.user_ns["both"] == ns(core)["both"] == 3


def test_config(shell, rc, core):
    view = rc.activate([0, 1])
    run(shell, "%pxconfig --noblock --targets 3 --progress-after 7 --no-stream")
    assert view.block is False and view.targets == 3
    magics = shell.magics_manager.magics["cell"]["px"].__self__
    assert magics.progress_after_seconds == 7 and magics.stream_output is False
    run(shell, "%pxconfig --block --targets all --verbose --signal-on-interrupt 2")
    assert view.block and view.targets == "all" and magics.signal_on_interrupt == 2
    _, io = run(shell, "%px 1")
    assert "Parallel execution on engine(s): all" in io.stdout
    view.targets = list(range(20))
    magics._announce(False)


@pytest.mark.parametrize("after, bars", [(0, 1), (-1, 0), (60, 0)])
def test_progress_after(shell, rc, core, monkeypatch, after, bars):
    shown = []

    def bar(ar):
        shown.append(ar)
        ar.wait()

    monkeypatch.setattr(ipp.AsyncResult, "wait_interactive", bar)
    core.hold = True
    answer(core)
    result, _ = run(shell, f"%%px --progress-after {after}\n...")
    assert result.success and len(shown) == bars


def test_long_lists_are_abbreviated(shell, rc, core, capsys):
    magics = shell.magics_manager.magics["cell"]["px"].__self__
    magics.view.targets = list(range(20))
    magics._announce(False)
    assert (
        "Async parallel execution on engine(s): [0, 1, 2, 3, ..., 16, 17, 18, 19]"
        in (capsys.readouterr().out)
    )


def answer(core, text="out\n", error=False):
    """Answer what is held, from another thread, with some output."""

    def go():
        while not [r for r in core.requests if not r.done]:
            pass
        for req in [r for r in core.requests if not r.done]:
            req.output("stream", {"name": "stdout", "text": text})
            if error:
                req.output("error", {"ename": "E", "evalue": "v", "traceback": ["tb"]})
                req.error()
            else:
                req.finish({"status": "ok", "execution_count": 1})

    threading.Timer(0.05, go).start()


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_output(shell, rc, core, stream):
    core.hold = True
    answer(core)
    _, io = run(shell, f"%%px {stream}\n...")
    assert io.stdout == "".join(f"[stdout:{i}] \nout\n" for i in rc.ids)
    _, io = run(shell, "%pxresult")
    assert io.stdout == "".join(f"[stdout:{i}] \nout\n" for i in rc.ids)


def test_single_target_has_no_prefix(shell, rc, core):
    core.hold = True
    answer(core)
    _, io = run(shell, "%%px --targets 1 --no-stream\n...")
    assert io.stdout == "out\n"


def test_errors(shell, rc, core):
    core.hold = True
    answer(core, error=True)
    result, io = run(shell, "%%px\n...")
    assert isinstance(result.error_in_exec, ipp.AlreadyDisplayedError)
    assert str(result.error_in_exec) == "3 errors"
    assert io.stderr.count("tb") == 3
    answer(core, error=True)
    result, io = run(shell, "%%px --no-stream\n...")
    assert type(result.error_in_exec) is ipp.CompositeError


def test_no_result_yet(shell, rc):
    result, _ = run(shell, "%pxresult")
    assert "nothing to show" in str(result.error_in_exec)


def test_interrupt_is_passed_on(shell, rc, core, monkeypatch):
    core.hold = True

    def interrupted(*args, **kwargs):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(core, "wait", interrupted)
    result, io = run(shell, "%%px --signal-on-interrupt SIGTERM\n...")
    assert result.success
    assert "SIGTERM goes to the engines" in io.stderr
    assert [s[3] for s in core.sent if s[2] == "signal_request"] == [
        {"sig": "SIGTERM"}
    ] * 3
    monkeypatch.setattr(core, "wait", interrupted)
    result, io = run(shell, "%%px --signal-on-interrupt 0\n...")
    assert result.success and "the engines go on" in io.stderr
    assert len([s for s in core.sent if s[2] == "signal_request"]) == 3


def test_autopx(shell, rc, core):
    _, io = run(shell, "%autopx")
    assert io.stdout == "%autopx enabled\n"
    run(shell, "x = 1\ny = x + 1\n")
    run(shell, "%px z = 3")
    assert ns(core)["y"] == 2 and "y" not in shell.user_ns
    _, io = run(shell, "%autopx")
    assert io.stdout == "%autopx disabled\n"
    run(shell, "here = 1")
    assert shell.user_ns["here"] == 1 and "here" not in ns(core)


def test_suffix(shell, rc, core):
    rc[::2].activate("_even")
    run(shell, "%px_even e = 1")
    run(shell, "%%px_even\nf = 1")
    assert "e" in ns(core, 0) and "f" in ns(core, 3) and "e" not in ns(core, 1)
    run(shell, "%autopx_even")
    run(shell, "g = 1")
    assert "g" in ns(core, 3) and "g" not in ns(core, 1)
    run(shell, "%autopx_even")
    rc.activate(1)
    run(shell, "%px only = 1")
    assert "only" in ns(core, 1) and "only" not in ns(core, 0)


def test_outside_ipython_only_a_warning(rc):
    with pytest.warns(UserWarning, match="no magics here"):
        rc[:].activate()


def test_displays_are_shown(shell, rc, core):
    core.hold = True
    ar = rc[:].execute("...", silent=False)
    for req in core.requests:
        req.output("display_data", {"data": {"text/plain": "D"}, "metadata": {}})
        req.output("execute_result", {"data": {"text/plain": "R"}, "metadata": {}})
        req.finish({"status": "ok", "execution_count": 2})
    for group in ("type", "engine", "order"):
        with capture_output() as io:
            ar.display_outputs(group)
        shown = [json.dumps(o.data) for o in io.outputs]
        assert len([s for s in shown if '"D"' in s]) == 3
        assert len([s for s in shown if "Out[" in s]) == 3, shown
        assert len([s for s in shown if "[output:0]" in s]) == 1
