"""The index published, step by step: what another program does in between, and what became of what was displaced."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ocitui.cache import ConflictError, CorruptIndexError, Descriptor, ImageIndex, list_backups
from ocitui.cache.backups import Backups
from ocitui.cache.changes import Edit, removals
from ocitui.cache.disk import Folder
from ocitui.cache.index import index_signature, read_once
from ocitui.cache.publish import COMPARED_ONLY, keep_displaced
from ocitui.cache.workspace import Workspace
from tests.cache.meddling import (
    AFTER,
    BEFORE,
    DRAFT,
    ID,
    THEIRS,
    Clock,
    MeddledDisk,
    folder,
    kept,
    of,
    published,
    records,
    renamed_over,
    written,
)
from tests.cache.scenes import CORRUPT
from tests.cache.support import OWN, entry, index_bytes

pytestmark = pytest.mark.usefixtures("clock")


def test_what_was_displaced_is_a_backup_and_what_was_published_is_known(index: Path, space: Workspace) -> None:
    index.chmod(0o640)
    old = index.stat()
    space.disk = disk = MeddledDisk()
    assert published(space) == index.read_bytes() == AFTER
    assert disk.steps == [
        f"create {DRAFT}", f"write {DRAFT}", f"fsync {DRAFT}", "exchange index.json", "fsync cache"
    ]  # fmt: skip
    assert stat.S_IMODE(index.stat().st_mode) == 0o640
    assert kept(space) == [BEFORE]
    (backup,) = list_backups(space.directory)
    # The very file.
    assert (space.directory / OWN / "backups" / backup.name).stat().st_ino == old.st_ino
    assert (backup.number, backup.entries, backup.stalled) == (2, 2, False)
    assert folder(space, "staging") == folder(space, "trash") == {}
    assert space.published is not None
    assert space.published.signature == index_signature(space.directory)
    assert space.published.contents.data == AFTER
    assert space.published.verdict == read_once(space.directory).verdict
    assert space.index_changed
    assert space.notes == []


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_the_record_says_which_file_is_to_be_the_index_before_it_is(
    there: bool, marked: bool, index: Path, space: Workspace
) -> None:
    """An edit by keys needs no mark: the index itself shows it."""
    if not there:
        index.unlink()
    seen: list[list[str]] = []

    def note() -> None:
        seen.append(records(space))

    step = "exchange index.json" if there else "rename index.json"
    space.disk = disk = MeddledDisk(step, note)
    space.journal._disk = disk
    published(space, marked=marked)
    inode = index.stat().st_ino
    assert seen == [[f"{ID}.publishing-{inode}.json" if marked else f"{ID}.pending.json"]]
    assert records(space) == [f"{ID}.published.json" if marked else f"{ID}.pending.json"]
    if not marked:
        assert not any("journal" in one or ID in one for one in disk.steps[disk.steps.index(f"fsync {DRAFT}") + 1 :])
    else:
        at = disk.steps.index(step)
        assert disk.steps[at - 2 : at] == [f"rename {seen[0][0]}", "fsync journal"]
        after = disk.steps[at + 1 :]
        assert after[:2] == ["fsync cache", f"rename {ID}.published.json"]


@pytest.mark.parametrize("step", [f"fsync {DRAFT}", "rename index.json"])
def test_an_index_that_came_where_there_was_none_is_edited(step: str, index: Path, space: Workspace) -> None:
    """The mark is withdrawn: a crash now would else be taken for one before that file was displaced."""
    index.unlink()
    seen: list[list[str]] = []

    class Disk(MeddledDisk):
        def unlink(self, folder: Folder, name: str) -> None:
            seen.append(records(space))
            super().unlink(folder, name)

    space.disk = Disk(step, written(index, BEFORE))
    assert published(space, marked=True) == index.read_bytes() == AFTER
    assert seen[0] == [f"{ID}.pending.json"]
    assert records(space) == [f"{ID}.published.json"]
    assert kept(space) == [BEFORE]
    assert folder(space, "staging") == {}


def test_one_that_is_rewritten_all_the_time_is_given_up(
    index: Path, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.cache.publish._ATTEMPTS", 3)
    acts = [renamed_over(index, of(0, 1, number)) for number in range(10, 20)]
    space.disk = disk = MeddledDisk(f"fsync {DRAFT}", *acts)
    with pytest.raises(ConflictError) as caught:
        published(space)
    assert str(caught.value) == "index.json is rewritten all the time"
    assert caught.value.hint == "see what writes it, then try again"
    assert len(disk.acts) == 7
    assert index.read_bytes() == of(0, 1, 12)
    assert (folder(space, "staging"), space.index_changed, space.published) == ({}, False, None)


def test_a_link_is_not_written(index: Path, space: Workspace) -> None:
    index.rename(space.directory / "elsewhere")
    index.symlink_to("elsewhere")
    with pytest.raises(ConflictError, match="is a link"):
        published(space)
    assert index.read_bytes() == BEFORE


def test_an_index_that_turned_corrupt_is_not_replaced(index: Path, space: Workspace) -> None:
    space.disk = MeddledDisk(f"fsync {DRAFT}", written(index, CORRUPT))
    with pytest.raises(CorruptIndexError):
        published(space)
    assert index.read_bytes() == CORRUPT
    assert folder(space, "staging") == {}


def test_an_index_that_is_gone_by_then_is_made_anew(index: Path, space: Workspace) -> None:
    space.disk = MeddledDisk(f"fsync {DRAFT}", index.unlink)
    assert published(space) == index.read_bytes() == of(9)
    assert folder(space, "staging") == {}
    # And one that came where there was none, corrupt, is left.
    index.unlink()
    space.disk = MeddledDisk(f"fsync {DRAFT}", written(index, CORRUPT))
    with pytest.raises(CorruptIndexError):
        published(space)
    assert index.read_bytes() == CORRUPT


def test_the_same_written_again_is_no_update(index: Path, space: Workspace) -> None:
    space.disk = disk = MeddledDisk(f"fsync {DRAFT}", renamed_over(index, BEFORE))
    published(space)
    assert disk.steps.count(f"create {DRAFT}") == 1
    assert kept(space) == [BEFORE]


def test_an_update_before_the_exchange_is_edited(index: Path, space: Workspace) -> None:
    space.disk = disk = MeddledDisk(f"fsync {DRAFT}", renamed_over(index, THEIRS))
    assert published(space) == index.read_bytes() == of(0, 1, 5, 9)
    assert disk.steps.count(f"create {DRAFT}") == 2
    assert kept(space) == [THEIRS]


def test_without_the_exchange_the_backup_is_made_before_the_index_goes(index: Path, space: Workspace) -> None:
    """Under the number of the transaction, whatever else is pending, and with steps like all others."""
    (space.directory / OWN / "journal" / "000001-abcd.pending.json").write_bytes(b"{}")
    seen: list[list[bytes]] = []
    space.disk = disk = MeddledDisk("rename index.json", lambda: seen.append(kept(space)), exchanges=False)
    published(space)
    assert index.read_bytes() == AFTER
    assert seen == [[BEFORE]]
    assert [backup.number for backup in list_backups(space.directory)] == [2]
    assert [one for one in disk.steps if one.startswith("create") and one.endswith(".part")]
    assert space.notes == [COMPARED_ONLY]
    assert folder(space, "staging") == {}


def test_an_update_that_was_displaced_comes_into_the_index_again(index: Path, space: Workspace) -> None:
    """As its writer laid it out, for nobody wrote since. What was written here for a moment is no backup."""
    theirs = THEIRS.replace(b"  ", b"    ")
    space.disk = MeddledDisk("exchange index.json", renamed_over(index, theirs))
    expected = ImageIndex.parse(theirs).appended(Descriptor.from_dict(entry(9)))
    assert published(space) == index.read_bytes() == expected.data
    assert kept(space) == [theirs]
    assert folder(space, "staging") == folder(space, "trash") == {}


def test_each_of_two_updates_that_were_displaced_comes_in_again(index: Path, space: Workspace) -> None:
    """And once an index is published that stays on record: there is no way back by then."""
    seen: list[list[str]] = []
    theirs: list[bytes] = []

    def displace(number: int) -> None:
        seen.append(records(space))
        theirs.insert(0, ImageIndex.parse(index.read_bytes()).appended(Descriptor.from_dict(entry(number))).data)
        renamed_over(index, theirs[0])()

    space.disk = MeddledDisk("exchange index.json", lambda: displace(5), lambda: displace(6))
    published(space, marked=True)
    assert sorted(ImageIndex.parse(index.read_bytes()).keys()) == sorted(ImageIndex.parse(of(0, 1, 5, 6, 9)).keys())
    assert seen[1] == records(space) == [f"{ID}.published.json"]
    assert kept(space) == theirs


def test_of_an_update_that_was_displaced_all_is_made_again(index: Path, space: Workspace) -> None:
    """What came, what went, and what is another entry by now, on an index that a third writer changed."""
    index.write_bytes(of(0, 1, 2, 3))
    renamed = entry(2, name="renamed:2")
    theirs = index_bytes([entry(1), renamed, entry(3), entry(5)])

    third: list[bytes] = []

    def again() -> None:
        third.append(index.read_bytes().replace(b"image3:1", b"another:3"))
        renamed_over(index, third[0])()

    class Disk(MeddledDisk):
        def create(self, folder: Folder, name: str, mode: int = 0o644) -> int:
            if self.steps.count(f"create {DRAFT}") == 1:
                again()
            return super().create(folder, name, mode)

    space.disk = Disk("exchange index.json", renamed_over(index, theirs))
    published(space)
    wanted = [entry(1), entry(3, name="another:3"), renamed, entry(5), entry(9)]
    found = ImageIndex.parse(index.read_bytes()).identities()
    assert sorted(found, key=str) == sorted(ImageIndex.parse(index_bytes(wanted)).identities(), key=str)
    assert kept(space) == [*third, theirs]


def test_an_update_within_the_grain_of_the_clock_is_seen_by_its_bytes(
    index: Path, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same length, in the same file, with the same time: one that was read so shortly after may be such."""
    monkeypatch.setattr("ocitui.cache.index._CLOCK_GRAIN_NS", 1 << 62)
    theirs = of(0, 5)
    assert len(theirs) == len(BEFORE)

    def write_unseen() -> None:
        was = index.stat()
        index.write_bytes(theirs)
        os.utime(index, ns=(was.st_atime_ns, was.st_mtime_ns))

    space.disk = MeddledDisk("exchange index.json", write_unseen)
    published(space)
    assert index.read_bytes() == of(0, 5, 9)


