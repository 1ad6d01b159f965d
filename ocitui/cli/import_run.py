"""One import of a command: what was typed, checked before anything is written; its record, progress and questions."""

from __future__ import annotations

import asyncio
import getpass
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ocitui.cache import (
    LATEST,
    CacheError,
    CacheFiles,
    ImageName,
    Ledger,
    PackedFormat,
    PackedImage,
    PackerCache,
    StorageError,
    Transaction,
    TransactionKind,
    check_packed,
    known_format,
    next_number,
    whoami,
)
from ocitui.doctor import Entries, Judge, JudgedEntry, read_index
from ocitui.importing import (
    BlobStore,
    Credentials,
    ImportDesk,
    ImportOutcome,
    ImportRequest,
    ImportResult,
    LayerLimits,
    Logins,
    NamedOtherwiseError,
    ProgressCall,
    RegistryOptions,
    RepointsNameError,
    SourceError,
    SourceKind,
    UnknownRealmError,
    allow_realm,
    check_access,
    check_choice,
    forget_import,
    import_image,
    note_stored,
    recognise_source,
    recorded_import,
    registry_named,
    remove_abandoned,
    standard_input,
)
from ocitui.text import clean, human_size
from ocitui.threads import Stop
from ocitui.words import entry_json, outcome_text, transaction_json

from .options import ended_by_signals, run_async
from .output import Call, CancelledError, InterruptedBySignalError, UsageProblemError, can_ask
from .progress import progress_shown

T = TypeVar("T")
_REGISTRY_ONLY = ("tls_ca", "plain_http", "authfile", "mirror")
_PACKED_ONLY = ("manifest", "config")
_LAYERS_ONLY = ("compression", "level", "packer", "max_bytes", "max_entries", "complete_config")

_KINDS = {
    SourceKind.OCI_LAYOUT: "an OCI layout",
    SourceKind.OCI_ARCHIVE: "an OCI archive",
    SourceKind.DOCKER_ARCHIVE: "an archive",
    SourceKind.REGISTRY: "an image in a registry",
    SourceKind.PACKED: "a packed file",
}


def read_request(*, format: str | None = None, **typed: Any) -> ImportRequest:
    """What was typed of a source, without its ``format``. Raises UsageProblemError, SourceError for no such path."""
    request = ImportRequest(**typed)
    kind = _kind(request.source)
    _refuse_others(request, kind)
    if format and kind is not SourceKind.PACKED:
        raise UsageProblemError(f"{request.source} is not packed yet, so it has no format", hint="leave out --format")
    with _as_usage():
        check_access(request.source_options().registry)
    return request


def check_registry(typed: dict[str, Any], missing: str = "") -> RegistryOptions:
    """How to reach registries, taken out of what was typed: logins are asked for now, and not where the option that is
    ``missing`` would have registries asked. Raises UsageProblemError, CancelledError, InterruptedBySignalError."""
    options = RegistryOptions.typed(**{name: typed.pop(name) for name in _REGISTRY_ONLY})
    with _as_usage():
        check_access(options)
        hosts = dict.fromkeys(map(registry_named, typed.pop("logins")))
    if hosts and missing:
        raise UsageProblemError(f"--login is for {missing}", hint=f"give {missing} too")
    return msgspec.structs.replace(options, logins={host: _ask_login(host) for host in hosts})


def sources_of_files(texts: Iterable[str]) -> list[str]:
    """Those of these sources that are no registry. Raises SourceError for one that is none."""
    return [text for text in texts if recognise_source(text).kind is not SourceKind.REGISTRY]


def import_request(*, format: str | None = None, **typed: Any) -> ImportRequest:
    """What an import is to do. Raises UsageProblemError, InvalidNameError, SourceError where there is no such path."""
    request = read_request(**typed)
    if request.name == "":
        raise UsageProblemError("a name of no characters is none", hint="leave out --name to have the source's own")
    if request.name:
        ImageName.parse(request.name)
    return msgspec.structs.replace(request, format=_format(request, known_format(format)))


