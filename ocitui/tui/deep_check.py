"""The check of all bytes on the screen, beside all else that goes on there. No widget in it."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING

from ocitui.cache import CacheDirectoryError, identity_of

from .live import DeepCheck, LiveCache, LiveChange

if TYPE_CHECKING:
    from ocitui.doctor import Progress


P_SHOWS_IT = ": p shows it"


async def check_deep(live: LiveCache) -> None:
    """Read all bytes; what is found is known to the judge. Cancelled, it ends once its threads have."""
    from ocitui.doctor import Depth, ExamineOptions, examine, tally

    deep = live.deep = DeepCheck(running=True)
    context, waiting, ledger_writes = copy_context(), set[asyncio.Future[None]](), not live.read_only

    def advance(progress: Progress) -> None:
        if progress.phase == "deep" and (deep.progress is None or deep.progress.phase != "deep"):
            # The judge looked at what had changed, and nobody told of it.
            waiting.add(asyncio.ensure_future(live.look_over()))
        deep.progress = progress
        live.tell(LiveChange(only_progress=True))

    live.tell(LiveChange())
    try:
        await live.settle()
        if (judge := live.judge) is None:
            deep.error = "not checked: the directory cannot be read"
            return
        # It is called in the context of other threads, which know of no application.
        report = await examine(
            judge.directory,
            ExamineOptions(Depth.DEEP, ledger_writes=ledger_writes),
            lambda progress: context.run(advance, progress),
            deep.found.extend,
            judge=judge,
        )
        passing = [one for one in report.findings if one.fingerprint in report.deep_only]
        deep.passing = [(identity_of(judge.directory / one.file), one) for one in passing]
        deep.said = f"deep check: {report.coverage}; {tally(report.shown()) or 'nothing wrong'}"
    except CacheDirectoryError as error:
        deep.error = f"not checked: {error.message}"
    except asyncio.CancelledError:
        remembered = "; what it read is remembered" if ledger_writes and deep.progress else ""
        deep.error = f"the deep check was cancelled{remembered}"
        raise
    finally:
        deep.running, deep.progress = False, None
        try:
            await asyncio.shield(asyncio.ensure_future(live.look_over()))
            for one in waiting:
                await one
        finally:
            live.tell(LiveChange(said=f"{deep.said}{P_SHOWS_IT}" if deep.said else ""))
