"""`ocitui trash`: what transactions took out of the cache, listed, brought back, or removed for good."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import NoSuchEntryError, check_directory
from ocitui.text import counted, human_size, time_json, timestamp

from ..options import changing, pass_on, reading, run_async, shared_options, span, writing, writing_cache
from ..output import Call, ExitCode, UsageProblemError, paragraph, shortened
from ..selectors import complete_trashed

if TYPE_CHECKING:
    from ocitui.cache import PackerCache, Transaction, TrashedFile


@click.group("trash", invoke_without_command=True, subcommand_metavar="[COMMAND [ARGS]...]")
@shared_options
@click.pass_context
def trash_command(context: click.Context, /, **shared: Any) -> int:
    """List what transactions took out of the cache; restore files of it, or empty it.

    Without a command it lists. What lies in the trash takes room on the disk until it is emptied, which ocitui never
    does by itself.
    """
    pass_on(context, trash_command.commands, shared)
    return ExitCode.CLEAN if context.invoked_subcommand else int(context.invoke(trash_list_command))


@trash_command.command("list", short_help="List the files, by transaction.")
@reading
def trash_list_command(call: Call) -> ExitCode:
    """List the files in the trash by transaction, newest first."""
    from ocitui.words import total_text

    check_directory(call.directory)
    files, transactions = _look(call.cache())
    total = f"{total_text(files)}; ocitui trash empty makes that room free, and ends their undo"
    lines = chain(trash_lines(files, transactions), [total]) if files else [_EMPTY]
    call.answer(lambda: {**_told(files), "bytes": sum(file.size for file in files)}, lines)
    return ExitCode.CLEAN


@trash_command.command("restore", short_help="Bring files back to where they were.")
@click.argument("words", metavar="NAME|ID...", nargs=-1, required=True, shell_complete=complete_trashed)
@writing
def trash_restore_command(call: Call, words: tuple[str, ...]) -> ExitCode:
    """Bring files back to where they were; nothing that stands there is overwritten.

    NAME is a file's name, in the cache or in the trash, or the beginning of its digest; ID is a transaction, and means
    all the files that it took out. ocitui undo ID brings back the transaction's entries with them.
    """
    from ocitui.words import total_text

    cache = writing_cache(call, "restore from the trash")
    files = run_async(cache.trash())
    chosen = list(dict.fromkeys(file for word in words for file in _find(files, word)))
    done = run_async(cache.restore([file.trash for file in chosen]))
    note = (
        "files come back without entries: ocitui undo of the transaction that they went by brings back both, and "
        "ocitui repair --adopt makes an entry for files"
    )
    said = (f"restored {total_text(chosen)}:", *file_lines(chosen), *paragraph(note, "note: "))
    call.tell_done(done, "takes them out again", said, partial(_told, chosen))
    return ExitCode.CLEAN


@trash_command.command("empty", short_help="Remove files for good, after a question.")
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete_trashed)
@click.option("--older-than", metavar="SPAN", type=span, help="Only what went there so long ago, as 30d or 12h.")
@changing
def trash_empty_command(call: Call, ids: tuple[str, ...], older_than: float | None) -> ExitCode:
    """Remove what the trash holds for good: all of it, or that of the transactions with these IDs.

    Shows what goes and asks; only the whole word yes confirms. These transactions cannot be undone any more.
    """
    from ocitui.cache import EmptiedTrash, files_that_go
    from ocitui.words import emptied_text

    cache = writing_cache(call, "empty the trash")
    files, transactions = _look(cache)
    before, of = None if older_than is None else time.time() - older_than, ids or None
    chosen = files_that_go(files, transactions, before, of)
    if chosen:
        call.agree(_explain(chosen, files, transactions), "remove these for good?", partial(_told, chosen))
    # What comes into the trash while the question stands was not agreed to.
    names = [file.trash for file in chosen]
    removed = run_async(cache.empty_trash(before, of, names)) if chosen else EmptiedTrash(0, 0)
    line = emptied_text(removed)
    if not chosen:
        line = "nothing in the trash is to go" if files else _EMPTY
    told = {"removed": {"files": removed.files, "bytes": removed.bytes}, **_told(chosen)}
    call.answer(lambda: told, [line])
    return ExitCode.CLEAN


_MOST_OF_ONE, _EMPTY = 12, "the trash is empty"


class NotInTrashError(NoSuchEntryError):
    code = "not-in-trash"
    default_hint = "ocitui trash lists what it holds"


class AmbiguousFileError(UsageProblemError):
    code = "ambiguous-file"
    default_hint = "give a whole name, or a transaction's id"


def file_json(file: TrashedFile) -> dict[str, Any]:
    """A file of the trash as programs read it; ``name`` and ``transaction`` are null where nobody knows."""
    return {
        "trash": file.trash,
        "name": file.name or None,
        "transaction": file.transaction or None,
        "kind": file.kind,
        "size": file.size,
        "when": time_json(file.when),
        "undoable": file.undoable,
        "recorded": file.recorded,
    }


def _told(files: Sequence[TrashedFile]) -> dict[str, Any]:
    return {"files": [file_json(file) for file in files]}


def trash_lines(files: Sequence[TrashedFile], transactions: Mapping[str, Transaction]) -> Iterator[str]:
    """Transaction by transaction, the newest first, and the files of each."""
    for transaction_id, group in groupby(files, key=lambda file: file.transaction):
        same = list(group)
        yield _title(transaction_id, same, transactions.get(transaction_id))
        yield from file_lines(same)


def file_lines(files: Sequence[TrashedFile]) -> Iterator[str]:
    """A line for each, as far as they are few enough to be read."""
    for file in files[:_MOST_OF_ONE]:
        kind = "" if file.kind == "file" else f"  ({file.kind})"
        yield f"  {human_size(file.size):>5}  {shortened(file.name or file.trash)}{kind}"
    if len(files) > _MOST_OF_ONE:
        yield f"{'':9}and {len(files) - _MOST_OF_ONE} more; --json has them all"


def _find(files: Sequence[TrashedFile], word: str) -> list[TrashedFile]:
    """By a transaction's id, a whole name, a digest's beginning. Raises NotInTrashError, AmbiguousFileError."""
    for same in ([file for file in files if file.transaction == word], [file for file in files if file.trash == word]):
        if same:
            return same

    def is_meant(name: str) -> bool:
        return name == word or (len(word) >= 4 and (name.startswith(word) or name.partition(":")[2].startswith(word)))

    named = [file for file in files if is_meant(file.name)]
    if not named:
        raise NotInTrashError(f"the trash holds nothing of {word}")
    if len({file.name for file in named}) < len(named):
        choices = ", ".join(sorted({file.transaction or "no transaction" for file in named}))
        raise AmbiguousFileError(f"the trash holds more than one version of {word}, of {choices}")
    return named


def _title(transaction_id: str, files: Sequence[TrashedFile], transaction: Transaction | None) -> str:
    when = timestamp(max(file.when for file in files))
    if transaction is None:
        what = f"{transaction_id}, whose record cannot be read" if transaction_id else "of no known transaction"
        return f"{when}  {what}"
    undoable = any(file.undoable for file in files)
    fate = "can be undone" if undoable else f"{transaction.state}, cannot be undone"
    names = f"  {transaction.about}" if transaction.about else ""
    return f"{when}  {transaction.kind} {transaction_id}{names}  {fate}"


def _look(cache: PackerCache) -> tuple[Sequence[TrashedFile], dict[str, Transaction]]:
    return run_async(cache.trash()), {one.id: one for one in run_async(cache.transactions())}


def _explain(
    chosen: Sequence[TrashedFile], files: Sequence[TrashedFile], transactions: Mapping[str, Transaction]
) -> list[str]:
    from ocitui.words import ended_undos, total_text

    lines = [*trash_lines(chosen, transactions)]
    undone = ended_undos(chosen)
    lines += paragraph(f"{total_text(chosen)} go for good" + (f"; {undone}" if undone else ""))
    stays = len(files) - len(chosen)
    return lines + ([f"{counted(stays, 'file')} in the trash {'stays' if stays == 1 else 'stay'}"] if stays else [])
