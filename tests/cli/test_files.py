"""files and cat: what is inside a packed file, without mounting it."""

from __future__ import annotations

import base64
import errno
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocitui.cli.demo_cache import ALPINE, BUSYBOX, QUEUE
from ocitui.contents.squashfs import _Squashfs
from ocitui.contents.tree import PackedTree
from ocitui.text import escaped, unescaped
from ocitui.words import sort_of_bytes
from tests.cli.conftest import Ocitui
from tests.contents.test_tar_headers import END, raw, record
from tests.importing.layer_support import Item, digest_of, folder, hard, layer, link
from tests.importing.pipeline import image_of, layout_of
from tests.tools import ROOT

PACKED = ROOT / "tests" / "packed"
NAME = "busybox:1.36"
COMMON = {"schema", "version", "host", "cache", "name", "digest", "format", "files"}
ODD = layer(
    *(
        folder("usr/bin", mtime=1),
        Item("usr/bin/sh", data=b"\x7fELF\2\1" + bytes(12) + b"\xb7\0", mode=0o4755, uid=1000),
    ),
    *(link("bin", "usr/bin"), link("sh", "/bin/sh"), link("up", "../../../../etc/passwd"), link("loop", "loop")),
    *(link("gone", "nowhere"), hard("usr/bin/ash", "usr/bin/sh"), Item("etc/passwd", data=b"root:\x1b[31m\tx\n")),
    Item("a\n\\b\udcff", data=b"odd"),
    Item("binary", data=bytes(range(256))),
)


def packed(demo: Path, data: bytes) -> Path:
    """Have it be the packed file of busybox."""
    path = demo / f"{BUSYBOX.digest}.tar"
    path.write_bytes(data)
    return path


@pytest.fixture
def odd(demo: Path) -> Path:
    packed(demo, ODD)
    return demo


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cli.commands.cat.is_terminal", lambda _: True)


def test_all_of_the_zoo_for_programs(demo: Path, ocitui: Ocitui) -> None:
    packed(demo, lzma.decompress((PACKED / "zoo.tar.xz").read_bytes()))
    done = ocitui("files", NAME, "--json", "-C", demo)
    assert (done.status, done.err, set(done.json)) == (0, "", COMMON)
    assert (done.json["digest"], done.json["format"]) == (BUSYBOX.digest, "tar")
    found = {unescaped(one["path"].encode()).decode("latin-1"): one for one in done.json["files"]}
    expected = json.loads((PACKED / "zoo-tar.json").read_bytes())
    assert set(found) == set(expected)
    for path, one in expected.items():
        keys = ("type", "mode", "uid", "gid", "mtime")
        assert {key: found[path][key] for key in keys} == {key: one[key] for key in keys}
        assert found[path]["xattrs"] == one.get("xattrs", {})
        assert found[path]["device"] == one.get("rdev")
        assert found[path]["target"] == (escaped(one["target"].encode("latin-1")) if "target" in one else None)
        is_other = one.get("hardlink", path) != path
        assert found[path]["link"] == (escaped(one["hardlink"].encode("latin-1")) if is_other else None)
        assert one["type"] != "f" or found[path]["size"] == one["size"]
        assert found[path]["path"].isascii()


def test_for_people_it_is_as_ls_has_it(odd: Path, ocitui: Ocitui) -> None:
    done = ocitui("files", NAME, "-C", odd)
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "drwxr-xr-x       0:0         1970-01-01 00:00:00Z /"
    assert "-rwsr-xr-x    1000:0     20B 2017-07-14 02:40:00Z usr/bin/ash" in lines
    assert lines[-1].endswith("Z usr/bin/sh link to usr/bin/ash")
    assert any(line.startswith("lrw") and line.endswith(" up -> ../../../../etc/passwd") for line in lines)
    assert len(lines) == 14
    assert "\x1b" not in done.out


