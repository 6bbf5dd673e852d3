"""The output of calls, complete and in order."""

import re

import conftest
import pytest
from test_client_calls import interactive

pytest_plugins = ["cluster_fixtures"]

chatter = interactive(
    "def chatter(n):\n"
    " import sys\n"
    " for i in range(n):\n"
    "  print('line', i)\n"
    "  if i % 100 == 0: print('note', i, file=sys.stderr)\n",
    "chatter",
)


def test_output_is_complete_when_the_result_is(rc):
    say = interactive(
        "def say(n):\n print('x' * n)\n print('end', end='')\n return n", "say"
    )
    for view in (rc[0], rc.load_balanced_view()):
        for i in range(100):
            ar = view.apply_async(say, i)
            assert ar.get(60) == i
            assert ar.stdout == "x" * i + "\nend"
    for _ in range(20):
        ar = rc[:].apply_async(say, 3)
        ar.get(60)
        assert [md.stdout for md in ar.metadata] == ["xxx\nend"] * len(rc)
    ar = rc.broadcast_view().apply_async(say, 2)
    ar.get(60)
    assert ar.stdout == ["xx\nend"] * len(rc)
    ar = rc[0].execute("print('cell'); 1/0")
    assert ar.exception(60)
    assert ar.stdout == "cell\n" and ar.error.ename == "ZeroDivisionError"


def test_output_is_complete_in_a_callback(rc, wait_until):
    seen = []
    for i in range(20):
        ar = rc[0].apply_async(interactive("f = lambda i: print(i)", "f"), i)
        ar.add_done_callback(lambda ar: seen.append(ar.stdout))
    wait_until(lambda: len(seen) == 20)
    assert seen == [f"{i}\n" for i in range(20)]


def test_sixteen_engines_print_at_once(start_cluster):
    """Nothing is lost, nothing changes places; neither here nor in the hub."""
    n, lines = 16, 10_000
    c = start_cluster(n)
    ar = c.rc[:].apply_async(chatter, lines)
    ar.get(conftest.PATIENCE)
    out = "".join(f"line {i}\n" for i in range(lines))
    err = "".join(f"note {i}\n" for i in range(0, lines, 100))
    assert [len(t) for t in ar.stdout] == [len(out)] * n
    assert ar.stdout == [out] * n and ar.stderr == [err] * n


def test_threads_and_children_keep_their_order(rc):
    f = interactive(
        "def f():\n"
        " import os, threading\n"
        " def work(k):\n"
        "  for i in range(300): print(f'{k} {i}')\n"
        " ts = [threading.Thread(target=work, args=(k,)) for k in range(4)]\n"
        " [t.start() for t in ts]; [t.join() for t in ts]\n",
        "f",
    )
    ar = rc[0].apply_async(f)
    ar.get(60)
    lines = [s for s in ar.stdout.splitlines() if s]
    for k in "0123":
        mine = [int(s.split()[1]) for s in lines if re.fullmatch(f"{k} \\d+", s)]
        assert mine == sorted(mine)


def test_what_a_call_may_print(start_cluster):
    c = start_cluster(0)
    c.add_engine("--IPEngine.output_limit=1000")
    c.rc.wait_for_engines(1, timeout=conftest.PATIENCE)
    for _ in range(2):  # each call anew
        ar = c.rc[0].apply_async(chatter, 100_000)
        assert ar.get(60) is None
        text, mark = ar.stdout[:900], ar.stdout[900:]
        assert text == "".join(f"line {i}\n" for i in range(200))[:900]
        assert "output truncated" in mark and "output_limit" in mark
        assert mark.endswith("]\n") and len(ar.stdout) < 1200
        assert ar.stderr == "note 0\nnote 100\n"[: len(ar.stderr)]
    ar = c.rc[0].execute("import os; os.system('yes | head -c 5000')")
    ar.get(60)
    assert ar.stdout.startswith("y\ny\n") and "output truncated" in ar.stdout
    ar = c.rc[0].apply_async(interactive("f = lambda: print('short')", "f"))
    ar.get(60)
    assert ar.stdout == "short\n"


@pytest.mark.parametrize("value", ["-1", "many", "3000000000"])
def test_limits_that_make_no_sense(start_process, value):
    import sys

    p = start_process(
        [sys.executable, "-m", "roundhouse.engine", f"--IPEngine.output_limit={value}"]
    )
    assert p.wait() == 2 and "output_limit" in p.log()
