"""Storages on loopback for the tests: a web server that can break off, the few calls of Google's and of Azure's, and a hub."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Said:
    """What a fake answers. `cut` is how many bytes of the body it sends before it closes the connection."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    chunked: bool = False
    without_length: bool = False
    waits: threading.Event | None = None  # for it, after the part that is sent


Answer = Callable[[str, dict[str, list[str]], Mapping[str, str]], Said]


@contextlib.contextmanager
def web(answer: Answer) -> Iterator[str]:
    """A server whose answers come from a function of path, query and headers; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            said = answer(unquote(parts.path), parse_qs(parts.query, keep_blank_values=True), self.headers)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif not said.without_length:
                self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            body = said.body if said.cut is None else said.body[: said.cut]
            if said.chunked:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
                if said.cut is None:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(body)
            if said.waits is not None:
                self.wfile.flush()
                said.waits.wait(60)
            if said.cut is not None or said.without_length:
                self.close_connection = True

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files_of(contents: Mapping[str, bytes]) -> Answer:
    """Answers that are files by their path."""
    return lambda path, _query, _headers: (
        Said(contents[path.lstrip("/")]) if path.lstrip("/") in contents else Said(b"no", 404)
    )


def google(contents: Mapping[str, bytes], *, cut: int | None = None) -> Answer:
    """Google Cloud Storage's JSON interface as far as reading needs it; names begin with the bucket."""

    def described(name: str) -> dict[str, str]:
        bucket, _, key = name.partition("/")
        content = contents[name]
        return {
            "kind": "storage#object",
            "name": key,
            "bucket": bucket,
            "size": str(len(content)),
            "etag": md5(content).hexdigest(),
            "generation": "7",
            "updated": "2026-01-01T00:00:00Z",
            "timeCreated": "2026-01-01T00:00:00Z",
        }

    def answer(path: str, query: dict[str, list[str]], headers: Mapping[str, str]) -> Said:
        _, _, rest = path.partition("/b/")
        bucket, _, key = rest.partition("/o/")
        if path.endswith("/o"):
            prefix = rest.removesuffix("/o") + "/" + query.get("prefix", [""])[0]
            items = [described(name) for name in sorted(contents) if name.startswith(prefix)]
            return _json({"kind": "storage#objects", "items": items})
        name = f"{bucket}/{key}"
        if name not in contents:
            return Said(b'{"error": {"code": 404, "message": "Not Found"}}', 404)
        if "alt" not in query and not path.startswith("/download"):
            return _json(described(name))
        return _part(contents[name], headers.get("Range"), cut)

    return answer


def azure(contents: Mapping[str, bytes], *, cut: int | None = None) -> Answer:
    """Azure's blob interface as far as reading needs it; names begin with the container, addresses with the account."""

    def answer(path: str, query: dict[str, list[str]], headers: Mapping[str, str]) -> Said:
        _account, _, name = path.strip("/").partition("/")
        if query.get("comp") == ["list"]:
            return _azure_list(name, query.get("prefix", [""])[0], query.get("delimiter", [""])[0], contents)
        if query.get("restype") == ["container"]:
            return Said(headers={"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"})
        if name not in contents:
            return Said(b"", 404, {"x-ms-error-code": "BlobNotFound"})
        said = _part(contents[name], headers.get("x-ms-range") or headers.get("Range"), cut)
        said.headers |= {
            "ETag": f'"{md5(contents[name]).hexdigest()}"',
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            "x-ms-blob-type": "BlockBlob",
        }
        return said

    return answer


def hub(
    model: str, contents: Mapping[str, bytes], *, listed: Mapping[str, object] | None = None, token: str = ""
) -> Answer:
    """Hugging Face's hub with one model at one commit; `listed` overrides what the listing says of a file."""
    commit = "c0ffee"

    def answer(path: str, _query: dict[str, list[str]], headers: Mapping[str, str]) -> Said:
        if token and headers.get("Authorization") != f"Bearer {token}":
            return Said(b"", 401)
        if path in (f"/api/models/{model}/revision/main", f"/api/models/{model}/revision/v1"):
            siblings = [
                {"rfilename": name, "size": len(content), **((listed or {}).get(name) or {})}  # type: ignore[dict-item]
                for name, content in contents.items()
            ]
            return _json({"sha": commit, "siblings": siblings})
        name = path.removeprefix(f"/{model}/resolve/{commit}/")
        return Said(contents[name]) if name in contents else Said(b"", 404)

    return answer


def _azure_list(container: str, prefix: str, delimiter: str, contents: Mapping[str, bytes]) -> Said:
    blobs, folders = "", set()
    for name, content in sorted(contents.items()):
        key = name.removeprefix(f"{container}/")
        if not name.startswith(f"{container}/{prefix}"):
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            continue
        blobs += (
            f"<Blob><Name>{escape(key)}</Name><Properties><Etag>{md5(content).hexdigest()}</Etag>"
            f"<Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Content-Length>{len(content)}</Content-Length>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
        )
    blobs += "".join(f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>" for folder in sorted(folders))
    body = (
        f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{container}"><Prefix>{escape(prefix)}</Prefix>'
        f"<Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
    )
    return Said(body.encode(), headers={"Content-Type": "application/xml"})


def _part(content: bytes, wanted: str | None, cut: int | None) -> Said:
    if not wanted:
        return Said(content, cut=cut)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    end = min(int(last or len(content) - 1), len(content) - 1)
    if int(first) > end:
        return Said(b"", 416)
    body = content[int(first) : end + 1]
    return Said(body, 206, {"Content-Range": f"bytes {first}-{end}/{len(content)}"}, cut=cut)


def _json(document: object) -> Said:
    return Said(json.dumps(document).encode(), headers={"Content-Type": "application/json"})


def amazon(contents: Mapping[str, bytes], *, cut: int | None = None) -> Answer:
    """S3's listing and reading, for an object that breaks off; names begin with the bucket."""

    def answer(path: str, query: dict[str, list[str]], headers: Mapping[str, str]) -> Said:
        name = path.strip("/")
        if "list-type" not in query:
            if name not in contents:
                return Said(b"<Error><Code>NoSuchKey</Code></Error>", 404)
            return _part(contents[name], headers.get("Range"), cut)
        listed = "".join(
            f"<Contents><Key>{escape(key.partition('/')[2])}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"{md5(content).hexdigest()}"</ETag><Size>{len(content)}</Size></Contents>'
            for key, content in sorted(contents.items())
            if key.startswith(f"{name}/{query.get('prefix', [''])[0]}")
        )
        body = f"<ListBucketResult><Name>{name}</Name><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"
        return Said(body.encode(), headers={"Content-Type": "application/xml"})

    return answer