def test_a_path_and_what_is_below_it(odd: Path, ocitui: Ocitui) -> None:
    def listed(path: str) -> list[str]:
        done = ocitui("files", NAME, f"/{path}", "--json", "-C", odd)
        assert done.status == 0
        return [one["path"] for one in done.json["files"]]

    below = ["usr", "usr/bin", "usr/bin/ash", "usr/bin/sh"]
    assert listed("usr") == listed("/usr/") == listed("../usr") == below
    assert listed("bin") == ["bin"], "a link is shown as it is"
    assert listed("bin/sh") == ["usr/bin/sh"], "one on the way is followed inside"
    assert listed("bin/") == below[1:]
    assert listed("up") == ["up"]
    assert listed(r"a\x0a\x5cb\xff") == listed(os.fsdecode(b"a\n\\b\xff")) == [r"a\x0a\x5cb\xff"]


@pytest.mark.parametrize("command", ["files", "cat"])
@pytest.mark.parametrize("path", ["/nowhere", "/etc/passwd/x", "/gone/x", "/usr/binx"])
def test_a_path_that_is_not_there(command: str, path: str, odd: Path, ocitui: Ocitui) -> None:
    done = ocitui(command, NAME, path, "-C", odd)
    assert (done.status, done.out) == (1, "")
    assert done.err.count("\n") == 1
    told = ocitui(command, NAME, path, "--json", "-C", odd)
    assert (told.status, told.json["error"]["code"]) == (1, "no-such-path")


def test_several_entries_each_with_what_is_below_the_path(odd: Path, ocitui: Ocitui) -> None:
    alpine = "alpine:3.19"
    done = ocitui("files", NAME, alpine, "/etc", "-C", odd)
    parts = done.out.split(f"{alpine}:\n")
    assert (done.status, len(parts), parts[0].startswith(f"{NAME}:\n")) == (0, 2, True)
    assert "".join(parts[0].splitlines(keepends=True)[1:]) == ocitui("files", NAME, "/etc", "-C", odd).out
    assert parts[1] == ocitui("files", "/etc", alpine, "-C", odd).out
    found = ocitui("files", NAME, alpine, "/etc", "--json", "-C", odd).json
    assert set(found) == {"schema", "version", "host", "cache", "files"}
    about = {(one["name"], one["digest"], one["format"]) for one in found["files"]}
    assert about == {(NAME, BUSYBOX.digest, "tar"), (alpine, ALPINE.digest, "tar")}
    assert [one["path"] for one in found["files"] if one["name"] == NAME] == ["etc", "etc/passwd"]


def test_the_others_go_on_where_one_cannot_be_listed(odd: Path, ocitui: Ocitui) -> None:
    packed(odd, b"")
    done = ocitui("files", NAME, "alpine:3.19", "/etc", "-C", odd)
    assert (done.status, "etc/passwd" in done.out, f"ocitui: {NAME}: " in done.err) == (4, True, True)
    packed(odd, ODD)
    done = ocitui("files", NAME, "alpine:3.19", "/usr/bin/ash", "-C", odd)
    assert (done.status, "usr/bin/ash" in done.out, "ocitui: alpine:3.19: there is no /usr/bin/ash" in done.err) == (
        1,
        True,
        True,
    )


def test_entries_by_a_filter(odd: Path, ocitui: Ocitui) -> None:
    found = ocitui("files", "--filter", "tag:1.36", "/etc", "--json", "-C", odd).json
    assert {one["digest"] for one in found["files"]} == {BUSYBOX.digest}
    (odd / f"{BUSYBOX.digest}.tar").unlink()
    done = ocitui("files", "--filter", "tag:1.36", "-C", odd)
    assert (done.status, done.out, "no packed file" in done.err) == (1, "", True)


@pytest.mark.parametrize("words", [[], ["/etc"], [NAME, "/etc", "/usr"], [NAME, "--filter", "x"], ["--filter", " "]])
def test_what_cannot_be_listed(words: list[str], odd: Path, ocitui: Ocitui) -> None:
    done = ocitui("files", *words, "-C", odd)
    assert (done.status, done.out) == (2, "")


