"""The fewest bytes from one screen to another: what was drawn is shown, whatever was shown before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ocitui.tui.shadow import Shadow, UnknownSequenceError
from tests.tui.line_support import Terminal, cost

_WIDTH, _HEIGHT = 14, 9
# Wide enough for blanks that are erased within a line.
_WIDE = 34
_CODES = ("", "1", "2", "4", "7", "9", "1;2;3", "31", "42", "38;2;1;2;3", "1;38;5;200;48;2;9;8;7", "2;4;97;100")
_GRAPHEMES = ("a", "b", " ", " ", "─", "✓", "漢", "e\u0301")
# Most lines are short, and some hold as many blanks as are erased at once.
_TEXTS = (*_GRAPHEMES, " " * 12)

Segment = tuple[str, str]
Lines = list[list[Segment]]


def _line(segments: list[tuple[str, list[str]]], rest: str) -> list[Segment]:
    """A line of which every cell is written, as Textual writes lines."""
    line, left = list[Segment](), _WIDE
    for codes, graphemes in segments:
        text = ""
        for grapheme in graphemes:
            if cell_len(text + grapheme) <= left:
                text += grapheme
        line.append((codes, text))
        left -= cell_len(text)
    return [*line, (rest, " " * left)]


_codes = st.sampled_from(_CODES)
_segments = st.lists(st.tuples(_codes, st.lists(st.sampled_from(_TEXTS), max_size=9)), max_size=4)
_lines = st.builds(_line, _segments, _codes)
_screens = st.lists(_lines, min_size=_HEIGHT, max_size=_HEIGHT)
_cursors = st.tuples(st.integers(1, _HEIGHT), st.integers(1, _WIDE))


@st.composite
def _changes(draw: st.DrawFn) -> tuple[Lines, Lines]:
    """A screen, and one that has much of it: lines that stay, that are elsewhere, that differ in a place."""
    first = draw(_screens)
    at, length, down = draw(st.integers(0, 4)), draw(st.integers(0, _HEIGHT)), draw(st.integers(-4, 4))
    part = first[at : at + length]
    by = down % len(part) if part else 0
    second = [*first[:at], *part[by:], *part[:by], *first[at + length :]]
    for y, line in draw(st.dictionaries(st.integers(0, _HEIGHT - 1), _lines, max_size=3)).items():
        second[y] = line
    return first, second


def _frame(lines: Lines, cursor: tuple[int, int] = (1, 1)) -> str:
    text = "\n".join(
        f"\x1b[{y};1H" + "".join(f"\x1b[{codes}m{text}\x1b[0m" if codes else text for codes, text in line)
        for y, line in enumerate(lines, 1)
    )
    return f"{text}\x1b[{cursor[0]};{cursor[1]}H"


def _shadow(width: int = _WIDTH, *, erases_in_colour: bool = True) -> Shadow:
    shadow = Shadow(erases_in_colour=erases_in_colour)
    shadow.resize((width, _HEIGHT))
    return shadow


@given(_changes(), _cursors, _cursors, st.booleans())
def test_any_screen_becomes_any_other(
    screens: tuple[Lines, Lines], one: tuple[int, int], other: tuple[int, int], erases_in_colour: bool
) -> None:
    shadow = _shadow(_WIDE, erases_in_colour=erases_in_colour)
    terminal, stock = (Terminal((_WIDE, _HEIGHT), erases_in_colour=erases_in_colour) for _ in range(2))
    for lines, cursor in zip((*screens, screens[0]), (one, other, one), strict=True):
        frame = _frame(lines, cursor)
        shadow.draw(frame)
        terminal.feed(shadow.update())
        stock.feed(frame)
        assert terminal.seen == stock.seen
        assert terminal.screen.cursor.attrs == stock.screen.cursor.attrs, "no colour stays set"
        assert shadow.update() == "", "nothing is written twice"


@given(_changes(), st.text("ab\x1b[m\n漢", max_size=30))
def test_after_it_was_voided_all_is_written(screens: tuple[Lines, Lines], garbage: str) -> None:
    shadow, terminal, stock = _shadow(_WIDE), Terminal((_WIDE, _HEIGHT)), Terminal((_WIDE, _HEIGHT))
    for lines in screens:
        frame = _frame(lines)
        shadow.draw(frame)
        terminal.feed(shadow.update())
        stock.feed(frame)
    terminal.feed(f"\x1b[2;3r\x1b[4m{garbage}\x1b[m")
    shadow.lost = True
    terminal.feed(shadow.update())
    assert terminal.seen == stock.seen


@pytest.mark.parametrize(
    ("shown", "most"), [("b" * 14, 28), ("aaabaaaaaaaaaa", 17), ("a            a", 18), ("a" * 14, 0)]
)
def test_few_bytes_for_few_cells(shown: str, most: int) -> None:
    """For a line, for a cell in it, for blanks in it, for nothing."""
    shadow = _shadow()
    before = [[("1", "a" * _WIDTH)]] * _HEIGHT
    shadow.draw(_frame(before))
    shadow.update()
    shadow.draw(_frame([[("1", shown)] if y == 4 else line for y, line in enumerate(before)]))
    assert cost(shadow.update()) <= most


def _numbers(first: int) -> Lines:
    return [[("", f"{number * 7919 % 100_000:<14}")] for number in range(first, first + _HEIGHT)]


@pytest.mark.parametrize("down", [-3, -1, 1, 3])
def test_what_scrolls_is_scrolled(down: int) -> None:
    shadow, terminal = _shadow(), Terminal((_WIDTH, _HEIGHT))
    for first in (500, 500 + down):
        lines = _numbers(first)[1:]
        shadow.draw(_frame([[("7", "the title     ")], *lines]))
        terminal.feed(written := shadow.update())
    assert cost(written) < 25 + 12 * abs(down)
    assert [line.strip() for line in terminal.screen.display[1:]] == [text.strip() for [(_, text)] in lines]
    assert terminal.screen.display[0] == "the title     "


@pytest.mark.parametrize("row", ["a👩\u200d👩\u200d👧b", "a🇩🇪b", "a👍🏽b", "a❤\ufe0fb", "a⌚b", "a\u200bb", "aकिb"])
@pytest.mark.parametrize("narrow", [False, True])
def test_what_terminals_measure_differently_keeps_the_rest_in_its_place(
    row: str, narrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pyte takes few of these as they are meant, as many terminals do; an old one takes each to be of one cell."""
    if narrow:
        monkeypatch.setattr("pyte.screens.wcwidth", lambda _: 1)
    shadow, terminal = _shadow(), Terminal((_WIDTH, _HEIGHT))
    for end in ("c", "d", "e"):
        width = cell_len(row)
        shadow.draw(_frame([[("", row + "b" * (10 - width) + end + "   ")]]))
        terminal.feed(shadow.update())
        shown = "".join(terminal.screen.buffer[0][x].data for x in range(width - 1, _WIDTH))
        assert shown == "b" * (11 - width) + end + "   "
    shadow.draw(_frame([[("", "plain".ljust(_WIDTH))]]))
    terminal.feed(shadow.update())
    assert terminal.screen.display[0] == "plain".ljust(_WIDTH)


def test_links_are_kept() -> None:
    shadow = _shadow()
    link = "\x1b]8;id=7;https://example.com/a\x1b\\"
    shadow.draw(f"\x1b[1;1Ha{link}\x1b[4mb c\x1b[0m\x1b]8;;\x1b\\d\x1b[1;1H")
    assert shadow.update().endswith(f"a{link}\x1b[4mb c\x1b]8;;\x1b\\\x1b[md\r")


def test_what_is_drawn_beyond_the_edge_is_left_out() -> None:
    shadow, terminal = _shadow(), Terminal((_WIDTH, _HEIGHT))
    shadow.draw("\x1b[9;12Habcd\nabc\x1b[9;13Ha漢\x1b[1;1H")
    terminal.feed(shadow.update())
    assert terminal.screen.display[-1].strip() == "aa"


@pytest.mark.parametrize("odd", ["\x1b[K", "\x1b[5m\x1b[38;3m", "\t", "\x1b]52;c;\x07", "\x9b1m", "\x1b[1 q"])
def test_what_is_no_frame_is_refused(odd: str) -> None:
    with pytest.raises(UnknownSequenceError):
        _shadow().draw(f"\x1b[1;1Ha{odd}b")
