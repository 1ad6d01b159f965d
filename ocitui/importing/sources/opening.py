"""Sources as an operator writes them, opened: skopeo's transports, a bare name, or a path that is looked at; an archive
from standard input, kept in a private file meanwhile, as it is read twice; and packed files.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

import msgspec

from ocitui.cache import (
    INDEX_NAME,
    MOST_DOCUMENT_BYTES,
    MOST_INDEX_BYTES,
    CacheError,
    Disk,
    Document,
    DocumentError,
    ImageConfiguration,
    ImageManifest,
    ImageName,
    PackedFormat,
    PackedImage,
    StorageError,
    check_packed,
    examine_index,
    find_entry,
    open_bounded,
    packed_name,
    read_bounded,
    storage_errors,
    usual_digest,
)
from ocitui.contents import TAR_BLOCK, is_header
from ocitui.text import human_size
from ocitui.threads import Stop, in_thread, on_loop

from ..errors import NoSuchImageError, SourceError, UnreadableSourceError, UnsupportedSourceError
from ..layers.layers import Compression, LayerLimits, compression_of
from ..staging import staging_folder, while_there_is_room
from .archive import Archive
from .images import Source, SourceKind, digest_of, packed_image, refuse_irregular
from .layouts import DirectoryFiles, DockerSource, OciSource, Recognised
from .references import SourceOptions, refuse_login

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class PackedFiles(msgspec.Struct, frozen=True):
    """A packed file and its two documents. ``format`` is what it must be, None where only its magic can tell."""

    packed: Path
    manifest: Path
    config: Path
    format: PackedFormat | None

    @property
    def claimed_digests(self) -> set[str]:
        """The digests that the files' names claim."""
        stems = (_named(self.packed)[0], self.manifest.name.removesuffix(".manifest.json"))
        return {stem for stem in stems if _DIGEST.fullmatch(stem)}


def find_packed_files(
    source: str, manifest: Path | None = None, config: Path | None = None, format: PackedFormat | None = None
) -> PackedFiles:
    """The files of ``packed:FILE``, or of a path to one; the documents stand beside it unless they are named. Raises
    what `recognise_source` does, also for other kinds of sources, SourceError where the name contradicts ``format``."""
    found = recognise_source(source)
    if found.kind is not SourceKind.PACKED:
        raise UnsupportedSourceError(f"{source} is no packed file")
    packed = found.path
    if not packed.name:
        raise SourceError(f"{source!r} names no file")
    stem, named = _named(packed)
    if format is not None and named is not None and format is not named:
        raise SourceError(f"{packed} is named as {named}, and {format} was asked for")
    manifest = manifest or packed.with_name(f"{stem}.manifest.json")
    config = config or packed.with_name(f"{stem}.config.json")
    return PackedFiles(packed, manifest, config, format or named)


def _named(packed: Path) -> tuple[str, PackedFormat | None]:
    """The name without what says the format, and that format; a digest keeps its dots out of this."""
    for format_ in PackedFormat:
        if packed.name.endswith(f".{format_}"):
            return packed.name.removesuffix(f".{format_}"), format_
    return packed.stem, None


_REGISTRY, CACHE_PREFIX = "docker://", "cache:"
# skopeo's other transports, with the command that makes an archive of what they name.
_UNSUPPORTED = {
    "docker-daemon:": "docker save -o image.tar {}",
    "containers-storage:": "podman save --format oci-archive -o image.tar {}",
    "dir:": "skopeo copy dir:{} oci-archive:image.tar",
    "ostree:": "skopeo copy ostree:{} oci-archive:image.tar",
    "sif:": "skopeo copy sif:{} oci-archive:image.tar",
    "tarball:": "skopeo copy tarball:{} oci-archive:image.tar",
}
_FOREIGN = (
    (b"#!/usr/bin/env run-singularity", "a SIF image", "skopeo copy sif:{} oci-archive:image.tar"),
    (b"QFI\xfb", "a disk of QEMU", ""),
    (b"MZ", "a program of Windows", ""),
    (b"\x7fELF", "a program", ""),
    (b"{", "JSON, and no image", ""),
)
"""By their first bytes, what is given to an import by mistake, and the command that makes an image of it."""
_DIGEST_AT_END = re.compile(r"(.*)@(sha256:.*)", re.DOTALL)
STANDARD_INPUT, STANDARD_INPUT_NAME = "-", "standard input"
_STANDARD_INPUT = re.compile(r"((?:docker|oci)-archive:)?-([:@].*)?", re.DOTALL)
_FILE_ENDINGS = (".tar", ".tgz", ".gz", ".zst", ".squashfs", ".sqfs", ".erofs")


