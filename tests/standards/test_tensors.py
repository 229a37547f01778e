"""Tensors: every datatype there and back, in every form, and what does not fit is refused."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.open_inference.rest import V1Request, read_v1, tensors_of_v1
from goldenloop.standards.open_inference.tensors import DTYPES, Array, Tensor

shapes = arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)


def of_json(datatype: str, shape: tuple[int, ...], data: object) -> Tensor:
    return Tensor("x", datatype, shape, msgspec.Raw(json.dumps(data).encode()))  # type: ignore[arg-type]


@given(st.data(), st.sampled_from(sorted(DTYPES)), shapes)
def test_numbers_there_and_back(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    dtype = np.dtype(DTYPES[datatype])
    plain = st.floats(-100, 100, width=16) if dtype.kind == "f" else None
    array = data.draw(arrays.arrays(dtype, shape, elements=plain))
    raw = Tensor("x", datatype, shape, array.tobytes())  # type: ignore[arg-type]
    forms: list[Tensor] = [
        raw,
        of_json(datatype, shape, array.tolist()),
        of_json(datatype, shape, array.reshape(-1).tolist()),
    ]
    for tensor in forms:
        found = tensor.array()
        assert found.dtype == dtype
        assert found.shape == shape
        assert found.tolist() == array.tolist()
        assert tensor.raw() == array.tobytes()
        assert tensor.json() == array.reshape(-1).tolist()
    of_array = Tensor.of_array("x", array)
    assert (of_array.datatype, of_array.shape) == (datatype, shape)


@given(arrays.arrays(object, shapes, elements=st.text(max_size=5)))
def test_texts_there_and_back(array: Array) -> None:
    flat = array.reshape(-1).tolist()
    encoded = [text.encode() for text in flat]
    tensor = of_json("BYTES", array.shape, array.tolist())
    assert tensor.array().reshape(-1).tolist() == encoded
    again = Tensor("x", "BYTES", array.shape, tensor.raw())
    assert again.array().reshape(-1).tolist() == encoded
    assert again.json() == flat
    assert Tensor.of_array("x", array).json() == flat


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "said"),
    [
        ("FP32", (2, 2), [[1, 2], [3]], "does not have the shape"),
        ("FP32", (2, 2), [[[1, 2], [3, 4]]], "does not have the shape"),
        ("FP32", (2, 2), [1, 2, 3], "holds 3 values, the shape says 4"),
        ("FP32", (2,), {"a": 1}, "does not have the shape"),
        ("FP32", (2,), ["1", 2], "holds '1'"),
        ("INT64", (2,), [1, None], "a value is missing"),
        ("INT8", (1,), [300], "does not fit into INT8"),
        ("INT8", (1,), [1.5], "holds fractions"),
        ("BYTES", (1,), [1], "1 is no value of BYTES"),
        ("BYTES", (1,), [None], "null is no value of BYTES"),
    ],
)
def test_what_does_not_fit(datatype: str, shape: tuple[int, ...], data: object, said: str) -> None:
    with pytest.raises(InvalidSpecError, match=said):
        of_json(datatype, shape, data).array()


def test_a_missing_number_is_nan() -> None:
    assert np.isnan(of_json("FP32", (2,), [1, None]).array()[1])  # type: ignore[call-overload]


@pytest.mark.parametrize("raw", [b"", b"\0" * 11, b"\0" * 13])
def test_raw_bytes_of_a_wrong_length(raw: bytes) -> None:
    with pytest.raises(InvalidSpecError, match=rf"have 12 bytes, not {len(raw)}"):
        Tensor("x", "FP32", (3,), raw).array()


def test_what_no_datatype_holds() -> None:
    with pytest.raises(InvalidSpecError, match="complex"):
        Tensor.of_array("x", np.array([1j]))


def v1(document: object) -> V1Request:
    return read_v1(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("document", "wanted", "found"),
    [
        ({"instances": [[1, 2], [3, 4]]}, {"x": "FP32"}, {"x": [[1, 2], [3, 4]]}),
        ({"instances": [{"x": [1, 2]}]}, {"x": "FP32"}, {"x": [[1, 2]]}),
        (
            {"instances": [{"a": 1, "b": "u"}, {"a": 2, "b": "v"}]},
            {"a": "INT64", "b": "BYTES"},
            {"a": [1, 2], "b": [b"u", b"v"]},
        ),
        ({"inputs": {"a": [1], "b": ["u"]}}, {"a": "INT64", "b": "BYTES"}, {"a": [1], "b": [b"u"]}),
        ({"inputs": [[1.5]]}, {"x": "FP64"}, {"x": [[1.5]]}),
        ({"instances": ["good", "bad"]}, {"text": "BYTES"}, {"text": [b"good", b"bad"]}),
    ],
)
def test_v1(document: object, wanted: dict[str, str], found: dict[str, object]) -> None:
    tensors = tensors_of_v1(v1(document), wanted)  # type: ignore[arg-type]
    assert {tensor.name: tensor.array().tolist() for tensor in tensors} == found


@pytest.mark.parametrize(
    ("document", "wanted", "said"),
    [
        ({"instances": []}, {"x": "FP32"}, "a list of rows"),
        ({"instances": [[1]]}, {"a": "FP32", "b": "FP32"}, "takes a, b"),
        (
            {"instances": [{"a": 1, "b": 1}, {"a": 1}]},
            {"a": "FP32", "b": "FP32"},
            r"instances\[1\]: the row has no 'b'",
        ),
        ({"instances": [[1], [1, 2]]}, {"x": "FP32"}, "does not have the shape"),
    ],
)
def test_wrong_v1(document: object, wanted: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSpecError, match=said):
        for tensor in tensors_of_v1(v1(document), wanted):  # type: ignore[arg-type]
            tensor.array()
