"""`ocitui import` and `ocitui inspect`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocitui.cache import ImageName, PackedFormat, PackedImage, PackerCache, Transaction, TransactionKind
from ocitui.importing import PackedSource, Progress, SourceError, find_packed_files, import_packed, inspect_packed
from ocitui.text import human_size

from .exits import ExitCode
from .failures import refuse_read_only
from .listing import entry_json
from .options import Settings
from .output import draw_over, emit, is_terminal, say
from .running import cache_of, run_async
from .transactions import transaction_json

_REDRAW_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A source as it was typed."""

    source: str
    manifest: Path | None
    config: Path | None
    format: str | None
    platform: str | None = None

    async def inspect(self) -> PackedSource:
        """Look at it. Raises SourceError."""
        format_ = PackedFormat(self.format) if self.format else None
        return await inspect_packed(find_packed_files(self.source, self.manifest, self.config, format_))


def import_image(settings: Settings, request: ImportRequest, name_text: str, rename: bool) -> ExitCode:
    """Bring an image in. Raises InvalidNameError, SourceError, NamedOtherwiseError, and what writing raises."""
    refuse_read_only(settings, "import an image")
    name = ImageName.parse(name_text)
    source = run_async(request.inspect())
    if request.platform not in (None, source.platform):
        raise SourceError(f"the image is for {source.platform or 'no platform'}, not {request.platform}")
    cache = cache_of(settings)
    progress = progress_line()
    try:
        stored = run_async(import_packed(cache, source, name, rename=rename, progress=progress))
    finally:
        if progress is not None:
            draw_over("")
    _tell(settings, cache, stored)
    return ExitCode.CLEAN


def inspect_source(settings: Settings, request: ImportRequest) -> ExitCode:
    """Say what a source is. Raises SourceError where there is no such file."""
    source = run_async(request.inspect())
    if settings.as_json:
        emit(settings, images=[_source_json(source)])
    else:
        for line in _describe(source):
            say(line)
    return ExitCode.PROBLEMS if source.problems else ExitCode.CLEAN


def progress_line() -> Progress | None:
    """Draws how far a copy is on the terminal of standard error; None where there is none."""
    if not is_terminal(sys.stderr):
        return None
    drawn = 0.0

    def draw(done: int, total: int) -> None:
        nonlocal drawn
        if time.monotonic() - drawn >= _REDRAW_SECONDS:
            drawn = time.monotonic()
            draw_over(f"copied {human_size(done)} of {human_size(total)}")

    return draw


def _tell(settings: Settings, cache: PackerCache, stored: PackedImage) -> None:
    transaction = run_async(_find_store(cache, stored))
    if settings.as_json:
        entries = run_async(cache.entries())
        entry = next((entry for entry in entries if entry.descriptor.key == stored.descriptor.key), None)
        emit(
            settings,
            entry=entry_json(entry) if entry else None,
            transaction=transaction_json(transaction) if transaction else None,
        )
        return
    say(f"imported {stored.name} as {stored.format}, {stored.digest}")
    if transaction is not None:
        say(f"transaction {transaction.id} (ocitui undo {transaction.id} takes it out again)")


async def _find_store(cache: PackerCache, stored: PackedImage) -> Transaction | None:
    """The transaction that brought an image in."""
    for transaction in await cache.transactions():
        keys = {added.descriptor.key for added in transaction.added}
        if transaction.kind is TransactionKind.STORE and stored.descriptor.key in keys:
            return transaction
    return None


def _source_json(source: PackedSource) -> dict[str, Any]:
    return {
        "names": [],
        "platform": source.platform or None,
        "digest": source.digest,
        "format": source.format,
        "size": source.size,
        "problems": list(source.problems),
    }


def _describe(source: PackedSource) -> list[str]:
    facts = {
        "file": f"{source.files.packed}, {human_size(source.size)}",
        "format": source.format or "unknown",
        "digest": source.digest or "unknown",
        "platform": source.platform or "unknown",
        "layers": str(len(source.manifest.value.layers)) if source.manifest else "unknown",
    }
    lines = [f"{name + ':':<10} {fact}" for name, fact in facts.items()]
    return lines + [f"{'problem:':<10} {problem}" for problem in source.problems]
