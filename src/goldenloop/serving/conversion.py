"""From a scikit-learn estimator, or an ONNX file, to the served form: accepted only where both give the same answers on the sample.

`convert` unpickles, so it runs only in a sandboxed process of its own, never where requests or control are.

What makes the two sides agree. Graphs compute in float32, estimators mostly in float64; a threshold of a tree may fall between the two,
so the agreement is measured, not assumed. A missing category is the empty text in a graph, and truths are the texts "true" and "false":
what fitted encoders and imputers know is rewritten so, in a copy.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, RefusedError
from goldenloop.core.signatures import Column, Signature, Task, as_text
from goldenloop.payloads.records import Answer
from goldenloop.serving.models import FEATURES, GRAPH_FILE, SIGNATURE_FILE, load
from goldenloop.serving.scoring import score_table

if TYPE_CHECKING:
    import pandas
    import pyarrow
    from onnx import ModelProto

CONVERSION_FILE = "conversion.json"
LABELS_AGREEING = 0.999  # at least this share of the sample's rows must get the same answer from both
MEDIAN_DIFFERENCE = 1e-4  # and the median difference of probabilities, or relative difference of values, is below this
COMPARED_ROWS = 20_000  # the first rows of the sample are compared, at most
RULE = f"labels agree on at least {LABELS_AGREEING:.1%} of the rows and the median difference is below {MEDIAN_DIFFERENCE:g}"

TIE = 1e-6  # two probabilities that are nearer than this are equal in float32

_SERVE_MEND = "Use a scikit-learn estimator that skl2onnx converts, or save the model as ONNX."


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversion gave. For regression labels agree where values differ by less than 1e-3 of their spread."""

    source: Literal["estimator", "onnx"]
    estimator: str
    rows: int
    labels_agreeing: float  # share, 0..1
    largest_difference: float  # of a probability, or of a value relative to the spread of the values
    median_difference: float
    accepted: bool
    rule: str
    signature: Signature


class _Estimator(Protocol):
    def predict(self, rows: object) -> NDArray[np.generic]: ...


@dataclass(frozen=True, slots=True)
class _Expected:
    """What the estimator itself says about the sample."""

    labels: list[str] | list[float]
    probabilities: NDArray[np.float64] | None
    is_regression: bool = False


def convert(
    estimator_path: Path, sample: pyarrow.Table, *, label: str, ignore: frozenset[str] = frozenset(), out: Path
) -> Conversion:
    """Write `model.onnx`, `signature.json` and `conversion.json` into `out`; return what was measured.

    The sample holds rows as the model was trained on; its column `label` and those in `ignore` are no inputs. Raises RefusedError where
    the model cannot be converted or the two sides disagree (then only `conversion.json` is written), InvalidSpecError for a bad file or
    sample.
    """
    if sample.num_rows == 0:
        raise InvalidSpecError(
            "the sample has no rows", where="sample", mend="Give the rows that the model was evaluated on."
        )
    sample = sample.slice(0, COMPARED_ROWS)
    out.mkdir(parents=True, exist_ok=True)
    if estimator_path.suffix == ".onnx":
        return _take_graph(estimator_path, sample, label=label, ignore=ignore, out=out)
    estimator = _load_estimator(estimator_path)
    names = _input_names(estimator, sample, label=label, ignore=ignore)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A threshold may lie on a row's own value: on which side the row falls is then a matter of rounding, and either is the estimator's.
        expected = (_ask(estimator, sample, names), _ask(estimator, _rounded(sample, names), names))
    refusals: list[GoldenloopError] = []
    # A column of truths is a category for most encoders, and a number for what computes with it.
    for truths_are in ("category", "number"):
        signature = _signature(estimator, sample, names, truths_are=truths_are)
        if truths_are == "number" and (len(refusals) == 0 or not _has_truths(sample, names)):
            break
        try:
            graph = _graph_of(estimator, signature)
            measured = _write_and_measure(graph, signature, estimator, sample, expected, out=out)
        except GoldenloopError as error:
            refusals.append(error)
            continue
        (out / CONVERSION_FILE).write_bytes(msgspec.json.encode(measured))
        return measured
    raise refusals[0]


