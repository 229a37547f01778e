"""Every call of KServe's `InferenceRESTClient` and `InferenceGRPCClient` against a server that serves `served.py`.

python conformance/clients/kserve_calls.py REST_HOST:PORT GRPC_HOST:PORT
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import numpy as np
from calls import ROW, Calls, expect_awaited_refusal
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

FLOWER = np.array([ROW], "float64")
V1_FLOWER = {"instances": [ROW]}


def question(*, binary: bool, model: str = "iris") -> InferRequest:
    """A flower."""
    given = InferInput("x", [1, 4], "FP64")
    given.set_data_from_numpy(FLOWER, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[given])


async def check(made: Callable[[], Awaitable[Any]], *, is_right: Callable[[Any], bool]) -> None:
    """Make a call and look at its answer."""
    found = await made()
    assert is_right(found), found


def is_first(answer: Any) -> bool:
    """Whether the flower is of class 0."""
    return [str(value) for value in answer.outputs[0].as_numpy().tolist()] in (["0"], ["b'0'"])


async def v1(calls: Calls, url: str) -> None:
    """The first protocol."""
    calls.client = "kserve.InferenceRESTClient v1"
    client = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    asks = calls.awaited
    await asks(
        "is_server_live", partial(check, partial(client.is_server_live, url), is_right=lambda said: said is True)
    )
    ready = partial(client.is_model_ready, url, "iris")
    await asks("is_model_ready", partial(check, ready, is_right=lambda said: said is True))
    infer = partial(client.infer, url, V1_FLOWER, model_name="iris")
    await asks("infer", partial(check, infer, is_right=lambda said: said["predictions"] == [0]))
    code = partial(client.infer, url, {"instances": [1, 2]}, model_name="counting")
    await asks("infer of code", partial(check, code, is_right=lambda said: said["predictions"] == [2, 4]))
    explain = partial(client.explain, url, "counting", {"instances": [1]})
    await asks("explain", partial(check, explain, is_right=lambda said: said["explanations"] == ["doubled"]))
    none = partial(client.infer, url, V1_FLOWER, model_name="none")
    await asks("infer of none is refused", partial(expect_awaited_refusal, none, words="no service 'none'"))
    await client.close()


async def v2(calls: Calls, url: str) -> None:
    """The second protocol."""
    calls.client = "kserve.InferenceRESTClient v2"
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    asks = calls.awaited
    for name in ("is_server_live", "is_server_ready"):
        await asks(name, partial(check, partial(getattr(client, name), url), is_right=lambda said: said is True))
    for name, expected in (("iris", True), ("none", False)):
        ready = partial(client.is_model_ready, url, name)
        await asks(
            f"is_model_ready of {name}",
            partial(check, ready, is_right=lambda said, expected=expected: said is expected),
        )
    for kind, binary in (("binary", True), ("JSON", False)):
        infer = partial(client.infer, url, question(binary=binary), model_name="iris")
        await asks(f"infer {kind}", partial(check, infer, is_right=is_first))
    none = partial(client.infer, url, question(binary=True, model="none"), model_name="none")
    await asks("infer of none is refused", partial(expect_awaited_refusal, none, words="no service 'none'"))
    await client.close()


async def grpc(calls: Calls, address: str) -> None:
    """gRPC."""
    calls.client = "kserve.InferenceGRPCClient"
    client = InferenceGRPCClient(address, retries=0)
    asks = calls.awaited
    for name in ("is_server_live", "is_server_ready"):
        await asks(name, partial(check, getattr(client, name), is_right=lambda said: said is True))
    for name, expected in (("iris", True), ("none", False)):
        ready = partial(client.is_model_ready, name)
        await asks(
            f"is_model_ready of {name}",
            partial(check, ready, is_right=lambda said, expected=expected: said is expected),
        )
    for kind, binary in (("raw", True), ("contents", False)):
        infer = partial(client.infer, question(binary=binary))
        await asks(f"infer {kind}", partial(check, infer, is_right=is_first))
    none = partial(client.infer, question(binary=True, model="none"))
    await asks("infer of none is refused", partial(expect_awaited_refusal, none, words="no service 'none'"))
    await client.close()


async def main() -> None:
    """All of it."""
    logging.disable(logging.ERROR)  # the client logs what it raises
    calls = Calls()
    await v1(calls, f"http://{sys.argv[1]}")
    await v2(calls, f"http://{sys.argv[1]}")
    await grpc(calls, sys.argv[2])
    calls.end()


if __name__ == "__main__":
    asyncio.run(main())
