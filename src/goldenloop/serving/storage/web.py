"""Files over HTTP. The standard library's client is used, so that it is ours to see that a body is whole.

A body counts as whole only if the server said how long it is, or sent it in chunks with an end. Redirects are followed, never from https
to http, and what identifies the caller goes to no other host. What breaks off is asked for again, three times in all, from its
beginning.
"""

from __future__ import annotations

import http.client
import json
import posixpath
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import IO, TypeVar
from urllib.parse import unquote, urlsplit

from goldenloop.core.errors import (
    GoldenloopError,
    InvalidSpecError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from goldenloop.serving.storage.purse import PIECE, Purse
from goldenloop.serving.storage.records import FetchedFile

_ATTEMPTS = 3
_WORTH_ANOTHER = frozenset({408, 425, 429, 500, 502, 503, 504})
_SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization")
_HEADERS_SUFFIX = "-headers"  # a variable HOST-headers holds a JSON object of headers for that host
ASIDE = " fetched"  # where a file lies until it is known what it is called
_LONGEST_DOCUMENT = 64 << 20  # bytes of a document that is read into memory

_Taken = TypeVar("_Taken")


class Reply:
    """A response whose body has an end that can be told."""

    def __init__(self, response: http.client.HTTPResponse, url: str, purse: Purse) -> None:
        length = response.headers.get("Content-Length")
        is_chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if not is_chunked and (length is None or not length.isdecimal()):
            raise InvalidSpecError(
                "the server does not say how long the file is, so one that broke off would look whole",
                where=purse.where,
                mend="Use a server that sends Content-Length.",
            )
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise InvalidSpecError(
                f"the server sends it as {response.headers['Content-Encoding']!r} though that was not asked for",
                where=purse.where,
                mend="Use a server that sends files as they are.",
            )
        self._response = response
        self.length = None if is_chunked else int(length or 0)
        self.content_type = response.headers.get("Content-Type", "")
        self.etag = response.headers.get("ETag", "").strip('"') or response.headers.get("Last-Modified", "")
        self.name = posixpath.basename(unquote(urlsplit(url).path)) or "model"

    def pieces(self) -> Iterator[bytes]:
        """The body. Raises http.client.HTTPException or OSError where it breaks off."""
        received = 0
        while piece := self._response.read(PIECE):
            received += len(piece)
            yield piece
        if self.length is not None and received != self.length:
            raise http.client.IncompleteRead(b"", self.length - received)


def download(
    url: str,
    name: str | None,
    purse: Purse,
    *,
    environment: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
) -> tuple[FetchedFile, Reply]:
    """Write what the address answers into the purse's folder, as `name` or aside.

    Raises NotFoundError, RefusedError where the server does not let us, UnavailableError where it does not answer or keeps breaking off.
    """

    def take(reply: Reply) -> FetchedFile:
        if name is None:
            return purse.write(ASIDE, reply.pieces(), etag=reply.etag, expected=reply.length, aside=True)
        return purse.write(name, reply.pieces(), etag=reply.etag, expected=reply.length)

    return _attempt(url, take, purse, environment, headers or {})


def read_json(
    url: str, purse: Purse, *, environment: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> object:
    """Return the JSON document at an address. Raises what `download` raises."""

    def take(reply: Reply) -> bytes:
        pieces, size = [], 0
        for piece in reply.pieces():
            purse.check_time()
            size += len(piece)
            if size > _LONGEST_DOCUMENT:
                raise InvalidSpecError("the server's answer is too long", where=purse.where)
            pieces.append(piece)
        return b"".join(pieces)

    content, _ = _attempt(url, take, purse, environment, headers or {})
    try:
        document: object = json.loads(content)
    except ValueError as error:
        raise UnavailableError(
            f"the server's answer is not JSON: {error}", where=purse.where, mend="Check the endpoint."
        ) from error
    return document


def _attempt(
    url: str, take: Callable[[Reply], _Taken], purse: Purse, environment: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[_Taken, Reply]:
    if urlsplit(url).hostname is None:
        raise InvalidSpecError("the address has no host", where=purse.where, mend="Write https://HOST/path.")
    opener = _opener(environment)
    request = urllib.request.Request(url, headers=_headers_for(url, environment, headers, purse))
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with opener.open(request, timeout=purse.limits.silence_seconds) as response:
                reply = Reply(response, url, purse)
                return take(reply), reply
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in _WORTH_ANOTHER or attempt == _ATTEMPTS:
                raise _refusal(error, purse) from error
        except GoldenloopError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            if attempt == _ATTEMPTS or isinstance(error, ValueError):
                raise UnavailableError(
                    f"the server does not answer, or breaks off: {_reason(error)}",
                    where=purse.where,
                    mend="Nothing of it was kept; check the address, and try again.",
                ) from error
        purse.check_time()
        time.sleep(0.25 * 4 ** (attempt - 1))
    raise AssertionError("the last attempt returns or raises")


def _opener(environment: Mapping[str, str]) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context(
        cafile=environment.get("REQUESTS_CA_BUNDLE") or environment.get("SSL_CERT_FILE")
    )
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme != before.scheme and after.scheme != "https":
            raise urllib.error.HTTPError(req.full_url, code, f"it redirects to {after.scheme}", headers, fp)
        made = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if made is not None and after.netloc != before.netloc:
            for name in list(made.headers):
                if name.lower() in _SECRET_HEADERS or name.lower().startswith("x-"):
                    del made.headers[name]
        return made


def _headers_for(url: str, environment: Mapping[str, str], headers: Mapping[str, str], purse: Purse) -> dict[str, str]:
    variable = f"{urlsplit(url).hostname}{_HEADERS_SUFFIX}"
    said = environment.get(variable)
    if said is None:
        return {"User-Agent": "goldenloop", "Accept-Encoding": "identity", **headers}
    try:
        own = json.loads(said)
        own = {str(name): str(value) for name, value in own.items()}
    except (ValueError, AttributeError) as error:
        raise InvalidSpecError(
            f"the variable {variable!r} is not a JSON object of headers",
            where=purse.where,
            mend='Write {"Name": "value"}.',
        ) from error
    return {"User-Agent": "goldenloop", "Accept-Encoding": "identity", **headers, **own}


def _refusal(error: urllib.error.HTTPError, purse: Purse) -> GoldenloopError:
    said = f"the server answers {error.code} {error.reason}"
    if error.code in (404, 410):
        return NotFoundError(said, where=purse.where, mend="Check the address.")
    if error.code in (401, 403, 407):
        return RefusedError(said, where=purse.where, mend="Check the credentials and what they may read.")
    return UnavailableError(said, where=purse.where, mend="Nothing of it was kept; check the address, and try again.")


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(inner) or type(inner).__name__