def recognise_source(text: str) -> Recognised:
    """What kind of source this is: by its prefix, else by looking at the path. Raises UnsupportedSourceError for
    skopeo's other transports and standard input, which `received` reads, UnreadableSourceError for a path that is not
    there, or a text surely meant as one; InvalidReferenceError for a name with a login in it."""
    text = expanded_source(text)
    if standard_input(text) is not None:
        hint = "keep the archive in a file, and name that"
        raise UnsupportedSourceError(f"{STANDARD_INPUT_NAME} cannot be read again", hint=hint)
    if text.startswith(_REGISTRY):
        refuse_login(text)
        return Recognised(SourceKind.REGISTRY, text.removeprefix(_REGISTRY), Path())
    if text.startswith(CACHE_PREFIX):
        return _in_cache(os.path.expanduser(text.removeprefix(CACHE_PREFIX)))
    prefix = prefix_of(text)
    kind, rest = prefix.removesuffix(":"), text.removeprefix(prefix)
    if kind == SourceKind.PACKED:
        refuse_irregular(Path(rest))
        return Recognised(SourceKind.PACKED, rest, Path(rest))
    if kind and kind != SourceKind.REGISTRY:
        return _files(SourceKind(kind), rest)
    for other, command in _UNSUPPORTED.items():
        if text.startswith(other):
            made = command.format(shlex.quote(text.removeprefix(other)))
            raise UnsupportedSourceError(f"{text}: this kind of source is not read", hint=f"`{made}` makes an archive")
    return _by_looking(text)


def _in_cache(rest: str) -> Recognised:
    """An entry of another cache, written as DIR:ENTRY: its packed file, and the name that it has there."""
    directory, word = _path_before(":", rest)
    try:
        index = examine_index(read_bounded(Path(directory, INDEX_NAME), MOST_INDEX_BYTES))[1]
    except OSError as error:
        reason = error.strerror or error
        raise UnreadableSourceError(f"{directory} is no cache that can be read: {reason}") from error
    if index is None:
        hint = f"ocitui repair -C {shlex.quote(directory)} shows what mends it"
        raise UnreadableSourceError(f"the index of {directory} is corrupt", hint=hint)
    named = find_entry(word, index.digests, index.names) if word else None
    if named is None:
        held = ", ".join(sorted({name for name in index.names if name})[:5]) or "nothing with a name"
        raise NoSuchImageError(f"{directory} has no entry {word or '(none was named)'}; it has {held}")
    formats = [named.format] if named.format else list(PackedFormat)
    for format_ in formats:
        if (at := index.position(named.digest, format_)) is not None:
            packed = os.path.join(directory, packed_name(named.digest, format_))
            return Recognised(SourceKind.PACKED, packed, Path(packed), index.names[at])
    raise NoSuchImageError(f"{directory} has no {word} in a format that is known")


def expanded_source(text: str) -> str:
    """The source with a home directory written out: behind a prefix, no shell does that."""
    prefix = prefix_of(text)
    return prefix + os.path.expanduser(text.removeprefix(prefix))


def standard_input(text: str) -> tuple[str, str] | None:
    """The prefix of a source that is standard input, and what is wanted of it; None for any other."""
    match = _STANDARD_INPUT.fullmatch(text)
    return (match[1] or "", match[2] or "") if match else None


def prefix_of(text: str) -> str:
    """The transport that a source's text begins with; empty where it has none."""
    return next((f"{kind}:" for kind in SourceKind if text.startswith(f"{kind}:")), "")


async def open_source(text: str, options: SourceOptions | None = None) -> Source:
    """Open a source; nothing is written, no registry asked yet. Raises SourceError, for packed files too."""
    options = options or SourceOptions()
    found = await in_thread(lambda stop: recognise_source(text))
    if found.kind is SourceKind.PACKED:
        raise UnsupportedSourceError(f"{text} holds a packed image, not layers", hint="write it as packed:FILE")
    if found.kind is SourceKind.REGISTRY:
        # Its library takes a tenth of a second to load, which no other source needs.
        from ..registry.client import RegistrySource

        return RegistrySource(found.rest, options)
    if found.kind is SourceKind.OCI_LAYOUT:
        return OciSource(found.kind, DirectoryFiles(layout_in(found.path)), found, options)
    archive = await in_thread(lambda stop: Archive(found.path, stop, options.limits))
    if found.kind is SourceKind.DOCKER_ARCHIVE and (archive.find("manifest.json") or not archive.find("index.json")):
        return DockerSource(archive, found, options)
    return OciSource(SourceKind.OCI_ARCHIVE, archive, found, options)


