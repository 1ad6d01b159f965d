"""Packed files made by real packers, with documents that fit them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tools import need

FORMATS = ("squashfs", "erofs", "tar")
_PROGRAMS = {"squashfs": "mksquashfs", "erofs": "mkfs.erofs", "tar": "tar"}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Source:
    """Three files beside each other, named as the cache names them."""

    digest: str
    packed: Path
    manifest: Path
    config: Path

    @property
    def files(self) -> tuple[Path, Path, Path]:
        return self.packed, self.manifest, self.config


def pack(format: str, root: Path, target: Path) -> Path:
    """Pack a directory with the real program; the test is skipped where it is missing."""
    need(_PROGRAMS[format])
    commands = {
        "squashfs": ["mksquashfs", str(root), str(target), "-noappend", "-quiet", "-no-progress"],
        "erofs": ["mkfs.erofs", str(target), str(root)],
        "tar": ["tar", "-C", str(root), "-cf", str(target), "."],
    }
    subprocess.run(commands[format], check=True, capture_output=True, timeout=60)
    return target


def make_root(directory: Path) -> Path:
    """A small root filesystem, some of it hard to compress."""
    root = directory / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_bytes(hashlib.shake_256(b"sh").digest(150_000))
    (root / "etc").mkdir()
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n" * 100)
    (root / "etc" / ("long-name-" * 15)).write_text("x")
    (root / "etc" / "link").symlink_to("hosts")
    return root


def documents(**config_changes: Any) -> tuple[bytes, bytes]:
    """A manifest and the config it names."""
    config = json.dumps(
        {
            "architecture": "arm64",
            "os": "linux",
            "variant": "v8",
            "rootfs": {"type": "layers", "diff_ids": [sha256(b"layer")]},
            "history": [{"created_by": "test"}],
            **config_changes,
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": sha256(config),
            "size": len(config),
        },
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(b"layer"), "size": 5}],
    }
    return json.dumps(manifest, indent=3).encode(), config


def make_source(directory: Path, format: str = "tar", **config_changes: Any) -> Source:
    """A packed root filesystem in ``directory``/source."""
    manifest, config = documents(**config_changes)
    folder = directory / "source"
    folder.mkdir(exist_ok=True)
    digest = sha256(manifest)
    source = Source(
        digest,
        folder / f"{digest}.{format}",
        folder / f"{digest}.manifest.json",
        folder / f"{digest}.config.json",
    )
    root = directory / "root"
    pack(format, root if root.exists() else make_root(directory), source.packed)
    source.manifest.write_bytes(manifest)
    source.config.write_bytes(config)
    return source
