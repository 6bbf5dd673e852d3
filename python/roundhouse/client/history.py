"""The ids of what was sent, in little memory.

Ids of one client differ in the number at their end, which counts up, so a
million calls in a row are one range and a text.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

__all__ = ["History"]

_WINDOW = 512  # ids are kept as they are until there are so many to look at


class History(Sequence):  # type: ignore[type-arg]
    """A sequence of msg_ids that grows at its end.

    Equal to a list of the same ids; slices are lists.  Any thread may read it
    and append to it.
    """

    __slots__ = ("_chunks", "_ends", "_lock", "_recent")

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()  # guards what follows, but for appending
        # (prefix, numbers): ids are prefix + number; prefix None: plain ids
        self._chunks: list[tuple[str | None, Any]] = []
        self._ends: list[int] = []  # of each chunk, counted from the start
        self._recent: list[str] = []  # always the same list
        self.extend(ids)

    def append(self, msg_id: str) -> None:
        """Add one id."""
        recent = self._recent
        recent.append(msg_id)
        if len(recent) >= _WINDOW:
            self._pack()

    def extend(self, ids: Iterable[str]) -> None:
        """Add several ids."""
        for msg_id in ids:
            self.append(msg_id)

    def _pack(self) -> None:
        with self._lock:
            window = self._recent[:_WINDOW]
            if len(window) < _WINDOW:
                return  # another thread did it
            prefix, numbers = _packed(window)
            end = self._ends[-1] if self._ends else 0
            if self._chunks:
                last_prefix, last = self._chunks[-1]
                joined = _joined(last, numbers) if prefix == last_prefix else None
                if joined is not None:
                    numbers = joined
                    del self._chunks[-1], self._ends[-1]
            self._chunks.append((prefix, numbers))
            self._ends.append(end + _WINDOW)
            del self._recent[:_WINDOW]

    def _at(self, i: int) -> str:
        """One id; 0 <= i < len, and the lock is held."""
        k = bisect_right(self._ends, i)
        start = self._ends[k - 1] if k else 0
        if k == len(self._chunks):
            return self._recent[i - start]
        prefix, numbers = self._chunks[k]
        found = numbers[i - start]
        return found if prefix is None else f"{prefix}{found}"

    def _len(self) -> int:
        return (self._ends[-1] if self._ends else 0) + len(self._recent)

    def __len__(self) -> int:
        with self._lock:
            return self._len()

    def __getitem__(self, key: Any) -> Any:
        with self._lock:
            if isinstance(key, slice):
                return [self._at(i) for i in range(*key.indices(self._len()))]
            i = key.__index__()
            n = self._len()
            if not -n <= i < n:
                raise IndexError(f"history index {i} out of range: {n} were sent")
            return self._at(i % n)

    def __contains__(self, msg_id: object) -> bool:
        if not isinstance(msg_id, str):
            return False
        prefix, number = _split(msg_id)
        with self._lock:
            return msg_id in self._recent or any(
                [
                    number in numbers
                    if p == prefix
                    else p is None and msg_id in numbers
                    for p, numbers in self._chunks
                ]
            )

    def __iter__(self) -> Iterator[str]:
        i = 0
        while block := self[i : i + _WINDOW]:
            yield from block
            i += _WINDOW

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (History, list)):
            return NotImplemented
        return len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __iadd__(self, ids: Iterable[str]) -> History:
        self.extend(ids)
        return self

    def __add__(self, ids: Iterable[str]) -> list[str]:
        return [*self, *ids]

    def __repr__(self) -> str:
        return repr(list(self))


def _split(msg_id: str) -> tuple[str, int]:
    """Text and number; -1 if it is no text and number."""
    prefix = msg_id.rstrip("0123456789")
    digits = msg_id[len(prefix) : len(prefix) + 20]
    number = int(digits) if digits else -1
    return prefix, number if f"{prefix}{number}" == msg_id else -1


def _packed(ids: list[str]) -> tuple[str | None, Any]:
    """(prefix, numbers) of ids, or (None, ids) if they have no such form."""
    prefix, _ = _split(ids[0])
    n = len(prefix)
    try:
        numbers = array("q", [int(i[n:]) for i in ids])
    except (ValueError, OverflowError):
        return None, ids
    if [f"{prefix}{k}" for k in numbers] != ids:
        return None, ids
    step = numbers[1] - numbers[0]
    if step:
        line = range(numbers[0], numbers[0] + step * len(ids), step)
        if numbers == array("q", line):
            return prefix, line
    return prefix, numbers


def _joined(a: Any, b: Any) -> Any:
    """One range of two, or None."""
    if type(a) is range and type(b) is range and a.step == b.step and a.stop == b[0]:
        return range(a.start, b.stop, a.step)
    return None
