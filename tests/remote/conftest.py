"""The hosts of these tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.support import Hosts, hosts_in, use_ssh


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
    (tmp_path / "near").mkdir()
    script = '#!/bin/sh\n[ "$1" = -G ] && exit\nfor last; do :; done\nexec sh -c "$last"\n'
    (tmp_path / "near" / "ssh").write_text(script)
    (tmp_path / "near" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'near'}:/usr/bin:{os.environ['PATH']}")
