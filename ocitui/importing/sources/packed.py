"""Packed files, looked at."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ocitui.cache import (
    MOST_DOCUMENT_BYTES,
    Document,
    DocumentError,
    ImageConfiguration,
    ImageManifest,
    ImageName,
    PackedFormat,
    PackedImage,
    StorageError,
    check_packed,
    read_bounded,
)

from ..errors import SourceError
from .images import digest_of, packed_image
from .opening import PackedFiles

T = TypeVar("T")


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
        return packed_image(name, self.files.packed, self.format, self.manifest, self.config, self.digest)


async def inspect_packed(files: PackedFiles) -> PackedSource:
    """Look at a source; nothing is changed. Raises SourceError where there is no such file."""
    return await asyncio.to_thread(_inspect, files)


def _inspect(files: PackedFiles) -> PackedSource:
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
