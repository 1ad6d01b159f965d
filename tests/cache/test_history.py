"""The history of an index: every one that was seen is had back, with who made it of the one before."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import (
    Change,
    ConflictError,
    ImageIndex,
    IndexEdit,
    IndexHistory,
    IndexReplacement,
    Insert,
    PackerCache,
    Remove,
    Transaction,
    TransactionKind,
    open_journal,
    see_index,
)
from ocitui.cache.backups import open_backups
from ocitui.cache.disk import Disk
from ocitui.cache.errors import NoSuchTransactionError
from ocitui.doctor import keep_index
from tests.cache.scenes import key
from tests.cache.support import OWN, entry, index_bytes, make_image, write_cache
from tests.tools import impatient

pytestmark = pytest.mark.slow

FOREIGN = "another program"


@pytest.fixture(autouse=True)
def nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)
    impatient(monkeypatch)


class Changing:
    """A cache that is changed at random, ours and by another hand; ``seen`` are the indexes that are to be kept, oldest
    first, each with who made it: a transaction's id, or another program."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random, self.directory, self.source = random.Random(seed), folder / "cache", folder / "source"
        write_cache(self.directory, range(4))
        self.source.mkdir()
        self.index = self.directory / "index.json"
        self.cache = PackerCache(self.directory)
        self.seen: list[tuple[bytes, str]] = [(self.index.read_bytes(), "")]
        self.done = Counter[str]()
        keep_index(self.directory)

    def now(self) -> ImageIndex:
        return ImageIndex.parse(self.index.read_bytes())

    def note(self, by: str) -> None:
        if self.seen[-1][0] != (data := self.index.read_bytes()):
            self.seen.append((data, by))

    async def step(self) -> None:
        """One change, that a check sees; sometimes another program's comes before that, so it sees both as one."""
        ours = (self.store, self.store, self.delete, self.point, self.undo, self.undo, self.replace)
        theirs = (self.add, self.add, self.shrink, self.reorder, self.again, self.lay_out, self.rewrite)
        name = self.random.choice([*ours, *theirs]).__name__
        by, before = FOREIGN, self.index.read_bytes()
        if name in {one.__name__ for one in ours}:
            with suppress(ConflictError, NoSuchTransactionError):
                await getattr(self, name)()
            if before != self.index.read_bytes():
                by = self.last()[0].id
        else:
            manifests = json.loads(before)["manifests"]
            data = getattr(self, name)(manifests)
            self.index.write_bytes(index_bytes(manifests) if data is None else data)
        if before != self.index.read_bytes():
            self.done[name] += 1
        keep_index(self.directory)
        self.note(by)

    def last(self) -> list[Transaction]:
        """The newest transactions; there may be thousands."""
        with open_journal(self.directory) as journal:
            return [journal.load(name) for name in journal.names()[:6]]

    # Ours

    async def store(self) -> None:
        number = self.random.randrange(12)
        name = f"image{self.random.randrange(6)}:1"
        path = self.source / "packed"
        path.write_bytes(b"packed")
        await self.cache.store(make_image(path, str(number), name=name))

    async def delete(self) -> None:
        index = self.now()
        if len(index):
            at = self.random.sample(range(len(index)), min(len(index), self.random.randint(1, 3)))
            await self.cache.delete([(index.digests[one], index.formats[one]) for one in at])

    async def point(self) -> None:
        index = self.now()
        if len(index) > 1:
            at = self.random.randrange(len(index) - 1)
            raw = index.raw(at)
            await self.cache.change(Change(IndexEdit((Remove(at, raw),), (Insert(raw),))), TransactionKind.POINT)

    async def undo(self) -> None:
        done = [one.id for one in self.last() if one.state == "done" and one.removed + one.added]
        if done:
            await self.cache.undo(self.random.choice(done))

    async def replace(self) -> None:
        """A corrupt index, of which only a part is had back."""
        data = index_bytes(json.loads(self.index.read_bytes())["manifests"][1:])
        self.index.write_bytes(b"{")
        await self.cache.change(Change(IndexReplacement(see_index(self.directory), data)), TransactionKind.REPAIR)

    # Another program's

    def add(self, manifests: list[Any]) -> None:
        for _ in range(self.random.randint(1, 2)):
            manifests.append(entry(self.random.randrange(100), name=f"image{self.random.randrange(6)}:1"))

    def shrink(self, manifests: list[Any]) -> None:
        del manifests[self.random.randrange(len(manifests) + 1) :]

    def reorder(self, manifests: list[Any]) -> None:
        self.random.shuffle(manifests)

    def again(self, manifests: list[Any]) -> bytes:
        return self.random.choice(self.seen)[0]

    def lay_out(self, manifests: list[Any]) -> bytes:
        document = {"schemaVersion": 2, "manifests": manifests}
        return json.dumps(document, indent=self.random.choice([None, 1, 2])).encode() + b"\n" * self.random.randrange(3)

    def rewrite(self, manifests: list[Any]) -> None:
        """As a daemon that was started anew: the annotations in another order."""
        for one in manifests:
            annotations = [*one["annotations"].items()]
            self.random.shuffle(annotations)
            one["annotations"] = dict(annotations)


def kept(directory: Path) -> list[bytes]:
    """All that is kept, oldest first."""
    with open_backups(directory) as copies:
        return [copies.read(one) for one in reversed(copies.everything())]


