"""What a repair prints: the plan, what was done, and what the check found afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ocitui.cache import Transaction
from ocitui.doctor.finding_texts import clean_text
from ocitui.doctor.findings import Finding, Severity
from ocitui.doctor.repair.apply import Repaired
from ocitui.doctor.repair.plan import RepairPlan
from ocitui.doctor.report import Report

from .asking import place
from .assessment import assessment_json
from .finding_json import counts_json, finding_json, verdict_json
from .findings_text import SHORT_ID, entry_text, seen_text, tally
from .options import Settings
from .output import emit, say
from .plan_json import plan_json
from .prose import counted, paragraph
from .repair_looking import Looked
from .transactions import transaction_json

_MOST = 10


class RepairOutput:
    """Gathers what was planned and done, and says it: as it goes to people, as one document to programs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._looks: list[Looked] = []
        self._transactions: list[Transaction] = []

    def planned(self, looked: Looked) -> None:
        """A plan that is about to be shown."""
        self._looks.append(looked)

    def planned_anew(self, looked: Looked) -> None:
        """A plan in place of one that no longer held."""
        self._looks[-1] = looked

    def would(self) -> None:
        """All there is to say where nothing is to be done yet."""
        looked = self._looks[-1]
        if self._settings.as_json:
            emit(self._settings, **self.so_far(), **_state(looked.report))
            return
        for line in (*place(self._settings), *_findings(looked.report), "", *looked.lines()):
            say(line)
        for line in paragraph(_next_step(looked.report, looked.plan)):
            say(line)

    def nothing_to_do(self) -> None:
        """There is no step to be made, and so nothing to ask."""
        if not self._settings.as_json:
            for line in (*place(self._settings), *self._looks[-1].lines(), "there is nothing to do"):
                say(line)

    def made(self, repaired: Repaired) -> None:
        """A plan was carried out."""
        self._transactions += repaired.transactions
        if self._settings.as_json:
            return
        for done in repaired.transactions:
            say(f"mended; transaction {done.id}")
            say(f"ocitui undo {done.id} takes it all back")
            if done.note:
                say(f"note: {done.note}")

    def done(self, report: Report) -> None:
        """The check that followed."""
        if self._settings.as_json:
            emit(self._settings, **self.so_far(), **_state(report))
            return
        for line in paragraph(f"{report.coverage}", "checked again: "):
            say(line)
        remaining = report.shown(Severity.LOW)
        say(clean_text(report.depth) if not remaining else f"what remains: {tally(remaining)}")
        for line in _remaining(remaining):
            say(line)
        if remaining and self._transactions:
            say("ocitui repair shows what else can be done")

    def so_far(self) -> dict[str, Any]:
        """What programs are told of plans and transactions."""
        transactions = [transaction_json(done) for done in self._transactions]
        first, *further = self._looks
        return {
            "assessment": assessment_json(first.assessment) if first.assessment else None,
            "plan": plan_json(first.plan),
            "further_plans": [plan_json(looked.plan) for looked in further],
            "transaction": transactions[-1] if transactions else None,
            "transactions": transactions,
        }


def _state(report: Report) -> dict[str, Any]:
    remaining = report.shown(Severity.LOW)
    return {
        "clean": not remaining,
        "depth": report.depth.value,
        "counts": counts_json(report.shown(Severity.INFO)),
        "remaining": [finding_json(finding) for finding in remaining],
        "verdict": verdict_json(report.verdict),
        "coverage": str(report.coverage),
    }


def _findings(report: Report) -> Iterator[str]:
    found = report.shown(Severity.LOW)
    yield from paragraph(f"{report.coverage}; found {tally(found) or f'nothing wrong: {clean_text(report.depth)}'}")
    if not report.verdict.sound:
        yield from paragraph(f"{report.verdict.outcome}: {report.verdict.consequence}", "index.json: ")


def _next_step(report: Report, plan: RepairPlan) -> str:
    if plan.made:
        return "nothing was changed; the same with --apply asks, and does it"
    if plan.steps or plan.left:
        return "nothing can be done without a word from you: see above what you can do about what stays"
    return "nothing of that kind was found" if report.shown(Severity.LOW) else "there is nothing to mend"


def _remaining(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings[:_MOST]:
        yield from paragraph(
            f"{finding.code}: {entry_text(finding)}: {seen_text(finding)}", f"  {finding.fingerprint[:SHORT_ID]}  "
        )
    if len(findings) > _MOST:
        yield f"  and {counted(len(findings) - _MOST, 'more')}"
