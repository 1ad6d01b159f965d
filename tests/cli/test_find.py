"""find: which entries hold a path, or a file of these bytes."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path

import pytest

from ocitui.cli.demo_cache import ALPINE, BUSYBOX, OLD_ALPINE, QUEUE
from tests.cli.conftest import Ocitui
from tests.cli.test_diff import store
from tests.cli.test_files import NAME, PACKED
from tests.importing.layer_support import Item, folder, hard, layer, link

ALONE = "debian:12"
TREE = layer(
    folder("etc/ssl"),
    Item("etc/ssl/lib.conf", data=b"one"),
    Item("etc/lib.conf", data=b"two"),
    Item("lib.conf", data=b"one"),
    hard("usr/lib.conf", "etc/ssl/lib.conf"),
    link("odd\n\udcff", "x"),
)


@pytest.fixture
def one(demo: Path) -> Path:
    """A cache of which only busybox has a packed file."""
    for path in demo.glob("*.tar"):
        path.unlink()
    (demo / f"{BUSYBOX.digest}.tar").write_bytes(TREE)
    return demo


def paths(ocitui: Ocitui, cache: Path, *words: str) -> list[str]:
    done = ocitui("find", *words, "-C", cache)
    assert (done.status, done.err) == (0 if done.out else 1, "")
    assert all(line.startswith(f"{NAME}.tar ") for line in done.out.splitlines())
    return [line.partition(" ")[2] for line in done.out.splitlines()]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("lib.conf", ["etc/lib.conf", "etc/ssl/lib.conf", "lib.conf", "usr/lib.conf"]),
        ("LIB.conf", []),
        ("*.con?", ["etc/lib.conf", "etc/ssl/lib.conf", "lib.conf", "usr/lib.conf"]),
        ("/etc/*.conf", ["etc/lib.conf"]),
        ("*/*/[a-l]*", ["etc/ssl/lib.conf"]),
        ("/lib.conf", ["lib.conf"]),
        ("etc/", ["etc"]),
        ("/", ["/"]),
        ("ssl", ["etc/ssl"]),
        (r"odd\x0a\xff", ["odd\N{REPLACEMENT CHARACTER}\\xff"]),
        ("etc/ssl/lib.conf/x", []),
    ],
)
def test_a_pattern_is_of_names_or_with_a_slash_of_whole_paths(
    pattern: str, expected: list[str], one: Path, ocitui: Ocitui
) -> None:
    assert paths(ocitui, one, pattern) == expected


def test_a_file_by_its_bytes(one: Path, ocitui: Ocitui) -> None:
    digest = hashlib.sha256(b"one").hexdigest()
    for words in ([f"sha256:{digest}"], ["--sha256", digest.upper()], ["--sha256", f"sha256:{digest}"]):
        assert paths(ocitui, one, *words) == ["etc/ssl/lib.conf", "lib.conf", "usr/lib.conf"]
    assert paths(ocitui, one, "/*/lib.conf", "--sha256", digest) == ["usr/lib.conf"]
    assert paths(ocitui, one, "--sha256", "0" * 64) == []


@pytest.mark.parametrize("words", [[], ["--sha256", "12"], ["sha256:" + "g" * 64]])
def test_what_cannot_be_looked_for(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("find", *words, "-C", demo)
    assert (done.status, done.out) == (2, "")


def test_each_image_once_by_a_name_that_stands_for_it(demo: Path, ocitui: Ocitui) -> None:
    (demo / f"{QUEUE.digest}.tar").unlink()
    data = lzma.decompress((PACKED / "zoo.gzip.squashfs.xz").read_bytes())
    (demo / f"{BUSYBOX.digest}.squashfs").write_bytes(data)
    index = json.loads((demo / "index.json").read_bytes())
    entry = next(one for one in index["manifests"] if one["digest"] == BUSYBOX.digest)
    other = json.loads(json.dumps(entry).replace('"tar"', '"squashfs"'))
    assert other != entry
    (demo / "index.json").write_text(json.dumps({**index, "manifests": [*index["manifests"], other]}))
    done = ocitui("find", "bin/sh", "--json", "-C", demo)
    images = {one["digest"]: one for one in done.json["images"]}
    assert (done.status, len(images)) == (0, len(done.json["images"]))
    # Of a name that two carry the last has it.
    assert [images[one.digest]["name"] for one in (OLD_ALPINE, ALPINE)] == [None, "alpine:3.19"]
    assert f"{OLD_ALPINE.digest}.tar bin/sh\n" in ocitui("find", "bin/sh", "-C", demo).out
    assert BUSYBOX.digest not in images
    found = {one["digest"]: one for one in ocitui("find", "dup1", "--json", "-C", demo).json["images"]}
    assert (found[BUSYBOX.digest]["format"], found[BUSYBOX.digest]["paths"]) == ("squashfs", ["data/dup1"])


def test_what_cannot_be_read_is_told_and_the_rest_found(demo: Path, ocitui: Ocitui) -> None:
    (demo / f"{QUEUE.digest}.tar").write_bytes(b"")
    (demo / f"{ALPINE.digest}.tar").write_bytes((demo / f"{ALPINE.digest}.tar").read_bytes()[:9000])
    done = ocitui("find", "passwd", "-C", demo)
    assert done.status == 4
    assert f"{NAME}.tar etc/passwd\n" in done.out
    assert "ocitui: quay.io/example/queue:7.2.tar: " in done.err
    assert "ocitui: alpine:3.19.tar: " in done.err
    found = ocitui("find", "nothing-like-it", "--json", "-C", demo).json
    assert (found["images"], found["error"]["code"]) == ([], "damaged-image")
    assert {one["entry"] for one in found["damage"]} == {"quay.io/example/queue:7.2.tar", "alpine:3.19.tar"}


def test_a_file_that_cannot_be_read_is_none_that_was_looked_for(one: Path, ocitui: Ocitui) -> None:
    bent = bytearray(lzma.decompress((PACKED / "zoo.gzip.squashfs.xz").read_bytes()))
    bent[200:260] = bytes(60)
    (one / f"{BUSYBOX.digest}.squashfs").write_bytes(bent)
    (one / "index.json").write_text((one / "index.json").read_text().replace('"tar"', '"squashfs"'))
    empty = hashlib.sha256(b"").hexdigest()
    done = ocitui("find", "--sha256", empty, "-C", one)
    assert done.status == 4
    assert f"ocitui: {NAME}.squashfs: data/dup1: " in done.err
    assert f"{NAME}.squashfs " in done.out
    # It is not read where the pattern leaves it out.
    assert ocitui("find", "dup1x", "--sha256", empty, "-C", one).status == 1


def test_a_corrupt_index_tells_nothing(demo: Path, ocitui: Ocitui) -> None:
    (demo / "index.json").write_bytes(b"{")
    assert ocitui("find", "passwd", "-C", demo).status == 4


def test_what_is_stored_tells_the_same_without_the_images(
    one: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(b"one").hexdigest()
    asked = (["lib.conf"], ["--sha256", digest], ["/*/lib.conf", "--sha256", digest], ["/"], ["--sha256", "0" * 64])
    expected = [paths(ocitui, one, *words) for words in asked]
    store(one / f"{BUSYBOX.digest}.tar")
    assert [hit["from"] for hit in ocitui("find", "/", "--images", "--json", "-C", one).json["images"]] == ["image"]
    monkeypatch.delattr("ocitui.contents.tree.import_module")
    assert [paths(ocitui, one, *words) for words in asked] == expected
    assert [hit["from"] for hit in ocitui("find", "/", "--json", "-C", one).json["images"]] == ["stored"]
