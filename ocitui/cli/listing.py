"""`ocitui list`."""

from __future__ import annotations

import os
import time
from typing import Any

from ocitui.cache import Entry, compile_filter, misread_sizes
from ocitui.cache.files import INDEX_NAME
from ocitui.text import human_age, human_size

from .exits import ExitCode
from .failures import UsageProblemError
from .options import Settings
from .output import emit, say
from .running import cache_of, run_async
from .tables import Column, lay_out, terminal_width

_COLUMNS = (
    Column("NAME", shrink=True),
    Column("TAG", shrink=True),
    Column("FORMAT"),
    Column("DIGEST", rank=1),
    Column("PLATFORM", rank=4),
    Column("SIZE", right=True, rank=2),
    Column("AGE", right=True, rank=3),
    Column("STATE"),
)


def list_entries(settings: Settings, filter_text: str) -> ExitCode:
    """Print the entries that pass the filter, in index order.

    Raises CorruptIndexError, CacheDirectoryError, UsageProblemError.
    """
    if misread := misread_sizes(filter_text):
        raise UsageProblemError(f"{misread[0]} compares with no size", hint="as in size>100M or size<1.5G")
    passes = compile_filter(filter_text)
    entries = run_async(cache_of(settings).entries())
    if "used:" in filter_text.lower():
        # Nobody pays for a look at the devices who does not ask for it.
        from ocitui.doctor.loop_devices import users_by_name, with_users

        entries = with_users(entries, users_by_name(settings.directory))
    entries = [entry for entry in entries if passes(entry)]
    if settings.as_json:
        emit(settings, entries=[entry_json(entry) for entry in entries])
        return ExitCode.CLEAN
    now = time.time()
    width = terminal_width()
    for line in lay_out(_COLUMNS, [_row(entry, now) for entry in entries], width):
        say(line)
    # For who looks at it: to a script an absent index is an empty cache, as it is to the daemon.
    if width and not entries and not os.path.lexists(settings.directory / INDEX_NAME):
        say(f"there is no {INDEX_NAME} in {settings.directory.absolute()}: is that a cache?", err=True)
    return ExitCode.CLEAN


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry as programs read it; ``name`` is the whole of it as the index has it."""
    descriptor = entry.descriptor
    return {
        "name": descriptor.image_name,
        "reference": descriptor.reference,
        "digest": descriptor.digest,
        "format": descriptor.format,
        "media_type": descriptor.media_type,
        "size": descriptor.size,
        "packed_size": entry.packed_size,
        "state": entry.state.word,
        "descriptor": descriptor.as_dict(),
    }


def _row(entry: Entry, now: float) -> list[str]:
    age = None if entry.modified is None else max(0.0, now - entry.modified)
    return [
        entry.name,
        entry.reference,
        entry.format,
        entry.short_digest,
        entry.platform,
        human_size(entry.packed_size),
        human_age(age),
        entry.state.word,
    ]
