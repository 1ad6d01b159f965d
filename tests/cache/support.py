"""Caches and images for the tests of the cache core."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ocitui.cache import Descriptor, Document, ImageName, PackedFormat, PackedImage, PackerCache
from ocitui.cache.backups import CORRUPT_NAME, Backups
from ocitui.cache.own_folder import open_own_folder
from tests.kratad import index_bytes as index_bytes

OWN = ".ocitui"
SQUASHFS, EROFS, TAR = PackedFormat.SQUASHFS, PackedFormat.EROFS, PackedFormat.TAR
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
PATIENT_SECONDS = 60.0


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def documents(label: str) -> tuple[bytes, bytes]:
    """A manifest and a config of their own for each label."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"label": label}},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
    raw_config = json.dumps(config).encode()
    digest = digest_of(raw_config)
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": CONFIG_TYPE, "digest": digest, "size": len(raw_config)},
        "layers": [],
    }
    return json.dumps(manifest).encode(), raw_config


def make_image(
    path: Path,
    label: str = "one",
    *,
    name: str = "alpine:3.19",
    format: PackedFormat = SQUASHFS,
    content: bytes | None = None,
    digest: str | None = None,
) -> PackedImage:
    """An image to store; its packed file is written to ``path``, unless something is there."""
    manifest, config = documents(label)
    digest = digest_of(manifest) if digest is None else digest
    if not os.path.lexists(path):
        path.write_bytes(f"packed {label} {format}".encode() if content is None else content)
    fields = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(manifest)}
    return PackedImage(
        name=ImageName.parse(name),
        digest=digest,
        path=path,
        format=format,
        descriptor=Descriptor.from_dict(fields),
        manifest=Document.manifest(manifest),
        config=Document.config(config),
    )


async def stored(cache: PackerCache, source: Path, label: str = "one", **how: Any) -> PackedImage:
    """Store an image by way of a file in the directory ``source``."""
    source.mkdir(exist_ok=True)
    return await cache.store(make_image(source / f"{label}.packed", label, **how))


def entry(number: int, *, name: str | None = None, format: str = "squashfs") -> dict[str, Any]:
    """A descriptor of the index, as decoded JSON."""
    manifest, _ = documents(str(number))
    name = name or f"image{number}:1"
    return {
        "mediaType": MANIFEST_TYPE,
        "digest": digest_of(manifest),
        "size": len(manifest),
        "annotations": {
            "dev.krata.oci.packer.format": format,
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": "1",
        },
    }


def write_cache(directory: Path, numbers: Iterable[int], formats: Iterable[PackedFormat] = (SQUASHFS,)) -> None:
    """A cache as the daemon leaves it, with an entry of each number in each format."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptors = []
    for number in numbers:
        manifest, config = documents(str(number))
        digest = digest_of(manifest)
        (directory / f"{digest}.manifest.json").write_bytes(manifest)
        (directory / f"{digest}.config.json").write_bytes(config)
        for format_ in formats:
            (directory / f"{digest}.{format_}").write_bytes(f"packed {number} {format_}".encode())
            descriptors.append(entry(number, format=format_))
    (directory / "index.json").write_bytes(index_bytes(descriptors))


def tree(directory: Path) -> dict[str, tuple[str, bytes]]:
    """What stands in a cache, apart from what is ocitui's own."""
    return {item.name: _kind_and_bytes(item) for item in directory.iterdir() if item.name != OWN}


def _kind_and_bytes(path: Path) -> tuple[str, bytes]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "link", os.fsencode(os.readlink(path))
    if stat.S_ISREG(mode):
        return f"file {stat.S_IMODE(mode):o}", path.read_bytes()
    return ("directory" if stat.S_ISDIR(mode) else "other"), b""


def trash(directory: Path) -> list[bytes]:
    """The bytes of every file in the trash."""
    folder = directory / OWN / "trash"
    return [path.read_bytes() for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def corrupt_copies(directory: Path) -> dict[str, bytes]:
    """What was copied aside of corrupt indexes, newest first: the bytes by the file's name."""
    with open_own_folder(directory, CORRUPT_NAME) as folder:
        copies = Backups(folder)
        return {copy.name: copies.read(copy) for copy in copies.all()}


def digests_and_formats(directory: Path) -> list[tuple[str, str]]:
    """The entries of the index on disk, in order."""
    manifests = json.loads((directory / "index.json").read_bytes())["manifests"]
    return [(one["digest"], one["annotations"]["dev.krata.oci.packer.format"]) for one in manifests]


async def until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait for a condition; fails only when it never comes."""
    deadline = time.monotonic() + PATIENT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        await asyncio.sleep(0.005)
