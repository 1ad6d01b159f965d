"""The changes that are asked about before they are made: delete, undo, point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, TypeVar

from ocitui.cache import (
    ConflictError,
    DeletePlan,
    Descriptor,
    ImageName,
    NoSuchEntryError,
    NoSuchTransactionError,
    Transaction,
)
from ocitui.cache.actor import whoami
from ocitui.cache.files import known_format
from ocitui.cache.undoing import latest_undoable
from ocitui.doctor.assessment_texts import memory_warning
from ocitui.doctor.loop_devices import users_of_any
from ocitui.doctor.repair.point import PointPlan, plan_point, point
from ocitui.text import human_size, short_digests, timestamp

from ..widgets.lines import Line, LongList, heading
from .base import ConfirmScreen

Key = tuple[str, str | None]
# Past this many entries a digest's first digits have to do.
WHOLE_DIGESTS = 3
# Past this many, nobody reads each; they are still there for who scrolls.
_MANY = 1000
T = TypeVar("T")


class DeleteScreen(ConfirmScreen):
    """Plans the removal of entries by digest and format. The plan that was shown is the one that is done."""

    subject: ClassVar[str] = "delete"
    verb: ClassVar[str] = "Move to the trash"

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__()
        self._keys = keys
        self._plan: DeletePlan | None = None
        self._used_by: Sequence[str] = ()

    async def plan(self) -> Iterable[Line | LongList]:
        plan = self._plan = await self.session.cache.plan_delete(self._keys)
        self._used_by = await asyncio.to_thread(users_of_any, self.session.directory, plan.entries)
        runs = self.session.live.daemon.running
        return await asyncio.to_thread(plan_lines, plan, self._used_by, self.session.host, kratad_runs=runs)

    def used_by(self) -> Sequence[str]:
        return self._used_by

    async def act(self) -> str:
        transaction = await self.session.cache.delete(self._keys, self._plan)
        count = len(transaction.removed)
        note = f" ({transaction.note})" if transaction.note else ""
        return f"{count} {'entry' if count == 1 else 'entries'} deleted, u undoes it{note}: {transaction.id}"


def plan_lines(plan: DeletePlan, used_by: Sequence[str], host: str, *, kratad_runs: bool) -> list[Line | LongList]:
    """A plan in words: what matters most stands first, the long lists last."""
    leave = "1 entry leaves" if len(plan.entries) == 1 else f"{len(plan.entries)} entries leave"
    go = "1 file goes" if len(plan.files) == 1 else f"{len(plan.files)} files go"
    lines: list[Line | LongList] = [
        heading(f"On {host}: {leave} the index, {go} to the trash ({human_size(plan.bytes_trashed)})")
    ]
    if kratad_runs:
        lines.append(Line(f"{memory_warning('bring these entries back')}.", kind="bad"))
    lines += [
        Line("holds the packed file of one of them: deleting it is asked twice", device, "bad") for device in used_by
    ]
    if plan.uncovered:
        lines += [Line(), heading("These names will then stand for another image")]
        lines += [Line(f"{d.image_name} {short_digests(d.digest)}", d.format or "", "bad") for d in plan.uncovered]
    lines += [Line(), heading("Out of the index"), *entries_lines(plan.entries)]
    if plan.files:
        lines += [Line(), heading("To the trash; undo brings it back, and the room is free once that is emptied")]
        lines += long_list(plan.files, lambda file: file_line(file.name, file.size))
    if plan.kept:
        lines += [Line(), heading("Kept, because another format of that digest uses them")]
        lines += long_list(plan.kept, lambda name: Line(short_digests(name), "kept"))
    return lines


def file_line(name: str, size: int) -> Line:
    """A file that goes or comes."""
    return Line(short_digests(name), f"{human_size(size):>5}")


def entries_lines(descriptors: Sequence[Descriptor]) -> Iterable[Line | LongList]:
    """Entries by name, format and digest; where there are few, with the whole digest in a line of its own."""
    if len(descriptors) > WHOLE_DIGESTS:
        return long_list(descriptors, _entry_line)
    return [line for one in descriptors for line in (_name_line(one, one.image_name), Line(one.digest))]


def _entry_line(descriptor: Descriptor) -> Line:
    return _name_line(descriptor, f"{descriptor.image_name or 'no name'} {short_digests(descriptor.digest)}")


def _name_line(descriptor: Descriptor, text: str | None) -> Line:
    return Line(text or "no name", descriptor.format or "no format")


def long_list(items: Sequence[T], line: Callable[[T], Line]) -> Iterable[Line | LongList]:
    """A line for each; where there are very many, made when it shows."""
    if len(items) > _MANY:
        return [LongList(len(items), lambda number: line(items[number]))]
    return [line(item) for item in items]


class UndoScreen(ConfirmScreen):
    """Undoes one transaction, the newest that can be when none is named."""

    subject: ClassVar[str] = "undo"
    verb: ClassVar[str] = "Undo it"

    def __init__(self, transaction_id: str | None) -> None:
        super().__init__()
        self._id = transaction_id

    async def plan(self) -> Iterable[Line | LongList]:
        transactions = await self.session.cache.transactions()
        target = latest_undoable(transactions) if self._id is None else _find(transactions, self._id)
        self._id = target.id
        # A mend is reversed by its own record, whatever the index is.
        self.action = "mend" if target.marked else "undo"
        lines = await asyncio.to_thread(undo_lines, target, self.session.host)
        if target.changes_index and self.session.live.daemon.running:
            lines.insert(1, Line(f"{memory_warning('bring back what this undoes')}.", kind="bad"))
        return lines

    async def act(self) -> str:
        done = await self.session.cache.undo(self._id)
        return f"undone by {done.id}: {self._id}" + (f"; {done.explanation}" if done.explanation else "")


def _find(transactions: list[Transaction], transaction_id: str) -> Transaction:
    found = next((one for one in transactions if one.id == transaction_id), None)
    if found is None:
        raise NoSuchTransactionError(f"there is no transaction {transaction_id}")
    return found


def undo_lines(target: Transaction, host: str) -> list[Line | LongList]:
    """What undoing a transaction means, in words."""
    lines: list[Line | LongList] = [
        heading(f"On {host}: undo the {target.kind} of {timestamp(target.started)}"),
        Line(target.id, "transaction"),
        Line(target.by, "by", "plain" if target.by == whoami() else "bad"),
    ]
    if target.about:
        lines.append(Line(target.about, "of"))
    back, away = [one.descriptor for one in target.removed], [one.descriptor for one in target.added]
    for title, descriptors in (("Back into the index", back), ("Out of the index", away)):
        if descriptors:
            lines += [Line(), heading(title), *entries_lines(descriptors)]
    if target.swap is not None:
        lines += [Line(), heading("index.json as a whole")]
        lines.append(Line("comes back as it was before, byte for byte" if target.swap.old else "goes: there was none"))
    if target.modes:
        lines += [Line(), heading("Modes as they were")]
        lines += [Line(short_digests(mode.name), "mode") for mode in target.modes]
    if target.trashed:
        lines += [Line(), heading("Back from the trash")]
        lines += long_list(target.trashed, lambda file: file_line(file.name, file.size))
    if target.placed:
        lines += [Line(), heading("To the trash, unless another entry needs them")]
        lines += long_list(target.placed, lambda file: file_line(file.name, file.size))
    return lines


class PointScreen(ConfirmScreen):
    """Makes an entry win its name, by moving it to the end of the index."""

    subject: ClassVar[str] = "point"
    verb: ClassVar[str] = "Point it"

    def __init__(self, entry: Descriptor) -> None:
        super().__init__()
        self._entry = entry
        self._plan: PointPlan | None = None

    async def plan(self) -> Sequence[Line]:
        cache, entry, form = self.session.cache, self._entry, known_format(self._entry.format)
        if not entry.image_name:
            raise NoSuchEntryError("the entry has no name", hint="m plans what mends it, and takes a name")
        plan = await plan_point(cache, ImageName.parse(entry.image_name), entry.digest, form)
        if not plan.needed:
            raise ConflictError(short_digests(plan.then), hint="there is nothing to do; w shows how the daemon answers")
        answer = await cache.explain_recall(plan.name, plan.entry.digest, form) if form else None
        self._plan = plan
        trouble = "its format is none that the daemon knows" if answer is None else ""
        if answer is not None and not answer.hit:
            trouble = answer.error or answer.reasons[-1].text
        return point_lines(plan, self.session.host, trouble, kratad_runs=self.session.live.daemon.running)

    async def act(self) -> str:
        assert self._plan is not None
        done = await point(self.session.cache, self._plan)
        return f"{short_digests(self._plan.then)}; {done.id}, u points it back"


def point_lines(plan: PointPlan, host: str, trouble: str, *, kratad_runs: bool) -> list[Line]:
    """A plan in words; ``trouble`` is why the daemon would not have the image all the same, empty where it would."""
    lines = [heading(f"On {host}: point {plan.name}")]
    if kratad_runs:
        lines.append(Line(f"{memory_warning('undo this')}.", kind="bad"))
    if trouble:
        lines.append(Line(f"the daemon would not find it all the same: {short_digests(trouble)}", kind="bad"))
    return [
        *lines,
        Line(),
        Line(f"{plan.winner.digest} {plan.winner.format or 'without a format'}", "stands for"),
        Line(f"{plan.entry.digest} {plan.entry.format or 'without a format'}", "will be"),
        Line(f"entry {plan.position + 1} moves to the end of index.json, where it wins; nothing is deleted", "how"),
    ]
