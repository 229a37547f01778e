"""The least that a server can do for a prediction: decode V1 JSON, score what came in the same turn together, encode.

python benchmarks/contenders/serving_bare.py MODEL.onnx PORT goldenloop|uvicorn

The last word is the HTTP server under it: that of our workers, or uvicorn.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import uvloop
from numpy.typing import NDArray

from goldenloop.serving.http.messages import Request, Response
from goldenloop.serving.http.server import HttpServer


class Rows(msgspec.Struct):
    """A request."""

    instances: list[list[float]]


class Bare:
    """One graph, for either server."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_inputs()]
        self._wide = len(self._names) == 1
        self._outputs = [each.name for each in self._session.get_outputs()][:1]
        self._waiting: list[tuple[NDArray[np.float32], asyncio.Future[list[Any]]]] = []

    async def answer(self, request: Request) -> Response:
        """What our server asks."""
        return Response(200, await self._predict(request.body) if request.method == "POST" else b"{}")

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """What uvicorn calls (ASGI)."""
        content = b"{}"
        if scope["method"] == "POST":
            message = await receive()
            body = message["body"]
            while message.get("more_body"):
                message = await receive()
                body += message["body"]
            content = await self._predict(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _predict(self, body: bytes) -> bytes:
        rows = np.array(_decode(body).instances, np.float32)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((rows, future))
        return _encode({"predictions": await future})

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        rows = np.concatenate([each for each, _ in waiting]) if len(waiting) > 1 else waiting[0][0]
        # A graph takes all columns at once, or each by itself.
        columns = [rows] if self._wide else [rows[:, place : place + 1] for place in range(rows.shape[1])]
        given = dict(zip(self._names, columns, strict=True))
        answers = self._session.run(self._outputs, given)[0].reshape(len(rows), -1)[:, 0].tolist()
        begin = 0
        for each, future in waiting:
            future.set_result(answers[begin : begin + len(each)])
            begin += len(each)


_decode = msgspec.json.Decoder(Rows).decode
_encode = msgspec.json.Encoder().encode


async def _serve(bare: Bare, port: int) -> None:
    await HttpServer(bare.answer).start(socket.create_server(("127.0.0.1", port), backlog=1024))
    await asyncio.Event().wait()


if __name__ == "__main__":
    model, port, server = sys.argv[1:]
    if server == "goldenloop":
        uvloop.run(_serve(Bare(model), int(port)))
    else:
        import uvicorn

        uvicorn.run(
            Bare(model), port=int(port), http="httptools", loop="uvloop", lifespan="off", access_log=False, log_level="warning",
            ws="none", server_header=False, date_header=False,
        )  # fmt: skip
