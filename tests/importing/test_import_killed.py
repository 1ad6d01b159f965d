"""A program that is killed while it imports: no process outlives it, the cache is sound, the next one goes on."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

import pytest

from ocitui.cache import NoSuchTransactionError, PackerCache
from ocitui.importing.image_import import import_image, recorded_import, unfinished_imports
from ocitui.importing.progress import ImportPhase
from ocitui.importing.staging import remove_abandoned
from tests.cache.support import OWN, SQUASHFS, TAR, until, write_cache
from tests.importing.image_makers import gzipped, put
from tests.importing.layer_support import Item, layer
from tests.importing.pipeline import NAME, Run, Sessions, image_of, in_cache, staged
from tests.importing.registry_server import FaultyRegistry, Reply, digest_of
from tests.tools import ROOT, seeds

pytestmark = pytest.mark.slow

NOISE = random.Random(2).randbytes(4 << 20)
IMAGE = image_of(layer(Item("noise", data=NOISE)), layer(Item("b", data=b"b" * 9000)), compress=gzipped)
BIG = digest_of(IMAGE.layers[0])
# Imports, says each step, and stands still in the one that is named.
IMPORT = """
import asyncio, sys, time
from pathlib import Path
from ocitui.cache import NoSuchTransactionError, PackerCache
from ocitui.importing.image_import import ImportDesk, import_image
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.image_import import recorded_import

directory, source, name, wait_in = sys.argv[1:]
told = None

def hear(now):
    global told
    if now.phase != told:
        told = now.phase
        print(told.value, flush=True)
    if told.value == wait_in:
        print("stands", flush=True)
        time.sleep(600)

async def main():
    cache = await PackerCache.open(directory)
    request = ImportRequest(source=source, name=name, platform="linux/amd64", plain_http=True)
    with recorded_import(cache.directory, request):
        await import_image(ImportDesk(cache), request, hear)
    print("done", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def served(registry: FaultyRegistry, quick: None) -> str:
    put(registry, IMAGE, "v1")
    return f"docker://{registry.host}/team/app:v1"


async def begin(run: Run, source: str, wait_in: str = "") -> Process:
    words = (str(run.directory), source, NAME, wait_in)
    return await asyncio.create_subprocess_exec(sys.executable, "-c", IMPORT, *words, cwd=ROOT, stdout=PIPE)


async def said(program: Process, word: str) -> None:
    """Return once it has printed this line."""
    assert program.stdout is not None
    while (line := (await program.stdout.readline()).decode()) != f"{word}\n":
        assert line, f"it ended before it said {word}"


async def kill(program: Process) -> None:
    """Kill it; whatever it started ends, too."""
    # It is stopped first, so that it starts nothing more. Its own kill() would reap it, too, which asyncio is to do.
    with suppress(ProcessLookupError):
        os.kill(program.pid, signal.SIGSTOP)
        await until(lambda: process_state(program.pid) not in "RSD", "it stands still")
    sessions = Sessions(program.pid)
    sessions.look()
    with suppress(ProcessLookupError):
        os.kill(program.pid, signal.SIGKILL)
    await program.wait()
    await until(lambda: not sessions.left(), "the end of the workers and packers")


def process_state(pid: int) -> str:
    """The letter that proc_pid_stat(5) gives, X where there is none any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


async def assert_sound(run: Run, before: dict[str, tuple[str, bytes]]) -> None:
    """As before, or with the whole image."""
    if in_cache(run.directory) != before:
        # It also brings a transaction to its end that was under way, or takes it back: then there is nothing to undo.
        with suppress(NoSuchTransactionError):
            await PackerCache(run.directory).undo()
        assert in_cache(run.directory) == before


async def assert_goes_on(run: Run) -> None:
    """The import is offered again, and comes to its end."""
    (left,) = unfinished_imports(run.directory)
    with recorded_import(run.directory, left.request, left.id):
        await import_image(run.desk, left.request)
    await run.assert_whole(IMAGE, NAME, SQUASHFS)
    assert unfinished_imports(run.directory) == []
    assert staged(run.directory) == []
    assert os.listdir(run.directory / OWN / "imports") == []
    assert run.desk.blobs.size() == 0


STEPS = (ImportPhase.INSPECT, ImportPhase.READ, ImportPhase.WRITE, ImportPhase.FINISH, ImportPhase.STORE)


@pytest.mark.parametrize("phase", STEPS)
async def test_killed_in_each_step(phase: ImportPhase, importing: Run, served: str, registry: FaultyRegistry) -> None:
    before = in_cache(importing.directory)
    program = await begin(importing, served, phase)
    await said(program, "stands")
    await kill(program)
    assert in_cache(importing.directory) == before
    assert [one.request.name for one in unfinished_imports(importing.directory)] == [NAME]
    begun = phase is not ImportPhase.INSPECT
    assert len(staged(importing.directory)) == begun
    assert remove_abandoned(importing.directory) == begun
    assert staged(importing.directory) == []
    asked = len(registry.asked(BIG))
    assert asked == begun
    await assert_goes_on(importing)
    assert len(registry.asked(BIG)) == 1, "what was fetched whole is not fetched again"


async def test_killed_in_the_middle_of_a_download(importing: Run, served: str, registry: FaultyRegistry) -> None:
    registry.once(BIG, Reply(body=IMAGE.layers[0], cut=2 << 20, stall=True))
    before = in_cache(importing.directory)
    program = await begin(importing, served)
    await until(lambda: importing.desk.blobs.size() > 1 << 20, "a part of the layer")
    await kill(program)
    kept = max(path.stat().st_size for path in importing.desk.blobs.directory.iterdir())
    assert in_cache(importing.directory) == before
    assert [one.request.name for one in unfinished_imports(importing.directory)] == [NAME]
    remove_abandoned(importing.directory)
    assert staged(importing.directory) == []
    await assert_goes_on(importing)
    ranges = [request.headers.get("range") for request in registry.asked(BIG)]
    assert ranges == [None, f"bytes={kept}-"], "what was there is not fetched again"


@pytest.mark.parametrize("seed", seeds(4, 100))
async def test_killed_at_a_random_moment(seed: int, served: str, tmp_path: Path) -> None:
    """At a moment of the time that it takes undisturbed; tried again in less time where that was too late."""
    chance, longest = random.Random(seed), 2.0
    for attempt in itertools.count():
        write_cache(tmp_path / str(attempt), [1])
        run = Run(await PackerCache.open(tmp_path / str(attempt)))
        before, program = in_cache(run.directory), await begin(run, served)
        await said(program, ImportPhase.INSPECT)
        began = time.monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(program.wait(), chance.uniform(0.0, longest))
        longest = time.monotonic() - began
        if program.returncode is None:
            await kill(program)
        if program.returncode == -signal.SIGKILL:
            break
        assert program.returncode == 0
    await assert_sound(run, before)
    remove_abandoned(run.directory)
    assert staged(run.directory) == []
    if unfinished_imports(run.directory):
        await assert_goes_on(run)


async def test_the_next_import_removes_what_is_left(importing: Run, served: str, tmp_path: Path) -> None:
    program = await begin(importing, served, ImportPhase.WRITE)
    await said(program, "stands")
    (mine,) = staged(importing.directory)
    await importing(served, "another:1", format=TAR)
    assert staged(importing.directory) == [mine], "what another program uses stays"
    await kill(program)
    await importing(served, "another:1", format=TAR, again=True)
    assert staged(importing.directory) == []
