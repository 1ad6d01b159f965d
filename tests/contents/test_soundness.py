"""Packed files read through: what is damaged is found, with the files it hits; what is sound is never called damaged,
nor what is not read here; and trees held against each other, and against the program that an image is to run."""

from __future__ import annotations

import os
import random
import stat
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import PackedFormat
from ocitui.contents import TreeLines, open_tree, soundness, unlike
from ocitui.contents.erofs import ErofsReader
from ocitui.contents.soundness import ReadThrough, has_program, read_through
from ocitui.contents.squashfs import _Squashfs
from ocitui.contents.tree import Inode, PackedTree, UnreadableFormatError
from ocitui.threads import AbandonedError, Stop
from tests.contents.trees_support import PACKED, Clock, skipped_of, unpacked_fixture
from tests.importing.sources import pack

FORMATS = {f".{format_}": format_ for format_ in PackedFormat}
FIXTURES = sorted(path.relative_to(PACKED).with_suffix("").as_posix() for path in PACKED.rglob("*.xz"))
UNREAD = {
    "zoo.1.9.3.48bit.erofs": "a body has encoded extents: '/",
    "zoo.1.9.3.metabox.erofs": "it has a metadata box",
    "zoo.lzo.squashfs": "it is compressed with lzo, which is not read here",
}


def read(path: Path, stop: Stop | None = None) -> ReadThrough:
    with open(path, "rb", buffering=0) as file:
        return read_through(file, FORMATS[path.suffix], stop or Stop())


@pytest.fixture(scope="module")
def odd_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with what makes listings hard to read."""
    root = tmp_path_factory.mktemp("odd") / "root"
    (root / "deep" / "er").mkdir(parents=True)
    names = [
        b"plain",
        b"with space",
        b"line\nbreak",
        b"-option",
        b"arrow -> x",
        b"\xff\xfe",
        b"deep/er/[a]*?",
        b"n" * 200,
    ]
    for name in names:
        (root / os.fsdecode(name)).write_bytes(name * 3)
    os.link(root / "plain", root / "twin")
    (root / "link").symlink_to("plain -> twice")
    (root / "away").symlink_to("/deep/er")
    (root / "long-link").symlink_to("x" * 3000)
    os.mkfifo(root / "pipe")
    with open(root / "sparse", "wb") as sparse:
        sparse.truncate(1 << 24)
    for number in range(2000):
        (root / "deep" / f"entry-{number:05}").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def packed(odd_root: Path) -> dict[PackedFormat, Path]:
    return {format_: pack(format_, odd_root, odd_root.parent / f"image.{format_}") for format_ in PackedFormat}


@pytest.mark.slow
@pytest.mark.parametrize("format", PackedFormat)
@pytest.mark.parametrize("other", PackedFormat)
def test_formats_of_one_root_are_sound_and_alike(
    format: PackedFormat, other: PackedFormat, packed: dict[PackedFormat, Path]
) -> None:
    found = []
    for one in (format, other):
        with open(packed[one], "rb", buffering=0) as file:
            through = read_through(file, one, Stop())
            assert (through.problem, through.unchecked, through.hashed) == ("", "", True)
            assert through.tree is not None
            found.append(TreeLines.of(through.tree, Stop()))
    assert unlike(found[0], found[1], Stop()) == []


@pytest.mark.parametrize("name", [name for name in FIXTURES if name.startswith("zoo")])
def test_what_is_sound_is_never_called_damaged(name: str, tmp_path: Path) -> None:
    through = read(unpacked_fixture(name, tmp_path))
    assert through.problem == ""
    assert through.unchecked.startswith(UNREAD.get(name, ""))
    assert bool(through.unchecked) == (name in UNREAD)
    assert (through.tree is None) == (name in UNREAD and "48bit" not in name)


@pytest.mark.parametrize("name", [name for name in FIXTURES if name.startswith("hostile") and "zero-bomb" not in name])
def test_hostile_files_are_told(name: str, tmp_path: Path) -> None:
    through = read(unpacked_fixture(name, tmp_path))
    valid = {"twice.tar", "link-later.tar", "inodes-4g.squashfs"}
    assert bool(through.problem or through.unchecked) == (Path(name).name not in valid)
    assert len(through.problem) < 1000


Node = tuple[int, int | bytes]


def tree_of(nodes: Mapping[bytes, Node]) -> PackedTree:
    """Of types, and the sizes of files or targets of links, by paths of which each stands behind its directory's."""

    class Links:
        xattrs = read = after_hole = None

        def target(self, reference: int) -> bytes:
            target = [*nodes.values()][reference - 1][1]
            assert isinstance(target, bytes)
            return target

    tree = PackedTree(Links(), Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 0))  # type: ignore[arg-type]
    for number, (path, (kind, more)) in enumerate(nodes.items(), 1):
        folder, _, name = path.rpartition(b"/")
        size = more if isinstance(more, int) else len(more)
        parent = tree.find(folder)
        assert parent is not None
        tree.add(parent, name, Inode(kind | 0o755, 0, 0, size, 0, number, number))
    return tree


