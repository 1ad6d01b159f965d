"""Small images for the demo: root filesystems of files made up here, with their manifests and configs.

Everything is the same in every run: contents come from hashes, times are fixed.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

EPOCH = 1_717_243_200
"""2024-06-01 12:00:00Z: when all of it was made."""
_CREATED = "2024-06-01T12:00:00Z"
_OCI = "application/vnd.oci.image"
Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Layer:
    """One step of a build and the files it adds; none is an empty layer."""

    created_by: str
    files: Files = field(default_factory=dict)

    @property
    def tar(self) -> bytes:
        return make_tar(self.files)


@dataclass(frozen=True)
class DemoImage:
    """An image as it was built: ``config`` is how a container of it runs."""

    layers: tuple[Layer, ...]
    config: dict[str, Any]
    platform: dict[str, str] = field(default_factory=lambda: {"architecture": "amd64", "os": "linux"})

    @property
    def files(self) -> Files:
        """The root filesystem."""
        return {path: data for layer in self.layers for path, data in layer.files.items()}

    @cached_property
    def config_raw(self) -> bytes:
        tars = [layer.tar for layer in self.layers if layer.files]
        return _encode(
            {
                "created": _CREATED,
                **self.platform,
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
                "history": [
                    {"created": _CREATED, "created_by": layer.created_by}
                    | ({} if layer.files else {"empty_layer": True})
                    for layer in self.layers
                ],
            }
        )

    @cached_property
    def manifest_raw(self) -> bytes:
        tars = [layer.tar for layer in self.layers if layer.files]
        return _encode(
            {
                "schemaVersion": 2,
                "mediaType": f"{_OCI}.manifest.v1+json",
                "config": _blob("config.v1+json", self.config_raw),
                "layers": [_blob("layer.v1.tar", tar) for tar in tars],
            }
        )

    @cached_property
    def digest(self) -> str:
        return digest(self.manifest_raw)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def make_tar(files: Files) -> bytes:
    """The files as a tar of root's, directories first."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in directories(files):
            archive.addfile(_member(f"{path}/", 0o755, tarfile.DIRTYPE))
        for path, data in sorted(files.items()):
            member = _member(path, 0o755 if "bin/" in path else 0o644, tarfile.REGTYPE)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def directories(files: Files) -> list[str]:
    """Every directory that the files need, parents first."""
    found: set[str] = set()
    for path in files:
        parts = path.split("/")[:-1]
        found.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return sorted(found)


def program(name: str, size: int) -> bytes:
    """Bytes that look like a program to a packer: they do not compress."""
    return b"\x7fELF" + hashlib.shake_256(name.encode()).digest(size)


def _member(path: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.mode, member.type, member.mtime = mode, kind, EPOCH
    member.uname = member.gname = "root"
    return member


def _blob(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": f"{_OCI}.{kind}", "digest": digest(data), "size": len(data)}


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _base(system: str, version: str, size: int) -> Layer:
    return Layer(
        f"ADD {system}-minirootfs-{version}.tar.gz / # buildkit",
        {
            "etc/os-release": f'ID={system}\nVERSION_ID={version}\nPRETTY_NAME="{system.title()} {version}"\n'.encode(),
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
            "bin/sh": program(f"{system} {version}", size),
            "usr/share/licenses/README": b"Made for ocitui's demo; nothing in here runs.\n" * 40,
        },
    )


def _service(base: Layer, name: str, size: int, port: int) -> DemoImage:
    return DemoImage(
        (
            base,
            Layer(f"COPY {name} /usr/local/bin/ # buildkit", {f"usr/local/bin/{name}": program(name, size)}),
            Layer(
                f"COPY {name}.conf /etc/ # buildkit",
                {f"etc/{name}.conf": f"listen {port}\nlog /dev/stdout\n".encode() * 8},
            ),
            Layer(f"EXPOSE map[{port}/tcp:{{}}]"),
            Layer(f'ENTRYPOINT ["/usr/local/bin/{name}"]'),
        ),
        {
            "User": "nobody",
            "ExposedPorts": {f"{port}/tcp": {}},
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", f"{name.upper()}_MODE=production", "LANG=C.UTF-8"],
            "Entrypoint": [f"/usr/local/bin/{name}"],
            "Cmd": ["--config", f"/etc/{name}.conf"],
            "WorkingDir": "/srv",
            "Labels": {
                "org.opencontainers.image.title": name,
                "org.opencontainers.image.source": f"https://example.com/team/{name}",
                "org.opencontainers.image.licenses": "MIT",
            },
        },
    )


def _plain(base: Layer, platform: dict[str, str] | None = None) -> DemoImage:
    config = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"], "Labels": {"org.opencontainers.image.vendor": "demo"}}
    layers = (base, Layer('CMD ["/bin/sh"]'))
    return DemoImage(layers, config, platform) if platform else DemoImage(layers, config)


OLD_ALPINE = _plain(_base("alpine", "3.19.1", 180_000))
ALPINE = _plain(_base("alpine", "3.19.2", 190_000))
BUSYBOX = _plain(_base("busybox", "1.36", 240_000))
DEBIAN_ARM = _plain(_base("debian", "12", 320_000), {"architecture": "arm64", "os": "linux", "variant": "v8"})
SITE = _service(_base("alpine", "3.19.2", 190_000), "site", 410_000, 8080)
PROXY = _service(_base("debian", "12", 320_000), "proxy", 520_000, 443)
QUEUE = _service(_base("debian", "12", 320_000), "queue", 360_000, 6379)
ODD = _plain(_base("odd", "1", 20_000))
FORGOTTEN = _plain(_base("forgotten", "0.9", 60_000))
