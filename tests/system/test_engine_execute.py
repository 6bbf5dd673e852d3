"""Cells, magics and rich output: IPython in the engine."""

from __future__ import annotations

import pytest

pytest.importorskip("IPython")

pytest_plugins = ("engine_kit",)


def of_type(out, *types):
    return [m for m in out if m.type in types]


def test_ipython_is_loaded_when_needed(kit):
    def heavy():
        import sys

        names = {m.partition(".")[0] for m in sys.modules}
        return sorted(
            names & {"IPython", "traitlets", "numpy", "asyncio", "zmq", "ssl"}
        )

    assert kit.call(heavy) == []
    assert kit.run("1")["status"] == "ok"
    assert "IPython" in kit.call(heavy)


def test_cells(kit):
    msg_id = kit.send_execute("a = 1\na + 41")
    m = kit.reply(msg_id)
    assert m.type == "execute_reply"
    assert m.metadata["status"] == "ok" and m.metadata["engine"] == kit.uuid
    assert m.content == {
        "status": "ok",
        "execution_count": 1,
        "user_expressions": {},
        "payload": [],
    }
    code, result = kit.output(msg_id)
    assert code.idents == [f"engine.{kit.id}.execute_input".encode()]
    assert code.content == {"code": "a = 1\na + 41", "execution_count": 1}
    assert result.idents == [f"engine.{kit.id}.execute_result".encode()]
    assert result.metadata == {}
    assert result.content == {
        "data": {"text/plain": "42"},
        "metadata": {},
        "execution_count": 1,
    }
    assert kit.call(eval, "a") == 1  # one namespace
    kit.call(exec, "b = 2")
    assert kit.run("a + b; _")["execution_count"] == 2
    assert kit.call(eval, "Out[1]") == 42


def test_silent_cells(kit):
    msg_id = kit.send_execute("x = 5; x", silent=True)
    assert kit.reply(msg_id).content["status"] == "ok"
    assert of_type(kit.output(msg_id), "execute_input") == []
    assert kit.call(eval, "x") == 5


def test_user_expressions(kit):
    content = kit.run("y = 3", user_expressions={"twice": "y * 2", "bad": "1/0"})
    assert content["user_expressions"]["twice"]["data"]["text/plain"] == "6"
    assert content["user_expressions"]["bad"]["status"] == "error"


def test_display(kit):
    msg_id = kit.send_execute(
        "from IPython.display import display, HTML, Image, clear_output\n"
        "h = display(HTML('<b>x</b>'), display_id='d1')\n"
        "h.update(HTML('<i>y</i>'))\n"
        "clear_output(wait=True)\n"
        "display({'text/plain': 'p', 'image/png': b'\\x89PNG'}, raw=True)\n"
        "print('end')"
    )
    assert kit.reply(msg_id).content["status"] == "ok"
    out = kit.output(msg_id)[1:]
    assert [m.type for m in out] == [
        "display_data",
        "update_display_data",
        "clear_output",
        "display_data",
        "stream",
    ]
    assert out[0].content["data"]["text/html"] == "<b>x</b>"
    assert out[0].content["transient"] == {"display_id": "d1"}
    assert out[0].metadata == {}
    assert out[1].content["data"]["text/html"] == "<i>y</i>"
    assert out[2].content == {"wait": True}
    assert out[3].content["data"] == {"text/plain": "p", "image/png": "iVBORw=="}
    assert {m.idents[0] for m in out[:4]} == {f"engine.{kit.id}.displaypub".encode()}


def test_display_in_an_applied_function(kit):
    def show():
        from IPython.display import HTML, display

        display(HTML("<b>x</b>"))

    msg_id = kit.send(show)
    kit.result(msg_id)
    (m,) = kit.output(msg_id)
    assert m.type == "display_data" and m.content["data"]["text/html"] == "<b>x</b>"


def test_errors(kit):
    msg_id = kit.send_execute("def f(): return 1/0\nf()")
    m = kit.reply(msg_id)
    assert m.content["status"] == m.metadata["status"] == "error"
    assert m.content["ename"] == "ZeroDivisionError"
    assert m.content["evalue"] == "division by zero"
    assert m.content["execution_count"] == 1
    assert m.content["user_expressions"] == {} and m.content["payload"] == []
    assert m.content["engine_info"] == {
        "engine_uuid": kit.uuid,
        "engine_id": kit.id,
        "method": "execute",
    }
    text = "\n".join(m.content["traceback"])
    assert "ZeroDivisionError" in text and "hooks.py" not in text
    (error,) = of_type(kit.output(msg_id), "error")
    assert error.content["traceback"] == m.content["traceback"]
    assert kit.run("1")["execution_count"] == 2