def test_a_path_without_its_slash_is_told(odd: Path, ocitui: Ocitui) -> None:
    done = ocitui("files", NAME, "etc", "-C", odd)
    assert (done.status, done.out) == (1, "")
    assert "a path begins with a slash: /etc" in done.err


@pytest.mark.parametrize(
    "word", [f"{NAME}.tar", f"library/{NAME}", BUSYBOX.digest, f"{BUSYBOX.digest}.tar", BUSYBOX.digest[7:15]]
)
def test_an_entry_has_many_names(word: str, odd: Path, ocitui: Ocitui) -> None:
    assert ocitui("cat", word, "binary", "--json", "-C", odd).json["digest"] == BUSYBOX.digest


def test_a_whole_digest_needs_no_index(odd: Path, ocitui: Ocitui) -> None:
    (odd / "index.json").write_text("{")
    assert ocitui("files", BUSYBOX.digest, "-C", odd).status == 0
    assert ocitui("files", NAME, "-C", odd).status == 4


def test_what_is_no_entry_or_has_no_file(odd: Path, ocitui: Ocitui) -> None:
    assert ocitui("files", "nobody:1", "-C", odd).status == 1
    (odd / f"{BUSYBOX.digest}.tar").unlink()
    for word in (NAME, BUSYBOX.digest, f"{BUSYBOX.digest}.erofs"):
        done = ocitui("files", word, "-C", odd)
        assert (done.status, done.out) == (1, "")
        assert "no packed file" in done.err
    (odd / f"{BUSYBOX.digest}.tar").mkdir()
    assert ocitui("files", NAME, "-C", odd).status == 1


def test_of_a_damaged_file_what_can_be_read_then_the_place(demo: Path, ocitui: Ocitui) -> None:
    cut = demo / f"{QUEUE.digest}.tar"
    done = ocitui("files", QUEUE.digest, "-C", demo)
    assert done.status == 4
    assert "usr/local/bin/queue" in done.out
    assert f"behind byte {cut.stat().st_size}" in done.err
    assert "ocitui repair" in done.err
    told = ocitui("files", QUEUE.digest, "--json", "-C", demo)
    assert told.status == 4
    assert set(told.json) == COMMON | {"damage", "error"}
    assert len(told.json["files"]) == len(done.out.splitlines())
    assert told.json["error"]["code"] == "damaged-image"
    assert "behind byte" in told.json["damage"][0]["message"]
    cat = ocitui("cat", QUEUE.digest, "etc/passwd", "-C", demo)
    assert (cat.status, cat.out[:5]) == (0, "root:")
    lost = ocitui("cat", QUEUE.digest, "usr/share/nothing", "-C", demo)
    assert (lost.status, "in what could be read" in lost.err) == (4, True)


def test_many_damages_are_told_in_a_few_lines(demo: Path, ocitui: Ocitui) -> None:
    packed(demo, b"".join(raw(b"0", b"", b"../%d" % n) for n in range(500)) + raw(b"0", b"", b"ok") + END)
    done = ocitui("files", NAME, "-C", demo)
    assert (done.status, done.err.count("\n")) == (4, 11)
    assert "490 more" in done.err


@pytest.mark.parametrize("data", [b"", b"garbage" * 1000])
def test_what_cannot_be_read_at_all(data: bytes, demo: Path, ocitui: Ocitui) -> None:
    packed(demo, data)
    done = ocitui("files", NAME, "--json", "-C", demo)
    assert (done.status, done.json["error"]["code"]) == (4, "damaged-image")
    assert f"{BUSYBOX.digest}.tar: " in done.err


def bytes_of(cache: Path, path: str, *more: str) -> bytes:
    command = [sys.executable, "-m", "ocitui", "cat", NAME, path, *more, "-C", str(cache)]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


@pytest.mark.slow
def test_a_file_comes_byte_for_byte(odd: Path) -> None:
    assert bytes_of(odd, "binary") == bytes(range(256))
    assert bytes_of(odd, "up") == b"root:\x1b[31m\tx\n", "a link out of the image leads to what is inside"
    assert bytes_of(odd, "sh").startswith(b"\x7fELF")


