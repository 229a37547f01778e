"""Explanations by kind of model: exact for linear models and boosted trees, sampled for others, and alike for requests and for traces."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from model_files import COLUMNS, estimator, frame, write_lightgbm, write_xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from tests.serving.workbench import Bench, bench

from goldenloop.control.work.explain import explain
from goldenloop.control.work.records import Explanation
from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.routing import Served, Service
from goldenloop.serving.conversion import convert
from goldenloop.serving.conversion.boosters import load_lightgbm, load_xgboost
from goldenloop.serving.explanations import EXPLAIN_FILE, Explained, keep_explainer
from goldenloop.serving.explanations.aside import explain_aside
from goldenloop.serving.explanations.records import Linear, Trees, read_explainer
from goldenloop.serving.formats import make_form, recognise
from goldenloop.serving.unconverted import load_version

ROW = {"price": 0.7, "demand": -3.0, "hour": 40.0}


def parts(explained: Explained) -> dict[str, float]:
    return {part.name: part.contribution for part in explained.attributions}


def loans(rows: int = 300) -> pd.DataFrame:
    generator = np.random.default_rng(2)
    made = pd.DataFrame(
        {
            "income": generator.normal(50, 20, rows),
            "purpose": generator.choice(["car", "home", "other"], rows),
            "age": generator.integers(20, 70, rows).astype(float),
        }
    )
    made.loc[::17, "age"] = np.nan
    made["repaid"] = np.where(made["income"] + 30 * (made["purpose"] == "home") > 55, "yes", "no")
    return made


def prepared(model: Any, *, degree: int = 1) -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler(), PolynomialFeatures(degree, include_bias=False))
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("n", numbers, ["income", "age"]), ("c", encoder, ["purpose"])])
    return make_pipeline(columns, model)


def version_of(folder: Path, model: Any, data: pd.DataFrame, label: str) -> Path:
    """A served form as a loop makes it."""
    folder.mkdir(parents=True)
    joblib.dump(model, folder / "saved.joblib")
    table = pa.Table.from_pandas(data, preserve_index=False)
    record = convert(folder / "saved.joblib", table, label=label, out=folder)
    keep_explainer(folder, record.signature, table, background="training rows", estimator=model)
    return folder


def explained_by(folder: Path, row: dict[str, Any], answer: str | float) -> Explained:
    """As a trace explains it."""
    return explain(Explanation(folder=str(folder), row=row, answer=answer))


def test_a_linear_model_behind_preparing_steps_is_explained_exactly(tmp_path: Path) -> None:
    data = loans()
    model = prepared(LogisticRegression()).fit(data.drop(columns="repaid"), data["repaid"])
    folder = version_of(tmp_path / "v", model, data, "repaid")
    assert isinstance(read_explainer(folder).form, Linear)
    for purpose, age in (("home", 33.0), ("a purpose nobody knows", 33.0), ("car", None)):
        row = {"income": 81.0, "purpose": purpose, "age": age}
        margin = float(model.decision_function(pd.DataFrame([row]).astype({"age": float}))[0])
        yes, no = explained_by(folder, row, "yes"), explained_by(folder, row, "no")
        assert yes.of == "log-odds of yes"
        assert yes.score == pytest.approx(margin, abs=1e-6)
        assert no.score == pytest.approx(-margin, abs=1e-6)
        assert parts(no) == pytest.approx({name: -part for name, part in parts(yes).items()})
    # A column at its mean adds nothing: a missing age is imputed with the mean over all rows.
    assert abs(parts(explained_by(folder, {"income": 81.0, "purpose": "home", "age": None}, "yes"))["age"]) < 0.05


def test_the_parts_are_those_of_the_coefficients(tmp_path: Path) -> None:
    data = frame()[[*COLUMNS, "value"]]
    model = LinearRegression().fit(data[COLUMNS], data["value"])
    folder = version_of(tmp_path / "v", model, data, "value")
    explained = explained_by(folder, ROW, 1.0)
    background = pd.read_parquet(folder / "background.parquet")
    expected = model.coef_ * (np.array(list(ROW.values())) - background.mean().to_numpy())
    assert parts(explained) == pytest.approx(dict(zip(COLUMNS, expected, strict=True)), abs=1e-9)
    assert (explained.of, explained.method, explained.against) == ("value", "linear", "training rows")


def test_three_classes_have_a_score_each(tmp_path: Path) -> None:
    data = frame()[[*COLUMNS, "size"]]
    model = LogisticRegression(max_iter=3000).fit(data[COLUMNS], data["size"])
    folder = version_of(tmp_path / "v", model, data, "size")
    scores = model.decision_function(pd.DataFrame([ROW]))[0]
    for place in range(3):
        assert explained_by(folder, ROW, str(place)).score == pytest.approx(scores[place], abs=1e-6)


def test_steps_that_bend_columns_are_not_taken_for_linear(tmp_path: Path) -> None:
    data = loans()
    model = prepared(LogisticRegression(), degree=2).fit(data.drop(columns="repaid"), data["repaid"])
    folder = version_of(tmp_path / "v", model, data, "repaid")
    assert read_explainer(folder).form is None
    explained = explained_by(folder, {"income": 81.0, "purpose": "home", "age": 33.0}, "yes")
    assert (explained.method, explained.of) == ("sampled", "probability of yes")
    assert explained.score == pytest.approx(
        float(model.predict_proba(pd.DataFrame([{"income": 81.0, "purpose": "home", "age": 33.0}]))[0, 1]), abs=1e-4
    )


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("label", ["up", "size", "value"])
def test_boosted_trees_give_their_own_contributions(tmp_path: Path, kind: str, label: str) -> None:
    folder = made_by_hand(tmp_path, kind, label)
    form = read_explainer(folder).form
    assert isinstance(form, Trees)
    booster = (load_xgboost if kind == "xgboost" else load_lightgbm)(folder / form.file)
    row = pa.table({name: [value] for name, value in ROW.items()})
    answer = load_version(folder).predict({name: np.array([value]) for name, value in ROW.items()}, 1)[0][0]
    explained = explained_by(folder, ROW, answer)
    raw = booster.answer(row).reshape(-1)
    if label == "up":
        probability = raw[0] if answer == "1" else 1 - raw[0]
        assert explained.score == pytest.approx(np.log(probability / (1 - probability)), abs=1e-4)
    elif label == "value":
        assert (explained.of, explained.score) == ("value", pytest.approx(raw[0], abs=1e-4))
    else:
        # Scores of classes are logarithms of probabilities, but for a number that all of them share.
        scores = [explained_by(folder, ROW, str(place)).score for place in range(3)]
        assert np.exp(scores) / np.exp(scores).sum() == pytest.approx(raw, abs=1e-4)
    assert explained.method == "trees"


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_a_booster_inside_an_estimator_is_found(tmp_path: Path, kind: str) -> None:
    import lightgbm
    import xgboost

    data = frame()[[*COLUMNS, "up"]]
    kinds: dict[str, Any] = {
        "lightgbm": lightgbm.LGBMClassifier(n_estimators=10, verbosity=-1, n_jobs=1),
        "xgboost": xgboost.XGBClassifier(n_estimators=10, n_jobs=1),
    }
    model = kinds[kind].fit(data[COLUMNS], data["up"])
    folder = version_of(tmp_path / "v", model, data, "up")
    assert isinstance(read_explainer(folder).form, Trees)
    probability = model.predict_proba(pd.DataFrame([ROW]))[0, 1]
    explained = explained_by(folder, ROW, "1")
    assert explained.score == pytest.approx(np.log(probability / (1 - probability)), abs=1e-4)


def test_what_is_broken_is_said(tmp_path: Path) -> None:
    folder = made_by_hand(tmp_path, "xgboost", "up")
    (folder / "model.ubj").write_bytes(b"{L broken")
    with pytest.raises(GoldenloopError, match="XGBoost"):
        explained_by(folder, ROW, "1")
    with pytest.raises(GoldenloopError, match="lacks"):
        explained_by(folder, {"price": 1.0}, "1")
    (folder / EXPLAIN_FILE).write_bytes(b"{")
    with pytest.raises(GoldenloopError, match="not an explainer"):
        explained_by(folder, ROW, "1")
    (folder / EXPLAIN_FILE).unlink()
    (folder / "background.parquet").unlink()
    with pytest.raises(UnavailableError, match="no background"):
        explained_by(folder, ROW, "1")


def test_the_process_that_explains_trees_is_started_again_when_it_ends(tmp_path: Path) -> None:
    folder = made_by_hand(tmp_path, "lightgbm")
    form, signature = read_explainer(folder).form, load_version(folder).signature
    assert isinstance(form, Trees)

    async def ask() -> tuple[list[Explained], list[Explained]]:
        first = await explain_aside(folder, signature, form, [(ROW, "1"), ({**ROW, "hour": None}, "0")])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.0):
                await explain_aside(folder, signature, form, [(ROW, "1")])
        with pytest.raises(UnavailableError, match=r"cannot be read|not a model|No such"):
            await explain_aside(folder, signature, Trees(library="lightgbm", file="../nothing"), [(ROW, "1")])
        return first, await explain_aside(folder, signature, form, [(ROW, "1")])

    first, again = asyncio.run(ask())
    assert parts(first[0]) == parts(again[0]) == parts(explained_by(folder, ROW, "1"))
    assert parts(first[1]) == parts(explained_by(folder, {**ROW, "hour": None}, "0"))


def made_by_hand(tmp_path: Path, kind: str, label: str = "up") -> Path:
    """A served form as the examination of a file makes it."""
    given = tmp_path / f"given-{kind}-{label}"
    given.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "xgboost":
            write_xgboost(
                given / "model.ubj",
                {"up": "binary:logistic", "size": "multi:softprob", "value": "reg:squarederror"}[label],
                label,
                **({"num_class": 3} if label == "size" else {}),
            )
        elif kind == "lightgbm":
            write_lightgbm(
                given / "model.txt",
                {"up": "binary", "size": "multiclass", "value": "regression"}[label],
                label,
                **({"num_class": 3} if label == "size" else {}),
            )
        else:
            import skops.io

            data = frame()
            model = estimator()
            if kind == "forest":
                model = RandomForestClassifier(8, max_depth=4, random_state=0).fit(data[COLUMNS], data["up"])
            skops.io.dump(model, given / "model.skops")
        out = tmp_path / f"served-{kind}-{label}"
        make_form(recognise(given), out)
    return out


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, dict[str, Path]]]:
    folder = tmp_path_factory.mktemp("room")
    kinds = ("linear", "xgboost", "forest")
    versions = {kind: made_by_hand(folder, kind) for kind in kinds}
    with bench(folder) as made:
        made.publish(
            *(
                Service(
                    namespace="default",
                    name=kind,
                    champion="1",
                    versions=(Served(version="1", path=str(path), digest=kind),),
                )
                for kind, path in versions.items()
            )
        )
        made.start()
        made.wait_ready()
        yield made, versions


@pytest.mark.process
@pytest.mark.parametrize(("kind", "method"), [("linear", "linear"), ("xgboost", "trees"), ("forest", "sampled")])
def test_an_answer_is_explained_alike_at_once_and_later(
    room: tuple[Bench, dict[str, Path]], kind: str, method: str
) -> None:
    made, versions = room
    reply = made.call("POST", f"/v1/models/{kind}:predict", {"instances": [ROW]})
    identity = reply.headers["x-prediction-id"]
    at_once = made.call("POST", f"/v1/models/{kind}:explain", {"instances": [ROW]})
    assert at_once.status == 200, at_once.body
    told: Any = at_once.json["explanations"]
    logged = next(record for record in made.records()[0] if record.id == identity)
    later = explained_by(versions[kind], logged.row(0), logged.answers["1"][0][0])
    assert told[0]["attributions"] == parts(later)
    assert (told[0]["usual"], told[0]["score"], told[0]["of"]) == (later.usual, later.score, later.of)
    assert told[0]["method"] == method
    assert "made-up" in told[0]["background"] or method == "trees"

    signature = load_version(versions[kind]).signature
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 3], "data": list(ROW.values())}
    as_model = made.call("POST", f"/v2/models/{kind}-explainer/infer", {"inputs": [tensor]})
    assert as_model.status == 200, as_model.body
    outputs: Any = {output["name"]: output for output in as_model.json["outputs"]}  # type: ignore[union-attr,call-overload,index]
    assert outputs["attributions"]["shape"] == [1, 3]
    assert outputs["attributions"]["data"] == [parts(later)[name] for name in signature.names]
    assert outputs["base"]["data"] == [later.usual]


@pytest.mark.process
def test_explanations_are_a_model_with_metadata(room: tuple[Bench, dict[str, Path]]) -> None:
    made, _ = room
    told: Any = made.call("GET", "/v2/models/linear-explainer").json
    assert [each["name"] for each in told["outputs"]] == ["attributions", "base"]
    assert told["inputs"] == made.call("GET", "/v2/models/linear").json["inputs"]
    assert made.call("GET", "/v2/models/linear-explainer/ready").status == 200
    assert made.call("GET", "/v2/models/nothing-explainer").status == 404
    too_many = {"instances": [ROW] * 101}
    assert made.call("POST", "/v1/models/forest:explain", too_many).status == 400
