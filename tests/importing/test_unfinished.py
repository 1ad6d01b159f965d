"""Records of imports: kept while they run, listed once nobody holds them, whole or not there at all."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ocitui.cache import CacheDirectoryError, StorageError
from ocitui.cache.disk import Disk, Folder
from ocitui.importing.errors import SourceError
from ocitui.importing.image_import import forget_import, recorded_import, unfinished_imports
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.staging import BlobStore
from tests.cache.support import OWN
from tests.tools import ROOT

REQUEST = ImportRequest(source="docker://localhost:1/a:1", name="a:1", level=3)


def folder(directory: Path) -> Path:
    return directory / OWN / "imports"


def interrupt(directory: Path, request: ImportRequest = REQUEST) -> str:
    """The id of an import whose program was told to leave."""
    with pytest.raises(KeyboardInterrupt), recorded_import(directory, request) as import_id:
        raise KeyboardInterrupt
    return import_id


def test_kept_while_it_runs(tmp_path: Path) -> None:
    assert unfinished_imports(tmp_path) == []
    with recorded_import(tmp_path, REQUEST) as import_id:
        (record,) = folder(tmp_path).iterdir()
        assert record.name == f"{import_id}.json"
        assert ImportRequest.from_json(record.read_bytes()) == REQUEST
        assert stat.S_IMODE(record.stat().st_mode) == 0o600
        assert unfinished_imports(tmp_path) == [], "it is held"
        forget_import(tmp_path, import_id)
        assert record.exists(), "what runs is not forgotten"
    assert list(folder(tmp_path).iterdir()) == []


def test_an_import_that_fails_leaves_no_record(tmp_path: Path) -> None:
    with pytest.raises(SourceError), recorded_import(tmp_path, REQUEST):
        raise SourceError("no such thing")
    assert list(folder(tmp_path).iterdir()) == []


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_one_that_is_told_to_leave_stays(end: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(end), recorded_import(tmp_path, REQUEST) as import_id:
        raise end
    (left,) = unfinished_imports(tmp_path)
    assert (left.id, left.request) == (import_id, REQUEST)
    assert left.started == pytest.approx((folder(tmp_path) / f"{import_id}.json").stat().st_mtime)


def test_the_oldest_first(tmp_path: Path) -> None:
    ids = [interrupt(tmp_path) for _ in range(3)]
    assert [one.id for one in unfinished_imports(tmp_path)] == ids
    forget_import(tmp_path, ids[1])
    assert [one.id for one in unfinished_imports(tmp_path)] == [ids[0], ids[2]]


def test_forgetting_what_is_not_there(tmp_path: Path) -> None:
    for import_id in ("absent", "../../etc/passwd", ""):
        forget_import(tmp_path, import_id)


def test_what_is_forgotten_cannot_be_gone_on_with_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_id, unlink = interrupt(tmp_path), Disk.unlink

    def unlink_while_another_comes(disk: Disk, folder: Folder, name: str) -> None:
        with pytest.raises(SourceError, match="another program"), recorded_import(tmp_path, REQUEST, import_id):
            pass
        unlink(disk, folder, name)

    monkeypatch.setattr(Disk, "unlink", unlink_while_another_comes)
    forget_import(tmp_path, import_id)
    assert list(folder(tmp_path).iterdir()) == []


def test_a_record_that_cannot_be_removed_changes_no_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was imported is in the cache, and what failed did so for its own reason; only who forgets it is told."""
    import_id = interrupt(tmp_path)

    def fails(disk: Disk, folder: Folder, name: str) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(Disk, "unlink", fails)
    with recorded_import(tmp_path, REQUEST):
        pass
    with recorded_import(tmp_path, REQUEST, resumes=import_id):
        pass
    with pytest.raises(SourceError, match="no such thing"), recorded_import(tmp_path, REQUEST):
        raise SourceError("no such thing")
    assert len(unfinished_imports(tmp_path)) == 3
    with pytest.raises(StorageError, match="cannot forget an import"):
        forget_import(tmp_path, import_id)


def test_errors_of_the_import_are_its_own(tmp_path: Path) -> None:
    """What the import meets is not said to be a fault of the record."""
    with pytest.raises(OSError, match="its own") as raised, recorded_import(tmp_path, REQUEST):
        raise OSError(5, "its own")
    assert not isinstance(raised.value, StorageError)


