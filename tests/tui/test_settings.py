"""How the screen is to look: read back as it was kept, nothing created unasked, and what is odd is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocitui.cache import ConflictError
from ocitui.tui.session import (
    LAYOUTS,
    ScreenOptions,
    ScreenSettings,
    Session,
    keep_settings,
    read_settings,
    settings_path,
)
from tests.tui.cache_support import make_cache, tree
from tests.tui.screen_support import SMALL, WIDE, desk

pytestmark = pytest.mark.slow


def test_what_was_kept_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "config" / "ocitui" / "settings.toml"
    chosen = ScreenSettings("light", "table", 35, 70, "size", True, "violet")
    keep_settings(tmp_path / "image", path, chosen)
    assert read_settings(path) == (chosen, "")
    keep_settings(tmp_path / "image", path, ScreenSettings())
    assert read_settings(path) == (ScreenSettings(), ""), "a later one takes its place"
    assert [*path.parent.iterdir()] == [path]


def test_without_a_file_nothing_is_said_and_none_is_made(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "ocitui" / "settings.toml") == (ScreenSettings(), "")
    assert not any(tmp_path.iterdir())


def test_a_directory_of_settings_that_is_relative_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for base in ("", "config", "./config"):
        assert settings_path({"XDG_CONFIG_HOME": base}) == tmp_path / ".config" / "ocitui" / "settings.toml"
    assert settings_path({"XDG_CONFIG_HOME": "/etc/xdg"}) == Path("/etc/xdg/ocitui/settings.toml")
    assert settings_path({}) == tmp_path / ".config" / "ocitui" / "settings.toml"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"theme = ", "is not read"),
        (b"theme = \xff", "is not read"),
        (b'theme = "light"\n' + b"#" * (1 << 16), "is not read: it has"),
        (b"a = " + b"[" * 5000, "is not read"),
    ],
    ids=["broken", "no UTF-8", "too large", "too deep"],
)
def test_a_file_that_cannot_be_read_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    settings, odd = read_settings(path)
    assert settings == ScreenSettings()
    assert odd.startswith(f"{path} ")
    assert told in odd
    assert path.read_bytes() == content


def test_what_is_odd_is_told_and_the_rest_is_used(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    odd = {
        "theme": '"pink"',
        "split": "81",
        "wide_split": "true",
        "sort": "1",
        "reverse": '"no"',
        "host_colour": '["blue"]',
        "colour": '"blue"',
        "__doc__": '"x"',
    }
    for name, value in odd.items():
        path.write_text(f'{name} = {value}\nlayout = "table"\n')
        assert read_settings(path) == (ScreenSettings(layout="table"), f"{path}: not understood: {name}")
    path.write_text("".join(f"{name} = {value}\n" for name, value in odd.items()))
    assert read_settings(path) == (ScreenSettings(), f"{path}: not understood: {', '.join([*odd][:5])}")


def test_a_pipe_in_their_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.toml")
    settings, odd = read_settings(tmp_path / "settings.toml")
    assert settings == ScreenSettings()
    assert "is not read" in odd


def test_they_never_lie_in_the_cache(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    before = tree(cache)
    (tmp_path / "link").symlink_to(cache)
    for path in (cache / "settings.toml", tmp_path / "link" / "ocitui" / "settings.toml"):
        with pytest.raises(ConflictError):
            keep_settings(cache, path, ScreenSettings())
    assert tree(cache) == before


async def test_k_keeps_how_it_looks_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "config" / "ocitui" / "settings.toml"
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.press("T", "H", "less_than_sign", "backslash", "s", "n")
        await one.until(lambda: one.table.rows.sort_column == "name")
        await one.open("s", "MenuScreen")
        await one.press("n")
        await one.until(lambda: one.table.rows.reverse)
        assert not path.parent.exists(), "it was not asked for yet"
        await one.press("K")
        await one.until(lambda: "the next start looks like this" in one.status)
        names = one.names
    assert read_settings(path) == (ScreenSettings("light", "table", 45, 61, "name", True, "red"), "")
    again = Session(ScreenOptions(cache))
    assert again.settings == ScreenSettings("light", "table", 45, 61, "name", True, "red")
    monkeypatch.setattr("tests.tui.screen_support.ScreenSettings", lambda: again.settings)
    async with desk(cache) as one:
        assert one.app.theme == "ocitui-light"
        assert one.table.display
        assert not one.pane.display
        assert (one.table.rows.sort_column, one.names) == ("name", names)


async def test_settings_in_the_cache_are_refused_by_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(cache))
    before = tree(cache)
    async with desk(cache) as one:
        await one.press("K")
        await one.until(lambda: "settings.toml is in the cache" in one.status)
    assert tree(cache) == before
    assert not (cache / "ocitui").exists()


async def test_settings_that_are_odd_are_told_when_the_screen_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ocitui.tui.session.read_settings", lambda _: (ScreenSettings(), "settings.toml is not read: no")
    )
    monkeypatch.setattr("tests.tui.screen_support.ScreenSettings", lambda: None)
    async with desk(make_cache(tmp_path / "image"), read_only=True) as one:
        assert "settings.toml is not read: no" in one.status


async def test_the_layout_goes_round_and_enter_and_escape_work_in_each(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        for layout in LAYOUTS[1:]:
            await one.press("backslash")
            await one.rest()
            assert one.session.settings.layout == layout
            assert (one.table.display, one.pane.display) == (layout != "pane", layout != "table")
            assert one.focused == ("LinesView" if layout == "pane" else "EntryTable")
            await one.press("enter")
            await one.until(lambda: not one.table.display and one.focused == "LinesView", f"whole in {layout}")
            await one.press("escape")
            await one.until(lambda: one.table.display and one.app.focused is one.table, f"the table in {layout}")
            await one.press("j")
        assert one.table.cursor_row == 2
        assert one.session.settings.layout == "split", "escape has left the pane"
        assert one.table.display
        assert one.pane.display


@pytest.mark.parametrize(("size", "name", "other"), [(SMALL, "split", "wide_split"), (WIDE, "wide_split", "split")])
async def test_the_split_moves_within_bounds_and_for_its_width(
    size: tuple[int, int], name: str, other: str, tmp_path: Path
) -> None:
    async with desk(make_cache(tmp_path / "image"), size) as one:
        room = "width" if size == WIDE else "height"
        seen = list[int]()
        for key, bound in (("greater_than_sign", 80), ("less_than_sign", 20)):
            await one.press(*[key] * 14)
            await one.rest()
            assert getattr(one.session.settings, name) == bound
            seen.append(getattr(one.table.size, room))
            assert getattr(one.pane.size, room) > 0
        assert seen[0] > seen[1] > 0
        assert getattr(one.session.settings, other) == getattr(ScreenSettings(), other)


async def test_the_theme_that_was_asked_for_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    async with desk(make_cache(tmp_path / "image"), theme="light") as one:
        await one.press("K")
        await one.until(lambda: "the next start looks like this" in one.status)
    assert read_settings(settings_path())[0].theme == "light"


async def test_each_press_of_a_layout_is_seen(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:

        def seen() -> tuple[bool, bool]:
            return one.table.display, one.pane.display

        async def pressed(*keys: str) -> tuple[bool, bool]:
            await one.press(*keys)
            await one.rest()
            return seen()

        both, table, pane = (True, True), (True, False), (False, True)
        assert [await pressed("backslash") for _ in range(3)] == [table, pane, both]
        await pressed("backslash", "backslash")
        assert [await pressed("escape"), await pressed("backslash")] == [both, table]
        assert [await pressed("enter"), await pressed("escape")] == [pane, table]
        assert one.session.settings.layout == "table"
        await pressed("enter")
        assert await pressed("backslash") == both, "the pane was alone"
        for key in ("tab", "2", "right_square_bracket", "greater_than_sign"):
            await one.press("escape", "escape")
            assert await pressed("backslash") == table
            assert await pressed(key) == both, f"{key} is about the pane"
