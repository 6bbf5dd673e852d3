"""Views that send one message for the controller to multiply."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from ..serialize.canning import interactive
from ..serialize.serialize import pack_apply_message
from . import map as maps
from .asyncresult import AsyncMapResult, AsyncResult
from .baseview import View, _check_bool, _check_callable, _check_map
from .direct import DirectView
from .message import Message
from .remotefunction import getname

__all__ = ["BroadcastView"]


class BroadcastView(DirectView):
    """Engines addressed by one message that the controller multiplies.

    Attributes
    ----------
    is_coalescing : bool
        Let the controller join the replies into one.  The order of the values
        is then that of ``ar.engine_id``.  Worth it when there are so many
        engines that messages fill the line to the client; else the calls are
        faster one by one.

    The hub has a record of each engine's call, or of the whole if the replies
    are joined.  That of ipyparallel keeps none.
    """

    is_coalescing: bool = False
    _checks = {**View._checks, "is_coalescing": _check_bool}

    def _send(
        self,
        uuids: Sequence[str],
        msg_type: str,
        content: bytes,
        bufs: Sequence[Any],
        label: Any,
        track: bool = False,
        coalescing: bool = False,
    ) -> list[Message]:
        client = self.client
        pairs = [[uuid, client._engine_id(uuid)] for uuid in uuids]
        metadata = {
            "targets": pairs,
            "is_broadcast": True,
            "is_coalescing": coalescing,
        }
        if label is not None:
            metadata["label"] = label
        kind = msg_type.partition("_")[0]
        return client._broadcast(
            uuids,
            msg_type,
            content,
            json.dumps(metadata).encode(),
            bufs,
            kind,
            label,
            track,
            coalescing,
            self,
        )

    def _really_apply(
        self,
        f: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        block: bool | None = None,
        targets: Any = None,
        track: bool | None = None,
        label: Any = None,
        coalescing: bool | None = None,
        **options: Any,
    ) -> Any:
        _check_callable(f)
        targets = self.targets if targets is None else targets
        uuids, ids = self.client._build_targets(targets)
        if coalescing is None:
            coalescing = self.is_coalescing
        bufs = pack_apply_message(f, args, kwargs or {}, *self.client._thresholds)
        messages = self._send(
            uuids,
            "apply_request",
            b"{}",
            bufs,
            self.label if label is None else label,
            self.track if track is None else track,
            coalescing,
        )
        if coalescing:
            ar = AsyncResult(self.client, messages[0], getname(f), ids, owner=True)
        else:
            ar = self._result(messages, targets, ids, getname(f))
        return self._finish(ar, self._block(block))

    def execute(  # type: ignore[override]
        self,
        code: str,
        silent: bool = True,
        targets: Any = None,
        block: bool | None = None,
    ) -> AsyncResult:
        """Run code on the engines; see DirectView.execute.  Never coalesced."""
        return super().execute(code, silent, targets, block)

    def map(
        self,
        f: Any,
        *sequences: Any,
        block: bool | None = None,
        track: bool = False,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Parallel version of the builtin map.  Never coalesced.

        The sequences are scattered, one message per engine; only the calls are
        broadcast.  Engines with inputs known to them are served better by
        `apply`.
        """
        _check_map(f, sequences, kwargs)
        seqs = [s if hasattr(s, "__len__") else list(s) for s in sequences]
        n = min([len(s) for s in seqs])
        if n == 0:
            return []
        uuids, ids = self.client._build_targets(self.targets)
        direct = DirectView(self.client, targets=ids)
        key = secrets.token_hex(5)
        names = []
        lengths: list[int] = []
        for i, seq in enumerate(seqs):
            names.append(f"_seq_{key}_{i}")
            part = seq if len(seq) == n else seq[:n]
            sent = direct.scatter(names[-1], part, block=False, track=track)
            lengths = sent._scatter_lengths
            # Broadcasts take another way: the parts must be there first.
            sent.get()
        bufs = pack_apply_message(_broadcast_map, (f, *names), {})
        messages = self._send(uuids, "apply_request", b"{}", bufs, self.label, track)
        ar = AsyncMapResult(
            self.client,
            messages,
            maps.Map(),
            fname=getname(f),
            return_exceptions=return_exceptions,
            chunk_sizes={m.msg_id: k for m, k in zip(messages, lengths)},
        )
        ar._targets = ids
        return self._finish(ar, self._block(block))


@interactive
def _broadcast_map(f: Any, *names: str) -> list[Any]:
    # Runs on the engine, in the user namespace: it may use nothing of here.
    ns = globals()
    return list(map(f, *[ns.pop(name) for name in names]))
