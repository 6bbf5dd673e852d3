"""Clusters on a real Slurm and under a real mpiexec, where there are any.

Slurm is started for the tests, on ports and in folders of its own.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import roundhouse

SOURCE = str(Path(roundhouse.__file__).parent.parent)
LIMIT = 120

SLURM_CONF = """\
ClusterName=roundhouse
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={port1}
SlurmdPort={port2}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=bf_interval=1,batch_sched_delay=0,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=5
EnforcePartLimits=ALL
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=fast Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def wait_until(condition, what, timeout=LIMIT):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def output(*command, env=None):
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, timeout=LIMIT, check=False
    )
    return done.stdout


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a running Slurm of one node."""
    missing = [
        p for p in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(p)
    ]
    if missing or os.geteuid() != 0:
        pytest.skip(f"Slurm cannot be started here (missing: {missing or 'root'})")
    folder = tmp_path_factory.mktemp("slurm")
    for part in (folder, *folder.parents):
        if part.stat().st_uid == os.getuid() and part != Path("/"):
            part.chmod(part.stat().st_mode | 0o055)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    port1, port2 = free_ports(2)
    conf = folder / "slurm.conf"
    conf.write_text(
        SLURM_CONF.format(host=host, folder=folder, port1=port1, port2=port2)
    )
    env = {**os.environ, "SLURM_CONF": str(conf)}
    munge = [f"--{k}={folder}/munge.{v}" for k, v in MUNGE.items()]
    daemons = [
        subprocess.Popen(["munged", "--foreground", *munge], env=env),
    ]
    try:
        wait_until((folder / "munge.socket").exists, "munged")
        for program in ("slurmctld", "slurmd"):
            daemons.append(
                subprocess.Popen(
                    [program, "-c", "-D"],
                    env=env,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        wait_until(
            lambda: output("sinfo", "-h", "-o%T", env=env).strip() == "idle", "a node"
        )
        yield env
        output("scancel", "--user=root", env=env)
        wait_until(lambda: not output("squeue", "-h", env=env), "an empty queue")
    finally:
        for p in reversed(daemons):
            p.terminate()
        for p in reversed(daemons):
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


MUNGE = {
    "key-file": "key",
    "socket": "socket",
    "pid-file": "pid",
    "log-file": "log",
    "seed-file": "seed",
}


class Place:
    def __init__(self, folder, env):
        self.folder = folder
        self.env = {
            k: v for k, v in env.items() if not k.startswith(("IPP_", "IPYTHON"))
        }
        self.env["IPYTHONDIR"] = str(folder)
        self.env["PYTHONPATH"] = SOURCE + os.pathsep + self.env.get("PYTHONPATH", "")

    def run(self, *args, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "roundhouse.cluster", *args],
            capture_output=True,
            text=True,
            env=self.env,
            timeout=LIMIT,
        )
        assert done.returncode == code, done.stderr
        return done

    def python(self, code):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=self.env,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def files(self):
        return sorted(p.name for p in self.folder.glob("profile_*/security/*"))


ASK = """
import json, os, roundhouse as ipp
rc = ipp.Client()
rc.wait_for_engines({n}, timeout=60)
print(json.dumps([rc.ids, rc[:].apply_sync(os.getenv, {name!r})]))
"""


@pytest.fixture
def on_slurm(slurm, tmp_path):
    place = Place(tmp_path / "ipython", slurm)
    yield place
    subprocess.run(
        [sys.executable, "-m", "roundhouse.cluster", "stop", "--all"],
        env=place.env,
        capture_output=True,
    )


FAST = "--BatchSystemLauncher.poll_seconds=0.2"


def jobs(place):
    return output("squeue", "-h", "-o%j", env=place.env).split()


def test_engines_on_slurm(on_slurm):
    place = on_slurm
    place.run(
        "start", "-n", "3", "--engines=slurm", "--daemonize", FAST, "--cluster-id="
    )
    assert jobs(place) == ["ipengine-"]
    ids, ranks = place.python(ASK.format(n=3, name="SLURM_PROCID"))
    assert ids == [0, 1, 2]
    assert sorted(ranks) == ["0", "1", "2"]
    (cluster,) = json.loads(place.run("list", "-o", "json").stdout)
    assert cluster["engines"]["class"] == "slurm"
    place.run("start", code=10)
    place.run("stop", FAST)
    wait_until(lambda: not jobs(place), "an empty queue")
    assert place.files() == []
    place.run("stop", code=11)


def test_controller_on_slurm_too(on_slurm):
    place = on_slurm
    place.run(
        "start", "-n", "2", "--engines=slurm", "--controller=slurm", "--daemonize",
        "--ip=*", FAST,
    )  # fmt: skip
    assert sorted(jobs(place)) == ["ipcontroller-", "ipengine-"]
    ids, _ = place.python(ASK.format(n=2, name="HOME"))
    assert ids == [0, 1]
    place.run("stop", FAST)
    wait_until(lambda: not jobs(place), "an empty queue")
    assert place.files() == []


def test_a_job_that_slurm_refuses(on_slurm):
    place = on_slurm
    done = place.run(
        "start", "-n", "2", "--engines=slurm", "--SlurmLauncher.queue=none", code=1
    )
    assert "invalid partition" in done.stderr
    assert place.files() == []
    done = place.run("start", "-n", "999", "--engines=slurm", "--daemonize", code=1)
    assert "sbatch" in done.stderr
    assert jobs(place) == []


def test_engines_that_fail_on_slurm(on_slurm):
    place = on_slurm
    engine = [sys.executable, "-c", "raise SystemExit('broken engine')"]
    done = place.run(
        "start", "-n", "2", "--engines=slurm", FAST,
        f"--EngineLauncher.engine_cmd={engine!r}", code=1,
    )  # fmt: skip
    assert "broken engine" in done.stderr
    assert jobs(place) == []
    assert place.files() == []


# -- MPI -----------------------------------------------------------------------


@pytest.fixture
def with_mpi(tmp_path):
    if not shutil.which("mpiexec"):
        pytest.skip("there is no mpiexec")
    env = dict(os.environ)
    # Root may, and more ranks than processors may.
    env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    env.update(OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_mpi_yield_when_idle="1")
    env.update(OMPI_MCA_plm_rsh_agent="false")
    place = Place(tmp_path / "ipython", env)
    yield place
    subprocess.run(
        [sys.executable, "-m", "roundhouse.cluster", "stop", "--all"],
        env=place.env,
        capture_output=True,
    )


def python_with_mpi4py():
    """A Python that can import mpi4py and our C core, or skip."""
    for python in (sys.executable, shutil.which("python3", path="/usr/bin")):
        code = "import mpi4py, roundhouse._core"
        env = {**os.environ, "PYTHONPATH": SOURCE}
        if (
            python
            and subprocess.run(
                [python, "-c", code], env=env, capture_output=True
            ).returncode
            == 0
        ):
            return python
    pytest.skip("no Python here has mpi4py")


def test_engine_ids_are_ranks(with_mpi):
    place = with_mpi
    engine = [python_with_mpi4py(), "-m", "roundhouse.engine"]
    done = place.run(
        "start", "-n", "3", "--engines=mpi", "--daemonize",
        f"--EngineLauncher.engine_cmd={engine!r}",
    )  # fmt: skip
    assert "3 of 3 engines" in done.stderr
    ids, ranks = place.python(ASK.format(n=3, name="OMPI_COMM_WORLD_RANK"))
    assert ids == [0, 1, 2]
    assert ranks == ["0", "1", "2"]
    place.run("stop")
    assert place.files() == []


def test_mpiexec_that_fails(with_mpi):
    place = with_mpi
    done = place.run(
        "start", "-n", "1", "--engines=mpi", "--MPILauncher.mpi_args=--nonsense", code=1
    )
    assert "nonsense" in done.stderr
    assert place.files() == []
    done = place.run(
        "start", "--engines=mpi", "--MPILauncher.mpi_cmd=/no/mpiexec", code=1
    )
    assert "cannot start /no/mpiexec" in done.stderr
    assert place.files() == []


def test_controller_under_mpiexec(with_mpi):
    place = with_mpi
    done = place.run("start", "-n", "1", "--controller=mpi", "--daemonize")
    assert "1 of 1 engines" in done.stderr
    place.run("stop")
    assert place.files() == []
