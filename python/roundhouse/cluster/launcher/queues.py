"""The batch systems: PBS, Grid Engine, Slurm, LSF and HTCondor.

Each family is a class with its commands, its directives and how to read its
queue, and two templates.  A site that differs sets traits, or a template of its
own; nothing here has to be subclassed for that.
"""

from __future__ import annotations

import re
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import CRegExp, Integer, List, Unicode

from .base import LauncherError
from .batch import (
    BatchControllerLauncher,
    BatchEngineSetLauncher,
    BatchSystemLauncher,
    Job,
)

__all__ = [
    "HTCondorControllerLauncher",
    "HTCondorEngineSetLauncher",
    "HTCondorLauncher",
    "LSFControllerLauncher",
    "LSFEngineSetLauncher",
    "LSFLauncher",
    "PBSControllerLauncher",
    "PBSEngineSetLauncher",
    "PBSLauncher",
    "SGEControllerLauncher",
    "SGEEngineSetLauncher",
    "SGELauncher",
    "SlurmControllerLauncher",
    "SlurmEngineSetLauncher",
    "SlurmLauncher",
]


def _command(words: str, help: str) -> Any:
    return List(Unicode(), default_value=words.split(), help=help, config=True)


def _summary(states: list[str], exit_code: int | None = None) -> Job:
    """The state of a job whose tasks are in these states."""
    for state in (Job.RUNNING, Job.PENDING):
        if state in states:
            return Job(state)
    return Job(Job.ENDED, exit_code)


def _one_of(letters: str, state: str) -> bool:
    return state[:1] in letters and bool(state)


# -- PBS: Torque and OpenPBS ---------------------------------------------------


class PBSLauncher(BatchSystemLauncher):
    """Torque, OpenPBS and what looks like them."""

    submit_command = _command("qsub", "Command that submits a script.")
    delete_command = _command("qdel", "Command that deletes a job.")
    signal_command = _command("qsig -s", "Command that signals a job.")
    status_command = _command("qstat", "Command that tells the state of a job.")
    # The id of an array ends with [].
    job_id_regexp = CRegExp(
        r"\d+(?:\[\])?", help="Finds the job id in the output of qsub.", config=True
    )
    job_array_regexp = r"#PBS\s+-[tJ]\s"
    queue_regexp = r"#PBS\s+-q\s"
    queue_template = "#PBS -q {queue}"
    output_regexp = r"#PBS\s+-o\s"
    output_template = "#PBS -j oe\n#PBS -o {output_file}"

    def read_status(self, code: int, output: str) -> Job:
        if code != 0:
            gone = re.search(
                r"unknown job|job has finished|invalid job id", output, re.I
            )
            return Job(Job.ENDED if gone else Job.UNKNOWN, text=output)
        states = []
        for line in output.splitlines():
            words = line.split()
            # Job id, name, user, time used, state, queue
            if len(words) >= 6 and re.match(r"\d+", words[0]) and len(words[-2]) == 1:
                states.append(self._state(words[-2]))
        return _summary(states) if states else Job(Job.UNKNOWN, text=output)

    @staticmethod
    def _state(letter: str) -> str:
        if _one_of("CFX", letter):
            return Job.ENDED
        return Job.PENDING if _one_of("QHWT", letter) else Job.RUNNING


class PBSControllerLauncher(PBSLauncher, BatchControllerLauncher):
    """A controller as a PBS job."""

    batch_file_name = Unicode("pbs_controller", help="Name of the script.", config=True)
    default_template = """\
#!/bin/sh
#PBS -V
#PBS -N ipcontroller
{environment_exports}
exec {program_and_args}
"""


class PBSEngineSetLauncher(PBSLauncher, BatchEngineSetLauncher):
    """Engines as an array of PBS jobs."""

    batch_file_name = Unicode("pbs_engines", help="Name of the script.", config=True)
    job_array_template = "#PBS -t 1-{n}"
    default_template = """\
#!/bin/sh
#PBS -V
#PBS -N ipengine
{environment_exports}
exec {program_and_args}
"""


