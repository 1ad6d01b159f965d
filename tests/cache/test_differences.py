"""Backups as differences: folded without loss wherever that stops, bounded, and damage costs what it is in."""

from __future__ import annotations

import errno
import os
import random
import stat
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from ocitui.cache import Backup, IndexHistory, PackerCache, StorageError, keep_backup, list_backups, read_backup
from ocitui.cache.backups import Backups, fold_backups, late_updates, open_backups
from ocitui.cache.differences import IndexChain, linked
from ocitui.cache.disk import Folder
from ocitui.cache.workspace import refused_files
from tests.cache.forgetful import ForgetfulDisk, Luck
from tests.cache.scenes import FailingDisk, Stop, StoppingDisk, key
from tests.cache.support import OWN, entry, index_bytes, write_cache

pytestmark = pytest.mark.slow

MANY = 30


def index_of(number: int) -> bytes:
    """One that differs from its neighbours in the middle, at the end, or all over."""
    entries = [entry(at, name=f"image{at}:{number if at == number % 12 else 1}") for at in range(12)]
    return index_bytes(entries[::-1] if number % 11 == 10 else entries)


def kept(directory: Path) -> dict[bytes, Backup]:
    """What can be read of all that is kept, newest first."""
    found = dict[bytes, Backup]()
    with open_backups(directory) as copies:
        for one in copies.everything():
            with suppress(StorageError):
                found[copies.read(one)] = one
    return found


def folder(directory: Path) -> Path:
    return directory / OWN / "backups"


def chains(directory: Path) -> list[Path]:
    return sorted(folder(directory).glob("*.v3.json*"))


def filled(directory: Path, monkeypatch: pytest.MonkeyPatch, count: int = MANY) -> list[bytes]:
    """A cache with so many backups, none of them folded yet; gives them, newest first."""
    directory.mkdir(parents=True, exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr("ocitui.cache.backups.MOST_LOOSE", count)
        for number in range(count):
            assert keep_backup(directory, index_of(number), 1)
    assert not chains(directory)
    return [index_of(number) for number in reversed(range(count))]


def test_they_are_folded_when_they_are_many(tmp_path: Path) -> None:
    for number in range(MANY):
        before = len([*folder(tmp_path).iterdir()]) if number else 0
        keep_backup(tmp_path, index_of(number), 1)
        assert [*kept(tmp_path)] == [index_of(one) for one in reversed(range(number + 1))]
        assert len([*folder(tmp_path).iterdir()]) <= max(before + 1, 12)
    (chain,) = chains(tmp_path)
    found = [*kept(tmp_path).values()]
    assert not found[0].chain
    assert {one.chain for one in found[10:] if not one.before_shrink} == {chain.name}
    assert [one.name for one in found[:12]] == [one.name for one in list_backups(tmp_path)[:12]]
    assert refused_files(tmp_path) == []


def test_an_edit_of_a_large_index_takes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry(number) for number in range(3000)]
    monkeypatch.setattr("ocitui.cache.backups._is_before_shrink", lambda *_, **__: False)
    for number in range(40):
        match number % 4:
            case 0:
                entries.append(entry(5000 + number))
            case 1:
                del entries[random.Random(number).randrange(len(entries))]
            case 2:
                entries.insert(random.Random(number).randrange(len(entries)), entry(6000 + number))
            case _:
                entries[number]["size"] += 1
        keep_backup(tmp_path, index_bytes(entries), 1)
    fold_backups(tmp_path)
    (chain,) = chains(tmp_path)
    assert chain.stat().st_size - len(linked("whole", index_bytes(entries))) < 40 * 600
    assert len(kept(tmp_path)) == 40


def test_one_chain_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.backups.MOST_CHAINED", 10)
    for number in range(70):
        keep_backup(tmp_path, index_of(number), 1)
    assert 3 <= len(chains(tmp_path)) <= 6
    assert [*kept(tmp_path)] == [index_of(number) for number in reversed(range(70))]


