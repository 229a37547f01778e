"""A small convolutional network that reads handwritten digits, in `models/model.onnx`.

The pictures are the 8x8 ones that come with scikit-learn (UCI's optical recognition of handwritten digits). The filters of the only
convolution are drawn once and stay; the layer behind it is a logistic regression, which scikit-learn fits. The graph is written by hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper, save
from onnx.reference import ReferenceEvaluator
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

FOLDER = Path(__file__).parent / "models"
FILTERS = 32
BRIGHTEST = 16.0  # of a pixel


def main() -> None:
    """Train it and save it."""
    pictures, digits = load_digits(return_X_y=True)
    pictures = pictures.reshape(-1, 8, 8).astype(np.float32)
    filters = np.random.default_rng(4).normal(size=(FILTERS, 1, 3, 3)).astype(np.float32)
    last = (len(digits) * 4) // 5
    model = LogisticRegression(C=1.0, max_iter=300).fit(seen(pictures[:last], filters), digits[:last])
    right = model.score(seen(pictures[last:], filters), digits[last:])
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "model.onnx"
    save(graph(filters, model), file)
    print(
        f"{file}: {right:.3f} of {len(digits) - last} pictures that it was not trained on right, {file.stat().st_size} bytes"
    )


def seen(pictures: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """What the convolution makes of pictures."""
    nodes, given = convolution(filters)
    taken = helper.make_tensor_value_info("seen", TensorProto.FLOAT, ["n", FILTERS * 16])
    (found,) = ReferenceEvaluator(model_of(nodes, [taken], given)).run(None, {"pixels": pictures})
    return found


def convolution(filters: np.ndarray) -> tuple[list[NodeProto], list[TensorProto]]:
    """The nodes from `pixels` to `seen`, and their numbers."""
    nodes = [
        helper.make_node("Div", ["pixels", "brightest"], ["bright"]),
        helper.make_node("Unsqueeze", ["bright", "channel"], ["channels"]),
        helper.make_node("Conv", ["channels", "filters"], ["filtered"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["filtered"], ["lit"]),
        helper.make_node("MaxPool", ["lit"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["seen"]),
    ]
    given = {
        "brightest": np.array(BRIGHTEST, np.float32),
        "channel": np.array([1], np.int64),
        "filters": filters,
    }
    return nodes, [numpy_helper.from_array(value, name) for name, value in given.items()]


def graph(filters: np.ndarray, model: LogisticRegression) -> ModelProto:
    """The whole network: `digit`, and the `probabilities` of all ten."""
    nodes, given = convolution(filters)
    nodes += [
        helper.make_node("Gemm", ["seen", "weights", "biases"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
        helper.make_node("ArgMax", ["scores"], ["digit"], axis=1, keepdims=0),
    ]
    given += [
        numpy_helper.from_array(model.coef_.T.astype(np.float32), "weights"),
        numpy_helper.from_array(model.intercept_.astype(np.float32), "biases"),
    ]
    taken = [
        helper.make_tensor_value_info("digit", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10]),
    ]
    made = model_of(nodes, taken, given)
    checker.check_model(made, full_check=True)
    return made


def model_of(nodes: list[NodeProto], taken: list[ValueInfoProto], given: list[TensorProto]) -> ModelProto:
    """The graph of these nodes, from `pixels` to what is `taken`."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 8, 8])
    inner = helper.make_graph(nodes, "digits", [pixels], taken, given)
    return helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


if __name__ == "__main__":
    main()
