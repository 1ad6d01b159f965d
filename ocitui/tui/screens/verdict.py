"""The verdict: what the daemon would do with index.json, and where it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import work
from textual.widget import Widget

from ocitui.cache import CacheError, Condition, DocumentError, Health, StorageError, Verdict
from ocitui.cache.files import INDEX_NAME, MOST_INDEX_BYTES, read_regular
from ocitui.doctor.assessment import Assessment

from ..widgets.document_view import DocumentView
from ..widgets.lines_view import Line, LinesView
from .confirm import error_lines
from .full import FullScreen


class VerdictScreen(FullScreen[None]):
    """Reads the file again, as it is now; changes nothing."""

    subject: ClassVar[str] = "verdict"
    CSS = """
    VerdictScreen {
        LinesView { height: auto; max-height: 50%; }
        DocumentView { height: 1fr; }
    }
    """

    def compose_body(self) -> Iterable[Widget]:
        yield LinesView()
        yield DocumentView("")

    def begin(self) -> None:
        self.show_lines([Line("reading index.json; a torn one is given a second", kind="muted")])
        self._read()

    @work
    async def _read(self) -> None:
        try:
            live = self.session.live
            verdict, assessment = await asyncio.gather(self.session.cache.examine(), live.assess())
            self.show_lines(verdict_lines(verdict, live.health, assessment))
            if not verdict.sound:
                await self._show_bytes(verdict)
        except CacheError as error:
            self.show_lines(error_lines(error))

    async def _show_bytes(self, verdict: Verdict) -> None:
        """The file as it is stored, at the place where it breaks."""
        view = self.query_one(DocumentView)
        try:
            raw = await asyncio.to_thread(read_regular, self.session.directory / INDEX_NAME, MOST_INDEX_BYTES)
        except StorageError as error:
            view.clear(error.message)
            return
        await view.show_document(raw, error=DocumentError(verdict.message, line=verdict.line, column=verdict.column))
        view.focus()


def verdict_lines(verdict: Verdict, health: Health, assessment: Assessment | None) -> list[Line]:
    """The verdict in words, and what an operator should do, as the assessment says."""
    lines = [
        Line(verdict.outcome, "outcome", "good" if verdict.sound else "bad"),
        Line(f"If it started now, {verdict.consequence}.", "daemon"),
    ]
    if verdict.place:
        lines.append(Line(verdict.place, "error", "bad"))
    if health.condition is Condition.MISSING:
        lines.append(
            Line("It held entries when it was last read; a running daemon writes it at its next store.", "gone", "bad")
        )
    if assessment is not None and assessment.headline:
        lines.append(Line(f"{assessment.headline}.", "advice", "bad"))
    if not verdict.sound:
        lines.append(Line("No entry is written while it is so; m on the first screen plans what mends it.", "mend"))
    return lines
