"""`ocitui delete`: a plan, a question, one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ocitui.text import first_of

from ..options import FORMATS, changing, run_async, writing_cache
from ..output import Call, ExitCode
from ..selectors import chosen_keys, entries_argument, filter_option, need_entries

if TYPE_CHECKING:
    from ocitui.cache import DeletePlan, Key, PackerCache
    from ocitui.doctor import Origins
    from ocitui.words import Section


@click.command("delete")
@entries_argument
@filter_option
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, help="Only this format, repeatable.")
@changing
def delete_command(call: Call, words: tuple[str, ...], filter_text: str | None, formats: tuple[str, ...]) -> ExitCode:
    """Take entries out of the index and their files to the trash, in one transaction.

    ENTRY is a name, a digest or its first digits; each with .FORMAT, else it is all formats of that digest. A name that
    several images carry is the one that it resolves to.

    Shows the plan and asks; only the whole word yes confirms. ocitui undo reverses it.
    """
    from ocitui.cache import Ledger
    from ocitui.doctor import Origins
    from ocitui.host import check_users, find_users
    from ocitui.words import delete_sections

    cache = writing_cache(call, "delete entries")
    need_entries(words, filter_text)

    def carry_out() -> ExitCode:
        keys = chosen_keys(call, cache, words, filter_text, formats, but_pinned=True)
        plan, lost_names = run_async(_make_plan(cache, keys))
        users, ledger = find_users(call.directory), Ledger.open(call.directory)
        files = [one.packed_file for one in plan.entries]
        used_by, origins = users.of_files(files), Origins(call.directory, ledger)
        told = partial(_told, plan, used_by, users.doubt, origins)
        sections = delete_sections(plan, origins, ledger)
        call.agree(_explain(plan, lost_names, used_by, users.doubt, sections), "delete?", told)
        call.agree_to_drop_used(used_by, "delete them all the same?", told)
        check_users(call.directory, files, users)
        done = run_async(cache.delete(plan.keys, plan))
        said = "deleted" if len(plan.entries) == 1 else f"deleted {len(plan.entries)} entries"
        call.tell_done(done, "brings it back", [said], told)
        return ExitCode.CLEAN

    return call.as_agreed(carry_out)


async def _make_plan(cache: PackerCache, chosen: Sequence[Key]) -> tuple[DeletePlan, list[str]]:
    """The plan, and the names that no entry carries afterwards."""
    plan = await cache.plan_delete(chosen)
    index = await cache.index()
    gone = set(plan.keys)
    left = {name for digest, format, name in index.identities() if (digest, format) not in gone}
    lost = dict.fromkeys(d.image_name for d in plan.entries if d.image_name and d.image_name not in left)
    return plan, list(lost)


def _told(plan: DeletePlan, used_by: Sequence[str], doubt: str, origins: Origins) -> dict[str, Any]:
    """A plan as programs read it; ``used_by`` are the zones that need its files, and the loop devices on them. Whether
    each entry can come back is told by the name of its packed file."""
    known = ((file, origins.of(file)) for file in (f"{digest}.{format}" for digest, format in plan.keys))
    return {
        "plan": {
            "entries": [descriptor.as_dict() for descriptor in plan.entries],
            "files": [{"name": file.name, "size": file.size} for file in plan.files],
            "kept": list(plan.kept),
            "uncovered": [descriptor.as_dict() for descriptor in plan.uncovered],
            "bytes_trashed": plan.bytes_trashed,
            "used_by": list(used_by),
            "doubt": doubt,
            "origins": {
                file: {"comes_back": one.comes_back, "text": one.text, "source": one.source or None}
                for file, one in known
            },
        }
    }


def _explain(
    plan: DeletePlan,
    lost_names: Sequence[str],
    used_by: Sequence[str],
    doubt: str,
    sections: Iterable[Section[Any]],
) -> Iterator[str]:
    from ocitui.words import delete_title

    yield delete_title(plan)
    if used_by:
        yield f"needed by {first_of(used_by)}"
    if doubt:
        yield f"not sure: others may be needed too: {doubt}"
    for section in sections:
        yield f"{section.title}:"
        for line in map(section.line, section.items):
            yield f"  {line.label}  {line.text}"
    yield from (f"afterwards nothing carries the name {name}" for name in lost_names)
