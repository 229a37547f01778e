"""The codec: what is right is read as it was meant, what is wrong is refused with where and how to mend it, nothing crashes."""

from __future__ import annotations

import json
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Column, Signature
from goldenloop.standards.open_inference import rest as protocol
from goldenloop.standards.open_inference.records import InferRequest, InferResponse
from goldenloop.standards.open_inference.table import (
    Answer,
    check_outputs,
    labels_of,
    metadata_of,
    outputs_of,
    rows_of_v1,
    rows_of_v2,
)
from goldenloop.standards.tabular import Batch, Layout

NUMBERS = Signature(
    inputs=tuple(Column(name=name, kind="number") for name in ("price", "demand", "transfer")),
    task="classification",
    classes=("DOWN", "UP"),
)
MIXED = Signature(
    inputs=(
        Column(name="purpose", kind="category"),
        Column(name="amount", kind="number"),
        Column(name="housing", kind="category"),
    ),
    task="classification",
    classes=("0", "1"),
    class_kind="integer",
)
PRICE = Signature(inputs=(Column(name="price", kind="number"),), task="regression")


def read_v2(body: bytes, *, header_length: int | None = None) -> InferRequest:
    return protocol.read_v2(body, model="m", header_length=header_length)


def write_v2(request: InferRequest, answers: list[Answer], signature: Signature) -> tuple[bytes, int | None]:
    asked = None if request.outputs is None else [output.name for output in request.outputs]
    outputs = outputs_of(answers, signature, asked)
    response = InferResponse(model_name="m", model_version="2", id=request.id or "our id", outputs=outputs)
    return protocol.write_v2(request, response)


def tensor(name: str, shape: list[int], datatype: str, data: object) -> dict[str, object]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def v2(*inputs: dict[str, object], signature: Signature = NUMBERS, **rest: object) -> Batch:
    request = read_v2(json.dumps({"inputs": inputs, **rest}).encode())
    check_outputs(request, signature)
    return rows_of_v2(request, Layout(signature))


def v1(document: object, signature: Signature = NUMBERS) -> Batch:
    return rows_of_v1(protocol.read_v1(json.dumps(document).encode()), Layout(signature))


def binary(
    inputs: list[tuple[str, list[int], str, bytes]], *, claimed: int | None = None, **rest: object
) -> tuple[bytes, int]:
    described = [
        {
            "name": name,
            "shape": shape,
            "datatype": datatype,
            "parameters": {"binary_data_size": len(raw) if claimed is None else claimed},
        }
        for name, shape, datatype, raw in inputs
    ]
    head = json.dumps({"inputs": described, **rest}).encode()
    return head + b"".join(raw for *_, raw in inputs), len(head)


def texts(*values: str) -> bytes:
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


@pytest.mark.parametrize(
    "datatype", ["FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
)
@pytest.mark.parametrize("nested", [False, True])
def test_one_tensor_in_the_order_of_the_columns(datatype: str, nested: bool) -> None:
    data: object = [[1, 2, 3], [4, 5, 6]] if nested else [1, 2, 3, 4, 5, 6]
    batch = v2(tensor("anything", [2, 3], datatype, data))
    assert batch.numbers.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_one_tensor_a_column_in_any_order() -> None:
    batch = v2(
        tensor("transfer", [2, 1], "FP64", [[5.5], [6.5]]),
        tensor("price", [2], "INT64", [1, 2]),
        tensor("demand", [2, 1], "BOOL", [True, False]),
    )
    assert batch.numbers.tolist() == [[1, 1, 5.5], [2, 0, 6.5]]


def test_categories_and_numbers() -> None:
    batch = v2(
        tensor("housing", [3], "BYTES", ["own", None, "never seen"]),
        tensor("amount", [3], "FP64", [1.5, None, 2]),
        tensor("purpose", [3, 1], "INT64", [1, 2, 3]),
        signature=MIXED,
    )
    layout = Layout(MIXED)
    assert layout.values(batch)[0] == ("1", 1.5, "own")
    assert np.isnan(layout.values(batch)[1][1])  # type: ignore[arg-type]
    assert layout.values(batch)[1][2] is None
    assert layout.columns(batch)["housing"].tolist() == ["own", None, "never seen"]


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT64"])
def test_null_and_nan_are_missing(datatype: str) -> None:
    for missing in (None, float("nan")):
        batch = v2(tensor("x", [1, 3], datatype, [1, missing, 3]))
        assert np.isnan(batch.numbers[0, 1])
    assert np.isnan(v1({"instances": [[1, float("nan"), 3]]}).numbers[0, 1])
    assert np.isnan(v1({"instances": [{"price": 1, "demand": None, "transfer": 3}]}).numbers[0, 1])


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        ("BOOL", "?"), ("INT8", "<i1"), ("INT16", "<i2"), ("INT32", "<i4"), ("INT64", "<i8"), ("UINT8", "<u1"), ("UINT16", "<u2"),
        ("UINT32", "<u4"), ("UINT64", "<u8"), ("FP16", "<f2"), ("FP32", "<f4"), ("FP64", "<f8"),
    ],
)  # fmt: skip
def test_binary_tensors(datatype: str, dtype: str) -> None:
    given_values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    body, length = binary([("x", [2, 3], datatype, given_values.tobytes())])
    request = read_v2(body, header_length=length)
    assert rows_of_v2(request, Layout(NUMBERS)).numbers.tolist() == given_values.astype(float).tolist()


