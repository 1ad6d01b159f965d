"""What lies in `.ocitui` is input: whatever stands there, nothing outside is touched, and little is stopped."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import (
    Change,
    ConflictError,
    LockedError,
    PackerCache,
    Place,
    StorageError,
    TransactionKind,
    TransactionState,
    keep_backup,
    list_backups,
)
from ocitui.cache.backups import fold_backups, keep_corrupt, late_updates
from ocitui.cache.disk import Disk, Folder
from ocitui.cache.journal import Journal, RefusedFile
from ocitui.cache.own_folder import enter, hold_lock
from ocitui.cache.records import LARGEST_SEQUENCE
from ocitui.cache.workspace import refused_files
from tests.cache.scenes import ACTS, interrupted_delete, key, scene_of
from tests.cache.support import OWN, trash, tree, write_cache

pytestmark = pytest.mark.slow

CRAFTED = "000900-abcd"
FOREIGN = 54321
Spoiling = Callable[[Path], None]


def moved(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "size": 7, "modified_ns": 1} | fields


def placed(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "size": 7, "modified_ns": 1, "inode": 0} | fields


OUT = "../outside/victim"
RECORDS: dict[str, dict[str, Any] | str] = {
    "a name that leaves": {"discarded": [moved(name=OUT)]},
    "an absolute name": {"displaced": [moved(name="/etc/hostname")]},
    "the index as a file": {"discarded": [moved(name="index.json")]},
    "our folder as a file": {"discarded": [moved(name=OWN)]},
    "a name with a NUL": {"discarded": [moved(name="a\0b")]},
    "trash that leaves": {"discarded": [moved(trash=f"../../{OUT}")]},
    "staging that leaves": {"placed": [placed(staging=f"../../{OUT}")], "marked": True},
    "placed from a trash that leaves": {"placed": [placed(trash=f"../../{OUT}")], "marked": True},
    "a mode outside": {"modes": [{"name": OUT, "old": 0o644, "new": 0o4777}], "marked": True},
    "a mode that is none": {"modes": [{"name": "x", "old": 0o644, "new": 0o1004777}], "marked": True},
    "an index that leaves": {"swap": {"old": moved(name="index.json", trash=OUT), "new": None}, "marked": True},
    "a time of 1e300": {"started": 1e300},
    "a time before all": {"started": -1.0},
    "another number": {"sequence": 5},
    "a size that is none": {"discarded": [moved(size=10**30)]},
    "a long kind": {"kind": "k" * 5000},
    "a long actor": {"by": "b" * 100_000},
    "a descriptor that is none": {"removed": [{"raw": "[]", "position": 0}]},
    "lists in lists": "[" * 2000 + "]" * 2000,
    "lists in what nobody knows": json.dumps({"x": 0})[:-4] + '"x":' + "[" * 100_000 + "]" * 100_000 + "}",
    "nothing": "",
    "a number out of range": '{"id":"000900-abcd","kind":"delete","started":1e999,"by":"x"}',
}


def write_record(directory: Path, fields: dict[str, Any] | str, state: str) -> Path:
    path = directory / OWN / "journal" / f"{CRAFTED}.{state}.json"
    usual = {"version": 2, "id": CRAFTED, "sequence": 900, "kind": "delete", "started": 1.7e9, "by": "x"}
    path.write_text(fields if isinstance(fields, str) else json.dumps(usual | fields))
    return path


async def used_cache(place: Path) -> Path:
    """A cache with a journal, a trash and a backup, beside a file that is none of its."""
    directory = place / "cache"
    write_cache(directory, range(4))
    (place / "outside").mkdir()
    (place / "outside" / "victim").write_bytes(b"victim!")
    (place / "outside" / "victim").chmod(0o640)
    await PackerCache(directory).delete([key(3)])
    return directory


async def works_as_ever(directory: Path, *, trash: bool = True) -> None:
    """Reading, deleting and undoing do, and emptying the ``trash`` where there is any of which something is known."""
    before = tree(directory)
    cache = PackerCache(directory)
    assert len(await cache.list()) == 3
    await cache.transactions()
    await cache.trash()
    done = await cache.delete([key(0)])
    assert [one.id for one in await PackerCache(directory).transactions()][:1] == [done.id]
    await PackerCache(directory).undo(done.id)
    assert tree(directory) == before
    assert bool((await PackerCache(directory).empty_trash()).files) is trash


@pytest.mark.parametrize("state", ["pending", "published", "done"])
@pytest.mark.parametrize("name", RECORDS)
async def test_a_crafted_record(name: str, state: str, memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    record = write_record(directory, RECORDS[name], state)
    outside, before = tree(memory_path / "outside"), tree(directory)
    assert [one.path for one in await PackerCache(directory).refused()] == [f"journal/{record.name}"]
    if state == "done":
        with pytest.raises(ConflictError, match="is not acted on"):
            await PackerCache(directory).undo(CRAFTED)
    (told,) = (await PackerCache(directory).prepare()).set_aside
    assert (told.path, told.stays) == (f"journal/{record.name}", False)
    assert "Errno" not in told.reason
    assert (directory / OWN / "aside" / record.name).exists()
    # Once.
    assert (await PackerCache(directory).prepare()).set_aside == []
    assert tree(directory) == before
    await works_as_ever(directory)
    assert tree(memory_path / "outside") == outside


async def test_an_error_that_may_pass_sets_nothing_aside(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = await used_cache(memory_path)
    record = write_record(directory, {}, "pending")
    read = Folder.read

    def fail(folder: Folder, name: str, *more: int) -> bytes:
        if name == record.name:
            raise OSError(errno.EMFILE, "Too many open files", name)
        return read(folder, name, *more)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Folder, "read", fail)
        with pytest.raises(StorageError, match="Too many open files"):
            await PackerCache(directory).prepare()
        assert [one.stays for one in await PackerCache(directory).refused()] == [True]
    assert record.exists()
    (rolled_back,) = (await PackerCache(directory).prepare()).recovered
    assert rolled_back.id == CRAFTED


async def test_what_a_record_that_does_not_read_may_be_about_is_kept(memory_path: Path) -> None:
    """By whatever writes next, which decides what it can read, too."""
    directory = await used_cache(memory_path)
    left = await interrupted_delete(directory)
    write_record(directory, "[", "pending").rename(directory / OWN / "journal" / "000001-abcd.pending.json")
    write_record(directory, {"marked": True}, "pending")
    staging = directory / OWN / "staging"
    (staging / "000001-abcd.0").write_bytes(b"the only one")
    await PackerCache(directory).change(Change(place=(Place("new", data=b"new"),)), TransactionKind.REPAIR)
    assert (directory / OWN / "aside" / "000001-abcd.pending.json").read_bytes() == b"["
    assert b"the only one" in trash(directory)
    assert os.listdir(staging) == []
    states = {one.id: one.state for one in await PackerCache(directory).transactions()}
    assert states[left] is states[CRAFTED] is TransactionState.VOID


async def test_what_a_later_version_left_half_done_is_left_alone(memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    record, staging = write_record(directory, {"version": 99}, "pending"), directory / OWN / "staging"
    theirs = [f"{CRAFTED}.0", f"{CRAFTED}.index"]
    for name in ("000800-abcd.0", "000800-abcd.index", *theirs, "000900-abce.0", "990000-abcd.0"):
        (staging / name).write_bytes(name.encode())
    for _ in range(2):
        await PackerCache(directory).prepare()
        assert sorted(os.listdir(staging)) == theirs
    # Another's index may be the only one of its kind.
    assert [data for data in trash(directory) if b"-abc" in data] == [b"000800-abcd.index"]
    assert record.exists()


async def test_a_record_that_was_never_finished_is_no_record(memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    draft = directory / OWN / "journal" / f"{CRAFTED}.draft"
    draft.write_bytes(b"[")
    assert await PackerCache(directory).refused() == []
    assert (await PackerCache(directory).prepare()).set_aside == []
    assert not draft.exists()


async def test_a_large_record_is_looked_into_when_it_is_asked_for(memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    record = write_record(directory, "[" + " " * (5 << 20), "done")
    assert (await PackerCache(directory).prepare()).set_aside == []
    assert [one.path for one in await PackerCache(directory).refused()] == [f"journal/{record.name}"]


async def test_a_folder_that_may_not_be_read_is_told(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = await used_cache(memory_path)

    def refuse(folder: Folder, name: str) -> Any:
        if name == "backups":
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return enter(folder, name)

    monkeypatch.setattr("ocitui.cache.workspace.enter", refuse)
    assert refused_files(directory) == [RefusedFile("backups", "Permission denied", True)]


async def test_a_backup_that_is_damaged_is_no_late_update(memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    (backup,) = list_backups(directory)
    path = directory / OWN / "backups" / backup.name
    path.write_bytes(path.read_bytes()[:-20])
    fold_backups(directory)
    assert late_updates(directory) == []
    assert [one.name for one in list_backups(directory)] == [backup.name]


async def test_a_path_outside_is_only_told(memory_path: Path) -> None:
    """A store may have moved a file in from there; whoever rolls it back knows it only from the record."""
    directory = await used_cache(memory_path)
    victim = memory_path / "outside" / "victim"
    found = victim.stat()
    there = placed(size=found.st_size, modified_ns=found.st_mtime_ns, inode=found.st_ino, path=str(victim))
    write_record(directory, {"placed": [there], "marked": True}, "pending")
    outside, before = tree(memory_path / "outside"), tree(directory)
    (rolled_back,) = (await PackerCache(directory).prepare()).recovered
    assert rolled_back.id == CRAFTED
    assert tree(directory) == before
    await works_as_ever(directory)
    assert tree(memory_path / "outside") == outside


async def test_what_is_set_aside_is_never_overwritten(memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    for content in ("[1", "[2", "[3"):
        write_record(directory, content, "done")
        assert len((await PackerCache(directory).prepare()).set_aside) == 1
    assert sorted(path.read_text() for path in (directory / OWN / "aside").iterdir()) == ["[1", "[2", "[3"]


@pytest.mark.parametrize("folder", ["journal", "backups", "aside", "trash"])
async def test_no_file_uses_the_numbers_up(folder: str, memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    name = {"backups": f"999999999-1-20250101T000000000000-3-{'a' * 32}.v2.json", "trash": "999999999-abcd~x"}
    (directory / OWN / "aside").mkdir()
    (directory / OWN / folder / name.get(folder, "999999999-abcd.done.json")).write_bytes(b"{}")
    await works_as_ever(directory)
    assert (await PackerCache(directory).transactions())[0].sequence < 10


async def test_where_they_are_used_up_nothing_is_done(memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    last = f"{LARGEST_SEQUENCE}-abcd"
    record = write_record(directory, {"id": last, "sequence": LARGEST_SEQUENCE}, "done")
    record.rename(record.with_name(f"{last}.done.json"))
    before = tree(directory)
    with pytest.raises(ConflictError, match="used up") as caught:
        await PackerCache(directory).delete([key(0)])
    assert str(LARGEST_SEQUENCE) in caught.value.message
    assert caught.value.hint
    assert tree(directory) == before


def to_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one, pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        one.bind(path.name)


ODD: dict[str, Spoiling] = {
    "pipe": os.mkfifo,
    "directory": os.mkdir,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "link": lambda path: path.symlink_to(path.parents[3] / "outside" / "victim"),
    "socket": to_socket,
}
NAMES = (
    "journal/000900-abcd.pending.json",
    "journal/000900-abcd.done.json",
    f"backups/000900-1-20250101T000000000000-3-{'a' * 32}.v2.json",
    "ledger",
    "acknowledged.json",
    "lock",
    "reserve/index",
    "reserve/00",
    *("journal", "trash", "staging", "backups", "corrupt", "reserve"),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ODD)
async def test_what_is_no_file_where_one_should_be(kind: str, name: str, memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    path = directory / OWN / name
    if path.exists():
        path.rename(memory_path / "moved away")
    ODD[kind](path)
    outside, before = tree(memory_path / "outside"), tree(directory)
    cache = PackerCache(directory)
    assert len(await cache.list()) == 3
    keep_backup(directory, (directory / "index.json").read_bytes() + b" ")
    with pytest.raises(ConflictError) if name == "lock" else nullcontext() as refused:
        prepared = await cache.prepare()
        told = {one.path for one in prepared.set_aside}
        assert kind == "directory" or name.startswith("reserve/") or name in told
    if refused is not None:
        assert "aside" in refused.value.hint
        path.rmdir() if kind == "directory" else path.unlink()
    await works_as_ever(directory, trash=name not in ("journal", "trash"))
    assert tree(memory_path / "outside") == outside
    assert tree(directory) == before


@pytest.mark.parametrize("name", ["", "lock", "journal", "trash", "journal/000900-abcd.pending.json"])
async def test_what_another_user_made_is_not_acted_on(name: str, memory_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    directory = await used_cache(memory_path)
    write_record(directory, {"discarded": [moved(name="index", trash="x")]}, "pending")
    os.chown(directory / OWN / name, FOREIGN, FOREIGN)
    before = tree(directory)
    cache = PackerCache(directory)
    assert len(await cache.list()) == 3
    await cache.transactions()
    refused = {one.path: one for one in await cache.refused()}
    assert name in ("trash",) or refused[name].stays
    for attempt in (cache.prepare, lambda: cache.delete([key(0)]), cache.undo, cache.empty_trash):
        with pytest.raises(ConflictError, match=str(FOREIGN)) as caught:
            await attempt()
        assert "chown" in caught.value.hint
    assert tree(directory) == before
    os.chown(directory / OWN / name, 0, 0)
    await works_as_ever(directory)


async def test_what_a_later_version_wrote_is_told_and_left(memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    record = write_record(directory, {"version": 99}, "done")
    for _ in range(2):
        prepared = await PackerCache(directory).prepare()
        assert ([one.path for one in prepared.left_alone], prepared.set_aside) == ([f"journal/{record.name}"], [])
    await works_as_ever(directory)
    assert record.exists()


def states(place: Path) -> dict[str, tuple[int, bytes]]:
    """The time and bytes of every file below a directory; a mode is changed where that is what is asked for."""
    files = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.parametrize("name", ACTS)
async def test_a_snapshot_of_hard_links_stays_as_it_is(name: str, memory_path: Path) -> None:
    """No inode is written that another directory has too, the lock's own among them."""
    scene, act = await scene_of(name, memory_path)
    cache = PackerCache(scene.directory)
    snapshots: dict[Path, dict[str, tuple[int, bytes]]] = {}

    def snapshot() -> None:
        to = memory_path / f"snapshot{len(snapshots)}"
        subprocess.run(["cp", "-al", scene.directory, to], check=True)
        snapshots[to] = states(to)

    async def step(what: Awaitable[object]) -> None:
        snapshot()
        await what
        for place, was in snapshots.items():
            assert states(place) == was

    await step(cache.prepare())
    await step(act(cache, scene))
    done = (await cache.transactions())[0]
    await step(cache.undo(done.id))
    await step(cache.undo((await cache.transactions())[0].id))
    await step(asyncio.to_thread(fold_backups, cache.directory))
    await step(cache.empty_trash())