# -- Grid Engine ---------------------------------------------------------------


class SGELauncher(BatchSystemLauncher):
    """Sun, Univa, Son of Grid Engine."""

    submit_command = _command("qsub", "Command that submits a script.")
    delete_command = _command("qdel", "Command that deletes a job.")
    status_command = _command("qstat", "Command that tells the state of a job.")
    job_array_regexp = r"#\$\s+-t\s"
    queue_regexp = r"#\$\s+-q\s"
    queue_template = "#$ -q {queue}"
    output_regexp = r"#\$\s+-o\s"
    output_template = "#$ -j y\n#$ -o {output_file}"

    def query(self) -> Job:
        # Without an id: qstat lists all jobs of the user.
        try:
            done = self.try_command(list(self.status_command))
        except LauncherError as e:
            return Job(Job.UNKNOWN, text=str(e))
        return self.read_status(done.returncode, done.stdout)

    def read_status(self, code: int, output: str) -> Job:
        if code != 0:
            return Job(Job.UNKNOWN, text=output)
        states = []
        for line in output.splitlines():
            words = line.split()
            # job-ID, prior, name, user, state
            if len(words) >= 5 and words[0] == self.job_id:
                waits = re.fullmatch(r"[hREd]*q?w?", words[4])
                states.append(Job.PENDING if waits else Job.RUNNING)
        return _summary(states)


class SGEControllerLauncher(SGELauncher, BatchControllerLauncher):
    """A controller as a Grid Engine job."""

    batch_file_name = Unicode("sge_controller", help="Name of the script.", config=True)
    default_template = """\
#!/bin/sh
#$ -V
#$ -S /bin/sh
#$ -N ipcontroller
{environment_exports}
exec {program_and_args}
"""


class SGEEngineSetLauncher(SGELauncher, BatchEngineSetLauncher):
    """Engines as an array of Grid Engine jobs."""

    batch_file_name = Unicode("sge_engines", help="Name of the script.", config=True)
    job_array_template = "#$ -t 1-{n}"
    # Every task has a file of its own, or they overwrite each other's output.
    output_template = "#$ -j y\n#$ -o {output_file}.$TASK_ID"
    default_template = """\
#!/bin/sh
#$ -V
#$ -S /bin/sh
#$ -N ipengine
{environment_exports}
exec {program_and_args}
"""


# -- Slurm ---------------------------------------------------------------------