def _take_graph(path: Path, sample: pyarrow.Table, *, label: str, ignore: frozenset[str], out: Path) -> Conversion:
    """Take a graph that has the served form already; its classes come from the sample's labels or from `signature.json` beside it."""
    beside = path.with_name(SIGNATURE_FILE)
    content = path.read_bytes()
    if beside.is_file():
        signature = msgspec.json.decode(beside.read_bytes(), type=Signature)
    else:
        signature = _guess_signature(content, sample, label=label, ignore=ignore)
    (out / GRAPH_FILE).write_bytes(content)
    (out / SIGNATURE_FILE).write_bytes(msgspec.json.encode(signature))
    try:
        model = load(out)
        score_table(model, sample)
    except GoldenloopError as error:
        for name in (GRAPH_FILE, SIGNATURE_FILE):
            (out / name).unlink(missing_ok=True)
        raise RefusedError(
            f"the ONNX model does not have the served form: {error}",
            where=str(path),
            mend="Give it the input 'features' (float32 [n, k]) or one input a column, and the outputs 'predict' and 'probabilities'.",
        ) from error
    record = Conversion(
        source="onnx",
        estimator="onnx",
        rows=sample.num_rows,
        labels_agreeing=1.0,
        largest_difference=0.0,
        median_difference=0.0,
        accepted=True,
        rule="the graph itself is the model; it scored the whole sample",
        signature=signature,
    )
    (out / CONVERSION_FILE).write_bytes(msgspec.json.encode(record))
    return record


def _guess_signature(content: bytes, sample: pyarrow.Table, *, label: str, ignore: frozenset[str]) -> Signature:
    import onnx
    import pyarrow

    try:
        graph = onnx.load_from_string(content).graph
    except Exception as error:  # the parser's errors share no parent with a name
        raise InvalidSpecError(
            f"not an ONNX model: {error}", where=GRAPH_FILE, mend="Save the model as ONNX."
        ) from error
    names = [name for name in sample.column_names if name != label and name not in ignore]
    if [entry.name for entry in graph.input] != [FEATURES]:
        names = [entry.name for entry in graph.input]
    inputs = tuple(Column(name=name, kind=_kind(sample, name)) for name in names if name in sample.column_names)
    if "probabilities" not in {entry.name for entry in graph.output}:
        return Signature(inputs=inputs, task="regression")
    if label not in sample.column_names:
        raise InvalidSpecError(
            f"there is no column {label!r}", where="sample", mend="The classes of an ONNX model are read from it."
        )
    labels = sample.column(label).drop_null()
    if pyarrow.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    classes = sorted(set(labels.to_pylist()))
    return Signature(
        inputs=inputs, task="classification", classes=tuple(map(as_text, classes)), class_kind=_class_kind(classes)
    )


def _load_estimator(path: Path) -> _Estimator:
    import joblib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = joblib.load(path)
    except OSError as error:
        raise InvalidSpecError(
            f"the model file cannot be read: {error}", where=str(path), mend="Check the path."
        ) from error
    except (ImportError, AttributeError) as error:
        raise RefusedError(
            f"the model needs code that is not installed here: {error}",
            where=str(path),
            mend="Install it in the step's environment, or build the model from scikit-learn's own classes.",
        ) from error
    except (pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, TypeError) as error:
        raise InvalidSpecError(
            f"not a saved estimator: {error}", where=str(path), mend="Save it with joblib.dump or pickle.dump."
        ) from error
    if not hasattr(loaded, "predict"):
        raise RefusedError(
            f"a {type(loaded).__name__} has no predict",
            where=str(path),
            mend="Save the fitted estimator or pipeline itself.",
        )
    return cast(_Estimator, loaded)


def _input_names(estimator: _Estimator, sample: pyarrow.Table, *, label: str, ignore: frozenset[str]) -> list[str]:
    present = [name for name in sample.column_names if name != label and name not in ignore]
    known = getattr(estimator, "feature_names_in_", None)
    if known is not None:
        names = [str(name) for name in known]
        missing = [name for name in names if name not in sample.column_names]
        if missing:
            raise InvalidSpecError(
                f"the model was trained on the column {missing[0]!r}, which the sample does not have",
                where="sample",
                mend="Give the sample the columns that the model was trained on.",
            )
        return names
    width = getattr(estimator, "n_features_in_", len(present))
    if width != len(present):
        raise InvalidSpecError(
            f"the model takes {width} columns and the sample has {len(present)} beside the label",
            where="sample",
            mend="Train on a data frame, so that the model knows its columns by name, or leave the other columns out.",
        )
    return present


