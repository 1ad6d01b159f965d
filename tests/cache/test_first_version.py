"""What the first version wrote: its journals, trash, backups and ledgers read, recover and undo.

``first_version/caches.tar.xz`` holds caches as it left them, with a JSON file each that says what inode and mtime every
file had (records know files by these), and what the cache held before and after: ``history``, of everything that it
could do; ``reset``; and ``pending-*``, where it was stopped at every step of each of its transactions.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import re
import stat
import tarfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import IndexOutcome, PackerCache, TransactionState, judge_index, list_backups
from ocitui.cache.backups import read_backup
from ocitui.cache.ledger import Ledger
from ocitui.doctor.acknowledged import load_acknowledged
from tests.cache.scenes import Scene, key
from tests.cache.support import OWN, corrupt_copies
from tests.tools import ROOT

pytestmark = pytest.mark.slow

ARCHIVE = ROOT / "tests" / "cache" / "first_version" / "caches.tar.xz"
Told = dict[str, Any]


@cache
def archive() -> tarfile.TarFile:
    """Decompressed once in a process, its headers read once."""
    opened = tarfile.TarFile(fileobj=io.BytesIO(lzma.decompress(ARCHIVE.read_bytes())))
    # The first releases of Python 3.11 have no filters.
    opened.extraction_filter = lambda member, _: member
    return opened


@cache
def cases() -> list[str]:
    return sorted(name[2:-5] for name in archive().getnames() if name.endswith(".json") and name.count("/") == 1)


DELETIONS = ["delete-all", "delete-many", "delete-one", "delete-sharing-documents"]
STORES = ["store", "store-replacing", "store-replacing-documents"]
MENDED = ["absent-with-files", "corrupt-with-files", "discard", "everything", "link", "modes", "place-path", "point"]
MENDED += ["undo-absent", "undo-corrupt", "undo-everything", "undo-place-path"]
# Written out, as each process that lists the tests would unpack the archive.
PENDING = [f"pending-{undo}{name}" for undo in ("", "undo-") for name in (*DELETIONS, *STORES)]
PENDING += [f"pending-mend-{name}" for name in MENDED]


def test_each_case_of_the_archive_is_tried() -> None:
    assert {re.sub(r"-\d+$", "", name) for name in cases() if name.startswith("pending-")} == set(PENDING)


def unpacked(prefix: str, folder: Path) -> list[tuple[Scene, Told]]:
    """The caches whose names begin so, as they were: records know their files, which have other inodes here."""
    wanted = re.compile(rf"\./{re.escape(prefix)}(-\d+)?(/|\.json|$)")
    archive().extractall(folder, [one for one in archive().getmembers() if wanted.match(one.name)])
    found = []
    for told in sorted(folder.glob("*.json")):
        facts = json.loads(told.read_text())
        place = folder / told.stem
        there = {old: os.lstat(place / name) for name, (old, _) in facts["facts"].items()}
        for record in place.glob("cache/.ocitui/journal/*.json"):
            _know_again(record, there)
        for name, (_, modified) in sorted(facts["facts"].items(), reverse=True):
            if os.path.lexists(place / name):
                os.utime(place / name, ns=(modified, modified), follow_symlinks=False)
        found.append((Scene(place / "cache", place / "sources"), facts))
    return found


def _know_again(record: Path, there: dict[int, os.stat_result]) -> None:
    """Give a record the inodes that its files have now, and of directories the size that they have here."""

    def known(part: Any) -> Any:
        if isinstance(part, list):
            return [known(one) for one in part]
        if not isinstance(part, dict):
            return part
        found = there.get(part.get("inode", 0))
        if found is None:
            return {name: known(one) for name, one in part.items()}
        size = found.st_size if stat.S_ISDIR(found.st_mode) else part["size"]
        return {**part, "inode": found.st_ino, "size": size}

    def published(match: re.Match[str]) -> str:
        found = there.get(int(match[2]))
        return f"{match[1]}{found.st_ino if found else match[2]}"

    record.write_text(json.dumps(known(json.loads(record.read_text()))))
    record.rename(record.with_name(re.sub(r"(publishing-)(\d+)", published, record.name)))


def originals(told: Told) -> Counter[tuple[str, bytes]]:
    """The files that the cache held before, but for a sound index."""
    files = [content.encode("latin-1") for kind, _, content in told["before"].values() if kind == "file"]
    return Counter(("file", data) for data in files if judge_index(data) is not IndexOutcome.LOADED)


def states(directory: Path) -> dict[str, list[object]]:
    """What stands in the cache, as the archive tells it."""
    found: dict[str, list[object]] = {}
    for path in sorted(directory.iterdir()):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if path.name == OWN:
            continue
        if stat.S_ISLNK(status.st_mode):
            found[path.name] = ["link", 0, os.readlink(path)]
        elif stat.S_ISREG(status.st_mode):
            found[path.name] = ["file", mode, path.read_bytes().decode("latin-1")]
        else:
            found[path.name] = ["directory", mode, sorted(one.name for one in path.iterdir())]
    return found


@pytest.mark.parametrize("case", PENDING)
async def test_what_it_left_half_done_is_finished_or_rolled_back(case: str, memory_path: Path) -> None:
    outcomes: set[TransactionState] = set()
    for scene, told in unpacked(case, memory_path):
        there, where = originals(told), told["stopped"]
        cache = PackerCache(scene.directory)
        pending = [one for one in await cache.transactions() if one.state is TransactionState.PENDING]
        (recovered,) = (await cache.prepare()).recovered
        assert [recovered.id] == [one.id for one in pending], where
        outcomes.add(recovered.state)
        expected = told["after" if recovered.state is TransactionState.DONE else "before"]
        assert states(scene.directory) == expected, where
        assert not there - scene.everything(), where
        assert os.listdir(scene.directory / OWN / "staging") == [], where
        if recovered.state is TransactionState.DONE:
            await cache.undo(recovered.id)
            assert states(scene.directory) == told["before"], where
        assert not there - scene.everything(), where
    assert outcomes == {TransactionState.DONE, TransactionState.VOID}


async def test_its_history_is_read_and_undone(memory_path: Path) -> None:
    ((scene, told),) = unpacked("history", memory_path)
    cache, before = PackerCache(scene.directory), dict(told["states"])
    transactions = await cache.transactions()
    assert [[one.id, one.kind, one.state, one.of, one.marked] for one in transactions] == told["log"]
    assert await cache.refused() == []
    # A new transaction comes after all of them, whatever the clock says.
    done = await cache.delete([(await cache.list())[0].key])
    assert done.sequence == 1
    assert [one.id for one in await cache.transactions()] == [done.id, *(one.id for one in transactions)]
    assert not [name for name in os.listdir(scene.directory / OWN) if name.startswith("reserve-")]
    await cache.undo()
    assert states(scene.directory) == before["store-last"]
    await cache.undo()
    assert states(scene.directory) == before["mend-replaced"]
    await cache.undo()
    assert states(scene.directory) == before["corrupt"]
    before_it = next(one for one in list_backups(scene.directory) if one.before_shrink)
    (scene.directory / "index.json").write_bytes(read_backup(scene.directory, before_it))
    assert states(scene.directory) == before["delete-again"]
    await cache.undo()
    assert states(scene.directory) == before["emptied-delete"]


async def test_its_trash_and_backups_are_read(memory_path: Path) -> None:
    ((scene, told),) = unpacked("history", memory_path)
    cache = PackerCache(scene.directory)
    listed = [[f.trash, f.name, f.transaction, f.kind, f.size, f.undoable, f.recorded] for f in await cache.trash()]
    assert sorted(listed) == sorted(told["trash"])
    backups = list_backups(scene.directory)
    assert [[b.name, b.kept, b.entries, b.before_shrink, b.content] for b in backups] == told["backups"]
    for backup in backups:
        assert read_backup(scene.directory, backup).count(b"io.containerd.image.name") == backup.entries
    assert [*corrupt_copies(scene.directory).values()] == [b'{"schemaVersion":2,']
    # New ones come before them.
    await cache.delete([(await cache.list())[0].key])
    newest, *older = list_backups(scene.directory)
    assert newest.number == 1
    assert [one.content for one in older] == [one.content for one in backups if one.content != newest.content]


async def test_its_ledger_and_acknowledgements_are_read(memory_path: Path) -> None:
    ((scene, _),) = unpacked("history", memory_path)
    ledger = Ledger.open(scene.directory)
    assert (len(ledger.sound), ledger.problem) == (4, "")
    (known,) = load_acknowledged(scene.directory).values()
    assert (known.code, known.file) == ("unknown-file", "stray")


async def test_its_reset_is_undone(memory_path: Path) -> None:
    ((scene, told),) = unpacked("reset", memory_path)
    cache = PackerCache(scene.directory)
    (reset,) = await cache.transactions()
    await cache.undo(reset.id)
    assert states(scene.directory) == told["before"]


async def test_a_file_that_one_of_its_records_calls_outside_stays_inside(memory_path: Path) -> None:
    """A store that it left half done had moved its file in; where from is only what the record says."""
    for scene, _ in unpacked("pending-store", memory_path):
        cache = PackerCache(scene.directory)
        (left,) = [one for one in await cache.transactions() if one.state is TransactionState.PENDING]
        outside = [Path(placed.path) for placed in left.placed if placed.path]
        assert outside
        (recovered,) = (await cache.prepare()).recovered
        assert not any(path.exists() for path in outside)
        if recovered.state is TransactionState.VOID:
            names = {file.name for file in await cache.trash()} | set(os.listdir(scene.sources))
            assert names & {f"{key(9)[0]}.squashfs", "packed"}
