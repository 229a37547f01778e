"""The card of a version: everything that was decided, as JSON, Markdown and a page that nothing can be smuggled into."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
import msgspec
import numpy as np
import pytest

from goldenloop.control.platform import Platform
from goldenloop.control.view import LOOP
from goldenloop.core.clock import SECOND
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict, VersionState
from goldenloop.evaluation.checks import Check
from goldenloop.evaluation.gate import Evidence, judge
from goldenloop.evaluation.searching import Condition, FoundSlice
from goldenloop.lineage.timeline import Happening, tell
from goldenloop.registry import versions
from goldenloop.registry.versions import Evaluation
from goldenloop.stats.intervals import Interval
from goldenloop.store import resources
from goldenloop.testing.stores import new_version

OURS = "/goldenloop/v1alpha1"
NASTY = "<script>alert(1)</script> | `x` [a](javascript:1)"


def judged() -> JsonObject:
    """The gate's evidence on made rows, with the checks that a card draws."""
    generator = np.random.default_rng(0)
    labels = generator.choice(np.array(["no", "yes"], dtype=object), 200)
    right = np.where(generator.random(200) < 0.8, labels, "no").astype(object)
    champion = np.where(generator.random(200) < 0.7, labels, "no").astype(object)
    parts = np.where(np.arange(200) < 3, NASTY, "rest").astype(object)
    found = judge(
        "classification",
        labels,
        Evidence(answers=right),
        champion=Evidence(answers=champion),
        slices={"part": parts},
        training_rows=500,
    )
    gap = Interval(estimate=0.1, low=0.02, high=0.2, confidence=0.95)
    worst = FoundSlice(
        conditions=(Condition(column="city", value="Oslo"), Condition(column="age", value="above 65")),
        rows=41, loss=0.4, champion_loss=0.3, gap=gap, p=0.004, worse=True,
    )  # fmt: skip
    point = {"rows": 20, "predicted": 0.4, "observed": msgspec.to_builtins(gap)}
    flips = {"value": 0.1, "low": 0.05, "high": 0.2}
    effect = {"noise": "jitter", "flips": flips, "change": {"value": None}}
    checks = [
        Check(
            name="slices",
            mode="warn",
            verdict=Verdict.FAIL,
            reason="worse",
            evidence={"slices": [msgspec.to_builtins(worst)]},
        ),
        Check(name="calibration", mode="warn", verdict=Verdict.PASS, reason="close", evidence={"points": [point]}),
        Check(name="robustness", mode="warn", verdict=Verdict.PASS, reason="firm", evidence={"effects": [effect]}),
        Check(
            name="fairness", mode="warn", verdict=Verdict.INCONCLUSIVE, reason="no column is protected", applies=False
        ),
        Check(name="behaviour: " + NASTY, mode="block", verdict=Verdict.ERROR, reason="there is no column 'x'"),
    ]
    return {**msgspec.to_builtins(found), "checks": msgspec.to_builtins(checks)}


@pytest.fixture
def card(platform: Platform, namespace: str) -> str:
    """The address of the card of a version that the gate let through and a person approved."""
    with platform.database.write() as transaction:
        document = {
            "metadata": {"name": "loan"},
            "spec": {
                "data": {"source": "x.csv"},
                "description": NASTY,
                "intendedUse": "advice",
                "limits": "not for firms",
            },
        }
        resources.create(transaction, LOOP, namespace, document, now_us=SECOND)
        registered = versions.register(
            transaction, msgspec.structs.replace(new_version(), namespace=namespace), now_us=SECOND
        )
        versions.move(transaction, registered, VersionState.AWAITING_APPROVAL)
        common = {"namespace": namespace, "model": "loan", "challenger": 1, "champion": 7}
        for record in (
            Evaluation(**common, verdict=Verdict.PASS, reason="better", evidence=judged(), decided_by="gate"),
            Evaluation(
                **common, verdict=Verdict.PASS, reason="I looked", evidence={}, decided_by="person", person="Ada"
            ),
        ):
            versions.record_evaluation(transaction, record, now_us=SECOND)
        line = Happening(
            namespace=namespace, loop="loan", kind="Approved", text="version 1 is approved by Ada", facts={"version": 1},
            event_us=SECOND, created_us=SECOND,
        )  # fmt: skip
        tell(transaction, line)
    return f"{OURS}/namespaces/{namespace}/loops/loan/versions/1/card"


