"""`ocitui imports`: imports that were interrupted, and what was downloaded for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import CacheError, NoSuchEntryError, check_directory
from ocitui.text import counted, human_size, time_json, timestamp

from ..options import changing, writing_cache
from ..output import Call, CancelledError, Column, ExitCode, UsageProblemError, complained, say, table
from ..selectors import complete_import

if TYPE_CHECKING:
    from ocitui.importing import UnfinishedImport


class NoSuchImportError(NoSuchEntryError):
    code = "no-such-import"
    default_hint = "ocitui imports lists them"


@click.command("imports")
@click.argument("import_ids", metavar="[ID]...", nargs=-1, shell_complete=complete_import)
@click.option("--go-on", is_flag=True, help="Carry them out, one after the other.")
@click.option("--forget", is_flag=True, help="Forget them; what was downloaded stays.")
@click.option("--clear", is_flag=True, help="Remove what was downloaded and no import uses, after a question.")
@click.option("--login", is_flag=True, help="For --go-on: ask for the registry's name and password.")
@changing
def imports_command(
    call: Call, import_ids: tuple[str, ...], go_on: bool, forget: bool, clear: bool, login: bool
) -> ExitCode:
    """List the imports that were interrupted, and the bytes that were downloaded and are kept.

    ID, or its beginning, is what --go-on and --forget are about; without one they are about all.
    """
    if go_on + forget + clear > 1:
        raise click.UsageError("--go-on, --forget and --clear cannot be asked for at once")
    if import_ids and not (go_on or forget):
        raise click.UsageError("an ID is for --go-on or --forget")
    if login and not go_on:
        raise click.UsageError("--login is for --go-on")
    if clear:
        return clear_blobs(call)
    if forget:
        return forget_imports(call, import_ids)
    if go_on:
        return go_on_with(call, import_ids, login=login)
    return list_interrupted(call)


_NONE = "no import was interrupted"
_COLUMNS = (
    Column("ID"),
    Column("INTERRUPTED", rank=2),
    Column("FORMAT", rank=1),
    Column("NAME", shrink=True, rank=3),
    Column("SOURCE"),
)


def list_interrupted(call: Call) -> ExitCode:
    """Print the interrupted imports, the oldest first, and the size of the blobs. Raises StorageError."""
    from ocitui.importing import BlobStore, unfinished_imports

    check_directory(call.directory)
    found, kept = unfinished_imports(call.directory), BlobStore(call.directory).size()
    lines = [_NONE]
    if found:
        lines = [*table(_COLUMNS, [_row(one) for one in found])]
        lines.append("ocitui imports --go-on carries them out, --forget forgets them")
    size = human_size(kept)
    lines.append(f"{size} that were downloaded are kept; --clear removes them" if kept else "no downloads are kept")
    call.answer(lambda: {"imports": [_record_json(one) for one in found], "downloaded": kept}, lines)
    return ExitCode.CLEAN


def go_on_with(call: Call, import_ids: Sequence[str], *, login: bool) -> ExitCode:
    """Carry interrupted imports out, one after the other; one that fails stays in the list, and the next begins. Gives
    the status of the first that failed. Raises NoSuchImportError, InterruptedBySignalError, CancelledError."""
    from ..import_run import agreed_login, carry_out, imported_json, imported_lines

    writing_cache(call, "import an image")
    if not call.as_json:
        say(*call.daemon_warning(), err=True)
    status, results = ExitCode.CLEAN, []
    for one in _chosen(call, import_ids):
        try:
            one.require_readable()
            if not call.as_json:
                say(f"{one.request.source} as {one.request.format}")
            logins = agreed_login(call, one.request, login=login and bool(one.request.registry), realm=None)
            done = carry_out(call, one.request, one.id, logins)
            if not call.as_json:
                say(*imported_lines(done))
            results.append(_record_json(one) | imported_json(call.directory, done))
        except CancelledError:
            raise
        except CacheError as error:
            failed = complained(error, "" if one.problem else f"{_what(one)}: ")
            failure = {"code": error.code, "message": error.message, "hint": error.hint}
            results.append(_record_json(one) | {"error": failure})
            status = status or failed
    call.answer(lambda: {"imports": results}, () if results else [_NONE])
    return status


def forget_imports(call: Call, import_ids: Sequence[str]) -> ExitCode:
    """Forget interrupted imports; what was downloaded stays. A record of a later ocitui stays too, and gives the
    status. Raises NoSuchImportError, StorageError."""
    from ocitui.importing import SourceError, forget_import

    writing_cache(call, "forget an import")
    status, chosen, forgotten = ExitCode.CLEAN, _chosen(call, import_ids), []
    for one in chosen:
        try:
            forget_import(call.directory, one.id)
            forgotten.append(one)
        except SourceError as error:
            status = complained(error)
    lines = [f"forgotten: {_what(one)}" for one in forgotten] if chosen else [_NONE]
    call.answer(lambda: {"forgotten": [_record_json(one) for one in forgotten]}, lines)
    return status


def clear_blobs(call: Call) -> ExitCode:
    """Remove blobs no import uses and what killed ones left. Raises NotAskedError, CancelledError, StorageError."""
    from ocitui.importing import BlobStore, remove_abandoned, unfinished_imports

    writing_cache(call, "remove what was downloaded")
    blobs = BlobStore(call.directory)
    freed, left = 0, remove_abandoned(call.directory)
    if kept := blobs.size():
        waiting = len(unfinished_imports(call.directory))
        lines = [f"{human_size(kept)} that were downloaded are removed, but for what an import uses right now"]
        lines += [f"interrupted imports that need them: at most {waiting}; they download them again"] if waiting else []
        call.agree(lines, "remove them?")
        freed = blobs.clear()
    said = [f"{human_size(freed)} were removed"] if freed else []
    said += [f"what {counted(left, 'killed import')} left is removed"] if left else []
    line = "; ".join(said) or "there was nothing to remove"
    call.answer(lambda: {"removed": freed, "downloaded": blobs.size()}, [line])
    return ExitCode.CLEAN


def _chosen(call: Call, import_ids: Sequence[str]) -> list[UnfinishedImport]:
    """The interrupted imports that these ids begin, all where there are none. Raises NoSuchImportError."""
    from ocitui.importing import unfinished_imports

    check_directory(call.directory)
    found = unfinished_imports(call.directory)
    if not import_ids:
        return found
    chosen = [_find(found, text) for text in import_ids]
    return [one for one in found if one in chosen]


def _find(found: Sequence[UnfinishedImport], text: str) -> UnfinishedImport:
    meant = [one for one in found if one.id == text] or [one for one in found if text and one.id.startswith(text)]
    if not meant:
        raise NoSuchImportError(f"there is no interrupted import {text}")
    if len(meant) > 1:
        raise UsageProblemError(f"{text} begins {len(meant)} imports", hint="give more of the ID")
    return meant[0]


def _record_json(one: UnfinishedImport) -> dict[str, Any]:
    request, told = one.request, {"id": one.id, "started": time_json(one.started)}
    if one.problem:
        return told | {"source": None, "problem": one.problem}
    return told | {key: getattr(request, key) for key in ("source", "name", "format", "platform")}


def _row(one: UnfinishedImport) -> list[str]:
    request = one.request
    format_ = "" if one.problem else request.format
    return [one.id, timestamp(one.started), format_, request.name or "", _what(one)]


def _what(one: UnfinishedImport) -> str:
    return f"cannot be read: {one.problem}" if one.problem else one.request.source
