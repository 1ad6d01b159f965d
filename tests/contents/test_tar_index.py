"""A path of a tar by the index that is kept with its lines: as all headers tell it, without reading them, or not at
all."""

from __future__ import annotations

import random
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ocitui.cache import Ledger, PackedFormat
from ocitui.cli.selectors import tree_in
from ocitui.contents import (
    ROOT,
    TAR_BLOCK,
    PackedTree,
    TreeLevel,
    TreeLines,
    TreeStore,
    digest,
    digest_lines,
    open_lazily,
    open_tree,
)
from ocitui.contents import tar as tar_module
from ocitui.threads import Stop
from ocitui.tui.widgets.file_tree import read_contents
from tests.contents.trees_support import Told, random_root, told, unpacked_fixture
from tests.importing.layer_support import Item, folder, hard, layer, link
from tests.tools import need, seeds

NAME = f"sha256:{'1' * 64}.tar"
MEMBERS = (
    *(Item("bin/tool", data=b"old"), folder("."), folder("bin", 0o700), Item("bin/tool", data=b"new", mode=0o755)),
    *(hard("bin/same", "bin/tool"), link("bin/link", "tool"), Item("bin/empty"), folder("etc"), folder("etc/deep")),
    Item("etc/deep/capable", data=b"x" * 600, xattrs={"security.capability": "abc"}),
    *(hard("etc/was", "bin/tool"), Item("etc/was", data=b"no link")),
    *(Item(f"etc/{'long' * 40}", data=b"long"), Item("null", tarfile.CHRTYPE, device=(1, 3))),
)
TAR = layer(*MEMBERS)
ROW, COUNT = struct.Struct("<QII"), struct.Struct("<I")


@contextmanager
def whole(data: bytes | Path, tmp_path: Path) -> Iterator[PackedTree]:
    path = data if isinstance(data, Path) else tmp_path / "whole.tar"
    if isinstance(data, bytes):
        path.write_bytes(data)
    with open(path, "rb") as file:
        yield open_tree(file, PackedFormat.TAR, Stop())


@contextmanager
def found_by(index: bytes, path: Path) -> Iterator[PackedTree]:
    with open(path, "rb") as file:
        yield open_tree(file, PackedFormat.TAR, Stop(), whole=False, index=index)


def all_told(tree: PackedTree) -> Told:
    tree.list_all()
    return told(tree)


def without_links(one: dict[str, Any]) -> dict[str, Any]:
    """Of what is left out no link is counted."""
    return {key: value for key, value in one.items() if key not in ("nlink", "hardlink")}


def index_of(tree: PackedTree) -> bytes:
    assert isinstance(tree.reader, tar_module._Members)
    return tree.reader.path_index(tree)


def rows_of(index: bytes) -> list[tuple[int, int, int]]:
    (count,) = COUNT.unpack_from(index)
    return [*ROW.iter_unpack(index[4 : 4 + count * ROW.size])]


def with_rows(index: bytes, rows: list[tuple[int, int, int]]) -> bytes:
    return COUNT.pack(len(rows)) + b"".join(ROW.pack(*row) for row in rows) + index[4 + len(rows) * ROW.size :]


