"""Sources to import from, registries that stall, and queues that stand still."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from textual.widgets import Input

from ocitui.cache import PackedFormat
from ocitui.importing.errors import NamedOtherwiseError
from ocitui.importing.image_import import recorded_import
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.jobs import ImportJob, JobState
from ocitui.importing.progress import ImportPhase, ImportProgress, LayerProgress
from tests.importing.image_makers import Made, layout_files, make_image, make_index, named, put, write_files
from tests.importing.registry_server import FaultyRegistry, Reply, digest_of, serving
from tests.tui.screen_support import Desk

ALPINE, BUSYBOX = "registry.example.com/team/alpine:3.20", "registry.example.com/team/busybox:1.37"


def layout_of(directory: Path, **images: Made) -> Path:
    """An OCI layout with these images by their tags."""
    index = make_index(*(named(image, tag) for tag, image in images.items()))
    blobs = [blob for image in images.values() for blob in image.blobs]
    return write_files(directory, layout_files(index, *blobs))


def layout_with_names(directory: Path, *names: str) -> Path:
    """An OCI layout of small images that are called so, the content of each its own."""
    images = {name: make_image(name.encode()) for name in names}
    index = make_index(*(named(image, name) for name, image in images.items()))
    return write_files(directory, layout_files(index, *(blob for image in images.values() for blob in image.blobs)))


def large_layout(directory: Path, megabytes: int) -> Path:
    """A layout whose packing takes a while: it does not compress."""
    return layout_of(directory, large=make_image(*(os.urandom(1 << 20) * 8 for _ in range(megabytes // 8))))


@contextmanager
def registry_in_a_thread() -> Iterator[FaultyRegistry]:
    """A registry for a program, or a screen, that has an event loop of its own."""
    registry, ready, end = FaultyRegistry(), threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with serving(registry):
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield registry
    finally:
        loops[0].call_soon_threadsafe(end.set)
        thread.join()


def stalled(registry: FaultyRegistry, *contents: bytes) -> Made:
    """Put `team/app:v1` there, whose last layer stops coming half way."""
    image = put(registry, make_image(*(contents or (os.urandom(60_000), os.urandom(60_000)))), "v1")
    last = image.layers[-1]
    registry.always(f"/blobs/{digest_of(last)}", Reply(body=last, cut=len(last) // 2, stall=True))
    return image


def leave_interrupted(cache: Path, request: ImportRequest) -> None:
    """The record of an import that a signal ended."""
    with suppress(KeyboardInterrupt), recorded_import(cache, request):
        raise KeyboardInterrupt


async def look(one: Desk, source: str) -> None:
    """Open the form, and look at a source."""
    await one.open("i", "ImportScreen")
    one.app.screen.query_one("#source", Input).value = source
    await one.press("enter")


async def begin(one: Desk, source: str) -> None:
    """Import what a source holds."""
    await look(one, source)
    await one.until(lambda: "nothing is changed before y" in one.status, "the preview")
    await one.press("y")
    await one.until(lambda: one.top == "MainScreen", "the form is gone")


class StillQueue:
    """A queue whose jobs are as they were given."""

    def __init__(self, *jobs: ImportJob) -> None:
        self.jobs = list(jobs)

    @property
    def active(self) -> list[ImportJob]:
        return [job for job in self.jobs if job.active]

    def close(self) -> None:
        """Nothing runs."""


_DIGEST = "sha256:0c97a1e87d85e8e7d1ba9f2f40def27493ea49a913c5255a823f1aecbb5fd00c"


def jobs_at_rest() -> list[ImportJob]:
    """One that packs, one that downloads, one that waits, one that failed."""
    layers = tuple(
        LayerProgress(f"sha256:{number:02x}{'5e' * 31}", done << 20, total << 20)
        for number, (done, total) in enumerate(((29, 29), (40, 71), (3, 12)))
    )
    packing = ImportProgress(
        ImportPhase.WRITE, 51 << 20, 124 << 20, 1830, 4410, rate=11.5 * (1 << 20), left=6.4, layer=3, layers_total=5
    )
    fetching = ImportProgress(
        ImportPhase.DOWNLOAD, 72 << 20, 112 << 20, layers=layers, layers_total=3, rate=8.1 * (1 << 20), left=4.9
    )
    hub = "docker.io/library"
    return [
        ImportJob(
            1,
            ImportRequest(source="docker-archive:/srv/app.tar", name="registry.example.com/team/app:2.1"),
            state=JobState.FAILED,
            error=NamedOtherwiseError(f"the cache has {_DIGEST} in format squashfs as registry.example.com/team/app:2"),
        ),
        ImportJob(
            2,
            ImportRequest(source="oci:/srv/layout", name=f"{hub}/postgres:16.3", format=PackedFormat.EROFS),
            state=JobState.RUNNING,
            progress=packing,
        ),
        ImportJob(
            3,
            ImportRequest(source=f"nginx:1.27@{_DIGEST}", name=f"{hub}/nginx:1.27"),
            state=JobState.RUNNING,
            progress=fetching,
        ),
        ImportJob(4, ImportRequest(source="alpine:3.20", name=f"{hub}/alpine:3.20")),
    ]


def show_jobs(one: Desk) -> None:
    """Have the application show these, which do not move."""
    board = one.session.imports
    board.queue = StillQueue(*jobs_at_rest())  # type: ignore[assignment]
    board.layers[3] = board.queue.jobs[2].progress.layers
    one.app.imports_changed()
