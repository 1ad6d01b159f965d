"""The imports: how far each is, and what can be done about it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence

import msgspec
from textual import work

from ocitui.importing import BlobStore, ImportJob, JobState, LayerProgress, NamedOtherwiseError, UnfinishedImport
from ocitui.text import counted, human_age, human_size, short_digest
from ocitui.words import Kind, import_label, import_percent, interrupted_lines, job_lines, list_summary

from ..widgets.lines import Line, LongList, PickList, PickRow, bound, heading
from .base import DRAW_SECONDS, ConfirmScreen, ListScreen, Throttle
from .import_image import FIELDS, ImportScreen


class DownloadsScreen(ConfirmScreen):
    """Removes all blobs that no import is writing. They can be downloaded again."""

    subject = "downloads"
    verb = "Remove them"

    async def plan(self) -> Iterable[Line | LongList]:
        blobs = await asyncio.to_thread(BlobStore(self.session.directory).stored)
        size = human_size(sum(blob.size for blob in blobs))
        count = counted(len(blobs), "downloaded blob")
        lines = self.opening(f"remove {count}, {size}")
        if interrupted := len(self.session.imports.interrupted):
            which = counted(interrupted, "interrupted import")
            lines.append(Line(f"{which} would go on from them; without them all is downloaded again.", kind="bad"))
        lines += [Line("They are layers on their way into the cache; no entry needs them. There is no undo."), Line()]
        return lines + [
            Line(f"{blob.digest}{', a part' if blob.partial else ''}", f"{human_size(blob.size):>5}") for blob in blobs
        ]

    async def act(self) -> str:
        freed = await asyncio.to_thread(BlobStore(self.session.directory).clear)
        return f"{human_size(freed)} of downloads removed"


_AGAIN = (JobState.FAILED, JobState.CANCELLED)


class ImportsScreen(ListScreen[None, PickRow]):
    """Each key is about the import under the cursor; none of them is enter."""

    BINDINGS = bound({"x": "cancel", "Y": "rename", "r": "again", "f": "forget", "D": "downloads", "i": "import_image"})
    subject = "imports"

    def __init__(self) -> None:
        super().__init__()
        self._downloaded = 0
        self._throttle = Throttle(self, DRAW_SECONDS, self._draw)
        self._ended = -1

    def begin(self) -> None:
        self._draw()
        jobs = self.session.imports.queue.jobs
        if jobs:
            first = next((job for job in jobs if job.active), jobs[-1])
            self.query_one(PickList).move_to(f"job{first.id}")

    def on_screen_resume(self) -> None:
        self.imports_changed()

    def imports_changed(self) -> None:
        """Something is to be drawn, at most four times a second."""
        self._throttle.ask()

    def _draw(self) -> None:
        board, width = self.session.imports, self.app.size.width
        jobs = board.queue.jobs
        self.show_rows([*map(_interrupted_row, board.interrupted), *(_job_row(job, width) for job in jobs)])
        ended = sum(not job.active for job in jobs)
        if ended != self._ended:
            self._ended = ended
            self._look()

    def draw_detail(self) -> None:
        job, old = self._job, self._old
        if job is not None:
            lines = [*job_lines(job, FIELDS), *_layer_lines(self.session.imports.layers.get(job.id, ()))]
        else:
            lines = interrupted_lines(old) if old else [Line("i begins an import", kind="muted")]
        self.show_lines(lines, keep_place=True)
        self.show_keys(self._keys(job, old))

    def _keys(self, job: ImportJob | None, old: UnfinishedImport | None) -> list[tuple[str, str]]:
        keys = [("i", "Import")]
        if job is not None and job.active:
            keys.append(("x", "Cancel"))
        if job is not None and job.state in _AGAIN:
            keys.append(("Y", "Rename") if isinstance(job.error, NamedOtherwiseError) else ("r", "Again"))
        if old is not None:
            keys += [] if old.problem else [("r", "Go on")]
            keys += [("f", "Forget")] if old.can_be_forgotten else []
        if self._downloaded:
            keys.append(("D", "Downloads"))
        return keys

    @work(group="look", exclusive=True)
    async def _look(self) -> None:
        """What lies on the disk: records of interrupted imports, and blobs."""
        board = self.session.imports
        with self.saying_errors():
            await asyncio.to_thread(board.read_interrupted)
            self._downloaded = await asyncio.to_thread(BlobStore(self.session.directory).size)
            self.conclude(list_summary(board.queue.jobs, len(board.interrupted), self._downloaded))
            self._throttle.ask()

    @property
    def _job(self) -> ImportJob | None:
        return next((job for job in self.session.imports.queue.jobs if f"job{job.id}" == self.key), None)

    @property
    def _old(self) -> UnfinishedImport | None:
        return next((one for one in self.session.imports.interrupted if f"old{one.id}" == self.key), None)

    def _begun(self, number: int) -> None:
        self._draw()
        self.query_one(PickList).move_to(f"job{number}")

    def action_cancel(self) -> None:
        if (job := self._job) is None or not job.active:
            self.say("this import does not run")
        else:
            self.session.imports.queue.cancel(job.id)
            self.say("cancelling; what was downloaded is kept")

    action_interrupt = action_cancel

    def action_again(self) -> None:
        """Try it once more, or go on with what was interrupted."""
        job, old = self._job, self._old
        if job is not None and job.state in _AGAIN and self.may("import_image"):
            self._begun(self.session.imports.try_again(job))
        elif old is not None and old.problem:
            self.say(f"its record cannot be read: {old.problem}")
        elif old is not None and self.may("import_image"):
            self._begun(self.session.imports.go_on(old))

    def action_rename(self) -> None:
        job = self._job
        if job is not None and isinstance(job.error, NamedOtherwiseError) and self.may("import_image"):
            request = msgspec.structs.replace(job.request, rename=True)
            self._begun(self.session.imports.queue.submit(request, logins=job.logins))

    def action_forget(self) -> None:
        if (old := self._old) is not None and self.may("import_image"):
            self._forget(old)

    @work(group="forget")
    async def _forget(self, old: UnfinishedImport) -> None:
        with self.saying_errors():
            await asyncio.to_thread(self.session.imports.forget, old)
            self.say("forgotten; what it downloaded is still there, D removes it")
            self._throttle.ask()

    def action_downloads(self) -> None:
        if not self.may("import_image"):
            return
        if self.session.imports.queue.active:
            self.say("not done: imports are under way, and need what they downloaded; x cancels one")
            return
        self.app.push_screen(DownloadsScreen(), self._removed)

    def _removed(self, message: str | None) -> None:
        if message:
            self._downloaded = 0
            self.draw_detail()
            self.say(message)

    def action_import_image(self) -> None:
        """The form, filled with what did not come about where the cursor is on that."""
        if self.may("import_image"):
            job = self._job
            asked = job.request if job is not None and job.state in _AGAIN else None
            self.app.push_screen(ImportScreen(asked), self._imported)

    def _imported(self, message: str | None) -> None:
        if message:
            self._begun(self.session.imports.queue.jobs[-1].id)
            self.say(message)


class LeavingScreen(ConfirmScreen):
    """Dismissed with a word once all imports are stopped, None to stay."""

    subject = "quit"
    verb = "Stop and quit"
    stay = "Stay"
    asked = "nothing is stopped before y"
    writes = False

    async def plan(self) -> Iterable[Line | LongList]:
        active = self.session.imports.queue.active
        verb = "runs" if len(active) == 1 else "run"
        lines = self.opening(f"{counted(len(active), 'import')} still {verb}")
        for job in active:
            lines.append(Line(f"{import_label(job.request)} {import_percent(job.progress)}", job.progress.phase))
        return [
            *lines,
            Line(),
            Line("Quitting stops them and their packers. The cache stays as it is; what was downloaded is kept."),
            Line("The next start offers to go on with them."),
        ]

    async def act(self) -> str:
        await asyncio.to_thread(self.session.imports.queue.close)
        return "stopped"

    action_interrupt = ConfirmScreen.action_leave

    def acting(self) -> str:
        return "stopping the imports; what was downloaded is kept"


_BAR = 12
_ROOM_FOR_BAR = 70
_KINDS: dict[JobState, Kind] = {JobState.RUNNING: "plain", JobState.DONE: "good", JobState.FAILED: "bad"}


def _job_row(job: ImportJob, width: int) -> PickRow:
    now, right = job.progress, f"{job.state:<11}"
    if job.state is JobState.RUNNING:
        drawn = f"{_bar(now.done, now.total)} " if width >= _ROOM_FOR_BAR else ""
        left = human_age(math.ceil(now.left)) if now.left is not None else ""
        right = f"{now.phase:<11} {drawn}{import_percent(now):>5} {left:>4}"
    text = f"{job.id} {import_label(job.request)} {job.request.format}"
    return PickRow(f"job{job.id}", text, right, _KINDS.get(job.state, "muted"))


def _interrupted_row(unfinished: UnfinishedImport) -> PickRow:
    request, damaged = unfinished.request, unfinished.problem
    text = f"- {unfinished.id} cannot be read" if damaged else f"- {import_label(request)} {request.format}"
    return PickRow(f"old{unfinished.id}", text, f"{'interrupted':<11}", "bad")


def _layer_lines(layers: Sequence[LayerProgress]) -> list[Line]:
    if not layers:
        return []
    lines = [Line(), heading(f"Layers: {len(layers)}, {human_size(sum(layer.total for layer in layers))}")]
    for layer in layers:
        text = f"{_bar(layer.done, layer.total)} {human_size(layer.done):>5} of {human_size(layer.total):>5}"
        lines.append(Line(text, short_digest(layer.digest)))
    return lines


def _bar(done: int, total: int) -> str:
    """A bar that the ASCII filter turns into number signs and dots."""
    full = min(done * _BAR // total, _BAR) if total else 0
    return "█" * full + "·" * (_BAR - full)