class SlurmLauncher(BatchSystemLauncher):
    """Slurm."""

    submit_command = _command("sbatch", "Command that submits a script.")
    delete_command = _command("scancel", "Command that deletes a job.")
    signal_command = _command("scancel -s", "Command that signals a job.")
    status_command = _command(
        "scontrol -o show job", "Command that tells the state of a job."
    )
    account = Unicode("", help="Account to charge.", config=True).tag(to_dict=True)
    qos = Unicode("", help="Quality of service.", config=True).tag(to_dict=True)
    timelimit = AnyTrait(
        "", help="Time limit, as sbatch --time takes it.", config=True
    ).tag(to_dict=True)
    options = Unicode(
        "", help="More options of sbatch, as on its command line.", config=True
    ).tag(to_dict=True)
    job_array_regexp = r"#SBATCH\s+(?:--ntasks|-n)\b"
    queue_regexp = r"#SBATCH\s+(?:--partition|-p)\b"
    queue_template = "#SBATCH --partition={queue}"
    output_regexp = r"#SBATCH\s+(?:--output|-o)\b"
    output_template = "#SBATCH --output={output_file}"

    def template_namespace(self) -> dict[str, Any]:
        names = ("account", "qos", "timelimit", "options")
        return {**{n: getattr(self, n) for n in names}, **super().template_namespace()}

    def directives(self) -> list[str]:
        return super().directives() + [
            "#SBATCH --account={account}" if self.account else "",
            "#SBATCH --qos={qos}" if self.qos else "",
            "#SBATCH --time={timelimit}" if self.timelimit else "",
            "#SBATCH {options}" if self.options else "",
        ]

    def read_status(self, code: int, output: str) -> Job:
        if code != 0:
            gone = "Invalid job id" in output
            return Job(Job.ENDED if gone else Job.UNKNOWN, text=output)
        states, codes = [], []
        for state, exit_code, signum in re.findall(
            r"JobState=(\w+).*?ExitCode=(\d+):(\d+)", output
        ):
            states.append(self._state(state))
            codes.append(-int(signum) if int(signum) else int(exit_code))
        if not states:
            return Job(Job.UNKNOWN, text=output)
        return _summary(states, next((c for c in codes if c), 0))

    @staticmethod
    def _state(state: str) -> str:
        if state in (
            "PENDING",
            "CONFIGURING",
            "REQUEUED",
            "REQUEUE_HOLD",
            "RESV_DEL_HOLD",
        ):
            return Job.PENDING
        running = (
            "RUNNING",
            "COMPLETING",
            "SUSPENDED",
            "STOPPED",
            "STAGE_OUT",
            "SIGNALING",
        )
        return Job.RUNNING if state in running else Job.ENDED


class SlurmControllerLauncher(SlurmLauncher, BatchControllerLauncher):
    """A controller as a Slurm job."""

    batch_file_name = Unicode(
        "slurm_controller.sbatch", help="Name of the script.", config=True
    )
    default_template = """\
#!/bin/sh
#SBATCH --export=ALL
#SBATCH --job-name=ipcontroller-{cluster_id}
#SBATCH --ntasks=1
{environment_exports}
exec {program_and_args}
"""


class SlurmEngineSetLauncher(SlurmLauncher, BatchEngineSetLauncher):
    """Engines as the tasks of one Slurm job."""

    batch_file_name = Unicode(
        "slurm_engine.sbatch", help="Name of the script.", config=True
    )
    job_array_template = "#SBATCH --ntasks={n}"
    default_template = """\
#!/bin/sh
#SBATCH --export=ALL
#SBATCH --job-name=ipengine-{cluster_id}
{environment_exports}
exec srun {program_and_args}
"""


# -- LSF -----------------------------------------------------------------------


class LSFLauncher(BatchSystemLauncher):
    """LSF."""

    submit_command = _command("bsub", "Command that submits a script.")
    delete_command = _command("bkill", "Command that deletes a job.")
    signal_command = _command("bkill -s", "Command that signals a job.")
    status_command = _command("bjobs", "Command that tells the state of a job.")
    job_array_regexp = r"#BSUB\s+-J\s+\S+\[\d+-\d+\]"
    queue_regexp = r"#BSUB\s+-q\s"
    queue_template = "#BSUB -q {queue}"
    output_regexp = r"#BSUB\s+-oo?\s"
    output_template = "#BSUB -o {output_file}"

    def get_env(self) -> dict[str, str]:
        # Write to the output file directly, not at the end of the job.
        return {"LSB_STDOUT_DIRECT": "Y", **super().get_env()}

    def submit(self) -> str:
        # bsub reads directives only from a script on its standard input.
        with open(self.batch_file, encoding="utf-8") as f:
            return self.run_command(list(self.submit_command), stdin=f.read())

    def read_status(self, code: int, output: str) -> Job:
        if re.search(r"is not found|No matching job", output):
            return Job(Job.ENDED)
        if code != 0:
            return Job(Job.UNKNOWN, text=output)
        known = {"PEND": Job.PENDING, "PSUSP": Job.PENDING, "WAIT": Job.PENDING}
        known.update(dict.fromkeys(("DONE", "EXIT", "ZOMBI"), Job.ENDED))
        states, bad = [], False
        for line in output.splitlines():
            words = line.split()
            if len(words) >= 3 and words[0] == self.job_id:
                states.append(known.get(words[2], Job.RUNNING))
                bad |= words[2] == "EXIT"
        return _summary(states, (1 if bad else 0) if states else None)


