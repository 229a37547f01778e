"""Messages of the Open Inference Protocol over gRPC: their bytes, both ways of sending values, and what is wrong with a message."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.grpc_services import HEALTH, REFLECTIONS
from goldenloop.standards.open_inference import grpc
from goldenloop.standards.open_inference.grpc import read_infer, write_infer, write_stream, write_stream_error
from goldenloop.standards.open_inference.messages import MESSAGES
from goldenloop.standards.open_inference.records import InferRequest, InferResponse
from goldenloop.standards.open_inference.tensors import DTYPES, Tensor
from goldenloop.standards.protobuf import Messages, Rpc

# A request as another implementation writes it, byte by byte: model iris, id 7, one FP32 tensor x of [1, 2] with raw values.
BY_HAND = bytes.fromhex(
    "0a0469726973"  # 1: model_name "iris"
    "1a0137"  # 3: id "7"
    "2a0d" "0a0178" "120446503332" "1a020102"  # 5: input: name, datatype, shape
    "3a08" "0000803f" "00000040"  # 7: raw 1.0, 2.0
)  # fmt: skip


def test_the_bytes_of_a_request() -> None:
    request = read_infer(BY_HAND)
    assert (request.model, request.version, request.id, request.outputs, request.wants_raw) == (
        "iris",
        "",
        "7",
        None,
        True,
    )
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", "FP32", (1, 2))
    assert tensor.array().tolist() == [[1.0, 2.0]]


def response(*tensors: Tensor, **rest: object) -> InferResponse:
    return InferResponse(model_name="iris", model_version="3", id="7", outputs=list(tensors), **rest)


def test_the_bytes_of_an_answer() -> None:
    written = write_infer(response(Tensor.of_array("y", np.array([3], dtype="<i8"))), raw=True)
    assert written == bytes.fromhex(
        "0a0469726973" "120133" "1a0137" "2a0d" "0a0179" "1205494e543634" "1a0101" "3208" "0300000000000000"
    )  # fmt: skip


SAMPLES: dict[str, list[object]] = {
    "BOOL": [True, False],
    **{name: [0, 7] for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")},
    "FP32": [0.5, -1.5],
    "FP64": [0.1, 1e300],
    "BYTES": [b"one", b"\xff\0"],
}
FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents",
    "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def asked(
    datatype: str, values: list[object], *, field: str | None = None, shape: tuple[int, ...] | None = None
) -> bytes:
    contents = {field or FIELDS[datatype]: values}
    described = {"name": "x", "datatype": datatype, "shape": shape or (1, len(values)), "contents": contents}
    return MESSAGES.write("ModelInferRequest", model_name="iris", inputs=[described])


@pytest.mark.parametrize("datatype", SAMPLES)
def test_typed_values_of_every_datatype(datatype: str) -> None:
    request = read_infer(asked(datatype, SAMPLES[datatype]))
    assert not request.wants_raw
    array = request.inputs[0].array()
    assert array.tolist() == [SAMPLES[datatype]]
    assert array.dtype == (np.dtype(DTYPES[datatype]) if datatype != "BYTES" else np.dtype(object))
    answer = write_infer(response(Tensor.of_array("x", array)), raw=False)
    again = MESSAGES.read(answer, "ModelInferResponse", Any)
    assert list(getattr(again.outputs[0].contents, FIELDS[datatype])) == SAMPLES[datatype]


@pytest.mark.parametrize("datatype", [*SAMPLES, "FP16"])
@pytest.mark.parametrize("large", [False, True])
def test_raw_values_of_every_datatype_come_back_as_they_went(datatype: str, large: bool) -> None:
    values = SAMPLES.get(datatype, [0.5, 2.0]) * (5000 if large else 1)
    dtype = object if datatype == "BYTES" else DTYPES[datatype]
    tensor = Tensor("x", datatype, (len(values),), np.array(values, dtype=dtype))
    described = {"name": "x", "datatype": datatype, "shape": tensor.shape}
    sent = MESSAGES.write(
        "ModelInferRequest", model_name="m", inputs=[described], raw_input_contents=[tensor.raw()], id="9"
    )
    request = read_infer(bytearray(sent))
    assert (request.wants_raw, request.id) == (True, "9")
    assert request.inputs[0].array().tolist() == tensor.array().tolist()
    answer = MESSAGES.read(write_infer(response(tensor, tensor), raw=True), "ModelInferResponse", Any)
    assert list(answer.raw_output_contents) == [tensor.raw()] * 2


def test_values_without_a_typed_form_make_all_raw() -> None:
    outputs = [Tensor.of_array("a", np.array([1.0])), Tensor.of_array("b", np.array([1.0], dtype=np.float16))]
    answer = MESSAGES.read(write_infer(response(*outputs), raw=False), "ModelInferResponse", Any)
    assert len(answer.raw_output_contents) == 2


PARAMETERS = {"truth": True, "count": -3, "share": 0.5, "text": "ü"}


def test_parameters_go_both_ways() -> None:
    written = {name: grpc.parameter_of(value) for name, value in PARAMETERS.items()}
    sent = MESSAGES.write(
        "ModelInferRequest",
        model_name="m",
        parameters={**written, "large": {"uint64_param": 2**64 - 1}},
        inputs=[{"name": "x", "datatype": "FP32", "shape": [0], "parameters": written}],
        outputs=[{"name": "y", "parameters": {"classification": {"int64_param": 2}}}],
    )
    request = read_infer(sent)
    assert request.parameters == {**PARAMETERS, "large": 2**64 - 1}
    assert request.inputs[0].parameters == PARAMETERS
    assert request.outputs is not None
    assert [(each.name, each.parameters) for each in request.outputs] == [("y", {"classification": 2})]
    answer = write_infer(response(Tensor.of_array("y", np.array([1.0])), parameters=PARAMETERS), raw=True)
    again = MESSAGES.read(answer, "ModelInferResponse", Any)
    assert again.parameters["text"].string_param == "ü"
    assert again.raw_output_contents[0] == np.array([1.0]).tobytes()


X = {"name": "x", "datatype": "FP32", "shape": [2]}
RAW = np.array([1, 2], dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"inputs": [X], "raw_input_contents": [RAW, RAW]}, "1 tensors and 2 raw contents"),
        ({"inputs": [X, X], "raw_input_contents": [RAW]}, "2 tensors and 1 raw contents"),
        ({"inputs": [{**X, "contents": {"fp32_contents": [1, 2]}}], "raw_input_contents": [RAW]}, "both"),
        ({"inputs": [X]}, "no data"),
        ({"inputs": [{**X, "datatype": "FLOAT"}]}, "no datatype 'FLOAT'"),
        ({"inputs": [{**X, "datatype": "BF16"}]}, "no datatype 'BF16'"),
        ({"inputs": [{**X, "shape": [-1]}]}, "shape [-1]"),
        ({"inputs": [{**X, "shape": [1] * 33}]}, "at most 32"),
        ({"inputs": [{**X, "contents": {"fp32_contents": [1]}}]}, "holds 1 values, the shape says 2"),
        ({"inputs": [{**X, "contents": {"fp64_contents": [1, 2]}}]}, "holds 0 values"),
        ({"inputs": [{**X, "datatype": "FP16", "contents": {"fp32_contents": [1, 2]}}]}, "FP16 has no typed"),
        ({"inputs": [{**X, "datatype": "INT8", "contents": {"int_contents": [1, 300]}}]}, "does not fit into INT8"),
        ({"inputs": [{**X, "parameters": {"shared_memory_region": {"string_param": "r"}}}]}, "shared memory"),
    ],
)
def test_what_is_wrong_is_said(fields: dict[str, object], part: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read_infer(MESSAGES.write("ModelInferRequest", **fields))
    assert part in str(caught.value)


def test_raw_values_of_a_wrong_size_are_refused_when_they_are_read() -> None:
    request = read_infer(MESSAGES.write("ModelInferRequest", inputs=[X], raw_input_contents=[b"123"]))
    with pytest.raises(InvalidSpecError):
        request.inputs[0].array()


@given(st.binary(max_size=60), st.integers(0, len(BY_HAND)), st.booleans())
def test_any_bytes_are_read_or_refused(noise: bytes, place: int, large: bool) -> None:
    content = BY_HAND[:place] + noise + BY_HAND[place:]
    if large:
        content += bytes.fromhex("3a808001") + bytes(grpc.LARGE)  # one more raw tensor
    try:
        request = read_infer(content)
    except InvalidSpecError as error:
        assert error.what
    else:
        assert isinstance(request, InferRequest)


def test_answers_on_a_stream() -> None:
    said = MESSAGES.read(
        write_stream(response(Tensor.of_array("y", np.array([1.0]))), raw=True), "ModelStreamInferResponse", Any
    )
    assert (said.infer_response.id, said.error_message) == ("7", "")
    failed = MESSAGES.read(write_stream_error("it failed", read_infer(BY_HAND)), "ModelStreamInferResponse", Any)
    assert (failed.infer_response.id, failed.error_message) == ("7", "it failed")


def test_documents_are_written_without_what_a_message_does_not_have() -> None:
    config = {"name": "m", "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}], "something": {"new": 1}}
    said = MESSAGES.read(MESSAGES.write_document("ModelConfigResponse", {"config": config}), "ModelConfigResponse", Any)
    assert (said.config.name, said.config.input[0].data_type) == ("m", 11)


def test_symbols_are_known_by_their_full_name() -> None:
    assert MESSAGES.has("inference.ModelInferRequest.InferInputTensor")
    assert MESSAGES.has("inference.GRPCInferenceService")
    assert MESSAGES.has("inference.GRPCInferenceService.ModelInfer")
    assert not MESSAGES.has("ModelInferRequest")
    assert not HEALTH.has("inference.ModelInferRequest")
    assert [reflection.services for reflection in REFLECTIONS] == [
        ("grpc.reflection.v1.ServerReflection",),
        ("grpc.reflection.v1alpha.ServerReflection",),
    ]


def test_a_client_library_may_register_the_same_names() -> None:
    """In a process of its own: the default pool of this one stays as it is."""
    program = """
from goldenloop.standards.open_inference.messages import MESSAGES
from google.protobuf import descriptor_pb2, descriptor_pool
other = descriptor_pb2.FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
other.message_type.add(name="ModelInferRequest")
descriptor_pool.Default().Add(other)
descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
print(MESSAGES.write("ServerLiveResponse", live=True).hex())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0801"


def test_tables_of_messages() -> None:
    made = Messages(
        "t.proto",
        "t",
        messages={
            "A": ("1 one|which string", "2 two|which B", "3 many B*", "4 named <B>", "5 kind K"),
            "B": ("1 size int64",),
        },
        enums={"K": ("NONE", "SOME")},
        services={"S": (Rpc("M", "A", "B", server_streams=True),)},
    )
    written = made.write("A", two={"size": 5}, many=[{"size": 1}, {}], named={"x": {"size": 2}}, kind=1)
    again = made.read(written, "A", Any)
    assert again.WhichOneof("which") == "two"
    assert (again.two.size, len(again.many), again.named["x"].size, again.kind) == (5, 2, 2, 1)
    with pytest.raises(InvalidSpecError, match="it is no A"):
        made.read(b"\x0a\xff", "A", Any)