def test_binary_texts() -> None:
    body, length = binary(
        [
            ("purpose", [2], "BYTES", texts("cär", "")),
            ("amount", [2, 1], "FP32", np.array([1, 2], "<f4").tobytes()),
            ("housing", [2], "BYTES", texts("own", "rent")),
        ]
    )
    batch = rows_of_v2(read_v2(body, header_length=length), Layout(MIXED))
    assert Layout(MIXED).values(batch) == (("cär", 1.0, "own"), ("", 2.0, "rent"))


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"instances": [[1, 2, 3]]}, [[1, 2, 3]]),
        ({"instances": [[1.5, 2, 3], [4, 5, 6]]}, [[1.5, 2, 3], [4, 5, 6]]),
        ({"instances": [{"demand": 2, "transfer": 3, "price": 1}]}, [[1, 2, 3]]),
        ({"inputs": {"demand": [2, 5], "transfer": [[3], [6]], "price": [1, 4]}}, [[1, 2, 3], [4, 5, 6]]),
        ({"inputs": [[1, True, 3]]}, [[1, 1, 3]]),
    ],
)
def test_v1(document: object, rows: list[list[float]]) -> None:
    assert v1(document).numbers.tolist() == rows


def test_one_column() -> None:
    assert v1({"instances": [1, 2.5]}, PRICE).numbers.tolist() == [[1], [2.5]]
    for shape in ([2], [2, 1]):
        assert v2(tensor("x", shape, "FP64", [1, 2]), signature=PRICE).numbers.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (
            [tensor("x", [1, 2], "FP64", [1, 2])],
            r"inputs\.x: the tensor has the shape \[1, 2\], the model takes \[n, 3\]",
        ),
        ([tensor("x", [3], "FP64", [1, 2, 3])], r"send the shape \[1, 3\]"),
        ([tensor("x", [2, 3], "FP64", [1, 2, 3])], "holds 3 values, the shape says 6"),
        ([tensor("x", [2, 3], "FP64", [[1, 2, 3], [4, 5]])], "does not have the shape"),
        ([tensor("x", [-1, 3], "FP64", [1, 2, 3])], r"the tensor has the shape \[-1, 3\]"),
        ([tensor("x", [10**18, 3], "FP64", [1, 2, 3])], "the tensor has the shape"),
        ([tensor("x", [0, 3], "FP64", [])], r"the tensor has the shape \[0, 3\]"),
        ([tensor("x", [1, 1, 3], "FP64", [1, 2, 3])], "the tensor has the shape"),
        ([tensor("x", [], "FP64", [1])], "the tensor has the shape"),
        ([tensor("x", [1, 3], "FP64", [1, "two", 3])], "said to be FP64 and holds 'two'"),
        ([tensor("x", [1, 3], "INT64", [1, 2.5, 3])], "said to be INT64 and holds fractions"),
        ([tensor("x", [1, 3], "UINT8", [1, 300, 3])], "does not fit into UINT8"),
        ([tensor("x", [1, 3], "FP8", [1, 2, 3])], "datatype"),
        ([tensor("x", [1, 3], "BYTES", ["a", "b", "c"])], "column 'price' holds numbers, not the text 'a'"),
        ([tensor("x", [1, 3], "FP64", {"a": 1})], "does not have the shape"),
        ([tensor("x", [1, 3], "FP64", [1, [2], 3])], "does not have the shape"),
        ([{"name": "x", "shape": [1, 3], "datatype": "FP64"}], "has no data"),
        (
            [tensor("price", [1], "FP64", [1]), tensor("demnd", [1], "FP64", [1])],
            "no column 'demnd'. Did you mean 'demand'",
        ),
        ([tensor("price", [1], "FP64", [1]), tensor("demand", [1], "FP64", [1])], "column 'transfer' is missing"),
        ([tensor("price", [1], "FP64", [1]), tensor("price", [1], "FP64", [1])], "is there twice"),
        (
            [
                tensor("price", [1], "FP64", [1]),
                tensor("demand", [2], "FP64", [1, 2]),
                tensor("transfer", [1], "FP64", [1]),
            ],
            "'price' has 1 rows and column 'demand' has 2",
        ),
        ([], "no input tensor"),
    ],
)
def test_wrong_v2_requests(inputs: list[dict[str, object]], said: str) -> None:
    with pytest.raises(InvalidSpecError, match=said):
        v2(*inputs)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "exactly one of"),
        ({"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, "exactly one of"),
        ({"instances": []}, "a list of 1 to"),
        ({"instances": {"price": [1]}}, "a list of 1 to"),
        ({"instances": [[1, 2]]}, r"instances\[0\]: the row has 2 values, the model takes 3"),
        ({"instances": [[1, 2, 3], [1, 2, 3, 4]]}, r"instances\[1\]"),
        ({"instances": [7]}, r"instances\[0\]: the row is the value 7"),
        ({"instances": [[1, "x", 3]]}, "column 'demand' holds numbers, not the text 'x'"),
        ({"instances": [[1, [2], 3]]}, "column 'demand' holds numbers, not a list"),
        ({"instances": [{"price": 1, "demand": 2, "transfer": 3, "trnsfer": 4}]}, "no column 'trnsfer'"),
        ({"instances": [[1, float("inf"), 3]]}, "Infinity is not a number"),
        ({"inputs": {"price": 1}}, "a column is a list"),
        ([1, 2], "cannot be read"),
        ("text", "cannot be read"),
    ],
)
def test_wrong_v1_requests(document: object, said: str) -> None:
    with pytest.raises(InvalidSpecError, match=said):
        v1(document)


