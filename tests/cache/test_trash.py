"""The trash: listed, brought back singly, and emptied only when asked."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ocitui.cache import (
    Change,
    ConflictError,
    Discard,
    IndexReplacement,
    NoSuchTransactionError,
    PackerCache,
    ReadOnlyError,
    TransactionKind,
    TransactionState,
    new_index,
    see,
    see_index,
)
from ocitui.cache.workspace import TRASH_NAME, sizes_in_own_folder
from tests.cache.scenes import InterruptedDisk, Stop, StoppingDisk, interrupted, key
from tests.cache.support import EROFS, OWN, SQUASHFS, trash, tree, write_cache


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    write_cache(folder, range(3), (SQUASHFS, EROFS))
    return folder


def packed(number: int) -> str:
    return f"{key(number)[0]}.squashfs"


def test_its_size_however_deep_a_directory_in_it_is(tmp_path: Path) -> None:
    (tmp_path / OWN / "trash").mkdir(parents=True)
    (tmp_path / OWN / "trash" / "file").write_bytes(bytes(12))
    here = os.open(tmp_path / OWN / "trash", os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        here = entered(here, "d")
    try:
        assert sizes_in_own_folder(tmp_path, TRASH_NAME) == {TRASH_NAME: 12}
    finally:
        # What removes the scratch of tests goes no deeper than the interpreter does.
        for _ in range(1100):
            here = entered(here, "..")
            os.rmdir("d", dir_fd=here)
        os.close(here)


def entered(folder: int, name: str) -> int:
    there = os.open(name, os.O_RDONLY, dir_fd=folder)
    os.close(folder)
    return there


async def test_it_is_listed(directory: Path) -> None:
    cache = PackerCache(directory)
    assert await cache.trash() == []
    done = await cache.delete([key(0)])
    later = await cache.delete([key(1)])
    newest, oldest = await cache.trash()
    assert (newest.transaction, oldest.transaction) == (later.id, done.id)
    assert (oldest.name, oldest.kind, oldest.size) == (packed(0), "file", len(b"packed 0 squashfs"))
    assert (oldest.when, oldest.undoable, oldest.recorded) == (done.started, True, True)
    await cache.undo(done.id)
    assert [file.transaction for file in await cache.trash()] == [later.id]


async def test_every_kind_of_file(directory: Path) -> None:
    (directory / "folder").mkdir()
    for name in ("one", "two"):
        (directory / "folder" / name).write_bytes(b"12345")
    (directory / "link").symlink_to("nowhere")
    os.mkfifo(directory / "fifo")
    (directory / "index.json").write_bytes(b"corrupt")
    found = {name: see(directory / name) for name in ("folder", "link", "fifo")}
    cache = PackerCache(directory)
    discard = tuple(Discard(name, seen) for name, seen in found.items() if seen)
    replacement = IndexReplacement(see_index(directory), new_index([]).data)
    await cache.change(Change(index=replacement, discard=discard), TransactionKind.REPAIR)
    listed = {file.name: (file.kind, file.size) for file in await cache.trash()}
    assert listed == {
        "folder": ("directory", 10),
        "link": ("link", len("nowhere")),
        "fifo": ("fifo", 0),
        "index.json": ("file", len(b"corrupt")),
    }


async def test_files_without_a_readable_record(directory: Path) -> None:
    cache = PackerCache(directory)
    done = await cache.delete([key(0)])
    (directory / OWN / "journal" / f"{done.id}.done.json").write_bytes(b"{")
    (directory / OWN / "trash" / "nobody knows").write_bytes(b"?")
    (directory / OWN / "trash" / f"{done.id}.index~12345678~index.json").write_bytes(b"displaced")
    listed = {file.trash: file for file in await cache.trash()}
    known = listed.pop(f"{done.id}~{packed(0)}")
    assert (known.name, known.transaction, known.undoable, known.recorded) == (packed(0), done.id, False, False)
    displaced = listed.pop(f"{done.id}.index~12345678~index.json")
    assert (displaced.name, displaced.transaction) == ("", done.id)
    (unknown,) = listed.values()
    assert (unknown.name, unknown.transaction, unknown.undoable) == ("", "", False)
    assert (await cache.empty_trash()).files == 0
    assert (await cache.empty_trash(ids=[done.id])).files == 2
    assert trash(directory) == [b"?"]


async def test_a_file_is_brought_back(directory: Path) -> None:
    before, cache = tree(directory), PackerCache(directory)
    await cache.delete([key(0), key(0, "erofs")])
    deleted, files = tree(directory), await cache.trash()
    manifest = next(file for file in files if file.name.endswith("manifest.json"))
    done = await cache.restore([manifest.trash])
    assert tree(directory) == {**deleted, manifest.name: before[manifest.name]}
    assert manifest.trash not in [file.trash for file in await cache.trash()]
    await cache.undo(done.id)
    assert tree(directory) == deleted
    # The undo of a restore leaves the deletion as it was: it can be undone.
    await cache.undo()
    assert tree(directory) == before


async def test_a_transaction_is_undone_though_one_file_is_back_already(directory: Path) -> None:
    before, cache = tree(directory), PackerCache(directory)
    done = await cache.delete([key(0)])
    await cache.restore([file.trash for file in await cache.trash()])
    await cache.undo(done.id)
    assert tree(directory) == before


async def test_it_never_overwrites(directory: Path) -> None:
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    (file,) = await cache.trash()
    (directory / file.name).write_bytes(b"in the place")
    before = tree(directory)
    with pytest.raises(ConflictError, match="stands in the place"):
        await cache.restore([file.trash])
    for name in ("absent", "../journal", ""):
        with pytest.raises(ConflictError, match="does not hold"):
            await cache.restore([name])
    (directory / OWN / "trash" / "nobody knows").write_bytes(b"?")
    with pytest.raises(ConflictError, match="by itself"):
        await cache.restore(["nobody knows"])
    assert tree(directory) == before


async def test_it_is_emptied_only_when_asked(directory: Path) -> None:
    cache = PackerCache(directory)
    first, second = await cache.delete([key(0)]), await cache.delete([key(1)])
    size = len(b"packed 0 squashfs")
    assert (await cache.empty_trash(before=first.started)).files == 0
    emptied = await cache.empty_trash(before=second.started)
    assert (emptied.files, emptied.bytes) == (1, size)
    states = {one.id: one.state for one in await cache.transactions()}
    assert states == {second.id: TransactionState.DONE, first.id: TransactionState.EMPTIED}
    with pytest.raises(ConflictError, match="emptied"):
        await cache.undo(first.id)
    await cache.undo()
    with pytest.raises(NoSuchTransactionError):
        await cache.undo()
    third, fourth = await cache.delete([key(1)]), await cache.delete([key(2)])
    assert (await cache.empty_trash(ids=[fourth.id])).files == 1
    await cache.undo(third.id)
    await cache.delete([key(1)])
    assert (await cache.empty_trash(before=time.time() + 1)).files == 1
    assert trash(directory) == []
    assert (await cache.empty_trash()).files == 0


async def test_of_no_transactions_nothing_goes(directory: Path) -> None:
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    assert (await cache.empty_trash(ids=[])).files == 0
    assert (await cache.empty_trash()).files > 0


async def test_what_it_refuses(directory: Path) -> None:
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    with pytest.raises(NoSuchTransactionError):
        await cache.empty_trash(ids=["20000101T000000000000-abcd"])
    reader = PackerCache(directory, read_only=True)
    for refused in (reader.empty_trash(), reader.restore([(await cache.trash())[0].trash])):
        with pytest.raises(ReadOnlyError):
            await refused
    assert len(await reader.trash()) == 1


async def test_a_directory_is_removed_with_all_in_it_and_nothing_else(directory: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"stays")
    (directory / "folder").mkdir()
    (directory / "folder" / "link").symlink_to(outside)
    seen = see(directory / "folder")
    assert seen is not None
    cache = PackerCache(directory)
    await cache.change(Change(discard=(Discard("folder", seen),)), TransactionKind.REPAIR)
    await cache.empty_trash()
    assert os.listdir(directory / OWN / "trash") == []
    assert (outside / "file").read_bytes() == b"stays"


async def test_a_crash_while_it_is_emptied(directory: Path) -> None:
    cache = PackerCache(directory)
    done = await cache.delete([key(0), key(0, "erofs"), key(1)])
    there = len(trash(directory))
    for at in range(100):
        try:
            await PackerCache(directory, disk=StoppingDisk(at)).empty_trash()
        except Stop:
            (state,) = [one.state for one in await cache.transactions() if one.id == done.id]
            assert state is TransactionState.EMPTIED or len(trash(directory)) == there
        else:
            break
    assert trash(directory) == []


@pytest.mark.slow
async def test_nothing_goes_that_a_pending_transaction_needs(directory: Path) -> None:
    before = tree(directory)
    done = await PackerCache(directory).delete([key(0)])
    index = (directory / "index.json").read_bytes()
    pending = await interrupted(directory, PackerCache(directory, disk=InterruptedDisk()).undo(done.id))
    # While the index does not read, nobody can tell whether that undo is to be finished.
    (directory / "index.json").write_bytes(b"{")
    there = trash(directory)
    assert (await PackerCache(directory).empty_trash()).files == 0
    assert (await PackerCache(directory).empty_trash(ids=[done.id, pending])).files == 0
    assert sorted(trash(directory)) == sorted(there)
    (directory / "index.json").write_bytes(index)
    await PackerCache(directory).undo(done.id)
    assert tree(directory) == before


async def test_nothing_goes_beside_what_a_later_version_left_pending(directory: Path) -> None:
    done = await PackerCache(directory).delete([key(0)])
    later = {"version": 99, "id": "000900-abcd", "sequence": 900, "kind": "undo", "started": 1.7e9, "by": "x"}
    record = directory / OWN / "journal" / "000900-abcd.pending.json"
    record.write_text(json.dumps(later))
    there = trash(directory)
    with pytest.raises(ConflictError, match="version 99"):
        await PackerCache(directory).empty_trash()
    assert trash(directory) == there
    record.rename(record.with_name("000900-abcd.void.json"))
    assert (await PackerCache(directory).empty_trash(ids=[done.id])).files