class Outline(HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_a_card_says_what_was_known_and_who_decided(http: httpx.Client, card: str) -> None:
    shown = http.get(card).json()
    assert [(each["by"], each["verdict"], each["reason"], each["champion"]) for each in shown["decisions"]] == [
        ("control, on the evidence", "pass", "better", 7),
        ("Ada", "pass", "I looked", 7),
    ]
    assert (shown["intendedUse"], shown["comparedWith"], shown["state"]) == ("advice", 7, "AwaitingApproval")
    assert shown["judged"]["challenger_metrics"]["accuracy"] > 0.5
    assert shown["foundSlices"][0]["conditions"][0] == {"column": "city", "value": "Oslo"}
    limits = "\n".join(shown["limits"])
    assert limits.startswith("not for firms")
    assert "Nothing can be said of slices that are too small" in limits
    assert "(3 rows)" in limits
    assert "Not examined, fairness: no column is protected." in limits
    assert "there is no column 'x'" in limits
    assert [each["kind"] for each in shown["history"]] == ["Approved"]


def test_a_browser_gets_a_page_that_runs_and_loads_nothing(http: httpx.Client, card: str) -> None:
    answer = http.get(card, headers={"accept": "text/html,*/*"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    outline = Outline(answer.text)
    assert outline.tags.count("svg") == 3
    assert not {"script", "link", "img", "iframe", "object"} & {*outline.tags}
    assert not [name for name, _ in outline.attributes if name in ("src", "href") or name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text


def test_markdown_has_tables_that_people_and_data_cannot_break(http: httpx.Client, card: str) -> None:
    answer = http.get(card, params={"format": "markdown"})
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "<script" not in answer.text
    widths = [
        len(re.findall(r"(?<!\\)\|", line)) for line in answer.text.splitlines() if line.startswith("| behaviour")
    ]
    assert widths == [5]
    assert "| Ada |" in answer.text


def test_wrong_questions_get_clear_answers(http: httpx.Client, card: str, namespace: str) -> None:
    wrong = http.get(card, params={"format": "pdf"})
    assert (wrong.status_code, wrong.json()["message"]) == (
        422,
        "format: 'pdf' is no form of a card. Known: html, markdown, json.",
    )
    missing = http.get(card.replace("/1/card", "/9/card"))
    assert missing.status_code == 404
    assert "model 'loan' has no version 9" in missing.json()["message"]
    decide = f"{OURS}/namespaces/{namespace}/loops/loan/approve"
    assert http.post(decide, json={"by": "Ada"}).status_code == 422
    assert (
        "needs a name and a reason" in http.post(decide, json={"by": "", "reason": "", "version": 1}).json()["message"]
    )


def test_a_person_refuses_over_the_api(http: httpx.Client, card: str, namespace: str) -> None:
    path = f"{OURS}/namespaces/{namespace}/loops/loan/refuse"
    body = {"by": "Bob", "reason": "too old", "version": 1}
    assert http.post(path, json=body).json() == {"version": 1, "state": "Refused", "by": "Bob"}
    assert http.post(path, json=body).json()["decided"] == "before"
    shown = http.get(card).json()
    assert (shown["state"], shown["decisions"][-1]["by"], len(shown["decisions"])) == ("Refused", "Bob", 3)


def test_a_version_that_was_never_judged_has_a_card_that_says_so(
    http: httpx.Client, platform: Platform, namespace: str
) -> None:
    with platform.database.write() as transaction:
        versions.register(transaction, msgspec.structs.replace(new_version(), namespace=namespace), now_us=SECOND)
    path = f"{OURS}/namespaces/{namespace}/loops/loan/versions/1/card"
    assert "It was not judged on an evaluation set." in http.get(path).json()["limits"]
    for form in ("html", "markdown"):
        assert "Nobody has decided yet" in http.get(path, params={"format": form}).text