def test_a_program_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, os, signal; from pathlib import Path\n"
        "from ocitui.importing.inspect import ImportRequest\n"
        "from ocitui.importing.image_import import recorded_import\n"
        "with recorded_import(Path(sys.argv[1]), ImportRequest(source='docker://a/b:1')):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False)
    assert [one.request.source for one in unfinished_imports(tmp_path)] == ["docker://a/b:1"]


def test_paths_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.squashfs"
    path.write_bytes(b"hsqs")
    interrupt(tmp_path, ImportRequest(source=f"packed:{path}"))
    assert [one.request.source for one in unfinished_imports(tmp_path)] == [f"packed:{path}"]


def test_what_else_lies_there(tmp_path: Path) -> None:
    import_id = interrupt(tmp_path)
    place = folder(tmp_path)
    (place / "folder.json").mkdir()
    os.mkfifo(place / "fifo.json")
    (place / "link.json").symlink_to("/etc/passwd")
    (place / "note").write_text("mine")
    assert [one.id for one in unfinished_imports(tmp_path) if not one.problem] == [import_id]


DAMAGED = {
    "half": b'{"source": "a',
    "big": b" " * (2 << 20),
    "deep": b"[" * 100_000,
    "binary": b"\xff\xfe",
}


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_record_is_listed_and_can_only_be_forgotten(damaged: str, tmp_path: Path) -> None:
    import_id, path = interrupt(tmp_path), folder(tmp_path) / f"{damaged}.json"
    path.write_bytes(DAMAGED[damaged])
    assert [(one.id, one.problem) for one in unfinished_imports(tmp_path)] == [
        (import_id, ""),
        (damaged, "it is damaged"),
    ]
    with pytest.raises(SourceError) as raised:
        unfinished_imports(tmp_path)[1].require_readable()
    assert raised.value.hint == f"ocitui imports --forget {damaged} removes it"
    with recorded_import(tmp_path, REQUEST):
        pass
    forget_import(tmp_path, damaged)
    assert [one.id for one in unfinished_imports(tmp_path)] == [import_id]


def test_a_record_that_fails_to_be_read_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_id = interrupt(tmp_path)

    def fails(*_: object) -> bytes:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr("ocitui.importing.image_import.read_to_end", fails)
    assert [(one.id, one.problem) for one in unfinished_imports(tmp_path)] == [(import_id, "it is damaged")]


def test_a_record_of_a_later_version_is_told_and_stays(tmp_path: Path) -> None:
    interrupt(tmp_path)
    path = folder(tmp_path) / "later.json"
    path.write_bytes(b'{"version": 3, "wish": "a"}')
    (later,) = (one for one in unfinished_imports(tmp_path) if one.problem)
    assert (later.id, later.problem) == ("later", "it is of a later ocitui")
    with pytest.raises(SourceError, match="of a later ocitui"):
        forget_import(tmp_path, "later")
    with pytest.raises(SourceError, match="of a later ocitui"), recorded_import(tmp_path, REQUEST, "later"):
        pass
    assert path.exists()


def test_drafts_of_a_program_that_was_killed_are_removed(tmp_path: Path) -> None:
    interrupt(tmp_path)
    draft = folder(tmp_path) / "20260101T000000000000-aaaa.json.new"
    draft.write_bytes(b"{")
    assert len(unfinished_imports(tmp_path)) == 1
    with recorded_import(tmp_path, REQUEST):
        assert not draft.exists()


def test_a_record_that_somebody_reads_can_be_held(tmp_path: Path) -> None:
    """Who lists the records at this moment does not make an import fail."""
    import_id = interrupt(tmp_path)
    with open(folder(tmp_path) / f"{import_id}.json", "rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert [one.id for one in unfinished_imports(tmp_path)] == [import_id]
        with recorded_import(tmp_path, REQUEST):
            pass


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(CacheDirectoryError), recorded_import(tmp_path / "absent", REQUEST):
        pass
    assert unfinished_imports(tmp_path / "absent") == []
    assert BlobStore(tmp_path).directory == tmp_path / OWN / "blobs"
