"""The C core: what Python sees of libroundhouse (client) and of the engine loop."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, NoReturn, final

from typing_extensions import Buffer, Self

MUX: Final = 0
TASK: Final = 1
CONTROL: Final = 2
BROADCAST: Final = 3
QUERY: Final = 4

class ProtocolError(Exception): ...
class AuthError(Exception): ...

@final
class Request:
    """One request and whatever has come back for it.  Made by Client.submit.

    Attributes may be read from any thread at any time; what has not arrived is
    None (or empty).  Buffers are read-only views of the received frames and
    keep them alive.

    Every request is done exactly once.  If no reply can come, one is made with
    the usual error fields and engine_info {}: ename 'EngineError' (the engine
    died, or was not registered when the request was submitted),
    'ClientClosed' (by close(), or the controller said goodbye), 'ConnectionLost'
    (the connection it went out on broke; it may have run) or 'ProtocolError'
    (the reply could not be read).

    When no Request object refers to a request any more, its reply is dropped.
    """

    @property
    def msg_id(self) -> str: ...
    @property
    def done(self) -> bool:
        """The reply (or the error made for it) is here."""
    @property
    def output_done(self) -> bool:
        """All output is here too (idle seen, or none can come)."""
    @property
    def status(self) -> str | None:
        """'ok', 'error' or 'aborted'."""
    @property
    def begun(self) -> bool:
        """The engine said that it works on it; quiet calls do not say so."""
    @property
    def engine_uuid(self) -> str | None: ...
    @property
    def header(self) -> bytes:
        """Request header, JSON."""
    @property
    def reply_header(self) -> bytes | None: ...
    @property
    def metadata(self) -> bytes | None:
        """Reply metadata, JSON."""
    @property
    def content(self) -> bytes | None:
        """Reply content, JSON."""
    @property
    def buffers(self) -> tuple[memoryview, ...]: ...
    @property
    def submitted(self) -> float:
        """Seconds since the epoch, UTC."""
    @property
    def received(self) -> float | None: ...
    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...
    @property
    def outputs(self) -> list[tuple[str, bytes, bytes, bytes, tuple[memoryview, ...]]]:
        """Other iopub messages in order: (msg_type, header, metadata, content, buffers).

        Streams are included as well, so that their order with displays is kept;
        status and comm messages are not.
        """
    @property
    def sent(self) -> bool:
        """ZeroMQ is done with the buffers (always True unless track was set)."""
    def wait_sent(self, timeout: float | None = None, /) -> bool: ...
    def set_callback(self, f: Callable[[Request], Any], /) -> None:
        """Call f(self) once, from the thread in Client.run, when done.

        If it is done already, the call is made by Client.run just the same; if
        the client is closed, it is made at once.  Replaces a callback that has
        not been called.
        """
    def set_output_callback(self, f: Callable[[Request], Any] | None, /) -> None:
        """Call f(self) from Client.run whenever iopub output for it arrived."""

@final
class Client:
    """Connections of one client; its methods may be called from any thread.

    connection: JSON text of the client connection file, addresses resolved
    except for '*' and the location rule, which the core applies itself.
    url_overrides: full URLs by channel name (tunnels): registration, mux,
    task, control, broadcast, iopub, notification.
    timeout: seconds the hub may take to answer; None waits for ever.
    Raises TimeoutError when the hub does not answer, AuthError, ProtocolError.

    A client cannot be used in a child of fork(): RuntimeError there.
    """

    def __init__(
        self,
        connection: str,
        *,
        session: str | None = None,
        username: str | None = None,
        timeout: float = 10.0,
        url_overrides: dict[str, str] | None = None,
        curve_publickey: bytes | None = None,
        curve_secretkey: bytes | None = None,
    ) -> None: ...
    @property
    def session(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def engines_version(self) -> int:
        """Changes with every engine that comes or goes."""
    def engines(self) -> dict[int, str]:
        """Registered engines: id to uuid.  No request is made."""
    def next_msg_id(self) -> str: ...
    def submit(
        self,
        channel: int,
        ident: str | None,
        msg_type: str,
        content: bytes,
        metadata: bytes,
        buffers: Sequence[Buffer] = (),
        /,
        *,
        track: bool = False,
        msg_id: str | None = None,
        expect: Sequence[tuple[str, str]] | None = None,
        coalescing: bool = False,
    ) -> Request:
        """Send one request; never waits for the network.

        ident is the engine's uuid on MUX and CONTROL, else None.  content and
        metadata are JSON.  Buffers of 64 KiB and more are sent without a copy:
        they are held until ZeroMQ is done with them.

        A request to an engine that is not registered (any more) has failed when
        this returns.  Message types that nobody answers (comm_*) are done at
        once, without content.

        BROADCAST: expect lists (msg_id, engine uuid) of the replies to come,
        normally '<msg_id>_<uuid>' each (the default, from the targets in the
        metadata).  The Request returned is done when all are; its parts are in
        broadcast_parts(), and its status is the first one that is not 'ok'.
        With coalescing expect is not looked at: the Request gets the one
        combined reply, and the output of all its engines.
        """
    def share(self, buffers: Sequence[Buffer], /) -> list[Buffer]:
        """The same buffers, to be sent several times.

        Large ones are copied to shared memory, and submit() need not copy them
        again; all others come back as they are.
        """
    def broadcast_parts(self, request: Request, /) -> list[Request]:
        """The requests that a broadcast is made of, one per reply to come.

        With coalescing that is the request itself; [] if it is no broadcast.
        """
    def wait(
        self,
        requests: Sequence[Request],
        timeout: float | None = None,
        /,
        *,
        count: int = -1,
        output: bool = False,
    ) -> bool:
        """Wait until `count` of the requests (-1: all) are done; False on timeout.

        The calling thread drives the sockets.  With output=True a request
        counts only when its output is complete.  Signals are served
        (KeyboardInterrupt).  When the client is closed meanwhile, all requests
        are done.
        """
    def wait_engines(self, version: int, timeout: float | None = None, /) -> bool:
        """Wait until engines_version differs from version; False on timeout.

        RuntimeError if the client is closed.
        """
    def flush(self) -> None:
        """Take in everything that has arrived, without waiting."""
    def run(self, on_event: Callable[[str, Any], Any], /) -> None:
        """Body of the background thread; returns when the client is closed.

        Receives while nobody waits, runs callbacks, and reports
        on_event('engines', (joined, left)) with lists of (id, uuid),
        on_event('shutdown', None) when the hub says goodbye,
        on_event('iopub', (topic, msg_type, header, parent, metadata, content, buffers))
        for comm messages, and for what belongs to no request that is open;
        topic to content are bytes, except for msg_type.
        """
    def close(self, linger: float = 1.0) -> None:
        """Close all sockets.  Pending requests fail with an error reply of ename 'ClientClosed'."""

@final
class EngineFrame:
    """Bytes of a received message, by the buffer protocol; kept while in use."""

class _Stream:
    """What both kinds of stream have; not in the module."""

    @property
    def name(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def writelines(self, lines: Any, /) -> None: ...
    def flush(self) -> None:
        """Send what waits now."""
    def isatty(self) -> bool: ...
    def readable(self) -> bool: ...
    def seekable(self) -> bool: ...
    def writable(self) -> bool: ...
    def fileno(self) -> int:
        """The process's own descriptor of this name."""
    def close(self) -> None:
        """Does nothing: the stream is the engine's."""
    def read(self, *args: Any) -> NoReturn: ...
    def readline(self, *args: Any) -> NoReturn: ...
    def readlines(self, *args: Any) -> NoReturn: ...
    def seek(self, *args: Any) -> NoReturn: ...
    def tell(self, *args: Any) -> NoReturn: ...
    def truncate(self, *args: Any) -> NoReturn: ...
    def detach(self, *args: Any) -> NoReturn: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        tb: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class EngineBinaryStream(_Stream):
    """Bytes written to an engine's output; UTF-8 is expected."""

    def write(self, text: Buffer, /) -> int: ...

