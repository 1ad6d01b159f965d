"""erofs read here: what the real tools pack, as a mount shows it; what is damaged or lies; mutants of all of them."""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ocitui.cache import PackedFormat, crc32c
from ocitui.contents import erofs
from ocitui.contents import tree as tree_module
from ocitui.contents.erofs import erofs_tree
from ocitui.contents.tree import ContentsError, DamagedError, PackedTree, UnreadableFormatError
from ocitui.importing.packing.packers import flatten_request
from ocitui.importing.packing.packing import FlattenRequest, PackOptions
from ocitui.threads import AbandonedError, Stop
from tests.contents.trees_support import (
    PACKED,
    mounted,
    random_root,
    recorded_tree,
    sha256_of,
    told,
    unpacked_fixture,
    walked,
)
from tests.importing.layer_support import Item, folder, hard, layer, link, sources
from tests.importing.test_losses import ACL
from tests.importing.test_packers import CAPABILITY
from tests.tools import need, seeds

TREES = {
    "zoo.15.erofs": "zoo-no255.json",
    "zoo.1.8.10.tar.erofs": "zoo-tar.json",
    "zoo.1.8.10.lz4hc-64k.erofs": "zoo.json",
    "zoo.1.8.10.frag.erofs": "zoo.json",
    "zoo.1.8.10.legacy.erofs": "zoo.json",
    "zoo.1.9.3.tar.erofs": "zoo-tar.json",
    "zoo.1.9.3.lz4.erofs": "zoo.json",
    "zoo.1.9.3.lz4hc-64k.erofs": "zoo.json",
    "zoo.1.9.3.zstd.erofs": "zoo.json",
    "zoo.1.9.3.lzma.erofs": "zoo.json",
    "zoo.1.9.3.frag.erofs": "zoo.json",
    "zoo.1.9.3.legacy.erofs": "zoo.json",
    "zoo.1.9.3.chunk.erofs": "zoo.json",
    "zoo.1.9.3.512.erofs": "zoo.json",
    "odd.1.8.6.deflate.erofs": "odd.json",
    "odd.1.8.6.tails.erofs": "odd.json",
    "odd.1.9.4.48bit-chunk.erofs": "odd.json",
    "odd.1.9.4.dedupe.erofs": "odd.json",
    "odd.1.9.4.dirs.erofs": "odd.json",
}
"""By what is in them, as it was packed: ``odd`` by the mkfs.erofs that each name has, with ``-zdeflate -C16384``,
``-zlz4 -Efragments,ztailpacking`` (whose last tail Linux 6.18 reads wrong), ``-E48bit --chunksize=4096``, ``-zlz4hc
-C65536 -Ededupe``, ``--zD -zlz4 -C65536`` and ``--xattr-prefix=user.a``."""
HOSTILE = {
    "dir-self": "a directory has two places",
    "name-slash": "the names of a directory are not in order",
    "nameoff": "the names of a directory are not where it says",
    "size-huge": "the end of a body crosses a block",
    "chunk-bits": "a part of it lies beyond its end",
    "layout-7": "a body is laid out as number 7, which is not known",
    "xattr-count": "an attribute's name begins as number 101, which is not known",
    "block-bits": "its block size is 2 to the power of 63",
    "blocks": "it is cut short: 323584 bytes where its superblock says 17592186040320",
    "cut": "it is cut short: 161792 bytes where its superblock says 323584",
    "feature": "it has features that are not known (0x80000000)",
    "fragment-recursion": "the inode of its fragments is no file",
}
SUPERBLOCK, CHECKSUM, MODE, SIZE = 1024, slice(1028, 1032), 4, 8
MOST_MEMORY = 64 << 20