def _format(request: ImportRequest, asked: PackedFormat | None) -> PackedFormat:
    """What a packed file is by its magic or name, else what was asked for, else the one that the daemon looks for.
    Raises SourceError where a packed file is of another format, UsageProblemError for a choice that there is not."""
    if _kind(request.source) is not SourceKind.PACKED:
        format_ = asked or PackedFormat.SQUASHFS
        with _as_usage():
            check_choice(format_, request.compression, request.level, request.packer)
        return format_
    files, found = request.packed_files(asked), None
    with suppress(StorageError):
        found = check_packed(files.packed).found
    if found and files.format and found is not files.format:
        raise SourceError(f"{files.packed} is {found} by its magic, not {files.format}")
    return found or files.format or PackedFormat.SQUASHFS


def _kind(source: str) -> SourceKind:
    """Raises SourceError where there is no such path."""
    return recognise_source(source).kind if standard_input(source) is None else SourceKind.DOCKER_ARCHIVE


def _refuse_others(request: ImportRequest, kind: SourceKind) -> None:
    """Raises UsageProblemError for what this kind of source would not heed."""
    for fields, wanted, what in (
        (_REGISTRY_ONLY, kind is SourceKind.REGISTRY, "a registry"),
        (_PACKED_ONLY, kind is SourceKind.PACKED, "packed files"),
        (_LAYERS_ONLY, kind is not SourceKind.PACKED, "images that are still to be packed"),
    ):
        given = [field for field in fields if getattr(request, field) not in (None, False)]
        if given and not wanted:
            option = given[0].replace("_", "-")
            raise UsageProblemError(
                f"--{option} is for {what}, and {request.source} is {_KINDS[kind]}", hint=f"leave out --{option}"
            )


@contextmanager
def _as_usage() -> Iterator[None]:
    """What the library refuses of the options is a mistake in the command line."""
    try:
        yield
    except CacheError as error:
        raise UsageProblemError(error.message, hint=error.hint) from error


class Imported(msgspec.Struct, frozen=True):
    """What came of it; ``transaction`` is None where nothing had to be done."""

    result: ImportResult
    transaction: Transaction | None

    @property
    def notes(self) -> list[str]:
        return [*self.result.notes, *_about_tag(self.result.image.name)]


def agreed_login(call: Call, request: ImportRequest, *, login: bool, realm: str | None) -> Logins:
    """What the options about a login ask for: a realm is agreed to, and a name and password are asked for. Raises
    UsageProblemError, CacheError, CancelledError, InterruptedBySignalError."""
    registry = request.registry
    for option, given in (("--login", login), ("--allow-realm", realm)):
        if given and not registry:
            raise UsageProblemError(f"{option} is for a registry, {request.source} is none", hint=f"leave out {option}")
    if realm:
        with _as_usage():
            allow_realm(call.directory, registry, realm.lower())
    return {registry: _ask_login(registry)} if login else {}


def _ask_login(registry: str) -> Credentials:
    """Ask on the terminal itself, whatever standard input is; a password is not shown."""
    try:
        with ended_by_signals(), open("/dev/tty", "r+b", buffering=0) as terminal:
            try:
                terminal.write(f"name for {clean(registry)}: ".encode())
                if name := terminal.readline().decode().strip():
                    return Credentials(name, getpass.getpass(f"password of {clean(name)}: "))
            except BaseException:
                terminal.write(b"\n")
                raise
    except EOFError:
        raise CancelledError("cancelled") from None
    except (OSError, UnicodeDecodeError) as error:
        hint = "log in with skopeo login, or name the credentials with --authfile"
        raise UsageProblemError("--login has no terminal to ask on", hint=hint) from error
    raise CancelledError("cancelled")


def with_realms(call: Call, work: Callable[[], T]) -> T:
    """What work gives; where a login is to go to another host, the operator is asked, if there is one."""
    while True:
        try:
            return work()
        except UnknownRealmError as error:
            if not can_ask():
                raise
            replace(call, agreed=False).agree([error.message], "may it be sent there, from now on?")
            allow_realm(call.directory, error.registry, error.realm)


def carry_out(
    call: Call, request: ImportRequest, import_id: str = "", logins: Logins | None = None, start: bytes = b""
) -> Imported:
    """Import an image, or go on with the interrupted import of that id, whose record stays unless it comes to its end;
    ``start`` was read of standard input already. Raises as `_answered`, and what `import_image` raises."""

    def work(asked: ImportRequest) -> Imported:
        return with_realms(call, partial(_carried_out, call, asked, import_id, logins, start))

    return _answered(call, request, work, _about_renaming)


