"""The command ``ipengine``: options, connection file, then the loop.

Start-up is a straight line from the command line to `run_engine`; traitlets is
imported only if there is a configuration file, json only here.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from ..options import (
    Command,
    Flag,
    Option,
    UsageError,
    boolean,
    choice,
    common_flags,
    common_options,
    find_profile_dir,
    integer,
    load_config,
    number,
    path,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


__all__ = ["main"]

EXIT_NO_FILE = 1
EXIT_USAGE = 2
EXIT_NOT_REGISTERED = 255

MPI_CODE = {
    "mpi4py": (
        "from mpi4py import MPI\n"
        "mpi_size = MPI.COMM_WORLD.Get_size()\n"
        "mpi_rank = MPI.COMM_WORLD.Get_rank()\n"
    ),
    "pytrilinos": (
        "from PyTrilinos import Epetra\n"
        "mpi = Epetra.PyComm()\n"
        "mpi_size, mpi_rank = mpi.NumProc(), mpi.MyPID()\n"
    ),
}

_OLD = ("IPEngineApp", "EngineFactory")


def _row(trait: Any, kind: Any, default: Any, help: Any, alias: Any = ()) -> Any:
    old = [f"{cls}.{trait}" for cls in _OLD]
    return Option(f"IPEngine.{trait}", kind, default, help, alias=alias, old=old)


def _session_row(
    trait: Any, kind: Any, default: Any, help: Any, alias: Any = (), env: Any = None
) -> Any:
    return Option(f"Session.{trait}", kind, default, help, alias=alias, env=env)


# fmt: off
ROWS = [
    Flag("mpi", {"IPEngine.use_mpi": True},
         "Initialise MPI and ask for the rank as id."),
    Flag("secure", {"IPEngine.secure": True},
         "Sign messages with the key of the connection file (as always)."),
    Flag("no-secure", {"IPEngine.secure": False},
         "Do not sign messages; the controller has to do the same."),
    *common_flags("IPEngine"),
    _row("url_file", path, "",
         "Connection file; normally security/ipcontroller-engine.json in the profile.",
         "file"),
    _row("startup_command", text, "", "Code to run before the first task.", "c"),
    _row("startup_script", path, "", "File to run before the first task.", "s"),
    _row("registration_url", text, "",
         "Where the controller takes registrations; replaces the connection file's.",
         "url"),
    _row("sshserver", text, "",
         "Reach the controller through this machine: [user@]host[:port].", "ssh"),
    _row("sshkey", path, "", "Private key file for ssh.", "sshkey"),
    _row("location", text, "",
         "Address of the controller, where the connection file has it wrong.",
         "location"),
    _row("timeout", number(0), 5.0,
         "Seconds to wait for the answer to the registration.", "timeout"),
    _session_row("session", text, "", "Name of this engine on the wire.", "ident"),
    _session_row("username", text, "", "User name in messages.", "user"),
    _session_row("keyfile", path, "", "File that holds the signing key.", "keyfile"),
    _session_row("key", text, "", "The signing key itself.", env="IPP_SESSION_KEY"),
    Option("MPI.use", choice(*MPI_CODE), "",
           "Run this package's initialisation, and ask for the rank as id.",
           alias="mpi"),
    Option("MPI.init_script", text, "", "Code to run instead of it."),
    *common_options("IPEngine"),
    _row("url_file_name", text, "", "Name of the connection file in the security folder."),
    _row("wait_for_url_file", number(0), 10.0,
         "Seconds to wait for the connection file to appear."),
    _row("max_heartbeat_misses", integer(0), 50,
         "Missed heartbeats before the engine gives up; 0: never."),
    _row("id", integer(0), None, "Ask for this engine id."),
    _row("use_mpi", boolean, False, "Initialise MPI."),
    _row("init_mpi", text, MPI_CODE["mpi4py"], "Code that initialises MPI."),
    _row("mpi_registration_delay", number(0), 0.02,
         "Seconds per rank, from rank 100 on, by which registration is delayed."),
    _row("shutdown_grace", number(0, 3600), 3.0,
         "Seconds running code has to stop when the engine is told to end."),
    _row("secure", boolean, True, "Sign messages."),
    _row("capture_output", boolean, True,
         "Also send what C code and subprocesses print."),
    _row("output_limit", integer(0, 2**31 - 1), 1 << 26,
         "Bytes of text one call may print; behind them is a mark, the rest is "
         "dropped. 0: no limit."),
    _row("curve_serverkey", text, "", "The controller's public CURVE key.", ()),
    _row("curve_publickey", text, "", "This engine's public CURVE key.", ()),
    _row("curve_secretkey", text, "", "This engine's secret CURVE key.", ()),
    _row("transport", text, "tcp", "Transport of the registration address."),
    _row("ip", text, "", "Host of the registration address; replaces the file's."),
    _row("regport", integer(1, 65535), None, "Port of the registration address."),
    # Accepted so that old configurations go on working.
    _row("enable_nanny", boolean, True, "Without effect: no helper process is needed."),
    _row("paramiko", boolean, False, "Without effect: tunnels use OpenSSH."),
    _row("out_stream_factory", text, "", "Without effect."),
    _row("display_hook_factory", text, "", "Without effect."),
    _session_row("packer", text, "json", "Without effect: the connection file says it."),
    _session_row("unpacker", text, "json", "Without effect: the connection file says it."),
    _session_row("signature_scheme", text, "", "Without effect: the connection file says it."),
]
# fmt: on

# Classes whose traits are IPython's, checked when IPython is loaded.
_IPYTHON = [
    "InteractiveShell",
    "ZMQInteractiveShell",
    "IPCompleter",
    "Completer",
    "HistoryManager",
    "DisplayFormatter",
    "PlainTextFormatter",
    "InlineBackend",
    "StoreMagics",
    "LoggingMagics",
    "ScriptMagics",
    "ExecutionMagics",
    "BasicMagics",
    "OSMagics",
    "MagicsManager",
    "AliasManager",
    "PrefilterManager",
    "Kernel",
    "IPythonKernel",
    "IPythonParallelKernel",
    "IPKernelApp",
]


def _lets_through(cls: str, trait: str) -> bool:
    return cls in _IPYTHON


COMMAND = Command(
    "ipengine",
    "Start one engine: a Python process that registers with a controller and runs "
    "what clients send it.",
    ROWS,
    foreign=_lets_through,
    examples=[
        "ipengine --profile=work",
        "ipengine --file=/shared/ipcontroller-engine.json --debug",
    ],
)


def _say(text: str) -> None:
    """Write to the real stderr, if there is one."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(text)


