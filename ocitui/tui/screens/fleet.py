"""Many hosts in one table, as they answer: each is asked over ssh, and none holds up the others; enter opens one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len
from textual import events, on, work
from textual.widget import Widget

from ocitui.directory import FAR
from ocitui.remote import FleetRow, FleetStanding, survey
from ocitui.text import age_of, clean, counted, fit_columns
from ocitui.words import FLEET_COLUMNS, fleet_cells, fleet_lines, fleet_sums

from ..live import LiveChange
from ..widgets.bars import Bar, HeaderBar, HealthBar, OneLineQuestion, Part, fleet_title
from ..widgets.lines import (
    ASCENDING,
    CURSOR,
    DESCENDING,
    GOOD,
    SEVERITIES,
    UNKNOWN,
    Cell,
    Line,
    PickList,
    PickRow,
    bound,
    fit,
    role_of,
)
from .base import ListScreen, Throttle
from .popups import MenuScreen

_TITLES, _GATHER_SECONDS, _TICK_SECONDS, _VERDICT = "titles", 0.1, 1.0, 1
_SORTS: dict[str, tuple[int, Callable[[FleetRow], object]]] = {
    "h": (0, lambda row: row.host),
    "v": (_VERDICT, lambda row: row.order),
    "e": (2, lambda row: -row.entries),
    "d": (3, lambda row: -(row.used or 0)),
    "t": (4, lambda row: -row.trash),
    "z": (6, lambda row: (-row.failing, -row.zones)),
    "o": (7, lambda row: row.version),
    "s": (8, lambda row: row.seen),
}
"""By its letter each column that can be sorted by, what is first of all to be looked at first."""


@lru_cache(maxsize=64)
def _fitted(widest: tuple[int, ...], reason: int, width: int) -> tuple[list[int], list[int], int]:
    """The columns that are shown, how wide each is, and how wide a ``reason`` why a host was not reached: it has the
    room of what is not known then, and what no column needs."""
    widths = [*widest]
    shown = fit_columns(FLEET_COLUMNS, widths, width, 1)
    spare = width - sum(widths[at] + 1 for at in shown) + 1
    room = sum(widths[at] + 1 for at in shown[_VERDICT:] if FLEET_COLUMNS[at].title != "SEEN") - 1
    more = max(min(spare, reason - room), 0)
    widths[_VERDICT] += more
    return shown, widths, room + more


def _host_text(name: str, width: int) -> str:
    """A host's cache in exactly so many cells: of its directory, which many may have alike, the end goes last."""
    host, _, path = name.partition("/")
    room = width - cell_len(host) - 1
    if room < 0 or cell_len(name) <= width:
        return fit(name, width, middle=True)
    return fit(f"{host}…{path[len(path) - room :]}", width)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow(PickRow):
    """A host, or the titles; ``texts`` are those of its columns, each ``widest`` so many cells wide, and a ``reason``
    why one was not reached so many."""

    texts: tuple[str, ...]
    widest: tuple[int, ...]
    reason: int
    sign: Cell = (" ", "plain")
    unreached: bool = False

    def cells(self, width: int, pointed: bool) -> Sequence[Cell]:
        shown, widths, room = _fitted(self.widest, self.reason, max(width - 5, 1))
        if self.unreached:
            shown = [at for at in shown if at <= _VERDICT or FLEET_COLUMNS[at].title == "SEEN"]
            widths = [room if at == _VERDICT else width for at, width in enumerate(widths)]
        cells: list[Cell] = [(f"{CURSOR if pointed else ' '} ", "plain"), self.sign, (" ", "plain")]
        for at in shown:
            told = clean(self.texts[at])
            text = fit(told, widths[at], right=FLEET_COLUMNS[at].right) if at else _host_text(told, widths[at])
            role = self.sign[1] if at == _VERDICT and not self.rule else role_of(self.kind)
            cells.append((f"{text} ", "muted" if role == "good" or FLEET_COLUMNS[at].title == "SEEN" else role))
        return cells