def test_infinity_in_a_binary_tensor() -> None:
    body, length = binary([("x", [1, 3], "FP32", np.array([1, np.inf, 2], "<f4").tobytes())])
    with pytest.raises(InvalidSpecError, match="'demand' holds an infinite number"):
        rows_of_v2(read_v2(body, header_length=length), Layout(NUMBERS))


@pytest.mark.parametrize("claimed", [-1, 11, 13, 10**12])
def test_lying_sizes(claimed: int) -> None:
    body, length = binary([("x", [1, 3], "FP32", b"\0" * 12)], claimed=claimed)
    with pytest.raises(InvalidSpecError):
        rows_of_v2(read_v2(body, header_length=length), Layout(NUMBERS))


def test_lying_headers() -> None:
    body, length = binary([("x", [1, 3], "FP32", b"\0" * 12)])
    for lie in (0, length - 1, length + 1, len(body) + 1):
        with pytest.raises(InvalidSpecError):
            rows_of_v2(read_v2(body, header_length=lie), Layout(NUMBERS))
    with pytest.raises(InvalidSpecError, match="Inference-Header-Content-Length"):
        read_v2(body[:length])


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff\xffx", b"\x01", texts("a"), texts("a", "b", "c"), struct.pack("<I", 1) + b"\xff" + texts("b")],
)
def test_lying_texts(raw: bytes) -> None:
    body, length = binary([("purpose", [2], "BYTES", raw)])
    signature = Signature(inputs=(Column(name="purpose", kind="category"),), task="regression")
    with pytest.raises(InvalidSpecError):
        rows_of_v2(read_v2(body, header_length=length), Layout(signature))


