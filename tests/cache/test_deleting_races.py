"""A daemon that brings an image in again while its entry is deleted."""

from __future__ import annotations

from pathlib import Path

from ocitui.cache import PackerCache
from ocitui.cache.disk import Disk
from tests.cache.scenes import key
from tests.cache.support import digests_and_formats, trash, write_cache


class StoresMeanwhile(Disk):
    """A disk on which the daemon puts files in their places just after an index was published, its entry not yet."""

    def __init__(self, directory: Path, files: dict[str, bytes]) -> None:
        super().__init__()
        self._directory = directory
        self._files = files
        self._published = False

    def step(self, operation: str, name: str) -> None:
        if self._published:
            for file, data in self._files.items():
                (self._directory / file).write_bytes(data)
            self._files = {}
        self._published = self._published or operation == "exchange"


async def test_files_that_the_daemon_brought_since_stay(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    write_cache(directory, range(2))
    name = f"{key(0)[0]}.squashfs"
    cache = PackerCache(directory, disk=StoresMeanwhile(directory, {name: b"pulled again"}))
    await cache.delete([key(0)])
    assert digests_and_formats(directory) == [key(1)]
    assert (directory / name).read_bytes() == b"pulled again"
    assert b"packed 0 squashfs" not in trash(directory)
