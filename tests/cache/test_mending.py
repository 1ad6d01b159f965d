"""A mend: one transaction bound to what was seen, and reversed byte for byte."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ocitui.cache import (
    ChangeMode,
    ConflictError,
    CorruptIndexError,
    Discard,
    DocumentError,
    IndexEdit,
    IndexReplacement,
    IndexSeen,
    Insert,
    Mend,
    NoSuchTransactionError,
    PackerCache,
    Place,
    PlanChangedError,
    ReadOnlyError,
    Remove,
    TransactionKind,
    TransactionState,
    new_index,
    see,
    see_index,
)
from tests.cache.mends import FOLDER, MENDS, STRAY, MendScene, mend_scene, states, undo_scene
from tests.cache.steps import key
from tests.cache.support import OWN, entry, index_bytes, make_image, stored, trash, tree, write_cache


@pytest.mark.parametrize("name", MENDS)
async def test_it_is_undone_byte_for_byte(name: str, memory_path: Path) -> None:
    snapshot, make = await mend_scene(name, memory_path)
    before, there = states(snapshot), snapshot.everything()
    done = await PackerCache(snapshot.directory).mend(make(snapshot))
    mended = states(snapshot)
    assert mended != before
    assert not there - snapshot.everything()
    assert (done.kind, done.state) == (TransactionKind.MEND, TransactionState.DONE)
    cache = PackerCache(snapshot.directory)
    undone = await cache.undo(done.id)
    assert states(snapshot) == before
    assert (undone.kind, undone.of) == (TransactionKind.UNDO, done.id)
    redone = await cache.undo(undone.id)
    assert states(snapshot) == mended
    await PackerCache(snapshot.directory).undo(redone.id)
    assert states(snapshot) == before
    assert not there - snapshot.everything()
    assert [one.state for one in await cache.transactions()][-2:] == [TransactionState.UNDONE, TransactionState.DONE]


async def changed(snapshot: MendScene, mend: Mend, match: str = "") -> None:
    """The mend is refused because of what it saw, and nothing is done."""
    before, there = states(snapshot), snapshot.everything()
    with pytest.raises(PlanChangedError, match=match):
        await PackerCache(snapshot.directory).mend(mend)
    assert (states(snapshot), snapshot.everything()) == (before, there)
    assert os.listdir(snapshot.directory / OWN / "staging") == []


async def test_it_is_bound_to_what_was_seen(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.changing.PATIENCE_SECONDS", 0.05)
    snapshot, make = await mend_scene("everything", memory_path)
    mend = make(snapshot)
    await changed(snapshot, replace(mend, discard=(Discard("gone", mend.discard[0].seen),)), "gone has changed")
    await changed(snapshot, Mend(place=(Place(STRAY, data=b""),)), "stray has changed")
    await changed(snapshot, replace(mend, modes=(ChangeMode(STRAY, 0o600, 0o644),)), "mode of stray")
    await changed(snapshot, Mend(place=(Place("new", path=snapshot.sources / "absent"),)), "absent is gone")
    await changed(snapshot, Mend(place=(Place("new", trash="absent"),)), "absent in the trash is gone")
    await changed(snapshot, Mend(place=(Place("new", trash="../journal"),)), "is gone")
    wrong = see(snapshot.sources / "moved")
    await changed(
        snapshot, Mend(place=(Place("new", path=snapshot.sources / "copied", source=wrong),)), "copied has changed"
    )
    raw = snapshot.index().descriptors[0].raw
    for removal in (Remove(1, raw), Remove(99, raw), Remove(-1, raw), Remove(0, raw + b" ")):
        await changed(snapshot, Mend(index=IndexEdit((removal,))), "entry .* of the index has changed")
    await changed(
        snapshot, Mend(index=IndexEdit((Remove(0, raw),), seen=IndexSeen.of_bytes(b""))), "index.json has changed"
    )
    (snapshot.directory / FOLDER / "more").write_bytes(b"")
    await changed(snapshot, mend, "folder has changed")


@pytest.mark.parametrize("name", ["corrupt", "absent", "directory", "link"])
async def test_a_replacement_is_bound_to_what_stood_there(
    name: str, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.cache.changing.PATIENCE_SECONDS", 0.05)
    snapshot, make = await mend_scene(name, memory_path)
    mend, index = make(snapshot), snapshot.directory / "index.json"
    if index.is_dir() and not index.is_symlink():
        (index / "more").write_bytes(b"")
    else:
        index.unlink(missing_ok=True)
        index.write_bytes(b"corrupt in another way")
    await changed(snapshot, mend, "index.json has changed")


async def test_no_index_is_written_that_the_daemon_would_not_load(memory_path: Path) -> None:
    snapshot, _ = await mend_scene("corrupt", memory_path)
    before, cache, seen = states(snapshot), PackerCache(snapshot.directory), see_index(snapshot.directory)
    for data in (b"", b"{}", b'{"schemaVersion":2,"manifests":[{}]}', b"\xff"):
        with pytest.raises(CorruptIndexError):
            await cache.mend(Mend(index=IndexReplacement(seen, data)))
    assert states(snapshot) == before
    snapshot, _ = await mend_scene("point", memory_path / "sound")
    before, cache, seen = states(snapshot), PackerCache(snapshot.directory), see_index(snapshot.directory)
    with pytest.raises(DocumentError):
        await cache.mend(Mend(index=IndexEdit(insert=(Insert(b"{}"),))))
    with pytest.raises(ConflictError, match="is not replaced"):
        await cache.mend(Mend(index=IndexReplacement(seen, new_index([]))))
    assert states(snapshot) == before


async def test_what_is_refused(memory_path: Path) -> None:
    snapshot, make = await mend_scene("discard", memory_path)
    before, cache, stray = states(snapshot), PackerCache(snapshot.directory), see(snapshot.directory / STRAY)
    assert stray is not None
    for name in ("", ".", "..", "../sources/moved", "index.json", OWN, "nul\0", "\udcff"):
        with pytest.raises(ConflictError, match="cannot be mended"):
            await cache.mend(Mend(discard=(Discard(name, stray),)))
    with pytest.raises(ConflictError, match="twice"):
        await cache.mend(Mend(discard=(Discard(STRAY, stray),), modes=(ChangeMode(STRAY, 0o200, 0o600),)))
    with pytest.raises(ConflictError, match="changes nothing"):
        await cache.mend(Mend())
    with pytest.raises(ConflictError, match="not a regular file"):
        await cache.mend(Mend(place=(Place("new", path=snapshot.sources),)))
    with pytest.raises(ValueError, match="one of them only"):
        Place("new", data=b"", trash="too")
    with pytest.raises(ReadOnlyError):
        await PackerCache(snapshot.directory, read_only=True).mend(make(snapshot))
    assert states(snapshot) == before


async def test_a_source_that_is_copied_stays(memory_path: Path) -> None:
    snapshot, make = await mend_scene("place-path", memory_path)
    await PackerCache(snapshot.directory).mend(make(snapshot))
    assert [path.name for path in snapshot.sources.iterdir()] == ["copied"]
    snapshot, _ = await mend_scene("modes", memory_path / "again")
    # Renamed away, another name of it would be gone; from the cache itself, an entry's file.
    os.link(snapshot.sources / "moved", snapshot.sources / "linked")
    await PackerCache(snapshot.directory).mend(Mend(place=(Place("one", path=snapshot.sources / "moved"),)))
    assert (snapshot.sources / "moved").read_bytes() == (snapshot.directory / "one").read_bytes() == b"moved"
    await PackerCache(snapshot.directory).mend(Mend(place=(Place("two", path=snapshot.directory / "one"),)))
    assert (snapshot.directory / "one").read_bytes() == (snapshot.directory / "two").read_bytes()


async def test_an_entry_points_a_name_again(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    (directory / "index.json").write_bytes(index_bytes([entry(0, name="a:1"), entry(1, name="a:1")]))
    cache = PackerCache(directory)
    older = (await cache.list())[0]
    await cache.mend(Mend(index=IndexEdit((Remove(0, older.raw),), (Insert(older.raw),))))
    winner = (await cache.index()).by_name("a:1")
    assert winner is not None
    assert winner.digest == older.digest
    assert trash(directory) == []


async def test_an_undo_is_refused_where_the_cache_went_on(memory_path: Path) -> None:
    snapshot, _ = await undo_scene("corrupt", memory_path)
    cache = PackerCache(snapshot.directory)
    await stored(cache, memory_path / "source", "later")
    with pytest.raises(ConflictError, match="was changed since"):
        await cache.undo(snapshot.target)
    await cache.undo()
    await cache.undo(snapshot.target)
    assert (snapshot.directory / "index.json").read_bytes() == b'{"schemaVersion":2,'


async def test_a_document_that_a_later_entry_needs_stays(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(1))
    cache, image = PackerCache(directory), make_image(memory_path / "packed", "new")
    name = f"{image.digest}.manifest.json"
    done = await cache.mend(Mend(place=(Place(name, data=image.manifest.raw),)))
    await cache.store(image)
    with pytest.raises(ConflictError, match="nothing is left"):
        await cache.undo(done.id)
    assert (directory / name).read_bytes() == image.manifest.raw


async def test_an_entry_that_came_back_meanwhile_is_in_the_way(memory_path: Path) -> None:
    snapshot, _ = await undo_scene("drop-all", memory_path)
    cache = PackerCache(snapshot.directory)
    await stored(cache, memory_path / "source", "1", name="another:1")
    with pytest.raises(ConflictError, match="was stored since"):
        await cache.undo(snapshot.target)


async def test_a_reset_is_undone(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    (directory / "index.json").write_bytes(b'{"schemaVersion":2,')
    before = tree(directory)
    cache = await PackerCache.open(directory, on_corrupt="reset")
    assert await cache.list() == []
    (reset,) = await cache.transactions()
    with pytest.raises(NoSuchTransactionError):
        await cache.undo()
    await cache.undo(reset.id)
    assert tree(directory) == before


async def test_records_of_an_older_ocitui_are_read(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    before = tree(directory)
    done = await PackerCache(directory).delete([key(0)])
    record = directory / OWN / "journal" / f"{done.id}.done.json"
    fields = json.loads(record.read_bytes())
    for name in ("modes", "swap", "keeps_gaps", "marked", "stage"):
        del fields[name]
    for part in (*fields["removed"], *fields["discarded"]):
        part.pop("twins", None)
        part.pop("inode", None)
    record.write_text(json.dumps(fields))
    await PackerCache(directory).undo(done.id)
    assert tree(directory) == before


async def test_damaged_records_are_reported(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    assert await PackerCache(directory).damaged_records() == []
    done = await PackerCache(directory).delete([key(0)])
    record = directory / OWN / "journal" / f"{done.id}.done.json"
    record.write_bytes(record.read_bytes()[:40])
    (damaged,) = await PackerCache(directory).damaged_records()
    assert (damaged.id, damaged.name, damaged.state) == (done.id, record.name, TransactionState.DONE)
    assert "cannot be read" in damaged.reason
