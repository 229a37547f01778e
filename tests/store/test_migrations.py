"""Migrations keep what people have: nothing that refers to a changed table is lost."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from goldenloop.store import database as database_module
from goldenloop.store.database import Database, sqlite_url

RUN = (
    "INSERT INTO runs (id, namespace, name, cause, state, pipeline, parameters, inputs, code, created_us, settled)"
    " VALUES ('{id}', 'default', 'n', '{{}}', '{state}', '{{}}', '{{}}', '{{}}', '{{}}', 1, 0)"
)
TASK = "INSERT INTO tasks (id, run_id, name, component, state, attempt) VALUES ('{id}', '{run}', '{name}', 'c', '{state}', 0)"


def test_lineage_survives_and_what_was_half_done_in_the_old_way_starts_again(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "state.db"))
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with database.write() as transaction:
        for run, state in (("ended", "SUCCEEDED"), ("flat", "RUNNING"), ("nested", "RUNNING")):
            transaction.exec_driver_sql(RUN.format(id=run, state=state))
            name = "step" if run == "flat" else "outer.step"
            transaction.exec_driver_sql(TASK.format(id=f"{run}-task", run=run, name=name, state="SUCCEEDED"))
        transaction.exec_driver_sql(
            "INSERT INTO artifacts (id, type, name, uri, digest, properties, created_us) VALUES ('a', 't', 'n', 'u', 'd', '{}', 1)"
        )
        transaction.exec_driver_sql(
            "INSERT INTO artifact_tasks (task_id, direction, port, artifact_id) VALUES ('ended-task', 'OUTPUT', 'p', 'a')"
        )
    database.migrate()
    with database.write() as transaction:
        runs = {row.id: row.state for row in transaction.exec_driver_sql("SELECT id, state FROM runs")}
        tasks = transaction.exec_driver_sql("SELECT id FROM tasks ORDER BY id").scalars().all()
        arrows = transaction.exec_driver_sql("SELECT task_id, port, position, artifact_id FROM artifact_tasks").all()
        assert runs == {"ended": "SUCCEEDED", "flat": "RUNNING", "nested": "PENDING"}
        assert tasks == ["ended-task", "flat-task"]
        assert [tuple(arrow) for arrow in arrows] == [("ended-task", "p", 0, "a")]
        transaction.exec_driver_sql("DELETE FROM runs WHERE id = 'ended'")
        left = transaction.exec_driver_sql("SELECT count(*) FROM artifact_tasks").scalar_one()
        assert left == 0, "references are watched over again"
    database.close()
