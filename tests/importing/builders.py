"""Images and archives as other tools write them: documents in each tool's own spelling, files in each one's layout.

Every byte depends on the arguments alone. The layouts follow the image specifications of Docker (1.0 to 1.2) and OCI,
and what the tools were seen to write.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.importing.image_makers import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Made,
    describe,
    platform_field,
    zstd_compress,
)
from tests.importing.layer_support import Item, folder, hard, layer, link
from tests.importing.registry_server import digest_of

WHEN = "2024-05-06T07:08:09.123456789Z"
ZERO = "1970-01-01T00:00:00Z"
PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
BASE = layer(
    folder("bin/"),
    Item("bin/busybox", data=b"\x7fELF" + bytes(range(256)) * 40, mode=0o4755),
    hard("bin/sh", "bin/busybox"),
    folder("etc/"),
    Item("etc/hostname", data=b"here\n"),
    link("etc/mtab", "/proc/mounts"),
    Item("gone.txt", data=b"1"),
    folder("tmp/", mode=0o1777),
)
CHANGE = layer(
    folder("./"), Item("./.wh.gone.txt"), Item("./etc/hostname", data=b"there\n"), hard("./bin/ash", "bin/sh")
)
SITE = layer(folder("srv/"), Item("srv/index.html", data=b"<p>\n" * 500, uid=1000, gid=1000))
EMPTY = bytes(1024)
"""A layer of two zero blocks, as Docker writes one for a step that changed nothing."""


def compact(document: Any) -> bytes:
    """As Go's encoding/json writes it."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    # Go escapes what could end a script element.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def diff_ids(tars: Iterable[bytes]) -> dict[str, Any]:
    return {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]}


def gzipped(tar: bytes) -> bytes:
    return gzip.compress(tar, mtime=0)


def umoci_image(*tars: bytes, **config: Any) -> Made:
    """By umoci: no mediaType in the manifest, and a newline after each document."""
    document = {
        "created": WHEN,
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], **config},
        "rootfs": diff_ids(tars),
        "history": [
            *({"created": WHEN, "created_by": "umoci repack"} for _ in tars),
            {"created": WHEN, "created_by": "umoci config", "empty_layer": True},
        ],
    }
    return _with_manifest(compact(document) + b"\n", tars, gzipped, f"{PLAIN_LAYER}+gzip", media_type="", end=b"\n")


def buildkit_image(*tars: bytes, platform: str = "linux/arm64", compression: str = "gzip") -> Made:
    """By buildkit: the keys of its config in alphabetical order, its manifest indented."""
    document = {
        "architecture": platform_field(platform)["architecture"],
        "config": {"Env": [PATH_ENV], "WorkingDir": "/"},
        "created": WHEN,
        "history": [
            {"created": WHEN, "created_by": "COPY . / # buildkit", "comment": "buildkit.dockerfile.v0"} for _ in tars
        ],
        "os": "linux",
        "rootfs": diff_ids(tars),
    }
    compress = {"gzip": gzipped, "zstd": zstd_compress}[compression]
    return _with_manifest(compact(document), tars, compress, f"{PLAIN_LAYER}+{compression}", indent=2)


def docker_image(*tars: bytes) -> Made:
    """By the classic builder of Docker; the manifest is the one a pusher of today would make."""
    container = {"Hostname": "", "User": "", "Tty": False, "Env": [PATH_ENV], "Volumes": None, "OnBuild": None}
    document = {
        "architecture": "amd64",
        "config": {**container, "Cmd": ["sh"], "ArgsEscaped": True, "Image": digest_of(b"parent"), "Labels": None},
        "container": digest_of(b"container").removeprefix("sha256:"),
        "container_config": {**container, "Cmd": ["/bin/sh", "-c", "#(nop) ", 'CMD ["sh"]']},
        "created": WHEN,
        "docker_version": "18.09.0",
        "history": [{"created": WHEN, "created_by": "/bin/sh -c #(nop) ADD file:0 in / && true"} for _ in tars],
        "os": "linux",
        "rootfs": diff_ids(tars),
    }
    return _with_manifest(compact(document), tars, gzipped, f"{PLAIN_LAYER}+gzip")


