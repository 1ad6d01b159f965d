"""A registry of ours, on loopback, that does wrong what a test tells it to.

It speaks HTTP/1.1 by itself, one request to a connection, so that it can cut, lie and stall at any byte.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


@dataclass
class Reply:
    """``length`` is promised instead of the body's, none when it is negative; after ``cut`` bytes the connection ends,
    or, with ``stall``, nothing more comes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    cut: int | None = None
    stall: bool = False


Rule = Callable[[Request], Reply | None]


class FaultyRegistry:
    """Serves ``manifests`` and ``blobs`` of any repository; the first of ``rules`` that answers goes before. ``served``
    counts connections, with those that bring no request."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.rules: list[Rule] = []
        self.requests: list[Request] = []
        self.ranges = True
        self.host = ""
        self.served = 0
        self.open: set[asyncio.Task[None]] = set()

    def add_manifest(self, media_type: str, raw: bytes, *tags: str) -> str:
        for name in (digest_of(raw), *tags):
            self.manifests[name] = (media_type, raw)
        return digest_of(raw)

    def add_blob(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def once(self, part: str, *replies: Reply) -> None:
        """Answer the next requests whose path holds ``part`` so, each once."""
        left = list(replies)
        self.rules.append(lambda request: left.pop(0) if left and part in request.path else None)

    def always(self, part: str, reply: Reply) -> None:
        self.rules.append(lambda request: reply if part in request.path else None)

    def asked(self, part: str) -> list[Request]:
        return [request for request in self.requests if part in request.path]

    def answer(self, request: Request) -> Reply:
        for rule in self.rules:
            if (reply := rule(request)) is not None:
                return reply
        kind, _, name = request.path.rpartition("/")
        if kind.endswith("/manifests") and name in self.manifests:
            media_type, raw = self.manifests[name]
            return Reply(headers={"Content-Type": media_type} if media_type else {}, body=raw)
        if kind.endswith("/blobs") and name in self.blobs:
            return self.blob(request, self.blobs[name])
        code = "MANIFEST_UNKNOWN" if "/manifests" in kind else "BLOB_UNKNOWN"
        return Reply(404, body=json.dumps({"errors": [{"code": code, "message": "not known"}]}).encode())

    def blob(self, request: Request, data: bytes) -> Reply:
        wanted = request.headers.get("range", "")
        if not self.ranges or not wanted:
            return Reply(headers={"Content-Type": "application/octet-stream"}, body=data)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return Reply(206, {"Content-Range": content_range}, data[start:])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.served += 1
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        task.add_done_callback(self.open.discard)
        try:
            request = await _read_request(reader)
            if request is not None:
                self.requests.append(request)
                await _write_reply(self.answer(request), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    line = await reader.readline()
    if not line.endswith(b" HTTP/1.1\r\n"):
        return None
    method, target, _ = line.decode().split(" ")
    headers = {}
    while (field_line := (await reader.readline()).decode().strip()) != "":
        name, _, value = field_line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urllib.parse.urlsplit(target)
    return Request(method, parts.path, urllib.parse.parse_qs(parts.query), headers, body)


async def _write_reply(reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    length = len(reply.body) if reply.length is None else reply.length
    promised = {} if length < 0 else {"Content-Length": str(length)}
    headers = {**promised, "Connection": "close", **reply.headers}
    lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body[: reply.cut])
    await writer.drain()
    if reply.stall:
        await reader.read()  # until the client has had enough


@asynccontextmanager
async def serving(registry: FaultyRegistry, tls: ssl.SSLContext | None = None) -> AsyncIterator[FaultyRegistry]:
    """Have the registry listen at ``registry.host``."""
    server = await asyncio.start_server(registry.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    registry.host = f"127.0.0.1:{port}"
    try:
        yield registry
    finally:
        server.close()
        await server.wait_closed()
        # Python 3.11 does not wait for its connections: one that is left is told of in another test.
        for task in registry.open:
            task.cancel()
        await asyncio.gather(*registry.open, return_exceptions=True)
