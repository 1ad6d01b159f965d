"""Entries as images of one layer, for skopeo, podman, umoci: an OCI layout, one in a tar, or what `docker load` reads.

The layer is the tree of a packed file in the order of its paths, not compressed, so that it is the same bytes on every
host, and from each format that keeps as much. Its digest, and so the image's, is none that a registry knows.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from ocitui.cache import (
    ANNOTATION_REFERENCE,
    Document,
    FileTakenError,
    PackedFormat,
    StorageError,
    new_index,
    storage_errors,
)
from ocitui.contents import (
    FILE_TYPES,
    ROOT,
    TAR_BLOCK,
    ContentsError,
    DamagedError,
    Kind,
    PackedTree,
    open_tree,
    sorted_entries,
)
from ocitui.importing import (
    OCI_CONFIG,
    OCI_MANIFEST,
    SourceKind,
    blob_name,
    describe_image,
    digest_of,
    tar_header,
    tar_padding,
)
from ocitui.text import human_size, printable
from ocitui.threads import Stop

from .cache_tar import ExportedEntry, ExportError, Passed

ENTRY_DIGEST = "dev.ocitui.entry.digest"
"""The annotation of a manifest that holds the digest of the entry it was made of."""
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_LAYOUT = "oci-layout"
_INDEX = "index.json"
_CHUNK = 1 << 20
_KINDS = {type_: Kind(kind) for kind, type_ in FILE_TYPES.items()}
_WHITEOUT = b".wh."
_NO_DIGEST = f"sha256:{'0' * 64}"
# A name that Docker takes.
_TAGGED = re.compile(r"[a-z0-9][a-z0-9._:/-]*:\w[\w.-]{0,127}", re.ASCII)
_encode = msgspec.json.encode


class ExportedImage(msgspec.Struct, frozen=True):
    """What became of an entry: its ``digest`` as an image, in a Docker archive its id; the bytes of its layer; and what
    is left out, counted by what that is."""

    entry: ExportedEntry
    digest: str
    size: int
    left_out: dict[str, int]


class ImageFiles(Protocol):
    """Where the files of images go, by their names; one that is there already is the same."""

    def put(self, name: str, raw: bytes) -> None:
        """A document."""

    def put_layer(self, size: int, parts: Iterable[bytes], named: Callable[[str], str]) -> str:
        """Bytes of this size, under the name that they have by their digest, which it gives."""


class FolderFiles:
    """In a directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, raw: bytes) -> None:
        self._write(name, [raw])

    def put_layer(self, size: int, parts: Iterable[bytes], named: Callable[[str], str]) -> str:
        digest = self._write("layer", parts)
        (self._folder / "layer").replace(self._place(named(digest)))
        return digest

    def _write(self, name: str, parts: Iterable[bytes]) -> str:
        with self._place(name).open("wb", buffering=_CHUNK) as file:
            digest = _write_hashed(file, parts)
            file.flush()
            os.fsync(file.fileno())
        return digest

    def _place(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class TarFiles:
    """In a tar, which is a regular file: the name of a layer is written when its digest is known."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._names = file, set[str]()

    def put(self, name: str, raw: bytes) -> None:
        if name not in self._names:
            self._file.write(_file_header(name, len(raw)) + raw + bytes(tar_padding(len(raw))))
            self._names.add(name)

    def put_layer(self, size: int, parts: Iterable[bytes], named: Callable[[str], str]) -> str:
        begin = self._file.tell()
        self._file.write(_file_header(named(_NO_DIGEST), size))
        digest = _write_hashed(self._file, parts)
        self._file.write(bytes(tar_padding(size)))
        end = self._file.tell()
        self._file.seek(begin)
        if (name := named(digest)) in self._names:
            self._file.truncate()
        else:
            self._names.add(name)
            self._file.write(_file_header(name, size))
            self._file.seek(end)
        return digest

    def end(self) -> None:
        self._file.write(bytes(2 * TAR_BLOCK))


def _file_header(name: str, size: int) -> bytes:
    return tar_header(name.encode(), Kind.FILE, 0o644, 0, 0, size, 0)


def _write_hashed(file: BinaryIO, parts: Iterable[bytes]) -> str:
    hashing = hashlib.sha256()
    for part in parts:
        hashing.update(part)
        file.write(part)
    return f"sha256:{hashing.hexdigest()}"


def write_image_tar(
    entries: Sequence[ExportedEntry], kind: SourceKind, fd: int, passed: Passed, stop: Stop
) -> list[ExportedImage]:
    """Write entries into an open regular file, as an OCI archive or a Docker archive. Raises as `write_layout`."""
    with open(fd, "wb", buffering=_CHUNK, closefd=False) as file:
        files = TarFiles(file)
        written = _write_images(entries, kind, files, fd, passed, stop)
        files.end()
    return written


def write_layout(
    entries: Sequence[ExportedEntry], directory: Path, passed: Passed, stop: Stop, *, replace: bool = False
) -> list[ExportedImage]:
    """Write entries as an OCI layout, which is there once it is whole; with ``replace`` where one is: its index.json is
    another then, and its blobs stay. Raises ExportError, ContentsError where one is damaged, or changes meanwhile,
    StorageError, AbandonedError."""
    # In one that is there, which may be a mount, and keeps its mode and owner.
    inside = directory.is_dir()
    draft = (directory if inside else directory.parent) / f".{directory.name}.{secrets.token_hex(4)}.temporary"
    with storage_errors(f"write {directory}"):
        draft.mkdir()
        try:
            kind, files = SourceKind.OCI_LAYOUT, FolderFiles(draft)
            written = _write_images(entries, kind, files, draft, passed, stop)
            if inside:
                if not replace and os.path.lexists(directory / _INDEX):
                    raise FileTakenError(f"{directory} is there already")
                for path in _index_last(draft):
                    place = directory / path.relative_to(draft)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(place)
            else:
                draft.rename(directory)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return written


def is_layout_there(directory: Path) -> bool:
    """Whether an OCI layout stands there, and not nothing, or an empty directory. Raises FileTakenError for anything
    else, StorageError."""
    with storage_errors(f"look at {directory}"):
        if not os.path.lexists(directory) or (directory.is_dir() and not any(directory.iterdir())):
            return False
        if (directory / _LAYOUT).is_file():
            return True
    raise FileTakenError(f"{directory} is there already, and is no OCI layout", hint="name another directory")


def _index_last(folder: Path) -> list[Path]:
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name == _INDEX)


def _write_images(
    entries: Sequence[ExportedEntry],
    kind: SourceKind,
    files: ImageFiles,
    place: Path | int,
    passed: Passed,
    stop: Stop,
) -> list[ExportedImage]:
    is_docker = kind is SourceKind.DOCKER_ARCHIVE
    # Where a name comes twice, it is the last's.
    named_last = {entry.descriptor.image_name: entry for entry in entries}
    listed, written, before = list[Any](), list[ExportedImage](), 0
    for entry in entries:
        with _opened_tree(entry, stop) as tree:
            layer = _Layer(tree, stop)
            size = layer.size()
            _check_room(place, size)
            named = _docker_layer if is_docker else blob_name
            diff_id = files.put_layer(size, _told(layer.parts(), before, size, passed), named)
        before += size
        called = entry.descriptor.image_name or ""
        if named_last[entry.descriptor.image_name] is not entry:
            called = ""
        config = _config(entry, diff_id)
        manifest = _manifest(entry, config, diff_id, size)
        digest = digest_of(manifest.raw)
        if is_docker:
            name = f"{_hex(digest_of(config.raw))}.json"
            listed.append(
                {
                    "Config": name,
                    "RepoTags": [called] if _TAGGED.fullmatch(called) else [],
                    "Layers": [_docker_layer(diff_id)],
                }
            )
        else:
            name = blob_name(digest_of(config.raw))
            files.put(blob_name(digest), manifest.raw)
            annotations = {ANNOTATION_REFERENCE: called} if called else {}
            listed.append(describe_image(digest, manifest, config.value, annotations).raw)
        files.put(name, config.raw)
        written.append(ExportedImage(entry, digest_of(config.raw) if is_docker else digest, size, {**layer.left_out}))
    if is_docker:
        files.put("manifest.json", _encode(listed))
    else:
        files.put(_LAYOUT, _encode({"imageLayoutVersion": "1.0.0"}))
        files.put(_INDEX, new_index(listed).data)
    return written


def _check_room(place: Path | int, size: int) -> None:
    found = os.statvfs(place)
    if size > found.f_bavail * found.f_frsize:
        raise StorageError(
            f"there is no room for a layer of {human_size(size)}", hint="write it to where there is room"
        )


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _docker_layer(digest: str) -> str:
    return f"{_hex(digest)}.tar"


def _config(entry: ExportedEntry, diff_id: str) -> Document[Any]:
    """An entry's config as it is, but for its layers and their history. Raises ExportError."""
    found = entry.found.config
    try:
        fields = msgspec.json.decode(found.raw if found is not None else b"")
    except (msgspec.DecodeError, RecursionError) as error:
        raise ExportError(f"the config of {entry.descriptor.digest} cannot be written anew: {error}") from error
    made = {"created_by": "ocitui export", "comment": f"all layers of {entry.descriptor.digest} in one"}
    if "created" in fields:
        made = {"created": fields["created"], **made}
    return Document.config(_encode({**fields, "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "history": [made]}))


def _manifest(entry: ExportedEntry, config: Document[Any], diff_id: str, size: int) -> Document[Any]:
    parts = {
        "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config.raw), "size": len(config.raw)},
        "layers": [{"mediaType": _LAYER, "digest": diff_id, "size": size}],
        "annotations": {ENTRY_DIGEST: entry.descriptor.digest},
    }
    return Document.manifest(_encode({"schemaVersion": 2, "mediaType": OCI_MANIFEST, **parts}))


@contextmanager
def _opened_tree(entry: ExportedEntry, stop: Stop) -> Iterator[PackedTree]:
    """The tree of an entry whose packed file is what was recorded of it. Raises as `write_layout`."""
    name = entry.found.files.packed.name
    try:
        with entry.opened() as file:
            if entry.sha256:
                hashing = hashlib.sha256()
                for chunk in entry.chunks(file, stop):
                    hashing.update(chunk)
                entry.check_hash(hashing.hexdigest())
            with storage_errors(f"export {name}"):
                tree = open_tree(file, PackedFormat(entry.descriptor.format or ""), stop)
                if tree.damage:
                    raise DamagedError(tree.damage[0][1])
                yield tree
    except ContentsError as error:
        raise type(error)(f"{name}: {error.message}", hint=error.hint) from error


class _Layer:
    """A tree as the tar of a layer. Raises ContentsError, ExportError, OSError as the disk does, AbandonedError."""

    def __init__(self, tree: PackedTree, stop: Stop) -> None:
        self._tree, self._stop = tree, stop
        self._entries = [*sorted_entries(tree)]
        self.left_out = Counter[str]()
        """By what it is; a tar has none of it."""

    def size(self) -> int:
        """In bytes."""
        return sum(len(header) + size + tar_padding(size) for header, size, _ in self._members()) + 2 * TAR_BLOCK

    def parts(self) -> Iterator[bytes]:
        """Its bytes."""
        for header, size, entry in self._members():
            yield header
            if size:
                yield from self._body(entry, size)
                yield bytes(tar_padding(size))
        yield bytes(2 * TAR_BLOCK)

    def _members(self) -> Iterator[tuple[bytes, int, int]]:
        """The header of each, how many bytes follow it, and of what entry."""
        tree, first = self._tree, dict[int, bytes]()
        self.left_out.clear()
        if sockets := len(tree) - len(self._entries):
            self.left_out["sockets"] = sockets
        for path, entry in self._entries:
            self._stop.check()
            if path.rpartition(b"/")[2].startswith(_WHITEOUT):
                what = f"in a layer {printable(b'/' + path)} would take another file away"
                raise ExportError(what, hint="ocitui export FILE keeps the packed file as it is")
            kind, number = _KINDS[tree.kind(entry)], tree.numbers[entry]
            linked = first.setdefault(number, path) if kind is not Kind.DIRECTORY else path
            if linked != path:
                yield self._header(entry, path, Kind.HARD_LINK, 0, linked), 0, entry
                continue
            size = tree.sizes[entry] if kind is Kind.FILE else 0
            target = tree.target(entry) if kind is Kind.SYMLINK else b""
            yield self._header(entry, path, kind, size, target, self._xattrs(entry)), size, entry

    def _header(
        self, entry: int, path: bytes, kind: Kind, size: int, link: bytes, xattrs: Sequence[tuple[bytes, bytes]] = ()
    ) -> bytes:
        node = self._tree.node(entry)
        name = path + b"/" if kind is Kind.DIRECTORY and entry != ROOT else path or b"./"
        mode = 0o777 if kind is Kind.SYMLINK else stat.S_IMODE(node.mode)
        return tar_header(name, kind, mode, node.uid, node.gid, size, node.mtime, link, node.device, tuple(xattrs))

    def _xattrs(self, entry: int) -> list[tuple[bytes, bytes]]:
        found = sorted(self._tree.xattrs(entry).items())
        kept = [(name, value) for name, value in found if b"=" not in name]
        if len(kept) < len(found):
            self.left_out["attributes with = in their names"] += len(found) - len(kept)
        return kept

    def _body(self, entry: int, size: int) -> Iterator[bytes]:
        body, left = self._tree.open(entry), size
        while left:
            self._stop.check()
            data = body.read(_CHUNK)
            if not data:
                raise DamagedError(f"{printable(b'/' + self._tree.path(entry))} ends before its size")
            left -= len(data)
            yield data


def _told(parts: Iterable[bytes], before: int, size: int, passed: Passed) -> Iterator[bytes]:
    """The parts of a layer of this size; that they pass is told now and then."""
    done = told = 0
    for part in parts:
        yield part
        done += len(part)
        if done - told >= _CHUNK or done == size:
            passed(before + done, before + size)
            told = done