def _ask(estimator: _Estimator, sample: pyarrow.Table, names: list[str]) -> _Expected:
    frame: pandas.DataFrame = sample.select(names).to_pandas()
    given = frame if hasattr(estimator, "feature_names_in_") else frame.to_numpy()
    try:
        labels = np.asarray(estimator.predict(given))
        probabilities = np.asarray(estimator.predict_proba(given)) if hasattr(estimator, "predict_proba") else None
    except Exception as error:  # whatever the user's estimator raises
        raise RefusedError(
            f"the estimator itself cannot score the sample: {type(error).__name__}: {str(error)[:300]}",
            where="sample",
            mend="Train it on columns of the types that the sample has.",
        ) from error
    if labels.ndim > 1 and labels.shape[1:] != (1,):
        raise RefusedError("the model gives several outputs a row", mend="Train one model for each output.")
    flat = labels.reshape(-1).tolist()
    if _task_of(estimator) == "regression":
        return _Expected([float(value) for value in flat], None, is_regression=True)
    return _Expected([as_text(value) for value in flat], probabilities)


def _signature(
    estimator: _Estimator, sample: pyarrow.Table, names: list[str], *, truths_are: Literal["category", "number"]
) -> Signature:
    inputs = tuple(Column(name=name, kind=_kind(sample, name, truths_are=truths_are)) for name in names)
    if _task_of(estimator) == "regression":
        return Signature(inputs=inputs, task="regression")
    classes = np.asarray(estimator.classes_).tolist()  # type: ignore[attr-defined]
    return Signature(
        inputs=inputs, task="classification", classes=tuple(map(as_text, classes)), class_kind=_class_kind(classes)
    )


def _kind(
    sample: pyarrow.Table, name: str, *, truths_are: Literal["category", "number"] = "category"
) -> Literal["category", "number"]:
    import pyarrow

    kind = sample.schema.field(name).type
    if pyarrow.types.is_boolean(kind):
        return truths_are
    types = pyarrow.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind):
        return "category"
    raise RefusedError(
        f"column {name!r} is of type {kind}",
        where="sample",
        mend="Give numbers, texts or truths; leave out times and lists.",
    )


def _has_truths(sample: pyarrow.Table, names: list[str]) -> bool:
    import pyarrow

    return any(pyarrow.types.is_boolean(sample.schema.field(name).type) for name in names)


def _class_kind(classes: list[str | float | bool]) -> Literal["text", "integer", "number", "boolean"]:
    if all(isinstance(value, bool) for value in classes):
        return "boolean"
    if all(isinstance(value, int) for value in classes):
        return "integer"
    if all(isinstance(value, int | float) for value in classes):
        return "number"
    return "text"


def _task_of(estimator: _Estimator) -> Task:
    return "classification" if hasattr(estimator, "classes_") else "regression"


def _graph_of(estimator: _Estimator, signature: Signature) -> ModelProto:
    """Return the graph in the served form. Raises RefusedError that names the operator which cannot be converted."""
    prepared = copy.deepcopy(estimator)
    _rewrite(prepared, set())
    is_matrix = all(column.kind == "number" for column in signature.inputs)
    try:
        graph = _translate(prepared, signature, by_column=not is_matrix)
    except RefusedError:
        if not is_matrix:
            raise
        # It picks columns by name: take them one by one and cut them out of the matrix.
        graph = _translate(prepared, signature, by_column=True)
        _cut_from_matrix(graph, signature)
    _name_outputs(graph, signature, has_probabilities=hasattr(estimator, "predict_proba"))
    return graph


def _translate(prepared: _Estimator, signature: Signature, *, by_column: bool) -> ModelProto:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    _register_constants()
    types = [(FEATURES, FloatTensorType([None, len(signature.inputs)]))]
    if by_column:
        kinds = {"number": FloatTensorType, "category": StringTensorType}
        types = [(column.name, kinds[column.kind]([None, 1])) for column in signature.inputs]
    options = {"zipmap": False} if signature.task == "classification" else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph: ModelProto = skl2onnx.convert_sklearn(prepared, initial_types=types, options=options)
    except Exception as error:  # the converter raises whatever it met
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise RefusedError(
            f"{_called(prepared)} cannot be converted: {type(error).__name__}: {first[:300]}", mend=_SERVE_MEND
        ) from error
    if by_column:
        _name_inputs(graph, signature)
    return graph


