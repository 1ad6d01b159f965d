"""`ocitui verdict`: what the daemon would do with index.json."""

from __future__ import annotations

from ocitui.cache import Verdict
from ocitui.cache.index_file import read_patiently

from .exits import ExitCode
from .options import Settings
from .output import emit, say


def give_verdict(settings: Settings) -> ExitCode:
    """Print the verdict. Raises CacheDirectoryError where the index cannot be read."""
    verdict = read_patiently(settings.directory).verdict
    if settings.as_json:
        emit(
            settings,
            outcome=verdict.outcome.value,
            entries=verdict.entries,
            message=verdict.message,
            line=verdict.line,
            column=verdict.column,
        )
    else:
        _explain(settings, verdict)
    return ExitCode.CLEAN if verdict.sound else ExitCode.PROBLEMS


def _explain(settings: Settings, verdict: Verdict) -> None:
    say(f"{verdict.outcome}: {verdict.consequence}")
    if verdict.message:
        say(f"index.json breaks here: {verdict.place}")
    if not verdict.sound:
        from ocitui.doctor.assessment import advice

        if said := advice(settings.directory):
            say(said)
