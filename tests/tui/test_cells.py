"""Only the cells that changed come down the line; the terminal shows what it would show if all had come."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from fcntl import F_GETFL, fcntl
from pathlib import Path

import pytest
from textual.drivers.linux_driver import LinuxDriver

from ocitui.tui import cell_driver
from ocitui.tui.actions import ACTIONS
from ocitui.tui.app import OcituiApp
from ocitui.tui.cell_driver import CellDriver
from ocitui.tui.session import ScreenOptions, Session
from tests.tools import LONG
from tests.tui.cache_support import SEVEN, Image, make_cache, many, packed_path
from tests.tui.line_support import ASK, Line, RecordedCells, Size, Terminal, cost, line_of, most_bytes, others
from tests.tui.screen_support import SMALL, WIDE, Desk, desk

pytestmark = pytest.mark.slow

_ODD = Image("映像/層e\u0301:1", labels={"ключ": "👩\u200d👩\u200d👧 🇩🇪", "é": "значение"}, command=("漢字", "…"))
_KEYS = [*(action.keys[0] for action in ACTIONS if action.name not in ("quit", "suspend")), "j", "k", "G", "g", "tab"]


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    with line_of(SMALL, monkeypatch) as one:
        yield one


def _driver(one: Desk) -> RecordedCells:
    driver = one.driver
    assert isinstance(driver, RecordedCells)
    return driver


def _shown(line: Line) -> str:
    return "\n".join(line.terminal.screen.display)


async def _assert_same(one: Desk, line: Line, after: str) -> None:
    await one.rest()
    assert line.same(one.driver), after
    assert _driver(one).raw_frames == 0, f"a frame of Textual's could not be read, after {after}"


async def _home(one: Desk) -> None:
    """Back from whatever a key opened."""
    await one.rest()
    for _ in range(4):
        before = len(one.driver.written)
        await one.press("escape")
        await one.rest()
        if one.top == "MainScreen" and len(one.driver.written) == before:
            break
    assert one.top == "MainScreen"


# Each size with each theme and each kind of terminal, and every key with each size and theme; all together in the long
# run.
_WAYS = [
    pytest.param(size, theme, answers, marks=[pytest.mark.long] * ((size is WIDE) ^ (theme == "ansi") ^ answers))
    for size in (SMALL, WIDE)
    for theme in ("dark", "ansi")
    for answers in (False, True)
]


@pytest.mark.parametrize(("size", "theme", "answers"), _WAYS)
async def test_every_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Size, theme: str, answers: bool
) -> None:
    cache = make_cache(tmp_path / "image", [*SEVEN, *many(60)])
    packed_path(cache, SEVEN[1]).unlink()
    with line_of(size, monkeypatch) as line:
        line.answers = answers
        async with desk(cache, size, driver=RecordedCells, theme=theme) as one:
            await _assert_same(one, line, "the start")
            for key in _KEYS if LONG else _KEYS[answers::2]:
                await one.press(key)
                await _assert_same(one, line, key)
                await _home(one)
                await _assert_same(one, line, f"{key}, esc")
            one.app.bell()
            one.app.copy_to_clipboard("text")
            written = one.driver
        assert others(line.written) == others(written.written)
        for sequence in ("\x07", "\x1b]52;c;dGV4dA==\x07", "\x1b[?1000h", "\x1b[?1049l", "\x1b[?25h"):
            assert sequence in others(line.written)
        assert cost(line.written) < cost(written.written) / 3


async def test_wide_and_combining_characters(tmp_path: Path, line: Line) -> None:
    """What pyte measures as Textual does; the others are in the shadow's tests."""
    plain = Image("映像/層e\u0301:1", labels={"ключ": "漢字 e\u0301", "é": "значение"}, command=("漢字", "…"))
    async with desk(make_cache(tmp_path / "image", (*SEVEN, plain)), driver=RecordedCells) as one:
        for key in ("G", "2", "3", "tab", "j", "j", "tab", "1", "w"):
            await one.press(key)
            await _assert_same(one, line, key)
        assert any("映" in row for row in line.terminal.screen.display)


async def test_sizes(tmp_path: Path, line: Line) -> None:
    async with desk(make_cache(tmp_path / "image", many(60)), driver=RecordedCells) as one:
        for size in ((120, 40), (80, 24), (39, 9), (81, 25), (80, 24)):
            line.resize(size)
            os.kill(os.getpid(), signal.SIGWINCH)
            await one.until(lambda size=size: one.app.size == size, "the size")  # type: ignore[misc]
            await _assert_same(one, line, str(size))