def _name_inputs(graph: ModelProto, signature: Signature) -> None:
    """Give the inputs the columns' own names, which the converter writes with underscores. They come in the order of the columns."""
    entries = list(graph.graph.input)
    if len(entries) != len(signature.inputs):
        raise RefusedError(
            f"the graph takes {len(entries)} of {len(signature.inputs)} columns",
            mend="Train the model without the columns it drops.",
        )
    # In two steps, since a name that was written may be the own name of another column.
    for stage in ("temporary", "final"):
        renamed = {
            entry.name: f"input of column {place}" if stage == "temporary" else column.name
            for place, (entry, column) in enumerate(zip(entries, signature.inputs, strict=True))
        }
        inner = {name for node in graph.graph.node for name in node.output}
        clash = inner & set(renamed.values())
        for node in graph.graph.node:
            node.input[:] = [renamed.get(name, f"{name} inside" if name in clash else name) for name in node.input]
            node.output[:] = [f"{name} inside" if name in clash else name for name in node.output]
        for entry in entries:
            entry.name = renamed[entry.name]
        for output in graph.graph.output:
            if output.name in clash:
                output.name = f"{output.name} inside"


def _cut_from_matrix(graph: ModelProto, signature: Signature) -> None:
    from onnx import TensorProto, helper

    names = list(signature.names)
    sizes = helper.make_tensor("sizes of the columns", TensorProto.INT64, [len(names)], [1] * len(names))
    graph.graph.initializer.append(sizes)
    split = helper.make_node("Split", [FEATURES, sizes.name], [f"{name} cut" for name in names], axis=1)
    for node in graph.graph.node:
        node.input[:] = [f"{name} cut" if name in names else name for name in node.input]
    graph.graph.node.insert(0, split)
    del graph.graph.input[:]
    graph.graph.input.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [None, len(names)]))


def _name_outputs(graph: ModelProto, signature: Signature, *, has_probabilities: bool) -> None:
    """Give the outputs their names in the served form; scores that are no probabilities are left out."""
    from onnx import helper

    wanted = ["predict", "probabilities"] if signature.task == "classification" and has_probabilities else ["predict"]
    outputs = list(graph.graph.output)[: len(wanted)]
    taken = {name for node in graph.graph.node for name in node.output} | {entry.name for entry in graph.graph.input}
    del graph.graph.output[:]
    for name, output in zip(wanted, outputs, strict=True):
        if output.name != name:
            if name in taken:
                for node in graph.graph.node:
                    node.input[:] = [f"{name} inside" if entry == name else entry for entry in node.input]
                    node.output[:] = [f"{name} inside" if entry == name else entry for entry in node.output]
            source = f"{name} inside" if output.name == name else output.name
            graph.graph.node.append(helper.make_node("Identity", [source], [name]))
            output.name = name
        graph.graph.output.append(output)


