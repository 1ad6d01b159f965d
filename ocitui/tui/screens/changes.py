"""The changes that are asked about before they are made: delete, undo, point."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

from ocitui.cache import (
    ConflictError,
    DeletePlan,
    Descriptor,
    ImageName,
    NoSuchEntryError,
)
from ocitui.cache.actor import whoami
from ocitui.cache.files import known_format
from ocitui.doctor.loop_devices import users_of_any
from ocitui.doctor.repair.point import PointPlan, plan_point, point
from ocitui.text import counted, short_digests, timestamp
from ocitui.words.lines import short_lines
from ocitui.words.plans import Section, delete_sections, delete_title, entry_line, point_lines, undo_sections

from ..widgets.lines import Line, LongList, heading
from .base import ConfirmScreen

Key = tuple[str, str | None]
# Past this many entries a digest's first digits have to do.
WHOLE_DIGESTS = 3
# Past this many, nobody reads each; they are still there for who scrolls.
_MANY = 1000


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
        lines = self.opening(delete_title(plan), "bring these entries back")
        what = "holds the packed file of one of them: deleting it is asked twice"
        lines += [Line(what, device, "bad") for device in self._used_by]
        return lines + await asyncio.to_thread(section_lines, delete_sections(plan))

    def used_by(self) -> Sequence[str]:
        return self._used_by

    async def act(self) -> str:
        transaction = await self.session.cache.delete(self._keys, self._plan)
        note = f" ({transaction.note})" if transaction.note else ""
        return f"{counted(len(transaction.removed), 'entry')} deleted, u undoes it{note}: {transaction.id}"


def section_lines(sections: Iterable[Section[Any]]) -> list[Line | LongList]:
    """The parts of a plan, each beneath its title. Of few entries the whole digest stands in a line of its own."""
    lines: list[Line | LongList] = []
    for section in sections:
        lines += [Line(), heading(section.title)]
        if len(section.items) > _MANY:
            lines.append(LongList(len(section.items), partial(_short_line, section)))
        elif section.line is entry_line and len(section.items) <= WHOLE_DIGESTS:
            for entry in section.items:
                lines += [Line(entry.image_name or "no name", entry.format or "no format"), Line(entry.digest)]
        else:
            lines += short_lines(map(section.line, section.items))
    return lines


def _short_line(section: Section[Any], number: int) -> Line:
    return short_lines([section.line(section.items[number])])[0]


class UndoScreen(ConfirmScreen):
    """Undoes one transaction, the newest that can be when none is named."""

    subject: ClassVar[str] = "undo"
    verb: ClassVar[str] = "Undo it"

    def __init__(self, transaction_id: str | None) -> None:
        super().__init__()
        self._id = transaction_id

    async def plan(self) -> Iterable[Line | LongList]:
        target = await self.session.cache.undo_target(self._id)
        self._id = target.id
        # A mend is reversed by its own record, whatever the index is.
        self.action = "mend" if target.marked else "undo"
        memory = "bring back what this undoes" if target.changes_index else ""
        lines = self.opening(f"undo the {target.kind} of {timestamp(target.started)}", memory)
        lines += [Line(target.id, "transaction"), Line(target.by, "by", "plain" if target.by == whoami() else "bad")]
        lines += [Line(target.about, "of")] if target.about else []
        return lines + await asyncio.to_thread(section_lines, undo_sections(target))

    async def act(self) -> str:
        done = await self.session.cache.undo(self._id)
        return f"undone by {done.id}: {self._id}" + (f"; {done.explanation}" if done.explanation else "")


class PointScreen(ConfirmScreen):
    """Makes an entry win its name, by moving it to the end of the index."""

    subject: ClassVar[str] = "point"
    verb: ClassVar[str] = "Point it"

    def __init__(self, entry: Descriptor) -> None:
        super().__init__()
        self._entry = entry
        self._plan: PointPlan | None = None

    async def plan(self) -> Iterable[Line | LongList]:
        cache, entry, form = self.session.cache, self._entry, known_format(self._entry.format)
        if not entry.image_name:
            raise NoSuchEntryError("the entry has no name", hint="m plans what mends it, and takes a name")
        plan = await plan_point(cache, ImageName.parse(entry.image_name), entry.digest, form)
        if not plan.needed:
            raise ConflictError(short_digests(plan.then), hint="there is nothing to do; w shows how the daemon answers")
        self._plan = plan
        return [*self.opening(f"point {plan.name}", "undo this"), *point_lines(plan)]

    async def act(self) -> str:
        assert self._plan is not None
        done = await point(self.session.cache, self._plan)
        return f"{short_digests(self._plan.then)}; {done.id}, u points it back"
