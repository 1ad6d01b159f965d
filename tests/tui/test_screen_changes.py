"""Deleting, undoing, the journal, and every refusal."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.cache import Condition, LockedError, StorageError
from ocitui.cache.actor import author_of, whoami
from ocitui.host.daemon import DaemonState
from ocitui.tui.screens.changes import UndoScreen
from ocitui.words.lines import Line
from tests.host.loops import loop_device
from tests.tui.cache_support import (
    ALPINE,
    BUSYBOX,
    NGINX,
    SEVEN,
    TEA,
    Image,
    index_bytes,
    make_cache,
    packed_path,
    replace_index,
    tree,
    write_index,
)
from tests.tui.screen_support import MIDDLE, SMALL, WIDE, Desk, desk

pytestmark = pytest.mark.slow

_RUNNING = DaemonState(process=77, since=1_767_225_600.0, ours=True)


def files(cache: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """What stands in the cache, apart from what is ocitui's own."""
    return {name: facts for name, facts in tree(cache).items() if not name.startswith(".")}


async def plan_shown(one: Desk) -> None:
    await one.until(lambda: "nothing is changed before y" in one.status, "the plan")


@pytest.mark.parametrize("size", [SMALL, MIDDLE, WIDE])
async def test_delete_shows_a_plan_and_y_does_it(tmp_path: Path, size: tuple[int, int]) -> None:
    cache = make_cache(tmp_path / "image")
    before = files(cache)
    async with desk(cache, size, daemon=_RUNNING) as one:
        await one.press("j", "j")
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        for words in ("host7", "kratad up", "delete"):
            assert words in one.header
        assert "On host7: 1 entry leaves the index, 3 files go to the trash" in one.lines
        assert "kratad is running: it keeps the index in memory" in one.lines.replace("\n", " ")
        for words in (TEA.name, TEA.digest, "squashfs", "manifest.json", "config.json", "1016K"):
            assert words in one.text, "all of it is seen at once"
        for key in ("enter", "d", "space", "escape"):
            await one.press(key)
            assert files(cache) == before
        assert one.top == "MainScreen"
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        await one.press("y")
        await one.until(lambda: one.top == "MainScreen" and "1 entry deleted" in one.status)
        await one.until(lambda: one.table.total == 6)
        assert not packed_path(cache, TEA).exists()