def test_columns_of_other_versions_are_left_out() -> None:
    request = protocol.read_v1(b'{"instances": [{"price": 1, "demand": 2, "transfer": 3, "extra": 4}]}')
    assert rows_of_v1(request, Layout(NUMBERS), also=frozenset({"extra"})).numbers.tolist() == [[1, 2, 3]]


ANSWERS: dict[str, tuple[Signature, list[Answer], str, list[object]]] = {
    "text": (NUMBERS, [("UP", (0.25, 0.75)), ("DOWN", (0.5, 0.5))], "BYTES", ["UP", "DOWN"]),
    "integer": (MIXED, [("1", (0.25, 0.75))], "INT64", [1]),
    "number": (
        msgspec.structs.replace(MIXED, classes=("0.5", "1"), class_kind="number"),
        [("0.5", (1.0, 0.0))],
        "FP64",
        [0.5],
    ),
    "boolean": (
        msgspec.structs.replace(MIXED, classes=("false", "true"), class_kind="boolean"),
        [("true", (0.0, 1.0)), ("false", (1.0, 0.0))],
        "BOOL",
        [True, False],
    ),
    "regression": (PRICE, [(1.5, ()), (2.0, ())], "FP64", [1.5, 2.0]),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers(kind: str) -> None:
    signature, answers, datatype, labels = ANSWERS[kind]
    request = read_v2(b'{"inputs": []}')
    body, head = write_v2(request, answers, signature)
    assert head is None
    document = json.loads(body)
    assert (document["model_name"], document["model_version"], document["id"]) == ("m", "2", "our id")
    assert document["outputs"][0] == {"name": "predict", "shape": [len(answers)], "datatype": datatype, "data": labels}
    if signature.task == "classification":
        assert document["outputs"][1]["shape"] == [len(answers), 2]
        assert document["outputs"][1]["data"] == [share for _, shares in answers for share in shares]
    assert json.loads(protocol.write_v1(labels_of(answers, signature))) == {"predictions": labels}
    metadata = metadata_of(signature, name="m", versions=("2",), platform="onnxruntime_onnx")
    assert metadata.outputs[0].datatype == datatype
    assert [entry.name for entry in metadata.inputs] == list(signature.names)


def test_binary_answers() -> None:
    signature, answers, _, _ = ANSWERS["text"]
    request = read_v2(b'{"id": "mine", "inputs": [], "parameters": {"binary_data_output": true}}')
    body, head = write_v2(request, answers, signature)
    assert head is not None
    document = json.loads(body[:head])
    assert document["id"] == "mine"
    sizes = [output["parameters"]["binary_data_size"] for output in document["outputs"]]
    assert body[head : head + sizes[0]] == texts("UP", "DOWN")
    assert np.frombuffer(body[head + sizes[0] :], "<f4").tolist() == [0.25, 0.75, 0.5, 0.5]
    assert sizes[1] == 16
    one = read_v2(
        b'{"inputs": [], "outputs": [{"name": "probabilities", "parameters": {"binary_data": true}}, {"name": "predict"}]}'
    )
    body, head = write_v2(one, answers, signature)
    document = json.loads(body[:head])
    assert [output["name"] for output in document["outputs"]] == ["probabilities", "predict"]
    assert document["outputs"][1]["data"] == ["UP", "DOWN"]


def test_outputs_that_are_not_there() -> None:
    with pytest.raises(InvalidSpecError, match=r"outputs\.score: there is no such output"):
        v2(tensor("x", [1, 3], "FP64", [1, 2, 3]), outputs=[{"name": "score"}])


@pytest.mark.parametrize(
    ("given_time", "microseconds"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        (2, 2_000_000),
        (0.25, 250_000),
        ("1.5", 1_500_000),
    ],
)
def test_event_times(given_time: object, microseconds: int) -> None:
    assert protocol.event_time_of({"event_time": given_time}, None) == microseconds
    assert protocol.event_time_of({}, str(given_time)) == microseconds


@pytest.mark.parametrize(
    "given_time", ["yesterday", "", True, [], {}, float("nan"), 1e300, 10**400, "nan", "99999-01-01"]
)
def test_wrong_event_times(given_time: object) -> None:
    with pytest.raises(InvalidSpecError, match=r"parameters\.event_time"):
        protocol.event_time_of({"event_time": given_time}, None)


def read_any(body: bytes, length: int | None) -> None:
    for signature in (NUMBERS, MIXED, PRICE):
        layout = Layout(signature)
        for attempt in (
            lambda: rows_of_v2(read_v2(body, header_length=length), layout),  # noqa: B023
            lambda: rows_of_v1(protocol.read_v1(body), layout),  # noqa: B023
        ):
            try:
                batch = attempt()
            except InvalidSpecError:
                continue
            assert batch.rows == len(batch.numbers) == len(layout.values(batch)) > 0


@given(st.binary(max_size=200), st.none() | st.integers(-5, 300))
def test_no_bytes_crash_it(body: bytes, length: int | None) -> None:
    read_any(body, length)


@given(st.data())
def test_no_flipped_byte_crashes_it(data: st.DataObject) -> None:
    valid = [
        (json.dumps({"inputs": [tensor("x", [1, 3], "FP64", [1, 2.5, None])]}).encode(), None),
        (json.dumps({"instances": [{"purpose": "car", "amount": 3, "housing": "own"}]}).encode(), None),
        binary([("x", [1, 3], "FP32", np.array([1, 2, 3], "<f4").tobytes())]),
        binary([("price", [1], "BYTES", texts("car"))]),
    ]
    body, length = data.draw(st.sampled_from(valid))
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    read_any(bytes(changed[: data.draw(st.integers(0, len(body)))] if data.draw(st.booleans()) else changed), length)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
nested = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@given(
    st.lists(st.integers(-3, 10**20), max_size=4),
    nested,
    st.sampled_from(["FP64", "INT8", "UINT64", "BOOL", "BYTES", "FP16"]),
    nested,
)
def test_no_document_crashes_it(shape: list[int], values: object, datatype: str, parameters: object) -> None:
    document = {"inputs": [tensor("price", shape, datatype, values)], "parameters": parameters}
    read_any(json.dumps(document).encode(), None)
    read_any(json.dumps({"instances": values, "parameters": parameters}).encode(), None)


def test_deep_nesting_is_refused() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    for body in (
        b'{"instances": ' + deep + b"}",
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": ' + deep + b"}]}",
    ):
        with pytest.raises(InvalidSpecError):
            protocol.read_v1(body)
        with pytest.raises(InvalidSpecError):
            rows_of_v2(read_v2(body), Layout(PRICE))


@given(
    st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1, max_size=5)
)
def test_numbers_arrive_as_they_were_sent(rows: list[list[float]]) -> None:
    flat = [value for row in rows for value in row]
    assert v2(tensor("x", [len(rows), 3], "FP64", flat)).numbers.tolist() == rows
    assert v1({"instances": rows}).numbers.tolist() == rows
    body, length = binary([("x", [len(rows), 3], "FP64", np.array(rows, "<f8").tobytes())])
    assert rows_of_v2(read_v2(body, header_length=length), Layout(NUMBERS)).numbers.tolist() == rows
    assert Layout(NUMBERS).values(v1({"instances": rows})) == tuple(map(tuple, rows))


@given(st.lists(st.lists(st.text(max_size=8), min_size=2, max_size=2), min_size=1, max_size=5))
def test_texts_arrive_as_they_were_sent(rows: list[list[str]]) -> None:
    instances = [[first, 1, second] for first, second in rows]
    batch = v1({"instances": instances}, MIXED)
    assert Layout(MIXED).values(batch) == tuple((first, 1.0, second) for first, second in rows)
    assert Batch.joined([batch, batch]).texts.tolist() == rows + rows
