"""Everything an engine prints, however it prints it."""

from __future__ import annotations

import signal

import pytest

pytest_plugins = ("engine_kit",)


def test_streams_and_their_order(kit):
    def talk():
        import sys

        print("one")
        print("two", file=sys.stderr)
        print("three", end="")
        sys.stdout.writelines([" four", " ü€🚂\n"])
        return 1

    msg_id = kit.send(talk)
    assert kit.result(msg_id) == 1
    out = kit.output(msg_id)
    assert [(m.content["name"], m.content["text"]) for m in out] == [
        ("stdout", "one\n"),
        ("stderr", "two\n"),
        ("stdout", "three four ü€🚂\n"),
    ]
    assert out[0].idents == [f"engine.{kit.id}.stdout".encode()]
    assert out[0].metadata == {"engine": kit.uuid}


def test_output_comes_while_code_runs(kit):
    def slow():
        import os
        import time

        print("begun")
        while not os.environ.get("GO"):
            time.sleep(0.01)

    msg_id = kit.send(slow)
    while True:
        m = kit.next_output(msg_id)
        if m.type == "stream":
            break
    assert m.content["text"] == "begun\n"
    kit.control("signal_request", {"sig": "SIGINT"})
    assert kit.reply(msg_id).content["ename"] == "KeyboardInterrupt"


def test_streams_behave_like_files(kit):
    def look():
        import io
        import sys

        out = sys.stdout
        n = out.write("x\n")
        try:
            out.write(b"bytes")
        except TypeError as e:
            error = str(e)
        try:
            out.read()
        except io.UnsupportedOperation:
            error += "!"
        out.flush()
        out.buffer.write(b"raw\n")
        return {
            "n": n,
            "error": error,
            "tty": out.isatty(),
            "fileno": (out.fileno(), sys.stderr.fileno()),
            "encoding": out.encoding,
            "closed": out.closed,
            "is text": isinstance(out, io.TextIOBase),
            "writable": (out.writable(), out.readable(), out.seekable()),
            "name": (out.name, sys.stderr.name),
        }

    msg_id = kit.send(look)
    assert kit.result(msg_id) == {
        "n": 2,
        "error": "write() argument must be str, not bytes!",
        "tty": False,
        "fileno": (1, 2),
        "encoding": "utf-8",
        "closed": False,
        "is text": True,
        "writable": (True, False, False),
        "name": ("<stdout>", "<stderr>"),
    }
    assert kit.text(msg_id) == "x\nraw\n"


def test_text_that_is_no_unicode(kit):
    msg_id = kit.send(lambda: print("a\ud800b"))
    kit.result(msg_id)
    assert kit.text(msg_id) == "a\\ud800b\n"


def test_a_flood_is_complete_and_costs_no_memory(kit):
    def flood(n):
        import resource

        line = "0123456789" * 10
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for i in range(n):
            print(i, line)
        print("x" * 3_000_000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    n = 200_000
    msg_id = kit.send(flood, n)
    text = kit.text(msg_id)
    grown = kit.result(msg_id)
    line = "0123456789" * 10
    assert text == "".join(f"{i} {line}\n" for i in range(n)) + "x" * 3_000_000 + "\n"
    assert grown < 64 * 1024, f"{grown} KiB"


def test_long_text_is_cut_between_characters(kit):
    msg_id = kit.send(lambda: print("€" * 500_000, end=""))
    kit.result(msg_id)
    out = kit.output(msg_id)
    assert len(out) > 1
    assert "".join(m.content["text"] for m in out) == "€" * 500_000


def test_threads_print_for_the_last_request(kit):
    def start():
        import threading
        import time

        def later():
            for i in range(5):
                time.sleep(0.02)
                print("tick", i)

        t = threading.Thread(target=later)
        t.start()
        t.join()

    msg_id = kit.send(start)
    kit.result(msg_id)
    assert kit.text(msg_id) == "".join(f"tick {i}\n" for i in range(5))


def test_what_c_and_children_print(kit):
    def children():
        import ctypes
        import multiprocessing
        import os
        import subprocess

        libc = ctypes.CDLL(None)
        libc.puts(b"from C \xc3\xbc")
        libc.fflush(None)
        os.system("echo from a shell; echo to stderr >&2")
        subprocess.run(["echo", "from a program"], check=True)
        p = multiprocessing.get_context("fork").Process(
            target=print, args=("from a fork",), kwargs={"flush": True}
        )
        p.start()
        p.join()
        return p.exitcode

    msg_id = kit.send(children)
    assert kit.result(msg_id) == 0
    out = kit.output(msg_id)
    stdout = "".join(m.content["text"] for m in out if m.content["name"] == "stdout")
    stderr = "".join(m.content["text"] for m in out if m.content["name"] == "stderr")
    assert stdout == "from C ü\nfrom a shell\nfrom a program\nfrom a fork\n"
    assert stderr == "to stderr\n"


def test_a_flood_from_a_child(kit):
    def flood():
        import subprocess

        return subprocess.run(
            ["sh", "-c", "yes 0123456789 | head -c 5000000"]
        ).returncode

    msg_id = kit.send(flood)
    text = kit.text(msg_id)
    assert kit.result(msg_id) == 0
    assert text == "0123456789\n" * (5_000_000 // 11) + "0123456789\n"[: 5_000_000 % 11]


def test_capture_can_be_switched_off(start_engine):
    kit = start_engine("--IPEngine.capture_output=False")
    msg_id = kit.send(lambda: __import__("os").system("echo raw; exit 3"))
    assert kit.result(msg_id) >> 8 == 3
    assert kit.text(msg_id) == ""
    assert "raw\n" in kit.process.log()


def test_redirection_still_works(kit):
    def redirect():
        import contextlib
        import io

        caught = io.StringIO()
        with contextlib.redirect_stdout(caught):
            print("caught")
        print("not caught")
        return caught.getvalue()

    msg_id = kit.send(redirect)
    assert kit.result(msg_id) == "caught\n"
    assert kit.text(msg_id) == "not caught\n"


def test_last_words_reach_client_and_log(kit):
    def crash():
        import os

        os.write(2, b"this went wrong\n")
        os.abort()

    msg_id = kit.send(crash)
    while True:
        m = kit.next_output(msg_id)
        if m.type == "stream":
            break
    assert m.content == {"name": "stderr", "text": "this went wrong\n"}
    assert kit.process.wait() == -signal.SIGABRT
    assert kit.process.log().count("this went wrong") == 1


@pytest.mark.parametrize(
    "code", ["import os; os._exit(7)", "import sys; sys.stdout.close(); print(1)"]
)
def test_rude_code(kit, code, wait_until):
    msg_id = kit.send(exec, code)
    if "_exit" in code:
        assert kit.process.wait() == 7
        wait_until(lambda: not kit.client.engines(), what="unregistration")
    else:
        kit.result(msg_id)
        assert kit.text(msg_id) == "1\n"


def test_published_data(kit):
    def publish():
        from roundhouse.datapub import publish_data

        publish_data({"a": 1, "b": b"x" * 5000})

    msg_id = kit.send(publish)
    kit.result(msg_id)
    (m,) = kit.output(msg_id)
    assert m.idents == [b"datapub"]
    assert m.type == "data_message"
    assert m.content == {"keys": ["a", "b"]}
    from roundhouse.serialize import deserialize_object

    assert deserialize_object(m.buffers)[0] == {"a": 1, "b": b"x" * 5000}
