"""Tasks that may run only in some places, or only after others.

    python dependencies.py

Shows the conditions a function can carry (`depend`, `require`, raising
UnmetDependency) and the dependencies a task can have on others (`after`,
`follow`, `Dependency`).
"""

from __future__ import annotations

import time

import roundhouse as ipp

# Conditions of a function: checked on the engine, before the function runs.
# Where one does not hold, the task moves on to another engine.


def is_even_process():
    """Whether this engine is one of the even ones; `rank` is pushed below."""
    return rank % 2 == 0  # noqa: F821


@ipp.depend(is_even_process)
def on_even():
    """Runs on even engines only."""
    return rank  # noqa: F821


def double(x):
    """Sent along with the function that requires it."""
    return 2 * x


@ipp.require("math", double, offset=10)
def combined(x):
    """Runs where `math` can be imported; `double` and `offset` come with it."""
    return math.floor(double(x)) + offset  # noqa: F821


def picky(unwanted):
    """Decides for itself, and after it has started, that it is in the wrong place."""
    from ipyparallel.error import UnmetDependency

    if rank == unwanted:  # noqa: F821
        raise UnmetDependency(f"not on engine {unwanted}")
    return rank  # noqa: F821


# Dependencies between tasks: kept by the scheduler.


def nap(seconds):
    time.sleep(seconds)


def remember(value):
    """Leaves something behind on its engine."""
    globals()["remembered"] = value


def recall():
    return remembered  # noqa: F821


def broken():
    raise RuntimeError("broken")


def main() -> None:
    with ipp.Cluster(n=4) as rc:
        everywhere = rc[:]
        everywhere.scatter("rank", rc.ids, flatten=True, block=True)
        everywhere.execute("import time", block=True)
        view = rc.load_balanced_view()

        ranks = [view.apply_async(on_even) for _ in range(8)]
        ranks = sorted({ar.get() for ar in ranks})
        print("on even engines:", ranks)
        assert ranks and not [r for r in ranks if r % 2]
        print("with what it requires:", view.apply_sync(combined, 1.6))
        assert view.apply_sync(combined, 1.6) == 13
        ranks = {ar.get() for ar in [view.apply_async(picky, 0) for _ in range(8)]}
        print("anywhere but on engine 0:", sorted(ranks))
        assert 0 not in ranks

        first = [view.apply_async(nap, 0.1) for _ in range(4)]
        with view.temp_flags(after=first):
            last = view.apply_async(nap, 0)
        last.get()
        assert last.started > max(ar.completed for ar in first)
        print("after:", last.started - max(ar.completed for ar in first), "later")

        here = view.apply_async(remember, "a thing")
        with view.temp_flags(follow=here, after=here):
            there = view.apply_async(recall)
        print(f"follow: {there.get()!r}, on engine {there.engine_id} again")
        assert there.engine_id == here.engine_id

        bad = view.apply_async(broken)
        with view.temp_flags(after=bad):
            never = view.apply_async(nap, 0)
        with view.temp_flags(after=ipp.Dependency(bad, success=False, failure=True)):
            cleanup = view.apply_async(nap, 0)
        cleanup.get()
        print("after a failure:", never.exception().ename, "and the clean-up ran")
        assert never.exception().ename == "ImpossibleDependency"


if __name__ == "__main__":
    main()
