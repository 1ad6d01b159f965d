"""What can be read on every terminal: words against their ground, signs in ASCII, and trouble without colours."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from rich.cells import cell_len
from rich.style import Style
from textual.app import App

import ocitui
from ocitui.text import REPLACEMENT
from ocitui.tui.terminal import THEMES, Role, draw_cells, palette, textual_themes, to_ascii
from ocitui.tui.widgets.bars import HealthBar, TroubleBar
from tests.tui.cache_support import make_cache, many, replace_index, write_index
from tests.tui.screen_support import MIDDLE, SMALL, WIDE, Desk, desk

pytestmark = pytest.mark.slow

SURFACES: tuple[Role, ...] = ("plain", "strip", "banner", "cursor", "blurred")
NO_WORDS: tuple[Role, ...] = ("faint", "gauge")
# The ground and the text of terminals that are dark or light, which ocitui leaves as they are.
TERMINALS = {"dark": ("#0d1117", "#c9d1d9"), "light": ("#ffffff", "#24292f")}


def luminance(colour: str) -> float:
    """As the WCAG defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_is_that_of_the_definition() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def styles_of(theme: str) -> dict[Role, Style]:
    app: App[object] = App()
    for one in textual_themes():
        app.register_theme(one)
    app.theme = THEMES[theme]
    return dict(palette(app))


def drawn_for() -> Iterator[tuple[Role, Role]]:
    """What words are drawn for, and the surface they stand on."""
    for surface in SURFACES:
        for role in get_args(Role):
            # On the cursor's row what recedes elsewhere is drawn as text.
            if role not in (*SURFACES[1:], *NO_WORDS) and (role, surface) != ("muted", "cursor"):
                yield role, surface


@pytest.mark.parametrize("theme", TERMINALS)
def test_every_word_stands_out_from_its_ground(theme: str) -> None:
    ground, text = TERMINALS[theme]
    styles = styles_of(theme)
    for role, surface in drawn_for():
        style = styles[surface] + styles[role]
        front, behind = style.color.name if style.color else text, style.bgcolor.name if style.bgcolor else ground
        assert contrast(front, behind) >= 4.5, f"{role} on {surface}: {front} on {behind}"


def test_a_blank_keeps_the_style_before_it_but_no_colour_of_a_chip() -> None:
    styles = styles_of("dark")
    cells: list[tuple[str, Role]] = [(" host ", "host"), ("  ", "plain"), ("a", "muted"), (" ", "key"), ("b", "muted")]
    line = draw_cells(cells, "strip", styles, 20)
    ground = styles["strip"]
    assert [(segment.text, segment.style) for segment in line] == [
        (" host ", ground + styles["host"]),
        ("  ", ground),
        ("a b", ground + styles["muted"]),
        (" " * 9, ground),
    ]


def texts_of(path: Path) -> Iterator[str]:
    """Every text in a file of the program, but what describes it."""
    tree = ast.parse(path.read_text())
    told = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


# Characters as such are their matter: none of these is drawn.
_OF_CHARACTERS = ("text.py", "shadow.py")


def test_every_sign_is_one_cell_and_has_its_like_in_ascii() -> None:
    package = Path(ocitui.__file__).parent
    files = [path for path in package.rglob("*.py") if path.name not in _OF_CHARACTERS]
    letters = {letter for path in files for text in texts_of(path) for letter in text if letter.isprintable()}
    signs = {letter for letter in letters if not letter.isascii()} - {REPLACEMENT}
    assert len(signs) > 20
    assert {sign for sign in signs if cell_len(sign) != 1} == set()
    assert {sign for sign in signs if to_ascii(sign) == "?" or len(to_ascii(sign)) != 1} == set()


def drawn(one: Desk, kind: type[TroubleBar | HealthBar], y: int = 0) -> list[tuple[str, Style]]:
    """A line of a bar, as it is before it is put in ASCII: each text and its style."""
    line = one.main.query_one(kind).render_line(y)
    return [(to_ascii(segment.text), segment.style or Style()) for segment in line if segment.text.strip()]


async def test_the_banner_is_told_from_the_rows_without_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    cache = make_cache(tmp_path / "image")
    async with desk(cache, ascii=True, theme="ansi") as one:
        replace_index(cache, b'{"schemaVersion":2,"manifests":[{]}')
        await one.until_corrupt()
        await one.until(lambda: "m mends it" in one.trouble)
        lines = [drawn(one, TroubleBar, y) for y in range(3)]
        (what, weight), (act, heavy), keys = lines[0][0], lines[1][0], lines[2]
        assert what.startswith(" X index.json is corrupt")
        assert act.strip()
        assert weight.bold
        assert heavy.bold
        assert ("m", True) in [(text.strip(), style.bold) for text, style in keys]
        chip = next(style for text, style in drawn(one, HealthBar) if "X index broken" in text)
        assert chip.reverse
        every = [style for line in (*lines, drawn(one, HealthBar)) for _, style in line]
        assert not any(style.color or style.bgcolor for style in every)
        bar = one.main.query_one(TroubleBar).region
        assert one.text.split("\n")[bar.y].startswith(" X index.json")
        assert one.driver.written.isascii()


async def test_the_banner_covers_rows_and_moves_none(tmp_path: Path) -> None:
    images = many(60)
    cache = make_cache(tmp_path / "image", images)
    async with desk(cache) as one:
        await one.press(*["j"] * 30)
        await one.rest()
        before = rows_on_screen(one)
        assert len(before) > 6
        replace_index(cache, b'{"schemaVersion":2,"manifests":[{]}')
        await one.until_corrupt()
        await one.until(lambda: "m mends it" in one.trouble)
        await one.rest()
        covered = rows_on_screen(one)
        # The pane below gives way too, so that there may be a row more at the end.
        assert min(covered) == min(before) + 3
        assert {y: row for y, row in covered.items() if y in before} == {
            y: row for y, row in before.items() if y >= min(covered)
        }
        assert "AS OF" in one.text
        write_index(cache, images)
        await one.until(lambda: one.live.health.sound and not one.trouble)
        await one.rest()
        assert rows_on_screen(one) == before
        assert "AS OF" not in one.text


def rows_on_screen(one: Desk) -> dict[int, str]:
    """The rows of the table by the lines of the screen they stand on."""
    region = one.table.region
    lines = one.text.split("\n")
    return {y: lines[y] for y in range(region.y + 1, region.bottom)}


@pytest.mark.parametrize(
    ("size", "columns"), [(SMALL, (1, 20, 41, 67)), (MIDDLE, (1, 22, 55, 87)), (WIDE, (1, 22, 55, 87))]
)
async def test_each_slot_stands_in_its_place_and_is_whole(
    tmp_path: Path, size: tuple[int, int], columns: tuple[int, ...]
) -> None:
    async with desk(make_cache(tmp_path / "image"), size) as one:
        one.live.host.disk, one.live.host.trash = (2**40, 1016 * 2**30), 1016 * 2**20
        one.main.draw_header()
        await one.pilot.pause()
        line = one.text.split("\n")[one.main.query_one(HealthBar).region.y]
        slots = ("v ✓ index in step", "p ✓ no problems", "b disk ", "t trash 1016M")
        assert [line.find(slot) for slot in slots] == [*columns]
        assert " 1016G free " in line
