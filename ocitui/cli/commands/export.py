"""`ocitui export`: entries on their way to another cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocitui.text import counted, human_size

from ..options import agreeing, run_async
from ..output import Call, ExitCode, UsageProblemError, say
from ..progress import progress_shown
from ..selectors import chosen_entries, complete_entry, filter_option, need_entries

if TYPE_CHECKING:
    from ocitui.importing import ImportResult, ProgressCall
    from ocitui.remote import ExportedEntry

_CACHE = "cache:"


@click.command("export")
@click.argument("words", metavar="ENTRY... DEST", nargs=-1, required=True, shell_complete=complete_entry)
@filter_option
@agreeing
def export_command(call: Call, words: Sequence[str], filter_text: str | None) -> ExitCode:
    """Write entries with their documents into one tar, which ocitui import brings into another cache.

    \b
    -            standard output, as in `ocitui export app:1 - | ssh HOST ocitui import -`
    FILE         a file; one that is there is replaced after a question, or with --yes
    cache:DIR    another cache of this host, at once

    ENTRY is a name, a digest or its first digits, with .FORMAT where it matters. What an import finds there is verified
    before any of it is stored: the documents by their digests, the packed file by its hash and by all that is in it.

    Exits with 4 where an entry is not whole, or was changed meanwhile: then what was written is of no use.
    """
    import asyncio

    from ocitui.remote import entries_to_export

    *entries, dest = words
    need_entries(entries, filter_text)
    if dest == "-" and call.as_json:
        raise UsageProblemError("--json has no place beside the tar on standard output", hint="name a file")
    index, keys = chosen_entries(call, entries, filter_text)
    chosen = run_async(asyncio.to_thread(entries_to_export, call.directory, index, keys))
    with progress_shown(call) as progress:
        if dest.startswith(_CACHE):
            stored = run_async(_into_cache(call, chosen, Path(dest.removeprefix(_CACHE)).expanduser(), progress))
            size, said = sum(one.found.size for one in chosen), [f"{one.image.name}: {one.outcome}" for one in stored]
        else:
            with _destination(call, dest) as fd:
                size, said = run_async(_written(chosen, fd, progress)), []
    told = {"destination": dest, "bytes": size, "entries": [_told(one) for one in chosen]}
    lines = [*said, f"exported {counted(len(chosen), 'entry')}, {human_size(size)}"]
    if dest == "-":
        say(*lines, err=True)
    else:
        call.answer(lambda: told, lines)
    return ExitCode.CLEAN


def _told(entry: ExportedEntry) -> dict[str, Any]:
    """An entry as programs read it."""
    one = entry.descriptor
    return {"name": one.image_name, "digest": one.digest, "format": one.format, "size": entry.found.size}


async def _written(chosen: Sequence[ExportedEntry], fd: int, progress: ProgressCall) -> int:
    """Write them to a descriptor; gives the bytes of the files."""
    from ocitui.importing import Tracker
    from ocitui.remote import write_cache_tar
    from ocitui.threads import in_thread, on_loop

    passed = on_loop(Tracker(progress).copied)
    return await in_thread(lambda stop: write_cache_tar(chosen, lambda data: _write(fd, data), passed, stop))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


async def _into_cache(
    call: Call, chosen: Sequence[ExportedEntry], directory: Path, progress: ProgressCall
) -> list[ImportResult]:
    """Bring them into another cache of this host by a pipe, as from another one."""
    import asyncio

    from ocitui.cache import ConflictError, PackerCache
    from ocitui.importing import ImportRequest, given_by
    from ocitui.remote import receive_cache_tar

    cache = PackerCache(directory, wait=call.wait)
    if os.path.realpath(directory) == os.path.realpath(call.directory):
        raise ConflictError(f"{directory} is the cache that they are in", hint="name another one")
    asked, most = ImportRequest(source=_CACHE, repoint=call.agreed), sum(one.found.size for one in chosen)
    async with cache:
        await cache.prepare()
        reader, writer = os.pipe()
        sending = asyncio.ensure_future(_sent(chosen, writer, progress))
        try:
            return await receive_cache_tar(cache, lambda stop: given_by(reader, stop), asked, most)
        finally:
            os.close(reader)
            await sending


async def _sent(chosen: Sequence[ExportedEntry], writer: int, progress: ProgressCall) -> None:
    """Write them into a pipe; that nobody reads on is told by who read."""
    try:
        await _written(chosen, writer, progress)
    except BrokenPipeError:
        pass
    finally:
        os.close(writer)


@contextmanager
def _destination(call: Call, dest: str) -> Iterator[int]:
    """Where to write to; a file is there only once it is whole."""
    from ocitui.cache import StorageError, refuse_inside, writing_apart

    if dest == "-":
        if sys.stdout is None or sys.stdout.isatty():
            raise UsageProblemError("a terminal takes no tar", hint="name a file, or pipe it into ocitui import -")
        try:
            yield sys.stdout.fileno()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StorageError(f"cannot write to standard output: {error.strerror}") from error
        return
    path = Path(dest).expanduser()
    refuse_inside(call.directory, path)
    if there := os.path.lexists(path):
        call.agree([f"there already: {path}"], "replace it?", lambda: {"replaced": [str(path)]})
    with writing_apart(path, replace=there) as fd:
        yield fd
