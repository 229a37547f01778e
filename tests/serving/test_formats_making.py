"""What is made of each format answers as the model it was made of."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import model_files
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from model_files import COLUMNS, frame, mlflow_folder
from onnx import TensorProto, helper, load_model, save
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.ids import digest_file
from goldenloop.core.served import SERVED_FILE, ServedForm, TensorSpec
from goldenloop.core.signatures import Column
from goldenloop.serving.conversion import CONVERSION_FILE, Conversion
from goldenloop.serving.formats import Made, make_form, recognise
from goldenloop.serving.models import load, open_session
from goldenloop.serving.predictors.loaders import load as load_in_process
from goldenloop.serving.scoring import score_table

NO_TORCH = "NO TORCH: exported programs and TorchScript are not loaded in this run; pip install torch"


def made_of(folder: Path, out: Path, *, said: str | None = None) -> Made:
    trusted = frozenset(digest_file(path) for path in folder.rglob("*") if path.is_file())
    made = make_form(recognise(folder, said=said, trusted=trusted), out)
    assert msgspec.json.decode((out / SERVED_FILE).read_bytes(), type=ServedForm) == made.form
    return made


def made_of_estimator(estimator: object, rows: pd.DataFrame, labels: object, tmp_path: Path) -> Made:
    estimator.fit(rows, labels)  # type: ignore[attr-defined]
    (tmp_path / "in").mkdir()
    joblib.dump(estimator, tmp_path / "in" / "model.joblib")
    return made_of(tmp_path / "in", tmp_path / "out")


def with_categories() -> pd.DataFrame:
    generator = np.random.default_rng(4)
    return frame().assign(kind=generator.choice(["x", "y", "z"], 400), is_new=generator.choice([True, False], 400))


# --- estimators, without a row of data


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (LogisticRegression, "up"),
        (lambda: make_pipeline(StandardScaler(), LogisticRegression()), "size"),
        (lambda: RandomForestClassifier(20, random_state=1), "size"),
        (lambda: ExtraTreesClassifier(20, random_state=1), "up"),
        (lambda: make_pipeline(SimpleImputer(), StandardScaler(), RandomForestRegressor(10, random_state=1)), "value"),
        (lambda: DecisionTreeClassifier(max_depth=5), "size"),
        (lambda: GridSearchCV(DecisionTreeClassifier(), {"max_depth": [3, 5]}, cv=3), "up"),
        (lambda: HistGradientBoostingClassifier(max_iter=20), "size"),
        (lambda: HistGradientBoostingRegressor(max_iter=20), "value"),
        (lambda: GradientBoostingRegressor(n_estimators=20), "value"),
        (lambda: CalibratedClassifierCV(LogisticRegression(), cv=3), "up"),
        (lambda: make_pipeline(StandardScaler(), SVC()), "up"),
        (LinearRegression, "value"),
        (lambda: KMeans(3, n_init=2, random_state=0), "value"),
    ],
)
def test_estimators_are_converted(make: Callable[[], object], label: str, tmp_path: Path) -> None:
    made = made_of_estimator(make(), frame()[COLUMNS], frame()[label], tmp_path)
    assert (made.form.form, made.form.runtime, made.form.format) == ("table", "onnx", "sklearn")
    record = msgspec.json.decode((tmp_path / "out" / CONVERSION_FILE).read_bytes(), type=Conversion)
    assert record.accepted
    assert record.rows >= 1_000
    # On rows that it was not compared on, and with a missing value where the estimator takes one.
    estimator = joblib.load(tmp_path / "in" / "model.joblib")
    rows = frame(700)[COLUMNS].iloc[400:].copy()
    try:
        gaps = rows.copy()
        gaps.iloc[::5, 1] = np.nan
        expected = estimator.predict(gaps)
        rows = gaps
    except ValueError:
        expected = estimator.predict(rows)
    answers = [value for value, _ in score_table(load(tmp_path / "out"), pa.Table.from_pandas(rows))]
    if made.form.signature is not None and made.form.signature.task == "classification":
        # Where two classes are equally probable, either is right.
        best = np.sort(estimator.predict_proba(rows)) if hasattr(estimator, "predict_proba") else np.array([[0.0, 1.0]])
        clear = np.broadcast_to(best[:, -1] - best[:, -2] > 1e-6, len(rows))
        assert np.array(answers)[clear].tolist() == [str(value) for value in expected[clear]]
    else:
        assert np.allclose(np.array(answers, dtype=float), expected, rtol=1e-3, atol=1e-3)


def test_categories_and_truths(tmp_path: Path) -> None:
    encoders = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["kind", "is_new"]), (StandardScaler(), COLUMNS)
    )
    rows = with_categories()
    made = made_of_estimator(
        make_pipeline(encoders, LogisticRegression()), rows[[*COLUMNS, "kind", "is_new"]], rows["up"], tmp_path
    )
    assert made.form.runtime == "onnx"
    assert made.form.signature is not None
    assert made.form.signature.inputs[-2:] == (
        Column(name="kind", kind="category"),
        Column(name="is_new", kind="category"),
    )


def test_categories_of_histogram_boosting_stay_in_a_process(tmp_path: Path) -> None:
    """The converter takes such splits for splits on numbers."""
    encoder = make_column_transformer((OrdinalEncoder(), ["kind"]), remainder="passthrough")
    estimator = make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=20, categorical_features=[0]))
    rows = with_categories()
    label = rows["up"] ^ (rows["kind"] == "x")
    made = made_of_estimator(estimator, rows[[*COLUMNS, "kind"]], label, tmp_path)
    assert (made.form.runtime, made.form.loader, made.form.file) == ("process", "pickle", "model.joblib")
    assert "categorical_features" in made.notes[0]


def test_what_is_not_converted_stays_in_a_process(tmp_path: Path) -> None:
    estimator = make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression())
    made = made_of_estimator(estimator, frame()[COLUMNS], frame()["size"], tmp_path)
    assert (made.form.form, made.form.runtime) == ("table", "process")
    assert made.form.signature is not None
    assert made.form.signature.classes == ("0", "1", "2")
    assert "FunctionTransformer" in made.notes[0]
    model = load_in_process(tmp_path / "out", made.form, name="m", threads=1)
    rows = frame()[COLUMNS].to_numpy()[:50]
    given = model.score(50, {"numbers": rows, "texts": np.empty((50, 0), dtype=object)})  # type: ignore[union-attr]
    assert given["predict"].tolist() == [str(value) for value in estimator.predict(frame()[COLUMNS][:50])]


def test_wrappers_of_boosters(tmp_path: Path) -> None:
    import lightgbm
    import xgboost

    texts = frame()["size"].map({0: "small", 1: "middle", 2: "large"})
    for name, estimator, label in (
        ("xgb", xgboost.XGBClassifier(n_estimators=10, nthread=1), frame()["size"]),
        ("xgbr", make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=10, nthread=1)), frame()["value"]),
        ("lgb", lightgbm.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1), texts),
        ("lgbr", lightgbm.LGBMRegressor(n_estimators=10, verbose=-1, n_jobs=1), frame()["value"]),
    ):
        (tmp_path / name).mkdir()
        made = made_of_estimator(estimator, frame()[COLUMNS], label, tmp_path / name)
        assert made.form.runtime == "onnx", made.notes


def test_models_that_are_no_table(tmp_path: Path) -> None:
    texts = make_pipeline(TfidfVectorizer(), LogisticRegression())
    with pytest.raises(RefusedError, match="which columns"):
        made_of_estimator(texts, pd.Series(["good", "bad"] * 20), ["a", "b"] * 20, tmp_path)
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(RefusedError, match="several outputs"):
        made_of_estimator(LinearRegression(), frame()[COLUMNS], frame()[["up", "value"]], tmp_path)


def test_skops_with_types_of_strangers(tmp_path: Path) -> None:
    import skops.io

    class Mine(LogisticRegression):
        """Not one of scikit-learn's."""

    (tmp_path / "in").mkdir()
    skops.io.dump(Mine().fit(frame()[COLUMNS], frame()["up"]), tmp_path / "in" / "model.skops")
    with pytest.raises(RefusedError, match="not trusted"):
        made_of(tmp_path / "in", tmp_path / "out")
    model_files.write_skops(tmp_path / "in" / "model.skops")
    assert made_of(tmp_path / "in", tmp_path / "other").form.runtime == "onnx"


