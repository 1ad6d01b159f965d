"""Delete: every file that would go, what stays and why, then the question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, TypeVar

from ocitui.cache import CacheError, DeletePlan, Descriptor, PlanChangedError
from ocitui.doctor.assessment_texts import memory_warning
from ocitui.doctor.loop_devices import users_of_any
from ocitui.text import human_size

from ..shorten import short_digests
from ..widgets.lines_view import Line, LongList, heading
from .confirm import ConfirmScreen

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
        plan = self._plan = await self.app.cache.plan_delete(self._keys)
        self._used_by = await asyncio.to_thread(users_of_any, self.app.options.directory, plan.entries)
        runs = self.app.live.daemon.running
        return await asyncio.to_thread(plan_lines, plan, self._used_by, self.app.host, kratad_runs=runs)

    def used_by(self) -> Sequence[str]:
        return self._used_by

    async def act(self) -> str:
        transaction = await self.app.cache.delete(self._keys, self._plan)
        count = len(transaction.removed)
        note = f" ({transaction.note})" if transaction.note else ""
        return f"{count} {'entry' if count == 1 else 'entries'} deleted, u undoes it{note}: {transaction.id}"

    def failed(self, error: CacheError) -> None:
        if isinstance(error, PlanChangedError):
            self.make_plan("The cache has changed since the plan was shown. This is the new plan.")
        else:
            super().failed(error)


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
