"""Memory grows with what is kept, not with what was done.

Python's own count of blocks is exact.  The C parts are judged by the size of
the processes, which also grows until the memory of seen signatures is full, by
a hundred or two bytes per call; a leaked request or record is a thousand.
"""

import gc
import os
import sys
from pathlib import Path

import pytest
from test_client_calls import interactive

pytest_plugins = ["cluster_fixtures"]
pytestmark = pytest.mark.skipif(
    "ROUNDHOUSE_SANITIZED" in os.environ, reason="sanitizers keep freed memory"
)

same = interactive("def same(x): return x", "same")
say = interactive("def say(x): print(x)", "say")
WARM = 3_000
BLOCKS = 0.05  # per call
BYTES = 600


remote_blocks = interactive(
    "def f():\n import gc, sys\n gc.collect()\n return sys.getallocatedblocks()", "f"
)


def rss(pid) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def direct(rc, n):
    for i in range(0, n, 100):
        ars = [rc[0].apply_async(same, i) for _ in range(100)]
        assert [ar.get(60) for ar in ars] == [i] * 100


def balanced(rc, n):
    view = rc.load_balanced_view()
    for _ in range(0, n, 100):
        assert view.map_sync(same, range(100), chunksize=1) == list(range(100))


def broadcast(rc, n):
    for i in range(n):
        assert rc.broadcast_view().apply_sync(same, i) == [i]


def printing(rc, n):
    for i in range(n):
        ar = rc[0].apply_async(say, i)
        ar.get(60)
        assert ar.stdout == f"{i}\n"


@pytest.mark.parametrize(
    "work, n",
    [(direct, 20_000), (balanced, 6_000), (broadcast, 4_000), (printing, 4_000)],
)
def test_a_loop_of_calls(start_cluster, work, n):
    c = start_cluster(1)
    pids = [os.getpid(), c.controller.pid, next(iter(c.pids().values()))]

    def measure():
        gc.collect()
        here = sys.getallocatedblocks()
        return here, c.rc[0].apply_sync(remote_blocks), [rss(p) for p in pids]

    work(c.rc, WARM)
    measure()
    here, there, sizes = measure()
    work(c.rc, n)
    here_now, there_now, sizes_now = measure()
    assert here_now - here < BLOCKS * n
    assert there_now - there < BLOCKS * n
    grown = [b - a for a, b in zip(sizes, sizes_now)]
    assert max(grown) < max(BYTES * n, 3_000_000), grown


def test_results_nobody_asks_for(start_cluster, wait_until):
    """They are let go in batches, by and by."""
    c = start_cluster(1)

    def let_go():
        for i in range(250):
            c.rc[0].apply_async(same, i)
        assert c.rc.wait(timeout=60)
        return len(c.rc.history) > 5_000 and len(c.rc._live) < 2_500

    wait_until(let_go)
