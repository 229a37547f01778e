"""Every call of tritonclient, over HTTP and gRPC, in threads and awaited, against a server that serves `served.py`.

python conformance/clients/tritonclient_calls.py REST_HOST:PORT GRPC_HOST:PORT
"""

from __future__ import annotations

import asyncio
import queue
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_awaited
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_awaited
from calls import ROW, SETTLE_SECONDS, Calls, expect_awaited_refusal, expect_refusal

FLOWER = np.array([ROW], "float64")
ARRAYS: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False]]),
    **{
        name: np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max]], dtype)
        for name, dtype in (
            *(("INT8", "int8"), ("INT16", "int16"), ("INT32", "int32"), ("INT64", "int64")),
            *(("UINT8", "uint8"), ("UINT16", "uint16"), ("UINT32", "uint32"), ("UINT64", "uint64")),
        )
    },
    "FP16": np.array([[0.5, -2.0]], "float16"),
    "FP32": np.array([[0.1, -1e30]], "float32"),
    "FP64": np.array([[0.1, -1e300]], "float64"),
    "BYTES": np.array([["grün".encode(), b""]], dtype=object),
}
NOT_SERVED = {
    "get_system_shared_memory_status": ((), "shared memory"),
    "register_system_shared_memory": (("region", "/region", 64), "shared memory"),
    "unregister_system_shared_memory": (("region",), "shared memory"),
    "get_cuda_shared_memory_status": ((), "shared memory"),
    "register_cuda_shared_memory": (("region", b"AAAA", 0, 64), "shared memory"),
    "unregister_cuda_shared_memory": (("region",), "shared memory"),
    "get_trace_settings": ((), "trac"),
    "update_trace_settings": (("iris", {"trace_level": "OFF"}), "trac"),
}
SETTINGS = {"log_verbose_level": 0}


def flower(module: Any, *, binary: bool | None = None) -> Any:
    """A row of the table; over HTTP as JSON or as bytes."""
    made = module.InferInput("x", [1, 4], "FP64")
    return filled(made, FLOWER, binary=binary)


def filled(made: Any, array: np.ndarray, *, binary: bool | None) -> Any:
    """An input with its data; gRPC knows no JSON."""
    made.set_data_from_numpy(array) if binary is None else made.set_data_from_numpy(array, binary_data=binary)
    return made


def asked(module: Any, name: str, *, binary: bool | None = None, **more: Any) -> Any:
    """A wanted output."""
    return module.InferRequestedOutput(name, **({} if binary is None else {"binary_data": binary}), **more)


def is_first(answer: Any) -> None:
    """Check that the flower is of class 0."""
    found = answer.as_numpy("predict").tolist()
    assert found in ([0], [b"0"]), found


def is_echo(answer: Any, arrays: dict[str, np.ndarray]) -> None:
    """Check that every array came back as it went."""
    for name, array in arrays.items():
        found = answer.as_numpy(f"out_{name}")
        assert found.dtype == array.dtype, (name, found.dtype)
        if name == "BYTES":  # JSON has texts where bytes travel as they are
            found = np.array(
                [[each if isinstance(each, bytes) else each.encode() for each in row] for row in found], object
            )
        assert found.tolist() == array.tolist(), (name, found)


def echo_parts(module: Any, *, binary: bool | None) -> dict[str, Any]:
    """The arguments of an infer with all datatypes; half precision travels as bytes only."""
    inputs = []
    for name, array in ARRAYS.items():
        made = module.InferInput(name, list(array.shape), name)
        inputs.append(filled(made, array, binary=True if binary is False and name == "FP16" else binary))
    outputs = [
        asked(module, f"out_{name}", binary=True if binary is False and name == "FP16" else binary) for name in ARRAYS
    ]
    return {"model_name": "echo", "inputs": inputs, "outputs": outputs}


def is_(expected: object, made: Callable[[], object]) -> None:
    """Check an answer for equality."""
    found = made()
    assert found == expected, found


def holds(words: tuple[str, ...], made: Callable[[], object]) -> None:
    """Check that an answer names all these."""
    found = str(made())
    assert all(word in found for word in words), found


def until(expected: bool, made: Callable[[], object]) -> None:
    """Ask until the answer is this: a change reaches all workers one after the other."""
    end = time.monotonic() + SETTLE_SECONDS
    while made() is not expected:
        assert time.monotonic() < end, f"it does not become {expected}"
        time.sleep(0.05)


