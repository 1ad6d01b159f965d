"""index.json against the daemon's types, and against what it held before; its descriptors, without the directory."""

from __future__ import annotations

import errno
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ocitui.cache import (
    DESCRIPTOR,
    IMAGE_INDEX,
    INDEX_NAME,
    LATEST,
    CacheDirectoryError,
    CacheFiles,
    Descriptor,
    DocumentError,
    Fact,
    FileKind,
    ImageIndex,
    ImageName,
    IndexFile,
    IndexOutcome,
    InvalidNameError,
    Key,
    Listing,
    PackedFormat,
    Scanner,
    Value,
    Verdict,
    index_signature,
    known_format,
    next_element,
    read_patiently,
    usable_digest,
    usual_digest,
    valid_digest,
)
from ocitui.text import counted

from ..findings import (
    CATALOGUE,
    DIGEST_OUTSIDE,
    INDEX_DEAD_LINK,
    INDEX_LINK,
    INDEX_PIPE,
    INDEX_UNREADABLE,
    NEW_CACHE,
    Finding,
    Where,
)

if TYPE_CHECKING:
    # Their files hold what changes the cache too, which a reader does not load.
    from ocitui.cache import Backup, Identity, Overwritten, Transaction


class History(msgspec.Struct, frozen=True):
    """``backup`` holds the descriptors of the newest backup that is not today's index, ``copy`` is that backup, and
    ``since`` the transactions done here after it; ``overwritten`` is what another writer's rewrite undid of those of
    the whole journal. ``late`` are indexes that were written after they had been displaced, by the file's name."""

    backup: Sequence[Descriptor] = ()
    since: Sequence[Transaction] = ()
    copy: Backup | None = None
    overwritten: Sequence[Overwritten] = ()
    late: Mapping[str, History] = msgspec.field(default_factory=dict)

    @property
    def came_back(self) -> dict[str, frozenset[str]]:
        """The formats, by digest, of the entries that were deleted and are in the index again."""
        found: dict[str, frozenset[str]] = {}
        for one in (one for lost in self.overwritten for one in lost.returned):
            found[one.digest] = found.get(one.digest, frozenset()) | {one.format or ""}
        return found

    def gone_from(self, today: ImageIndex) -> list[Descriptor]:
        """The entries of the backup that are gone by digest and format, and that no transaction of ours took out; none
        where all of them are explained as edits of ours that were undone."""
        if not self.backup:
            return []
        there = set(zip(today.digests, today.formats, strict=True))
        for transaction in self.since:
            there.update((digest, format_) for digest, format_, _ in transaction.taken_out)
        gone = [descriptor for descriptor in self.backup if descriptor.key not in there]
        return gone if gone and {descriptor.key for descriptor in gone} - self._undone else []

    @property
    def _undone(self) -> set[Key]:
        """The entries that an edit of ours put in, and that are gone with it."""
        return {one.key for lost in self.overwritten for one in lost.missing}

    def explained(self, today: ImageIndex) -> set[Key]:
        """The entries that are gone by a finding of their own, so that their files are no orphans."""
        return self._undone | {one.key for one in self.gone_from(today)}


NO_HISTORY = History()


class IndexReading(IndexFile, frozen=True, kw_only=True):
    """``fact`` is None where there is none; ``failure`` is why it could not be read, ``code`` that error's number."""

    fact: Fact | None = None
    failure: str = ""
    code: int = 0

    @classmethod
    def none(cls) -> IndexReading:
        """What is known before anything was read."""
        return cls(None, Verdict(IndexOutcome.CREATED), None)

    @classmethod
    def of(cls, files: CacheFiles, seen: IndexFile) -> IndexReading:
        """The same of a file that was read elsewhere."""
        return cls(*msgspec.structs.astuple(seen), fact=files.fact(INDEX_NAME))

    def is_current(self, directory: Path) -> bool:
        """Whether index.json is the file it was when it was read."""
        return index_signature(directory) == self.signature

    def require_sound(self, directory: Path) -> None:
        """Raises CacheDirectoryError too, where it cannot be read."""
        if self.failure:
            raise CacheDirectoryError(f"{directory / INDEX_NAME} cannot be read: {self.failure}")
        super().require_sound(directory)


