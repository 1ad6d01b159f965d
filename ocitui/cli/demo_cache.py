"""A small cache to try things out on: real images, a few faults, the same bytes in every run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tarfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ocitui.cache import Ledger, PackedFormat, RecordedSource

EPOCH = 1_717_243_200
"""2024-06-01 12:00:00Z: when all of it was made."""
_CREATED = "2024-06-01T12:00:00Z"
_AMD64 = {"architecture": "amd64", "os": "linux"}
_OCI = "application/vnd.oci.image"
_MANIFEST = f"{_OCI}.manifest.v1+json"
Files = dict[str, bytes]


@dataclass(frozen=True)
class DemoImage:
    """An image as it was built: each step with the files it adds, if any; ``config`` is how a container of it runs."""

    layers: tuple[tuple[str, Files], ...]
    config: dict[str, Any]
    platform: dict[str, str]

    @property
    def files(self) -> Files:
        """The root filesystem."""
        return {path: data for _, files in self.layers for path, data in files.items()}

    @cached_property
    def _tars(self) -> list[bytes]:
        return [make_tar(files) for _, files in self.layers if files]

    @cached_property
    def config_raw(self) -> bytes:
        history = [
            {"created": _CREATED, "created_by": step} | ({} if files else {"empty_layer": True})
            for step, files in self.layers
        ]
        rootfs = {"type": "layers", "diff_ids": [digest(tar) for tar in self._tars]}
        run = {"config": self.config, "rootfs": rootfs, "history": history}
        return _encode({"created": _CREATED, **self.platform, **run})

    @cached_property
    def manifest_raw(self) -> bytes:
        config, layers = _blob("config.v1+json", self.config_raw), [_blob("layer.v1.tar", tar) for tar in self._tars]
        return _encode({"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers})

    @cached_property
    def digest(self) -> str:
        return digest(self.manifest_raw)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def make_tar(files: Files) -> bytes:
    """The files as a tar of root's, directories first."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted({str(one) for path in files for one in PurePosixPath(path).parents} - {"."}):
            archive.addfile(_member(f"{folder}/", 0o755, tarfile.DIRTYPE))
        for path, data in sorted(files.items()):
            member = _member(path, 0o755 if "bin/" in path else 0o644, tarfile.REGTYPE)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


_ELF = struct.Struct("<16s2HI3QI6H")
_MACHINES = {"amd64": 62, "arm64": 183}


def program(name: str, size: int, architecture: str = "amd64") -> bytes:
    """Bytes that look like a program of an architecture: behind the header of an ELF (elf(5)) they do not compress."""
    header = b"\x7fELF\2\1\1", 2, _MACHINES[architecture], 1, 0, _ELF.size, 0, 0, _ELF.size, 56, 0, 0, 0, 0
    return _ELF.pack(*header) + hashlib.shake_256(name.encode()).digest(size)