class Failure(Exception):
    """Why the engine cannot start, and the exit code that says so."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Settings:
    """The command line, the configuration files and the environment, merged."""

    def __init__(self, argv: Sequence[str] | None = None) -> None:
        parsed = COMMAND.start(argv)
        values = COMMAND.values(parsed)
        self.profile_dir = find_profile_dir(values, "IPEngine")
        config = load_config(
            os.path.join(self.profile_dir, "ipengine_config.py"),
            values["IPEngine.config_file"],
        )
        self.values = COMMAND.values(parsed, config)
        self.given = parsed.given
        self.warnings = parsed.warnings
        self.ipython_config = {c: t for c, t in config.items() if c in _IPYTHON}
        for name, value in parsed.foreign.items():
            cls, _, trait = name.rpartition(".")
            self.ipython_config.setdefault(cls, {})[trait] = _literal(value)

    def __getattr__(self, trait: Any) -> Any:
        try:
            return self.values["IPEngine." + trait]
        except KeyError:
            raise AttributeError(trait) from None


def _literal(value: Any) -> Any:
    """A trait's value from the command line, as Python would read it."""
    import ast

    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


class Log:
    """The few lines Python says; same form as the C log's."""

    def __init__(self, level: Any, file: Any = None) -> None:
        self.level = level
        self.file = file

    def __call__(self, level: Any, message: Any) -> None:
        if level < self.level:
            return
        now = time.time()
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        line = f"{date}.{int(now % 1 * 1000):03d} [IPEngine] {message}\n"
        if self.file:
            with open(self.file, "a", encoding="utf-8") as f:
                f.write(line)
        else:
            _say(line)


def _log_file(settings: Any) -> str | None:
    """Path of the log file, or None for stderr."""
    folder = os.path.join(settings.profile_dir, "log")
    if settings.clean_logs and os.path.isdir(folder):
        for name in os.listdir(folder):
            if name.startswith("ipengine-") and name.endswith((".log", ".out", ".err")):
                os.unlink(os.path.join(folder, name))
    if not settings.log_to_file:
        return None
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, f"ipengine-{os.getpid()}.log")


