"""What is wrong beside single entries: files nobody names, odd names and modes, our own folder, the host."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ocitui.cache import Descriptor, FileKind, PackedFormat, TransactionState
from ocitui.cache.daemon import find_daemon
from ocitui.cache.files import INDEX_NAME, OWN_NAME, config_name, manifest_name, packed_name
from ocitui.cache.journal import PUBLISHED, PUBLISHING, decode_transaction
from ocitui.cache.lock import LOCK_NAME

from ..catalogue import CATALOGUE
from ..findings import Finding
from .directory import Fact, Facts
from .entry_files import Holdings, format_bits, named_bits, part_of

_OWN_PREFIX = OWN_NAME
_FORMATS = frozenset(str(format_) for format_ in PackedFormat)
_OURS = frozenset((INDEX_NAME, OWN_NAME))


def inferred_formats(holdings: Holdings, descriptors: Iterable[Descriptor]) -> dict[str, str]:
    """For each digest whose format is not known, the format of its packed file where there is exactly one."""
    inferred = {}
    for descriptor in descriptors:
        if descriptor.format not in _FORMATS:
            formats = holdings.formats(descriptor.digest)
            if len(formats) == 1:
                inferred[descriptor.digest] = str(formats[0])
    return inferred


def orphans(
    holdings: Holdings, descriptors: Iterable[Descriptor], spared: Collection[Descriptor] = ()
) -> Iterator[Finding]:
    """Files that no descriptor names; ``spared`` are descriptors that are to count too."""
    named: dict[str, int] = {}
    for source in (descriptors, spared):
        named_bits(source, named)
    for digest in holdings.unnamed(named):
        yield from _orphans_of(holdings, digest, named.get(digest))


def _orphans_of(holdings: Holdings, digest: str, named: int | None) -> Iterator[Finding]:
    whole = holdings.has_documents(digest)
    unnamed = [format_ for format_ in holdings.formats(digest) if not format_bits([format_]) & (named or 0)]
    for format_ in unnamed:
        yield _orphan(digest, format_, packed_name(digest, format_), FileKind.PACKED, whole=whole)
    if named is None and not (whole and unnamed):
        for kind in holdings.documents(digest):
            name = manifest_name(digest) if kind is FileKind.MANIFEST else config_name(digest)
            yield _orphan(digest, "", name, kind, whole=False)


def _orphan(digest: str, format: str, file: str, kind: FileKind, *, whole: bool) -> Finding:
    if whole:
        fault, seen = CATALOGUE["orphan-entry"], "a packed file with both documents, which no descriptor names"
    else:
        fault, seen = CATALOGUE["orphan-file"], "no descriptor names this file"
    return fault.finding(seen, digest=digest, format=format, file=file, kind=kind)


def strangers(facts: Facts, names: Iterable[str]) -> Iterator[Finding]:
    """What is neither an entry's file nor the index; ``names`` are those that no entry's file has."""
    for name in names:
        if name in _OURS:
            continue
        fact = facts.get(name)
        if name.startswith(_OWN_PREFIX):
            yield CATALOGUE["leftover-temporary"].finding("a temporary file of ocitui", file=name)
        elif fact is not None:
            yield CATALOGUE["unknown-file"].finding(f"{fact.word} that belongs to no entry", file=name)


def oddities(facts: Facts) -> Iterator[Finding]:
    """Files of entries, and the index, with a second name or a mode in which they cannot be read."""
    for name, fact in [(name, fact) for name, fact in facts.items() if not fact.plain]:
        part = part_of(name) if fact.regular else None
        if part is not None or (fact.regular and name == INDEX_NAME):
            yield from _odd(name, fact, part)


def _odd(name: str, fact: Fact, part: tuple[str, FileKind | PackedFormat] | None) -> Iterator[Finding]:
    digest, kind = part or ("", None)
    format_ = str(kind) if isinstance(kind, PackedFormat) else ""
    file_kind = FileKind.PACKED if isinstance(kind, PackedFormat) else kind
    if fact.links > 1:
        seen = f"the file has {fact.links} names"
        yield CATALOGUE["hardlinked"].finding(seen, digest=digest, format=format_, file=name, kind=file_kind)
    if not fact.mode & stat.S_IRUSR:
        seen = f"its mode is {stat.S_IMODE(fact.mode):04o}: its owner may not read it"
        yield CATALOGUE["wrong-mode"].finding(seen, digest=digest, format=format_, file=name, kind=file_kind)


def collisions(names: Collection[str]) -> Iterator[Finding]:
    """Names that are equal but for case."""
    first: dict[str, str] = {}
    for name in sorted(name for name in names if not name.islower()):
        folded = name.lower()
        if folded == name:
            continue
        other = folded if folded in names else first.setdefault(folded, name)
        if other != name:
            yield CATALOGUE["case-collision"].finding(f"{other!r} differs from it only in case", file=name)


_LOCKS = Path("/proc/locks")
_OLD_SECONDS = 600.0
_STAGING, _JOURNAL = "staging", "journal"
_DRAFT, _TEMPORARY = ".draft", ".temporary"
_UNFINISHED = (TransactionState.PENDING, PUBLISHING, PUBLISHED)


def check_own(directory: Path) -> Iterator[Finding]:
    """Nothing where there is no such folder."""
    own = directory / OWN_NAME
    busy = locked(own)
    for path, text in (
        *_leftovers(own / _STAGING, ""),
        *_leftovers(own / _JOURNAL, _DRAFT),
        *_leftovers(own, _TEMPORARY),
    ):
        if not busy and text:
            yield CATALOGUE["leftover-temporary"].finding(text, file=str(path.relative_to(directory)))
    for path in _records(own / _JOURNAL):
        yield from _check_record(path, busy=busy)


def locked(own: Path) -> bool:
    """Whether a writer of ours is at work, as /proc/locks tells: taking the lock to see could make a writer fail."""
    try:
        found = os.lstat(own / LOCK_NAME)
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return False
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return any(" FLOCK " in line and place in line.split() for line in lines)


def _leftovers(folder: Path, ending: str) -> Iterator[tuple[Path, str]]:
    oldest = time.time() - _OLD_SECONDS
    with suppress(OSError):
        for name in sorted(os.listdir(folder)):
            with suppress(OSError):
                if name.endswith(ending) and os.lstat(folder / name).st_mtime < oldest:
                    yield folder / name, "a temporary file that an interrupted writer left"


def _records(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    except OSError:
        return []


def _check_record(path: Path, *, busy: bool) -> Iterator[Finding]:
    parts, file = path.name.split("."), f"{OWN_NAME}/{_JOURNAL}/{path.name}"
    try:
        decode_transaction(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        seen = f"the record of transaction {parts[0]} cannot be read: {reason}"
        yield CATALOGUE["journal-damaged"].finding(seen, file=file)
        return
    if not busy and len(parts) == 3 and parts[1].startswith(_UNFINISHED):
        yield CATALOGUE["transaction-pending"].finding(f"transaction {parts[0]} was interrupted", file=file)


LEAST_FREE = 64 << 20
"""Bytes; with less the daemon's next store may fail in the middle of its index."""
_PROC = Path("/proc")