def test_a_large_file_is_written_as_it_is_read(demo: Path) -> None:
    """A tebibyte of holes: whoever takes the first bytes and goes away is not waited for."""
    records = record(b"GNU.sparse.map", b"0,3") + record(b"GNU.sparse.size", b"%d" % (1 << 40))
    packed(demo, raw(b"x", records) + raw(b"0", b"abc") + END)
    command = f"{sys.executable} -m ocitui cat {NAME} x -C {demo} | head -c 8; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == (b"abc" + bytes(5), b"", 141)


def test_a_cut_body_is_told_after_what_there_is(demo: Path) -> None:
    command = [sys.executable, "-m", "ocitui", "cat", QUEUE.digest, "usr/local/bin/queue", "-C", str(demo)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 4
    assert b"usr/local/bin/queue: it is cut: it ends at byte" in done.stderr


@pytest.mark.parametrize(("path", "what"), [("usr", "a directory"), ("bin", "a directory"), ("/", "a directory")])
def test_only_files_have_bytes(path: str, what: str, odd: Path, ocitui: Ocitui) -> None:
    done = ocitui("cat", NAME, path, "-C", odd)
    assert (done.status, done.out) == (2, "")
    assert f"{path} is {what}" in done.err


def test_a_link_without_end_and_one_to_nothing(odd: Path, ocitui: Ocitui) -> None:
    assert ocitui("cat", NAME, "gone", "-C", odd).status == 1
    done = ocitui("cat", NAME, "loop", "-C", odd)
    assert (done.status, "40 symbolic links" in done.err) == (4, True)


def test_a_document_has_text_or_base64(odd: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = ocitui("cat", NAME, "up", "--json", "-C", odd).json["files"]
    assert (one["path"], one["raw"]) == ("etc/passwd", "root:\x1b[31m\tx\n")
    (one,) = ocitui("cat", NAME, "binary", "--json", "-C", odd).json["files"]
    assert base64.b64decode(one["base64"]) == bytes(range(256))
    monkeypatch.setattr("ocitui.cli.commands.cat._MOST_JSON", 255)
    done = ocitui("cat", NAME, "binary", "--json", "-C", odd)
    assert (done.status, "too many for a document" in done.err) == (2, True)


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_text_and_nothing_that_commands_it(odd: Path, ocitui: Ocitui) -> None:
    done = ocitui("cat", NAME, "etc/passwd", "-C", odd)
    assert done.out == "root:�[31m      x\n"
    packed(odd, layer(Item("long", data=b"x" * 200_000), Item("é", data="é\r\nü".encode() * 40_000)))
    assert ocitui("cat", NAME, "long", "-C", odd).out.replace("\n", "") == "x" * 200_000
    assert ocitui("cat", NAME, "é", "-C", odd).out == "é\nü" * 40_000 + "\n"


@pytest.mark.usefixtures("terminal")
def test_a_terminal_is_told_what_is_no_text(odd: Path, ocitui: Ocitui) -> None:
    done = ocitui("cat", NAME, "sh", "-C", odd)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("sh: an ELF file for aarch64, 20B; ")
    assert ocitui("cat", NAME, "binary", "-C", odd).out.startswith("binary: bytes that are no text, 256B; ")


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"", ""),
        (b"text\n\ttab", ""),
        ("é".encode()[:1], ""),
        (b"\xff", "bytes that are no text"),
        (b"a\0", "bytes that are no text"),
        (b"\x1f\x8b\x08", "gzip data"),
        (b"\x7fELF\2\1" + bytes(12) + b"\x3e\0", "an ELF file for x86-64"),
        (b"\x7fELF\2\2" + bytes(12) + b"\0\x16", "an ELF file for s390x"),
        (b"\x7fELF", "an ELF file for another machine"),
    ],
)
def test_what_a_file_is_by_its_first_bytes(start: bytes, what: str) -> None:
    assert sort_of_bytes(start) == what


