"""`ocitui export`: entries on their way to another cache."""

from __future__ import annotations

import os
import select
import stat
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
    from ocitui.remote import ExportedEntry, ExportedImage
    from ocitui.threads import Stop

_CACHE = "cache:"
_LAYOUT = "oci"
_IMAGES = (_LAYOUT, "oci-archive", "docker-archive")


@click.command("export")
@click.argument("words", metavar="ENTRY... DEST", nargs=-1, required=True, shell_complete=complete_entry)
@filter_option
@agreeing
def export_command(call: Call, words: Sequence[str], filter_text: str | None) -> ExitCode:
    """Write entries with their documents into one tar, which ocitui import brings into another cache, or as images.

    \b
    -            standard output, as in `ocitui export app:1 - | ssh HOST ocitui import -`
    FILE         a file; one that is there is replaced after a question, or with --yes
    cache:DIR    another cache of this host, at once
    oci:DIR, oci-archive:FILE, docker-archive:FILE
                 images of one layer, for skopeo, podman, umoci and docker load

    ENTRY is a name, a digest or its first digits, with .FORMAT where it matters. What an import finds there is verified
    before any of it is stored: the documents by their digests, the packed file by its hash and by all that is in it.

    Exits with 4 where an entry is not whole, or was changed meanwhile: then what was written is of no use.
    """
    import asyncio

    from ocitui.importing import home_path
    from ocitui.remote import entries_to_export

    *entries, dest = words
    need_entries(entries, filter_text)
    call.refuse_told("export entries")
    if dest == _CACHE:
        raise UsageProblemError(f"{dest} names no directory", hint="name it, as in cache:DIR")
    if dest == "-" and call.as_json:
        raise UsageProblemError("--json has no place beside the tar on standard output", hint="name a file")
    index, keys = chosen_entries(call, entries, filter_text)
    chosen = run_async(asyncio.to_thread(entries_to_export, call.directory, index, keys))
    if (kind := dest.partition(":")[0]) in _IMAGES:
        return _export_images(call, chosen, kind, dest)
    entries_told = [_told(one) for one in chosen]
    with progress_shown(call) as progress:
        if dest.startswith(_CACHE):
            stored = run_async(_into_cache(call, chosen, home_path(dest.removeprefix(_CACHE)), progress))
            size, said = sum(one.found.size for one in chosen), [f"{one.image.name}: {one.outcome}" for one in stored]
            for entry, done in zip(entries_told, stored, strict=True):
                entry |= {"outcome": done.outcome, "notes": done.notes}
        else:
            with _destination(call, dest) as fd:
                size, said = run_async(_written(chosen, fd, progress)), []
    told = {"destination": dest, "bytes": size, "entries": entries_told}
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


def _export_images(call: Call, chosen: Sequence[ExportedEntry], kind: str, dest: str) -> ExitCode:
    """Write them as images of one layer each, to what follows the kind."""
    from ocitui.importing import home_path

    place = dest.partition(":")[2]
    if place in ("", "-") or ":" in place:
        raise UsageProblemError(f"{dest} is no {kind}:PATH", hint="the images keep the names of their entries")
    digests = [one.descriptor.digest for one in chosen]
    if len(set(digests)) < len(digests):
        raise UsageProblemError("an entry is chosen in two formats", hint="name one of them, as in app:1.squashfs")
    with progress_shown(call) as progress:
        if kind == _LAYOUT:
            images = _into_layout(call, chosen, home_path(place), progress)
        else:
            with _destination(call, place) as fd:
                images = run_async(_as_images(chosen, kind, fd, progress))
    size = sum(one.size for one in images)
    entries = [_told(one.entry) | {"local_digest": one.digest, "left_out": one.left_out} for one in images]
    say(*(line for one in images for line in _image_lines(one)), err=True)
    lines = [f"exported {counted(len(images), 'image')}, {human_size(size)}"]
    call.answer(lambda: {"destination": dest, "bytes": size, "entries": entries}, lines)
    return ExitCode.CLEAN


