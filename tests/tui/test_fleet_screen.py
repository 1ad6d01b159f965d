"""The screen of a fleet: a row for each host as it answers, in the words of the command's table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from ocitui.directory import DEFAULT_DIRECTORY
from ocitui.remote import FleetRow, FleetStanding, SshPlace
from ocitui.text import age_of
from ocitui.tui.app import OcituiApp
from ocitui.tui.screens.fleet import FleetScreen, HostRow
from ocitui.tui.session import ScreenSettings, settings_path
from ocitui.tui.widgets.lines import LinesView, PickList
from ocitui.words import fleet_cells
from tests.tui.line_support import RecordedCells, cost, line_of, most_bytes
from tests.tui.screen_support import SMALL, WIDE, Desk, make_app, text_of

pytestmark = pytest.mark.slow

NOW, CACHE = 1_780_000_000.0, str(DEFAULT_DIRECTORY)
SOUND: dict[str, Any] = {
    "outcome": "loaded",
    "entries": 12,
    "used": 0.5,
    "free": 5 << 30,
    "trash": 3 << 20,
    "version": "1.2.3",
}
ROWS = {
    "web1": FleetRow("web1", CACHE, FleetStanding.CLEAN, NOW - 12, daemon=True, zones=2, **SOUND),
    "web2": FleetRow("web2", CACHE, FleetStanding.PROBLEMS, NOW - 5, problems={"critical": 1, "low": 2}, **SOUND),
    "db1": FleetRow(
        "db1",
        CACHE,
        FleetStanding.UNREACHED,
        NOW - 9,
        "host-key",
        "its key is unknown",
        "ask who runs it",
    ),
    "db2": FleetRow("db2", CACHE, FleetStanding.PROBLEMS, NOW - 7, zones=3, failing=1, **SOUND),
}


class Asked:
    """What stands for the asking: a host answers once it is in `ready`."""

    def __init__(self, *ready: str) -> None:
        self.ready, self.times = {*ready}, 0

    async def __call__(
        self, places: Sequence[SshPlace], *, sudo: bool, tell: Callable[[SshPlace, FleetRow], Any]
    ) -> None:
        self.times += 1
        waiting = [*places]
        while waiting:
            for place in [one for one in waiting if one.name in self.ready]:
                waiting.remove(place)
                tell(place, ROWS[place.name])
            await asyncio.sleep(0.01)


def fleet_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked, **options: Any) -> OcituiApp:
    monkeypatch.setattr("ocitui.text.time", lambda: NOW)
    monkeypatch.setattr("ocitui.tui.screens.fleet.survey", asked)
    return make_app(tmp_path / "none", hosts=[SshPlace.parse(name) for name in ROWS], **options)


@asynccontextmanager
async def fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked, size: tuple[int, int] = SMALL, **options: Any
) -> AsyncIterator[Desk]:
    app = fleet_app(tmp_path, monkeypatch, asked, **options)
    async with app.run_test(headless=False, size=size) as pilot:
        yield Desk(app, pilot)


def order(one: Desk) -> list[str]:
    screen = one.app.screen
    assert isinstance(screen, FleetScreen)
    return [key.removeprefix("ssh://") for key in screen.rows if key != "titles"]


async def test_rows_come_as_hosts_answer_and_the_worst_stand_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked("web1", "web2")
    async with fleet(tmp_path, monkeypatch, asked) as one:
        await one.until(lambda: "2 of 4 hosts answered" in one.text and order(one) == ["web2", "web1", "db1", "db2"])
        assert "1 critical, 2 low" in one.text
        assert one.text.count("asking") == 2
        await one.press("f5")
        await one.until(lambda: "they are being asked" in one.status)
        asked.ready |= {"db1", "db2"}
        await one.until(lambda: "asked 12s ago" in one.text)
        assert order(one) == ["web2", "db2", "db1", "web1"]
        assert "host-key: its key is unknown" in one.text
        assert "2 hosts with problems  1 host not reached  1 host without a problem" in one.text
        await one.press("f5")
        await one.until(lambda: asked.times == 2)


async def test_answers_that_come_together_are_drawn_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"web{number:03}": msgspec.structs.replace(ROWS["web1"], host=f"web{number:03}") for number in range(200)}
    monkeypatch.setattr("tests.tui.test_fleet_screen.ROWS", many)
    asked, drawn, show = Asked(), list[int](), FleetScreen.show_rows

    def counting(screen: FleetScreen, rows: Iterable[HostRow]) -> None:
        drawn.append(1)
        show(screen, rows)

    # No age goes on meanwhile.
    monkeypatch.setattr("ocitui.tui.screens.fleet._TICK_SECONDS", 3600)
    monkeypatch.setattr(FleetScreen, "show_rows", counting)
    async with fleet(tmp_path, monkeypatch, asked) as one:
        await one.until(lambda: "0 of 200 hosts answered" in one.text)
        before = len(drawn)
        asked.ready |= {*many}
        await one.until(lambda: "200 hosts without a problem" in one.text and "asked 12s ago" in one.text)
        # The first of them, all others, and that no more is asked.
        assert len(drawn) - before <= 3


async def test_a_filter_that_comes_at_once_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As over a slow line, or pasted: keys of it quit, or ask all hosts again."""
    asked = Asked(*ROWS)
    async with fleet(tmp_path, monkeypatch, asked) as one:
        await one.until(lambda: len(order(one)) == 4 and not one.text.count("asking"))
        one.send_at_once("slash", *"Rjqdb", "enter")
        await one.until(lambda: "filter 'Rjqdb': 0/4" in one.text)
        await one.press("escape")
        one.send_at_once("slash", *"no", "escape", "slash", *"db", "enter", "n")
        await one.until(lambda: "filter 'db': 2/4" in one.text)
        assert asked.times == 1
        await one.press("escape")
        one.send_at_once("slash", *"no", "escape", "slash")
        await one.pilot.pause()
        await one.until(lambda: len(order(one)) == 4)