FILE: Node = (stat.S_IFREG, 1)
FOLDER: Node = (stat.S_IFDIR, 0)


def link(target: bytes) -> Node:
    return stat.S_IFLNK, target


@pytest.mark.parametrize(
    ("path", "there"),
    [
        (b"/bin/sh", True),
        (b"/bin/../bin/./sh", True),
        (b"/bin/none", False),
        (b"/bin/sh/below", False),
        (b"/usr/bin/sh", True),
        (b"/sbin/sh", True),
        (b"/bin/up", True),
        (b"/bin/gone", False),
        (b"/../bin/sh", True),
        (b"/loop", None),
        (b"/proc/self/exe", None),
        (b"/run", None),
        (b"/bin/run", False),
        (b"/bin/dev", None),
        (b"/bin/../dev/fd", None),
    ],
)
def test_a_program_in_a_tree(path: bytes, there: bool | None) -> None:
    tree = tree_of(
        {
            b"bin": FOLDER,
            b"bin/sh": FILE,
            b"bin/up": link(b"../../../bin/sh"),
            b"bin/gone": link(b"nowhere"),
            b"bin/dev": link(b"/dev/fd/3"),
            b"usr": FOLDER,
            b"usr/bin": link(b"../bin"),
            b"sbin": link(b"/usr/bin"),
            b"loop": link(b"loop"),
        }
    )
    assert has_program(tree, path) is there


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A squashfs in gzip: two files of blocks of their own, one with two names, and small ones that share a block."""
    root = tmp_path_factory.mktemp("texts") / "root"
    (root / "many").mkdir(parents=True)
    chance = random.Random(1)
    for name in ("large", "other"):
        (root / name).write_text(" ".join(str(chance.getrandbits(32)) for _ in range(40_000))[: 3 << 17])
    os.link(root / "large", root / "twin\n")
    for number in range(10):
        (root / "many" / f"{number}").write_text(" ".join(str(chance.getrandbits(32)) for _ in range(100)))
    return pack("squashfs", root, root.parent / "image.squashfs")


@pytest.mark.slow
def test_a_flipped_byte_is_found_with_the_files_it_hits(texts: Path, tmp_path: Path) -> None:
    content, bent = texts.read_bytes(), tmp_path / "bent.squashfs"
    chance, (inodes,) = random.Random(2), struct.unpack_from("<Q", content, 64)
    found = set()
    for _ in range(60):
        flipped = bytearray(content)
        flipped[at := chance.randrange(100, inodes)] ^= 1 << chance.randrange(8)
        bent.write_bytes(flipped)
        through = read(bent)
        # One bit of a stream may mean nothing.
        if not through.problem:
            continue
        assert through.tree is not None
        what, _, files = through.problem.partition("; it hits ")
        assert what.startswith("its block at byte ")
        assert int(what.split()[4].replace(",", "")) <= at
        found.add(files)
    assert found == {
        r"'/large', '/twin\n'",
        "'/other'",
        "'/many/0', '/many/1', '/many/2' and 7 more",
    }


def test_the_names_before_damage_are_no_tree_to_compare_with(texts: Path, tmp_path: Path) -> None:
    content, bent = bytearray(texts.read_bytes()), tmp_path / "bent.squashfs"
    (inodes,) = struct.unpack_from("<Q", content, 64)
    content[inodes + 20 : inodes + 36] = bytes(16)
    bent.write_bytes(content)
    through = read(bent)
    assert through.tree is None
    assert "is damaged" in through.problem


def test_each_inode_is_read_once_in_the_order_in_which_they_lie(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, really = list[tuple[int, int]](), _Squashfs.read

    def watched(self: _Squashfs, reference: int, at: int, size: int) -> bytes:
        asked.append((reference, at))
        return really(self, reference, at, size)

    monkeypatch.setattr(_Squashfs, "read", watched)
    assert read(texts).problem == ""
    assert len(asked) == len(set(asked)) == 12
    with open(texts, "rb", buffering=0) as file:
        tree = open_tree(file, PackedFormat.SQUASHFS, Stop())
        assert [reference for reference, _ in asked] == [tree.references[entry] for entry in tree.files()]


def test_what_is_not_read_here_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is met in a body, among names or in the attributes."""
    path = unpacked_fixture("zoo.15.erofs", tmp_path)

    def unread(*_: object) -> bytes:
        raise UnreadableFormatError("it is of tomorrow")

    for method, is_whole in (("body", False), ("_read_node", None), ("xattrs", True), ("read", True)):
        with monkeypatch.context() as patch:
            patch.setattr(ErofsReader, method, unread)
            through = read(path)
        assert through.problem == ""
        assert through.unchecked.startswith("it is of tomorrow")
        assert bool(through.tree) == bool(is_whole)


