"""Assessing a real model on real files: every check runs through the served form, and what cannot be judged is never let through."""

from __future__ import annotations

from pathlib import Path

import joblib
import msgspec
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from goldenloop.control.work.assess import assess
from goldenloop.control.work.prepare import prepare
from goldenloop.control.work.records import Assessed, Assessment, Preparation, Prepared
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.standards.documents import convert
from goldenloop.standards.evaluation import EvaluationSpec

NUMBERS = ("income", "debt", "age")


def loans(rows: int = 1_200, *, seed: int = 0, leak: bool = False) -> pa.Table:
    generator = np.random.default_rng(seed)
    income, debt = generator.normal(50, 15, rows), generator.normal(20, 8, rows)
    sex = generator.choice(["female", "male"], rows)
    city = generator.choice(["Bergen", "Oslo", "Voss"], rows)
    chance = 1 / (1 + np.exp(-(income - 2 * debt) / 6))
    repaid = np.where(generator.random(rows) < chance, "yes", "no")
    times = np.datetime64("2026-01-01T00:00:00", "us") + np.arange(rows) * np.timedelta64(3600, "s")
    columns = {
        "applied_at": times,
        "income": np.round(income, 1),
        "debt": np.round(debt, 1),
        "age": generator.integers(18, 80, rows).astype(float),
        "sex": sex,
        "city": city,
        "repaid": repaid,
    }
    if leak:
        columns["paid_back"] = (repaid == "yes") + generator.normal(0, 0.05, rows)
    return pa.table(columns)


class Office:
    """Prepares, trains and assesses in a folder."""

    def __init__(self, folder: Path, table: pa.Table) -> None:
        self.folder = folder
        pq.write_table(table, folder / "loans.parquet")
        work = folder / "prepare"
        work.mkdir()
        self.prepared: Prepared = prepare(
            Preparation(
                source=str(folder / "loans.parquet"),
                label="repaid",
                timestamp="applied_at",
                subject=None,
                protected=("sex",),
                task="auto",
                metric="auto",
                window="all",
                windows_size=100,
                schema=None,
                logged=None,
                until_us=None,
            ),
            work,
        )

    def train(self, name: str = "model", *, linear: bool = True, numbers: tuple[str, ...] = NUMBERS) -> Path:
        frame = pandas.read_parquet(self.prepared.data)
        inputs = [*numbers, "sex", "city"]
        encode = make_column_transformer((OneHotEncoder(), ["sex", "city"]), remainder="passthrough")
        learner = LogisticRegression(max_iter=500) if linear else HistGradientBoostingClassifier(max_iter=20)
        model = make_pipeline(encode, learner).fit(frame[inputs], frame["repaid"])
        path = self.folder / f"{name}.joblib"
        joblib.dump(model, path)
        return path

    def assess(
        self, model: Path, judging: JsonObject | None = None, *, champion: str | None = None, name: str = "assess"
    ) -> Assessed:
        folder = self.folder / name
        folder.mkdir()
        prepared = self.prepared
        request = Assessment(
            model=str(model),
            data=prepared.data,
            evaluation=prepared.evaluation,
            history=None,
            schema=prepared.schema,
            size=prepared.size,
            span_us=None,
            champion=champion,
            margin=0.0,
            protected=("sex",),
            judging=convert(judging or {}, EvaluationSpec, where="spec.evaluation"),
        )
        return assess(request, folder)


def checks(assessed: Assessed) -> dict[str, JsonObject]:
    return {check["name"]: check for check in assessed.evidence["checks"]}  # type: ignore[union-attr, index, call-overload, misc]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"), loans())


