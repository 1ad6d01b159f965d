"""A change: one transaction bound to what was seen, and reversed byte for byte."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from ocitui.cache import (
    Change,
    ChangeMode,
    ConflictError,
    CorruptIndexError,
    Discard,
    DocumentError,
    ImageIndex,
    IndexEdit,
    IndexReplacement,
    IndexSeen,
    Insert,
    NoSuchTransactionError,
    PackerCache,
    Place,
    PlanChangedError,
    ReadOnlyError,
    Remove,
    TransactionKind,
    TransactionState,
    list_backups,
    new_index,
    see,
    see_index,
)
from ocitui.cache.backups import read_backup
from ocitui.cache.changes import see_index_in
from ocitui.cache.disk import Disk, Folder
from tests.cache.scenes import ACTS, FOLDER, STRAY, Scene, everything_changed, key, replaced, scene_of
from tests.cache.support import OWN, corrupt_copies, entry, index_bytes, make_image, stored, trash, tree, write_cache


@pytest.mark.parametrize("name", ACTS)
async def test_it_is_undone_byte_for_byte(name: str, memory_path: Path) -> None:
    scene, act = await scene_of(name, memory_path)
    before, there = scene.states(), scene.everything()
    await act(PackerCache(scene.directory), scene)
    changed = scene.states()
    assert changed != before
    assert not there - scene.everything()
    cache = PackerCache(scene.directory)
    done = (await cache.transactions())[0]
    assert (done.sequence, done.state) == (2, TransactionState.DONE)
    undone = await cache.undo(done.id)
    assert scene.states() == before
    assert (undone.kind, undone.of, undone.sequence) == (TransactionKind.UNDO, done.id, 3)
    redone = await cache.undo(undone.id)
    assert scene.states() == changed
    await PackerCache(scene.directory).undo(redone.id)
    assert scene.states() == before
    assert not there - scene.everything()
    assert [one.state for one in await cache.transactions()][:4] == [
        TransactionState.DONE, *[TransactionState.UNDONE] * 3
    ]  # fmt: skip


async def changed(scene: Scene, change: Change, match: str = "") -> None:
    """The mend is refused because of what it saw, and nothing is done."""
    before, there = scene.states(), scene.everything()
    with pytest.raises(PlanChangedError, match=match):
        await PackerCache(scene.directory).change(change, TransactionKind.REPAIR)
    assert (scene.states(), scene.everything()) == (before, there)
    assert os.listdir(scene.directory / OWN / "staging") == []


async def test_it_is_bound_to_what_was_seen(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.transactions.PATIENCE_SECONDS", 0.05)
    scene, _ = await scene_of("everything", memory_path)
    change = everything_changed(scene)
    await changed(scene, replace(change, discard=(Discard("gone", change.discard[0].seen),)), "gone has changed")
    await changed(scene, Change(place=(Place(STRAY, data=b""),)), "stray has changed")
    await changed(scene, replace(change, modes=(ChangeMode(STRAY, 0o600, 0o644),)), "mode of stray")
    await changed(scene, Change(place=(Place("new", path=scene.sources / "absent"),)), "absent is gone")
    await changed(scene, Change(place=(Place("new", trash="absent"),)), "absent in the trash is gone")
    await changed(scene, Change(place=(Place("new", trash="../journal"),)), "is gone")
    wrong = see(scene.sources / "moved")
    await changed(
        scene, Change(place=(Place("new", path=scene.sources / "copied", source=wrong),)), "copied has changed"
    )
    raw, next_to_last = scene.index().descriptors[0].raw, scene.index().descriptors[-2].raw
    for removal in (Remove(1, raw), Remove(99, raw), Remove(-2, next_to_last), Remove(0, raw + b" ")):
        await changed(scene, Change(index=IndexEdit((removal,))), "entry .* of the index has changed")
    await changed(
        scene, Change(index=IndexEdit((Remove(0, raw),), seen=IndexSeen.of_bytes(b""))), "index.json has changed"
    )
    (scene.directory / FOLDER / "more").write_bytes(b"")
    await changed(scene, change, "folder has changed")
    (scene.directory / "index.json").unlink()
    await changed(scene, Change(IndexEdit(insert=(Insert(raw),))), "index.json is gone")


@pytest.mark.parametrize("name", ["corrupt", "absent", "directory", "link"])
async def test_a_replacement_is_bound_to_what_stood_there(
    name: str, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.cache.transactions.PATIENCE_SECONDS", 0.05)
    scene, _ = await scene_of(name, memory_path)
    change, index = replaced(scene), scene.directory / "index.json"
    if index.is_dir() and not index.is_symlink():
        (index / "more").write_bytes(b"")
    else:
        index.unlink(missing_ok=True)
        index.write_bytes(b"corrupt in another way")
    await changed(scene, change, "index.json has changed")


async def test_a_replacement_waits_for_a_torn_write_to_end(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, _ = await scene_of("corrupt", memory_path)
    change, looks = replaced(scene), [IndexSeen(), IndexSeen()]

    def torn_at_first(root: Folder) -> IndexSeen:
        return looks.pop() if looks else see_index_in(root)

    monkeypatch.setattr("ocitui.cache.transactions.see_index_in", torn_at_first)
    monkeypatch.setattr("ocitui.cache.transactions.PATIENCE_SECONDS", 600.0)
    await PackerCache(scene.directory).change(change, TransactionKind.REPAIR)
    assert looks == []
    assert scene.entries() == [key(1), key(0)]


async def test_a_new_index_is_kept_as_a_backup_as_well(memory_path: Path) -> None:
    scene, act = await scene_of("corrupt", memory_path)
    await act(PackerCache(scene.directory), scene)
    (done, *_), (newest, *_) = await PackerCache(scene.directory).transactions(), list_backups(scene.directory)
    assert (newest.number, newest.entries) == (done.sequence + 1, 2)
    assert read_backup(scene.directory, newest) == scene.index().data


INSERTS: dict[str, tuple[tuple[int, ...], int | None, list[int]]] = {
    "at the end": ((), None, [0, 1, 2, 3, 9]),
    "beyond the end": ((), 99, [0, 1, 2, 3, 9]),
    "before all": ((), -1, [9, 0, 1, 2, 3]),
    "in between": ((), 2, [0, 1, 9, 2, 3]),
    "behind what leaves": ((0, 1), 3, [2, 9, 3]),
    "in the place of what leaves": ((1,), 1, [0, 9, 2, 3]),
    "before what leaves": ((2, 3), 1, [0, 9, 1]),
    "beyond what is left": ((0, 3), 9, [1, 2, 9]),
}


@pytest.mark.parametrize("where", INSERTS)
async def test_a_descriptor_comes_in_before_the_one_that_was_there(where: str, memory_path: Path) -> None:
    leaving, position, expected = INSERTS[where]
    directory = memory_path / "cache"
    write_cache(directory, range(4))
    cache, raw = PackerCache(directory), ImageIndex.parse(index_bytes([entry(9)])).descriptors[0].raw
    remove = tuple(Remove(at, one.raw) for at, one in enumerate(await cache.list()) if at in leaving)
    await cache.change(Change(IndexEdit(remove, (Insert(raw, position),))), TransactionKind.REPAIR)
    assert [one.key for one in await cache.list()] == [key(number) for number in expected]


async def test_no_index_is_written_that_the_daemon_would_not_load(memory_path: Path) -> None:
    scene, _ = await scene_of("corrupt", memory_path)
    before, cache, seen = scene.states(), PackerCache(scene.directory), see_index(scene.directory)
    for data in (b"", b"{}", b'{"schemaVersion":2,"manifests":[{}]}', b"\xff"):
        with pytest.raises(CorruptIndexError):
            await cache.change(Change(index=IndexReplacement(seen, data)), TransactionKind.REPAIR)
    assert scene.states() == before
    scene, _ = await scene_of("point", memory_path / "sound")
    before, cache, seen = scene.states(), PackerCache(scene.directory), see_index(scene.directory)
    with pytest.raises(DocumentError):
        await cache.change(Change(index=IndexEdit(insert=(Insert(b"{}"),))), TransactionKind.REPAIR)
    with pytest.raises(ConflictError, match="is not replaced"):
        await cache.change(Change(index=IndexReplacement(seen, new_index([]).data)), TransactionKind.REPAIR)
    assert scene.states() == before


async def test_what_is_refused(memory_path: Path) -> None:
    scene, act = await scene_of("discard", memory_path)
    before, cache, stray = scene.states(), PackerCache(scene.directory), see(scene.directory / STRAY)
    assert stray is not None
    for name in ("", ".", "..", "../sources/moved", "index.json", OWN, "nul\0", "\udcff"):
        with pytest.raises(ConflictError, match="cannot be changed"):
            await cache.change(Change(discard=(Discard(name, stray),)), TransactionKind.REPAIR)
    with pytest.raises(ConflictError, match="twice"):
        await cache.change(
            Change(discard=(Discard(STRAY, stray),), modes=(ChangeMode(STRAY, 0o200, 0o600),)), TransactionKind.REPAIR
        )
    with pytest.raises(ConflictError, match="the change is none"):
        await cache.change(Change(), TransactionKind.REPAIR)
    with pytest.raises(ConflictError, match="not a regular file"):
        await cache.change(Change(place=(Place("new", path=scene.sources),)), TransactionKind.REPAIR)
    (scene.sources / "link").symlink_to(scene.sources / "moved")
    (scene.sources / "to a folder").symlink_to(scene.sources)
    for place in (
        Place("new", path=scene.sources / "link"),
        Place("new", path=scene.sources / "to a folder", take=True),
    ):
        with pytest.raises(ConflictError, match="not a regular file"):
            await cache.change(Change(place=(place,)), TransactionKind.REPAIR)
    with pytest.raises(ValueError, match="one of them only"):
        Place("new", data=b"", trash="too")
    with pytest.raises(ReadOnlyError):
        await act(PackerCache(scene.directory, read_only=True), scene)
    assert scene.states() == before


async def test_a_source_that_is_copied_stays(memory_path: Path) -> None:
    scene, act = await scene_of("place-path", memory_path)
    await act(PackerCache(scene.directory), scene)
    assert sorted(os.listdir(scene.sources)) == ["copied", "packed"]
    scene, _ = await scene_of("modes", memory_path / "again")
    # Renamed away, another name of it would be gone; from the cache itself, an entry's file.
    os.link(scene.sources / "moved", scene.sources / "linked")
    await PackerCache(scene.directory).change(
        Change(place=(Place("one", path=scene.sources / "moved"),)), TransactionKind.REPAIR
    )
    assert (scene.sources / "moved").read_bytes() == (scene.directory / "one").read_bytes() == b"moved"
    await PackerCache(scene.directory).change(
        Change(place=(Place("two", path=scene.directory / "one"),)), TransactionKind.REPAIR
    )
    assert (scene.directory / "one").read_bytes() == (scene.directory / "two").read_bytes()


async def test_an_entry_points_a_name_again(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    (directory / "index.json").write_bytes(index_bytes([entry(0, name="a:1"), entry(1, name="a:1")]))
    cache = PackerCache(directory)
    older = (await cache.list())[0]
    await cache.change(Change(index=IndexEdit((Remove(0, older.raw),), (Insert(older.raw),))), TransactionKind.REPAIR)
    winner = (await cache.index()).by_name("a:1")
    assert winner is not None
    assert winner.digest == older.digest
    assert trash(directory) == []


async def test_an_undo_is_refused_where_the_cache_went_on(memory_path: Path) -> None:
    scene, _ = await scene_of("undo-corrupt", memory_path)
    cache = PackerCache(scene.directory)
    await stored(cache, memory_path / "source", "later")
    with pytest.raises(ConflictError, match="was changed since"):
        await cache.undo(scene.target)
    await cache.undo()
    await cache.undo(scene.target)
    assert (scene.directory / "index.json").read_bytes() == b'{"schemaVersion":2,'


async def test_a_document_that_a_later_entry_needs_stays(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(1))
    cache, image = PackerCache(directory), make_image(memory_path / "packed", "new")
    name = f"{image.digest}.manifest.json"
    done = await cache.change(Change(place=(Place(name, data=image.manifest.raw),)), TransactionKind.REPAIR)
    await cache.store(image)
    with pytest.raises(ConflictError, match="nothing is left"):
        await cache.undo(done.id)
    assert (directory / name).read_bytes() == image.manifest.raw


async def test_an_entry_that_came_back_meanwhile_is_in_the_way(memory_path: Path) -> None:
    scene, _ = await scene_of("undo-drop-all", memory_path)
    cache = PackerCache(scene.directory)
    await stored(cache, memory_path / "source", "1", name="another:1")
    with pytest.raises(ConflictError, match="was stored since"):
        await cache.undo(scene.target)


async def test_an_undo_is_refused_where_the_old_index_is_gone_from_the_trash(memory_path: Path) -> None:
    scene, _ = await scene_of("undo-corrupt", memory_path)
    cache, before = PackerCache(scene.directory), scene.states()
    for path in (scene.directory / OWN / "trash").glob(f"{scene.target}~index.json"):
        path.unlink()
    with pytest.raises(ConflictError, match="no longer holds"):
        await cache.undo(scene.target)
    assert scene.states() == before


@pytest.mark.slow
async def test_a_reset_is_undone(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    (directory / "index.json").write_bytes(b'{"schemaVersion":2,')
    before = tree(directory)
    cache = await PackerCache.open(directory, on_corrupt="reset")
    assert await cache.list() == []
    (reset,) = await cache.transactions()
    # Apart from the trash, which may be emptied.
    assert [*corrupt_copies(directory).values()] == [b'{"schemaVersion":2,']
    with pytest.raises(NoSuchTransactionError):
        await cache.undo()
    await cache.undo(reset.id)
    assert tree(directory) == before


async def test_what_is_not_acted_on_is_told_and_set_aside(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    assert await PackerCache(directory).refused() == []
    done = await PackerCache(directory).delete([key(0)])
    record = directory / OWN / "journal" / f"{done.id}.done.json"
    record.write_bytes(record.read_bytes()[:40])
    (refused,) = await PackerCache(directory).refused()
    assert (refused.path, refused.stays) == (f"journal/{record.name}", False)
    assert refused.reason
    prepared = await PackerCache(directory).prepare()
    assert prepared.set_aside == [refused]
    assert (directory / OWN / "aside" / record.name).stat().st_size == 40
    # It is told once, and its number is not given again.
    assert (await PackerCache(directory).prepare()).set_aside == []
    assert (await PackerCache(directory).delete([key(1)])).sequence == done.sequence + 1


class CountingDisk(Disk):
    """Counts what is made durable."""

    synced = 0

    def step(self, operation: str, name: str) -> None:
        self.synced += operation == "fsync"


# More of them make a write slower on every disk; fewer lose something: see the durability tests.
SYNCED = {"store": (9, 6), "delete-one": (6, 6), "delete-many": (6, 6), "point": (6, 6), "restore": (4, 4)}


@pytest.mark.parametrize("name", SYNCED)
async def test_no_more_is_synced_than_has_to_be(name: str, memory_path: Path) -> None:
    scene, act = await scene_of(name, memory_path)
    disks = CountingDisk(), CountingDisk()
    await PackerCache(scene.directory).prepare()
    await act(PackerCache(scene.directory, disk=disks[0]), scene)
    done = (await PackerCache(scene.directory).transactions())[0]
    await PackerCache(scene.directory, disk=disks[1]).undo(done.id)
    assert tuple(disk.synced for disk in disks) == SYNCED[name]


def test_a_new_index_keeps_what_no_unicode_can_say_and_lays_out_the_rest() -> None:
    usual = index_bytes([entry(0), entry(1)])
    assert new_index(json.dumps(entry(number)).encode() for number in range(2)).data == usual
    odd = json.dumps({**entry(1), "note": "\ud800"}).encode()
    made = new_index([json.dumps(entry(0)).encode(), odd]).data
    assert odd in made
    assert [one.image_name for one in ImageIndex.parse(made).descriptors] == ["image0:1", "image1:1"]
    with pytest.raises(DocumentError):
        new_index([odd, b"{}"])
