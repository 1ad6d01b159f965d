"""Delete: every file that would go, what stays and why, then the question."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import ClassVar

from ocitui.cache import CacheError, DeletePlan, Descriptor, PlanChangedError
from ocitui.doctor.loop_devices import users_of_any
from ocitui.text import human_size

from ..shorten import short_digests
from ..widgets.lines_view import Line, heading
from .confirm import ConfirmScreen

Key = tuple[str, str | None]
# Past this many entries a digest's first digits have to do.
WHOLE_DIGESTS = 3


class DeleteScreen(ConfirmScreen):
    """Plans the removal of entries by digest and format. The plan that was shown is the one that is done."""

    subject: ClassVar[str] = "delete"
    verb: ClassVar[str] = "Move to the trash"

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__()
        self._keys = keys
        self._plan: DeletePlan | None = None
        self._used_by: Sequence[str] = ()

    async def plan(self) -> Iterable[Line]:
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


def plan_lines(plan: DeletePlan, used_by: Sequence[str], host: str, *, kratad_runs: bool) -> list[Line]:
    """A plan in words: what matters most stands first, the long lists last."""
    leave = "1 entry leaves" if len(plan.entries) == 1 else f"{len(plan.entries)} entries leave"
    go = "1 file goes" if len(plan.files) == 1 else f"{len(plan.files)} files go"
    lines = [heading(f"On {host}: {leave} the index, {go} to the trash ({human_size(plan.bytes_trashed)})")]
    if kratad_runs:
        text = "kratad is running: it keeps the index in memory, and its next store may bring these entries back."
        lines.append(Line(text, kind="bad"))
    lines += [
        Line("holds the packed file of one of them: deleting it is asked twice", device, "bad") for device in used_by
    ]
    if plan.uncovered:
        lines += [Line(), heading("These names will then stand for another image")]
        lines += [Line(f"{d.image_name} {short_digests(d.digest)}", d.format or "", "bad") for d in plan.uncovered]
    lines += [Line(), heading("Out of the index")]
    for descriptor in plan.entries:
        lines += entry_lines(descriptor, whole=len(plan.entries) <= WHOLE_DIGESTS)
    if plan.files:
        lines += [Line(), heading("To the trash; undo brings it back, and the room is free once that is emptied")]
        lines += [Line(short_digests(file.name), f"{human_size(file.size):>5}") for file in plan.files]
    if plan.kept:
        lines += [Line(), heading("Kept, because another format of that digest uses them")]
        lines += [Line(short_digests(name), "kept") for name in plan.kept]
    return lines


def entry_lines(descriptor: Descriptor, *, whole: bool) -> list[Line]:
    """An entry by name, format and digest; ``whole`` gives all of the digest, in a line of its own."""
    name, label = descriptor.image_name or "no name", descriptor.format or "no format"
    if whole:
        return [Line(name, label), Line(descriptor.digest)]
    return [Line(f"{name} {short_digests(descriptor.digest)}", label)]