def test_a_good_first_version_passes_with_every_check_on_record(office: Office) -> None:
    behaviour = [
        {"name": "sex does not matter", "invariance": {"sex": ["female", "male"]}, "atLeast": 0.9},
        {"name": "income helps", "direction": {"column": "income", "change": "+10%", "expect": "up", "of": "yes"}},
        {
            "name": "clear cases",
            "minimum": {
                "rows": [
                    {"income": 95, "debt": 1, "age": 50, "sex": "male", "city": "Oslo", "repaid": "yes"},
                    {"income": 10, "debt": 40, "age": 20, "sex": "female", "city": "Voss", "repaid": "no"},
                ],
                "atLeast": 1.0,
            },
        },
    ]
    found = office.assess(office.train(), {"behaviour": behaviour, "serving": {"sizeMb": 5}}, name="first")
    assert found.verdict is Verdict.PASS, found.reason
    by_name = checks(found)
    assert {name: check["verdict"] for name, check in by_name.items()} == {
        "slices": "pass",
        "calibration": "pass",
        "fairness": by_name["fairness"]["verdict"],
        "robustness": "pass",
        "serving": "pass",
        "leakage": "pass",
        "labels": "pass",
        "behaviour: sex does not matter": "pass",
        "behaviour: income helps": "pass",
        "behaviour: clear cases": "pass",
    }
    assert by_name["fairness"]["verdict"] in ("pass", "inconclusive")
    assert by_name["serving"]["evidence"]["challenger"]["requests"] > 20  # type: ignore[index, call-overload]
    assert len(by_name["calibration"]["evidence"]["points"]) >= 5  # type: ignore[index, call-overload, arg-type]
    assert msgspec.json.decode(msgspec.json.encode(found), type=Assessed).reason == found.reason


def test_the_champion_is_measured_and_compared_in_the_same_job(office: Office) -> None:
    first = office.assess(office.train(), name="champion")
    second = office.assess(office.train("other", linear=False), champion=first.folder, name="challenger")
    by_name = checks(second)
    assert by_name["serving"]["evidence"]["champion"]["p50_ms"] > 0  # type: ignore[index, call-overload, operator]
    assert "champion" in str(by_name["slices"]["reason"])


def test_a_test_that_names_a_column_that_is_not_there_blocks_and_says_which(office: Office) -> None:
    behaviour = [{"name": "no gender", "invariance": {"sec": ["female", "male"]}}]
    found = office.assess(office.train("again"), {"behaviour": behaviour}, name="wrong-column")
    assert found.verdict is Verdict.INCONCLUSIVE
    check = checks(found)["behaviour: no gender"]
    assert check["verdict"] == "error"
    assert "there is no column 'sec'" in found.reason
    assert "Did you mean 'sex'?" in found.reason


def test_a_limit_that_cannot_be_met_blocks(office: Office) -> None:
    found = office.assess(office.train("slow"), {"serving": {"latencyP50Ms": 1e-6}}, name="slow")
    assert found.verdict is Verdict.FAIL
    assert "serving: latency p50 is" in found.reason
    warned = office.assess(
        office.train("warned"), {"serving": {"latencyP50Ms": 1e-6, "mode": "warn"}}, name="slow-warned"
    )
    assert warned.verdict is Verdict.PASS
    off = office.assess(office.train("off"), {"serving": {"latencyP50Ms": 1e-6, "mode": "off"}}, name="slow-off")
    assert "serving" not in checks(off)


def test_a_column_that_gives_the_label_away_is_smelled(tmp_path: Path) -> None:
    office = Office(tmp_path, loans(leak=True))
    model = office.train(numbers=(*NUMBERS, "paid_back"))
    found = office.assess(model, {"leakage": {"mode": "block"}})
    assert found.verdict is Verdict.FAIL
    assert "paid_back alone tells the label" in found.reason


def test_rows_that_were_trained_on_are_smelled(tmp_path: Path) -> None:
    office = Office(tmp_path, loans())
    data, evaluation = (pq.read_table(path) for path in (office.prepared.data, office.prepared.evaluation))
    pq.write_table(pa.concat_tables([data.slice(0, 60), evaluation.slice(60)]), office.prepared.evaluation)
    found = office.assess(office.train(), {"leakage": {"mode": "block"}})
    assert found.verdict is Verdict.FAIL
    assert "25.0% of the evaluation rows are in the training data" in found.reason
    assert "are earlier than the last row that was trained on" in found.reason


def test_an_evaluation_set_without_rows_is_never_enough(tmp_path: Path) -> None:
    office = Office(tmp_path, loans(200))
    evaluation = pq.read_table(office.prepared.evaluation)
    pq.write_table(evaluation.slice(0, 0), office.prepared.evaluation)
    found = office.assess(office.train())
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "no row of the evaluation set has a label" in found.reason
