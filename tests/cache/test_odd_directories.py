"""What may stand where a cache, its index or its files belong: an honest error, nothing touched outside."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ocitui.cache import CacheDirectoryError, CacheError, ConflictError, CorruptIndexError, ImageName, PackerCache
from ocitui.cache.files import MOST_DOCUMENT_BYTES
from ocitui.cache.ledger import Ledger
from ocitui.cache.listing import PLACE_OF_SUFFIX, CacheFiles, Listing
from tests.cache.scenes import key
from tests.cache.support import OWN, SQUASHFS, digests_and_formats, make_image, stored, trash, tree, write_cache
from tests.tools import ROOT


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    write_cache(folder, range(3))
    return folder


def packed(directory: Path) -> Path:
    return directory / f"{key(0)[0]}.squashfs"


def a_directory(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_bytes(b"kept")


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_link_outside(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_bytes(b"outside")
    path.symlink_to(outside)


OBSTACLES = [a_directory, a_fifo, a_dangling_link, a_link_outside]


@pytest.mark.parametrize("put", OBSTACLES)
async def test_in_a_files_place(put: Callable[[Path], None], directory: Path, tmp_path: Path) -> None:
    place = packed(directory)
    place.unlink()
    put(place)
    before, cache = tree(directory), PackerCache(directory)
    hit = await cache.recall(ImageName.parse("a"), key(0)[0], SQUASHFS)
    assert (hit is not None) == (put is a_link_outside)
    # Only a file of the directory itself has a size to tell.
    with CacheFiles(directory) as files:
        listing = Listing.read(files)
    at = listing.place(key(0)[0], PLACE_OF_SUFFIX["squashfs"])
    assert at is not None
    assert not listing.plain(at)
    await stored(cache, tmp_path / "source", "0", name="image0:1")
    assert place.read_bytes() == b"packed 0 squashfs"
    assert not place.is_symlink()
    await cache.undo()
    await cache.delete([key(0)])
    assert not os.path.lexists(place)
    await PackerCache(directory).undo()
    assert tree(directory) == before
    if put is a_link_outside:
        assert (tmp_path / "outside").read_bytes() == b"outside"
    if put is a_directory:
        assert (place / "inside").read_bytes() == b"kept"


@pytest.mark.slow
@pytest.mark.parametrize("put", [a_directory, a_fifo])
@pytest.mark.parametrize("on_corrupt", ["raise", "reset"])
async def test_in_the_place_of_the_index(put: Callable[[Path], None], on_corrupt: str, directory: Path) -> None:
    (directory / "index.json").unlink()
    put(directory / "index.json")
    before = tree(directory)
    with pytest.raises(CorruptIndexError):
        await PackerCache.open(directory, on_corrupt=on_corrupt)  # type: ignore[arg-type]
    assert tree(directory) == before


@pytest.mark.slow
async def test_an_index_that_is_a_link_is_read_but_not_written(directory: Path, tmp_path: Path) -> None:
    index, elsewhere = directory / "index.json", tmp_path / "elsewhere.json"
    write_cache(directory, range(4))
    await PackerCache(directory).delete([key(3)])
    index.rename(elsewhere)
    index.symlink_to(elsewhere)
    before, data = tree(directory), elsewhere.read_bytes()
    cache = await PackerCache.open(directory)
    assert len(await cache.list()) == 3
    for refused in (cache.delete([key(0)]), cache.store(make_image(tmp_path / "packed")), cache.undo()):
        with pytest.raises(ConflictError):
            await refused
    assert (tree(directory), elsewhere.read_bytes()) == (before, data)
    elsewhere.write_bytes(b"{}")
    with pytest.raises(ConflictError):
        await PackerCache.open(directory, on_corrupt="reset")
    elsewhere.unlink()
    with pytest.raises(ConflictError):
        await PackerCache.open(directory, on_corrupt="reset")
    assert tree(directory) == before


async def test_own_folder_that_leads_outside(directory: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (directory / ".ocitui").symlink_to(outside)
    before, cache = tree(directory), await PackerCache.open(directory)
    image = make_image(tmp_path / "packed")
    for refused in (cache.delete([key(0)]), cache.store(image), cache.undo(), cache.transactions()):
        with pytest.raises(CacheError):
            await refused
    assert tree(directory) == before
    assert os.listdir(outside) == []
    assert image.path.exists()


@pytest.mark.parametrize("name", ["lock", "trash", "staging", "journal"])
async def test_a_link_inside_our_own_folder(name: str, directory: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    own = directory / ".ocitui"
    own.mkdir()
    (own / name).symlink_to(outside / "file" if name == "lock" else outside)
    before = tree(directory)
    if name == "lock":
        with pytest.raises(CacheError):
            await PackerCache(directory).delete([key(0)])
    else:
        await PackerCache(directory).delete([key(0)])
        assert (own / "aside" / name).readlink() == outside
        await PackerCache(directory).undo()
    assert (tree(directory), os.listdir(outside)) == (before, [])


async def test_an_absent_index_is_an_empty_cache(tmp_path: Path) -> None:
    cache = await PackerCache.open(tmp_path)
    assert await cache.list() == []
    assert os.listdir(tmp_path) == []
    await stored(cache, tmp_path / "source")
    assert len(digests_and_formats(tmp_path)) == 1


async def test_an_index_that_vanishes(directory: Path, tmp_path: Path) -> None:
    cache = await PackerCache.open(directory)
    (directory / "index.json").unlink()
    before = tree(directory)
    for refused in (cache.list(), cache.delete([key(0)]), cache.store(make_image(tmp_path / "packed"))):
        with pytest.raises(CorruptIndexError):
            await refused
    assert tree(directory) == before
    write_cache(directory, range(2))
    assert len(await cache.list()) == 2


async def test_an_index_that_turns_corrupt(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.05)
    cache = await PackerCache.open(directory)
    await cache.delete([key(0)])
    (directory / "index.json").write_bytes(b'{"schemaVersion":2}')
    before, kept = tree(directory), trash(directory)
    image = make_image(tmp_path / "packed")
    for refused in (cache.list(), cache.delete([key(1)]), cache.store(image), cache.undo()):
        with pytest.raises(CorruptIndexError):
            await refused
    assert (tree(directory), trash(directory)) == (before, kept)


@pytest.mark.parametrize("kind", ["absent", "file", "dangling"])
async def test_a_cache_that_is_no_directory(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    if kind == "file":
        place.write_bytes(b"")
    elif kind == "dangling":
        place.symlink_to("nowhere")
    with pytest.raises(CacheDirectoryError):
        await PackerCache.open(place)
    with pytest.raises(CacheDirectoryError):
        await PackerCache.open(place, on_corrupt="reset")
    with pytest.raises(CacheDirectoryError):
        await PackerCache(place).store(make_image(tmp_path / "packed"))
    assert not place.is_dir()


async def test_a_cache_through_a_link(directory: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(directory)
    image = await stored(await PackerCache.open(link), tmp_path / "source")
    assert image.path.parent == link
    assert len(digests_and_formats(directory)) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("locked", ["directory", "index.json", "file", "writing"])
def test_as_a_user_who_may_not(locked: str, directory: Path, open_path: Path) -> None:
    """In a program of its own that gives up root's rights."""
    directory = shutil.copytree(directory, open_path / "cache")
    match locked:
        case "directory":
            directory.chmod(0o700)
        case "index.json":
            (directory / "index.json").chmod(0o600)
        case "file":
            packed(directory).with_suffix(".manifest.json").chmod(0o600)
    before = tree(directory)
    found = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(directory), *key(0)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    expected = {
        "directory": "CacheDirectoryError",
        "index.json": "CacheDirectoryError",
        "file": "3 StorageError",
        "writing": "3 hit ReadOnlyError",
    }
    assert (found.stdout.split(), found.stderr) == (expected[locked].split(), "")
    assert tree(directory) == before


