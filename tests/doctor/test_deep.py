"""Deep checks: what the ledger finds, what is said without it, and how the tools are kept."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from ocitui.cache.ledger import Ledger, hash_file
from ocitui.doctor.findings import Depth
from tests.doctor.examine_support import Sample, all_codes, codes, found
from tests.importing.sources import FORMATS

pytestmark = pytest.mark.slow

DAMAGES = 1000


def keep_time(path: Path, content: bytes) -> None:
    """Write in place, as rot does: the stat stays."""
    before = os.stat(path)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip(content: bytearray, chance: random.Random) -> None:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def zero(content: bytearray, chance: random.Random) -> None:
    """A block of zeros, where something else was."""
    at = chance.choice([at for at in range(0, len(content), 512) if any(content[at : at + 512])])
    content[at : at + 512] = bytes(len(content[at : at + 512]))


def cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


DAMAGE: list[Callable[[bytearray, random.Random], None]] = [flip, zero, cut]


async def test_a_flipped_bit_is_rot_where_the_stat_is_the_same(sample: Sample) -> None:
    await found(sample.directory, Depth.DEEP)
    path = sample.file("erofs")
    content = bytearray(path.read_bytes())
    content[-5000] ^= 1
    keep_time(path, bytes(content))
    report = await found(sample.directory, Depth.DEEP)
    assert codes(report.findings) == {"packed-damaged"}
    assert "are still the same" in report.findings[0].seen
    assert report.findings[0].format == "erofs"


async def test_other_bytes_of_another_time_are_a_change(sample: Sample) -> None:
    await found(sample.directory, Depth.DEEP)
    path = sample.file("tar")
    path.write_bytes(path.read_bytes() + bytes(512))
    report = await found(sample.directory, Depth.DEEP)
    assert codes(report.findings) == {"packed-changed"}
    assert "it was written since" in report.findings[0].seen


async def test_a_file_that_was_only_touched_is_sound(sample: Sample) -> None:
    await found(sample.directory, Depth.DEEP)
    os.utime(sample.file("tar"))
    shutil.copy(sample.file("erofs"), sample.directory / "copy")
    os.replace(sample.directory / "copy", sample.file("erofs"))
    report = await found(sample.directory, Depth.DEEP)
    assert all_codes(report.findings) == set()
    assert str(report.coverage) == "4 entries: 4 header, 4 deep"


async def test_what_reads_well_from_the_disk_is_no_rot(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    await found(sample.directory, Depth.DEEP)
    name = sample.file("tar").name

    def misread(file: BinaryIO, passed: Callable[[int], object]) -> str:
        sha256 = hash_file(file, passed)
        return sha256[::-1] if os.readlink(f"/proc/self/fd/{file.fileno()}").endswith(name) else sha256

    monkeypatch.setattr("ocitui.doctor.check.examine.hash_file", misread)
    report = await found(sample.directory, Depth.DEEP)
    assert all_codes(report.findings) == set()
    assert report.coverage.unchecked == (
        f"{name}: it was read wrongly once, and rightly from the disk: see to the memory",
    )


async def test_every_damage_is_found_with_the_ledger(sample: Sample) -> None:
    await found(sample.directory, Depth.DEEP)
    chance = random.Random(1)
    originals = {format_: sample.file(format_).read_bytes() for format_ in FORMATS}
    missed, keys = list[tuple[int, str]](), frozenset((sample.digest, format_) for format_ in FORMATS)
    for number in range(DAMAGES // len(FORMATS)):
        for format_ in FORMATS:
            content = bytearray(originals[format_])
            DAMAGE[number % len(DAMAGE)](content, chance)
            keep_time(sample.file(format_), bytes(content))
        report = await found(sample.directory, Depth.DEEP, keys=keys, ledger_writes=False)
        bad = {one.format for one in report.findings if one.code.startswith("packed-")}
        missed += [(number, format_) for format_ in FORMATS if format_ not in bad]
        for format_ in FORMATS:
            keep_time(sample.file(format_), originals[format_])
    assert missed == []


async def test_a_config_without_an_end_is_not_read(sample: Sample) -> None:
    sample.file("config.json").unlink()
    sample.file("config.json").symlink_to("/dev/zero")
    report = await found(sample.directory, Depth.DEEP)
    assert codes(report.findings) == {"file-not-regular"}
    assert report.coverage.read_through == 4


async def test_damage_is_not_recorded_as_sound(sample: Sample) -> None:
    path = sample.other_file("squashfs")
    original = path.read_bytes()
    (inodes,) = (int.from_bytes(original[64:72], "little"),)
    path.write_bytes(original[: inodes + 20] + bytes(16) + original[inodes + 36 :])
    report = await found(sample.directory, Depth.DEEP)
    assert codes(report.findings) == {"packed-damaged"}
    assert Ledger.open(sample.directory).sound.get(path.name) is None
    assert report.coverage.first_seen == 3


async def test_without_the_tools_nothing_is_called_sound(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    report = await found(sample.directory, Depth.DEEP)
    assert all_codes(report.findings) == set()
    # A tar is read through here; the hash of the others is only first seen.
    assert str(report.coverage) == "4 entries: 4 header, 1 deep, 4 first seen"
    assert {line.partition(": ")[2] for line in report.coverage.unchecked} == {
        "not read through: unsquashfs is not installed",
        "not read through: fsck.erofs is not installed",
    }
    again = await found(sample.directory, Depth.DEEP)
    assert (again.coverage.deep, again.coverage.hashed, again.coverage.read_through) == (4, 4, 1)


@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("#!/bin/sh\nexec sleep 600\n", "took too long, and was ended"),
        ("#!/nowhere\n", "cannot be started: not found"),
    ],
)
async def test_a_tool_that_does_not_end_or_begin_is_no_fault_of_the_file(
    program: str, what: str, sample: Sample, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tools run as nobody.
    for name in ("unsquashfs", "fsck.erofs"):
        (open_path / name).write_text(program)
        (open_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{open_path}:{os.environ['PATH']}")
    monkeypatch.setattr("ocitui.contents.trees._LEAST_SECONDS", 0.0)
    report = await found(sample.directory, Depth.DEEP)
    assert all_codes(report.findings) == set()
    assert {line.partition(": ")[2] for line in report.coverage.unchecked} == {
        f"not read through: {tool} {what}" for tool in ("unsquashfs", "fsck.erofs")
    }


_BOUNDS_OF_A_TOOL = """
import sys
from ocitui.contents import Tool
from ocitui.threads import Stop

