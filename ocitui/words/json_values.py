"""Entries, transactions, findings, verdicts, assessments and plans as programs read them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ocitui.cache import Descriptor, IndexChange, Transaction
    from ocitui.doctor import Assessment, FileRecords, Finding, JoinedEntry, JudgedEntry, RepairPlan, RepairStep, Report


def finding_json(finding: Finding, *, acknowledged: bool | None = None) -> dict[str, Any]:
    """A finding. ``entry`` is null where it is of none, ``answer`` what the daemon does in one word, ``found`` when a
    deep check found what is remembered of it, in seconds since the epoch, else null."""
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "entry": _entry_json(finding),
        "file": finding.file or None,
        "kind": finding.kind.value if finding.kind else None,
        "seen": finding.seen,
        "answer": finding.answer.value,
        "daemon": finding.daemon,
        "mend": finding.fault.mend or None,
        "loses": finding.fault.loses or None,
        "fingerprint": finding.fingerprint,
        "acknowledged": finding.acknowledged if acknowledged is None else acknowledged,
        "found": finding.found,
    }


def summary_json(report: Report) -> dict[str, Any]:
    """A report without its findings; how many there are of each severity and code leaves out the acknowledged ones."""
    from msgspec.structs import asdict

    from ocitui.doctor import Severity

    found = report.shown(Severity.INFO)
    severities = Counter(finding.severity for finding in found)
    return {
        "depth": report.depth.value,
        "coverage": asdict(report.coverage) | {"text": str(report.coverage)},
        "counts": {
            "severity": {severity.value: severities[severity] for severity in reversed(Severity)},
            "code": dict(sorted(Counter(finding.code for finding in found).items())),
        },
        "acknowledged": sum(finding.acknowledged for finding in report.findings),
        "worst": report.worst.value if report.worst else None,
        "verdict": report.verdict._asdict(),
        "entries": report.entries,
        "packed_bytes": report.packed_bytes,
        "started": report.started,
        "seconds": round(report.seconds, 3),
        "notes": list(report.notes),
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


def plan_json(plan: RepairPlan) -> dict[str, Any]:
    """A plan; of a step that is not ``chosen`` nothing is done."""
    from .findings import advice
    from .lines import OPTIONS

    return {
        "steps": [_step_json(step, step.number in plan.chosen) for step in plan.steps],
        "left": [
            {"finding": finding_json(left.finding), "why": left.why, "would": advice(left, OPTIONS) or None}
            for left in plan.left
        ],
        "sources": [_joined_json(entry) for entry in plan.joined],
        "notes": list(plan.notes),
        "bytes_trashed": plan.bytes_trashed,
        "bytes_placed": plan.bytes_placed,
        "used_by": list(plan.used_by),
        "depth": plan.depth.value,
    }


def _step_json(step: RepairStep, chosen: bool) -> dict[str, Any]:
    from .lines import OPTIONS, said

    return {
        "number": step.number,
        "kind": step.kind.value,
        "title": step.title,
        "chosen": chosen,
        "findings": [{"code": finding.code, "fingerprint": finding.fingerprint} for finding in step.findings],
        "files": [{"name": file.name, "fate": file.fate.name.lower(), "size": file.size} for file in step.files],
        "bytes_trashed": step.bytes_trashed,
        "bytes_placed": step.bytes_placed,
        "source": step.source or None,
        "then": step.then,
        "loses": said(step.loses, OPTIONS) or None,
        "futile": step.futile or None,
        "used_by": list(step.used_by),
    }


def assessment_json(assessment: Assessment) -> dict[str, Any]:
    """The same as programs read it."""
    from msgspec.structs import asdict

    return {
        "case": assessment.case.value,
        "confidence": assessment.confidence.value,
        "headline": assessment.headline or None,
        "reasons": list(assessment.reasons),
        "commands": [asdict(command) for command in assessment.commands],
        "never": list(assessment.never),
    }


def entry_json(entry: JudgedEntry, directory: Path, known: FileRecords) -> dict[str, Any]:
    """An entry as programs read it; ``name`` is the whole of it as the index has it, ``depth`` what its state rests on
    (null: it was not looked into), ``checked`` when all bytes were last found sound, in seconds since the epoch. What
    is ``known`` of the files tells where it came from, whether it can come back, and why it is pinned."""
    from ocitui.cache import Topic
    from ocitui.doctor import Origins

    descriptor, state, file = entry.descriptor, entry.state, entry.descriptor.packed_file
    origin, pin = Origins(directory, known).of(file), known.noted(Topic.PINNED).get(file)
    return {
        "name": descriptor.image_name,
        "reference": descriptor.reference,
        "digest": descriptor.digest,
        "format": descriptor.format,
        "media_type": descriptor.media_type,
        "size": descriptor.size,
        "packed_size": entry.packed_size,
        "state": state.word,
        "depth": state.depth,
        "checked": state.checked,
        "source": origin.source or None,
        "comes_back": origin.comes_back,
        "pinned": pin.text if pin else None,
        "descriptor": descriptor.as_dict(),
    }


def _joined_json(entry: JoinedEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "digest": entry.digest,
        "format": entry.format,
        "sources": [source.value for source in entry.sources],
        "taken_from": entry.taken_from.value if entry.taken_from else None,
        "descriptor": entry.descriptor.as_dict() if entry.descriptor else None,
        "facts": {fact.what: {source.value: value for source, value in fact.told} for fact in entry.facts},
        "conflicts": [fact.what for fact in entry.conflicts],
        "lost": list(entry.lost),
        "problems": list(entry.problems),
        "removed_by": entry.removed_by or None,
        "hints": [{"text": hint.text, "source": hint.source} for hint in entry.hints],
    }


def transaction_json(transaction: Transaction) -> dict[str, Any]:
    """A transaction as programs read it."""
    return {
        "id": transaction.id,
        "kind": str(transaction.kind),
        "state": transaction.state.value,
        "started": time_json(transaction.started),
        "by": transaction.by,
        "of": transaction.of,
        "names": transaction.image_names,
        "digests": transaction.image_digests,
        "removed": [removed.descriptor.as_dict() for removed in transaction.removed],
        "added": [added.descriptor.as_dict() for added in transaction.added],
        "bytes_trashed": transaction.bytes_trashed,
        "files_trashed": [moved.name for moved in transaction.trashed],
        "files_placed": [placed.name for placed in transaction.placed],
        "index_replaced": transaction.swap is not None,
        "modes": [{"name": mode.name, "old": f"{mode.old:o}", "new": f"{mode.new:o}"} for mode in transaction.modes],
        "note": transaction.note or None,
    }


def change_json(change: IndexChange) -> dict[str, Any]:
    """An index that was seen, and what it is to the one before it; of the oldest that is kept nobody knows."""
    won = change.won.items()
    return {
        "when": time_json(change.when),
        **_made_json(change),
        "entries": len(change.index),
        "added": [_key_json(one, one.image_name) for one in change.came],
        "removed": [_key_json(one, one.image_name) for one in change.went],
        "winners": [{**_key_json(now, name), "before": _key_json(before, name)} for name, (now, before) in won],
    }


def tenure_json(entry: Descriptor, since: IndexChange, until: IndexChange | None) -> dict[str, Any]:
    """An entry that a name stood for; ``since`` is null where it did in the oldest index that is kept."""
    return {
        **_key_json(entry, entry.image_name),
        "since": None if since.oldest else time_json(since.when),
        "until": until and time_json(until.when),
        **_made_json(since),
    }


def _made_json(change: IndexChange) -> dict[str, Any]:
    made = [{"id": one.id, "kind": str(one.kind), "by": one.by} for one in change.transactions]
    return {"transactions": made, "another_program": None if change.oldest else change.by_another}


def _key_json(one: Descriptor | None, name: str | None) -> dict[str, Any]:
    return {"name": name, "digest": one and one.digest, "format": one and one.format}


def time_json(seconds: float) -> str:
    """A time since the epoch as programs read it, RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()