# --- boosters


@pytest.mark.parametrize(
    ("write", "objective", "label", "settings", "runtime"),
    [
        (model_files.write_xgboost, "binary:logistic", "up", {}, "onnx"),
        (model_files.write_xgboost, "multi:softprob", "size", {"num_class": 3}, "onnx"),
        (model_files.write_xgboost, "multi:softmax", "size", {"num_class": 3}, "onnx"),
        (model_files.write_xgboost, "reg:squarederror", "value", {"base_score": 7.5}, "onnx"),
        (model_files.write_xgboost, "count:poisson", "size", {}, "onnx"),
        (model_files.write_xgboost, "binary:hinge", "up", {}, "process"),
        (model_files.write_xgboost, "reg:logistic", "up", {}, "process"),
        (model_files.write_xgboost, "rank:pairwise", "up", {}, "process"),
        (model_files.write_xgboost, "binary:logistic", "up", {"booster": "dart"}, "process"),
        (model_files.write_lightgbm, "binary", "up", {}, "onnx"),
        (model_files.write_lightgbm, "multiclass", "size", {"num_class": 3}, "onnx"),
        (model_files.write_lightgbm, "multiclassova", "size", {"num_class": 3}, "process"),
        (model_files.write_lightgbm, "regression", "value", {}, "onnx"),
        (model_files.write_lightgbm, "regression", "value", {"linear_tree": True}, "process"),
        (model_files.write_lightgbm, "cross_entropy", "up", {}, "process"),
        (
            model_files.write_lightgbm,
            "binary",
            "up",
            {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
            "process",
        ),
    ],
)
def test_boosters(
    write: Callable[..., None], objective: str, label: str, settings: dict[str, object], runtime: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "model.bst", objective, label, **settings)
    made = made_of(tmp_path / "in", tmp_path / "out")
    assert (made.form.form, made.form.runtime) == ("table", runtime), made.notes
    assert made.form.signature is not None
    assert made.form.signature.names == tuple(COLUMNS)
    is_scoring = bool(made.form.signature.classes) and objective != "multi:softmax"
    assert made.form.v1 == ("scores" if is_scoring else "classes")
    rows = frame()[COLUMNS]
    rows.iloc[::4, 2] = np.nan
    answers = answers_of(made, tmp_path / "out", rows)
    raw = raw_answers(tmp_path / "in" / "model.bst", write, rows)
    classes = len(made.form.signature.classes)
    if classes == 0:
        assert np.allclose([value for value, _ in answers], raw, rtol=1e-4, atol=1e-5)
    elif objective == "multi:softmax":
        assert [int(value) for value, _ in answers] == raw.astype(int).tolist()
    else:
        shares = np.array([shares for _, shares in answers])
        assert shares.shape == (len(rows), classes)
        assert np.allclose(shares[:, 1] if raw.ndim == 1 else shares, raw, atol=1e-5)


def answers_of(made: Made, out: Path, rows: pd.DataFrame) -> list[tuple[object, tuple[float, ...]]]:
    if made.form.runtime == "onnx":
        return list(score_table(load(out), pa.Table.from_pandas(rows)))
    model = load_in_process(out, made.form, name="m", threads=1)
    tensors = {"numbers": rows.to_numpy(dtype=np.float64), "texts": np.empty((len(rows), 0), dtype=object)}
    given = model.score(len(rows), tensors)  # type: ignore[union-attr]
    shares = given.get("probabilities", np.empty((len(rows), 0)))
    return list(zip(given["predict"].tolist(), map(tuple, shares.tolist()), strict=True))


def raw_answers(path: Path, write: Callable[..., None], rows: pd.DataFrame) -> np.ndarray:
    """What the booster itself says, loaded as its users load it."""
    if write is model_files.write_lightgbm:
        import lightgbm

        return np.asarray(lightgbm.Booster(model_file=str(path)).predict(rows))
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(path.read_bytes()))
    return np.asarray(booster.predict(xgboost.DMatrix(rows)))