Opened = Callable[[Path], PackedTree]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens an image until the test ends."""
    with ExitStack() as stack:
        yield lambda path: erofs_tree(stack.enter_context(open(path, "rb", buffering=0)), Stop())


def sealed(image: bytes) -> bytes:
    """The same with the right checksum of its superblock, so that what is behind that is looked at."""
    bits, made = image[SUPERBLOCK + 12], bytearray(image)
    if bits <= 16 and image[SUPERBLOCK + 8] & 1:
        covered = made[SUPERBLOCK : SUPERBLOCK + (1 << bits) - SUPERBLOCK % (1 << bits)]
        covered[4:8] = bytes(4)
        made[CHECKSUM] = crc32c(covered).to_bytes(4, "little")
    return bytes(made)


def everything(tree: PackedTree) -> Iterator[str]:
    """Read all that it tells; gives what could not be."""
    yield from (text for _, text in tree.damage)
    for entry in tree.walk():
        parts: list[Callable[[], object]] = [lambda: tree.xattrs(entry)]  # noqa: B023
        if tree.kind(entry) == stat.S_IFLNK:
            parts.append(lambda: tree.target(entry))  # noqa: B023
        elif tree.kind(entry) == stat.S_IFREG:
            parts.append(lambda: read_bounded(tree, entry))  # noqa: B023
        for part in parts:
            try:
                part()
            except ContentsError as error:
                yield str(error)


def read_bounded(tree: PackedTree, entry: int) -> None:
    """Some of a body: what it claims may be more than any could read."""
    size, piece = tree.sizes[entry], 1 << 16
    for at in {*range(0, min(size, 8 * piece), piece), max(0, size - piece)}:
        asked = min(piece, size - at)
        assert len(tree.reader.read(tree.references[entry], at, asked)) == asked


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, unpacked."""
    place = tmp_path_factory.mktemp("erofs")
    for path in PACKED.glob("*.erofs.xz"):
        unpacked_fixture(path.name.removesuffix(".xz"), place)
    for path in (PACKED / "hostile").glob("*.erofs.xz"):
        unpacked_fixture(f"hostile/{path.name.removesuffix('.xz')}", place)
    return place


@pytest.mark.parametrize("name", TREES)
def test_every_path_attribute_and_byte_is_as_the_kernel_shows_it(name: str, images: Path, opened: Opened) -> None:
    tree = opened(images / name)
    assert told(tree) == recorded_tree(TREES[name])
    assert tree.damage == []


def test_no_fixture_is_left_out(images: Path) -> None:
    unread = {"zoo.1.9.3.48bit.erofs", "zoo.1.9.3.metabox.erofs", "odd.1.9.4.prefix.erofs"}
    hostile = {f"{name}.erofs" for name in HOSTILE}
    assert {path.name for path in images.iterdir()} == {*TREES, *unread, *hostile}


def test_a_metadata_box_is_refused_by_its_name(images: Path, opened: Opened) -> None:
    with pytest.raises(UnreadableFormatError, match="it has a metadata box"):
        opened(images / "zoo.1.9.3.metabox.erofs")


