"""Findings accepted by the ids that a check shows them with, and such acceptance taken back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import StorageError
from ocitui.doctor.acknowledged import acknowledge, load_acknowledged, withdraw
from ocitui.doctor.findings import Finding
from ocitui.doctor.report import Report

from .doctor_options import AskedCheck
from .failures import refuse_read_only
from .options import Settings
from .repair_requests import NoSuchFindingError, fingerprints


@dataclass(slots=True)
class Acceptance:
    """Which findings are acknowledged, as a check begins; ``words`` are the ids of those that are to be."""

    directory: Path
    known: frozenset[str]
    words: tuple[str, ...] = ()

    @classmethod
    def begin(cls, settings: Settings, asked: AskedCheck) -> Acceptance:
        """Take back what is to be, first of all. Raises NoSuchFindingError, ReadOnlyError, StorageError."""
        if asked.acknowledge or asked.forget or asked.forget_all:
            refuse_read_only(settings, "acknowledge findings")
        try:
            known = list(load_acknowledged(settings.directory))
        except StorageError:
            if asked.forget:
                raise
            known = []  # the examination says so, and shows every finding
        gone = known if asked.forget_all else [_one(word, known) for word in asked.forget]
        if gone:
            withdraw(settings.directory, gone)
        return cls(settings.directory, frozenset(known).difference(gone), asked.acknowledge)

    def accepts(self, finding: Finding) -> bool:
        """Whether it is acknowledged, or about to be."""
        return finding.fingerprint in self.known or any(finding.fingerprint.startswith(word) for word in self.words)

    def end(self, report: Report) -> Report:
        """Accept what is to be, and mark all such findings.

        Raises NoSuchFindingError, UsageProblemError, ReadOnlyError, StorageError.
        """
        wanted = {_found(word, report.findings) for word in self.words}
        if wanted:
            acknowledge(self.directory, [finding for finding in report.findings if finding.fingerprint in wanted])
        return report.with_acknowledged(self.known | wanted)


def _one(word: str, known: Iterable[str]) -> str:
    found = [fingerprint for fingerprint in known if fingerprint.startswith(word)]
    if len(found) != 1:
        which = f"{len(found)} acknowledged findings have" if found else "no acknowledged finding has"
        raise NoSuchFindingError(f"{which} the id {word}", hint="ocitui check --all shows them")
    return found[0]


def _found(word: str, findings: Sequence[Finding]) -> str:
    found = fingerprints(word, findings)
    if not found:
        raise NoSuchFindingError(f"no finding has the id {word}", hint="ocitui check --all shows each with its id")
    return found[0]
