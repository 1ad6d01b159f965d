"""Deep checks: what the ledger finds, what reading through finds without it, and what is said of what is not read."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from ocitui.cache.ledger import Ledger, hash_file
from ocitui.contents.digest import TreeStore
from ocitui.contents.soundness import ReadThrough, read_through
from ocitui.contents.tree import PackedTree
from ocitui.doctor.findings import Depth
from ocitui.doctor.report import Report
from tests.contents.trees_support import Clock, unpacked_fixture
from tests.doctor.examine_support import Sample, all_codes, codes, found
from tests.importing.sources import FORMATS
from tests.tools import seeds

pytestmark = pytest.mark.slow

DAMAGES = 150


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


@pytest.mark.parametrize("seed", seeds(1, 8))
async def test_every_damage_is_found_with_the_ledger(seed: int, sample: Sample) -> None:
    await found(sample.directory, Depth.DEEP)
    chance = random.Random(seed)
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
    # What is known of it afterwards rests as deep as that check looked, for what was found bad too.
    judge = report.judge
    assert judge is not None
    known = [judge.depth_of(digest, format_) for digest, format_, _ in judge.depths()]
    assert known.count(Depth.DEEP) == report.coverage.deep == 4


def hit_hosts(sample: Sample, at: int = 20) -> Path:
    """Flip a bit in the block that /etc/hosts shares, behind that of /bin/sh; no stat tells of it."""
    path = sample.other_file("squashfs")
    content = bytearray(path.read_bytes())
    content[96 + 150_000 + at] ^= 1
    keep_time(path, bytes(content))
    return path


HIT = "is damaged: it cannot be unpacked; it hits '/etc/hosts', '/etc/long-name-long-name-"


def bend(path: Path, text: bytes | None = None) -> None:
    """Flip a bit of /bin/sh, which is stored as it is, or of a text; no stat tells of it."""
    content = bytearray(path.read_bytes())
    content[content.index(text or hashlib.shake_256(b"sh").digest(16)) + 20] ^= 1
    keep_time(path, bytes(content))


LIKE_THE_OTHER = "it holds bin/sh otherwise than the "


def differing(report: Report) -> dict[str, str]:
    """What is said of the formats that are otherwise than others, which is all that is wrong."""
    assert codes(report.findings) <= {"packed-differs"}
    return {one.format: one.seen for one in report.findings if one.code == "packed-differs"}


@pytest.mark.parametrize("bent", ["squashfs", "erofs"])
async def test_of_two_formats_that_hold_other_bytes_both_are_told(bent: str, sample: Sample) -> None:
    """No hash is on record, and nothing that reading through finds: which of them is right is not known."""
    sample.file("tar").unlink()
    sample.edit_index(lambda fields: fields["manifests"].pop(2))
    bend(sample.file(bent))
    for _ in range(2):
        for depth in (Depth.DEEP, Depth.HEADER):
            assert differing(await found(sample.directory, depth)) == {
                one: f"{LIKE_THE_OTHER}{other}; nothing tells which of them is right"
                for one, other in (("squashfs", "erofs"), ("erofs", "squashfs"))
            }
    alone = await found(sample.directory, Depth.DEEP, keys=frozenset({(sample.digest, bent)}))
    assert set(differing(alone)) == {bent}, "without the other it cannot be looked at again"
    assert not {f"{sample.digest}.{one}" for one in FORMATS} & set(Ledger.open(sample.directory).sound)
    bend(sample.file(bent))
    for depth in (Depth.DEEP, Depth.HEADER):
        assert differing(await found(sample.directory, depth)) == {}


@pytest.mark.parametrize("bent", FORMATS)
async def test_one_of_three_that_is_otherwise_is_the_one(bent: str, sample: Sample) -> None:
    bend(sample.file(bent))
    other = FORMATS[0] if bent != FORMATS[0] else FORMATS[1]
    assert differing(await found(sample.directory, Depth.DEEP)) == {bent: f"{LIKE_THE_OTHER}{other}"}


@pytest.mark.parametrize("told_by", ["ledger", "lines"])
async def test_what_is_as_it_was_recorded_is_not_the_one(told_by: str, sample: Sample) -> None:
    sample.file("tar").unlink()
    sample.edit_index(lambda fields: fields["manifests"].pop(2))
    await found(sample.directory, Depth.DEEP, keys=frozenset({(sample.digest, "erofs")}))
    own = sample.directory / ".ocitui"
    (own / "ledger").unlink() if told_by == "lines" else shutil.rmtree(own / "lines")
    bend(sample.file("squashfs"))
    assert differing(await found(sample.directory, Depth.DEEP)) == {"squashfs": f"{LIKE_THE_OTHER}erofs"}


async def test_what_was_read_before_is_held_against_what_comes_later(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its lines, without being read through again."""
    one, other = (frozenset({(sample.digest, format_)}) for format_ in FORMATS[:2])
    await found(sample.directory, Depth.DEEP, keys=one)
    bend(sample.file("erofs"))
    await found(sample.directory, Depth.DEEP, keys=other)
    monkeypatch.delattr("ocitui.doctor.check.examine.read_through")
    assert set(differing(await found(sample.directory, Depth.DEEP, keys=one | other))) == {"squashfs", "erofs"}


