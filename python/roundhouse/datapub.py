"""Publish data while a task runs.

Called on an engine; the client that sent the running request sees the values in
``AsyncResult.data`` at once, without waiting for the result.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def publish_data(data: Any) -> None:
    """Send a dict of values to the client whose request is running.

    Parameters
    ----------
    data : dict
        Keys are strings.  Later values replace earlier ones of the same key at
        the client.

    Raises
    ------
    TypeError
        If data is not a dict with string keys.
    RuntimeError
        If this process is not an engine.
    """
    if not isinstance(data, dict) or not all(isinstance(k, str) for k in data):
        raise TypeError(f"publish_data takes a dict with str keys, not {data!r:.100}")
    from .engine import current
    from .engine.jsontext import dumps
    from .serialize import serialize_object

    current().engine.publish(
        "",
        "data_message",
        dumps({"keys": list(data)}),
        None,
        serialize_object(data),
        "datapub",
    )
