"""Every loader, in this process: the answers are the framework's own."""

from __future__ import annotations

import asyncio
import inspect
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import cast

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from predictor_bench import KEY, table_form, tensor_form
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, RefusedError
from goldenloop.core.served import ServedForm, TensorSpec
from goldenloop.serving.predictors.forms import read_served_form
from goldenloop.serving.predictors.loaders import load
from goldenloop.serving.predictors.server import ConcurrentModel, Model
from goldenloop.serving.predictors.trust import reason_to_refuse, sign_folder
from goldenloop.serving.predictors.wire import Array
from goldenloop.store.artifacts import Artifacts

IRIS, SPECIES = load_iris(return_X_y=True, as_frame=True)
COLUMNS = [(name, "number") for name in IRIS.columns]
CLASSES = ("0", "1", "2")


def loaded(folder: Path, form: ServedForm) -> Model:
    return cast(Model, load(folder, form, name="m", threads=1))


def table(frame: pd.DataFrame, texts: tuple[str, ...] = ()) -> dict[str, Array]:
    numbers = [name for name in frame.columns if name not in texts]
    objects = np.empty((len(frame), len(texts)), dtype=object)
    for place, name in enumerate(texts):
        objects[:, place] = [None if value is None or value != value else value for value in frame[name]]
    return {"numbers": frame[numbers].to_numpy(dtype=np.float64), "texts": objects}


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=500),
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(20, n_jobs=-1, random_state=1),
        HistGradientBoostingClassifier(max_iter=20, random_state=1),
        SVC(random_state=1),
        LinearSVC(),
        FixedThresholdClassifier(LogisticRegression(), threshold=0.9, pos_label=1),
        make_pipeline(ColumnTransformer([("some", StandardScaler(), list(IRIS.columns[:2]))]), LogisticRegression()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("saver", ["joblib", "pickle"])
def test_estimators_answer_as_themselves(tmp_path: Path, estimator: BaseEstimator, named: bool, saver: str) -> None:
    if not named and "columntransformer" in dict(getattr(estimator, "steps", ())):
        pytest.skip("it picks columns by name")
    classes = SPECIES if "Threshold" not in type(estimator).__name__ else (SPECIES > 0).astype(int)
    estimator.fit(IRIS if named else IRIS.to_numpy(), classes)
    path = tmp_path / ("model.joblib" if saver == "joblib" else "model.pkl")
    if saver == "joblib":
        joblib.dump(estimator, path)
    else:
        path.write_bytes(pickle.dumps(estimator))
    names = tuple(str(name) for name in sorted(set(classes)))
    model = loaded(tmp_path, table_form("pickle", path.name, columns=COLUMNS, classes=names, kind="integer"))
    for count in (1, 150):
        rows = IRIS[:count]
        answers = model.score(count, table(rows))
        given = rows if named else rows.to_numpy()
        assert answers["predict"].tolist() == [str(label) for label in estimator.predict(given)]
        assert ("probabilities" in answers) == hasattr(estimator, "predict_proba")
        if "probabilities" in answers:
            np.testing.assert_allclose(answers["probabilities"], estimator.predict_proba(given), atol=1e-12)


def test_categories_truths_and_what_is_missing(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "colour": ["red", "green", None, "blue"] * 25,
            "size": np.arange(100.0),
            "old": [True, False] * 50,
        }
    )
    wanted = np.where(frame["colour"] == "red", "yes", "no")
    chosen = [
        ("codes", OneHotEncoder(handle_unknown="ignore"), ["colour", "old"]),
        ("size", StandardScaler(), ["size"]),
    ]
    estimator = make_pipeline(ColumnTransformer(chosen), LogisticRegression()).fit(frame, wanted)
    joblib.dump(estimator, tmp_path / "model.joblib")
    form = table_form(
        "pickle",
        "model.joblib",
        columns=[("colour", "category"), ("size", "number"), ("old", "category")],
        classes=("no", "yes"),
    )
    form = msgspec.structs.replace(form, inputs=(TensorSpec("old", "BOOL", (-1,)),))
    written = frame.assign(old=np.where(frame["old"], "true", "false"))
    answers = loaded(tmp_path, form).score(100, table(written, ("colour", "old")))
    np.testing.assert_allclose(answers["probabilities"], estimator.predict_proba(frame), atol=1e-12)


