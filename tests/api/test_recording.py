"""Questions in SQL over what is on record, and the audit log of who did what."""

from __future__ import annotations

import struct
import time

import httpx
import pytest
import yaml

from goldenloop.control.platform import Platform
from goldenloop.core.ids import uuid7
from goldenloop.payloads.log import PayloadWriter
from goldenloop.payloads.records import Label, Prediction

OURS = "/goldenloop/v1alpha1"
LOOPS = "/apis/goldenloop.dev/v1alpha1/namespaces/default/loops"
LOOP = {
    "apiVersion": "goldenloop.dev/v1alpha1",
    "kind": "Loop",
    "metadata": {"name": "audited"},
    "spec": {"data": {"source": "data.csv", "label": "y"}},
}


def prediction(identity: str, age: float, *, service: str = "asked", job: str | None = "clerk") -> Prediction:
    return Prediction(
        id=identity,
        alias=None,
        namespace="default",
        service=service,
        arrival_us=time.time_ns() // 1_000,
        event_us=2,
        columns='["age","job"]',
        rows=1,
        numbers=struct.pack("<d", age),
        texts=(job,),
        version="3",
        reason="champion",
        answers={"3": (("good", (0.25, 0.75)),)},
        failures={},
        latency_us=90,
    )


@pytest.fixture(scope="module")
def logged(platform: Platform) -> list[str]:
    ids = [uuid7() for _ in range(3)]
    writer = PayloadWriter(platform.home.payloads, "query")
    writer.write(prediction(ids[0], 20.0), prediction(ids[1], 30.0), prediction(ids[2], float("nan"), job=None))
    writer.write(Label(prediction=ids[1], row=0, label="bad", observed_us=None, arrival_us=5))
    writer.close()
    return ids


def ask(http: httpx.Client, sql: str, **more: object) -> httpx.Response:
    return http.post(f"{OURS}/query", json={"sql": sql, **more}, timeout=60)


def test_requests_are_joined_with_their_labels(http: httpx.Client, logged: list[str]) -> None:
    answered = ask(
        http,
        "SELECT p.id, age, job, answer, probabilities, l.label FROM payloads p LEFT JOIN labels l ON l.prediction = p.id "
        "WHERE loop = 'asked' ORDER BY p.id",
    )
    assert answered.status_code == 200, answered.text
    assert answered.json()["rows"] == [
        [logged[0], 20.0, "clerk", "good", [0.25, 0.75], None],
        [logged[1], 30.0, "clerk", "good", [0.25, 0.75], "bad"],
        [logged[2], None, None, "good", [0.25, 0.75], None],
    ]
    assert answered.json()["notices"] == []


def test_what_is_left_out_is_said(http: httpx.Client, logged: list[str]) -> None:
    answered = ask(http, "SELECT id FROM payloads WHERE loop = 'asked'", limit=2).json()
    assert len(answered["rows"]) == 2 < len(logged)
    assert answered["notices"] == ["only the first 2 rows are shown; there are more"]


@pytest.mark.parametrize(
    ("sql", "status", "says"),
    [
        ("DELETE FROM versions", 403, "DELETE does not only read"),
        ("COPY (SELECT 1) TO '/tmp/stolen.csv'", 403, "COPY does not only read"),
        ("SET threads = 9", 403, "SET does not only read"),
        ("SELECT 1; DROP TABLE versions", 422, "2 statements"),
        ("SELECT * FROM read_text('/etc/passwd')", 403, "files and networks cannot be reached"),
        ("SELECT * FROM '/etc/passwd.csv'", 403, "files and networks cannot be reached"),
        ("SELECT nothing FROM versions", 422, "nothing"),
        ("SELEC 1", 422, "syntax error"),
        ("", 422, "0 statements"),
    ],
    ids=["delete", "copy", "set", "two", "read", "scan", "column", "syntax", "empty"],
)
def test_only_reading_is_let_through(http: httpx.Client, sql: str, status: int, says: str) -> None:
    answered = ask(http, sql)
    assert answered.status_code == status
    assert says in answered.json()["message"]


def test_a_question_that_takes_too_long_is_ended(http: httpx.Client) -> None:
    answered = ask(http, "SELECT count(*) FROM range(10000000000) a, range(1000) b WHERE hash(a.range) = 1", seconds=2)
    assert answered.status_code == 503
    assert "took longer than 2 s" in answered.json()["message"]


def test_deeds_are_on_record_with_who_did_them(http: httpx.Client) -> None:
    before = http.get(f"{OURS}/audit").json()["items"]
    after = before[-1]["sequence"] if before else 0
    me = {"X-Actor": "ada"}
    made = http.post(LOOPS, json=LOOP, headers=me)
    assert made.status_code == 201, made.text
    http.put(f"{LOOPS}/audited", content=yaml.safe_dump(LOOP), headers={**me, "Content-Type": "application/yaml"})
    assert http.delete(f"{LOOPS}/audited", headers=me).status_code == 200
    items = http.get(f"{OURS}/audit?after={after}").json()["items"]
    assert [(item["actor"], item["action"], item["kind"], item["name"]) for item in items] == [
        ("ada", "apply", "Loop", "audited"),
        ("ada", "delete", "Loop", "audited"),
    ], "what changed nothing is no deed"
    checked = http.get(f"{OURS}/audit/verification").json()
    assert checked["whole"]
    assert checked["head"] == items[-1]["digest"]


def test_an_entry_that_was_changed_is_named(http: httpx.Client, platform: Platform) -> None:
    ask(http, "SELECT 'the second last'")
    ask(http, "SELECT 'the last'")
    target = http.get(f"{OURS}/audit").json()["items"][-2]["sequence"]
    with platform.database.write() as transaction:
        kept = transaction.exec_driver_sql(f"SELECT facts FROM audit_entries WHERE sequence = {target}").scalar_one()
        transaction.exec_driver_sql(f"UPDATE audit_entries SET facts = '{{}}' WHERE sequence = {target}")
    try:
        found = http.get(f"{OURS}/audit/verification").json()
        assert (found["whole"], found["broken"]) == (False, target)
        assert "its content is not what was written" in found["problems"][0]
    finally:
        with platform.database.write() as transaction:
            transaction.exec_driver_sql("UPDATE audit_entries SET facts = ? WHERE sequence = ?", (kept, target))
    assert http.get(f"{OURS}/audit/verification").json()["whole"]
