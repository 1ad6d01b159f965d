"""An import that is cancelled at any of its steps leaves no process, no file, and the cache as it was."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from ocitui.cache import PackerCache
from ocitui.cache.disk import Disk
from ocitui.importing.image_import import ImportOutcome, import_image
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.progress import ImportPhase
from tests.cache.support import SQUASHFS, TAR
from tests.importing.image_makers import gzipped, put
from tests.importing.layer_support import Item, layer
from tests.importing.pipeline import NAME, Run, image_of, in_cache, layout_of
from tests.importing.registry_server import FaultyRegistry, Reply, digest_of
from tests.importing.sources import make_source

pytestmark = pytest.mark.slow

NOISE = layer(Item("noise", data=random.Random(1).randbytes(3 << 20)))
IMAGE = image_of(NOISE, layer(Item("b", data=b"b" * 9000)), compress=gzipped)
BIG = digest_of(IMAGE.layers[0])


@pytest.fixture
def served(registry: FaultyRegistry, quick: None) -> str:
    put(registry, IMAGE, "v1")
    return f"docker://{registry.host}/team/app:v1"


@pytest.mark.parametrize(
    "phase",
    [
        ImportPhase.INSPECT,
        ImportPhase.DOWNLOAD,
        ImportPhase.READ,
        ImportPhase.WRITE,
        ImportPhase.FINISH,
        ImportPhase.STORE,
    ],
)
async def test_at_each_step(phase: ImportPhase, importing: Run, served: str) -> None:
    before = in_cache(importing.directory)
    await importing.cancelled_at(phase, served, format=SQUASHFS)
    assert in_cache(importing.directory) == before
    importing.assert_nothing_left()
    blobs = importing.desk.blobs
    assert blobs.size() == sum(path.stat().st_size for path in blobs.directory.glob("*"))
    assert bool(blobs.size()) is (phase is not ImportPhase.INSPECT)
    assert (await importing(served, format=SQUASHFS)).outcome is ImportOutcome.STORED
    await importing.assert_whole(IMAGE, NAME, SQUASHFS)
    assert blobs.size() == 0
    importing.assert_nothing_left()


async def test_the_next_import_goes_on(importing: Run, served: str, registry: FaultyRegistry) -> None:
    registry.once(BIG, Reply(body=IMAGE.layers[0], cut=1_500_000, stall=True))
    await importing.cancelled_at(ImportPhase.DOWNLOAD, served, format=TAR)
    # Of the other layers there may be a part too.
    (partial,) = (blob for blob in importing.desk.blobs.stored() if blob.partial and blob.digest == BIG)
    assert 0 < partial.size <= 1_500_000
    await importing(served, format=TAR)
    assert registry.asked(BIG)[-1].headers["range"] == f"bytes={partial.size}-"
    await importing.assert_whole(IMAGE, NAME, TAR)


class CancellingDisk(Disk):
    """Cancels a task before one of the steps of a transaction, the first being 0."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.steps = at, 0
        self.loop = asyncio.get_running_loop()
        self.task: asyncio.Task[object] | None = None

    def step(self, operation: str, name: str) -> None:
        if self.steps == self.at and self.task is not None:
            self.loop.call_soon_threadsafe(self.task.cancel)
            # A second time, as when the program is told to leave meanwhile.
            self.loop.call_soon_threadsafe(self.task.cancel)
        self.steps += 1


@pytest.mark.parametrize("at", [0, 3, 8, 13])
async def test_in_the_transaction(at: int, importing: Run, tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "layout", IMAGE)
    disk = CancellingDisk(at)
    run = Run(await PackerCache.open(importing.directory, disk=disk))
    before = in_cache(run.directory)
    request = ImportRequest(source=f"oci:{layout}:x", name=NAME, format=TAR, platform="linux/amd64")
    task = asyncio.ensure_future(import_image(run.desk, request, run._hear))
    disk.task = task
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(outcome, asyncio.CancelledError)
    run.assert_nothing_left()
    if in_cache(run.directory) != before:
        await run.assert_whole(IMAGE, NAME, TAR)
        assert run.directory.joinpath(f"{IMAGE.digest}.tar").stat().st_nlink == 1
    assert (await importing(request.source, format=TAR)).outcome is not ImportOutcome.RENAMED
    await importing.assert_whole(IMAGE, NAME, TAR)


async def test_packed_files(importing: Run, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    before = in_cache(importing.directory)
    await importing.cancelled_at(ImportPhase.COPY, f"packed:{source.packed}", platform=None)
    if in_cache(importing.directory) != before:
        await importing.assert_whole(None, NAME, TAR, source.digest)
    importing.assert_nothing_left()