def test_rounds_after_the_best_one_do_not_count(tmp_path: Path) -> None:
    import xgboost

    rows = xgboost.DMatrix(frame()[COLUMNS], frame()["up"])
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, rows, num_boost_round=12)
    booster.set_attr(best_iteration="3")
    (tmp_path / "in").mkdir()
    booster.save_model(tmp_path / "in" / "model.json")
    made = made_of(tmp_path / "in", tmp_path / "out")
    assert made.form.runtime == "onnx"
    shares = [shares[1] for _, shares in answers_of(made, tmp_path / "out", frame()[COLUMNS])]
    assert np.allclose(shares, booster.predict(rows, iteration_range=(0, 4)), atol=1e-5)


def test_categories_of_boosters(tmp_path: Path) -> None:
    import lightgbm
    import xgboost

    rows = with_categories()
    taken = rows[COLUMNS].assign(kind=rows["kind"].astype("category"))
    label = (rows["up"] ^ (rows["kind"] == "x")).astype(int)
    (tmp_path / "lightgbm").mkdir()
    told = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 5}
    booster = lightgbm.train(told, lightgbm.Dataset(taken, label), num_boost_round=10)
    booster.save_model(tmp_path / "lightgbm" / "model.txt")
    made = made_of(tmp_path / "lightgbm", tmp_path / "out")
    assert made.form.runtime == "process"
    assert made.form.signature is not None
    assert made.form.signature.inputs[-1] == Column(name="kind", kind="category")
    model = load_in_process(tmp_path / "out", made.form, name="m", threads=1)
    texts = np.array([["x"], ["z"], [None], ["never seen"]], dtype=object)
    given = model.score(4, {"numbers": taken[COLUMNS].to_numpy()[:4], "texts": texts})  # type: ignore[union-attr]
    said = taken[:4].assign(kind=pd.Categorical(["x", "z", None, None], categories=["x", "y", "z"]))
    assert np.allclose(given["probabilities"][:, 1], booster.predict(said))

    (tmp_path / "xgboost").mkdir()
    rows_with_texts = xgboost.DMatrix(taken, label, enable_categorical=True)
    xgboost.train({"nthread": 1}, rows_with_texts, num_boost_round=5).save_model(tmp_path / "xgboost" / "model.ubj")
    with pytest.raises(RefusedError, match="text categories"):
        made_of(tmp_path / "xgboost", tmp_path / "other")