def test_of_48_bit_addresses_only_encoded_extents_are_not_read(images: Path, opened: Opened) -> None:
    tree, recorded = opened(images / "zoo.1.9.3.48bit.erofs"), recorded_tree("zoo.json")
    refused = {}
    for entry in tree.walk():
        path, node = tree.path(entry), tree.node(entry)
        one = recorded.pop(path)
        assert (one["mode"], one["uid"], one["gid"], one["mtime"]) == (
            node.mode & 0o7777,
            node.uid,
            node.gid,
            node.mtime,
        )
        assert {key: value.hex() for key, value in tree.xattrs(entry).items()} == one.get("xattrs", {})
        if tree.kind(entry) == stat.S_IFREG:
            try:
                read_bounded(tree, entry)
            except UnreadableFormatError as error:
                refused[path] = str(error)
    assert recorded == {}
    assert set(refused.values()) == {"a body has encoded extents"}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_lies_is_told_in_a_clear_word(name: str, images: Path, tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / name
    path.write_bytes(sealed((images / f"{name}.erofs").read_bytes()))
    try:
        found = list(everything(opened(path)))
    except ContentsError as error:
        found = [str(error)]
    assert set(found) == {HOSTILE[name]}


def test_a_lie_that_forgot_the_checksum_goes_no_further(images: Path, opened: Opened) -> None:
    for name in ("dir-self", "layout-7", "feature", "fragment-recursion"):
        with pytest.raises(DamagedError, match="the checksum of its superblock is wrong"):
            opened(images / f"{name}.erofs")


def inode_at(tree: PackedTree, path: bytes, image: bytes | bytearray) -> int:
    entry = tree.find(path)
    assert entry is not None
    meta = int.from_bytes(image[SUPERBLOCK + 40 : SUPERBLOCK + 44], "little")
    return meta << image[SUPERBLOCK + 12] | tree.references[entry] * 32


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (
            SIZE,
            (65 << 20).to_bytes(8, "little"),
            "a directory of it takes 68,157,440 bytes, more than is read here",
        ),
        (SIZE, b"\xff" * 8, "an inode has a type or a size that none may have: b'data'"),
        (MODE, b"\xff\xff", "an inode has a type or a size that none may have: b'data'"),
        (MODE, b"\xed\x81", "a directory says another type than the inode: b'data'"),
        (0, b"\xff", "an inode has a form that is not known (0xff): b'data'"),
    ],
)
def test_what_is_wrong_with_one_directory_leaves_the_others(
    field: int, value: bytes, told: str, images: Path, tmp_path: Path, opened: Opened
) -> None:
    whole, image = opened(images / "zoo.15.erofs"), bytearray((images / "zoo.15.erofs").read_bytes())
    at = inode_at(whole, b"data", image) + field
    image[at : at + len(value)] = value
    (tmp_path / "image").write_bytes(image)
    tree = opened(tmp_path / "image")
    assert [text for _, text in tree.damage] == [told]
    paths, expected = ({read.path(entry) for entry in read.walk()} for read in (tree, whole))
    assert {path for path in expected if not path.startswith(b"data")} <= paths
    assert not any(path.startswith(b"data/") for path in paths)


def test_a_hole_of_a_whole_file_is_passed_over_at_once(images: Path, tmp_path: Path, opened: Opened) -> None:
    whole, image = opened(images / "zoo.15.erofs"), bytearray((images / "zoo.15.erofs").read_bytes())
    plain = next(one for one in whole.walk() if stat.S_ISREG(whole.modes[one]) and whole.sizes[one] > 4096)
    at, size = inode_at(whole, whole.path(plain), image), 1 << 50
    # Extended, in plain blocks, of which the first is none.
    image[at : at + 2], image[at + 6 : at + 8], image[at + 16 : at + 20] = b"\1\0", b"\xff" * 2, b"\xff" * 4
    image[at + SIZE : at + SIZE + 8] = size.to_bytes(8, "little")
    (tmp_path / "image").write_bytes(image)
    tree = opened(tmp_path / "image")
    entry = tree.find(whole.path(plain))
    assert entry is not None
    assert tree.sizes[entry] == tree.reader.after_hole(tree.references[entry], 0) == size
    with tree.open(entry) as body:
        assert body.read(4097) == bytes(4097)


