"""The task database in a file outlives its controller."""

from __future__ import annotations

import sqlite3
import sys

import roundhouse as ipp
from conftest import PATIENCE


def run_one_task(controller, start_process, wait_until) -> str:
    start_process(
        [sys.executable, "-m", "roundhouse.engine", f"--file={controller.engine_file}"],
        "engine",
    )
    with ipp.Client(str(controller.client_file)) as rc:
        rc.wait_for_engines(1, timeout=PATIENCE)

        def run():
            task = rc.load_balanced_view().apply_async(
                ipp.interactive(lambda: print("kept") or [1, 2])
            )
            assert task.get(PATIENCE) == [1, 2]
            if task.stdout:
                return task.msg_ids[0]
            # Printed before the controller listened to the new engine.
            rc.purge_results(task)
            return None

        msg_id = wait_until(run)
        keys = ["completed", "stdout"]  # which take different ways
        wait_until(lambda: all(rc.db_query({"msg_id": msg_id}, keys)[0].values()))
    return msg_id


def test_tasks_outlive_the_controller(start_controller, start_process, wait_until):
    first = start_controller("--sqlitedb")
    msg_id = run_one_task(first, start_process, wait_until)
    assert first.stop() == 0
    with sqlite3.connect(first.profile_dir / "tasks.db") as db:
        rows = db.execute("select msg_id, stdout from 'ipython-tasks'").fetchall()
    assert rows == [(msg_id, "kept\n")]

    second = start_controller("--sqlitedb")
    with ipp.Client(str(second.client_file)) as rc:
        assert rc.hub_history() == [msg_id]
        assert rc.get_result(msg_id).get(PATIENCE) == [1, 2]


def test_a_location_and_a_table_of_ones_own(
    start_controller, start_process, wait_until, tmp_path
):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    controller = start_controller(
        "--sqlitedb",
        f"--SQLiteDB.location={folder}",
        "--SQLiteDB.filename=mine.db",
        "--SQLiteDB.table=mine",
    )
    msg_id = run_one_task(controller, start_process, wait_until)
    assert controller.stop() == 0
    with sqlite3.connect(folder / "mine.db") as db:
        assert db.execute("select msg_id from mine").fetchall() == [(msg_id,)]
