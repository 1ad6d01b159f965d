"""Writers that stop or fail at a given step, what they were doing, and what must hold afterwards."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import PackerCache, Transaction, TransactionState
from ocitui.cache.disk import Disk
from tests.cache.support import EROFS, OWN, SQUASHFS, digest_of, documents, make_image, write_cache

Key = tuple[str, str]


class Stop(BaseException):
    """The program dies."""


class StoppingDisk(Disk):
    """Dies before its n-th step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at
        self.stopped = ""

    def step(self, operation: str, name: str) -> None:
        assert not self.stopped, f"{operation} {name} after the end at {self.stopped}"
        if self.left == 0:
            self.stopped = f"{operation} {name}"
            raise Stop(self.stopped)
        self.left -= 1


class FailingDisk(Disk):
    """Fails at its n-th step, or from there on."""

    def __init__(self, at: int, code: int, *, for_good: bool) -> None:
        super().__init__()
        self.left = at
        self.code = code
        self.for_good = for_good
        self.failed = ""

    def step(self, operation: str, name: str) -> None:
        self.left -= 1
        if self.left == -1 or (self.left < 0 and self.for_good):
            self.failed = self.failed or f"{operation} {name}"
            raise OSError(self.code, os.strerror(self.code), name)


def key(number: int, format: str = "squashfs") -> Key:
    return digest_of(documents(str(number))[0]), format


@dataclass(frozen=True)
class Snapshot:
    """A cache, images to store beside it, and perhaps a transaction that was made already."""

    directory: Path
    sources: Path
    done: str = ""

    def copy(self, to: Path) -> Snapshot:
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.directory, to / "cache")
        shutil.copytree(self.sources, to / "sources")
        return Snapshot(to / "cache", to / "sources", self.done)


Act = Callable[[PackerCache, Snapshot], Awaitable[object]]


def store(number: int, *, name: str = "new:1", digest_number: int | None = None) -> Act:
    """Store the file that waits in the snapshot's sources, perhaps under another image's digest."""

    async def act(cache: PackerCache, snapshot: Snapshot) -> object:
        digest = None if digest_number is None else key(digest_number)[0]
        return await cache.store(make_image(snapshot.sources / "packed", str(number), name=name, digest=digest))

    return act


def delete(*keys: Key) -> Act:
    async def act(cache: PackerCache, _: Snapshot) -> object:
        return await cache.delete(list(keys))

    return act


async def undo(cache: PackerCache, snapshot: Snapshot) -> object:
    return await cache.undo(snapshot.done)


FIRST: dict[str, Act] = {
    "store": store(9),
    "store-replacing": store(1),
    "store-replacing-documents": store(9, digest_number=1),
    "delete-one": delete(key(0)),
    "delete-many": delete(key(0), key(1), key(1, "erofs")),
    "delete-all": delete(*(key(number, form) for number in range(3) for form in ("squashfs", "erofs"))),
    "delete-sharing-documents": delete(key(2)),
}
CASES = [*FIRST, *(f"undo-{name}" for name in FIRST)]


async def prepare(case: str, folder: Path) -> tuple[Snapshot, Act]:
    """The snapshot of a case, and what is to be interrupted in it."""
    snapshot = Snapshot(folder / "cache", folder / "sources")
    write_cache(snapshot.directory, range(3), (SQUASHFS, EROFS))
    snapshot.sources.mkdir()
    (snapshot.sources / "packed").write_bytes(b"a new packed file")
    # Its folders are there already, as they are but once in a cache's life.
    cache = PackerCache(snapshot.directory)
    await cache.delete([key(2, "erofs")])
    await cache.undo()
    if not case.startswith("undo-"):
        return snapshot, FIRST[case]
    await FIRST[case.removeprefix("undo-")](cache, snapshot)
    newest = (await cache.transactions())[0]
    return Snapshot(snapshot.directory, snapshot.sources, newest.id), undo


class Before:
    """What there was, and must never be lost."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.bytes = bytes_of(snapshot)
        self.index = (snapshot.directory / "index.json").read_bytes()
        self.whole = {one for one in entries(snapshot) if complete(snapshot, one)}

    def check(self, snapshot: Snapshot, where: str) -> None:
        """At any moment: nothing lost, the index reads, its entries have the files they had."""
        lost = self.bytes - bytes_of(snapshot)
        assert not lost, f"lost at {where}: {list(lost)}"
        for one in entries(snapshot):
            assert complete(snapshot, one) or one not in self.whole, f"{one} without its files at {where}"

    async def check_recovered(self, snapshot: Snapshot, where: str) -> list[Transaction]:
        """After the next writer: nothing is under way, and what the index lost is in the journal."""
        await PackerCache(snapshot.directory).store(make_image(snapshot.sources / "later", "later", name="later:1"))
        self.check(snapshot, where)
        transactions = await PackerCache(snapshot.directory).transactions()
        assert all(one.state is not TransactionState.PENDING for one in transactions), where
        assert os.listdir(snapshot.directory / OWN / "staging") == [], where
        kept = Counter(one.raw for transaction in transactions for one in transaction.removed)
        kept.update(json.dumps(one) for one in manifests(snapshot))
        for descriptor in json.loads(self.index)["manifests"]:
            assert any(json.loads(raw) == descriptor for raw in kept), f"{descriptor} lost at {where}"
        return transactions


def manifests(snapshot: Snapshot) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((snapshot.directory / "index.json").read_bytes())["manifests"]
    return found


def entries(snapshot: Snapshot) -> list[Key]:
    found = json.loads((snapshot.directory / "index.json").read_bytes())["manifests"]
    return [(one["digest"], one["annotations"]["dev.krata.oci.packer.format"]) for one in found]


def complete(snapshot: Snapshot, one: Key) -> bool:
    digest, format_ = one
    names = (f"{digest}.{format_}", f"{digest}.manifest.json", f"{digest}.config.json")
    return all((snapshot.directory / name).is_file() for name in names)


def bytes_of(snapshot: Snapshot) -> Counter[bytes]:
    """The content of every file of images and of the index, wherever it is by now."""
    own = snapshot.directory / OWN
    found: Counter[bytes] = Counter()
    for folder in (snapshot.directory, own / "trash", own / "staging", snapshot.sources):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_file() and not path.name.endswith(("index.json", ".index")):
                found[path.read_bytes()] += 1
    return found
