"""`ocitui show`: a manifest or config."""

from __future__ import annotations

import base64
import sys
from contextlib import suppress
from typing import Any, Literal

from ocitui.cache import Document, DocumentError
from ocitui.cache.files import check_directory
from ocitui.tui.widgets.document_text import NotIndentedError, indent

from .digests import find_digest, is_whole
from .exits import ExitCode
from .failures import NoSuchDocumentError
from .options import Settings
from .output import complain, emit, emit_bytes, is_terminal, say
from .running import cache_of, run_async

Kind = Literal["manifest", "config"]


def show(settings: Settings, digest_text: str, kind: Kind) -> ExitCode:
    """Print a document. Raises NoSuchDocumentError, AmbiguousDigestError, CacheDirectoryError, StorageError.

    A whole digest needs no index, so a document can be seen while index.json is corrupt.
    """
    digest, raw = run_async(_read(settings, digest_text, kind))
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
    try:
        return {"raw": raw.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _show_on_terminal(raw: bytes, kind: Kind) -> None:
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
