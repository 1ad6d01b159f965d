"""Small images for tests: their documents, and layouts and archives of them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.importing.registry_server import FaultyRegistry, digest_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Made:
    """An image: its documents, and its layers as they are sent and as they are unpacked."""

    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]
    tars: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def blobs(self) -> tuple[bytes, ...]:
        return (self.manifest, self.config, *self.layers)


def make_tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zstd_compress(data: bytes) -> bytes:
    return zstd.compress(data)


def make_config(*tars: bytes, platform: str = "linux/amd64", **fields: Any) -> bytes:
    os, architecture, *variant = platform.split("/")
    document = {
        "architecture": architecture,
        "os": os,
        **({"variant": variant[0]} if variant else {}),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        "history": [{"created_by": "a test"} for _ in tars],
        **fields,
    }
    return json.dumps(document).encode()


def describe(raw: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(raw), "size": len(raw), **fields}


def gzipped(tar: bytes) -> bytes:
    """A large one as it is: it holds noise, which becomes no smaller."""
    return zlib.compress(tar, 0 if len(tar) > 1 << 20 else 1, wbits=31)


def make_image(*contents: bytes, platform: str = "linux/amd64", config_type: str = OCI_CONFIG, **fields: Any) -> Made:
    """An image of gzipped layers, one for each of these contents; ``fields`` go into the manifest."""
    tars = tuple(make_tar({f"file{number}": data}) for number, data in enumerate(contents or (b"content",)))
    layers = tuple(gzipped(tar) for tar in tars)
    config = make_config(*tars, platform=platform)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": describe(config, config_type),
        "layers": [describe(layer, OCI_LAYER) for layer in layers],
        **fields,
    }
    return Made(json.dumps(document).encode(), config, layers, tars)


def make_index(*descriptors: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(descriptors)}).encode()


def platform_field(platform: str) -> dict[str, str]:
    os, architecture, *variant = platform.split("/")
    return {"os": os, "architecture": architecture, **({"variant": variant[0]} if variant else {})}


def in_index(image: Made, platform: str) -> dict[str, Any]:
    return describe(image.manifest, OCI_MANIFEST, platform=platform_field(platform))


def put(registry: FaultyRegistry, image: Made, *tags: str) -> Made:
    """Have a registry serve an image."""
    registry.add_manifest(OCI_MANIFEST, image.manifest, *tags)
    for blob in (image.config, *image.layers):
        registry.add_blob(blob)
    return image


def named(image: Made, name: str) -> dict[str, Any]:
    """Its descriptor in an `index.json`."""
    return describe(image.manifest, OCI_MANIFEST, annotations={"org.opencontainers.image.ref.name": name})


def layout_files(index: bytes, *blobs: bytes) -> dict[str, bytes]:
    """The files of an OCI layout."""
    files = {f"blobs/sha256/{digest_of(blob).removeprefix('sha256:')}": blob for blob in blobs}
    return {**files, "index.json": index, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}


def write_files(directory: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def make_with_umoci(directory: Path, tag: str = "v1") -> Path:
    """A layout that umoci made: an image of two layers."""
    layout = directory / "layout"
    content = directory / "content"
    content.mkdir()
    for number in (1, 2):
        (content / f"file{number}").write_bytes(bytes([number]) * 5000)
    run("umoci", "init", "--layout", str(layout))
    run("umoci", "new", "--image", f"{layout}:{tag}")
    for number in (1, 2):
        run("umoci", "insert", "--image", f"{layout}:{tag}", str(content / f"file{number}"), f"/file{number}")
    return layout


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
