"""Folders that imports work in: one for each, held while it is used, removed by the next one where nobody is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocitui.cache import CacheDirectoryError
from ocitui.importing.errors import SourceError
from ocitui.importing.staging import remove_abandoned, staging_folder
from tests.cache.support import OWN
from tests.importing.pipeline import staged
from tests.tools import ROOT

KILLED = """
import os, signal, sys
from pathlib import Path
from ocitui.importing.staging import staging_folder
with staging_folder(Path(sys.argv[1])) as folder:
    (folder / "packed").write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_one(directory: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(directory)], cwd=ROOT, check=False)


def test_one_for_each(tmp_path: Path) -> None:
    with staging_folder(tmp_path) as one, staging_folder(tmp_path) as other:
        assert one != other
        assert one.parent == tmp_path / OWN / "import"
        assert one.stat().st_mode & 0o777 == 0o700
        assert one.stat().st_dev == tmp_path.stat().st_dev
        (one / "file").write_bytes(b"x")
        assert remove_abandoned(tmp_path) == 0
        assert len(staged(tmp_path)) == 2
    assert staged(tmp_path) == []


def work_and_fail(directory: Path, error: BaseException) -> None:
    with staging_folder(directory) as folder:
        (folder / "d").mkdir()
        raise error


@pytest.mark.parametrize("error", [SourceError("x"), KeyboardInterrupt(), OSError(5, "its own")])
def test_removed_whatever_happens(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised:
        work_and_fail(tmp_path, error)
    assert raised.value is error
    assert staged(tmp_path) == []


@pytest.mark.slow
def test_what_a_killed_program_left(tmp_path: Path) -> None:
    leave_one(tmp_path)
    leave_one(tmp_path)
    assert len(staged(tmp_path)) == 1, "the second one removed what the first one left"
    assert remove_abandoned(tmp_path) == 1
    assert remove_abandoned(tmp_path) == 0
    assert staged(tmp_path) == []


def test_the_next_import_removes_it(tmp_path: Path) -> None:
    leave_one(tmp_path)
    with staging_folder(tmp_path) as folder:
        assert staged(tmp_path) == [folder.name]


def test_whatever_else_lies_there(tmp_path: Path) -> None:
    """Neither a link nor a FIFO keeps imports from being made, and nothing outside is removed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("stays")
    with staging_folder(tmp_path) as folder:
        place = folder.parent
    (place / "link").symlink_to(outside)
    (place / "dangling").symlink_to("nowhere")
    (place / "file").write_bytes(b"x")
    os.mkfifo(place / "fifo")
    (place / "tree").mkdir()
    (place / "tree" / "link").symlink_to(outside)
    with staging_folder(tmp_path) as folder:
        assert staged(tmp_path) == [folder.name]
    assert (outside / "precious").read_text() == "stays"


def test_what_vanishes_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program removes its folder between the listing and the look."""
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [*listdir(path), "gone"])
    with staging_folder(tmp_path) as folder:
        assert folder.is_dir()


def test_no_such_directory(tmp_path: Path) -> None:
    assert remove_abandoned(tmp_path) == 0
    assert not (tmp_path / OWN).exists(), "nothing is made to look for something"
    with pytest.raises(CacheDirectoryError), staging_folder(tmp_path / "absent"):
        pass
