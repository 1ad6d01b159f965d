"""Whether what an image runs can be run, for `why`: found as an OCI runtime finds it, with whatever interprets it.

Read are the first bytes of a program and an ELF's program headers (elf(5), execve(2)); what they say is bounded.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ocitui.text import escaped

from .soundness import MOUNTED
from .tree import ContentsError, LinkLoopError, PackedTree

_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What runtimes set where the config says none."""
_MOST_PLACES, _MOST_PROGRAMS = 100, 6
_MOST_TOLD = 300
_START, _LONGEST_PATH, _MOST_HEADERS = 256, 4096, 512
_PT_INTERP = 3
_MACHINES = {
    "386": 3,
    "arm": 40,
    "amd64": 62,
    "arm64": 183,
    "loong64": 258,
    "mips64le": 8,
    "ppc64le": 21,
    "riscv64": 243,
    "s390x": 22,
}
"""The e_machine of an ELF by the architecture of a config."""


class FoundProgram(NamedTuple):
    """``paths``: the program that was ``asked`` for, then what interprets it, as far as they are there. ``problem`` is
    why it cannot be run, ``unsure`` why that cannot be told; of one that can be run both are empty."""

    asked: str
    paths: tuple[str, ...]
    problem: str = ""
    unsure: str = ""


class _NoProgramError(Exception):
    """It cannot be run; the text says why."""


def find_program(
    tree: PackedTree, command: Sequence[str], environment: Sequence[str], directory: str, architecture: str
) -> FoundProgram:
    """What becomes of a ``command``, which is not empty, in its working ``directory``. Raises OSError."""
    found, problem, unsure, where = list[bytes](), "", "", _joined(b"/", _bytes(directory))
    try:
        named: bytes | None = _looked_for(tree, command[0], environment, where)
        while named is not None:
            place = _joined(where, named)
            entry = _executable(tree, place)
            found.append(place)
            if len(found) > _MOST_PROGRAMS:
                raise _NoProgramError("its interpreters have interpreters without end")
            named = _interpreter(tree, entry, place, architecture)
    except (_NoProgramError, LinkLoopError) as error:
        problem, unsure = ("", f"a part of the tree cannot be read: {error}") if tree.damage else (str(error), "")
    except ContentsError as error:
        unsure = str(error)
    return FoundProgram(command[0][:_MOST_TOLD], tuple(map(escaped, found)), problem, unsure)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _looked_for(tree: PackedTree, asked: str, environment: Sequence[str], directory: bytes) -> bytes:
    """Where it is, or would have to be. Raises _NoProgramError where it is nowhere in $PATH."""
    name = _bytes(asked)
    if len(name) > _LONGEST_PATH:
        raise _NoProgramError(f"its name has {len(name):,} bytes, and a path has {_LONGEST_PATH:,} at most")
    if b"/" in name:
        return _joined(directory, name)
    said = [one.removeprefix("PATH=") for one in environment if one.startswith("PATH=")]
    where = said[-1] if said else _USUAL_PATH
    parts = [part for part in where.split(":")[:_MOST_PLACES] if len(part) < _LONGEST_PATH]
    places = [_joined(_joined(directory, _bytes(part)), name) for part in parts]
    there = [place for place in places if _regular(tree, place) is not None]
    if not there:
        raise _NoProgramError(f"{asked[:_MOST_TOLD]} is nowhere in its PATH, {where[:_MOST_TOLD]}")
    return next((place for place in there if _may_run(tree, place)), there[0])


def _joined(directory: bytes, path: bytes) -> bytes:
    return path if path.startswith(b"/") else directory.rstrip(b"/") + b"/" + path


def _regular(tree: PackedTree, path: bytes) -> int | None:
    """The file there, links followed inside the tree. Raises ContentsError."""
    entry = tree.follow(path, hidden=MOUNTED)
    return entry if entry is not None and tree.kind(entry) == stat.S_IFREG else None


def _may_run(tree: PackedTree, path: bytes) -> bool:
    entry = _regular(tree, path)
    return entry is not None and bool(tree.modes[entry] & 0o111)


def _executable(tree: PackedTree, path: bytes) -> int:
    """Raises _NoProgramError, ContentsError."""
    entry = _regular(tree, path)
    if entry is None:
        what = "no file" if tree.follow(path, hidden=MOUNTED) is not None else "not there"
        raise _NoProgramError(f"{escaped(path)} is {what}")
    if not _may_run(tree, path):
        raise _NoProgramError(f"{escaped(path)} is not executable")
    return entry


def _interpreter(tree: PackedTree, entry: int, path: bytes, architecture: str) -> bytes | None:
    """What the kernel starts for a program; None where that is itself. Raises _NoProgramError, ContentsError."""
    start = _read(tree, entry, 0, _START)
    if start.startswith(b"#!"):
        words = start[2:].partition(b"\n")[0].split()
        if not words:
            raise _NoProgramError(f"{escaped(path)} is a script that names no interpreter")
        return words[0]
    if not start.startswith(b"\x7fELF"):
        raise _NoProgramError(f"{escaped(path)} is neither an ELF nor a script")
    try:
        return _elf_interpreter(tree, entry, start, path, architecture)
    except (struct.error, IndexError):
        raise _NoProgramError(f"{escaped(path)} is an ELF that is cut, or has wrong headers") from None


def _elf_interpreter(tree: PackedTree, entry: int, start: bytes, path: bytes, architecture: str) -> bytes | None:
    """Raises _NoProgramError, ContentsError; struct.error, IndexError where its headers are wrong."""
    order, is_wide = "<>"[start[5] == 2], start[4] == 2
    (machine,) = struct.unpack_from(f"{order}H", start, 18)
    wanted = _MACHINES.get(architecture, machine)
    if machine != wanted:
        built = next((name for name, number in _MACHINES.items() if number == machine), f"machine {machine}")
        raise _NoProgramError(f"{escaped(path)} is built for {built}, and the image is for {architecture}")
    for at, size in _interpreters(tree, entry, start, order, is_wide):
        text = _read(tree, entry, at, min(size, _LONGEST_PATH)).partition(b"\0")[0]
        if not text:
            raise _NoProgramError(f"{escaped(path)} names no interpreter where it says one")
        return text
    return None


def _interpreters(tree: PackedTree, entry: int, start: bytes, order: str, is_wide: bool) -> Iterator[tuple[int, int]]:
    """Where the name of an ELF's interpreter stands, and its bytes. Raises as `_elf_interpreter`."""
    (at,) = struct.unpack_from(f"{order}{'Q' if is_wide else 'I'}", start, 32 if is_wide else 28)
    size, count = struct.unpack_from(f"{order}HH", start, 54 if is_wide else 42)
    header = struct.Struct(f"{order}I4xQ16xQ" if is_wide else f"{order}II8xI")
    if size != (56 if is_wide else 32):
        raise struct.error
    headers = _read(tree, entry, at, size * min(count, _MOST_HEADERS))
    for number in range(min(count, _MOST_HEADERS)):
        kind, place, length = header.unpack_from(headers, number * size)
        if kind == _PT_INTERP:
            yield place, length


def _read(tree: PackedTree, entry: int, at: int, size: int) -> bytes:
    """So many bytes of a file, fewer at its end."""
    body = tree.open(entry)
    body.seek(at)
    return body.read(size) or b""
