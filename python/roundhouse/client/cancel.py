"""Stopping calls wherever they are: what `AsyncResult.cancel` sends.

Tasks that no engine has are taken from the scheduler's queue.  For the rest one
request per engine does it all if the engine is ours: what waits is skipped, what
runs is interrupted, and only the engine knows which call it runs at the moment
it acts.  Other engines know signals only, so there a call is interrupted when it
was seen to begin.

An engine that has to be killed ends itself, unless the client's Cluster can put
another in its place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .tasks import abort_waiting

if TYPE_CHECKING:
    from .client import Client

__all__ = ["cancel_calls"]

_ANSWER_S = 1.0


def cancel_calls(
    client: Client,
    messages: Sequence[Any],
    targets: Sequence[int] | None,
    grace: float,
    kill: bool,
) -> None:
    """Ask engines to skip or interrupt calls; does not wait.

    targets are the engines' ids, parallel to messages, or None if a scheduler
    chose; grace and kill as in `AsyncResult.cancel`.
    """
    if targets is None:
        left = set(abort_waiting(client, [m.msg_id for m in messages]))
        messages = [m for m in messages if m.msg_id in left]
        if not messages:
            return
    here = client.ids
    where = here if targets is None else [t for t in targets if t in here]
    if not where:
        return  # nothing can run
    can_restart = hasattr(client.cluster, "restart_engine_sync")
    wish: dict[str, Any] = {"interrupt": True}
    if kill and not can_restart:
        wish["kill_ms"] = int(grace * 1000)
    content = {"msg_ids": [m.msg_id for m in messages], "roundhouse": wish}
    replies = client._control(where, "abort_request", content, False)
    for engine_id, reply in zip(where, replies._children):
        there = [m for t, m in zip(targets or (), messages) if t == engine_id]
        call = _Call(client, engine_id, messages, there, grace, kill, can_restart)
        reply.subscribe(lambda call=call, reply=reply: call.act(reply))
        call.expect(reply)


class _Call:
    """What is left to do once an engine has answered.

    messages are all that were cancelled; there, those known to be on it.
    """

    def __init__(
        self,
        client: Client,
        engine_id: int,
        messages: Sequence[Any],
        there: Sequence[Any],
        grace: float,
        kill: bool,
        can_restart: bool,
    ) -> None:
        self.client = client
        self.engine_id = engine_id
        self.messages = messages
        self.there = there
        self.grace = grace
        self.kill = kill
        self.can_restart = can_restart
        self.over = False  # signals are not needed, or have been sent

    def expect(self, reply: Any) -> None:
        """Engines before ipyparallel 9 answer only when the call is over."""
        if any([m.request.begun for m in self.there]):
            self._later(_ANSWER_S, self._stop_by_signals)

    def act(self, reply: Any) -> None:
        content = reply.value()
        if reply.failed:
            return
        ours = content.get("roundhouse")
        self.over = self.over or ours is not None
        if ours is None:
            self._stop_by_signals()
        elif ours.get("interrupted") and self.kill and self.can_restart:
            self._later(self.grace, self._restart, ours["interrupted"])

    def _later(self, seconds: float, f: Any, *args: Any) -> None:
        timer = threading.Timer(seconds, f, args)
        timer.daemon = True
        timer.start()

    def _stop_by_signals(self) -> None:
        if self.over:
            return
        self.over = True  # a second one could hit the next call
        self._signal("SIGINT")
        if self.kill:
            self._later(self.grace, self._signal, "SIGKILL")

    def _signal(self, name: str) -> None:
        """To an engine that is not ours, while a call of ours runs there."""
        if any([m.request.begun and not m.done for m in self.there]):
            try:
                self.client.send_signal(name, targets=self.engine_id, block=False)
            except Exception:
                pass  # closed, or the engine is gone: nothing runs

    def _restart(self, msg_id: str) -> None:
        if all([m.done for m in self.messages if m.msg_id == msg_id]):
            return
        client, engine_id = self.client, self.engine_id
        log = logging.getLogger("roundhouse")
        try:
            log.warning(
                "engine %d does not stop a cancelled call: restarting it", engine_id
            )
            client.cluster.restart_engine_sync(engine_id)
        except Exception as e:
            log.warning("engine %d cannot be restarted, only killed: %s", engine_id, e)
            wish = {"interrupt": True, "kill_ms": 0}
            content = {"msg_ids": [msg_id], "roundhouse": wish}
            try:
                client._control(engine_id, "abort_request", content, False)
            except Exception:
                pass  # as above
