"""Packed files of real packers: whole ones pass, cut and bent ones do not."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import PackedFormat, StorageError
from ocitui.cache.files import check_packed, crc32c
from tests.importing.sources import FORMATS, make_root, pack
from tests.tools import need

CUTS = 100


@pytest.fixture(scope="session")
def packed_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("packed")
    make_root(directory)
    return {format_: directory / f"image.{format_}" for format_ in FORMATS}


@pytest.fixture
def packed(request: pytest.FixtureRequest, packed_files: dict[str, Path]) -> Path:
    """The packed file of the format that the test is run for."""
    format_: str = request.param
    path = packed_files[format_]
    if not path.exists():
        pack(format_, path.parent / "root", path)
    return path


each_format = pytest.mark.parametrize("packed", FORMATS, indirect=True)


def changed(packed: Path, tmp_path: Path, at: int, data: bytes) -> Path:
    """A copy with other bytes at one place."""
    content = bytearray(packed.read_bytes())
    content[at : at + len(data)] = data
    path = tmp_path / packed.name
    path.write_bytes(content)
    return path


@each_format
def test_a_whole_file_passes(packed: Path) -> None:
    check = check_packed(packed)
    assert check.found == packed.suffix[1:]
    assert check.problem is None


@each_format
def test_every_truncation_is_found(packed: Path, tmp_path: Path) -> None:
    content = packed.read_bytes()
    # The last block of a tar is padding beyond its two zero blocks, the end of a squashfs beyond what it uses.
    end = len(content) - 1
    if packed.suffix == ".tar":
        end = len(content.rstrip(b"\0"))
    if packed.suffix == ".squashfs":
        end = struct.unpack_from("<Q", content, 40)[0] - 1
    path = tmp_path / "cut"
    for size in {end * step // CUTS for step in range(CUTS)} | {end}:
        path.write_bytes(content[:size])
        check = check_packed(path)
        assert check.problem or check.found is None, size


@each_format
@pytest.mark.parametrize("extra", [1, 511, 4096, 10_000])
def test_bytes_after_the_end_are_told_and_no_damage(packed: Path, extra: int, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(packed.read_bytes() + b"x" * extra)
    check = check_packed(path)
    assert (check.found, check.problem, check.unchecked) == (packed.suffix[1:], None, "")
    # After a tar's end marker anything may follow, as on a tape.
    assert check.tail == (0 if packed.suffix == ".tar" else extra)


@pytest.mark.parametrize("packed", ["squashfs"], indirect=True)
def test_a_squashfs_need_not_be_padded(packed: Path, tmp_path: Path) -> None:
    content = packed.read_bytes()
    (used,) = struct.unpack_from("<Q", content, 40)
    path = tmp_path / "exact"
    path.write_bytes(content[:used])
    assert check_packed(path).problem is None


@pytest.mark.parametrize("packed", ["squashfs"], indirect=True)
@pytest.mark.parametrize(
    ("at", "data", "words"),
    [
        (28, b"\3\0", "version"),
        (12, b"\0\0\1\0", "block size"),
        (22, b"\x20\0", "block size"),
        (64, b"\0\0\0\x7f" + b"\0" * 4, "out of order"),
        (72, b"\xff" * 8, "out of order"),
        (48, b"\xff" * 7 + b"\x7f", "beyond its end"),
        (56, b"\xff" * 7 + b"\x7f", "beyond its end"),
    ],
)
def test_a_bent_squashfs_superblock(packed: Path, at: int, data: bytes, words: str, tmp_path: Path) -> None:
    check = check_packed(changed(packed, tmp_path, at, data))
    assert check.found is PackedFormat.SQUASHFS
    assert words in (check.problem or "")


@pytest.mark.parametrize("options", [["-no-fragments"], ["-no-exports"], ["-no-xattrs"], ["-b", "4096"], ["-nopad"]])
def test_squashfs_variants(options: list[str], packed_files: dict[str, Path], tmp_path: Path) -> None:
    need("mksquashfs")
    root = packed_files["tar"].parent / "root"
    path = tmp_path / "image"
    command = ["mksquashfs", str(root), str(path), "-quiet", "-no-progress", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert check_packed(path).problem is None


@pytest.mark.parametrize("packed", ["erofs"], indirect=True)
@pytest.mark.parametrize("at", [1024 + 24, 1024 + 48, 1024 + 100, 3000])
def test_a_flip_in_an_erofs_superblock_is_found(packed: Path, at: int, tmp_path: Path) -> None:
    flipped = bytes([packed.read_bytes()[at] ^ 1])
    assert "checksum" in (check_packed(changed(packed, tmp_path, at, flipped)).problem or "")


@pytest.mark.parametrize("packed", ["erofs"], indirect=True)
def test_an_erofs_without_a_checksum_is_judged_by_its_size(packed: Path, tmp_path: Path) -> None:
    (features,) = struct.unpack_from("<I", packed.read_bytes(), 1024 + 8)
    path = changed(packed, tmp_path, 1024 + 8, struct.pack("<I", features & ~1))
    assert check_packed(path).problem is None
    assert "block size" in (check_packed(changed(packed, tmp_path, 1024 + 12, b"\x40")).problem or "")


@pytest.mark.parametrize("packed", ["erofs"], indirect=True)
@pytest.mark.parametrize("feature", [0x80, 0x100, 1 << 31])
def test_an_erofs_with_features_that_are_not_read_is_not_checked(packed: Path, feature: int, tmp_path: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[1024 + 80 : 1024 + 84] = struct.pack("<I", feature)
    block = bytes(content[1024:1028]) + bytes(4) + bytes(content[1032:4096])
    content[1028:1032] = struct.pack("<I", crc32c(block))
    path = tmp_path / "image"
    path.write_bytes(content[:8192])
    check = check_packed(path)
    assert (check.found, check.problem) == (PackedFormat.EROFS, None)
    assert f"0x{feature:x}" in check.unchecked
    # What its superblock's checksum tells is told all the same.
    path.write_bytes(bytes(content[:1100]) + b"x" + bytes(content[1101:]))
    assert "checksum" in (check_packed(path).problem or "")


def test_crc32c_of_the_known_text() -> None:
    # RFC 3720 gives it inverted at the end, as erofs does not.
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283


@pytest.mark.parametrize("packed", ["tar"], indirect=True)
@pytest.mark.parametrize("field", [0, 100, 124, 148, 156, 257, 345])
def test_a_flip_in_a_tar_header_is_found(packed: Path, field: int, tmp_path: Path) -> None:
    content = packed.read_bytes()
    with tarfile.open(packed) as archive:
        at = archive.getmembers()[-1].offset + field
    check = check_packed(changed(packed, tmp_path, at, bytes([content[at] ^ 1])))
    assert f"the header at byte {at - field}" in (check.problem or "")


@pytest.mark.parametrize("style", ["gnu", "pax", "posix", "ustar", "v7", "oldgnu"])
def test_every_dialect_of_tar(style: str, tmp_path: Path) -> None:
    need("tar")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(b"content" * 1000)
    if style not in ("v7", "ustar"):
        (tmp_path / "root" / ("long" * 40)).write_bytes(b"content" * 100)
    os.mkfifo(tmp_path / "root" / "pipe")
    os.link(tmp_path / "root" / "file", tmp_path / "root" / "twin")
    path = tmp_path / "image"
    command = ["tar", "-C", str(tmp_path / "root"), f"--format={style}", "--warning=none", "-cf", str(path), "."]
    if style == "v7":
        command.insert(1, "--exclude=pipe")
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    check = check_packed(path)
    assert (check.found, check.problem) == (PackedFormat.TAR, None)


def test_sparse_files_and_large_numbers(tmp_path: Path) -> None:
    need("tar")
    with open(tmp_path / "sparse", "wb") as sparse:
        for hole in range(1, 40):
            sparse.seek(hole << 20)
            sparse.write(b"x" * 5000)
    path = tmp_path / "image"
    for style in ("gnu", "posix"):
        command = [
            "tar",
            "-C",
            str(tmp_path),
            "-S",
            f"--format={style}",
            "--owner=:4000000",
            "-cf",
            str(path),
            "sparse",
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert check_packed(path).problem is None


def test_the_size_of_an_extended_header_counts(tmp_path: Path) -> None:
    body = b"x" * 1000
    member = tarfile.TarInfo("file")
    member.size = len(body)
    member.pax_headers = {"comment": "\n12 size=5\n", "size": str(len(body))}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(body))
    path = tmp_path / "image"
    path.write_bytes(buffer.getvalue())
    assert check_packed(path).problem is None


@pytest.mark.parametrize(("digits", "whole"), [("5" * 5000, False), ("0" * 5000 + "1000", True)])
def test_a_size_of_thousands_of_digits(digits: str, whole: bool, tmp_path: Path) -> None:
    member = tarfile.TarInfo("file")
    member.pax_headers = {"size": digits}
    path = tmp_path / "image"
    path.write_bytes(member.tobuf(tarfile.PAX_FORMAT) + bytes(1024) + bytes(1024))
    problem = check_packed(path).problem
    assert problem is None if whole else "cut short" in (problem or "")


def test_an_archive_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(10_240))
    assert check_packed(path).problem is None
    path.write_bytes(bytes(512))
    assert "no second one" in (check_packed(path).problem or "")
    path.write_bytes(bytes(100_000))
    assert check_packed(path).found is None


@pytest.mark.parametrize("content", [b"", b"hsqs", b"\x1f\x8b\x08" + bytes(2000), b"{}", b"x" * 5000])
def test_what_is_no_packed_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    assert check_packed(path).problem


@given(st.binary(max_size=3000), st.sampled_from([b"", b"hsqs", bytes(1024) + b"\xe2\xe1\xf5\xe0"]))
def test_no_bytes_make_it_fail(tmp_path_factory: pytest.TempPathFactory, data: bytes, begin: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random"
    path.write_bytes(begin + data)
    check_packed(path)


@given(st.binary(min_size=512, max_size=512))
def test_no_header_makes_a_tar_fail(tmp_path_factory: pytest.TempPathFactory, header: bytes) -> None:
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    path = tmp_path_factory.getbasetemp() / "random-tar"
    path.write_bytes(header[:148] + b"%06o\0 " % total + header[156:] + bytes(2048))
    assert check_packed(path).found is PackedFormat.TAR


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StorageError):
            check_packed(path)


def test_the_sample_of_krata(krata_cache: Path) -> None:
    packed = [path for path in krata_cache.iterdir() if path.suffix != ".json"]
    assert len(packed) == 7
    for path in packed:
        check = check_packed(path)
        assert (check.found, check.problem) == (path.suffix[1:], None)
