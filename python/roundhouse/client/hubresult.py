"""Results of tasks that this client did not submit, or no longer holds.

The hub has them.  One request waits there for the result, if the controller is
ours (docs/protocol/extensions.md); other hubs answer at once, and are asked
again after a moment.  `_asked` is that request while it is on its way, shared
by all threads that wait; what has come back for it is taken by one of them.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from .asyncresult import AsyncResult, _seconds
from .message import HubMessage, Message

if TYPE_CHECKING:
    from .._core import Request
    from .client import Client

__all__ = ["AsyncHubResult"]

_POLL_S = 0.1  # between questions to a hub that does not wait


class AsyncHubResult(AsyncResult):
    """The result of tasks that the hub is asked for.

    Metadata and output are what the hub has by now, also while a task runs;
    each look at them asks it.
    """

    _asked: Request | None = None
    _asked_for: list[HubMessage]

    def __init__(
        self,
        client: Client,
        children: Any,
        fname: str = "unknown",
        targets: Any = None,
        owner: bool = False,
        return_exceptions: bool = False,
        chunk_sizes: dict[str, int] | None = None,
    ) -> None:
        single = isinstance(children, (str, HubMessage, Message))
        if single:
            children = [children]
        children = [
            (client._local(c) or HubMessage(client, c)) if isinstance(c, str) else c
            for c in children
        ]
        super().__init__(
            client, children, fname, targets, owner, return_exceptions, chunk_sizes
        )
        self._single_result = single

    # Waiting

    def ready(self) -> bool:
        """Whether the hub has every result; asks it."""
        return bool(self.wait(0))

    def done(self) -> bool:
        """Whether every result is here already; asks nobody."""
        return self._finished or self._cancelled_here or self._look()

    def wait(self, timeout: float | None = -1, return_when: str | None = None) -> Any:
        """Wait until the hub has the result; see AsyncResult.wait."""
        if return_when is not None:
            return super().wait(timeout, return_when)
        limit = _seconds(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        if limit == 0 and not self._look():
            self._fetch()
        while not self._look():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if not self._wait_for_reply(left) and not self._look():
                time.sleep(_POLL_S if left is None else min(_POLL_S, left))
        return True

    def wait_for_output(self, timeout: float | None = -1) -> bool:
        """Output comes with the record: waits for the result."""
        return bool(self.wait(timeout))

    def _wait_for_reply(self, timeout: float | None) -> bool:
        """Wait for what is missing; False if the hub has to be asked again later."""
        missing = [c for c in self._children if not c.done]
        requests = [c.request for c in missing if isinstance(c, Message)]
        if len(requests) < len(missing):
            requests.append(self._ask())
        if not self._client._wait_requests(requests, timeout):
            return True
        return self._take_reply()

    def _ask(self) -> Request:
        """The request that waits at the hub; made if there is none."""
        with self._lock:
            if self._asked is None:
                self._asked_for = self._missing()
                self._asked = self._client._ask_hub(self._asked_for)
            return self._asked

    def _take_reply(self) -> bool:
        """Take in what the hub has answered; False if it did not wait."""
        with self._lock:
            request = self._asked
            if request is None or not request.done:
                return True
            self._asked = None
            asked_for = self._asked_for
        return self._client._take_from_hub(asked_for, request)

    def _missing(self) -> list[HubMessage]:
        return [c for c in self._children if isinstance(c, HubMessage) and not c.done]

    def _fetch(self) -> None:
        """Take from the hub what it has by now."""
        missing = self._missing()
        if missing:
            self._client._fill_from_hub(missing)

    # Being told

    def _subscribe(self) -> None:
        if self._look():
            return
        local = [c for c in self._children if isinstance(c, Message) and not c.done]
        if local:
            self._watch()
        else:
            self._ask().set_callback(self._on_reply)

    def _watch(self) -> None:
        """Have a thread wait."""
        threading.Thread(
            target=self.wait, name="roundhouse-hub-result", daemon=True
        ).start()

    def _on_reply(self, request: Request) -> None:
        # In the receiving thread, which must not wait for the hub.
        if request.status == "ok" and self._take_reply() and not self._look():
            self._ask().set_callback(self._on_reply)
        elif not self._look():
            self._watch()

    # Values and metadata

    def _checked(self, child: Any) -> Any:
        if isinstance(child, HubMessage) and not child.done:
            AsyncHubResult(self._client, child).wait()
        return super()._checked(child)

    @property
    def _metadata(self) -> list[Any]:
        if not self._look():
            self._fetch()
            missing = self._missing()
            if missing:
                self._client._peek_at_hub(missing)
        return super()._metadata

    def split(self) -> tuple[AsyncResult, ...]:
        """One result per task, for `concurrent.futures.wait` and the like."""
        if len(self._children) == 1:
            return (self,)
        parts = self.__dict__.get("_parts")
        if parts is None:
            parts = self._parts = tuple(
                AsyncHubResult(self._client, c, fname=self._fname)
                for c in self._children
            )
        found: tuple[AsyncResult, ...] = parts
        return found