def bazel_image(*tars: bytes) -> Made:
    """By rules_docker: spaces after commas and colons, keys in order, the time zero."""
    document = {
        "architecture": "amd64",
        "author": "Bazel",
        "config": {},
        "created": ZERO,
        "history": [{"author": "Bazel", "created": ZERO, "created_by": "bazel build ..."} for _ in tars],
        "os": "linux",
        "rootfs": diff_ids(tars),
    }
    return _with_manifest(json.dumps(document, sort_keys=True).encode() + b"\n", tars, gzipped, f"{PLAIN_LAYER}+gzip")


def ko_image(*tars: bytes) -> Made:
    """By ko, with go-containerregistry: an author, an entrypoint, and layers that are compressed in archives too."""
    document = {
        "architecture": "amd64",
        "author": "github.com/ko-build/ko",
        "created": ZERO,
        "history": [
            {"author": "ko", "created": ZERO, "created_by": "ko build ko://example.com/app", "comment": "go build"}
            for _ in tars
        ],
        "os": "linux",
        "rootfs": diff_ids(tars),
        "config": {"Entrypoint": ["/ko-app/app"], "Env": [f"{PATH_ENV}:/ko-app", "KO_DATA_PATH=/var/run/ko"]},
    }
    return _with_manifest(compact(document), tars, gzipped, f"{PLAIN_LAYER}+gzip")


def _with_manifest(
    config: bytes,
    tars: tuple[bytes, ...],
    compress: Callable[[bytes], bytes],
    layer_type: str,
    *,
    media_type: str = OCI_MANIFEST,
    indent: int | None = None,
    end: bytes = b"",
) -> Made:
    layers = tuple(map(compress, tars))
    document = {
        "schemaVersion": 2,
        **({"mediaType": media_type} if media_type else {}),
        "config": describe(config, OCI_CONFIG),
        "layers": [describe(made, layer_type) for made in layers],
    }
    manifest = json.dumps(document, indent=indent).encode() if indent else compact(document)
    return Made(manifest + end, config, layers, tars)


@dataclass(frozen=True)
class Archive:
    """The members of an archive in their order; a name that ends in a slash is a directory's."""

    members: dict[str, bytes]
    links: dict[str, str]
    mode: int = 0o644

    def write(self, path: Path) -> Path:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, data in self.members.items():
                member = tarfile.TarInfo(name)
                member.mode, member.size = self.mode, len(data)
                if name.endswith("/"):
                    member.type, member.mode = tarfile.DIRTYPE, 0o755
                elif name in self.links:
                    member.type, member.linkname, member.mode = tarfile.SYMTYPE, self.links[name], 0o777
                archive.addfile(member, io.BytesIO(data))
        path.write_bytes(out.getvalue())
        return path


Tagged = tuple[Made, str]


def docker_save(*images: Tagged, manifest: bool = True) -> Archive:
    """By `docker save` of Docker 1.10 to 24: a directory a layer, a link where the same layer was written before.

    Without the ``manifest``, by Docker before 1.10.
    """
    members: dict[str, bytes] = {}
    links: dict[str, str] = {}
    records, places, repositories = [], dict[bytes, str](), dict[str, dict[str, str]]()
    for image, tag in images:
        names, parent = [], ""
        for tar in image.tars:
            identity = _hex(f"{parent} {digest_of(tar)} {tag}".encode())
            parent_field = {"parent": parent} if parent else {}
            members |= {
                f"{identity}/": b"",
                f"{identity}/VERSION": b"1.0",
                f"{identity}/json": compact({"id": identity, **parent_field, "created": ZERO, "os": "linux"}),
                f"{identity}/layer.tar": b"" if tar in places else tar,
            }
            if tar in places:
                links[f"{identity}/layer.tar"] = f"../{places[tar]}"
            places.setdefault(tar, f"{identity}/layer.tar")
            names.append(f"{identity}/layer.tar")
            parent = identity
        members[f"{_hex(image.config)}.json"] = image.config
        records.append({"Config": f"{_hex(image.config)}.json", "RepoTags": [tag] if tag else None, "Layers": names})
        if tag:
            name, _, reference = tag.rpartition(":")
            repositories.setdefault(name, {})[reference] = parent
    if manifest:
        members["manifest.json"] = compact(records) + b"\n"
    members["repositories"] = compact(repositories) + b"\n"
    return Archive(members, links)