def test_regression_and_tensors(tmp_path: Path) -> None:
    estimator = LinearRegression().fit(IRIS, SPECIES)
    joblib.dump(estimator, tmp_path / "model.joblib")
    model = loaded(tmp_path, table_form("pickle", "model.joblib", columns=COLUMNS))
    np.testing.assert_allclose(model.score(150, table(IRIS))["predict"], estimator.predict(IRIS))
    classifier = LogisticRegression(max_iter=500).fit(IRIS, SPECIES)
    joblib.dump(classifier, tmp_path / "model.joblib")
    model = loaded(tmp_path, tensor_form("pickle", "model.joblib", ["x"], ["predict", "probabilities"]))
    answers = model.score(150, {"x": IRIS.to_numpy(dtype=np.float32)})
    assert answers["predict"].tolist() == classifier.predict(IRIS).tolist()
    np.testing.assert_allclose(answers["probabilities"], classifier.predict_proba(IRIS), atol=1e-5)


def test_other_classes_than_the_signature_says(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(max_iter=500).fit(IRIS, SPECIES), tmp_path / "model.joblib")
    with pytest.raises(InvalidSpecError, match="classes are"):
        loaded(tmp_path, table_form("pickle", "model.joblib", columns=COLUMNS, classes=("0", "2", "1")))


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x80\x04", pickle.dumps({"a": 1}), pickle.dumps(3)[:-2]])
def test_what_is_no_estimator(tmp_path: Path, content: bytes) -> None:
    for name in ("model.pkl", "model.joblib"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidSpecError):
            loaded(tmp_path, table_form("pickle", name, columns=COLUMNS))


class Foreign(BaseEstimator, ClassifierMixin):
    """A class that nobody trusts."""

    def fit(self, _rows: object, labels: object) -> Foreign:
        self.classes_ = np.unique(np.asarray(labels))
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros(len(rows))


def test_skops(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    estimator = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=1)).fit(IRIS, SPECIES)
    skops.dump(estimator, tmp_path / "model.skops")
    form = table_form("skops", "model.skops", columns=COLUMNS, classes=CLASSES, kind="integer")
    answers = loaded(tmp_path, form).score(150, table(IRIS))
    np.testing.assert_allclose(answers["probabilities"], estimator.predict_proba(IRIS), atol=1e-12)
    skops.dump(Foreign().fit(IRIS, SPECIES), tmp_path / "model.skops")
    with pytest.raises(RefusedError, match="not trusted: .*Foreign"):
        loaded(tmp_path, form)
    (tmp_path / "model.skops").write_bytes(b"nothing")
    with pytest.raises(InvalidSpecError, match="not a skops file"):
        loaded(tmp_path, form)