def test_those_before_a_shrink_and_stalled_ones_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.backups.MOST_PINNED", 2)
    sizes = [20, 2, 30, 3, 40, 4, *range(5, 20)]
    indexes = [index_bytes(entry(number) for number in range(size)) for size in sizes]
    for index in indexes:
        keep_backup(tmp_path, index, 1)
    late = folder(tmp_path) / Backup(1.0, 3, 0, False, "0" * 32, 1, 99, stalled=True).name
    late.write_bytes(indexes[0])
    fold_backups(tmp_path)
    found = kept(tmp_path)
    pinned = [index for index, one in found.items() if one.before_shrink]
    assert pinned == [indexes[4], indexes[2], indexes[0]]
    assert [bool(found[index].chain) for index in pinned] == [False, False, True]
    assert {*found} == {*indexes}
    assert [backup.name for backup, _ in late_updates(tmp_path)] == [late.name]
    assert late.read_bytes() == indexes[0]


@pytest.mark.parametrize("journaled", [True, False], ids=["journaled", "plain"])
@pytest.mark.parametrize("luck", Luck)
def test_a_power_cut_while_they_are_folded(
    luck: Luck, journaled: bool, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A difference is durable before the copy goes that it stands for; what is there twice counts once."""
    monkeypatch.setattr("ocitui.cache.backups.MOST_PINNED", 1)
    at, stopped = 0, True
    while stopped:
        directory, left = memory_path / f"cache{at}", memory_path / f"left{at}"
        directory.mkdir()
        wanted = filled(directory, monkeypatch, 6)
        fold_backups(directory)
        for number in range(6, 12):
            keep_backup(directory, index_of(number), 1)
        wanted = [index_of(number) for number in reversed(range(12))]
        assert chains(directory)
        disk = ForgetfulDisk(directory, at, journaled=journaled)
        with suppress(Stop):
            fold_backups(directory, disk)
        stopped = bool(disk.stopped)
        disk.survivors(left, luck)
        assert [*kept(left)] == wanted, disk.stopped
        with open_backups(left) as copies:
            assert [one.ordinal for one in copies.everything()] == [*range(12, 0, -1)]
        fold_backups(left)
        keep_backup(left, index_of(12), 1)
        fold_backups(left)
        assert [*kept(left)] == [index_of(12), *wanted], disk.stopped
        # What was left of the one that is made longer counts no more, and goes first.
        assert len(chains(left)) <= 2
        at += 1
    assert at > 12


def test_who_looks_while_they_are_folded_misses_none(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, looked_at, looks = filled(memory_path, monkeypatch, 12), Folder.lstat, count(1)

    def lstat(folder: Folder, name: str) -> os.stat_result | None:
        if name.endswith(".gz") and next(looks) == 5:
            fold_backups(memory_path)
        return looked_at(folder, name)

    monkeypatch.setattr(Folder, "lstat", lstat)
    assert [*kept(memory_path)] == wanted
    assert chains(memory_path)


def test_killed_while_they_are_folded(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, stopped, at = filled(memory_path, monkeypatch, 12), True, 0
    while stopped:
        disk = StoppingDisk(at)
        with suppress(Stop):
            fold_backups(memory_path, disk)
        stopped, at = bool(disk.stopped), at + 1
        assert [*kept(memory_path)] == wanted, disk.stopped
    assert at > 5
    assert keep_backup(memory_path, index_of(12), 1)
    assert [*kept(memory_path)] == [index_of(12), *wanted]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_where_a_step_fails_nothing_is_lost(code: int, memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = filled(memory_path, monkeypatch)
    at = 0
    while True:
        disk = FailingDisk(at, code, for_good=False)
        fold_backups(memory_path, disk)
        assert [*kept(memory_path)] == wanted, disk.failed
        if not disk.failed:
            break
        at += 1
    assert at > 3
    for number in range(MANY, MANY + 12):
        keep_backup(memory_path, index_of(number), 1)
    assert len(chains(memory_path)) <= 2
    assert [*kept(memory_path)] == [index_of(number) for number in reversed(range(MANY + 12))]


def test_without_room_they_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = filled(tmp_path, monkeypatch)
    monkeypatch.setattr("ocitui.cache.backups.LEFT_FREE", 1 << 62)
    fold_backups(tmp_path)
    assert not chains(tmp_path)
    assert [*kept(tmp_path)] == wanted


def test_of_damage_no_more_is_lost_than_it_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any byte of a chain: what is newer is had back, of what is not nothing else is given, and all goes on."""
    wanted = filled(tmp_path, monkeypatch)
    fold_backups(tmp_path)
    (path,) = chains(tmp_path)
    data = path.read_bytes()
    with Folder.open(path.parent) as opened:
        links = IndexChain(opened, path.name).links
    losses, starts = list[int](), [0, *(link.start + link.length for link in links)]
    for place in random.Random(1).sample(range(len(data)), 200):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :])
        hit = max(at for at, start in enumerate(starts[:-1]) if start <= place)
        found = kept(tmp_path)
        assert {*found} <= {*wanted}
        lost = [index for index in wanted if index not in found]
        whole = [index for index in wanted if index in found and not found[index].chain]
        assert [index for index in wanted if index not in whole][:hit] == [
            index for index in found if found[index].chain
        ][:hit]
        history = IndexHistory(tmp_path)
        assert [change.index.data for change in history.changes()] == [*found]
        # Not each byte of what is compressed counts.
        told = [f"of what was kept {len(lost)} cannot be read any more"] if lost else []
        assert [note for note in history.notes() if "read any more" in note] == told
        losses.append(len(lost))
    assert losses.count(0) < 20
    assert max(losses) == len(links)
    # Where not all of it can be told it is not written anew: it may be had back by another hand.
    path.write_bytes(data[: starts[5]] + b"x" + data[starts[5] + 1 :])
    for number in range(MANY, MANY + 12):
        keep_backup(tmp_path, index_of(number), 1)
    assert {*kept(tmp_path)} >= {index_of(number) for number in range(MANY, MANY + 12)}
    assert len(chains(tmp_path)) == 2
    assert path.exists()


