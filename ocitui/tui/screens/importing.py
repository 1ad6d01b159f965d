"""The main screen and imports: beginning one, telling how they stand, and leaving while they run."""

from __future__ import annotations

import asyncio

from textual import work

from ocitui.cache import CacheError

from ..background import Throttle
from ..import_board import leaves_of_imports
from ..shorten import counted
from .entry_actions import EntryActions

_STATUS_SECONDS = 1.0


class Importing(EntryActions):
    """Imports go on in a thread of their own; here is only what is said of them."""

    imports_text = ""
    _throttle: Throttle | None = None
    _told: frozenset[int] = frozenset()

    def action_import_image(self) -> None:
        if self.may("import_image"):
            from .import_image import ImportScreen

            self.app.push_screen(ImportScreen(), self.said)

    def action_imports(self) -> None:
        from .imports import ImportsScreen

        self.app.push_screen(ImportsScreen())

    def on_screen_resume(self) -> None:
        if self.app.has_imports:
            self._tell_imports()

    def imports_changed(self) -> None:
        """How imports stand is told once a second, while this screen is on top."""
        if self._throttle is None:
            self._throttle = Throttle(self, _STATUS_SECONDS, self._tell_imports)
        self._throttle.ask()

    def _tell_imports(self) -> None:
        if self.app.screen is not self:
            return
        from ..import_texts import end_text, short_text

        jobs = self.app.imports.jobs
        self.imports_text = short_text([job for job in jobs if job.active])
        ended = [job for job in jobs if not job.active and job.id not in self._told]
        self._told = self._told.union(job.id for job in ended)
        if ended:
            self.say(end_text(ended[-1]))
        else:
            self.draw_status()

    @work(group="interrupted")
    async def look_for_interrupted(self) -> None:
        """Remove what killed imports left half made, and say which can be gone on with."""
        if not await asyncio.to_thread(leaves_of_imports, self.app.options.directory):
            return
        try:
            count = await asyncio.to_thread(self._take_stock)
        except CacheError as error:
            self.say(f"what imports left cannot be looked at: {error.message}")
            return
        if count:
            were = counted(count, "import was", "imports were")
            self.say(f"{were} interrupted: I goes on with {'it' if count == 1 else 'them'}")

    def _take_stock(self) -> int:
        from ocitui.importing.staging import remove_abandoned

        remove_abandoned(self.app.options.directory)
        self.app.imports.read_interrupted()
        return len(self.app.imports.interrupted)

    def action_interrupt(self) -> None:
        active = self.app.imports.active if self.app.has_imports else []
        if len(active) == 1:
            self.app.imports.queue.cancel(active[0].id)
            self.say("cancelling the import; what was downloaded is kept")
        elif active:
            self.say(f"{len(active)} imports are under way: I shows them, x there cancels one")
        else:
            self.say("nothing is running; q quits")

    async def action_quit(self) -> None:
        if not (self.app.has_imports and self.app.imports.active):
            self.app.exit(0)
            return
        from .imports import LeavingScreen

        self.app.push_screen(LeavingScreen(), self._leave)

    def _leave(self, answer: str | None) -> None:
        if answer is not None:
            self.app.exit(0)
