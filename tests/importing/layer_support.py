"""Layers made for tests, and trees read back from tars and directories, to be compared."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocitui.cache import PackedFormat
from ocitui.importing.errors import LayerError
from ocitui.importing.layers.flatten import flattening
from ocitui.importing.layers.layers import LayerLimits, Layers, LayerSource, compression_of, decompressed
from ocitui.importing.layers.tree import Counter
from ocitui.importing.packing.packing import PackOptions, flatten_and_pack
from ocitui.importing.progress import ProgressCall

TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}
_FORMATS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


@dataclass(frozen=True)
class Item:
    """One entry of a layer."""

    name: str
    type: bytes = tarfile.REGTYPE
    data: bytes = b""
    link: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 1_500_000_000
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, str] = field(default_factory=dict)
    pax: dict[str, str] = field(default_factory=dict)


def folder(name: str, mode: int = 0o755, **more: Any) -> Item:
    return Item(name, tarfile.DIRTYPE, mode=mode, **more)


def link(name: str, target: str) -> Item:
    return Item(name, tarfile.SYMTYPE, link=target)


def hard(name: str, target: str) -> Item:
    return Item(name, tarfile.LNKTYPE, link=target)


def layer(*items: Item, format: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed layer."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format, encoding="utf-8", errors="surrogateescape") as archive:
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.size, info.linkname = item.type, len(item.data), item.link
            info.mode, info.uid, info.gid, info.mtime = item.mode, item.uid, item.gid, item.mtime
            info.devmajor, info.devminor = item.device
            info.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in item.xattrs.items()} | item.pax
            archive.addfile(info, io.BytesIO(item.data))
    return made.getvalue()


def sources(directory: Path, layers: Iterable[bytes]) -> list[LayerSource]:
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for number, data in enumerate(layers, 1):
        path = directory / f"layer{number}"
        path.write_bytes(data)
        made.append(layer_source(path))
    return made


def layer_source(path: Path) -> LayerSource:
    """A whole file as a layer, with its digests; of damaged data only what comes before the damage counts."""
    data, tar = path.read_bytes(), hashlib.sha256()
    with suppress(LayerError):
        for chunk in decompressed(iter([data]), compression_of(data)):
            tar.update(chunk)
    return LayerSource(path, digest_of(data), len(data), f"sha256:{tar.hexdigest()}")


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def pack_layers(
    layers: Sequence[LayerSource],
    output: Path,
    format: PackedFormat | None,
    options: PackOptions | None = None,
    progress: ProgressCall = lambda now: None,
) -> tuple[str, ...]:
    """What was told of it by a process of its own; the layers are all there."""

    async def there() -> Layers:
        for one in layers:
            yield one

    return (await flatten_and_pack(there(), [one.size for one in layers], output, format, options, progress)).warnings


def flattened(layers: Iterable[LayerSource], limits: LayerLimits | None = None) -> bytes:
    """The flattened tar, which has the size that was foretold."""
    made = io.BytesIO()
    counter = Counter()
    with flattening(list(layers), limits or LayerLimits(), counter) as image:
        image.write(lambda data: _write(made, data), counter)
        assert len(made.getvalue()) == image.plan.size == counter.done == counter.total
        assert counter.files == counter.files_total == image.plan.files
    return made.getvalue()


def _write(file: io.BytesIO, data: memoryview) -> None:
    file.write(data)


@dataclass
class Found:
    """A tree: what each path is, and which paths are one inode."""

    tree: dict[str, dict[str, Any]] = field(default_factory=dict)
    hardlinks: list[list[str]] = field(default_factory=list)


def tree_of_tar(data: bytes) -> Found:
    """As Python's own reader sees it; every hard link follows what it links to."""
    found = Found()
    groups: dict[str, list[str]] = defaultdict(list)
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        for info in archive:
            assert info.name not in found.tree
            if info.type == tarfile.LNKTYPE:
                found.tree[info.name] = found.tree[info.linkname]
                groups[info.linkname].append(info.name)
                continue
            found.tree[info.name] = _of_member(archive, info)
    found.hardlinks = sorted(sorted([first, *others]) for first, others in groups.items())
    return found


def _of_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> dict[str, Any]:
    kind = TYPES[info.type]
    made: dict[str, Any] = {"type": kind, "uid": info.uid, "gid": info.gid}
    if kind != "symlink":
        made["mode"] = f"{info.mode:o}"
    if kind == "file":
        file = archive.extractfile(info)
        assert file is not None
        made |= _content(file.read())
    if kind == "symlink":
        made["target"] = info.linkname
    if kind in ("character", "block"):
        made["device"] = [info.devmajor, info.devminor]
    xattrs = {
        key.removeprefix("SCHILY.xattr."): base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()
        for key, value in info.pax_headers.items()
        if key.startswith("SCHILY.xattr.")
    }
    return made | ({"xattrs": xattrs} if xattrs else {})


def tree_of_directory(root: Path) -> Found:
    """A directory as root sees it, its own metadata as ``.``."""
    found = Found()
    groups: dict[int, list[str]] = defaultdict(list)
    # Not by rglob: before Python 3.11.4 it follows links, and one may lead further than a path can.
    below = (Path(above, name) for above, folders, files in os.walk(root) for name in (*folders, *files))
    for path in [root, *sorted(below)]:
        name = str(path.relative_to(root))
        status = path.lstat()
        found.tree[name] = _of_path(path, status)
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            groups[status.st_ino].append(name)
    found.hardlinks = sorted(sorted(group) for group in groups.values())
    return found


def _of_path(path: Path, status: os.stat_result) -> dict[str, Any]:
    kind = _FORMATS[stat.S_IFMT(status.st_mode)]
    made: dict[str, Any] = {"type": kind, "uid": status.st_uid, "gid": status.st_gid}
    if kind != "symlink":
        made["mode"] = f"{stat.S_IMODE(status.st_mode):o}"
    if kind == "file":
        made |= _content(path.read_bytes())
    if kind == "symlink":
        made["target"] = os.readlink(path)
    if kind in ("character", "block"):
        made["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    xattrs = {
        name: base64.b64encode(os.getxattr(path, name, follow_symlinks=False)).decode()
        for name in os.listxattr(path, follow_symlinks=False)
    }
    return made | ({"xattrs": xattrs} if xattrs else {})


def _content(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def edited(block: bytes, edit: Callable[[bytearray], None]) -> bytes:
    """A tar whose first header was changed, its checksum set right."""
    changed = bytearray(block)
    edit(changed)
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed[:512])
    return bytes(changed)
