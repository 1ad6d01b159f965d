"""What a refusal advises is carried out here, word for word where it names a command, and then the import works."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cache.support import write_cache
from tests.cli.conftest import Ocitui
from tests.cli.import_support import make_layout
from tests.importing.builders import BASE, SITE, docker_image, docker_save, oci_archive
from tests.importing.image_makers import (
    OCI_CONFIG,
    OCI_MANIFEST,
    describe,
    in_index,
    layout_files,
    make_image,
    make_index,
    make_tar,
    run,
    write_files,
)
from tests.importing.registry_server import digest_of
from tests.importing.sources import make_source
from tests.tools import need

pytestmark = pytest.mark.slow

COMMAND = re.compile(r"`([^`]+)`")
OWN = "the packer, compression and level to have the format's own"
ONE, OTHER = docker_image(BASE), docker_image(BASE, SITE)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an operator works."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


class Desk:
    """Imports into a cache, of which each is refused with advice or works."""

    def __init__(self, directory: Path, ocitui: Ocitui) -> None:
        self.directory, self._ocitui = directory, ocitui
        directory.mkdir()

    def __call__(self, *words: str | Path, format: str | None = "tar") -> dict[str, Any]:
        chosen = ["--format", format] if format else []
        done = self._ocitui("import", *words, *chosen, "-C", self.directory, "--json")
        return done.json | {"status": done.status}

    def advised(self, *words: str | Path, format: str | None = "tar") -> str:
        """The advice that comes with a refusal."""
        refused = self(*words, format=format)
        assert refused["status"] not in (0, 70)
        hint: str = refused["error"]["hint"]
        return hint

    def works(self, *words: str | Path, format: str | None = "tar") -> str:
        """The name that it is stored under."""
        done = self(*words, format=format)
        assert done["status"] == 0, done
        name: str = done["entry"]["name"]
        return name


@pytest.fixture
def desk(tmp_path: Path, ocitui: Ocitui) -> Desk:
    return Desk(tmp_path / "cache", ocitui)


def carry_out(hint: str, **names: str) -> None:
    """Run the command that an advice names."""
    (command,) = COMMAND.findall(hint)
    words = [names.get(word, word) for word in shlex.split(command)]
    words = [re.sub(r"\bFILE\b", names.get("FILE", "FILE"), word) for word in words]
    need(words[0])
    run(*words)


def skopeo(*words: str) -> None:
    need("skopeo")
    run("skopeo", *words)


@pytest.mark.parametrize("written", ["dir:a folder", "a folder"])
def test_what_skopeo_keeps_in_a_directory(written: str, desk: Desk, here: Path) -> None:
    docker_save((ONE, "team/app:1")).write(here / "a.tar")
    skopeo("copy", "-q", "docker-archive:a.tar:team/app:1", "dir:a folder")
    carry_out(desk.advised(written))
    assert desk.works("image.tar", "--name", "team/app:1") == "team/app:1"


def test_a_root_filesystem(desk: Desk, here: Path) -> None:
    (here / "exported.tar").write_bytes(make_tar({"bin/sh": b"#!", "etc/passwd": b"root"}))
    carry_out(desk.advised("exported.tar"), FILE="exported.tar")
    assert desk.works("image.tar", "--name", "team/app:1") == "team/app:1"


def test_a_root_filesystem_by_the_name_of_its_transport(desk: Desk, here: Path) -> None:
    (here / "root fs.tar").write_bytes(make_tar({"bin/sh": b"#!"}))
    carry_out(desk.advised("tarball:root fs.tar"))
    desk.works("image.tar", "--name", "team/app:1")


@pytest.mark.parametrize("transport", ["docker-daemon", "containers-storage", "ostree", "sif"])
def test_commands_that_take_what_is_not_here(transport: str, desk: Desk) -> None:
    """They are well formed: the name that was typed is one word in them."""
    (command,) = COMMAND.findall(desk.advised(f"{transport}:odd name:1"))
    words = shlex.split(command)
    assert words[0] in ("docker", "podman", "skopeo")
    assert [word.removeprefix(f"{transport}:") for word in words].count("odd name:1") == 1


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_one_of_several_images(kind: str, desk: Desk, here: Path) -> None:
    if kind == "docker":
        docker_save((ONE, "team/pair:1"), (OTHER, "team/pair:2")).write(here / "two.tar")
        source = "two.tar"
    else:
        source = str(make_layout(here / "two", ("team/pair:1", make_image(b"1")), ("team/pair:2", make_image(b"2"))))
    hint = desk.advised(source, "--platform", "amd64")
    assert "after the path and a colon" in hint
    assert desk.works(f"{source}:team/pair:2", "--platform", "amd64") == "team/pair:2"


def test_another_platform(desk: Desk, here: Path) -> None:
    image = make_image(b"1", platform="linux/s390x")
    below = make_index(in_index(image, "linux/s390x"), in_index(make_image(b"2", platform="linux/386"), "linux/386"))
    other = make_image(b"2", platform="linux/386")
    index = make_index(describe(below, "application/vnd.oci.image.index.v1+json"))
    write_files(here / "layout", layout_files(index, below, *image.blobs, *other.blobs))
    assert desk.advised("layout", "--name", "a:1", "--platform", "linux/amd64") == "choose one with --platform"
    desk.works("layout", "--name", "a:1", "--platform", "linux/s390x")
    assert "write it as linux/arm64" in desk.advised("layout", "--name", "a:1", "--platform", "s390x/linux/v1/x")
    make_layout(here / "alone", ("v1", image))
    hint = desk.advised("alone", "--name", "a:2", "--platform", "linux/amd64")
    assert hint == "leave out --platform to take it"
    desk.works("alone", "--name", "a:1")


def test_a_name(desk: Desk, here: Path) -> None:
    make_layout(here / "one", ("v1", make_image(b"1")))
    make_layout(here / "other", ("v1", make_image(b"2")))
    assert desk.advised("one") == "give it one with --name"
    desk.works("one", "--name", "a:1")
    hint = desk.advised("other", "--name", "a:1")
    assert hint == "give --yes to let the name stand for the new image, or another one with --name"
    assert desk.works("other", "--name", "a:2") == "a:2"
    assert desk.works("one", "--name", "a:1", "--again", "--yes") == "a:1"
    make_layout(here / "third", ("team/app:3", make_image(b"3")))
    assert desk.advised("third", "--name", "") == "leave out --name to have the source's own"
    assert desk.works("third") == "team/app:3"


def test_a_word_that_is_a_path_too(desk: Desk, here: Path, ocitui: Ocitui) -> None:
    (here / "alpine").mkdir()
    for word in ("alpine", "absent.tar"):
        (found,) = re.findall(r"docker://\S+", desk.advised(word, "--name", "a:1"))
        # Nobody is asked here; it is read as a name in a registry.
        assert ocitui("inspect", found, "--manifest", "x").err.count("is an image in a registry") == 1


def test_a_pipe_that_has_a_name(desk: Desk, here: Path) -> None:
    os.mkfifo(here / "pipe")
    assert desk.advised("./pipe") == "copy what it gives into a file, and name that"
    docker_save((ONE, "team/app:1")).write(here / "a.tar")
    with subprocess.Popen("cat a.tar > pipe", shell=True):
        (here / "file").write_bytes((here / "pipe").read_bytes())
    assert desk.works("file") == "team/app:1"


def zipped(data: bytes, here: Path) -> None:
    with zipfile.ZipFile(here / "archive", "w") as made:
        made.writestr("unpacked", data)


def by_lz4(data: bytes, here: Path) -> None:
    need("lz4")
    subprocess.run(["lz4", "-q", "-", str(here / "archive")], input=data, check=True)


@pytest.mark.parametrize(
    ("pack", "command"),
    [(zipped, "unzip -p archive > given"), (by_lz4, "lz4 -d < archive > given")],
    ids=["zip", "lz4"],
)
def test_a_compression_that_is_not_read(
    pack: Callable[[bytes, Path], None], command: str, desk: Desk, here: Path
) -> None:
    pack(docker_save((ONE, "team/app:1")).write(here / "a.tar").read_bytes(), here)
    hint = desk.advised("archive")
    tool = " ".join(command.split()[: 2 if "lz4" in command else 1])
    assert hint == f"unpack it with {tool} first"
    need(tool.split()[0])
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert desk.works("given") == "team/app:1"


def test_an_archive_with_sparse_files(desk: Desk, here: Path) -> None:
    need("tar")
    layout = make_layout(here / "layout", ("a/b:1", make_image(b"1")))
    with (layout / "blobs" / "hole").open("wb") as file:
        file.truncate(1 << 20)
    run("tar", "--sparse", "--format=posix", "-C", "layout", "-cf", "sparse.tar", ".")
    hint = desk.advised("oci-archive:sparse.tar", "--platform", "amd64")
    assert hint == "make it anew as a tar without such files"
    run("tar", "-C", "layout", "-cf", "plain.tar", ".")
    assert desk.works("oci-archive:plain.tar", "--platform", "amd64") == "a/b:1"


def test_a_corrupt_cache(desk: Desk, tmp_path: Path, ocitui: Ocitui, here: Path) -> None:
    write_cache(tmp_path / "old cache", [])
    docker_save((ONE, "team/app:1")).write(here / "a.tar")
    ocitui("import", "a.tar", "--format", "tar", "-C", tmp_path / "old cache")
    index = tmp_path / "old cache" / "index.json"
    ocitui("check", "-C", index.parent)  # it keeps a copy
    index.write_bytes(index.read_bytes()[:-40])
    hint = desk.advised(f"cache:{index.parent}:team/app:1", format=None)
    words = shlex.split(hint.removesuffix(" shows what mends it"))
    assert words[:2] == ["ocitui", "repair"]
    assert "what is to be done" in ocitui(*words[1:]).out
    assert ocitui(*words[1:], "--apply", "--yes").status in (0, 3)
    assert desk.works(f"cache:{index.parent}:team/app:1", format=None) == "team/app:1"


@pytest.mark.parametrize(
    ("given", "left_out"),
    [
        (["--mirror", "m.local"], "--mirror"),
        (["--plain-http"], "--plain-http"),
        (["--manifest", "m"], "--manifest"),
        (["--compression", "zstd"], OWN),
        (["--level", "3"], OWN),
    ],
)
def test_options_that_do_not_go_together(given: list[str], left_out: str, desk: Desk, here: Path) -> None:
    docker_save((ONE, "team/app:1")).write(here / "a.tar")
    hint = desk.advised("a.tar", *given)
    assert hint == (
        f"leave out {left_out}" if left_out else "leave out the packer, compression and level to have the format's own"
    )
    desk.works("a.tar")


def test_options_of_packed_files(desk: Desk, tmp_path: Path) -> None:
    source = make_source(tmp_path, "tar")
    words = [f"packed:{source.packed}", "--name", "a:1"]
    assert desk.advised(*words, "--max-bytes", "1G", format=None) == "leave out --max-bytes"
    assert desk.works(*words, format=None) == "a:1"


def test_what_a_registry_is_reached_by(desk: Desk, here: Path) -> None:
    words = ["docker://127.0.0.1:1/a:1"]
    assert desk.advised(*words, "--mirror", "http://m") == "write it as HOST[:PORT]"
    (here / "ca").write_text("none")
    assert desk.advised(*words, "--tls-ca", "ca") == "name a file of certificates in PEM with --tls-ca"


@pytest.mark.parametrize(
    ("word", "right"), [("Team/App:1", "team/app:1"), ("a" * 64, "library/app"), ("team/app:-", "team/app:1")]
)
def test_a_word_that_is_no_image(word: str, right: str, desk: Desk) -> None:
    hint = desk.advised(word)
    assert "in lower case" in hint or "registries know names only" in hint
    # What is written so is read as a name: it is the registry that is not there.
    refused = desk(f"docker://127.0.0.1:1/{right}")
    assert refused["error"]["code"] != "invalid-reference"


def test_a_compression_that_the_packer_has(desk: Desk, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("mksquashfs")
    docker_save((ONE, "team/app:1")).write(here / "a.tar")
    (here / "tools").mkdir()
    real = shutil.which("mksquashfs")
    script = f'#!/bin/sh\n[ "$1" = -help ] && exec sh -c "{real} -help 2>&1 | grep -v lzo" >&2\nexec {real} "$@"\n'
    (here / "tools" / "mksquashfs").write_text(script)
    (here / "tools" / "mksquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}/tools:{os.environ['PATH']}")
    refused = desk("a.tar", "--compression", "lzo", format="squashfs")["error"]
    assert refused["hint"] == "choose one of these, or install a later version"
    offered = refused["message"].rpartition("only with ")[2].split(", ")
    assert "gzip" in offered
    desk.works("a.tar", "--compression", "gzip", format="squashfs")


def test_an_image_of_schema_1(desk: Desk, here: Path) -> None:
    layer = gzip.compress(make_tar({"f": b"x"}))
    about = {"id": "a" * 64, "created": "2015-01-01T00:00:00Z", "os": "linux", "architecture": "amd64", "config": {}}
    manifest = {
        "schemaVersion": 1,
        "name": "a/b",
        "tag": "1",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest_of(layer)}],
        "history": [{"v1Compatibility": json.dumps(about)}],
    }
    raw = json.dumps(manifest).encode()
    media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    write_files(here / "old", layout_files(make_index(describe(raw, media_type)), raw, layer))
    assert desk.advised("old", "--name", "a:1") == "skopeo copy to oci:DIR makes an OCI image of it"
    files = {digest_of(layer)[7:]: layer, "manifest.json": raw, "version": b"Directory Transport Version: 1.1\n"}
    write_files(here / "as-skopeo", files)
    skopeo("copy", "-q", "dir:as-skopeo", "oci:new:a/b:1")
    assert desk.works("new") == "a/b:1"


def test_an_encrypted_image(desk: Desk, here: Path) -> None:
    need("openssl")
    docker_save((ONE, "team/app:1")).write(here / "a.tar")
    run("openssl", "genrsa", "-out", "key.pem", "2048")
    run("openssl", "rsa", "-in", "key.pem", "-pubout", "-out", "public.pem")
    skopeo("copy", "-q", "--encryption-key", "jwe:public.pem", "docker-archive:a.tar:team/app:1", "oci:secret:a/b:1")
    assert desk.advised("secret") == "decrypt the image with skopeo copy first"
    skopeo("copy", "-q", "--decryption-key", "key.pem", "oci:secret:a/b:1", "oci:open:a/b:1")
    assert desk.works("open") == "a/b:1"


def test_what_no_copy_changes_is_said_to_need_a_build(desk: Desk, here: Path) -> None:
    """As a config that the daemon refuses: skopeo keeps it byte for byte."""
    image = make_image(b"1")
    config = json.dumps(json.loads(image.config) | {"history": "none"}).encode()
    fields = json.loads(image.manifest) | {"config": describe(config, OCI_CONFIG)}
    manifest = json.dumps(fields).encode()
    described = describe(manifest, OCI_MANIFEST, annotations={"org.opencontainers.image.ref.name": "a/b:1"})
    write_files(here / "bad", layout_files(make_index(described), manifest, config, *image.layers))
    hint = desk.advised("bad", "--platform", "amd64")
    assert hint == "build it again, with docker buildx or buildah: no copy changes what this is"


def test_a_packer_that_is_missing(desk: Desk, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_save((ONE, "team/app:1")).write(here / "a.tar")
    monkeypatch.setenv("PATH", str(here))
    lz4 = ("--compression", "lz4")
    assert desk.advised("a.tar", *lz4, format="erofs") == "apt install erofs-utils, or choose another format"
    assert desk.works("a.tar", format="erofs") == "team/app:1"


def test_a_source_that_is_cut_and_the_whole_one(desk: Desk, here: Path) -> None:
    data = lzma.compress(oci_archive(ONE, name="team/app:1").write(here / "a.tar").read_bytes())
    (here / "cut").write_bytes(data[:-100])
    assert desk.advised("cut") == "see that the path is right and the file whole"
    (here / "cut").write_bytes(data)
    assert desk.works("cut") == "team/app:1"