def test_xgboost(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    for objective, labels in (
        ("binary:logistic", SPECIES > 0),
        ("multi:softprob", SPECIES),
        ("multi:softmax", SPECIES),
    ):
        names = CLASSES if "multi" in objective else ("false", "true")
        more = {"num_class": 3} if "multi" in objective else {}
        matrix = xgboost.DMatrix(IRIS.to_numpy(), labels)
        booster = xgboost.train({"objective": objective, **more}, matrix, 10)
        booster.save_model(tmp_path / "model.ubj")
        model = loaded(tmp_path, table_form("xgboost", "model.ubj", columns=COLUMNS, classes=names))
        answers = model.score(150, table(IRIS))
        direct = np.asarray(booster.predict(matrix))
        if objective == "multi:softmax":
            assert answers["predict"].tolist() == [str(int(label)) for label in direct]
        elif direct.ndim == 1:
            np.testing.assert_allclose(answers["probabilities"][:, 1], direct, atol=1e-6)
        else:
            np.testing.assert_allclose(answers["probabilities"], direct, atol=1e-6)
    regressor = xgboost.train({"objective": "reg:squarederror"}, matrix, 10)
    regressor.save_model(tmp_path / "model.json")
    values = loaded(tmp_path, table_form("xgboost", "model.json", columns=COLUMNS)).score(150, table(IRIS))["predict"]
    np.testing.assert_allclose(values, regressor.predict(matrix), atol=1e-6)
    raw = loaded(tmp_path, tensor_form("xgboost", "model.json", ["x"], ["y"])).score(150, {"x": IRIS.to_numpy()})["y"]
    np.testing.assert_allclose(raw, regressor.predict(matrix), atol=1e-6)
    with pytest.raises(InvalidSpecError, match="no probabilities"):
        loaded(tmp_path, table_form("xgboost", "model.json", columns=COLUMNS, classes=CLASSES))
    (tmp_path / "model.json").write_bytes(b"{}")
    with pytest.raises(InvalidSpecError, match="not an XGBoost model"):
        loaded(tmp_path, table_form("xgboost", "model.json", columns=COLUMNS))


def test_lightgbm(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    for objective, labels in (("binary", SPECIES > 0), ("multiclass", SPECIES), ("regression", SPECIES)):
        more = {"num_class": 3} if objective == "multiclass" else {}
        booster = lightgbm.train({"objective": objective, "verbosity": -1, **more}, lightgbm.Dataset(IRIS, labels), 10)
        booster.save_model(tmp_path / "model.txt")
        names = {"binary": ("false", "true"), "multiclass": CLASSES, "regression": ()}[objective]
        answers = loaded(tmp_path, table_form("lightgbm", "model.txt", columns=COLUMNS, classes=names)).score(
            150, table(IRIS)
        )
        direct = np.asarray(booster.predict(IRIS))
        if objective == "regression":
            np.testing.assert_allclose(answers["predict"], direct)
        elif direct.ndim == 1:
            np.testing.assert_allclose(answers["probabilities"][:, 1], direct)
        else:
            np.testing.assert_allclose(answers["probabilities"], direct)
    (tmp_path / "model.txt").write_bytes(b"nothing")
    with pytest.raises(InvalidSpecError, match="not a LightGBM model"):
        loaded(tmp_path, table_form("lightgbm", "model.txt", columns=COLUMNS))


def test_lightgbm_categories(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    frame = pd.DataFrame({"size": np.arange(300.0), "colour": pd.Categorical(["red", "green", "blue"] * 100)})
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1}, lightgbm.Dataset(frame, frame["colour"] == "red"), 10
    )
    booster.save_model(tmp_path / "model.txt")
    columns = [("size", "number"), ("colour", "category")]
    form = table_form("lightgbm", "model.txt", columns=columns, classes=("no", "yes"))
    given = table(frame.astype({"colour": object}), ("colour",))
    answers = loaded(tmp_path, form).score(300, given)
    np.testing.assert_allclose(answers["probabilities"][:, 1], booster.predict(frame))
    given["texts"][0, 0] = None
    given["texts"][1, 0] = "never seen"
    loaded(tmp_path, form).score(300, given)


def test_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is an extra; install torch to run this")
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    rows = torch.rand(16, 4)
    wanted = module(rows).detach().numpy()
    torch.jit.script(module).save(str(tmp_path / "model.pt"))
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (rows,), dynamic_shapes=({0: batch},))
    torch.export.save(program, str(tmp_path / "model.pt2"))
    for loader, name in (("torchscript", "model.pt"), ("exported", "model.pt2")):
        model = loaded(tmp_path, tensor_form(cast("object", loader), name, ["x"], ["y"]))  # type: ignore[arg-type]
        np.testing.assert_allclose(model.score(16, {"x": rows.numpy()})["y"], wanted, atol=1e-5)
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(InvalidSpecError):
            loaded(tmp_path, tensor_form(cast("object", loader), name, ["x"], ["y"]))  # type: ignore[arg-type]


