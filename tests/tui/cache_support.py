"""Caches on disk for the screen's tests: index, documents and packed files, and nothing but Python to make them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import struct
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MODIFIED = 1_767_225_600.0  # 2026-01-01 00:00:00Z: the age of every file made here
_KEPT = r"(^|/)\.ocitui($|/(backups|corrupt|reserve|lock)|/(journal|staging|trash)$)"


@dataclass(frozen=True, slots=True)
class Image:
    """One image and the formats it is packed in; ``size`` is that of each packed file, which are sparse."""

    name: str
    formats: Sequence[str] = ("squashfs",)
    size: int = 1024 * 1016
    platform: str = "amd64"
    command: Sequence[str] = ("sh",)
    steps: Sequence[str] = ("/bin/sh -c #(nop) ADD file:rootfs.tar in /",)
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> bytes:
        layers = [_digest(step.encode()) for step in self.steps]
        document = {
            "created": "2025-11-30T08:15:00Z",
            "architecture": self.platform,
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": list(self.command),
                "Labels": {"image": self.name, **self.labels},
            },
            "rootfs": {"type": "layers", "diff_ids": layers},
            "history": [{"created": "2025-11-30T08:15:00Z", "created_by": step} for step in self.steps],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @property
    def manifest(self) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": _digest(self.config), "size": len(self.config)},
            "layers": [
                {
                    "mediaType": LAYER_TYPE,
                    "digest": _digest(b"layer" + step.encode()),
                    "size": 2_100_000 + 1000 * number,
                }
                for number, step in enumerate(self.steps)
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        return _digest(self.manifest)

    def descriptor(self, format: str) -> dict[str, Any]:
        """As krata's store writes it."""
        annotations = {"dev.krata.oci.packer.format": format, "io.containerd.image.name": self.name}
        path, colon, tag = self.name.rpartition(":")
        if colon and "/" not in tag and path:
            annotations["org.opencontainers.image.ref.name"] = tag
        return {
            "mediaType": MANIFEST_TYPE,
            "digest": self.digest,
            "size": len(self.manifest),
            "annotations": annotations,
        }

    @property
    def descriptors(self) -> list[dict[str, Any]]:
        return [self.descriptor(format) for format in self.formats]


BUSYBOX = Image("docker.io/library/busybox:1.36", ("squashfs", "erofs"), size=1_040_384)
TEA = Image("registry.example.com:5000/tea/pot:2024.06", ("squashfs",), size=1_040_384, platform="arm64")
ALPINE = Image("docker.io/library/alpine:3.19", ("squashfs", "erofs", "tar"), size=3_502_080)
NGINX = Image(
    "docker.io/library/nginx:1.25.3",
    ("squashfs",),
    size=71_000_000,
    command=("nginx", "-g", "daemon off;"),
    steps=("/bin/sh -c #(nop) ADD file:rootfs.tar in /", "/bin/sh -c apt-get install -y nginx", "COPY conf /etc/nginx"),
    labels={"maintainer": "NGINX Docker Maintainers <docker-maint@nginx.com>"},
)
SEVEN = (BUSYBOX, TEA, ALPINE, NGINX)
"""Images with seven entries between them."""


def many(count: int) -> list[Image]:
    return [Image(f"registry.example.com/fleet/image{number:05}:1.{number}") for number in range(count)]


def make_cache(directory: Path, images: Iterable[Image] = SEVEN) -> Path:
    """Make a sound cache of these images; gives its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    images = list(images)
    for image in images:
        add_files(directory, image)
    write_index(directory, images)
    return directory


def add_files(directory: Path, image: Image) -> None:
    _write(directory / f"{image.digest}.manifest.json", image.manifest)
    _write(directory / f"{image.digest}.config.json", image.config)
    for format in image.formats:
        _write(packed_path(directory, image, format), packed_head(format, image.size), image.size)


def packed_head(format: str, size: int) -> bytes:
    """How a packed file of this size begins that holds nothing but zeros, and is whole as far as its header tells."""
    if format == "squashfs":
        tables = (400, 2**64 - 1, 100, 200, 300, 2**64 - 1)
        return struct.pack("<4s8xI4x2xH4x2H8x7Q", b"hsqs", 131_072, 17, 4, 0, size, *tables)
    if format == "erofs":
        return bytes(1024) + struct.pack("<3IB23xI", 0xE0F5E1E2, 0, 0, 12, size // 4096)
    entry = tarfile.TarInfo("zeros")
    entry.size = size - 1536  # its header, and two blocks at the end
    return entry.tobuf()


def packed_path(directory: Path, image: Image, format: str = "squashfs") -> Path:
    return directory / f"{image.digest}.{format}"


def index_bytes(images: Iterable[Image] = (), descriptors: Iterable[dict[str, Any]] = ()) -> bytes:
    """An index of these, as the daemon lays it out."""
    manifests = [one for image in images for one in image.descriptors]
    fields = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*manifests, *descriptors]}
    return json.dumps(fields, indent=2, ensure_ascii=False).encode()


def write_index(directory: Path, images: Iterable[Image], descriptors: Iterable[dict[str, Any]] = ()) -> None:
    """Publish an index by a rename over the old one."""
    replace_index(directory, index_bytes(images, descriptors))


def replace_index(directory: Path, data: bytes) -> None:
    draft = directory / ".index.draft"
    draft.write_bytes(data)
    draft.rename(directory / "index.json")


def flip(path: Path) -> None:
    """Change a byte as rot does: nothing that stat tells."""
    found, data = path.stat(), bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def tree(directory: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything below a directory but what the screen makes as it opens: kind, size, mtime and bytes."""
    found = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        # By its name first: the screen may still keep a backup, whose draft goes while we look.
        if re.search(_KEPT, name := str(path.relative_to(directory))):
            continue
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            found[name] = (status.st_mode, 0, 0, b"")
            continue
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20 else b""
        if stat.S_ISLNK(status.st_mode):
            data = os.fsencode(os.readlink(path))
        found[name] = (status.st_mode, status.st_size, status.st_mtime_ns, data)
    return found


def every_byte(directory: Path) -> bytes:
    """All that stands in files below a directory, though the screen that uses it still keeps its backups."""
    found = []
    for path in sorted(directory.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            found.append(path.read_bytes() if path.is_file() else b"")
    return b"".join(found)


def _write(path: Path, data: bytes, size: int = 0) -> None:
    path.write_bytes(data)
    if size:
        os.truncate(path, size)
    os.utime(path, (MODIFIED, MODIFIED))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
