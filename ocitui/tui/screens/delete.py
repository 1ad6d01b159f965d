"""Delete: every file that would go, what stays and why, then the question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from ocitui.cache import CacheError, DeletePlan, PlanChangedError
from ocitui.text import human_size

from ..widgets.lines_view import Line, heading
from .confirm import ConfirmScreen

Key = tuple[str, str | None]


class DeleteScreen(ConfirmScreen):
    """Plans the removal of entries by digest and format. The plan that was shown is the one that is done."""

    subject: ClassVar[str] = "delete"
    verb: ClassVar[str] = "Move to the trash"

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__()
        self._keys = keys
        self._plan: DeletePlan | None = None

    async def plan(self) -> Iterable[Line]:
        self._plan = await self.app.cache.plan_delete(self._keys)
        return plan_lines(self._plan, self.app.host, kratad_runs=self.main.daemon.running)

    async def act(self) -> str:
        transaction = await self.app.cache.delete(self._keys, self._plan)
        count = len(transaction.removed)
        return f"{count} {'entry' if count == 1 else 'entries'} deleted in {transaction.id}; u undoes it"

    def failed(self, error: CacheError) -> None:
        if isinstance(error, PlanChangedError):
            self.make_plan("The cache has changed since the plan was shown. This is the new plan.")
        else:
            super().failed(error)


def plan_lines(plan: DeletePlan, host: str, *, kratad_runs: bool) -> list[Line]:
    """A plan in words."""
    entries = "1 entry leaves" if len(plan.entries) == 1 else f"{len(plan.entries)} entries leave"
    lines = [heading(f"On {host}: {entries} the index")]
    for descriptor in plan.entries:
        lines.append(
            Line(f"{descriptor.image_name or 'no name'}  {descriptor.digest}", descriptor.format or "no format")
        )
    files = "1 file goes" if len(plan.files) == 1 else f"{len(plan.files)} files go"
    lines += [Line(), heading(f"{files} to the trash, {human_size(plan.bytes_trashed)}")]
    lines += [Line(file.name, human_size(file.size)) for file in plan.files]
    lines.append(
        Line("The room is free only once the trash is emptied; until then undo brings everything back.", kind="muted")
    )
    if plan.kept:
        lines += [Line(), heading("Kept, because another format of that digest uses them")]
        lines += [Line(name) for name in plan.kept]
    if plan.uncovered:
        lines += [Line(), heading("These names will then stand for another image")]
        lines += [Line(f"{d.image_name}  {d.digest} {d.format or ''}", kind="bad") for d in plan.uncovered]
    if kratad_runs:
        text = "kratad is running: it keeps the index in memory, and its next store may bring these entries back."
        lines += [Line(), Line(text, kind="bad")]
    return lines
