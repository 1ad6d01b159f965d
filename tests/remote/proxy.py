"""A ProxyCommand of the tests' own: ``proxy.py PORT MODE NUMBER`` passes on what goes between ssh and a port of this
machine. ``delay``: each piece so many milliseconds later; ``cut`` and ``freeze``: after so many bytes from the server
it ends, or passes on nothing any more."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time


def main(port: int, mode: str, number: int) -> None:
    server = socket.create_connection(("127.0.0.1", port))
    left = number
    while True:
        ready, _, _ = select.select([server.fileno(), 0], [], [])
        if mode == "delay":
            time.sleep(number / 1000)
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                return
            server.sendall(data)
        if server.fileno() in ready:
            data = server.recv(1 << 16)
            if not data:
                return
            if mode != "delay":
                data, left = data[:left], left - len(data[:left])
            os.write(1, data)
            if mode == "cut" and not left:
                return
            while mode == "freeze" and not left:
                signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