def test_mlflow_names_the_columns(tmp_path: Path) -> None:
    import xgboost

    folder = mlflow_folder(tmp_path / "in", "  xgboost:\n    data: model.ubj\n    xgb_version: 3.2.0\n", signature=True)
    rows = xgboost.DMatrix(frame()[COLUMNS].to_numpy(), frame()["up"])
    xgboost.train({"objective": "binary:logistic", "nthread": 1}, rows, num_boost_round=5).save_model(
        folder / "model.ubj"
    )
    made = made_of(folder, tmp_path / "out")
    assert made.form.signature is not None
    assert made.form.signature.names == ("a", "b", "c")
    assert (made.form.format, made.form.framework_version) == ("mlflow", "3.2.0")


# --- graphs


def test_a_graph_of_tensors(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    model_files.write_onnx(tmp_path / "in" / "mine.onnx", shape=("n", 3, "h", "w"))
    made = made_of(tmp_path / "in", tmp_path / "out")
    assert made.form.inputs == (TensorSpec("x", "FP32", (-1, 3, -1, -1)),)
    assert made.form.batching
    assert (tmp_path / "out" / made.form.file).is_file()


@pytest.mark.parametrize(("nodes", "shape"), [("mean", ("n", 3)), ("fixed", (2, 3)), ("sum", ("n", 3))])
def test_rows_that_are_not_independent_are_not_batched(nodes: str, shape: tuple[object, ...], tmp_path: Path) -> None:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    taken = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(shape))
    made_nodes = {
        # Each row less the mean of all rows of the call; one answer for the call; a call of two rows only.
        "mean": [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]), helper.make_node("Sub", ["x", "m"], ["y"])],
        "sum": [helper.make_node("ReduceSum", ["x"], ["y"])],
        "fixed": [helper.make_node("Add", ["x", "x"], ["y"])],
    }[nodes]
    graph = helper.make_graph(made_nodes, "g", [given], [taken])
    (tmp_path / "in").mkdir()
    opset = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, ir_version=9, opset_imports=opset), str(tmp_path / "in" / "model.onnx"))
    assert not made_of(tmp_path / "in", tmp_path / "out").form.batching


def test_scores_in_maps_become_a_tensor(tmp_path: Path) -> None:
    from skl2onnx import to_onnx

    (tmp_path / "in").mkdir()
    rows = frame()[COLUMNS].to_numpy().astype(np.float32)
    graph = to_onnx(LogisticRegression().fit(rows, frame()["size"]), rows[:1])
    (tmp_path / "in" / "model.onnx").write_bytes(graph.SerializeToString())
    made = made_of(tmp_path / "in", tmp_path / "out")
    assert {spec.name: (spec.datatype, spec.shape) for spec in made.form.outputs} == {
        "output_label": ("INT64", (-1,)),
        "output_probability": ("FP32", (-1, 3)),
    }
    assert made.form.batching
    assert "tensor of scores" in made.notes[0]


