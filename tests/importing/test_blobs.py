"""The blob store: whole and partial blobs, shared downloads, and what is left when one is given up."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import pytest

from ocitui.cache import Disk, StorageError
from ocitui.importing.errors import TransferError, UnsoundSourceError
from ocitui.importing.staging import BlobStore, PartialBlob
from tests.importing.registry_server import digest_of

DATA = bytes(range(256)) * 20_000
DIGEST = digest_of(DATA)


async def append_rest(blob: PartialBlob) -> None:
    for start in range(blob.done, len(DATA), 65_536):
        await blob.append(DATA[start : start + 65_536])


async def never(blob: PartialBlob) -> None:
    raise AssertionError("nothing is missing")


async def test_whole_blob(blobs: BlobStore) -> None:
    seen: list[int] = []
    path = await blobs.fetch(DIGEST, len(DATA), append_rest, lambda digest, done, total: seen.append(done))
    assert path == blobs.directory / DIGEST
    assert path.read_bytes() == DATA
    assert seen == sorted(seen)
    assert seen[-1] == len(DATA)
    assert await blobs.fetch(DIGEST, len(DATA), never) == path
    assert [(blob.digest, blob.size, blob.partial) for blob in blobs.stored()] == [(DIGEST, len(DATA), False)]
    assert blobs.size() == len(DATA)


async def test_empty_blob(blobs: BlobStore) -> None:
    assert (await blobs.fetch(digest_of(b""), 0, never)).read_bytes() == b""


async def test_several_share_one_download(blobs: BlobStore) -> None:
    begun: list[PartialBlob] = []

    async def download(blob: PartialBlob) -> None:
        begun.append(blob)
        await append_rest(blob)

    seen: dict[int, int] = {}

    def fetch(number: int) -> asyncio.Task[Path]:
        def report(digest: str, done: int, total: int) -> None:
            seen[number] = done

        return asyncio.create_task(blobs.fetch(DIGEST, len(DATA), download, report))

    assert set(await asyncio.gather(*map(fetch, range(3)))) == {blobs.directory / DIGEST}
    assert len(begun) == 1
    assert seen == dict.fromkeys(range(3), len(DATA))


@pytest.mark.parametrize("leaving", [0, 1])
async def test_others_go_on_when_one_leaves(blobs: BlobStore, leaving: int) -> None:
    """What carries the download out may be gone with who leaves: its connections are closed."""
    started, go_on = asyncio.Event(), asyncio.Event()
    carriers: list[tuple[int, int]] = []

    def fetch(number: int) -> asyncio.Task[Path]:
        async def download(blob: PartialBlob) -> None:
            carriers.append((number, blob.done))
            if not blob.done:
                await blob.append(DATA[:1_500_000])
                started.set()
                await go_on.wait()
            await append_rest(blob)

        return asyncio.create_task(blobs.fetch(DIGEST, len(DATA), download))

    tasks = [fetch(number) for number in range(3)]
    await started.wait()
    tasks[leaving].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks.pop(leaving)
    go_on.set()
    assert set(await asyncio.gather(*tasks)) == {blobs.directory / DIGEST}
    assert carriers == ([(0, 0), (1, 1_500_000)] if leaving == 0 else [(0, 0)])
    assert (blobs.directory / DIGEST).read_bytes() == DATA


async def test_last_to_leave_ends_the_download(blobs: BlobStore) -> None:
    begun = asyncio.Event()

    async def download(blob: PartialBlob) -> None:
        await blob.append(DATA[:3_000_001])
        begun.set()
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(blobs.fetch(DIGEST, len(DATA), download)) for _ in range(2)]
    await begun.wait()
    for task in tasks:
        task.cancel()
    assert {type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)} == {asyncio.CancelledError}
    assert [(blob.size, blob.partial) for blob in blobs.stored()] == [(3_000_001, True)]
    assert (await blobs.fetch(DIGEST, len(DATA), append_rest)).read_bytes() == DATA


async def test_each_has_the_error_of_its_own_source(blobs: BlobStore) -> None:
    """Two may want the same blob of two registries, of which one is down."""
    sources = ["mirror", "sound", "late"]
    begun: list[tuple[str, int]] = []

    def fetch(source: str) -> asyncio.Task[Path]:
        async def download(blob: PartialBlob) -> None:
            begun.append((source, blob.done))
            if source == "mirror":
                await blob.append(DATA[:10])
                raise TransferError("the mirror is gone")
            await append_rest(blob)

        return asyncio.create_task(blobs.fetch(DIGEST, len(DATA), download))

    failed, *came = await asyncio.gather(*map(fetch, sources), return_exceptions=True)
    assert isinstance(failed, TransferError)
    assert came == [blobs.directory / DIGEST] * 2
    assert begun == [("mirror", 0), ("sound", 10)]


async def test_what_came_before_an_error_is_kept(blobs: BlobStore) -> None:
    async def download(blob: PartialBlob) -> None:
        await blob.append(DATA[:10])
        raise TransferError("gone")

    with pytest.raises(TransferError):
        await blobs.fetch(DIGEST, len(DATA), download)
    assert [(blob.size, blob.partial) for blob in blobs.stored()] == [(10, True)]


async def test_wrong_bytes_are_removed(blobs: BlobStore) -> None:
    async def download(blob: PartialBlob) -> None:
        await blob.append(bytes(len(DATA)))

    with pytest.raises(UnsoundSourceError):
        await blobs.fetch(DIGEST, len(DATA), download)
    assert blobs.stored() == []


async def test_damaged_blob_is_fetched_again(blobs: BlobStore) -> None:
    path = await blobs.fetch(DIGEST, len(DATA), append_rest)
    path.write_bytes(DATA[:-1] + b"x")
    assert (await blobs.fetch(DIGEST, len(DATA), append_rest)).read_bytes() == DATA


def is_open(path: Path) -> bool:
    """Whether this process has the file open."""
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{fd}") == str(path):
                return True
    return False


@pytest.mark.parametrize("ending", ["", ".partial"])
async def test_cancelled_while_what_is_there_is_hashed(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """It may be a disk image of a hundred gigabytes: who cancels does not wait for its end, and nobody reads on."""
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    class Hashing:
        blocks = 0

        def update(self, block: bytes) -> None:
            Hashing.blocks += 1
            loop.call_soon_threadsafe(begun.set)

        def hexdigest(self) -> str:
            return "0" * 64

    monkeypatch.setattr("hashlib.sha256", Hashing)
    blobs.make_directory()
    path, all_blocks = blobs.directory / f"{DIGEST}{ending}", 4 << 10
    path.touch()
    os.truncate(path, all_blocks << 20)  # a hole: nothing of it is on the disk
    fetching = asyncio.create_task(blobs.fetch(DIGEST, all_blocks << 20, never))
    await begun.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert Hashing.blocks < all_blocks
    assert not is_open(path)


@pytest.mark.parametrize("digest", ["", "sha256:..", "../x", f"sha256:{'g' * 64}", DIGEST + "\n"])
async def test_digest_that_is_none(blobs: BlobStore, digest: str) -> None:
    with pytest.raises(UnsoundSourceError):
        await blobs.fetch(digest, 1, append_rest)
    assert not blobs.directory.exists()


async def test_link_in_the_place_of_a_blob(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.make_directory()
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs")
    (blobs.directory / f"{DIGEST}.partial").symlink_to(outside)
    with pytest.raises(StorageError):
        await blobs.fetch(DIGEST, len(DATA), append_rest)
    assert outside.read_bytes() == b"theirs"


async def test_another_program_downloads_it(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = 0

    async def sleep(seconds: float) -> None:
        nonlocal waited
        waited += 1
        if waited == 3:  # the other is done
            path.rename(blobs.directory / DIGEST)
            os.close(fd)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    blobs.make_directory()
    path = blobs.directory / f"{DIGEST}.partial"
    path.write_bytes(DATA)
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert (await blobs.fetch(DIGEST, len(DATA), never)).read_bytes() == DATA
    assert waited == 3


async def test_clear(blobs: BlobStore) -> None:
    assert blobs.stored() == []
    await blobs.fetch(DIGEST, len(DATA), append_rest)
    (blobs.directory / "something else").write_bytes(b"stays")
    busy = blobs.directory / f"{digest_of(b'busy')}.partial"
    busy.write_bytes(b"bus")
    fd = os.open(busy, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert blobs.clear([digest_of(b"other")]) == 0
    assert blobs.clear() == len(DATA)
    assert [blob.path for blob in blobs.stored()] == [busy]
    os.close(fd)
    assert blobs.clear([digest_of(b"busy")]) == 3
    assert [path.name for path in blobs.directory.iterdir()] == ["something else"]


async def test_no_room(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    blob = PartialBlob(tmp_path, DIGEST, len(DATA), Disk())
    blob.open()
    blob.restart()
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, blob._fd)
    os.close(full)
    with pytest.raises(StorageError, match="No space left"):
        await append_rest(blob)
    blob.close()


async def append_each(blob: PartialBlob, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        await blob.append(chunk)


async def test_a_disk_that_fails_amid_a_blob_ends_it_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = list[int]()

    class Failing(Disk):
        def sync(self, fd: int, name: str) -> None:
            synced.append(os.fstat(fd).st_size)
            if len(synced) == 2:
                raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("ocitui.importing.staging._SYNCED_BYTES", 3 << 20)
    blob = PartialBlob(tmp_path, DIGEST, 64 << 20, Failing())
    blob.open()
    blob.restart()
    chunks = repeat(bytes(1 << 20), 64)
    with pytest.raises(StorageError, match="cannot write a blob: Input/output error"):
        await append_each(blob, chunks)
    assert synced == [3 << 20, 6 << 20]
    blob.close()
