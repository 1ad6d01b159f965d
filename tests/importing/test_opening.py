"""What a source's text means, and platforms as they are written."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ocitui.cache import Platform
from ocitui.importing.errors import (
    InvalidReferenceError,
    NoSuchImageError,
    SourceError,
    UnreadableSourceError,
    UnsupportedSourceError,
)
from ocitui.importing.sources.images import SourceKind, fit, parse_platform, this_platform
from ocitui.importing.sources.opening import find_packed_files, open_source, recognise_source
from tests.importing.image_makers import layout_files, make_image, make_index, make_tar, named, write_files
from tests.tools import need

IMAGE = make_image(b"x")
LAYOUT = layout_files(make_index(named(IMAGE, "v1")), *IMAGE.blobs)
KINDS = [
    ("docker://alpine:3.19", SourceKind.REGISTRY),
    ("docker://layout", SourceKind.REGISTRY),
    ("alpine", SourceKind.REGISTRY),
    ("alpine:3.19", SourceKind.REGISTRY),
    ("localhost:5000/foo", SourceKind.REGISTRY),
    ("folder/nothing", SourceKind.REGISTRY),
    ("oci:layout", SourceKind.OCI_LAYOUT),
    ("oci:layout:v1", SourceKind.OCI_LAYOUT),
    (f"oci:layout@{IMAGE.digest}", SourceKind.OCI_LAYOUT),
    ("layout", SourceKind.OCI_LAYOUT),
    ("./layout", SourceKind.OCI_LAYOUT),
    ("layout:v1", SourceKind.OCI_LAYOUT),
    (f"layout@{IMAGE.digest}", SourceKind.OCI_LAYOUT),
    ("oci-archive:layout.tar:v1", SourceKind.OCI_ARCHIVE),
    ("docker-archive:image.tar", SourceKind.DOCKER_ARCHIVE),
    ("image.tar", SourceKind.DOCKER_ARCHIVE),
    ("image.tar:app:1", SourceKind.DOCKER_ARCHIVE),
    ("image.tgz", SourceKind.DOCKER_ARCHIVE),
    ("with:colon.tar", SourceKind.DOCKER_ARCHIVE),
    ("packed:anything", SourceKind.PACKED),
    ("image.squashfs", SourceKind.PACKED),
    ("packed.tar", SourceKind.PACKED),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    write_files(tmp_path / "layout", LAYOUT)
    tar = make_tar({"manifest.json": b"[]"})
    for name in ("image.tar", "with:colon.tar", "packed.tar"):
        Path(name).write_bytes(tar)
    Path("layout.tar").write_bytes(make_tar(LAYOUT))
    Path("image.tgz").write_bytes(gzip.compress(tar))
    Path("image.squashfs").write_bytes(b"hsqs" + bytes(600))
    Path("packed.manifest.json").write_bytes(b"{}")
    Path("empty").touch()
    Path("image.sif").write_bytes(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC")
    Path("image.qcow2").write_bytes(b"QFI\xfb" + bytes(600))
    write_files(tmp_path / "skopeo-dir", {"version": b"Directory Transport Version: 1.1\n", "manifest.json": b"{}"})
    write_files(tmp_path / "folded" / "image", LAYOUT)
    folded = {f"image/{name}": data for name, data in LAYOUT.items()}
    Path("folded.tar").write_bytes(make_tar(folded))
    Path("exported.tar").write_bytes(make_tar({"bin/sh": b"#!", "etc/passwd": b"root"}))
    return tmp_path


@pytest.mark.parametrize("text", ["folded", "./folded", "oci:folded", "folded.tar", "oci-archive:folded.tar"])
async def test_an_image_one_folder_down(text: str) -> None:
    assert (await (await open_source(text)).listing()).images


async def test_a_root_filesystem_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSourceError, match="as docker export writes it") as refused:
        await (await open_source("exported.tar")).listing()
    assert "skopeo copy tarball:FILE" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("docker-daemon:app:1", "docker save -o image.tar app:1"),
        ("containers-storage:app", "podman save --format oci-archive -o image.tar app"),
        ("dir:a b", "skopeo copy dir:'a b' oci-archive:image.tar"),
        ("skopeo-dir", "skopeo copy dir:skopeo-dir oci-archive:image.tar"),
        ("image.sif", "skopeo copy sif:image.sif oci-archive:image.tar"),
    ],
)
def test_what_is_not_read_is_told_the_command_that_makes_an_archive(text: str, command: str) -> None:
    with pytest.raises(SourceError) as refused:
        recognise_source(text)
    assert f"`{command}`" in refused.value.hint


@pytest.mark.parametrize(("text", "kind"), KINDS)
def test_kinds(text: str, kind: SourceKind) -> None:
    assert recognise_source(text).kind is kind


def test_parts() -> None:
    assert recognise_source("oci:layout:a/b:v1").name == "a/b:v1"
    assert recognise_source(f"oci:layout@{IMAGE.digest}").digest == IMAGE.digest
    assert recognise_source("docker-archive:image.tar:@12").number == 12
    assert recognise_source("image.tar:app:1").name == "app:1"
    assert recognise_source("with:colon.tar").path == Path("with:colon.tar")
    assert recognise_source("docker://localhost:5000/a@b").rest == "localhost:5000/a@b"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("./nothing", UnreadableSourceError),
        ("/nothing/at/all.tar", UnreadableSourceError),
        ("oci:nothing", UnreadableSourceError),
        ("oci:", SourceError),
        ("oci:layout@sha256:1", SourceError),
        ("./folder", UnreadableSourceError),
        ("oci-archive:image.squashfs", UnreadableSourceError),
        ("docker-daemon:alpine", UnsupportedSourceError),
        ("containers-storage:alpine", UnsupportedSourceError),
        ("dir:folder", UnsupportedSourceError),
        ("folder", UnreadableSourceError),
        ("empty", UnreadableSourceError),
        ("image.sif", UnreadableSourceError),
        ("image.qcow2", UnreadableSourceError),
        ("skopeo-dir", UnsupportedSourceError),
        ("packed:x", UnsupportedSourceError),
        ("Not A Name", InvalidReferenceError),
        ("docker://", InvalidReferenceError),
    ],
)
async def test_refused(text: str, error: type[SourceError]) -> None:
    with pytest.raises(error) as raised:
        await open_source(text)
    assert raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress, gzip.compress])
async def test_an_archive_in_what_compresses_it(compress: Callable[[bytes], bytes]) -> None:
    Path("image.archive").write_bytes(compress(make_tar(LAYOUT)))
    assert (await (await open_source("image.archive")).listing()).images


@pytest.mark.parametrize(
    ("magic", "named"),
    [(b"PK\x03\x04", "zip"), (b"\x04\x22\x4d\x18", "lz4"), (b"\x1f\x9d\x90", "compress"), (b"LZIP\x01", "lzip")],
)
async def test_an_archive_in_a_compression_that_is_not_read(magic: bytes, named: str) -> None:
    """It is named, with the way out, and not taken for a packed file."""
    Path("image.archive").write_bytes(magic + bytes(600))
    with pytest.raises(UnreadableSourceError, match=rf"image\.archive: compressed with {named}") as refused:
        await open_source("image.archive")
    assert refused.value.hint.startswith("unpack it with ")


@pytest.mark.parametrize("prefix", ["oci-archive:", "docker-archive:", "packed:", "./"])
async def test_a_pipe_is_refused_and_not_waited_for(prefix: str) -> None:
    os.mkfifo("pipe")
    with pytest.raises(UnreadableSourceError, match=r"pipe is no regular file"):
        await open_source(f"{prefix}pipe")


async def test_a_device_has_no_end() -> None:
    with pytest.raises(UnreadableSourceError, match="/dev/zero is no regular file"):
        await open_source("oci-archive:/dev/zero")


async def test_a_layout_whose_index_is_a_pipe() -> None:
    Path("layout/index.json").unlink()
    os.mkfifo("layout/index.json")
    with pytest.raises(UnreadableSourceError, match=r"index\.json is no regular file"):
        await (await open_source("oci:layout")).listing()


@pytest.mark.parametrize(
    "text", ["oci:~/layout:v1", "~/layout", "oci-archive:~/layout.tar", "docker-archive:~/image.tar"]
)
async def test_a_home_directory_behind_a_prefix(text: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert recognise_source(text).path.parent == here
    await (await open_source(text)).aclose()


def test_packed_files_in_a_home_directory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    for source in ("packed:~/packed.tar", "~/packed.tar"):
        assert recognise_source(source).path == here / "packed.tar"
        assert find_packed_files(source).manifest == here / "packed.manifest.json"


@pytest.mark.parametrize("form", ["v7", "ustar", "gnu", "pax"])
def test_an_archive_in_every_form_of_tar(form: str) -> None:
    need("tar")
    subprocess.run(["tar", f"--format={form}", "-cf", "image.tar", "-C", "layout", "."], check=True)
    source = asyncio.run(open_source("image.tar"))
    assert source.kind is SourceKind.OCI_ARCHIVE
    assert asyncio.run(source.resolve()).digest == IMAGE.digest


async def test_an_archive_that_is_a_layout() -> None:
    source = await open_source("layout.tar")
    assert source.kind is SourceKind.OCI_ARCHIVE
    assert (await source.resolve()).digest == IMAGE.digest


def test_the_client_is_loaded_only_for_registries() -> None:
    script = "import sys, ocitui.importing.sources.opening; sys.exit('httpx2' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("amd64", "linux")),
        ("amd64", Platform("amd64", "linux")),
        ("x86_64", Platform("amd64", "linux")),
        ("linux/arm64/v8", Platform("arm64", "linux")),
        ("Linux/ARM64", Platform("arm64", "linux")),
        ("linux/arm", Platform("arm", "linux", variant="v7")),
        ("armhf", Platform("arm", "linux", variant="v7")),
        ("linux/arm/6", Platform("arm", "linux", variant="v6")),
        ("linux/amd64/v3", Platform("amd64", "linux", variant="v3")),
    ],
)
def test_platforms(text: str, platform: Platform) -> None:
    assert parse_platform(text) == platform


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "linux/a b", "/amd64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(NoSuchImageError):
        parse_platform(text)


def test_later_variants_do_not_run() -> None:
    v2, v3 = parse_platform("linux/amd64/v2"), parse_platform("linux/amd64/v3")
    assert fit(v2, v3) is None
    assert fit(v3, v2) is not None
    assert fit(parse_platform("amd64"), v2) is None
    assert fit(v3, parse_platform("amd64")) is not None
    assert fit(v2, parse_platform("arm64")) is None
    assert fit(this_platform(), this_platform()) is not None
