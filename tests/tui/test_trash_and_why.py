"""The trash, undo from the journal, why, and pointing a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.cache import Condition, PackerCache, TransactionState
from ocitui.cache.files import INDEX_NAME
from ocitui.tui.widgets.lines import PickList
from tests.tools import impatient
from tests.tui.cache_support import ALPINE, BUSYBOX, NGINX, TEA, Image, make_cache, packed_path, replace_index, tree
from tests.tui.screen_support import Desk, desk

pytestmark = pytest.mark.slow

OTHER = Image(TEA.name, ("squashfs",), size=1_040_384, steps=("another layer",))
"""An image of the same name."""


def rows(one: Desk) -> list[str]:
    return [row.text for row in one.app.screen.query_one(PickList).rows]


async def asked(one: Desk, screen: str, words: str = "before y") -> None:
    await one.until(lambda: one.top == screen and words in one.status, screen)


async def test_a_file_comes_back_from_the_trash(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.session.cache.delete([(TEA.digest, "squashfs")])
        await one.open("X", "TrashScreen")
        await one.until(lambda: len(rows(one)) == 4)
        assert "3 files" in one.status
        number = next(at for at, row in enumerate(rows(one)) if ".squashfs" in row)
        await one.press(*["j"] * number, "r")
        await asked(one, "RestoreScreen")
        await one.press("enter")
        await one.until(lambda: one.top == "TrashScreen")
        assert not packed_path(cache, TEA).exists()
        await one.press("r")
        await asked(one, "RestoreScreen")
        await one.press("y")
        await one.until(lambda: "restored in" in one.status)
        assert packed_path(cache, TEA).exists()


async def test_the_trash_is_emptied_only_when_asked(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.open("X", "TrashScreen")
        await one.until(lambda: "the trash is empty" in one.status)
        await one.press("e", "r", "u", "escape")
        done = await one.session.cache.delete([(TEA.digest, "squashfs")])
        await one.open("X", "TrashScreen")
        await one.until(lambda: len(rows(one)) == 4)
        await one.press("e")
        await asked(one, "EmptyTrashScreen", "nothing brings them back")
        assert "1 transaction can then no longer be undone" in one.lines
        await one.press("y")
        await one.until(lambda: "3 files" in one.status and "free again" in one.status)
        assert rows(one) == []
        [record] = await one.session.cache.transactions()
        assert (record.id, record.state) == (done.id, TransactionState.EMPTIED)


async def test_a_mark_draws_the_rows_anew_that_it_changes_and_no_other(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        for image in (TEA, NGINX):
            await one.session.cache.delete([(image.digest, "squashfs")])
        await one.open("X", "TrashScreen")
        await one.until(lambda: len(rows(one)) == 8)
        view = one.app.screen.query_one(PickList)
        before = view.rows
        marks = {"j": [], "space": [1], "k": [1], "home": [1], "a": [*range(8)], "A": []}
        for key, marked in marks.items():
            await one.press(key)
            assert [at for at, row in enumerate(view.rows) if row.text.startswith("●")] == marked, key
            if key == "space":
                assert [at for at, row in enumerate(view.rows) if row is not before[at]] == [0, 1]
        await one.press("home", "space")
        assert [row.text[0] for row in view.rows] == ["●"] * 4 + [" "] * 4
        await one.press("home", "j", "space")
        assert [row.text[0] for row in view.rows] == [" ", " ", "●", "●"] + [" "] * 4


async def test_the_transaction_of_a_file_is_undone_from_the_trash(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    async with desk(cache) as one:
        await one.session.cache.delete([(TEA.digest, "squashfs")])
        await one.open("X", "TrashScreen")
        await one.until(lambda: len(rows(one)) == 4)
        await one.press("u")
        await asked(one, "UndoScreen")
        await one.press("y")
        await one.until(lambda: "undone by" in one.status and one.table.total == 7)
    assert {path.name: path.read_bytes() for path in cache.iterdir() if path.is_file()} == before


async def test_a_reset_is_undone_from_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    replace_index(cache, b"{broken")
    await (await PackerCache.open(cache, on_corrupt="reset")).close()
    async with desk(cache) as one:
        assert one.condition is Condition.SOUND
        await one.press("t")
        await one.until(lambda: "1 transaction" in one.status)
        await one.press("enter")
        await asked(one, "UndoScreen")
        # What is said of the corrupt index would take the place of this.
        monkeypatch.setattr("ocitui.cache.watch.PATIENCE_SECONDS", 3600.0)
        await one.press("y")
        await one.until(lambda: "undone by" in one.status)
        impatient(monkeypatch, 0.1)
        await one.until_corrupt()
    assert (cache / INDEX_NAME).read_bytes() == b"{broken"


async def test_why_follows_the_name_to_what_the_daemon_answers(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, BUSYBOX, "erofs").unlink()
    async with desk(cache) as one:
        await one.open("w", "WhyScreen")
        await one.until(lambda: "In erofs" in one.lines)
        for word in ("✓ index", "a hit: sha256", "a miss: a launch", "✗ packed"):
            assert word in one.lines
        await one.press("home", *["delete"] * 60, *"no/such", "enter")
        await one.until(lambda: "no entry carries this name" in one.lines)
        await one.press("escape")
        assert one.top == "MainScreen"


async def test_an_entry_is_made_to_win_its_name(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA, OTHER))
    before = tree(cache)
    async with desk(cache) as one:
        await one.open("P", "PointScreen")
        await asked(one, "PointScreen")
        assert "stands for" in one.lines
        assert OTHER.digest[:40] in one.lines
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen")
        assert tree(cache) == before
        await one.open("P", "PointScreen")
        await asked(one, "PointScreen")
        await one.press("y")
        await one.until(lambda: "u points it back" in one.status)
        index = await one.session.cache.index()
        winner = index.by_name(TEA.name)
        assert winner is not None
        assert winner.digest == TEA.digest
        assert len(index) == 2


async def test_an_entry_that_wins_its_name_needs_nothing(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image", (NGINX, ALPINE))) as one:
        await one.open("P", "PointScreen")
        await one.until(lambda: "already" in one.lines)
        await one.press("y")
        assert one.top == "PointScreen"
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen")


async def test_why_of_a_corrupt_index_goes_on_with_what_can_be_salvaged(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    replace_index(cache, (cache / INDEX_NAME).read_bytes()[:-4])
    async with desk(cache) as one:
        await one.until_corrupt()
        await one.open("w", "WhyScreen")
        await one.press(*"docker.io/library/nginx", "colon", *"1.25.3", "enter")
        await one.until(lambda: "as it would be once index.json is mended" in one.lines)


async def test_a_mend_is_undone_though_the_index_is_corrupt(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    replace_index(cache, b"{broken")
    await (await PackerCache.open(cache, on_corrupt="reset")).close()
    replace_index(cache, b"{broken again")
    async with desk(cache) as one:
        await one.until_corrupt()
        await one.press("u")
        await one.until(lambda: "nothing is written while" in one.status)
        await one.press("t")
        await one.until(lambda: "1 transaction" in one.status)
        await one.press("enter")
        await asked(one, "UndoScreen")
        await one.press("y")
        await one.until(lambda: "Not done" in one.lines, "it is not what the reset made")
    assert (cache / INDEX_NAME).read_bytes() == b"{broken again"
