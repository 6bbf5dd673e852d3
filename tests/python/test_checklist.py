"""CHECKLIST.md names tests that exist."""

import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


@functools.cache
def names_in(path):
    return set(re.findall(r"\b(test_\w+)\b", (ROOT / path).read_text()))


def test_every_test_named_in_the_checklist_exists():
    text = (ROOT / "tests/CHECKLIST.md").read_text()
    named = re.findall(r"(tests/\S+\.(?:py|c))::(test_\w+(?:, test_\w+)*)", text)
    assert len(named) > 100
    for path, names in named:
        missing = set(names.split(", ")) - names_in(path)
        assert not missing, f"{path}: {missing}"
