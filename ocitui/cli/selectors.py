"""Entries and findings as an operator names them: by a word of `find_entry`, by a filter, by the beginning of an id."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ocitui.cache.errors import CorruptIndexError, NoSuchEntryError
from ocitui.cache.names import LEAST_DIGITS, NamedEntry, find_entry, spelled, stem_of

from .failures import UsageProblemError
from .options import FORMATS
from .output import say
from .prose import short_digest
from .settings import Settings

if TYPE_CHECKING:
    from ocitui.cache import ImageIndex, PackerCache
    from ocitui.cache.index import Key
    from ocitui.doctor.check.judge import Judge
    from ocitui.doctor.entries import Entries
    from ocitui.doctor.findings import Finding

_WHOLE = re.compile(rf"(sha256:[0-9a-f]{{64}}|sha512:[0-9a-f]{{128}})(?:\.(?:{'|'.join(FORMATS)}))?")
_MOST_ALIKE = 5


def whole_digest(word: str) -> str:
    """The digest that this is, with or without a format, and that needs no index to be understood; empty for others."""
    found = _WHOLE.fullmatch(word)
    return found[1] if found else ""


def find_named(index: ImageIndex, word: str, held: Collection[str] = ()) -> NamedEntry:
    """What a word names in an index, or among the digests ``held`` besides; what it overrules is told.

    Raises NoSuchEntryError, with what is alike, and AmbiguousDigestError.
    """
    named = find_entry(word, index.digests, index.names, held)
    if named is None:
        stem = stem_of(spelled(word))
        like = sorted({name for name in index.names if name and stem_of(name) == stem})[:_MOST_ALIKE]
        raise NoSuchEntryError(f"there is no entry {word}", hint=f"there is {', '.join(like)}" if like else "")
    if named.overruled:
        others = ", ".join(map(short_digest, named.overruled))
        say(f"note: {named.text} is {short_digest(named.digest)}, as for the daemon; {others} has it too", err=True)
    return named


def keys_of(index: ImageIndex, named: NamedEntry, formats: Collection[str] = ()) -> list[Key]:
    """The entries of what was named: those of the word's format or of those asked for, else of all formats there are,
    as they are preferred. Raises AmbiguousDigestError where the word's is another than those asked for."""
    if not (named.format or formats):
        found = dict.fromkeys(index.formats[at] for at in index.positions(named.digest))
        return [(named.digest, one) for one in sorted(found, key=lambda one: (*FORMATS, one).index(one))]
    asked = [named.format] if not formats or named.format in formats else map(named.asked_format, formats)
    return [(named.digest, one) for one in asked]


def chosen_keys(
    settings: Settings, index: ImageIndex, words: Sequence[str], filter_text: str | None, formats: Collection[str] = ()
) -> list[Key]:
    """The entries that words name, or that pass a filter, in these formats or in all; each once.

    Raises UsageProblemError where neither or both are given, NoSuchEntryError, AmbiguousDigestError.
    """
    if filter_text is None:
        return list(dict.fromkeys(key for word in words for key in keys_of(index, find_named(index, word), formats)))
    judge, entries = judged_entries(settings, filter_text)
    keys = [(entries.digests[at], entries.formats[at]) for at in passing(judge, entries, filter_text)]
    if chosen := list(dict.fromkeys(key for key in keys if not formats or key[1] in formats)):
        return chosen
    raise NoSuchEntryError(f"no entry passes the filter {filter_text!r}")


def need_entries(words: Sequence[str], filter_text: str | None) -> None:
    """Raises UsageProblemError unless entries are named, or a filter is given that says something."""
    if bool(words) == (filter_text is not None):
        what = "entries are named, and --filter is given" if words else "no entry is named"
        raise UsageProblemError(what, hint="name entries, or give --filter TEXT; ocitui list shows them")
    if filter_text is not None and not filter_text.strip():
        raise UsageProblemError("the filter is empty, and every entry passes it", hint="give --filter some text")


def judged_entries(settings: Settings, filter_text: str) -> tuple[Judge, Entries]:
    """The entries of the cache, and who says how they are. Raises UsageProblemError, with what was meant, for a filter
    that cannot be understood, CorruptIndexError, CacheDirectoryError."""
    from ocitui.cache import ImageIndex
    from ocitui.cache.listing import CacheFiles
    from ocitui.doctor.check.index_checks import read_index
    from ocitui.doctor.check.judge import Judge
    from ocitui.doctor.entries import Entries

    judge = Judge(settings.directory)
    with CacheFiles(settings.directory) as files:
        reading = read_index(files)
    reading.require_sound(settings.directory)
    judge.begin(reading)
    entries = Entries(reading.index or ImageIndex.empty(), judge, _users(settings, filter_text))
    if misunderstood := entries.misunderstood(filter_text):
        raise UsageProblemError(misunderstood[0], hint=misunderstood[1])
    return judge, entries


def passing(judge: Judge, entries: Entries, filter_text: str) -> Iterator[int]:
    """The positions that pass, in order, as far as everything up to them was looked into."""
    passes, waiting, position = entries.test(filter_text), set(judge.pending), 0
    digests, end = entries.index.digests, len(entries)
    for looked in judge.look():
        waiting.difference_update(looked)
        while position < end and digests[position] not in waiting:
            if passes(position):
                yield position
            position += 1
    yield from (rest for rest in range(position, end) if passes(rest))


def _users(settings: Settings, filter_text: str) -> Mapping[str, str]:
    """Which loop devices hold which packed file; nobody pays for a look at them who does not ask for it."""
    if "used:" not in filter_text.lower():
        return {}
    from ocitui.doctor.loop_devices import users_by_name

    return users_by_name(settings.directory)


async def find_keys(cache: PackerCache, words: Sequence[str]) -> frozenset[Key] | None:
    """The entries that these words name; None, which is all, where there is no word.

    Where the daemon would not load the index, the files tell what entries there are. Raises NoSuchEntryError,
    AmbiguousDigestError, CacheDirectoryError.
    """
    from ocitui.cache import ImageIndex

    if not words:
        return None
    held: list[Key] = []
    try:
        index = await cache.index()
    except CorruptIndexError:
        index, held = ImageIndex.empty(), keys_of_files(cache.directory)
    chosen: set[Key] = set()
    for word in words:
        named = find_named(index, word, dict(held))
        chosen.update(keys_of(index, named) or [key for key in held if key[0] == named.digest])
    return frozenset(chosen)


def keys_of_files(directory: Path) -> list[Key]:
    """The digests and formats of which there is a packed file. Raises CacheDirectoryError."""
    from ocitui.cache.listing import CacheFiles, Listing

    with CacheFiles(directory) as files:
        listing = Listing.read(files)
    return [(digest, format_) for digest in listing.held() for format_ in listing.formats(digest)]


class NoSuchFindingError(NoSuchEntryError):
    code = "no-such-finding"
    default_hint = "ocitui check shows the findings with their ids; --only also takes codes, digests and names"


def fingerprints(word: str, findings: Sequence[Finding]) -> list[str]:
    """The fingerprints that begin so. Raises UsageProblemError where these are several."""
    found = list(dict.fromkeys(one.fingerprint for one in findings if one.fingerprint.startswith(word)))
    if len(word) < LEAST_DIGITS:
        return []
    if len(found) > 1:
        raise UsageProblemError(f"{word} begins the ids of {len(found)} findings", hint="give more of its digits")
    return found
