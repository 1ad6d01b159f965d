"""What the terminal gets: no escape codes from the disk, no colours or signs it was not asked for, few bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ocitui.cache import index
from ocitui.tui.terminal import Terminal
from tests.tui.cache_support import BUSYBOX, SEVEN, Image, make_cache, many, packed_path, write_index
from tests.tui.line_support import RecordedCells, line_of
from tests.tui.screen_support import MIDDLE, SMALL, WIDE, Desk, desk

pytestmark = pytest.mark.slow

_EVIL = "a\x1b[31mred\x1b]0;title\x07\x9b2J\x1bPq\x1b\\\u202e\x00\x7fz"
_TOUR = ("2", "3", "1", "enter", "escape", "space", "r", "escape", "d", "escape", "t", "escape", "v", "escape", "s",
         "escape", "question_mark", "escape", "slash", "a", "escape")  # fmt: skip


async def _tour(one: Desk) -> str:
    """Look at every screen; everything that was written."""
    for key in _TOUR:
        await one.press(key)
        await one.rest()
    return one.driver.written


async def test_escape_codes_on_the_disk_never_reach_the_terminal(tmp_path: Path) -> None:
    plain = make_cache(tmp_path / "plain", (BUSYBOX,))
    evil = Image(f"{_EVIL}:{_EVIL}", labels={_EVIL: _EVIL}, command=(_EVIL,), steps=(_EVIL,), platform=_EVIL)
    cache = make_cache(tmp_path / f"im{chr(27)}[35mage", (evil,))
    descriptor = evil.descriptor("squashfs")
    descriptor["annotations"] |= {_EVIL: _EVIL, "dev.krata.oci.packer.format": _EVIL}
    write_index(cache, (evil,), [{**descriptor, "digest": _EVIL, "mediaType": _EVIL}])
    (cache / f"{evil.digest}.config.json").write_text(json.dumps(json.loads(evil.config), ensure_ascii=False))
    async with desk(plain) as one:
        written = await _tour(one)
        usual = _controls(written)
        assert "38;2" in _colours(written), "a terminal of all colours gets them"
    async with desk(cache) as one:
        await one.press("end")
        written = await _tour(one)
        assert "red" in written
    assert "\x1b[31mred" not in written
    assert "\x1b[35m" not in written
    assert "\x1b]0;" not in written
    assert _controls(written) <= usual


def _controls(text: str) -> set[str]:
    """The control characters in a text, and what kind of sequence each escape begins."""
    return set(re.findall("\x1b.|[\x00-\x1a\x1c-\x1f\x7f-\x9f\u202e]", text))


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _colours(written: str) -> set[str]:
    """Every colour parameter that was written."""
    found = set()
    for sequence in _COLOUR.findall(written):
        codes = sequence[2:-1].split(";")
        while codes:
            code = codes.pop(0)
            if code in ("38", "48"):
                found.add(f"{code};{codes[0]}")
                codes = codes[4:] if codes[0] == "2" else codes[2:]
            elif code.isdecimal() and (30 <= int(code) <= 37 or 40 <= int(code) <= 47 or 90 <= int(code) <= 107):
                found.add(code)
    return found


@pytest.mark.parametrize("theme", ["dark", "light", "ansi"])
async def test_no_color_is_obeyed(tmp_path: Path, theme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with desk(make_cache(tmp_path / "image"), theme=theme) as one:
        written = await _tour(one)
        assert _colours(written) == set()
        assert "\x1b[1;7" in written, "the cursor's row is told by more than a colour"


async def test_the_ansi_theme_has_the_terminals_own_colours_only(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, BUSYBOX).unlink()
    async with desk(cache, theme="ansi") as one:
        colours = _colours(await _tour(one))
        assert colours
        assert not {"38;2", "48;2", "38;5", "48;5"} & colours


async def test_a_terminal_without_utf8_gets_ascii(tmp_path: Path) -> None:
    odd = Image("映像/層:1", labels={"ключ": "значение"}, command=("…",))
    cache = make_cache(tmp_path / "image", (*SEVEN, odd))
    packed_path(cache, BUSYBOX).unlink()
    for size in (SMALL, WIDE):
        async with desk(cache, size, ascii=True) as one:
            await one.press("end")
            written = await _tour(one)
            await one.press("i", "escape", "colon")
            await one.rest()
            assert written.isascii()
            assert one.driver.written.isascii()


@pytest.mark.parametrize(
    ("environment", "theme"),
    [
        ({"TERM": "linux"}, "ansi"),
        ({"TERM": "xterm"}, "ansi"),
        ({"TERM": "xterm-256color"}, "dark"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "dark"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "ansi"),
    ],
)
def test_the_theme_suits_the_terminal(environment: dict[str, str], theme: str) -> None:
    assert Terminal.of_environment(environment).theme == theme


async def test_too_small_a_terminal_says_so_and_takes_q(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image"), (39, 9)) as one:
        assert one.text.split("\n")[0].rstrip() == "too small; q quits"
        assert not any(line.strip() for line in one.text.split("\n")[1:])
        await one.pilot.resize_terminal(80, 24)
        await one.until(lambda: "busybox" in one.text)
        await one.until(lambda: one.app.focused is one.table, "the keys work as before")
        await one.pilot.resize_terminal(39, 9)
        await one.until(lambda: "too small" in one.text)
        await one.press("q")
        await one.until(lambda: one.app._exit)


async def test_forty_by_ten_works(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache, (40, 10)) as one:
        assert "busybox:1.36" in one.text
        assert "q quit" in one.text
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "nothing is changed" in one.status)
        assert "y Move to the trash" in one.text
        await one.press("y")
        await one.until(lambda: one.table.total == 6)


async def test_an_idle_screen_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.watch.POLL_SECONDS", 0.05)
    looks: list[None] = []

    def look(directory: Path) -> object:
        looks.append(None)
        return index.index_signature(directory)

    monkeypatch.setattr("ocitui.cache.watch.index_signature", look)
    async with desk(make_cache(tmp_path / "image")) as one:
        for keys in ((), ("slash",), ("escape", "r"), ("escape", "question_mark"), ("escape", "d")):
            await one.press(*keys)
            await one.rest()
            before, looked = len(one.driver.written), len(looks)
            await one.until(lambda looked=looked: len(looks) > looked + 5, "polls")  # type: ignore[misc]
            assert one.driver.written[before:] == ""


async def test_what_is_out_of_view_writes_nothing(tmp_path: Path) -> None:
    images = many(100)
    cache = make_cache(tmp_path / "image", images)
    async with desk(cache) as one:
        before = len(one.driver.written)
        changed = [{**images[80].descriptor("squashfs"), "size": 999}]
        write_index(cache, [*images[:80], *images[81:]], changed)
        await one.until(
            lambda: one.table.rows.entries is not None and one.table.rows.entries.digests[99] == images[80].digest,
            "the change",
        )
        await one.rest()
        assert one.driver.written[before:] == ""


_STEPS = [(SMALL, "dark", 500), (SMALL, "ansi", 350), (MIDDLE, "dark", 500), (WIDE, "dark", 500)]


@pytest.mark.parametrize(("size", "theme", "most"), _STEPS)
async def test_a_step_of_the_cursor_writes_little(
    tmp_path: Path, size: tuple[int, int], theme: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with line_of(size, monkeypatch) as line:
        async with desk(make_cache(tmp_path / "image"), size, driver=RecordedCells, theme=theme) as one:
            # The pane waits for the cursor to rest: here it does not rest.
            monkeypatch.setattr("ocitui.tui.widgets.entry_pane._REST_SECONDS", 1e6)
            for row in (1, 2, 3):
                before = len(line.written)
                await one.press("j")
                await one.until(lambda row=row: "▸" in line.terminal.screen.display[row + 3])  # type: ignore[misc]
                await one.pilot.pause()
                assert 0 < len(line.written[before:].encode()) <= most


@pytest.mark.parametrize(
    ("environment", "ascii_only"),
    [
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "C.utf8"}, False),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "POSIX"}, True),
        ({"LC_CTYPE": "de_DE.UTF-8", "LANG": "C"}, False),
        ({"LC_CTYPE": "C.UTF-8"}, True),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C.UTF-8"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({}, True),
    ],
)
def test_only_a_locale_of_utf8_gets_more_than_ascii(environment: dict[str, str], ascii_only: bool) -> None:
    assert Terminal.of_environment(environment).ascii is ascii_only