@pytest.mark.parametrize("loader", ["torchscript", "exported", "mlflow"])
def test_a_framework_that_is_not_installed_is_named(tmp_path: Path, loader: str) -> None:
    package = "mlflow" if loader == "mlflow" else "torch"
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(RefusedError, match=r"pip install"):
            loaded(tmp_path, tensor_form(cast("object", loader), "model", ["x"], ["y"]))  # type: ignore[arg-type]
    else:
        pytest.skip(f"{package} is installed")


def code(folder: Path, source: str, **fields: object) -> Model | ConcurrentModel:
    (folder / "model.py").write_text(dedent(source))
    form = ServedForm(form="code", runtime="process", loader="python", file="model.py", **fields)  # type: ignore[arg-type]
    return load(folder, form, name="mine", threads=1)


def called(model: Model | ConcurrentModel, payload: object, method: str = "predict", **headers: str) -> object:
    result = model.call(cast("object", method), payload, headers)  # type: ignore[arg-type]
    return asyncio.run(cast("Callable[..., object]", _wait)(result)) if inspect.isawaitable(result) else result  # type: ignore[arg-type]


async def _wait(awaitable: object) -> object:
    return await awaitable  # type: ignore[misc]


V1 = {"instances": [[1, 2], [3, 4]]}
V2 = {
    "id": "7",
    "inputs": [
        {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": np.array([[1, 2], [3, 4]], dtype=np.float32)}
    ],
}


@pytest.mark.parametrize("prefix", ["", "async "])
def test_a_chain_of_methods(tmp_path: Path, prefix: str) -> None:
    model = code(
        tmp_path,
        f"""
        class Chain:
            {prefix}def load(self): self.steps = []
            def preprocess(self, payload, headers): return payload["instances"]
            {prefix}def predict(self, rows): return [sum(row) for row in rows]
            def postprocess(self, sums, headers): return {{"predictions": sums, "for": headers["x-user"]}}
            {prefix}def explain(self, rows, headers): return [row[0] for row in rows]
        """,
    )
    assert inspect.iscoroutinefunction(model.call) == bool(prefix)
    assert called(model, V1, **{"x-user": "me"}) == {"predictions": [3, 7], "for": "me"}
    assert called(model, V1, "explain", **{"x-user": "me"}) == {"predictions": [1, 3], "for": "me"}
    assert called(model, V1, "preprocess") == V1["instances"]
    assert called(model, [1], "postprocess", **{"x-user": "me"}) == {"predictions": [1], "for": "me"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("np.array([3.0, 7.0])", {"output-0": ("FP64", [2], [3.0, 7.0])}),
        ("[3, 7]", {"output-0": ("INT64", [2], [3, 7])}),
        ("['a', 'b']", {"output-0": ("BYTES", [2], ["a", "b"])}),
        ("{'a': [True], 'b': np.float32(1.5)}", {"a": ("BOOL", [1], [True]), "b": ("FP32", [1], [1.5])}),
        ("{'outputs': {'a': [[1.0]]}}", {"a": ("FP64", [1, 1], [[1.0]])}),
        (
            "{'outputs': [{'name': 'a', 'shape': [2, 1], 'datatype': 'FP32', 'data': [1.0, 2.0]}]}",
            {"a": ("FP32", [2, 1], [[1.0], [2.0]])},
        ),
    ],
)
def test_what_may_be_given_for_v2(tmp_path: Path, given: str, wanted: dict[str, tuple[str, list[int], object]]) -> None:
    model = code(tmp_path, f"import numpy as np\nclass Gives:\n    def predict(self, payload): return {given}\n")
    answer = cast("dict[str, list[dict[str, object]]]", called(model, V2))
    seen = {
        output["name"]: (output["datatype"], output["shape"], cast(Array, output["data"]).tolist())
        for output in answer["outputs"]
    }
    assert seen == wanted


@pytest.mark.parametrize("given", ["[[1], [1, 2]]", "[object()]", "{'a': [{}]}", "{'outputs': [3]}", "1j"])
def test_what_may_not_be_given_for_v2(tmp_path: Path, given: str) -> None:
    model = code(tmp_path, f"class Gives:\n    def predict(self, payload): return {given}\n")
    with pytest.raises((TypeError, ValueError)):
        called(model, V2)


