"""From a version, a run, data or code to what it came from and what came of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from goldenloop.control.origins import trace_origin
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.pipelines.runs import ArtifactInput, RunRequest, insert_run
from goldenloop.pipelines.standard import load_auto
from goldenloop.registry import versions
from goldenloop.registry.versions import Evaluation
from goldenloop.store.database import Database, sqlite_url
from goldenloop.testing.stores import new_version

KEPT = ArtifactInput(uri="artifact:" + "b" * 64, type="system.Dataset")
DATA, CODE, COMMIT = "a1" * 32, "c0" * 32, "f00dfeed" * 5


@pytest.fixture
def records(tmp_path: Path) -> tuple[Database, str]:
    """A database with one run, its version and the verdict on it; and the id of the run."""
    database = Database(sqlite_url(tmp_path / "state.db"))
    database.migrate()
    with database.write() as transaction:
        request = RunRequest(
            namespace="default",
            name="loan-first",
            pipeline=load_auto(),
            parameters={"label": "repaid", "task": "classification", "timestamp": ""},
            inputs=dict.fromkeys(("data", "evaluation_data"), KEPT),
            cause={"kind": "first", "text": "the first version"},
        )
        run = insert_run(transaction, request, now_us=1)
        assert run is not None
        new = msgspec.structs.replace(
            new_version(run),
            data_version={"digest": DATA, "rows": 12, "source": "loans.csv"},
            code_version={"digest": CODE, "commit": COMMIT, "dirty": True},
        )
        made = versions.register(transaction, new, now_us=2)
        verdict = Evaluation(
            namespace="default", model="loan", challenger=made.number, champion=None, verdict=Verdict.PASS,
            reason="better", evidence={}, decided_by="gate",
        )  # fmt: skip
        versions.record_evaluation(transaction, verdict, now_us=3)
    return database, run


def trace(records: tuple[Database, str], identity: str) -> JsonObject | None:
    with records[0].read() as transaction:
        return trace_origin(transaction, identity)


def seen(traced: JsonObject | None, side: str) -> list[tuple[str, str]]:
    assert traced is not None
    return [(each["kind"], each["id"]) for each in traced[side]]  # type: ignore[union-attr, index, call-overload, misc]


@pytest.mark.parametrize("name", ["loan/1", "default/loan/1", "d" * 12])
def test_a_version_comes_from_its_run_its_data_and_its_code(records: tuple[Database, str], name: str) -> None:
    traced = trace(records, name)
    given = ("artifact", KEPT.uri)
    assert seen(traced, "upstream") == [("run", records[1]), given, given, ("data", DATA), ("code", CODE)]
    assert [kind for kind, _ in seen(traced, "downstream")] == ["evaluation"]


@pytest.mark.parametrize(("identity", "kind"), [(DATA[:9], "data"), (CODE[:9], "code"), (COMMIT[:9], "commit")])
def test_data_and_code_lead_to_the_versions_that_they_made(
    records: tuple[Database, str], identity: str, kind: str
) -> None:
    traced = trace(records, identity)
    assert traced is not None
    assert traced["kind"] == kind
    assert seen(traced, "downstream")[0] == ("version", "default/loan/1")


def test_a_run_leads_to_its_version(records: tuple[Database, str]) -> None:
    traced = trace(records, records[1])
    assert [kind for kind, _ in seen(traced, "upstream")] == ["artifact", "artifact"]
    assert seen(traced, "downstream")[0] == ("version", "default/loan/1")


def test_letters_that_fit_two_things_ask_for_more(records: tuple[Database, str]) -> None:
    with records[0].write() as transaction:
        other = msgspec.structs.replace(new_version("another"), data_version={"digest": DATA[:20] + "0" * 44})
        versions.register(transaction, other, now_us=4)
    with pytest.raises(InvalidSpecError, match="fits several: data a1a1a1a1a1a1a1a1, data"):
        trace(records, DATA[:9])


@pytest.mark.parametrize("identity", ["", "a1a1", "loan/7", "0192-unknown"])
def test_what_is_not_known_is_left_to_the_payload_log(records: tuple[Database, str], identity: str) -> None:
    assert trace(records, identity) is None