def _image_lines(one: ExportedImage) -> Iterator[str]:
    """What is another of an image than of its entry."""
    name = one.entry.descriptor.image_name or one.entry.descriptor.digest
    yield f"{name}: as an image of one layer it is {one.digest}, which no registry knows"
    for what, count in one.left_out.items():
        yield f"{name}: left out, as no layer holds them: {count:,} {what}"


def _into_layout(
    call: Call, chosen: Sequence[ExportedEntry], directory: Path, progress: ProgressCall
) -> list[ExportedImage]:
    from ocitui.cache import refuse_inside
    from ocitui.remote import is_layout_there

    refuse_inside(call.directory, directory)
    directory = Path(os.path.realpath(directory))
    if there := is_layout_there(directory):
        told = {"replaced": [str(directory / "index.json")]}
        call.agree([f"there already: {directory}"], "replace its index, and so its images?", lambda: told)
    return run_async(_as_layout(chosen, directory, progress, replace=there))


async def _as_layout(
    chosen: Sequence[ExportedEntry], directory: Path, progress: ProgressCall, *, replace: bool
) -> list[ExportedImage]:
    from ocitui.importing import Tracker
    from ocitui.remote import write_layout
    from ocitui.threads import in_thread, on_loop

    passed = on_loop(Tracker(progress).copied)
    return await in_thread(lambda stop: write_layout(chosen, directory, passed, stop, replace=replace))


async def _as_images(
    chosen: Sequence[ExportedEntry], kind: str, fd: int, progress: ProgressCall
) -> list[ExportedImage]:
    from ocitui.importing import SourceKind, Tracker
    from ocitui.remote import write_image_tar
    from ocitui.threads import in_thread, on_loop

    passed = on_loop(Tracker(progress).copied)
    return await in_thread(lambda stop: write_image_tar(chosen, SourceKind(kind), fd, passed, stop))


async def _written(chosen: Sequence[ExportedEntry], fd: int, progress: ProgressCall) -> int:
    """Write them to a descriptor; gives the bytes of the files."""
    from ocitui.importing import Tracker
    from ocitui.remote import write_cache_tar
    from ocitui.threads import in_thread, on_loop

    passed = on_loop(Tracker(progress).copied)
    return await in_thread(lambda stop: write_cache_tar(chosen, lambda data: _write(fd, data, stop), passed, stop))


_LOOK_MILLISECONDS = 100


def _write(fd: int, data: bytes, stop: Stop) -> None:
    """Write it all; who reads nothing for long is left at once. Raises OSError, AbandonedError."""
    ready, view = select.poll(), memoryview(data)
    ready.register(fd, select.POLLOUT)
    # A pipe that takes something takes that much, and no more is waited for.
    most = len(data) if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF
    while view:
        stop.check()
        if ready.poll(_LOOK_MILLISECONDS):
            view = view[os.write(fd, view[:most]) :]


async def _into_cache(
    call: Call, chosen: Sequence[ExportedEntry], directory: Path, progress: ProgressCall
) -> list[ImportResult]:
    """Bring them into another cache of this host by a pipe, as from another one."""
    import asyncio

    from ocitui.cache import PackerCache, refuse_inside
    from ocitui.importing import ImportRequest, NamedOtherwiseError, RepointsNameError, given_by
    from ocitui.remote import receive_cache_tar

    refuse_inside(call.directory, directory)
    cache = PackerCache(directory, wait=call.wait)
    asked, most = ImportRequest(source=_CACHE, repoint=call.agreed), sum(one.found.size for one in chosen)
    async with cache:
        await cache.prepare()
        reader, writer = os.pipe()
        sending = asyncio.ensure_future(_sent(chosen, writer, progress))
        try:
            return await receive_cache_tar(cache, lambda stop: given_by(reader, stop), asked, most)
        except RepointsNameError as error:
            error.hint = "give --yes to let the name stand for the new image"
            raise
        except NamedOtherwiseError as error:
            error.hint = "ocitui import --rename of the same, exported to a FILE, lets the new name take the entry over"
            raise
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
    from ocitui.importing import home_path

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
    path = home_path(dest)
    refuse_inside(call.directory, path)
    if there := os.path.lexists(path):
        call.agree([f"there already: {path}"], "replace it?", lambda: {"replaced": [str(path)]})
    with writing_apart(path, replace=there) as fd:
        yield fd
