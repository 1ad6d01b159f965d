"""Leaving while imports run: what would be stopped, then the question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from ocitui.words.imports import called, percent

from ..shorten import counted
from ..widgets.lines_view import Line, heading
from .confirm import ConfirmScreen


class LeavingScreen(ConfirmScreen):
    """Dismissed with a word once all imports are stopped, None to stay."""

    subject: ClassVar[str] = "quit"
    verb: ClassVar[str] = "Stop and quit"
    stay: ClassVar[str] = "Stay"
    writes: ClassVar[bool] = False

    async def plan(self) -> Sequence[Line]:
        active = self.app.imports.active
        verb = "runs" if len(active) == 1 else "run"
        lines = [heading(f"On {self.app.host}: {counted(len(active), 'import', 'imports')} still {verb}")]
        lines += [Line(f"{called(job.request)} {percent(job.progress)}", job.progress.phase) for job in active]
        return [
            *lines,
            Line(),
            Line("Quitting stops them and their packers. The cache stays as it is; what was downloaded is kept."),
            Line("The next start offers to go on with them."),
        ]

    async def act(self) -> str:
        await asyncio.to_thread(self.app.imports.close)
        return "stopped"

    def asked(self) -> str:
        return "nothing is stopped before y"

    def action_interrupt(self) -> None:
        self.action_leave()

    def acting(self) -> str:
        return "stopping the imports; what was downloaded is kept"
