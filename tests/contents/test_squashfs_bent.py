"""squashfs that was bent on purpose: what is wrong is named, the rest is read, and every bound is kept."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.contents import squashfs
from ocitui.contents import tree as tree_module
from ocitui.contents.digest import TreeLevel, hash_files, tree_digest
from ocitui.contents.squashfs import squashfs_tree
from ocitui.contents.tree import ContentsError, DamagedError, PackedTree, UnreadableFormatError
from ocitui.contents.unpacking import unpack_zlib
from ocitui.threads import AbandonedError, Stop

from .squashfs_maker import (
    DIRECTORY,
    FILE,
    LINK,
    Member,
    directory,
    file,
    head,
    link,
    listing,
    long_file,
    made,
    opened,
    xattr,
)
from .trees_support import PACKED, unpacked_fixture

WORD = 1 << 24
HOSTILE = {
    "block-far": (b"big", "a part of it lies beyond its end"),
    "block-size": (b"big", "its block at byte 96 has an impossible size"),
    "fragment-offset": (b"xx", "its end lies beyond the fragment that holds it"),
    "size-4g": (b"xx", "a part of it lies outside its table"),
    "dir-loop": (b"aa/bb", "its inode is not that of its name"),
    "dir-self": (b"aa/bb", "its inode is not that of its name"),
    "dir-offset": (b"aa", "a part of it lies outside its table"),
    "dir-size": (b"aa", "a part of it lies outside its table"),
    "name-dotdot": (b"aa", "it has a name that none may have"),
    "name-nul": (b"", "it has a name that none may have"),
    "name-twice": (b"", "its listing is damaged"),
    "block-log": (None, "its block size is impossible"),
    "bytes-used": (None, "of 1,125,899,906,842,624 bytes there are 4,096"),
    "cut": (None, "of 1,399 bytes there are 1,299"),
    "id-table-in-data": (None, "its tables are out of order"),
    "ids-64k": (None, "its tables are out of order"),
    "metadata-bomb": (None, "its tables are out of order"),
    "root-file": (None, "its root is no directory"),
    "inodes-4g": (b"", ""),
    "zero-bomb": (b"", ""),
}


def test_there_is_an_answer_to_each_hostile_file() -> None:
    assert {path.name.split(".")[0] for path in PACKED.glob("hostile/*.squashfs.xz")} == set(HOSTILE)


def faults(tree: PackedTree) -> dict[bytes, str]:
    """What is wrong, by paths: told with the tree, or as all is read, of large files some."""
    found = {tree.path(entry): text for entry, text in tree.damage}
    for entry in tree.walk():
        try:
            tree.xattrs(entry)
            if tree.kind(entry) == 0o120000:
                tree.target(entry)
            elif tree.kind(entry) == 0o100000:
                with tree.open(entry) as body:
                    body.read(1 << 22)
        except ContentsError as error:
            found.setdefault(tree.path(entry), str(error))
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gets_a_clear_word(name: str, tmp_path: Path) -> None:
    path, text = HOSTILE[name]
    image = unpacked_fixture(f"hostile/{name}.squashfs", tmp_path)
    if path is None:
        with pytest.raises(DamagedError, match=text), opened(image):
            pass
        return
    with opened(image) as tree:
        found = faults(tree)
    assert set(found) == ({path} if text else set())
    assert text in found.get(path, "")


@pytest.mark.parametrize("name", ["block-far", "block-size", "fragment-offset", "size-4g"])
def test_the_digest_of_a_hostile_file_gets_the_same_word(name: str, tmp_path: Path) -> None:
    image = unpacked_fixture(f"hostile/{name}.squashfs", tmp_path)
    with opened(image) as tree, pytest.raises(DamagedError, match=HOSTILE[name][1]):
        tree_digest(tree, TreeLevel.CONTENT, Stop())


def test_a_block_of_metadata_that_grows_is_not_unpacked(tmp_path: Path) -> None:
    image = bytearray(unpacked_fixture("hostile/metadata-bomb.squashfs", tmp_path).read_bytes())
    (at,) = struct.unpack_from("<Q", image, struct.unpack_from("<Q", image, 48)[0])
    (size,) = struct.unpack_from("<H", image, at)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError, match="cannot be unpacked"):
            unpack_zlib(bytes(image[at + 2 : at + 2 + size]), 8192)
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_bomb_of_holes_is_listed_at_once_and_read_anywhere_in_little_memory(tmp_path: Path) -> None:
    image = unpacked_fixture("hostile/zero-bomb.squashfs", tmp_path)
    tracemalloc.start()
    try:
        with opened(image) as tree:
            (entry,) = (entry for entry in range(len(tree)) if tree.kind(entry) == 0o100000)
            assert tree.sizes[entry] == 1 << 40
            assert tree.reader._unpacked < 5  # type: ignore[attr-defined]
            with tree.open(entry) as body:
                for at in ((1 << 40) - 10, 1 << 39, 5):
                    body.seek(at)
                    assert body.read(10) == bytes(10)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_made_image_is_sound(read_squashfs: Callable[[bytes], PackedTree], tmp_path: Path) -> None:
    """Else nothing is shown by those that are bent."""
    tree = read_squashfs(
        made(
            Member(b"a", FILE, file(2, 5, 5 | 1 << 24)),
            Member(b"b", LINK, link(3, b"over/there")),
            Member(b"c", FILE, file(4, 3, fragment=0, offset=1)),
            Member(b"d", FILE, long_file(5, 0, xattrs=0)),
            Member(b"e", LINK, head(10, 6) + struct.pack("<2I4sI", 1, 4, b"away", 0)),
            data=b"hello" + b"xabcx",
            fragments=[(101, 5 | 1 << 24)],
            xattrs=(xattr(0, b"n", b"value") + xattr(0x102, b"far", struct.pack("<Q", 5)), [(0, 2)]),
        )
    )
    assert [tree.open(entry).read() for entry in (1, 3, 4)] == [b"hello", b"abc", b""]
    assert tree.target(2) == b"over/there"
    assert tree.target(5) == b"away"
    assert tree.xattrs(4) == tree.xattrs(5) == {b"user.n": b"value", b"security.far": b"value"}
    assert not tree.damage


def test_a_block_is_told_by_its_size_too(read_squashfs: Callable[[bytes], PackedTree]) -> None:
    members = (Member(b"%d" % size, FILE, file(size, size, size | 1 << 24)) for size in (2, 3, 4))
    tree = read_squashfs(made(*members, data=b"hello"))
    assert [tree.open(entry).read() for entry in (1, 2, 3)] == [b"he", b"hel", b"hell"]


def test_little_is_kept_once_all_is_read(read_squashfs: Callable[[bytes], PackedTree]) -> None:
    links = (Member(b"%03d" % n, LINK, link(n, b"%d" % n * 1000)) for n in range(2, 302))
    files = (Member(b"%03d" % n, FILE, file(n, 1, fragment=n - 302)) for n in range(302, 332))
    tree = read_squashfs(made(*links, *files, data=bytes(range(30)), fragments=[(96 + n, 1 | WORD) for n in range(30)]))
    assert faults(tree) == {}
    assert [tree.open(entry).read() for entry in range(301, 331)] == [bytes((n,)) for n in range(30)]
    reader = tree.reader
    assert isinstance(reader, squashfs._Squashfs)
    assert len(reader._blocks) == 64
    assert len(reader._last_fragments) == 8


def test_the_type_is_that_of_the_inode_and_not_of_its_mode(read_squashfs: Callable[[bytes], PackedTree]) -> None:
    inode = bytearray(file(2, 0))
    struct.pack_into("<H", inode, 2, 0o124755)
    assert read_squashfs(of(bytes(inode))).modes[1] == 0o104755


def of(inode: bytes, form: int = FILE, **more: Any) -> bytes:
    return made(Member(b"a", form, inode), **more)


BENT: dict[str, tuple[bytes, bytes, str]] = {
    "a directory within itself": (
        made(Member(b"a", DIRECTORY, b"", 1, 0)),
        b"a",
        "a directory that has another place",
    ),
    "two names of a directory": (
        made(Member(b"a", DIRECTORY, directory(2, 0)), Member(b"b", DIRECTORY, b"", 2, 32)),
        b"b",
        "a directory that has another place",
    ),
    "a file that is told to be a link": (of(file(2, 0), LINK), b"a", "not that of its name"),
    "another number": (made(Member(b"a", FILE, file(2, 0), 3)), b"a", "not that of its name"),
    "an inode of no type": (of(head(15, 2)), b"a", "of an impossible type"),
    "an inode beyond its table": (made(Member(b"a", FILE, b"", 2, 1 << 36)), b"a", "outside its table"),
    "an inode beyond its block": (made(Member(b"a", FILE, b"", 2, 60_000)), b"a", "beyond its block"),
    "an inode cut": (of(head(2, 2)), b"a", "outside its table"),
    "an owner beyond the table": (of(b"\2\0\0\0\1\0" + file(2, 0)[6:]), b"a", "beyond its table"),
    "a name of no type": (made(listed=listing([(b"a", 8, 2, 32)])), b"", "its listing is damaged"),
    "a name of 256 bytes": (
        made(Member(b"a" * 256, FILE, file(2, 0))),
        b"",
        "a name that none may have",
    ),
    "a name twice": (
        made(Member(b"a", FILE, file(2, 0)), Member(b"a", FILE, file(3, 0))),
        b"",
        "its listing is damaged",
    ),
    "a name with a slash": (made(Member(b"a/b", FILE, file(2, 0))), b"", "a name that none may have"),
    "a part of a listing with too many names": (
        made(listed=listing([(b"a", FILE, 2, 32)], 256)),
        b"",
        "its listing is damaged",
    ),
    "a listing of 4 GB": (
        made(Member(b"a", DIRECTORY, head(8, 2) + struct.pack("<4IHHI", 1, 0xFFFFFFFF, 0, 1, 0, 0, 0xFFFFFFFF))),
        b"a",
        "its listing claims",
    ),
    "a listing that ends in a name": (made(listed=listing([(b"abc", FILE, 2, 32)])[:-2]), b"", "its listing is"),
    "a listing that ends in a header": (made(listed=bytes(5)), b"", "its listing is cut"),
    "a link of 100 KB": (of(link(2, b"", 100_000), LINK), b"a", "too long for a link"),
    "a link that is cut": (of(link(2, b"x", 500), LINK), b"a", "outside its table"),
    "a link with a zero byte": (of(link(2, b"x\0y"), LINK), b"a", "where it leads is damaged"),
    "a file of 2^63 bytes": (of(long_file(2, 1 << 63)), b"a", "more blocks than a file has"),
    "a block with an unknown flag": (of(file(2, 5, 5 | WORD | 1 << 25), data=b"hello"), b"a", "an impossible size"),
    "a block of no bytes": (of(file(2, 5, WORD)), b"a", "an impossible size"),
    "a block that is too short": (of(file(2, 5, 4 | WORD), data=b"hello"), b"a", "it holds 4 bytes"),
    "a block that is too long": (of(file(2, 5, 6 | WORD), data=b"hello!"), b"a", "it holds 6 bytes"),
    "a fragment of none": (of(file(2, 5, fragment=0)), b"a", "its end is nowhere"),
    "a fragment beyond the table": (
        of(file(2, 5, fragment=1), fragments=[(96, 5 | WORD)]),
        b"a",
        "beyond its table",
    ),
    "a list of blocks that is cut": (of(file(2, 1 << 20, 0)), b"a", "outside its table"),
    "attributes that are nowhere": (of(long_file(2, 0, xattrs=0)), b"a", "which are nowhere"),
    "attributes beyond their table": (
        of(long_file(2, 0, xattrs=1), xattrs=(xattr(0, b"n", b"v"), [(0, 1)])),
        b"a",
        "beyond its table",
    ),
    "too many attributes": (
        of(long_file(2, 0, xattrs=0), xattrs=(xattr(0, b"n", b"v"), [(0, 5000)])),
        b"a",
        "claims 5,000 extended attributes",
    ),
    "more attributes than there are": (
        of(long_file(2, 0, xattrs=0), xattrs=(xattr(0, b"n", b"v"), [(0, 2)])),
        b"a",
        "outside its table",
    ),
    "an attribute twice": (
        of(long_file(2, 0, xattrs=0), xattrs=(xattr(0, b"n", b"v") * 2, [(0, 2)])),
        b"a",
        "attributes are damaged",
    ),
    "an attribute of an unknown kind": (
        of(long_file(2, 0, xattrs=0), xattrs=(xattr(7, b"n", b"v"), [(0, 1)])),
        b"a",
        "attribute of kind 7",
    ),
    "an attribute with an unknown flag": (
        of(long_file(2, 0, xattrs=0), xattrs=(xattr(0x200, b"n", b"v"), [(0, 1)])),
        b"a",
        "attribute of kind 512",
    ),
    "an attribute without a name": (
        of(long_file(2, 0, xattrs=0), xattrs=(xattr(0, b"", b"v"), [(0, 1)])),
        b"a",
        "attributes are damaged",
    ),
    "a value of 100 KB": (
        of(long_file(2, 0, xattrs=0), xattrs=(xattr(0, b"n", b"v", 100_000), [(0, 1)])),
        b"a",
        "attributes are damaged",
    ),
    "a value elsewhere that is no place": (
        of(long_file(2, 0, xattrs=0), xattrs=(xattr(0x100, b"n", b"1234567"), [(0, 1)])),
        b"a",
        "attributes are damaged",
    ),
    "values of 2 MB": (
        of(
            long_file(2, 0, xattrs=0),
            xattrs=(
                struct.pack("<I", 65536)
                + bytes(65536)
                + b"".join(xattr(0x100, b"n%d" % number, bytes(8)) for number in range(32)),
                [(8 * 8194 << 16 | 4, 32)],
            ),
        ),
        b"a",
        "attributes take more than is read here",
    ),
}


@pytest.mark.parametrize("case", BENT)
def test_what_is_bent_is_named_and_the_rest_is_read(case: str, read_squashfs: Callable[[bytes], PackedTree]) -> None:
    image, path, text = BENT[case]
    found = faults(read_squashfs(image))
    assert set(found) == {path}
    assert text in found[path]


@pytest.mark.parametrize(
    ("bent", "error", "text"),
    [
        ({"magic": b"sqsh"}, UnreadableFormatError, "big endian"),
        ({"magic": b"sqfs"}, DamagedError, "does not begin"),
        ({"major": 3, "minor": 1}, UnreadableFormatError, r"squashfs 3\.1"),
        ({"compressor": 9}, UnreadableFormatError, "compressor 9"),
        ({"block_size": 1 << 21, "block_log": 21}, DamagedError, "block size"),
        ({"ids": 0}, DamagedError, "beyond its table"),
        ({"inodes_at": 0}, DamagedError, "out of order"),
        ({"listings_at": 96}, DamagedError, "out of order"),
        ({"listings_at": 1 << 40}, DamagedError, "out of order"),
        ({"ids_at": 96}, DamagedError, "out of order"),
        ({"fragment_count": 5}, DamagedError, "out of order"),
        ({"xattrs_at": 1 << 40}, DamagedError, "beyond its end"),
        ({"root": 5 << 32}, DamagedError, "outside its table"),
        ({"root": 8000}, DamagedError, "beyond its block"),
    ],
)
def test_a_bent_superblock_is_refused(
    bent: dict[str, Any], error: type[ContentsError], text: str, read_squashfs: Callable[[bytes], PackedTree]
) -> None:
    with pytest.raises(error, match=text):
        read_squashfs(made(Member(b"a", FILE, file(2, 0)), **bent))


@pytest.mark.parametrize("size", [0, 8193, 0x7FFF])
def test_a_block_of_metadata_of_an_impossible_size_is_refused(
    size: int, read_squashfs: Callable[[bytes], PackedTree]
) -> None:
    image = bytearray(made(*(Member(b"%07d" % n, FILE, b"", 2, 32) for n in range(1600))))
    struct.pack_into("<H", image, 96, 0x8000 | size)
    with pytest.raises(DamagedError, match="impossible size"):
        read_squashfs(bytes(image))


@pytest.mark.parametrize("content", [b"", b"hsqs", bytes(96), b"hsqs" * 1000])
def test_what_is_no_squashfs_is_refused(content: bytes, read_squashfs: Callable[[bytes], PackedTree]) -> None:
    with pytest.raises(ContentsError):
        read_squashfs(content)


def hard_links(count: int) -> bytes:
    """Of one file."""
    return made(Member(b"!", FILE, file(2, 0)), *(Member(b"%07d" % n, FILE, b"", 2, 32) for n in range(count)))


@pytest.mark.parametrize(
    ("bound", "value", "kind", "image"),
    [
        ("MOST_ENTRIES", 500, UnreadableFormatError, hard_links(1000)),
        ("MOST_LISTED", 1000, UnreadableFormatError, hard_links(1000)),
        ("_MOST_UNPACKED", 3, UnreadableFormatError, hard_links(1000)),
        ("MOST_DAMAGE", 300, DamagedError, made(*(Member(b"%07d" % n, FILE, b"", 2, 1 << 40) for n in range(1000)))),
    ],
)
def test_a_listing_keeps_its_bounds(
    bound: str,
    value: int,
    kind: type[ContentsError],
    image: bytes,
    read_squashfs: Callable[[bytes], PackedTree],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_squashfs(hard_links(5))
    monkeypatch.setattr(squashfs if bound.startswith("_") else tree_module, bound, value)
    with pytest.raises(kind, match="more than"):
        read_squashfs(image)


def test_a_listing_ends_when_it_is_to(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(hard_links(1000))
    stop = Stop()
    stop.set()
    with open(path, "rb", buffering=0) as packed, pytest.raises(AbandonedError):
        squashfs_tree(packed, stop)


def test_a_file_that_begins_beyond_any_place_is_damage_where_it_is_hashed(
    read_squashfs: Callable[[bytes], PackedTree],
) -> None:
    """Where it lies is more than a number of the order in which files are read holds."""
    tree = read_squashfs(made(Member(b"a", FILE, long_file(2, 5, 5 | 1 << 24, start=(1 << 64) - 1))))
    with pytest.raises(DamagedError):
        hash_files(tree, lambda entry, hash: None, Stop())