def _answered(
    call: Call,
    request: ImportRequest,
    work: Callable[[ImportRequest], T],
    renaming: Callable[[ImportRequest], list[str]],
) -> T:
    """What work gives. Where an image or its name is taken, the operator is asked, if there is one. Raises
    NamedOtherwiseError, RepointsNameError, CancelledError, InterruptedBySignalError, and what ``work`` raises."""
    request = msgspec.structs.replace(request, repoint=request.repoint or call.agreed)
    # No --yes takes an entry's name away.
    asking = replace(call, agreed=False)
    while True:
        try:
            return work(request)
        except (NamedOtherwiseError, RepointsNameError) as error:
            if not can_ask():
                raise
            if isinstance(error, NamedOtherwiseError):
                asking.agree([error.message, *renaming(request)], "give the entry the new name?")
                request = msgspec.structs.replace(request, rename=True)
            else:
                asking.agree([error.message], "let the name stand for the new image?")
                request = msgspec.structs.replace(request, repoint=True)


def _about_renaming(request: ImportRequest) -> list[str]:
    """What to know before an entry is named anew."""
    name, found = request.image_name, recognise_source(request.source)
    if name is None and found.kind is SourceKind.REGISTRY:
        name = ImageName.parse(found.rest)
    new = f"would be named {name} instead" if name else "would take the name of the source"
    return [f"it {new}; nothing is packed again, and the old name no longer stands for it", *_about_tag(name)]


def _about_tag(name: ImageName | None) -> list[str]:
    if name is None or name.reference != LATEST:
        return []
    return ["the daemon never looks for the tag latest in its cache, it pulls it each time; --name gives another name"]


def _carried_out(call: Call, request: ImportRequest, import_id: str, logins: Logins | None, start: bytes) -> Imported:
    cache, record = call.cache(), import_id
    began = next_number(cache.directory)

    async def work() -> ImportResult:
        nonlocal record
        await asyncio.to_thread(remove_abandoned, cache.directory)
        # What comes by standard input comes once: nobody could go on with it.
        recording = recorded_import(cache.directory, request, import_id)
        with nullcontext("") if standard_input(request.source) else recording as record:
            return await import_image(ImportDesk(cache), request, progress, logins, start)

    with progress_shown(call) as progress:
        try:
            result = run_async(work())
        except InterruptedBySignalError as error:
            _explain(error, cache, record, is_new=not import_id, since=began)
            raise
        if result.outcome is ImportOutcome.STORED:
            # What the packed file is now; it is all in memory still. A signal comes too late.
            with suppress(InterruptedBySignalError):
                run_async(asyncio.to_thread(note_stored, call.directory, result))
    found = None if result.outcome is ImportOutcome.CACHED else run_async(_find_store(cache, began))
    return Imported(result, found)


# All else is of images that are still to be packed, or of places that are asked for them.
_TRAVELLING = ("source", "name", "max_bytes", "rename", "again")


def travelling(typed: dict[str, Any]) -> ImportRequest:
    """What may be asked of entries that come. Raises UsageProblemError, InvalidNameError."""
    for field, value in typed.items():
        # A level may be 0.
        if field not in _TRAVELLING and not (value is None or value is False or value == ()):
            option = f"--{field.replace('_', '-')}"
            raise UsageProblemError(f"{option} is not for the entries of a cache", hint=f"leave out {option}")
    request = ImportRequest(**{field: typed[field] for field in _TRAVELLING if field in typed})
    if request.name is not None:
        ImageName.parse(request.name)
    return request


def bring_in(call: Call, typed: dict[str, Any], chunks: Callable[[Stop], Iterator[bytes]]) -> list[Imported]:
    """Bring the entries of a cache in a tar in, whose bytes ``chunks`` gives. Raises as `_answered`, and what
    `receive_cache_tar` raises."""
    from ocitui.remote import receive_cache_tar

    request = travelling(typed)
    most = request.max_bytes or LayerLimits().unpacked_bytes

    async def receive(cache: PackerCache, asked: ImportRequest, progress: ProgressCall) -> list[ImportResult]:
        return await receive_cache_tar(cache, chunks, asked, most, progress)

    return take_in(call, request, receive)


