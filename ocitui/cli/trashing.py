"""`ocitui trash`: what it holds, files brought back from it, and room made by emptying it, once that is agreed to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ocitui.cache import EmptiedTrash, Transaction, TrashedFile
from ocitui.cache.files import check_directory
from ocitui.cache.trash import files_that_go
from ocitui.text import human_size

from .asking import NotAskedError, agree
from .exits import ExitCode
from .options import Settings
from .output import emit, fail, say
from .prose import counted, paragraph
from .running import cache_of, run_async, writing_cache
from .transactions import transaction_json
from .trash_words import file_json, file_lines, find_files, total_text, trash_lines

_WITHOUT_ENTRY = (
    "files come back without entries: ocitui undo of the transaction that they went by brings back both, and "
    "ocitui repair --adopt makes an entry for files"
)
Trash = tuple[list[TrashedFile], dict[str, Transaction]]


def list_trash(settings: Settings) -> ExitCode:
    """Print what the trash holds, newest first. Raises CacheDirectoryError, StorageError."""
    files, transactions = _look(settings)
    if settings.as_json:
        emit(settings, files=[file_json(file) for file in files], bytes=sum(file.size for file in files))
        return ExitCode.CLEAN
    if not files:
        say("the trash is empty")
        return ExitCode.CLEAN
    for line in trash_lines(files, transactions):
        say(line)
    say(f"{total_text(files)}; ocitui trash empty makes that room free, and ends their undo")
    return ExitCode.CLEAN


def restore_files(settings: Settings, words: Sequence[str]) -> ExitCode:
    """Bring files back to where they were. Raises NotInTrashError, AmbiguousFileError, and what writing raises."""
    cache = writing_cache(settings, "restore from the trash")
    files, _ = _look(settings)
    chosen = find_files(files, words)
    done = run_async(cache.restore([file.trash for file in chosen]))
    if settings.as_json:
        emit(settings, files=[file_json(file) for file in chosen], transaction=transaction_json(done))
        return ExitCode.CLEAN
    say(f"restored {total_text(chosen)}:")
    for line in file_lines(chosen):
        say(line)
    say(f"transaction {done.id} (ocitui undo {done.id} takes them out again)")
    for line in paragraph(_WITHOUT_ENTRY, "note: "):
        say(line)
    return ExitCode.CLEAN


def empty_trash(settings: Settings, ids: Sequence[str], older_than: float | None, agreed: bool) -> ExitCode:
    """Remove what the trash holds for good, as shown and agreed to: all, or of these transactions, or what is older.

    Raises NoSuchTransactionError, NotAskedError, CancelledError, and what writing raises.
    """
    cache = writing_cache(settings, "empty the trash")
    files, transactions = _look(settings)
    before = None if older_than is None else time.time() - older_than
    chosen = files_that_go(files, transactions, before, ids)
    if chosen:
        try:
            agree(settings, agreed, _explain(chosen, files, transactions), "remove these for good?")
        except NotAskedError as error:
            fail(settings, error.code, error.message, error.hint, files=[file_json(file) for file in chosen])
            return ExitCode.USAGE
    # What comes into the trash while the question stands was not agreed to.
    names = [file.trash for file in chosen]
    removed = run_async(cache.empty_trash(before, ids, names)) if chosen else EmptiedTrash(0, 0)
    if settings.as_json:
        emit(settings, removed={"files": removed.files, "bytes": removed.bytes}, files=[file_json(f) for f in chosen])
        return ExitCode.CLEAN
    if not chosen:
        say("nothing in the trash is to go" if files else "the trash is empty")
    else:
        say(f"removed {counted(removed.files, 'file')}: {human_size(removed.bytes)} are free again")
    return ExitCode.CLEAN


def _look(settings: Settings) -> Trash:
    check_directory(settings.directory)
    cache = cache_of(settings)

    async def look() -> Trash:
        return await cache.trash(), {one.id: one for one in await cache.transactions()}

    return run_async(look())


def _explain(
    chosen: Sequence[TrashedFile], files: Sequence[TrashedFile], transactions: Mapping[str, Transaction]
) -> list[str]:
    lines = [*trash_lines(chosen, transactions)]
    undone = len({file.transaction for file in chosen if file.undoable})
    lines += paragraph(
        f"{total_text(chosen)} go for good"
        + (f"; {counted(undone, 'transaction')} can then no longer be undone" if undone else "")
    )
    stays = len(files) - len(chosen)
    return lines + ([f"{counted(stays, 'file')} in the trash {'stays' if stays == 1 else 'stay'}"] if stays else [])
