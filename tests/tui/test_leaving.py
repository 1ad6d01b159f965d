"""Every full screen is left with `q`, and `:` leads from each to any other, but not while a change is under way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ocitui.cache import Transaction
from tests.tui.cache_support import NGINX, TEA, make_cache, packed_path
from tests.tui.screen_support import Desk, desk

pytestmark = pytest.mark.slow

SCREENS = {
    "DeleteScreen": "d",
    "UndoScreen": "u",
    "PointScreen": "P",
    "TimelineScreen": "t",
    "TrashScreen": "X",
    "ProblemsScreen": "p",
    "RepairScreen": "p M",
    "VerdictScreen": "v",
    "ImportsScreen": "I",
    "ZonesScreen": "z",
}


async def opened(one: Desk, screen: str) -> None:
    for key in SCREENS[screen].split():
        if key == "M":
            await one.until(lambda: "M Mend all" in one.keys)
        await one.press(key)
    await one.until(lambda: one.top == screen, screen)


@pytest.mark.parametrize("screen", SCREENS)
async def test_commands_and_quit_from_every_full_screen(tmp_path: Path, screen: str) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, TEA).unlink()
    async with desk(cache) as one:
        await opened(one, screen)
        for keys in (":", "esc back"):
            assert keys in one.keys
        await one.open("colon", "CommandScreen")
        await one.open("escape", screen)
        await one.press("colon", *"resolve", "enter")
        await one.until(lambda: one.top == "ResolveScreen", "another screen")
        assert len(one.app.screen_stack) == 2, "the one before was left"
        await one.open("escape", "MainScreen")
        await opened(one, screen)
        await one.press("q")
        await one.until(lambda: one.app._exit, "the end")
        assert one.app.return_value == 0


async def test_nothing_is_left_while_a_change_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        held, really = asyncio.Event(), one.session.cache.delete

        async def delete(*what: object) -> Transaction:
            await held.wait()
            return await really(*what)  # type: ignore[arg-type]

        monkeypatch.setattr(one.session.cache, "delete", delete)
        await one.press("end")
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "before y" in one.status)
        await one.press("y", "q")
        await one.until(lambda: "it is finished first" in one.status)
        await one.open("colon", "CommandScreen")
        await one.press(*"problems", "enter")
        await one.until(lambda: one.top == "DeleteScreen")
        await one.rest()
        assert not one.app._exit
        assert one.top == "DeleteScreen"
        assert "it is finished first" in one.status, "why it was not left"
        held.set()
        await one.until(lambda: one.top == "MainScreen" and "1 entry deleted" in one.status)
        assert not packed_path(cache, NGINX).exists()
        await one.press("q")
        await one.until(lambda: one.app._exit)