@pytest.fixture
def no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where all headers are read."""

    def scanned(*_: object) -> PackedTree:
        raise AssertionError("all headers are read")

    monkeypatch.setattr(tar_module, "_scanned", scanned)


def test_a_path_is_found_without_reading_all_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with whole(TAR, tmp_path) as tree:
        index, expected = index_of(tree), told(tree)
    monkeypatch.setattr(tar_module, "_scanned", None)
    with found_by(index, tmp_path / "whole.tar") as tree:
        for path, target in ((b"/bin/link", b"bin/tool"), (b"bin/same", b"bin/same")):
            entry = tree.follow(path)
            assert entry is not None
            assert tree.path(entry) == target
            assert tree.open(entry).read() == b"new"
        assert len(tree) == 5
        assert tree.find(b"bin/none") is None
        assert [tree.name(entry) for entry in tree.children(0)] == [b"bin", b"etc", b"null"]
        assert all_told(tree) == expected


@pytest.mark.parametrize("form", ["gnu", "posix"])
@pytest.mark.parametrize("seed", seeds(3, 200))
def test_all_of_a_tar_is_found_as_its_headers_tell_it(form: str, seed: int, tmp_path: Path, no_scan: None) -> None:
    need("tar")
    root, packed = random_root(tmp_path / "root", random.Random(seed)), tmp_path / "image.tar"
    xattrs = "--xattrs --xattrs-include=* " if form == "posix" else ""
    subprocess.run(f"tar -C {root} --format={form} {xattrs}-cf {packed} .".split(), check=True, capture_output=True)
    with open(packed, "rb") as file:
        tree = SCANNED(file, Stop(), tar_module._Members(file))
        index, expected = index_of(tree), told(tree)
    assert index
    with found_by(index, packed) as tree:
        paths = [*expected]
        random.Random(seed).shuffle(paths)
        for path in paths:
            assert tree.find(path) is not None
        assert all_told(tree) == expected


SCANNED = tar_module._scanned


def test_an_odd_tar_has_an_index_too(tmp_path: Path, no_scan: None) -> None:
    packed = unpacked_fixture("zoo.tar", tmp_path)
    with open(packed, "rb") as file:
        tree = SCANNED(file, Stop(), tar_module._Members(file))
        index, expected = index_of(tree), told(tree)
    with found_by(index, packed) as tree:
        assert all_told(tree) == expected


@pytest.mark.parametrize(
    "members",
    [
        pytest.param((hard("late", "f"), Item("f")), id="a link before its file"),
        pytest.param((Item("f"), hard("link", "f"), Item("f", data=b"other")), id="a link to what was replaced"),
        pytest.param(
            (Item("f"), hard("a", "f"), Item("f", data=b"other"), hard("b", "g"), Item("g")), id="both of these"
        ),
        pytest.param((Item("f"), hard("f", "f")), id="a link to itself"),
        pytest.param((Item("f"), hard("b", "f"), hard("c", "b")), id="a link to a link"),
        pytest.param((Item("unnamed/f"),), id="a directory without a header"),
    ],
)
def test_what_headers_do_not_tell_one_by_one_has_none(members: tuple[Item, ...], tmp_path: Path) -> None:
    with whole(layer(*members), tmp_path) as tree:
        assert index_of(tree) == b""


@pytest.mark.parametrize("comment", [1, 300_000])
def test_a_root_needs_no_header_and_a_header_may_be_long(comment: int, tmp_path: Path, no_scan: None) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(layer(Item("f", data=b"f", pax={"comment": "c" * comment})))
    with open(path, "rb") as file:
        tree = SCANNED(file, Stop(), tar_module._Members(file))
        index, expected = index_of(tree), told(tree)
    with found_by(index, path) as tree:
        assert all_told(tree) == expected
        assert tree.open(1).read() == b"f"


@pytest.mark.slow
def test_what_an_index_says_that_the_headers_do_not_is_never_told(tmp_path: Path) -> None:
    """Each row in turn tells of another header, of none, of what lies beyond the end, of other rows and names."""
    with whole(TAR, tmp_path) as tree:
        index, expected = index_of(tree), told(tree)
    alone = {path: without_links(one) for path, one in expected.items()}
    rows, size, path = rows_of(index), len(TAR), tmp_path / "whole.tar"
    starts = [start for start, _, _ in rows]
    for number, (start, below, end) in enumerate(rows):
        others = {*starts, 1, 100, 512, size - 512, size, size + 512, 1 << 62, (1 << 63) - 1, 1 << 63} - {start}
        for other in others if number else others - {1 << 63}:
            bent = with_rows(index, [*rows[:number], (other, below, end), *rows[number + 1 :]])
            with found_by(bent, path) as tree:
                assert all_told(tree) == expected
                for one in expected:
                    entry = tree.find(one)
                    assert entry is not None
                    assert tree.path(entry) == one
        for other in (0, number, len(rows), 1 << 31):
            for lie in ((start, other, end), (start, below, other)):
                bent = with_rows(index, [*rows[:number], lie, *rows[number + 1 :]])
                with found_by(bent, path) as tree:
                    found = all_told(tree)
                    assert {path: without_links(one) for path, one in found.items()}.items() <= alone.items()


def made_index(*rows: tuple[int, int, bytes]) -> bytes:
    """Of where each begins, the row behind what is in it, its name."""
    names = [name for _, _, name in rows]
    ends = accumulate(map(len, names))
    return COUNT.pack(len(rows)) + b"".join(
        [*(ROW.pack(start, below, end) for (start, below, _), end in zip(rows, ends, strict=True)), *names]
    )


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param([(0, 4, b""), (512, 4, b"d"), (2560, 4, b"z"), (2048, 4, b"g")], id="names out of order"),
        pytest.param([(0, 3, b""), (512, 3, b"d"), (1024, 3, b"d/f")], id="a name that is a path"),
        pytest.param([(0, 3, b""), (512, 3, b"d"), (3072, 3, b"h")], id="a link to what it has not"),
        pytest.param([(0, 4, b""), (512, 4, b"d"), (3584, 4, b"g"), (3072, 4, b"h")], id="a link to a link"),
        pytest.param([(0, 2, b""), (512, 1 << 31, b"d")], id="rows beyond the last"),
    ],
)
def test_an_index_that_lies_throughout_is_not_believed(lie: list[tuple[int, int, bytes]], tmp_path: Path) -> None:
    members = (folder("."), folder("d"), Item("d/f", data=b"f"), Item("g"), Item("z"))
    with whole(layer(*members, hard("h", "g"), hard("g", "h")), tmp_path) as tree:
        expected = told(tree)
    with found_by(made_index(*lie), tmp_path / "whole.tar") as tree:
        found = all_told(tree)
        assert {path: without_links(one) for path, one in found.items()}.items() <= {
            path: without_links(one) for path, one in expected.items()
        }.items()
        assert all(tree.find(path) is not None for path in found)


@pytest.mark.parametrize("index", [b"x", COUNT.pack(0), COUNT.pack(5), COUNT.pack((1 << 32) - 1) + bytes(64)])
def test_what_is_no_index_is_none(index: bytes, tmp_path: Path) -> None:
    with whole(TAR, tmp_path) as tree:
        expected = told(tree)
    with found_by(index, tmp_path / "whole.tar") as tree:
        assert all_told(tree) == expected


def test_of_many_entries_all_headers_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_module, "_MOST_LISTED", 7)
    scans = list[object]()
    with whole(TAR, tmp_path) as tree:
        index, expected = index_of(tree), told(tree)

    def scanned(file: BinaryIO, stop: Stop, members: tar_module._Members) -> PackedTree:
        scans.append(members)
        return SCANNED(file, stop, members)

    monkeypatch.setattr(tar_module, "_scanned", scanned)
    with found_by(index, tmp_path / "whole.tar") as tree:
        assert all_told(tree) == expected
    assert len(scans) == 1


def test_what_a_damaged_tar_lost_is_told_where_its_index_lies(tmp_path: Path) -> None:
    with whole(TAR, tmp_path) as tree:
        index = index_of(tree)
    at = TAR.index(b"etc/deep/\0")
    (tmp_path / "whole.tar").write_bytes(TAR[:at] + b"X" + TAR[at + 1 :])
    with found_by(index, tmp_path / "whole.tar") as tree:
        assert tree.find(b"etc/deep/capable") is None
        assert "checksum is wrong" in str(tree.damage)


@pytest.mark.parametrize("what", [b"0", b"V"])
def test_what_was_lost_is_told_once_whatever_is_asked_for(what: bytes, tmp_path: Path) -> None:
    """Of a name with others behind it, that are there, it was told as not in the tar; of all, once a directory."""
    names = (folder("."), *(folder(name) for name in "abcd"), Item("d/z"))
    with whole(layer(*names, Item("d/y")), tmp_path) as tree:
        index = index_of(tree)
    data = bytearray(layer(*names, Item("d/y", what)))
    if what == b"0":
        data[data.index(b"d/y\0")] ^= 1
    with whole(bytes(data), tmp_path) as tree:
        expected, unread = [*tree.damage], {*tree.unread}
        assert (len(expected), len(unread)) == (1, what == b"V")
    with found_by(index, tmp_path / "whole.tar") as tree:
        assert tree.find(b"d/y") is None
        assert (tree.damage, tree.unread) == (expected, unread)
        tree.list_all()
        assert (tree.damage, tree.unread) == (expected, unread)


def test_what_a_link_leads_to_is_looked_for_and_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,500 links into a directory of 40,000 files took 70 seconds."""
    looks, name_of = list[int](), tar_module._Indexed._name

    def name(self: tar_module._Indexed, row: int) -> bytes:
        looks.append(row)
        return name_of(self, row)

    members = [Item(f"f/{number:04}") for number in range(1000)]
    with whole(layer(folder("f"), *members, hard("link", "f/0999")), tmp_path) as tree:
        index = index_of(tree)
    monkeypatch.setattr(tar_module._Indexed, "_name", name)
    with found_by(index, tmp_path / "whole.tar") as tree:
        assert tree.find(b"link") is not None
    assert len(looks) < 20