def _files(kind: SourceKind, rest: str) -> Recognised:
    """A path, and after a colon or an at what is wanted there; a path that is there as a whole is just that."""
    path, name, digest = rest, "", ""
    if not os.path.exists(rest):
        if match := _DIGEST_AT_END.fullmatch(rest):
            path, digest = match[1].removesuffix(":"), match[2]
        else:
            path, name = _path_before(":", rest)
    if not path:
        raise SourceError(f"{kind}:{rest} names no path")
    if digest and not usual_digest(digest):
        raise SourceError(f"{digest!r} is not sha256: and 64 hexadecimal digits")
    if not os.path.exists(path):
        raise UnreadableSourceError(f"{path} does not exist")
    number = int(name[1:]) if kind is SourceKind.DOCKER_ARCHIVE and re.fullmatch(r"@[0-9]{1,6}", name) else None
    return Recognised(kind, rest, Path(path), None if number is not None else name or None, digest or None, number)


def _path_before(mark: str, text: str) -> tuple[str, str]:
    """The shortest path before such a mark that is there, and what follows; up to the first mark where none is."""
    parts = text.split(mark)
    for count in range(1, len(parts)):
        path = mark.join(parts[:count])
        if path and os.path.exists(path):
            return path, mark.join(parts[count:])
    return parts[0], mark.join(parts[1:])


def _by_looking(text: str) -> Recognised:
    path, is_path = Path(text), text.startswith(("/", "./", "../", "~"))
    for candidate in (text, _path_before(":", text)[0], _path_before("@", text)[0]):
        kind = _kind_of(Path(candidate)) if candidate else None
        if kind is SourceKind.PACKED and candidate == text:
            return Recognised(kind, text, path)
        if kind is not None and kind is not SourceKind.PACKED:
            return _files(kind, text)
    if os.path.isdir(path):
        if os.path.isfile(path / "version") and os.path.isfile(path / "manifest.json"):
            command = f"skopeo copy dir:{shlex.quote(text)} oci-archive:image.tar"
            raise UnsupportedSourceError(f"{text} is of skopeo's kind dir", hint=f"`{command}` makes an archive")
        hint = "" if is_path else f"docker://{text} would be an image of that name"
        raise UnreadableSourceError(f"{text} is no OCI layout: it has no file oci-layout", hint=hint)
    if is_path or os.path.lexists(path):
        refuse_irregular(path)
        raise UnreadableSourceError(f"{text} does not exist")
    refuse_login(text)
    if text.lower().endswith(_FILE_ENDINGS):
        # No registry far away is asked for a typing mistake.
        raise UnreadableSourceError(f"{text} does not exist", hint=f"docker://{text} would be an image of that name")
    return Recognised(SourceKind.REGISTRY, text, Path())


def _kind_of(path: Path) -> SourceKind | None:
    """What lies at a path; None for no source. An archive counts as Docker's until it is known what it holds."""
    if os.path.isdir(path):
        return SourceKind.OCI_LAYOUT if os.path.isfile(layout_in(path) / "oci-layout") else None
    if not os.path.isfile(path):
        return None
    if os.path.isfile(path.with_name(f"{path.name.removesuffix('.tar')}.manifest.json")):
        return SourceKind.PACKED
    try:
        with open_bounded(path) as file:
            start = file.read(LONGEST_START)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UnreadableSourceError(f"cannot read {path}: {error}") from error
    return kind_of_bytes(start, str(path), shlex.quote(str(path)))


_SQUASHFS_MAGIC, _EROFS_MAGIC, _EROFS_MAGIC_AT = b"hsqs", 0xE0F5E1E2.to_bytes(4, "little"), 1024
LONGEST_START = _EROFS_MAGIC_AT + len(_EROFS_MAGIC)

CACHE_TAR = b"comment=ocitui cache 1 "
"""What a cache in a tar has in the comment that it begins with."""


def is_cache_tar(start: bytes) -> bool:
    """Whether this is the beginning of what `ocitui export` writes."""
    return is_header(start[:TAR_BLOCK]) and CACHE_TAR in start[TAR_BLOCK : TAR_BLOCK + 80]


def file_start(path: Path) -> bytes:
    """The first bytes of a regular file; none of what is not there or cannot be read."""
    with suppress(OSError, ValueError), open_bounded(path) as file:
        return file.read(LONGEST_START)
    return b""


