"""squashfs as it is read here: against recorded trees, the directory that was packed, the kernel, and bent bytes."""

from __future__ import annotations

import random
import struct
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ocitui.contents import squashfs
from ocitui.contents.squashfs import squashfs_tree
from ocitui.contents.tree import ContentsError, DamagedError, PackedTree, UnreadableFormatError
from ocitui.contents.unpacking import Unpack, unpack_lz4, unpack_lzma, unpack_xz, unpack_zlib, unpack_zstd
from ocitui.threads import AbandonedError, Stop
from tests.tools import need, seeds

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
    xattr,
)
from .trees_support import PACKED, mounted, random_root, recorded_tree, sha256_of, told, unpacked_fixture, walked

READ = ("gzip", "lzma", "xz", "lz4", "zstd", "raw")


@contextmanager
def opened(path: Path) -> Iterator[PackedTree]:
    with open(path, "rb", buffering=0) as packed:
        yield squashfs_tree(packed, Stop())


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Callable[[bytes], PackedTree]]:
    """Reads an image of these bytes."""
    path = tmp_path / "image.squashfs"
    with open(path, "w+b", buffering=0) as packed:

        def of(image: bytes) -> PackedTree:
            packed.truncate(0)
            packed.seek(0)
            packed.write(image)
            return squashfs_tree(packed, Stop())

        yield of


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("zoo")
    return lambda compressor: unpacked_fixture(f"zoo.{compressor}.squashfs", folder)


# What real tools made


@pytest.mark.parametrize("compressor", READ)
def test_the_zoo_is_read_as_the_kernel_reads_it(compressor: str, zoo: Callable[[str], Path]) -> None:
    with opened(zoo(compressor)) as tree:
        assert told(tree) == recorded_tree("zoo.json")
        assert not tree.damage


@pytest.mark.parametrize("compressor", READ)
def test_a_body_is_the_same_from_any_place_on(compressor: str, zoo: Callable[[str], Path]) -> None:
    chance = random.Random(compressor)
    with opened(zoo(compressor)) as tree:
        for entry in tree.walk():
            if tree.kind(entry) != 0o100000 or not tree.path(entry).startswith((b"data/", b"etc/", b"bin/")):
                continue
            with tree.open(entry) as body:
                whole = body.read(tree.sizes[entry])
                assert body.read(1) == b""
                for _ in range(30):
                    at, size = chance.randrange(len(whole) + 10), chance.choice((1, 10, 5000, 140_000))
                    body.seek(at)
                    assert body.read(size) == whole[at : at + size]


def test_files_read_by_their_places_have_each_block_unpacked_once(
    zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[int] = []
    really = squashfs._Squashfs._unpacked_data

    def noted(image: squashfs._Squashfs, at: int, word: int) -> bytes:
        unpacked.append(at)
        return really(image, at, word)

    monkeypatch.setattr(squashfs._Squashfs, "_unpacked_data", noted)
    with opened(zoo("gzip")) as tree:
        reader = tree.reader
        assert isinstance(reader, squashfs._Squashfs)
        files = {tree.references[entry]: entry for entry in range(len(tree)) if tree.kind(entry) == 0o100000}
        for reference in sorted(files, key=reader.place):
            with tree.open(files[reference]) as body:
                sha256_of(body)
    # dup1 and exact2 have the same blocks, and files between them.
    assert len(unpacked) <= len(set(unpacked)) + 4


def test_lzo_is_refused_by_name(zoo: Callable[[str], Path]) -> None:
    with pytest.raises(UnreadableFormatError, match="compressed with lzo"), opened(zoo("lzo")):
        pass


OPTIONS = (
    "-comp gzip -b 4096",
    "-comp gzip -Xcompression-level 1 -Xwindow-size 9 -b 1M",
    "-comp xz -Xbcj x86,arm",
    "-comp xz -b 1M -always-use-fragments",
    "-comp lzma -b 65536",
    "-comp zstd -Xcompression-level 3",
    "-comp zstd -b 1M -Xcompression-level 22",
    "-comp lz4",
    "-comp lz4 -Xhc -b 8192 -no-fragments",
    "-comp gzip -noI -noX",
    "-comp xz -noD -noF -noId",
    "-comp gzip -no-exports -no-duplicates -no-sparse -nopad",
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(len(OPTIONS), 200))
def test_a_random_tree_is_read_as_it_was_packed(seed: int, tmp_path: Path) -> None:
    need("mksquashfs")
    options = OPTIONS[seed % len(OPTIONS)].split()
    root, image = random_root(tmp_path / "root", random.Random(seed)), tmp_path / "image"
    subprocess.run(["mksquashfs", root, image, "-quiet", "-no-progress", *options], check=True, timeout=120)
    with opened(image) as tree, mounted(image, "squashfs") as there:
        assert told(tree) == walked(root)
        assert not tree.damage
        if there is not None:
            assert told(tree) == walked(there)


def test_a_directory_of_many_names_and_a_long_file(tmp_path: Path) -> None:
    """With an index of names; and block lists that go over several blocks of their table."""
    need("mksquashfs")
    root, image = tmp_path / "root", tmp_path / "image"
    (root / "many").mkdir(parents=True)
    for number in range(3000):
        (root / "many" / f"{number:05}-{'n' * (number % 90)}").touch()
    chance = random.Random(1)
    with open(root / "long", "wb") as long:
        for number in range(6000):
            long.write(chance.randbytes(30) * 100 if number % 3 else bytes(4096))
            long.write(b"%d" % number * 100)
    subprocess.run(["mksquashfs", root, image, "-quiet", "-no-progress", "-b", "4096"], check=True, timeout=120)
    with opened(image) as tree:
        assert told(tree) == walked(root)
        whole, entry = (root / "long").read_bytes(), tree.find(b"long")
        assert entry is not None
        with tree.open(entry) as body:
            for at in (len(whole) - 5, 9_000_000, 8_388_607, 4096, 20_000_000, 0):
                body.seek(at)
                assert body.read(9000) == whole[at : at + 9000]


# Bent on purpose

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


def test_a_block_of_metadata_that_grows_is_not_unpacked(tmp_path: Path) -> None:
    image = bytearray(unpacked_fixture("hostile/metadata-bomb.squashfs", tmp_path).read_bytes())
    (at,) = struct.unpack_from("<Q", image, struct.unpack_from("<Q", image, 48)[0])
    (size,) = struct.unpack_from("<H", image, at)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError, match="unpacks to more"):
            unpack_zlib(bytes(image[at + 2 : at + 2 + size]), 8192)
        assert tracemalloc.get_traced_memory()[1] < 1 << 17
    finally:
        tracemalloc.stop()


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


