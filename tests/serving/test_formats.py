"""The model in a folder is found from its files; what is ambiguous, another, or runs code is refused by name."""

from __future__ import annotations

import pickle
from pathlib import Path

import model_files
import pytest
from model_files import WRITERS, mlflow_folder

from goldenloop.core.errors import InvalidSpecError, NotFoundError, RefusedError
from goldenloop.core.ids import digest_file
from goldenloop.core.served import TensorSpec
from goldenloop.serving.formats import FORMATS, recognise
from goldenloop.serving.predictors.trust import digest_folder


def trusting(folder: Path) -> frozenset[str]:
    return frozenset(digest_file(path) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("file", WRITERS)
def test_each_format_is_found_from_its_file(file: str, tmp_path: Path) -> None:
    kind, loader, write = WRITERS[file]
    write(tmp_path / file)
    for said in (None, kind, kind.upper()):
        found = recognise(tmp_path, said=said, trusted=trusting(tmp_path))
        assert (found.format, found.loader, found.file) == (kind, loader, file)


def test_files_beside_it_are_no_models(tmp_path: Path) -> None:
    model_files.write_onnx(tmp_path / "model.onnx")
    for name in (
        "README.md",
        "requirements.txt",
        "config.json",
        "labels.txt",
        "train.py",
        ".hidden.onnx",
        "vocab.json",
    ):
        (tmp_path / name).write_text('{"learn": 1}\ntree of nothing\n')
    assert recognise(tmp_path).file == "model.onnx"


@pytest.mark.parametrize("place", ["only/one/model.onnx", "onnx/model.onnx", "1/model.onnx"])
def test_a_model_below(place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    model_files.write_onnx(tmp_path / place)
    if place.startswith("onnx"):
        (tmp_path / "config.json").write_text("{}")
    found = recognise(tmp_path)
    assert found.path == tmp_path / place


def test_two_models_are_named(tmp_path: Path) -> None:
    model_files.write_onnx(tmp_path / "a.onnx")
    model_files.write_xgboost(tmp_path / "b.ubj")
    with pytest.raises(InvalidSpecError, match=r"a\.onnx \(onnx\), b\.ubj \(xgboost\)"):
        recognise(tmp_path)
    assert recognise(tmp_path, said="xgboost").file == "b.ubj"
    model_files.write_onnx(tmp_path / "c.onnx")
    with pytest.raises(InvalidSpecError, match=r"a\.onnx \(onnx\), c\.onnx \(onnx\)"):
        recognise(tmp_path, said="onnx")


@pytest.mark.parametrize("file", WRITERS)
@pytest.mark.parametrize("said", FORMATS)
def test_another_than_was_said(file: str, said: str, tmp_path: Path) -> None:
    kind, _, write = WRITERS[file]
    if said == kind:
        return
    write(tmp_path / file)
    with pytest.raises(InvalidSpecError, match=rf"modelFormat says {said}, and the files are .*\({kind}\)"):
        recognise(tmp_path, said=said, trusted=trusting(tmp_path))


@pytest.mark.parametrize("said", ["tensorflow", "triton", "paddle", "pmml", "huggingface", "catboost", "TensorFlow"])
def test_formats_that_are_not_served(said: str, tmp_path: Path) -> None:
    model_files.write_onnx(tmp_path / "model.onnx")
    with pytest.raises(RefusedError, match=f"'{said}' are not served"):
        recognise(tmp_path, said=said)
    with pytest.raises(InvalidSpecError, match="'nonsense' is not known"):
        recognise(tmp_path, said="nonsense")


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("saved_model.pb", "tensorflow"),
        ("model.h5", "tensorflow"),
        ("a.safetensors", "huggingface"),
        ("m.pmml", "pmml"),
    ],
)
def test_files_that_are_not_served(file: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(RefusedError, match=f"a model of {kind}"):
        recognise(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="no model among no files"):
        recognise(tmp_path)
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(InvalidSpecError, match=r"no model among README\.md"):
        recognise(tmp_path)


@pytest.mark.parametrize("file", ["model.pkl", "model.pickle", "model.joblib"])
def test_pickles_need_trust(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(pickle.dumps({"weights": [1]}))
    with pytest.raises(RefusedError, match="goldenloop trust") as caught:
        recognise(tmp_path)
    digest = digest_file(tmp_path / file)
    assert digest in str(caught.value)
    assert recognise(tmp_path, trusted=frozenset({digest})).pickles == (file,)
    (tmp_path / file).write_bytes(pickle.dumps({"weights": [2]}))
    with pytest.raises(RefusedError):
        recognise(tmp_path, trusted=frozenset({digest}))


def test_torch_pickles_are_refused(tmp_path: Path) -> None:
    model_files.write_torch_pickle(tmp_path / "model.pt")
    with pytest.raises(RefusedError, match="pickle of a module"):
        recognise(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"\x80\x02old")
    with pytest.raises(RefusedError, match="pickle of a module"):
        recognise(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidSpecError, match="not a file of PyTorch"):
        recognise(tmp_path)


def test_an_exported_program_describes_itself(tmp_path: Path) -> None:
    model_files.write_exported(tmp_path / "model.pt2")
    found = recognise(tmp_path)
    assert found.inputs == (TensorSpec("image", "FP32", (-1, 4)),)
    assert found.outputs == (TensorSpec("scores", "FP32", (-1, 3)),)
    assert found.framework_version == "2.13.0"


def test_xgboosts_old_form(tmp_path: Path) -> None:
    (tmp_path / "model.bst").write_bytes(b"binf" + bytes(100))
    with pytest.raises(RefusedError, match="old binary form"):
        recognise(tmp_path)


# --- Python classes


def test_classes(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("def predict(x):\n    return x\n")
    (tmp_path / "broken.py").write_text("class Model:\n  def predict(self\n")
    (tmp_path / "mine.py").write_text(
        "class Base:\n    def predict(self, x): ...\n\nclass Mine(Base):\n    batching: bool = True\n"
    )
    found = recognise(tmp_path)
    assert (found.file, found.class_name, found.batching, found.runs_code) == ("mine.py", None, True, True)
    (tmp_path / "model.py").write_text("class Other:\n    async def predict(self, x): ...\n")
    assert recognise(tmp_path).file == "model.py"
    assert recognise(tmp_path, class_name="Other").class_name == "Other"
    with pytest.raises(NotFoundError, match="It has Other"):
        recognise(tmp_path, class_name="Absent")


def test_several_classes_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "class One:\n    def predict(self, x): ...\n\nclass Two:\n    def predict(self, x): ...\n"
    )
    with pytest.raises(InvalidSpecError, match="One, Two"):
        recognise(tmp_path)
    assert recognise(tmp_path, class_name="Two").class_name == "Two"


def test_a_transformer_has_no_predict(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("class Images:\n    def preprocess(self, payload, headers): ...\n")
    assert recognise(tmp_path, said="python").file == "model.py"


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    for content in (b"class Model(\n", b"\x00", b"(" * 5_000, b"\xff\xfe"):
        (tmp_path / "model.py").write_bytes(content)
        with pytest.raises(InvalidSpecError, match="not Python"):
            recognise(tmp_path)


def test_a_class_with_weights_beside_it_is_said(tmp_path: Path) -> None:
    model_files.write_python(tmp_path / "model.py")
    model_files.write_joblib(tmp_path / "weights.joblib")
    with pytest.raises(InvalidSpecError, match="several models"):
        recognise(tmp_path)
    found = recognise(tmp_path, said="python")
    assert found.files == ("model.py", "weights.joblib")


# --- MLflow folders


def test_flavours(tmp_path: Path) -> None:
    folder = mlflow_folder(tmp_path / "sk", "  sklearn:\n    pickled_model: model.skops\n    sklearn_version: 1.9.1\n")
    model_files.write_skops(folder / "model.skops")
    found = recognise(folder)
    assert (found.format, found.loader, found.framework_version) == ("mlflow", "skops", "1.9.1")
    assert recognise(folder, said="mlflow") == recognise(folder, said="sklearn") == found
    with pytest.raises(InvalidSpecError, match="modelFormat says onnx"):
        recognise(folder, said="onnx")

    folder = mlflow_folder(
        tmp_path / "xgb", "  xgboost:\n    data: model.ubj\n    xgb_version: 3.2.0\n", signature=True
    )
    model_files.write_xgboost(folder / "model.ubj")
    assert recognise(folder).loader == "xgboost"
    assert recognise(folder).columns == ("a", "b", "c")

    folder = mlflow_folder(tmp_path / "lgb", "  lightgbm:\n    data: model.lgb\n    lgb_version: 4.7.0\n")
    model_files.write_lightgbm(folder / "model.lgb")
    assert recognise(folder).loader == "lightgbm"

    folder = mlflow_folder(
        tmp_path / "onnx", "  python_function:\n    data: model.onnx\n  onnx:\n    data: model.onnx\n"
    )
    model_files.write_onnx(folder / "model.onnx")
    assert recognise(folder).loader == "onnx"


def test_a_python_function_is_trusted_as_a_folder(tmp_path: Path) -> None:
    folder = mlflow_folder(
        tmp_path / "f",
        "  python_function:\n    loader_module: mlflow.pyfunc.model\n    python_model: p.pkl\n",
        signature=True,
    )
    (folder / "p.pkl").write_bytes(b"x")
    with pytest.raises(RefusedError, match=digest_folder(folder)):
        recognise(folder, trusted=trusting(folder))
    found = recognise(folder, trusted=frozenset({digest_folder(folder)}))
    assert found.loader == "mlflow"
    assert [spec.name for spec in found.inputs] == ["a", "b", "c"]
    (folder / "more.py").write_text("import os")
    with pytest.raises(RefusedError):
        recognise(folder, trusted=frozenset({found.format, digest_file(folder / "MLmodel")}))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "flavors: 3",
        "a: [",
        "flavors:\n  sklearn:\n    pickled_model: ../../secret.pkl\n",
        "flavors:\n  sklearn:\n    pickled_model: /etc/passwd\n",
        "flavors:\n  sklearn:\n    pickled_model: absent.pkl\n",
        "flavors:\n  xgboost:\n    data: 7\n",
        "flavors:\n  spark:\n    data: x\n",
        "flavors: !!python/object/apply:os.system ['touch /tmp/owned']\n",
        "flavors:\n  python_function:\n    data: x\nsignature:\n  inputs: '['\n",
    ],
)
def test_broken_descriptions(content: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text(content)
    (tmp_path / "model" / "a").write_text("a")
    (tmp_path / "secret.pkl").write_text("s")
    with pytest.raises(InvalidSpecError):
        recognise(tmp_path / "model")
