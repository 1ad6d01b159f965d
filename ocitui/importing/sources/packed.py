"""Packed files: looked at, and brought in."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ocitui.cache import (
    Document,
    DocumentError,
    ImageConfiguration,
    ImageManifest,
    ImageName,
    PackedFormat,
    PackedImage,
    PackerCache,
    ReadOnlyError,
    StorageError,
    TransactionKind,
)
from ocitui.cache.disk import storage_errors
from ocitui.cache.files import MOST_DOCUMENT_BYTES, open_bounded, packed_name, read_bounded
from ocitui.cache.packed_file import check_packed
from ocitui.threads import Stop, in_thread, settled

from ..errors import NamedOtherwiseError, SourceError
from ..staging import check_room, staging_folder
from .images import describe_image, digest_of
from .opening import PackedFiles

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with the bytes copied and the bytes there are; from a thread of its own."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PackedSource:
    """What a packed file and its documents are: ``format`` by magic, ``digest`` of the manifest's bytes.

    ``problems`` keep it from being imported; where there are none, nothing here is None.
    """

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
        return PackedImage(
            name=name,
            digest=self.digest,
            path=self.files.packed,
            format=self.format,
            descriptor=describe_image(self.digest, self.manifest, self.config.value),
            config=self.config,
            manifest=self.manifest,
        )


async def inspect_packed(files: PackedFiles) -> PackedSource:
    """Look at a source; nothing is changed. Raises SourceError where there is no such file."""
    return await asyncio.to_thread(_inspect, files)


async def import_packed(
    cache: PackerCache,
    source: PackedSource,
    name: ImageName,
    *,
    rename: bool = False,
    progress: Progress | None = None,
) -> PackedImage:
    """Bring a source in under a name; its file is copied, so it stays as it is.

    An entry of the same digest and format keeps its name unless ``rename``. A cancelled call leaves nothing of it, or
    all. Raises SourceError, NamedOtherwiseError, NoRoomError, and what `PackerCache.store` raises.
    """
    image = source.image(name)
    if cache.read_only:
        raise ReadOnlyError("cannot import an image: the cache was opened read-only")
    await check_name(cache, image.digest, image.format, name, rename)
    if _is_in_place(cache, image):
        return await store_settled(cache, image)
    with staging_folder(cache.directory, cache.disk) as folder:
        staged = replace(image, path=folder / "packed")
        await in_thread(lambda stop: _copy(cache, image, staged.path, progress, stop))
        return await store_settled(cache, staged)


def _copy(cache: PackerCache, image: PackedImage, copy: Path, progress: Progress | None, stop: Stop) -> None:
    """Copy the packed file. Raises SourceError where it is not what was inspected, or changes meanwhile; StorageError,
    NoRoomError, AbandonedError."""
    source = image.path
    check_room(cache.directory, _regular_size(source))
    with storage_errors("stage the packed file"), open_bounded(source) as original, cache.disk.writing(copy) as write:
        before = os.fstat(original.fileno())
        done = 0
        while chunk := original.read(_CHUNK):
            stop.check()
            write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, before.st_size)
        after = os.fstat(original.fileno())
    if done != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise SourceError(f"{source} changed while it was read", hint="try again once nothing writes to it")
    check = check_packed(copy)
    if check.problem or check.found is not image.format:
        raise SourceError(f"{source} changed since it was inspected", hint="inspect it again")


async def store_settled(cache: PackerCache, packed: PackedImage) -> PackedImage:
    """The transaction; who is cancelled meanwhile goes on once it has ended, as its file is still being moved."""
    try:
        return await cache.store(packed, kind=TransactionKind.IMPORT)
    finally:
        await settled(cache.close())


async def check_name(cache: PackerCache, digest: str, format: PackedFormat, name: ImageName, rename: bool) -> None:
    """Raises NamedOtherwiseError where an entry would lose its name, as there is one for a digest and format."""
    there = (await cache.index()).by_key(digest, format)
    if there is not None and there.image_name != str(name) and not rename:
        raise NamedOtherwiseError(
            f"the cache has {digest} in format {format} as {there.image_name or 'an entry without a name'}"
        )


def _is_in_place(cache: PackerCache, image: PackedImage) -> bool:
    """Whether the source is the very file the entry is to have."""
    try:
        return image.path.samefile(cache.directory / packed_name(image.digest, image.format))
    except OSError:
        return False


def _inspect(files: PackedFiles) -> PackedSource:
    problems: list[str] = []
    size = _regular_size(files.packed)
    format_ = _check_format(files, problems)
    manifest = _read(files.manifest, "manifest", Document.manifest, problems)
    config = _read(files.config, "config", Document.config, problems)
    digest = _check_digest(files, manifest.raw, problems) if manifest else None
    if manifest and config:
        _check_config(manifest.value, config.raw, problems)
    return PackedSource(files, size, format_, digest, manifest, config, tuple(problems))


def _regular_size(path: Path) -> int:
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


def _check_digest(files: PackedFiles, raw: bytes, problems: list[str]) -> str:
    """The manifest's digest, by the algorithm that a file's name uses."""
    claimed = files.claimed_digests
    algorithms = {digest.partition(":")[0] for digest in claimed}
    actual = digest_of(raw, algorithms.pop() if len(algorithms) == 1 else "sha256")
    problems += [
        f"the manifest's digest is {actual}, a file is named {digest}" for digest in sorted(claimed - {actual})
    ]
    return actual


def _check_config(manifest: ImageManifest, raw: bytes, problems: list[str]) -> None:
    wanted = manifest.config
    if wanted.size != len(raw):
        problems.append(f"the config has {len(raw)} bytes, the manifest says {wanted.size}")
    algorithm = wanted.digest.partition(":")[0]
    if algorithm not in ("sha256", "sha512"):
        problems.append(f"the manifest names its config {wanted.digest}, which is no sha256 or sha512 digest")
    elif (actual := digest_of(raw, algorithm)) != wanted.digest:
        problems.append(f"the config's digest is {actual}, the manifest says {wanted.digest}")
