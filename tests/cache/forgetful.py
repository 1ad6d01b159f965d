"""A disk that forgets what was not synced: what would be left of a directory after a power cut.

Beside the real directory it keeps what is durable. Bytes are, once their file was synced; names, once their directory
was. Two kinds of file system are modelled: one with a journal, where a directory's changes become durable in their
order and a rename in both of its directories at once, and a plain one, where each directory stands for itself and two
files cannot change places. Beyond that, what was not synced may be there all the same: see `Luck`.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ocitui.cache.disk import Disk, Folder
from tests.cache.scenes import Stop


class Luck(Enum):
    """What reached the disk though nobody asked: nothing, every name but no bytes, the bytes but no names, or of the
    names only the last change, ahead of all before it, as a journal would not allow it."""

    NOTHING = "nothing"
    NAMES = "names"
    BYTES = "bytes"
    LAST_NAME = "last name"


@dataclass(eq=False)
class Node:
    """A file or directory; ``saved`` are its durable bytes and mode, None while it was never synced."""

    saved: tuple[bytes, int] | None = None
    folder: bool = False


@dataclass
class Change:
    """A change of names: in each of these directories, what a name stands for then (None: nothing)."""

    effects: list[tuple[str, str, Node | None]]
    durable_in: set[str] = field(default_factory=set)

    @property
    def folders(self) -> set[str]:
        return {folder for folder, _, _ in self.effects}


class ForgetfulDisk(Disk):
    """Stops before its n-th step; `survivors` then makes the directory that a power cut would have left.

    ``journaled`` is the kind of file system. ``passes_over`` is asked at each sync whether it is to be left out.
    """

    def __init__(
        self,
        root: Path,
        at: int | None,
        *,
        journaled: bool = True,
        passes_over: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self.root = str(root)
        self.left = at
        self.journaled = journaled
        self.passes_over = passes_over
        self.steps: list[str] = []
        self.stopped = ""
        self._changes: list[Change] = []
        self._live: dict[str, dict[str, Node]] = {}
        self._first: dict[str, dict[str, Node]] = {}
        self._read(str(root))

    def _read(self, folder: str) -> None:
        """Take what is there as durable."""
        names = self._live.setdefault(folder, {})
        for entry in os.scandir(folder):
            found = entry.stat(follow_symlinks=False)
            node = names[entry.name] = Node(folder=entry.is_dir(follow_symlinks=False))
            if stat.S_ISREG(found.st_mode):
                node.saved = Path(entry.path).read_bytes(), stat.S_IMODE(found.st_mode)
            elif node.folder:
                self._read(entry.path)
        self._first[folder] = dict(names)

    def step(self, operation: str, name: str) -> None:
        if self.left is not None and len(self.steps) >= self.left:
            self.stopped = self.stopped or f"{operation} {name}"
            raise Stop(self.stopped)
        self.steps.append(f"{operation} {name}")

    # What is synced.

    def sync(self, fd: int, name: str) -> None:
        self.step("fsync", name)
        if self.passes_over():
            return
        path = os.readlink(f"/proc/self/fd/{fd}")
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self._sync_names(path)
        elif (node := self._node(path)) is not None:
            node.saved = Path(path).read_bytes(), stat.S_IMODE(os.fstat(fd).st_mode)

    def _sync_names(self, folder: str) -> None:
        until = {folder: len(self._changes)}
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            for number, change in enumerate(self._changes[: until[here]]):
                if here not in change.folders:
                    continue
                change.durable_in.add(here)
                for other in change.folders if self.journaled else ():
                    if until.get(other, 0) <= number:
                        until[other] = number + 1
                        waiting.append(other)

    # What changes names.

    def _node(self, path: str) -> Node | None:
        folder, _, name = path.rpartition("/")
        return self._live.get(folder, {}).get(name)

    def _note(self, *effects: tuple[str, Node | None]) -> None:
        change = Change([])
        for path, node in effects:
            folder, _, name = path.rpartition("/")
            change.effects.append((folder, name, node))
            names = self._live.setdefault(folder, {})
            names.pop(name, None)
            if node is not None:
                names[name] = node
        self._changes.append(change)

    def create(self, folder: Folder, name: str, mode: int = 0o644) -> int:
        fd = super().create(folder, name, mode)
        self._note((os.path.join(folder.path, name), Node()))
        return fd

    def open_own(self, folder: Folder, name: str, mode: int = 0o644, flags: int = 0) -> int:
        fd = super().open_own(folder, name, mode, flags)
        if self._node(os.path.join(folder.path, name)) is None:
            self._note((os.path.join(folder.path, name), Node()))
        return fd

    def make_folder(self, parent: Folder, name: str, mode: int | None = None) -> bool:
        made = super().make_folder(parent, name, mode)
        if made:
            self._note((os.path.join(parent.path, name), Node(folder=True)))
            self._live[os.path.join(parent.path, name)] = {}
            self._first.setdefault(os.path.join(parent.path, name), {})
        return made

    def _moved(self, source: str, target: str) -> None:
        node = self._node(source)
        self._note((source, None), (target, node))
        if node is not None and node.folder:
            # Its own names go with it.
            for names in (self._live, self._first):
                for old in [path for path in names if path == source or path.startswith(f"{source}/")]:
                    names[target + old.removeprefix(source)] = names[old]

    def rename(self, source: Folder, name: str, target: Folder, new_name: str) -> None:
        super().rename(source, name, target, new_name)
        self._moved(os.path.join(source.path, name), os.path.join(target.path, new_name))

    def replace(self, source: Folder, name: str, target: Folder, new_name: str) -> None:
        super().replace(source, name, target, new_name)
        self._moved(os.path.join(source.path, name), os.path.join(target.path, new_name))

    def exchange(self, source: Folder, name: str, target: Folder, other: str) -> bool:
        if not self.journaled or not super().exchange(source, name, target, other):
            return False
        one, two = os.path.join(source.path, name), os.path.join(target.path, other)
        self._note((one, self._node(two)), (two, self._node(one)))
        return True

    def unlink(self, folder: Folder, name: str) -> None:
        super().unlink(folder, name)
        if self._node(os.path.join(folder.path, name)) is not None:
            self._note((os.path.join(folder.path, name), None))

    def remove(self, folder: Folder, name: str) -> None:
        super().remove(folder, name)
        if self._node(os.path.join(folder.path, name)) is not None:
            self._note((os.path.join(folder.path, name), None))

    # What is left.

    def survivors(self, to: Path, luck: Luck) -> None:
        """Make the directory as it is after a power cut, and remove the one that was worked on.

        A file that lost nothing is the same file, with its inode.
        """
        where = {id(node): f"{folder}/{name}" for folder, names in self._live.items() for name, node in names.items()}
        self._build(self.root, str(to), luck, where)
        shutil.rmtree(self.root)

    def _names(self, folder: str, luck: Luck) -> dict[str, Node]:
        names = dict(self._first.get(folder, {}))
        for number, change in enumerate(self._changes):
            ahead = luck is Luck.NAMES or (luck is Luck.LAST_NAME and number == len(self._changes) - 1)
            for where, name, node in change.effects:
                if where == folder and (ahead or folder in change.durable_in):
                    names.pop(name, None)
                    if node is not None:
                        names[name] = node
        return names

    def _build(self, folder: str, to: str, luck: Luck, where: dict[int, str]) -> None:
        os.mkdir(to)
        real = where.get(id(self._node(folder)), folder) if folder != self.root else folder
        for name, node in self._names(folder, luck).items():
            there = where.get(id(node), "")
            if node.folder and self._is_unchanged(f"{folder}/{name}"):
                # One that has two names by now is where it was found first.
                with suppress(FileNotFoundError):
                    os.rename(there, f"{to}/{name}")
            elif node.folder:
                self._build(f"{folder}/{name}", f"{to}/{name}", luck, where)
            else:
                self._build_file(node, there, f"{to}/{name}", luck)
        with suppress(FileNotFoundError):
            shutil.copystat(real, to)

    def _is_unchanged(self, folder: str) -> bool:
        """Whether nothing in a directory was ever touched, so that it is left as it is, with its inode."""
        return not any(one.startswith(folder) for change in self._changes for one in change.folders)

    def _build_file(self, node: Node, there: str, to: str, luck: Luck) -> None:
        found = os.lstat(there) if there and os.path.lexists(there) else None
        if found is not None and not stat.S_ISREG(found.st_mode):
            os.link(there, to, follow_symlinks=False)
            return
        real = (Path(there).read_bytes(), stat.S_IMODE(found.st_mode)) if found is not None else None
        wanted = real if luck is Luck.BYTES and real is not None else node.saved or (b"", 0o644)
        if real == wanted:
            os.link(there, to)
            return
        Path(to).write_bytes(wanted[0])
        os.chmod(to, wanted[1])
