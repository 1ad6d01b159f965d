"""What the tests stand on: a directory in memory, and how many examples a lane tries."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from tests import tools
from tests.tools import has_room, in_memory


@pytest.mark.parametrize(
    ("free", "flags", "fits"), [(2 << 30, 0, True), (64 << 20, 0, False), (2 << 30, os.ST_NOEXEC, False)]
)
def test_memory_is_taken_where_it_has_room_and_runs_programs(
    free: int, flags: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = free >> 12
    monkeypatch.setattr(
        os, "statvfs", lambda _: os.statvfs_result((4096, 4096, blocks, blocks, blocks, 9, 9, 9, flags, 255))
    )
    assert has_room(tmp_path) is fits
    assert not has_room(tmp_path / "none")


def test_a_thread_that_still_writes_fails_no_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_HAS_MEMORY", True)
    monkeypatch.setattr(tools, "_MEMORY", tmp_path)
    rmdir = os.rmdir

    def write_and_remove(path: str, *, dir_fd: int | None = None) -> None:
        folder = os.open(path, os.O_RDONLY, dir_fd=dir_fd)
        os.close(os.open("late", os.O_CREAT, dir_fd=folder))
        os.close(folder)
        rmdir(path, dir_fd=dir_fd)

    with monkeypatch.context() as patched, in_memory(tmp_path / "fallback") as folder:
        assert folder.parent == tmp_path
        (folder / "early").write_bytes(b"")
        patched.setattr(os, "rmdir", write_and_remove)
    shutil.rmtree(folder)


def test_a_quick_run_tries_a_fifth_of_the_examples_and_others_each_time() -> None:
    fast, default = settings.get_profile("fast"), settings.get_profile("default")
    assert fast.max_examples == default.max_examples // 5
    assert (fast.derandomize, fast.database) == (default.derandomize, default.database)
