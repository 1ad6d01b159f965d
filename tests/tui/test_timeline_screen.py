"""The timeline: what was done and by whom, filtered, told in full and undone; and what an entry's own tab has of it."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.events import AppBlur, AppFocus

from ocitui.cache import Transaction
from ocitui.cache.records import Moved, Placed
from ocitui.tui.screens import changes
from ocitui.tui.screens.changes import _searched, timeline_row, transaction_lines
from ocitui.tui.widgets.bars import OneLineQuestion
from ocitui.tui.widgets.lines import PickList, PickRow
from tests.tui.cache_support import NGINX, TEA, Image, make_cache, packed_path
from tests.tui.screen_support import MIDDLE, SMALL, WIDE, Desk, desk

pytestmark = pytest.mark.slow

LONG = Image(f"registry.corp.example.com/platform/{'web' * 9}:2024.06")


def rows(one: Desk) -> list[str]:
    return [row.text for row in one.app.screen.query_one(PickList).rows]


def right(one: Desk) -> list[str]:
    return [row.right for row in one.app.screen.query_one(PickList).rows]


async def two_deleted(one: Desk) -> None:
    """TEA and then NGINX are deleted, and the timeline is open."""
    for image in (TEA, NGINX):
        await one.session.cache.delete([(image.digest, "squashfs")])
    await one.until(lambda: one.table.total == 5)
    await one.open("t", "TimelineScreen")
    await one.until(lambda: len(rows(one)) == 2)


async def filtered(one: Desk, text: str, count: int) -> None:
    await one.press("slash", "ctrl+u", *text, "enter")
    await one.until(lambda: len(rows(one)) == count, f"{count} with {text}")


def test_a_file_that_was_replaced_is_one() -> None:
    came, went = Placed("config.json", 2, 1, path="there"), Moved("config.json", 1, 1, trash="000001-abcd~config.json")
    one = Transaction(id="000001-abcd", kind="repair", started=1.0, by="me", placed=[came], displaced=[went])
    assert "config.json 1 file" in timeline_row(one, True).text
    assert transaction_lines(one)[0].text.endswith(", 1 file")


@pytest.mark.parametrize("size", [SMALL, MIDDLE, WIDE])
async def test_the_newest_first_and_what_left_the_index(size: tuple[int, int], tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image"), size) as one:
        await two_deleted(one)
        assert "nginx" in rows(one)[0]
        assert "tea/pot" in rows(one)[1]
        assert all("− delete" in row for row in rows(one))
        assert f"− {NGINX.name}" in one.lines.replace("\n", " ")
        assert "done; u undoes it" in one.lines
        await one.press("j")
        await one.until(lambda: f"− {TEA.name}" in one.lines)
        await one.session.cache.undo(None)
        await one.press("escape")
        await one.open("t", "TimelineScreen")
        await one.until(lambda: len(rows(one)) == 3 and f"+ {NGINX.name}" in one.lines, "what came back")


async def test_a_row_that_is_too_long_ends_with_the_mark_of_a_cut_before_its_size(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image", [LONG]), (48, 24)) as one:
        await one.session.cache.delete([(LONG.digest, "squashfs")])
        await one.open("t", "TimelineScreen")
        await one.until(lambda: len(rows(one)) == 1)
        [row] = [line for line in one.text.split("\n") if "− delete" in line]
        text = row.partition(right(one)[0])[0].rstrip()
        assert text.endswith("…"), row
        assert rows(one)[0].startswith(text.removeprefix(">").removeprefix("▸").strip(" …"))


async def test_it_is_filtered_by_name_by_kind_and_by_who(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        really = one.session.cache.transactions

        async def by_two() -> list[Transaction]:
            return [
                replace(done, by=f"ocitui 1 (process 7, {who}@host7)")
                for done, who in zip(await really(), ("eve", "adam"), strict=True)
            ]

        monkeypatch.setattr(one.session.cache, "transactions", by_two)
        await two_deleted(one)
        assert [text.split()[-1] for text in right(one)] == ["eve", "adam"]
        await filtered(one, "NGINX", 1)
        assert "1 of 2 transactions with 'NGINX'" in one.status
        await filtered(one, "adam", 1)
        assert "tea/pot" in rows(one)[0]
        await filtered(one, TEA.digest[7:20], 1)
        await filtered(one, "delete", 2)
        await filtered(one, "nobody", 0)
        assert "no transaction is about that" in one.lines
        await one.press("u")
        await one.until(lambda: "there is nothing to undo" in one.status)
        await filtered(one, "", 2)
        assert "2 transactions; what they moved to the trash" in one.status


async def test_one_is_undone_from_it_and_can_then_not_be_undone_again(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await two_deleted(one)
        await one.press("j", "u")
        await one.until(lambda: one.top == "UndoScreen" and "before y" in one.status)
        await one.press("y")
        await one.until(lambda: one.table.total == 6)
        assert packed_path(cache, TEA).exists()
        await one.open("t", "TimelineScreen")
        await one.until(lambda: len(rows(one)) == 3)
        await one.press("G")
        await one.until(lambda: "a later one reversed it" in one.lines)
        assert right(one)[2].startswith("undone ")
        await one.press("u")
        await one.until(lambda: "it cannot be undone: it is undone, a delete" in one.status)
        assert one.top == "TimelineScreen"


async def test_what_was_emptied_cannot_be_undone_and_says_so(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.session.cache.delete([(TEA.digest, "squashfs")])
        await one.session.cache.empty_trash()
        await one.open("t", "TimelineScreen")
        await one.until(lambda: "its files were removed from the trash since, for good" in one.lines.replace("\n", " "))
        await one.press("enter")
        await one.until(lambda: "it cannot be undone: it is emptied, a delete" in one.status)


async def test_the_trash_is_reached_from_it_and_what_is_undone_there_is_asked_about(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await two_deleted(one)
        await one.open("X", "TrashScreen")
        await one.until(lambda: len(rows(one)) == 8)
        await one.open("escape", "TimelineScreen")
        await one.open("X", "TrashScreen")
        await one.until(lambda: len(rows(one)) == 8)
        await one.open("u", "UndoScreen")
        await one.open("escape", "MainScreen")


async def test_what_was_emptied_from_it_is_told_on_the_way_back(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.session.cache.delete([(TEA.digest, "squashfs")])
        await one.open("t", "TimelineScreen")
        await one.until(lambda: "done; u undoes it" in one.lines)
        await one.open("X", "TrashScreen")
        await one.until(lambda: len(rows(one)) == 4)
        await one.press("e")
        await one.until(lambda: one.top == "EmptyTrashScreen" and "nothing brings them back" in one.status)
        await one.press("y")
        await one.until(lambda: "free again" in one.status)
        await one.open("escape", "TimelineScreen")
        await one.until(lambda: "removed from the trash since, for good" in one.lines.replace("\n", " "))
        assert "what they moved to the trash: 0B" in one.status


@pytest.mark.parametrize("way", ["tab", "click"])
async def test_a_filter_that_is_left_without_enter_stays_and_the_keys_work(tmp_path: Path, way: str) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await two_deleted(one)
        await one.press("slash", *"tea")
        if way == "tab":
            await one.press("tab")
        else:
            await one.pilot.click(PickList, offset=(5, 1))
        await one.until(lambda: len(rows(one)) == 1 and "1 of 2 transactions with 'tea'" in one.status)
        assert not one.app.screen.query_one(OneLineQuestion).display
        await one.open("u", "UndoScreen")


async def test_a_terminal_that_is_not_looked_at_leaves_the_question_open(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await two_deleted(one)
        await one.press("slash", *"te")
        one.app.post_message(AppBlur())
        await one.until(lambda: one.app.focused is None)
        one.app.post_message(AppFocus())
        await one.until(lambda: one.focused == "OneLineQuestion")
        await one.press("a", "enter")
        await one.until(lambda: "1 of 2 transactions with 'tea'" in one.status)


async def test_long_records_are_read_beside_the_keys_and_searched_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, searched = Counter[str](), Counter[str]()

    def row(transaction: Transaction, first: bool) -> PickRow:
        drawn[threading.current_thread().name] += 1
        return timeline_row(transaction, first)

    def text(transaction: Transaction) -> str:
        searched[transaction.id] += 1
        return _searched(transaction)

    monkeypatch.setattr(changes, "timeline_row", row)
    monkeypatch.setattr(changes, "_searched", text)
    async with desk(make_cache(tmp_path / "image")) as one:
        await two_deleted(one)
        assert not searched
        await filtered(one, "nginx", 1)
        await filtered(one, "tea", 1)
        await filtered(one, "", 2)
    assert list(searched.values()) == [1, 1]
    assert drawn
    assert "MainThread" not in drawn


async def test_the_history_of_an_entry_is_its_own(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image"), WIDE) as one:
        await one.press("6")
        await one.until(lambda: "nothing was done to it here" in one.text)
        done = await one.session.cache.delete([(TEA.digest, "squashfs"), (NGINX.digest, "squashfs")])
        await one.session.cache.undo(done.id)
        await one.until(lambda: one.table.total == 7)
        await one.press("j", "j")
        await one.settle()
        assert one.table.cursor_entry is not None
        assert one.table.cursor_entry.digest == TEA.digest
        await one.until(lambda: "delete" in one.text and "undo" in one.text, "what was done to it")
        await one.press("k")
        await one.until(lambda: "nothing was done to it here" in one.text, "another one's")


async def test_the_history_is_made_beside_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, really = set[str](), vars(Transaction)["image_digests"]

    def digests(transaction: Transaction) -> list[str]:
        threads.add(threading.current_thread().name)
        return list(really.fget(transaction))

    async with desk(make_cache(tmp_path / "image")) as one:
        await one.session.cache.delete([(TEA.digest, "squashfs")])
        monkeypatch.setattr(Transaction, "image_digests", property(digests))
        await one.press("6")
        await one.until(lambda: "nothing was done to it here" in one.text)
    assert threads
    assert "MainThread" not in threads
