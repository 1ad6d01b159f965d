"""`ocitui prune`: what may go by a rule, a question, one transaction; `pin` and `unpin`: entries that no rule takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import CacheError, NoSuchEntryError, check_directory
from ocitui.text import age_of, counted, short_digest

from ..options import byte_size, changing, keeping, registries_options, run_async, span, writing_cache
from ..output import Call, Column, ExitCode, UsageProblemError, laid_out, table
from ..progress import line_shown
from ..selectors import chosen_keys, entries_argument, filter_option, need_entries

if TYPE_CHECKING:
    from ocitui.cache import Key, Note, PackerCache
    from ocitui.doctor import PruneChoice, Room
    from ocitui.importing import RegistryOptions


@click.command("prune")
@entries_argument
@click.option(
    "--unused",
    metavar="[SPAN]",
    is_flag=False,
    flag_value="0s",
    type=span,
    help="What nobody needs, nor was seen to for so long, as 30d.",
)
@click.option("--older-than", metavar="SPAN", type=span, help="What was neither written nor used for so long.")
@click.option("--keep", metavar="N", type=click.IntRange(0), help="All but the N newest images of a name.")
@click.option("--until-free", metavar="SIZE", type=byte_size, help="Until so much of the disk is free, as 200G.")
@click.option("--policy", metavar="FILE", type=click.Path(path_type=Path), help="By the rules in a file (TOML).")
@click.option("--ask", is_flag=True, help="Ask registries whether what may go can come back.")
@click.option("--for-good", is_flag=True, help="Remove the files; else they go to the trash.")
@click.option("--apply", is_flag=True, help="Do it, after a question; without it the plan is only shown.")
@registries_options
@changing
def prune_command(
    call: Call, /, words: tuple[str, ...], *, policy: Path | None, ask: bool, apply: bool, for_good: bool, **typed: Any
) -> ExitCode:
    """Make room: show which entries may go by the rules, and with --apply take them out, in one transaction.

    Every rule that is given has to speak of an entry. What a zone needs or a loop device holds stays, what is pinned,
    and what cannot come back, damaged or not; so does everything where it is not sure who needs what. An ENTRY that is
    named goes all the same, after a second question where something needs it.

    Exits with 3 where less room is made than --until-free or the policy asks for.
    """
    from ocitui.doctor import PruneRules, choose, read_policy

    from ..import_run import check_registry

    registries = check_registry(typed, "" if ask else "--ask")
    access = registries if ask else None
    rules = PruneRules(**typed)
    if policy is not None and not rules.empty:
        raise UsageProblemError("--policy stands beside other rules", hint="put them into the file")
    check_directory(call.directory)
    cache = writing_cache(call, "prune the cache") if apply else call.cache()
    named = frozenset(chosen_keys(call, cache, words, None)) if words else frozenset()
    if policy is not None:
        kept = read_policy(policy)
        rules, for_good = kept.rules, for_good or kept.for_good
    if rules.empty and not named:
        raise UsageProblemError("no rule says what may go", hint="give --unused, --older-than, --keep or --until-free")

    def carry_out() -> ExitCode:
        room, choice = _chosen(call, partial(choose, rules=rules, named=named, with_trash=not for_good), access)
        if not apply or not choice.going:
            call.answer(partial(_told, room, choice), _explain(room, choice, for_good))
        else:
            _apply(call, cache, room, choice, for_good)
        return ExitCode.REMAINING if choice.short else ExitCode.CLEAN

    return call.as_agreed(carry_out)


def _chosen(
    call: Call, choose: Callable[[Room], PruneChoice], access: RegistryOptions | None
) -> tuple[Room, PruneChoice]:
    """What goes; registries are asked for what would, by ``access``, if that is given."""
    from ocitui.cache import Ledger
    from ocitui.doctor import ask_origins, note_use, survey_room
    from ocitui.host import find_users

    ledger, users = Ledger.open(call.directory), find_users(call.directory)
    if not call.read_only:
        note_use(call.directory, users, ledger)
    room = survey_room(call.directory, ledger, users)
    choice = choose(room)
    if access is None:
        return room, choice
    asked = [*choice.going, *(one for one, _ in choice.staying if not one.origin.is_sure)]
    names = {one.file: one.name for one in asked if one.names and not one.users and not one.pin}

    def words(now: tuple[int, int], _: int) -> str:
        return f"asked for {now[0]} of {now[1]}"

    with line_shown(words) as show:
        run_async(ask_origins(call.directory, ledger, names, access, lambda *now: show(now)))
    if not call.read_only:
        with suppress(CacheError):
            ledger.flush()
    room = survey_room(call.directory, ledger, users)
    return room, choose(room)


def _told(room: Room, choice: PruneChoice) -> dict[str, Any]:
    from ocitui.words import choice_json

    return {"plan": choice_json(choice, room)}


def _explain(room: Room, choice: PruneChoice, for_good: bool) -> Iterator[str]:
    from ocitui.words import choice_sections, choice_title, room_lines

    yield choice_title(choice, for_good=for_good) if choice.going else "nothing goes by these rules"
    yield from laid_out(room_lines(room))
    for section in choice_sections(choice):
        yield f"{section.title}:"
        yield from laid_out(map(section.line, section.items))


def _apply(call: Call, cache: PackerCache, room: Room, choice: PruneChoice, for_good: bool) -> None:
    """Carry it out, after the questions. Raises PlanChangedError where the cache is another by now."""
    from ocitui.host import Users, check_users
    from ocitui.words import emptied_text

    plan = run_async(cache.plan_delete([one.key for one in choice.going]))
    users = Users({one.file: one.users for one in choice.going}, {}, room.doubt)

    told = partial(_told, room, choice)
    expected = str(len(choice.going)) if for_good else ""
    call.agree(_explain(room, choice, for_good), "prune?", told, expected)
    call.agree_to_drop_used(users.of_files(users.by_file), "take them all the same?", told)
    check_users(call.directory, users.by_file, users)
    done = run_async(cache.delete(plan.keys, plan))
    said = [f"pruned {len(choice.going)}"]
    if for_good:
        said.append(emptied_text(run_async(cache.empty_trash(ids=[done.id]))))
    call.tell_done(done, "cannot bring it back" if for_good else "brings it back", said, told)


@click.command("pin")
@entries_argument
@filter_option
@click.option("--reason", metavar="TEXT", default="by hand", show_default=True, help="Why it is kept.")
@keeping
def pin_command(call: Call, words: tuple[str, ...], filter_text: str | None, reason: str) -> ExitCode:
    """Keep entries out of prune, and out of a deletion by a filter; without an ENTRY list those that are.

    It is the image that the name stands for now, in all its formats or in that of .FORMAT, that is pinned.
    """
    check_directory(call.directory)
    if not words and filter_text is None:
        return _list(call)
    if not reason.strip():
        raise UsageProblemError("the reason is empty", hint="say why, with --reason TEXT")
    return _pin(call, words, filter_text, reason.strip(), "pinned")


@click.command("unpin")
@entries_argument
@filter_option
@keeping
def unpin_command(call: Call, words: tuple[str, ...], filter_text: str | None) -> ExitCode:
    """Let entries go by a rule again; one that is gone by its digest, as `ocitui pin` lists it."""
    return _pin(call, words, filter_text, "", "no longer pinned")


def _pin(call: Call, words: tuple[str, ...], filter_text: str | None, reason: str, done: str) -> ExitCode:
    from ocitui.cache import Ledger, Topic
    from ocitui.doctor import pin

    call.refuse_read_only("pin entries")
    need_entries(words, filter_text)
    ledger = Ledger.open(call.directory)
    keys: list[Key] = []
    left: list[str] = []
    for word in words:
        # An entry may be gone before its pin is.
        pinned = [] if reason else [file for file in ledger.noted(Topic.PINNED) if _means(word, file)]
        keys += [(digest, format) for digest, _, format in (file.rpartition(".") for file in pinned)]
        left += [] if pinned else [word]
    if left or filter_text is not None:
        keys += [key for key in chosen_keys(call, call.cache(), left, filter_text) if key[1]]
    if not keys:
        raise NoSuchEntryError("these entries have no format", hint="only what the daemon finds can be pinned")
    pin(ledger, keys, reason)
    pins = ledger.noted(Topic.PINNED)
    said = [f"{counted(len(keys), 'entry is', 'entries are')} {done}"]
    call.answer(lambda: {"entries": [_json(f"{key[0]}.{key[1]}", pins) for key in keys]}, said)
    return ExitCode.CLEAN


def _means(word: str, file: str) -> bool:
    """Whether it is the file, its digest, or as many digits of that as a list shows."""
    digest = file.rpartition(".")[0]
    return word in (file, digest, short_digest(digest), digest.partition(":")[2])


def _list(call: Call) -> ExitCode:
    from ocitui.cache import Ledger, Topic

    pins = Ledger.open(call.directory).noted(Topic.PINNED)
    index = run_async(call.cache().index())
    names = {f"{digest}.{format}": name for digest, format, name in index.identities()}
    rows = []
    for file, note in pins.items():
        digest, _, format = file.rpartition(".")
        name = names.get(file) or "not in the index"
        rows.append([name, format, short_digest(digest), age_of(note.when), note.text])
    lines = table(_COLUMNS, rows) if rows else ["nothing is pinned"]
    call.answer(lambda: {"entries": [_json(file, pins, name=names.get(file)) for file in pins]}, lines)
    return ExitCode.CLEAN


def _json(file: str, pins: Mapping[str, Note], **more: str | None) -> dict[str, Any]:
    digest, _, format = file.rpartition(".")
    return {**more, "digest": digest, "format": format, "pinned": pins[file].text if file in pins else None}


_COLUMNS = (
    Column("NAME", shrink=True),
    Column("FORMAT"),
    Column("DIGEST"),
    Column("SINCE", right=True),
    Column("WHY", shrink=True),
)
