"""Packed files: inspected, refused, brought in; the source stays as it is."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from ocitui.cache import CacheDirectoryError, ImageName, PackedFormat, PackerCache, ReadOnlyError
from ocitui.importing.errors import NamedOtherwiseError, NoRoomError, SourceError
from ocitui.importing.image_import import ImportDesk, import_image, import_packed
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.sources.opening import PackedFiles, find_packed_files, inspect_packed
from tests.importing.sources import FORMATS, Source, documents, make_source, sha256

NAME = ImageName.parse("example.com/team/app:1")


@pytest.fixture
async def cache(tmp_path: Path) -> PackerCache:
    (tmp_path / "cache").mkdir()
    return await PackerCache.open(tmp_path / "cache")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return make_source(tmp_path)


def stat_of(source: Source) -> list[tuple[bytes, int, int]]:
    return [(path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in source.files]


def staged(cache: PackerCache) -> list[str]:
    folder = cache.directory / ".ocitui" / "import"
    return os.listdir(folder) if folder.exists() else []


async def problems(source: Source) -> str:
    """What speaks against a source; importing it is refused."""
    found = inspect_packed(find_packed_files(f"packed:{source.packed}"))
    with pytest.raises(SourceError):
        found.image(NAME)
    return "; ".join(found.problems)


@pytest.mark.parametrize("format_", FORMATS)
async def test_each_format_of_a_real_packer_comes_in(format_: str, cache: PackerCache, tmp_path: Path) -> None:
    source = make_source(tmp_path, format_)
    before = stat_of(source)
    found = inspect_packed(find_packed_files(f"packed:{source.packed}"))
    assert (found.problems, found.format, found.digest) == ((), format_, source.digest)
    assert found.platform == "linux/arm64/v8"
    assert found.size == source.packed.stat().st_size
    stored = (await import_packed(cache, found, NAME)).image
    assert stored.path == cache.directory / f"{source.digest}.{format_}"
    assert stored.path.read_bytes() == source.packed.read_bytes()
    assert stat_of(source) == before
    recalled = await cache.recall(NAME, source.digest, PackedFormat(format_))
    assert recalled is not None
    assert recalled.manifest.raw == source.manifest.read_bytes()
    assert recalled.config.raw == source.config.read_bytes()
    assert str(recalled.descriptor.platform) == "linux/arm64/v8"
    assert staged(cache) == []


async def test_progress_ends_with_everything(cache: PackerCache, source: Source) -> None:
    steps: list[tuple[int, int]] = []
    found = inspect_packed(find_packed_files(str(source.packed)))
    await import_packed(cache, found, NAME, progress=lambda done, total: steps.append((done, total)))
    size = source.packed.stat().st_size
    assert steps[-1] == (size, size)


async def test_documents_may_lie_elsewhere(cache: PackerCache, source: Source, tmp_path: Path) -> None:
    packed, manifest, config = (tmp_path / name for name in ("root.img", "m", "c"))
    for there, here in zip(source.files, (packed, manifest, config), strict=True):
        there.rename(here)
    found = inspect_packed(find_packed_files(f"packed:{packed}", manifest, config))
    assert found.problems == ()
    assert (await import_packed(cache, found, NAME)).image.digest == source.digest


async def test_what_is_not_there(source: Source) -> None:
    source.config.unlink()
    source.manifest.unlink()
    text = await problems(source)
    assert "the manifest: cannot read" in text
    assert "the config: cannot read" in text
    source.packed.unlink()
    with pytest.raises(SourceError, match="cannot read"):
        inspect_packed(find_packed_files(f"packed:{source.packed}"))


async def test_a_source_that_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar")
    for path in (tmp_path, tmp_path / "pipe.tar"):
        with pytest.raises(SourceError, match=r"(not a|no) regular file"):
            inspect_packed(find_packed_files(f"packed:{path}"))


async def test_a_manifest_that_does_not_have_the_digest_of_its_name(source: Source) -> None:
    source.manifest.write_bytes(source.manifest.read_bytes() + b"\n")
    assert f"a file is named {source.digest}" in await problems(source)


async def test_a_config_that_is_not_the_manifest_s(source: Source) -> None:
    source.config.write_bytes(source.config.read_bytes().replace(b"test", b"tes!"))
    assert "the config's digest is" in await problems(source)
    source.config.write_bytes(source.config.read_bytes() + b" ")
    assert "the manifest says" in await problems(source)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"schemaVersion":2}', b"\0" * 5000])
async def test_documents_that_the_daemon_would_refuse(data: bytes, source: Source) -> None:
    source.manifest.write_bytes(data)
    source.config.write_bytes(data)
    text = await problems(source)
    assert "the daemon would refuse the manifest" in text
    assert "the daemon would refuse the config" in text


async def test_a_config_without_history_is_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    config = json.loads(source.config.read_bytes())
    del config["history"]
    source.config.write_bytes(json.dumps(config).encode())
    assert "history" in await problems(source)


async def test_a_packed_file_that_is_not_whole(source: Source) -> None:
    os.truncate(source.packed, source.packed.stat().st_size // 2)
    assert "not whole: it is cut short" in await problems(source)


async def test_a_packed_file_that_is_not_what_its_name_says(source: Source) -> None:
    named = source.packed.rename(source.packed.with_suffix(".squashfs"))
    assert "tar by its magic, not squashfs" in await problems(Source(source.digest, named, *source.files[1:]))


async def test_a_digest_by_another_algorithm(tmp_path: Path, cache: PackerCache) -> None:
    source = make_source(tmp_path)
    digest = f"sha512:{hashlib.sha512(source.manifest.read_bytes()).hexdigest()}"
    for path in source.files:
        path.rename(path.with_name(path.name.replace(source.digest, digest)))
    found = inspect_packed(find_packed_files(f"packed:{source.packed.with_name(f'{digest}.tar')}"))
    assert (found.problems, found.digest) == ((), digest)
    assert (await import_packed(cache, found, NAME)).image.digest == digest


async def test_an_entry_keeps_its_name_unless_it_is_to_be_renamed(cache: PackerCache, source: Source) -> None:
    found = inspect_packed(find_packed_files(str(source.packed)))
    await import_packed(cache, found, NAME)
    other = ImageName.parse("example.com/team/app:2")
    with pytest.raises(NamedOtherwiseError, match=r"example\.com/team/app:1"):
        await import_packed(cache, found, other)
    await import_packed(cache, found, NAME)
    await import_packed(cache, found, other, ImportRequest(source="", rename=True))
    assert [d.image_name for d in await cache.list()] == ["example.com/team/app:2"]


async def test_an_orphan_of_the_cache_itself_is_adopted_where_it_is(cache: PackerCache, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    for path in source.files:
        path.rename(cache.directory / path.name)
    packed = cache.directory / source.packed.name
    inode = packed.stat().st_ino
    stored = (await import_packed(cache, inspect_packed(find_packed_files(str(packed))), NAME)).image
    assert stored.path == packed
    assert packed.stat().st_ino == inode


async def test_too_little_room(cache: PackerCache, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = os.statvfs_result((4096, 4096, 9000, 1000, 1000, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    found = inspect_packed(find_packed_files(str(source.packed)))
    with pytest.raises(NoRoomError):
        await import_packed(cache, found, NAME)
    assert staged(cache) == []
    assert await cache.list() == []


async def test_a_source_that_changes_while_it_is_copied(cache: PackerCache, source: Source) -> None:
    found = inspect_packed(find_packed_files(str(source.packed)))

    def meddle(done: int, total: int) -> None:
        os.utime(source.packed, (1, 1))

    with pytest.raises(SourceError, match="changed while it was read"):
        await import_packed(cache, found, NAME, progress=meddle)
    assert staged(cache) == []


async def test_a_source_that_changed_since_it_was_inspected(cache: PackerCache, source: Source) -> None:
    found = inspect_packed(find_packed_files(str(source.packed)))
    os.truncate(source.packed, 4096)
    with pytest.raises(SourceError, match="since it was inspected"):
        await import_packed(cache, found, NAME)
    source.packed.unlink()
    with pytest.raises(SourceError, match="cannot read"):
        await import_packed(cache, found, NAME)
    assert staged(cache) == []
    assert await cache.list() == []


async def test_a_cancelled_import_leaves_nothing(cache: PackerCache, source: Source) -> None:
    found = inspect_packed(find_packed_files(str(source.packed)))
    copying, go_on = threading.Event(), threading.Event()

    def hold(done: int, total: int) -> None:
        copying.set()
        go_on.wait()

    task = asyncio.ensure_future(import_packed(cache, found, NAME, progress=hold))
    await asyncio.to_thread(copying.wait)
    assert len(staged(cache)) == 1
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert staged(cache) == []
    assert await cache.list() == []


async def test_what_a_dead_import_left_is_removed_and_a_live_one_s_is_not(
    cache: PackerCache, source: Source, tmp_path: Path
) -> None:
    folder = cache.directory / ".ocitui" / "import"
    folder.mkdir(parents=True)
    (folder / "123-dead").write_bytes(b"left behind")
    found = inspect_packed(find_packed_files(str(source.packed)))
    copying, go_on = threading.Event(), threading.Event()

    def hold(done: int, total: int) -> None:
        copying.set()
        go_on.wait()

    first = asyncio.ensure_future(import_packed(cache, found, NAME, progress=hold))
    await asyncio.to_thread(copying.wait)
    (live,) = staged(cache)
    (tmp_path / "other").mkdir()
    other = make_source(tmp_path / "other", author="another")
    await import_packed(cache, inspect_packed(find_packed_files(str(other.packed))), ImageName.parse("b:1"))
    assert staged(cache) == [live]
    go_on.set()
    await first
    assert len(await cache.list()) == 2
    assert staged(cache) == []


async def test_where_nothing_may_be_written(source: Source, tmp_path: Path) -> None:
    found = inspect_packed(find_packed_files(str(source.packed)))
    with pytest.raises(CacheDirectoryError):
        await import_packed(PackerCache(tmp_path / "absent"), found, NAME)
    (tmp_path / "cache").mkdir()
    request = ImportRequest(source=f"packed:{source.packed}", name=str(NAME))
    with pytest.raises(ReadOnlyError):
        await import_image(ImportDesk(PackerCache(tmp_path / "cache", read_only=True)), request)
    assert os.listdir(tmp_path / "cache") == []


def test_sources_as_they_are_written(tmp_path: Path) -> None:
    digest = sha256(documents()[0])
    found = find_packed_files(f"packed:{tmp_path}/{digest}.erofs")
    assert found == PackedFiles(
        tmp_path / f"{digest}.erofs",
        tmp_path / f"{digest}.manifest.json",
        tmp_path / f"{digest}.config.json",
        PackedFormat.EROFS,
    )
    assert found.claimed_digests == {digest}
    assert find_packed_files("packed:a/image.v1.img").manifest == Path("a/image.v1.manifest.json")
    assert find_packed_files("packed:image", format=PackedFormat.TAR).format is PackedFormat.TAR


@pytest.mark.parametrize(
    "source", ["oci:dir", "oci-archive:a.tar", "docker-archive:a.tar", "docker://alpine", "alpine:3.19", "quay.io/a/b"]
)
def test_other_kinds_of_sources_are_refused_by_name(source: str) -> None:
    with pytest.raises(SourceError, match=r"is no packed file|does not exist"):
        find_packed_files(source)


def test_a_directory_and_what_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no OCI layout"):
        find_packed_files(str(tmp_path))
    for source in ("packed:", "packed:/", "./absent.tar", "/absent.tar"):
        with pytest.raises(SourceError):
            find_packed_files(source)
    with pytest.raises(SourceError, match="named as tar"):
        find_packed_files("packed:a.tar", format=PackedFormat.EROFS)
