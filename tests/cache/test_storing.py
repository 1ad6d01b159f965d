"""Store: files in their places, what they replace in the trash, the index last."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ocitui.cache import (
    ConflictError,
    Descriptor,
    ImageName,
    InvalidPackedImageError,
    PackedImage,
    PackerCache,
    ReadOnlyError,
)
from ocitui.cache.disk import OUTSIDE, Disk, Folder
from tests.cache.support import (
    EROFS,
    OWN,
    SQUASHFS,
    TAR,
    digests_and_formats,
    make_image,
    stored,
    trash,
    tree,
    write_cache,
)
from tests.cache.test_own_folder import CRAFTED, write_record


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


async def test_the_file_is_moved_and_found_again(directory: Path, source: Path) -> None:
    cache = await PackerCache.open(directory)
    given = make_image(source / "packed", content=b"squash")
    inode = given.path.stat().st_ino
    image = await cache.store(given)
    assert image.path == directory / f"{given.digest}.squashfs"
    assert (image.path.read_bytes(), image.path.stat().st_ino) == (b"squash", inode)
    assert os.listdir(source) == []
    recalled = await PackerCache(directory).recall(given.name, given.digest, SQUASHFS)
    assert recalled is not None
    assert (recalled.manifest.raw, recalled.config.raw) == (given.manifest.raw, given.config.raw)
    assert await cache.list() == [recalled.descriptor]
    assert await cache.resolve(given.name, SQUASHFS) is not None
    assert await cache.resolve(given.name, EROFS) is None


async def test_two_names_of_one_digest_and_format(directory: Path, source: Path) -> None:
    cache = PackerCache(directory)
    await stored(cache, source, name="first:1")
    await stored(cache, source, name="second:1")
    assert len(await cache.list()) == 1
    assert await cache.resolve(ImageName.parse("first:1"), SQUASHFS) is None
    assert await cache.resolve(ImageName.parse("second:1"), SQUASHFS) is not None


async def test_what_is_replaced_goes_to_the_trash(directory: Path, source: Path) -> None:
    cache = PackerCache(directory)
    await stored(cache, source, content=b"old")
    await stored(cache, source, content=b"new")
    assert trash(directory) == [b"old"]
    assert len(await cache.list()) == 1


async def test_a_file_that_is_in_its_place_already_stays(directory: Path, source: Path) -> None:
    cache = PackerCache(directory)
    image = await stored(cache, source)
    again = await cache.store(make_image(image.path, name="other:2"))
    assert again.path.read_bytes() == b"packed one squashfs"
    assert trash(directory) == []
    newest, *_ = await cache.transactions()
    assert (newest.placed, newest.displaced) == ([], [])
    assert (await cache.list())[0].image_name == "other:2"


async def test_documents_of_another_format_stay(directory: Path, source: Path) -> None:
    cache = PackerCache(directory)
    image = await stored(cache, source)
    documents = [directory / f"{image.digest}.{kind}.json" for kind in ("manifest", "config")]
    inodes = [path.stat().st_ino for path in documents]
    await stored(cache, source, format=EROFS)
    assert [path.stat().st_ino for path in documents] == inodes
    assert trash(directory) == []


@pytest.mark.parametrize("how", ["other file system", "link", "hard link", "relative", "in the cache"])
async def test_wherever_the_packed_file_is(
    how: str, directory: Path, source: Path, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source / "packed"
    kept = source / "kept"
    match how:
        case "other file system":
            path = memory_path / "packed"
            path.write_bytes(b"content")
        case "link":
            kept.write_bytes(b"content")
            path.symlink_to(kept)
        case "hard link":
            kept.write_bytes(b"content")
            path.hardlink_to(kept)
        case "relative":
            monkeypatch.chdir(source)
            path = Path("packed")
            path.write_bytes(b"content")
        case _:
            path = directory / "waiting"
            path.write_bytes(b"content")
    image = await PackerCache(directory).store(make_image(path))
    assert stat.S_ISREG(image.path.lstat().st_mode)
    assert image.path.lstat().st_nlink == 1
    assert image.path.read_bytes() == b"content"
    assert not os.path.lexists(path)
    assert len(await PackerCache(directory).transactions()) == 1
    if kept.exists():
        assert kept.read_bytes() == b"content"
        assert not kept.samefile(image.path)


@pytest.mark.parametrize("digest", ["", "..", "a/b", "../../etc", "a\\b", "a..b", "nul\0", "x" * 201, "é" * 101])
async def test_a_digest_that_is_no_file_name(digest: str, directory: Path, source: Path) -> None:
    cache = PackerCache(directory)
    with pytest.raises(InvalidPackedImageError):
        await cache.store(make_image(source / "packed", digest=digest))
    assert os.listdir(directory) == []
    assert os.listdir(source) == ["packed"]
    assert await cache.recall(ImageName.parse("a"), digest, SQUASHFS) is None


@pytest.mark.parametrize("digest", ["x" * 200, "é" * 100, "new\nline", "sha256:space here", "*", "-", "a.b", ".hidden"])
async def test_a_digest_that_is_an_odd_file_name(digest: str, directory: Path, source: Path) -> None:
    cache = PackerCache(directory)
    image = await cache.store(make_image(source / "packed", digest=digest))
    await cache.store(make_image(source / "packed", "two", digest=digest))
    transaction = await cache.delete([(digest, "squashfs")])
    assert set(tree(directory)) == {"index.json"}
    await cache.undo(transaction.id)
    assert await cache.recall(image.name, digest, SQUASHFS) is not None


async def test_a_descriptor_of_another_digest(directory: Path, source: Path) -> None:
    image = make_image(source / "packed")
    wrong = Descriptor.from_dict({**image.descriptor.as_dict(), "digest": "sha256:other"})
    with pytest.raises(InvalidPackedImageError):
        await PackerCache(directory).store(
            PackedImage(
                name=image.name,
                digest=image.digest,
                path=image.path,
                format=TAR,
                descriptor=wrong,
                config=image.config,
                manifest=image.manifest,
            )
        )


@pytest.mark.parametrize("kind", ["absent", "directory", "fifo", "dangling"])
async def test_a_packed_file_that_is_none(kind: str, directory: Path, source: Path) -> None:
    image = make_image(source / "packed")
    image.path.unlink()
    match kind:
        case "directory":
            image.path.mkdir()
        case "fifo":
            os.mkfifo(image.path)
        case "dangling":
            image.path.symlink_to("nowhere")
    with pytest.raises(InvalidPackedImageError):
        await PackerCache(directory).store(image)
    assert os.listdir(directory) == []


async def test_the_index_keeps_its_mode_and_owner(directory: Path, source: Path) -> None:
    write_cache(directory, range(2))
    index = directory / "index.json"
    index.chmod(0o640)
    owner = (12345, 54321) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(index, *owner)
    await stored(PackerCache(directory), source)
    found = index.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, *owner)


async def test_read_only(directory: Path, source: Path) -> None:
    write_cache(directory, range(2))
    cache = await PackerCache.open(directory, read_only=True)
    before = tree(directory)
    with pytest.raises(ReadOnlyError):
        await cache.store(make_image(source / "packed"))
    with pytest.raises(ReadOnlyError):
        await cache.delete([descriptor.key for descriptor in await cache.list()])
    with pytest.raises(ReadOnlyError):
        await cache.undo()
    assert (tree(directory), sorted(os.listdir(directory))) == (before, sorted(before))
    assert len(await cache.list()) == 2


class Elsewhere(Disk):
    """Where the packed file is: on another mount of the same file system, or one that may not be written."""

    def __init__(self, *, read_only: bool = False) -> None:
        super().__init__()
        self.read_only = read_only

    def rename(self, source: Folder, name: str, target: Folder, new_name: str) -> None:
        if source is OUTSIDE:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        super().rename(source, name, target, new_name)

    def unlink(self, folder: Folder, name: str) -> None:
        if self.read_only and folder is OUTSIDE:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        super().unlink(folder, name)


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_file_that_can_only_be_copied(read_only: bool, directory: Path, source: Path) -> None:
    cache = PackerCache(directory, disk=Elsewhere(read_only=read_only))
    for content in (b"old", b"new"):
        (source / "packed").unlink(missing_ok=True)
        image = await cache.store(make_image(source / "packed", content=content))
        assert image.path.read_bytes() == content
        assert os.listdir(directory / ".ocitui" / "staging") == []
    assert os.listdir(source) == (["packed"] if read_only else [])
    await PackerCache(directory).undo()
    assert image.path.read_bytes() == b"old"


async def test_a_file_that_can_only_be_copied_takes_nothing_of_what_is_pending(directory: Path, source: Path) -> None:
    await PackerCache(directory).store(make_image(source / "packed"))
    record = write_record(directory, {"version": 99}, "pending")
    theirs = directory / OWN / "staging" / f"{CRAFTED}.0"
    theirs.write_bytes(b"the only one")
    await PackerCache(directory, disk=Elsewhere()).store(make_image(source / "packed", content=b"another"))
    assert theirs.read_bytes() == b"the only one"
    assert record.exists()


class RefillingDisk(Disk):
    """Another program puts a file where the packed one was, once that is in."""

    def rename(self, source: Folder, name: str, target: Folder, new_name: str) -> None:
        super().rename(source, name, target, new_name)
        if source is OUTSIDE:
            Path(name).write_bytes(b"another")


async def test_what_comes_to_the_place_of_the_packed_file_stays(directory: Path, source: Path) -> None:
    image = await PackerCache(directory, disk=RefillingDisk()).store(make_image(source / "packed", content=b"ours"))
    assert image.path.read_bytes() == b"ours"
    assert (source / "packed").read_bytes() == b"another"


async def test_a_failed_store_leaves_the_packed_file(directory: Path, source: Path) -> None:
    write_cache(directory, range(2))
    (directory / ".ocitui").write_bytes(b"in the way")
    before = digests_and_formats(directory)
    with pytest.raises(ConflictError):
        await PackerCache(directory).store(make_image(source / "packed"))
    assert os.listdir(source) == ["packed"]
    assert digests_and_formats(directory) == before
