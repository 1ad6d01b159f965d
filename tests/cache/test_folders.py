"""An open directory and the files in it, read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocitui.cache import StorageError
from ocitui.cache.disk import Folder
from ocitui.cache.files import open_bounded, read_bounded, read_regular, read_to_end


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_what_cannot_be_read_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with Folder.open(tmp_path) as folder:
        before = open_descriptors()
        for _ in range(3):
            with pytest.raises(IsADirectoryError):
                folder.read("folder")
            with pytest.raises(StorageError):
                read_regular(tmp_path / "folder")
        assert open_descriptors() == before


def test_no_link_is_followed_and_no_pipe_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with Folder.open(tmp_path) as folder:
        assert folder.read("file") == b"text"
        with pytest.raises(OSError, match="not a regular file"):
            folder.read("pipe")
        with pytest.raises(OSError, match="symbolic links"):
            folder.read("link")
    assert read_regular(tmp_path / "link") == b"text"
    with pytest.raises(StorageError, match="not a regular file"):
        read_regular(tmp_path / "pipe")


def test_no_more_is_read_than_there_may_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    assert read_bounded(file, 5) == read_bounded(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_bounded(file, 4)
    with pytest.raises(OSError, match="not a regular file"):
        read_bounded(tmp_path / "zeros", 5)
    with open_bounded(file, 5) as opened:
        # It grows after it was looked at.
        file.write_bytes(b"1" * (3 << 20))
        with pytest.raises(OSError, match="more than 5 bytes"):
            read_to_end(opened, 5)


def test_so_many_files_are_counted_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/b/1", "a/b/2", "a/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(100))
    with Folder.open(tmp_path) as folder:
        assert folder.size("a") == 300
        monkeypatch.setattr("ocitui.cache.disk._MOST_FILES", 2)
        assert folder.size("a") <= 200
        monkeypatch.setattr("ocitui.cache.disk._MOST_FILES", 0)
        assert folder.size("a") == 0
