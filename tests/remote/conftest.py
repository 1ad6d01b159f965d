"""The hosts of these tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.support import Hosts, hosts_in, near_ssh, use_ssh


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts_in(tmp_path_factory.mktemp("ssh")) as hosts:
        yield hosts


@pytest.fixture
def hosts(servers: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """The servers, with a configuration that a test may add to."""
    mine = Hosts(servers.folder)
    mine.ports, mine.config, mine.known = servers.ports, tmp_path / "config", tmp_path / "known"
    shutil.copy(servers.known, mine.known)
    mine.config.write_text(servers.config.read_text().replace(str(servers.known), str(mine.known)))
    monkeypatch.setenv("PATH", use_ssh(tmp_path / "bin", mine.config))
    return mine


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ssh that leads to this machine, at once, and has no configuration."""
    monkeypatch.setenv("PATH", near_ssh(tmp_path / "near"))