def read_index(files: CacheFiles, previous: ImageIndex | None = None) -> IndexReading:
    """Read it, again for a second while it does not read. Raises CacheDirectoryError where the directory is gone."""
    fact = files.fact(INDEX_NAME)
    if fact is not None and not fact.link and not fact.regular and not fact.failed:
        verdict = Verdict(IndexOutcome.ERROR, message=f"it is {fact.word}")
        return IndexReading(index_signature(files.directory), verdict, None, fact=fact)
    try:
        if fact is not None and fact.regular:
            with suppress(FileNotFoundError):
                files.open(INDEX_NAME).close()
        return IndexReading.of(files, read_patiently(files.directory, previous))
    except (OSError, CacheDirectoryError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or fact is None:
            raise
    reason = cause.strerror or str(cause)
    verdict = Verdict(IndexOutcome.ERROR, message=reason)
    return IndexReading(None, verdict, None, fact=fact, failure=reason, code=cause.errno or errno.EIO)


# What serde says where JSON is whole but of another type; all else it says is about the text itself.
_OF_TYPE = ("invalid type", "invalid value", "invalid length", "missing field")


def check_index(reading: IndexReading, complete: int, files: int, history: History) -> list[Finding]:
    """The findings about the file, beside so many ``complete`` entries, and ``files`` that could be of entries."""
    if reading.fact is None:
        return [_missing(complete, files, history)]
    if reading.failure:
        seen = f"index.json cannot be read: {reading.failure}"
        return [_UNREADABLE.get(reading.code, INDEX_UNREADABLE).finding(seen, path=INDEX_NAME)]
    findings = _kind_findings(reading.fact, reading.verdict)
    if reading.index is not None:
        return findings + _contents_findings(reading.index, complete, history)
    if reading.data is not None and (reading.fact.regular or reading.fact.link) and reading.verdict.line:
        findings += broken_findings(reading)
    return findings


def _missing(complete: int, files: int, history: History) -> Finding:
    if files or history.backup:
        seen = f"there is no index.json, beside {counted(complete, 'entry')} complete on disk"
        return CATALOGUE["index-missing"].finding(seen, path=INDEX_NAME)
    return NEW_CACHE.finding("there is no index.json, and nothing that it could hold: a new cache", path=INDEX_NAME)


_UNREADABLE = {
    errno.EACCES: CATALOGUE["wrong-mode"],
    errno.EPERM: CATALOGUE["wrong-mode"],
    errno.EFBIG: CATALOGUE["index-unparsable"],
}


def _kind_findings(fact: Fact, verdict: Verdict) -> list[Finding]:
    if fact.regular:
        return []
    fault, seen = CATALOGUE["index-not-a-file"], f"index.json is {fact.word}"
    if fact.link and verdict.outcome is IndexOutcome.CREATED:
        fault, seen = INDEX_DEAD_LINK, f"{seen} to nothing"
    elif fact.link:
        fault = INDEX_LINK
    elif fact.word != "a directory":
        fault = INDEX_PIPE
    return [fault.finding(seen, path=INDEX_NAME)]


def _contents_findings(index: ImageIndex, complete: int, history: History) -> list[Finding]:
    gone, is_emptied = history.gone_from(index), not len(index) and complete > 0
    # What is gone of an edit of ours is no finding of its own where other entries are gone too.
    alone = [one for one in history.overwritten if one.returned or one.moved_back or not (gone or is_emptied)]
    findings = [overwritten_finding(lost) for lost in alone]
    for file, late in history.late.items():
        if missing := late.gone_from(index):
            are = counted(len(missing), "entry of it is", "entries of it are")
            seen = f"a program wrote it after it had been displaced, and {are} not in index.json: {_names(missing)}"
            findings.append(CATALOGUE["index-late-update"].finding(seen, path=file))
    if is_emptied:
        return [*findings, emptied(complete)]
    if gone:
        are = counted(len(gone), "entry of the newest backup is", "entries of the newest backup are")
        seen = f"{are} gone: {_names(gone)}"
        findings.append(CATALOGUE["index-shrunk"].finding(seen, path=INDEX_NAME))
    return findings


def _names(gone: Sequence[Descriptor]) -> str:
    from ocitui.cache import some_of

    return some_of(one.image_name or one.digest for one in gone)


def emptied(complete: int) -> Finding:
    """What is found where an index has no entry, and the directory the files of so many."""
    seen = f"index.json holds no entry, beside {counted(complete, 'entry')} complete on disk"
    return CATALOGUE["index-emptied"].finding(seen, path=INDEX_NAME)


def overwritten_finding(lost: Overwritten) -> Finding:
    """One finding for an edit that was undone, with the names that the journal has of its entries."""
    transaction, entries = lost.transaction, (*lost.returned, *lost.missing, *lost.moved_back)
    parts = ((lost.returned, "back"), (lost.missing, "gone"), (lost.moved_back, "back in the old order"))
    words = [f"{_names(some)} {'is' if len(some) == 1 else 'are'} {word}" for some, word in parts if some]
    seen = f"{', '.join(words)}: the {transaction.kind} of transaction {transaction.id} is gone from the index again"
    at = where(entries[0]) if len(entries) == 1 else Where()
    at["path"] = INDEX_NAME
    return CATALOGUE["index-overwritten"].finding(seen, **at)


class _Elements(msgspec.Struct):
    """The manifests array as a type for the strict reader: it notes where each element stands, and reads none."""

    starts: list[int]

    def read(self, scanner: Scanner) -> Value:
        if scanner.peek_value() != b"[":
            return IMAGE_INDEX.fields["manifests"].read(scanner)
        scanner.at += 1
        while next_element(scanner, first=not self.starts):
            scanner.peek()
            self.starts.append(scanner.at)
            scanner.ignore_value()
        scanner.at += 1
        return None


def broken_findings(reading: IndexReading) -> list[Finding]:
    """Why the daemon would not load these bytes: the text, the index's own fields, or single descriptors."""
    verdict, data = reading.verdict, reading.data or b""
    if verdict.outcome is IndexOutcome.ERROR:
        return [CATALOGUE["index-not-utf8"].finding(verdict.place, path=INDEX_NAME)]
    unparsable = CATALOGUE["index-unparsable"].finding(verdict.place, path=INDEX_NAME)
    if not verdict.message.startswith(_OF_TYPE) or not _is_json(data):
        return [unparsable]
    elements, findings = _Elements([]), list[Finding]()
    fields = {**IMAGE_INDEX.fields, "manifests": elements}
    try:
        msgspec.structs.replace(IMAGE_INDEX, fields=fields).read(Scanner(data))
    except DocumentError as error:
        findings.append(_refused(error, "index-schema"))
    for position, start in enumerate(elements.starts):
        try:
            DESCRIPTOR.read(Scanner(data, start))
        except DocumentError as error:
            findings.append(_refused(error, "descriptor-invalid", position))
    return findings or [unparsable]


def _refused(error: DocumentError, code: str, position: int | None = None) -> Finding:
    """The finding of this code, unless the text itself is broken there."""
    fault = CATALOGUE[code if error.message.startswith(_OF_TYPE) else "index-unparsable"]
    return fault.finding(error.placed, path=INDEX_NAME, position=position)


_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode


def _is_json(data: bytes) -> bool:
    """Whether all of it is JSON by its grammar, as the daemon's parser has it."""
    with suppress(ValueError, RecursionError):
        _decode_raw(data)
        return True
    scanner = Scanner(data)
    with suppress(DocumentError):
        scanner.ignore_value()
        scanner.end()
        return True
    return False


# Names that krata surely spells as they are, and resolves: without a host, or with one that is not the default.
_USUAL_NAME = re.compile(
    r"(?:(?!library/)[\w-]+|(?!mirror\.gcr\.io/)[\w-]+(?:\.[\w-]+)+/[\w-]+)(?:/[\w-]+)?(?::(?!latest\Z)[\w.-]+)?",
    re.ASCII,
).fullmatch


def where(one: Descriptor, kind: FileKind | None = None, position: int | None = None) -> Where:
    """What a finding says of an entry, and of that file of it."""
    said, name = one.format or "", one.image_name or ""
    return Where(digest=one.digest, format=said, name=name, position=position, kind=kind)


_FORMATS: frozenset[str | None] = frozenset(PackedFormat)


def inferred_formats(listing: Listing, index: ImageIndex) -> dict[str, str]:
    """For each digest whose format is not known, the format of its packed file where there is exactly one."""
    keys = zip(index.digests, index.formats, strict=True)
    there = {digest: listing.formats(digest) for digest, format_ in keys if format_ not in _FORMATS}
    return {digest: str(formats[0]) for digest, formats in there.items() if len(formats) == 1}


class DescriptorChecks:
    """Checks index after index, quicker where a name was seen before."""

    def __init__(self) -> None:
        # The names of the index before, and all that are not as they should be.
        self._names: Container[str | None] = ()
        self._odd: set[str | None] = set()

    def check(self, index: ImageIndex, inferred: dict[str, str]) -> list[Finding]:
        """The findings, in no order. ``inferred`` are formats of digests whose one packed file tells them."""
        findings: list[Finding] = []
        before, odd, self._names = self._names, self._odd, index.winners
        for position, (digest, format_, name) in enumerate(zip(index.digests, index.formats, index.names, strict=True)):
            if name not in before and not (name is not None and _USUAL_NAME(name)):
                odd.add(name)
            if name in odd or known_format(format_) is None or not usual_digest(digest):
                at = Where(digest=digest, format=format_ or "", name=name or "", position=position)
                findings += self._single(at, format_, name, inferred)
        if len(index.winners) < len(index):
            findings += _repeated(index)
        return findings

    def _single(self, at: Where, format: str | None, name: str | None, inferred: dict[str, str]) -> Iterator[Finding]:
        digest = at["digest"]
        if not valid_digest(digest):
            if not usable_digest(digest) and ".." in digest:
                yield DIGEST_OUTSIDE.finding(f"the digest {digest!r} leads out of the cache", **at)
            else:
                seen = f"{digest!r} is not an algorithm, a colon and as many hexadecimal digits as that has"
                yield CATALOGUE["digest-invalid"].finding(seen, **at)
            return
        if known_format(format) is None:
            seen = "it has no format" if format is None else f"the format {format!r} is none there is"
            hint = f"; the one packed file beside it is {inferred[digest]}" if digest in inferred else ""
            yield CATALOGUE["format-unknown"].finding(seen + hint, **at)
        if name is None:
            yield CATALOGUE["name-missing"].finding("it has no name", **at)
        elif problem := _name_problem(name):
            yield CATALOGUE[problem[0]].finding(problem[1], **at)
        else:
            self._odd.discard(name)


def _name_problem(name: str) -> tuple[str, str] | None:
    try:
        parsed = ImageName.parse(name)
    except InvalidNameError as error:
        return "name-not-canonical", error.message
    spelling = str(parsed)
    if spelling != name:
        return "name-not-canonical", f"the name is {name!r}, which krata spells {spelling!r}"
    if parsed.reference == LATEST:
        return "latest-never-resolves", f"the tag of {name!r} is {LATEST}"
    return None


def _repeated(index: ImageIndex) -> Iterator[Finding]:
    """Entries that a later one repeats, and names that a later entry of another digest takes."""
    identities, winners = [*zip(index.digests, index.formats, index.names, strict=True)], index.winners
    last: dict[Identity, int] = {identity: position for position, identity in enumerate(identities)}
    for position, (digest, format_, name) in enumerate(identities):
        if last[digest, format_, name] != position:
            code, seen = "entry-duplicate", "a later entry has the same digest, format and name"
        elif name is not None and winners[name] != digest:
            code, seen = "name-duplicate", f"the name resolves to the later entry {winners[name]}"
        else:
            continue
        at = Where(digest=digest, format=format_ or "", name=name or "", position=position)
        yield CATALOGUE[code].finding(seen, **at)
