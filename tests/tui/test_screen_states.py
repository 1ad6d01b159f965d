"""What rows, header, banner and the problems tab say: what one judge knows by now."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from ocitui.cache import Condition, list_backups
from ocitui.doctor.acknowledged import acknowledge
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.check.index_checks import IndexReading
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.findings import Depth
from tests.cache.scenes import interrupted_delete
from tests.cache.support import corrupt_copies
from tests.host.loops import uses_of
from tests.tui.cache_support import (
    ALPINE,
    BUSYBOX,
    NGINX,
    TEA,
    flip,
    make_cache,
    packed_path,
    replace_index,
    tree,
    write_index,
)
from tests.tui.screen_support import LIMIT_SECONDS, SMALL, Desk, desk, make_app

pytestmark = pytest.mark.slow


def row(one: Desk, image: str, format: str = "squashfs") -> str:
    """The state of an image's row."""
    return next(text.removeprefix(f"{image} {format} ") for text in one.names if text.startswith(f"{image} {format}"))


async def test_a_document_that_the_daemon_refuses_makes_a_bad_row(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        (cache / f"{NGINX.digest}.config.json").write_text("{")
        await one.until(lambda: row(one, "docker.io/library/nginx") == "config")
        await one.until(lambda: "✗ 1 high" in one.header)
        (cache / f"{NGINX.digest}.config.json").write_bytes(NGINX.config)
        await one.until(lambda: row(one, "docker.io/library/nginx") == "ok")
        await one.until(lambda: "✓ no problems" in one.header)


async def test_what_is_wrong_from_the_beginning_is_found_by_itself(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    (cache / f"{BUSYBOX.digest}.manifest.json").write_bytes(BUSYBOX.manifest + b" ")
    packed_path(cache, TEA).unlink()
    async with desk(cache) as one:
        await one.until(lambda: row(one, "docker.io/library/busybox") == "wrong hash")
        assert row(one, "docker.io/library/busybox", "erofs") == "wrong hash"
        assert row(one, "registry.example.com:5000/tea/pot") == "no packed"
        await one.until(lambda: "✗ 2 high" in one.header)
        await one.press("slash", *"state", "colon", *"bad", "enter")
        await one.until(lambda: one.table.shown == 3)


async def test_the_problems_tab_says_what_was_seen_and_what_mends_it(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.press("5")
        await one.until(lambda: "no problem is known" in one.text)
        (cache / f"{BUSYBOX.digest}.config.json").write_text("{")
        await one.until(lambda: "HIGH  config-unparsable" in one.text)
        for word in ("seen", "daemon", "mend", "an error at every lookup"):
            assert word in one.text
        await one.press("1")
        await one.until(lambda: "EOF while parsing" in one.text)


async def test_what_is_acknowledged_is_no_problem(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, NGINX).unlink()
    async with desk(cache) as one:
        await one.until(lambda: "✗ 1 high" in one.header)
        report = await examine(cache, ExamineOptions(Depth.QUICK))
        # By another program.
        acknowledge(cache, [finding for finding in report.findings if finding.digest == NGINX.digest])
        # It is not a bad one any more, and nobody looked into a file that is not there.
        await one.until(lambda: row(one, "docker.io/library/nginx") == "-")
        await one.until(lambda: "✓ no problems" in one.header)


async def test_headers_are_looked_at_and_what_they_show_holds_until_the_file_is_another_one(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    good = packed_path(cache, NGINX).read_bytes()[:4096]
    packed_path(cache, NGINX).write_bytes(b"hsqs" + bytes(4096))
    async with desk(cache) as one:
        assert row(one, "docker.io/library/nginx") == "damaged"
        await one.press("R")
        await one.until(lambda: "read again" in one.status and not one.live.looking)
        assert row(one, "docker.io/library/nginx") == "damaged"
        draft = tmp_path / "draft"
        draft.write_bytes(good)
        os.truncate(draft, NGINX.size)
        draft.rename(packed_path(cache, NGINX))
        await one.until(lambda: row(one, "docker.io/library/nginx") == "ok")


async def test_what_a_deep_check_of_another_program_finds_is_shown_and_never_forgotten(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (NGINX,))
    for _ in range(2):
        await examine(cache, ExamineOptions(Depth.DEEP))
    async with desk(cache) as one:
        assert one.live.coverage.deep == 1
        await one.until(lambda: "all bytes were read and found sound" in one.lines)
        index = (cache / "index.json").read_bytes()
        replace_index(cache, b"")
        await one.until_corrupt()
        await one.until(lambda: not one.live.looking)
        assert "all bytes were read and found sound" in one.lines
        replace_index(cache, index)
        await one.until(lambda: one.condition is Condition.SOUND)
        flip(packed_path(cache, NGINX))
        await one.until(lambda: not one.live.looking and row(one, "docker.io/library/nginx") == "ok")
        await examine(cache, ExamineOptions(Depth.DEEP))
        await one.until(lambda: row(one, "docker.io/library/nginx") == "damaged")
        await one.until(lambda: "✗ 1 high" in one.header)
        await one.press("R")
        await one.until(lambda: "read again" in one.status and not one.live.looking)
        assert row(one, "docker.io/library/nginx") == "damaged"
    async with desk(cache) as one:
        assert row(one, "docker.io/library/nginx") == "damaged"
        await one.press("5")
        await one.until(lambda: "packed-damaged" in one.text)
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: "packed-damaged" in one.text)
        await one.press("escape")
        await one.open("m", "RepairScreen")
        await one.until(lambda: "packed-damaged" in one.text)


async def test_rows_that_were_not_looked_into_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    held = threading.Event()
    really = Judge.begin

    def slowly(judge: Judge, reading: IndexReading) -> None:
        held.wait(LIMIT_SECONDS)
        really(judge, reading)

    monkeypatch.setattr(Judge, "begin", slowly)
    app = make_app(cache)
    async with app.run_test(size=SMALL) as pilot:
        one = Desk(app, pilot)
        await one.until(lambda: one.table.total == 7, "rows, before anything was listed")
        assert {name.rpartition(" ")[2] for name in one.names} == {"-"}
        assert one.text.count("? not looked") >= 7
        assert "? looking" in one.header
        assert " ok" not in one.text
        held.set()
        await one.until(lambda: {name.rpartition(" ")[2] for name in one.names} == {"ok"})


@pytest.mark.parametrize("damage", ["file", "index", "both"])
async def test_rows_header_banner_and_problems_agree(tmp_path: Path, damage: str) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        if damage != "index":
            packed_path(cache, NGINX).unlink()
            await one.until(lambda: row(one, "docker.io/library/nginx") == "no packed")
        if damage != "file":
            replace_index(cache, (cache / "index.json").read_bytes()[:-9])
            await one.until(lambda: one.condition is Condition.CORRUPT)
        await one.until(lambda: bool(one.live.severities) and not one.live.looking)
        problems = [finding for finding in one.live.findings() if finding.is_problem]
        entries = one.live.entries
        assert entries is not None
        assert sum(entries.state(at).bad for at in range(7)) == (damage != "index")
        assert one.live.severities == Counter(finding.severity for finding in problems)
        assert bool(one.trouble) is (damage != "file")
        assert {finding.code for finding in problems} == {
            "file": {"file-missing"},
            "index": {"index-unparsable"},
            "both": {"index-unparsable"},
        }[damage]
        assert ("✗ 1 high" if damage == "file" else "index broken") in one.header


async def test_entries_that_a_loop_device_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    held = {packed_path(cache, ALPINE, "erofs").name: ["/dev/loop3"]}
    monkeypatch.setattr("ocitui.host.zones.users_of", lambda _: uses_of(held))
    async with desk(cache) as one:
        one.live.host.find_users()
        one.live._tell_users()
        await one.press("slash", *"used", "colon", "enter")
        await one.until(lambda: one.table.shown == 1)
        assert one.names == ["docker.io/library/alpine erofs ok"]
        monkeypatch.setattr("ocitui.host.zones.users_of", lambda _: {})
        one.live.host.find_users()
        one.live._tell_users()
        await one.until(lambda: one.table.shown == 0)


async def test_what_loop_devices_hold_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, held = make_cache(tmp_path / "image"), dict[str, list[str]]()
    monkeypatch.setattr("ocitui.host.zones.users_of", lambda _: uses_of(held))
    monkeypatch.setattr("ocitui.tui.live._HOST_SECONDS", 0.01)
    async with desk(cache) as one:
        await one.press("slash", *"used", "colon", "enter")
        await one.until(lambda: one.table.shown == 0)
        held[packed_path(cache, ALPINE, "erofs").name] = ["/dev/loop3"]
        await one.until(lambda: one.table.shown == 1)


async def test_entries_that_left_the_index_without_a_word(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.until(lambda: bool(list_backups(cache)))
        write_index(cache, ())
        await one.until(lambda: "holds no entry, beside" in one.trouble)
        assert "mend the index before kratad is started" in one.trouble.lower()
        write_index(cache, (BUSYBOX, TEA, ALPINE))
        await one.until(lambda: "of the newest backup is gone" in one.trouble)
        write_index(cache, (BUSYBOX, TEA, ALPINE, NGINX))
        await one.until(lambda: not one.trouble)


async def test_files_that_nobody_names_count_as_a_problem(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    (cache / f"sha256:{'a' * 64}.squashfs").write_bytes(b"hsqs")
    async with desk(cache) as one:
        await one.until(lambda: "· 1 low" in one.header)


async def test_each_sound_index_that_is_seen_is_kept(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (BUSYBOX,))
    async with desk(cache) as one:
        await one.until(lambda: [kept.entries for kept in list_backups(cache)] == [2])
        make_cache(cache, (BUSYBOX, TEA))
        await one.until(lambda: [kept.entries for kept in list_backups(cache)] == [3, 2])


async def test_the_bytes_of_a_corrupt_index_are_copied_aside(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    broken = (cache / "index.json").read_bytes()[:-20]
    replace_index(cache, broken)
    before = tree(cache)
    async with desk(cache) as one:
        await one.until_corrupt()
        assert [*corrupt_copies(cache).values()] == [broken]
    assert tree(cache) == before


async def test_it_begins_as_whatever_writes_does(tmp_path: Path) -> None:
    """What was interrupted is finished or rolled back, and told; there is room for a full disk."""
    cache = make_cache(tmp_path / "image")
    before = (cache / "index.json").read_bytes()
    await interrupted_delete(cache)
    async with desk(cache, read_only=True) as one:
        await one.until(lambda: not one.live.looking)
    assert list((cache / ".ocitui" / "journal").glob("*.pending.json"))
    shutil.rmtree(cache / ".ocitui" / "reserve")
    async with desk(cache) as one:
        await one.until(lambda: "which was interrupted, is rolled back" in one.status)
    assert (cache / ".ocitui" / "reserve" / "index").stat().st_size > len(before)
    assert (cache / "index.json").read_bytes() == before
    assert not list((cache / ".ocitui" / "journal").glob("*.pending.json"))


async def test_with_read_only_nothing_is_written(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache, read_only=True) as one:
        (cache / f"{NGINX.digest}.config.json").write_text("{")
        await one.until(lambda: row(one, "docker.io/library/nginx") == "config")
        for key in ("g", "j", "k", "G"):
            await one.press(key)
            assert "m plans" not in one.text
        replace_index(cache, b"{")
        await one.until(lambda: one.condition is Condition.CORRUPT)
        await one.rest()
        assert "m mends it" not in one.text
    assert not (cache / ".ocitui").exists()


async def test_an_edit_that_was_overwritten_is_said(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        index = (cache / "index.json").read_bytes()
        await one.session.cache.delete([(TEA.digest, "squashfs")])
        await one.until(lambda: one.table.total == 6)
        replace_index(cache, index)
        await one.until(lambda: "is gone from the index again: p offers it again" in one.status)
