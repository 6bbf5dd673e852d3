"""Controllers and engines under mpiexec.

Engines of one set share MPI's world, and ask for their rank as engine id.
"""

from __future__ import annotations

from typing import Any

from traitlets import Integer, List, Unicode

from .base import ControllerLauncher, EngineLauncher
from .local import LocalControllerLauncher, LocalProcessLauncher

__all__ = ["MPIControllerLauncher", "MPIEngineSetLauncher", "MPILauncher"]


class MPILauncher(LocalProcessLauncher):
    """A command under mpiexec."""

    mpi_cmd = List(Unicode(), ["mpiexec"], help="Command that starts MPI.", config=True)
    mpi_args = List(
        Unicode(), help="Arguments of mpi_cmd, before the program.", config=True
    )
    program = List(Unicode(), help="The command to run.")
    program_args = List(Unicode(), help="Its arguments.")
    n = Integer(1).tag(to_dict=True)

    def find_args(self) -> list[str]:
        ranks = ["-n", str(self.n)]
        return [
            *self.mpi_cmd,
            *ranks,
            *self.mpi_args,
            *self.program,
            *self.program_args,
        ]

    def get_env(self) -> dict[str, str]:
        env = super().get_env()
        # Open MPI passes on to other machines only what it is told to; others
        # pass on everything.
        env.setdefault("OMPI_MCA_mca_base_env_list", ";".join(env))
        return env


class MPIControllerLauncher(MPILauncher, LocalControllerLauncher, ControllerLauncher):
    """A controller under mpiexec, in a world of its own."""

    def find_args(self) -> list[str]:
        self.program = list(self.controller_cmd)
        self.program_args = self.cluster_args + self.controller_args
        return super().find_args()


class MPIEngineSetLauncher(MPILauncher, EngineLauncher):
    """Engines under one mpiexec."""

    def find_args(self) -> list[str]:
        self.program = [*self.engine_cmd, "--mpi"]
        self.program_args = self.cluster_args + self.engine_args
        return super().find_args()

    def start(self, n: int = 1) -> Any:
        """Start n engines.  Raises LauncherError."""
        self.n = n
        return super().start()
