"""On a disk with not a byte left: delete and undo work, what cannot be done says so and changes nothing."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ocitui.cache import (
    Change,
    ImageName,
    IndexEdit,
    IndexReplacement,
    Insert,
    PackerCache,
    Place,
    Remove,
    StorageError,
    TransactionKind,
    new_index,
    see,
    see_index,
)
from ocitui.cache.workspace import what_frees
from ocitui.cli.main import run
from tests.cache.scenes import key
from tests.cache.support import (
    EROFS,
    OWN,
    SQUASHFS,
    TAR,
    digests_and_formats,
    entry,
    index_bytes,
    make_image,
    stored,
    tree,
    write_cache,
)
from tests.tools import need


def mounted(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")


@contextmanager
def small_file_system(kind: str, tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    place, image = tmp_path / "mounted", tmp_path / "image"
    place.mkdir()
    if kind == "tmpfs":
        mounted("-t", "tmpfs", "-o", "size=2m", "none", str(place))
    else:
        need("mkfs.ext4")
        with open(image, "wb") as file:
            file.truncate(8 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", "1024", str(image)], check=True)
        mounted("-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        # A cache that nobody closed may still fold its backups.
        deadline = time.monotonic() + 30
        while (done := subprocess.run(["umount", str(place)], capture_output=True, check=False)).returncode:
            assert time.monotonic() < deadline, done.stderr


@pytest.fixture(params=["tmpfs", "ext4"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A cache of six entries on a file system of a few megabytes."""
    with small_file_system(request.param, tmp_path) as place:
        write_cache(place / "cache", range(3), (SQUASHFS, EROFS))
        yield place


def fill(place: Path) -> None:
    """Leave no room, not even for one more small file."""
    for number in range(10_000):
        try:
            with open(place / f"filler{number}", "wb", buffering=0) as file:
                for size in (1 << 16, 1 << 12, 1 << 8, 1):
                    _write_until_full(file.fileno(), size)
                os.fsync(file.fileno())
                if file.tell() == 0:
                    return
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return


def _write_until_full(fd: int, size: int) -> None:
    try:
        while os.write(fd, b"x" * size):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


async def test_delete_and_undo_without_room(small: Path) -> None:
    directory = small / "cache"
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    await cache.undo()
    before = tree(directory)
    fill(small)
    await cache.delete([key(0)])
    assert digests_and_formats(directory)[0] == key(0, "erofs")
    fill(small)
    await cache.undo()
    assert tree(directory) == before
    fill(small)
    everything = [descriptor.key for descriptor in await cache.list()]
    transaction = await PackerCache(directory).delete(everything)
    assert set(tree(directory)) == {"index.json"}
    fill(small)
    await PackerCache(directory).undo(transaction.id)
    assert tree(directory) == before


async def test_many_transactions_without_room(small: Path) -> None:
    directory = small / "cache"
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    await cache.undo()
    before = tree(directory)
    for _ in range(10):
        fill(small)
        await cache.delete([key(1)])
        fill(small)
        await cache.undo()
        assert tree(directory) == before


async def test_a_store_without_room_leaves_all_as_it_was(small: Path, tmp_path: Path) -> None:
    directory = small / "cache"
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    await cache.undo()
    fill(small)
    before = tree(directory)
    image = make_image(tmp_path / "packed", content=b"x" * (1 << 20), format=TAR)
    with pytest.raises(StorageError) as caught:
        await cache.store(image)
    assert caught.value.hint
    assert image.path.stat().st_size == 1 << 20
    assert tree(directory) == before
    assert os.listdir(directory / ".ocitui" / "staging") == []
    await cache.delete([key(0)])


async def test_room_comes_back(small: Path, tmp_path: Path) -> None:
    directory = small / "cache"
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    fill(small)
    await cache.delete([key(1)])
    for path in small.glob("filler*"):
        path.unlink()
    image = await stored(cache, tmp_path / "source", "new")
    fill(small)
    await cache.delete([(image.digest, "squashfs")])
    for _ in range(4):
        await cache.undo()
    assert len(digests_and_formats(directory)) == 6


async def test_a_first_write_without_room(small: Path) -> None:
    """Nothing was kept aside yet; whether it works depends on what the file system has left for a directory."""
    directory = small / "cache"
    fill(small)
    before = tree(directory)
    cache = await PackerCache.open(directory)
    assert await cache.recall(ImageName.parse("a"), key(0)[0], SQUASHFS) is not None
    with suppress(StorageError):
        await cache.delete([key(0)])
        await cache.undo()
    assert tree(directory) == before


