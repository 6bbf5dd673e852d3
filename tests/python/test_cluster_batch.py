"""Batch launchers: scripts, queues read, and a job's life on a made-up queue."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from roundhouse.cluster import Cluster
from roundhouse.cluster.launcher import (
    LauncherError,
    NotRunning,
    UnknownStatus,
    find_launcher_class,
)
from roundhouse.cluster.launcher.batch import Job, render
from traitlets.config import Config

FAMILIES = ["pbs", "sge", "slurm", "lsf", "htcondor"]

# A queue in one file per job: "submit SCRIPT", "delete ID", "signal SIG ID",
# "status ID".  Jobs are real processes.
QUEUE = """
import os, signal, subprocess, sys
folder = os.environ["FAKE_QUEUE"]
verb, *args = sys.argv[1:]
def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
if os.path.exists(os.path.join(folder, "down")):
    sys.exit("the queue is down")
if verb == "submit":
    out = open(os.path.join(folder, "output"), "w")
    p = subprocess.Popen([args[0]], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                         start_new_session=True)
    print(f"your job is {p.pid}.")
    sys.exit(0)
pid = int(args[-1])
if verb == "delete":
    if not running(pid):
        sys.exit("no such job")
    os.killpg(pid, signal.SIGTERM)
elif verb == "signal":
    os.killpg(pid, int(args[0]))
elif verb == "status":
    if os.path.exists(os.path.join(folder, "hold")):
        print(pid, "me", "PEND")
    elif running(pid):
        print(pid, "me", "RUN")
    else:
        sys.exit("Job is not found")