def test_the_oldest_go_where_all_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.backups.MOST_CHAINED", 10)
    monkeypatch.setattr("ocitui.cache.backups.MOST_BACKUP_BYTES", 24_000)
    keep_backup(tmp_path, index_bytes(entry(number) for number in range(40)), 1)
    for number in range(150):
        keep_backup(tmp_path, index_of(number), 1)
        assert sum(path.stat().st_size for path in folder(tmp_path).iterdir()) <= 24_000
    found = kept(tmp_path)
    count = len(found) - 1
    assert 20 < count < 140
    assert [*found][:count] == [index_of(number) for number in range(149, 149 - count, -1)]
    # The last one before entries went stays.
    assert [*found.values()][-1].before_shrink
    assert [*found.values()][-1].entries == 40
    history = IndexHistory(tmp_path)
    assert [note for note in history.notes() if note.startswith("older ones")]


async def test_a_full_disk_has_the_room_of_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, monkeypatch)
    fold_backups(tmp_path)
    with open_backups(tmp_path) as copies:
        first, *_ = copies.expendable()
        assert first.name == chains(tmp_path)[0].name
        copies.remove(first)
        assert copies.everything() == copies.all()


def test_modes_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(tmp_path, range(2))
    (tmp_path / "index.json").chmod(0o640)
    filled(tmp_path, monkeypatch)
    fold_backups(tmp_path)
    (tmp_path / "index.json").chmod(0o644)
    for number in range(MANY, MANY + 12):
        keep_backup(tmp_path, index_of(number), 1)
    (chain,) = chains(tmp_path)
    # What may be read by others has nothing in it that might not.
    assert stat.S_IMODE(chain.stat().st_mode) == 0o640
    # Of a later version it stays, and is told.
    later = folder(tmp_path) / chain.name.replace(".v3.", ".v4.")
    later.write_bytes(b"later")
    assert [(one.reason, one.stays) for one in refused_files(tmp_path)] == [("it is of version 4", True)]


