"""The problems screen: what was found, the worst first, and what can be done about it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from ocitui.doctor.acknowledged import load_acknowledged
from ocitui.doctor.check.examine import Examination, ExamineOptions, examine
from ocitui.doctor.findings import CATALOGUE, Depth
from ocitui.threads import Stop
from ocitui.tui.actions import BY_NAME
from ocitui.tui.screens.problems import _BY_HAND, FirstRow, ProblemsScreen
from ocitui.tui.widgets.lines import PickList
from ocitui.words import capital
from tests.doctor.repair_support import let_come_back
from tests.host.loops import uses_of
from tests.tui.cache_support import ALPINE, BUSYBOX, NGINX, TEA, flip, make_cache, packed_path, replace_index, tree
from tests.tui.screen_support import MIDDLE, SMALL, WIDE, Desk, codes, desk, first_acts, planned

pytestmark = pytest.mark.slow


def faulty(path: Path) -> Path:
    """A cache with a bad document, a missing file, and a file that nobody names."""
    cache = make_cache(path)
    (cache / f"{BUSYBOX.digest}.config.json").write_text("{")
    packed_path(cache, NGINX).unlink()
    (cache / f"sha256:{'a' * 64}.squashfs").write_bytes(b"hsqs")
    return cache


def wait_while(held: list[bool], stop: Stop) -> frozenset[str]:
    """A reading of all bytes that takes long, finds nothing, and ends when it is told to."""
    while held:
        stop.check()
        time.sleep(0.01)
    return frozenset()


def rows(one: Desk) -> list[str]:
    return [row.text for row in one.app.screen.query_one(PickList).rows]


async def to_finding(one: Desk, code: str) -> None:
    """Put the cursor on the first row about it below what is to be done first."""
    screen = one.app.screen
    assert isinstance(screen, ProblemsScreen)
    found = (row for row in screen.rows.values() if not (row.rule or isinstance(row, FirstRow)))
    screen.query_one(PickList).move_to(next(row.key for row in found if row.findings[0].code == code))
    await one.pilot.pause()


def coverage(one: Desk) -> str:
    return one.bar_at("#coverage").partition("\n")[0]


async def opened(one: Desk) -> None:
    await one.open("p", "ProblemsScreen")
    await one.until(lambda: "header" in coverage(one), "what is known")


@pytest.mark.parametrize("size", [SMALL, MIDDLE, WIDE])
async def test_the_worst_first_with_what_mends_it(tmp_path: Path, size: tuple[int, int]) -> None:
    async with desk(faulty(tmp_path / "image"), size) as one:
        await opened(one)
        assert codes(one) == ["HIGH", "config-unparsable", "file-missing", "LOW", "orphan-file"]
        assert coverage(one).startswith(" 7 entries: 7 quick, 6 header; 2 high, 1 low")
        await to_finding(one, "config-unparsable")
        await one.until(lambda: "an error at every lookup" in one.lines)
        for word in ("seen", "daemon", "mend", BUSYBOX.digest):
            assert word in one.lines
        assert all(len(line) == size[0] for line in one.text.split("\n"))


async def test_a_sound_cache_has_no_problem(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await opened(one)
        assert rows(one) == []
        await one.until(lambda: "nothing wrong was found" in one.lines)
        await one.press("m", "M", "a", "enter", "x")
        assert one.top == "ProblemsScreen"


async def test_what_is_wrong_shows_at_every_depth_and_moves_with_the_disk(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA, BUSYBOX))
    async with desk(cache) as one:
        await opened(one)
        await one.until(lambda: coverage(one) == " 3 entries: 3 header; nothing wrong")
        content = packed_path(cache, TEA).read_bytes()
        packed_path(cache, TEA).write_bytes(b"hsqs" + bytes(4096))
        await one.until(lambda: "packed-damaged" in codes(one), "the header")
        (cache / f"{BUSYBOX.digest}.config.json").write_text("{")
        await one.until(lambda: "2 high" in coverage(one), "a document")
        for key in ("1", "2"):
            await one.press(key)
            await one.until(lambda: not one.live.looking)
            assert "2 high" in coverage(one)
        packed_path(cache, TEA).write_bytes(content)
        (cache / f"{BUSYBOX.digest}.config.json").write_bytes(BUSYBOX.config)
        await one.until(lambda: rows(one) == [] and "nothing wrong was found" in one.lines)


async def test_a_deep_check_says_how_far_it_looked_and_what_it_found(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA, NGINX))
    await examine(cache, ExamineOptions(Depth.DEEP))
    flip(packed_path(cache, TEA))
    async with desk(cache) as one:
        await opened(one)
        assert coverage(one).startswith(" 2 entries: 2 header, 2 deep")
        await one.press("3")
        await one.until(lambda: "deep check: 2 entries" in one.status, "the end")
        await one.until(lambda: "packed-damaged" in codes(one))
        assert coverage(one).startswith(" 2 entries: 2 header, 2 deep; 1 high")
        await one.until(lambda: "✗ 1 high" in one.header, "the same on top")
        await one.press("escape")
        await one.until(lambda: "✗ damaged" in one.text)
        assert "p shows it" in one.status


@pytest.mark.parametrize("what", ["corrupt", "gone"])
async def test_nothing_is_said_to_be_well_under_a_banner(tmp_path: Path, what: str) -> None:
    cache = make_cache(tmp_path / "image", (TEA,))
    async with desk(cache) as one:
        if what == "corrupt":
            replace_index(cache, b"{")
        else:
            cache.rename(tmp_path / "elsewhere")
        await one.until(lambda: bool(one.trouble))
        await one.open("p", "ProblemsScreen")
        while one.live.looking:
            assert "nothing wrong" not in one.text
            await one.pilot.pause()
        await one.until(lambda: "index-unparsable" in one.text or "directory is gone" in one.text)
        assert "nothing wrong" not in one.text


async def test_acknowledged_findings_are_hidden_until_asked_for(tmp_path: Path) -> None:
    cache = faulty(tmp_path / "image")
    async with desk(cache) as one:
        await opened(one)
        await to_finding(one, "config-unparsable")
        await one.press("a")
        await one.until(lambda: "config-unparsable" not in codes(one))
        assert len(load_acknowledged(cache)) == 1
        await one.press("A")
        await one.until(lambda: "config-unparsable" in codes(one))
        assert not any("config" in line for line in first_acts(one))
        await to_finding(one, "config-unparsable")
        await one.press("a")
        await one.until(lambda: not load_acknowledged(cache))
        await one.press("escape")
        await one.until(lambda: "✗ config" in one.text)


async def test_with_read_only_nothing_is_acknowledged_or_mended(tmp_path: Path) -> None:
    cache = faulty(tmp_path / "image")
    before = tree(cache)
    async with desk(cache, read_only=True) as one:
        await opened(one)
        await one.press("a")
        await one.until(lambda: "started with --read-only" in one.status)
        await one.open("m", "RepairScreen")
        await one.until(lambda: "nothing is changed" in one.status)
        await one.press("y")
        await one.until(lambda: "not done: started with --read-only" in one.status)
    assert tree(cache) == before
    assert not (cache / ".ocitui").exists()


async def test_enter_goes_to_the_entry(tmp_path: Path) -> None:
    async with desk(faulty(tmp_path / "image")) as one:
        await one.press("slash", *"busybox", "enter")
        await opened(one)
        await to_finding(one, "file-missing")
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen")
        entry = one.table.cursor_entry
        assert entry is not None
        assert entry.digest == NGINX.digest
        await one.until(lambda: "the packed file is not there" in one.text)


async def test_a_check_goes_on_when_its_screen_is_left_and_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await opened(one)
        held = [True]
        monkeypatch.setattr(Examination, "_deep", lambda self, packed: wait_while(held, self.stop))
        await one.press("3")
        await one.until(lambda: one.live.deep.running)
        await one.press("escape")
        await one.until(lambda: "deep check" in one.status)
        await one.press("ctrl+c")
        await one.until(lambda: "cancelling the check" in one.status)
        held.clear()
        await one.until(lambda: not one.live.deep.running)
        await one.press("p")
        await one.until(lambda: "was cancelled" in one.status)


async def test_a_check_is_cancelled_before_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await opened(one)
        with monkeypatch.context() as held:
            held.setattr(one.live, "settle", asyncio.Event().wait)
            await one.press("3")
            await one.until(lambda: one.live.deep.running)
            await one.press("x")
            await one.until(lambda: not one.live.deep.running)
            await one.until(lambda: "was cancelled" in one.status)
        await one.press("3")
        await one.until(lambda: "deep check: " in one.live.deep.said, "it can be made again")


async def test_files_are_followed_while_a_deep_check_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    held = [True]
    monkeypatch.setattr(Examination, "_deep", lambda self, packed: wait_while(held, self.stop))
    async with desk(cache) as one:
        await opened(one)
        await one.press("3")
        await one.until(lambda: one.live.deep.running and one.live.deep.progress is not None)
        packed_path(cache, TEA).unlink()
        await one.until(lambda: "1 high" in coverage(one), "the missing file")
        assert one.live.deep.running
        held.clear()
        await one.until(lambda: not one.live.deep.running)


def first(one: Desk) -> list[str]:
    """What is to be done first, line by line."""
    return [line.strip() for line in one.bar_at("#coverage").split("\n")[1:]]


async def test_what_to_do_first_stands_behind_its_key(tmp_path: Path) -> None:
    cache = faulty(tmp_path / "image")
    async with desk(cache) as one:
        await opened(one)
        await one.until(lambda: "file-missing" in codes(one))
        unread = "3 reads all bytes: those of 6 packed files were not read as they are now"
        await one.until(lambda: first(one) == [unread])
        assert first_acts(one) == [
            "1 high: Look for copies of 1 config; nothing is lost: m Mend",
            "1 high: Look for copies of 1 packed file; nothing is lost: m Mend",
            "1 low: Trash 1 file that no entry names; nothing is lost: m Mend",
        ]
        await one.until(lambda: "m Mend       1 high" in one.text, "all of it is seen")
        lines = one.text.split("\n")
        assert [lines[3].strip()] == first(one)
        assert lines[4].startswith("── DO FIRST M plans all; nothing is changed before y ──")
        assert lines[5].startswith("▸ ✗ Look for copies of 1 config; nothing is lost  ")
        assert lines[5].rstrip().endswith("m Mend       1 high")
        await one.open("M", "RepairScreen")
        await planned(one)
        assert "1 step," in one.lines
        await one.until(lambda: "orphan-file: aaaaaaaaaaaa" in one.text, "what stays")


@pytest.mark.parametrize("key", ["m", "enter"])
async def test_a_line_of_it_plans_what_it_says(tmp_path: Path, key: str) -> None:
    """Also what a plan of all only offers."""
    cache = faulty(tmp_path / "image")
    (cache / f"{TEA.digest}.config.json").write_text("{")
    async with desk(cache) as one:
        await opened(one)
        await one.until(
            lambda: first_acts(one)[:1] == ["2 high: Look for copies of 2 configs; nothing is lost: m Mend"]
        )
        await one.press(key)
        await planned(one)
        plan = one.app.screen._plan  # type: ignore[attr-defined]
        assert [[finding.code for finding in step.findings] for step in plan.made] == [["config-unparsable"]] * 2
        await one.press("escape", "j", "j")
        await one.open(key, "RepairScreen")
        await planned(one)
        await one.until(lambda: "[●] 1 Move the files of aaaaaaaaaaaa" in one.text, "the step")
        assert "1 step," in one.lines
        await one.press("y")
        await one.until(lambda: "mended in" in one.status)
        assert (cache / f"{BUSYBOX.digest}.config.json").exists()
        assert not (cache / f"sha256:{'a' * 64}.squashfs").exists()


async def test_a_full_disk_comes_first_with_the_key_that_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = faulty(tmp_path / "image")
    full = os.statvfs_result((4096, 4096, 1000, 0, 0, 100, 50, 50, 0, 255))
    async with desk(cache) as one:
        monkeypatch.setattr(os, "statvfs", lambda _: full)
        one.live.read_again()
        await opened(one)
        await one.until(lambda: "disk-full" in codes(one))
        assert codes(one)[:3] == ["HIGH", "disk-full", "config-unparsable"]
        makes_room = BY_NAME["room"]
        key = f"{makes_room.key_label} {makes_room.label}"
        assert first_acts(one)[0] == f"1 high: {capital(CATALOGUE['disk-full'].mend)}: {key}"
        await one.until(lambda: key in one.text, "its line is drawn")
        await one.press("home", "enter")
        await one.until(lambda: one.top == "RoomScreen")


def test_what_is_to_be_done_by_hand_has_a_key_of_the_table() -> None:
    by_hand = {code for code, fault in CATALOGUE.items() if fault.mend and fault.step is None}
    assert set(_BY_HAND) == by_hand
    assert set(_BY_HAND.values()) < set(BY_NAME)


async def test_of_many_lines_the_first_stand_there_and_how_many_there_are(tmp_path: Path) -> None:
    cache = faulty(tmp_path / "image")
    packed_path(cache, TEA).chmod(0)
    (cache / f"{ALPINE.digest}.manifest.json").write_text("{")
    (cache / ".ocitui-left").write_text("")
    async with desk(cache) as one:
        await opened(one)
        await one.until(lambda: "DO FIRST 4 of 6: M plans all; nothing is changed before y" in one.text)
        assert len(first_acts(one)) == 4


async def test_no_copy_is_promised_of_what_a_repair_took_out(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA, NGINX))
    packed_path(cache, TEA).write_bytes(b"")
    let_come_back(cache)
    async with desk(cache) as one:
        await opened(one)
        await one.until(lambda: "packed-empty" in codes(one))
        await one.press("m")
        await planned(one)
        await one.press("y")
        await one.until(lambda: "mended in" in one.status)
        await one.press("escape")
        await one.until(lambda: "file-missing" in codes(one))
        assert first_acts(one) == ["1 high: Look for copies of 1 packed file; nothing is lost: m Mend"]
        assert "FROM" not in one.text


async def test_what_was_read_is_not_offered_again(tmp_path: Path) -> None:
    """Whatever was found then, and however many have nothing to be read."""
    cache = faulty(tmp_path / "image")
    for image, size in ((TEA, 5_000), (ALPINE, 0)):
        os.truncate(packed_path(cache, image), size)
    async with desk(cache) as one:
        await opened(one)
        await one.until(lambda: any(line.startswith("3 reads") for line in first(one)), "it is offered")
        await one.press("3")
        live = one.session.live
        await one.until(lambda: live.coverage.deep == 4 and not live.deep.running, "all that can be is read")
        await one.until(lambda: not any(line.startswith("3 reads") for line in first(one)), "it is not offered again")


async def test_a_broken_index_comes_before_all_else(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        replace_index(cache, b"{")
        await one.until_corrupt()
        await opened(one)
        await one.until(lambda: "Mend the index before kratad is started" in (first(one) or [""])[0])
        # What stands in a rule is never cut without a mark.
        await one.until(lambda: any(line.startswith("── ✖ CRITICAL  Rewrite") for line in one.text.splitlines()))
        (heading,) = [line for line in one.text.splitlines() if line.startswith("── ✖ CRITICAL  Rewrite")]
        assert heading.endswith("…")


async def test_nothing_is_to_be_done_first_where_all_was_read_and_is_sound(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA, NGINX))
    await examine(cache, ExamineOptions(Depth.DEEP))
    async with desk(cache) as one:
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: "2 deep; nothing wrong" in coverage(one))
        assert first(one) == []


async def test_where_a_copy_lies_and_who_uses_what_is_bad_have_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "image", (BUSYBOX, NGINX))
    index = (cache / "index.json").read_bytes()
    async with desk(cache) as one:
        await one.session.cache.delete([(NGINX.digest, "squashfs")])
        for record in (cache / ".ocitui" / "journal").iterdir():
            record.unlink()
        replace_index(cache, index)
        packed_path(cache, BUSYBOX).write_bytes(b"hsqs" + bytes(4096))
        await opened(one)
        await one.until(lambda: "2 high" in coverage(one))
        await one.until(lambda: "trash " in one.text.partition("DO FIRST")[2], "the rows are drawn")
        assert first_acts(one) == [
            "1 high: Look for copies of 1 packed file; nothing is lost: m Mend",
            "1 high: Restore 1 packed file from the trash; nothing is lost: m Mend",
        ]
        lines = one.text.split("\n")
        head, *found = [line for line in lines[: lines.index(" " * 80)] if "HIGH" in line or " sq " in line]
        assert "FROM" in head
        assert "USED BY" not in one.text
        at = head.index("FROM")
        assert [(BUSYBOX.name in line, line[at:].strip()) for line in found] == [(True, "–"), (False, "trash")]
        held = {f"{BUSYBOX.digest}.squashfs": ["/dev/loop7", "/dev/loop8"]}
        monkeypatch.setattr("ocitui.host.zones.users_of", lambda _: uses_of(held))
        one.live.host.find_users()
        one.live._tell_users()
        await one.until(lambda: "USED BY" in one.text, "who uses it")
        assert any("busybox:1.36" in line and line.rstrip().endswith("loop7 +1") for line in one.text.split("\n"))


async def test_the_cursor_passes_over_rules(tmp_path: Path) -> None:
    async with desk(faulty(tmp_path / "image")) as one:
        await opened(one)
        listed, seen = one.app.screen.query_one(PickList), list[str | None]()
        for key in ("home", "k", "j", "j", "j", "k", "home", "end"):
            await one.press(key)
            seen.append(listed.key)
        first, second, third, fourth, *_, last = (row.key for row in listed.rows if not row.rule)
        assert seen == [first, first, second, third, fourth, third, first, last]
        assert "HIGH" in one.text
