"""Servers that take what people are told: one of HTTP, one of SMTP, on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HttpReceiver:
    """Keeps what is posted, by path. It answers `status`."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.bodies: list[tuple[str, object]] = []
        self.status = 202

    def at(self, path: str) -> list[object]:
        """The bodies that came to this path."""
        return [body for where, body in self.bodies if where == path]


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    """A server for the time of a block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.bodies.append((self.path, json.loads(body)))
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = HttpReceiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


class SmtpReceiver:
    """Keeps mails. It refuses recipients whose names begin with `nobody`."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[Message] = []
        self.recipients: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        writer.write(b"220 test\r\n")
        while line := (await reader.readline()).decode():
            verb = line.strip().upper()
            answer = b"250 ok\r\n"
            if verb.startswith("RCPT"):
                refused = "<nobody" in line
                answer = b"550 no such mailbox\r\n" if refused else answer
                self.recipients += [] if refused else [line.partition("<")[2].partition(">")[0]]
            elif verb == "DATA":
                writer.write(b"354 go on\r\n")
                lines = []
                while (piece := (await reader.readline()).decode()) != ".\r\n":
                    lines.append(piece)
                self.mails.append(message_from_string("".join(lines)))
            elif verb == "QUIT":
                answer = b"221 bye\r\n"
            writer.write(answer)
            await writer.drain()
            if verb == "QUIT":
                break
        writer.close()


@contextmanager
def smtp_receiver() -> Iterator[SmtpReceiver]:
    """A server for the time of a block."""
    receiver = SmtpReceiver()
    loop = asyncio.new_event_loop()
    started = threading.Event()

    def run() -> None:
        server = loop.run_until_complete(asyncio.start_server(receiver.serve, "127.0.0.1", 0))
        receiver.port = server.sockets[0].getsockname()[1]
        started.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(server.wait_closed())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(5)
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        loop.close()