def _member(path: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.mode, member.type, member.mtime = mode, kind, EPOCH
    member.uname = member.gname = "root"
    return member


def _blob(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": f"{_OCI}.{kind}", "digest": digest(data), "size": len(data)}


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _base(system: str, version: str, size: int, architecture: str = "amd64") -> tuple[str, Files]:
    return (
        f"ADD {system}-minirootfs-{version}.tar.gz / # buildkit",
        {
            "etc/os-release": f'ID={system}\nVERSION_ID={version}\nPRETTY_NAME="{system.title()} {version}"\n'.encode(),
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
            "bin/sh": program(f"{system} {version}", size, architecture),
            "usr/share/licenses/README": b"Made for ocitui's demo; nothing in here runs.\n" * 40,
        },
    )


def _service(base: tuple[str, Files], name: str, size: int, port: int) -> DemoImage:
    settings = f"listen {port}\nlog /dev/stdout\n".encode() * 8
    return DemoImage(
        (
            base,
            (f"COPY {name} /usr/local/bin/ # buildkit", {f"usr/local/bin/{name}": program(name, size)}),
            (f"COPY {name}.conf /etc/ # buildkit", {f"etc/{name}.conf": settings}),
            (f"EXPOSE map[{port}/tcp:{{}}]", {}),
            (f'ENTRYPOINT ["/usr/local/bin/{name}"]', {}),
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
        _AMD64,
    )


def _plain(base: tuple[str, Files], **platform: str) -> DemoImage:
    config = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"], "Labels": {"org.opencontainers.image.vendor": "demo"}}
    return DemoImage((base, ('CMD ["/bin/sh"]', {})), config, _AMD64 | platform)


OLD_ALPINE = _plain(_base("alpine", "3.19.1", 180_000))
ALPINE = _plain(_base("alpine", "3.19.2", 190_000))
BUSYBOX = _plain(_base("busybox", "1.36", 240_000))
DEBIAN_ARM = _plain(_base("debian", "12", 320_000, "arm64"), architecture="arm64", variant="v8")
SITE = _service(_base("alpine", "3.19.2", 190_000), "site", 410_000, 8080)
PROXY = _service(_base("debian", "12", 320_000), "proxy", 520_000, 443)
QUEUE = _service(_base("debian", "12", 320_000), "queue", 360_000, 6379)
ODD = _plain(_base("odd", "1", 20_000))
FORGOTTEN = _plain(_base("forgotten", "0.9", 60_000))


def pack(files: Files, wanted: str, target: Path, packers: bool) -> str:
    """Pack as ``wanted``, or as a tar without ``packers``; gives the format. ``target`` lacks the extension."""
    from ocitui.importing import FlattenRequest, LayerSource, PackOptions, flatten_request

    data = make_tar(files)
    tar = Path(f"{target}.tar")
    tar.write_bytes(data)
    if not packers or wanted == "tar":
        return "tar"
    layer = LayerSource(tar, digest(data), len(data), digest(data))
    made = Path(f"{target}.{wanted}")
    flatten_request(FlattenRequest((len(data),), made, PackedFormat(wanted), PackOptions()), [layer])
    tar.unlink()
    return wanted


_HOUR = 3600
_ENTRIES = (
    ("alpine:3.19", OLD_ALPINE, "squashfs"),
    ("busybox:1.36", BUSYBOX, "squashfs"),
    ("busybox:1.36", BUSYBOX, "erofs"),
    ("registry.example.com:5000/team/site:2024.06", SITE, "squashfs"),
    ("ghcr.io/example/proxy:latest", PROXY, "squashfs"),
    ("debian:12", DEBIAN_ARM, "erofs"),
    ("quay.io/example/queue:7.2", QUEUE, "squashfs"),
    ("odd\x1b[31m\x07:1", ODD, "tar"),
    ("alpine:3.19", ALPINE, "squashfs"),
)


# Of these it is on record where they came from; the others could be the daemon's.
_IMPORTED = {
    "quay.io/example/queue:7.2": QUEUE,
    "docker.io/library/busybox:1.36": BUSYBOX,
    "docker.io/library/alpine:3.19": ALPINE,
}
_IMPORTED_AGO = 2 * 86_400 + _HOUR


def make_demo_cache(directory: Path, packers: bool = True) -> None:
    """Fill a directory, made where it is absent, with the demo's cache; without ``packers`` all of it are tars, whose
    bytes are the same with every version of these. Raises OSError, CacheError."""
    directory.mkdir(parents=True, exist_ok=True)
    made = [_descriptor(name, image, _write(directory, image, form, packers)) for name, image, form in _ENTRIES]
    _write(directory, FORGOTTEN, "tar", packers)
    (directory / f"{SITE.digest}.config.json").unlink()
    for packed in set(directory.glob(f"{QUEUE.digest}.*")) - set(directory.glob("*.json")):
        os.truncate(packed, packed.stat().st_size // 2)
    # Each image an hour after the one before it, so that ages and orders are the same in every run.
    for at, stem in enumerate(dict.fromkeys((*(image.digest for _, image, _ in _ENTRIES), FORGOTTEN.digest))):
        for path in directory.glob(f"{stem}.*"):
            os.utime(path, (EPOCH + at * _HOUR, EPOCH + at * _HOUR))
    # Two formats of an image are one where both had to become tars.
    manifests = list({json.dumps(descriptor): descriptor for descriptor in made}.values())
    index = {"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": manifests}
    (directory / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    os.utime(directory / "index.json", (EPOCH, EPOCH))


def record_demo_sources(directory: Path) -> None:
    """Have it on record where some images of the demo's cache came from. Raises CacheError."""
    ledger, imported = Ledger(directory), int(time.time()) - _IMPORTED_AGO
    for name, image in _IMPORTED.items():
        for packed in set(directory.glob(f"{image.digest}.*")) - set(directory.glob("*.json")):
            ledger.record_source(packed.name, RecordedSource(f"docker://{name}", imported))
    ledger.flush()


def _write(directory: Path, image: DemoImage, format_: str, packers: bool) -> str:
    """An image's three files; gives the format it was packed in."""
    (directory / f"{image.digest}.manifest.json").write_bytes(image.manifest_raw)
    (directory / f"{image.digest}.config.json").write_bytes(image.config_raw)
    return pack(image.files, format_, directory / image.digest, packers)


def _descriptor(name: str, image: DemoImage, format_: str) -> dict[str, Any]:
    return {
        "mediaType": _MANIFEST,
        "digest": image.digest,
        "size": len(image.manifest_raw),
        "annotations": {
            "dev.krata.oci.packer.format": format_,
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        },
        "platform": image.platform,
    }