def test_a_made_image_is_sound(read: Callable[[bytes], PackedTree], tmp_path: Path) -> None:
    """Else nothing is shown by those that are bent."""
    tree = read(
        made(
            Member(b"a", FILE, file(2, 5, 5 | 1 << 24)),
            Member(b"b", LINK, link(3, b"over/there")),
            Member(b"c", FILE, file(4, 3, fragment=0, offset=1)),
            Member(b"d", FILE, long_file(5, 0, xattrs=0)),
            data=b"hello" + b"xabcx",
            fragments=[(101, 5 | 1 << 24)],
            xattrs=(xattr(0, b"n", b"value") + xattr(0x102, b"far", struct.pack("<Q", 5)), [(0, 2)]),
        )
    )
    assert [tree.open(entry).read() for entry in (1, 3, 4)] == [b"hello", b"abc", b""]
    assert tree.target(2) == b"over/there"
    assert tree.xattrs(4) == {b"user.n": b"value", b"security.far": b"value"}
    assert not tree.damage


def of(inode: bytes, form: int = FILE, **more: Any) -> bytes:
    return made(Member(b"a", form, inode), **more)


WORD = 1 << 24
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
    "a block of 2^25 bytes": (of(file(2, 5, 1 << 25)), b"a", "an impossible size"),
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
        "attributes are damaged",
    ),
}


@pytest.mark.parametrize("case", BENT)
def test_what_is_bent_is_named_and_the_rest_is_read(case: str, read: Callable[[bytes], PackedTree]) -> None:
    image, path, text = BENT[case]
    found = faults(read(image))
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
    bent: dict[str, Any], error: type[ContentsError], text: str, read: Callable[[bytes], PackedTree]
) -> None:
    with pytest.raises(error, match=text):
        read(made(Member(b"a", FILE, file(2, 0)), **bent))


@pytest.mark.parametrize("size", [0, 8193, 0x7FFF])
def test_a_block_of_metadata_of_an_impossible_size_is_refused(size: int, read: Callable[[bytes], PackedTree]) -> None:
    image = bytearray(made(*(Member(b"%07d" % n, FILE, b"", 2, 32) for n in range(1600))))
    struct.pack_into("<H", image, 96, 0x8000 | size)
    with pytest.raises(DamagedError, match="impossible size"):
        read(bytes(image))


@pytest.mark.parametrize("content", [b"", b"hsqs", bytes(96), b"hsqs" * 1000])
def test_what_is_no_squashfs_is_refused(content: bytes, read: Callable[[bytes], PackedTree]) -> None:
    with pytest.raises(ContentsError):
        read(content)


def hard_links(count: int) -> bytes:
    """Of one file."""
    return made(Member(b"!", FILE, file(2, 0)), *(Member(b"%07d" % n, FILE, b"", 2, 32) for n in range(count)))


