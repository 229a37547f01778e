"""MLflow's API over HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import httpx
import pytest

from goldenloop.core.json import JsonObject

_numbers = itertools.count()


class Mlflow:
    """Calls of MLflow's API: `ok` expects success, `refused` the error code that it returns."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def call(self, method: str, path: str, /, **message: object) -> httpx.Response:
        """One call; the message goes where MLflow's clients put it."""
        where = {"params": message} if method == "GET" else {"json": message}
        return self._http.request(method, f"/api/2.0/mlflow/{path}", **where)  # type: ignore[arg-type]  # one of them

    def ok(self, method: str, path: str, /, **message: object) -> JsonObject:
        """The answer of a call that succeeds."""
        answer = self.call(method, path, **message)
        assert answer.status_code == 200, answer.text
        found: JsonObject = answer.json()
        return found

    def refused(self, method: str, path: str, /, **message: object) -> tuple[int, str, str]:
        """Status, error code and message of a call that fails."""
        answer = self.call(method, path, **message)
        body = answer.json()
        return answer.status_code, body["error_code"], body["message"]


@pytest.fixture
def mlflow(http: httpx.Client) -> Mlflow:
    return Mlflow(http)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"thing-{next(_numbers)}"


@pytest.fixture
def experiment(mlflow: Mlflow, name: str) -> str:
    """The id of a fresh experiment."""
    return str(mlflow.ok("POST", "experiments/create", name=name)["experiment_id"])


@pytest.fixture
def new_run(mlflow: Mlflow, experiment: str) -> Iterator[Callable[..., str]]:
    """Makes a run in the experiment; returns its id."""
    starts = itertools.count(1_000)

    def make(**message: object) -> str:
        given = {"experiment_id": experiment, "start_time": next(starts), **message}
        made = mlflow.ok("POST", "runs/create", **given)
        return str(made["run"]["info"]["run_id"])  # type: ignore[index,call-overload]  # the message's form

    return make
