"""Beside a writer that takes no lock: it reads index.json, adds an entry of its own, and writes the whole."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import ConflictError, ImageName, PackerCache, TransactionState, list_backups
from ocitui.cache.backups import late_updates
from ocitui.cache.disk import Disk, Folder
from ocitui.cache.own_folder import open_journal
from ocitui.doctor.check.examine import examine
from ocitui.doctor.findings import Finding
from tests.cache.scenes import CHANGES, Scene, key, replaced, replaced_with_files, scene_of
from tests.cache.support import OWN, SQUASHFS, digests_and_formats, entry, index_bytes, stored, write_cache

pytestmark = pytest.mark.slow

Foreign = Callable[[Path, int], None]
CASES = ["store", "store-replacing", "delete-many", "undo-delete-many", "undo-store"]
CASES += ["point", "duplicate", "adopt", "everything", "redo"]
_numbers = itertools.count(100)


def with_theirs(index: Path, number: int) -> bytes:
    """The index as the other writer would have it after its update."""
    fields: dict[str, Any] = json.loads(index.read_bytes())
    return index_bytes([*fields["manifests"], entry(number)])


def truncate_and_write(index: Path, number: int) -> None:
    index.write_bytes(with_theirs(index, number))


def rename_over(index: Path, number: int) -> None:
    draft = index.with_name(".draft")
    draft.write_bytes(with_theirs(index, number))
    draft.rename(index)


class InvadedDisk(Disk):
    """Before each of these steps, by number, another writer makes an update."""

    def __init__(self, index: Path, foreign: Foreign, *at: int) -> None:
        super().__init__()
        self.index, self.foreign = index, foreign
        self.at = at
        self.steps: list[str] = []
        self.theirs: list[int] = []

    def step(self, operation: str, name: str) -> None:
        if len(self.steps) in self.at:
            number = next(_numbers)
            self.foreign(self.index, number)
            self.theirs.append(number)
        self.steps.append(f"{operation} {name}")


def expect(scene: Scene, disk: InvadedDisk, expected: Counter[tuple[str, str]]) -> None:
    """Both the update made here and all of theirs are in the index."""
    theirs = Counter((str(entry(number)["digest"]), "squashfs") for number in disk.theirs)
    where = [disk.steps[at] for at in disk.at if at < len(disk.steps)]
    assert Counter(digests_and_formats(scene.directory)) == expected + theirs, where


async def made(case: str, folder: Path) -> tuple[Scene, Callable[[PackerCache, Scene], Any], Counter[tuple[str, str]]]:
    """The scene, what is done in it, and the entries there are then."""
    template, act = await scene_of(case, folder / "template")
    scene = template.copy(folder / "run")
    await act(PackerCache(scene.directory), scene)
    return template, act, Counter(digests_and_formats(scene.directory))


@pytest.fixture
def nobody_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)


@pytest.mark.usefixtures("nobody_is_slow")
@pytest.mark.parametrize("foreign", [truncate_and_write, rename_over])
@pytest.mark.parametrize("case", CASES)
async def test_an_update_at_every_step(case: str, foreign: Foreign, memory_path: Path) -> None:
    template, act, expected = await made(case, memory_path)
    for at in range(1000):
        scene = template.copy(memory_path / "run")
        there, disk = scene.everything(), InvadedDisk(scene.directory / "index.json", foreign, at)
        cache = PackerCache(scene.directory, disk=disk)
        await act(cache, scene)
        if not disk.theirs:
            break
        expect(scene, disk, expected)
        assert not there - scene.everything(), disk.steps[at]
        assert [d.key for d in await cache.list()] == digests_and_formats(scene.directory)
        assert os.listdir(scene.directory / OWN / "staging") == []
    assert at > 10


@pytest.mark.usefixtures("nobody_is_slow")
@pytest.mark.parametrize("case", ["store", "delete-many", "everything"])
async def test_two_updates_one_at_the_exchange(case: str, memory_path: Path) -> None:
    template, act, expected = await made(case, memory_path)
    scene = template.copy(memory_path / "run")
    disk = InvadedDisk(scene.directory / "index.json", rename_over)
    await act(PackerCache(scene.directory, disk=disk), scene)
    exchange = disk.steps.index("exchange index.json")
    for at in range(exchange + 1, len(disk.steps)):
        scene = template.copy(memory_path / "run")
        disk = InvadedDisk(scene.directory / "index.json", rename_over, exchange, at)
        await act(PackerCache(scene.directory, disk=disk), scene)
        assert len(disk.theirs) == 2
        expect(scene, disk, expected)


class Invaded(Disk):
    """Before the index is exchanged, another program writes a sound one."""

    def __init__(self, index: Path) -> None:
        super().__init__()
        self.index = index

    def step(self, operation: str, name: str) -> None:
        if operation in ("exchange", "rename") and name == "index.json":
            draft = self.index.with_name(".draft")
            draft.write_bytes(index_bytes([entry(5)]))
            if self.index.is_dir() and not self.index.is_symlink():
                self.index.rename(self.index.with_name("aside"))
            draft.rename(self.index)


@pytest.mark.parametrize(
    "name", [name for name, (_, make) in CHANGES.items() if make in (replaced, replaced_with_files)]
)
async def test_a_sound_index_of_another_program_wins(name: str, memory_path: Path) -> None:
    scene, act = await scene_of(name, memory_path)
    before, index = scene.states(), scene.directory / "index.json"
    with pytest.raises(ConflictError, match="another program"):
        await act(PackerCache(scene.directory, disk=Invaded(index)), scene)
    assert index.read_bytes() == index_bytes([entry(5)])
    now = scene.states()
    assert {name: now[name] for name in before if name != "index.json"} == {
        name: before[name] for name in before if name != "index.json"
    }
    assert os.listdir(scene.directory / OWN / "staging") == []
    assert (await PackerCache(scene.directory).transactions())[0].state is TransactionState.VOID


async def test_an_index_of_another_program_that_came_where_there_was_none_is_edited(memory_path: Path) -> None:
    """What an undo puts back is in it, too."""
    scene, act = await scene_of("undo-drop-all", memory_path)
    entries = [one.descriptor.key for one in (await PackerCache(scene.directory).transactions())[0].removed]
    index = scene.directory / "index.json"
    index.unlink()
    await act(PackerCache(scene.directory, disk=Invaded(index)), scene)
    assert Counter(digests_and_formats(scene.directory)) == Counter([key(5), *entries])
    assert os.listdir(scene.directory / OWN / "staging") == []


def in_another_format(index: Path, _: int) -> None:
    """Another program brings in what is being deleted, in another format."""
    fields: dict[str, Any] = json.loads(index.read_bytes())
    index.write_bytes(index_bytes([*fields["manifests"], entry(0, format="erofs")]))


@pytest.mark.usefixtures("nobody_is_slow")
async def test_documents_stay_that_an_entry_needs_which_came_meanwhile(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(3))
    await PackerCache(directory).delete([key(2)])
    probe = InvadedDisk(directory / "index.json", in_another_format)
    await PackerCache(directory, disk=probe).delete([key(0)])
    await PackerCache(directory).undo()
    disk = InvadedDisk(directory / "index.json", in_another_format, probe.steps.index("exchange index.json"))
    await PackerCache(directory, disk=disk).delete([key(0)])
    assert digests_and_formats(directory) == [key(1), key(0, "erofs")]
    files = {path.name.removeprefix(f"{key(0)[0]}.") for path in directory.glob(f"{key(0)[0]}*")}
    assert files == {"manifest.json", "config.json"}


class SlowWriter:
    """Has truncated index.json before the exchange, and writes only after it."""

    def __init__(self) -> None:
        self.number = 0
        self.file: Any = None
        self.data = b""

    def __call__(self, index: Path, number: int) -> None:
        self.data, self.number = with_theirs(index, number), number
        self.file = open(index, "wb", buffering=0)  # noqa: SIM115
        threading.Timer(0.05, self.finish).start()

    def finish(self) -> None:
        with self.file:
            half = len(self.data) // 2
            self.file.write(self.data[:half])
            os.fsync(self.file.fileno())
            self.file.write(self.data[half:])


@pytest.mark.parametrize("case", ["store", "delete-many", "point"])
async def test_a_writer_that_is_slow(case: str, memory_path: Path) -> None:
    template, act, expected = await made(case, memory_path)
    scene = template.copy(memory_path / "run")
    disk = InvadedDisk(scene.directory / "index.json", SlowWriter())
    await act(PackerCache(scene.directory, disk=disk), scene)
    exchange = disk.steps.index("exchange index.json")
    for at in range(exchange - 3, exchange + 1):
        scene = template.copy(memory_path / "run")
        disk = InvadedDisk(scene.directory / "index.json", SlowWriter(), at)
        await act(PackerCache(scene.directory, disk=disk), scene)
        expect(scene, disk, expected)


class StalledWriter:
    """Has index.json open before the exchange, and writes when it is told to."""

    def __init__(self) -> None:
        self.data = b""
        self.file: Any = None

    def __call__(self, index: Path, number: int) -> None:
        self.data = with_theirs(index, number)
        self.file = open(index, "r+b", buffering=0)  # noqa: SIM115

    def finish(self) -> None:
        with self.file:
            self.file.truncate(0)
            self.file.write(self.data)


async def late_findings(directory: Path) -> list[Finding]:
    report = await examine(directory)
    return [one for one in report.findings if one.code == "index-late-update"]


async def test_a_writer_that_stalls_is_told_and_what_it_wrote_is_found(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.cache.publish.PATIENCE_SECONDS", 0.05)
    directory = memory_path / "cache"
    write_cache(directory, range(3))
    await PackerCache(directory).delete([key(2)])
    probe = InvadedDisk(directory / "index.json", StalledWriter())
    await PackerCache(directory, disk=probe).delete([key(1)])
    await PackerCache(directory).undo()
    writer = StalledWriter()
    disk = InvadedDisk(directory / "index.json", writer, probe.steps.index("exchange index.json"))
    done = await PackerCache(directory, disk=disk).delete([key(1)])
    assert f"(process {os.getpid()}) had the old index.json open" in done.note
    assert (await PackerCache(directory).transactions())[0].note == done.note
    assert late_updates(directory) == []
    backups = list_backups(directory)
    writer.finish()
    ((late, holds),) = late_updates(directory)
    assert holds is not None
    assert [d.key for d in holds.descriptors] == [
        key(0),
        key(1),
        (str(entry(disk.theirs[0])["digest"]), "squashfs"),
    ]
    # It is no backup like the others.
    assert late.name not in [backup.name for backup in list_backups(directory)]
    assert list_backups(directory) == backups
    assert digests_and_formats(directory) == [key(0)]
    (found,) = await late_findings(directory)
    assert "1 entry of it is not in index.json" in found.seen
    assert found.file == f".ocitui/backups/{late.name}"
    # Once the program has stored again, nothing is missing any more.
    (directory / "index.json").write_bytes(writer.data)
    assert await late_findings(directory) == []


@pytest.mark.parametrize("state", [TransactionState.PENDING, TransactionState.DONE])
async def test_a_record_that_is_renamed_while_the_journal_is_read(
    state: TransactionState, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, act = await scene_of("store", memory_path)
    await act(PackerCache(scene.directory), scene)
    folder, read = scene.directory / OWN / "journal", Folder.read
    record = max(one for one in folder.iterdir() if one.name.endswith(".done.json"))
    names = [record.name.replace(".done.", f".{label}.") for label in ("publishing-7", "published", "done")]
    record.rename(folder / names[0])

    def rename_and_read(of: Folder, name: str, *bound: int) -> bytes:
        if name in names[:-1]:
            (folder / name).rename(folder / names[names.index(name) + 1])
        return read(of, name, *bound)

    monkeypatch.setattr(Folder, "read", rename_and_read)
    with open_journal(scene.directory) as journal:
        told = journal.transactions([TransactionState.PENDING, state])
        assert [one.state for one in told] == 2 * [TransactionState.DONE] * (state is TransactionState.DONE)
        assert journal.refused() == []


async def test_records_that_are_all_renamed_while_they_are_read_take_one_more_listing(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, listings, names = memory_path / "cache", list[Path](), Folder.names
    write_cache(directory, range(12))
    for number in range(12):
        await PackerCache(directory).delete([key(number)])

    def listed(of: Folder) -> list[str]:
        listings.append(of.path)
        return names(of)

    monkeypatch.setattr(Folder, "names", listed)
    with open_journal(directory) as journal:
        assert len(journal.names()) == 12
        for record in (directory / OWN / "journal").iterdir():
            record.rename(record.with_name(record.name.replace(".done.", ".emptied.")))
        assert [one.state for one in journal.transactions()] == 12 * [TransactionState.EMPTIED]
        assert len(listings) == 2


async def test_a_reader_holds_nobody_up(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.publish.PATIENCE_SECONDS", 600.0)
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 600.0)
    directory = memory_path / "cache"
    write_cache(directory, range(3))
    with open(directory / "index.json", "rb"):  # noqa: ASYNC230
        assert (await PackerCache(directory).delete([key(1)])).note == ""


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES])
async def test_where_no_lease_is_to_be_had_a_writer_has_a_moment(
    code: int, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have none, and only a file's owner may ask."""
    asked = list[int]()

    def refuse(fd: int, command: int, *_: int) -> int:
        asked.append(command)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("ocitui.cache.publish.fcntl.fcntl", refuse)
    directory = memory_path / "cache"
    write_cache(directory, range(4))
    await PackerCache(directory).delete([key(3)])
    probe = InvadedDisk(directory / "index.json", SlowWriter())
    await PackerCache(directory, disk=probe).delete([key(1)])
    await PackerCache(directory).undo()
    # It has truncated the file, so that what it holds tells that it is not done.
    disk = InvadedDisk(directory / "index.json", SlowWriter(), probe.steps.index("exchange index.json"))
    await PackerCache(directory, disk=disk).delete([key(1)])
    theirs = (str(entry(disk.theirs[0])["digest"]), "squashfs")
    assert digests_and_formats(directory) == [key(0), key(2), theirs]
    assert asked


