"""A path that is looked up by the directories on its way, against the listing of the whole tree."""

from __future__ import annotations

import random
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import PackedFormat
from ocitui.contents import ROOT, ContentsError, PackedTree, open_tree
from ocitui.contents import squashfs as squashfs_module
from ocitui.contents import tree as tree_module
from ocitui.contents.tree import Inode
from ocitui.threads import AbandonedError, Stop
from tests.tools import need

from .squashfs_maker import DIRECTORY, FILE, Member, directory, file, listing, made
from .trees_support import PACKED, random_root, told, unpacked_fixture

FIXTURES = sorted(str(path.relative_to(PACKED))[:-3] for path in PACKED.rglob("*.*.xz"))
PACKERS = {
    PackedFormat.SQUASHFS: "mksquashfs {root} {image}",
    PackedFormat.EROFS: "mkfs.erofs {image} {root}",
    PackedFormat.TAR: "tar -C {root} -cf {image} .",
}
UNREAL = 1 << 63


@contextmanager
def opened(path: Path, *, whole: bool, stop: Stop | None = None) -> Iterator[PackedTree]:
    with open(path, "rb", buffering=0) as packed:
        yield open_tree(packed, PackedFormat(path.suffix[1:]), stop or Stop(), whole=whole)


def answer(tree: PackedTree, path: bytes) -> Any:
    """What a path is, None where it is nothing; "damaged" where that cannot be told or is not to be believed."""
    damage = len(tree.damage)
    try:
        entry = tree.find(path)
        if entry is None:
            return "damaged" if len(tree.damage) > damage else None
        node = tree.node(entry)
        return "damaged" if node.number & UNREAL else (*node, tree.target(entry) if node.mode >> 12 == 0o12 else b"")
    except ContentsError:
        return "damaged"


def compare(path: Path, chance: random.Random) -> str:
    """Look up all paths of a packed file, and some that it has not. Fails where one is told otherwise than in all."""
    try:
        with opened(path, whole=True) as whole:
            expected = {whole.path(entry): answer(whole, whole.path(entry)) for entry in range(len(whole))}
            is_damaged = bool(whole.damage)
            shared = any("place" in text for _, text in whole.damage)
    except ContentsError:
        return refused(path)
    paths = [*expected, *(one + b"!" for one in expected), *(one + b"/x" for one in chance.choices([*expected], k=9))]
    chance.shuffle(paths)
    with opened(path, whole=False) as tree:
        for one in paths:
            found = answer(tree, one)
            assert found in (expected.get(one), "damaged") or shared, one
            assert is_damaged or found == expected.get(one), one
        tree.list_all()
        assert shared or {tree.path(entry) for entry in range(len(tree))} == set(expected)
        assert shared or len(tree) == len(expected)
        assert [tree.path(entry) for entry in tree.walk()] == sorted(
            (tree.path(entry) for entry in range(len(tree))), key=lambda one: one.split(b"/")
        )
    return "damaged" if is_damaged else "sound"


def refused(path: Path) -> str:
    """Where the whole cannot be listed, what is looked up ends too."""
    try:
        with opened(path, whole=False) as tree:
            for one in (b"a", b"a/b/c", b"bin/sh", b"loop/loop/loop", b"dir" + b"/dir" * 20):
                answer(tree, one)
            tree.list_all()
    except ContentsError:
        return "refused"
    raise AssertionError("a look-up reads what a listing refuses")


@pytest.mark.parametrize("name", FIXTURES)
def test_every_path_of_a_fixture_is_what_the_listing_says(name: str, tmp_path: Path) -> None:
    compare(unpacked_fixture(name, tmp_path), random.Random(name))


@pytest.mark.parametrize("seed", range(4))
def test_every_path_of_a_random_tree(seed: int, tmp_path: Path) -> None:
    need("mksquashfs", "mkfs.erofs")
    chance = random.Random(seed)
    root, image = random_root(tmp_path / "root", chance, 254), tmp_path / "image"
    for format in PackedFormat:
        packer = PACKERS[format].format(root=root, image=f"{image}.{format}")
        subprocess.run(packer.split(), check=True, capture_output=True, timeout=60)
        assert compare(tmp_path / f"image.{format}", chance) == "sound"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zoo.gzip.squashfs", "zoo.zstd.squashfs", "zoo.15.erofs", "zoo.1.9.3.lz4.erofs"])
def test_of_a_mutant_a_path_is_as_listed_or_an_error(name: str, tmp_path: Path) -> None:
    path, ends, chance = unpacked_fixture(name, tmp_path), set[str](), random.Random(name)
    image = path.read_bytes()
    begin = struct.unpack_from("<Q", image, 64)[0] if name.endswith("squashfs") else 1152
    for _ in range(60):
        mutant = bytearray(image)
        for _ in range(chance.choice((1, 2, 8))):
            mutant[chance.randrange(begin, min(len(image), begin + 60_000))] ^= 1 << chance.randrange(8)
        path.write_bytes(mutant)
        ends.add(compare(path, chance))
    assert "damaged" in ends


