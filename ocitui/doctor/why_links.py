"""The links of the chain behind an entry: its three files, what the documents and the packed file say, its content."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ocitui.cache import FileKind, PackedFormat
from ocitui.cache.files import file_names, packed_name
from ocitui.cache.ledger import Ledger
from ocitui.cache.listing import Fact
from ocitui.text import timestamp

from .check.document_checks import has_digest
from .check.judge import Judge
from .finding_texts import found_text
from .findings import Answer, Finding

REPAIR = "`ocitui repair` shows what can be brought back"
_IMPORT = "import it again, or let the daemon pull it: `ocitui repair` shows what there is to restore it from"
# While the bad file is there the daemon takes it for a hit, and pulls nothing.
_REPLACE = "`ocitui repair` restores it, or moves it aside: then it is a miss, and a pull by name brings it again"
_MOVE_ASIDE = "move it aside with `ocitui repair`: the error becomes a miss, which the daemon heals by pulling"


class LinkState(StrEnum):
    """UNKNOWN: it was not looked at, or cannot be told."""

    OK = "ok"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Link:
    """One step from a name to an answer; ``advice`` is what to do about it, empty where there is nothing to do."""

    title: str
    standing: LinkState
    text: str
    advice: str = ""


def ok_or_bad(ok: bool) -> LinkState:
    return LinkState.OK if ok else LinkState.BAD


_OF_FILE = frozenset({"file-missing", "file-not-regular", "read-error", "wrong-mode", "packed-empty"})
_OF_DOCUMENT = frozenset(
    f"{kind}-{fault}" for kind in (FileKind.MANIFEST, FileKind.CONFIG) for fault in ("unparsable", "digest")
) | {"manifest-is-index", "config-no-history"}
_OF_HEADER = frozenset({"packed-magic", "packed-truncated", "packed-damaged"})


def file_links(judge: Judge, digest: str, format_: PackedFormat, ledger: Ledger | None) -> Iterator[Link]:
    """What the judge found of an entry's files and of what is in them, each whatever the one before it was."""
    findings = judge.findings_of(digest, format_)
    facts = {kind: judge.listing.get(name) for kind, name in file_names(digest, format_).items()}
    links = _FileLinks(judge.directory, digest, format_, facts, findings)
    for kind in facts:
        yield links.file(kind)
    yield from links.documents()
    if facts[FileKind.PACKED] is not None and links.is_there(FileKind.PACKED):
        yield links.header(dict(judge.unchecked).get(packed_name(digest, format_), ""))
        yield links.content(ledger)


@dataclass(frozen=True, slots=True)
class _FileLinks:
    directory: Path
    digest: str
    format: PackedFormat
    facts: Mapping[FileKind, Fact | None]
    findings: Sequence[Finding]

    def _found(self, kind: FileKind, codes: Collection[str]) -> Finding | None:
        """What was found now of a file, the worst first."""
        of_file = [one for one in self.findings if one.kind is kind and one.code in codes and one.found is None]
        return next(iter(sorted(of_file, key=lambda one: -one.severity.rank)), None)

    def is_there(self, kind: FileKind) -> bool:
        """Whether there is a file that the daemon takes for one."""
        return self.facts[kind] is not None and self._found(kind, _OF_FILE - {"read-error", "wrong-mode"}) is None

    def file(self, kind: FileKind) -> Link:
        fact, name = self.facts[kind], file_names(self.digest, self.format)[kind]
        title = "packed file" if kind is FileKind.PACKED else kind.value
        if fact is None:
            return Link(title, LinkState.BAD, f"{name}: missing", _IMPORT)
        if (found := self._found(kind, _OF_FILE)) is not None and found.code != "wrong-mode":
            return Link(title, LinkState.BAD, f"{name}: {found.seen}", "move it aside with `ocitui repair`")
        if fact.link:
            return Link(title, LinkState.OK, f"{name}: a regular file, behind a link")
        return Link(title, LinkState.OK, f"{name}: a regular file of {fact.size} bytes")

    def documents(self) -> Iterator[Link]:
        """What each document that is there says."""
        for kind in (FileKind.MANIFEST, FileKind.CONFIG):
            if self.is_there(kind):
                yield self._document(kind)

    def _document(self, kind: FileKind) -> Link:
        title, found = f"{kind}'s content", self._found(kind, _OF_DOCUMENT | {"read-error", "wrong-mode"})
        if found is None:
            if has_digest(b"", self.digest) is None or (
                kind is FileKind.CONFIG and self._found(FileKind.MANIFEST, _OF_DOCUMENT | _OF_FILE)
            ):
                text = "the daemon reads it; whether it is what its digest says cannot be told"
                return Link(title, LinkState.UNKNOWN, text)
            return Link(title, LinkState.OK, f"the daemon reads it, and it is what its digest says{self._which(kind)}")
        advice = _REPLACE if found.answer is Answer.HIT else _MOVE_ASIDE
        return Link(title, LinkState.BAD, f"{found.seen}: {found.daemon}", advice)

    def _which(self, kind: FileKind) -> str:
        return f", {self.digest}" if kind is FileKind.MANIFEST else ""

    def header(self, unchecked: str) -> Link:
        found = self._found(FileKind.PACKED, _OF_HEADER)
        if found is not None:
            return Link(
                "header", LinkState.BAD, f"{found.seen}: the daemon does not look, and the guest fails later", _REPLACE
            )
        if unread := self._found(FileKind.PACKED, _OF_FILE):
            return Link("header", LinkState.BAD, unread.seen, _REPLACE)
        if unchecked:
            return Link("header", LinkState.UNKNOWN, f"{self.format}; not checked: {unchecked}")
        return Link("header", LinkState.OK, f"{self.format}, and the file is as long as its header says")

    def content(self, ledger: Ledger | None) -> Link:
        name, fact = packed_name(self.digest, self.format), self.facts[FileKind.PACKED]
        damage = next((one for one in self.findings if one.found is not None), None)
        if damage is not None and damage.found is not None:
            text = f"{damage.code}: {damage.seen}; {found_text(damage.found)}, and not read again now"
            return Link("content", LinkState.BAD, text, _REPLACE)
        recorded = None if ledger is None else ledger.look(name)
        if recorded is None:
            text = "no sha256 of it was recorded, so that a flipped bit would not show"
            return Link("content", LinkState.UNKNOWN, text, "`ocitui check --depth deep` reads and records it")
        checked = timestamp(recorded.checked)
        if fact is None or recorded.identity != fact.identity:
            text = f"it was written since its sha256 was recorded at {checked}"
            return Link("content", LinkState.UNKNOWN, text, "`ocitui check --depth deep` compares it")
        text = f"not written since its sha256 was recorded at {checked}; not read again now"
        return Link("content", LinkState.OK, text)