def check_host(directory: Path, proc: Path = _PROC) -> Iterator[Finding]:
    """The findings, all of them for information only."""
    yield from _file_system(directory)
    daemon = find_daemon(directory, proc)
    if daemon.process is not None:
        since = f" since {datetime.fromtimestamp(daemon.since, UTC):%Y-%m-%d %H:%M:%SZ}" if daemon.since else ""
        whose = "" if daemon.ours else ", though its socket is not where that of this cache would be"
        seen = f"kratad runs as process {daemon.process}{since}{whose}"
        yield CATALOGUE["daemon-running"].finding(seen)


def _file_system(directory: Path) -> Iterator[Finding]:
    try:
        found = os.statvfs(directory)
    except OSError:
        return
    if found.f_flag & os.ST_RDONLY:
        yield CATALOGUE["cache-read-only"].finding("its file system is mounted read-only")
    elif not os.access(directory, os.W_OK | os.X_OK):
        yield CATALOGUE["cache-read-only"].finding("this user may not write to it")
    free = found.f_bavail * found.f_frsize
    if free < LEAST_FREE:
        yield CATALOGUE["disk-full"].finding(f"{free} bytes are free")
    elif found.f_files and not found.f_favail:
        yield CATALOGUE["disk-full"].finding("no inode is free")
