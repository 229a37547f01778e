"""The calls of the MLflow benchmark, made with MLflow's own client to two servers in turn. Runs in an environment that has mlflow.

    python mlflow_calls.py URI URI ROUNDS

Prints one JSON line a call: `{"call": …, "server": 0 or 1, "seconds": […]}`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"

from mlflow import MlflowClient
from mlflow.entities import Metric

METRICS_IN_BATCH = 1_000
FILTER = "metrics.accuracy > 0.95 and params.depth = '7'"


class Server:
    """One server, and what was made there for the calls."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.experiment = self.client.create_experiment(f"bench-{time.time_ns()}")
        self.run = self.client.create_run(self.experiment).info.run_id
        self.client.create_registered_model("bench")
        self.many = self.client.get_experiment_by_name("many").experiment_id
        self.steps = 0

    def log_metric(self) -> None:
        self.steps += 1
        self.client.log_metric(self.run, "loss", 0.5, step=self.steps)

    def log_batch(self) -> None:
        self.steps += 1
        now = int(time.time() * 1_000)
        self.client.log_batch(
            self.run,
            metrics=[Metric(f"m{number}", 0.1 * number, now, self.steps) for number in range(METRICS_IN_BATCH)],
        )

    def create_model_version(self) -> None:
        self.client.create_model_version("bench", "s3://bucket/model", await_creation_for=0)

    def search_runs_filter(self) -> None:
        found = self.client.search_runs([self.many], FILTER, order_by=["metrics.loss ASC"], max_results=10)
        assert len(found) > 0

    def search_runs_hundred(self) -> None:
        assert self.client.search_runs([self.many], order_by=["metrics.accuracy DESC"], max_results=100)

    def search_runs_thousand(self) -> None:
        assert self.client.search_runs([self.many], max_results=1_000)


def main() -> None:
    first, second, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    servers = [Server(first), Server(second)]
    for call in (
        "log_metric",
        "log_batch",
        "create_model_version",
        "search_runs_filter",
        "search_runs_hundred",
        "search_runs_thousand",
    ):
        some = rounds if call != "search_runs_thousand" else max(3, rounds // 5)
        seconds: list[list[float]] = [[], []]
        for place in range(2 * (some + 2)):
            which = place % 2
            act: Callable[[], None] = getattr(servers[which], call)
            begun = time.perf_counter()
            act()
            seconds[which].append(time.perf_counter() - begun)
        for which in (0, 1):
            print(json.dumps({"call": call, "server": which, "seconds": seconds[which][2:]}), flush=True)


main()
