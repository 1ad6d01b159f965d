"""The check of all bytes on the screen: what it read, what it found so far, and what came of it. No widget in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ocitui.cache import CacheDirectoryError, identity_of

if TYPE_CHECKING:
    from ocitui.doctor import Finding, Judge, Progress


P_SHOWS_IT = ": p shows it"


@dataclass(slots=True)
class DeepCheck:
    """One that runs or ran: what it ``found`` so far, by which ``error`` it ended early, what is ``said`` of it.
    ``passing`` is what could not be noted, by the file that each is about; it holds while that is the same."""

    running: bool = False
    progress: Progress | None = None
    found: list[Finding] = field(default_factory=list)
    error: str = ""
    said: str = ""
    passing: list[tuple[tuple[int, ...] | None, Finding]] = field(default_factory=list)

    def passing_in(self, directory: Path) -> list[Finding]:
        """What could not be noted, of files that are what they were; while it runs, what it found so far."""
        found = [one for identity, one in self.passing if identity_of(directory / one.file) == identity]
        return [*found, *self.found] if self.running else found

    async def run(
        self,
        settled: Callable[[], Awaitable[Judge | None]],
        *,
        ledger_writes: bool,
        look_over: Callable[[], Awaitable[None]],
        tell: Callable[[], object],
    ) -> None:
        """Read all bytes; what is found is known to the judge that ``settled`` gives, None where the cache cannot be
        read. ``look_over`` is awaited where that is to be shown, ``tell`` is called when it is further than before.
        Cancelled, it ends once its threads have."""
        from ocitui.doctor import Depth, ExamineOptions, examine, tally

        context, waiting = copy_context(), set[asyncio.Future[None]]()

        def advance(progress: Progress) -> None:
            if progress.phase == "deep" and (self.progress is None or self.progress.phase != "deep"):
                # The judge looked at what had changed, and nobody told of it.
                waiting.add(asyncio.ensure_future(look_over()))
            self.progress = progress
            tell()

        try:
            judge = await settled()
            if judge is None:
                self.error = "not checked: the directory cannot be read"
                return
            # It is called in the context of other threads, which know of no application.
            report = await examine(
                judge.directory,
                ExamineOptions(Depth.DEEP, ledger_writes=ledger_writes),
                lambda progress: context.run(advance, progress),
                self.found.extend,
                judge=judge,
            )
            passing = [one for one in report.findings if one.fingerprint in report.deep_only]
            self.passing = [(identity_of(judge.directory / one.file), one) for one in passing]
            self.said = f"deep check: {report.coverage}; {tally(report.shown()) or 'nothing wrong'}"
        except CacheDirectoryError as error:
            self.error = f"not checked: {error.message}"
        except asyncio.CancelledError:
            remembered = "; what it read is remembered" if ledger_writes and self.progress else ""
            self.error = f"the deep check was cancelled{remembered}"
            raise
        finally:
            self.running, self.progress = False, None
            await asyncio.shield(asyncio.ensure_future(look_over()))
            for one in waiting:
                await one
