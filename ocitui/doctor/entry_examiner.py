"""The quick check of every entry, kept up to date for a screen: only what changed is looked at again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ocitui.cache import CacheDirectoryError, Descriptor, EntryKey, PackedFormat
from ocitui.cache.files import config_name, manifest_name, packed_name

from .descriptor_checks import DescriptorChecks, valid_digest
from .document_checks import Carriers
from .entry_checks import check_digest, grouped
from .files import CacheFiles, Facts
from .findings import Finding
from .holdings import Holdings, part_of
from .listing_checks import inferred_formats, oddities
from .usual_entries import unusual

_BATCH = 256
Findings = tuple[Finding, ...]
_NONE: Findings = ()


class EntryExaminer:
    """What is wrong with each entry. It is for one thread at a time, and none that draws a screen.

    `examine` takes what a `Difference` of the cache's watch tells; `findings` may be asked at any time.
    """

    def __init__(self, directory: Path, open_files: Callable[[Path], CacheFiles] = CacheFiles) -> None:
        self._directory, self._open = directory, open_files
        self._checks = DescriptorChecks()
        self._facts: Facts = {}
        self._holdings = Holdings()
        self._descriptors: Sequence[Descriptor] | None = None
        self._keys: Sequence[EntryKey] = ()
        self._groups: dict[str, list[tuple[int, Descriptor]]] = {}
        self._positions: dict[EntryKey, int] = {}
        self._of_index: dict[EntryKey, Findings] = {}
        self._of_files: dict[str, Findings] = {}
        self._pending: set[str] = set()

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
            self._pending |= self._look(files, names)
            self._pending |= self._take(descriptors, keys)
            yield self._check_index()
            while self._pending:
                yield self._check_files(files, [self._pending.pop() for _ in range(min(_BATCH, len(self._pending)))])

    def _look(self, files: CacheFiles, names: Collection[str] | None) -> set[str]:
        """The digests of which a file changed."""
        if names is None or not self._facts:
            before, self._facts = self._facts, files.survey()
            self._holdings = Holdings(self._facts)
            changed = {name for name, fact in self._facts.items() if before.get(name) != fact}
            changed |= before.keys() - self._facts.keys()
        else:
            changed = files.refresh(self._facts, names)
            for name in changed:
                (self._holdings.add if name in self._facts else self._holdings.remove)(name)
        return {part[0] for name in changed if (part := part_of(name)) is not None}

    def _take(self, descriptors: Sequence[Descriptor], keys: Sequence[EntryKey]) -> set[str]:
        """The digests whose descriptors changed."""
        if descriptors is self._descriptors:
            return set()
        old, new = self._groups, grouped(descriptors)
        changed = {digest for digest, group in new.items() if not _alike(old.get(digest, ()), group)}
        for digest in old.keys() - new.keys():
            self._of_files.pop(digest, None)
        self._descriptors, self._keys, self._groups = descriptors, keys, new
        self._positions = {key: position for position, key in enumerate(keys)}
        return changed

    def _check_index(self) -> set[EntryKey]:
        before, descriptors = self._of_index, self._descriptors or ()
        found: dict[EntryKey, list[Finding]] = {}
        for finding in self._checks.check(descriptors, inferred_formats(self._holdings, descriptors)):
            if finding.position is not None:
                found.setdefault(self._keys[finding.position], []).append(finding)
        self._of_index = {key: tuple(findings) for key, findings in found.items()}
        return {key for key in before.keys() | found.keys() if before.get(key) != self._of_index.get(key)}

    def _check_files(self, files: CacheFiles, digests: Collection[str]) -> set[EntryKey]:
        changed: set[EntryKey] = set()
        known = [digest for digest in digests if digest in self._groups]
        odd = set(unusual(files, self._facts, self._groups, known))
        for digest in known:
            group, findings = self._groups[digest], _NONE
            if digest in odd:
                findings = check_digest(files, self._facts, digest, group).findings
                findings += tuple(oddities(self._facts, _names_of(digest)))
            if findings != self._of_files.get(digest, _NONE):
                changed.update(self._keys[position] for position, _ in group)
            if findings:
                self._of_files[digest] = findings
            else:
                self._of_files.pop(digest, None)
        return changed


def _alike(old: Sequence[tuple[int, Descriptor]], new: Sequence[tuple[int, Descriptor]]) -> bool:
    return len(old) == len(new) and all(one[1] == other[1] for one, other in zip(old, new, strict=True))


def _names_of(digest: str) -> list[str]:
    return [manifest_name(digest), config_name(digest), *(packed_name(digest, format_) for format_ in PackedFormat)]


def quick_check_entry(directory: Path, descriptor: Descriptor, position: int | None = None) -> Findings:
    """What is wrong with one entry by itself: its descriptor and its files. Raises CacheDirectoryError."""
    carriers: Carriers = [(position, descriptor)]
    findings = [replace(one, position=position) for one in DescriptorChecks().check([descriptor], {})]
    if valid_digest(descriptor.digest):
        with CacheFiles(directory) as files:
            found = {name: files.fact(name) for name in _names_of(descriptor.digest)}
            facts = {name: fact for name, fact in found.items() if fact is not None}
            findings += check_digest(files, facts, descriptor.digest, carriers).findings
            findings += oddities(facts, facts)
    return tuple(findings)
