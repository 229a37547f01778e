"""Teaching the converter the models that always say the same."""

from __future__ import annotations

from typing import Protocol

import numpy as np


def register_constants() -> None:
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
