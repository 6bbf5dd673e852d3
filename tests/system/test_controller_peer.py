"""Our controller with whole engines and clients: the real ipyparallel's (if
$ROUNDHOUSE_PEER_PYTHON names a Python that has it) and our own.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from conftest import peer_python

SCENARIO = Path(__file__).with_name("controller_scenario.py")


@pytest.fixture(params=["ipyparallel", "roundhouse"])
def side(request):
    """(module, python): who plays client and engines."""
    if request.param == "ipyparallel":
        return request.param, peer_python()
    if not importlib.util.find_spec("roundhouse._core"):
        pytest.skip("this Python has no built roundhouse")
    return request.param, sys.executable


@pytest.fixture
def play(side, start_controller, start_process):
    """play(step, n, *options): run a step of the scenario with n engines."""
    module, python = side

    def play(step: str, n: int = 2, *options: str):
        c = start_controller(*options)
        env = {**c.env, "N_ENGINES": str(n)}
        for _ in range(n):
            start_process(
                [python, "-m", f"{module}.engine", f"--profile-dir={c.profile_dir}"],
                name="engine",
                env=env,
            )
        client = start_process(
            [python, SCENARIO, module, c.profile_dir, step], name="client", env=env
        )
        code = client.wait(240)
        assert code == 0, client.log()
        assert "got unknown result" not in client.log()
        assert "got stale result" not in client.log()
        return c

    return play


@pytest.mark.parametrize("step", ["calls", "tasks", "broadcasts", "queries", "control"])
def test_step(play, step):
    play(step)


def test_curve(play):
    play("calls", 2, "--IPController.enable_curve=True")


def test_several_broadcast_ports(play):
    play("broadcasts", 3, "--IPController.broadcast_scheduler_depth=1")


def test_pure_scheme(play):
    play("broadcasts", 2, "--scheme=pure")


def test_deaths(play):
    play("deaths", 5)


def test_retries_survive_deaths(play):
    play("retried", 3)


def test_shutdown_of_everything(play):
    c = play("shutdown", 2)
    assert c.wait() == 0
    c.check_clean(keeps_files=False)


def test_the_skip_is_named():
    if not os.environ.get("ROUNDHOUSE_PEER_PYTHON"):
        with pytest.raises(pytest.skip.Exception, match="ROUNDHOUSE_PEER_PYTHON"):
            peer_python()
