"""Point: what a name stands for, what it would, then the question; nothing is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ocitui.cache import CacheError, ConflictError, Descriptor, ImageName, NoSuchEntryError, PlanChangedError
from ocitui.cache.files import known_format
from ocitui.doctor.assessment_texts import memory_warning
from ocitui.doctor.repair.point import PointPlan, plan_point, point

from ..shorten import short_digests
from ..widgets.lines_view import Line, heading
from .confirm import ConfirmScreen


class PointScreen(ConfirmScreen):
    """Makes an entry win its name, by moving it to the end of the index."""

    subject: ClassVar[str] = "point"
    verb: ClassVar[str] = "Point it"

    def __init__(self, entry: Descriptor) -> None:
        super().__init__()
        self._entry = entry
        self._plan: PointPlan | None = None

    async def plan(self) -> Sequence[Line]:
        cache, entry, form = self.app.cache, self._entry, known_format(self._entry.format)
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
        return point_lines(plan, self.app.host, trouble, kratad_runs=self.app.live.daemon.running)

    async def act(self) -> str:
        assert self._plan is not None
        done = await point(self.app.cache, self._plan)
        return f"{short_digests(self._plan.then)}; {done.id}, u points it back"

    def failed(self, error: CacheError) -> None:
        if isinstance(error, PlanChangedError):
            self.make_plan("The cache has changed since the plan was shown. This is the new plan.")
        else:
            super().failed(error)


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
