"""An edit that another program's rewrite undid: noticed, and done again on request."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.cache import (
    Change,
    ConflictError,
    IndexEdit,
    IndexReplacement,
    Insert,
    NoSuchEntryError,
    PackerCache,
    Remove,
    TransactionKind,
    new_index,
    see_index,
)
from ocitui.cache.undoing import Overwritten, edit_again, find_overwritten
from tests.cache.scenes import key
from tests.cache.support import (
    EROFS,
    OWN,
    SQUASHFS,
    digests_and_formats,
    entry,
    index_bytes,
    make_image,
    stored,
    write_cache,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    write_cache(folder, range(3), (SQUASHFS, EROFS))
    return folder


def memory_wins(directory: Path, *, with_entry: int = 50) -> None:
    """The daemon stores another image: its index is as it was before the edit, with one more."""
    descriptors = [entry(number, format=format_) for number in range(3) for format_ in ("squashfs", "erofs")]
    (directory / "index.json").write_bytes(index_bytes([*descriptors, entry(with_entry)]))


async def overwritten(cache: PackerCache) -> list[Overwritten]:
    return find_overwritten(cache.directory, await cache.index())


async def make_again(cache: PackerCache) -> None:
    (lost,) = await overwritten(cache)
    edit = edit_again(cache.directory, await cache.index(), lost)
    await cache.change(Change(edit), TransactionKind.REDO)


async def test_a_deletion(directory: Path) -> None:
    cache = PackerCache(directory)
    done = await cache.delete([key(0), key(1, "erofs")])
    assert await overwritten(cache) == []
    memory_wins(directory)
    (found,) = await overwritten(cache)
    assert found.transaction.id == done.id
    assert [one.key for one in found.returned] == [key(0), key(1, "erofs")]
    assert (found.missing, found.moved_back) == ((), ())
    await make_again(cache)
    assert digests_and_formats(directory) == [key(0, "erofs"), key(1), key(2), key(2, "erofs"), key(50)]
    assert await overwritten(cache) == []


async def test_what_was_pulled_again_is_no_overwriting(directory: Path) -> None:
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    image = make_image(directory / f"{key(0)[0]}.squashfs", "0", name="image0:1")
    memory_wins(directory)
    assert image.path.exists()
    assert await overwritten(cache) == []


async def test_a_store(directory: Path, tmp_path: Path) -> None:
    cache = PackerCache(directory)
    image = await stored(cache, tmp_path / "source", "new")
    memory_wins(directory)
    (found,) = await overwritten(cache)
    assert [one.key for one in found.missing] == [(image.digest, "squashfs")]
    await make_again(cache)
    assert digests_and_formats(directory)[-1] == (image.digest, "squashfs")
    assert await overwritten(cache) == []
    memory_wins(directory)
    image.path.unlink()
    with pytest.raises(ConflictError, match="not there any more"):
        await make_again(cache)


async def test_a_store_that_replaced_an_entry(directory: Path, tmp_path: Path) -> None:
    cache = PackerCache(directory)
    await stored(cache, tmp_path / "source", "1", name="renamed:1", content=b"packed 1 squashfs")
    memory_wins(directory)
    (found,) = await overwritten(cache)
    assert [one.image_name for one in found.returned] == ["image1:1"]
    assert [one.key for one in found.missing] == [key(1)]
    await make_again(cache)
    assert [one.image_name for one in await cache.list() if one.key == key(1)] == [found.missing[0].image_name]
    assert await overwritten(cache) == []


async def test_a_name_that_was_pointed(directory: Path) -> None:
    entries = [entry(0, name="a:1"), entry(1, name="a:1"), entry(2)]
    (directory / "index.json").write_bytes(index_bytes(entries))
    cache = PackerCache(directory)
    first = (await cache.list())[0]
    await cache.change(Change(index=IndexEdit((Remove(0, first.raw),), (Insert(first.raw),))), TransactionKind.REPAIR)
    pointed = (directory / "index.json").read_bytes()
    assert await overwritten(cache) == []
    (directory / "index.json").write_bytes(index_bytes([*entries, entry(9)]))
    (found,) = await overwritten(cache)
    assert [one.key for one in found.moved_back] == [key(0)]
    await make_again(cache)
    winner = (await cache.index()).by_name("a:1")
    assert winner is not None
    assert winner.digest == key(0)[0]
    assert await overwritten(cache) == []
    assert pointed != (directory / "index.json").read_bytes()


async def test_a_duplicate_that_came_back(directory: Path) -> None:
    twice = [entry(0), entry(1), entry(0)]
    (directory / "index.json").write_bytes(index_bytes(twice))
    cache = PackerCache(directory)
    await cache.change(Change(index=IndexEdit((Remove(0, (await cache.list())[0].raw),))), TransactionKind.REPAIR)
    assert await overwritten(cache) == []
    (directory / "index.json").write_bytes(index_bytes([*twice, entry(9)]))
    (found,) = await overwritten(cache)
    assert len(found.returned) == 1
    await make_again(cache)
    assert digests_and_formats(directory) == [key(1), key(0), key(9)]


async def test_a_duplicate_of_which_the_packed_file_is_gone(directory: Path) -> None:
    (directory / "index.json").write_bytes(index_bytes([entry(0), entry(1), entry(0)]))
    (directory / f"{key(0)[0]}.squashfs").unlink()
    cache = PackerCache(directory)
    await cache.change(Change(index=IndexEdit((Remove(0, (await cache.list())[0].raw),))), TransactionKind.REPAIR)
    assert await overwritten(cache) == []


async def test_what_was_stored_anew_is_known_by_its_packed_file_whatever_the_clock_said(directory: Path) -> None:
    """Only the entry had left; its packed file had stayed in its place."""
    cache, packed = PackerCache(directory), directory / f"{key(0)[0]}.squashfs"
    done = await cache.change(
        Change(index=IndexEdit((Remove(0, (await cache.list())[0].raw),))), TransactionKind.REPAIR
    )
    memory_wins(directory)
    later, earlier = (done.started + 1000, done.started + 1000), (1.0, 1.0)
    there = packed.stat()
    assert [one.transaction.id for one in await overwritten(cache)] == [done.id]
    for times in (later, earlier):
        os.utime(packed, times)
        assert await overwritten(cache) == []
    os.utime(packed, ns=(there.st_mtime_ns, there.st_mtime_ns))
    packed.write_bytes(packed.read_bytes() + b"more")
    os.utime(packed, ns=(there.st_mtime_ns, there.st_mtime_ns))
    assert await overwritten(cache) == []


async def test_a_later_transaction_has_the_last_word(directory: Path, tmp_path: Path) -> None:
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    await cache.undo()
    assert await overwritten(cache) == []
    await stored(cache, tmp_path / "source", "new")
    await cache.delete([(make_image(tmp_path / "x", "new").digest, "squashfs")])
    assert await overwritten(cache) == []


async def test_an_undo_that_was_overwritten(directory: Path) -> None:
    cache, before = PackerCache(directory), digests_and_formats(directory)
    await cache.delete([key(0)])
    deleted = (directory / "index.json").read_bytes()
    undone = await cache.undo()
    (directory / "index.json").write_bytes(deleted)
    (found,) = await overwritten(cache)
    assert found.transaction.id == undone.id
    await make_again(cache)
    assert digests_and_formats(directory) == before


async def test_what_came_before_a_new_index_is_not_asked(directory: Path) -> None:
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    (directory / "index.json").write_bytes(b"corrupt")
    await cache.change(Change(index=IndexReplacement(see_index(directory), new_index([]).data)), TransactionKind.REPAIR)
    memory_wins(directory)
    assert await overwritten(cache) == []


async def test_nothing_is_to_be_redone(directory: Path) -> None:
    cache = PackerCache(directory)
    assert await overwritten(cache) == []
    with pytest.raises(NoSuchEntryError):
        await cache.delete([key(9)])
    await cache.delete([key(0)])
    assert await overwritten(cache) == []


@contextmanager
def coming_to_an_end(cpu_seconds: float = 5) -> Iterator[None]:
    """Fails where what is done goes round in circles, which else only hangs."""

    def give_up(*_: object) -> None:
        raise AssertionError("it comes to no end")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("turn", [["undo", "undo"], ["undo", "second"]])
async def test_records_that_take_back_each_other_come_to_an_end(directory: Path, turn: list[str]) -> None:
    """No program of ours writes such; a journal is input like any other."""
    cache = PackerCache(directory)
    undo = await cache.undo((await cache.delete([key(0)])).id)
    ids = {"undo": undo.id, "second": (await cache.undo(undo.id)).id}
    for name, of in zip(turn, reversed(turn), strict=True):
        (record,) = (directory / OWN / "journal").glob(f"{ids[name]}.*")
        record.write_text(json.dumps({**json.loads(record.read_text()), "of": ids[of]}))
    assert [one.of for one in await cache.transactions() if one.id == ids[turn[0]]] == [ids[turn[1]]]
    with coming_to_an_end():
        assert await overwritten(cache) == []
