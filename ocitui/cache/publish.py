"""index.json, published atomically beside a daemon that takes no lock.

The new index changes places with the one on disk, so that a writer who came in between is seen: once nobody has what
was displaced open to write it is looked at, and where it is not what was read, the edit is made again on it. Whether
somebody has is asked of the kernel, by a lease (fcntl(2), F_SETLEASE); where none is to be had, a moment is waited.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

from .backups import keep_backup, newest_with
from .changes import Edit
from .disk import Folder
from .errors import ConflictError, IndexOutcome, Verdict
from .files import INDEX_NAME, file_identity, read_kernel_file
from .index import PATIENCE_SECONDS, ImageIndex, IndexFile, examine_index, index_signature, read_patiently, refuse_link
from .journal import PUBLISHED, PUBLISHING
from .records import Moved, Placed, Swap, Transaction, order_of
from .workspace import Workspace, source_of

SETTLE_SECONDS = 0.02
"""How long a writer has to finish that opened the old file before the exchange, where there are no leases."""
_ATTEMPTS = 50
_PAUSE = 0.005
_PROC = Path("/proc")
_WRITES = os.O_WRONLY | os.O_RDWR

COMPARED_ONLY = (
    "this file system cannot exchange two files: an update that another program made in the same moment would be lost"
)


class Marks:
    """How far the publishing of a transaction's index came, kept in the record's name of one that is marked."""

    def __init__(self, space: Workspace, transaction: Transaction) -> None:
        self._journal = space.journal
        self.transaction = transaction

    def ready(self, inode: int) -> None:
        """The index is written, as the file with this inode, and takes its place next."""
        if self.transaction.marked:
            self._advance(f"{PUBLISHING}{inode}")
            self._journal.sync()

    def withdrawn(self) -> None:
        """It did not; were that lost, no index of that inode would be found."""
        self._advance("")

    def published(self) -> None:
        """It did, and that is durable: there is no way back. The index itself shows it until this is durable too."""
        self._advance(PUBLISHED)

    def _advance(self, stage: str) -> None:
        if self.transaction.marked and self.transaction.stage != PUBLISHED:
            self.transaction = self._journal.advance(self.transaction, stage)


def publish_edit(space: Workspace, base: IndexFile, edit: Edit, draft: str, marks: Marks) -> ImageIndex:
    """Publish ``edit`` of the index on disk, again on whatever another writer left; gives the index as it then is.
    ``draft`` is a free name in the staging folder that begins with the transaction's id; ``space.published`` notes what
    was written. Raises OSError, CorruptIndexError, and ConflictError where index.json is a link or never left alone."""
    refuse_link(space.directory)
    # Updates of others that were displaced: the index each was made of, and what they made of it.
    owed: list[tuple[ImageIndex, ImageIndex]] = []
    ours: ImageIndex | None = None
    make = edit.on(base.contents)
    for _ in range(_ATTEMPTS):
        before = _with_owed(base.contents, owed, ours)
        # Hashed first, so that of what is appended nothing is hashed again.
        before.sha256  # noqa: B018
        new = make(before)
        if _put_in_place(space, base, new, draft, marks):
            displaced = _displaced(space, base, ours, draft)
            if displaced is None or displaced is base.index:
                return new
            owed.append((base.contents, displaced))
            ours = new
        base = read_patiently(space.directory)
        base.require_sound(space.directory)
    raise ConflictError("index.json is rewritten all the time", hint="see what writes it, then try again")


def _with_owed(now: ImageIndex, owed: list[tuple[ImageIndex, ImageIndex]], ours: ImageIndex | None) -> ImageIndex:
    """The index on disk with every displaced update in it again."""
    if len(owed) == 1 and ours is not None and now.data == ours.data:
        # Nobody wrote since: what was displaced is all there is to start from.
        return owed[0][1]
    for common, theirs in owed:
        now = _merged(now, common, theirs)
    return now


def _merged(now: ImageIndex, common: ImageIndex, theirs: ImageIndex) -> ImageIndex:
    """``now`` with what another writer made of ``common``."""
    before, after = ({d.raw for d in index.descriptors} for index in (common, theirs))
    added = [d for d in theirs.descriptors if d.raw not in before]
    outdated = {d.key for d in added} | {d.key for d in common.descriptors if d.raw not in after}
    left = now.without(outdated)
    return left.inserted([(len(left), descriptor, None) for descriptor in added])


def _put_in_place(space: Workspace, base: IndexFile, new: ImageIndex, draft: str, marks: Marks) -> bool:
    """Let the index, written, change places with the one on disk; False, and nothing done, if that is not ``base``."""
    like = space.root.lstat(INDEX_NAME)
    space.disk.write_new(space.staging, draft, new.descriptors.parts, like)
    written = space.staging.lstat(draft)
    if not _still(space, base):
        space.disk.unlink(space.staging, draft)
        return False
    if written is not None:
        marks.ready(written.st_ino)
    if not base.exists:
        try:
            space.disk.rename(space.staging, draft, space.root, INDEX_NAME)
        except FileExistsError:
            marks.withdrawn()
            space.disk.unlink(space.staging, draft)
            return False
    elif not space.disk.exchange(space.staging, draft, space.root, INDEX_NAME):
        if base.index is not None:
            keep_backup(space.directory, base.index, order_of(draft.partition(".")[0])[0], space.disk)
        space.disk.replace(space.staging, draft, space.root, INDEX_NAME)
        space.notes.append(COMPARED_ONLY)
    space.index_changed = True
    space.disk.sync_folder(space.root)
    marks.published()
    now = index_signature(space.directory)
    # Unless another writer is in the file already.
    ours = now is not None and written is not None and now[:4] == file_identity(written)
    space.published = IndexFile(now, Verdict(IndexOutcome.LOADED, len(new)), new) if ours else None
    return True


def _still(space: Workspace, base: IndexFile) -> bool:
    """Whether the index on disk is ``base``; a daemon that stores may have written the same again."""
    if index_signature(space.directory) == base.signature:
        return True
    latest = read_patiently(space.directory)
    if base.index is None or latest.index is None:
        return base.exists == latest.exists and latest.verdict.sound
    return base.index.data == latest.index.data


def _displaced(space: Workspace, base: IndexFile, ours: ImageIndex | None, draft: str) -> ImageIndex | None:
    """The index that was displaced: the very one of ``base`` if nobody wrote, None where nothing could be displaced. It
    becomes a backup; where no index can be read in it, it goes to the trash."""
    if space.staging.lstat(draft) is None or base.index is None:
        return None
    writers = await_writers(space.staging, draft)
    if writers:
        space.notes.append(
            f"{writers} had the old index.json open to write all the while; what it wrote there since is not in the "
            "new one: check tells whether it did"
        )
    found: ImageIndex | None = base.index
    there, was = space.staging.lstat(draft), base.signature
    # That it is the file which was read, all that a rename leaves as it is may tell; that it is not, the bytes alone.
    if not (there and was and base.settled and was[:4] == file_identity(there)):
        data = _read_displaced(space, base.index, draft)
        if data != base.index.data:
            found = examine_index(data)[1]
    if found is None and not writers:
        space.disk.rename(space.staging, draft, space.trash, f"{draft}~{INDEX_NAME}")
    elif found is base.index and ours is not None and not writers and base.index.data == ours.data:
        # It was written here a moment ago, and lacks the update that is owed.
        space.disk.unlink(space.staging, draft)
    else:
        keep_displaced(space, draft, found or base.index, stalled=bool(writers))
    # Where a writer died in it, what is on disk stands.
    return found or base.index


def _read_displaced(space: Workspace, base: ImageIndex, draft: str) -> bytes:
    """Its bytes, given the patience that a torn file has."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        data = space.staging.read(draft)
        if base.data == data or examine_index(data)[1] is not None or time.monotonic() >= deadline:
            return data
        time.sleep(_PAUSE)


