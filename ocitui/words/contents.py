"""What is inside packed files, in words for both front ends, and for programs."""

from __future__ import annotations

import codecs
import stat
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ocitui.text import clean, counted, escaped, human_size, short_digest, timestamp

if TYPE_CHECKING:
    from pathlib import Path

    from ocitui.contents import Extracted, PackedTree

_SORTS = {
    stat.S_IFDIR: ("d", "a directory"),
    stat.S_IFREG: ("f", "a file"),
    stat.S_IFLNK: ("l", "a symbolic link"),
    stat.S_IFBLK: ("b", "a block device"),
    stat.S_IFCHR: ("c", "a character device"),
    stat.S_IFIFO: ("p", "a pipe"),
    stat.S_IFSOCK: ("s", "a socket"),
}
_SIZED, _DEVICES = (stat.S_IFREG, stat.S_IFLNK), (stat.S_IFBLK, stat.S_IFCHR)
# e_machine of elf(5).
_MACHINES = {0x03: "x86", 0x28: "arm", 0x3E: "x86-64", 0xB7: "aarch64", 0xF3: "riscv", 0x15: "ppc64", 0x16: "s390x"}
_MAGICS = {
    b"\x1f\x8b": "gzip data",
    b"\xfd7zXZ\0": "xz data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"BZh": "bzip2 data",
    b"PK\3\4": "a zip archive",
    b"!<arch>\n": "an ar archive",
    b"SQLite format 3\0": "an SQLite database",
    b"\x89PNG": "a PNG picture",
    b"\xca\xfe\xba\xbe": "a Java class",
    b"\0asm": "WebAssembly",
}
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\b\x1b")
Refused = Callable[[int, Exception], object]
"""What is told of an entry of which a part could not be read."""


def sort_of_file(tree: PackedTree, entry: int) -> str:
    """As ``a directory``."""
    return _SORTS.get(tree.kind(entry), ("?", "of no known type"))[1]


def file_line(tree: PackedTree, entry: int, first: int | None, refused: Refused) -> str:
    """An entry as ls(1) has it; ``first`` is the first name of a hard link."""
    node = tree.node(entry)
    size = human_size(node.size) if tree.kind(entry) == stat.S_IFREG else ""
    if tree.kind(entry) in _DEVICES:
        size = "{},{}".format(*node.device)
    name = tree.path(entry).decode("utf-8", "backslashreplace") or "/"
    if first is not None:
        name += f" link to {tree.path(first).decode('utf-8', 'backslashreplace')}"
    if tree.kind(entry) == stat.S_IFLNK:
        name += f" -> {(_target(tree, entry, refused) or b'?').decode('utf-8', 'backslashreplace')}"
    return f"{stat.filemode(node.mode)} {f'{node.uid}:{node.gid}':>9} {size:>7} {timestamp(node.mtime)} {name}"


def file_json(tree: PackedTree, entry: int, first: int | None, refused: Refused) -> dict[str, Any]:
    """The same for programs, with its extended attributes; what could not be read is null."""
    kind, node = tree.kind(entry), tree.node(entry)
    target = _target(tree, entry, refused) if kind == stat.S_IFLNK else None
    xattrs: dict[str, str] | None = None
    try:
        xattrs = {escaped(name): value.hex() for name, value in tree.xattrs(entry).items()}
    except _failures() as error:
        refused(entry, error)
    return {
        "path": escaped(tree.path(entry)),
        "type": _SORTS.get(kind, ("?", ""))[0],
        "mode": stat.S_IMODE(node.mode),
        "uid": node.uid,
        "gid": node.gid,
        "size": node.size if kind in _SIZED else 0,
        "mtime": node.mtime,
        "target": None if target is None else escaped(target),
        "link": None if first is None else escaped(tree.path(first)),
        "device": list(node.device) if kind in _DEVICES else None,
        "xattrs": xattrs,
    }


def _target(tree: PackedTree, entry: int, refused: Refused) -> bytes | None:
    try:
        return tree.target(entry)
    except _failures() as error:
        refused(entry, error)
        return None


def _failures() -> tuple[type[Exception], ...]:
    from ocitui.contents import ContentsError

    return ContentsError, OSError


def sort_of_bytes(start: bytes) -> str:
    """What a file is by its first bytes, as ``an ELF file for x86-64``; empty for text in UTF-8."""
    if start.startswith(b"\x7fELF"):
        machine = start[18:20] if start[5:6] == b"\2" else start[19:17:-1]
        return f"an ELF file for {_MACHINES.get(int.from_bytes(machine, 'big'), 'another machine')}"
    for magic, what in _MAGICS.items():
        if start.startswith(magic):
            return what
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "bytes that are no text"
    return "bytes that are no text" if any(byte < 32 and byte not in _TEXT_CONTROLS for byte in start) else ""


def hidden_lines(files: Sequence[tuple[bytes, int, int, int]], size: int, layers: Sequence[str]) -> Iterator[str]:
    """What layers hold in vain, as `doctor.hidden_in_layers` tells it."""
    vain = human_size(sum(one[1] for one in files))
    yield f"{vain} of {human_size(size)} in {counted(len(layers), 'layer')} are hidden by later ones"
    for number, group in groupby(files, lambda one: one[2]):
        same = list(group)
        whole = human_size(sum(one[1] for one in same))
        yield f"layer {number}, {short_digest(layers[number - 1])}: {whole} in {counted(len(same), 'file')}"
        for path, length, _, hidden_by in same:
            name = clean(f"/{path.decode('utf-8', 'backslashreplace')}")
            yield f"  {human_size(length):>7} {name}, by layer {hidden_by}"


def extracted_lines(done: Extracted, directory: Path) -> Iterator[str]:
    """What was written, and what was not."""
    yield f"{counted(done.entries, 'entry')}, {human_size(done.bytes)}, below {clean(str(directory))}"
    if done.left_out:
        yield f"left out: {', '.join(f'{count} {what}' for what, count in done.left_out.items())}"
