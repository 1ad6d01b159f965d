"""Findings, coverage and verdicts as programs read them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ocitui.cache import Verdict
from ocitui.doctor.findings import Finding, Severity
from ocitui.doctor.report import Report


def finding_json(finding: Finding, *, acknowledged: bool | None = None) -> dict[str, Any]:
    """A finding, acknowledged or not where that is given.

    ``entry`` is null where it is of none, ``answer`` what the daemon does in one word; ``found`` is when a deep check
    found what is remembered of it, in seconds since the epoch, else null.
    """
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "entry": _entry_json(finding),
        "file": finding.file or None,
        "kind": finding.kind.value if finding.kind else None,
        "seen": finding.seen,
        "answer": finding.answer.value,
        "daemon": finding.daemon,
        "mend": finding.mend or None,
        "loses": finding.loses or None,
        "fingerprint": finding.fingerprint,
        "acknowledged": finding.acknowledged if acknowledged is None else acknowledged,
        "found": finding.found,
    }


def summary_json(report: Report) -> dict[str, Any]:
    """A report without its findings; the counts leave out those that are acknowledged."""
    return {
        "depth": report.depth.value,
        "coverage": dataclasses.asdict(report.coverage) | {"text": str(report.coverage)},
        "counts": counts_json(report.shown(Severity.INFO)),
        "acknowledged": sum(finding.acknowledged for finding in report.findings),
        "worst": report.worst.value if report.worst else None,
        "verdict": verdict_json(report.verdict),
        "entries": report.entries,
        "packed_bytes": report.packed_bytes,
        "started": report.started,
        "seconds": round(report.seconds, 3),
        "notes": list(report.notes),
    }


def counts_json(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """How many there are of each severity and of each code."""
    found = list(findings)
    severities = Counter(finding.severity for finding in found)
    return {
        "severity": {severity.value: severities[severity] for severity in reversed(Severity)},
        "code": dict(sorted(Counter(finding.code for finding in found).items())),
    }


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome.value,
        "entries": verdict.entries,
        "message": verdict.message,
        "line": verdict.line,
        "column": verdict.column,
    }


def _entry_json(finding: Finding) -> dict[str, Any] | None:
    if not (finding.digest or finding.name or finding.position is not None):
        return None
    return {
        "name": finding.name or None,
        "digest": finding.digest or None,
        "format": str(finding.format) or None,
        "position": finding.position,
    }
