"""Backups of the index: each that was seen, bounded, the last before a shrink kept, and never in anybody's way."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from ocitui.cache import (
    Backup,
    Change,
    ImageIndex,
    IndexHistory,
    IndexReplacement,
    PackerCache,
    StorageError,
    TransactionKind,
    keep_backup,
    list_backups,
    new_index,
    see_index,
)
from ocitui.cache.backups import Backups, keep_corrupt, read_backup
from ocitui.cache.workspace import refused_files
from tests.cache.scenes import FailingDisk, key
from tests.cache.support import (
    OWN,
    corrupt_copies,
    digests_and_formats,
    entry,
    index_bytes,
    stored,
    trash,
    tree,
    write_cache,
)


def index_of(numbers: Iterable[int]) -> bytes:
    return index_bytes(entry(number) for number in numbers)


def contents(directory: Path) -> list[bytes]:
    return [read_backup(directory, backup) for backup in list_backups(directory)]


def test_each_sound_index_that_was_seen(tmp_path: Path) -> None:
    first, second = index_of(range(2)), index_of(range(3))
    assert list_backups(tmp_path) == []
    kept = keep_backup(tmp_path, first)
    assert kept is not None
    assert (kept.entries, kept.before_shrink) == (2, False)
    assert keep_backup(tmp_path, ImageIndex.parse(first)) == kept
    assert keep_backup(tmp_path, second) is not None
    assert contents(tmp_path) == [second, first]
    # Seen again, it is there twice.
    assert keep_backup(tmp_path, first) is not None
    assert contents(tmp_path) == [first, second, first]
    assert kept.size < len(first)
    assert all(path.name.endswith(".json.gz") for path in (tmp_path / OWN / "backups").iterdir())


def test_what_was_seen_before_a_time_is_kept_once_more(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(first := index_of([1]))
    kept = keep_backup(tmp_path, first)
    assert kept is not None
    again = keep_backup(tmp_path, first, since=kept.kept)
    assert again is not None
    assert list_backups(tmp_path) == [again, kept]
    assert keep_backup(tmp_path, first, since=kept.kept) == again
    assert [one.kept for one in IndexHistory(tmp_path).instants] == [kept.kept], "nothing changed"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b'{"schemaVersion":2,"manifests":[{}]}'])
def test_what_the_daemon_would_not_load_is_copied_aside(data: bytes, tmp_path: Path) -> None:
    assert keep_backup(tmp_path, data) is None
    kept = keep_corrupt(tmp_path, data)
    assert kept is not None
    assert keep_corrupt(tmp_path, data) == kept
    assert corrupt_copies(tmp_path) == {kept.name: data}
    assert list_backups(tmp_path) == []


@pytest.mark.slow
def test_bounded_by_number(tmp_path: Path) -> None:
    for number in range(1, 60):
        keep_backup(tmp_path, index_of(range(number)))
        keep_corrupt(tmp_path, b"corrupt %d" % number)
    assert [backup.entries for backup in list_backups(tmp_path)] == list(range(59, 9, -1))
    assert [*corrupt_copies(tmp_path).values()] == [b"corrupt %d" % number for number in range(59, 39, -1)]


def test_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep_backup(tmp_path, index_of(range(100)))
    assert kept is not None
    monkeypatch.setattr("ocitui.cache.backups.MOST_BACKUP_BYTES", 3 * kept.size + kept.size // 2)
    for number in range(101, 110):
        keep_backup(tmp_path, index_of(range(number)))
    assert [backup.entries for backup in list_backups(tmp_path)] == [109, 108, 107]
    monkeypatch.setattr("ocitui.cache.backups.MOST_BACKUP_BYTES", 1)
    keep_backup(tmp_path, index_of(range(110)))
    assert [backup.entries for backup in list_backups(tmp_path)] == [110]


@pytest.mark.slow
def test_the_last_one_before_a_shrink_stays(tmp_path: Path) -> None:
    keep_backup(tmp_path, index_of(range(100)))
    for number in range(80):
        keep_backup(tmp_path, index_of(range(number)))
    backups = list_backups(tmp_path)
    # What was long before is told by the history alone.
    assert len(backups) == 51
    assert (backups[-1].entries, backups[-1].before_shrink) == (100, True)
    assert read_backup(tmp_path, backups[-1]) == index_of(range(100))


@pytest.mark.slow
def test_of_many_shrinks_the_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 80):
        keep_backup(tmp_path, index_of(range(100 + number)))
        keep_backup(tmp_path, index_of(range(number)))
    backups = list_backups(tmp_path)
    assert len(backups) == 50
    assert [backup.entries for backup in backups if backup.before_shrink][:3] == [179, 178, 177]
    monkeypatch.setattr("ocitui.cache.backups.MOST_BACKUP_BYTES", 1)
    keep_backup(tmp_path, index_of(range(90)))
    assert [backup.entries for backup in list_backups(tmp_path)] == [90, 179]


async def test_a_shrink_of_our_own_is_none(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    write_cache(directory, range(5))
    cache = PackerCache(directory)
    await cache.delete([key(0), key(1)])
    await stored(cache, tmp_path / "source", "new")
    assert [(backup.entries, backup.before_shrink) for backup in list_backups(directory)] == [(3, False), (5, False)]
    # One more is gone than was deleted.
    await cache.delete([key(2)])
    write_cache(directory, (3, 4))
    await cache.delete([key(3)])
    found = [(backup.entries, backup.before_shrink) for backup in list_backups(directory)]
    assert found == [(2, False), (4, True), (3, False), (5, False)]


async def test_a_writer_keeps_the_index_before_it(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    write_cache(directory, range(3))
    cache, before = PackerCache(directory), (directory / "index.json").read_bytes()
    await cache.delete([key(0)])
    between = (directory / "index.json").read_bytes()
    assert contents(directory) == [before]
    await stored(cache, tmp_path / "source", "new")
    assert contents(directory) == [between, before]
    await cache.undo()
    await cache.undo()
    assert set(contents(directory)) >= {before, between}
    (directory / "index.json").write_bytes(b"corrupt")
    await cache.change(Change(index=IndexReplacement(see_index(directory), new_index([]).data)), TransactionKind.REPAIR)
    assert b"corrupt" not in contents(directory)


def test_where_nothing_may_be_written(tmp_path: Path) -> None:
    assert keep_backup(tmp_path / "absent", index_of(range(2))) is None
    (tmp_path / OWN).write_bytes(b"not a folder")
    assert keep_backup(tmp_path, index_of(range(2))) is None
    assert keep_corrupt(tmp_path, b"corrupt") is None
    (tmp_path / OWN).unlink()
    (tmp_path / OWN).mkdir()
    (tmp_path / OWN / "backups").symlink_to(tmp_path)
    assert keep_backup(tmp_path, index_of(range(2))) is None
    assert os.listdir(tmp_path) == [OWN]


def test_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.backups.LEFT_FREE", 1 << 62)
    assert keep_backup(tmp_path, index_of(range(2))) is None
    assert list_backups(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
async def test_one_that_cannot_be_kept_keeps_nothing_from_working(code: int, memory_path: Path) -> None:
    class Failing(FailingDisk):
        def step(self, operation: str, name: str) -> None:
            if name.endswith((".part", ".v2.json", ".json.gz")):
                raise OSError(self.code, os.strerror(self.code), name)

    directory = memory_path / "cache"
    write_cache(directory, range(3))
    before = tree(directory)
    cache = PackerCache(directory, disk=Failing(0, code, for_good=True))
    await cache.delete([key(0)])
    assert len(digests_and_formats(directory)) == 2
    # The index that was displaced is in the trash then.
    assert before["index.json"][1] in trash(directory)
    await cache.undo()
    assert tree(directory) == before
    assert list_backups(directory) == []
    assert os.listdir(directory / OWN / "backups") == []


def test_a_damaged_backup_is_said_to_be(tmp_path: Path) -> None:
    kept = keep_backup(tmp_path, index_of(range(2)))
    assert kept is not None
    path = tmp_path / OWN / "backups" / kept.name
    packed = path.read_bytes()
    for damage in (b"", packed[:-10], packed[:30] + b"\0\0\0" + packed[33:]):
        path.write_bytes(damage)
        with pytest.raises(StorageError):
            read_backup(tmp_path, kept)
    path.unlink()
    with pytest.raises(StorageError, match="gone"):
        read_backup(tmp_path, kept)


def test_what_a_dead_program_left_is_cleared(tmp_path: Path) -> None:
    keep_backup(tmp_path, index_of(range(1)))
    fresh, stale = (tmp_path / OWN / "backups" / f"{name}.part" for name in ("fresh", "stale"))
    fresh.write_bytes(b"")
    stale.write_bytes(b"")
    os.utime(stale, (0, 0))
    keep_backup(tmp_path, index_of(range(2)))
    assert (fresh.exists(), stale.exists()) == (True, False)


def test_a_copy_that_is_made_while_we_look_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a writer would set a good backup aside."""
    keep_backup(tmp_path, index_of(range(2)))
    look = Backups.look

    def all_and_more(copies: Backups) -> list[Backup]:
        found = look(copies)
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(Backups, "look", look)
            keep_backup(tmp_path, index_of(range(3)))
        return found

    monkeypatch.setattr(Backups, "look", all_and_more)
    assert refused_files(tmp_path) == []
    monkeypatch.undo()
    assert len(list_backups(tmp_path)) == 2


async def test_many_programs_at_once(tmp_path: Path) -> None:
    def keep(start: int) -> list[Backup | None]:
        return [keep_backup(tmp_path, index_of(range(number))) for number in range(start, start + 12)]

    kept = await asyncio.gather(*(asyncio.to_thread(keep, start) for start in (0, 6, 12, 18)))
    assert all(one is not None for part in kept for one in part)
    found = contents(tmp_path)
    assert set(found) == {index_of(range(number)) for number in range(30)}
    assert not any(name.endswith(".part") for name in os.listdir(tmp_path / OWN / "backups"))
