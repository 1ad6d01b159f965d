"""What deep checks found before, said again by checks that do not look so deep: of files that are still the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ocitui.cache import FileKind
from ocitui.cache.files import OWN_NAME, packed_name
from ocitui.cache.ledger import LEDGER_NAME, Damage, Damaged, load_damaged

from ..catalogue import CATALOGUE, GUEST_FAILS
from ..findings import Answer, Finding
from .directory import CacheFiles
from .document_checks import Carriers
from .entry_checks import PackedFile, first_of_formats
from .entry_files import part_of


def damage_finding(damage: Damage, file: PackedFile) -> Finding:
    """The finding as the deep check made it, and when."""
    fault = CATALOGUE[damage.code]
    finding = fault.finding(damage.seen, file=file.name, kind=FileKind.PACKED, **file.at)
    if damage.code == "read-error":
        finding = replace(finding, answer=Answer.HIT, daemon=GUEST_FAILS)
    return replace(finding, found=damage.found)


def still_damaged(files: CacheFiles, file: PackedFile, damages: Iterable[Damage]) -> Finding | None:
    """What was found in a file, where it is still the same; None where it is another one, or cannot be looked at."""
    with suppress(OSError):
        found = os.stat(file.name, dir_fd=files.fd)
        return next((damage_finding(one, file) for one in damages if one.same_file(found)), None)
    return None


class FoundBefore:
    """The damaged files of one cache, by digest; `refresh` keeps them up to date. Nothing is read until then."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._signature: tuple[int, ...] = ()
        self._by_name: Damaged = {}
        self.by_digest: Mapping[str, Damaged] = {}

    def refresh(self) -> set[str]:
        """Read the ledger where it changed; gives the digests of which other things are known now. Raises OSError."""
        signature = self._look()
        if signature == self._signature:
            return set()
        before, self._by_name = self._by_name, load_damaged(self._directory)
        self._signature = signature
        by_digest: dict[str, Damaged] = {}
        for name, damages in self._by_name.items():
            if part := part_of(name):
                by_digest.setdefault(part[0], {})[name] = damages
        self.by_digest = by_digest
        changed = [name for name in {*before, *self._by_name} if before.get(name) != self._by_name.get(name)]
        return {part[0] for name in changed if (part := part_of(name))}

    def findings(self, files: CacheFiles, groups: Mapping[str, Carriers]) -> Iterator[Finding]:
        """What is known of the files of these entries."""
        for digest in self.by_digest:
            if digest in groups:
                yield from self.of(files, digest, groups[digest])

    def of(self, files: CacheFiles, digest: str, carriers: Carriers) -> Iterator[Finding]:
        """What is known of the packed files of a digest, which these entries share."""
        damaged = self.by_digest.get(digest, {})
        for format_, (position, descriptor) in first_of_formats(carriers) if damaged else ():
            name = packed_name(digest, format_)
            if damages := damaged.get(name):
                file = PackedFile(digest, format_, name, damages[-1].size, descriptor, position)
                if (finding := still_damaged(files, file, damages)) is not None:
                    yield finding

    def _look(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._directory / OWN_NAME / LEDGER_NAME)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns
