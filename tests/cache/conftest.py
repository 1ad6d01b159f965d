"""Where the caches of these tests stand, and one that is open for its writer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocitui.cache.disk import Disk
from ocitui.cache.index import read_once
from ocitui.cache.workspace import Workspace, open_workspace
from tests.cache.meddling import BEFORE, Clock
from tests.tools import in_memory


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A temporary directory on a file system in memory, where there is one: for thousands of small writes."""
    with in_memory(tmp_path) as path:
        yield path


@pytest.fixture
def space(memory_path: Path) -> Iterator[Workspace]:
    """An empty directory, open as a cache that is written."""
    directory = memory_path / "cache"
    directory.mkdir()
    with open_workspace(directory, Disk(), "test", lambda: read_once(directory)) as opened:
        yield opened


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("ocitui.cache.publish.time", made)
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.0)
    return made


@pytest.fixture
def index(space: Workspace) -> Path:
    path = space.directory / "index.json"
    path.write_bytes(BEFORE)
    # Older than any clock's grain.
    os.utime(path, (1_000_000, 1_000_000))
    return path
