"""A small cache to try things out on: real images, a few faults, the same bytes in every run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import demo_images as images
from .demo_images import EPOCH, DemoImage
from .demo_packers import pack

_HOUR = 3600


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry to be made; ``fault`` is what is done to its files afterwards."""

    name: str
    reference: str
    image: DemoImage
    format: str
    fault: str = ""


_ENTRIES = (
    _Entry("alpine:3.19", "3.19", images.OLD_ALPINE, "squashfs"),
    _Entry("busybox:1.36", "1.36", images.BUSYBOX, "squashfs"),
    _Entry("busybox:1.36", "1.36", images.BUSYBOX, "erofs"),
    _Entry("registry.example.com:5000/team/site:2024.06", "2024.06", images.SITE, "squashfs", "no config"),
    _Entry("ghcr.io/example/proxy:latest", "latest", images.PROXY, "squashfs"),
    _Entry("debian:12", "12", images.DEBIAN_ARM, "erofs"),
    _Entry("quay.io/example/queue:7.2", "7.2", images.QUEUE, "squashfs", "cut short"),
    _Entry("odd\x1b[31m\x07:1", "1", images.ODD, "tar"),
    _Entry("alpine:3.19", "3.19", images.ALPINE, "squashfs"),
)


def make_demo_cache(directory: Path, packers: bool = True) -> None:
    """Fill a directory, made where it is absent, with the demo's cache.

    Formats whose packer is not installed become tars; without ``packers`` all do, so that the bytes are the same on
    every machine. Raises OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptors = [_descriptor(entry, _write(directory, entry.image, entry.format, packers)) for entry in _ENTRIES]
    _write(directory, images.FORGOTTEN, "tar", packers)
    for entry in _ENTRIES:
        _damage(directory, entry)
    _set_times(directory)
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": _without_repeats(descriptors),
    }
    (directory / "index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    os.utime(directory / "index.json", (EPOCH, EPOCH))


def _write(directory: Path, image: DemoImage, format_: str, packers: bool) -> str:
    """An image's three files; gives the format it was packed in."""
    (directory / f"{image.digest}.manifest.json").write_bytes(image.manifest_raw)
    (directory / f"{image.digest}.config.json").write_bytes(image.config_raw)
    return pack(image.files, format_, directory / image.digest, packers)


def _descriptor(entry: _Entry, format_: str) -> dict[str, Any]:
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": entry.image.digest,
        "size": len(entry.image.manifest_raw),
        "annotations": {
            "dev.krata.oci.packer.format": format_,
            "io.containerd.image.name": entry.name,
            "org.opencontainers.image.ref.name": entry.reference,
        },
        "platform": entry.image.platform,
    }


def _without_repeats(descriptors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two formats of an image are one where both had to become tars."""
    return list({json.dumps(descriptor): descriptor for descriptor in descriptors}.values())


def _damage(directory: Path, entry: _Entry) -> None:
    if entry.fault == "no config":
        (directory / f"{entry.image.digest}.config.json").unlink()
    if entry.fault == "cut short":
        for packed in directory.glob(f"{entry.image.digest}.*"):
            if packed.suffix != ".json":
                os.truncate(packed, packed.stat().st_size // 2)


def _set_times(directory: Path) -> None:
    """Each image an hour after the one before it, so that ages and orders are the same in every run."""
    for at, image in enumerate(dict.fromkeys((*(entry.image.digest for entry in _ENTRIES), images.FORGOTTEN.digest))):
        for path in directory.glob(f"{image}.*"):
            os.utime(path, (EPOCH + at * _HOUR, EPOCH + at * _HOUR))
