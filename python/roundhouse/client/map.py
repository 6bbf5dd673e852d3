"""Cutting sequences into parts for the engines, and joining the parts again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

__all__ = ["Map", "RoundRobinMap", "dists", "is_array", "mappable"]


def is_array(obj: Any) -> bool:
    """Whether obj is a numpy array; does not import numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(obj, getattr(numpy, "ndarray", ()))


def mappable(obj: Any) -> bool:
    """Whether obj is a tuple, list or array."""
    return isinstance(obj, (tuple, list)) or is_array(obj)


class Map:
    """Contiguous parts whose lengths differ by at most one; longer ones first."""

    def getPartition(self, seq: Any, p: int, q: int, n: int | None = None) -> Any:
        """Part p of q of a sequence.

        n is the length to divide, by default that of seq.  Raises ValueError
        unless 0 <= p < q.
        """
        _check_part(p, q)
        if n is None:
            n = len(seq)
        base, longer = divmod(n, q)
        low = p * base + min(p, longer)
        high = low + base + (p < longer)
        try:
            return seq[low:high]
        except (TypeError, KeyError):  # a deque, or only iterable
            return list(islice(seq, low, high))

    def joinPartitions(self, listOfPartitions: Sequence[Any]) -> Any:
        """The parts, in order, as one list or array.

        Parts that are neither arrays nor lists or tuples are returned as the
        list they are.
        """
        return self.concatenate(listOfPartitions)

    def concatenate(self, listOfPartitions: Sequence[Any]) -> Any:
        first = listOfPartitions[0]
        if is_array(first):
            import numpy

            return numpy.concatenate(listOfPartitions)
        if isinstance(first, (list, tuple)):
            return list(chain.from_iterable(listOfPartitions))
        return listOfPartitions


class RoundRobinMap(Map):
    """Part p has the items p, p + q, p + 2q…"""

    def getPartition(self, seq: Any, p: int, q: int, n: int | None = None) -> Any:
        _check_part(p, q)
        if n is None:
            n = len(seq)
        try:
            return seq[p:n:q]
        except (TypeError, KeyError):
            return list(islice(seq, p, n, q))

    def joinPartitions(self, listOfPartitions: Sequence[Any]) -> Any:
        first = listOfPartitions[0]
        if is_array(first):
            return self.flatten_array(listOfPartitions)
        if isinstance(first, (list, tuple)):
            return self.flatten_list(listOfPartitions)
        return listOfPartitions

    def flatten_array(self, listOfPartitions: Sequence[Any]) -> Any:
        import numpy

        q = len(listOfPartitions)
        first = listOfPartitions[0]
        n = sum(part.shape[0] for part in listOfPartitions)
        dtype = numpy.result_type(*listOfPartitions)
        joined = numpy.empty((n, *first.shape[1:]), dtype=dtype)
        for p, part in enumerate(listOfPartitions):
            joined[p::q] = part
        return joined

    def flatten_list(self, listOfPartitions: Sequence[Any]) -> list[Any]:
        return [
            part[i]
            for i in range(len(listOfPartitions[0]))
            for part in listOfPartitions
            if i < len(part)
        ]


def _check_part(p: int, q: int) -> None:
    if not 0 <= p < q:
        raise ValueError(f"must have 0 <= p < q, but have p={p},q={q}")


dists = {"b": Map, "r": RoundRobinMap}
