"""Changes of every kind, each on a cache of its own, and disks that stop or fail them."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import msgspec

from ocitui.cache import (
    CacheError,
    Change,
    ChangeMode,
    Discard,
    ImageIndex,
    IndexEdit,
    IndexOutcome,
    IndexReplacement,
    Insert,
    PackerCache,
    Place,
    Remove,
    TransactionKind,
    judge_index,
    new_index,
    see,
    see_index,
)
from ocitui.cache.disk import Disk
from ocitui.cache.undoing import edit_again, find_overwritten
from tests.cache.support import (
    EROFS,
    OWN,
    SQUASHFS,
    digest_of,
    documents,
    entry,
    index_bytes,
    make_image,
    tree,
    write_cache,
)

Key = tuple[str, str]


class Stop(BaseException):
    """The program dies."""


class StoppingDisk(Disk):
    """Dies before its n-th step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at
        self.stopped = ""

    def step(self, operation: str, name: str) -> None:
        assert not self.stopped, f"{operation} {name} after the end at {self.stopped}"
        if self.left == 0:
            self.stopped = f"{operation} {name}"
            raise Stop(self.stopped)
        self.left -= 1


class InterruptedDisk(Disk):
    """Dies at the first step that follows a transaction's record."""

    recorded = False

    def step(self, operation: str, name: str) -> None:
        if self.recorded and operation != "fsync":
            raise Stop(name)
        self.recorded |= name.endswith(".pending.json")


async def interrupted_delete(directory: Path) -> str:
    """Leave the deletion of the first entry pending; gives the transaction's id."""
    cache = PackerCache(directory, disk=InterruptedDisk())
    return await interrupted(directory, cache.delete([(await cache.list())[0].key]))


async def interrupted(directory: Path, act: Awaitable[object]) -> str:
    """Leave pending what is done on an `InterruptedDisk`; gives the transaction's id."""
    with suppress(Stop):
        await act
    (pending,) = (directory / OWN / "journal").glob("*.pending.json")
    return pending.name.partition(".")[0]


class FailingDisk(Disk):
    """Fails at its n-th step, or from there on."""

    def __init__(self, at: int, code: int, *, for_good: bool) -> None:
        super().__init__()
        self.left = at
        self.code = code
        self.for_good = for_good
        self.failed = ""

    def step(self, operation: str, name: str) -> None:
        self.left -= 1
        if self.left == -1 or (self.left < 0 and self.for_good):
            self.failed = self.failed or f"{operation} {name}"
            raise OSError(self.code, os.strerror(self.code), name)


class WithoutExchange(StoppingDisk):
    """On a file system where two files cannot change places."""

    def exchange(self, *_: object) -> bool:
        return False


async def refusal(attempt: Awaitable[object]) -> CacheError | None:
    """The error of ours that an attempt ends in, if any; no other may come out."""
    try:
        await attempt
    except CacheError as error:
        return error
    return None


def key(number: int, format: str = "squashfs") -> Key:
    return digest_of(documents(str(number))[0]), format


BAD = key(0)[0] + ".manifest.json"
STRAY, FOLDER, LINK = "stray", "folder", "link"
CORRUPT = b'{"schemaVersion":2,'