def common(calls: Calls, client: Any, module: Any) -> None:
    """What HTTP and gRPC share."""
    call = calls.call
    call("is_server_live", partial(is_, True, client.is_server_live))
    call("is_server_ready", partial(is_, True, client.is_server_ready))
    call("is_model_ready", partial(is_, True, partial(client.is_model_ready, "iris")))
    call("is_model_ready of a version", partial(is_, True, partial(client.is_model_ready, "iris", "1")))
    call("is_model_ready of none", partial(is_, False, partial(client.is_model_ready, "none")))
    call("get_server_metadata", partial(holds, ("goldenloop", "binary_tensor_data"), client.get_server_metadata))
    call("get_model_metadata", partial(holds, ("iris", "predict"), partial(client.get_model_metadata, "iris")))
    call("get_model_metadata of a version", partial(holds, ("iris",), partial(client.get_model_metadata, "iris", "1")))
    call("get_model_config", partial(holds, ("echo", "TYPE_STRING"), partial(client.get_model_config, "echo")))
    call("get_model_repository_index", partial(holds, ("iris", "echo", "READY"), client.get_model_repository_index))
    call("get_inference_statistics", partial(holds, ("iris", "echo"), client.get_inference_statistics))
    of_one = partial(client.get_inference_statistics, "iris", "1")
    call("get_inference_statistics of a version", partial(holds, ("iris", "inference_count"), of_one))
    call("get_log_settings", partial(holds, ("log_verbose_level",), client.get_log_settings))
    call("update_log_settings", partial(holds, ("log_verbose_level",), partial(client.update_log_settings, SETTINGS)))
    call("unload_model", partial(client.unload_model, "spare"))
    call("is_model_ready when unloaded", partial(until, False, partial(client.is_model_ready, "spare")))
    call("load_model", partial(client.load_model, "spare"))
    call("is_model_ready when loaded", partial(until, True, partial(client.is_model_ready, "spare")))
    for name, (given, words) in NOT_SERVED.items():
        call(f"{name} is refused", partial(expect_refusal, partial(getattr(client, name), *given), words=words))
    none = partial(client.infer, "none", [flower(module)])
    call("infer of a model there is not is refused", partial(expect_refusal, none, words="no service 'none'"))
    narrow = module.InferInput("x", [1, 2], "FP64")
    narrow.set_data_from_numpy(FLOWER[:, :2])
    wrong = partial(client.infer, "iris", [narrow])
    call("infer of a wrong shape is refused", partial(expect_refusal, wrong, words="4"))
    call("infer", lambda: is_first(client.infer("iris", [flower(module)])))
    call("infer of a version", lambda: is_first(client.infer("iris", [flower(module)], model_version="1")))
    call(
        "infer with an id",
        lambda: is_("mine", lambda: answered_id(client.infer("iris", [flower(module)], request_id="mine"))),
    )
    call("infer with parameters", lambda: is_first(client.infer("iris", [flower(module)], parameters={"of": "mine"})))
    call(
        "infer with headers", lambda: is_first(client.infer("iris", [flower(module)], headers={"x-route-key": "anna"}))
    )


def answered_id(answer: Any) -> str:
    """The id in an answer."""
    response = answer.get_response()
    return str(response["id"] if isinstance(response, dict) else response.id)


def http(calls: Calls, address: str) -> None:
    """`tritonclient.http`."""
    calls.client = "tritonclient.http"
    with over_http.InferenceServerClient(address, concurrency=4, network_timeout=SETTLE_SECONDS) as client:
        common(calls, client, over_http)
        for kind, binary in (("binary", True), ("JSON", False)):
            given = [flower(over_http, binary=binary)]
            wanted = [asked(over_http, "predict", binary=binary)]
            calls.call(
                f"infer {kind}",
                lambda given=given, wanted=wanted: is_first(client.infer("iris", given, outputs=wanted)),
            )
            parts = echo_parts(over_http, binary=binary)
            calls.call(f"infer all datatypes {kind}", lambda parts=parts: is_echo(client.infer(**parts), ARRAYS))
        for packing in ("gzip", "deflate"):
            packed = {"request_compression_algorithm": packing, "response_compression_algorithm": packing}
            calls.call(
                f"infer {packing}", lambda packed=packed: is_first(client.infer("iris", [flower(over_http)], **packed))
            )
        ranked = [asked(over_http, "probabilities", binary=False, class_count=2)]
        calls.call("infer classification", lambda: classes(client.infer("iris", [flower(over_http)], outputs=ranked)))
        calls.call("async_infer", lambda: is_first(client.async_infer("iris", [flower(over_http)]).get_result()))
        calls.call("generate_request_body", lambda: client.generate_request_body([flower(over_http)]))


def classes(answer: Any) -> None:
    """Check the two likeliest classes."""
    found = answer.as_numpy("probabilities")
    assert found.shape[-1] == 2, found


async def http_awaited(calls: Calls, address: str) -> None:
    """`tritonclient.http.aio`."""
    calls.client = "tritonclient.http.aio"
    async with over_http_awaited.InferenceServerClient(address) as client:
        await awaited_common(calls, client, over_http_awaited)
        for kind, binary in (("binary", True), ("JSON", False)):
            parts = echo_parts(over_http_awaited, binary=binary)

            async def echoed(parts: dict[str, Any] = parts) -> None:
                is_echo(await client.infer(**parts), ARRAYS)

            await calls.awaited(f"infer all datatypes {kind}", echoed)


