"""The client: a connection to a cluster, and what can be asked of it.

The C core owns the sockets.  A daemon thread runs it while nobody waits; a
thread that waits drives the sockets itself.  The thread holds the core, not the
Client, so a Client nobody refers to is collected, which closes it.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import json
import os
import threading
import time
import warnings
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import error
from ..serialize.serialize import MAX_BYTES, MAX_ITEMS, pack_apply_message
from . import hub, tasks
from .asyncresult import AsyncResult, _seconds
from .balanced import LoadBalancedView
from .baseview import BROADCAST, CONTROL, MUX, QUERY, TASK, _check_callable
from .broadcast import BroadcastView
from .connection import (
    CHANNELS,
    controller_address,
    find_connection,
    is_local_ip,
    needs_tunnel,
)
from .control import Control
from .debug import TalkingCore, print_reply
from .direct import DirectView, _execute_content
from .display import get_shell
from .history import History
from .hubresult import AsyncHubResult
from .message import HubMessage, Message, Metadata
from .sources import add_source

if TYPE_CHECKING:
    from .. import _core
    from .executor import ViewExecutor
    from .tunnel import Tunnel

__all__ = ["Client"]

# Finished messages nobody asked for are let go of at the latest after this
# many further ones, or this many seconds.
_SWEEP_COUNT = 256
_SWEEP_S = 1.0
_SLICE_S = 0.5

_open_clients: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for client in list(_open_clients):
        client.close(linger=0.1)


class Session:
    """What users look up of the session: its id, the user's name, the key."""

    def __init__(self, session: str, username: str, key: str) -> None:
        self.session = session
        self.username = username
        self.key = key.encode()
        self.buffer_threshold = MAX_BYTES
        self.item_threshold = MAX_ITEMS
        self.digest_history: set[str] = set()

    def __repr__(self) -> str:
        return f"<Session {self.session}>"


class ClientMetadata(Mapping[str, Metadata]):
    """Metadata by msg_id, of what the client holds.

    Asking for an unknown id enters empty metadata for it.
    """

    def __init__(self, client: Client) -> None:
        self._client = weakref.proxy(client)
        self._others: dict[str, Metadata] = {}

    def _held(self) -> dict[str, Any]:
        held: dict[str, Any] = dict(self._others)
        client = self._client
        for msg_id in list(client.results):
            message = client.results.message(msg_id)
            if message is not None:
                held[msg_id] = message
        held.update(client._live)
        return held

    def __getitem__(self, msg_id: str) -> Metadata:
        message = self._client._local(msg_id)
        if message is None:
            return self._others.setdefault(msg_id, Metadata(msg_id=msg_id))
        md: Metadata = message.metadata
        return md

    def __contains__(self, msg_id: object) -> bool:
        return msg_id in self._held()

    def __iter__(self) -> Iterator[str]:
        return iter(self._held())

    def __len__(self) -> int:
        return len(self._held())

    def pop(self, msg_id: str, default: Any = None) -> Any:
        """Forget the metadata of an unknown id."""
        return self._others.pop(msg_id, default)

    def clear(self) -> None:
        """Forget the metadata of unknown ids."""
        self._others.clear()


class Results(dict):  # type: ignore[type-arg]
    """Results kept by msg_id; those of this client are decoded on access."""

    def __getitem__(self, key: str) -> Any:
        value = dict.__getitem__(self, key)
        return value.value() if isinstance(value, (Message, HubMessage)) else value

    def get(self, key: str, default: Any = None) -> Any:
        """The result of a msg_id, or default."""
        try:
            return self[key]
        except KeyError:
            return default

    def values(self) -> Any:
        """A list of all results."""
        return [self[k] for k in self]

    def items(self) -> Any:
        """A list of (msg_id, result)."""
        return [(k, self[k]) for k in self]

    def message(self, key: str) -> Any:
        """The Message kept for a msg_id, or None."""
        value = dict.get(self, key)
        return value if isinstance(value, (Message, HubMessage)) else None