def _connection_path(settings: Any) -> Any:
    if settings.url_file:
        return os.path.abspath(settings.url_file)
    name = settings.url_file_name
    if not name:
        cluster = settings.cluster_id
        name = (
            f"ipcontroller-{cluster}-engine.json"
            if cluster
            else "ipcontroller-engine.json"
        )
    return os.path.join(settings.profile_dir, "security", name)


def _read_connection(settings: Any, log: Any) -> Any:
    """The connection as a dict; waits for the file to appear."""
    import json

    given = os.environ.get("IPP_CONNECTION_INFO")
    # A file named on the command line is meant; the environment is inherited.
    if given and "IPEngine.url_file" not in settings.given:
        log(20, "The connection is in $IPP_CONNECTION_INFO")
        origin, content = "$IPP_CONNECTION_INFO", given
    else:
        origin = _connection_path(settings)
        content = _wait_for(origin, settings.wait_for_url_file, log)
    try:
        info = json.loads(content)
    except ValueError as e:
        raise Failure(f"{origin} is not JSON: {e}", EXIT_NO_FILE) from None
    if not isinstance(info, dict):
        raise Failure(f"{origin} is not a JSON object", EXIT_NO_FILE)
    return info


def _wait_for(path: str, seconds: Any, log: Any) -> Any:
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            with open(path, encoding="utf-8") as f:
                content = f.read()
            # A foreign controller may be in the middle of writing it.
            if content.rstrip().endswith("}") or time.monotonic() > deadline:
                log(20, f"Loading connection file {path!r}")
                return content
        except FileNotFoundError:
            pass
        except OSError as e:
            raise Failure(f"cannot read {path}: {e.strerror}", EXIT_NO_FILE) from None
        if time.monotonic() > deadline:
            raise Failure(
                f"no connection file {path} after {seconds:g} s; is a controller "
                "running with this profile and cluster id?",
                EXIT_NO_FILE,
            )
        if not told:
            log(30, f"waiting up to {seconds:g} s for the connection file {path}")
            told = True
        time.sleep(0.02)


def _signing_key(settings: Any, info: Any) -> Any:
    """The key to use instead of the file's, or None."""
    values = settings.values
    if not settings.secure:
        return ""
    if info.get("key"):
        return None
    if values["Session.keyfile"]:
        with open(values["Session.keyfile"], encoding="utf-8") as f:
            return f.read().strip()
    return values["Session.key"] or None


def _mpi(settings: Any) -> Any:
    """(code to run first or "", the rank to ask for or None)"""
    use = settings.values["MPI.use"]
    if not use and not settings.use_mpi:
        return "", settings.id
    code = settings.values["MPI.init_script"] or MPI_CODE.get(use) or settings.init_mpi
    if settings.id is not None or use == "pytrilinos":
        return code, settings.id
    try:
        from mpi4py import MPI
    except ImportError as e:
        raise Failure(f"--mpi needs mpi4py: {e}", EXIT_NO_FILE) from None
    world = MPI.COMM_WORLD
    rank = world.Get_rank() if world.Get_size() > 1 else None
    if rank is not None and rank >= 100:
        time.sleep(rank * settings.mpi_registration_delay)
    return code, rank


def _startup(settings: Any, mpi_code: Any) -> Any:
    """What to run before the first task, in IPython's order."""
    out = [("code", mpi_code)] if mpi_code else []
    first = os.environ.get("PYTHONSTARTUP")
    if first and os.path.isfile(first):
        out.append(("file", first))
    folder = os.path.join(settings.profile_dir, "startup")
    if os.path.isdir(folder):
        names = sorted(n for n in os.listdir(folder) if n.endswith((".py", ".ipy")))
        out += [("file", os.path.join(folder, n)) for n in names]
    app = settings.ipython_config.get("IPKernelApp", {})
    out += [("code", line) for line in app.get("exec_lines", ())]
    if settings.startup_command:
        out.append(("code", settings.startup_command))
    out += [("file", f) for f in app.get("exec_files", ())]
    if settings.startup_script:
        out.append(("file", settings.startup_script))
    return out


def _registration_url(settings: Any) -> Any:
    if settings.registration_url:
        return settings.registration_url
    if settings.ip and settings.regport:
        return f"{settings.transport}://{settings.ip}:{settings.regport}"
    return None