async def test_a_mend_and_its_undo_without_room(small: Path) -> None:
    directory = small / "cache"
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    await cache.undo()
    (directory / "index.json").write_bytes(b"corrupt")
    name = f"{key(0)[0]}.manifest.json"
    before = tree(directory)
    fill(small)
    data = new_index(json.dumps(entry(number)).encode() for number in range(3)).data
    place = Place(name, see(directory / name), data=b"{}")
    done = await cache.change(
        Change(index=IndexReplacement(see_index(directory), data), place=(place,)), TransactionKind.REPAIR
    )
    assert (directory / "index.json").read_bytes() == data
    fill(small)
    await cache.undo(done.id)
    assert tree(directory) == before


async def test_a_name_is_pointed_and_the_trash_emptied_without_room(small: Path) -> None:
    directory = small / "cache"
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    before = tree(directory)
    fill(small)
    first = (await cache.list())[0]
    done = await cache.change(
        Change(index=IndexEdit((Remove(0, first.raw),), (Insert(first.raw),))), TransactionKind.REPAIR
    )
    assert (await cache.list())[-1] == first
    fill(small)
    await cache.undo(done.id)
    assert tree(directory) == before
    fill(small)
    assert (await cache.empty_trash()).files == 1


def test_what_an_error_advises_makes_room(small: Path) -> None:
    """Without any reserve, and no room to make so much as its folder."""
    directory = small / "cache"
    (directory / f"{key(0)[0]}.squashfs").write_bytes(b"x" * (1 << 18))
    asyncio.run(PackerCache(directory).delete([key(0)]))
    shutil.rmtree(directory / OWN / "reserve")
    fill(small)
    before = tree(directory)
    with pytest.raises(StorageError) as caught:
        asyncio.run(PackerCache(directory).delete([key(1)]))
    assert f"the trash holds {1 << 18} bytes" in caught.value.hint
    assert "`ocitui trash empty`" in caught.value.hint
    assert tree(directory) == before
    assert run(["-C", str(directory), "trash", "empty", "--yes"]) == 0
    assert run(["-C", str(directory), "delete", key(1)[0], "--format", "squashfs", "--yes"]) == 0
    asyncio.run(PackerCache(directory).undo())
    assert tree(directory) == before


@pytest.mark.parametrize("folder", ["corrupt", "aside", "import/4-abcd", "blobs"])
def test_whatever_takes_the_most_room_is_named(folder: str, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    write_cache(directory, range(2))
    large = directory / OWN / folder
    large.mkdir(parents=True)
    (large / "large").write_bytes(bytes(1 << 18))
    advice = what_frees(directory)
    assert str(1 << 18) in advice
    if folder in ("corrupt", "aside"):
        assert f"{large} holds" in advice
    else:
        assert "`ocitui imports --clear`" in advice
        assert run(["-C", str(directory), "imports", "--clear", "--yes"]) == 0
        assert not (large / "large").exists() or folder == "blobs"


def test_what_takes_next_to_no_room_is_not_advised_against(tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", range(2))
    asyncio.run(PackerCache(tmp_path / "cache").delete([key(0)]))
    assert what_frees(tmp_path / "cache").startswith("remove something else from this file system")


def reserve_sizes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (directory / OWN / "reserve").iterdir()}


async def test_the_reserve_is_whole_after_each_write_whoever_took_from_it(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    write_cache(directory, range(3))
    async with await PackerCache.open(directory) as cache:
        await cache.delete([key(0)])
        whole = reserve_sizes(directory)
        assert len(whole) > 2
        (directory / OWN / "reserve" / "00").unlink()
        await cache.undo()
        assert reserve_sizes(directory) == whole
        os.truncate(directory / OWN / "reserve" / "01", 0)
        await cache.delete([key(0)])
        assert reserve_sizes(directory) == whole
        # Another program's index, that the reserve is too small for.
        large = [{**entry(0), "annotations": {**entry(0)["annotations"], "note": "x" * (1 << 18)}}, entry(1), entry(2)]
        (directory / "index.json").write_bytes(index_bytes(large))
        await cache.delete([key(1)])
        assert reserve_sizes(directory)["index"] > whole["index"] + (1 << 17)


async def test_room_that_was_lent_is_kept_again_by_a_program_that_goes_on(small: Path) -> None:
    directory = small / "cache"
    async with await PackerCache.open(directory) as cache:
        await cache.delete([key(0)])
        whole = reserve_sizes(directory)
        fill(small)
        await cache.delete([key(1)])
        assert reserve_sizes(directory) != whole
        for path in small.glob("filler*"):
            path.unlink()
        await cache.delete([key(2)])
        assert reserve_sizes(directory) == whole