async def test_lines_are_stored_in_the_pass_that_checks(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    await found(sample.directory, Depth.DEEP, ledger_writes=False)
    assert not (sample.directory / ".ocitui").exists()
    monkeypatch.delattr(PackedTree, "open")
    await found(sample.directory, Depth.DEEP)
    files = [*(sample.file(format_) for format_ in FORMATS), sample.other_file("squashfs")]
    stored = [TreeStore(sample.directory).right(path) for path in files]
    assert len({one.content for one in stored if one}) == 1
    assert None not in stored


async def test_what_was_known_before_lines_were_kept_is_read_once_more(sample: Sample) -> None:
    await found(sample.directory, Depth.DEEP)
    shutil.rmtree(sample.directory / ".ocitui" / "lines")
    report = await found(sample.directory, Depth.DEEP)
    assert (report.coverage.read_through, report.coverage.hashed) == (4, 4)
    store = TreeStore(sample.directory)
    assert None not in map(store.right, (sample.file("tar"), sample.other_file("squashfs")))


@pytest.mark.parametrize("known", [False, True])
async def test_the_files_that_changed_are_named_by_the_lines(known: bool, sample: Sample) -> None:
    """Of an erofs, whose reader finds no flipped bit, with the ledger and without."""
    keys = frozenset({(sample.digest, "erofs")})
    await found(sample.directory, Depth.DEEP, keys=keys)
    bend(sample.file("erofs"), b"localhost")
    if not known:
        (sample.directory / ".ocitui" / "ledger").unlink()
    (finding,) = (await found(sample.directory, Depth.DEEP, keys=keys)).findings
    if known:
        assert finding.code == "packed-damaged"
        assert finding.seen.endswith("its size and time are still the same; etc/hosts was otherwise then")
    else:
        assert (finding.code, finding.seen) == (
            "packed-changed",
            "it holds etc/hosts otherwise than when that was stored",
        )


async def test_lines_that_cannot_be_stored_are_a_note(sample: Sample) -> None:
    await found(sample.directory, Depth.DEEP)
    shutil.rmtree(sample.directory / ".ocitui" / "lines")
    (sample.directory / ".ocitui" / "lines").write_bytes(b"")
    report = await found(sample.directory, Depth.DEEP)
    assert all_codes(report.findings) == set()
    (note,) = [note for note in report.notes if "lines" in note]
    assert note.startswith("what is in packed files was not stored: ")


async def test_no_other_program_is_run(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deep check and what it finds need nothing that the host may not have."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delattr("subprocess.Popen")
    report = await found(sample.directory, Depth.DEEP)
    assert all_codes(report.findings) == set()
    assert str(report.coverage) == "4 entries: 4 header, 4 deep, 4 first seen"
    assert (report.coverage.read_through, report.coverage.unchecked) == (4, ())


@pytest.mark.parametrize("known", [False, True])
async def test_the_files_that_a_bad_block_hits_are_named(known: bool, sample: Sample) -> None:
    """Whether reading it found the damage, or its hash."""
    if known:
        await found(sample.directory, Depth.DEEP)
    path = hit_hosts(sample)
    (finding,) = (await found(sample.directory, Depth.DEEP)).findings
    assert (finding.code, finding.file) == ("packed-damaged", path.name)
    assert HIT in finding.seen
    assert ("its sha256 is " in finding.seen) == known
    for depth in Depth:
        (again,) = (await found(sample.directory, depth)).findings
        assert (again.seen, again.fingerprint) == (finding.seen, finding.fingerprint)


@pytest.mark.parametrize(
    ("fixture", "why"),
    [
        ("zoo.1.9.3.metabox.erofs", "it has a metadata box"),
        ("zoo.lzo.squashfs", "it is compressed with lzo, which is not read here"),
    ],
)
async def test_what_is_not_read_here_is_not_damaged(fixture: str, why: str, sample: Sample, tmp_path: Path) -> None:
    path = sample.file(fixture.rpartition(".")[2])
    path.write_bytes(unpacked_fixture(fixture, tmp_path).read_bytes())
    for hashed in (3, 4):
        report = await found(sample.directory, Depth.DEEP)
        assert all_codes(report.findings) == set()
        assert f"{path.name}: not read through: {why}" in report.coverage.unchecked
        assert (report.coverage.deep, report.coverage.read_through) == (hashed, 3)
    known = Ledger.open(sample.directory).sound[path.name]
    assert (known.read_through, known.whole) == (False, False)


async def test_what_takes_too_long_is_no_fault_of_the_file(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.contents.soundness.time", Clock(40.0))
    report = await found(sample.directory, Depth.DEEP)
    assert all_codes(report.findings) == set()
    assert report.coverage.unchecked == ("4 files: not read through: it took too long, and was ended",)
    assert (report.coverage.first_seen, report.coverage.read_through) == (4, 0)


async def test_what_is_written_while_it_is_read_through_is_not_judged(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hit_hosts(sample)

    def written(file: BinaryIO, *rest: object, **named: bool) -> ReadThrough:
        if os.readlink(f"/proc/self/fd/{file.fileno()}").endswith(path.name):
            path.write_bytes(path.read_bytes())
        return read_through(file, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("ocitui.doctor.check.examine.read_through", written)
    report = await found(sample.directory, Depth.DEEP)
    assert all_codes(report.findings) == set()
    assert report.coverage.unchecked == (f"{path.name}: it was written while it was read",)
    assert path.name not in Ledger.open(sample.directory).sound


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


class Paid:
    """A clock that only goes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_the_rate_is_kept(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Paid()
    monkeypatch.setattr("ocitui.threads.time", clock)
    size = (
        sum(sample.file(format_).stat().st_size for format_ in FORMATS) + sample.other_file("squashfs").stat().st_size
    )
    report = await found(sample.directory, Depth.DEEP, max_rate=size * 2.0)
    # The last read is free to begin when those before it are paid for.
    assert clock.now > 0.2
    assert report.coverage.bytes_read == size