def _loop_config(settings: Any, info: Any, rank: Any, log_file: Any) -> Any:
    """The JSON for run_engine."""
    import json

    if settings.curve_serverkey and not info.get("curve_serverkey"):
        info["curve_serverkey"] = settings.curve_serverkey
    info.setdefault("curve_serverkey", None)
    key = _signing_key(settings, info)
    config = {
        "connection": info,
        "key": key,
        "location": settings.location or None,
        "uuid": settings.values["Session.session"] or None,
        "username": settings.values["Session.username"] or _user(),
        "registration_url": _registration_url(settings),
        "curve_publickey": settings.curve_publickey
        or os.environ.get("IPP_CURVE_PUBLICKEY"),
        "curve_secretkey": settings.curve_secretkey
        or os.environ.get("IPP_CURVE_SECRETKEY"),
        "id": rank,
        "timeout_ms": int(settings.timeout * 1000),
        "max_misses": settings.max_heartbeat_misses,
        "grace_ms": int(settings.shutdown_grace * 1000),
        "capture": settings.capture_output,
        "output_limit": settings.output_limit,
        "log_level": settings.log_level,
        "log_file": log_file,
    }
    server = settings.sshserver or info.get("ssh") or ""
    if server or settings.sshkey:
        config["urls"] = _open_tunnels(settings, info, server)
    return json.dumps({k: v for k, v in config.items() if v is not None})


_CHANNELS = ["registration", "control", "mux", "task", "iopub", "hb_ping", "hb_pong"]


def _open_tunnels(settings: Any, info: Any, server: Any) -> Any:
    """Forward every channel through ssh; returns their local addresses."""
    import atexit

    from ..client.connection import controller_address
    from ..client.tunnel import Tunnel

    if settings.location:
        info = {**info, "location": settings.location}
    transport, host = controller_address(info)
    if transport != "tcp":
        raise Failure(f"cannot tunnel {info['interface']}: only tcp", EXIT_NO_FILE)
    broadcast = info.get("broadcast") or []
    if isinstance(broadcast, int):
        broadcast = [broadcast]
    ports = {name: info[name] for name in _CHANNELS if name in info}
    ports.update({f"broadcast{i}": port for i, port in enumerate(broadcast)})
    # With a key alone the controller's machine is the ssh server.
    tunnel = Tunnel(server or host, host, ports, settings.sshkey or None)
    atexit.register(tunnel.close)
    urls: dict[str, Any] = {
        name: tunnel.urls[name] for name in ports if name in _CHANNELS
    }
    urls["broadcast"] = [tunnel.urls[f"broadcast{i}"] for i in range(len(broadcast))]
    return urls


def _user() -> Any:
    for name in ("LOGNAME", "USER"):
        value = os.environ.get(name, "")
        if value and value.isascii() and value.isprintable():
            return value[:79]
    return "engine"


def _run(settings: Any) -> Any:
    log_file = _log_file(settings)
    log = Log(settings.log_level, log_file)
    for warning in settings.warnings:
        log(30, warning)
    if settings.work_dir:
        os.chdir(settings.work_dir)
    info = _read_connection(settings, log)
    mpi_code, rank = _mpi(settings)
    config = _loop_config(settings, info, rank, log_file)
    from .._core import run_engine
    from .hooks import Hooks

    if "matplotlib_inline" not in sys.modules and "MPLBACKEND" not in os.environ:
        from importlib.util import find_spec

        if find_spec("matplotlib_inline") is not None:
            os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    # A shell that starts us in the background may have switched it off, and
    # then nobody could interrupt what we run.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hooks = Hooks(_startup(settings, mpi_code), settings.ipython_config)
    return run_engine(config, hooks)


def main(argv: Sequence[str] | None = None) -> None:
    """The program ``ipengine``; exits with its code."""
    code = EXIT_USAGE
    try:
        code = _run(Settings(argv))
    except UsageError as e:
        _say(f"ipengine: {e}\n")
    except Failure as e:
        _say(f"ipengine: {e}\n")
        code = e.code
    except (ValueError, OSError) as e:
        _say(f"ipengine: {e}\n")
        code = EXIT_NOT_REGISTERED if isinstance(e, ValueError) else EXIT_NO_FILE
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