def test_a_file_that_is_cut_while_it_is_read(images: Path, tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "image"
    path.write_bytes((images / "zoo.15.erofs").read_bytes())
    tree = opened(path)
    os.truncate(path, 2048)
    assert "it was cut while it was read" in set(everything(tree))


def test_a_listing_ends_when_it_is_to(images: Path) -> None:
    stop = Stop()
    stop.set()
    with open(images / "zoo.15.erofs", "rb") as file, pytest.raises(AbandonedError):
        erofs_tree(file, stop)


@pytest.mark.parametrize("name", ["zoo.1.9.3.lz4hc-64k.erofs", "zoo.1.9.3.frag.erofs", "zoo.1.9.3.chunk.erofs"])
def test_any_part_of_a_body_is_that_part_of_the_whole(name: str, images: Path, opened: Opened) -> None:
    tree, chance = opened(images / name), random.Random(13)
    for entry in tree.walk():
        if tree.kind(entry) != stat.S_IFREG or not tree.sizes[entry]:
            continue
        with tree.open(entry) as body:
            whole = body.read()
            for _ in range(6):
                at = chance.randrange(len(whole))
                body.seek(at)
                size = chance.choice((1, 100, 4096, 1 << 20))
                assert body.read(size) == whole[at : at + size]
        assert tree.reader.read(tree.references[entry], 0, len(whole) + 100) == whole
        assert tree.reader.read(tree.references[entry], len(whole), 100) == b""


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [
        (0, b"\0", "it is no erofs"),
        (14, b"\xff\xff", "a part of it lies beyond its end"),
        (24, b"\xff" * 7 + b"\x7f", "its time is none"),
        (86, b"\1", "a part of it is on other devices"),
        (90, b"\x0d", "its directories have blocks of their own size"),
    ],
)
def test_a_superblock_that_is_not_read(at: int, value: bytes, told: str, images: Path, tmp_path: Path) -> None:
    image = bytearray((images / "zoo.15.erofs").read_bytes())
    image[SUPERBLOCK + at : SUPERBLOCK + at + len(value)] = value
    (tmp_path / "image").write_bytes(sealed(bytes(image)))
    with open(tmp_path / "image", "rb") as file, pytest.raises(ContentsError) as caught:
        erofs_tree(file, Stop())
    assert str(caught.value) == told


def test_a_root_that_is_no_directory(images: Path, tmp_path: Path, opened: Opened) -> None:
    image = bytearray((images / "zoo.15.erofs").read_bytes())
    tree = opened(images / "zoo.15.erofs")
    entry = tree.find(b"bin/ping")
    assert entry is not None
    image[SUPERBLOCK + 14 : SUPERBLOCK + 16] = tree.references[entry].to_bytes(2, "little")
    (tmp_path / "image").write_bytes(sealed(bytes(image)))
    with pytest.raises(DamagedError, match="its root is no directory"):
        opened(tmp_path / "image")


@pytest.mark.parametrize(
    ("bound", "value", "name", "kind", "told"),
    [
        ("MOST_LISTED", 100, "zoo.15", UnreadableFormatError, "it lists more than is read here"),
        ("MOST_ENTRIES", 7, "zoo.15", UnreadableFormatError, "it lists more than is read here"),
        ("MOST_DAMAGE", 0, "dir-self", DamagedError, "more than 0 parts of it cannot be read"),
    ],
)
def test_a_tree_beyond_its_bounds_is_refused(
    bound: str,
    value: int,
    name: str,
    kind: type[ContentsError],
    told: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tree_module, bound, value)
    (tmp_path / "image").write_bytes(sealed((images / f"{name}.erofs").read_bytes()))
    with open(tmp_path / "image", "rb") as file, pytest.raises(kind) as caught:
        erofs_tree(file, Stop())
    assert str(caught.value) == told


