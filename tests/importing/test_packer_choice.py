"""Compressions and levels: what a format has, and what the packer that is installed has."""

from __future__ import annotations

from pathlib import Path

import deflate
import pytest

from ocitui.cache import PackedFormat
from ocitui.importing.errors import MissingToolError
from ocitui.importing.packing.packing import PackingChoiceError, check_choice, packer_of
from tests.tools import need

SQUASHFS, EROFS, TAR = PackedFormat.SQUASHFS, PackedFormat.EROFS, PackedFormat.TAR


@pytest.mark.parametrize(
    ("format", "compression", "level"),
    [
        (SQUASHFS, None, None),
        (SQUASHFS, None, 9),
        (SQUASHFS, "zstd", 22),
        (SQUASHFS, "xz", None),
        (EROFS, None, None),
        (EROFS, "lz4hc", 12),
        (TAR, None, None),
    ],
)
def test_what_goes_together(format: PackedFormat, compression: str | None, level: int | None) -> None:
    check_choice(format, compression, level)


@pytest.mark.parametrize(
    ("format", "compression", "level", "said"),
    [
        (SQUASHFS, None, 10, "gzip in squashfs has levels 1 to 9, not 10"),
        (SQUASHFS, None, 0, "levels 1 to 9"),
        (SQUASHFS, "xz", 6, "xz in squashfs has no levels"),
        (SQUASHFS, "lz4hc", None, "squashfs has no compression lz4hc: it has gzip, lzo"),
        (EROFS, None, 6, "not compressed unless"),
        (EROFS, "gzip", None, "erofs has no compression gzip"),
        (TAR, "gzip", None, "it is not compressed"),
        (TAR, None, 1, "no level"),
    ],
)
def test_what_does_not(format: PackedFormat, compression: str | None, level: int | None, said: str) -> None:
    with pytest.raises(PackingChoiceError, match=said):
        check_choice(format, compression, level)


@pytest.mark.parametrize(
    ("format", "program", "compression"), [(SQUASHFS, "mksquashfs", "zstd"), (EROFS, "mkfs.erofs", "lz4")]
)
def test_the_installed_packer_is_asked(format: PackedFormat, program: str, compression: str) -> None:
    need(program)
    packer_of(format, compression, None)
    with pytest.raises(MissingToolError, match=f"{program} here does not compress with brotli, only with .*lz4"):
        packer_of(format, "brotli", None)


def test_a_packer_that_is_not_there_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [packer_of(format, None, None) for format in (TAR, EROFS)] == ["ocitui tar", "ocitui erofs"]
    for format, compression, packer, package in (
        (SQUASHFS, "zstd", None, "squashfs-tools"),
        (SQUASHFS, "gzip", "mksquashfs", "squashfs-tools"),
        (SQUASHFS, None, "mksquashfs", "squashfs-tools"),
        (EROFS, "lz4", None, "erofs-utils"),
    ):
        with pytest.raises(MissingToolError) as raised:
            packer_of(format, compression, None, packer)
        assert f"apt install {package}" in raised.value.hint


@pytest.mark.parametrize(("compression", "level"), [(None, None), ("gzip", 9)])
def test_squashfs_in_gzip_is_packed_here(
    compression: str | None, level: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = "ocitui squashfs deflate " + deflate.__version__
    assert packer_of(SQUASHFS, compression, level) == (said if level is None else f"{said} {level}")


@pytest.mark.parametrize(("format", "packer"), [(EROFS, "mksquashfs"), (TAR, "mksquashfs"), (SQUASHFS, "mkfs.erofs")])
def test_a_packer_that_the_format_does_not_have(format: PackedFormat, packer: str) -> None:
    with pytest.raises(PackingChoiceError, match=f"{format} has no packer {packer}: squashfs has mksquashfs"):
        check_choice(format, None, None, packer)


def test_a_packer_that_speaks_otherwise_is_left_to_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mksquashfs"
    program.write_text("#!/bin/sh\necho of compressors I say nothing\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert packer_of(SQUASHFS, "zstd", None) == "mksquashfs zstd"
