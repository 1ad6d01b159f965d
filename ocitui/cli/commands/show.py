"""`ocitui show`: a manifest or config."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import click

from ocitui.cache import DocumentError, NoSuchEntryError, check_directory

from ..options import looking, run_async
from ..output import Call, ExitCode, bytes_json, complain, emit_bytes, is_terminal, say
from ..selectors import DOCUMENTS, chosen_keys, complete_shown, filter_option, find_named, need_entries, whole_digest

if TYPE_CHECKING:
    from ocitui.cache import PackerCache

Kind = Literal["manifest", "config"]


class NoSuchDocumentError(NoSuchEntryError):
    code = "no-such-document"
    default_hint = "ocitui list shows which files an entry has"


@click.command("show")
@click.argument("words", metavar="ENTRY... [manifest|config]", nargs=-1, shell_complete=complete_shown)
@filter_option
@looking
def show_command(call: Call, words: tuple[str, ...], filter_text: str | None) -> ExitCode:
    """Print manifests or configs: byte for byte, laid out over lines on a terminal.

    ENTRY is a name, a digest or its first digits. A name that several images carry is the one that it resolves to.
    """
    *entries, last = words or ("",)
    kind: Kind = "config" if last == "config" else "manifest"
    if last not in DOCUMENTS or (not entries and filter_text is None):
        entries, kind = list(words), "manifest"
    need_entries(entries, filter_text)
    cache = call.cache()
    documents = run_async(_read(cache, _digests(call, cache, entries, filter_text), kind))
    missing = [
        NoSuchDocumentError(f"there is no {kind} of {digest}") for digest, raw in documents.items() if raw is None
    ]
    alone = len(entries) == 1
    if alone and missing:
        raise missing[0]
    if call.as_json:
        found = [{"digest": digest, "kind": kind, **bytes_json(raw)} for digest, raw in documents.items()]
        call.emit(**found[0] if alone else {"documents": found})
    for digest, raw in documents.items():
        if raw is not None and not call.as_json:
            _print(raw, kind, "" if alone else digest)
    for error in missing:
        complain(error.message, error.hint)
    return ExitCode.PROBLEMS if missing else ExitCode.CLEAN


def _digests(call: Call, cache: PackerCache, words: Sequence[str], filter_text: str | None) -> list[str]:
    """What is asked for. A whole digest needs no index; what no entry has is taken for such a one."""
    check_directory(call.directory)
    digests = [whole_digest(word) for word in words]
    if filter_text is not None:
        return [digest for digest, _ in chosen_keys(call, cache, (), filter_text)]
    if all(digests):
        return digests
    index = run_async(cache.index())
    return [digest or find_named(index, word).digest for digest, word in zip(digests, words, strict=True)]


async def _read(cache: PackerCache, digests: Sequence[str], kind: Kind) -> dict[str, bytes | None]:
    return {digest: await cache.read_document(digest, kind) for digest in digests}


def _print(raw: bytes, kind: Kind, digest: str) -> None:
    """A document as it is, or laid out on a terminal, below its ``digest`` where that is given."""
    if not is_terminal(sys.stdout):
        return emit_bytes(raw)
    from ocitui.cache import Document
    from ocitui.words import NotIndentedError, indent_document

    say(*[f"{kind} of {digest}:"] if digest else ())
    text = raw
    with suppress(ValueError, NotIndentedError):
        text = indent_document(raw, lambda: True)
    say(*text.decode(errors="replace").splitlines())
    try:
        (Document.manifest if kind == "manifest" else Document.config)(raw)
    except DocumentError as error:
        of_it = " of the file" if error.line else ""
        complain(f"the daemon cannot read this {kind}: {error.placed}{of_it}", error.hint)
