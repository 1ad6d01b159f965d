"""A program that is killed while it imports: no process outlives it, the cache is sound, the next one goes on."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from ocitui.cache import PackerCache
from ocitui.importing.image_import import import_image
from ocitui.importing.progress import ImportPhase
from ocitui.importing.staging import remove_abandoned
from ocitui.importing.unfinished import resumed, unfinished
from tests.cache.support import OWN, SQUASHFS, TAR, until
from tests.importing.image_makers import put
from tests.importing.layer_support import Item, layer
from tests.importing.pipeline import NAME, Run, Sessions, image_of, in_cache, staged
from tests.importing.registry_server import FaultyRegistry, Reply, digest_of
from tests.tools import ROOT, need

NOISE = random.Random(2).randbytes(4 << 20)
IMAGE = image_of(layer(Item("noise", data=NOISE)), layer(Item("b", data=b"b" * 9000)))
BIG = digest_of(IMAGE.layers[0])
# Imports, says each step, and stands still in the one that is named.
IMPORT = """
import asyncio, sys, time
from pathlib import Path
from ocitui.cache import PackerCache
from ocitui.importing.image_import import ImportDesk, import_image
from ocitui.importing.requests import ImportRequest
from ocitui.importing.unfinished import recorded

directory, source, name, wait_in = sys.argv[1:]
told = None

def hear(now):
    global told
    if now.phase != told:
        told = now.phase
        print(told.value, flush=True)
    if told.value == wait_in and (told.value != "download" or now.done > 1 << 20):
        print("stands", flush=True)
        time.sleep(600)

async def main():
    cache = await PackerCache.open(directory)
    request = ImportRequest(source=source, name=name, platform="linux/amd64", plain_http=True)
    with recorded(cache.directory, request):
        await import_image(ImportDesk.of(cache), request, hear)
    print("done", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def served(registry: FaultyRegistry, quick: None) -> str:
    need("mksquashfs")
    put(registry, IMAGE, "v1")
    return f"docker://{registry.host}/team/app:v1"


async def begin(run: Run, source: str, wait_in: str = "") -> Process:
    words = (str(run.directory), source, NAME, wait_in)
    return await asyncio.create_subprocess_exec(sys.executable, "-c", IMPORT, *words, cwd=ROOT, stdout=PIPE)


async def kill(program: Process) -> None:
    """Kill it; whatever it started ends, too."""
    sessions = Sessions(program.pid)
    sessions.look()
    program.kill()
    await program.wait()
    await until(lambda: not sessions.left(), "the end of the workers and packers")


async def assert_sound(run: Run, before: dict[str, tuple[str, bytes]]) -> None:
    """As before, or with the whole image."""
    now = in_cache(run.directory)
    if now != before:
        await PackerCache(run.directory).undo()  # also brings a transaction to its end that was under way
        assert in_cache(run.directory) == before


async def assert_goes_on(run: Run) -> None:
    """The import is offered again, and comes to its end."""
    (left,) = unfinished(run.directory)
    with resumed(run.directory, left.id) as request:
        await import_image(run.desk, request)
    await run.assert_whole(IMAGE, NAME, SQUASHFS)
    assert unfinished(run.directory) == []
    assert staged(run.directory) == []
    assert os.listdir(run.directory / OWN / "imports") == []
    assert run.desk.blobs.size() == 0


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
async def test_killed_in_each_step(phase: ImportPhase, importing: Run, served: str, registry: FaultyRegistry) -> None:
    if phase is ImportPhase.DOWNLOAD:
        registry.once(BIG, Reply(body=IMAGE.layers[0], cut=2 << 20, stall=True))
    before = in_cache(importing.directory)
    program = await begin(importing, served, phase)
    assert program.stdout is not None
    while (await program.stdout.readline()).strip() not in (b"stands", b""):
        pass
    await kill(program)
    assert in_cache(importing.directory) == before
    assert [one.request.name for one in unfinished(importing.directory)] == [NAME]
    if phase not in (ImportPhase.INSPECT, ImportPhase.DOWNLOAD):
        assert len(staged(importing.directory)) == 1
        assert remove_abandoned(importing.directory) == 1
        assert staged(importing.directory) == []
    assert remove_abandoned(importing.directory) in (0, 1)
    asked = len(registry.asked(BIG))
    await assert_goes_on(importing)
    wanted = [request.headers.get("range") for request in registry.asked(BIG)[asked:]]
    assert wanted in ([] if phase is not ImportPhase.INSPECT else [[None]], wanted)
    if phase is ImportPhase.DOWNLOAD:
        assert wanted
        assert wanted[0] is not None, "what was there is not fetched again"


@pytest.mark.parametrize("seed", range(int(os.environ.get("OCITUI_KILLS", "4"))))
async def test_killed_at_a_random_moment(seed: int, importing: Run, served: str) -> None:
    before = in_cache(importing.directory)
    program = await begin(importing, served)
    assert program.stdout is not None
    await program.stdout.readline()
    try:
        await asyncio.wait_for(program.wait(), random.Random(seed).uniform(0.0, 1.5))
    except TimeoutError:
        await kill(program)
    await assert_sound(importing, before)
    remove_abandoned(importing.directory)
    assert staged(importing.directory) == []
    if unfinished(importing.directory):
        await assert_goes_on(importing)
    else:
        assert program.returncode == 0


async def test_the_next_import_removes_what_is_left(importing: Run, served: str, tmp_path: Path) -> None:
    program = await begin(importing, served, ImportPhase.WRITE)
    assert program.stdout is not None
    while (await program.stdout.readline()).strip() != b"stands":
        pass
    (mine,) = staged(importing.directory)
    await importing(served, "another:1", format=TAR)
    assert staged(importing.directory) == [mine], "what another program uses stays"
    await kill(program)
    await importing(served, "another:1", format=TAR, again=True)
    assert staged(importing.directory) == []
