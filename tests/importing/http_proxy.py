"""A proxy of the tests' own, in threads: it passes plain requests on and notes them, tunnels where that is asked for
(CONNECT), and can stop amid an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Passed:
    """A request as it came; ``range`` is empty where it wants all."""

    method: str
    target: str
    range: str
    authorization: str


@dataclass
class Proxy:
    """``stops`` says by parts of a target after how many bytes its answer stops; ``refuses`` is a status for all,
    and with ``silent`` nobody gets an answer."""

    address: str = ""
    passed: list[Passed] = field(default_factory=list)
    stops: dict[str, int] = field(default_factory=dict)
    refuses: str = ""
    silent: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def asked(self, part: str) -> list[Passed]:
        return [one for one in self.passed if part in one.target]

    def serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := client.recv(1 << 16)):
                return
            head += more
        first, *lines = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        method, target, _ = first.split(" ")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        exact = dict(line.split(": ", 1) for line in lines)
        self.passed.append(Passed(method, target, fields.get("range", ""), exact.get("Authorization", "")))
        if self.silent:
            self.ended.wait()
        if self.refuses:
            client.sendall(f"HTTP/1.1 {self.refuses}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        host = target if method == "CONNECT" else urlsplit(target).netloc
        name, _, port = host.rpartition(":")
        with socket.create_connection((name, int(port))) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                back = threading.Thread(target=_pump, args=(client, server), daemon=True)
                back.start()
            else:
                path = target.partition(host)[2]
                kept = [line for line in lines if not line.lower().startswith(("connection:", "proxy-"))]
                server.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode())
            most = next((count for part, count in self.stops.items() if part in target), None)
            if not _pump(server, client, most):
                self.ended.wait()
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket, most: int | None = None) -> bool:
    """Pass on what comes, so much at most; whether that was all."""
    with suppress(OSError):
        while chunk := source.recv(1 << 16):
            if most is not None and len(chunk) >= most:
                target.sendall(chunk[:most])
                return False
            most = most - len(chunk) if most is not None else None
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    return True


@contextmanager
def http_proxy() -> Iterator[Proxy]:
    """Run it until the end of the block."""
    proxy = Proxy()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                proxy.serve(self.request)

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        proxy.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            server.shutdown()
            thread.join()
