"""`ocitui show`: a manifest or config."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Literal

import click

from ocitui.cache import DocumentError
from ocitui.cache.files import check_directory

from ..failures import NoSuchDocumentError
from ..options import reading
from ..output import complain, emit, emit_bytes, is_terminal, say
from ..running import cache_of, run_async
from ..selectors import find_digest, is_whole
from ..settings import ExitCode, Settings

Kind = Literal["manifest", "config"]


@click.command("show")
@click.argument("digest")
@click.argument("kind", type=click.Choice(["manifest", "config"]), default="manifest")
@reading
def show_command(settings: Settings, digest: str, kind: Literal["manifest", "config"]) -> ExitCode:
    """Print a manifest or config: byte for byte, laid out over lines on a terminal.

    DIGEST may be its beginning, with or without sha256:, as long as only one entry's digest begins so.
    """
    digest, raw = run_async(_read(settings, digest, kind))
    if raw is None:
        raise NoSuchDocumentError(f"there is no {kind} of {digest}")
    if settings.as_json:
        emit(settings, digest=digest, kind=kind, **_as_json(raw))
    elif is_terminal(sys.stdout):
        _show_on_terminal(raw, kind)
    else:
        emit_bytes(raw)
    return ExitCode.CLEAN


async def _read(settings: Settings, digest_text: str, kind: Kind) -> tuple[str, bytes | None]:
    check_directory(settings.directory)
    cache = cache_of(settings)
    digest = digest_text
    if not is_whole(digest_text):
        digest = find_digest((d.digest for d in await cache.list()), digest_text)
    return digest, await cache.read_document(digest, kind)


def _as_json(raw: bytes) -> dict[str, Any]:
    """The bytes under ``raw`` where they are UTF-8, else under ``base64``."""
    import base64

    try:
        return {"raw": raw.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _show_on_terminal(raw: bytes, kind: Kind) -> None:
    from ocitui.cache import Document
    from ocitui.tui.widgets.document_text import NotIndentedError, indent

    text = raw
    with suppress(ValueError, NotIndentedError):
        text = indent(raw, lambda: True)
    for line in text.decode(errors="replace").splitlines():
        say(line)
    try:
        (Document.manifest if kind == "manifest" else Document.config)(raw)
    except DocumentError as error:
        place = f" at line {error.line} column {error.column} of the file" if error.line else ""
        complain(f"the daemon cannot read this {kind}: {error.message}{place}", error.hint)
