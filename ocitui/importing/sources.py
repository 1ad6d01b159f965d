"""Sources as an operator writes them, in skopeo's transport names, and the files they stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import PackedFormat

from .errors import SourceError, UnsupportedSourceError
from .home_paths import home_path

_PREFIX = "packed:"
_OTHERS = ("oci:", "oci-archive:", "docker-archive:", "docker://", "docker-daemon:", "containers-storage:", "dir:")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class PackedFiles:
    """A packed file and its two documents. ``format`` is what it must be, None where only its magic can tell."""

    packed: Path
    manifest: Path
    config: Path
    format: PackedFormat | None

    @property
    def claimed_digests(self) -> set[str]:
        """The digests that the files' names claim."""
        stems = (_stem(self.packed), self.manifest.name.removesuffix(".manifest.json"))
        return {stem for stem in stems if _DIGEST.fullmatch(stem)}


def find_packed_files(
    source: str, manifest: Path | None = None, config: Path | None = None, format: PackedFormat | None = None
) -> PackedFiles:
    """The files of ``packed:FILE``, or of a path to a file; the documents stand beside it unless they are named.

    Raises UnsupportedSourceError for other kinds of sources, SourceError where the file's name contradicts ``format``.
    """
    packed = _path_of(source)
    named = next((known for known in PackedFormat if packed.name.endswith(f".{known}")), None)
    if format is not None and named is not None and format is not named:
        raise SourceError(f"{packed} is named as {named}, and {format} was asked for")
    stem = _stem(packed)
    return PackedFiles(
        packed=packed,
        manifest=manifest or packed.with_name(f"{stem}.manifest.json"),
        config=config or packed.with_name(f"{stem}.config.json"),
        format=format or named,
    )


def _path_of(source: str) -> Path:
    if source.startswith(_PREFIX):
        packed = home_path(source.removeprefix(_PREFIX))
        if not packed.name:
            raise SourceError(f"{source!r} names no file")
        return packed
    if source.startswith(_OTHERS):
        raise UnsupportedSourceError(f"{source}: this version imports packed files only")
    path = home_path(source)
    if path.is_dir():
        raise UnsupportedSourceError(f"{source} is a directory: this version imports packed files only")
    if path.exists():
        return path
    if path.is_absolute() or source.startswith("."):
        raise SourceError(f"{source} does not exist")
    raise UnsupportedSourceError(f"{source} is no file here, and this version does not pull from registries")


def _stem(packed: Path) -> str:
    """The name without what says the format; a digest keeps its dots out of this."""
    for format_ in PackedFormat:
        if packed.name.endswith(f".{format_}"):
            return packed.name.removesuffix(f".{format_}")
    return packed.stem
