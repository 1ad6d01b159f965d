"""The index replaced whole, or taken away: in which order, and what of another program's is given back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ocitui.cache import ConflictError
from ocitui.cache.disk import Folder
from ocitui.cache.publish import COMPARED_ONLY, gave_back, is_same, is_taken_away, publish_replacement
from ocitui.cache.records import Moved, Placed, Swap
from ocitui.cache.workspace import Workspace
from tests.cache.meddling import (
    AFTER,
    BEFORE,
    DRAFT,
    ID,
    IN_TRASH,
    THEIRS,
    Clock,
    MeddledDisk,
    begun,
    folder,
    of,
    records,
    renamed_over,
    written,
)
from tests.cache.scenes import CORRUPT
from tests.cache.support import OWN

pytestmark = pytest.mark.usefixtures("clock")


def swap_of(space: Workspace, new: bytes | None, *, from_trash: bool = False) -> Swap:
    """The replacement of what stands there by these bytes, staged or in the trash; by nothing for None."""
    old = space.root.lstat("index.json")
    placed = None
    if new is not None:
        name, where = ("000001-abcd~index.json", "trash") if from_trash else (DRAFT, "staging")
        path = space.directory / OWN / where / name
        path.write_bytes(new)
        placed = Placed.of(path.stat(), "index.json", **{where: name})
    moved = Moved.of(old, ID, "index.json") if old is not None else None
    return Swap(moved, placed, space.root.sha256("index.json"))


@pytest.mark.parametrize("from_trash", [False, True])
def test_a_replacement_changes_places_with_what_stands_there(from_trash: bool, index: Path, space: Workspace) -> None:
    index.write_bytes(CORRUPT)
    swap, marks = swap_of(space, AFTER, from_trash=from_trash), begun(space)
    seen: list[list[str]] = []
    space.disk = disk = MeddledDisk("exchange index.json", lambda: seen.append(records(space)))
    publish_replacement(space, swap, marks)
    assert index.read_bytes() == AFTER
    assert swap.new is not None
    assert seen == [[f"{ID}.publishing-{swap.new.inode}.json"]]
    assert records(space) == [f"{ID}.published.json"]
    assert disk.steps == ["exchange index.json", "fsync cache"]
    assert [*folder(space, "trash").values(), *folder(space, "staging").values()] == [CORRUPT]
    assert (space.index_changed, space.notes) == (True, [])


def test_a_replacement_without_the_exchange_has_the_old_one_safe_first(index: Path, space: Workspace) -> None:
    index.write_bytes(CORRUPT)
    swap, marks = swap_of(space, AFTER), begun(space)
    space.disk = disk = MeddledDisk(exchanges=False)
    publish_replacement(space, swap, marks)
    assert index.read_bytes() == AFTER
    assert disk.steps == [f"rename {IN_TRASH}", "fsync trash", "rename index.json", "fsync cache"]
    assert (folder(space, "trash"), folder(space, "staging")) == ({IN_TRASH: CORRUPT}, {})
    assert (space.index_changed, space.notes) == (True, [COMPARED_ONLY])
    assert records(space) == [f"{ID}.published.json"]


def test_a_replacement_comes_where_there_was_none(index: Path, space: Workspace) -> None:
    index.unlink()
    swap, marks = swap_of(space, AFTER), begun(space)
    space.disk = disk = MeddledDisk()
    publish_replacement(space, swap, marks)
    assert index.read_bytes() == AFTER
    assert disk.steps == ["rename index.json", "fsync cache"]
    assert (space.index_changed, space.notes, records(space)) == (True, [], [f"{ID}.published.json"])


def test_an_index_is_taken_away(index: Path, space: Workspace) -> None:
    swap, marks = swap_of(space, None), begun(space)
    space.disk = disk = MeddledDisk()
    publish_replacement(space, swap, marks)
    assert not index.exists()
    assert disk.steps == [f"rename {IN_TRASH}", "fsync trash", "fsync cache"]
    assert folder(space, "trash") == {IN_TRASH: BEFORE}
    assert (space.index_changed, space.notes, records(space)) == (True, [], [f"{ID}.published.json"])


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("old", [CORRUPT, None])
@pytest.mark.parametrize("new", [AFTER, None])
def test_a_sound_index_that_another_program_wrote_meanwhile_stays(
    new: bytes | None, old: bytes | None, exchanges: bool, index: Path, space: Workspace
) -> None:
    if old is None and new is None:
        return
    index.unlink()
    if old is not None:
        index.write_bytes(old)
    swap, marks = swap_of(space, new), begun(space)
    step = f"rename {IN_TRASH}" if old is not None and new is None else "rename index.json"
    if old is not None and new is not None and exchanges:
        step = "exchange index.json"
    space.disk = MeddledDisk(step, renamed_over(index, THEIRS), exchanges=exchanges)
    with pytest.raises(ConflictError) as caught:
        publish_replacement(space, swap, marks)
    assert str(caught.value) == "index.json was written by another program"
    assert caught.value.hint == "look at it again"
    assert index.read_bytes() == THEIRS
    assert not space.index_changed
    assert folder(space, "staging") == ({} if new is None else {DRAFT: AFTER})
    assert records(space) == [f"{ID}.publishing-{swap.new.inode if swap.new else 0}.json"]


def test_a_writer_that_has_it_open_by_then_is_waited_for(index: Path, space: Workspace, clock: Clock) -> None:
    """What it is about to write is an index of another program, too."""
    index.write_bytes(CORRUPT)
    swap, marks = swap_of(space, AFTER), begun(space)
    opened: list[int] = []

    def finish() -> None:
        os.pwrite(opened[0], THEIRS, 0)
        os.close(opened[0])

    clock.at, clock.act = 0.5, finish
    space.disk = MeddledDisk("exchange index.json", lambda: opened.append(os.open(index, os.O_RDWR)))
    with pytest.raises(ConflictError, match="another program"):
        publish_replacement(space, swap, marks)
    assert index.read_bytes() == THEIRS


def test_one_written_within_the_grain_of_the_clock_is_seen_by_its_bytes(index: Path, space: Workspace) -> None:
    """Of the same length, in the same file, with the same time."""
    index.write_bytes(b"x" * len(THEIRS))
    swap, marks, was = swap_of(space, AFTER), begun(space), index.stat()

    def write_unseen() -> None:
        index.write_bytes(THEIRS)
        os.utime(index, ns=(0, was.st_mtime_ns))

    space.disk = MeddledDisk("exchange index.json", write_unseen)
    with pytest.raises(ConflictError, match="another program"):
        publish_replacement(space, swap, marks)
    assert index.read_bytes() == THEIRS


def test_what_another_program_wrote_and_does_not_read_goes_to_the_trash(
    index: Path, space: Workspace, clock: Clock
) -> None:
    """It is given the time in which a torn write ends."""
    for left in (b"torn", None):
        index.write_bytes(CORRUPT)
        clock.now = 0.0
        swap = swap_of(space, None)
        clock.at = 0.5
        clock.act = written(space.directory / OWN / "trash" / IN_TRASH, THEIRS) if left is None else None
        space.disk = MeddledDisk(f"rename {IN_TRASH}", written(index, b"torn"))
        space.disk.rename(space.root, "index.json", space.trash, IN_TRASH)
        assert is_taken_away(space, swap) is (left is not None)
        assert 0.5 <= clock.now < (1.1 if left else 0.6)
        (index if left is None else space.directory / OWN / "trash" / IN_TRASH).unlink()


def test_an_index_is_taken_away_where_it_is_in_the_trash(index: Path, space: Workspace) -> None:
    swap = swap_of(space, None)
    assert not is_taken_away(space, swap)
    index.rename(space.directory / OWN / "trash" / IN_TRASH)
    assert is_taken_away(space, swap)
    # A sound one that took its place by then is another matter: what lies in the trash stays there.
    (space.directory / OWN / "trash" / IN_TRASH).write_bytes(THEIRS)
    index.write_bytes(AFTER)
    assert is_taken_away(space, swap)
    assert index.read_bytes() == AFTER
    index.unlink()
    assert not is_taken_away(space, swap)
    assert index.read_bytes() == THEIRS


def test_of_what_is_gone_by_then_nothing_is_given_back(index: Path, space: Workspace, clock: Clock) -> None:
    """A program died after that had gone to the trash, and a power cut took the mark that it was published."""
    assert not gave_back(space, space.staging, DRAFT, swap_of(space, None))
    assert index.read_bytes() == BEFORE
    assert clock.now == 0


def test_what_is_no_file_is_no_index_of_another_program(index: Path, space: Workspace, clock: Clock) -> None:
    swap = swap_of(space, None)
    there = space.directory / OWN / "trash" / IN_TRASH
    there.symlink_to(index)
    assert is_taken_away(space, swap)
    assert clock.now == 0
    assert there.is_symlink()


def test_what_a_bad_disk_does_not_give_is_none_either(
    index: Path, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = swap_of(space, None)
    swap = Swap(swap.old, None)
    (space.directory / OWN / "trash" / IN_TRASH).write_bytes(THEIRS)
    for code in (errno.EIO, errno.EACCES):

        def refuse(*_: object, code: int = code) -> bytes:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(Folder, "read", refuse)
            if code == errno.EIO:
                assert is_taken_away(space, swap)
            else:
                with pytest.raises(PermissionError):
                    is_taken_away(space, swap)


def test_a_file_is_known_by_its_bytes_and_the_rest_by_what_a_rename_leaves(index: Path, space: Workspace) -> None:
    name, was = "index.json", space.root.lstat("index.json")
    assert was is not None
    moved, digest = Moved.of(was, ID, name), space.root.sha256(name)
    assert is_same(space.root, "absent", None, "")
    assert not is_same(space.root, "absent", moved, digest)
    assert not is_same(space.root, name, None, "")
    assert is_same(space.root, name, moved, digest)
    assert is_same(space.root, name, moved, "")
    os.utime(index)
    assert is_same(space.root, name, moved, digest)
    assert not is_same(space.root, name, moved, "")
    index.write_bytes(of(0, 5))
    os.utime(index, ns=(0, was.st_mtime_ns))
    assert not is_same(space.root, name, moved, digest)
    assert is_same(space.root, name, moved, "")
