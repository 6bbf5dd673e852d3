"""Python values as the JSON that may travel: no NaN, no bytes, no surprises."""

from __future__ import annotations

import json
from base64 import b64encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def dumps(value: Any) -> Any:
    """JSON text; what JSON cannot say becomes the nearest thing it can."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_other)
    except (ValueError, TypeError):
        # NaN, or keys that are not strings
        return json.dumps(_clean(value, 0), ensure_ascii=False, default=_other)


def members(value: Any) -> Any:
    """The inside of a JSON object, without its braces."""
    return dumps(value)[1:-1]


def _other(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(value).decode("ascii")
    if isinstance(value, (set, frozenset)):
        return list(value)
    return repr(value)


def _clean(value: Any, depth: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (1e999, -1e999)):
        return None if value != value else repr(value)
    if depth > 50:
        return repr(value)
    if isinstance(value, dict):
        return {str(k): _clean(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v, depth + 1) for v in value]
    return value
