"""Mends of every kind, each on a cache of its own, for tests that interrupt them and that undo them."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ocitui.cache import (
    ChangeMode,
    Discard,
    ImageIndex,
    IndexEdit,
    IndexOutcome,
    IndexReplacement,
    Insert,
    Mend,
    PackerCache,
    Place,
    Remove,
    Transaction,
    judge_index,
    new_index,
    see,
    see_index,
)
from tests.cache.steps import key
from tests.cache.support import EROFS, OWN, SQUASHFS, entry, index_bytes, tree, write_cache

Make = Callable[["MendScene"], Mend]
Spoil = Callable[[Path], None]
BAD = key(0)[0] + ".manifest.json"
STRAY, FOLDER, LINK = "stray", "folder", "link"


@dataclass(frozen=True)
class MendScene:
    """A cache that is to be mended, with files beside it, and perhaps a transaction that is to be undone."""

    directory: Path
    sources: Path
    target: str = ""

    def copy(self, to: Path) -> MendScene:
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        for folder in (self.directory, self.sources):
            _copy(folder, to / folder.name)
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
                content = _content(path) if path != own else ("own", b"")
                if content[0] != "own" and judge_index(content[1]) is not IndexOutcome.LOADED:
                    found[content] += 1
        return found


def _copy(source: Path, to: Path) -> None:
    """Like `shutil.copytree`, with FIFOs."""
    to.mkdir()
    for path in source.iterdir():
        if path.is_symlink() or path.is_file():
            shutil.copy2(path, to / path.name, follow_symlinks=False)
        elif path.is_dir():
            _copy(path, to / path.name)
        else:
            os.mkfifo(to / path.name)
    shutil.copystat(source, to)


def _content(path: Path) -> tuple[str, bytes]:
    if path.is_symlink():
        return "link", os.fsencode(os.readlink(path))
    if path.is_file():
        return "file", path.read_bytes()
    if path.is_dir():
        return "directory", b"\n".join(sorted(one.read_bytes() for one in path.iterdir()))
    return "fifo", b""


def states(snapshot: MendScene) -> dict[str, object]:
    """What stands in the cache, directories with what they hold and modes included."""
    found: dict[str, object] = dict(tree(snapshot.directory))
    for path in snapshot.directory.iterdir():
        if path.name != OWN and path.is_dir() and not path.is_symlink():
            found[path.name] = _content(path)
    return found


def _nothing(directory: Path) -> None: ...


def _bytes(data: bytes) -> Spoil:
    def spoil(directory: Path) -> None:
        (directory / "index.json").write_bytes(data)

    return spoil


def _absent(directory: Path) -> None:
    (directory / "index.json").unlink()


def _a_directory(directory: Path) -> None:
    _absent(directory)
    (directory / "index.json").mkdir()
    (directory / "index.json" / "inside").write_bytes(b"inside")


def _a_link(directory: Path) -> None:
    (directory / "index.json").rename(directory / "elsewhere.json")
    (directory / "index.json").symlink_to("elsewhere.json")


def _a_dangling_link(directory: Path) -> None:
    _absent(directory)
    (directory / "index.json").symlink_to("nowhere")


def _a_fifo(directory: Path) -> None:
    _absent(directory)
    os.mkfifo(directory / "index.json")


def _duplicated(directory: Path) -> None:
    (directory / "index.json").write_bytes(index_bytes([entry(0), entry(1), entry(0), entry(2)]))


def replaced(snapshot: MendScene) -> Mend:
    """The index rebuilt of two entries."""
    raws = [Remove(at, descriptor.raw).raw for at, descriptor in enumerate(_rebuilt().descriptors)]
    return Mend(index=IndexReplacement(see_index(snapshot.directory), new_index(raws)))


def _rebuilt() -> ImageIndex:
    return ImageIndex.parse(index_bytes([entry(1), entry(0)]))


def replaced_with_files(snapshot: MendScene) -> Mend:
    return replace(replaced(snapshot), discard=_discards(snapshot, STRAY), place=(_placed_data(snapshot),))


def pointed(snapshot: MendScene) -> Mend:
    first = snapshot.index().descriptors[0]
    return Mend(index=IndexEdit((Remove(0, first.raw),), (Insert(first.raw),)))


def deduplicated(snapshot: MendScene) -> Mend:
    return Mend(index=IndexEdit((Remove(0, snapshot.index().descriptors[0].raw),)))


def adopted(snapshot: MendScene) -> Mend:
    raw = ImageIndex.parse(index_bytes([entry(7)])).descriptors[0].raw
    return Mend(index=IndexEdit(insert=(Insert(raw, 1), Insert(raw))))


def dropped(snapshot: MendScene) -> Mend:
    index = snapshot.index()
    return Mend(
        index=IndexEdit(tuple(Remove(at, index.descriptors[at].raw) for at in range(len(index)))),
        discard=_discards(snapshot, f"{key(0)[0]}.squashfs", BAD),
    )


def discarded(snapshot: MendScene) -> Mend:
    return Mend(discard=_discards(snapshot, BAD, STRAY, FOLDER, LINK))


def placed_data(snapshot: MendScene) -> Mend:
    return Mend(place=(_placed_data(snapshot), Place("new.manifest.json", data=b"{}")))


def placed_path(snapshot: MendScene) -> Mend:
    return Mend(
        place=(
            Place("moved", path=snapshot.sources / "moved"),
            Place(STRAY, see(snapshot.directory / STRAY), path=snapshot.sources / "replacing"),
            Place("copied", path=snapshot.sources / "copied", copy=True),
        )
    )


def placed_from_trash(snapshot: MendScene) -> Mend:
    kept = sorted(os.listdir(snapshot.directory / OWN / "trash"))[0]
    return Mend(place=(Place(STRAY, see(snapshot.directory / STRAY), trash=kept),))


def modes_changed(snapshot: MendScene) -> Mend:
    return Mend(modes=(ChangeMode(STRAY, 0o200, 0o644), ChangeMode(FOLDER, 0o755, 0o700)))


def everything(snapshot: MendScene) -> Mend:
    last = snapshot.index().descriptors[-1]
    return Mend(
        index=IndexEdit((Remove(len(snapshot.index()) - 1, last.raw),), adopted(snapshot).index.insert),  # type: ignore[union-attr]
        discard=_discards(snapshot, FOLDER, LINK),
        place=(_placed_data(snapshot), Place("moved", path=snapshot.sources / "moved")),
        modes=(ChangeMode(STRAY, 0o200, 0o644),),
    )


def _placed_data(snapshot: MendScene) -> Place:
    return Place(BAD, see(snapshot.directory / BAD), data=b'{"the right": "manifest"}')


def _discards(snapshot: MendScene, *names: str) -> tuple[Discard, ...]:
    seen = [(name, see(snapshot.directory / name)) for name in names]
    return tuple(Discard(name, one) for name, one in seen if one is not None)


MENDS: dict[str, tuple[Spoil, Make]] = {
    "corrupt": (_bytes(b'{"schemaVersion":2,'), replaced),
    "empty": (_bytes(b""), replaced),
    "not-utf8": (_bytes(b'\xff\xfe{"schemaVersion"'), replaced),
    "absent": (_absent, replaced),
    "directory": (_a_directory, replaced),
    "link": (_a_link, replaced),
    "dangling-link": (_a_dangling_link, replaced),
    "fifo": (_a_fifo, replaced),
    "corrupt-with-files": (_bytes(b"{}"), replaced_with_files),
    "absent-with-files": (_absent, replaced_with_files),
    "point": (_nothing, pointed),
    "duplicate": (_duplicated, deduplicated),
    "adopt": (_nothing, adopted),
    "drop-all": (_nothing, dropped),
    "discard": (_nothing, discarded),
    "discard-beside-corrupt": (_bytes(b"corrupt"), discarded),
    "place-data": (_nothing, placed_data),
    "place-path": (_absent, placed_path),
    "place-from-trash": (_nothing, placed_from_trash),
    "modes": (_nothing, modes_changed),
    "everything": (_nothing, everything),
}


REPLACING = (replaced, replaced_with_files, pointed, placed_data, placed_path, placed_from_trash, everything)


async def mend_scene(name: str, folder: Path) -> tuple[MendScene, Make]:
    """The snapshot of a mend, before it."""
    snapshot = MendScene(folder / "cache", folder / "sources")
    spoil, make = MENDS[name]
    write_cache(snapshot.directory, range(3), (SQUASHFS, EROFS))
    snapshot.sources.mkdir()
    for source in ("moved", "replacing", "copied"):
        (snapshot.sources / source).write_bytes(source.encode())
    (snapshot.directory / STRAY).write_bytes(b"stray")
    (snapshot.directory / STRAY).chmod(0o200)
    (snapshot.directory / FOLDER).mkdir(0o755)
    (snapshot.directory / FOLDER / "inside").write_bytes(b"inside a folder")
    (snapshot.directory / LINK).symlink_to("nowhere")
    # Something is in the trash already.
    await PackerCache(snapshot.directory).delete([key(2), key(2, "erofs")])
    spoil(snapshot.directory)
    return snapshot, make


async def undo_scene(name: str, folder: Path) -> tuple[MendScene, Transaction]:
    """The snapshot of a mend, after it, and its transaction."""
    snapshot, make = await mend_scene(name, folder)
    done = await PackerCache(snapshot.directory).mend(make(snapshot))
    return replace(snapshot, target=done.id), done