@dataclass(frozen=True)
class Scene:
    """A cache that is to be changed, with files beside it, and perhaps a transaction that is to be undone."""

    directory: Path
    sources: Path
    target: str = ""

    def copy(self, to: Path) -> Scene:
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        for folder in (self.directory, self.sources):
            copy_folder(folder, to / folder.name)
        return replace(self, directory=to / self.directory.name, sources=to / self.sources.name)

    def index(self) -> ImageIndex:
        return ImageIndex.parse((self.directory / "index.json").read_bytes())

    def everything(self) -> Counter[tuple[str, bytes]]:
        """The bytes of every file, link and directory's content, wherever it is by now; sound indexes apart, as their
        descriptors are in the journal."""
        own = self.directory / OWN
        found: Counter[tuple[str, bytes]] = Counter()
        for folder in (self.directory, self.sources, own / "trash", own / "staging"):
            for path in folder.iterdir() if folder.is_dir() else ():
                content = content_of(path) if path != own else ("own", b"")
                if content[0] != "own" and not is_loaded(content[1]):
                    found[content] += 1
        return found

    def states(self) -> dict[str, object]:
        """What stands in the cache, directories with what they hold and modes included."""
        found: dict[str, object] = dict(tree(self.directory))
        for path in self.directory.iterdir():
            if path.name != OWN and path.is_dir() and not path.is_symlink():
                found[path.name] = content_of(path)
        return found

    def entries(self) -> list[Key]:
        return [(descriptor.digest, descriptor.format or "") for descriptor in self.index().descriptors]

    def check_files(self, whole: set[Key], where: str) -> None:
        """Every entry of the index that had its files has them."""
        without = set(self.listed()) & whole - self.whole()
        assert not without, f"{without} without their files at {where}"

    def listed(self) -> list[Key]:
        """The entries of the index; none where the daemon would not load it."""
        index = self.directory / "index.json"
        data = index.read_bytes() if index.is_file() else b""
        return self.entries() if is_loaded(data) else []

    def whole(self) -> set[Key]:
        """The entries that have their files."""
        return {
            (digest, format_)
            for digest, format_ in self.listed()
            if all((self.directory / f"{digest}.{end}").is_file() for end in (format_, "manifest.json", "config.json"))
        }


@lru_cache(maxsize=1000)
def is_loaded(data: bytes) -> bool:
    """Whether the daemon would load an index of these bytes; files that come back at every step are judged once."""
    return judge_index(data) is IndexOutcome.LOADED


def copy_folder(source: str | Path, to: str | Path) -> None:
    """Like `shutil.copytree`, with FIFOs, in a third of its system calls: a small cache is copied very often."""
    os.mkdir(to)
    for found in os.scandir(source):
        copy = f"{to}/{found.name}"
        if found.is_symlink():
            os.symlink(os.readlink(found.path), copy)
        elif found.is_file():
            _copy_file(found.path, copy)
        elif found.is_dir():
            copy_folder(found.path, copy)
        else:
            os.mkfifo(copy)
    shutil.copystat(source, to)


def _copy_file(source: str, to: str) -> None:
    with open(source, "rb", buffering=0) as file:
        known, data = os.fstat(file.fileno()), file.readall()
    with open(to, "xb", buffering=0) as file:
        assert file.write(data) == len(data)
        os.fchmod(file.fileno(), known.st_mode & 0o7777)
        os.utime(file.fileno(), ns=(known.st_atime_ns, known.st_mtime_ns))


def content_of(path: Path) -> tuple[str, bytes]:
    if path.is_symlink():
        return "link", os.fsencode(os.readlink(path))
    if path.is_file():
        return "file", path.read_bytes()
    if path.is_dir():
        return "directory", b"\n".join(sorted(one.read_bytes() for one in path.iterdir()))
    return "fifo", b""


Act = Callable[[PackerCache, Scene], Awaitable[object]]
Make = Callable[[Scene], Change]
Spoil = Callable[[Path], None]


def store(number: int, *, name: str = "new:1", digest_number: int | None = None) -> Act:
    """Store the file that waits in the scene's sources, perhaps under another image's digest."""

    async def act(cache: PackerCache, scene: Scene) -> object:
        digest = None if digest_number is None else key(digest_number)[0]
        return await cache.store(make_image(scene.sources / "packed", str(number), name=name, digest=digest))

    return act


def delete(*keys: Key) -> Act:
    async def act(cache: PackerCache, _: Scene) -> object:
        return await cache.delete(list(keys))

    return act


async def restore(cache: PackerCache, _: Scene) -> object:
    return await cache.restore([file.trash for file in await cache.trash()])


async def reset(cache: PackerCache, _: Scene) -> object:
    await cache._start_as_the_daemon()
    return None


async def undo(cache: PackerCache, scene: Scene) -> object:
    return await cache.undo(scene.target)


def changed(make: Make, kind: TransactionKind = TransactionKind.REPAIR) -> Act:
    async def act(cache: PackerCache, scene: Scene) -> object:
        return await cache.change(make(scene), kind)

    return act


def nothing(directory: Path) -> None: ...