async def test_the_lock_is_one_though_it_is_made_anew(memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    own = directory / OWN
    with Folder.open(own) as folder:
        old = os.open(own / "lock", os.O_RDWR)
        os.link(own / "lock", memory_path / "lock of a snapshot")
        text = (own / "lock").read_bytes()
        with hold_lock(folder, Disk(), "the first"):
            # By the new name nor by the old one is there another holder.
            with pytest.raises(LockedError, match="the first"):
                await PackerCache(directory).delete([key(0)])
            with pytest.raises(BlockingIOError):
                fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(old)
    assert (memory_path / "lock of a snapshot").read_bytes() == text
    assert (own / "lock").stat().st_nlink == 1
    await works_as_ever(directory)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
async def test_a_copy_may_be_read_by_nobody_else(mode: int, memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(3))
    index, own = directory / "index.json", directory / OWN
    index.chmod(mode)
    keep_backup(directory, index.read_bytes())
    for number in range(2):
        await PackerCache(directory).delete([key(number)])
    os.link(index, memory_path / "index of a snapshot")
    await PackerCache(directory).undo()
    fold_backups(directory)
    index.write_bytes(b"{")
    keep_corrupt(directory, b"{")
    async with await PackerCache.open(directory, on_corrupt="reset"):
        pass
    copies = [*(own / "backups").iterdir(), *(own / "corrupt").iterdir(), *(own / "trash").glob("*index.json*"), index]
    assert len(copies) >= 5
    assert {path.name: path.stat().st_mode & 0o777 for path in copies} == {path.name: mode for path in copies}


@pytest.mark.parametrize("earlier", ["pending", "published", "publishing-7", "done"])
async def test_of_two_names_of_a_record_the_later_counts(earlier: str, memory_path: Path) -> None:
    """A power cut may leave both names of a rename, where the file system keeps no journal."""
    directory = await used_cache(memory_path)
    done = await PackerCache(directory).delete([key(0)])
    state = "done"
    if earlier == "done":
        await PackerCache(directory).undo(done.id)
        state = "undone"
    folder = directory / OWN / "journal"
    os.link(folder / f"{done.id}.{state}.json", folder / f"{done.id}.{earlier}.json")
    before = tree(directory)
    assert [one.state for one in await PackerCache(directory).transactions() if one.id == done.id] == [state]
    assert (await PackerCache(directory).prepare()).recovered == ()
    assert tree(directory) == before
    assert [path.name for path in folder.glob(f"{done.id}*")] == [f"{done.id}.{state}.json"]


@pytest.mark.parametrize(("earlier", "later"), [("pending", "publishing-7"), ("publishing-7", "published")])
async def test_of_two_stages_of_a_pending_record_the_later_counts(earlier: str, later: str, memory_path: Path) -> None:
    directory = await used_cache(memory_path)
    for stage in (earlier, later):
        write_record(directory, {"marked": True}, stage)
    assert (await PackerCache(directory).transactions())[0].stage == later
    with Folder.open(directory / OWN / "journal") as folder:
        Journal(Disk(), folder).drop_drafts()
        assert [name for name in folder.names() if name.startswith(CRAFTED)] == [f"{CRAFTED}.{later}.json"]
