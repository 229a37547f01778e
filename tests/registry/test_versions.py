"""How a version is shown; the rules of the registry itself are in goldenloop.testing.stores, for every database."""

from __future__ import annotations

from pathlib import Path

import msgspec

from goldenloop.core.clock import DAY
from goldenloop.core.phases import Verdict
from goldenloop.registry import versions
from goldenloop.registry.versions import Evaluation
from goldenloop.store.database import Database, sqlite_url
from goldenloop.testing.stores import new_version


def test_a_version_is_shown_whole(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "state.db"))
    database.migrate()
    with database.write() as transaction:
        version = versions.register(transaction, new_version("the-run"), now_us=DAY)
    database.close()
    verdict = Evaluation(
        namespace="default",
        model="loan",
        challenger=1,
        champion=None,
        verdict=Verdict.PASS,
        reason="better",
        evidence={},
        decided_by="gate",
    )
    shown = versions.describe(version, verdict)
    assert msgspec.json.decode(msgspec.json.encode(shown)).keys() == shown.keys(), "it is JSON through and through"
    assert version.name == "1"
    assert shown["created"] == "1970-01-02T00:00:00Z"
    assert shown["trainedUntil"] == "2023-11-14T22:13:20Z"
    assert shown["run"] == "the-run"
    assert shown["state"] == "Registered"
    evaluation = shown["evaluation"]
    assert isinstance(evaluation, dict)
    assert evaluation["verdict"] == "pass"
    untimed = msgspec.structs.replace(version, trained_until_us=None)
    assert versions.describe(untimed, None)["trainedUntil"] is None
    assert versions.describe(untimed, None)["evaluation"] is None