async def test_enter_cancels(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    before = tree(tmp_path)
    async with desk(cache) as one:
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen")
    assert tree(tmp_path) == before


async def test_deleting_what_is_in_use_is_asked_twice(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    with loop_device(packed_path(cache, TEA)) as device:
        async with desk(cache) as one:
            await one.press("j", "j")
            await one.open("d", "DeleteScreen")
            await plan_shown(one)
            assert str(device) in one.lines
            await one.press("Y")
            assert not await one.session.cache.transactions(), "one answer is not enough"
            await one.press("y")
            await one.until(lambda: f"needed by {device}" in one.status)
            assert not await one.session.cache.transactions()
            await one.press("Y")
            await one.until(lambda: "1 entry deleted" in one.status)
            assert not packed_path(cache, TEA).exists()


async def test_what_was_done_is_told_in_full_beside_a_filter(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.press("slash", *"busybox", "enter", "a")
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        await one.press("y")
        await one.until(lambda: "entries deleted, u undoes it" in one.text)
        await one.open("u", "UndoScreen")
        await plan_shown(one)
        await one.press("y")
        await one.until(lambda: "undone by" in one.text)


@pytest.mark.parametrize(("who", "kind"), [("root@elsewhere", "bad"), (author_of(whoami()), "plain")])
async def test_an_undo_warns_of_another_s_transaction_and_not_of_another_program_s(
    who: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        with monkeypatch.context() as patched:
            patched.setattr("ocitui.cache.transactions.whoami", lambda: f"ocitui (process 1, {who})")
            await one.session.cache.delete([(BUSYBOX.digest, "squashfs")])
        await one.open("u", "UndoScreen")
        await plan_shown(one)
        lines = await UndoScreen.plan(one.app.screen)  # type: ignore[arg-type]
        [by] = [line for line in lines if isinstance(line, Line) and line.label == "by"]
        assert (by.text, by.kind) == (f"ocitui (process 1, {who})", kind)


async def test_marked_entries_go_in_one_transaction_and_come_back(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    before = files(cache)
    async with desk(cache) as one:
        await one.press("slash", *"alpine", "enter", "a", "escape", "home", "space")
        assert "4 marked" in one.status
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        assert "4 entries leave the index" in one.lines
        assert "Kept, because another format of that digest uses them" in one.lines
        await one.press("y")
        await one.until(lambda: one.table.total == 3)
        await one.until(lambda: "4 entries deleted" in one.status)
        assert one.table.rows.marked == []
        assert packed_path(cache, BUSYBOX, "erofs").exists()
        await one.open("u", "UndoScreen")
        await plan_shown(one)
        assert "Back into the index" in one.lines
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen")
        assert one.table.total == 3
        await one.open("u", "UndoScreen")
        await plan_shown(one)
        await one.press("y")
        await one.until(lambda: one.table.total == 7)
        await one.until(lambda: "undone by" in one.status)
    assert files(cache).keys() == before.keys()
    assert files(cache)["index.json"][3] == before["index.json"][3]


async def test_what_is_said_during_a_change_promises_no_undo_and_goes_with_its_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.session.cache.delete([(TEA.digest, "squashfs")])
        held = asyncio.Event()

        async def empty_trash(**_: object) -> None:
            await held.wait()
            raise StorageError("the disk is gone")

        monkeypatch.setattr(one.session.cache, "empty_trash", empty_trash)
        await one.open("X", "TrashScreen")
        await one.until(lambda: "3 files" in one.status)
        await one.open("e", "EmptyTrashScreen")
        await one.until(lambda: "nothing brings them back" in one.status)
        await one.press("y", "ctrl+c")
        assert one.status == " at work; it is finished first"
        held.set()
        await one.until(lambda: "Not done: the disk is gone" in one.lines)
        await one.until(lambda: "nothing brings them back" in one.status)


async def test_what_others_delete_is_told_though_it_was_asked_about_here_and_not_done(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.press("a")
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen")
        write_index(cache, (TEA,))
        await one.until(lambda: "6 entries left the index" in one.status)


async def test_nothing_to_undo(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("u", "UndoScreen")
        await one.until(lambda: "there is nothing to undo" in one.lines)
        await one.press("y", "enter")
        await one.until(lambda: one.top == "MainScreen")


async def test_the_journal_lists_and_undoes_any(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.open("t", "TimelineScreen")
        await one.until(lambda: "no transaction yet" in one.status)
        await one.press("enter", "escape")
        for number, entries in ((1, 6), (2, 5)):
            await one.press("end")
            await one.open("d", "DeleteScreen")
            await plan_shown(one)
            await one.press("y")
            await one.until(lambda entries=entries: one.table.total == entries, f"deletion {number}")  # type: ignore[misc]
        await one.open("t", "TimelineScreen")
        await one.until(lambda: "2 transactions" in one.status)
        assert "nginx:1.25.3 squashfs" in one.text
        assert "alpine:3.19 tar" in one.text
        await one.press("j", "enter")
        await one.until(lambda: one.top == "UndoScreen")
        await plan_shown(one)
        await one.press("y")
        await one.until(lambda: one.table.total == 6)
        assert packed_path(cache, NGINX).exists()
        await one.open("t", "TimelineScreen")
        await one.until(lambda: "3 transactions" in one.status)
        await one.press("G", "enter")
        await one.until(lambda: "cannot be undone: it is undone" in one.status)


async def test_a_plan_is_bound_to_what_it_saw(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        assert "1 file goes" in one.lines
        # The other format leaves: the documents would go along now.
        packed_path(cache, BUSYBOX, "erofs").unlink()
        write_index(cache, (TEA, ALPINE, NGINX), [BUSYBOX.descriptor("squashfs")])
        await one.until(lambda: one.table.total == 6)
        await one.press("y")
        await one.until(lambda: "the cache has changed since the plan was shown" in one.lines.replace("\n", " "))
        await plan_shown(one)
        assert "3 files go" in one.lines
        assert packed_path(cache, BUSYBOX).exists()
        await one.press("y")
        await one.until(lambda: one.table.total == 5)
        assert not packed_path(cache, BUSYBOX).exists()


async def test_an_entry_that_is_gone_by_now(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        write_index(cache, (TEA, ALPINE, NGINX))
        await one.until(lambda: one.table.total == 5)
        await one.press("y")
        await one.until(lambda: "there is no entry" in one.lines)
        await one.press("y", "escape")
        await one.until(lambda: one.top == "MainScreen")
        assert packed_path(cache, BUSYBOX).exists()


async def test_a_name_that_rolls_back_is_told(tmp_path: Path) -> None:
    older = Image("docker.io/library/app:1", command=("old",))
    newer = Image("docker.io/library/app:1", command=("new",))
    async with desk(make_cache(tmp_path / "image", (older, newer))) as one:
        await one.press("end")
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        assert "These names will then stand for another image" in one.lines
        assert older.digest[:19] in one.lines


@contextmanager
def _locked(cache: Path, holder: str) -> Iterator[None]:
    own = cache / ".ocitui"
    own.mkdir(exist_ok=True)
    (own / "lock").write_text(holder)
    fd = os.open(own / "lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


async def test_a_lock_says_who_holds_it(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    before = files(cache)
    holder = "ocitui (process 77, eve@host8) since 2026-01-01 00:00:00Z: delete entries"
    async with desk(cache) as one:
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        with _locked(cache, holder):
            await one.press("y")
            await one.until(lambda: "eve@host8" in one.lines)
            await plan_shown(one)
            assert files(cache) == before
        await one.press("y")
        await one.until(lambda: one.table.total == 6)


async def test_a_lock_in_the_way_of_a_key_is_told_without_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LockedError("the cache is locked by ocitui (process 77, eve@host8)")

    monkeypatch.setattr("ocitui.tui.screens.problems.acknowledge", refuse)
    cache = make_cache(tmp_path / "image")
    packed_path(cache, TEA).unlink()
    async with desk(cache) as one:
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: "a Acknowledge" in one.keys)
        await one.press("a")
        await one.until(lambda: "eve@host8" in one.status)
        assert one.status.endswith("(wait for it and try again, or end that program)")


async def test_a_lock_is_waited_for_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        assert "w Wait" not in one.keys
        with _locked(cache, "ocitui (process 77, eve@host8)"):
            await one.press("w")
            assert "nothing is changed before y" in one.status, "nothing stood in the way yet"
            await one.press("y")
            await one.until(lambda: "w Wait" in one.keys)
            assert "w does it once" in one.lines.replace("\n", " ")
            await one.press("w")
            await one.until(lambda: "waiting: the cache is locked by ocitui (process 77" in one.status)
            await one.press("escape")
            await one.until(lambda: "nothing is changed before y" in one.status)
            with monkeypatch.context() as refused:
                refused.setattr(one.session, "refusal", lambda action: "the index is corrupt")
                await one.press("w")
                await one.until(lambda: "not done: the index is corrupt" in one.status)
            await one.press("y")
            await one.until(
                lambda: "w does it once" in one.lines.replace("\n", " ") and "nothing is changed before y" in one.status
            )
            await one.press("w")
            await one.until(lambda: "waiting: the cache is locked by ocitui (process 77" in one.status)
            assert one.table.total == 7
        await one.until(lambda: one.top == "MainScreen")
        await one.until(lambda: one.table.total == 6)


@pytest.mark.parametrize("key", ["d", "u", "i"])
async def test_nothing_is_written_while_the_index_is_corrupt(tmp_path: Path, key: str) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache, daemon=_RUNNING) as one:
        assert one.key_styles("Delete") == "plain"
        replace_index(cache, b'{"schemaVersion":2,"manifests":[{]}')
        await one.until_corrupt()
        await one.until(
            lambda: "Do not restart kratad: its memory is good; mend now, then have it store" in one.trouble
        )
        assert one.key_styles("Delete") == "muted"
        assert one.key_styles("Resolve") == "plain"
        await one.until(lambda: "copied aside" in one.status, "what is told last")
        await one.press(key)
        await one.until(lambda: "nothing is written while index.json is corrupt" in one.status)
        assert one.top == "MainScreen"
        replace_index(cache, index_bytes(SEVEN))
        await one.until(lambda: one.condition is Condition.SOUND)
        assert one.key_styles("Delete") == "plain"


async def test_a_plan_that_stands_when_the_index_breaks(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.open("d", "DeleteScreen")
        await plan_shown(one)
        replace_index(cache, b"{")
        await one.until(lambda: one.condition is Condition.CORRUPT)
        await one.press("y")
        await one.until(lambda: "not done: nothing is written while" in one.status)
        assert packed_path(cache, BUSYBOX).exists()


@pytest.mark.parametrize("how", ["asked for", "by itself"])
async def test_read_only(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    if how == "by itself":
        monkeypatch.setattr(os, "access", lambda *_: False)
    before = tree(tmp_path)
    async with desk(cache, read_only=how == "asked for") as one:
        assert " ro" in one.header
        assert one.key_styles("Delete") == "muted"
        reason = "--read-only" if how == "asked for" else "may not write"
        for key in ("d", "u", "i", "m", "P"):
            await one.press(key)
            assert reason in one.status
            assert one.top == "MainScreen"
        await one.open("r", "ResolveScreen")
        await one.until(lambda: "HIT" in one.lines)
    assert tree(tmp_path) == before
