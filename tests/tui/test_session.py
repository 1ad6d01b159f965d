"""The session: a screen needs nothing else, and may be shown without the main screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.cache.errors import Condition, Health
from ocitui.host.daemon import DaemonState
from ocitui.tui.live import LiveChange
from ocitui.tui.screens.answers import VerdictScreen
from ocitui.tui.screens.changes import DeleteScreen, TimelineScreen, TrashScreen
from ocitui.tui.screens.help import HelpScreen
from ocitui.tui.screens.problems import ProblemsScreen
from ocitui.tui.session import ScreenOptions, SessionApp, SessionScreen
from ocitui.tui.terminal import Terminal
from ocitui.tui.widgets.lines import LinesView
from tests.tui.cache_support import TEA, make_cache
from tests.tui.screen_support import FixedSession, screen_text, text_of, until


def _session(directory: Path, *, read_only: bool = False) -> FixedSession:
    return FixedSession(ScreenOptions(directory, read_only=read_only), Terminal(), DaemonState())


class _OneScreen(SessionApp):
    def __init__(self, session: FixedSession) -> None:
        self.session = session
        super().__init__()


@pytest.mark.parametrize(
    ("screen", "shows"),
    [
        (TimelineScreen(), "no transaction yet"),
        (TrashScreen(), "the trash is empty"),
        (VerdictScreen(), "loaded"),
        (ProblemsScreen(), "looking"),
        (DeleteScreen([(TEA.digest, "squashfs")]), "1 entry leaves the index"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, SessionScreen) else "",
)
async def test_a_screen_is_shown_alone(screen: SessionScreen[None], shows: str, tmp_path: Path) -> None:
    app = _OneScreen(_session(make_cache(tmp_path / "image")))
    async with app.run_test() as pilot:
        await app.push_screen(screen)
        await until(pilot, lambda: "host7" in screen_text(app), "the host")
        await until(pilot, lambda: shows in screen_text(app), shows)


async def test_a_change_is_made_without_the_main_screen(tmp_path: Path) -> None:
    cache, said = make_cache(tmp_path / "image"), list[str | None]()
    app = _OneScreen(_session(cache))
    async with app.run_test() as pilot:
        await app.push_screen(DeleteScreen([(TEA.digest, "squashfs")]), said.append)
        await until(pilot, lambda: "To the trash" in text_of(app.screen.query_one(LinesView)))
        await pilot.press("y")
        await until(pilot, lambda: bool(said))
    assert said[0] is not None
    assert "1 entry deleted" in said[0]


@pytest.mark.parametrize(
    ("condition", "delete", "mend", "resolve"),
    [
        (Condition.SOUND, "", "", ""),
        (Condition.CORRUPT, "nothing is written while index.json is corrupt", "", ""),
        (Condition.GONE, "nothing is written while the directory is gone", "nothing is written", ""),
    ],
)
def test_what_may_be_done_now(condition: Condition, delete: str, mend: str, resolve: str, tmp_path: Path) -> None:
    session = _session(tmp_path)
    session.live.health = Health(condition)
    for action, reason in (("delete", delete), ("mend", mend), ("resolve", resolve)):
        assert session.refusal(action).startswith(reason)
        assert bool(session.refusal(action)) is bool(reason)


def test_why_nothing_may_be_written(tmp_path: Path) -> None:
    assert _session(tmp_path).live.why_read_only() == ""
    assert _session(tmp_path, read_only=True).live.why_read_only() == "started with --read-only"


def test_nothing_is_loaded_to_end_what_never_began(tmp_path: Path) -> None:
    session = _session(tmp_path)
    session.finish_work()
    assert not session.has_cache
    assert not session.has_imports


def test_what_is_said_reaches_whoever_shows_it(tmp_path: Path) -> None:
    session, told = _session(tmp_path), list[LiveChange]()
    session.live.tell = told.append
    session.say("theme light")
    assert [change.said for change in told] == ["theme light"]


async def test_a_change_that_ends_under_the_help_is_told_when_that_is_left(tmp_path: Path) -> None:
    said = list[str | None]()
    app = _OneScreen(_session(make_cache(tmp_path / "image")))
    async with app.run_test() as pilot:
        screen = DeleteScreen([(TEA.digest, "squashfs")])
        await app.push_screen(screen, said.append)
        await app.push_screen(HelpScreen())
        screen.dismiss("done")
        await pilot.pause()
        assert said == []
        await pilot.press("escape")
        await until(pilot, lambda: said == ["done"] and len(app.screen_stack) == 1, "the message")
