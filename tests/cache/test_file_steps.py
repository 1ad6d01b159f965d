"""A transaction's files, step by step: each state that a crash or another program leaves, and what is made of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from ocitui.cache import ChangeMode
from ocitui.cache.disk import Disk
from ocitui.cache.records import Moved, Placed, Transaction, trash_name
from ocitui.cache.workspace import Workspace, bring_in, is_half_moved, mode_of, move, send_back, set_modes
from tests.cache.meddling import ID, MeddledDisk
from tests.cache.scenes import Stop, StoppingDisk, WithoutExchange
from tests.cache.support import OWN

NAME = "file"
IN_TRASH, STAGED, GIVEN_BACK = trash_name(ID, NAME), f"{ID}.0", "000001-abcd~file"
OLD, NEW, FOREIGN = b"the old one", b"a new one", b"of another program"
FOLDERS = {"cache": ".", "trash": f"{OWN}/trash", "staging": f"{OWN}/staging", "outside": "../outside"}
SOURCES = ["staging", "trash", "path", "path by staging"]
State = dict[str, bytes]
"""What lies in each folder: its name and that of the file, and the bytes."""


class Refusing(Disk):
    """Fails to rename to a name."""

    def __init__(self, code: int, target: str) -> None:
        super().__init__()
        self.code, self.target = code, target

    def step(self, operation: str, name: str) -> None:
        if operation == "rename" and name == self.target:
            raise OSError(self.code, os.strerror(self.code), name)


@pytest.fixture(autouse=True)
def a_path_outside(memory_path: Path) -> None:
    (memory_path / "outside").mkdir()


def path_of(space: Workspace, place: str) -> Path:
    folder, _, name = place.partition("/")
    return space.directory / FOLDERS[folder] / name


def outside(space: Workspace) -> str:
    return os.path.normpath(path_of(space, f"outside/{NAME}"))


def state(space: Workspace) -> State:
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in FOLDERS
        for path in path_of(space, folder).iterdir()
        if path.is_file()
    }


def make(space: Workspace, files: State) -> None:
    """Exactly these files."""
    for place in state(space):
        path_of(space, place).unlink()
    for place, data in files.items():
        path_of(space, place).write_bytes(data)


def begun(space: Workspace, source: str, *, over: bool) -> tuple[Transaction, str]:
    """A transaction none of whose steps are made, that takes in a file, ``over`` another or not; and where that is."""
    where, how = {
        "staging": (f"staging/{STAGED}", {"staging": STAGED}),
        "trash": (f"trash/{GIVEN_BACK}", {"trash": GIVEN_BACK}),
        "path": (f"outside/{NAME}", {"path": outside(space)}),
        "path by staging": (f"outside/{NAME}", {"path": outside(space), "staging": STAGED}),
    }[source]
    make(space, {where: NEW} | ({f"cache/{NAME}": OLD} if over else {}))
    placed = Placed.of(path_of(space, where).stat(), NAME, **how)
    displaced = [Moved.of(path_of(space, f"cache/{NAME}").stat(), ID, NAME)] if over else []
    return Transaction(id=ID, kind="repair", started=0.0, by="", placed=[placed], displaced=displaced), where


# What has nothing to replace comes from a path at once.
WAYS = [(source, over) for source in SOURCES for over in (False, True) if not (over and source == "path")]


@pytest.mark.parametrize(("source", "over"), WAYS)
@pytest.mark.parametrize("disk", [Disk, lambda: WithoutExchange(99)], ids=["exchange", "none"])
def test_what_is_brought_in_goes_back_where_it_came_from(
    disk: Callable[[], Disk], source: str, over: bool, space: Workspace
) -> None:
    transaction, _ = begun(space, source, over=over)
    before, space.disk = state(space), disk()
    bring_in(space, transaction)
    assert state(space) == {f"cache/{NAME}": NEW} | ({f"trash/{IN_TRASH}": OLD} if over else {})
    send_back(space, transaction, ours=True)
    assert state(space) == before
    send_back(space, transaction, ours=True)
    assert state(space) == before


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize(("source", "over"), WAYS)
@pytest.mark.parametrize("kind", [StoppingDisk, WithoutExchange], ids=["exchange", "none"])
def test_it_goes_back_from_wherever_it_stopped(
    kind: type[StoppingDisk], source: str, over: bool, ours: bool, space: Workspace
) -> None:
    """And where that stops too. What only the record says of a path outside is not acted on."""
    for forth in range(9):
        for back in range(9):
            transaction, where = begun(space, source, over=over)
            before, space.disk = state(space), kind(forth)
            with suppress(Stop):
                bring_in(space, transaction)
            if over and kind is StoppingDisk:
                assert f"cache/{NAME}" in state(space)
            moved, space.disk = where not in state(space), kind(back)
            with suppress(Stop):
                send_back(space, transaction, ours=ours)
            space.disk = kind(99)
            send_back(space, transaction, ours=ours)
            if moved and not ours and source.startswith("path"):
                before[f"trash/{IN_TRASH}"] = before.pop(where)
            assert state(space) == before, (forth, back)


def test_every_move_is_durable_before_what_relies_on_it(space: Workspace) -> None:
    transaction, _ = begun(space, "path by staging", over=True)
    space.disk = told = MeddledDisk()
    bring_in(space, transaction)
    assert told.steps == [
        f"rename {STAGED}", f"exchange {NAME}", f"rename {IN_TRASH}", "fsync cache", "fsync trash"
    ]  # fmt: skip
    space.disk = told = MeddledDisk()
    send_back(space, transaction, ours=True)
    assert told.steps == [f"rename {STAGED}", f"exchange {NAME}", f"rename {NAME}", "fsync outside"]


@pytest.mark.parametrize(("source", "folder"), [("staging", "staging"), ("trash", "trash"), ("path", "outside")])
def test_what_returns_is_durable_there(source: str, folder: str, space: Workspace) -> None:
    transaction, where = begun(space, source, over=False)
    space.disk = told = MeddledDisk()
    bring_in(space, transaction)
    assert told.steps == [f"rename {NAME}", "fsync cache"]
    space.disk = told = MeddledDisk()
    send_back(space, transaction, ours=True)
    assert told.steps == [f"rename {Path(where).name}", f"fsync {folder}"]


def test_where_there_is_no_exchange_the_old_file_is_safe_before_the_new_one_comes(space: Workspace) -> None:
    transaction, _ = begun(space, "staging", over=True)
    space.disk = told = MeddledDisk(exchanges=False)
    bring_in(space, transaction)
    assert told.steps == [f"rename {IN_TRASH}", "fsync trash", f"rename {NAME}", "fsync cache", "fsync trash"]
    space.disk = told = MeddledDisk(exchanges=False)
    send_back(space, transaction, ours=True)
    steps = [f"rename {STAGED}", f"rename {IN_TRASH}", f"rename {STAGED}", "fsync staging", f"rename {NAME}"]
    assert told.steps == steps


def test_a_file_that_is_gone_by_then_gives_no_way(space: Workspace) -> None:
    """Another program removed what was to give way: what comes in does so all the same."""
    for source in ("staging", "path"):
        transaction, where = begun(space, source, over=True)
        path_of(space, f"cache/{NAME}").unlink()
        bring_in(space, transaction)
        assert state(space) == {f"cache/{NAME}": NEW}
    send_back(space, transaction, ours=True)
    assert state(space) == {where: NEW}


# What is where when a file that replaces another is sent back, and what is then.
SWAPPED: dict[str, tuple[State, State]] = {
    "not brought in yet": (
        {f"cache/{NAME}": OLD, f"staging/{STAGED}": NEW},
        {f"cache/{NAME}": OLD, f"staging/{STAGED}": NEW},
    ),
    "changed places": (
        {f"cache/{NAME}": NEW, f"staging/{STAGED}": OLD},
        {f"cache/{NAME}": OLD, f"staging/{STAGED}": NEW},
    ),
    "given way": ({f"trash/{IN_TRASH}": OLD, f"staging/{STAGED}": NEW},
                  {f"cache/{NAME}": OLD, f"staging/{STAGED}": NEW}),
    "brought in": ({f"cache/{NAME}": NEW, f"trash/{IN_TRASH}": OLD}, {f"cache/{NAME}": OLD, f"staging/{STAGED}": NEW}),
    "brought in, and taken away since": ({f"trash/{IN_TRASH}": OLD}, {f"cache/{NAME}": OLD}),
    "changed places, and the new one taken away since": ({f"staging/{STAGED}": OLD}, {f"cache/{NAME}": OLD}),
    "brought in, and replaced since": (
        {f"cache/{NAME}": FOREIGN, f"trash/{IN_TRASH}": OLD},
        {f"cache/{NAME}": FOREIGN, f"trash/{IN_TRASH}": OLD},
    ),
    "replaced before it was brought in": (
        {f"cache/{NAME}": FOREIGN, f"staging/{STAGED}": NEW},
        {f"cache/{NAME}": FOREIGN, f"staging/{STAGED}": NEW},
    ),
    "changed places, and replaced since": (
        {f"cache/{NAME}": FOREIGN, f"staging/{STAGED}": OLD},
        {f"cache/{NAME}": FOREIGN, f"trash/{IN_TRASH}": OLD},
    ),
    "brought in, and the old one is lost": ({f"cache/{NAME}": NEW}, {f"cache/{NAME}": NEW}),
    "nothing left": ({}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", SWAPPED)
def test_a_file_that_replaces_another_is_sent_back(case: str, space: Workspace) -> None:
    transaction, _ = begun(space, "staging", over=True)
    old = path_of(space, f"cache/{NAME}").rename(path_of(space, "outside/old"))
    new = path_of(space, f"staging/{STAGED}").rename(path_of(space, "outside/new"))
    found, expected = SWAPPED[case]
    for place, data in found.items():
        if data == FOREIGN:
            path_of(space, place).write_bytes(data)
        else:
            (old if data == OLD else new).rename(path_of(space, place))
    for rest in (old, new):
        rest.unlink(missing_ok=True)
    send_back(space, transaction, ours=True)
    assert state(space) == expected


def test_an_old_file_that_the_record_cannot_tell_from_the_new_one_stays(space: Workspace) -> None:
    """Where inodes are not recorded, of the same size and time: nothing changes places that was never brought in."""
    transaction, where = begun(space, "staging", over=True)
    path_of(space, f"cache/{NAME}").write_bytes(FOREIGN[: len(NEW)].ljust(len(NEW)))
    same = path_of(space, where).stat().st_mtime_ns
    os.utime(path_of(space, f"cache/{NAME}"), ns=(same, same))
    placed = [msgspec.structs.replace(one, inode=0) for one in transaction.placed]
    before = state(space)
    send_back(space, msgspec.structs.replace(transaction, placed=placed), ours=True)
    assert state(space) == before


def test_of_a_move_that_a_disk_forgot_the_half_of_one_name_stays(space: Workspace) -> None:
    """The file is in both folders then: what is sent back leaves the cache, whatever it replaces."""
    for over in (False, True):
        transaction, where = begun(space, "staging", over=over)
        if over:
            path_of(space, f"cache/{NAME}").rename(path_of(space, f"trash/{IN_TRASH}"))
        os.link(path_of(space, where), path_of(space, f"cache/{NAME}"))
        send_back(space, transaction, ours=True)
        assert state(space) == {where: NEW} | ({f"cache/{NAME}": OLD} if over else {})


def test_a_file_that_is_renamed_while_it_is_looked_at_has_but_one_name(space: Workspace) -> None:
    make(space, {f"cache/{NAME}": OLD})
    found = path_of(space, f"cache/{NAME}").stat()
    assert not is_half_moved(found, found)
    os.link(path_of(space, f"cache/{NAME}"), path_of(space, "cache/other"))
    found = path_of(space, f"cache/{NAME}").stat()
    assert is_half_moved(found, path_of(space, "cache/other").stat())
    # One that has another name somewhere else, as in a snapshot, is not that.
    path_of(space, "cache/another").write_bytes(OLD)
    assert not is_half_moved(found, path_of(space, "cache/another").stat())


@pytest.mark.parametrize(("source", "over"), [("staging", False), ("trash", False), ("path", False), ("path", True)])
def test_what_came_into_its_place_meanwhile_gives_no_way(source: str, over: bool, space: Workspace) -> None:
    """Only what the record names does, and a path outside changes places with nothing."""
    transaction, where = begun(space, source, over=over)
    path_of(space, f"cache/{NAME}").write_bytes(FOREIGN)
    with pytest.raises(FileExistsError):
        bring_in(space, transaction)
    assert state(space) == {where: NEW, f"cache/{NAME}": FOREIGN}


def test_what_another_program_put_in_its_place_stays(space: Workspace) -> None:
    transaction, where = begun(space, "staging", over=False)
    files = {where: NEW, f"cache/{NAME}": FOREIGN}
    path_of(space, f"cache/{NAME}").write_bytes(FOREIGN)
    send_back(space, transaction, ours=True)
    assert state(space) == files
    path_of(space, where).unlink()
    send_back(space, transaction, ours=True)
    assert state(space) == {f"cache/{NAME}": FOREIGN}
    # The very file, of which there is another copy where it came from.
    transaction, where = begun(space, "staging", over=False)
    bring_in(space, transaction)
    path_of(space, where).write_bytes(FOREIGN)
    send_back(space, transaction, ours=True)
    assert state(space) == {f"cache/{NAME}": NEW, where: FOREIGN}


def test_what_stands_at_a_path_outside_by_now_is_not_looked_at(space: Workspace) -> None:
    """It came from there, and something else is there since: it leaves the cache, for the trash."""
    for ours in (True, False):
        transaction, where = begun(space, "path", over=False)
        bring_in(space, transaction)
        path_of(space, where).write_bytes(FOREIGN)
        send_back(space, transaction, ours=ours)
        assert state(space) == {where: FOREIGN, f"trash/{IN_TRASH}": NEW}


def test_of_two_files_that_cannot_return_none_is_lost(space: Workspace) -> None:
    transaction, where = begun(space, "path by staging", over=True)
    bring_in(space, transaction)
    path_of(space, f"trash/{IN_TRASH}").rename(path_of(space, f"staging/{STAGED}"))
    path_of(space, where).write_bytes(FOREIGN)
    path_of(space, f"trash/{IN_TRASH}").write_bytes(b"of this name already")
    space.disk = told = MeddledDisk()
    send_back(space, transaction, ours=False)
    assert state(space)[f"trash/{trash_name(ID, f'{NAME}~back')}"] in (NEW, OLD)
    assert sorted(state(space).values()) == sorted((OLD, NEW, FOREIGN, b"of this name already"))
    assert told.steps[-2:] == [f"rename {trash_name(ID, f'{NAME}~back')}", "fsync trash"]


@pytest.mark.parametrize(
    "code", [errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS]
)
def test_what_cannot_return_to_a_path_goes_to_the_trash(code: int, space: Workspace) -> None:
    transaction, _ = begun(space, "path", over=False)
    bring_in(space, transaction)
    space.disk = Refusing(code, outside(space))
    send_back(space, transaction, ours=True)
    assert state(space) == {f"trash/{IN_TRASH}": NEW}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_what_may_return_later_stays_for_the_next_writer(code: int, space: Workspace) -> None:
    transaction, _ = begun(space, "path", over=False)
    bring_in(space, transaction)
    space.disk = Refusing(code, outside(space))
    with pytest.raises(OSError, match=os.strerror(code)):
        send_back(space, transaction, ours=True)
    assert state(space) == {f"cache/{NAME}": NEW}


def test_a_move_is_made_once_and_over_nothing(space: Workspace) -> None:
    here, there = f"cache/{NAME}", "trash/there"

    def moved(files: State) -> State:
        make(space, files)
        move(space, space.root, NAME, space.trash, "there")
        return state(space)

    assert moved({here: OLD}) == {there: OLD}
    assert moved({there: OLD}) == {there: OLD}
    assert moved({}) == {}
    assert moved({here: OLD, there: OLD}) == {here: OLD, there: OLD}
    path_of(space, there).unlink()
    os.link(path_of(space, here), path_of(space, there))
    move(space, space.root, NAME, space.trash, "there")
    assert state(space) == {there: OLD}


def test_modes_change_where_they_are_what_they_were(space: Workspace) -> None:
    make(space, {f"cache/{NAME}": OLD, "cache/other": OLD})
    path, other = path_of(space, f"cache/{NAME}"), path_of(space, "cache/other")
    path.chmod(0o600)
    other.chmod(0o604)
    (space.directory / "link").symlink_to(NAME)
    (space.directory / "folder").mkdir(0o700)
    names = (NAME, "other", "link", "folder", "absent")
    assert [mode_of(space.root, name) for name in names] == [0o600, 0o604, None, 0o700, None]
    space.disk = told = MeddledDisk()
    set_modes(space, [ChangeMode(name, 0o600, 0o640) for name in names])
    set_modes(space, [ChangeMode(NAME, 0o640, 0o640)])
    assert [mode_of(space.root, name) for name in names] == [0o640, 0o604, None, 0o700, None]
    assert told.steps == [f"chmod {NAME}", f"fsync {NAME}"]
