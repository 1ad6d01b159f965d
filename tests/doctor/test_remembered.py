"""What a deep check finds is told by those that do not look so deep, as long as the file is the same."""

from __future__ import annotations

import errno
import os
import shutil
import time
import zlib
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocitui.cache import PackerCache
from ocitui.cache.ledger import LASTING_CODES, Damage, Ledger, hash_file
from ocitui.doctor.acknowledged import acknowledge
from ocitui.doctor.check.entry_checks import Remembered
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.findings import Depth, Finding, seen_text
from ocitui.doctor.metrics import prometheus
from ocitui.doctor.repair.plan import plan_repair
from ocitui.doctor.repair.steps import RepairOptions
from ocitui.doctor.report import Report
from ocitui.doctor.why import LinkState, chain_of
from tests.contents.trees_support import Clock
from tests.doctor.examine_support import NAME, Sample, all_codes, copied, found
from tests.doctor.repair_support import bytes_in, repaired, undone
from tests.tools import examples

pytestmark = pytest.mark.slow

Harm = Callable[[Sample, pytest.MonkeyPatch], Path]
TAR = "tar"


def rot(path: Path, at: int = -5000) -> Path:
    """A flipped bit that no stat tells of."""
    before, content = os.stat(path), bytearray(path.read_bytes())
    content[at] ^= 1
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return path


