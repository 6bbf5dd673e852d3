"""Controllers and engines as jobs of a batch system.

A job is a script, made from a template, that a command submits.  What tells
batch systems apart is declared by the families in queues.py; here is what they
share: rendering, submitting, watching the queue, deleting.

Nothing announces the end of a job, so a thread asks the queue every
`poll_seconds`; a stop asks more often.  Connection info and cluster id are
written into the default scripts themselves, because many sites do not pass the
environment of the submitter on; scripts are for the owner's eyes only.
"""

from __future__ import annotations

import asyncio
import glob
import json
import os
import re
import shlex
import string
import subprocess
import threading
import time
from typing import Any, TypeVar

from traitlets import CRegExp, Dict, Float, Integer, List, Unicode, default

from ..aio import in_thread
from ..process import tail_of
from .base import (
    BaseLauncher,
    ControllerLauncher,
    EngineLauncher,
    LauncherError,
    NotRunning,
    UnknownStatus,
)

__all__ = [
    "BatchControllerLauncher",
    "BatchEngineSetLauncher",
    "BatchSystemLauncher",
    "Job",
    "render",
]

B = TypeVar("B", bound="BatchSystemLauncher")

# Seconds between looks at a job that was deleted.
_STOP_POLL_S = 0.2
# A job that ends by itself within so many seconds has probably failed.
_EARLY_S = 60.0


class _Formatter(string.Formatter):
    """str.format whose fields are Python expressions: ``{n//4}``."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return eval(field_name, dict(kwargs)), field_name


def render(template: str, namespace: dict[str, Any]) -> str:
    """Fill in a template.  Raises LauncherError naming what is wrong with it."""
    try:
        return _Formatter().vformat(template, (), namespace)
    except Exception as e:
        known = ", ".join(sorted(namespace))
        raise LauncherError(
            f"the batch template cannot be filled in: {type(e).__name__}: {e} "
            f"(there are {known}; a brace of the script itself is written twice)"
        ) from e


class Job:
    """What the queue says of a job: PENDING, RUNNING, ENDED or UNKNOWN."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"  # the queue did not answer

    def __init__(self, state: str, exit_code: int | None = None, text: str = ""):
        self.state = state
        self.exit_code = exit_code
        self.text = text


