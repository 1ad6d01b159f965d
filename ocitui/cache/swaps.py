"""index.json replaced whole, whatever stands there: what it was goes to the trash as it is, and never is followed.

Another program may write a sound index in the same moment. So what was displaced is looked at, and where it is an index
the daemon would load, and not the one that was to go, it is given its place again.
"""

from __future__ import annotations

import errno
import hashlib
import stat
import time

from . import publish
from .disk import Folder
from .errors import ConflictError
from .files import INDEX_NAME
from .index_file import PATIENCE_SECONDS
from .moves import is_placed, move, source_of
from .records import Moved, Placed, Swap
from .verdict import IndexOutcome, judge_index
from .workspace import Workspace

_PAUSE = 0.005


def swap_in(space: Workspace, swap: Swap) -> None:
    """Replace index.json. Raises OSError, and ConflictError where another program wrote a sound one meanwhile."""
    if swap.new is None:
        _take_away(space, swap)
    elif swap.old is None:
        _put_down(space, swap.new)
    else:
        _exchange(space, swap.old, swap.new, swap.old_sha256)


def swapped(space: Workspace, swap: Swap) -> bool:
    """Whether a replacement that was begun is to be finished; one that displaced a sound index is taken back."""
    if swap.new is None:
        return not _waits(space, swap)
    folder, name = source_of(space, swap.new)
    assert folder is not None
    waiting = folder.lstat(name)
    if is_placed(waiting, swap.new):
        return False
    if waiting is not None and is_placed(space.root.lstat(INDEX_NAME), swap.new):
        return not _given_back(space, folder, name, swap)
    return True


def finish_swap(space: Workspace, swap: Swap) -> None:
    """Take to the trash what changed places with the new index and was left there."""
    if swap.new is not None and swap.old is not None:
        folder, name = source_of(space, swap.new)
        assert folder is not None
        if not is_placed(folder.lstat(name), swap.new):
            move(space, folder, name, space.trash, swap.old.trash)


def swap_back(space: Workspace, swap: Swap) -> None:
    """Give back what stood there, where the replacement came no further than to take it away."""
    if swap.old is not None and swap.new is not None:
        move(space, space.trash, swap.old.trash, space.root, INDEX_NAME)


def is_same(folder: Folder, name: str, was: Moved | Placed | None, sha256: str) -> bool:
    """Whether what has a name is what it was: a file by its bytes, anything else by what a rename leaves as it is."""
    found = folder.lstat(name)
    if found is None or was is None:
        return found is None and was is None
    if sha256:
        return stat.S_ISREG(found.st_mode) and hashlib.sha256(folder.read(name)).hexdigest() == sha256
    return (found.st_size, found.st_mtime_ns, found.st_ino) == (was.size, was.modified_ns, was.inode)


def _exchange(space: Workspace, old: Moved, new: Placed, old_sha256: str) -> None:
    disk, root = space.disk, space.root
    folder, name = source_of(space, new)
    assert folder is not None
    if disk.exchange(folder, name, root, INDEX_NAME):
        space.index_changed = True
        time.sleep(publish.SETTLE_SECONDS)
        if _given_back(space, folder, name, Swap(old, new, old_sha256)):
            raise _beaten()
        disk.rename(folder, name, space.trash, old.trash)
    else:
        space.compared_only = True
        disk.rename(root, INDEX_NAME, space.trash, old.trash)
        _put_down(space, new)


def _put_down(space: Workspace, new: Placed) -> None:
    """Put the new index where none is."""
    folder, name = source_of(space, new)
    assert folder is not None
    try:
        space.disk.rename(folder, name, space.root, INDEX_NAME)
    except FileExistsError:
        raise _beaten() from None
    space.index_changed = True


def _take_away(space: Workspace, swap: Swap) -> None:
    """Leave no index: only to undo what had brought in the first one."""
    assert swap.old is not None
    space.disk.rename(space.root, INDEX_NAME, space.trash, swap.old.trash)
    space.index_changed = True
    if _waits(space, swap):
        space.index_changed = False
        raise _beaten()


def _waits(space: Workspace, swap: Swap) -> bool:
    """Whether the index that is to be taken away still stands there; another program's sound one is given back."""
    assert swap.old is not None
    if space.trash.lstat(swap.old.trash) is None:
        return True
    if not _is_foreign(space.trash, swap.old.trash, swap):
        return False
    move(space, space.trash, swap.old.trash, space.root, INDEX_NAME)
    return space.trash.lstat(swap.old.trash) is None


def _given_back(space: Workspace, folder: Folder, name: str, swap: Swap) -> bool:
    """Give a sound index of another program, which was displaced, its place again; False where there was none."""
    if not _is_foreign(folder, name, swap):
        return False
    space.disk.exchange(folder, name, space.root, INDEX_NAME)
    space.index_changed = False
    return True


def _is_foreign(folder: Folder, name: str, swap: Swap) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_same(folder, name, swap.old, swap.old_sha256):
        data = _bytes_of(folder, name)
        if data is not None and judge_index(data) is IndexOutcome.LOADED:
            return True
        if data is None or time.monotonic() >= deadline:
            # Neither what was seen nor an index: it is kept in the trash like that.
            return False
        time.sleep(_PAUSE)
    return False


def _bytes_of(folder: Folder, name: str) -> bytes | None:
    """A regular file's bytes; None for anything else."""
    found = folder.lstat(name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    try:
        return folder.read(name)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None


def _beaten() -> ConflictError:
    return ConflictError("index.json was written by another program", hint="look at it again")
