"""`ocitui import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ocitui.importing.image_import import ImportOutcome
from ocitui.importing.unfinished import unfinished

from .exits import ExitCode
from .import_options import AskedImport
from .import_requests import import_request
from .import_run import Imported, carry_out
from .listing import entry_json, judged
from .options import Settings
from .output import emit, is_terminal, say
from .running import writing_cache
from .transactions import transaction_json


def import_image(settings: Settings, asked: AskedImport) -> ExitCode:
    """Bring an image in. Raises UsageProblemError, InvalidNameError, and what `carry_out` raises."""
    writing_cache(settings, "import an image")
    request = import_request(asked)
    _mention_interrupted(settings)
    done = carry_out(settings, request)
    if settings.as_json:
        emit(settings, **imported_json(settings.directory, done))
    else:
        tell_imported(done)
    return ExitCode.CLEAN


def imported_json(directory: Path, done: Imported) -> dict[str, Any]:
    """An import as programs read it."""
    entry = judged(directory, done.entry) if done.entry else None
    return {
        "entry": entry_json(entry) if entry else None,
        "transaction": transaction_json(done.transaction) if done.transaction else None,
        "outcome": done.outcome.value,
        "notes": list(done.notes),
    }


def tell_imported(done: Imported) -> None:
    """Say what came of an import."""
    say(_summary(done))
    say(f"digest {done.image.digest}")
    if done.transaction is not None:
        say(f"transaction {done.transaction.id} (ocitui undo {done.transaction.id} {_UNDOING[done.outcome]})")
    for note in done.notes:
        say(f"note: {note}")


_UNDOING = {
    ImportOutcome.STORED: "takes it out again",
    ImportOutcome.RENAMED: "gives it its old name back",
    ImportOutcome.CACHED: "",
}


def _summary(done: Imported) -> str:
    image = done.image
    what = f"{image.name} as {image.format}"
    if done.outcome is ImportOutcome.CACHED:
        return f"the cache has {what} already (--again brings it in once more)"
    if done.outcome is ImportOutcome.RENAMED:
        return f"the cache had it already, and names it {what} now"
    return f"imported {what}"


def _mention_interrupted(settings: Settings) -> None:
    count = len(unfinished(settings.directory))
    if count and (is_terminal(sys.stderr) or not settings.as_json):
        what = "1 import was" if count == 1 else f"{count} imports were"
        say(f"{what} interrupted earlier; ocitui imports lists them, and goes on with them", err=True)