def written(data: bytes) -> Spoil:
    def spoil(directory: Path) -> None:
        (directory / "index.json").write_bytes(data)

    return spoil


def absent(directory: Path) -> None:
    (directory / "index.json").unlink()


def a_directory(directory: Path) -> None:
    absent(directory)
    (directory / "index.json").mkdir()
    (directory / "index.json" / "inside").write_bytes(b"inside")


def a_link(directory: Path) -> None:
    (directory / "index.json").rename(directory / "elsewhere.json")
    (directory / "index.json").symlink_to("elsewhere.json")


def a_dangling_link(directory: Path) -> None:
    absent(directory)
    (directory / "index.json").symlink_to("nowhere")


def a_fifo(directory: Path) -> None:
    absent(directory)
    os.mkfifo(directory / "index.json")


def duplicated(directory: Path) -> None:
    (directory / "index.json").write_bytes(index_bytes([entry(0), entry(1), entry(0), entry(2)]))


def overwritten(directory: Path) -> None:
    """Entries that were deleted stand in the index again."""
    entries = [entry(number, format=format_) for number in range(4) for format_ in ("squashfs", "erofs")]
    (directory / "index.json").write_bytes(index_bytes(entries))


def replaced(scene: Scene) -> Change:
    """The index rebuilt of two entries."""
    raws = [descriptor.raw for descriptor in ImageIndex.parse(index_bytes([entry(1), entry(0)])).descriptors]
    return Change(IndexReplacement(see_index(scene.directory), new_index(raws).data))


def replaced_with_files(scene: Scene) -> Change:
    return msgspec.structs.replace(replaced(scene), discard=discards(scene, STRAY), place=(_placed_data(scene),))


def pointed(scene: Scene) -> Change:
    first = scene.index().descriptors[0]
    return Change(IndexEdit((Remove(0, first.raw),), (Insert(first.raw),)))


def made_again(scene: Scene) -> Change:
    """The deletion that made the scene, which another program's rewrite has undone."""
    (lost,) = find_overwritten(scene.directory, scene.index())
    return Change(edit_again(scene.directory, scene.index(), lost))


def deduplicated(scene: Scene) -> Change:
    return Change(IndexEdit((Remove(0, scene.index().descriptors[0].raw),)))


def adopted(scene: Scene) -> Change:
    raw = ImageIndex.parse(index_bytes([entry(7)])).descriptors[0].raw
    return Change(IndexEdit(insert=(Insert(raw, 1), Insert(raw))))


def dropped(scene: Scene) -> Change:
    index = scene.index()
    edit = IndexEdit(tuple(Remove(at, index.descriptors[at].raw) for at in range(len(index))))
    return Change(edit, discard=discards(scene, f"{key(0)[0]}.squashfs", BAD))


def discarded(scene: Scene) -> Change:
    return Change(discard=discards(scene, BAD, STRAY, FOLDER, LINK))


def placed_data(scene: Scene) -> Change:
    return Change(place=(_placed_data(scene), Place("new.manifest.json", data=b"{}")))


def placed_path(scene: Scene) -> Change:
    return Change(
        place=(
            Place("moved", path=scene.sources / "moved"),
            Place(STRAY, see(scene.directory / STRAY), path=scene.sources / "replacing"),
            Place("copied", path=scene.sources / "copied"),
        )
    )


def placed_from_trash(scene: Scene) -> Change:
    kept = sorted(os.listdir(scene.directory / OWN / "trash"))[0]
    return Change(place=(Place(STRAY, see(scene.directory / STRAY), trash=kept),))


def modes_changed(scene: Scene) -> Change:
    return Change(modes=(ChangeMode(STRAY, 0o200, 0o644), ChangeMode(FOLDER, 0o755, 0o700)))


def everything_changed(scene: Scene) -> Change:
    last = scene.index().descriptors[-1]
    return Change(
        IndexEdit((Remove(len(scene.index()) - 1, last.raw),), adopted(scene).index.insert),  # type: ignore[union-attr]
        discard=discards(scene, FOLDER, LINK),
        place=(_placed_data(scene), Place("moved", path=scene.sources / "moved")),
        modes=(ChangeMode(STRAY, 0o200, 0o644),),
    )