@pytest.mark.parametrize("told", [1, 2])
@pytest.mark.parametrize("smaller", [(70, 24), (80, 20)])
async def test_a_size_that_comes_back_at_once(tmp_path: Path, line: Line, smaller: Size, told: int) -> None:
    """Textual draws nothing for it, though the terminal has cut what it showed; once, or for each size, it is told."""
    async with desk(make_cache(tmp_path / "image", many(60)), driver=RecordedCells) as one:
        whole = line.terminal.seen
        line.resize(smaller)
        assert line.terminal.seen != whole
        if told > 1:
            os.kill(os.getpid(), signal.SIGWINCH)
            await asyncio.sleep(0)
        line.resize((80, 24))
        os.kill(os.getpid(), signal.SIGWINCH)
        await one.until(lambda: line.terminal.seen == whole, "all is drawn again")


@pytest.mark.parametrize("screen", ["", "question_mark", "slash", "s", "r"])
async def test_ctrl_l_repairs_what_another_program_wrote(tmp_path: Path, line: Line, screen: str) -> None:
    async with desk(make_cache(tmp_path / "image", many(60)), driver=RecordedCells) as one:
        if screen:
            await one.press(screen)
        await one.rest()
        whole = line.terminal.seen
        line.terminal.feed("\x1b[5;9r\x1b[7mBroadcast message\n\n\n from root\x1b[2;2H\x1b[J\x0e")
        assert line.terminal.seen != whole
        line.type("\x0c")
        await one.until(lambda: line.terminal.seen == whole, "all is drawn again")


