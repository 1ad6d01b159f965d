"""Who still has the old index open to write: waited for, named, and what it wrote too late kept apart."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ocitui.cache.backups import late_updates
from ocitui.cache.disk import Folder
from ocitui.cache.publish import await_writers
from ocitui.cache.workspace import Workspace
from tests.cache.meddling import (
    AFTER,
    BEFORE,
    THEIRS,
    Clock,
    MeddledDisk,
    folder,
    kept,
    of,
    published,
    renamed_over,
)
from tests.cache.scenes import CORRUPT
from tests.cache.support import OWN

pytestmark = pytest.mark.usefixtures("clock")


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.symlink_to("index.json"), os.mkfifo]
)
def test_nobody_writes_to_what_is_no_file(make: Callable[[Path], object], space: Workspace, clock: Clock) -> None:
    make(space.directory / "there")
    assert await_writers(space.root, "there") == ""
    assert clock.now == 0


def test_a_writer_is_waited_for_until_it_is_done_and_a_reader_is_not(
    index: Path, space: Workspace, clock: Clock
) -> None:
    reader = os.open(index, os.O_RDONLY)
    assert await_writers(space.root, "index.json") == ""
    assert clock.now == 0
    writer = os.open(index, os.O_WRONLY)
    clock.at, clock.act = 0.5, lambda: os.close(writer)
    assert await_writers(space.root, "index.json") == ""
    assert 0.5 <= clock.now < 0.6
    gaps = [os.open(index, os.O_RDONLY) for _ in range(4)]
    writer = os.open(index, os.O_WRONLY)
    # Where a number below is free, the listing of them has it, and is closed by the time that it is looked at.
    for gap in gaps:
        os.close(gap)
    clock.now = 0.0
    assert f"(process {os.getpid()})" in await_writers(space.root, "index.json")
    assert 1.0 <= clock.now < 1.1
    os.close(writer)
    os.close(reader)


def test_where_there_are_no_leases_a_moment_is_waited_for_whoever_may_write(
    index: Path, space: Workspace, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 7.0)
    with monkeypatch.context() as patch:
        patch.setattr("ocitui.cache.publish.fcntl.fcntl", refuse)
        assert await_writers(space.root, "index.json") == ""
    assert clock.now == 7.0
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "open_file", refuse)
        assert await_writers(space.root, "index.json") == ""
    assert clock.now == 14.0


def test_a_lease_ends_at_once_and_its_signal_ends_nobody(
    index: Path, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr("ocitui.cache.publish.fcntl.fcntl", lambda _, *call: calls.append(call))
    await_writers(space.root, "index.json")
    # What a lease announces itself by is SIGIO else, which ends a program; SIGURG is ignored by all.
    assert calls == [
        (fcntl.F_SETSIG, signal.SIGURG), (fcntl.F_SETLEASE, fcntl.F_RDLCK), (fcntl.F_SETLEASE, fcntl.F_UNLCK)
    ]  # fmt: skip


def test_who_writes_is_named_as_far_as_proc_tells(
    index: Path, space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not who reads it, or writes to another file, or is gone by now."""
    other = tmp_path / "other"
    other.write_bytes(b"")
    proc = tmp_path / "proc"
    processes: dict[str, list[tuple[Path, str]]] = {
        "12": [(other, "0100002"), (index, "0100001")],
        "13": [(index, "0100000")],
        "14": [(other, "0100002")],
        "15": [(index, "")],
        "16": [(tmp_path / "gone", "0100002")],
        "18": [(index, "02100002")],
        "19": [(index, "what no kernel says")],
        "self": [(index, "0100002")],
    }
    for process, files in processes.items():
        for part in ("fd", "fdinfo"):
            (proc / process / part).mkdir(parents=True)
        (proc / process / "comm").write_text(f"program{process}\n")
        for number, (file, flags) in enumerate(files):
            (proc / process / "fd" / str(number)).symlink_to(file)
            told = f"pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n" if flags else "pos:\t0\n"
            (proc / process / "fdinfo" / str(number)).write_text(told)
    (proc / "17").mkdir()
    monkeypatch.setattr("ocitui.cache.publish._PROC", proc)
    writer = os.open(index, os.O_WRONLY)
    try:
        names = await_writers(space.root, "index.json")
        assert sorted(names.split(", ")) == ["program12 (process 12)", "program18 (process 18)"]
        for nothing in (proc / "17", tmp_path / "absent"):
            monkeypatch.setattr("ocitui.cache.publish._PROC", nothing)
            assert await_writers(space.root, "index.json") == "another program"
    finally:
        os.close(writer)


def test_what_was_written_here_for_a_moment_is_kept_where_somebody_has_it_open(index: Path, space: Workspace) -> None:
    opened: list[int] = []
    acts = renamed_over(index, THEIRS), lambda: opened.append(os.open(index, os.O_RDWR))
    space.disk = MeddledDisk("exchange index.json", *acts)
    published(space)
    os.pwrite(opened[0], of(0, 1, 9, 6), 0)
    os.close(opened[0])
    ((_, holds),) = late_updates(space.directory)
    assert holds is not None
    assert holds.data == of(0, 1, 9, 6)
    assert kept(space) == [THEIRS]


def test_a_writer_that_stalls_in_it_is_told(index: Path, space: Workspace, clock: Clock) -> None:
    """Its copy may change at any time: it is kept apart from the others, whatever it holds now."""
    for torn in (b"", CORRUPT):
        index.write_bytes(BEFORE)
        opened: list[int] = []

        def stall(torn: bytes = torn, opened: list[int] = opened) -> None:
            opened.append(os.open(index, os.O_RDWR))
            if torn:
                os.truncate(index, 0)
                os.pwrite(opened[0], torn, 0)

        space.disk, space.notes = MeddledDisk("exchange index.json", stall), []
        try:
            assert published(space) == index.read_bytes() == AFTER
        finally:
            os.close(opened[0])
        comm = Path("/proc/self/comm").read_text().strip()
        assert space.notes == [
            f"{comm} (process {os.getpid()}) had the old index.json open to write all the while; what it wrote there "
            "since is not in the new one: check tells whether it did"
        ]
        assert (kept(space), late_updates(space.directory), folder(space, "trash")) == ([], [], {})
        (name,) = folder(space, "backups")
        late = space.directory / OWN / "backups" / name
        assert late.read_bytes() == (torn or BEFORE)
        late.write_bytes(THEIRS)
        ((_, holds),) = late_updates(space.directory)
        assert holds is not None
        assert holds.data == THEIRS
        late.unlink()
        space.backups._known = None
