"""The quick check of every entry, and what deep checks found before, kept up to date for a screen: only what changed
is looked at again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ocitui.cache import CacheDirectoryError, Descriptor, EntryKey, PackedFormat
from ocitui.cache.files import config_name, manifest_name, packed_name

from ..findings import Finding
from ..report import in_order
from .cache_checks import check_own, inferred_formats, oddities
from .descriptor_checks import DescriptorChecks, valid_digest
from .directory import CacheFiles, Facts
from .document_checks import Carriers
from .entry_checks import check_digest
from .entry_files import Holdings, part_of
from .found_before import FoundBefore
from .history import known_history
from .survey import Survey
from .usual_entries import UsualDocuments, unusual

_BATCH = 256
Findings = tuple[Finding, ...]
_NONE: Findings = ()


class EntryExaminer:
    """What is wrong with each entry. It is for one thread at a time, and none that draws a screen.

    `examine` takes what a `Difference` of the cache's watch tells; `findings` may be asked at any time.
    """

    def __init__(self, directory: Path, open_files: Callable[[Path], CacheFiles] = CacheFiles) -> None:
        self._directory, self._open = directory, open_files
        self._before = FoundBefore(directory)
        self._checks, self._documents = DescriptorChecks(), UsualDocuments()
        self._facts: Facts = {}
        self._holdings = Holdings()
        self._keys: Sequence[EntryKey] = ()
        self._entries: dict[EntryKey, Descriptor] = {}
        self._of_digest: dict[str, list[EntryKey]] = {}
        self._positions: dict[EntryKey, int] = {}
        self._of_index: dict[EntryKey, Findings] = {}
        self._of_files: dict[str, Findings] = {}
        # A dictionary, because files are found quickest in the order they were listed in.
        self._pending: dict[str, None] = {}

    def findings(self, key: EntryKey) -> Findings:
        """What is wrong with an entry; the faults of a shared document are those of each of its formats."""
        position, (digest, format_, _, _) = self._positions.get(key), key
        of_files = self._of_files.get(digest, _NONE)
        return (
            *self._of_index.get(key, _NONE),
            *(replace(one, position=position) for one in of_files if one.format in ("", format_)),
        )

    def with_findings(self) -> list[EntryKey]:
        """The entries that have any, in order."""
        return [key for key in self._keys if key in self._of_index or key[0] in self._of_files]

    def examine(
        self, descriptors: Sequence[Descriptor], keys: Sequence[EntryKey], names: Collection[str] | None = None
    ) -> Generator[set[EntryKey]]:
        """Look at what changed: in the index, and of ``names`` in the directory, any of them where it is None.

        Gives the entries whose findings may have changed, some hundred at a time. Who stops between two loses nothing:
        the next call goes on. A directory that cannot be listed leaves all as it was.
        """
        with suppress(CacheDirectoryError), self._open(self._directory) as files:
            self._look(files, names)
            self._take(descriptors, keys)
            yield self._check_index(descriptors)
            while self._pending:
                digests = [digest for digest, _ in zip(self._pending, range(_BATCH), strict=False)]
                changed = self._check_files(files, digests)
                for digest in digests:
                    del self._pending[digest]
                yield changed

    def _look(self, files: CacheFiles, names: Collection[str] | None) -> None:
        """Have the digests looked at of which a file changed."""
        if names is None or not self._facts:
            before, self._facts = self._facts, files.survey()
            self._holdings = Holdings(self._facts)
            changed = [name for name, fact in self._facts.items() if before.get(name) != fact]
            changed += before.keys() - self._facts.keys()
        else:
            changed = list(files.refresh(self._facts, names))
            for name in changed:
                (self._holdings.add if name in self._facts else self._holdings.remove)(name)
        self._pending.update((part[0], None) for name in changed if (part := part_of(name)) is not None)
        with suppress(OSError):
            self._pending.update((digest, None) for digest in self._before.refresh())

    def _take(self, descriptors: Sequence[Descriptor], keys: Sequence[EntryKey]) -> None:
        """Have the digests looked at of which an entry came, went or changed."""
        if keys is self._keys:
            return
        before, self._entries = self._entries, dict(zip(keys, descriptors, strict=True))
        self._keys, self._positions = keys, {key: position for position, key in enumerate(keys)}
        get = before.get
        came = [key for key, one in self._entries.items() if (old := get(key)) is not one and old != one]
        went = before.keys() - self._entries.keys()
        for digest in {key[0] for key in went}:
            self._of_digest[digest] = [key for key in self._of_digest[digest] if key not in went]
        for key in came:
            known = self._of_digest.setdefault(key[0], [])
            if key not in known:
                known.append(key)
        self._pending.update((key[0], None) for key in (*came, *went))

    def _check_index(self, descriptors: Sequence[Descriptor]) -> set[EntryKey]:
        before = self._of_index
        found: dict[EntryKey, list[Finding]] = {}
        for finding in self._checks.check(descriptors, inferred_formats(self._holdings, descriptors)):
            if finding.position is not None:
                found.setdefault(self._keys[finding.position], []).append(finding)
        self._of_index = {key: tuple(findings) for key, findings in found.items()}
        return {key for key in before.keys() | found.keys() if before.get(key) != self._of_index.get(key)}

    def _check_files(self, files: CacheFiles, digests: Collection[str]) -> set[EntryKey]:
        changed: set[EntryKey] = set()
        groups = {digest: group for digest in digests if valid_digest(digest) and (group := self._group(digest))}
        self._documents.read_of(files, self._facts, groups)
        odd = set(unusual(self._documents, self._facts, groups, groups))
        for digest in digests:
            findings = _NONE
            if digest in odd:
                findings = check_digest(files, self._facts, digest, groups[digest]).findings
                findings += tuple(oddities(_facts_of(self._facts, digest)))
            if digest in self._before.by_digest and digest in groups:
                findings += tuple(self._before.of(files, digest, groups[digest]))
            if findings != self._of_files.get(digest, _NONE):
                changed.update(self._of_digest.get(digest, ()))
            if findings:
                self._of_files[digest] = findings
            else:
                self._of_files.pop(digest, None)
        return changed

    def _group(self, digest: str) -> Carriers:
        """The entries of a digest, in order."""
        positions = sorted(self._positions[key] for key in self._of_digest.get(digest, ()))
        return [(position, self._entries[self._keys[position]]) for position in positions]


def _facts_of(facts: Facts, digest: str) -> Facts:
    """What is known of the files of a digest."""
    names = (manifest_name(digest), config_name(digest), *(packed_name(digest, format_) for format_ in PackedFormat))
    return {name: facts[name] for name in names if name in facts}


def check_cache(directory: Path) -> tuple[Finding, ...]:
    """The findings that are of no entry of the index, in order. No file of an entry is opened.

    Raises CacheDirectoryError.
    """
    with CacheFiles(directory) as files:
        survey = Survey.of(files)
    history = known_history(directory, survey.reading.index)
    findings = [one for one in survey.index_findings(DescriptorChecks(), history) if one.position is None]
    named = {descriptor.digest for descriptor in survey.descriptors}
    # What is odd about an entry's file is the entry's; a file that no descriptor names is nobody's.
    findings += [
        one
        for one in survey.listing_findings(history)
        if one.digest not in named or one.code in ("orphan-entry", "orphan-file")
    ]
    return in_order([*findings, *check_own(directory)])