async def test_ctrl_l_writes_all_with_textuals_own_driver_too(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image", many(60))) as one:
        await one.rest()
        before = len(one.driver.written)
        await one.press("ctrl+l")
        await one.rest()
        whole, again = Terminal(SMALL), Terminal(SMALL)
        whole.feed(one.driver.written)
        again.feed(one.driver.written[before:])
        assert again.seen == whole.seen


async def test_a_covered_screen_is_left_alone(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image", many(60))) as one:
        await one.open("question_mark", "HelpScreen")
        await one.rest()
        before = one.driver.written
        one.main.refresh(layout=True)
        one.table.refresh()
        await one.rest()
        assert one.driver.written == before
        await one.press("escape")
        await one.open("s", "MenuScreen")
        await one.rest()
        before = one.driver.written
        one.table.refresh()
        await one.rest()
        assert one.driver.written != before, "around a box it is seen"


async def test_suspended_and_back(tmp_path: Path, line: Line) -> None:
    async with desk(make_cache(tmp_path / "image", many(60)), driver=RecordedCells) as one:
        with one.app.suspend():
            before = line.written
            line.terminal.feed("\x1b[Hthe shell was here\n$ ")
            for _ in range(40):
                # Textual's own driver would wait for ever: nobody takes what it writes.
                one.app.refresh(layout=True)
                await one.pilot.pause()
            assert line.written == before
        await one.rest()
        one.app.refresh(layout=True)
        await _assert_same(one, line, "the shell")


async def test_the_end_of_the_thread_that_reads_is_not_waited_for_for_good(
    tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that suspends may have come in between, and have told it already."""
    async with desk(make_cache(tmp_path / "image"), driver=RecordedCells) as one:
        driver = _driver(one)
        assert fcntl(driver._ending, F_GETFL) & os.O_NONBLOCK
        monkeypatch.setattr(LinuxDriver, "disable_input", lambda self: os.eventfd_read(self._ending))
        CellDriver.disable_input(driver)


async def test_what_is_not_known_is_written_as_it_is(tmp_path: Path, line: Line) -> None:
    async with desk(make_cache(tmp_path / "image", many(60)), driver=RecordedCells) as one:
        await one.rest()
        driver = _driver(one)
        driver.write("\x1b[3;3Hfrom afar\x1b[2Jand more")
        assert driver.raw_frames == 1
        assert line.written.endswith("\x1b[3;3Hfrom afar\x1b[2Jand more")
        one.app.refresh(layout=True)
        await one.rest()
        assert line.same(driver)
        driver.write("\x1b[2J")
        assert line.written.endswith("\x1b[2J")
        one.app.refresh(layout=True)
        await one.rest()
        assert line.same(driver)


# Pacing


class _Clock:
    """A clock that goes by hand."""

    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    one = _Clock()
    monkeypatch.setattr(cell_driver, "monotonic", lambda: one.now)
    return one


@asynccontextmanager
async def _paced(tmp_path: Path, line: Line, driver: type[RecordedCells] = RecordedCells) -> AsyncIterator[Desk]:
    """On the second of 60 rows: an answer has come to what was asked at the start, none to that row's frame."""
    async with desk(make_cache(tmp_path / "image", many(60)), driver=driver) as one:
        await one.until(lambda: line.asked > 0, "it asks")
        line.answer()
        await one.until(lambda: _driver(one).paced, "it knows that answers come")
        await one.rest()
        await one.press("j")
        await one.rest()
        yield one


async def test_frames_that_were_left_out_are_written_before_what_is_not_known(
    tmp_path: Path, line: Line, clock: _Clock
) -> None:
    async with _paced(tmp_path, line) as one:
        clock.now += 0.3
        await one.press("j")
        await one.rest()
        assert " 3 of 60 " in one.text
        assert " 2 of 60 " in _shown(line)
        one.driver.write("\x1b[3;3H\x1b[5n")
        assert " 3 of 60 " in _shown(line)


async def test_frames_are_left_out_while_answers_are_late(
    tmp_path: Path, line: Line, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_driver, "LONGEST", 1e6)
    async with _paced(tmp_path, line) as one:
        assert line.same(one.driver)
        assert line.asked > 0
        clock.now += 0.3
        before = line.written
        for _ in range(5):
            await one.press("j")
            await one.rest()
        assert " 7 of 60 " in one.text, "keys do not wait"
        assert line.written == before
        line.answer(line.asked)
        await one.until(lambda: line.same(one.driver), "the newest frame")
        assert line.written[len(before) :].count(ASK) == 1, "those before it are left out"
        assert " 7 of 60 " in _shown(line)


async def test_a_terminal_that_no_longer_answers_is_not_waited_for(tmp_path: Path, line: Line, clock: _Clock) -> None:
    async with _paced(tmp_path, line) as one:
        clock.now += 3.1
        asked = line.asked
        for _ in range(3):
            await one.press("j")
            await _assert_same(one, line, "j")
        assert line.asked == asked, "nothing is asked any more"


async def test_a_frame_that_waits_is_written_at_last(
    tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_driver, "LONGEST", 0.3)
    async with _paced(tmp_path, line) as one:
        for _ in range(2):
            await one.press("j")
            await one.rest()
        await one.until(lambda: line.same(one.driver), "what no answer came for")


async def test_a_terminal_that_never_answers_is_asked_once(tmp_path: Path, line: Line) -> None:
    async with desk(make_cache(tmp_path / "image", many(60)), driver=RecordedCells) as one:
        for key in ("j", "G", "question_mark", "escape"):
            await one.press(key)
            await _assert_same(one, line, key)
        assert line.asked == 1


async def test_no_answer_is_left_to_the_shell(tmp_path: Path, line: Line) -> None:
    late = threading.Timer(0.1, lambda: line.answer(line.asked))

    class Ending(RecordedCells):
        def stop_application_mode(self) -> None:
            late.start()
            super().stop_application_mode()

    async with _paced(tmp_path, line, Ending) as one:
        await one.press("j")
        await one.rest()
        assert line.asked
    late.join()
    assert not line.typed_ahead


# Which driver


async def test_what_is_typed_is_waited_for(tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float | None]()

    def watched(reading: list[int], writing: list[int], odd: list[int], pause: float | None) -> object:
        pauses.append(pause)
        return select.select(reading, writing, odd, pause)

    monkeypatch.setattr("ocitui.tui.cell_driver.select", watched)
    async with desk(make_cache(tmp_path / "image", SEVEN), SMALL, driver=RecordedCells) as one:
        line.type("?")
        await one.until(lambda: one.top == "HelpScreen", "the help")
        # Nothing follows that would tell that it is a key.
        line.type("\x1b")
        await one.until(lambda: one.top == "MainScreen", "the way back")
        await one.until(lambda: pauses[-1] is None, "a look that nothing but a key ends")


@pytest.mark.parametrize("whole_frames", [False, True])
def test_the_option_takes_textuals_own_driver(tmp_path: Path, whole_frames: bool) -> None:
    app = OcituiApp(Session(ScreenOptions(tmp_path, whole_frames=whole_frames)))
    assert app.driver_class is (LinuxDriver if whole_frames else CellDriver)


def test_another_driver_of_the_operators_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textual.constants.DRIVER", "textual.drivers.headless_driver:HeadlessDriver")
    assert OcituiApp(Session(ScreenOptions(tmp_path))).driver_class.__name__ == "HeadlessDriver"


# What it costs


@pytest.mark.parametrize("size", [SMALL, WIDE])
async def test_what_each_key_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    cache = make_cache(tmp_path / "image", many(500))
    with line_of(size, monkeypatch) as line:
        async with desk(cache, size, driver=RecordedCells) as one:
            await one.rest()
            for key in ["j", "pagedown", *_KEYS]:
                before = len(line.written)
                await one.press(key)
                await one.rest()
                assert cost(line.written[before:]) <= most_bytes(size, key), key
                await _home(one)