async def test_an_age_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.tui.screens.fleet._TICK_SECONDS", 0.02)
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS)) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        monkeypatch.setattr("ocitui.text.time", lambda: NOW + 8)
        await one.until(lambda: f"asked {age_of(NOW - 12)} ago" in one.text and " 13s " in one.text)


async def test_filter_sort_and_the_next_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS)) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        await one.press("slash", *"!web", "enter")
        await one.until(lambda: order(one) == ["db2", "db1"])
        assert "2/4" in one.status
        await one.press("escape")
        await one.until(lambda: len(order(one)) == 4)
        await one.press("s")
        await one.until(lambda: one.top == "MenuScreen")
        await one.press("H")
        await one.until(lambda: one.top == "FleetScreen" and order(one) == ["web2", "web1", "db2", "db1"])
        await one.press("g", "n")
        await one.until(lambda: one.app.screen.query_one(PickList).key == "ssh://db2")
        await one.press("N")
        await one.until(lambda: one.app.screen.query_one(PickList).key == "ssh://web2")
        await one.press("exclamation_mark")
        await one.until(lambda: order(one) == ["web2", "db2", "db1", "web1"])
        await one.press("escape")
        await one.until(lambda: "q quits" in one.status)


async def test_what_is_for_one_cache_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS)) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        await one.press("colon", *"undo", "enter")
        await one.until(lambda: "Undo is for the cache of one host" in one.status)


async def test_what_is_of_the_program_is_for_a_fleet_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS)) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        theme = one.app.theme
        await one.press("colon", *"theme", "enter")
        await one.until(lambda: one.top == "FleetScreen" and one.app.theme != theme)
        await one.press("colon", *"help", "enter")
        await one.until(lambda: one.top == "HelpScreen")
        # Of the cache of this host nothing is known.
        assert "4 hosts \u203a help" in one.text
        for said in ("kratad down", "reading", str(tmp_path)):
            assert said not in "\n".join(one.text.splitlines()[:2])


async def test_a_filter_holds_while_it_is_typed_and_escape_brings_back_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS)) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        await one.press("slash", *"web")
        await one.until(lambda: order(one) == ["web2", "web1"])
        await one.press("1")
        await one.until(lambda: order(one) == ["web1"])
        await one.press("enter", "slash", "backspace", "2")
        await one.until(lambda: order(one) == ["web2"])
        await one.press("escape")
        await one.until(lambda: order(one) == ["web1"] and "filter 'web1'" in one.status)


async def test_keys_of_the_theme_say_what_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS)) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        await one.press("T")
        await one.until(lambda: f"theme {one.app.home.settings.theme}; K keeps it" in one.status)
        await one.press("K")
        await one.until(lambda: f"the next start looks like this: {settings_path()}" in one.status)
        await one.press("H")
        colour = one.app.home.settings.host_colour
        await one.until(lambda: f"the host's name stands on {colour}; K keeps it" in one.status)
        await one.press("K")
        await one.until(lambda: f'host_colour = "{colour}"' in settings_path().read_text())
        assert f'theme = "{one.app.home.settings.theme}"' in settings_path().read_text()
        assert colour != ScreenSettings().host_colour


