"""`ocitui resolve`, `recall`, `verdict`: what the daemon would find, and do with index.json; and `point`, by which
another image wins a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import ImageName, NoSuchEntryError, PackedFormat, find_entry, known_format

from ..options import FORMATS, changing, format_option, reading, run_async, writing_cache
from ..output import Call, ExitCode, paragraph, say, shortened
from ..selectors import complete_digest, complete_entry

if TYPE_CHECKING:
    from ocitui.cache import Explanation, ImageIndex, NamedEntry, PackerCache, PointPlan, Verdict


@click.command("resolve")
@click.argument("word", metavar="NAME", shell_complete=complete_entry)
@format_option
@reading
def resolve_command(call: Call, word: str, format_: str | None) -> ExitCode:
    """Say what the daemon would find for NAME, and why.

    NAME may end with .FORMAT; a digest, or its first digits, stands for the name that its entry carries.

    Exits with 0 for a hit and 1 for a miss.
    """
    from ocitui.cache import explain_resolve

    index, named = _find(call, word)
    text = word if named is None else _name_of(index, named)
    found = explain_resolve(call.directory, index, ImageName.parse(text), _asked(named, format_))
    one = found.descriptor
    if found.image and not call.read_only:
        from ocitui.cache import note_resolved

        note_resolved(call.directory, found.image.path.name)
    return _answer(call, found, digest=one.digest if one else None, descriptor=one.as_dict() if one else None)


@click.command("recall")
@click.argument("word", metavar="DIGEST", shell_complete=complete_entry)
@format_option
@reading
def recall_command(call: Call, word: str, format_: str | None) -> ExitCode:
    """Say whether the daemon would find the packed file of DIGEST, and why.

    DIGEST may be its first digits, or a name, which stands for the digest that it resolves to; each may end with
    .FORMAT.

    Exits with 0 for a hit and 1 for a miss.
    """
    from ocitui.cache import explain_recall

    index, named = _find(call, word)
    digest, form = named.digest if named else word, _asked(named, format_)
    descriptor = index.by_key(digest, form)
    name = ImageName.parse((descriptor.image_name if descriptor else None) or "")
    found = explain_recall(call.directory, index, name, digest, form)
    return _answer(call, found, path=str(found.image.path) if found.image else None)


@click.command("verdict")
@reading
def verdict_command(call: Call) -> ExitCode:
    """Say what the daemon would do with index.json at its start.

    Exits with 0 where it would load or create it, with 1 where it would lose it or refuse to start.
    """
    from ocitui.cache import read_patiently

    verdict = read_patiently(call.directory).verdict
    call.answer(verdict._asdict, _verdict_lines(call, verdict))
    return ExitCode.CLEAN if verdict.sound else ExitCode.PROBLEMS


def _verdict_lines(call: Call, verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.outcome}: {verdict.consequence}"
    if verdict.message:
        yield f"index.json breaks here: {verdict.place}"
    if not verdict.sound:
        from ocitui.doctor import advice

        if said := advice(call.directory):
            yield said


def _asked(named: NamedEntry | None, format_: str | None) -> PackedFormat:
    """As for the daemon it is squashfs where nothing else is asked for. Raises AmbiguousDigestError."""
    return (named.asked_format(format_) if named else known_format(format_)) or PackedFormat.SQUASHFS


def _name_of(index: ImageIndex, named: NamedEntry) -> str:
    """The name that was typed, or the last that an entry of the digest carries. Raises NoSuchEntryError."""
    if named.by_name:
        return named.text
    names = [name for at in index.positions(named.digest) if (name := index.names[at])]
    if not names:
        raise NoSuchEntryError(f"no entry of {named.digest} has a name", hint="ocitui recall asks for a digest")
    return names[-1]


def _find(call: Call, word: str) -> tuple[ImageIndex, NamedEntry | None]:
    """What a word names in the index. Raises CorruptIndexError, CacheDirectoryError, AmbiguousDigestError."""
    from ocitui.cache import read_patiently

    seen = read_patiently(call.directory)
    seen.require_sound(call.directory)
    return seen.contents, find_entry(word, seen.contents.digests, seen.contents.names)


def _answer(call: Call, found: Explanation, **keys: Any) -> ExitCode:
    keys = {"hit": found.hit, **keys, "reasons": [reason.text for reason in found.reasons]}
    steps = [f"{step}. {reason.text}" for step, reason in enumerate(found.reasons, 1)]
    if found.error:
        say(*steps if not call.as_json else ())
        hint = "it heals only when that file is moved aside"
        call.fail("document", f"the daemon fails at {found.error}", hint, **keys)
        return ExitCode.UNCHECKED
    last = f"hit: {found.image.path}" if found.image else "miss: the daemon does not have it"
    call.answer(lambda: keys, [*steps, last])
    return ExitCode.CLEAN if found.hit else ExitCode.PROBLEMS


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