class LSFControllerLauncher(LSFLauncher, BatchControllerLauncher):
    """A controller as an LSF job."""

    batch_file_name = Unicode("lsf_controller", help="Name of the script.", config=True)
    default_template = """\
#!/bin/sh
#BSUB -env all
#BSUB -J ipcontroller-{cluster_id}
{environment_exports}
exec {program_and_args}
"""


class LSFEngineSetLauncher(LSFLauncher, BatchEngineSetLauncher):
    """Engines as an array of LSF jobs."""

    batch_file_name = Unicode("lsf_engines", help="Name of the script.", config=True)
    job_array_template = "#BSUB -J ipengine-{cluster_id}[1-{n}]"
    output_template = "#BSUB -o {output_file}.%I"
    default_template = """\
#!/bin/sh
#BSUB -env all
{environment_exports}
exec {program_and_args}
"""


# -- HTCondor ------------------------------------------------------------------


def _condor_word(word: str) -> str:
    """A word in HTCondor's quoting, for use between double quotes."""
    quoted = word.replace('"', '""').replace("'", "''")
    return f"'{quoted}'" if re.search(r"[\s']", word) or not word else quoted


class HTCondorLauncher(BatchSystemLauncher):
    """HTCondor, with a file system that all machines share."""

    submit_command = _command("condor_submit", "Command that submits a script.")
    delete_command = _command("condor_rm", "Command that deletes a job.")
    status_command = _command(
        "condor_q -af JobStatus", "Command that tells the state of a job."
    )
    job_id_regexp = CRegExp(
        r"cluster (\d+)\.\s*$", help="Finds the job id in the output.", config=True
    )
    job_id_regexp_group = Integer(1, help="Group that is the id.", config=True)
    job_array_regexp = r"(?m)^\s*queue\b"

    def template_namespace(self) -> dict[str, Any]:
        env = " ".join(f"{k}={_condor_word(v)}" for k, v in self.get_env().items())
        return {
            **super().template_namespace(),
            "condor_program": self.program[0],
            "condor_arguments": " ".join(
                map(_condor_word, [*self.program[1:], *self.program_args])
            ),
            "condor_environment": env,
        }

    def read_status(self, code: int, output: str) -> Job:
        if code != 0:
            return Job(Job.UNKNOWN, text=output)
        # 1 idle, 5 held; 2 running, 6 sending output, 7 suspended; 3, 4 over
        known = {"1": Job.PENDING, "5": Job.PENDING, "3": Job.ENDED, "4": Job.ENDED}
        return _summary([known.get(word, Job.RUNNING) for word in output.split()])


class HTCondorControllerLauncher(HTCondorLauncher, BatchControllerLauncher):
    """A controller as an HTCondor job."""

    batch_file_name = Unicode(
        "htcondor_controller", help="Name of the submit file.", config=True
    )
    default_template = """\
universe = vanilla
executable = {condor_program}
arguments = "{condor_arguments}"
environment = "{condor_environment}"
getenv = True
transfer_executable = False
output = {output_file}
error = {output_file}
queue
"""


class HTCondorEngineSetLauncher(HTCondorLauncher, BatchEngineSetLauncher):
    """Engines as one cluster of HTCondor jobs."""

    batch_file_name = Unicode(
        "htcondor_engines", help="Name of the submit file.", config=True
    )
    default_template = """\
universe = vanilla
executable = {condor_program}
arguments = "{condor_arguments}"
environment = "{condor_environment}"
getenv = True
transfer_executable = False
output = {output_file}.$(Process)
error = {output_file}.$(Process)
queue {n}
"""
