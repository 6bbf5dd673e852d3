"""How well does farming out tasks of some length use the engines?

    python task_profiler.py                    128 tasks of up to 10 ms
    python task_profiler.py -t 1000 -m 0.001 -M 0.002 -s 1000

Sleeps instead of working, so what is measured is the way of the tasks: the time
beyond what a perfect division of the work would take.
"""

from __future__ import annotations

import argparse
import random
import statistics

import roundhouse as ipp


def sleep_and_send(seconds, data):
    """A task: sleeps so long and sends its argument back."""
    import time

    time.sleep(seconds)
    return data


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("-n", "--engines", type=int, default=4)
    p.add_argument("-t", "--tasks", type=int, default=128, help="how many")
    p.add_argument("-m", "--min", type=float, default=0.001, help="shortest, seconds")
    p.add_argument("-M", "--max", type=float, default=0.01, help="longest, seconds")
    p.add_argument("-s", "--size", type=int, default=0, help="bytes each way")
    args = p.parse_args()

    rng = random.Random(1)
    seconds = [rng.uniform(args.min, args.max) for _ in range(args.tasks)]
    data = b"x" * args.size
    with ipp.Cluster(n=args.engines) as rc:
        view = rc.load_balanced_view()
        rc[:].apply_sync(sleep_and_send, 0, data)  # everybody is awake
        results = [view.apply_async(sleep_and_send, s, data) for s in seconds]
        whole = ipp.AsyncResult.join(*results)
        assert whole.get() == [data] * args.tasks

        ideal = sum(seconds) / args.engines
        wall = whole.wall_time
        waits = [(md.started - md.submitted).total_seconds() for md in whole.metadata]
        back = [(md.received - md.completed).total_seconds() for md in whole.metadata]
        per_engine = statistics.multimode(whole.engine_id)
        print(
            f"{args.tasks} tasks, {sum(seconds):.3f} s of work, {args.engines} engines"
        )
        print(f"all done in {wall:.3f} s; divided perfectly {ideal:.3f} s")
        print(f"efficiency {ideal / wall:.0%}, {args.tasks / wall:,.0f} tasks/s")
        print(f"waited to start: median {statistics.median(waits) * 1e3:.2f} ms")
        print(f"way back: median {statistics.median(back) * 1e3:.2f} ms")
        print(f"most tasks on engine {per_engine[0]}")
        assert whole.serial_time >= sum(seconds)


if __name__ == "__main__":
    main()