def test_only_the_directories_on_the_way_are_read(tmp_path: Path) -> None:
    need("mksquashfs")
    for number in range(300):
        folder = tmp_path / "root" / f"d{number // 30}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(b"%d" % number)
    packed = tmp_path / "image.squashfs"
    subprocess.run(["mksquashfs", str(tmp_path / "root"), str(packed)], check=True, capture_output=True, timeout=60)
    with opened(packed, whole=False) as tree:
        entry = tree.follow(b"d3/f95")
        assert entry is not None
        assert tree.open(entry).read() == b"95"
        assert [tree.path(one) for one in range(len(tree))] == [b"", b"d3", b"d3/f95"]
        # What is below a directory is all that was asked for, and each entry is there once.
        below = [tree.path(one) for one in tree.walk(tree.parents[entry])]
        assert below == [b"d3", *sorted(b"d3/f%d" % one for one in range(90, 120))]
        assert tree.find(b"d3/f95") == entry
        assert len(tree) == 32
        assert told(tree).keys() == {tree.path(one) for one in range(len(tree))}
        assert len(tree) == 311


def test_a_directory_that_is_asked_for_much_is_listed(tmp_path: Path) -> None:
    """A path may have thousands of parts, by links too: no directory is gone through for each."""
    names = [b"%04d" % number for number in range(500)]
    path = tmp_path / "image.squashfs"
    path.write_bytes(made(*(Member(name, FILE, file(number, 0)) for number, name in enumerate(names, 2))))
    with opened(path, whole=False) as tree:
        for name in names:
            assert tree.find(name) is not None
        assert tree.find(b"x") is None
        assert len(tree) == 501
        assert tree.reader.listed < 12 * 500 * 30  # type: ignore[attr-defined]


def test_a_look_up_keeps_the_bounds_of_a_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.squashfs"
    path.write_bytes(made(*(Member(b"%04d" % n, FILE, file(n, 0)) for n in range(2, 502))))
    monkeypatch.setattr(tree_module, "MOST_LISTED", 1000)
    with opened(path, whole=False) as tree, pytest.raises(ContentsError, match="it lists more than is read here"):
        tree.find(b"0300")


def test_what_is_walked_through_is_unpacked_as_seldom_as_what_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inodes stand in no order of names: an image that is listed is not too much to be extracted."""
    monkeypatch.setattr(squashfs_module, "_KEPT", 2)
    order = [number * 251 % 2000 for number in range(2000)]
    places = [divmod(32 + 32 * number, 8192) for number in order]
    named = zip(order, places, strict=True)
    path = tmp_path / "image.squashfs"
    path.write_bytes(
        made(
            *(
                Member(b"%04d" % at, FILE, file(at + 2, 0), number + 2, block * 8194 << 16 | offset)
                for at, (number, (block, offset)) in enumerate(named)
            )
        )
    )
    unpacked = list[int]()
    for is_whole in (True, False):
        with opened(path, whole=is_whole) as tree:
            assert (len([*tree.walk()]), tree.damage) == (2001, [])
            unpacked.append(tree.reader._unpacked)  # type: ignore[attr-defined]
    assert unpacked[0] == unpacked[1] < 30


def test_a_directory_within_itself_is_none(tmp_path: Path) -> None:
    own = listing([(b"a", DIRECTORY, 1, 0)])
    path = tmp_path / "image.squashfs"
    path.write_bytes(made(Member(b"a", DIRECTORY, directory(1, len(own)), 1, 0)))
    with opened(path, whole=False) as tree:
        assert tree.find(b"a/a/a/a") is None
        assert [text for _, text in tree.damage] == ["it is a directory that has another place"]


def test_a_look_up_ends_when_it_is_to(tmp_path: Path) -> None:
    path, stop = unpacked_fixture("zoo.gzip.squashfs", tmp_path), Stop()
    with opened(path, whole=False, stop=stop) as tree:
        stop.set()
        with pytest.raises(AbandonedError):
            tree.find(b"bin/ping")


def test_the_first_of_many_names_is_found_without_a_path_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of a deep tree are longer together than it is: 20,000 names in the thousandth directory took 12 s."""
    folder = Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 1, 1)
    file, other = folder._replace(mode=stat.S_IFREG, number=2), folder._replace(mode=stat.S_IFREG, number=3)
    tree = PackedTree(None, folder)  # type: ignore[arg-type]
    below = tree.add(ROOT, b"a", folder._replace(number=4))
    inside = tree.add(below, b"c", file)
    beside = tree.add(ROOT, b"a-b", file)
    deep = tree.add(below, b"d", folder._replace(number=5))
    last, first = tree.add(deep, b"z", other), tree.add(deep, b"y", other)
    tree.add(ROOT, b"alone", folder._replace(mode=stat.S_IFREG, number=6))
    monkeypatch.setattr(PackedTree, "path", None)
    assert tree.first_names() == {inside: beside, last: first}
