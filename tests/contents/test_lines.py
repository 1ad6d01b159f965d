"""The lines of a tree as they are stored and read: they tell what the packed file does, or nothing."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from ocitui.cache import Ledger, PackedFormat
from ocitui.contents import ContentsError, DamagedError, TreeLevel, digest, digest_lines, open_tree
from ocitui.contents.compare import ComparedTree, TreeComparison
from ocitui.contents.digest import TreeLines, TreeStore, keep_lines, read_lines, tree_digest
from ocitui.contents.find import PathPattern, find_entries
from ocitui.threads import Stop
from tests.contents.test_digest import MEMBERS, TEXT
from tests.contents.test_extract import tree_of, write_tar
from tests.contents.trees_support import random_root, unpacked_fixture
from tests.importing.sources import pack

NAME = f"sha256:{'1' * 64}.tar"
ONE = TreeLines(b"", "")


def unread(entry: int, error: Exception) -> None:
    raise error


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """With a packed file that the ledger knows."""
    directory = tmp_path / "cache"
    directory.mkdir()
    write_tar(directory / NAME, MEMBERS)
    known(directory)
    return directory


def known(directory: Path, sha256: str = "a" * 64) -> None:
    ledger = Ledger.open(directory)
    ledger.record(NAME, os.stat(directory / NAME), sha256)
    ledger.flush()


def made(directory: Path) -> TreeLines:
    with ExitStack() as stack:
        return TreeLines.of(tree_of(directory / NAME, stack), Stop())


@pytest.mark.parametrize("level", TreeLevel)
def test_lines_make_the_tree_that_makes_them(level: TreeLevel, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text(TEXT[level])
    found, tree = read_lines(path)
    assert found is level
    assert "".join(digest_lines(tree, level, Stop())) == TEXT[level]


@pytest.mark.parametrize("name", ["zoo.tar", "zoo.gzip.squashfs", "zoo.1.9.3.tar.erofs", 1, 2])
def test_all_levels_of_a_packed_file_come_of_the_lines_of_one(name: str | int, tmp_path: Path) -> None:
    if isinstance(name, int):
        packed = pack("squashfs", random_root(tmp_path / "root", random.Random(name)), tmp_path / "image.squashfs")
    else:
        packed = unpacked_fixture(name, tmp_path)
    with open(packed, "rb") as file:
        tree = open_tree(file, PackedFormat(packed.suffix[1:]), Stop())
        one = TreeLines.of(tree, Stop())
        for level in TreeLevel:
            assert "".join(one.at(level)) == "".join(digest_lines(tree, level, Stop()))
            assert tree_digest(one.tree(), level, Stop()) == tree_digest(tree, level, Stop())
        assert one.content == tree_digest(tree, TreeLevel.CONTENT, Stop())
        comparison = TreeComparison(ComparedTree(tree, unread), ComparedTree(one.tree(), unread), TreeLevel.FULL)
        assert list(comparison.changes(Stop())) == []


def test_a_file_is_found_by_its_hash_without_being_read(tmp_path: Path) -> None:
    path = unpacked_fixture("zoo.gzip.squashfs", tmp_path)
    with open(path, "rb") as file:
        tree = open_tree(file, PackedFormat.SQUASHFS, Stop())
        stored = TreeLines.of(tree, Stop()).tree()
        entry = next(one for one in stored.files() if stored.sizes[one])
        sha256 = stored.hashes[stored.numbers[entry]]
        for pattern in (None, PathPattern("dup*")):
            told = [
                sorted(map(one.path, find_entries(one, Stop(), pattern=pattern, sha256=sha256, unread=unread)))
                for one in (tree, stored)
            ]
            assert told[0] == told[1]
    with pytest.raises(ContentsError, match="only the hashes"):
        stored.open(entry).read()


def test_bodies_come_of_the_packed_file_while_it_is_the_one(tmp_path: Path) -> None:
    path, shorter = unpacked_fixture("zoo.gzip.squashfs", tmp_path), tmp_path / "shorter.tar"
    write_tar(shorter, MEMBERS)
    with open(path, "rb") as file, open(shorter, "rb") as other:
        lines = TreeLines.of(open_tree(file, PackedFormat.SQUASHFS, Stop()), Stop())
        stored = lines.tree(partial(open_tree, file, PackedFormat.SQUASHFS, Stop(), whole=False))
        for entry in stored.files():
            assert hashlib.sha256(stored.open(entry).read() or b"").digest() == stored.hashes[stored.numbers[entry]]
        astray = lines.tree(partial(open_tree, other, PackedFormat.TAR, Stop(), whole=False))
        with pytest.raises(DamagedError, match="it is another file than it was"):
            astray.open(entry).read()


LINES = TEXT[TreeLevel.FULL].splitlines(keepends=True)
SU = next(line for line in LINES if line.startswith("/bin/su "))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "packed-tree 2 full\n/ d 0755 0:0\n",
        "packed-tree 1 full\n",
        "packed-tree 1 full\n/bin d 0755 0:0\n",
        "packed-tree 1 full\n/ f 0755 0:0 0 sha256:" + "0" * 64,
        *("".join((*LINES, line)) for line in ("x\n", LINES[1], LINES[-1], "/zz/a d 0755 0:0\n", "/zz d 0:0\n")),
        *("".join((*LINES, line)) for line in ("/zz f 0644 0:0 1\n", "/zz l 0:0\n", "/zz c 0666 0:0\n")),
        *("".join((*LINES, line)) for line in ("/zz f link=/none\n", "/zz f link=/bin\n", "/zz l link=/bin/su\n")),
        *("".join((*LINES, line)) for line in ("/zz d 0755 9999999999:0\n", "/.. d 0755 0:0\n")),
        *("".join((*LINES, line)) for line in ("/zz d 0755 9999999999:0\n", "/.. d 0755 0:0\n", "/zz d\xff\n")),
        *("".join((*LINES, f"/{path} d 0755 0:0\n")) for path in ("null/x", "z" * 300, "z\\x00")),
        "".join(line for line in LINES if line != SU),
        "".join(sorted(LINES, reverse=True)),
    ],
)
def test_what_are_no_lines_of_a_tree(text: str, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ContentsError) as raised:
        read_lines(path)
    assert str(path) in raised.value.message


def test_a_text_without_an_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "MOST_TEXT", 100)
    with pytest.raises(ContentsError, match="more than 100 bytes"):
        read_lines(Path("/dev/zero"))


def test_a_text_that_is_longer_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXT[TreeLevel.FULL].splitlines(keepends=True)
    monkeypatch.setattr(digest, "MOST_TEXT", len(TEXT[TreeLevel.FULL]))
    one = TreeLines.made(text)
    monkeypatch.setattr(digest, "MOST_TEXT", len(TEXT[TreeLevel.FULL]) - 1)
    with pytest.raises(ContentsError, match="longer than"):
        TreeLines.made(text)
    with pytest.raises(ContentsError):
        one.tree()


def test_what_was_stored_is_given_for_the_file_that_it_is_of(cache: Path) -> None:
    store, one = TreeStore(cache), made(cache)
    assert store.right(cache / NAME) is None
    store.keep(NAME, "a" * 64, one)
    assert store.right(cache / NAME) == TreeStore(cache).right(cache / NAME) == one
    # In the trash, and back.
    (cache / NAME).rename(cache / "elsewhere")
    assert store.right(cache / NAME) is None
    (cache / "elsewhere").rename(cache / NAME)
    assert store.right(cache / NAME) == one


def test_what_was_just_imported_has_its_lines_of_whoever_packed_it(cache: Path) -> None:
    told = TreeLines.made(TEXT[TreeLevel.FULL].splitlines(keepends=True))
    assert told.content == made(cache).content
    keep_lines(cache, cache / NAME, told)
    assert TreeStore(cache).right(cache / NAME) == told
    shutil.rmtree(cache / ".ocitui" / "lines")
    (cache / NAME).write_bytes(b"")
    keep_lines(cache, cache / NAME, told)
    (cache / ".ocitui" / "lines").write_bytes(b"")
    known(cache)
    keep_lines(cache, cache / NAME, told)
    assert TreeStore(cache).right(cache / NAME) is None


@pytest.mark.parametrize("change", ["written", "copied", "damaged", "repacked", "a link"])
def test_never_for_one_that_changed(change: str, cache: Path) -> None:
    store, path = TreeStore(cache), cache / NAME
    store.keep(NAME, "a" * 64, made(cache))
    if change == "written":
        path.write_bytes(path.read_bytes() + bytes(512))
    elif change == "copied":
        shutil.copy2(path, cache / "copy")
        (cache / "copy").replace(path)
    elif change == "damaged":
        ledger = Ledger.open(cache)
        ledger.note_damage(NAME, os.stat(path), "packed-damaged", "seen")
        ledger.flush()
    elif change == "repacked":
        known(cache, "b" * 64)
    else:
        path.symlink_to(path.rename(cache / "elsewhere"))
    assert TreeStore(cache).right(path) is None
    if change == "copied":
        # Once a deep check has seen that it is the same.
        known(cache)
        assert TreeStore(cache).right(path) is not None


def test_what_is_damaged_or_cut_is_as_if_it_were_not_there(cache: Path) -> None:
    store = TreeStore(cache)
    store.keep(NAME, "a" * 64, made(cache))
    stored = cache / ".ocitui" / "lines" / NAME
    whole = stored.read_bytes()
    for at in range(0, len(whole), 7):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            stored.write_bytes(data)
            assert store.right(cache / NAME) is None
    stored.unlink()
    stored.symlink_to("/dev/zero")
    assert store.right(cache / NAME) is None


def test_the_lines_of_files_that_are_gone_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "MOST_KEPT", 4)
    store, kept = TreeStore(cache), cache / ".ocitui" / "lines"
    for name in ("gone", NAME, "there"):
        store.keep(name, "a" * 64, ONE)
    (cache / "there").touch()
    store.keep("new", "a" * 64, ONE)
    assert {path.name for path in kept.iterdir()} - {"lines.lock"} == {NAME, "there", "new"}
    (cache / "new").touch()
    store.keep("more", "a" * 64, ONE)
    assert store.full
    assert not (kept / "more").exists()


def test_bytes_are_bounded_too(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "MOST_KEPT_BYTES", 2000)
    store = TreeStore(cache)
    (cache / "one").touch()
    store.keep("one", "a" * 64, TreeLines(bytes(1500), ""))
    store.keep("two", "a" * 64, TreeLines(bytes(1500), ""))
    assert store.full
    assert {path.name for path in (cache / ".ocitui" / "lines").iterdir()} == {"lines.lock", "one"}
