"""Fills a SQLite database of MLflow's with runs that have ended, as its server would have. Runs in an environment that has mlflow.

    python mlflow_fill.py DATABASE RUNS

Every run has three metrics, three params and two tags, by its number, so that both sides of the benchmark hold the same.
"""

from __future__ import annotations

import sqlite3
import sys

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

METRICS = (("accuracy", 7), ("loss", 13), ("f1", 17))


def main() -> None:
    path, count = sys.argv[1], int(sys.argv[2])
    experiment = SqlAlchemyStore(f"sqlite:///{path}", "/nonexistent").create_experiment("many")
    numbers = range(count)
    with sqlite3.connect(path) as database:
        database.executemany(
            "INSERT INTO runs (run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id,"
            " source_type, source_name, entry_point_name, source_version) VALUES (?, ?, 'ann', 'FINISHED', ?, ?, 'active', ?, ?,"
            " 'UNKNOWN', '', '', '')",
            [
                (f"{number:032x}", f"run-{number}", number, number, f"mlflow-artifacts:/{number}", experiment)
                for number in numbers
            ],
        )
        values = [
            (name, (number * prime % 1_000) / 1_000, 1, 0, 0, f"{number:032x}")
            for number in numbers
            for name, prime in METRICS
        ]
        for table in ("metrics", "latest_metrics"):
            database.executemany(
                f"INSERT INTO {table} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)", values
            )
        params = [
            (key, value, f"{number:032x}")
            for number in numbers
            for key, value in (("depth", str(number % 10)), ("rate", str(number % 100)), ("kind", "tree"))
        ]
        database.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)
        tags = [
            (key, value, f"{number:032x}")
            for number in numbers
            for key, value in (("mlflow.runName", f"run-{number}"), ("team", "red" if number % 2 else "blue"))
        ]
        database.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)


main()
