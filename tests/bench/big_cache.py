"""Caches of any size for measuring, with the index laid out as the daemon writes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def descriptor(number: int) -> dict[str, Any]:
    """The descriptor of entry ``number``."""
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(number),
        "size": 428,
        "annotations": {
            "org.opencontainers.image.ref.name": f"1.{number}",
            "dev.krata.oci.packer.format": "squashfs",
            "io.containerd.image.name": f"team/app{number}:1.{number}",
        },
    }


def digest(number: int) -> str:
    return "sha256:" + hashlib.sha256(str(number).encode()).hexdigest()


def index_bytes(count: int, first: int = 0) -> bytes:
    """An index of ``count`` entries, as the daemon prints it."""
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor(number) for number in range(first, first + count)],
    }
    return (json.dumps(index, indent=2) + "\n").encode()


def make_big_cache(directory: Path, count: int, *, with_files: int = 0) -> Path:
    """A cache of ``count`` entries; the first ``with_files`` of them have their files."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "index.json").write_bytes(index_bytes(count))
    for number in range(with_files):
        write_files(directory, number)
    return directory


def write_files(directory: Path, number: int) -> None:
    """The three files of an entry: documents the daemon reads, and a packed file of a few bytes."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(number + 1)]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "ADD file"}],
    }
    blob = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(number), "size": 10}
    manifest = {"schemaVersion": 2, "config": blob, "layers": [{**blob, "mediaType": "layer"}]}
    stem = directory / digest(number)
    Path(f"{stem}.config.json").write_text(json.dumps(config))
    Path(f"{stem}.manifest.json").write_text(json.dumps(manifest))
    Path(f"{stem}.squashfs").write_bytes(b"hsqs" + bytes(124))
