"""xenstore as Xen's tools print it, and a store that the real tools can ask: both by `tools/xenstore/xenstore_client.c`
and `xs_wire.h` of Xen 4.17. What the stand-ins print is held against the real tools where they are."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

Nodes = Mapping[str, bytes]
"""The values of nodes by their paths; what leads to a node is there too."""
ROOT = "/local/domain"
_HEAD = struct.Struct("=4I")
_DIRECTORY, _READ, _TRANSACTION_START, _TRANSACTION_END, _ERROR = 1, 2, 6, 7, 16
_LETTERS = {0x09: b"\\t", 0x0A: b"\\n", 0x0D: b"\\r", 0x5C: b"\\\\"}
_SCRIPT = """#!/bin/sh
cd FOLDER
if [ "$*" = "-p /local/domain" ] && [ -e next ]; then
    [ ! -e asked ] || { rm -r store asked; mv next store; }
    : >asked
fi
[ "$1" = -p ] || exit 1
shift
for path; do
"""
_LISTS = """
    [ -d "store$path" ] || { echo "xenstore-list: could not list path $path" >&2; exit 1; }
    for below in "store$path"/*; do
        [ ! -e "$below" ] || echo "${below#store}"
    done
done
"""
_READS = """
    [ -e "store$path" ] || { echo "xenstore-read: couldn't read path $path" >&2; exit 1; }
    printf "%s: " "$path"
    cat "store$path/.value"
done
"""


def guest(domid: int, uuid: str, name: str = "", loops: str = "") -> dict[str, bytes]:
    """What krata writes of one that it launches, and what it leaves to the guest."""
    at = f"{ROOT}/{domid}"
    named = {f"{at}/krata/name": name.encode()} if name else {}
    return {
        f"{at}/name": f"krata-{uuid}".encode(),
        f"{at}/krata/uuid": uuid.encode(),
        f"{at}/krata/loops": loops.encode(),
        **named,
        f"{at}/krata/zone/exit-code": b"0",
    }


def loops_of(store: Path, uuid: str, *names: str, first: int = 3) -> str:
    """What stands in `krata/loops` for images of these files, and the configuration: `runtime/src/launch.rs`."""
    folder = f"/tmp/krata-cfg-{uuid}"
    given = [f"{store}/cache/image/{name}:none" for name in names] + [f"{folder}/config.squashfs:{folder}"]
    return ",".join(f"/dev/loop{number}:{one}" for number, one in enumerate(given, first))


def whole(nodes: Nodes) -> dict[str, bytes]:
    """With what leads to each, and the host's own domain."""
    found: dict[str, bytes] = {}
    for path, value in {f"{ROOT}/0/name": b"Domain-0", **nodes}.items():
        parts = path.split("/")
        for end in range(2, len(parts)):
            found.setdefault("/".join(parts[:end]), b"")
        found[path] = value
    return found


def escaped(value: bytes) -> bytes:
    """As the tools print it."""

    def one(byte: int) -> bytes:
        if byte in _LETTERS or 0x20 <= byte < 0x7F:
            return _LETTERS.get(byte, bytes([byte]))
        return b"\\%03o" % byte if byte < 8 else b"\\x%02x" % byte

    return b"".join(map(one, value))


class StandIn:
    """Programs on PATH that answer from these nodes as the tools do, and once all was asked, from those that come then:
    `xenstore-list -p` and `xenstore-read -p`."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        use_tools(patch)

    def prints(self, nodes: Nodes, then: Nodes | None = None) -> None:
        for name in ("store", "next", "asked"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        for name, given in (("store", nodes), ("next", then)):
            for path, value in whole(given).items() if given is not None else ():
                (self._folder / name / path[1:]).mkdir(parents=True, exist_ok=True)
                (self._folder / name / path[1:] / ".value").write_bytes(escaped(value) + b"\n")
        for name, script in (("list", _LISTS), ("read", _READS)):
            self.runs(name, (_SCRIPT + script).replace("FOLDER", str(self._folder)))

    def runs(self, name: str, script: str) -> None:
        program = self._folder / f"xenstore-{name}"
        program.write_text(script)
        program.chmod(0o755)


def use_tools(patch: pytest.MonkeyPatch) -> None:
    """Those on PATH, which else no test asks."""
    for name in ("list", "read"):
        patch.setattr(f"ocitui.host.programs._{name.upper()}", f"xenstore-{name}")


@contextmanager
def served(nodes: Nodes, path: Path) -> Iterator[None]:
    """A store that answers at a socket, whose path the real tools take from XENSTORED_PATH."""
    found = whole(nodes)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=_serve, args=(listening, found))
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listening: socket.socket, nodes: Nodes) -> None:
    with suppress(OSError):
        while True:
            asking, _ = listening.accept()
            with asking, asking.makefile("rwb") as stream, suppress(OSError):
                while len(head := stream.read(_HEAD.size)) == _HEAD.size:
                    kind, number, transaction, length = _HEAD.unpack(head)
                    kind, answer = _answer(kind, stream.read(length).rstrip(b"\0").decode(), nodes)
                    stream.write(_HEAD.pack(kind, number, transaction, len(answer)) + answer)
                    stream.flush()


def _answer(kind: int, path: str, nodes: Nodes) -> tuple[int, bytes]:
    if kind in (_TRANSACTION_START, _TRANSACTION_END):
        return kind, b"1\0"
    if kind == _READ and path in nodes:
        return kind, nodes[path]
    if kind == _DIRECTORY and path in nodes:
        below = [one.removeprefix(f"{path}/") for one in nodes if one.startswith(f"{path}/")]
        return kind, b"".join(name.encode() + b"\0" for name in below if "/" not in name)
    return _ERROR, b"ENOENT\0"