"""


def wait_until(condition, what, timeout=30):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def ipython_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID", "IPP_CONNECTION_INFO"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "ipython"


def make(family, kind="engine", **traits):
    traits.setdefault("profile_dir", "/profile")
    traits.setdefault("cluster_id", "c")
    traits.setdefault("output_file", "/logs/out")
    if kind == "engine":
        traits.setdefault("engine_cmd", ["python", "-m", "an engine"])
    else:
        traits.setdefault("controller_cmd", ["controller"])
    return find_launcher_class(family, kind)(**traits)


# -- templates -----------------------------------------------------------------


def test_fields_are_expressions():
    assert render("{n} {n//4} {len(name):03d} {{x}}", {"n": 9, "name": "ab"}) == (
        "9 2 002 {x}"
    )


def test_a_bad_template_says_what_there_is():
    with pytest.raises(LauncherError, match=r"NameError.*nodes.*there are n, queue"):
        render("{nodes}", {"n": 1, "queue": ""})
    with pytest.raises(LauncherError, match="ZeroDivisionError"):
        render("{n/0}", {"n": 1})


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "htcondor"])
@pytest.mark.parametrize("kind", ["engine", "controller"])
def test_default_scripts_are_shell_scripts(family, kind, tmp_path):
    launcher = make(family, kind, environment={"KEY": 'it\'s "quoted" $HOME'})
    launcher.n = 4
    text = launcher.script()
    assert text.startswith("#!/bin/sh\n#")
    path = tmp_path / "script"
    # The last line runs the program: show its environment and words instead.
    lines = text.splitlines()
    assert lines[-1].startswith("exec ")
    words = lines[-1].replace("exec srun ", "exec ").replace("exec ", "set -- ", 1)
    path.write_text("\n".join([*lines[:-1], words, 'printf "%s\\n" "$KEY" "$#" "$@"']))
    out = subprocess.run(["sh", str(path)], capture_output=True, text=True).stdout
    expected = ["python", "-m", "an engine"] if kind == "engine" else ["controller"]
    assert out.splitlines() == [
        'it\'s "quoted" $HOME',
        str(len(expected)),
        *expected,
    ]


@pytest.mark.parametrize(
    "family, lines",
    [
        ("pbs", ["#PBS -q fast", "#PBS -t 1-4", "#PBS -j oe", "#PBS -o /logs/out"]),
        ("sge", ["#$ -q fast", "#$ -t 1-4", "#$ -j y", "#$ -o /logs/out.$TASK_ID"]),
        (
            "slurm",
            [
                "#SBATCH --partition=fast",
                "#SBATCH --ntasks=4",
                "#SBATCH --output=/logs/out",
            ],
        ),
        (
            "lsf",
            ["#BSUB -q fast", "#BSUB -J ipengine-c[1-4]", "#BSUB -o /logs/out.%I"],
        ),
        ("htcondor", ["queue 4", "output = /logs/out.$(Process)"]),
    ],
)
def test_directives(family, lines):
    launcher = make(family, queue="fast")
    launcher.n = 4
    script = launcher.script().splitlines()
    for line in lines:
        assert line in script
    other = "PBS" if family != "pbs" else "SBATCH"
    assert f"#{other}" not in launcher.script()
    without = make(family)
    assert "fast" not in without.script()
    controller = make(family, "controller", queue="fast").script()
    assert "1-1" not in controller
    assert "ntasks=4" not in controller


def test_slurm_settings():
    launcher = make(
        "slurm", account="acc", qos="high", timelimit=30, options="--exclusive -w n1"
    )
    script = launcher.script().splitlines()
    assert "#SBATCH --account=acc" in script
    assert "#SBATCH --qos=high" in script
    assert "#SBATCH --time=30" in script
    assert "#SBATCH --exclusive -w n1" in script


def test_condor_quoting():
    launcher = make(
        "htcondor",
        engine_cmd=["/usr/bin/python", "-m", "x"],
        engine_args=["two words", "it's", 'say "hi"'],
        environment={"K": '{"a": "b c"}'},
    )
    lines = dict(line.partition(" = ")[::2] for line in launcher.script().splitlines())
    assert lines["executable"] == "/usr/bin/python"
    assert lines["arguments"] == "\"-m x 'two words' 'it''s' 'say \"\"hi\"\"'\""
    assert 'K=\'{""a"": ""b c""}\'' in lines["environment"]


def test_own_templates_are_left_alone(tmp_path):
    path = tmp_path / "template"
    path.write_text(
        "#!/bin/sh\n# {n} {colour} {environment_json}\n{program_and_args}\n"
    )
    launcher = make(
        "pbs",
        queue="fast",
        batch_template_file=str(path),
        namespace={"colour": "green", "n": 8},
    )
    text = launcher.script()
    assert text.startswith("#!/bin/sh\n# 8 green {")
    assert "#PBS" not in text
    env = json.loads(text.splitlines()[1].partition("green ")[2])
    assert env["IPP_CLUSTER_ID"] == "c"
    launcher.batch_template = "only {n}"
    assert launcher.script() == "only 8"
    with pytest.raises(LauncherError, match="no-such-file"):
        make("pbs", batch_template_file="/no-such-file").script()


def test_the_script_is_private(tmp_path):
    launcher = make("pbs", profile_dir=str(tmp_path))
    (tmp_path / "pbs_engines").write_text("old")
    launcher.write_batch_script()
    path = tmp_path / "pbs_engines"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert path.read_text() == launcher.script()


# -- what queues say -----------------------------------------------------------


@pytest.mark.parametrize(
    "family, output, job_id",
    [
        ("pbs", "123.server.site\n", "123"),
        ("pbs", "124[].server.site\n", "124[]"),
        ("sge", 'Your job-array 5.1-4:1 ("ipengine") has been submitted\n', "5"),
        ("slurm", "Submitted batch job 77\n", "77"),
        ("lsf", "Job <8> is submitted to default queue <normal>.\n", "8"),
        ("htcondor", "Submitting job(s)....\n4 job(s) submitted to cluster 9.\n", "9"),
    ],
)
def test_job_ids(family, output, job_id):
    launcher = make(family)
    assert launcher.parse_job_id(output) == job_id
    with pytest.raises(LauncherError, match="no job id"):
        launcher.parse_job_id("please log in")


PBS_HEAD = "Job id  Name  Username  Time Use S Queue\n------ ---- ---- ---- - ----\n"
SLURM = "JobId=7 JobName=x JobState={} Reason=None Requeue=1 ExitCode={} Restarts=0\n"


@pytest.mark.parametrize(
    "family, code, output, state, exit_code",
    [
        ("pbs", 0, PBS_HEAD + "7.s ipengine me 0 Q fast\n", "pending", None),
        ("pbs", 0, PBS_HEAD + "7.s ipengine me 00:01:00 R fast\n", "running", None),
        ("pbs", 0, PBS_HEAD + "7[].s ipengine me 0 B fast\n", "running", None),
        ("pbs", 0, PBS_HEAD + "7.s ipengine me 0 C fast\n", "ended", None),
        ("pbs", 153, "qstat: Unknown Job Id 7.s\n", "ended", None),
        ("pbs", 35, "qstat: 7.s Job has finished, use -x\n", "ended", None),
        ("pbs", 1, "qstat: cannot connect to server\n", "unknown", None),
        ("pbs", 0, "strange\n", "unknown", None),
        ("sge", 0, "", "ended", None),
        ("sge", 0, "h\n-\n 7 0.5 ipengine me qw 01/01 12:00 1\n", "pending", None),
        ("sge", 0, " 7 0.5 ipengine me hqw 01/01 12:00 1\n", "pending", None),
        ("sge", 0, " 7 0.5 ipengine me Eqw 01/01 12:00 1\n", "pending", None),
        ("sge", 0, " 7 0.5 ipengine me r 01/01 12:00 q@h 1 2\n", "running", None),
        ("sge", 0, " 7 0.5 ipengine me dr 01/01 12:00 q@h 1 2\n", "running", None),
        ("sge", 0, " 77 0.5 ipengine me r 01/01 12:00 q@h 1 2\n", "ended", None),
        ("sge", 1, "error: unable to contact qmaster\n", "unknown", None),
        ("slurm", 0, SLURM.format("PENDING", "0:0"), "pending", None),
        ("slurm", 0, SLURM.format("RUNNING", "0:0"), "running", None),
        ("slurm", 0, SLURM.format("COMPLETING", "0:0"), "running", None),
        ("slurm", 0, SLURM.format("COMPLETED", "0:0"), "ended", 0),
        ("slurm", 0, SLURM.format("FAILED", "3:0"), "ended", 3),
        ("slurm", 0, SLURM.format("CANCELLED", "0:15"), "ended", -15),
        ("slurm", 0, SLURM.format("NODE_FAIL", "1:0"), "ended", 1),
        (
            "slurm",
            0,
            SLURM.format("COMPLETED", "0:0") + SLURM.format("RUNNING", "0:0"),
            "running",
            None,
        ),
        (
            "slurm",
            1,
            "slurm_load_jobs error: Invalid job id specified\n",
            "ended",
            None,
        ),
        ("slurm", 1, "Unable to contact slurm controller\n", "unknown", None),
        ("lsf", 0, "JOBID USER STAT QUEUE\n7 me PEND normal\n", "pending", None),
        ("lsf", 0, "JOBID USER STAT QUEUE\n7 me RUN normal\n", "running", None),
        ("lsf", 0, "JOBID USER STAT QUEUE\n7 me SSUSP normal\n", "running", None),
        ("lsf", 0, "7 me DONE normal\n7 me EXIT normal\n", "ended", 1),
        ("lsf", 0, "7 me DONE normal\n", "ended", 0),
        ("lsf", 255, "Job <7> is not found\n", "ended", None),
        ("lsf", 255, "LSF is down. Please wait ...\n", "unknown", None),
        ("htcondor", 0, "", "ended", None),
        ("htcondor", 0, "1\n1\n", "pending", None),
        ("htcondor", 0, "1\n2\n", "running", None),
        ("htcondor", 0, "4\n3\n", "ended", None),
        ("htcondor", 1, "Can't find address of schedd\n", "unknown", None),
    ],
)
def test_reading_queues(family, code, output, state, exit_code):
    launcher = make(family, job_id="7")
    job = launcher.read_status(code, output)
    assert (job.state, job.exit_code) == (state, exit_code)


def test_commands_that_do_not_exist():
    launcher = make("slurm", job_id="7", status_command=["/no/such/command"])
    assert launcher.query().state == Job.UNKNOWN
    with pytest.raises(LauncherError, match="/no/such/command"):
        launcher.run_command(["/no/such/command"])
    with pytest.raises(LauncherError, match=r"exit code 3: why"):
        launcher.run_command(["sh", "-c", "echo why >&2; exit 3"])


# -- a job's life --------------------------------------------------------------


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """The folder of the made-up queue, configured for the LSF launcher."""
    folder = tmp_path / "queue"
    folder.mkdir()
    (folder / "queue.py").write_text(QUEUE)
    monkeypatch.setenv("FAKE_QUEUE", str(folder))
    return folder


@pytest.fixture
def new(queue):
    made = []

    def make_cluster(**traits):
        command = [sys.executable, "-S", "-E", str(queue / "queue.py")]
        config = Config()
        family = config.BatchSystemLauncher
        family.submit_command = [*command, "submit"]
        family.delete_command = [*command, "delete"]
        family.signal_command = [*command, "signal"]
        family.status_command = [*command, "status"]
        family.poll_seconds = 0.05
        family.stop_timeout = 20
        config.LSFLauncher.job_id_regexp = r"job is (\d+)"
        config.LSFLauncher.job_id_regexp_group = 1
        code = traits.pop(
            "engine", "import time; print('ready', flush=True); time.sleep(600)"
        )
        config.EngineLauncher.engine_cmd = [sys.executable, "-S", "-c", code]
        cluster = Cluster(engines=QueueEngines, config=config, n=1, **traits)
        made.append(cluster)
        return cluster

    yield make_cluster
    for cluster in made:
        cluster.kill_cluster()
        for es in cluster.engines.values():
            wait_until(lambda es=es: es.state == "after", "killed")


class QueueEngines(find_launcher_class("lsf", "engine")):
    """LSF's reading of the queue, without its way to submit."""

    submit = find_launcher_class("pbs", "engine").submit