@final
class EngineStream(_Stream):
    """sys.stdout or sys.stderr of an engine; goes to the client that asked.

    May be written to from any thread; never blocks.
    """

    @property
    def encoding(self) -> str: ...
    @property
    def errors(self) -> str: ...
    @property
    def line_buffering(self) -> bool: ...
    @property
    def write_through(self) -> bool: ...
    @property
    def newlines(self) -> None: ...
    @property
    def buffer(self) -> EngineBinaryStream: ...
    def write(self, text: str, /) -> int: ...
    def reconfigure(self, **kwargs: Any) -> None:
        """Accepted, and without effect."""

@final
class Engine:
    """The running engine, as its hooks see it."""

    @property
    def uuid(self) -> str:
        """Its name on the wire."""
    @property
    def id(self) -> int:
        """The number the hub gave it."""
    @property
    def header(self) -> bytes | None:
        """Header (JSON) of the request being served."""
    def publish(
        self,
        kind: str,
        msg_type: str,
        content: str | bytes,
        metadata: str | bytes | None = None,
        buffers: Sequence[Buffer] | None = None,
        topic: str | None = None,
        /,
    ) -> None:
        """Publish one message on iopub, after the output so far.

        content and metadata are JSON; without metadata it names the engine.
        The topic is ``engine.<id>.<kind>`` unless it is given.
        """
    def stream(self, fd: int, /) -> EngineStream:
        """The stream for descriptor 1 or 2."""

def run_engine(config: str, hooks: Any, /) -> int:
    """Run an engine until it is told to stop; see roundhouse.engine."""