def crafted(*links: tuple[int, int, bytes], name: str = "") -> bytes:
    """A chain whose heads say what they should not."""
    name = name or Backup(1.0, 3, 0, False, "0" * 32, 1, 1).name
    from ocitui.cache.differences import _checksum, compressed

    parts = []
    for beginning, end, between in links:
        packed = compressed(between)
        told = f"{beginning} {end} {len(packed)} {name}".encode()
        parts.append(b"%b %b\n%b" % (told, _checksum(told), packed))
    return b"".join(parts)


ODD = {
    "more in common than there is": crafted((0, 0, b"x"), (9_999_999_999, 9_999_999_999, b"")),
    "twice all of it, again and again": crafted((0, 0, b"x" * 99), *[(99 << at, 99 << at, b"") for at in range(9)]),
    "a bomb": crafted((0, 0, b"\0" * (1 << 25)), *[(1 << 24, 1 << 24, b"\0" * (1 << 25))] * 3),
    "another name": crafted((0, 0, b"x"), name="../../../etc/passwd"),
    "one of the year 9999": crafted((0, 0, b"x"), name=f"000001-1-99991231T235959000000-3-{'0' * 32}.v2.json"),
    "empty": b"",
    "cut short": crafted((0, 0, b"x" * 5000))[:-3],
    "noise": bytes(range(256)) * 99,
    "many": crafted(*[(0, 0, b"")] * 5000),
}


@pytest.mark.parametrize("kind", ODD)
async def test_a_chain_that_somebody_made(kind: str, memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(memory_path, range(4))
    wanted = filled(memory_path, monkeypatch)
    name = f"99999999-{len(ODD[kind]) % 7 + 1}-20250101T000000000000-3-{'a' * 32}.v3.json"
    (folder(memory_path) / name).write_bytes(ODD[kind])
    with Folder.open(folder(memory_path)) as opened:
        chain = IndexChain(opened, name)
        largest = max((link.length for link in chain.links), default=0)
        assert largest < 1 << 20
        assert max((len(chain.data(at)) for at in range(min(20, len(chain.links)))), default=0) <= 1 << 26
        if kind.startswith("twice"):
            assert [len(chain.data(at)) for at in range(10)] == [99] + [0] * 9
    assert [index for index in kept(memory_path) if index in wanted] == wanted
    fold_backups(memory_path)
    fold_backups(memory_path)
    assert [index for index in kept(memory_path) if index in wanted] == wanted
    cache = PackerCache(memory_path)
    await cache.delete([key(0)])
    assert (await cache.transactions())[0].sequence < 10
    assert [*IndexHistory(memory_path).changes()]


def test_a_reader_finds_what_is_folded_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = filled(tmp_path, monkeypatch)
    with open_backups(tmp_path) as copies:
        listed = copies.everything()
        fold_backups(tmp_path)
        assert [copies.read(one) for one in listed] == wanted
        listed = copies.everything()
        for number in range(MANY, MANY + 12):
            keep_backup(tmp_path, index_of(number), 1)
        assert [copies.read(one) for one in listed] == wanted
    listed = list_backups(tmp_path)
    look, looked = Backups.look, list[int]()

    def look_late(copies: Backups) -> list[Backup]:
        found = look(copies)
        looked.append(len(found))
        if len(looked) == 1:
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(Backups, "look", look)
                fold_backups(tmp_path)
        return found

    monkeypatch.setattr(Backups, "look", look_late)
    assert len(list_backups(tmp_path)) == len(listed)
    assert len(looked) > 1
    for one in listed:
        read_backup(tmp_path, one)
    os.unlink(folder(tmp_path) / chains(tmp_path)[0])
    with pytest.raises(StorageError, match="gone"):
        read_backup(tmp_path, next(one for one in reversed(listed) if one.chain))
