"""squashfs as it is read here: against recorded trees, the directory that was packed, the kernel, and mutants of it."""

from __future__ import annotations

import random
import struct
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from ocitui.contents import squashfs, unpacking
from ocitui.contents.digest import TreeLevel, tree_digest
from ocitui.contents.tree import BulkReader, ContentsError, DamagedError, PackedTree, UnreadableFormatError
from ocitui.contents.unpacking import BulkFile, Span
from ocitui.threads import AbandonedError, Stop
from tests.tools import need, seeds

from .squashfs_maker import FILE, Member, file, made, opened
from .trees_support import mounted, random_root, recorded_tree, sha256_of, told, unpacked_fixture, walked

RAW = 1 << 24
READ = ("gzip", "lzma", "xz", "lz4", "zstd", "raw")


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


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the blocks of files begin that were unpacked, as often as they were."""
    starts, really = list[int](), squashfs._Squashfs._unpacked_data

    def noted(image: squashfs._Squashfs, at: int, word: int) -> bytes:
        starts.append(at)
        return really(image, at, word)

    monkeypatch.setattr(squashfs._Squashfs, "_unpacked_data", noted)
    return starts


@pytest.mark.parametrize("most", [1, 2048])
@pytest.mark.parametrize("compressor", READ)
def test_files_that_are_hashed_together_have_the_hashes_of_what_each_holds(
    compressor: str, most: int, zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(squashfs, "_CHUNK", most)
    with opened(zoo(compressor)) as tree:
        found = dict[int, str]()
        reader = tree.reader
        assert isinstance(reader, BulkReader)
        reader.hash_files(
            tree,
            tree.files(),
            lambda entry, hash: found.setdefault(entry, hash.hex()),
            Stop(),
        )
        left_out = {entry for entry in tree.files() if entry not in found}
        # Of several blocks only, and only where so many are too many.
        assert all(tree.sizes[entry] > 1 << 17 for entry in left_out)
        assert bool(left_out) == (most == 1)
        for entry in set(tree.files()) - left_out:
            with tree.open(entry) as body:
                assert found[entry] == sha256_of(body)
        digest = tree_digest(tree, TreeLevel.FULL, Stop())
    monkeypatch.undo()
    with opened(zoo("gzip")) as tree:
        assert tree_digest(tree, TreeLevel.FULL, Stop()) == digest


def test_files_that_are_hashed_together_have_their_fragment_unpacked_once(
    read_squashfs: Callable[[bytes], PackedTree], unpacked: list[int]
) -> None:
    ends = [Member(b"%03d" % at, FILE, file(at + 2, 1, fragment=at % 2, offset=at // 2)) for at in range(200)]
    tree = read_squashfs(made(*ends, data=bytes(range(200)), fragments=[(96, 100 | RAW), (196, 100 | RAW)]))
    tree_digest(tree, TreeLevel.CONTENT, Stop())
    assert sorted(unpacked) == [96, 196]
    assert len(set(tree.hashes.values())) == 200


def test_files_that_end_in_one_fragment_are_not_gathered_with_all_their_blocks(
    read_squashfs: Callable[[bytes], PackedTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may tell thousands of holes, which take no room in the image."""
    gathered = list[int]()

    def noted(_: object, files: list[tuple[BulkFile, list[Span]]], *__: object) -> list[tuple[int, bytes]]:
        gathered.append(sum(len(spans) for _, spans in files))
        return []

    monkeypatch.setattr(unpacking, "_hashes", noted)
    long = [Member(b"%03d" % at, FILE, file(at + 2, (2000 << 17) + 1, *[0] * 2000, fragment=0)) for at in range(40)]
    tree = read_squashfs(made(*long, data=b"x", fragments=[(96, 1 | RAW)]))
    tree.reader.hash_files(tree, range(1, len(tree)), print, Stop())  # type: ignore[attr-defined]
    assert sum(gathered) == 80_000
    assert max(gathered) < 8_000


def test_hashing_ends_when_it_is_told_to(zoo: Callable[[str], Path]) -> None:
    stop = Stop()
    with opened(zoo("gzip")) as tree:
        stop.set()
        with pytest.raises(AbandonedError):
            tree.reader.hash_files(tree, tree.files()[:1], print, stop)  # type: ignore[attr-defined]


def test_files_read_by_their_places_have_each_block_unpacked_once(
    zoo: Callable[[str], Path], unpacked: list[int]
) -> None:
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("table", ["inodes_at", "listings_at"])
def test_a_damaged_block_of_a_table_costs_only_what_is_in_it(
    table: str, many: bytes, read_squashfs: Callable[[bytes], PackedTree]
) -> None:
    sound = told(read_squashfs(many))
    at = struct.unpack_from("<Q", many, 64 if table == "inodes_at" else 72)[0]
    # The second block, or one that holds the inode of no directory.
    blocks = [0]
    while len(blocks) < 6:
        blocks.append(blocks[-1] + 2 + (struct.unpack_from("<H", many, at + blocks[-1])[0] & 0x7FFF))
    before = read_squashfs(many)
    folders = {before.references[entry] >> 16 for entry in range(len(before)) if before.kind(entry) == 0o040000}
    block = next(block for block in blocks[1:] if table == "listings_at" or block not in folders)
    bent = bytearray(many)
    bent[at + block + 40] ^= 0x10
    tree = read_squashfs(bytes(bent))
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
