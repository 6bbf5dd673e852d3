"""Handle each result of a map when it arrives, with what is known about it.

    python customresults.py

A map's result is the list of all values.  When that is not what you need, the
result splits into one per task: take each as it comes, with its metadata.
"""

from __future__ import annotations

import concurrent.futures

import roundhouse as ipp


def sleep_here(seconds):
    """Sleep; say so; return where and how long."""
    import os
    import time

    time.sleep(seconds)
    print(f"slept {seconds:.2f} s")
    return os.getpid(), seconds


def main() -> None:
    with ipp.Cluster(n=2) as rc:
        view = rc.load_balanced_view()
        seconds = [0.02 * ((7 * i) % 5) for i in range(12)]
        whole = view.map_async(sleep_here, seconds, chunksize=3)
        parts = whole.split()
        seen = []
        for part in concurrent.futures.as_completed(parts):
            (values,) = part.get()
            part.wait_for_output()
            (md,) = part.metadata
            ran = (md.completed - md.started).total_seconds()
            print(
                f"task {parts.index(part)} on engine {md.engine_id}: {ran:.3f} s for "
                f"{len(values)} calls; it printed {len(md.stdout.splitlines())} lines"
            )
            seen += values
        assert sorted(s for _, s in seen) == sorted(seconds)
        assert [s for _, s in whole.get()] == seconds, "the whole is in order"
        print(
            f"{whole.serial_time:.2f} s of work in {whole.wall_time:.2f} s: "
            f"{whole.serial_time / whole.wall_time:.1f} times as fast as one engine"
        )


if __name__ == "__main__":
    main()
