"""An open directory and the files in it, read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocitui.cache import StorageError
from ocitui.cache.disk import Folder
from ocitui.cache.files import read_regular


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
        assert folder.read("pipe") == b""
        with pytest.raises(OSError, match="symbolic links"):
            folder.read("link")
    assert read_regular(tmp_path / "link") == b"text"
    assert read_regular(tmp_path / "pipe") == b""
