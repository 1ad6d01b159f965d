"""A disk on which another program meddles with what is done, a clock that stands, and what lies where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ocitui.cache import Descriptor, list_backups
from ocitui.cache.backups import read_backup
from ocitui.cache.changes import Edit
from ocitui.cache.disk import Disk, Folder
from ocitui.cache.index import read_once
from ocitui.cache.publish import Marks, publish_edit
from ocitui.cache.records import Transaction, trash_name
from ocitui.cache.workspace import Workspace
from tests.cache.scenes import key
from tests.cache.support import OWN, entry, index_bytes

ID = "000002-abcd"
DRAFT, IN_TRASH = f"{ID}.index", trash_name(ID, "index.json")
Act = Callable[[], object]


def of(*numbers: int) -> bytes:
    return index_bytes(entry(number) for number in numbers)


BEFORE, AFTER, THEIRS = of(0, 1), of(0, 1, 9), of(0, 1, 5)


class MeddledDisk(Disk):
    """Does something before a step, as often as there is something to do; ``steps`` are those made, names without their
    folders."""

    def __init__(self, step: str = "", *acts: Act, exchanges: bool = True) -> None:
        super().__init__()
        self.meddled, self.acts, self.exchanges = step, list(acts), exchanges
        self.steps: list[str] = []

    def step(self, operation: str, name: str) -> None:
        self.steps.append(f"{operation} {Path(name).name}")
        if self.steps[-1] == self.meddled and self.acts:
            self.acts.pop(0)()

    def exchange(self, source: Folder, name: str, target: Folder, other: str) -> bool:
        return self.exchanges and super().exchange(source, name, target, other)


class Clock:
    """Time that passes only while somebody sleeps; something happens once it has come so far. Nobody waits for ever."""

    def __init__(self, at: float = 0.0, act: Act | None = None) -> None:
        self.now, self.at, self.act = 0.0, at, act
        self._looks = 0

    def monotonic(self) -> float:
        self._looks += 1
        assert self._looks < 5000
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 20
        if self.act is not None and self.now >= self.at:
            self.act()
            self.act = None


def kept(space: Workspace) -> list[bytes]:
    return [read_backup(space.directory, backup) for backup in list_backups(space.directory)]


def folder(space: Workspace, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (space.directory / OWN / name).iterdir()}


def records(space: Workspace) -> list[str]:
    return sorted(path.name for path in (space.directory / OWN / "journal").iterdir())


def begun(space: Workspace, *, marked: bool = True) -> Marks:
    """A transaction whose record is durable."""
    transaction = Transaction(id=ID, kind="repair", started=0.0, by="", marked=marked)
    (space.directory / OWN / "journal" / f"{ID}.pending.json").unlink(missing_ok=True)
    space.journal.write(transaction)
    return Marks(space, transaction)


def published(space: Workspace, edit: Edit | None = None, *, marked: bool = False) -> bytes:
    """Publish an edit of the index as it is, by default one that adds the ninth entry at the end; gives what that
    says it wrote."""
    edit = edit or Edit(keys=frozenset([key(9)]), appended=Descriptor.from_dict(entry(9)))
    marks = begun(space, marked=marked)
    return publish_edit(space, read_once(space.directory), edit, DRAFT, marks).data


def written(path: Path, data: bytes) -> Act:
    def write() -> None:
        path.write_bytes(data)

    return write


def renamed_over(path: Path, data: bytes) -> Act:
    def rename() -> None:
        draft = path.with_name(".draft")
        draft.write_bytes(data)
        draft.rename(path)

    return rename