class BatchSystemLauncher(BaseLauncher):
    """A job of a batch system."""

    submit_command = List(Unicode(), help="Command that submits a script.", config=True)
    delete_command = List(Unicode(), help="Command that deletes a job.", config=True)
    signal_command = List(Unicode(), help="Command that signals a job.", config=True)
    status_command = List(
        Unicode(), help="Command that tells the state of a job.", config=True
    )
    poll_seconds = Float(
        10.0, help="Seconds between looks at the state of the job.", config=True
    )
    job_id = Unicode(help="The job, as the batch system calls it.").tag(to_dict=True)
    job_id_regexp = CRegExp(
        r"\d+", help="Finds the job id in the output of submit_command.", config=True
    )
    job_id_regexp_group = Integer(
        0, help="Group of job_id_regexp that is the id; 0 is all of it.", config=True
    )
    batch_template = Unicode(
        "", help="Template of the script; wins over batch_template_file.", config=True
    ).tag(to_dict=True)
    batch_template_file = Unicode("", help="File that holds the template.", config=True)
    batch_file_name = Unicode(
        "batch_script", help="Name of the script in the profile folder.", config=True
    ).tag(to_dict=True)
    queue = Unicode("", help="Queue, partition or class.", config=True).tag(
        to_dict=True
    )
    namespace = Dict(help="More variables for the template.", config=True).tag(
        to_dict=True
    )
    output_file = Unicode(help="Where the output of the job goes.", config=True).tag(
        to_dict=True
    )
    n = Integer(1, help="How many are launched.").tag(to_dict=True)
    program = List(Unicode(), help="The command that the job runs.")
    program_args = List(Unicode(), help="Its arguments.")

    # Lines that go into a default template which does not have the like.
    job_array_regexp: Any = ""
    job_array_template = ""
    queue_regexp: Any = ""
    queue_template = ""
    output_regexp: Any = ""
    output_template = ""
    default_template = ""

    starts_at_once = False

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._seen = Job.PENDING
        self._started_at = float("-inf")
        self._wake = threading.Event()

    @default("output_file")
    def _default_output_file(self) -> str:
        return os.path.join(self.profile_dir, "log", f"{self.identifier}.log")

    def find_args(self) -> list[str]:
        return [*self.submit_command, self.batch_file]

    @property
    def batch_file(self) -> str:
        """The path of the script."""
        return os.path.join(self.profile_dir or self.work_dir, self.batch_file_name)

    # the script

    def template_namespace(self) -> dict[str, Any]:
        """What a template can use."""
        env = self.get_env()
        exports = [f"export {k}={shlex.quote(v)}" for k, v in env.items()]
        return {
            "n": self.n,
            "queue": self.queue,
            "profile_dir": self.profile_dir,
            "cluster_id": self.cluster_id,
            "output_file": self.output_file,
            "program": shlex.join(self.program),
            "program_args": shlex.join(self.program_args),
            "program_and_args": shlex.join(self.program + self.program_args),
            "environment_json": json.dumps(env),
            "environment_exports": "\n".join(exports),
            **self.namespace,
        }

    def script(self) -> str:
        """The text of the script."""
        template = self.batch_template
        if not template and self.batch_template_file:
            try:
                with open(self.batch_template_file, encoding="utf-8") as f:
                    template = f.read()
            except OSError as e:
                raise LauncherError(
                    f"batch_template_file {self.batch_template_file}: {e.strerror}"
                ) from e
        return render(template or self.completed_template(), self.template_namespace())

    def completed_template(self) -> str:
        """The default template with the lines that the settings call for."""
        first, _, rest = self.default_template.partition("\n")
        lines = [line for line in self.directives() if line]
        return "\n".join([first, *lines, rest])

    def directives(self) -> list[str]:
        """Lines to insert; a family with more settings adds to them."""
        return [
            self.unless(self.queue_regexp, self.queue_template) if self.queue else "",
            self.unless(self.output_regexp, self.output_template),
            self.unless(self.job_array_regexp, self.job_array_template),
        ]

    def unless(self, regexp: Any, line: str) -> str:
        """The line, unless the default template has one that the regexp finds."""
        if not line or (regexp and re.search(regexp, self.default_template)):
            return ""
        return line

    def write_batch_script(self) -> None:
        """Write the script.  It may hold keys, so only the owner can read it."""
        text = self.script()
        path = self.batch_file
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
            with os.fdopen(fd, "w", encoding="utf-8") as f:
                os.fchmod(fd, 0o700)
                f.write(text)
        except OSError as e:
            raise LauncherError(f"cannot write {path}: {e.strerror}") from e

    # commands

    def run_command(self, command: list[str], **kwargs: Any) -> str:
        """The output of a command of the batch system.  Raises LauncherError."""
        done = self.try_command(command, **kwargs)
        if done.returncode != 0:
            raise LauncherError(
                f"{shlex.join(command)} failed with exit code {done.returncode}: "
                f"{done.stdout.strip() or 'it printed nothing'}"
            )
        return done.stdout

    def try_command(
        self, command: list[str], stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever its exit code.  Raises LauncherError."""
        self.log.debug("Running %s", shlex.join(command))
        try:
            return subprocess.run(
                command,
                input="" if stdin is None else stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=self.full_env(),
                cwd=self.work_dir,
                start_new_session=True,  # a Ctrl-C must not cut it short
            )
        except OSError as e:
            raise LauncherError(f"cannot run {command[0]}: {e.strerror}") from e

    def submit(self) -> str:
        """Submit the script; returns what the command printed."""
        return self.run_command(self.find_args())

    def parse_job_id(self, output: str) -> str:
        found = re.search(self.job_id_regexp, output)
        if found is None:
            raise LauncherError(f"there is no job id in what was printed: {output!r}")
        return found.group(self.job_id_regexp_group)

    def query(self) -> Job:
        """Ask the queue for the state of the job."""
        try:
            done = self.try_command([*self.status_command, self.job_id])
        except LauncherError as e:
            return Job(Job.UNKNOWN, text=str(e))
        return self.read_status(done.returncode, done.stdout)

    def read_status(self, code: int, output: str) -> Job:
        """What an answer of status_command means."""
        raise NotImplementedError(f"{type(self).__name__} has no read_status")

    # life

    async def start(self, n: int = 1) -> str:
        """Submit a job for n; returns its id.  Raises LauncherError."""
        self.n = n
        os.makedirs(os.path.dirname(self.output_file), exist_ok=True)
        self.write_batch_script()
        output = await in_thread(self.submit)
        self.job_id = self.parse_job_id(output)
        self.log.info("Submitted job %s", self.job_id)
        self._started_at = time.monotonic()
        self.notify_start(self.job_id)
        self._start_watching()
        return self.job_id

    def _start_watching(self) -> None:
        threading.Thread(
            target=self._watch, daemon=True, name=f"roundhouse-job-{self.job_id}"
        ).start()

    def _watch(self) -> None:
        while self.state == "running":
            job = self.query()
            if job.state == Job.ENDED:
                data = {"exit_code": job.exit_code, "job_id": self.job_id}
                self.notify_stop({**data, "identifier": self.identifier})
                return
            if job.state == Job.UNKNOWN:
                self.log.debug("State of job %s: %s", self.job_id, job.text)
            elif job.state != self._seen:
                self.log.info("Job %s is %s", self.job_id, job.state)
                self._seen = job.state
                self._started_at = time.monotonic()
            if self._wake.wait(_STOP_POLL_S if self.stopping else self.poll_seconds):
                self._wake.clear()

    @classmethod
    def from_dict(cls: type[B], d: dict[str, Any], **kwargs: Any) -> B:
        self = super().from_dict(d, **kwargs)
        if not self.job_id or self.state == "after":
            raise NotRunning(f"{self.identifier} has no job")
        job = self.query()
        if job.state == Job.ENDED:
            self.state = "after"
            raise NotRunning(f"job {self.job_id} has ended")
        if job.state == Job.UNKNOWN:
            raise UnknownStatus(f"the state of job {self.job_id}: {job.text.strip()}")
        self.state, self._seen = "running", job.state
        self._start_watching()
        return self

    def is_queued(self) -> bool:
        return self.state == "running" and self._seen == Job.PENDING

    async def stop(self) -> None:
        """Delete the job and wait for its end.

        Raises LauncherError if it cannot be deleted, TimeoutError if it is there
        still after stop_timeout seconds.
        """
        if self.state != "running":
            return
        self.stopping = True
        command = [*self.delete_command, self.job_id]
        done = await in_thread(lambda: self.try_command(command))
        self._wake.set()
        if done.returncode != 0 and (await in_thread(self.query)).state != Job.ENDED:
            raise LauncherError(f"{shlex.join(command)}: {done.stdout.strip()}")
        await self.join(self.stop_timeout)

    async def join(self, timeout: float | None = None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.state == "running":
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.job_id} did not end in {timeout:g} s")
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """Delete the job without waiting for its end."""
        if self.state == "running":
            self.stopping = True
            self.try_command([*self.delete_command, self.job_id])
            self._wake.set()

    async def signal(self, sig: int) -> None:
        """Send a signal to what the job runs.  Raises LauncherError."""
        if not self.signal_command:
            raise LauncherError(
                f"{type(self).__name__} has no command that signals a job; a Client "
                "can signal engines"
            )
        if self.state == "running":
            await in_thread(
                lambda: self.run_command(
                    [*self.signal_command, str(int(sig)), self.job_id]
                )
            )

    def get_output(self, remove: bool = False) -> str:
        """The last lines the job printed, as far as the files are visible here."""
        paths = sorted(glob.glob(glob.escape(self.output_file) + "*"))
        texts = [tail_of(path, self.output_limit) for path in paths]
        if remove:
            for path in paths:
                os.remove(path)
        return "".join(texts)

    def failed(self, data: Any) -> bool:
        # Many queues do not tell exit codes; an early end is suspicious.
        early = time.monotonic() - self._started_at < _EARLY_S
        unknown = bool(data) and data.get("exit_code") is None
        return super().failed(data) or (unknown and early and not self.stopping)


class BatchControllerLauncher(BatchSystemLauncher, ControllerLauncher):
    """A controller as a job."""

    look_s = 0.1  # the files come over a shared file system

    # One controller is not an array of them.
    job_array_template = ""

    @default("program")
    def _default_program(self) -> list[str]:
        return self.controller_cmd

    @default("program_args")
    def _default_program_args(self) -> list[str]:
        return self.cluster_args + self.controller_args

    async def start(self, n: int = 1) -> str:
        self.program_args = self._default_program_args()
        self.note_files()
        if self.keeps_files and self._arrival is not None:
            self._arrival.forget()
        return await super().start(1)

    async def stop(self) -> None:
        """Delete the job; some queues kill at once, so its files may be left."""
        await super().stop()
        self.remove_files()


class BatchEngineSetLauncher(BatchSystemLauncher, EngineLauncher):
    """Engines as one job."""

    @default("program")
    def _default_program(self) -> list[str]:
        return self.engine_cmd

    @default("program_args")
    def _default_program_args(self) -> list[str]:
        return self.cluster_args + self.engine_args

    async def start(self, n: int = 1) -> str:
        self.warn_if_local_only()
        return await super().start(n)