def _placed_data(scene: Scene) -> Place:
    return Place(BAD, see(scene.directory / BAD), data=b'{"the right": "manifest"}')


def discards(scene: Scene, *names: str) -> tuple[Discard, ...]:
    seen = [(name, see(scene.directory / name)) for name in names]
    return tuple(Discard(name, one) for name, one in seen if one is not None)


CHANGES: dict[str, tuple[Spoil, Make]] = {
    "corrupt": (written(CORRUPT), replaced),
    "empty": (written(b""), replaced),
    "not-utf8": (written(b'\xff\xfe{"schemaVersion"'), replaced),
    "absent": (absent, replaced),
    "directory": (a_directory, replaced),
    "link": (a_link, replaced),
    "dangling-link": (a_dangling_link, replaced),
    "fifo": (a_fifo, replaced),
    "corrupt-with-files": (written(b"{}"), replaced_with_files),
    "absent-with-files": (absent, replaced_with_files),
    "point": (nothing, pointed),
    "duplicate": (duplicated, deduplicated),
    "adopt": (nothing, adopted),
    "drop-all": (nothing, dropped),
    "discard": (nothing, discarded),
    "discard-beside-corrupt": (written(b"corrupt"), discarded),
    "place-data": (nothing, placed_data),
    "place-path": (absent, placed_path),
    "place-from-trash": (nothing, placed_from_trash),
    "modes": (nothing, modes_changed),
    "everything": (nothing, everything_changed),
}
BY_KEY: dict[str, tuple[Spoil, Act]] = {
    "store": (nothing, store(9)),
    "store-replacing": (nothing, store(1)),
    "store-replacing-documents": (nothing, store(9, digest_number=1)),
    "delete-one": (nothing, delete(key(0))),
    "delete-many": (nothing, delete(key(0), key(1), key(1, "erofs"))),
    "delete-all": (nothing, delete(*(key(number, form) for number in range(3) for form in ("squashfs", "erofs")))),
    "delete-sharing-documents": (nothing, delete(key(2))),
}
ACTS: dict[str, tuple[Spoil, Act]] = {
    **BY_KEY,
    **{name: (spoil, changed(make)) for name, (spoil, make) in CHANGES.items()},
    "restore": (nothing, restore),
    "redo": (overwritten, changed(made_again, TransactionKind.REDO)),
    "reset": (written(CORRUPT), reset),
    "reset-absent": (absent, reset),
}
CASES = [*ACTS, *(f"undo-{name}" for name in ACTS)]
# Only what takes another thing's place is done differently without the exchange.
EXCHANGING = [
    case
    for case in CASES
    if any(word in case for word in ("replac", "corrupt", "link", "point", "place", "everything", "reset"))
    and "beside" not in case
]


async def scene_of(case: str, folder: Path) -> tuple[Scene, Act]:
    """The scene of a case, and what is done in it."""
    folder.mkdir(parents=True, exist_ok=True)
    scene = Scene(folder / "cache", folder / "sources")
    spoil, act = ACTS[case.removeprefix("undo-")]
    write_cache(scene.directory, range(4), (SQUASHFS, EROFS))
    scene.sources.mkdir()
    for source in ("moved", "replacing", "copied", "packed"):
        (scene.sources / source).write_bytes(source.encode())
    # With another name it cannot be moved.
    (folder / "kept").hardlink_to(scene.sources / "copied")
    (scene.directory / STRAY).write_bytes(b"stray")
    (scene.directory / STRAY).chmod(0o200)
    (scene.directory / FOLDER).mkdir(0o755)
    (scene.directory / FOLDER / "inside").write_bytes(b"inside a folder")
    (scene.directory / LINK).symlink_to("nowhere")
    # Something is in the trash already, and the folders are there, as they are but once in a cache's life.
    await PackerCache(scene.directory).delete([key(3), key(3, "erofs")])
    spoil(scene.directory)
    if not case.startswith("undo-"):
        return scene, act
    cache = PackerCache(scene.directory)
    await act(cache, scene)
    newest = (await cache.transactions())[0]
    return replace(scene, target=newest.id), undo