async def awaited_common(calls: Calls, client: Any, module: Any) -> None:
    """What the awaited clients share."""

    async def check(expected: object, made: Callable[[], Any]) -> None:
        found = await made()
        assert found == expected if isinstance(expected, bool) else str(expected) in str(found), found

    async def became(expected: bool) -> None:
        end = time.monotonic() + SETTLE_SECONDS
        while await client.is_model_ready("spare") is not expected:
            assert time.monotonic() < end, f"it does not become {expected}"
            await asyncio.sleep(0.05)

    for name, given, expected in (
        ("is_server_live", (), True),
        ("is_server_ready", (), True),
        ("is_model_ready", ("iris",), True),
        ("is_model_ready", ("none",), False),
        ("get_server_metadata", (), "goldenloop"),
        ("get_model_metadata", ("iris",), "predict"),
        ("get_model_config", ("echo",), "TYPE_STRING"),
        ("get_model_repository_index", (), "READY"),
        ("get_inference_statistics", (), "iris"),
        ("get_log_settings", (), "log_verbose_level"),
        ("update_log_settings", (SETTINGS,), "log_verbose_level"),
    ):
        await calls.awaited(f"{name}{given or ''}", partial(check, expected, partial(getattr(client, name), *given)))
    await calls.awaited("unload_model", partial(client.unload_model, "spare"))
    await calls.awaited("is_model_ready when unloaded", partial(became, False))
    await calls.awaited("load_model", partial(client.load_model, "spare"))
    await calls.awaited("is_model_ready when loaded", partial(became, True))
    for name, (values, words) in NOT_SERVED.items():
        await calls.awaited(
            f"{name} is refused", partial(expect_awaited_refusal, partial(getattr(client, name), *values), words=words)
        )

    async def inferred(**more: Any) -> None:
        is_first(await client.infer("iris", [flower(module)], **more))

    await calls.awaited("infer", inferred)
    await calls.awaited("infer of a version", partial(inferred, model_version="1"))
    await calls.awaited("infer with headers", partial(inferred, headers={"x-route-key": "anna"}))


def grpc(calls: Calls, address: str) -> None:
    """`tritonclient.grpc`."""
    calls.client = "tritonclient.grpc"
    with over_grpc.InferenceServerClient(address) as client:
        common(calls, client, over_grpc)
        parts = echo_parts(over_grpc, binary=None)
        calls.call("infer all datatypes", lambda: is_echo(client.infer(**parts), ARRAYS))
        for packing in ("gzip", "deflate"):
            packed = {"compression_algorithm": packing}
            calls.call(
                f"infer {packing}", lambda packed=packed: is_first(client.infer("iris", [flower(over_grpc)], **packed))
            )
        calls.call(
            "async_infer", lambda: called_back(lambda said: client.async_infer("iris", [flower(over_grpc)], said))
        )
        calls.call("a stream", lambda: streamed(client))


def called_back(ask: Callable[[Callable[[Any, Any], None]], object]) -> None:
    """Check what a callback is told."""
    told: queue.Queue[tuple[Any, Any]] = queue.Queue()
    ask(lambda result, error: told.put((result, error)))
    result, error = told.get(timeout=SETTLE_SECONDS)
    assert error is None, error
    is_first(result)


def streamed(client: Any) -> None:
    """Check that ten requests of a stream are answered, and one that is wrong fails alone."""
    told: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: told.put((result, error)))
    for number in range(10):
        client.async_stream_infer("none" if number == 4 else "iris", [flower(over_grpc)], request_id=str(number))
    seen = [told.get(timeout=SETTLE_SECONDS) for _ in range(10)]
    client.stop_stream()
    assert [str(error) for _, error in seen if error is not None and "no service" not in str(error)] == []
    assert sum(error is not None for _, error in seen) == 1
    answered = sorted(answered_id(result) for result, error in seen if error is None)
    assert answered == sorted(set("0123456789") - {"4"}), answered


async def grpc_awaited(calls: Calls, address: str) -> None:
    """`tritonclient.grpc.aio`."""
    calls.client = "tritonclient.grpc.aio"
    async with over_grpc_awaited.InferenceServerClient(address) as client:
        await awaited_common(calls, client, over_grpc_awaited)
        parts = echo_parts(over_grpc_awaited, binary=None)

        async def echoed() -> None:
            is_echo(await client.infer(**parts), ARRAYS)

        async def questions() -> AsyncIterator[dict[str, Any]]:
            for _ in range(10):
                yield {"model_name": "iris", "inputs": [flower(over_grpc_awaited)]}

        async def stream() -> None:
            seen = 0
            async for result, error in client.stream_infer(questions()):
                assert error is None, error
                is_first(result)
                seen += 1
            assert seen == 10, seen

        await calls.awaited("infer all datatypes", echoed)
        await calls.awaited("stream_infer", stream)


if __name__ == "__main__":
    made = Calls()
    http(made, sys.argv[1])
    grpc(made, sys.argv[2])
    asyncio.run(http_awaited(made, sys.argv[1]))
    asyncio.run(grpc_awaited(made, sys.argv[2]))
    made.end()
