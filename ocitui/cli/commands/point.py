"""`ocitui point`: what the name stands for now, what it would, a question, one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import ImageName, NoSuchEntryError, PackedFormat
from ocitui.cache.files import known_format
from ocitui.cache.names import find_entry

from ..failures import NotAskedError
from ..json_values import transaction_json
from ..options import (
    FORMATS,
    writing,
    yes_option,
)
from ..output import emit, fail, say
from ..prose import paragraph, short_digest, shortened
from ..running import agree, as_agreed, run_async, writing_cache
from ..selectors import complete_digest, complete_entry
from ..settings import ExitCode, Settings

if TYPE_CHECKING:
    from ocitui.cache import Descriptor, Explanation, PackerCache, Transaction
    from ocitui.doctor.repair.point import PointPlan


@click.command("point")
@click.argument("name", shell_complete=complete_entry)
@click.argument("digest", shell_complete=complete_digest)
@click.option("--format", "format_", type=click.Choice(FORMATS), help="The entry's format, where there are several.")
@yes_option
@writing
def point_command(settings: Settings, name: str, digest: str, format_: str | None, agreed: bool) -> ExitCode:
    """Make DIGEST win NAME: its entry moves to the end of the index, and nothing is deleted.

    The daemon resolves a name to the last entry that carries it. This cures a tag that resolves to the wrong image:
    DIGEST, or its first digits, must be that of an entry with this name; it may end with .FORMAT. ocitui undo points
    the name back.
    """
    from ocitui.doctor.repair.point import point

    cache = writing_cache(settings, "point a name")
    parsed, form = ImageName.parse(name), PackedFormat(format_) if format_ else None

    def carry_out() -> ExitCode:
        prospect = run_async(_look(cache, parsed, digest, form))
        if not prospect.plan.needed:
            return _tell_settled(settings, prospect)
        try:
            agree(settings, agreed, _explain(prospect), "point the name?")
        except NotAskedError as error:
            fail(settings, error.code, error.message, error.hint, plan=_plan_json(prospect))
            return ExitCode.USAGE
        _tell(settings, prospect, run_async(point(cache, prospect.plan)))
        return ExitCode.CLEAN

    return as_agreed(agreed, carry_out)


@dataclass(frozen=True, slots=True)
class _Prospect:
    """A plan, and what the daemon would answer for the entry it is about."""

    plan: PointPlan
    answer: Explanation | None

    @property
    def trouble(self) -> str:
        """Why the daemon would not have the image, all the same."""
        if self.answer is None:
            return "its format is none that the daemon knows"
        if self.answer.hit:
            return ""
        return self.answer.error or self.answer.reasons[-1].text


async def _look(cache: PackerCache, name: ImageName, digest_text: str, format_: PackedFormat | None) -> _Prospect:
    from ocitui.doctor.repair.point import plan_point

    index = await cache.index()
    # The digest need only be told from those of the same name.
    carriers = [digest for digest, carried in zip(index.digests, index.names, strict=True) if carried == str(name)]
    if not carriers:
        raise NoSuchEntryError(f"no entry has the name {name}")
    named = find_entry(digest_text, carriers, [str(name)] * len(carriers))
    digest = named.digest if named else digest_text
    plan = await plan_point(cache, name, digest, named.asked_format(format_) if named else format_)
    form = known_format(plan.entry.format)
    answer = await cache.explain_recall(name, plan.entry.digest, form) if form else None
    return _Prospect(plan, answer)


def _plan_json(prospect: _Prospect) -> dict[str, Any]:
    plan = prospect.plan
    return {
        "name": str(plan.name),
        "entry": plan.entry.as_dict(),
        "position": plan.position,
        "winner": plan.winner.as_dict(),
        "needed": plan.needed,
        "then": plan.then,
        "trouble": prospect.trouble or None,
    }


def _explain(prospect: _Prospect) -> list[str]:
    plan = prospect.plan
    lines = [
        str(plan.name),
        f"  stands for  {_short(plan.winner)}",
        f"  will be     {_short(plan.entry)}",
        f"entry {plan.position + 1} moves to the end of index.json, where it wins; nothing is deleted",
    ]
    if prospect.trouble:
        lines += paragraph(f"the daemon would not find it all the same: {prospect.trouble}", "but ")
    return lines


def _short(descriptor: Descriptor) -> str:
    return f"{short_digest(descriptor.digest)} {descriptor.format or 'without a format'}"


def _tell_settled(settings: Settings, prospect: _Prospect) -> ExitCode:
    if settings.as_json:
        emit(settings, plan=_plan_json(prospect), transaction=None)
    else:
        say(f"{shortened(prospect.plan.then)}: nothing to do")
    return ExitCode.CLEAN


def _tell(settings: Settings, prospect: _Prospect, done: Transaction) -> None:
    if settings.as_json:
        emit(settings, plan=_plan_json(prospect), transaction=transaction_json(done))
        return
    say(shortened(prospect.plan.then))
    say(f"transaction {done.id} (ocitui undo {done.id} points it back)")
    if done.note:
        say(f"note: {done.note}")
