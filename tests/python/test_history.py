"""The ids of what was sent: as a list, in less memory."""

import random
import sys
import threading
import uuid

import pytest
from roundhouse.client.history import History

N = 3000
UP = [f"a_1_{i}" for i in range(N)]
CASES = {
    "none": [],
    "few": UP[:3],
    "counting": UP,
    "every third": UP[::3] + UP[1::3],
    "shuffled": random.Random(1).sample(UP, N),
    "two clients": [f"{c}_1_{i}" for i in range(N // 2) for c in "ab"],
    "no numbers": ["x" * (i % 7) for i in range(N)],
    "leading zeros": [f"a_{i:05}" for i in range(N)],
    "broadcasts": [f"a_1_{i}_{e}" for i in range(N // 4) for e in ("x", "y", "z")],
    "odd": [f"\0\ud800{i}" for i in range(N)],
    "huge": [f"a_{10**30 + i}" for i in range(N)],
}


@pytest.mark.parametrize("name", CASES)
def test_is_like_a_list(name):
    ids = CASES[name]
    h = History(ids)
    assert len(h) == len(ids) and list(h) == ids and h == ids and ids == h
    assert h == History(ids) and h != [*ids, "one more"] and repr(h) == repr(ids)
    for i in [*range(0, len(ids), 97), *range(-len(ids), 0, 89)]:
        assert h[i] == ids[i]
    for s in (slice(-2, None), slice(5, 2000, 7), slice(None, None, -1), slice(9, 2)):
        assert h[s] == ids[s]
    for i in (len(ids), -len(ids) - 1):
        with pytest.raises(IndexError, match="were sent"):
            h[i]
    assert h + ["x"] == ids + ["x"]
    assert "end" not in h and "a_1_999999" not in h and 5 not in h
    assert all(x in h for x in ids[::50])
    assert h.among({"no", *ids[::50]}) == set(ids[::50])
    h += ["end"]
    assert h[-1] == "end" and "end" in h and h.index("end") == len(ids)


def test_a_loop_of_calls_costs_nothing():
    h = History(f"a_1_{i}" for i in range(512 * 100))
    kept = [*h._chunks, *h._recent]
    assert len(kept) == 1 and sys.getsizeof(kept[0][1]) < 100


def test_other_ids_cost_little():
    uuids = [str(uuid.UUID(int=random.Random(i).getrandbits(128))) for i in range(16)]
    h = History(f"{uuids[0]}_123_{i}_{u}" for i in range(320) for u in uuids)
    assert not h._recent
    size = sum([sys.getsizeof(packed) for _, packed in h._chunks])
    assert size < 12 * len(h)


def test_threads_append_together():
    h = History()

    def work(k):
        for i in range(2000):
            h.append(f"{k}_{i}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(h) == sorted(f"{k}_{i}" for k in range(4) for i in range(2000))
    for k in range(4):  # each in its own order
        mine = [x for x in h if x.startswith(f"{k}_")]
        assert mine == [f"{k}_{i}" for i in range(2000)]