with open(sys.argv[1], "rb", buffering=0) as file:
    print(Tool("unsquashfs", file, Stop()).run([]).errors)
"""


def test_a_tool_is_bounded_where_root_may_not_bound_others_too(
    sample: Sample, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (open_path / "unsquashfs").write_text("#!/bin/sh\nulimit -f; ulimit -c; ulimit -v\n")
    (open_path / "unsquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{open_path}:{os.environ['PATH']}")
    # As in a container.
    without = ["setpriv", "--inh-caps=-sys_resource", "--bounding-set=-sys_resource"] if os.geteuid() == 0 else []
    command = [*without, sys.executable, "-c", _BOUNDS_OF_A_TOOL, str(sample.file("squashfs"))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["0", "0", "1048576"]


async def test_what_was_checked_shortly_before_is_passed_over(sample: Sample) -> None:
    await found(sample.directory, Depth.DEEP)
    report = await found(sample.directory, Depth.DEEP, older_than=3600.0)
    assert str(report.coverage) == "4 entries: 4 header, 4 found sound earlier"
    assert report.coverage.bytes_read == 0
    sample.file("tar").write_bytes(sample.file("tar").read_bytes() + bytes(512))
    report = await found(sample.directory, Depth.DEEP, older_than=3600.0)
    assert codes(report.findings) == {"packed-changed"}


async def test_only_some_entries(sample: Sample) -> None:
    report = await found(sample.directory, Depth.DEEP, keys=frozenset({(sample.digest, "tar")}))
    assert str(report.coverage) == "1 entry: 1 header, 1 deep, 1 first seen"
    assert report.coverage.bytes_read == sample.file("tar").stat().st_size


async def test_no_hash_is_written_where_none_is_to_be(sample: Sample) -> None:
    await found(sample.directory, Depth.DEEP, ledger_writes=False)
    assert not (sample.directory / ".ocitui").exists()


async def test_a_ledger_that_cannot_be_written_is_said(sample: Sample) -> None:
    (sample.directory / ".ocitui").write_bytes(b"")
    report = await found(sample.directory, Depth.DEEP)
    assert any(note.startswith("the hashes were not recorded") for note in report.notes)
    assert report.coverage.first_seen == 4


class Clock:
    """A clock that only goes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_the_rate_is_kept(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("ocitui.threads.time", clock)
    size = (
        sum(sample.file(format_).stat().st_size for format_ in FORMATS) + sample.other_file("squashfs").stat().st_size
    )
    report = await found(sample.directory, Depth.DEEP, max_rate=size * 2.0)
    # The last read is free to begin when those before it are paid for.
    assert clock.now > 0.2
    assert report.coverage.bytes_read == size