def test_life_of_a_job(new, queue):
    cluster = new()
    set_id = cluster.start_engines_sync()
    launcher = cluster.engine_set
    assert launcher.running
    assert not launcher.starts_at_once
    wait_until(lambda: "ready" in (queue / "output").read_text(), "the engine")
    wait_until(lambda: launcher._seen == Job.RUNNING, "running")
    cluster.stop_engines_sync(set_id)
    assert launcher.state == "after"
    assert not cluster._is_running()


def test_a_queued_job_is_not_running_yet(new, queue):
    (queue / "hold").touch()
    cluster = new()
    cluster.start_engines_sync()
    launcher = cluster.engine_set
    assert launcher.is_queued()
    assert launcher._seen == Job.PENDING
    (queue / "hold").unlink()
    wait_until(lambda: launcher._seen == Job.RUNNING, "running")


def test_signals(new, queue):
    code = (
        "import signal, time; signal.signal(signal.SIGUSR1, lambda *a: print('USR1', flush=True));"
        "print('ready', flush=True)\nwhile True: time.sleep(600)"
    )
    cluster = new(engine=code)
    cluster.start_engines_sync()
    wait_until(lambda: "ready" in (queue / "output").read_text(), "the engine")
    cluster.signal_engines_sync(signal.SIGUSR1)
    wait_until(lambda: "USR1" in (queue / "output").read_text(), "the signal")
    launcher = make("sge")
    launcher.state = "running"
    import asyncio

    with pytest.raises(LauncherError, match="no command that signals"):
        asyncio.run(launcher.signal(signal.SIGUSR1))


