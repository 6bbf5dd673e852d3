"""Count the digits of pi on a cluster of engines, and check the answer.

    python parallelpi.py                  15 files of 1,000,000 digits, 4 engines
    python parallelpi.py --files 4 --digits 100000

Computes the digits (once; they are kept), counts pairs of digits in each file
serially and then on the engines, compares both with each other and with the
published counts, and writes two plots.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import roundhouse as ipp

sys.path.insert(0, str(Path(__file__).parent))
import pidigits
from pidigits import compute_one_digit_freqs, compute_two_digit_freqs, reduce_freqs

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("-n", "--engines", type=int, default=4, help="engines (default 4)")
    p.add_argument("--files", type=int, default=15, help="number of files (default 15)")
    p.add_argument(
        "--digits",
        type=int,
        default=1_000_000,
        help="digits a file (default 1,000,000)",
    )
    p.add_argument(
        "--out", type=Path, default=HERE / "out", help="folder for digits and plots"
    )
    args = p.parse_args()
    if min(args.engines, args.files) < 1 or args.digits < 2:
        p.error("need at least 1 engine, 1 file and 2 digits a file")
    return args


def find_modules_in(folder: str) -> None:
    """Runs on each engine, so that it can import pidigits."""
    import sys

    sys.path.insert(0, folder)


def print_table(freqs: list[int]) -> None:
    print("\n        " + "".join(f"{j:>9}" for j in range(10)))
    for i in range(10):
        print(f"   {i}    " + "".join(f"{f:>9,}" for f in freqs[10 * i : 10 * i + 10]))
    pair = [f"{i:02d}" for i in range(100)]
    most = max(range(100), key=freqs.__getitem__)
    least = min(range(100), key=freqs.__getitem__)
    print(
        f"\nmost frequent pair {pair[most]} ({freqs[most]:,}), "
        f"least frequent {pair[least]} ({freqs[least]:,})"
    )


def main() -> int:
    args = arguments()
    paths = pidigits.make_files(args.out, args.files, args.digits)
    files = [str(p.resolve()) for p in paths]
    checked = pidigits.check("".join(map(pidigits.read_digits, files[:15])))
    print(f"digits: first {checked:,} decimals agree with the published counts")

    start = time.perf_counter()
    serial = reduce_freqs([compute_two_digit_freqs(f) for f in files])
    serial_s = time.perf_counter() - start
    print(f"serial: {args.files} files in {serial_s:.2f} s")

    with ipp.Cluster(n=args.engines) as rc:
        rc[:].apply_sync(find_modules_in, str(HERE.resolve()))
        view = rc.load_balanced_view()
        view.map_sync(int, range(args.engines))  # the engines are awake
        start = time.perf_counter()
        result = view.map_async(compute_two_digit_freqs, files)
        result.wait_interactive()
        parallel = reduce_freqs(result.get())
        parallel_s = time.perf_counter() - start
        single = reduce_freqs(view.map_sync(compute_one_digit_freqs, files))
    print(
        f"{args.engines} engines: {args.files} files in {parallel_s:.2f} s, "
        f"{serial_s / parallel_s:.2f} times as fast"
    )

    if parallel != serial:
        print(
            "error: the engines' counts differ from the serial counts", file=sys.stderr
        )
        return 1
    if sum(single) != args.files * args.digits:
        print(f"error: counted {sum(single):,} digits", file=sys.stderr)
        return 1
    print_table(parallel)

    for name, plot, freqs in (
        ("single_digits.png", pidigits.plot_one_digit_freqs, single),
        ("two_digits.png", pidigits.plot_two_digit_freqs, parallel),
    ):
        plot(freqs, args.out / name)
        print(f"wrote {args.out / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
