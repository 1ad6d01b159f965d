"""The imports of this program as its screens see them: the queue, what its thread says, and what was interrupted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ocitui.cache.files import OWN_NAME

if TYPE_CHECKING:
    from ocitui.cache import PackerCache
    from ocitui.importing.jobs import ImportJob, ImportQueue
    from ocitui.importing.progress import LayerProgress
    from ocitui.importing.requests import ImportRequest
    from ocitui.importing.unfinished import UnfinishedImport

_LEFT_BY_IMPORTS = ("imports", "import", "blobs")


class ImportBoard:
    """``tell`` is called from the queue's thread when something changed, and not again before `take_news`: however long
    nobody looks, one call waits at most."""

    def __init__(self, cache: PackerCache, tell: Callable[[], None]) -> None:
        from ocitui.importing.jobs import ImportQueue

        self._tell = tell
        self._told = False
        self._layers: dict[int, tuple[LayerProgress, ...]] = {}
        self._cache = cache
        self.queue: ImportQueue = ImportQueue(cache, self._changed)
        self.interrupted: list[UnfinishedImport] = []

    @property
    def jobs(self) -> list[ImportJob]:
        """Every import since the start, in the order they were asked for."""
        return self.queue.jobs

    @property
    def active(self) -> list[ImportJob]:
        """Those that wait or run."""
        return self.queue.active

    def job(self, number: int) -> ImportJob | None:
        return next((job for job in self.jobs if job.id == number), None)

    def layers(self, number: int) -> tuple[LayerProgress, ...]:
        """The layers that a job downloaded, also once it is past that."""
        return self._layers.get(number, ())

    def submit(self, request: ImportRequest) -> int:
        """Put an import into the queue; gives its number."""
        return self.queue.submit(request)

    def go_on(self, unfinished: UnfinishedImport) -> int:
        """Take up an interrupted import, its record held meanwhile; gives its number."""
        self.interrupted = [one for one in self.interrupted if one.id != unfinished.id]
        return self.queue.submit(unfinished.request, unfinished.id)

    def try_again(self, job: ImportJob) -> int:
        """The same once more, by its record where that is still there; gives its number."""
        record = next((one for one in self.interrupted if one.id == job.resumes), None)
        return self.go_on(record) if record else self.submit(job.request)

    def take_news(self) -> None:
        """What changes from here on is told again."""
        self._told = False

    def close(self) -> None:
        """End all imports, and wait for that. May be called from a signal's handler."""
        self.queue.close()

    def read_interrupted(self) -> None:
        """Look for interrupted imports; not on the event loop. Raises StorageError."""
        from ocitui.importing.unfinished import unfinished

        # One that waits for its thread's first step does not hold its record yet.
        taken = {job.resumes for job in self.active}
        self.interrupted = [one for one in unfinished(self._cache.directory) if one.id not in taken]

    def forget(self, unfinished: UnfinishedImport) -> None:
        """Remove its record; not on the event loop. Raises StorageError, ReadOnlyError."""
        from ocitui.importing.unfinished import forget

        forget(self._cache.directory, unfinished.id)
        self.read_interrupted()

    def downloaded(self) -> int:
        """The bytes of the blobs that are kept; not on the event loop. Raises StorageError."""
        from ocitui.importing.unfinished import blob_store

        return blob_store(self._cache.directory).size()

    def _changed(self, job: ImportJob) -> None:
        """Called from the queue's thread."""
        if job.progress.layers:
            self._layers[job.id] = job.progress.layers
        if job.result is not None and job.result.outcome == "stored":
            # It takes as long as reading the file; what is killed in it is made up for by the first deep check.
            arguments = (self._cache.directory, job.result.image.path)
            threading.Thread(target=_record, args=arguments, name="ocitui-ledger", daemon=True).start()
        if not self._told:
            self._told = True
            self._tell()


def _record(directory: Path, packed: Path) -> None:
    """Note in the doctor's ledger what a packed file is now."""
    from ocitui.cache.ledger import record_stored

    record_stored(directory, packed)


def leaves_of_imports(directory: Path) -> bool:
    """Whether imports left anything at all: a look that is cheaper than loading what deals with it."""
    for name in _LEFT_BY_IMPORTS:
        with suppress(OSError), os.scandir(directory / OWN_NAME / name) as found:
            if any(found):
                return True
    return False