@pytest.mark.parametrize("steps", [300, pytest.param(10_000, marks=pytest.mark.long)])
async def test_every_index_that_was_seen_is_had_back(steps: int, memory_path: Path) -> None:
    changing = Changing(memory_path, steps)
    for _ in range(steps):
        await changing.step()
    await changing.cache.close()
    assert len(changing.seen) > steps // 2
    assert min(changing.done.values()) > 0
    assert len(changing.done) == 11
    assert kept(changing.directory) == [data for data, _ in changing.seen]
    folder = changing.directory / OWN / "backups"
    assert len([*folder.iterdir()]) < 30 + len(changing.seen) // 200
    history = IndexHistory(changing.directory)
    changes = [*history.changes()][::-1]
    assert [change.index.data for change in changes] == [data for data, _ in changing.seen]
    assert [*history.notes()] == []
    entries, winners = Counter[object](changes[0].index.identities()), dict(changes[0].index.winners)
    assert changes[0].oldest
    for change, (_, by) in zip(changes[1:], changing.seen[1:], strict=True):
        entries.subtract(one.identity for one in change.went)
        entries.update(one.identity for one in change.came)
        assert +entries == Counter(change.index.identities())
        winners |= {name: now.digest for name, (now, _) in change.won.items() if now is not None}
        for name in [name for name, (now, _) in change.won.items() if now is None]:
            del winners[name]
        assert winners == change.index.winners
        # Where nothing is seen of what one did, nobody can tell who it was.
        if change.came or change.went or change.won:
            told = [one.id for one in change.transactions][-1:]
            assert change.by_another if by == FOREIGN else (told, change.by_another) == ([by], False)


class WatchedDisk(Disk):
    """A check looks at the index while files go to the trash: it was published, and the transaction is under way."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory, self.looked = directory, False

    def step(self, operation: str, name: str) -> None:
        if not self.looked and operation == "rename" and name.endswith("~" + key(0)[0] + ".squashfs"):
            self.looked = True
            keep_index(self.directory)


def told(directory: Path) -> list[tuple[list[str], bool]]:
    """Who made each change, newest first."""
    changes = [*IndexHistory(directory).changes()]
    assert changes[-1].oldest
    return [([one.kind for one in change.transactions], change.by_another) for change in changes[:-1]]


async def test_what_was_seen_while_it_was_under_way_is_ours(memory_path: Path) -> None:
    write_cache(memory_path, range(4))
    keep_index(memory_path)
    disk = WatchedDisk(memory_path)
    deleted = await PackerCache(memory_path, disk=disk).delete([key(0)])
    assert disk.looked
    assert [(one.number, one.ordinal) for one in IndexHistory(memory_path).instants] == [(1, 2), (1, 1)]
    assert told(memory_path) == [(["delete"], False)]
    (change, _) = IndexHistory(memory_path).changes()
    assert change.when == deleted.started
    # The next is made by the next one alone, though the first has no smaller number.
    await PackerCache(memory_path).delete([key(1)])
    assert told(memory_path) == [(["delete"], False)] * 2
    (change, *_) = IndexHistory(memory_path).changes()
    assert [one.image_name for one in change.went] == ["image1:1"]
    keep_index(memory_path)
    write_cache(memory_path, (2, 3, 5))
    assert told(memory_path) == [([], True), (["delete"], False), (["delete"], False)]


async def test_a_transaction_makes_one_change(memory_path: Path) -> None:
    """Another program turned two entries of a name around, and nobody looked before that was turned back."""
    write_cache(memory_path, ())
    index = memory_path / "index.json"
    entries = [entry(1, name="same:1"), entry(2, name="same:1")]
    index.write_bytes(index_bytes(entries))
    keep_index(memory_path)
    index.write_bytes(index_bytes(entries[::-1]))
    raw = ImageIndex.parse(index.read_bytes()).raw(0)
    change = Change(IndexEdit((Remove(0, raw),), (Insert(raw),)))
    await PackerCache(memory_path).change(change, TransactionKind.POINT)
    assert told(memory_path) == [(["point"], False), ([], True)]
    since = [one.digest for one, _, _ in IndexHistory(memory_path).tenures("same:1")]
    assert since == [entries[at]["digest"] for at in (1, 0, 1)]


async def test_what_was_corrupt_in_between_is_no_change(memory_path: Path) -> None:
    write_cache(memory_path, range(3))
    keep_index(memory_path)
    index, cache = memory_path / "index.json", PackerCache(memory_path)
    data = index.read_bytes()
    for _ in range(2):
        index.write_bytes(b"{")
        await cache.change(Change(IndexReplacement(see_index(memory_path), data)), TransactionKind.REPAIR)
        assert told(memory_path) == []
    await cache.delete([key(1)])
    assert told(memory_path) == [(["delete"], False)]


async def test_both_had_a_part(memory_path: Path) -> None:
    """What another program's memory brought back, nobody saw without."""
    write_cache(memory_path, range(3))
    keep_index(memory_path)
    await PackerCache(memory_path).delete([key(1)])
    index = memory_path / "index.json"
    index.write_bytes(index_bytes([entry(0), entry(1), entry(7)]))
    assert told(memory_path) == [([], True)]
    index.write_bytes(index_bytes([entry(0), entry(7)]))
    assert told(memory_path) == [(["delete"], True)]
    change = next(IndexHistory(memory_path).changes())
    assert change.when == index.stat().st_mtime_ns / 1e9
    assert [one.image_name for one in (*change.came, *change.went)] == ["image7:1", "image1:1", "image2:1"]
