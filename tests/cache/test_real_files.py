"""A cache that krata's own store wrote, and packed files that real packers made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ocitui.cache import ImageName, PackedFormat, PackerCache
from ocitui.cache.listing import CacheFiles
from tests.cache.support import make_image, tree
from tests.tools import need

PACKERS = {
    PackedFormat.SQUASHFS: ["mksquashfs", "{root}", "{file}", "-quiet", "-no-progress"],
    PackedFormat.EROFS: ["mkfs.erofs", "{file}", "{root}"],
    PackedFormat.TAR: ["tar", "-C", "{root}", "-cf", "{file}", "."],
}


def pack(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


async def test_every_entry_recalls_and_all_but_latest_resolve(krata_cache: Path) -> None:
    cache = await PackerCache.open(krata_cache)
    recalled = resolved = 0
    for descriptor in await cache.list():
        name, format_ = ImageName.parse(descriptor.image_name or ""), PackedFormat(descriptor.format or "")
        image = await cache.recall(name, descriptor.digest, format_)
        assert image is not None
        assert image.descriptor == descriptor
        recalled += 1
        resolved += await cache.resolve(name, format_) is not None
    assert (recalled, resolved) == (7, 6)
    with CacheFiles(krata_cache) as files:
        assert all(files.lstat(one.packed_file).st_size for one in await cache.list())


async def test_each_entry_deleted_and_undone(krata_cache: Path) -> None:
    before, cache = tree(krata_cache), await PackerCache.open(krata_cache)
    for descriptor in await cache.list():
        transaction = await cache.delete([descriptor.key])
        assert len(await cache.list()) == 6
        assert tree(krata_cache) != before
        await cache.undo(transaction.id)
        assert tree(krata_cache) == before


async def test_all_entries_deleted_and_undone(krata_cache: Path) -> None:
    before, cache = tree(krata_cache), await PackerCache.open(krata_cache)
    transaction = await cache.delete([descriptor.key for descriptor in await cache.list()])
    assert await cache.list() == []
    assert not {name for name in tree(krata_cache) if name.startswith("sha256:")}
    await PackerCache(krata_cache).undo(transaction.id)
    assert tree(krata_cache) == before


async def test_one_by_one_and_back_in_reverse(krata_cache: Path) -> None:
    before, cache = tree(krata_cache), await PackerCache.open(krata_cache)
    for descriptor in await cache.list():
        await cache.delete([descriptor.key])
    for _ in range(7):
        await cache.undo()
    assert tree(krata_cache) == before


@pytest.mark.parametrize("format", PACKERS)
async def test_what_a_packer_made(format: PackedFormat, tmp_path: Path) -> None:
    command = PACKERS[format]
    need(command[0])
    root, file, directory = tmp_path / "root", tmp_path / "packed", tmp_path / "cache"
    directory.mkdir()
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_bytes(b"\x7fELF" + b"x" * 100_000)
    pack([part.format(root=root, file=file) for part in command])
    data = file.read_bytes()
    cache = await PackerCache.open(directory)
    stored = await cache.store(make_image(file, format=format))
    found = await cache.recall(stored.name, stored.digest, format)
    assert found is not None
    assert found.path == directory / f"{stored.digest}.{format}"
    assert found.path.read_bytes() == data
    assert [(one.digest, one.format) for one in await cache.list()] == [(stored.digest, format)]
