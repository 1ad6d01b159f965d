"""What deep checks left in the ledger, for those that do not look so deep: of files that are still the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ocitui.cache import FileKind
from ocitui.cache.files import OWN_NAME, identity_of
from ocitui.cache.ledger import LEDGER_NAME, Damage, Damaged, Ledger, Sound
from ocitui.cache.listing import Fact, Listing, part_of

from ..catalogue import CATALOGUE, PACKED_UNREADABLE
from ..findings import Finding
from .entry_checks import PackedFile


def damage_finding(damage: Damage, file: PackedFile) -> Finding:
    """The finding as the deep check made it, and when."""
    fault = PACKED_UNREADABLE if damage.code == "read-error" else CATALOGUE[damage.code]
    finding = fault.finding(damage.seen, kind=FileKind.PACKED, **file.at)
    return msgspec.structs.replace(finding, found=damage.found)


class Remembered:
    """The packed files of one cache that deep checks found damaged, and when they found the others sound.

    Nothing is read until `refresh`, which keeps it up to date.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.problem = ""
        # Unlike that of a ledger that is there, and of none.
        self._signature: object = ""
        self._damaged: Damaged = {}
        self._digests: frozenset[str] = frozenset()
        # By a hash of name and identity: a ledger has a line for each of 100,000 files. Twice the time, and one more
        # where there was no earlier hash to compare with.
        self._checked: dict[int, int] = {}
        # What was found here and could not be written down.
        self._here: Damaged = {}

    def refresh(self) -> set[str]:
        """Read the ledger where it changed; gives the digests of which other damage is known now.

        Where it cannot be read, what was known stays so, and ``problem`` says why.
        """
        signature = identity_of(self._directory / OWN_NAME / LEDGER_NAME)
        if signature == self._signature:
            return set()
        ledger = Ledger.open(self._directory)
        self._signature, self.problem = signature, ledger.problem
        if ledger.problem:
            return set()
        return self._know(ledger.sound, {**ledger.damaged, **self._here})

    def take(self, ledger: Ledger) -> set[str]:
        """Know what a deep check of this program noted, whether it could be written down or not."""
        self._here = dict(ledger.damaged) if ledger.unwritten else {}
        return self._know(ledger.sound, ledger.damaged)

    def _know(self, sound: Sound, damaged: Damaged) -> set[str]:
        self._checked = {hash((name, one.identity)): one.checked << 1 | one.first_seen for name, one in sound.items()}
        before, self._damaged = self._damaged, damaged
        self._digests = frozenset(part[0] for name in damaged if (part := part_of(name)))
        changed = [name for name in {*before, *damaged} if before.get(name) != damaged.get(name)]
        return {part[0] for name in changed if (part := part_of(name))}

    def knows(self, digest: str) -> bool:
        """Whether there is damage of a digest's files, if they are still the same."""
        return digest in self._digests

    def findings(self, file: PackedFile, fact: Fact) -> Iterator[Finding]:
        """What was found in a packed file, where it is still the same."""
        known = self._damaged.get(file.name, ())
        yield from [damage_finding(one, file) for one in known if one.identity == fact.identity][:1]

    def checked(self, listing: Listing, place: int) -> tuple[int, bool] | None:
        """When all bytes of the file at a place of the listing were last found sound, in seconds since the epoch, and
        whether that was the first time that they were seen."""
        fact = listing.fact(place) if self._checked else None
        known = None if fact is None else self._checked.get(hash((listing.name_at(place), fact.identity)))
        return None if known is None else (known >> 1, bool(known & 1))