async def test_caches_of_one_host_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_host = {
        "web1/srv/a": FleetRow("web1", "/srv/a", FleetStanding.CLEAN, NOW - 12, **SOUND),
        "web1/srv/b": FleetRow("web1", "/srv/b", FleetStanding.UNREACHED, NOW - 12, "host-key", "its key is unknown"),
        "web1": FleetRow("web1", CACHE, FleetStanding.CLEAN, NOW - 12, **SOUND),
    }
    assert [fleet_cells(row)[0] for row in one_host.values()] == [*one_host]
    monkeypatch.setattr("tests.tui.test_fleet_screen.ROWS", one_host)
    async with fleet(tmp_path, monkeypatch, Asked()) as one:
        await one.until(lambda: all(f"? {name} " in one.text for name in one_host))


async def test_a_directory_that_many_have_does_not_hide_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = f"/srv/{'long/' * 9}krata/cache/image"
    for name in ("web1", "web2"):
        monkeypatch.setitem(ROWS, name, msgspec.structs.replace(ROWS[name], directory=directory))
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS)) as one:
        await one.until(lambda: "asked" in one.header, "all have answered")
        for name in ("web1", "web2"):
            assert any(f"{name}…" in line and "image " in line for line in one.text.splitlines())


async def test_a_reason_is_not_cut_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = f"its key is unknown, {'and nobody confirmed it yet, ' * 2}says ssh"
    monkeypatch.setitem(ROWS, "db1", FleetRow("db1", CACHE, FleetStanding.UNREACHED, NOW, "host-key", long))
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS), WIDE) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        rows = one.text.splitlines()[2:7]
        told = next(row for row in rows if " db1" in row)
        assert f"host-key: {long} " in told
        # What was seen when stands in its column.
        assert len({len(row.rstrip()) for row in rows[1:]}) == 1


async def test_nothing_is_said_to_be_asked_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(tmp_path, monkeypatch, Asked()) as one:
        await one.until(lambda: "0 of 4 hosts answered" in one.text)
        await one.press("ctrl+c")
        await one.until(lambda: "no more are asked" in one.status)
        await one.until(lambda: "asking" not in one.text and "not asked" in one.header)
        await one.press("ctrl+c")
        await one.until(lambda: "q quits" in one.status)


async def test_a_host_that_is_opened_can_be_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("ocitui.tui.session.Session.of_host", hang)
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS)) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        for key in ("escape", "ctrl+c"):
            await one.press("enter")
            await one.until(lambda: "esc cancels" in one.status)
            await one.press(key)
            await one.until(lambda: "cancelled" in one.status)


async def test_details_stand_beside_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS), (160, 40)) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        await one.press("g")
        view = one.app.screen.query_one(LinesView)
        assert view.region.x > 70
        assert "1 critical, 2 low" in text_of(view)
        assert "1.2.3" in one.text
        await one.press("j", "j")
        await one.until(lambda: "ask who runs it" in one.lines)


async def test_a_host_that_cannot_be_opened_is_told_and_the_table_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with fleet(tmp_path, monkeypatch, Asked(*ROWS)) as one:
        await one.until(lambda: "asked 12s ago" in one.text)
        await one.press("enter")
        await one.until(lambda: "cannot start ssh" in one.status)
        assert one.top == "FleetScreen"


@pytest.mark.parametrize("size", [SMALL, WIDE])
def test_it_looks_like_this(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snap_compare: Callable[..., bool]
) -> None:
    asked = Asked(*ROWS)
    app = fleet_app(tmp_path, monkeypatch, asked)

    async def arrange(pilot: Pilot[int]) -> None:
        one = Desk(app, pilot)
        await one.until(lambda: "asked 12s ago" in one.text)
        await one.press("g", "j", "j")

    assert snap_compare(app, terminal_size=size, run_before=arrange)


async def test_keys_cost_a_slow_line_as_little_as_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with line_of(SMALL, monkeypatch) as line:
        async with fleet(tmp_path, monkeypatch, Asked(*ROWS), driver=RecordedCells) as one:
            await one.until(lambda: "asked 12s ago" in one.text)
            for key in ("g", "j", "slash", "escape", "s", "escape", "question_mark", "escape"):
                await one.pilot.pause()
                before = len(line.written)
                await one.press(key)
                await one.pilot.pause()
                assert cost(line.written[before:]) <= most_bytes(SMALL, key), key