def test_attributes_beyond_their_bounds_are_refused(
    images: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = opened(images / "zoo.1.9.3.lz4.erofs")
    kept = [entry for entry in tree.walk() if tree.xattrs(entry)]
    for bound in ("MOST_XATTRS", "MOST_XATTR_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(erofs, bound, 0)
            for entry in kept:
                with pytest.raises(UnreadableFormatError, match="more attributes than are read here"):
                    tree.xattrs(entry)


def test_a_prefix_from_a_table_is_refused_where_it_is_met(images: Path, opened: Opened) -> None:
    tree, recorded = opened(images / "odd.1.9.4.prefix.erofs"), recorded_tree("odd.json")
    entry = tree.find(b"attr")
    assert entry is not None
    with pytest.raises(UnreadableFormatError, match="an attribute's name begins as in a table of prefixes"):
        tree.xattrs(entry)
    assert {tree.path(entry) for entry in tree.walk()} == set(recorded)
    with tree.open(entry) as body:
        assert sha256_of(body) == recorded[b"attr"]["sha256"]


@pytest.mark.parametrize(
    ("size", "told"), [(0, "a link's target takes 0 bytes"), (1 << 17, "a link's target takes 131,072 bytes")]
)
def test_a_link_that_leads_nowhere_one_can_say(
    size: int, told: str, images: Path, tmp_path: Path, opened: Opened
) -> None:
    whole, image = opened(images / "zoo.15.erofs"), bytearray((images / "zoo.15.erofs").read_bytes())
    at = inode_at(whole, b"dangling", image) + SIZE
    image[at : at + 4] = size.to_bytes(4, "little")
    (tmp_path / "image").write_bytes(image)
    tree = opened(tmp_path / "image")
    entry = tree.find(b"dangling")
    assert entry is not None
    with pytest.raises(DamagedError) as caught:
        tree.target(entry)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    "block",
    [
        *(b"", bytes(11), bytes(12), struct.pack("<QHBx", 1, 12, 1), struct.pack("<QHBx", 1, 12_000, 1) + b"a"),
        *(struct.pack("<QHBx", 1, 13, 1) + b"abc", struct.pack("<QHBxQHBx", 1, 24, 1, 2, 24, 1) + b"ab"),
        *(struct.pack("<QHBxQHBx", 1, 24, 1, 2, 99, 1) + b"ab", struct.pack("<QHBxQHBx", 1, 24, 1, 2, 23, 1) + b"ab"),
    ],
)
def test_a_block_of_a_directory_that_contradicts_itself(block: bytes) -> None:
    with pytest.raises(DamagedError, match="the names of a directory are not where it says"):
        list(erofs._block_entries(block))


def test_what_is_beyond_32_bits_counts_only_where_that_is_said(images: Path, tmp_path: Path, opened: Opened) -> None:
    image = (images / "zoo.15.erofs").read_bytes()
    table = struct.pack("<2HI2HI", 7, 0, 0xFFFFFFFF, 7, 0, 0)
    (tmp_path / "image").write_bytes(image + table)
    reader = opened(tmp_path / "image").reader
    assert isinstance(reader, erofs.ErofsReader)
    inode = tree_module.Inode(stat.S_IFREG, 0, 0, 8192, 0, 1, 1)
    assert reader.body(erofs.ErofsInode(inode, 4, 0x20, 0, len(image)), 0, 8192) == bytes(4096) + image[:4096]
    with pytest.raises(DamagedError):
        reader.body(erofs.ErofsInode(inode, 4, 0x60, 0, len(image)), 0, 8192)


def test_an_inode_that_is_cut(images: Path, tmp_path: Path, opened: Opened) -> None:
    image = (images / "zoo.15.erofs").read_bytes()
    meta = int.from_bytes(image[SUPERBLOCK + 40 : SUPERBLOCK + 44], "little") * 4096
    for size in (16, 32, 48):
        (tmp_path / "image").write_bytes(image + b"\1".ljust(size, b"\0"))
        tree = opened(tmp_path / "image")
        with pytest.raises(DamagedError, match="a part of it lies beyond its end"):
            tree.reader.read((len(image) - meta) // 32, 0, 1)


def test_a_root_with_a_large_number(images: Path, tmp_path: Path, opened: Opened) -> None:
    name = images / "odd.1.9.4.48bit-chunk.erofs"
    image = bytearray(name.read_bytes())
    image[SUPERBLOCK + 112 : SUPERBLOCK + 114] = image[SUPERBLOCK + 14 : SUPERBLOCK + 16]
    image[SUPERBLOCK + 14 : SUPERBLOCK + 16] = bytes(2)
    (tmp_path / "image").write_bytes(sealed(bytes(image)))
    assert told(opened(tmp_path / "image")) == told(opened(name))
    image[SUPERBLOCK + 14] = 1
    (tmp_path / "image").write_bytes(sealed(bytes(image)))
    with pytest.raises(DamagedError, match="it is cut short"):
        opened(tmp_path / "image")


def test_attributes_that_do_not_fit(images: Path, tmp_path: Path, opened: Opened) -> None:
    whole, image = opened(images / "zoo.15.erofs"), (images / "zoo.15.erofs").read_bytes()
    reader = whole.reader
    assert isinstance(reader, erofs.ErofsReader)
    inline = [
        node
        for node in map(reader.node, whole.references)
        if 12 < node.xattrs < 200 and not image[node.end - node.xattrs + 4]
    ]
    assert inline
    for at, value in ((4, b"\xff"), (12, b"\xff"), (14, b"\xff\xff")):
        changed = bytearray(image)
        for node in inline:
            begin = node.end - node.xattrs + at
            changed[begin : begin + len(value)] = value
        (tmp_path / "image").write_bytes(changed)
        tree = opened(tmp_path / "image")
        for node in inline:
            with pytest.raises(DamagedError, match="the attributes of an inode do not fit it"):
                tree.reader.xattrs(node.inode.reference)


@pytest.mark.parametrize("area", [b"\2\1\1\0abv\0" * 2, b"\2\1\1\0a\0v\0" * 2])
def test_an_attribute_that_is_there_twice_or_has_a_zero_in_its_name(area: bytes) -> None:
    found: dict[bytes, bytes] = {}
    with pytest.raises(DamagedError, match="an attribute twice, or one with a zero byte"):
        erofs._xattr(area, erofs._xattr(area, 0, found), found)


WAYS = (
    *("", "-zlz4", "-zlz4hc -C65536", "-zlz4 -C16384 -Eztailpacking", "-zlz4 -Elegacy-compress", "-x1", "-Enosbcrc"),
    *("--chunksize=4096", "--chunksize=65536", "-Eforce-chunk-indexes --chunksize=8192", "-zlz4 -Enoinline_data"),
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(2, 200))
def test_what_mkfs_erofs_packs_is_read_as_it_was(seed: int, tmp_path: Path, opened: Opened) -> None:
    need("mkfs.erofs")
    root = random_root(tmp_path / "root", random.Random(seed), 254)  # at 255 mkfs.erofs 1.5 fails
    with open(root / "holes", "wb") as holes:
        holes.write(b"begin")
        holes.seek(1 << 17)
        holes.write(b"end")
        holes.truncate(1 << 18)
    expected = walked(root)
    for way in WAYS:
        image = tmp_path / "image"
        image.unlink(missing_ok=True)
        subprocess.run(["mkfs.erofs", *way.split(), image, root], check=True, capture_output=True)
        found = told(opened(image))
        assert found == expected, way
        with mounted(image, "erofs") as mount:
            assert mount is None or found == walked(mount), way
        (tmp_path / "image.mount").rmdir()


def test_what_is_packed_here_is_read(tmp_path: Path, opened: Opened) -> None:
    kept = {"system.posix_acl_access": ACL.decode("utf-8", "surrogateescape"), "security.capability": CAPABILITY}
    items = (
        *(Item(f"f{size}", data=os.urandom(size), mtime=size) for size in (0, 1, 2015, 2048, 4096, 4097, 100_000)),
        Item("acl", data=b"x", xattrs={"user.a": "", **kept}),
        folder("d", 0o1777, uid=3_000_000, gid=70_000, xattrs={"trusted.t": "v" * 5000}),
        hard("d/hard", "f4097"),
        link("s", "t" * 4095),
    )
    layers = sources(tmp_path / "layers", [layer(folder("./", 0o750, uid=5, gid=6, mtime=77), *items)])
    for format_, name in ((PackedFormat.EROFS, "out"), (PackedFormat.TAR, "tar")):
        sizes = tuple(one.size for one in layers)
        flatten_request(FlattenRequest(sizes, tmp_path / name, format_, PackOptions()), layers)
    tree = opened(tmp_path / "out")
    found = told(tree)
    assert [found[b"d"][key] for key in ("mode", "uid", "gid", "type")] == [0o1777, 3_000_000, 70_000, "d"]
    assert [found[b""][key] for key in ("mode", "uid", "gid", "mtime")] == [0o750, 5, 6, 77]
    assert found[b"acl"]["xattrs"][b"system.posix_acl_access"] == ACL.hex()
    assert (found[b"f4097"]["hardlink"], found[b"f4097"]["nlink"]) == (b"d/hard", 2)
    assert found[b"s"]["target"] == b"t" * 4095
    with mounted(tmp_path / "out", "erofs") as mount:
        assert mount is None or found == walked(mount)


MUTATED = (
    *("zoo.15", "zoo.1.9.3.chunk", "zoo.1.9.3.lz4hc-64k", "zoo.1.9.3.frag", "zoo.1.9.3.zstd", "zoo.1.9.3.lzma"),
    *("odd.1.8.6.deflate", "odd.1.8.6.tails", "odd.1.9.4.48bit-chunk", "odd.1.9.4.dedupe", "odd.1.9.4.dirs"),
)


def mutant(image: bytes, chance: random.Random) -> bytes:
    """Bytes changed in the superblock, at the beginning, where anything is but zeros, or anywhere; or cut."""
    made = bytearray(image)
    where = chance.randrange(5)
    if where == 4:
        return bytes(made[: chance.randrange(len(made))])
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange((SUPERBLOCK + 128, 16_384, len(made), len(made))[where])
        at = at if where != 2 else next((place for place in range(at, len(made)) if made[place]), at)
        value = chance.choice((0, 0xFF, chance.randrange(256), made[at] ^ 1 << chance.randrange(8)))
        made[at : at + chance.choice((1, 1, 4))] = bytes([value]) * chance.choice((1, 1, 4))
    return bytes(made[: len(image)])


def memory(field: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most since that was last forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def check_mutants(images: Path, seeds: range) -> set[str]:
    """Whatever its bytes are, an image is read within bounds, or told to be damaged or not readable."""
    wholes, said = [(images / f"{name}.erofs").read_bytes() for name in MUTATED], set[str]()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    for seed in seeds:
        chance = random.Random(seed)
        image = chance.choice(wholes)
        changed = mutant(image, chance)
        is_sealed = chance.random() < 0.7 and len(changed) >= SUPERBLOCK + 128
        changed = sealed(changed) if is_sealed else changed
        with Readable(changed) as file:
            try:
                tree = erofs_tree(file, Stop())
            except ContentsError as error:
                said.add(str(error))
                continue
            covered, has_checksum = slice(SUPERBLOCK, 1 << image[SUPERBLOCK + 12]), changed[SUPERBLOCK + 8] & 1
            assert is_sealed or not has_checksum or changed[covered] == image[covered], seed
            said.update(everything(tree))
        assert memory("VmHWM") - before < MOST_MEMORY, seed
    return said


class Readable(io.FileIO):
    """A file in memory with these bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(os.memfd_create("image"), "r+b")
        self.write(data)


@pytest.mark.slow
def test_a_sample_of_mutants_is_read_or_refused(images: Path) -> None:
    said = check_mutants(images, range(300))
    assert len(said) > 20


@pytest.mark.long
def test_mutants_are_read_or_refused(images: Path) -> None:
    assert len(check_mutants(images, range(1_000, 19_000))) > 60