def rotten(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Path:
    return rot(sample.file("erofs"))


def rewritten(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = sample.file(TAR)
    path.write_bytes(path.read_bytes() + bytes(512))
    return path


def lacking(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another image's tar, which was never read before."""
    shutil.rmtree(sample.directory / ".ocitui")
    path = sample.file(TAR)
    path.write_bytes(bytes(10240))
    return path


def stumbled_over(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.rmtree(sample.directory / ".ocitui")
    path = sample.other_file("squashfs")
    content = path.read_bytes()
    inodes = int.from_bytes(content[64:72], "little")
    path.write_bytes(content[: inodes + 20] + bytes(16) + content[inodes + 36 :])
    return path


def unreadable(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = sample.file(TAR)
    misread(monkeypatch, path, lambda sha256: _raise(OSError(errno.EIO, "Input/output error")))
    return path


def _raise(error: OSError) -> str:
    raise error


def misread(monkeypatch: pytest.MonkeyPatch, path: Path, give: Callable[[str], str]) -> None:
    def read(file: BinaryIO, passed: Callable[[int], object]) -> str:
        sha256 = hash_file(file, passed)
        return give(sha256) if os.readlink(f"/proc/self/fd/{file.fileno()}").endswith(path.name) else sha256

    monkeypatch.setattr("ocitui.doctor.check.examine.hash_file", read)


HARMS: list[tuple[Harm, str]] = [
    (rotten, "packed-damaged"),
    (rewritten, "packed-changed"),
    (lacking, "packed-incomplete"),
    (stumbled_over, "packed-damaged"),
    (unreadable, "read-error"),
]
by_harm = pytest.mark.parametrize(("harm", "code"), HARMS, ids=[harm.__name__ for harm, _ in HARMS])


def problem(report: Report) -> Finding:
    (one,) = report.shown(acknowledged=True)
    return one


async def harmed(sample: Sample, harm: Harm, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Finding]:
    """A cache that was sound, and what the deep check finds in it now."""
    await found(sample.directory, Depth.DEEP)
    path = harm(sample, monkeypatch)
    report = await found(sample.directory, Depth.DEEP)
    assert report.deep_only == frozenset()
    return path, problem(report)


@by_harm
async def test_every_depth_tells_of_it(harm: Harm, code: str, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first = await harmed(sample, harm, monkeypatch)
    assert (first.code, first.file, first.found) == (code, path.name, None)
    for depth in (Depth.QUICK, Depth.HEADER):
        report = await found(sample.directory, depth)
        again = problem(report)
        assert (again.code, again.seen, again.fingerprint) == (first.code, first.seen, first.fingerprint)
        assert (again.answer, again.daemon, again.position) == (first.answer, first.daemon, first.position)
        assert again.found is not None
        assert abs(again.found - time.time()) < 3600
        assert "; found by the deep check of 20" in seen_text(again)
        assert report.coverage.deep == report.coverage.bytes_read == 0
        assert f'code="{code}"' in prometheus(report)
    for older_than in (None, 3600.0):
        report = await found(sample.directory, Depth.DEEP, older_than=older_than)
        deep = problem(report)
        assert (deep.fingerprint, deep.found) == (first.fingerprint, None)
        assert report.coverage.bytes_read >= path.stat().st_size


def unread(sample: Sample) -> int:
    judge = Judge(sample.directory)
    judge.read()
    list(judge.look())
    return judge.unread()


async def test_what_a_deep_check_would_read_is_counted(sample: Sample) -> None:
    """Each file once, and none whose header tells all, or that is not there."""
    assert unread(sample) == 4
    sample.edit_index(lambda fields: fields["manifests"].append(fields["manifests"][0]))
    assert unread(sample) == 4
    content = bytearray(sample.other_file("squashfs").read_bytes())
    content[28] = 9  # the version
    for harmed_bytes in (content, content[:5000], b"x" * 5000, b""):
        sample.other_file("squashfs").write_bytes(harmed_bytes)
        assert unread(sample) == 3
    sample.file(TAR).unlink()
    assert unread(sample) == 2
    sample.other_file("squashfs").unlink()
    sample.other_file("squashfs").symlink_to(sample.file("squashfs").name)
    assert unread(sample) == 2
    await found(sample.directory, Depth.DEEP)
    assert unread(sample) == 0


@by_harm
async def test_what_was_found_damaged_counts_as_read_until_it_is_written_again(
    harm: Harm, code: str, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = await harmed(sample, harm, monkeypatch)
    assert unread(sample) == 0
    path.write_bytes(path.read_bytes())
    assert unread(sample) == 1


@by_harm
async def test_another_file_of_the_name_has_no_past(
    harm: Harm, code: str, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = await harmed(sample, harm, monkeypatch)
    aside = path.rename(sample.directory.parent / "aside")
    shutil.copy2(aside, path)
    assert all_codes((await found(sample.directory)).findings) == set()
    path.unlink()
    assert {one.code for one in (await found(sample.directory)).shown()} == {"file-missing"}
    # As a trash gives it back.
    aside.rename(path)
    assert problem(await found(sample.directory)).code == code


async def test_an_acknowledgement_holds_at_every_depth(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = await harmed(sample, rotten, monkeypatch)
    acknowledge(sample.directory, [first])
    for depth in Depth:
        report = await found(sample.directory, depth)
        assert report.shown() == []
        assert problem(report).acknowledged


async def test_what_was_read_wrongly_once_is_forgotten(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = await harmed(sample, rotten, monkeypatch)
    rot(path)
    assert problem(await found(sample.directory)).code == "packed-damaged"
    assert all_codes((await found(sample.directory, Depth.DEEP, older_than=3600.0)).findings) == set()
    assert all_codes((await found(sample.directory)).findings) == set()
    assert Ledger.open(sample.directory).damaged == {}


@pytest.mark.parametrize("harm", [unreadable, lacking])
async def test_what_is_sound_now_is_forgotten(harm: Harm, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = await harmed(sample, harm, monkeypatch)
    monkeypatch.setattr("ocitui.doctor.check.examine.hash_file", hash_file)
    if harm is lacking:
        # What it was compared with is gone: there is nothing left that it lacks but the program.
        before = Ledger.open(sample.directory).sound.get(path.name)
        assert before is None
        monkeypatch.setattr("ocitui.doctor.check.examine.unlike", lambda lines, other, stop: [])
        monkeypatch.setattr("ocitui.doctor.check.examine.has_program", lambda tree, program: True)
    assert all_codes((await found(sample.directory, Depth.DEEP)).findings) == set()
    assert all_codes((await found(sample.directory)).findings) == set()


@pytest.mark.parametrize("harm", [stumbled_over, lacking])
async def test_what_cannot_be_looked_at_again_still_holds(
    harm: Harm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = await harmed(sample, harm, monkeypatch)
    if harm is stumbled_over:
        monkeypatch.setattr("ocitui.contents.soundness.time", Clock(100.0))
        report = await found(sample.directory, Depth.DEEP)
    else:
        monkeypatch.setattr("ocitui.doctor.check.examine.has_program", lambda tree, program: None)
        report = await found(sample.directory, Depth.DEEP, keys=frozenset({(sample.digest, TAR)}))
    assert problem(report).fingerprint == first.fingerprint
    assert Ledger.open(sample.directory).sound.get(path.name) is None
    assert problem(await found(sample.directory)).fingerprint == first.fingerprint


async def test_an_error_that_may_pass_is_not_remembered(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    misread(monkeypatch, sample.file(TAR), lambda sha256: _raise(OSError(errno.ENOMEM, "Cannot allocate memory")))
    report = await found(sample.directory, Depth.DEEP)
    assert report.deep_only == {problem(report).fingerprint}
    assert all_codes((await found(sample.directory)).findings) == set()


@pytest.mark.parametrize("obstacle", ["not asked to", "cannot"])
async def test_what_is_not_written_is_said_to_be_forgotten(
    obstacle: str, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    stumbled_over_file = sample.other_file("squashfs")
    (sample.directory / ".ocitui").mkdir()
    stumbled_over(sample, monkeypatch)
    if obstacle == "cannot":
        (sample.directory / ".ocitui").write_bytes(b"")
    report = await found(sample.directory, Depth.DEEP, ledger_writes=obstacle == "cannot")
    (harm,) = [one for one in report.shown(acknowledged=True) if one.code != "journal-damaged"]
    assert harm.file == stumbled_over_file.name
    assert report.deep_only == {harm.fingerprint}
    # That nothing can be remembered there is a finding of its own.
    assert all_codes((await found(sample.directory)).findings) == (
        {"journal-damaged"} if obstacle == "cannot" else set()
    )


async def test_what_is_remembered_is_told_where_nothing_may_be_written(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harmed(sample, rotten, monkeypatch)
    before = (sample.directory / ".ocitui" / "ledger").read_bytes()
    report = await found(sample.directory, Depth.DEEP, ledger_writes=False)
    assert report.deep_only == frozenset()
    assert problem(await found(sample.directory, ledger_writes=False)).code == "packed-damaged"
    assert (sample.directory / ".ocitui" / "ledger").read_bytes() == before


async def test_only_those_that_are_asked_for(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    await harmed(sample, rotten, monkeypatch)
    for format_, codes in (("erofs", {"packed-damaged"}), (TAR, set[str]())):
        report = await found(sample.directory, keys=frozenset({(sample.digest, format_)}))
        assert all_codes(report.findings) == codes


async def test_why_tells_when_it_was_found(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = await harmed(sample, rotten, monkeypatch)
    answer = await chain_of(sample.directory, NAME)
    links = {one.format: next(link for link in one.links if link.title == "content") for one in answer.formats}
    assert [link.standing for link in links.values()] == [LinkState.OK, LinkState.BAD, LinkState.OK]
    text = links[first.format].text  # type: ignore[index]
    assert text.startswith(f"packed-damaged: {first.seen}; found by the deep check of 20")


async def test_a_screens_entries_tell_of_it_at_once(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    running, begun = Judge(sample.directory), Judge(sample.directory)
    running.read()
    assert {*chain(*running.look())} == {sample.digest, sample.other}
    _, first = await harmed(sample, rotten, monkeypatch)
    assert running.remember() == {sample.digest}
    assert {*chain(*running.look())} == {sample.digest}
    begun.read()
    assert sample.digest in {*chain(*begun.look())}
    for judge in (running, begun):
        (finding,) = judge.findings_at(1)
        assert (finding.fingerprint, finding.position) == (first.fingerprint, 1)
        assert [judge.findings_at(position) for position in (0, 2, 3)] == [()] * 3
    rot(sample.file("erofs"))
    await found(sample.directory, Depth.DEEP)
    assert running.remember() == {sample.digest}
    assert {*chain(*running.look())} == {sample.digest}
    assert running.findings_at(1) == ()


@pytest.mark.parametrize("restored", [False, True])
async def test_it_is_mended_undone_and_told_again(
    restored: bool, made_sample: Sample, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    good = copied(made_sample, tmp_path / "other")
    _, first = await harmed(sample, rotten, monkeypatch)
    before = bytes_in(sample.directory)
    report = await found(sample.directory, Depth.HEADER)
    sources = (str(good.directory),) if restored else ()
    steps = await plan_repair(PackerCache(sample.directory), report, RepairOptions(sources=sources, even_if_gone=True))
    assert [one.code for step in steps.made for one in step.findings] == ["packed-damaged"]
    done = await repaired(sample.directory, steps)
    assert {one.code for one in done.report.shown()} == (set() if restored else {"file-missing"})
    if restored:
        assert all_codes((await found(sample.directory, Depth.DEEP)).findings) == set()
    await undone(sample.directory, done)
    assert bytes_in(sample.directory) == before
    for depth in (Depth.QUICK, Depth.HEADER, Depth.DEEP, Depth.QUICK):
        assert problem(await found(sample.directory, depth)).fingerprint == first.fingerprint


TAKING = RepairOptions(even_if_gone=True)


async def test_a_damaged_file_is_no_copy_to_restore_from(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = await harmed(sample, stumbled_over, monkeypatch)
    (tmp_path / "other").mkdir()
    steps = await plan_repair(PackerCache(sample.directory), await found(sample.directory), TAKING)
    await repaired(sample.directory, steps)
    missing = await found(sample.directory)
    assert {one.code for one in missing.shown()} == {"file-missing"}
    again = await plan_repair(PackerCache(sample.directory), missing, TAKING)
    assert again.steps == ()
    # Nor is that of another cache, whether it knows that it is damaged or not.
    other = copied(sample, tmp_path / "other")
    shutil.copy2(
        next((sample.directory / ".ocitui" / "trash").glob(f"*{path.name}")), other.file("squashfs", sample.other)
    )
    options = RepairOptions(sources=(str(other.directory),))
    assert (await plan_repair(PackerCache(sample.directory), missing, options)).steps == ()
    await found(other.directory, Depth.DEEP)
    assert (await plan_repair(PackerCache(sample.directory), missing, options)).steps == ()


# The ledger


def note(directory: Path, name: str, *, at: int = 1) -> Damage:
    ledger = Ledger.open(directory)
    with patch("time.time", return_value=at):
        damage = ledger.note_damage(name, os.stat(directory / name), "packed-damaged", "rot", "b" * 64)
    ledger.flush()
    return damage


def test_a_damage_is_known_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    path.write_bytes(b"packed")
    ledger = Ledger.open(tmp_path)
    seen = "a b %20 \n ü \x1b \udcff \ud800"
    with patch("time.time", return_value=12.9):
        ledger.note_damage(path.name, os.stat(path), "packed-damaged", seen, "b" * 64)
    ledger.flush()
    damage = Ledger.open(tmp_path).damage(path.name, os.stat(path))
    assert damage is not None
    assert (damage.code, damage.sha256, damage.found) == ("packed-damaged", "b" * 64, 12)
    assert damage.seen.encode("utf-8", "backslashreplace") == seen.encode("utf-8", "backslashreplace")
    os.utime(path, (1, 1))
    assert Ledger.open(tmp_path).damage(path.name, os.stat(path)) is None


def test_a_sound_file_has_no_damage_and_another_one_leaves_it(tmp_path: Path) -> None:
    path, other = tmp_path / "one.tar", tmp_path / "other.tar"
    path.write_bytes(b"packed")
    other.write_bytes(b"packed anew")
    damage = note(tmp_path, path.name)
    ledger = Ledger.open(tmp_path)
    ledger.record(path.name, os.stat(other), "a" * 64)
    ledger.flush()
    assert Ledger.open(tmp_path).damaged == {path.name: (damage,)}
    ledger.record(path.name, os.stat(path), "a" * 64)
    assert ledger.damage(path.name, os.stat(path)) is None
    ledger.flush()
    assert Ledger.open(tmp_path).damaged == {}


def test_not_more_than_some_are_kept_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    path.write_bytes(b"packed")
    for number in range(20):
        os.utime(path, (number, number))
        last = note(tmp_path, path.name)
    kept = Ledger.open(tmp_path).damaged[path.name]
    assert (len(kept), kept[-1]) == (8, last)


def test_damage_outlives_a_ledger_that_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.ledger._SLACK_LINES", 5)
    path = tmp_path / "one.tar"
    path.write_bytes(b"packed")
    Ledger.open(tmp_path).record(path.name, os.stat(path), "a" * 64)
    for at in range(40):
        last = note(tmp_path, path.name, at=at)
    assert (tmp_path / ".ocitui" / "ledger").read_bytes().count(b"\n") < 15
    assert Ledger.open(tmp_path).damaged == {path.name: (last,)}


def signed(text: bytes) -> bytes:
    return b"%s %08x\n" % (text, zlib.crc32(text))


STAT_ = b"1 2 3 4"
LINE = b"2 " + STAT_ + b" - 7 packed-damaged one.tar rot"


@pytest.mark.parametrize(
    "line",
    [
        LINE.replace(b"packed-damaged", b"packed-eaten"),
        LINE.replace(b"packed-damaged", b"index-missing"),
        LINE.replace(b"2 ", b"3 ", 1),
        LINE.replace(b" 7 ", b" 7" + b"0" * 5000 + b" "),
        LINE.replace(b"1 2", b"1" * 5000 + b" 2"),
        LINE.replace(b"one.tar", b"\xff.tar"),
        LINE.replace(b" rot", b""),
        LINE + b" more",
        LINE.replace(b" - ", b" abc "),
        b"1 " + STAT_ + b" " + b"a" * 64 + b" " + b"9" * 5000 + b" - one.tar",
        b"1 " + STAT_ + b" " + b"a" * 64 + b" 7 - \xff",
    ],
)
def test_what_is_not_understood_is_passed_over(line: bytes, tmp_path: Path) -> None:
    (tmp_path / ".ocitui").mkdir()
    (tmp_path / ".ocitui" / "ledger").write_bytes(signed(line) + signed(LINE.replace(b"one", b"two")))
    assert set(Ledger.open(tmp_path).damaged) == {"two.tar"}
    assert Ledger.open(tmp_path).sound == {}


@st.composite
def ledgers(draw: st.DrawFn, names: list[str]) -> bytes:
    """Lines of all kinds, some of them with a checksum that fits, and rubbish."""
    number = st.integers(-(10**25), 10**25).map(lambda value: b"%d" % value) | st.binary(max_size=8)
    name = st.sampled_from(names).map(str.encode) | st.binary(max_size=20)
    code = st.sampled_from(sorted(LASTING_CODES)).map(str.encode) | st.binary(max_size=12)
    sha256 = st.sampled_from([b"-", b"a" * 64]) | st.binary(max_size=64)
    kind = st.sampled_from([b"1", b"2", b"3"])
    damage = st.tuples(kind, number, number, number, number, sha256, number, code, name, st.binary(max_size=12))
    sound = st.tuples(kind, number, number, number, number, sha256, number, st.sampled_from([b"-", b"rw"]), name)
    signed_line = (damage | sound).map(b" ".join).map(signed)
    return b"".join(draw(st.lists(signed_line | st.binary(max_size=40), max_size=12)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(60), deadline=None)
@given(data=st.data())
async def test_no_ledger_breaks_a_check(data: st.DataObject, sample: Sample) -> None:
    names = [path.name for path in sample.directory.iterdir()]
    (sample.directory / ".ocitui").mkdir(exist_ok=True)
    content = data.draw(ledgers(names))
    (sample.directory / ".ocitui" / "ledger").write_bytes(content)
    for depth in (Depth.QUICK, Depth.HEADER):
        assert all_codes((await found(sample.directory, depth)).findings) == set()
    answer = await chain_of(sample.directory, NAME)
    assert len(answer.formats) == 3


@pytest.mark.parametrize("place", ["folder", "pipe", "own folder is a file"])
async def test_a_ledger_that_is_no_file(place: str, sample: Sample) -> None:
    own = sample.directory / ".ocitui"
    if place == "own folder is a file":
        own.write_bytes(b"")
    else:
        own.mkdir()
        (os.mkfifo if place == "pipe" else os.mkdir)(own / "ledger")
    report = await found(sample.directory)
    assert all_codes(report.findings) == (set() if place == "folder" else {"journal-damaged"})
    assert any("ledger cannot be read" in note for note in report.notes) is (place != "own folder is a file")


def test_a_ledger_that_can_be_read_again_is_no_problem_any_more(tmp_path: Path) -> None:
    own, aside = tmp_path / ".ocitui", tmp_path / "aside"
    own.mkdir()
    (own / "ledger").write_bytes(b"")
    remembered = Remembered(tmp_path)
    remembered.refresh()
    own.rename(aside)
    own.symlink_to(own.name)
    remembered.refresh()
    assert remembered.problem
    own.unlink()
    aside.rename(own)
    remembered.refresh()
    assert remembered.problem == ""
