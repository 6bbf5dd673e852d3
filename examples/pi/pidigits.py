"""Functions for working with the digits of pi.

The decimals of pi (those after the "3.") live in text files of equal size;
:func:`make_files` computes them once.  The counting functions take a file name
and can be mapped over the files, serially or on a cluster: they import what
they need themselves, so that an engine needs nothing but this module's source.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Callable

# How often 0..9 occur among the first n decimals.  Source: the counts
# published with the record computations (Kanada; also OEIS A099291-A099300).
PUBLISHED = {
    1_000: (93, 116, 103, 102, 93, 97, 94, 95, 101, 106),
    10_000: (968, 1026, 1021, 974, 1012, 1046, 1021, 970, 948, 1014),
    100_000: (9999, 10137, 9908, 10025, 9971, 10026, 10029, 10025, 9978, 9902),
    1_000_000: (
        99959, 99758, 100026, 100229, 100230, 100359, 99548, 99800, 99985, 100106,
    ),
}  # fmt: skip

_DIGITS_PER_TERM = math.log10(640320**3 / 24 / 72)


def pi_decimals(n: int, progress: Callable[[int], object] = lambda terms: None) -> str:
    """The first n decimals of pi as text, by Chudnovsky's series.

    Binary splitting over integers (gmpy2); progress is called with the number
    of series terms just summed, :func:`n_terms` (n) in all.
    """
    import gmpy2
    from gmpy2 import mpz

    c3_over_24 = mpz(640320) ** 3 // 24

    def split(a: int, b: int) -> tuple[mpz, mpz, mpz]:
        """P, Q, T of the terms a <= k < b."""
        if b - a == 1:
            if a == 0:
                p = q = mpz(1)
            else:
                p = mpz(6 * a - 5) * (2 * a - 1) * (6 * a - 1)
                q = c3_over_24 * a * a * a
            t = p * (13591409 + 545140134 * a)
            progress(1)
            return p, q, -t if a & 1 else t
        m = (a + b) // 2
        p1, q1, t1 = split(a, m)
        p2, q2, t2 = split(m, b)
        return p1 * p2, q1 * q2, q2 * t1 + p1 * t2

    guard = 10
    _, q, t = split(0, n_terms(n))
    one = mpz(10) ** (n + guard)
    pi = q * 426880 * gmpy2.isqrt(10005 * one * one) // t
    text = (pi // 10**guard).digits()
    return text[1:]


def n_terms(n: int) -> int:
    """Terms of the series needed for n decimals."""
    return int((n + 10) / _DIGITS_PER_TERM) + 2


def file_names(folder: Path, n_files: int, size: int) -> list[Path]:
    return [folder / f"pi-{size}-{i:03d}.txt" for i in range(n_files)]


def make_files(folder: Path, n_files: int = 15, size: int = 1_000_000) -> list[Path]:
    """Files of `size` decimals each, computed unless they are there already."""
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    paths = file_names(folder, n_files, size)
    if all(p.is_file() and p.stat().st_size == size for p in paths):
        return paths
    n = n_files * size
    with tqdm(
        total=n_terms(n),
        desc=f"computing {n:,} digits of pi",
        unit="term",
        unit_scale=True,
        file=sys.stderr,
    ) as bar:
        digits = pi_decimals(n, bar.update)
    for i, path in enumerate(paths):
        # By rename: an interrupted run leaves no short file behind.
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(digits[i * size : (i + 1) * size])
        part.replace(path)
    return paths


def read_digits(filename: str | os.PathLike[str]) -> str:
    with open(filename) as f:
        return f.read()


def one_digit_freqs(digits: str) -> list[int]:
    """How often each digit 0..9 occurs."""
    return [digits.count(d) for d in "0123456789"]


def two_digit_freqs(digits: str) -> list[int]:
    """How often each pair 00..99 occurs, overlapping pairs included."""
    freqs = [0] * 100
    last = int(digits[0])
    for d in digits[1:]:
        this = int(d)
        freqs[10 * last + this] += 1
        last = this
    return freqs


def compute_one_digit_freqs(filename: str) -> list[int]:
    """Frequencies of single digits in one file."""
    return one_digit_freqs(read_digits(filename))


def compute_two_digit_freqs(filename: str) -> list[int]:
    """Frequencies of pairs of digits in one file."""
    return two_digit_freqs(read_digits(filename))


def reduce_freqs(freqlist: list[list[int]]) -> list[int]:
    """Add up the frequencies of several files."""
    return [sum(column) for column in zip(*freqlist)]


def check(first_decimals: str) -> int:
    """Compare with the published counts; the number of decimals compared.

    Raises ValueError when a count differs.
    """
    n = max((k for k in PUBLISHED if k <= len(first_decimals)), default=0)
    if not n:
        raise ValueError(
            f"{len(first_decimals)} decimals are too few to check; take 1,000"
        )
    counts = tuple(one_digit_freqs(first_decimals[:n]))
    if counts != PUBLISHED[n]:
        raise ValueError(
            f"first {n:,} decimals: counted {counts}, published {PUBLISHED[n]}"
        )
    return n


def plot_one_digit_freqs(freqs: list[int], path: Path) -> None:
    """Bar chart of the digits 0..9, as the relative deviation from 1/10."""
    plt = _pyplot()
    total = sum(freqs)
    fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    deviation = [(f * 10 / total - 1) * 100 for f in freqs]
    ax.bar(range(10), deviation, color="#3b6ea5")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(10))
    ax.set_xlabel("digit")
    ax.set_ylabel("deviation from 1/10, %")
    ax.set_title(f"Single digits among {total:,} decimals of pi")
    fig.savefig(path, dpi=110)
    plt.close(fig)


def plot_two_digit_freqs(freqs: list[int], path: Path) -> None:
    """10 x 10 picture of the pairs: row = first digit, column = second."""
    plt = _pyplot()
    total = sum(freqs)
    matrix = [freqs[10 * i : 10 * i + 10] for i in range(10)]
    fig, ax = plt.subplots(figsize=(7, 6), layout="constrained")
    image = ax.imshow(matrix, cmap="coolwarm")
    for i in range(10):
        for j in range(10):
            ax.text(j, i, f"{i}{j}", ha="center", va="center", fontsize=8)
    ax.set_xticks(range(10))
    ax.set_yticks(range(10))
    ax.set_xlabel("second digit")
    ax.set_ylabel("first digit")
    ax.set_title(f"Pairs of digits among {total:,} pairs of pi")
    fig.colorbar(image, label="count")
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