def test_nothing_is_written_to_the_cache(odd: Path, ocitui: Ocitui) -> None:
    def all_of_it() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (odd, *odd.rglob("*"))}

    before = all_of_it()
    ocitui("files", NAME, "-C", odd)
    ocitui("cat", NAME, "etc/passwd", "-C", odd)
    assert all_of_it() == before


def test_what_layers_hold_in_vain(tmp_path: Path, ocitui: Ocitui) -> None:
    """From where the image came, or from another place once that is gone; of a compressed archive too."""
    lower = layer(Item("a\x1b", data=b"1" * 2048), Item("b"))
    image = image_of(lower, layer(Item(".wh.a\x1b")))
    layout, cache = layout_of(tmp_path / "layout", image), tmp_path / "cache"
    cache.mkdir()
    assert ocitui("import", f"oci:{layout}", "--name", "app:1", "--format", "tar", "-C", cache).status == 0
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    digests = [digest_of(one) for one in image.layers]
    first = f"layer 1, {digests[0].removeprefix('sha256:')[:12]}: 2.0K in 1 file"
    said = ["2.0K of 2.0K in 2 layers are hidden by later ones", first, "     2.0K /a�, by layer 2"]
    done = ocitui("files", "app:1", "--layers", "-C", cache)
    assert (done.status, done.out.splitlines()) == (0, said)
    made = ocitui("files", "app:1", "--layers", "--json", "-C", cache).json
    assert made["hidden"] == [{"path": "a\\x1b", "size": 2048, "layer": 1, "hidden_by": 2}]
    assert (made["layers"], made["size"], made["from"]) == (digests, 2048, f"oci:{layout}@{image.digest}")
    subprocess.run(["tar", "-C", layout, "-czf", tmp_path / "image.tgz", "."], check=True)
    layout.rename(tmp_path / "elsewhere")
    gone = ocitui("files", "app:1", "--layers", "-C", cache)
    assert (gone.status, "the layers cannot be read: " in gone.err, "--from SOURCE" in gone.err) == (4, True, True)
    again = ocitui("files", "app:1", "--layers", "--from", f"oci-archive:{tmp_path / 'image.tgz'}", "-C", cache)
    assert again.out.splitlines() == said, again.err
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    for words in (["app:1", "/a", "--layers"], ["--filter", "app", "--layers"], ["app:1", "--from", str(layout)]):
        assert ocitui("files", *words, "-C", cache).status == 2


@pytest.fixture
def zoo(demo: Path) -> str:
    """A squashfs with the zoo in it."""
    name = f"{BUSYBOX.digest}.squashfs"
    (demo / name).write_bytes(lzma.decompress((PACKED / "zoo.gzip.squashfs.xz").read_bytes()))
    return name


def test_a_path_is_found_without_listing_the_rest(
    zoo: str, demo: Path, ocitui: Ocitui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(PackedTree, "list_all")
    assert ocitui("cat", zoo, "etc/hostname", "-C", demo).status == 0
    assert ocitui("extract", zoo, "data", "-o", tmp_path / "out", "-C", demo).status == 0
    assert (tmp_path / "out" / "data").is_dir()
    assert ocitui("extract", zoo, "nowhere", "-o", tmp_path / "no", "-C", demo).status == 1
    found = ocitui("why", f"{BUSYBOX.digest}.squashfs", "-C", demo)
    assert "program" in found.out


@pytest.mark.parametrize(
    "words", [["cat", "bin/ping"], ["extract", "data", "-o", "out"], ["extract", "/", "-o", "out"]]
)
def test_a_disk_that_fails_at_a_look_up_is_told(
    words: list[str], zoo: str, demo: Path, ocitui: Ocitui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(reader: _Squashfs, reference: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_Squashfs, "names", failing)
    done = ocitui(words[0], zoo, *words[1:], "-C", demo)
    assert (done.status, done.out) == (4, "")
    assert "cannot be read: Input/output error" in done.err