class FleetScreen(ListScreen[None, HostRow]):
    """The hosts, the worst first; what is known of one is as it was when that was asked."""

    BINDINGS = bound(
        {
            "slash": "filter", "s": "sort", "exclamation_mark": "worst_first", "n": "bad_row(1)", "N": "bad_row(-1)",
            "R,f5": "refresh", "T": "app.next_theme", "H": "host_colour", "K": "keep_settings",
        }
    )  # fmt: skip
    DEFAULT_CSS = "FleetScreen { PickList { height: 2fr; } &.-beside PickList { height: 100%; } }"
    subject = "fleet"
    shown_as = "the host"
    asks = takes_nothing = True
    keys = (("enter", "Open"), ("/", "Filter"), ("s", "Sort"), ("n", "Next bad"), ("F5", "Ask again"), ("c", "Copy"))
    always = ((":", "all"), ("?", "help"), ("q", "quit"))

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, FleetRow] = {}
        """What each place told, by its text."""
        self._answered = 0
        self._filter = self._filter_before = ""
        self._sort, self._reverse = "v", False
        self._throttle = Throttle(self, _GATHER_SECONDS, self._tick)

    def compose_body(self) -> Iterable[Widget]:
        # While a host's cache is shown, the application's session is that one's.
        self._home = self.app.home
        self._places = {str(place): place for place in self._home.options.hosts}
        return super().compose_body()

    def begin(self) -> None:
        self.action_refresh()
        self.set_interval(_TICK_SECONDS, self._tick)

    def live_changed(self, change: LiveChange) -> None:
        """No cache is looked at here: it is what the program says."""
        self.say(change.said)

    # What is asked

    def action_refresh(self) -> None:
        if self._runs("ask"):
            self.say("they are being asked")
        else:
            self._ask()

    @work(group="ask")
    async def _ask(self) -> None:
        options, self._answered = self._home.options, 0

        def tell(place: object, row: FleetRow) -> None:
            self._known[str(place)] = row
            self._answered += 1
            self._throttle.ask()

        self._show()
        await survey(options.hosts, sudo=options.sudo, tell=tell)
        self.call_later(self._tick)

    def _runs(self, group: str) -> bool:
        return any(worker.group == group and not worker.is_finished for worker in self.workers)

    def on_screen_resume(self) -> None:
        self._throttle.ask()

    def _tick(self) -> None:
        """Answers have come, and ages go on; below another screen nothing is drawn."""
        if self.app.screen is self:
            self._show()

    # What is shown

    def _show(self) -> None:
        texts = {key: self._texts(key) for key in self._places}
        passing = [key for key, told in texts.items() if self._passes(" ".join(told).lower())]
        at, order = _SORTS[self._sort]
        known = sorted((key for key in passing if key in self._known), key=lambda key: (order(self._known[key]), key))
        passing = [*(known[::-1] if self._reverse else known), *(key for key in passing if key not in self._known)]
        titles = [f"{column.title}{' ' * column.right}" for column in FLEET_COLUMNS]
        titles[at] = f"{FLEET_COLUMNS[at].title}{DESCENDING if self._reverse else ASCENDING}"
        # Why a host was not reached takes the room of what is not known.
        told = (texts[key] for key, row in self._known.items() if not row.code)
        reason = max((cell_len(texts[key][_VERDICT]) for key, row in self._known.items() if row.code), default=0)
        names = ((name, *[""] * 8) for name, *_ in texts.values())
        widest = tuple(max(map(cell_len, column)) for column in zip(titles, *told, *names, strict=True))
        top = HostRow(_TITLES, "", kind="muted", rule=True, texts=tuple(titles), widest=widest, reason=reason)
        self.show_rows([top, *(self._row(key, texts[key], widest, reason) for key in passing)])
        self.draw_header()
        hidden = f"filter {self._filter!r}: {len(passing)}/{len(texts)}; esc shows all" if self._filter else ""
        self.stand(hidden)

    def _texts(self, key: str) -> tuple[str, ...]:
        if (row := self._known.get(key)) is not None:
            return tuple(fleet_cells(row))
        return (key.removeprefix(FAR), "asking" if self._runs("ask") else "not asked", *[""] * 7)

    def _row(self, key: str, texts: tuple[str, ...], widest: tuple[int, ...], reason: int) -> HostRow:
        row = self._known.get(key)
        sign: Cell = (UNKNOWN, "muted")
        if row is not None and row.standing is FleetStanding.PROBLEMS:
            sign = SEVERITIES[next(iter(row.problems), "high")]
        elif row is not None:
            sign = (GOOD, "good") if row.standing is FleetStanding.CLEAN else (UNKNOWN, "warn")
        told = row is not None and not row.code
        return HostRow(key, texts[0], texts=texts, widest=widest, reason=reason, sign=sign, unreached=not told)

    def _passes(self, text: str) -> bool:
        words = self._filter.lower().split()
        return all(word[1:] not in text if word[0] == "!" and word != "!" else word in text for word in words)

    def draw_header(self) -> None:
        """This host, and how the others are in all."""
        rows = self._known.values()
        asked = f"asked {age_of(min(row.seen for row in rows))} ago" if rows else "not asked"
        if self._runs("ask"):
            asked = f"{self._answered} of {counted(len(self._places), 'host')} answered"
        sums: list[Part] = []
        for line in fleet_sums(rows):
            sums += [" ", (line.text, role_of(line.kind)), " "]
        for view in self.query(Bar):
            if isinstance(view, HeaderBar):
                view.show(fleet_title(self._home, self.subject), right=[asked, " "])
            elif isinstance(view, HealthBar):
                view.show(sums)

    def draw_detail(self) -> None:
        row = self._known.get(self.key)
        lines = [Line("it has not answered yet", kind="muted")] if row is None else fleet_lines(row)
        self.show_lines(lines, keep_place=True)

    # Keys

    def on_key(self, event: events.Key) -> None:
        """What is typed behind it may be here before the application has looked for the action."""
        if event.key == "slash" and not self.query_one(OneLineQuestion).open:
            self.action_filter()
            event.stop()
            event.prevent_default()

    def action_filter(self) -> None:
        self._filter_before = self._filter
        self.ask(self._filter, "words of a row; !word excludes")

    @on(OneLineQuestion.Changed, "#ask")
    def _typed(self) -> None:
        # It may have been asked anew by now.
        if (question := self.query_one(OneLineQuestion)).open:
            self.answered(question.value)

    def _end_asking(self, keep: bool) -> None:
        super()._end_asking(keep)
        if not keep:
            self.answered(self._filter_before)

    def answered(self, text: str) -> None:
        self._filter = text
        self._show()

    def action_sort(self) -> None:
        rows = {letter: FLEET_COLUMNS[at].title.lower() for letter, (at, _) in _SORTS.items()}
        self.app.push_screen(MenuScreen("sort by", rows, "again, or a capital: the other way"), self._sorted)

    def _sorted(self, choice: tuple[str, bool] | None) -> None:
        if choice is not None:
            letter, other_way = choice
            self._reverse = not self._reverse if letter == self._sort else other_way
            self._sort = letter
            self._show()

    def action_worst_first(self) -> None:
        self._sort, self._reverse = "v", False
        self._show()

    def action_bad_row(self, step: int) -> None:
        keys = [key for key in self.rows if key != _TITLES]
        at = keys.index(self.key) if self.key in keys else 0
        others = [keys[(at + step * away) % len(keys)] for away in range(1, len(keys) + 1)]
        bad = (key for key in others if key in self._known and self._known[key].standing is not FleetStanding.CLEAN)
        if found := next(bad, ""):
            self.query_one(PickList).move_to(found)
        else:
            self.say("no bad row is shown")

    @on(PickList.Picked)
    def _picked(self) -> None:
        if self.key in self._places:
            self._open(self.key)

    @work(group="open", exclusive=True)
    async def _open(self, key: str) -> None:
        """Show a host's cache, as it is now; it is asked again for as long as that screen is open."""
        place = self._places[key]
        self.say(f"asking {place.name}; esc cancels")
        with self.saying_errors():
            session = await self._home.of_host(place)
            self.say("")
            await self.app.visit(session)

    def action_leave(self) -> None:
        if self._runs("open"):
            self.workers.cancel_group(self, "open")
            self.say("cancelled")
        elif self._filter:
            self.answered("")
        else:
            self.say("q quits")

    action_back = action_leave

    def action_interrupt(self) -> None:
        if self._runs("open"):
            self.action_leave()
        elif self._runs("ask"):
            self.workers.cancel_group(self, "ask")
            self.say("no more are asked; F5 asks all again")
        else:
            self.say("nothing is running; q quits")

    def action_quit(self) -> None:
        self.app.exit(0)