def test_weights_beside_the_graph(tmp_path: Path) -> None:
    def write(place: str, folder: Path) -> None:
        weights = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            [weights],
        )
        model = helper.make_model(graph, ir_version=9)
        kept = model.graph.initializer[0]
        content = np.array([1, 2, 3], dtype=np.float32).tobytes()
        kept.ClearField("float_data")
        kept.data_location = TensorProto.EXTERNAL
        kept.external_data.add(key="location", value=place)
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        if not place.startswith(("/", "..")):
            (folder / place).parent.mkdir(exist_ok=True)
            (folder / place).write_bytes(content)

    write("weights/model.data", tmp_path / "in")
    made_of(tmp_path / "in", tmp_path / "out")
    session = open_session(tmp_path / "out" / "model.onnx")
    assert session.run(None, {"x": np.ones((1, 3), dtype=np.float32)})[0].tolist() == [[1.0, 2.0, 3.0]]
    for number, place in enumerate(("/etc/passwd", "../in/weights/model.data")):
        write(place, tmp_path / f"evil-{number}")
        with pytest.raises(RefusedError, match="wants weights from"):
            made_of(tmp_path / f"evil-{number}", tmp_path / f"out-{number}")
    (tmp_path / "in" / "weights" / "model.data").unlink()
    with pytest.raises(InvalidSpecError, match="are not there"):
        made_of(tmp_path / "in", tmp_path / "gone")


def test_graphs_that_cannot_be_served(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "model.onnx"
    model_files.write_onnx(path)
    for change, error in (
        (lambda graph: graph.input[0].type.tensor_type.ClearField("shape"), RefusedError),
        (lambda graph: graph.node[0].output.__setitem__(0, "z"), InvalidSpecError),
        (lambda graph: graph.output.pop(), InvalidSpecError),
    ):
        model = load_model(str(path))
        change(model.graph)
        (tmp_path / "in" / "model.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(error):
            made_of(tmp_path / "in", tmp_path / "out")
        model_files.write_onnx(path)


def test_a_table_of_our_own(tmp_path: Path) -> None:
    made = made_of_estimator(LogisticRegression(), frame()[COLUMNS], frame()["up"], tmp_path)
    (tmp_path / "out" / SERVED_FILE).unlink()
    (tmp_path / "out" / CONVERSION_FILE).unlink()
    again = made_of(tmp_path / "out", tmp_path / "again")
    assert (again.form.form, again.form.signature) == ("table", made.form.signature)


# --- code, and PyTorch


def test_a_class_keeps_its_folder(tmp_path: Path) -> None:
    (tmp_path / "in" / "weights").mkdir(parents=True)
    model_files.write_python(tmp_path / "in" / "model.py")
    (tmp_path / "in" / "weights" / "w.bin").write_bytes(b"w")
    (tmp_path / "in" / "requirements.txt").write_text("numpy")
    made = made_of(tmp_path / "in", tmp_path / "out")
    assert (made.form.form, made.form.loader, made.form.file, made.form.batching) == (
        "code",
        "python",
        "model.py",
        True,
    )
    assert (tmp_path / "out" / "weights" / "w.bin").read_bytes() == b"w"
    assert "requirements.txt" in made.notes[0]


def test_without_pytorch_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "in").mkdir()
    model_files.write_exported(tmp_path / "in" / "model.pt2")
    with pytest.raises(RefusedError, match="PyTorch is not installed"):
        made_of(tmp_path / "in", tmp_path / "out")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason=NO_TORCH)
def test_pytorch(tmp_path: Path) -> None:
    import torch

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scores": torch.softmax(self.layer(image), -1)}

    module = Small().eval()
    rows = torch.randn(2, 4)
    for folder in ("exported", "script"):
        (tmp_path / folder).mkdir()
    dynamic = ({0: torch.export.Dim("rows")},)
    torch.export.save(torch.export.export(module, (rows,), dynamic_shapes=dynamic), tmp_path / "exported" / "model.pt2")
    torch.jit.save(torch.jit.script(module), str(tmp_path / "script" / "model.pt"))
    made = made_of(tmp_path / "exported", tmp_path / "out")
    assert made.form.inputs == (TensorSpec("image", "FP32", (-1, 4)),)
    assert made.form.outputs == (TensorSpec("scores", "FP32", (-1, 3)),)
    assert made.form.batching
    made = made_of(tmp_path / "script", tmp_path / "other")
    assert (made.form.loader, made.form.inputs, made.form.batching) == ("torchscript", (), False)
