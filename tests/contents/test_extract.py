"""Files out of a packed file: as tar unpacks them, only below the directory, through no link, over nothing unasked."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ocitui.cache import FileTakenError, StorageError
from ocitui.contents.extract import Extraction
from ocitui.contents.tar import tar_tree
from ocitui.contents.tree import ROOT, DamagedError, Inode, PackedTree
from ocitui.threads import Stop
from tests.tools import need

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
TIME = 1_700_000_000


Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime, info.mode = kind, len(data), TIME, 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


ZOO = [
    member("etc", tarfile.DIRTYPE, mode=0o710),
    member("etc/passwd", data=b"root:x:0:0\n", uid=12, gid=34),
    member("etc/with \\ and \udce9", data=b"odd"),
    member("usr", tarfile.DIRTYPE, mode=0o555),
    member("usr/lib", tarfile.DIRTYPE),
    member("usr/lib/big", data=b"x" * 3_000_000 + bytes(5_000_000) + b"y"),
    member("usr/lib/again", tarfile.LNKTYPE, linkname="usr/lib/big"),
    member("lib", tarfile.SYMTYPE, linkname="usr/lib", uid=7),
    member("out", tarfile.SYMTYPE, linkname="/etc"),
    member("bin/su", data=b"su", mode=0o4755),
    member("pipe", tarfile.FIFOTYPE),
    member("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
    member("tmp", tarfile.DIRTYPE, mode=0o1777),
]


def write_tar(path: Path, members: list[Member]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def zoo(tmp_path: Path, stack: ExitStack) -> PackedTree:
    return tree_of(write_tar(tmp_path / "zoo.tar", ZOO), stack)


def tree_of(path: Path, stack: ExitStack) -> PackedTree:
    return tar_tree(stack.enter_context(open(path, "rb")), Stop())


def entries(tree: PackedTree, *paths: bytes) -> list[int]:
    found = [tree.find(path) for path in paths]
    return [entry for entry in found if entry is not None]


def facts(directory: Path) -> dict[str, tuple[object, ...]]:
    found = dict[str, tuple[object, ...]]()
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
        links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
        about = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime, status.st_rdev, links)
        found[str(path.relative_to(directory))] = (*about, data, target)
    return found


@AS_ROOT
def test_all_of_it_as_tar_unpacks_it(zoo: PackedTree, tmp_path: Path) -> None:
    need("tar")
    (tmp_path / "theirs").mkdir()
    subprocess.run(["tar", "--numeric-owner", "-xpf", tmp_path / "zoo.tar", "-C", tmp_path / "theirs"], check=True)
    done = Extraction(zoo, [0], tmp_path / "ours", privileged=True).run(Stop())
    assert done.left_out == {}
    theirs, ours = facts(tmp_path / "theirs"), facts(tmp_path / "ours")
    # Nobody says of what mode and time a directory is that is not named.
    assert ours.pop("bin")[0] == theirs.pop("bin")[0]
    assert ours == theirs
    assert (tmp_path / "ours" / "usr" / "lib" / "big").stat().st_blocks * 512 < 4_000_000, "its hole takes no room"


def test_a_path_with_what_is_below_it_and_no_more(zoo: PackedTree, tmp_path: Path) -> None:
    done = Extraction(zoo, entries(zoo, b"usr"), tmp_path / "ours").run(Stop())
    assert set(facts(tmp_path / "ours")) == {"usr", "usr/lib", "usr/lib/again", "usr/lib/big"}
    assert done.bytes == 8_000_001, "what has two names is read once"
    assert oct((tmp_path / "ours" / "usr").stat().st_mode) == "0o40555"


def test_rights_that_only_root_gives_are_left_out_and_counted(zoo: PackedTree, tmp_path: Path) -> None:
    done = Extraction(zoo, [0], tmp_path / "ours").run(Stop())
    assert done.left_out == {"setuid and setgid bits": 1, "devices": 1}
    assert oct((tmp_path / "ours" / "bin" / "su").stat().st_mode) == "0o100755"
    assert not (tmp_path / "ours" / "null").exists()


def test_nothing_is_written_over_unasked(zoo: PackedTree, tmp_path: Path) -> None:
    place = tmp_path / "ours" / "etc" / "passwd"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    extraction = Extraction(zoo, entries(zoo, b"etc"), tmp_path / "ours")
    assert list(extraction.in_the_way()) == [b"etc/passwd"]
    with pytest.raises(FileTakenError, match="in the way"):
        extraction.run(Stop())
    assert place.read_text() == "mine"
    Extraction(zoo, entries(zoo, b"etc"), tmp_path / "ours").run(Stop(), replace=True)
    assert place.read_text() == "root:x:0:0\n"
    assert not [name for name in os.listdir(place.parent) if name.startswith(".ocitui")]


@pytest.mark.parametrize("replace", [False, True])
def test_no_link_on_the_disk_is_followed(zoo: PackedTree, tmp_path: Path, replace: bool) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "etc").symlink_to(elsewhere)
    extraction = Extraction(zoo, entries(zoo, b"etc/passwd"), tmp_path / "ours")
    with pytest.raises(FileTakenError):
        list(extraction.in_the_way())
    with pytest.raises(FileTakenError):
        extraction.run(Stop(), replace=replace)
    assert list(elsewhere.iterdir()) == []


def test_a_link_at_the_end_is_replaced_and_not_written_through(zoo: PackedTree, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "ours" / "etc").mkdir(parents=True)
    (tmp_path / "ours" / "etc" / "passwd").symlink_to(tmp_path / "mine")
    Extraction(zoo, entries(zoo, b"etc/passwd"), tmp_path / "ours").run(Stop(), replace=True)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "ours" / "etc" / "passwd").is_symlink()


def test_the_image_s_own_links_lead_nowhere(tmp_path: Path, stack: ExitStack) -> None:
    """A tar in which a file stands below what became a link: the link is none for what comes later."""
    members = [member("d", tarfile.SYMTYPE, linkname=str(tmp_path / "elsewhere")), member("d/file", data=b"out")]
    (tmp_path / "elsewhere").mkdir()
    tree = tree_of(write_tar(tmp_path / "bad.tar", members), stack)
    Extraction(tree, [0], tmp_path / "ours").run(Stop())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_the_disk_has_no_room_for_is_not_begun(
    zoo: PackedTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr("os.statvfs", lambda _: Full)
    with pytest.raises(StorageError, match="no room for 8000"):
        Extraction(zoo, [0], tmp_path / "ours").run(Stop())
    assert list((tmp_path / "ours").iterdir()) == []


@pytest.mark.parametrize("mtime", [-(1 << 62), (1 << 62)])
def test_times_that_no_file_system_holds(tmp_path: Path, stack: ExitStack, mtime: int) -> None:
    tree = tree_of(write_tar(tmp_path / "a.tar", [member("a", data=b"a", mtime=mtime)]), stack)
    Extraction(tree, [0], tmp_path / "ours").run(Stop())
    assert (tmp_path / "ours" / "a").read_bytes() == b"a"


def test_what_cannot_be_read_of_another_directory_is_nothing_that_this_one_lacks(tmp_path: Path) -> None:
    folder = Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 1, 1)
    tree = PackedTree(None, folder)  # type: ignore[arg-type]
    etc, usr = (tree.add(ROOT, name, folder._replace(number=at)) for at, name in enumerate((b"etc", b"usr"), 2))
    tree.note(usr, DamagedError("its listing is damaged"))
    assert Extraction(tree, [etc], tmp_path).unread == []
    told = [(b"usr", "its listing is damaged")]
    assert [Extraction(tree, [one], tmp_path).unread for one in (usr, ROOT)] == [told, told]
    # Such as where a tar is cut.
    tree.note(ROOT, DamagedError("it is cut"))
    assert Extraction(tree, [etc], tmp_path).unread == [(b"", "it is cut")]