@pytest.mark.parametrize(
    "code, ename",
    [
        ("1 +", "SyntaxError"),
        ("  x = 1\n y = 2", "IndentationError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("%no_such_magic", "UsageError"),
        ("input('?')", "StdinNotImplementedError"),
    ],
)
def test_failing_cells(kit, code, ename):
    content = kit.run(code)
    assert content["status"] == "error"
    assert content["ename"] == ename
    assert kit.run("1")["status"] == "ok"


def test_a_failing_cell_cancels_those_behind_it(kit):
    kit.run("import time, os")
    ids = [
        kit.send_execute("time.sleep(0.5)"),  # until all of them are there
        kit.send_execute("1/0"),
        kit.send_execute("x = 1"),
        kit.send(len, "applies still run"),
        kit.send_execute("x = 1"),
    ]
    status = [kit.reply(i).content["status"] for i in ids]
    assert status == ["ok", "error", "aborted", "ok", "aborted"]
    ids = [
        kit.send_execute("time.sleep(0.5)"),
        kit.send_execute("1/0", stop_on_error=False),
        kit.send_execute("x = 1"),
        kit.send_execute("1/0", silent=True),
        kit.send_execute("x = 1"),
    ]
    status = [kit.reply(i).content["status"] for i in ids]
    assert status == ["ok", "error", "ok", "error", "ok"]


def test_magics_and_shell_commands(kit, tmp_path):
    msg_id = kit.send_execute(
        f"%cd -q {tmp_path}\n%env RH_TEST=1\n!echo from the shell\nfiles = !ls\n"
        "get_ipython().run_line_magic('who_ls', '')"
    )
    assert kit.reply(msg_id).content["status"] == "ok"
    assert "from the shell" in kit.text(msg_id)
    assert kit.call(eval, "__import__('os').environ['RH_TEST']") == "1"
    assert kit.call(lambda: get_ipython().user_ns is globals())  # noqa: F821


def test_capture(kit):
    assert kit.run("%%capture c\nprint('caught')\n1")["status"] == "ok"
    assert kit.call(eval, "c.stdout") == "caught\n"


def test_top_level_await(kit):
    code = "import asyncio\nawait asyncio.sleep(0.01)\nz = 1"
    assert kit.run(code)["status"] == "ok"
    assert kit.call(eval, "z") == 1


def test_help_goes_to_the_pager(kit):
    (payload,) = kit.run("len?")["payload"]
    assert payload["source"] == "page" and "text/plain" in payload["data"]


def test_matplotlib_inline(kit):
    pytest.importorskip("matplotlib_inline")
    pytest.importorskip("matplotlib")
    msg_id = kit.send_execute(
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    )
    assert kit.reply(msg_id).content["status"] == "ok"
    pictures = of_type(kit.output(msg_id), "display_data")
    assert len(pictures) == 1 and "image/png" in pictures[0].content["data"]


def test_completion_and_inspection(kit):
    kit.run("value_one = value_two = 1")
    content = kit.ask("complete_request", {"code": "valu", "cursor_pos": 4}).content
    assert {"value_one", "value_two"} <= set(content["matches"])
    assert (content["cursor_start"], content["cursor_end"]) == (0, 4)
    content = kit.ask("inspect_request", {"code": "len", "cursor_pos": 3}).content
    assert content["found"] and "text/plain" in content["data"]
    content = kit.ask("inspect_request", {"code": "nope", "cursor_pos": 4}).content
    assert content["found"] is False
    for code, status in (
        ("1", "complete"),
        ("for x in y:", "incomplete"),
        ("1 2", "invalid"),
    ):
        assert (
            kit.ask("is_complete_request", {"code": code}).content["status"] == status
        )
    content = kit.ask("history_request", {"hist_access_type": "tail", "n": 5}).content
    assert content["status"] == "ok" and "value_one" in str(content["history"])


def test_comms(kit):
    pytest.importorskip("comm")
    kit.run(
        "import comm\nlog = []\n"
        "def opened(c, msg):\n"
        "    c.on_msg(lambda m: (log.append(m['content']['data']), c.send({'back': 1})))\n"
        "comm.get_comm_manager().register_target('t', opened)"
    )
    open_id = kit.client.send(
        "mux",
        "comm_open",
        {"comm_id": "c1", "target_name": "t", "data": {}},
        target=kit.uuid,
    )
    assert kit.output(open_id) == []
    assert kit.ask("comm_info_request").content["comms"] == {"c1": {"target_name": "t"}}
    msg_id = kit.client.send(
        "mux", "comm_msg", {"comm_id": "c1", "data": {"x": 1}}, target=kit.uuid
    )
    (back,) = kit.output(msg_id)
    assert back.idents == [b"comm-c1"]
    assert back.content["data"] == {"back": 1}
    assert kit.call(eval, "log") == [{"x": 1}]


def test_exit_ends_the_engine(kit, wait_until):
    kit.send_execute("exit()")
    assert kit.process.wait() == 0
    wait_until(lambda: not kit.client.engines(), what="unregistration")


def test_clear_resets_the_shell(kit):
    kit.run("left = 1")
    assert kit.control("clear_request").content == {"status": "ok"}
    assert kit.run("left")["ename"] == "NameError"
    assert kit.run("1 + 1")["status"] == "ok"