def kind_of_bytes(start: bytes, name: str, path: str) -> SourceKind:
    """The kind of a file by its first bytes, `LONGEST_START` of them. Raises UnreadableSourceError for what nobody
    takes for an image, with what makes one of it; ``path`` is how a command names it."""
    if is_cache_tar(start):
        raise UnsupportedSourceError(f"{name} holds entries of a cache", hint=f"ocitui import {path} brings them in")
    if compression_of(start) is not Compression.NONE or is_header(start[:TAR_BLOCK]):
        return SourceKind.DOCKER_ARCHIVE
    if start.startswith(_SQUASHFS_MAGIC) or start[_EROFS_MAGIC_AT:] == _EROFS_MAGIC:
        return SourceKind.PACKED
    if not start:
        raise UnreadableSourceError(f"{name} is empty")
    for magic, what, command in _FOREIGN:
        if start.startswith(magic):
            made = command.format(path)
            raise UnreadableSourceError(f"{name} is {what}", hint=f"`{made}` makes an archive" if made else "")
    return SourceKind.PACKED


def layout_in(path: Path) -> Path:
    """The OCI layout in a directory: that itself, or the one folder down that is one."""
    if os.path.isfile(path / "oci-layout"):
        return path
    with suppress(OSError):
        inner = [one for one in os.scandir(path) if one.is_dir() and os.path.isfile(os.path.join(one, "oci-layout"))]
        if len(inner) == 1:
            return Path(inner[0])
    return path


_CHUNK, _LOOK_MILLISECONDS = 1 << 20, 200
_PIPE = "pipe an archive into it, as `docker save NAME | ocitui import -` does"


@asynccontextmanager
async def received(
    text: str, directory: Path | None, heard: Callable[[int, int], None], most: int | None = None, start: bytes = b""
) -> AsyncIterator[str]:
    """What standard input gives, kept in the cache ``directory``, as a source that can be opened until the end;
    ``text`` is how it was written, ``start`` was read already. ``heard`` is told the bytes that came, and how many
    there are (0: not known). Raises SourceError, also for no archive, or more than ``most`` bytes; NoRoomError, and as
    `staging_folder`."""
    kind, rest = standard_input(text) or ("", "")
    if directory is None:
        raise UnreadableSourceError(f"{STANDARD_INPUT_NAME} is not to be read here", hint=_PIPE)
    _require_pipe()
    limit, told = most or LayerLimits().unpacked_bytes, on_loop(heard)
    with staging_folder(directory) as folder:
        path = folder / "standard-input"
        try:
            await while_there_is_room(directory, in_thread(lambda stop: _keep(path, start, limit, told, stop)))
            yield f"{kind or f'{SourceKind.DOCKER_ARCHIVE}:'}{path}{rest}"
        except CacheError as error:
            name_in(error, str(path))
            raise


def name_in(error: CacheError, path: str) -> None:
    """Have an error name standard input for the file that it is kept in, which is gone then."""
    error.message = re.sub(rf"(?:[a-z-]+:)?{re.escape(path)}", STANDARD_INPUT_NAME, error.message)
    if "after the path and a colon" in error.hint:
        error.hint = f"name one of them, as {SourceKind.DOCKER_ARCHIVE}:-:NAME"
    elif error.hint == UnreadableSourceError.default_hint:
        error.hint = "see what the command before the pipe says"


def _require_pipe() -> None:
    if sys.stdin is None or sys.stdin.isatty():
        there = "not to be read here" if sys.stdin is None else "a terminal"
        raise UnreadableSourceError(f"{STANDARD_INPUT_NAME} is {there}", hint=_PIPE)


def standard_input_start(stop: Stop) -> bytes:
    """The first bytes of standard input, at least `LONGEST_START` of them or all. Raises UnreadableSourceError,
    StorageError, AbandonedError."""
    _require_pipe()
    start = b""
    with storage_errors(f"read {STANDARD_INPUT_NAME}"):
        for chunk in given_by(sys.stdin.fileno(), stop, LONGEST_START):
            start += chunk
            if len(start) >= LONGEST_START:
                break
    return start


def given_by(fd: int, stop: Stop, most: int = _CHUNK) -> Iterator[bytes]:
    """What a file or a pipe gives, as it comes, and no bytes at times when nothing does, so that it is left at once.
    Raises OSError, AbandonedError."""
    ready = select.poll()
    ready.register(fd, select.POLLIN)
    while True:
        stop.check()
        if not ready.poll(_LOOK_MILLISECONDS):
            yield b""
            continue
        chunk = os.read(fd, most)
        if not chunk:
            return
        yield chunk