def test_what_is_given_for_v1(tmp_path: Path) -> None:
    model = code(tmp_path, "class Gives:\n    def predict(self, payload): return [1, 2]\n")
    assert called(model, V1) == {"predictions": [1, 2]}


def test_which_class(tmp_path: Path) -> None:
    source = """
        from collections import OrderedDict
        class Base:
            def predict(self, payload): return 1
        class Derived(Base):
            def predict(self, payload): return 2
        class Helper:
            pass
    """
    assert called(code(tmp_path, source), V1) == {"predictions": 2}
    assert called(code(tmp_path, source, class_name="Base"), V1) == {"predictions": 1}
    with pytest.raises(InvalidSpecError, match="no class 'Other'"):
        code(tmp_path, source, class_name="Other")


def test_a_transformer_needs_no_predict(tmp_path: Path) -> None:
    model = code(tmp_path, "class Turns:\n    def preprocess(self, payload): return {'instances': [1]}\n")
    assert called(model, V1, "preprocess") == {"instances": [1]}
    assert called(model, {"predictions": [5]}, "postprocess") == {"predictions": [5]}
    with pytest.raises(TypeError, match="no method 'predict'"):
        called(model, V1)


def test_arguments_that_are_filled_in(tmp_path: Path) -> None:
    model = code(
        tmp_path,
        """
        class Named:
            def __init__(self, name, path, more=3): self.given = [name, path, more]
            def predict(self, payload): return self.given
        """,
    )
    assert called(model, V1) == {"predictions": ["mine", str(tmp_path), 3]}


def test_only_what_was_signed_is_unpickled(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(max_iter=500).fit(IRIS, SPECIES), tmp_path / "model.joblib")
    form = table_form("pickle", "model.joblib", columns=COLUMNS, classes=CLASSES)
    (tmp_path / "served.json").write_bytes(msgspec.json.encode(form))
    assert "has not signed it" in reason_to_refuse(tmp_path, KEY)
    sign_folder(tmp_path, KEY)
    assert reason_to_refuse(tmp_path, KEY) == ""
    assert "is not this installation's" in reason_to_refuse(tmp_path, b"o" * 32)
    assert reason_to_refuse(tmp_path, None) != ""
    kept = Artifacts(str(tmp_path.with_name("store")), cache=tmp_path.with_name("cache"))
    assert reason_to_refuse(kept.local(kept.put(tmp_path)), KEY) == ""
    signed = json.loads((tmp_path / "signed.json").read_bytes())
    with (tmp_path / "model.joblib").open("ab") as file:
        file.write(b"x")
    assert "changed after" in reason_to_refuse(tmp_path, KEY)
    (tmp_path / "signed.json").write_text(json.dumps({**signed, "digest": "other"}))
    assert "is not this installation's" in reason_to_refuse(tmp_path, KEY)
    # What needs no unpickling needs no signature.
    (tmp_path / "served.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(form, loader="skops")))
    (tmp_path / "signed.json").unlink()
    assert reason_to_refuse(tmp_path, KEY) == ""


def test_forms_that_are_none(tmp_path: Path) -> None:
    for content in (b"", b"{}", b'{"form":"table","runtime":"process","loader":"pickle"}'):
        (tmp_path / "served.json").write_bytes(content)
        with pytest.raises(GoldenloopError, match="Apply the service again"):
            read_served_form(tmp_path)


def test_wine_is_not_iris(tmp_path: Path) -> None:
    """A model that is asked with other columns than it was trained on raises, and does not answer."""
    rows, labels = load_wine(return_X_y=True)
    joblib.dump(RandomForestClassifier(3).fit(rows, labels), tmp_path / "model.joblib")
    model = loaded(tmp_path, table_form("pickle", "model.joblib", columns=COLUMNS, classes=CLASSES, kind="integer"))
    with pytest.raises(ValueError, match="features"):
        model.score(150, table(IRIS))
