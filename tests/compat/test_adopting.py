"""docs/adopting.md, done as it says by a new user in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_mismatch import until
from test_swap import PEERS, Processes, command

GUIDE = Path(__file__).parents[2] / "docs/adopting.md"
CLIENT = """
import ipyparallel as ipp
rc = ipp.Client()
rc.wait_for_engines(2, timeout=60)
print(rc[:].apply_sync(lambda x: x + 1, 41))
print(rc.load_balanced_view().map_sync(abs, [-1, -2]))
where = "import sys; engine = [m for m in ('roundhouse', 'ipyparallel') if m in sys.modules][0]"
rc[:].execute(where, block=True)
print(rc[:].pull("engine", block=True))
"""


def steps() -> dict[str, str]:
    """The lines of the guide that set a command, by the part they move."""
    lines = re.findall(r"^c\.(\w+)\.\w+_cmd = .*$", GUIDE.read_text(), re.M)
    found = re.findall(r"^(c\.\w+\.\w+_cmd = .*)$", GUIDE.read_text(), re.M)
    return dict(zip(lines, found))


@pytest.mark.peer
@pytest.mark.skipif(
    not PEERS, reason="ROUNDHOUSE_PEER_PYTHON names no Python with ipyparallel"
)
@pytest.mark.parametrize(
    ("launchers", "engines"),
    [
        (["ControllerLauncher"], "ipyparallel"),
        (["ControllerLauncher", "EngineLauncher"], "roundhouse"),
    ],
    ids=["controller", "controller-and-engines"],
)
def test_a_site_moves(tmp_path, launchers, engines):
    ours = str(Path(sys.executable).parent)
    profile = tmp_path / "profile_default"
    profile.mkdir()
    config = ["c = get_config()"]
    config += [steps()[name].replace("/opt/roundhouse/bin", ours) for name in launchers]
    (profile / "ipcluster_config.py").write_text("\n".join(config))
    environ = {"IPYTHONDIR": str(tmp_path)}
    processes = Processes(tmp_path)
    try:
        cluster = processes.start(
            "ipcluster",
            [*command(PEERS[0], "real", "ipcluster"), "start", "-n", "2"],
            **environ,
        )
        until((profile / "security/ipcontroller-client.json").exists, processes)
        client = subprocess.run(
            [PEERS[0], "-c", CLIENT],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **environ},
        )
        assert client.stdout.splitlines() == [
            "[42, 42]",
            "[1, 2]",
            str([engines] * 2),
        ], client.stderr + processes.logs()
        started = children(cluster.pid)
        assert any(f"{ours}/ipcontroller" in line for line in started), started
        assert not any("ipyparallel.controller" in line for line in started)
    finally:
        processes.stop()
    # ipcluster has ended our controller, which removed its files.
    assert not list((profile / "security").glob("ipcontroller-*.json"))


def children(pid: int) -> list[str]:
    """Command lines of the processes that *pid* has started."""
    listing = subprocess.check_output(["ps", "-eo", "ppid=,args="], text=True)
    return [
        line.split(None, 1)[1]
        for line in listing.splitlines()
        if line.split()[0] == str(pid)
    ]
