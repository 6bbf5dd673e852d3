"""The ids of what was sent, in little memory.

Ids of one client differ in the number at their end, which counts up, so a
million calls in a row are one range and a text.  Others (those of broadcasts
end in the engine) are compressed, as they resemble each other.
"""

from __future__ import annotations

import threading
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
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
        # (prefix, range of numbers) or (None, compressed or plain ids)
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
        prefix, packed = self._chunks[k]
        if prefix is None:
            return _unpacked(packed)[i - start]
        return f"{prefix}{packed[i - start]}"

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
        return isinstance(msg_id, str) and bool(self.among({msg_id}))

    def among(self, ids: set[str]) -> set[str]:
        """Those of ids that are here; faster than looking for each."""
        split = [(i, *_split(i)) for i in ids]
        with self._lock:
            found = ids.intersection(self._recent)
            for prefix, packed in self._chunks:
                if prefix is None:
                    found |= ids.intersection(_unpacked(packed))
                else:
                    found |= {i for i, p, k in split if p == prefix and k in packed}
        return found

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
    """What is kept of a window of ids."""
    prefix, first = _split(ids[0])
    step = _split(ids[1])[1] - first
    if step and first >= 0:
        line = range(first, first + step * len(ids), step)
        if [f"{prefix}{k}" for k in line] == ids:
            return prefix, line
    text = "\0".join(ids)
    if text.count("\0") >= len(ids):
        return None, ids
    return None, zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


@lru_cache(maxsize=2)  # neighbours are asked for in turn
def _uncompressed(data: bytes) -> list[str]:
    return zlib.decompress(data).decode("utf-8", "surrogatepass").split("\0")


def _unpacked(packed: Any) -> list[str]:
    return packed if type(packed) is list else _uncompressed(packed)


def _joined(a: Any, b: Any) -> Any:
    """One range of two, or None."""
    if type(a) is range and type(b) is range and a.step == b.step and a.stop == b[0]:
        return range(a.start, b.stop, a.step)
    return None
