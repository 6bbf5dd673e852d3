"""Partitions: every item once, near-equal parts, and joining inverts cutting."""

from collections import deque

import pytest
from roundhouse.client.map import Map, RoundRobinMap, dists, mappable

numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize("cls", [Map, RoundRobinMap])
@pytest.mark.parametrize("q", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 7, 16, 23])
@pytest.mark.parametrize(
    "kind", [list, tuple, numpy.array, deque], ids=["list", "tuple", "array", "deque"]
)
def test_cut_and_join(cls, q, n, kind):
    m = cls()
    seq = kind(range(n)) if kind is not numpy.array else numpy.arange(n)
    parts = [m.getPartition(seq, p, q) for p in range(q)]
    sizes = [len(p) for p in parts]
    assert sum(sizes) == n and max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
    assert list(m.joinPartitions(parts)) == list(range(n))


def test_blocks_are_contiguous():
    assert [Map().getPartition(list(range(7)), p, 3) for p in range(3)] == [
        [0, 1, 2],
        [3, 4],
        [5, 6],
    ]


@pytest.mark.parametrize("p, q", [(-1, 2), (2, 2), (3, 2)])
@pytest.mark.parametrize("cls", [Map, RoundRobinMap])
def test_no_such_part(cls, p, q):
    with pytest.raises(ValueError, match="0 <= p < q"):
        cls().getPartition([1], p, q)


def test_array_joins_keep_type_and_shape():
    a = numpy.arange(14, dtype="i2").reshape(7, 2)
    for m in (Map(), RoundRobinMap()):
        joined = m.joinPartitions([m.getPartition(a, p, 3) for p in range(3)])
        assert joined.dtype == a.dtype and numpy.array_equal(joined, a)


def test_scalars_are_left_alone():
    assert Map().joinPartitions([1, 2]) == [1, 2]
    assert RoundRobinMap().joinPartitions(["ab", "c"]) == ["ab", "c"]


def test_length_may_be_given():
    assert Map().getPartition(range(10), 1, 2, n=4) == range(2, 4)


def test_mappable():
    assert mappable([]) and mappable(()) and mappable(numpy.zeros(1))
    assert not mappable("ab") and not mappable(3)
    assert dists == {"b": Map, "r": RoundRobinMap}