def docker_save_25(image: Made, tag: str = "") -> Archive:
    """By `docker save` since Docker 25: an OCI layout with plain layers, and beside it what the older ones read."""
    plain = [describe(tar, PLAIN_LAYER) for tar in image.tars]
    manifest = compact(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": describe(image.config, OCI_CONFIG), "layers": plain}
    )
    name, _, reference = tag.rpartition(":")
    annotations = {
        "io.containerd.image.name": f"docker.io/library/{tag}",
        "org.opencontainers.image.ref.name": reference,
    }
    # Of an image without a tag there is a null.
    described = [describe(manifest, OCI_MANIFEST, annotations=annotations)] if tag else None
    record = {
        "Config": _blob(image.config),
        "RepoTags": [tag] if tag else None,
        "Layers": list(map(_blob, image.tars)),
        "LayerSources": {one["digest"]: one for one in plain},
    }
    members = {"blobs/": b"", "blobs/sha256/": b""}
    members |= {_blob(data): data for data in (*image.tars, manifest, image.config)}
    members["index.json"] = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": described})
    members["manifest.json"] = compact([record]) + b"\n"
    members["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    if tag:
        members["repositories"] = compact({name: {reference: _hex(image.tars[-1])}}) + b"\n"
    return Archive(members, {})


def bazel_save(image: Made, tag: str) -> Archive:
    """By rules_docker: no directories, spaces in the documents."""
    name, _, reference = tag.rpartition(":")
    members, parent = {f"{_hex(image.config)}.json": image.config}, ""
    names = []
    for tar in image.tars:
        parent = _hex(f"{parent} {digest_of(tar)}".encode())
        members |= {
            f"{parent}/VERSION": b"1.0",
            f"{parent}/layer.tar": tar,
            f"{parent}/json": b'{"id": "%s"}' % parent.encode(),
        }
        names.append(f"{parent}/layer.tar")
    record = {"Config": f"{_hex(image.config)}.json", "Layers": names, "RepoTags": [tag]}
    members["repositories"] = json.dumps({name: {reference: parent}}).encode()
    members["manifest.json"] = json.dumps([record]).encode()
    return Archive(members, {})


def skopeo_save(image: Made, tag: str) -> Archive:
    """By `skopeo copy` to docker-archive: each layer by its digest, and links for who knows Docker's directories."""
    name, _, reference = tag.rpartition(":")
    members: dict[str, bytes] = {f"{_hex(tar)}.tar": tar for tar in image.tars}
    links, parent = {}, ""
    for tar in image.tars:
        identity = _hex(f"{parent} {digest_of(tar)}".encode())
        links[f"{identity}/layer.tar"] = f"../{_hex(tar)}.tar"
        members |= {f"{identity}/layer.tar": b"", f"{identity}/VERSION": b"1.0", f"{identity}/json": b"{}"}
        parent = identity
    record = {
        "Config": f"{_hex(image.config)}.json",
        "RepoTags": [tag],
        "Layers": [f"{_hex(tar)}.tar" for tar in image.tars],
    }
    members |= {
        f"{_hex(image.config)}.json": image.config,
        "repositories": compact({name: {reference: parent}}),
        "manifest.json": compact([record]),
    }
    return Archive(members, links, mode=0o444)


def ko_save(image: Made, tag: str) -> Archive:
    """By `ko build --tarball`, as crane and others write one: the config named by its digest, the layers gzipped."""
    names = [f"{_hex(data)}.tar.gz" for data in image.layers]
    record = {"Config": digest_of(image.config), "RepoTags": [tag], "Layers": names}
    members = {digest_of(image.config): image.config, **dict(zip(names, image.layers, strict=True))}
    return Archive({**members, "manifest.json": compact([record])}, {})


def oci_archive(image: Made, *, name: str = "", platform: str = "") -> Archive:
    """By buildkit's `type=oci` (a platform, no name) or skopeo's oci-archive (a name, no platform)."""
    described = describe(image.manifest, OCI_MANIFEST)
    if name:
        described["annotations"] = {"org.opencontainers.image.ref.name": name}
    if platform:
        described |= {"annotations": {"org.opencontainers.image.created": ZERO}, "platform": platform_field(platform)}
    members = {"blobs/": b"", "blobs/sha256/": b""}
    members |= dict(sorted((_blob(data), data) for data in image.blobs))
    members["index.json"] = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [described]})
    members["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    return Archive(members, {}, mode=0o444)


def _hex(data: bytes) -> str:
    return digest_of(data).removeprefix("sha256:")


def _blob(data: bytes) -> str:
    return f"blobs/sha256/{_hex(data)}"


@dataclass(frozen=True)
class Saved:
    """An archive of a tool, what an image of it is asked for by, and what is found then."""

    archive: Archive
    image: Made
    tag: str | None = None
    wanted: str = ""
    docker: bool = True


def _saved() -> dict[str, Saved]:
    many = docker_image(BASE, CHANGE, *(layer(Item(f"step{number}")) for number in range(11)), EMPTY)
    one, other = docker_image(BASE), docker_image(BASE, SITE)
    overwritten = bazel_image(BASE, layer(Item("./bar.txt", data=b"bar"), link("./gone.txt", "bar.txt")), EMPTY)
    whiteouts, built = bazel_image(BASE, CHANGE, EMPTY), ko_image(BASE, CHANGE)
    plain = buildkit_image(BASE, platform="linux/amd64")
    arm, arm_zstd = buildkit_image(BASE, CHANGE), buildkit_image(BASE, CHANGE, compression="zstd")
    umoci = umoci_image(BASE, CHANGE)
    two = docker_save((one, "team/pair:1"), (other, "team/pair:2"))
    return {
        "docker": Saved(docker_save((many, "toolbox:latest")), many, "toolbox:latest"),
        "docker-first-of-two": Saved(two, one, "team/pair:1", "team/pair:1"),
        "docker-second-of-two": Saved(two, other, "team/pair:2", "team/pair:2"),
        "docker-25": Saved(docker_save_25(plain), plain),
        "bazel-overwritten": Saved(bazel_save(overwritten, "bazel/app:link"), overwritten, "bazel/app:link"),
        "bazel-whiteouts": Saved(bazel_save(whiteouts, "bazel/app:gone"), whiteouts, "bazel/app:gone"),
        "skopeo": Saved(skopeo_save(umoci, "quay.io/team/app:v2"), umoci, "quay.io/team/app:v2"),
        "ko": Saved(ko_save(built, "ko.local/app:latest"), built, "ko.local/app:latest"),
        "buildkit-gzip": Saved(oci_archive(arm, platform="linux/arm64"), arm, docker=False),
        "buildkit-zstd": Saved(oci_archive(arm_zstd, platform="linux/arm64"), arm_zstd, docker=False),
        "skopeo-oci": Saved(oci_archive(umoci, name="quay.io/team/app:v2"), umoci, "quay.io/team/app:v2", docker=False),
    }


SAVED = _saved()
"""An archive by each tool, and the image to be found in it."""
DOCKER_1_9 = docker_save((docker_image(BASE), "app:1"), manifest=False)
