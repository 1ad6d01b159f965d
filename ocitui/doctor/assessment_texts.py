"""Which copy of the index is good, in words, for the screen and the command line alike."""

from __future__ import annotations

from .assessment import Assessment, Case
from .report import Report

CASES = {
    Case.IN_STEP: "nothing speaks against the index on disk",
    Case.MEMORY_GOOD: "the daemon's memory is good, the disk is not",
    Case.MEMORY_EMPTIED: "the daemon's memory has lost it too",
    Case.HUNG: "the daemon answers no more",
    Case.STOPPED: "only the one on disk, as the daemon does not run",
}
_KEEPS = "it keeps the index in memory, and its next store may"
_ONE_EDIT = "index-overwritten"


def bears_on(assessment: Assessment, report: Report) -> bool:
    """Whether it matters to what was found: the index is not what it was, or the daemon is in trouble."""
    if assessment.case not in (Case.IN_STEP, Case.STOPPED) or not report.verdict.sound:
        return True
    return any(finding.code.startswith("index-") and finding.code != _ONE_EDIT for finding in report.findings)


def memory_warning(may: str, since: str = "") -> str:
    """What a running daemon can do to an edit of the index; ``may`` ends the sentence, ``since`` is when it started."""
    return f"kratad {f'runs here since {since}' if since else 'is running'}: {_KEEPS} {may}"