@pytest.mark.parametrize("name", [name for name in FIXTURES if name.startswith("zoo") and name not in UNREAD])
def test_holes_are_nothing_but_zeros(name: str, tmp_path: Path) -> None:
    path = unpacked_fixture(name, tmp_path)
    with open(path, "rb", buffering=0) as file:
        skipped = skipped_of(open_tree(file, FORMATS[path.suffix], Stop()))
    assert (skipped > 100_000) == (name.endswith(".squashfs") or "chunk" in name)


@pytest.mark.slow
def test_holes_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terabyte of them is a valid file. Here few are more than what is hashed of holes."""
    monkeypatch.setattr(soundness, "_MOST_HOLES", 64 << 20)
    bomb = unpacked_fixture("hostile/zero-bomb.squashfs", tmp_path)
    monkeypatch.delattr(_Squashfs, "read")
    through = read(bomb)
    assert through[1:] == ("", "", False)
    assert through.tree is not None
    assert through.tree.hashes == {}, "it is not all zeros that are hashed"


def test_the_time_is_bounded(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a minute, and for a large file to its size at 4 MiB a second; it is no fault of the file."""
    monkeypatch.setattr(soundness, "time", clock := Clock(0.1))
    assert read(texts)[1:] == ("", "", True)
    looks = round(clock.now * 10)
    monkeypatch.setattr(soundness, "time", Clock(100 / looks))
    through = read(texts)
    assert through[1:] == ("", "it took too long, and was ended", False)
    assert through.tree is not None
    large = tmp_path / "large.squashfs"
    large.write_bytes(texts.read_bytes())
    os.truncate(large, 101 * (4 << 20))
    monkeypatch.setattr(soundness, "time", Clock(100 / looks))
    assert read(large)[1:] == ("", "", True)


def test_it_ends_when_it_is_told_to(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, really = Stop(), _Squashfs.read

    def last(self: _Squashfs, reference: int, at: int, size: int) -> bytes:
        assert not stop.is_set()
        stop.set()
        return really(self, reference, at, size)

    monkeypatch.setattr(_Squashfs, "read", last)
    with pytest.raises(AbandonedError):
        read(texts, stop)


@given(data=st.data())
@pytest.mark.parametrize("format", PackedFormat)
def test_bent_bytes_are_never_an_error_of_ours(
    format: PackedFormat, data: st.DataObject, texts: Path, packed: dict[PackedFormat, Path]
) -> None:
    content = bytearray((texts if format is PackedFormat.SQUASHFS else packed[format]).read_bytes()[: 1 << 18])
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = texts.parent / f"bent.{format}"
    path.write_bytes(content)
    read(path)


@given(content=st.binary(max_size=4000))
@pytest.mark.parametrize("format", PackedFormat)
def test_any_bytes_are_never_an_error_of_ours(format: PackedFormat, content: bytes, texts: Path) -> None:
    path = texts.parent / f"any.{format}"
    path.write_bytes(content)
    through = read(path)
    assert through.problem or through.unchecked