@pytest.mark.parametrize(
    ("bound", "value", "image"),
    [
        ("MOST_ENTRIES", 500, hard_links(1000)),
        ("MOST_LISTED", 1000, hard_links(1000)),
        ("_MOST_UNPACKED", 3, hard_links(1000)),
        ("_MOST_DAMAGE", 300, made(*(Member(b"%07d" % n, FILE, b"", 2, 1 << 40) for n in range(1000)))),
    ],
)
def test_a_listing_keeps_its_bounds(
    bound: str, value: int, image: bytes, read: Callable[[bytes], PackedTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(hard_links(5))
    monkeypatch.setattr(squashfs, bound, value)
    with pytest.raises(DamagedError, match="more than"):
        read(image)


def test_a_listing_ends_when_it_is_to(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(hard_links(1000))
    stop = Stop()
    stop.set()
    with open(path, "rb", buffering=0) as packed, pytest.raises(AbandonedError):
        squashfs_tree(packed, stop)


def test_little_is_kept_once_all_is_read(zoo: Callable[[str], Path]) -> None:
    with opened(zoo("gzip")) as tree:
        told(tree)
        reader = tree.reader
        assert isinstance(reader, squashfs._Squashfs)
        assert len(reader._blocks) <= 64
        assert len(reader._last_fragments) <= 8


# Damage

MANY = 2000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Four directories of files, in gzip."""
    need("mksquashfs")
    folder = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        path = folder / "root" / f"dir{number % 4}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * 50)
    subprocess.run(["mksquashfs", folder / "root", folder / "image", "-quiet", "-no-progress"], check=True, timeout=60)
    return (folder / "image").read_bytes()


@pytest.mark.parametrize("table", ["inodes_at", "listings_at"])
def test_a_damaged_block_of_a_table_costs_only_what_is_in_it(
    table: str, many: bytes, read: Callable[[bytes], PackedTree]
) -> None:
    sound = told(read(many))
    at = struct.unpack_from("<Q", many, 64 if table == "inodes_at" else 72)[0]
    # The second block, or one that holds the inode of no directory.
    blocks = [0]
    while len(blocks) < 6:
        blocks.append(blocks[-1] + 2 + (struct.unpack_from("<H", many, at + blocks[-1])[0] & 0x7FFF))
    before = read(many)
    folders = {before.references[entry] >> 16 for entry in range(len(before)) if before.kind(entry) == 0o040000}
    block = next(block for block in blocks[1:] if table == "listings_at" or block not in folders)
    bent = bytearray(many)
    bent[at + block + 40] ^= 0x10
    tree = read(bytes(bent))
    damaged = {tree.path(entry) for entry, _ in tree.damage}
    paths = {tree.path(entry) for entry in range(len(tree))}
    assert all("is damaged: it cannot be unpacked" in text for _, text in tree.damage)
    if table == "inodes_at":
        assert paths == set(sound)
        assert 100 < len(damaged) < 400
    else:
        assert len(damaged) in (1, 2)
        assert len(sound) - 600 < len(paths) < len(sound) - 100
    for entry in tree.walk():
        if (path := tree.path(entry)) not in damaged and tree.kind(entry) == 0o100000:
            assert sha256_of(tree.open(entry)) == sound[path]["sha256"]
        elif path in damaged and tree.kind(entry) == 0o100000:
            with pytest.raises(DamagedError):
                tree.open(entry).read(1)
    assert not tree.first_names()


# Blocks


@pytest.mark.parametrize("unpack", [unpack_zlib, unpack_xz, unpack_lzma, unpack_zstd, unpack_lz4])
def test_a_block_is_unpacked_within_its_bound(unpack: Unpack) -> None:
    content = b"some text, some more text, " * 100
    packed = PACKERS[unpack](content)
    assert unpack(packed, len(content)) == content
    assert unpack(packed, len(content) + 500) == content
    for cut in range(len(packed)):
        # lz4 has no word for its end: what it unpacks to is too short, if no more.
        with suppress(DamagedError) if unpack is unpack_lz4 else pytest.raises(DamagedError):
            assert len(unpack(packed[:cut], len(content))) < len(content)
    with pytest.raises(DamagedError, match="more than it may"):
        unpack(packed, len(content) - 1)


def _lz4(content: bytes) -> bytes:
    """One match after as many literals as its distance, and the end as literals."""
    assert content[27:2695] == (content[:27] * 100)[:2668]
    literals, match = 27 - 15, 2668 - 4 - 15
    head = bytes((0xFF, literals)) + content[:27] + struct.pack("<H", 27)
    return head + b"\xff" * (match // 255) + bytes((match % 255,)) + b"\x50" + content[2695:]


def _packers() -> dict[Unpack, Callable[[bytes], bytes]]:
    import lzma
    import zlib

    from backports import zstd

    return {
        unpack_zlib: zlib.compress,
        unpack_xz: lambda content: lzma.compress(content, lzma.FORMAT_XZ, preset=0),
        unpack_lzma: lambda content: lzma.compress(content, lzma.FORMAT_ALONE, preset=0),
        unpack_zstd: zstd.compress,
        unpack_lz4: _lz4,
    }


PACKERS = _packers()


@pytest.mark.parametrize(
    "block",
    [
        b"\x10",
        b"\x10a\x01",
        b"\x10a\x02\x00",
        b"\x10a\x00\x00",
        b"\xf0",
        b"\xf0\xff",
        b"\x1fa\x01\x00\xff\xff",
        b"\x50ab",
    ],
)
def test_a_damaged_lz4_block_is_refused(block: bytes) -> None:
    with pytest.raises(DamagedError):
        unpack_lz4(block, 100)


# Mutants

FUZZED = ("gzip", "xz", "zstd", "lz4")
PROTECTED = ("gzip", "xz")
"""Whose compressed blocks have a checksum."""


def outcomes(tree: PackedTree) -> dict[bytes, object]:
    """What each entry tells, or nothing where it says that it is damaged; of bodies a bounded part."""
    damaged, left = {entry for entry, _ in tree.damage}, 64 << 20
    made: dict[bytes, object] = {}
    for entry in tree.walk():
        one: list[object] = [*tree.node(entry)[:5], tree.node(entry).device]
        kind = tree.kind(entry)
        try:
            one.append(dict(tree.xattrs(entry)))
            if kind == 0o120000:
                one.append(tree.target(entry))
            elif kind == 0o100000 and left > 0:
                with tree.open(entry) as body:
                    one.append(body.read(1 << 21))
                left -= 1 << 17
        except ContentsError:
            damaged.add(entry)
        made[tree.path(entry)] = None if entry in damaged else one
    return made


class Mutants:
    def __init__(self, path: Path) -> None:
        self.image = path.read_bytes()
        self._path = path.with_suffix(".mutant")
        self.protected: list[tuple[int, int]] = []
        really = squashfs._Squashfs._unpacked_at

        def noted(reader: squashfs._Squashfs, at: int, size: int, most: int) -> bytes:
            self.protected.append((at, size))
            return really(reader, at, size, most)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(squashfs._Squashfs, "_unpacked_at", noted)
            with opened(path) as tree:
                self.sound = outcomes(tree)

    def check(self, seed: int, *, is_protected: bool) -> str:
        """How a mutant was read. Fails where it was not as promised."""
        chance = random.Random(seed)
        inside = is_protected and chance.random() < 0.5
        self._path.write_bytes(self._bent(chance, inside))
        tracemalloc.start()
        try:
            with opened(self._path) as tree:
                assert tracemalloc.get_traced_memory()[1] < 16 << 20
                tracemalloc.stop()
                found = outcomes(tree)
                is_told = bool(tree.damage)
        except ContentsError:
            return "refused"
        finally:
            tracemalloc.stop()
        if inside:
            assert is_told or set(found) == set(self.sound)
            for path, outcome in found.items():
                assert outcome is None or outcome == self.sound[path]
        return "sound" if found == self.sound else "damaged"

    def _bent(self, chance: random.Random, inside: bool) -> bytes:
        image = bytearray(self.image)
        tables = struct.unpack_from("<Q", image, 64)[0]
        used = struct.unpack_from("<Q", image, 40)[0]
        for _ in range(chance.choice((1, 1, 2, 8))):
            if inside:
                start, size = chance.choice(self.protected)
                at = start + chance.randrange(size)
            else:
                at = chance.choice((chance.randrange(96), chance.randrange(tables, used), chance.randrange(used)))
            width = 1 if inside else chance.choice((1, 1, 2, 4, 8))
            value = chance.choice((0, 1, 0x7F, 0xFF, image[at] ^ 1 << chance.randrange(8)))
            image[at : at + width] = bytes((value,)) * width
        if not inside and chance.random() < 0.03:
            del image[chance.randrange(len(image)) :]
        return bytes(image)


@pytest.fixture(scope="module")
def mutants(zoo: Callable[[str], Path]) -> dict[str, Mutants]:
    return {compressor: Mutants(zoo(compressor)) for compressor in FUZZED}


@pytest.mark.slow
@pytest.mark.parametrize("count", [75, pytest.param(4500, marks=pytest.mark.long)])
@pytest.mark.parametrize("compressor", FUZZED)
def test_mutants_are_read_right_or_told_to_be_damaged(compressor: str, count: int, mutants: dict[str, Mutants]) -> None:
    told_as = [mutants[compressor].check(seed, is_protected=compressor in PROTECTED) for seed in range(count)]
    # Else nothing is shown by them.
    assert told_as.count("damaged") > count // 20
    assert told_as.count("refused") > count // 20