def test_what_stands_amid_a_block_is_no_header(tmp_path: Path) -> None:
    """Where its body begins could not be told."""
    inner = layer(Item("f", data=b"inner"))
    with whole(layer(Item("e", data=b"x" * 100 + inner), Item("f", data=b"outer")), tmp_path) as tree:
        index = index_of(tree)
    rows = rows_of(index)
    bent = with_rows(index, [*rows[:-1], (TAR_BLOCK + 100, *rows[-1][1:])])
    with found_by(bent, tmp_path / "whole.tar") as tree:
        entry = tree.find(b"f")
        assert entry is not None
        assert tree.open(entry).read() == b"outer"


# Beside the packed file


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """With a tar whose lines are stored."""
    return stored(tmp_path, TAR)


def stored(cache: Path, data: bytes) -> Path:
    (cache / NAME).write_bytes(data)
    ledger = Ledger.open(cache)
    ledger.record(NAME, (cache / NAME).stat(), "a" * 64)
    ledger.flush()
    with whole(cache / NAME, cache) as tree:
        TreeStore(cache).keep(NAME, "a" * 64, TreeLines.of(tree, Stop()))
    return cache


def read(cache: Path) -> bytes | None:
    with open(cache / NAME, "rb") as file:
        tree = open_lazily(cache / NAME, file, PackedFormat.TAR, Stop())
        entry = tree.follow(b"bin/link")
        assert entry is not None
        return tree.open(entry).read()


