"""Where programs are looked for: what lies in the current directory may be anybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.cache import PackedFormat
from ocitui.host import find_program
from ocitui.importing.errors import CredentialsError, MissingToolError
from ocitui.importing.packing.packing import packer_of
from ocitui.importing.registry.auth import ask_helper

NAMES = ("mksquashfs", "mkfs.erofs", "docker-credential-ours")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, which has programs of these names."""
    (tmp_path / "bin").mkdir()
    for folder in (tmp_path, tmp_path / "bin"):
        for name in NAMES:
            (folder / name).write_text('#!/bin/sh\necho \'{"Username": "evil", "Secret": "s"}\'\n')
            (folder / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["", ".", "bin", ":", "/nonexistent:", "./bin:/nonexistent", "::bin"])
async def test_a_relative_entry_of_path_counts_for_nothing(
    here: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path)
    assert [find_program(name) for name in NAMES] == [None] * len(NAMES)
    for format_ in (PackedFormat.SQUASHFS, PackedFormat.EROFS):
        with pytest.raises(MissingToolError):
            packer_of(format_, "lz4", None)
    with pytest.raises(CredentialsError, match="docker-credential-ours is not installed"):
        await ask_helper("ours", "ghcr.io")


async def test_an_absolute_one_does(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f".:{here / 'bin'}")
    assert [find_program(name) for name in NAMES] == [str(here / "bin" / name) for name in NAMES]
    found = await ask_helper("ours", "ghcr.io")
    assert found is not None
    assert found.username == "evil"
