"""Use the results of a map while the rest of it is still running.

    python itermapresult.py

Iterating over a map's result gives its items as soon as they are there: in the
order of the input, or with ordered=False in the order of arrival.  The items of
a chunk come together, when the last of them is done.
"""

from __future__ import annotations

import time

import roundhouse as ipp


def show(name: str, result) -> list[tuple[float, float]]:
    """Iterate, and print when each item came; (seconds, item) of each."""
    start = time.perf_counter()
    came = [(time.perf_counter() - start, item) for item in result]
    print(f"{name}: " + ", ".join(f"{item} at {t:.2f} s" for t, item in came))
    return came


def main() -> None:
    with ipp.Cluster(n=4) as rc:
        # A function that exists on the engines only: it is sent by its name.
        rc[:].execute(
            "import time\ndef nap(t):\n    time.sleep(t); return t", block=True
        )
        nap = ipp.Reference("nap")
        view = rc.load_balanced_view()
        naps = [0.4, 0.1, 0.2, 0.1, 0.4, 0.1, 0.2, 0.1]

        one = show("one item a task", view.map_async(nap, naps))
        assert [x for _, x in one] == naps
        four = show("four items a task", view.map_async(nap, naps, chunksize=4))
        assert [x for _, x in four] == naps
        two = show(
            "two, as they come", view.map_async(nap, naps, chunksize=2, ordered=False)
        )
        assert sorted(x for _, x in two) == sorted(naps)
        lazy = show("one, as they come", view.imap(nap, naps, ordered=False))
        assert sorted(x for _, x in lazy) == sorted(naps)


if __name__ == "__main__":
    main()
