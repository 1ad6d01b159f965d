"""Room on the cache's file system: checked first, watched while an import runs, and a minimum is left free."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ocitui.cache import CacheError, PackerCache, StorageError
from ocitui.importing.errors import NoRoomError
from ocitui.importing.image_import import ImportResult, import_image
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.progress import ImportPhase, ImportProgress
from ocitui.importing.staging import check_room, free_bytes, minimum_free, while_there_is_room
from tests.cache.support import EROFS, SQUASHFS, TAR, write_cache
from tests.cache.test_full_disk import mounted
from tests.importing.image_makers import Made, put
from tests.importing.layer_support import Item, layer
from tests.importing.pipeline import NAME, Run, image_of, in_cache, layout_of
from tests.importing.registry_server import FaultyRegistry, Reply, digest_of
from tests.importing.test_import_faults import fake_tool
from tests.tools import need

pytestmark = pytest.mark.slow

MIB = 1 << 20


@cache
def noise() -> Made:
    return image_of(layer(Item("noise", data=random.Random(3).randbytes(6 * MIB))))


@cache
def zeros() -> Made:
    return image_of(layer(Item("zeros", data=bytes(60 * MIB))))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Run]:
    """A cache on a file system of 48 MiB, of which 32 may be used."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    place = tmp_path / "small"
    place.mkdir()
    mounted("-t", "tmpfs", "-o", "size=48m", "none", str(place))
    try:
        write_cache(place / "cache", [1])
        yield Run(PackerCache(place / "cache"))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(directory: Path, leave: int) -> None:
    """Somebody else writes to the same disk."""
    with open(directory.parent / "filler", "ab") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + max(free_bytes(directory) - leave, 1))


async def test_the_whole_is_checked_before_a_layer_is_fetched(
    small: Run, registry: FaultyRegistry, quick: None
) -> None:
    put(registry, noise(), "v1")
    fill(small.directory, 16 * MIB + 11 * MIB)
    before = in_cache(small.directory)
    with pytest.raises(NoRoomError, match="are to come in") as refused:
        await small(f"docker://{registry.host}/team/app:v1", format=TAR)
    assert refused.value.hint
    assert in_cache(small.directory) == before
    assert registry.asked(digest_of(noise().layers[0])) == []


@pytest.mark.parametrize("format", [TAR, EROFS])
async def test_what_becomes_larger_than_its_layers(format: str, small: Run, tmp_path: Path) -> None:
    need("mkfs.erofs")
    source = f"oci:{layout_of(tmp_path / 'layout', zeros())}:x"
    before, free = in_cache(small.directory), free_bytes(small.directory)
    # The packer is stopped before the disk is full, or ends there where it was too quick for that.
    with pytest.raises(CacheError, match="are to come in" if format == TAR else "were left free|no room for"):
        await small(source, format=format)
    assert in_cache(small.directory) == before
    small.assert_nothing_left()
    assert free_bytes(small.directory) > free - MIB


async def fill_in(phase: ImportPhase, run: Run, source: str) -> CacheError:
    """Import, while somebody else fills the disk in this step."""

    def hear(now: ImportProgress) -> None:
        run._hear(now)
        if now.phase is phase and not (run.directory.parent / "filler").exists():
            fill(run.directory, 15 * MIB)

    request = ImportRequest(source=source, name=NAME, platform="linux/amd64", packer="mksquashfs")
    with pytest.raises(CacheError) as stopped:
        await import_image(run.desk, request, hear)
    return stopped.value


@pytest.mark.parametrize(
    ("phase", "script"),
    [
        (ImportPhase.DOWNLOAD, ""),
        (ImportPhase.WRITE, "exec tail -f /dev/null"),
        (ImportPhase.FINISH, "cat > /dev/null; exec tail -f /dev/null"),
    ],
)
async def test_somebody_else_fills_the_disk(
    phase: ImportPhase,
    script: str,
    small: Run,
    registry: FaultyRegistry,
    quick: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = fake_tool(tmp_path / "tools", script)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    put(registry, noise(), "v1")
    if phase is ImportPhase.DOWNLOAD:
        registry.always(digest_of(noise().layers[0]), Reply(body=noise().layers[0], cut=2 * MIB, stall=True))
    before = in_cache(small.directory)
    error = await fill_in(phase, small, f"docker://{registry.host}/team/app:v1")
    assert isinstance(error, NoRoomError)
    assert "were left free, so the import was stopped" in error.message
    assert in_cache(small.directory) == before
    small.assert_nothing_left()
    assert small.desk.blobs.size() > 0, "what was downloaded stays"


@pytest.mark.parametrize("phase", [ImportPhase.INSPECT, ImportPhase.STORE])
async def test_a_full_disk_before_and_after(phase: ImportPhase, small: Run, tmp_path: Path) -> None:
    """A transaction has room of its own, so that one at the end may well succeed."""
    await small.cache.delete([(await small.cache.list())[0].key])
    await small.cache.undo()
    before = in_cache(small.directory)
    source = f"oci:{layout_of(tmp_path / 'layout', noise())}:x"

    def hear(now: ImportProgress) -> None:
        small._hear(now)
        if now.phase is phase:
            fill(small.directory, 0)

    request = ImportRequest(source=source, name=NAME, format=SQUASHFS, platform="linux/amd64")
    done = (await asyncio.gather(import_image(small.desk, request, hear), return_exceptions=True))[0]
    if isinstance(done, ImportResult):
        await small.assert_whole(noise(), NAME, SQUASHFS)
    else:
        assert isinstance(done, NoRoomError | StorageError)
        assert done.hint
        assert in_cache(small.directory) == before
    small.assert_nothing_left()


def test_the_minimum_leaves_room_for_indexes(tmp_path: Path) -> None:
    empty = minimum_free(tmp_path)
    assert empty == 16 * MIB
    (tmp_path / "index.json").write_bytes(b" " * 1000)
    assert minimum_free(tmp_path) == empty + 3000
    check_room(tmp_path, 0)
    with pytest.raises(NoRoomError):
        check_room(tmp_path, free_bytes(tmp_path))
    with pytest.raises(StorageError):
        free_bytes(tmp_path / "absent")


async def test_work_is_ended_before_its_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, ended = [100 * MIB], []

    async def work() -> None:
        free[0] = MIB
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    monkeypatch.setattr("ocitui.importing.staging.free_bytes", lambda directory: free[0])
    with pytest.raises(NoRoomError):
        await while_there_is_room(tmp_path, work())
    assert ended == [True]


async def answer(value: Made | Exception) -> Made:
    if isinstance(value, Exception):
        raise value
    return value


async def test_otherwise_the_outcome_is_that_of_the_work(tmp_path: Path) -> None:
    assert await while_there_is_room(tmp_path, answer(noise())) is noise()
    with pytest.raises(KeyError):
        await while_there_is_room(tmp_path, answer(KeyError("its own")))
    task = asyncio.ensure_future(while_there_is_room(tmp_path, asyncio.sleep(600)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