UNPRIVILEGED = """
import asyncio, os, sys
import ocitui.cache.changes, ocitui.cache.transactions, ocitui.cache.watch
from ocitui.cache import CacheError, ImageName, PackedFormat, PackerCache, Transaction
async def main(directory, digest, format):
    await asyncio.to_thread(os.getuid)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    cache = await PackerCache.open(directory)
    print(len(await cache.list()))
    print("hit" if await cache.recall(ImageName.parse("a"), digest, PackedFormat(format)) else "miss")
    await cache.delete([(digest, format)])
try:
    asyncio.run(main(*sys.argv[1:]))
except CacheError as error:
    assert error.hint
    print(type(error).__name__)
"""


@pytest.mark.parametrize("thought", [9, MOST_DOCUMENT_BYTES + 1])
def test_what_is_larger_than_any_document_is_not_read(thought: int, directory: Path) -> None:
    (directory / "large").touch()
    os.truncate(directory / "large", MOST_DOCUMENT_BYTES + 1)
    with CacheFiles(directory) as files, pytest.raises(OSError, match="has more than") as caught:
        files.read("large", thought)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b""), lambda path: path.symlink_to("elsewhere")])
async def test_no_index_is_made_where_our_own_folder_is_none(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / OWN)
    with pytest.raises(ConflictError, match="ocitui"):
        await PackerCache.open(tmp_path, on_corrupt="reset")
    assert os.listdir(tmp_path) == [OWN]
    assert "ocitui" in Ledger.open(tmp_path).problem, "what is not read is said"