def await_writers(folder: Folder, name: str) -> str:
    """Wait until nobody has a file open to write, while the patience lasts; gives who still has then, as far as can
    be seen, empty where nobody has. Where there are no leases a writer has a moment to finish, and nobody can tell."""
    found = folder.lstat(name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return ""
    granted: bool | None = None
    with suppress(OSError), folder.open_file(name) as file:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (granted := _is_granted(file.fileno())) is False:
            if time.monotonic() >= deadline:
                return _writers_of(found)
            time.sleep(_PAUSE)
    if granted is None:
        time.sleep(SETTLE_SECONDS)
    return ""


def _is_granted(fd: int) -> bool | None:
    """Whether nobody has a file open to write, which is when a lease to read it is granted; None where nobody can tell.
    Readers are in nobody's way. A lease is for the file's owner, or whoever has CAP_LEASE."""
    try:
        # A writer who comes while the lease is held would be announced by a signal that ends programs.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return False if error.errno == errno.EAGAIN else None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def _writers_of(found: os.stat_result) -> str:
    """The processes that have a file open to write, as far as /proc tells."""
    names: list[str] = []
    with suppress(OSError):
        for process in filter(str.isdecimal, os.listdir(_PROC)):
            with suppress(OSError):
                if any(_is_written(process, fd, found) for fd in os.listdir(_PROC / process / "fd")):
                    comm = read_kernel_file(_PROC / process / "comm").strip()
                    names.append(f"{comm} (process {process})")
    return ", ".join(names) or "another program"


def _is_written(process: str, fd: str, found: os.stat_result) -> bool:
    # One that is closed meanwhile says nothing of the others.
    with suppress(OSError, ValueError):
        if os.path.samestat(os.stat(_PROC / process / "fd" / fd), found):
            lines = read_kernel_file(_PROC / process / "fdinfo" / fd).splitlines()
            flags = next((line.split()[1] for line in lines if line.startswith("flags:")), "0")
            return bool(int(flags, 8) & _WRITES)
    return False


def keep_displaced(space: Workspace, draft: str, index: ImageIndex, *, stalled: bool = False) -> None:
    """Make a displaced index a backup: the very file where it is ours alone, else a copy; else it goes to the trash."""
    kept = False
    with suppress(OSError):
        kept = _kept(space, draft, index, stalled=stalled)
    if not kept:
        with suppress(OSError):
            space.disk.rename(space.staging, draft, space.trash, f"{draft}~{INDEX_NAME}")


def _kept(space: Workspace, draft: str, index: ImageIndex, *, stalled: bool) -> bool:
    copies, number = space.backups, order_of(draft.partition(".")[0])[0]
    found = space.staging.lstat(draft)
    if found is None:
        return True
    # Who still has it open may have written anything.
    content = (space.staging.sha256(draft) if stalled else index.sha256)[:32]
    if not stalled and newest_with(space.directory, copies, index, content):
        space.disk.unlink(space.staging, draft)
        return True
    backup = copies.new(number, len(index), content, stalled=stalled)
    if stalled or (found.st_nlink == 1 and found.st_uid == os.geteuid()):
        copies.take(backup, space.staging, draft)
    else:
        if copies.put(backup, space.staging.read(draft), found) is None:
            return False
        space.disk.unlink(space.staging, draft)
    copies.prune()
    return True


def publish_replacement(space: Workspace, swap: Swap, marks: Marks) -> None:
    """Replace index.json whole, or take it away. Raises OSError, ConflictError where another wrote a sound one."""
    old, new = swap.old, swap.new
    marks.ready(new.inode if new else 0)
    folder, name = source_of(space, new) if new else (space.staging, "")
    if old and new and space.disk.exchange(folder, name, space.root, INDEX_NAME):
        space.index_changed = True
        # What it displaced goes to the trash once all is done.
        if gave_back(space, folder, name, swap):
            raise _beaten()
    else:
        if old:
            # To the trash, durably before anything else takes its place.
            space.disk.rename(space.root, INDEX_NAME, space.trash, old.trash)
            space.index_changed = True
            space.disk.sync_folder(space.trash)
        if old and new:
            space.notes.append(COMPARED_ONLY)
        if new:
            space.index_changed = False
            try:
                space.disk.rename(folder, name, space.root, INDEX_NAME)
            except FileExistsError:
                raise _beaten() from None
            space.index_changed = True
        elif not is_taken_away(space, swap):
            space.index_changed = False
            raise _beaten()
    space.disk.sync_folder(space.root)
    marks.published()


def is_taken_away(space: Workspace, swap: Swap) -> bool:
    """Whether the index that was to be taken away is; another program's sound one is given back."""
    assert swap.old is not None
    if space.trash.lstat(swap.old.trash) is None:
        return False
    if _is_foreign(space.trash, swap.old.trash, swap) and space.root.lstat(INDEX_NAME) is None:
        space.disk.rename(space.trash, swap.old.trash, space.root, INDEX_NAME)
        return False
    return True


def gave_back(space: Workspace, folder: Folder, name: str, swap: Swap) -> bool:
    """Give a sound index of another program, which was displaced, its place again; False where there was none."""
    if not _is_foreign(folder, name, swap):
        return False
    space.disk.exchange(folder, name, space.root, INDEX_NAME)
    space.index_changed = False
    return True


def _is_foreign(folder: Folder, name: str, swap: Swap) -> bool:
    """Whether what was displaced is not what was seen, but a sound index that another program wrote meanwhile."""
    await_writers(folder, name)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_same(folder, name, swap.old, swap.old_sha256):
        data = _bytes_of(folder, name)
        if data is not None and examine_index(data)[1] is not None:
            return True
        if data is None or time.monotonic() >= deadline:
            # Neither what was seen nor an index: it is kept in the trash like that.
            return False
        time.sleep(_PAUSE)
    return False


def is_same(folder: Folder, name: str, was: Moved | Placed | None, sha256: str) -> bool:
    """Whether what has a name is what it was: a file by its bytes, anything else by what a rename leaves as it is."""
    found = folder.lstat(name)
    if found is None or was is None:
        return found is None and was is None
    if sha256:
        return folder.sha256(name) == sha256
    return was.matches(found)


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