def take_in(
    call: Call,
    request: ImportRequest,
    receive: Callable[[PackerCache, ImportRequest, ProgressCall], Coroutine[Any, Any, list[ImportResult]]],
) -> list[Imported]:
    """What ``receive`` stores of another cache, with the transactions. Raises as `_answered`, and what it raises."""

    def work(asked: ImportRequest) -> list[Imported]:
        cache = call.cache()
        began = next_number(cache.directory)

        async def received() -> list[Imported]:
            await asyncio.to_thread(remove_abandoned, cache.directory)
            done = await receive(cache, asked, progress)
            made = await _stores(cache, began)
            return [Imported(one, None if one.outcome is ImportOutcome.CACHED else next(made, None)) for one in done]

        with progress_shown(call) as progress:
            try:
                return run_async(received())
            except InterruptedBySignalError as error:
                _explain(error, cache, "", is_new=True, since=began)
                raise

    def renaming(_: ImportRequest) -> list[str]:
        return ["it would have the name that it comes with; the old name no longer stands for it"]

    return _answered(call, msgspec.structs.replace(request, repoint=call.agreed), work, renaming)


def _explain(error: InterruptedBySignalError, cache: PackerCache, record: str, *, is_new: bool, since: int) -> None:
    """Have it say what was left. An operator's own is the end of it, another's leaves the record to go on with."""
    stored, cancelled = run_async(_find_store(cache, since)), error.number == signal.SIGINT
    if record and (stored or (cancelled and is_new)):
        with suppress(CacheError):
            forget_import(cache.directory, record)
    if cancelled:
        error.message = "cancelled"
    if stored is not None:
        error.message += ", but the image had been stored"
        error.hint = f"ocitui undo {stored.id} takes it out again"
        return
    kept, to_go_on = 0, bool(record) and not (cancelled and is_new)
    with suppress(CacheError):
        kept = BlobStore(cache.directory).size()
    said = [f"{human_size(kept)} that were downloaded are kept"] if kept else []
    said += ["ocitui imports --go-on goes on with it"] if to_go_on else []
    end = "" if to_go_on else ", see ocitui imports"
    error.hint = "; ".join(said) + end if said else "the cache is as it was"


async def _find_store(cache: PackerCache, since: int) -> Transaction | None:
    """The transaction that this program stored an image with, of this number or a later one."""
    return next(reversed([*await _stores(cache, since)]), None)


async def _stores(cache: PackerCache, since: int) -> Iterator[Transaction]:
    """The transactions that this program stored images with, of this number or a later one, the oldest first."""
    mine = [one for one in await cache.transactions() if one.kind == TransactionKind.IMPORT and one.by == whoami()]
    return reversed([one for one in mine if one.sequence >= since])


def imported_json(directory: Path, done: Imported) -> dict[str, Any]:
    """An import as programs read it."""
    entry = _judged(directory, done.result.image)
    return {
        "entry": entry_json(entry, directory, Ledger.open(directory)) if entry else None,
        "transaction": transaction_json(done.transaction) if done.transaction else None,
        "outcome": done.result.outcome.value,
        "notes": done.notes,
    }


def imported_lines(done: Imported) -> Iterator[str]:
    """What came of an import."""
    outcome, image = done.result.outcome, done.result.image
    again = " (--again brings it in once more)" if outcome is ImportOutcome.CACHED else ""
    yield f"{outcome_text(outcome, image)}{again}"
    yield f"digest {image.digest}"
    if done.transaction is not None:
        undoing = "takes it out again" if outcome is ImportOutcome.STORED else "gives it its old name back"
        yield f"transaction {done.transaction.id} (ocitui undo {done.transaction.id} {undoing})"
    yield from (f"note: {note}" for note in done.notes)


def _judged(directory: Path, image: PackedImage) -> JudgedEntry | None:
    """Its entry with the state, looked into now; None where it is gone again."""
    judge = Judge(directory)
    with CacheFiles(directory) as files:
        judge.look_at(read_index(files), [image.digest])
    entries = Entries(judge.reading.contents, judge)
    places = (at for at in entries.index.positions(image.digest) if entries.formats[at] == image.format)
    return next(map(entries.__getitem__, places), None)