def _keep(path: Path, start: bytes, most: int, told: Callable[[int, int], None], stop: Stop) -> None:
    """Write what comes, behind what came, into a file. Raises SourceError, StorageError, AbandonedError."""
    source, head, done = sys.stdin.fileno(), b"", 0
    with storage_errors(f"keep what {STANDARD_INPUT_NAME} gives"), Disk().writing(path) as write:
        size = os.fstat(source).st_size
        told(0, size)
        for chunk in chain([start], given_by(source, stop)):
            head += chunk[: LONGEST_START - len(head)]
            if chunk and len(head) == LONGEST_START:
                _require_archive(head)
            done += len(chunk)
            if done > most:
                hint = "keep it in a file, and name that"
                raise UnreadableSourceError(f"{STANDARD_INPUT_NAME} gives more than {human_size(most)}", hint=hint)
            write(chunk)
            told(done, max(size, done) if size else 0)
        _require_archive(head)


def _require_archive(start: bytes) -> None:
    if kind_of_bytes(start, STANDARD_INPUT_NAME, "FILE") is not SourceKind.DOCKER_ARCHIVE:
        hint = f"{_PIPE}; a packed file is kept beside its documents, and named packed:FILE"
        raise UnsupportedSourceError(f"{STANDARD_INPUT_NAME} gives no archive", hint=hint)


T = TypeVar("T")


class PackedSource(msgspec.Struct, frozen=True):
    """What a packed file and its documents are: ``format`` by magic, ``digest`` of the manifest's bytes. ``problems``
    keep it from being imported; where there are none, nothing here is None."""

    files: PackedFiles
    size: int
    format: PackedFormat | None
    digest: str | None
    manifest: Document[ImageManifest] | None
    config: Document[ImageConfiguration] | None
    problems: tuple[str, ...]

    @property
    def platform(self) -> str:
        """As ``linux/amd64``; empty where there is no config."""
        return str(self.config.value.platform) if self.config else ""

    def image(self, name: ImageName) -> PackedImage:
        """The image under a name. Raises SourceError where there are problems."""
        if self.problems or not (self.format and self.digest and self.manifest and self.config):
            raise SourceError(f"{self.files.packed}: {'; '.join(self.problems)}")
        return packed_image(name, self.files.packed, self.format, self.manifest, self.config, self.digest)


def inspect_packed(files: PackedFiles) -> PackedSource:
    """Look at a source; nothing is changed. Raises SourceError where there is no such file."""
    problems: list[str] = []
    size = regular_size(files.packed)
    format_ = _check_format(files, problems)
    manifest = _read(files.manifest, "manifest", Document.manifest, problems)
    config = _read(files.config, "config", Document.config, problems)
    digest = None
    if manifest:
        claimed = files.claimed_digests
        # By the algorithm that a file's name uses.
        algorithms = {one.partition(":")[0] for one in claimed}
        digest = digest_of(manifest.raw, algorithms.pop() if len(algorithms) == 1 else "sha256")
        problems += [f"the manifest's digest is {digest}, a file is named {one}" for one in sorted(claimed - {digest})]
    if manifest and config:
        _check_config(manifest.value, config.raw, problems)
    return PackedSource(files, size, format_, digest, manifest, config, tuple(problems))


def regular_size(path: Path) -> int:
    """The bytes of a regular file. Raises SourceError."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise SourceError(f"{path} is not a regular file")
    return found.st_size


def _check_format(files: PackedFiles, problems: list[str]) -> PackedFormat | None:
    try:
        check = check_packed(files.packed)
    except StorageError as error:
        raise SourceError(error.message) from error
    if check.problem:
        problems.append(f"the packed file is not whole: {check.problem}")
    if check.found and files.format and check.found is not files.format:
        problems.append(f"the packed file is {check.found} by its magic, not {files.format}")
    return check.found


def _read(path: Path, kind: str, parse: Callable[[bytes], Document[T]], problems: list[str]) -> Document[T] | None:
    try:
        return parse(read_bounded(path, MOST_DOCUMENT_BYTES))
    except (OSError, ValueError) as error:
        problems.append(f"the {kind}: cannot read {path}: {getattr(error, 'strerror', None) or error}")
    except DocumentError as error:
        problems.append(f"the daemon would refuse the {kind} {path}: {error.placed}")
    return None


def _check_config(manifest: ImageManifest, raw: bytes, problems: list[str]) -> None:
    wanted = manifest.config
    if wanted.size != len(raw):
        problems.append(f"the config has {len(raw)} bytes, the manifest says {wanted.size}")
    algorithm = wanted.digest.partition(":")[0]
    if algorithm not in ("sha256", "sha512"):
        problems.append(f"the manifest names its config {wanted.digest}, which is no sha256 or sha512 digest")
    elif (actual := digest_of(raw, algorithm)) != wanted.digest:
        problems.append(f"the config's digest is {actual}, the manifest says {wanted.digest}")