class NoExchange(Disk):
    """A file system without RENAME_EXCHANGE."""

    def exchange(self, *_: object) -> bool:
        return False


@pytest.mark.parametrize("case", CASES)
async def test_without_the_exchange(case: str, memory_path: Path) -> None:
    template, act, expected = await made(case, memory_path)
    scene = template.copy(memory_path / "run")
    there = scene.everything()
    await act(PackerCache(scene.directory, disk=NoExchange()), scene)
    assert not there - scene.everything()
    assert Counter(digests_and_formats(scene.directory)) == expected


async def test_a_transaction_notes_that_there_was_no_exchange(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    (first, second) = [descriptor.key for descriptor in await PackerCache(directory).list()]
    assert (await PackerCache(directory).delete([first])).note == ""
    done = await PackerCache(directory, disk=NoExchange()).delete([second])
    assert "cannot exchange" in done.note
    # The journal keeps it.
    assert [one.note for one in await PackerCache(directory).transactions()] == [done.note, ""]


class MeetingDisk(Disk):
    """Begins each exchange in the very moment that another program begins to rename."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def step(self, operation: str, name: str) -> None:
        if operation == "exchange":
            self.barrier.wait(60)


async def test_races_by_chance(memory_path: Path) -> None:
    """A writer that renames just as the index is exchanged: nothing that it adds is lost, whoever comes first."""
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    index, barrier, theirs = directory / "index.json", threading.Barrier(2), list[int]()

    def write() -> None:
        with suppress(threading.BrokenBarrierError):
            while True:
                # It keeps in mind what it added, as a daemon does.
                mine, draft = [*theirs, next(_numbers)], index.with_name(".draft")
                own = {str(entry(number)["digest"]) for number in mine}
                others = [one for one in json.loads(index.read_bytes())["manifests"] if one["digest"] not in own]
                draft.write_bytes(index_bytes([*others, *map(entry, mine)]))
                barrier.wait(60)
                draft.rename(index)
                theirs.append(mine[-1])

    writer = threading.Thread(target=write)
    writer.start()
    cache = PackerCache(directory, disk=MeetingDisk(barrier))
    try:
        for round_ in range(60):
            await stored(cache, memory_path / "source", f"ours{round_}", name=f"ours:{round_}")
            added = [(str(entry(number)["digest"]), "squashfs") for number in theirs]
            assert set(added) <= set(digests_and_formats(directory))
    finally:
        barrier.abort()
        writer.join()
    assert len(theirs) >= 60


def rewrite_as_the_daemon(index: Path, stop: threading.Event, errors: list[BaseException]) -> None:
    """Truncate, write, two hundred times a second, always the same entries in another order."""
    numbers = list(range(50))
    try:
        while not stop.wait(0.005):
            numbers.append(numbers.pop(0))
            index.write_bytes(index_bytes(entry(number) for number in numbers))
    except OSError as error:
        errors.append(error)


async def test_reading_beside_a_daemon_that_writes_all_the_time(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(50))
    stop, errors = threading.Event(), list[BaseException]()
    daemon = threading.Thread(target=rewrite_as_the_daemon, args=(directory / "index.json", stop, errors))
    seen: list[str] = []
    cache = await PackerCache.open(directory)
    everything = {descriptor.key for descriptor in await cache.list()}

    async def watch() -> None:
        async for difference in cache.watch():
            seen.append(difference.health.condition)
            assert {d.key for d in difference.descriptors} == everything

    watcher = asyncio.create_task(watch())
    daemon.start()
    try:
        for number in range(300):
            listed = await cache.list()
            assert {d.key for d in listed} == everything
            one = listed[number % 50]
            name = ImageName.parse(one.image_name or "")
            assert await cache.recall(name, one.digest, SQUASHFS) is not None
            assert await cache.resolve(name, SQUASHFS) is not None
            if number % 50 == 0:
                assert len(await (await PackerCache.open(directory)).list()) == 50
    finally:
        stop.set()
        daemon.join()
        assert not watcher.done(), watcher
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    assert not errors
    assert set(seen) == {"sound"}