def _rewrite(part: object, seen: set[int]) -> None:
    """Rewrite, in place, what fitted encoders and imputers know of missing categories and truths."""
    from sklearn.base import BaseEstimator
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, list | tuple):
        for member in part:
            _rewrite(member, seen)
        return
    if isinstance(part, dict):
        for member in part.values():
            _rewrite(member, seen)
        return
    if not isinstance(part, BaseEstimator):
        return
    if isinstance(part, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        if getattr(part, "is_categorical_", None) is not None and np.any(part.is_categorical_):
            raise RefusedError(
                f"{type(part).__name__} with categorical_features cannot be converted: the graph would split on them as on numbers",
                mend="Encode categories with OrdinalEncoder or OneHotEncoder and leave categorical_features at None.",
            )
        return
    if isinstance(part, OneHotEncoder) and hasattr(part, "categories_"):
        part.categories_ = [_plain(categories) for categories in part.categories_]
    elif isinstance(part, OrdinalEncoder) and hasattr(part, "categories_"):
        # An encoder that writes unknown and missing alike as NaN needs no entry for the missing one.
        drops_missing = _is_nan(part.unknown_value) and _is_nan(part.encoded_missing_value)
        part.categories_ = [_plain(categories, drops_missing=drops_missing) for categories in part.categories_]
    elif isinstance(part, SimpleImputer) and getattr(part, "statistics_", np.empty(0)).dtype == object:
        part.missing_values = ""
    for member in list(vars(part).values()):
        _rewrite(member, seen)


def _plain(categories: NDArray[np.generic], *, drops_missing: bool = False) -> NDArray[np.generic]:
    """Texts for truths, and the empty text for the missing category; numbers stay as they are."""
    if categories.dtype.kind in "iuf":
        return categories
    values = categories.tolist()
    if drops_missing:
        values = [value for value in values if value is not None and not _is_nan(value)]
    return np.array(["" if value is None or _is_nan(value) else as_text(value) for value in values], dtype=object)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value


def _register_constants() -> None:
    """Teach the converter the models that always say the same."""
    from skl2onnx import update_registered_converter
    from sklearn.dummy import DummyClassifier, DummyRegressor

    update_registered_converter(
        DummyClassifier, "GoldenloopDummyClassifier", _shape_constant_classifier, _write_constant_classifier,
        options={"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]},
    )  # fmt: skip
    update_registered_converter(
        DummyRegressor, "GoldenloopDummyRegressor", _shape_constant_regressor, _write_constant_regressor
    )


class _Variable(Protocol):
    type: object
    full_name: str


class _Operator(Protocol):
    raw_operator: object
    inputs: list[_Variable]
    outputs: list[_Variable]


class _Scope(Protocol):
    def get_unique_variable_name(self, name: str) -> str: ...


class _Container(Protocol):
    def add_initializer(self, name: str, kind: int, shape: list[int], content: list[object]) -> None: ...

    def add_node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: object) -> None: ...


def _shape_constant_classifier(operator: _Operator) -> None:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    classes = np.asarray(operator.raw_operator.classes_)  # type: ignore[attr-defined]
    operator.outputs[0].type = (Int64TensorType if classes.dtype.kind in "iufb" else StringTensorType)([None])
    operator.outputs[1].type = FloatTensorType([None, len(classes)])


def _write_constant_classifier(scope: _Scope, operator: _Operator, container: _Container) -> None:
    from onnx import TensorProto

    estimator = operator.raw_operator
    strategy = estimator.strategy  # type: ignore[attr-defined]
    if strategy not in ("prior", "most_frequent", "constant"):
        raise NotImplementedError(f"DummyClassifier with the strategy {strategy!r} answers by chance")
    classes = np.asarray(estimator.classes_)  # type: ignore[attr-defined]
    shares = np.asarray(estimator.predict_proba(np.zeros((1, 1))))[0]  # type: ignore[attr-defined]
    first = classes[int(np.argmax(shares))]
    if classes.dtype.kind in "iufb":
        _expand(scope, operator, container, place=0, kind=TensorProto.INT64, values=[int(first)], is_row=False)
    else:
        _expand(
            scope, operator, container, place=0, kind=TensorProto.STRING, values=[str(first).encode()], is_row=False
        )
    _expand(scope, operator, container, place=1, kind=TensorProto.FLOAT, values=shares.tolist(), is_row=True)


def _shape_constant_regressor(operator: _Operator) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    operator.outputs[0].type = FloatTensorType([None, 1])


def _write_constant_regressor(scope: _Scope, operator: _Operator, container: _Container) -> None:
    from onnx import TensorProto

    value = float(np.asarray(operator.raw_operator.constant_).reshape(-1)[0])  # type: ignore[attr-defined]
    _expand(scope, operator, container, place=0, kind=TensorProto.FLOAT, values=[value], is_row=True)


def _expand(
    scope: _Scope,
    operator: _Operator,
    container: _Container,
    *,
    place: int,
    kind: int,
    values: list[object],
    is_row: bool,
) -> None:
    """Repeat a constant for each row: the shape of the result is [rows] or [rows, number of values]."""
    from onnx import TensorProto

    names = {
        part: scope.get_unique_variable_name(part) for part in ("constant", "shape", "first", "rows", "tail", "target")
    }
    container.add_initializer(names["constant"], kind, [1, len(values)] if is_row else [1], values)
    container.add_initializer(names["first"], TensorProto.INT64, [1], [0])
    container.add_node("Shape", [operator.inputs[0].full_name], [names["shape"]])
    container.add_node("Gather", [names["shape"], names["first"]], [names["rows"]], axis=0)
    target = names["rows"]
    if is_row:
        container.add_initializer(names["tail"], TensorProto.INT64, [1], [len(values)])
        container.add_node("Concat", [names["rows"], names["tail"]], [names["target"]], axis=0, op_version=13)
        target = names["target"]
    container.add_node("Expand", [names["constant"], target], [operator.outputs[place].full_name], op_version=13)


def _write_and_measure(
    graph: ModelProto,
    signature: Signature,
    estimator: _Estimator,
    sample: pyarrow.Table,
    expected: tuple[_Expected, ...],
    *,
    out: Path,
) -> Conversion:
    """Write the served form, score the sample with it, and compare it with what the estimator answers on the sample or on the sample as
    float32, whichever is nearer. A form that is not accepted is removed again."""
    (out / GRAPH_FILE).write_bytes(graph.SerializeToString())
    (out / SIGNATURE_FILE).write_bytes(msgspec.json.encode(signature))
    try:
        answers = score_table(load(out), _with_numbers(sample, signature))
    except GoldenloopError as error:
        _remove(out)
        raise RefusedError(f"the converted {_called(estimator)} does not run: {error}", mend=_SERVE_MEND) from error
    agreeing, differences = max((_compare(one, answers) for one in expected), key=lambda found: found[0])
    largest, median = float(np.max(differences)), float(np.median(differences))
    accepted = agreeing >= LABELS_AGREEING and median < MEDIAN_DIFFERENCE  # a NaN is not below anything
    record = Conversion(
        source="estimator",
        estimator=_called(estimator),
        rows=len(answers),
        labels_agreeing=agreeing,
        largest_difference=largest,
        median_difference=median,
        accepted=accepted,
        rule=RULE,
        signature=signature,
    )
    if not accepted:
        _remove(out)
        (out / CONVERSION_FILE).write_bytes(msgspec.json.encode(record))
        raise RefusedError(
            f"the converted {record.estimator} does not answer as the estimator does: on {len(answers)} rows {agreeing:.2%} of the "
            f"answers agree, the median difference is {median:.2g}",
            mend=f"Accepted is a model whose {RULE}; gradient boosting and linear models convert exactly.",
        )
    return record


def _compare(expected: _Expected, answers: tuple[Answer, ...]) -> tuple[float, NDArray[np.float64]]:
    """Return the share of rows whose labels agree, and the difference of each row."""
    if expected.is_regression:
        values = np.array(expected.labels, dtype=np.float64)
        spread = float(np.std(values)) or max(1.0, float(np.max(np.abs(values))))
        distances = np.abs(np.array([answer[0] for answer in answers], dtype=np.float64) - values) / spread
        return float(np.mean(distances < 1e-3)), distances
    same = np.array([name == answer[0] for name, answer in zip(expected.labels, answers, strict=True)])
    if expected.probabilities is None:
        return float(np.mean(same)), np.zeros(len(answers))
    shares = np.array([answer[1] for answer in answers], dtype=np.float64)
    differences = np.max(np.abs(shares - expected.probabilities), axis=1)
    # Of two classes that are equally probable either is right.
    best = np.sort(expected.probabilities, axis=1)[:, -2:]
    tied = (best[:, -1] - best[:, 0] < TIE) & (differences < TIE)
    return float(np.mean(same | tied)), differences


def _rounded(sample: pyarrow.Table, names: list[str]) -> pyarrow.Table:
    """The sample with its fractions as a graph gets them: rounded to float32, in columns of the same type."""
    import pyarrow

    for name in names:
        kind = sample.schema.field(name).type
        if pyarrow.types.is_float64(kind):
            column = sample.column(name).cast(pyarrow.float32(), safe=False).cast(kind)
            sample = sample.set_column(sample.column_names.index(name), name, column)
    return sample


def _with_numbers(sample: pyarrow.Table, signature: Signature) -> pyarrow.Table:
    """The sample with truths as numbers where the signature takes them so."""
    import pyarrow

    for column in signature.inputs:
        if column.kind == "number" and pyarrow.types.is_boolean(sample.schema.field(column.name).type):
            place = sample.column_names.index(column.name)
            sample = sample.set_column(place, column.name, sample.column(column.name).cast(pyarrow.int8()))
    return sample


def _remove(out: Path) -> None:
    for name in (GRAPH_FILE, SIGNATURE_FILE):
        (out / name).unlink(missing_ok=True)


def _called(estimator: object) -> str:
    """The classes of an estimator's steps."""
    steps = getattr(estimator, "steps", None)
    if isinstance(steps, list):
        return " → ".join(_called(step) for _, step in steps)
    transformers = getattr(estimator, "transformers_", None)
    if isinstance(transformers, list):
        inner = ", ".join(_called(step) for _, step, _ in transformers if not isinstance(step, str))
        return f"{type(estimator).__name__}({inner})"
    return type(estimator).__name__