def test_what_was_read_long_ago_and_did_not_change_is_not_read_again(
    index: Path, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("read again")

    monkeypatch.setattr(Folder, "read", refuse)
    monkeypatch.setattr("ocitui.cache.publish.read_patiently", refuse)
    published(space)
    monkeypatch.undo()
    assert kept(space) == [BEFORE]


@pytest.mark.parametrize("what", ["size", "time", "inode", "gone"])
def test_an_index_that_somebody_wrote_at_once_is_not_taken_for_ours(what: str, index: Path, space: Workspace) -> None:
    def meddle() -> None:
        was = index.stat()
        if what == "size":
            index.write_bytes(AFTER + b"\n")
        if what == "inode":
            renamed_over(index, AFTER)()
        if what == "gone":
            index.unlink()
        else:
            os.utime(index, ns=(0, was.st_mtime_ns + (what == "time")))

    space.disk = MeddledDisk("fsync cache", meddle)
    published(space)
    assert space.index_changed
    assert space.published is None


def test_what_a_writer_died_in_goes_to_the_trash(index: Path, space: Workspace, clock: Clock) -> None:
    """What is on disk stands: nothing is owed."""
    space.disk = disk = MeddledDisk("exchange index.json", written(index, CORRUPT))
    assert published(space) == index.read_bytes() == AFTER
    assert folder(space, "trash") == {f"{DRAFT}~index.json": CORRUPT}
    assert folder(space, "staging") == {}
    assert disk.steps.count(f"create {DRAFT}") == 1
    assert kept(space) == []
    assert 1.0 <= clock.now < 1.1


def test_a_torn_update_is_given_the_time_to_become_whole(index: Path, space: Workspace, clock: Clock) -> None:
    """Its writer opens it for each piece."""
    space.disk = MeddledDisk("exchange index.json", written(index, THEIRS[:40]))
    clock.at, clock.act = 0.5, written(space.directory / OWN / "staging" / DRAFT, THEIRS)
    published(space)
    assert index.read_bytes() == of(0, 1, 5, 9)
    assert 0.5 <= clock.now < 0.6


def displaced(space: Workspace, data: bytes = BEFORE) -> Path:
    path = space.directory / OWN / "staging" / DRAFT
    path.write_bytes(data)
    return path


def test_a_displaced_index_is_a_backup_each_time_it_comes(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(data: bytes) -> list[bytes]:
        displaced(space, data)
        keep_displaced(space, DRAFT, ImageIndex.parse(data))
        assert folder(space, "staging") == folder(space, "trash") == {}
        assert {backup.number for backup in list_backups(space.directory)} == {2}
        return kept(space)

    assert keep(BEFORE) == keep(BEFORE) == [BEFORE]
    assert keep(THEIRS) == [THEIRS, BEFORE]
    assert keep(BEFORE) == [BEFORE, THEIRS, BEFORE]
    # Of too many the oldest goes that is not the last before a shrink.
    monkeypatch.setattr(space.backups, "_most", 2)
    assert keep(AFTER) == [AFTER, THEIRS]
    # One that is gone by then is no failure.
    keep_displaced(space, DRAFT, ImageIndex.parse(BEFORE))
    assert kept(space) == [AFTER, THEIRS]


@pytest.mark.parametrize("linked", [True, False])
def test_one_that_may_be_written_to_is_kept_as_it_is_whatever_it_holds(linked: bool, space: Workspace) -> None:
    """Though that is a backup already, and though the file has another name."""
    displaced(space)
    keep_displaced(space, DRAFT, ImageIndex.parse(BEFORE))
    path = displaced(space)
    if linked:
        os.link(path, space.directory / "snapshot")
    inode = path.stat().st_ino
    keep_displaced(space, DRAFT, ImageIndex.parse(BEFORE), stalled=True)
    backups = space.directory / OWN / "backups"
    assert len(list(backups.iterdir())) == 2
    assert inode in [backup.stat().st_ino for backup in backups.iterdir()]
    assert kept(space) == [BEFORE]


def linked(path: Path, space: Workspace) -> None:
    os.link(path, space.directory / "snapshot")


def given_away(path: Path, _: Workspace) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 1234, 1234)


@pytest.mark.parametrize("make", [linked, given_away])
def test_of_a_file_that_is_not_ours_alone_a_copy_is_kept(
    make: Callable[[Path, Workspace], None], space: Workspace
) -> None:
    path = displaced(space)
    path.chmod(0o640)
    make(path, space)
    inode = path.stat().st_ino
    keep_displaced(space, DRAFT, ImageIndex.parse(BEFORE))
    assert kept(space) == [BEFORE]
    assert folder(space, "staging") == folder(space, "trash") == {}
    (copy,) = (space.directory / OWN / "backups").iterdir()
    there = copy.stat()
    assert (there.st_ino != inode, stat.S_IMODE(there.st_mode), there.st_uid) == (True, 0o640, os.geteuid())


def test_one_that_cannot_be_kept_goes_to_the_trash(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    os.link(displaced(space), space.directory / "snapshot")
    with monkeypatch.context() as patch:
        patch.setattr("ocitui.cache.backups.LEFT_FREE", 1 << 62)
        keep_displaced(space, DRAFT, ImageIndex.parse(BEFORE))
    assert folder(space, "trash") == {f"{DRAFT}~index.json": BEFORE}
    assert folder(space, "staging") == folder(space, "backups") == {}
    # Nor to the trash, where that has one of the name: it stays for the next writer.
    os.link(displaced(space, THEIRS), space.directory / "another")
    with monkeypatch.context() as patch:
        patch.setattr("ocitui.cache.backups.LEFT_FREE", 1 << 62)
        keep_displaced(space, DRAFT, ImageIndex.parse(THEIRS))
    assert folder(space, "trash") == {f"{DRAFT}~index.json": BEFORE}
    assert folder(space, "staging") == {DRAFT: THEIRS}


def test_one_that_a_failing_disk_does_not_keep_goes_to_the_trash(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    displaced(space)
    monkeypatch.setattr(Backups, "take", refuse)
    keep_displaced(space, DRAFT, ImageIndex.parse(BEFORE))
    assert folder(space, "trash") == {f"{DRAFT}~index.json": BEFORE}
    assert folder(space, "staging") == folder(space, "backups") == {}


def test_an_edit_by_positions_is_published_too(index: Path, space: Workspace) -> None:
    edit = Edit(removals(ImageIndex.parse(BEFORE), {0}))
    assert published(space, edit) == index.read_bytes() == of(1)
