"""Bodies of requests, with a bound."""

from __future__ import annotations

from starlette.requests import Request

from goldenloop.core.errors import InvalidSpecError


async def read_body(request: Request, *, limit: int, mend: str = "") -> bytes:
    """The whole body. Raises InvalidSpecError as soon as more than `limit` bytes have come."""
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise InvalidSpecError(f"the body is larger than {limit >> 20} MiB", where="body", mend=mend)
    return b"".join(pieces)