def test_the_end_of_a_job_is_noticed(new):
    cluster = new(engine="print('over')")
    cluster.start_engines_sync()
    wait_until(lambda: cluster.engine_set.state == "after", "the end")
    assert not os.path.exists(cluster.cluster_file)


def test_a_queue_that_does_not_answer_is_no_end(new, queue):
    cluster = new()
    cluster.start_engines_sync()
    wait_until(lambda: cluster.engine_set._seen == Job.RUNNING, "running")
    (queue / "down").touch()
    assert cluster.engine_set.query().state == Job.UNKNOWN
    time.sleep(0.2)  # some more looks
    assert cluster.engine_set.running
    with pytest.raises(LauncherError, match="the queue is down"):
        cluster.stop_engines_sync()
    with pytest.raises(UnknownStatus, match="the queue is down"):
        QueueEngines.from_dict(
            cluster.engine_set.to_dict(), config=cluster.config, parent=cluster
        )
    (queue / "down").unlink()
    cluster.stop_engines_sync()
    assert cluster.engines == {}


def test_another_process_takes_a_job_up(new, queue):
    cluster = new()
    cluster.start_engines_sync()
    d = cluster.to_dict()
    other = Cluster.from_dict(d, config=cluster.config, cluster_file="")
    assert other.engine_set.job_id == cluster.engine_set.job_id
    other.stop_cluster_sync()
    wait_until(lambda: not cluster._is_running(), "noticed")
    with pytest.raises(NotRunning):
        QueueEngines.from_dict(
            next(iter(d["engines"]["sets"].values())),
            config=cluster.config,
            parent=cluster,
        )


def test_a_refused_job(new, queue, ipython_dir):
    cluster = new()
    (queue / "down").touch()
    with pytest.raises(LauncherError, match="the queue is down"):
        cluster.start_engines_sync()
    assert cluster.engines == {}
    assert not Path(cluster.cluster_file).exists()


def test_warning_about_localhost(new, caplog):
    launcher = make("slurm")
    launcher.environment = {"IPP_CONNECTION_INFO": '{"interface": "tcp://127.0.0.1"}'}
    launcher.warn_if_local_only()
    assert "--ip='*'" in caplog.text
    caplog.clear()
    launcher.environment = {"IPP_CONNECTION_INFO": '{"interface": "tcp://*"}'}
    launcher.warn_if_local_only()
    make("slurm").warn_if_local_only()
    assert caplog.text == ""
