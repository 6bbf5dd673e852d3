"""Requests on the control channel: they reach engines that are busy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import error
from . import tasks
from .asyncresult import AsyncResult
from .baseview import CONTROL
from .engines import Engines
from .message import Message

if TYPE_CHECKING:
    from .client import Client


class Control(Engines):
    """The part of Client that stops, clears, signals and skips."""

    block: bool
    _hub_stopping: bool

    if TYPE_CHECKING:

        @property
        def outstanding(self) -> set[str]: ...

        def _query(
            self, msg_type: str, content: dict[str, Any]
        ) -> tuple[dict[str, Any], list[Any]]: ...

        def close(self, linger: float | None = None) -> None: ...

    def _control(
        self, targets: Any, msg_type: str, content: dict[str, Any], block: bool | None
    ) -> Any:
        """Send a request on the control channel to each target.

        Returns a Future of the replies' contents; with block waits, and raises
        the first error.
        """
        client: Client = self  # type: ignore[assignment]
        body = json.dumps(content).encode()
        uuids, ids = self._build_targets(targets)
        messages = [
            Message(
                client,
                self._core.submit(CONTROL, uuid, msg_type, body, b"{}"),
                "raw",
                None,
            )
            for uuid in uuids
        ]
        ar = AsyncResult(client, messages, msg_type, ids, return_exceptions=True)
        if not (self.block if block is None else block):
            return ar
        ar.wait()
        for message in messages:
            value = message.value()
            if message.failed:
                raise value
        return None

    def abort(
        self, jobs: Any = None, targets: Any = None, block: bool | None = None
    ) -> Any:
        """Skip jobs that have not started; their results raise TaskAborted.

        What runs goes on; see `send_signal`.  Tasks that no engine has been
        given yet are answered by the scheduler, if the controller is ours.

        Parameters
        ----------
        jobs : msg_id, AsyncResult, or a list of these
            By default everything outstanding.
        targets, block
            As usual; without block a Future of the replies is returned.
        """
        if jobs is None:
            jobs = list(self.outstanding)
        if isinstance(jobs, (str, AsyncResult)) or not isinstance(jobs, Iterable):
            jobs = [jobs]
        msg_ids: list[str] = []
        for job in jobs:
            if isinstance(job, str):
                msg_ids.append(job)
            elif isinstance(job, AsyncResult):
                msg_ids.extend(job.msg_ids)
            else:
                raise TypeError(f"cannot abort {job!r}: take a msg_id or a result")
        client: Client = self  # type: ignore[assignment]
        left = tasks.abort_waiting(client, msg_ids)
        if msg_ids and not left:  # nothing for an engine to do
            waits = self.block if block is None else block
            return None if waits else AsyncResult(client, [], "abort_request")
        return self._control(targets, "abort_request", {"msg_ids": left}, block)

    def clear(self, targets: Any = None, block: bool | None = None) -> Any:
        """Empty the user namespaces of engines, also while they run code.

        Without block a Future of the replies is returned.
        """
        return self._control(targets, "clear_request", {}, block)

    def send_signal(
        self, sig: int | str, targets: Any = None, block: bool | None = None
    ) -> Any:
        """Send a signal to engines, also while they run code.

        Parameters
        ----------
        sig : int or str
            A number, or a name like 'SIGINT', which is looked up on the engine.
        targets, block
            As usual; without block a Future of the replies is returned.

        SIGINT interrupts the call that runs (KeyboardInterrupt there), and is
        nothing to an idle engine; SIGTERM ends an engine in order.

        Raises
        ------
        RemoteError
            With block, if an engine knows no such signal, or knows no signals.
        """
        if not isinstance(sig, str):
            sig = int(sig)
        return self._control(targets, "signal_request", {"sig": sig}, block)

    def shutdown(
        self,
        targets: Any = "all",
        restart: bool = False,
        hub: bool = False,
        block: bool | None = None,
    ) -> None:
        """Stop engines, and the controller if asked.

        Parameters
        ----------
        targets
            The engines.
        restart : bool
            Not implemented.
        hub : bool
            Stop all engines and the controller; this client closes then.
        block : bool, optional
            Wait for the engines' replies; always with hub.
        """
        if restart:
            raise NotImplementedError(
                "restart=True: a client cannot restart engines; use Cluster.restart_engines"
            )
        self._check_open()
        if hub:
            targets = "all"
        try:
            replies = self._control(
                targets, "shutdown_request", {"restart": False}, block=False
            )
        except error.NoEnginesRegistered:
            replies = None
        failed: BaseException | None = None
        if replies is not None and (hub or (self.block if block is None else block)):
            replies.wait()
            for child in replies._children:
                value = child.value()
                # an engine that is gone has done what it was asked
                if child.failed and getattr(value, "ename", "") != "EngineError":
                    failed = failed or value
        if hub:
            self._hub_stopping = True
            self._query("shutdown_request", {})
            if failed is None:
                self.close()
        if failed is not None:
            raise failed