def _warn_unused(name: str) -> None:
    warnings.warn(
        f"Client.{name} does nothing: results arrive by themselves",
        DeprecationWarning,
        stacklevel=3,
    )


class Client(Control):
    """A connection to a cluster.

    Parameters
    ----------
    connection_info : dict or path, optional
        The contents of ``ipcontroller-client.json``, or its path.  By default
        the file of the profile.
    profile, profile_dir, ipython_dir : str, optional
        The profile whose file is used; by default that of the IPython
        application this runs in, else ``default``.
    cluster_id : str, optional
        Part of the file's name, if several clusters share a profile.
    sshserver : str, optional
        ``[user@]host[:port]`` to tunnel through.
    sshkey, password : str, optional
        For ssh; without a password ssh asks on the terminal.
    paramiko : bool, optional
        Accepted for compatibility; tunnels are made by OpenSSH.
    timeout : float
        Seconds to wait for the file, and for the controller to answer.
    cluster : Cluster, optional
        The Cluster this client belongs to.
    debug : bool
        Print requests when they are sent, and replies when they are read.
        Also an attribute that may be set.
    context
        Accepted for compatibility; the core has its own.
    **session_args
        ``session`` (id), ``username``, ``key``, ``buffer_threshold`` (bytes),
        ``item_threshold``.

    Raises
    ------
    OSError
        If no connection file is found.
    ValueError
        If the connection file cannot be used, or a URL is given.
    TimeoutError
        If the controller does not answer.

    Notes
    -----
    A client, its views and its results may be used by any number of threads at
    a time, also while one of them closes the client.  Only flags are shared by
    all who use a view: let each thread that changes some have its own view.
    Callbacks run in a thread that waits for something, or in one of the
    client's own; they may use the client.  A forked child must make its own.

    Examples
    --------
    >>> with Client() as rc:  # doctest: +SKIP
    ...     rc[:].apply_sync(os.getpid)
    """

    block: bool = False
    _debug: bool = False
    curve_serverkey: bytes  # Z85, empty without CURVE
    curve_publickey: bytes  # of the environment; empty: made for the connection
    curve_secretkey: bytes

    def __new__(cls, *args: Any, **kwargs: Any) -> Client:
        # Spelt out so that tests can put a fake in its place, and take it out.
        return super().__new__(cls)

    def __init__(
        self,
        connection_info: Any = None,
        *,
        url_file: Any = None,
        profile: str | None = None,
        profile_dir: str | None = None,
        ipython_dir: str | None = None,
        context: Any = None,
        debug: bool = False,
        sshserver: str | None = None,
        sshkey: str | None = None,
        password: Any = None,
        paramiko: bool | None = None,
        timeout: float = 10,
        cluster_id: str | None = None,
        cluster: Any = None,
        **session_args: Any,
    ) -> None:
        self._closed = True  # until there is something to close
        self._tunnel: Tunnel | None = None
        for name, old in (
            ("url_file", url_file),
            ("url_or_file", session_args.pop("url_or_file", None)),
        ):
            if old is not None:
                connection_info = old
                warnings.warn(
                    f"{name} is deprecated, use the positional connection_info",
                    DeprecationWarning,
                    stacklevel=2,
                )
        self.block = bool(session_args.pop("block", False))
        self._debug = debug
        self.cluster = cluster
        self.profile = profile or _profile_name(profile_dir)
        info = find_connection(
            connection_info, profile, profile_dir, ipython_dir, cluster_id, timeout
        )
        self._prepare(info, session_args)
        server = needs_tunnel(info, sshserver, sshkey, password, is_local_ip)
        self._ssh = server is not None
        if server is not None:
            self._open_tunnel(info, server, sshkey, password, timeout)
        self._connect(info, session_args, timeout)
        shell = get_shell()
        if shell is not None and "px" not in shell.magics_manager.magics["line"]:
            self.activate()

    # Opening and closing

    def _prepare(self, info: dict[str, Any], session_args: dict[str, Any]) -> None:
        self._config = info
        self._task_scheme: str = info["task_scheme"]
        self._thresholds = (
            session_args.pop("buffer_threshold", MAX_BYTES),
            session_args.pop("item_threshold", MAX_ITEMS),
        )
        self.history = History()
        self.results = Results()
        self.metadata = ClientMetadata(self)
        self._live: dict[str, Message] = {}
        self._sweep_at = _SWEEP_COUNT
        self._swept = time.monotonic()
        self._init_engines()
        self._farming_stopped = False
        self._offered: dict[str, Any] | None = None  # by the controller; not asked yet
        self._warned_of_flags = False
        self._hub_stopping = False
        self._registration_callbacks: list[Callable[[dict[str, Any]], None]] = []
        key = session_args.pop("key", None)
        if key is not None:
            info["key"] = key.decode() if isinstance(key, bytes) else key
        if not info.get("curve_serverkey") and "IPP_CURVE_SERVERKEY" in os.environ:
            info["curve_serverkey"] = os.environ["IPP_CURVE_SERVERKEY"]

    def _open_tunnel(
        self,
        info: dict[str, Any],
        server: str,
        sshkey: str | None,
        password: Any,
        timeout: float,
    ) -> None:
        from .tunnel import Tunnel

        transport, host = controller_address(info)
        if transport != "tcp":
            raise ValueError(f"cannot tunnel {info['interface']}: only tcp")
        ports = {n: info[n] for n in CHANNELS if isinstance(info.get(n), int)}
        self._tunnel = Tunnel(
            server, host, ports, sshkey, password, timeout=max(timeout, 30.0)
        )

    def _connect(
        self, info: dict[str, Any], session_args: dict[str, Any], timeout: float
    ) -> None:
        from .. import _core

        options: dict[str, Any] = {}
        for name in ("session", "username"):
            if session_args.get(name):
                options[name] = session_args.pop(name)
        session_args.pop("config", None)
        if session_args:
            warnings.warn(
                f"these arguments are not used: {sorted(session_args)}", stacklevel=3
            )
        self.curve_serverkey = (info.get("curve_serverkey") or "").encode("ascii")
        for name in ("curve_publickey", "curve_secretkey"):
            value = os.environ.get(f"IPP_{name.upper()}", "").encode("ascii")
            setattr(self, name, value)
            if value:
                options[name] = value
        if self._tunnel is not None:
            options["url_overrides"] = self._tunnel.urls
        try:
            self._core: _core.Client = _core.Client(
                json.dumps(info), timeout=timeout, **options
            )
        except BaseException:
            if self._tunnel is not None:
                self._tunnel.close()
            raise
        self.session = Session(
            self._core.session, options.get("username", ""), info["key"]
        )
        self.session.buffer_threshold, self.session.item_threshold = self._thresholds
        self.debug = self._debug
        self._closed = False
        _open_clients.add(self)
        self._refresh()
        me = weakref.ref(self)
        core = getattr(self._core, "silent", self._core)

        def on_event(name: str, data: Any) -> None:
            client = me()
            if client is not None:
                client._on_event(name, data)

        self._io_thread = threading.Thread(
            target=core.run, args=(on_event,), name="roundhouse-client", daemon=True
        )
        self._io_thread.start()

    @property
    def debug(self) -> bool:
        """Whether requests and replies are printed."""
        return self._debug

    @debug.setter
    def debug(self, value: bool) -> None:
        core: Any = getattr(self._core, "silent", self._core)
        self._debug = bool(value)
        self._core = TalkingCore(core) if value else core  # type: ignore[assignment]

    def close(self, linger: float | None = None) -> None:
        """Close the connection; what is pending fails.

        Parameters
        ----------
        linger : float, optional
            Seconds to go on sending what was submitted; default 1.

        May be called several times, and from any thread.
        """
        if self._closed:
            return
        self._closed = True
        _open_clients.discard(self)
        self._core.close(1.0 if linger is None else linger)
        thread = self._io_thread
        if thread is not threading.current_thread():
            thread.join(timeout=5)
        if self._tunnel is not None:
            self._tunnel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            try:
                self.close(linger=0.1)
            except Exception:
                pass  # interpreter shutting down

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self)} engines"
        return f"<{type(self).__name__}: {state}>"

    def _check_open(self) -> None:
        if self._closed:
            raise OSError("this client is closed: make a new one to go on working")

    # Events of the core

    def _on_event(self, name: str, data: Any) -> None:
        """Called in the receiving thread."""
        if name == "engines":
            self._on_engines(*data)
        elif name == "shutdown":
            if not self._hub_stopping:
                # not here: close waits for this thread
                threading.Thread(target=self.close, daemon=True).start()
        elif name == "iopub":
            from .comms import relay

            relay(self, *data)

    def _on_engines(self, joined: Sequence[Any], left: Sequence[Any]) -> None:
        with self._engines_lock:
            for engine_id, uuid in joined:
                self._by_uuid[uuid] = engine_id
        self._refresh()
        if self._task_scheme == "pure" and left and not self._farming_stopped:
            self._farming_stopped = True
            warnings.warn(
                "an engine was unregistered, and the pure task scheme cannot tell "
                "which tasks it had: task farming is disabled",
                RuntimeWarning,
                stacklevel=1,
            )
        for event, engines in (("register", joined), ("unregister", left)):
            for engine_id, uuid in engines:
                for callback in list(self._registration_callbacks):
                    callback({"event": event, "id": engine_id, "uuid": uuid})

    # Sending

    def _send(
        self,
        channel: int,
        uuid: str | None,
        msg_type: str,
        content: bytes,
        metadata: bytes,
        bufs: Sequence[Any],
        kind: str,
        label: Any,
        track: bool,
        view: Any,
        made: type[Message] = Message,
    ) -> Message:
        """Send one request for work and enter it in the books."""
        if self._closed:
            self._check_open()
        request = self._core.submit(
            channel, uuid, msg_type, content, metadata, bufs, track=track
        )
        return self._enter(made(self, request, kind, label), view)

    def _enter(self, message: Message, view: Any) -> Message:
        msg_id = message.msg_id
        self.history.append(msg_id)
        if view is not None:
            view.history.append(msg_id)
        live = self._live
        live[msg_id] = message
        if len(live) >= self._sweep_at:
            self._sweep()
        return message

    def _sweep(self) -> None:
        """Let go of finished messages whose results nobody asked for."""
        now = time.monotonic()
        live = self._live
        if now - self._swept > _SWEEP_S or len(live) >= 2 * self._sweep_at:
            for msg_id, message in list(live.items()):
                if message.request.done:
                    live.pop(msg_id, None)
            self._swept = now
        self._sweep_at = len(live) + max(_SWEEP_COUNT, len(live) // 2)

    def _broadcast(
        self,
        uuids: Sequence[str],
        msg_type: str,
        content: bytes,
        metadata: bytes,
        bufs: Sequence[Any],
        kind: str,
        label: Any,
        track: bool,
        coalescing: bool,
        view: Any,
    ) -> list[Message]:
        """Send one request to many engines: a message per reply to come."""
        self._check_open()
        msg_id = self._core.next_msg_id()
        expect = [(f"{msg_id}_{uuid}", uuid) for uuid in uuids]
        request = self._core.submit(
            BROADCAST,
            None,
            msg_type,
            content,
            metadata,
            bufs,
            track=track,
            msg_id=msg_id,
            expect=expect,
            coalescing=coalescing,
        )
        if coalescing:
            messages = [Message(self, request, "many", label)]
        else:
            parts = self._core.broadcast_parts(request)
            messages = [Message(self, part, kind, label) for part in parts]
        for message in messages:
            self._enter(message, view)
        return messages

    def _flush(self) -> None:
        """Take in what has arrived."""
        if not self._closed:
            self._core.flush()

    def _wait_requests(
        self, requests: Sequence[Any], timeout: float | None, output: bool = False
    ) -> bool:
        """Wait for requests of the core; False on timeout."""
        return self._core.wait(requests, timeout, output=output)

    def _forget(self, ar: AsyncResult) -> None:
        """A result is complete: its messages need not be kept for it."""
        live, keep = self._live, not ar.owner
        for child in ar._children:
            message: Any = live.pop(child.msg_id, None)
            if message is None and isinstance(child, HubMessage):
                message = child
            if keep and message is not None:
                dict.__setitem__(self.results, child.msg_id, message)

    @property
    def outstanding(self) -> set[str]:
        """The msg_ids of requests without a reply so far."""
        return {i for i, m in list(self._live.items()) if not m.request.done}

    @property
    def _outstanding_dict(self) -> dict[str, set[str]]:
        """Outstanding msg_ids by the uuid of the engine they were sent to."""
        found: dict[str, set[str]] = defaultdict(set)
        for msg_id, message in list(self._live.items()):
            uuid = message.request.engine_uuid
            if uuid is not None and not message.request.done:
                found[uuid].add(msg_id)
        return found

    def _local(self, msg_id: str) -> Any:
        """The message of a msg_id if this client holds it, or None."""
        return self._live.get(msg_id) or self.results.message(msg_id)

    def _message(self, msg_id: str) -> Any:
        message = self._local(msg_id)
        if message is None:
            raise KeyError(f"this client has no request {msg_id!r}")
        return message

    def _unwrap_exception(self, content: dict[str, Any]) -> error.RemoteError:
        """The error of an error reply, with the engine's id in it."""
        e = error.unwrap_exception(content)
        if e.traceback:
            e.traceback = add_source(e.traceback)
        info = e.engine_info
        if info and info.get("engine_id", -1) in (None, -1):
            uuid = info.get("engine_uuid")
            engine_id = self._engine_id(uuid) if uuid else None
            if engine_id is not None:
                info["engine_id"] = engine_id
        return e

    # Low level, as the views use it upstream

    _mux_socket = _mux_stream = MUX
    _task_socket = _task_stream = TASK
    _control_socket = _control_stream = CONTROL
    _query_socket = _query_stream = QUERY
    _broadcast_socket = _broadcast_stream = BROADCAST

    def send_apply_request(
        self,
        socket: int,
        f: Any,
        args: Any = None,
        kwargs: Any = None,
        metadata: dict[str, Any] | None = None,
        track: bool = False,
        ident: Any = None,
        message_future_hook: Callable[[Any], Any] | None = None,
    ) -> AsyncResult:
        """Send one call; returns its AsyncResult.

        socket is one of the ``_mux_socket``, ``_task_socket``… of the client,
        ident the uuid of the engine for those that need one.
        """
        args = [] if args is None else args
        kwargs = {} if kwargs is None else kwargs
        _check_callable(f)
        for name, value, kinds in (
            ("args", args, (tuple, list)),
            ("kwargs", kwargs, dict),
            ("metadata", metadata or {}, dict),
        ):
            if not isinstance(value, kinds):
                raise TypeError(f"{name} has the wrong type: {type(value)}")
        bufs = pack_apply_message(f, args, kwargs, *self._thresholds)
        return self._send_low(
            socket, "apply_request", b"{}", metadata, bufs, track, ident,
            message_future_hook,
        )  # fmt: skip

    send_apply_message = send_apply_request

    def send_execute_request(
        self,
        socket: int,
        code: str,
        silent: bool = True,
        metadata: dict[str, Any] | None = None,
        ident: Any = None,
        message_future_hook: Callable[[Any], Any] | None = None,
    ) -> AsyncResult:
        """Send code to run; returns its AsyncResult.  See send_apply_request."""
        if not isinstance(code, str):
            raise TypeError(f"execute takes code as str, not {type(code).__name__}")
        if not isinstance(metadata or {}, dict):
            raise TypeError(f"metadata is a dict, not {type(metadata).__name__}")
        return self._send_low(
            socket, "execute_request", _execute_content(code, silent), metadata, (),
            False, ident, message_future_hook,
        )  # fmt: skip

    def _send_low(
        self,
        socket: int,
        msg_type: str,
        content: bytes,
        metadata: dict[str, Any] | None,
        bufs: Sequence[Any],
        track: bool,
        ident: Any,
        hook: Callable[[Any], Any] | None,
    ) -> AsyncResult:
        uuid = ident.decode() if isinstance(ident, bytes) else ident
        kind = msg_type.partition("_")[0]
        message = self._send(
            socket, uuid, msg_type, content, json.dumps(metadata or {}).encode(),
            bufs, kind, (metadata or {}).get("label"), track, None,
        )  # fmt: skip
        ar = AsyncResult(self, message, kind)
        if hook is not None:
            hook(ar)
        return ar

    # Views

    def direct_view(self, targets: Any = "all", **kwargs: Any) -> DirectView:
        """A view that sends to each of its engines.

        Parameters
        ----------
        targets : int, slice, list of int, or 'all'
            'all' stands for the engines registered at the time of each call; a
            slice is resolved now.
        **kwargs
            Flags of the view.
        """
        if not (isinstance(targets, str) and targets == "all"):
            single = hasattr(type(targets), "__index__")
            targets = self._build_targets(targets)[1]
            if single:
                targets = targets[0]
        return DirectView(self, MUX, targets, **kwargs)

    def load_balanced_view(
        self, targets: Any = None, **kwargs: Any
    ) -> LoadBalancedView:
        """A view whose calls the task scheduler gives to engines.

        Parameters
        ----------
        targets : slice, list of int…, optional
            The engines that may be chosen; by default all, also future ones.
        **kwargs
            Flags of the view.
        """
        if isinstance(targets, str) and targets == "all":
            targets = None
        if targets is not None:
            targets = self._build_targets(targets)[1]
        return LoadBalancedView(self, TASK, targets=targets, **kwargs)

    def broadcast_view(
        self, targets: Any = "all", is_coalescing: bool = False, **kwargs: Any
    ) -> BroadcastView:
        """A view whose calls are sent once and multiplied by the controller.

        Parameters
        ----------
        targets : int, slice, list of int, or 'all'
            Resolved now.
        is_coalescing : bool
            Join the replies into one.
        **kwargs
            Flags of the view.
        """
        ids = self._build_targets(targets)[1]
        view = BroadcastView(self, BROADCAST, ids, **kwargs)
        view.is_coalescing = is_coalescing
        return view

    def view(self, targets: Any = None, balanced: bool | None = None) -> Any:
        """A balanced view, or with targets (or balanced=False) a direct one."""
        if balanced is None:
            balanced = targets is None
        if balanced:
            return self.load_balanced_view(targets)
        return self.direct_view("all" if targets is None else targets)

    def executor(self, targets: Any = None) -> ViewExecutor:
        """A `concurrent.futures.Executor` over a balanced view."""
        return self.load_balanced_view(targets).executor

    def activate(self, targets: Any = "all", suffix: str = "") -> DirectView:
        """Make a blocking view and bind the IPython magics to it; returns it."""
        view = self.direct_view(targets)
        view.block = True
        view.activate(suffix)
        return view

    # Waiting

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Wait for jobs.

        Parameters
        ----------
        jobs : msg_id, index of history, AsyncResult, Future, or a list of these
            By default everything outstanding.  Unknown ids count as done.
        timeout : float
            Seconds; negative or None for no limit.

        Returns
        -------
        bool
            False if the time was over first.
        """
        limit = _seconds(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        requests, others = self._waitable(jobs)
        if requests and not self._wait_requests(requests, limit):
            return False
        for future in others:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if isinstance(future, AsyncResult):
                if not future.wait(left):
                    return False
            elif not concurrent.futures.wait([future], left).done:
                return False
        return True

    def _waitable(self, jobs: Any) -> tuple[list[Any], list[Any]]:
        """(requests of the core, other futures) for jobs."""
        if jobs is None:
            return [m.request for m in list(self._live.values())], []
        if isinstance(jobs, (str, int, AsyncResult)) or not isinstance(jobs, Iterable):
            jobs = [jobs]
        requests: list[Any] = []
        others: list[Any] = []
        for job in jobs:
            if isinstance(job, int):
                job = self.history[job]
            if isinstance(job, str):
                message = self._local(job)
                if isinstance(message, Message):
                    requests.append(message.request)
            elif isinstance(job, AsyncResult) and not isinstance(job, AsyncHubResult):
                requests.extend([c.request for c in job._children])
            elif hasattr(job, "add_done_callback"):
                others.append(job)
            else:
                raise TypeError(
                    f"{job!r} names no request: take a msg_id, an index into history, a result or a Future"
                )
        return requests, others

    def wait_interactive(
        self, jobs: Any = None, interval: float = 1.0, timeout: float | None = -1.0
    ) -> None:
        """Wait for jobs (by default all outstanding) with a progress bar."""
        if jobs is None:
            messages = list(self._live.values())
            if not messages:
                return
            ar = AsyncResult(self, messages)
        else:
            ar = self._asyncresult_from_jobs(jobs, owner=False)
        ar.wait_interactive(interval=interval, timeout=timeout)

    def spin(self) -> None:
        """Does nothing: results arrive by themselves."""
        _warn_unused("spin")

    def spin_thread(self, interval: float = 1) -> None:
        """Does nothing: results arrive by themselves."""
        _warn_unused("spin_thread")

    def stop_spin_thread(self) -> None:
        """Does nothing: results arrive by themselves."""
        _warn_unused("stop_spin_thread")

    # The hub: see hub.py

    def _query(
        self, msg_type: str, content: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Any]]:
        """Ask the hub; (content, buffers) of the reply.  Raises its errors."""
        self._check_open()
        body = hub.to_json(content)
        request = self._core.submit(QUERY, None, msg_type, body, b"{}")
        self._wait_requests([request], None)
        if self._debug:
            print_reply(request)
        reply: dict[str, Any] = json.loads(request.content or b"{}")
        if reply.get("status") != "ok":
            raise self._unwrap_exception(reply)
        return reply, list(request.buffers)

    get_result = hub.get_result
    resubmit = hub.resubmit
    result_status = hub.result_status
    queue_status = hub.queue_status
    purge_results = hub.purge_results
    purge_hub_results = hub.purge_hub_results
    purge_local_results = hub.purge_local_results
    purge_everything = hub.purge_everything
    hub_history = hub.hub_history
    db_query = hub.db_query
    _msg_ids_from_jobs = hub.msg_ids_from_jobs
    _asyncresult_from_jobs = hub.asyncresult_from_jobs
    _fill_from_hub = hub.fill_from_hub
    _ask_hub = hub.ask_hub
    _take_from_hub = hub.take_from_hub
    _peek_at_hub = hub.peek_at_hub

    # The task scheduler: see tasks.py

    cancel = tasks.cancel
    explain = tasks.explain
    _offers = tasks.offers

    # dask

    def become_dask(
        self,
        targets: Any = "all",
        port: int = 0,
        nanny: bool = False,
        scheduler_args: dict[str, Any] | None = None,
        **worker_args: Any,
    ) -> Any:
        """Turn the cluster into a dask cluster; returns a dask Client.

        Parameters
        ----------
        targets
            The engines that become workers.
        port
            Not used.
        nanny : bool
            Run the workers as processes of their own beside the engines.
        scheduler_args : dict, optional
            For dask's Scheduler.
        **worker_args
            For dask's Worker; nthreads defaults to 1.
        """
        from .dask import become_dask

        return become_dask(self, targets, nanny, scheduler_args or {}, worker_args)

    def stop_dask(self, targets: Any = "all") -> None:
        """Stop the dask scheduler and the workers of `become_dask`."""
        from .dask import stop_dask

        stop_dask(self, targets)

    become_distributed = become_dask
    stop_distributed = stop_dask


def _profile_name(profile_dir: str | None) -> str:
    if profile_dir:
        name = os.path.basename(os.path.abspath(profile_dir))
        return name[len("profile_") :] if name.startswith("profile_") else name
    from .connection import default_profile

    return default_profile()
