"""SSH tunnels to a controller: one ssh process that forwards all ports."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from .connection import split_server

__all__ = ["Tunnel"]

_POLL_S = 0.05


class Tunnel:
    """Forwards local ports to ports of a remote machine while it is open.

    Parameters
    ----------
    server : str
        ``[user@]host[:port]`` to ssh to.
    host : str
        Where the ports are, as seen from the server.
    ports : mapping of name to int
    keyfile : str, optional
        Private key for ssh.
    password : str, optional
        Given to ssh when it asks; without one ssh asks on the terminal.
    timeout : float
        Seconds to wait for the forwards to work.

    Attributes
    ----------
    urls : dict of name to str
        The local ends.
    """

    def __init__(
        self,
        server: str,
        host: str,
        ports: Mapping[str, int],
        keyfile: str | None = None,
        password: Any = None,
        timeout: float = 60.0,
    ) -> None:
        if shutil.which("ssh") is None:
            raise OSError(f"cannot tunnel through {server}: there is no ssh command")
        local = _free_ports(len(ports))
        self.server = server
        self.urls = {n: f"tcp://127.0.0.1:{p}" for n, p in zip(ports, local)}
        destination, port = split_server(server)
        argv = ["ssh", "-N", "-o", "ExitOnForwardFailure=yes"]
        argv += ["-o", "ServerAliveInterval=30"]
        for to, frm in zip(ports.values(), local):
            argv += ["-L", f"127.0.0.1:{frm}:{host}:{to}"]
        if port:
            argv += ["-p", port]
        if keyfile:
            argv += ["-i", os.path.expanduser(keyfile)]
        self._askpass: str | None = None
        env = self._environment(password)
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            [*argv, destination], stdin=subprocess.DEVNULL, env=env
        )
        try:
            self._wait(local, timeout)
        except BaseException:
            self.close()
            raise

    def _environment(self, password: Any) -> dict[str, str]:
        env = dict(os.environ)
        if not password:
            return env
        fd, path = tempfile.mkstemp(prefix="roundhouse-askpass-")
        with os.fdopen(fd, "w") as f:
            f.write('#!/bin/sh\nprintf "%s\\n" "$ROUNDHOUSE_SSH_PASSWORD"\n')
        os.chmod(path, stat.S_IRWXU)
        self._askpass = path
        env["ROUNDHOUSE_SSH_PASSWORD"] = str(password)
        env["SSH_ASKPASS"] = path
        env["SSH_ASKPASS_REQUIRE"] = "force"
        env.setdefault("DISPLAY", ":0")
        return env

    def _wait(self, ports: list[int], timeout: float) -> None:
        """Wait until ssh listens on every local port."""
        deadline = time.monotonic() + timeout
        left = list(ports)
        while left:
            rc = self._process.poll() if self._process else 255
            if rc is not None:
                raise OSError(
                    f"the ssh tunnel to {self.server} could not be opened: ssh "
                    f"ended with {rc}; try `ssh {self.server} true`"
                )
            left = [p for p in left if not _listens(p)]
            if left and time.monotonic() > deadline:
                raise TimeoutError(
                    f"the ssh tunnel to {self.server} was not open after "
                    f"{timeout:g} seconds"
                )
            if left:
                time.sleep(_POLL_S)
        self._forget_password()

    def _forget_password(self) -> None:
        if self._askpass is not None:
            try:
                os.unlink(self._askpass)
            except OSError:
                pass
            self._askpass = None

    def close(self) -> None:
        """End the ssh process; may be called twice."""
        self._forget_password()
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(n: int) -> list[int]:
    """n ports of this machine that are free now."""
    socks = [socket.socket() for _ in range(n)]
    try:
        for s in socks:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in socks]
    finally:
        for s in socks:
            s.close()


def _listens(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0
