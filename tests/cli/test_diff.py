"""diff: what differs between two entries, of config, layers and files."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import PackedFormat, record_stored
from ocitui.cli.demo_cache import ALPINE, BUSYBOX, SITE
from ocitui.contents import TreeLines, TreeStore, open_tree
from ocitui.threads import Stop
from tests.cli.conftest import Ocitui
from tests.cli.test_files import NAME, PACKED
from tests.importing.layer_support import Item, folder, hard, layer, link

A, B = "alpine:3.19", NAME
OLD = [
    folder("etc"),
    Item("etc/passwd", data=b"root\n", mode=0o644),
    Item("etc/hosts", data=b"one\ntwo\tx\nthree\n"),
    Item("gone", data=b"123"),
    link("sh", "bash"),
    Item("same", data=b"as it was"),
]
NEW = [
    folder("etc", mode=0o700),
    Item("etc/passwd", data=b"root:", mode=0o600, uid=7),
    Item("etc/hosts", data=b"one\ntwo x\x1b\nthree"),
    Item("new \udcff\n", data=b"1234"),
    link("sh", "dash"),
    Item("same", data=b"as it was"),
    hard("twin", "same"),
]


def put(demo: Path, old: bytes, new: bytes) -> None:
    """Have these be the packed files of A and B."""
    (demo / f"{ALPINE.digest}.tar").write_bytes(old)
    (demo / f"{BUSYBOX.digest}.tar").write_bytes(new)


@pytest.fixture
def two(demo: Path) -> Path:
    put(demo, layer(*OLD), layer(*NEW))
    return demo


def files_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("config", "layer"))]


def test_a_line_for_each_path_then_a_count(two: Path, ocitui: Ocitui) -> None:
    done = ocitui("diff", A, B, "-C", two)
    assert (done.status, files_of(done.out)) == (
        1,
        [
            "~ etc: mode 0755 -> 0700",
            "~ etc/hosts: content",
            "~ etc/passwd: mode 0644 -> 0600, owner 0:0 -> 7:0, content",
            "- gone",
            "+ new \\xff\N{REPLACEMENT CHARACTER}",
            "~ sh: target bash -> dash",
            "+ twin",
            "2 paths added, 1 removed, 4 changed: 4B more, 3B less",
        ],
    )
    assert done.err.startswith("note: alpine:3.19 is")


def test_the_lines_of_a_text_with_what_a_terminal_would_not_show(two: Path, ocitui: Ocitui) -> None:
    out = ocitui("diff", A, B, "--text", "-C", two).out
    lines = [
        "~ etc/hosts: content",
        "    @@ -1,3 +1,3 @@",
        "     one",
        r"    -two\tx",
        "    -three",
        r"    +two x\x1b",
        "    +three",
        r"    \ no line feed at the end",
        "~ etc/passwd:",
    ]
    assert "\n".join(lines) in out
    changes = ocitui("diff", A, B, "--text", "--json", "-C", two).json["changes"]
    told = {one["path"]: one["text"] for one in changes}
    assert told["etc/passwd"] == ["@@ -1 +1 @@", "-root", "+root:", r"\ no line feed at the end"]
    assert told["etc"] == told["gone"] == []


@pytest.mark.parametrize("other", [b"\x7fELF", b"\xff\n", b"line\n" * 300_000])
def test_of_what_is_no_text_or_too_long_no_lines(other: bytes, demo: Path, ocitui: Ocitui) -> None:
    put(demo, layer(Item("f", data=b"text\n")), layer(Item("f", data=other)))
    out = ocitui("diff", A, B, "--text", "-C", demo).out
    assert files_of(out)[0].startswith(f"~ f: size 5 -> {len(other)}")
    assert len(files_of(out)) == 2


def test_a_text_that_ends_within_a_letter(demo: Path, ocitui: Ocitui) -> None:
    put(demo, layer(Item("f", data=b"text\n")), layer(Item("f", data=b"text\xc3")))
    lines = [line.strip() for line in files_of(ocitui("diff", A, B, "--text", "-C", demo).out)]
    assert lines[1:-1] == ["@@ -1 +1 @@", "-text", r"+text\xc3", r"\ no line feed at the end"]


def test_the_same_for_programs(two: Path, ocitui: Ocitui) -> None:
    done = ocitui("diff", A, B, "--json", "-C", two)
    found, changes = done.json, {one["path"]: one for one in done.json["changes"]}
    assert (done.status, found["level"]) == (1, "content")
    assert found["entries"] == [{"digest": one.digest, "format": "tar", "from": "image"} for one in (ALPINE, BUSYBOX)]
    assert found["counts"] == {"added": 2, "removed": 1, "changed": 4, "bytes_added": 4, "bytes_removed": 3}
    passwd = changes["etc/passwd"]
    assert (passwd["change"], passwd["what"]) == ("changed", ["mode", "owner", "content"])
    assert [passwd[side]["mode"] for side in ("before", "after")] == [0o644, 0o600]
    assert (changes["gone"]["before"]["size"], changes["gone"]["after"]) == (3, None)
    assert (changes["twin"]["before"], changes["twin"]["after"]["link"]) == (None, "same")
    assert list(changes) == ["etc", "etc/hosts", "etc/passwd", "gone", r"new \xff\x0a", "sh", "twin"]


def test_nothing_differs_between_formats_of_one_image(demo: Path, ocitui: Ocitui) -> None:
    for name in ("zoo.tar", "zoo.1.9.3.tar.erofs"):
        data = lzma.decompress((PACKED / f"{name}.xz").read_bytes())
        (demo / f"{BUSYBOX.digest}.{name.rpartition('.')[2]}").write_bytes(data)
    # They have the same documents, there or not.
    (demo / f"{BUSYBOX.digest}.config.json").unlink()
    for level in ("content", "xattrs", "full"):
        done = ocitui("diff", f"{BUSYBOX.digest}.tar", f"{BUSYBOX.digest}.erofs", "--level", level, "-C", demo)
        assert (done.status, done.err) == (0, "")
        assert done.out == f"nothing differs at the level {level}\n"
    found = ocitui("diff", NAME, NAME, "--json", "-C", demo).json
    assert (found["changes"], {*found["counts"].values()}) == ([], {0})


def test_attributes_and_times_at_their_levels(demo: Path, ocitui: Ocitui) -> None:
    old = Item("f", mtime=1, pax={"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": "1"})
    new = Item("f", mtime=90, pax={"SCHILY.xattr.user.b": "2", "SCHILY.xattr.security.c": "1"})
    put(demo, layer(old), layer(new))
    lines = [files_of(ocitui("diff", A, B, "--level", level, "-C", demo).out)[0] for level in ("xattrs", "full")]
    attributes = "xattrs +security.c -user.a ~user.b"
    assert lines == [
        f"~ f: {attributes}",
        f"~ f: mtime 1970-01-01 00:00:01Z -> 1970-01-01 00:01:30Z, {attributes}",
    ]
    assert "~" not in ocitui("diff", A, B, "-C", demo).out


def edit(demo: Path, digest: str, kind: str, change: dict[str, Any]) -> None:
    path = demo / f"{digest}.{kind}.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))


def test_what_the_configs_say_otherwise_and_the_layers(two: Path, ocitui: Ocitui) -> None:
    put(two, layer(), layer())
    blobs = {name: {"mediaType": "m", "digest": f"sha256:{name * 64}", "size": 2048} for name in "abcd"}
    edit(two, ALPINE.digest, "manifest", {"layers": [blobs[one] for one in "abc"]})
    edit(two, BUSYBOX.digest, "manifest", {"layers": [blobs[one] for one in "acd"]})
    run: dict[str, Any] = {"Env": ["PATH=/bin", "GONE=", "SAME=1"], "Entrypoint": ["/bin/a b", "-c"], "User": "nobody"}
    edit(two, ALPINE.digest, "config", {"config": run, "os": "linux"})
    run = {"Env": ["SAME=1", "PATH=/usr/bin"], "ExposedPorts": {"80/tcp": {}}, "User": "nobody"}
    run["Labels"] = {"a": "b\x1b"}
    edit(two, BUSYBOX.digest, "config", {"config": run, "architecture": "arm64"})
    done = ocitui("diff", A, B, "-C", two)
    assert (done.status, done.out.splitlines()) == (
        1,
        [
            "config platform: linux/amd64 -> linux/arm64",
            "config entrypoint: '/bin/a b' -c -> none",
            "config env PATH: /bin -> /usr/bin",
            'config env GONE: "" -> none',
            "config port 80/tcp: none -> exposed",
            "config label a: none -> b\N{REPLACEMENT CHARACTER}",
            f"layer - sha256:{'b' * 64} 2.0K",
            f"layer + sha256:{'d' * 64} 2.0K",
            "0 paths added, 0 removed, 0 changed: 0B more, 0B less",
        ],
    )
    found = ocitui("diff", A, B, "--json", "-C", two).json
    assert found["config"][1] == {"field": "entrypoint", "key": "", "before": ["/bin/a b", "-c"], "after": None}
    assert [(one["change"], one["digest"][7]) for one in found["layers"]] == [("removed", "b"), ("added", "d")]


@pytest.mark.parametrize("words", [("diff", A, SITE.digest), ("diff", SITE.digest, A)])
def test_a_document_that_cannot_be_read_is_told_and_the_rest_compared(
    words: tuple[str, ...], demo: Path, ocitui: Ocitui
) -> None:
    done = ocitui(*words, "-C", demo)
    assert done.status == 4
    assert f"{SITE.digest}: cannot read {SITE.digest}.config.json: No such file" in done.err
    assert f"layer {'-' if words[2] == A else '+'} sha256:" in done.out
    assert f"{'-' if words[2] == A else '+'} etc/site.conf\n" in done.out
    (demo / f"{SITE.digest}.config.json").write_bytes(b"{")
    found = ocitui(*words, "--json", "-C", demo).json
    assert found["error"]["code"] == "damaged-image"
    assert [one["entry"] for one in found["damage"]] == [SITE.digest]
    assert found["changes"]


def test_what_is_cut_is_compared_with_nothing(two: Path, ocitui: Ocitui) -> None:
    path = two / f"{BUSYBOX.digest}.tar"
    path.write_bytes(path.read_bytes()[:3000])
    for words in (("diff", A, B), ("diff", B, A)):
        done = ocitui(*words, "-C", two)
        assert (done.status, done.out) == (4, "")
        assert f"ocitui: {B}: it cannot be compared" in done.err


def test_a_file_that_cannot_be_read_is_told_and_the_rest_compared(demo: Path, ocitui: Ocitui) -> None:
    image = lzma.decompress((PACKED / "zoo.gzip.squashfs.xz").read_bytes())
    bent = bytearray(image)
    bent[200:260] = bytes(60)
    (demo / f"{ALPINE.digest}.squashfs").write_bytes(image)
    (demo / f"{BUSYBOX.digest}.squashfs").write_bytes(bent)
    words = f"{ALPINE.digest}.squashfs", f"{BUSYBOX.digest}.squashfs"
    done = ocitui("diff", *words, "-C", demo)
    assert done.status == 4
    assert f"ocitui: {words[1]}: " in done.err
    found = ocitui("diff", *words, "--json", "-C", demo).json
    assert {one["entry"] for one in found["damage"]} == {words[1]}
    assert all(one["path"] and one["message"] for one in found["damage"])
    assert found["changes"] == []


def test_no_such_entry(demo: Path, ocitui: Ocitui) -> None:
    assert ocitui("diff", A, "nowhere", "-C", demo).status == 1
    assert ocitui("diff", A, "-C", demo).status == 2


def store(*packed: Path) -> None:
    """Have it be stored what is in packed files, as a deep check does of what it finds sound."""
    for path in packed:
        with open(path, "rb") as file:
            lines = TreeLines.of(open_tree(file, PackedFormat(path.suffix[1:]), Stop()), Stop())
        TreeStore(path.parent).keep(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), lines)
        record_stored(path.parent, path)


def test_what_is_stored_tells_the_same_without_the_images(
    two: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {level: ocitui("diff", A, B, "--level", level, "-C", two) for level in ("content", "full")}
    store(*(two / f"{one.digest}.tar" for one in (ALPINE, BUSYBOX)))
    assert ocitui("diff", A, B, "--text", "-C", two).out.count("@@") == 4
    assert {one["from"] for one in ocitui("diff", A, B, "--images", "--json", "-C", two).json["entries"]} == {"image"}
    monkeypatch.delattr("ocitui.contents.tree.import_module")
    for level, before in said.items():
        done = ocitui("diff", A, B, "--level", level, "-C", two)
        assert (done.status, done.out) == (before.status, before.out)
    assert {one["from"] for one in ocitui("diff", A, B, "--json", "-C", two).json["entries"]} == {"stored"}


def test_lines_of_two_hosts_without_their_images(
    two: Path, ocitui: Ocitui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = files_of(ocitui("diff", A, B, "-C", two).out)
    for name, word in (("a", A), ("b", B)):
        Path(name).write_text(ocitui("digest", word, "--lines", "--level", "full", "-C", two).out)
    for old, new in (("./a", str(tmp_path / "b")), ("./a", B), (A, "./b")):
        done = ocitui("diff", old, new, "-C", two)
        assert (done.status, done.out.splitlines()) == (1, expected)
    store(*(two / f"{one.digest}.tar" for one in (ALPINE, BUSYBOX)))
    found = ocitui("diff", "./a", B, "--json", "-C", two).json
    assert found["entries"] == [
        {"digest": None, "format": None, "from": "a"},
        {"digest": BUSYBOX.digest, "format": "tar", "from": "stored"},
    ]
    assert ocitui("diff", "./a", A, "--level", "full", "-C", two).status == 0


def test_lines_that_are_none_or_tell_too_little(two: Path, ocitui: Ocitui, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(ocitui("digest", A, "--lines", "-C", two).out)
    assert ocitui("diff", str(path), A, "-C", two).status == 0
    for words, told in ((("--level", "full"), "no more than the level content"), (("--text",), "only their hashes")):
        done = ocitui("diff", str(path), A, *words, "-C", two)
        assert (done.status, done.out) == (2, "")
        assert told in done.err
    path.write_text("root:x:0:0\n")
    done = ocitui("diff", A, str(path), "-C", two)
    assert (done.status, f"{path}: it does not begin as the lines of a tree do" in done.err) == (4, True)
    assert ocitui("diff", A, str(tmp_path / "none"), "-C", two).status == 4
