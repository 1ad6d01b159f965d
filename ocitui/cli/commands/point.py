"""`ocitui point`: what the name stands for now, what it would, a question, one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import ImageName, NoSuchEntryError, PackedFormat, find_entry

from ..options import FORMATS, changing, run_async, writing_cache
from ..output import Call, ExitCode, paragraph, shortened
from ..selectors import complete_digest, complete_entry

if TYPE_CHECKING:
    from ocitui.cache import PackerCache, PointPlan


@click.command("point")
@click.argument("name", shell_complete=complete_entry)
@click.argument("digest", shell_complete=complete_digest)
@click.option("--format", "format_", type=click.Choice(FORMATS), help="The entry's format, where there are several.")
@changing
def point_command(call: Call, name: str, digest: str, format_: str | None) -> ExitCode:
    """Make DIGEST win NAME: its entry moves to the end of the index, and nothing is deleted.

    The daemon resolves a name to the last entry that carries it. This cures a tag that resolves to the wrong image:
    DIGEST, or its first digits, must be that of an entry with this name; it may end with .FORMAT. ocitui undo points
    the name back.
    """
    cache = writing_cache(call, "point a name")
    parsed, form = ImageName.parse(name), PackedFormat(format_) if format_ else None

    def carry_out() -> ExitCode:
        plan = run_async(_plan(cache, parsed, digest, form))

        def told() -> dict[str, Any]:
            return {
                "plan": {
                    "name": plan.name,
                    "entry": plan.entry.as_dict(),
                    "position": plan.position,
                    "winner": plan.winner.as_dict(),
                    "needed": plan.needed,
                    "then": plan.then,
                    "trouble": plan.trouble or None,
                }
            }

        if plan.needed:
            call.agree(_explain(plan), "point the name?", told)
            done = run_async(cache.point(plan))
            call.tell_done(done, "points it back", [shortened(plan.then)], told)
        else:
            call.answer(lambda: {**told(), "transaction": None}, [f"{shortened(plan.then)}: nothing to do"])
        return ExitCode.CLEAN

    return call.as_agreed(carry_out)


async def _plan(cache: PackerCache, name: ImageName, digest_text: str, format_: PackedFormat | None) -> PointPlan:
    index = await cache.index()
    # The digest need only be told from those of the same name.
    carriers = [digest for digest, carried in zip(index.digests, index.names, strict=True) if carried == str(name)]
    if not carriers:
        raise NoSuchEntryError(f"no entry has the name {name}")
    named = find_entry(digest_text, carriers, [str(name)] * len(carriers))
    digest = named.digest if named else digest_text
    return await cache.plan_point(name, digest, named.asked_format(format_) if named else format_)


def _explain(plan: PointPlan) -> Iterator[str]:
    from ocitui.words import point_lines

    yield plan.name
    for line in point_lines(plan):
        yield from paragraph(line.text, f"  {line.label:<10}  ")
