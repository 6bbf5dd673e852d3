"""Finding the controller: connection files, profiles, addresses, tunnels."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from ..options import find_ipython_dir
from .display import get_shell

__all__ = ["find_connection", "needs_tunnel", "read_connection_file"]

_NO_CONTROLLER = (
    "There is no controller to connect to.\nStart a cluster (ipcluster start -n 4), "
    "or name the profile or the connection file of one that runs."
)
_REQUIRED = (
    "interface",
    "registration",
    "control",
    "mux",
    "task",
    "iopub",
    "notification",
    "task_scheme",
    "key",
    "pack",
    "unpack",
    "signature_scheme",
)
_POLL_S = 0.1
_WRITING_S = 2.0  # the time a controller may take to write its file

CHANNELS = (
    "registration",
    "notification",
    "control",
    "mux",
    "task",
    "broadcast",
    "iopub",
)


def _short(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path


def default_profile() -> str:
    """The profile of the IPython application we run in, or 'default'."""
    shell = get_shell()
    name = getattr(shell, "profile", "") if shell is not None else ""
    return name or "default"


def profile_folder(
    profile: str | None, profile_dir: str | None, ipython_dir: str | None
) -> str | None:
    """The folder of a profile, or None if it does not exist."""
    if profile_dir is None and profile is None:
        shell = get_shell()
        where = getattr(getattr(shell, "profile_dir", None), "location", None)
        profile_dir = where or os.environ.get("IPP_PROFILE_DIR") or None
    if profile_dir is not None:
        folder = os.path.abspath(os.path.expanduser(profile_dir))
    else:
        top = ipython_dir or getattr(get_shell(), "ipython_dir", "")
        folder = os.path.join(
            find_ipython_dir(top or ""), f"profile_{profile or default_profile()}"
        )
    return folder if os.path.isdir(folder) else None


def find_connection(
    connection_info: Any,
    profile: str | None,
    profile_dir: str | None,
    ipython_dir: str | None,
    cluster_id: str | None,
    timeout: float,
) -> dict[str, Any]:
    """The contents of the connection file a client should use.

    Parameters
    ----------
    connection_info : dict, path or None
        The contents, or the file; by default the profile's file, for which we
        wait up to timeout seconds.

    Raises
    ------
    OSError
        If there is no file.
    ValueError
        If a URL is given, or the file is not usable; the text says why.
    """
    if isinstance(connection_info, dict):
        info = dict(connection_info)
        _check(info, "the connection info")
        return info
    if connection_info is not None:
        path = os.fspath(connection_info)
        if "://" in path:
            raise ValueError(
                f"{path!r} is a URL; Client takes the path of a connection file"
            )
        if not os.path.exists(path):
            raise OSError(
                f"Connection file {_short(path)} does not exist; start a "
                "controller, or name its file"
            )
        return read_connection_file(path, min(timeout, _WRITING_S))
    folder = profile_folder(profile, profile_dir, ipython_dir)
    if folder is None:
        what = f"profile {profile or profile_dir or default_profile()!r}"
        raise OSError(f"There is no folder of {what}.\n{_NO_CONTROLLER}")
    name = f"-{cluster_id}" if cluster_id else ""
    path = os.path.join(folder, "security", f"ipcontroller{name}-client.json")
    return _wait_for_file(path, timeout)


def _wait_for_file(path: str, timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    if not os.path.exists(path):
        print(f"Waiting for connection file: {_short(path)}", file=sys.stderr)
    while not os.path.exists(path):
        left = deadline - time.monotonic()
        if left <= 0:
            raise OSError(
                f"Connection file {_short(path)!r} not found, after waiting "
                f"{timeout:g} seconds.\n{_NO_CONTROLLER}"
            )
        time.sleep(min(left, _POLL_S))
    return read_connection_file(path, _WRITING_S)


def read_connection_file(path: str, timeout: float = 0.0) -> dict[str, Any]:
    """The contents of a connection file.

    A file that is being written is read again, for up to timeout seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            with open(path, encoding="utf-8") as f:
                info = json.load(f)
            break
        except ValueError as e:
            if time.monotonic() >= deadline:
                raise ValueError(
                    f"Connection file {_short(path)} is not JSON: {e}"
                ) from None
            time.sleep(_POLL_S)
    if not isinstance(info, dict):
        raise ValueError(f"Connection file {_short(path)} does not hold an object")
    _check(info, f"Connection file {_short(path)}")
    return info


def _check(info: dict[str, Any], what: str) -> None:
    missing = [key for key in _REQUIRED if key not in info]
    if not missing:
        return
    hint = ""
    if "hb_ping" in info:
        hint = " It is an engine's file; clients use ipcontroller-client.json."
    raise ValueError(
        f"{what} has no {missing[0]!r}: it is not a client's connection file, or "
        f"one of a very old version.{hint} Remove it and start the controller anew."
    )


# Where the controller is, as seen from here (docs/protocol: section 1)


def is_local_ip(address: str) -> bool:
    """Whether an address is one of this machine's."""
    return address in ("127.0.0.1", "::1", "localhost") or _bindable(address)


def _is_here(location: str, is_local: Callable[[str], bool] = is_local_ip) -> bool:
    """Whether a location, a host name or an address, is this machine."""
    if location == socket.gethostname():
        return True
    try:
        found = {str(a[4][0]) for a in socket.getaddrinfo(location, None)}
    except OSError:
        return is_local(location)
    return any(is_local(a) for a in found)


def _bindable(address: str) -> bool:
    """Whether an address is one of this machine's interfaces."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.bind((address, 0))
    except OSError:
        return False
    return True


def controller_address(info: dict[str, Any]) -> tuple[str, str]:
    """(transport, host) to connect to from this machine."""
    transport, _, host = str(info["interface"]).partition("://")
    location = info.get("location") or ""
    if host in ("*", "0.0.0.0", "::", "[::]"):
        if not location or _is_here(location):
            return transport, "127.0.0.1"
        try:
            return transport, socket.gethostbyname(location)
        except OSError:
            return transport, location
    return transport, host


def needs_tunnel(
    info: dict[str, Any],
    sshserver: str | None,
    sshkey: str | None,
    password: Any,
    is_local: Callable[[str], bool] = is_local_ip,
) -> str | None:
    """The host to tunnel through, or None.

    Warns if the controller listens on another machine's loopback address and
    no server is known.
    """
    host = controller_address(info)[1]
    location = info.get("location") or ""
    if not sshserver:
        if location and host in ("127.0.0.1", "localhost", "::1"):
            if not _is_here(location, is_local):
                sshserver = info.get("ssh") or None
                if not sshserver and not (sshkey or password):
                    warnings.warn(
                        f"the controller is on {location}, and listens there for "
                        f"its own machine only: pass sshserver='you@{location}' "
                        "for a tunnel, or start it with --ip=*",
                        RuntimeWarning,
                        stacklevel=4,
                    )
        else:
            sshserver = info.get("ssh") or None
    if sshserver:
        return sshserver
    return host if sshkey or password else None


_SERVER = re.compile(r"^(?:[^@\s]+@)?[^@\s:]+(?::\d+)?$")


def split_server(server: str) -> tuple[str, str | None]:
    """(destination, port) of ``[user@]host[:port]``."""
    if not _SERVER.match(server):
        raise ValueError(f"not an ssh server: {server!r}; use [user@]host[:port]")
    host, _, port = server.partition(":")
    return host, port or None