def test_it_is_stored_with_the_lines(cache: Path, no_scan: None) -> None:
    assert read(cache) == b"new"
    with tree_in(cache / NAME, whole=False) as tree:
        assert tree.find(b"bin/tool") is not None
    found = read_contents(cache / NAME, PackedFormat.TAR, "", Stop(), whole=False)
    assert [found.path(entry) for entry in found.children(ROOT)] == ["/bin", "/etc", "/null"]


@pytest.mark.parametrize("change", ["another", "damaged", "not known", "taken away", "a link"])
def test_without_it_all_headers_are_read(change: str, cache: Path) -> None:
    stored = cache / ".ocitui" / "lines" / NAME
    if change == "another":
        (cache / NAME).write_bytes(layer(folder("bin"), Item("bin/tool", data=b"newer"), link("bin/link", "tool")))
    elif change == "damaged":
        data = stored.read_bytes()
        stored.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    elif change == "not known":
        (cache / ".ocitui" / "ledger").unlink()
    elif change == "taken away":
        (cache / ".ocitui").rename(cache / "away")
    else:
        (cache / NAME).symlink_to((cache / NAME).rename(cache / "elsewhere"))
    assert read(cache) == (b"newer" if change == "another" else b"new")


def test_what_came_into_its_place_meanwhile_says_nothing_of_an_open_file(tmp_path: Path) -> None:
    """What it had before its last is what the other's index leads to."""
    path, first = tmp_path / NAME, Item("f", data=b"old")
    path.write_bytes(layer(folder("."), first, Item("f", data=b"new")))
    with open(path, "rb") as file:
        path.unlink()
        stored(tmp_path, layer(folder("."), first))
        tree = open_lazily(path, file, PackedFormat.TAR, Stop())
        entry = tree.find(b"f")
        assert entry is not None
        assert tree.open(entry).read() == b"new"


def test_lines_without_an_index_or_with_one_that_is_bent_are_lines(tmp_path: Path) -> None:
    with whole(TAR, tmp_path) as tree:
        lines, plain = (
            TreeLines.of(tree, Stop()),
            TreeLines.made(digest_lines(tree, TreeLevel.FULL, Stop())),
        )
    assert lines.path_index
    assert lines.content == plain.content
    assert [*lines.at(TreeLevel.FULL)] == [*plain.at(TreeLevel.FULL)]
    assert not plain.path_index
    frame = lines.packed[len(plain.packed) :]
    for cut in range(1, len(frame)):
        assert not TreeLines(plain.packed + frame[cut:], "").path_index
        assert not TreeLines(plain.packed + frame[:cut], "").path_index
    for at in range(8, len(frame)):
        bent = frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]
        assert TreeLines(plain.packed + bent, "").path_index != lines.path_index
    for data in (b"", b"abc", frame):
        TreeLines(data, "").path_index  # noqa: B018


def test_lines_that_would_be_too_long_with_it_are_kept_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with whole(TAR, tmp_path) as tree:
        lines = TreeLines.of(tree, Stop())
        monkeypatch.setattr(digest, "_LARGEST", len(lines.packed) + digest._LONGEST_HEAD - 1)
        assert not TreeLines.of(tree, Stop()).path_index
