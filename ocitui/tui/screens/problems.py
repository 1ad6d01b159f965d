"""The problems: what the judge says is wrong, the worst first, as it is by now; and what can be done about it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby
from typing import ClassVar

import msgspec
from rich.cells import cell_len
from textual import on, work
from textual.binding import BindingType
from textual.widget import Widget

from ocitui.cache import CacheError, Condition, expect_entries, list_trash, trash_identity
from ocitui.doctor import FILE_FAULTS, Depth, Finding, RepairOptions, acknowledge, by_fault, entry_text, tally, withdraw
from ocitui.stand_in import fact_of
from ocitui.text import clean, counted
from ocitui.words import (
    SHORT_ID,
    capital,
    check_progress,
    finding_lines,
    finding_tone,
    first_acts,
    heading,
    kind_lines,
    no_finding_lines,
    short_lines,
    single_lines,
)

from ..actions import BY_NAME, Action
from ..live import P_SHOWS_IT, LiveCache, LiveChange
from ..terminal import Role
from ..widgets.bars import RULE, Bar, Part, RuleBar, condition_text
from ..widgets.lines import (
    CURSOR,
    SEVERITIES,
    Cell,
    Line,
    LinesView,
    LongList,
    PickList,
    PickRow,
    bound,
    devices_text,
    fit,
    format_text,
    name_cells,
)
from .base import DRAW_SECONDS, EntryToShow, ListScreen, Throttle
from .popups import Copyable, texts_to_copy

_INDENT, _NONE = "  ", "–"
_ORIGINS = {"": "", _NONE: "", "trash": "the trash"}
"""Where a copy lies, as the column says it; else on a device."""
_MOST = 1000
"""Rows of a kind; the heading stands for the others too."""
_NAME_MOST, _SEEN_LEAST, _NARROW = 52, 30, 8
_MOST_FIRST = 4
_BY_HAND = {
    "disk-full": "room",
    "journal-damaged": "trash",
    "zone-needs-missing": "import_image",
    "zone-file-missing": "import_image",
    "database-lost": "zones",
    "database-damaged": "zones",
    "domain-without-row": "zones",
}
"""What no repair mends, and the action that helps."""


class _Columns(msgspec.Struct):
    """What the columns of all rows need: the widest texts, and whether any copy is known, and anything used."""

    name: int = 0
    seen: int = 0
    source: bool = False
    used: bool = False

    def widths(self, width: int) -> tuple[int, int, int, int, int]:
        """Those of name, format, what was seen, where a copy is, and who uses it; 0 is left out."""
        format_ = _NARROW if width >= 95 else 3
        source, used = (_NARROW if wanted and width >= 70 else 0 for wanted in (self.source, self.used))
        room = width - 3 - sum(one + bool(one) for one in (format_, source, used))
        name = min(self.name, max(room // 2, room - self.seen), _NAME_MOST)
        return name, format_, min(max(self.seen, _SEEN_LEAST), room - name), source, used


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemRow(PickRow):
    """A row, and the findings it stands for: of a severity, of a kind, or one. ``right`` is what was seen."""

    findings: tuple[Finding, ...] = field(compare=False)
    heading: bool = False
    names: Mapping[str, str] = field(compare=False)
    columns: _Columns
    source: str = ""
    used: str = ""

    @property
    def lines(self) -> list[Line]:
        if self.heading:
            return short_lines(kind_lines([_named(one, self.names) for one in self.findings]))
        named = _named(self.findings[0], self.names)
        name = [Line(named.name, "name")] if named is not self.findings[0] else []
        return [*finding_lines(self.findings[0]), *name]

    def cells(self, width: int, pointed: bool) -> Sequence[Cell]:
        name, format_, seen, source, used = self.columns.widths(width)
        sign, role = SEVERITIES[self.findings[0].severity]
        if self.rule:
            head: Cell = (self.text, "strong") if self.kind == "heading" else (f"{sign} {self.text}", role)
            rule: list[Cell] = [(f"{RULE * 2} ", "faint"), head, (f" {self.right} ", "muted")]
            # Over the first rows, the names of the columns that do not speak for themselves.
            end = name + format_ + seen + 4
            for label, room in ((" FROM ", source), (" USED BY ", used)) if self.start else ():
                if room:
                    rule += [(RULE * (end - _width(rule)), "faint"), (label, "muted")]
                    end += room + 1
            return [*rule, (RULE * (width - _width(rule)), "faint")]
        cells: list[Cell] = [(f"{CURSOR if pointed else ' '} ", "plain")]
        if self.heading:
            return [*cells, (f"{clean(self.text)}  ", "plain"), (self.right, "muted")]
        text: Role = "muted" if self.kind == "muted" else "plain"
        cells += name_cells(self.text, name, role if self.kind == "bad" else text)
        cells += [(f" {format_text(self.findings[0].format, format_)} ", text), (fit(clean(self.right), seen), text)]
        cells += [(f" {fit(self.source, source)}", "muted" if self.source == _NONE else "good")] if source else []
        return [*cells, *([(f" {fit(devices_text(self.used), used)}", "zone")] if used else ())]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRow(ProblemRow):
    """What to do first about its findings, with the key that does it; ``right`` is how many they are."""

    heading: bool = True

    @property
    def action(self) -> Action:
        first = self.findings[0]
        return BY_NAME["mend" if first.fault.step else _BY_HAND[first.code]]

    @property
    def lines(self) -> list[Line]:
        title = heading(f"{self.findings[0].severity.upper()}  {self.text}")
        return short_lines([title, *single_lines(self.findings)])

    def cells(self, width: int, pointed: bool) -> Sequence[Cell]:
        sign, role = SEVERITIES[self.findings[0].severity]
        key, does = self.action.key_label, f" {self.action.label:<6} {self.right:>10}"
        text = fit(clean(self.text), max(width - len(key + does) - 5, 0))
        start: list[Cell] = [(f"{CURSOR if pointed else ' '} ", "plain"), (f"{sign} ", role)]
        return [*start, (f"{text} ", "plain"), (key, "key"), (does, "muted")]


def _width(cells: Iterable[Cell]) -> int:
    return sum(cell_len(text) for text, _ in cells)


def _named(finding: Finding, names: Mapping[str, str]) -> Finding:
    """The finding with the name that its digest has in ``names``, where it has none; its fingerprint is another."""
    name = "" if finding.name else names.get(finding.digest, "")
    return msgspec.structs.replace(finding, name=name) if name else finding


def names_of_before(live: LiveCache) -> dict[str, str]:
    """Of an index that does not read, the names by their digests, and by what is left of it each is known."""
    judge, entries = live.judge, live.entries
    if judge is None or judge.reading.index is not None:
        return {}
    if entries is not None and len(entries):
        known, told = zip(entries.digests, entries.names, strict=True), "last good index"
        return {digest: f"{name} ({told})" for digest, name in known if name}
    history = judge.history
    backup, since = (history.backup, history.since) if history is not None else ((), ())
    expected = expect_entries(judge.directory, backup, since)
    by = {"journal": expected.noted.values(), "backup": expected.descriptors if backup else ()}
    return {one.digest: f"{one.image_name} ({told})" for told, some in by.items() for one in some if one.image_name}


class Around(msgspec.Struct, frozen=True):
    """Beside findings: names by digest of what has none, files the trash has a copy of, and loop devices by file."""

    names: Mapping[str, str] = {}
    trashed: frozenset[str] = frozenset()
    users: Mapping[str, str] = {}

    def source(self, finding: Finding) -> str:
        """Where a copy of a file that is bad lies; empty where no copy would help."""
        if finding.code not in FILE_FAULTS or finding.kind is None:
            return ""
        held = self.users.get(finding.file, "") if finding.code == "file-missing" else ""
        return "trash" if finding.file in self.trashed else devices_text(held) or _NONE


def problem_rows(findings: Sequence[Finding], around: Around) -> list[ProblemRow]:
    """The rows for findings that are in order: what to do first, then a rule for each severity, and below it what was
    found; where several are of a kind, under a heading for all of these."""
    seen, rows, columns = Counter[str](), list[ProblemRow](), _Columns()
    make = partial(ProblemRow, columns=columns, names=around.names)
    for severity, group in groupby(map(tuple, by_fault(findings)), lambda same: same[0].severity):
        kinds = list(group)
        same = tuple(chain.from_iterable(kinds))
        rows.append(make(severity, severity.upper(), str(len(same)), findings=same, rule=True, start=not rows))
        rows += chain.from_iterable(_rows(kind, seen, around, make) for kind in kinds)
    for row in rows:
        if not (row.rule or row.heading):
            columns.name, columns.seen = max(columns.name, cell_len(row.text)), max(columns.seen, cell_len(row.right))
        columns.source, columns.used = columns.source or row.source not in ("", _NONE), columns.used or bool(row.used)
    return [*_first_rows(findings, around, columns), *rows]


def _first_rows(findings: Iterable[Finding], around: Around, columns: _Columns) -> Iterator[ProblemRow]:
    """What to do first, under a rule that says how many of it stand there."""
    problems = (one for one in findings if one.is_problem)
    acts = [*first_acts(problems, lambda one: _ORIGINS.get(around.source(one), "a device"))]
    rule, first = (partial(kind, columns=columns, names=around.names) for kind in (ProblemRow, FirstRow))
    if acts:
        right = f"{_MOST_FIRST} of {len(acts)}: " if len(acts) > _MOST_FIRST else ""
        right, same = f"{right}M plans all; nothing is changed before y", tuple(acts[0][1])
        yield rule("first", "DO FIRST", right, "heading", rule=True, findings=same)
    for text, some in acts[:_MOST_FIRST]:
        yield first(f"{tally(some)} {text}", text, tally(some), findings=tuple(some))


def _rows(
    same: tuple[Finding, ...], seen: Counter[str], around: Around, make: Callable[..., ProblemRow]
) -> Iterator[ProblemRow]:
    first, kind, many = same[0], repr(same[0].fault), len(same) > 1
    if many:
        yield make(kind, first.code, counted(len(same), "finding"), findings=same, heading=True)
    for one in same[:_MOST]:
        # The same may be found of two entries that are equal.
        fingerprint = one.fingerprint
        seen[fingerprint] += 1
        # Its entry, or its file where it is of none; the format has a column.
        subject = _named(one, around.names).name or entry_text(one).removesuffix(f" {one.format}")
        text = f"{_INDENT if many else ''}{subject}"
        shade, right = ("muted", f"acknowledged: {one.seen}") if one.acknowledged else (finding_tone(one), one.seen)
        more = {"source": around.source(one), "used": around.users.get(f"{one.digest}.{one.format}", "")}
        yield make(f"{fingerprint} {seen[fingerprint]}", text, right, shade, findings=(one,), **more)
    if rest := same[_MOST:]:
        text, right = f"{_INDENT}and {len(rest)} more", "the heading is for all"
        yield make(f"{kind}\0more", text, right, "muted", findings=rest, heading=True)


class ProblemsScreen(ListScreen[EntryToShow | None, ProblemRow]):
    """What is wrong, and what can be done about it. A deep check goes on when the screen is left."""

    DEFAULT_CSS = "ProblemsScreen { LinesView { border-top: none; } PickList { height: 1.5fr; } }"
    BINDINGS: ClassVar[list[BindingType]] = [
        *bound({"1": "check('quick')", "2": "check('header')", "3": "check('deep')", "4": "check('layers')"}),
        *bound({"x": "cancel", "m": "mend", "M": "mend_all", "a": "acknowledge", "A": "show_everything"}),
        *bound({BY_NAME[name].keys[0]: f"app.on_main('{name}')" for name in _BY_HAND.values()}),
    ]
    subject = "problems"
    shown_as = "the finding"

    def __init__(self) -> None:
        super().__init__()
        self._findings: tuple[Finding, ...] | None = None
        self._around, self._trash = Around(), object()
        self._detail: list[Line] = []
        self._hidden = self._unread = 0
        self._tally = ""
        self._everything = self._filling = self._changed = False
        self._throttle = Throttle(self, DRAW_SECONDS, self._fill)

    def compose_body(self) -> Iterable[Widget]:
        yield Bar(id="coverage")
        yield from super().compose_body()

    def compose_detail(self) -> Iterable[Widget]:
        yield RuleBar()
        yield LinesView()

    def begin(self) -> None:
        self._throttle.ask()

    def live_changed(self, change: LiveChange) -> None:
        """Draw, at most four times a second. What came of a deep check is told once: the rows say what is so."""
        if change.said:
            self.say(change.said.removesuffix(P_SHOWS_IT))
        self._throttle.ask()

    def on_screen_resume(self) -> None:
        self._throttle.ask()

    # What is shown

    @work(group="fill")
    async def _fill(self) -> None:
        """Draw what is known by now; what changes meanwhile is drawn next."""
        self._changed = True
        if self._filling:
            return
        self._filling = True
        try:
            while self._changed:
                self._changed = False
                rows = await asyncio.to_thread(self._make_rows)
                if rows is not None:
                    self.show_rows(rows)
                self._draw()
        finally:
            self._filling = False

    def _make_rows(self) -> list[ProblemRow] | None:
        """None where they are those that are shown."""
        live = self.session.live
        findings = live.findings()
        around = self._look_around(findings)
        # It is not shown meanwhile, and another count follows on the end of either.
        # Of what stands for another host's cache no packed file can be read.
        can_read = fact_of(self.session.directory, "form") is None
        if live.judge is not None and can_read and not (live.looking or live.deep.running):
            with live.judge.turn:
                self._unread = live.judge.unread()
        if (findings, around) == (self._findings, self._around):
            return None
        self._findings, self._around = findings, around
        listed = [one for one in findings if self._everything or one.is_problem]
        self._hidden, self._tally = len(findings) - len(listed), tally(one for one in findings if one.is_problem)
        return problem_rows(listed, around)

    def _look_around(self, findings: tuple[Finding, ...]) -> Around:
        names, trashed, live = self._around.names, self._around.trashed, self.session.live
        with suppress(CacheError):
            if findings != self._findings:
                names = names_of_before(live)
            if (trash := trash_identity(self.session.directory)) != self._trash:
                # What a repair took out is hardly a good copy.
                files = (one for one in list_trash(self.session.directory) if not one.mended)
                trashed, self._trash = frozenset(one.name for one in files), trash
        return Around(names, trashed, live.host.users)

    def _draw(self) -> None:
        self.draw_header()
        live = self.session.live
        lines: list[list[Part]] = [[(f" {self._coverage}", "muted")], *self._first()]
        for bar in self.query("#coverage").results(Bar):
            bar.styles.height = len(lines)
            bar.show(*lines)
        if not self.rows:
            self.draw_detail()
        running = f"deep check: {check_progress(live.deep.progress)}" if live.deep.running else ""
        if live.deep.error not in ("", self._stands):
            self.conclude(live.deep.error)
        else:
            self.stand(running or live.deep.error)
        self._draw_keys()

    def _first(self) -> Iterator[list[Part]]:
        """What to do before all else, and what is to be looked at yet."""
        live = self.session.live
        if live.assessment is not None and live.assessment.headline:
            yield [("   ✖ ", "bad"), (capital(live.assessment.headline), "strong")]
        if self._unread and live.loaded and not live.deep.running:
            files = counted(self._unread, "packed file")
            yield [" ", ("3", "key"), f" reads all bytes: those of {files} were not read as they are now"]

    @property
    def _coverage(self) -> str:
        """How deep the entries were looked into, what came of it, and what is not shown."""
        live = self.session.live
        state = self._tally or ("looking" if live.looking else condition_text(live.health) or "nothing wrong")
        parts = [str(live.coverage), state, *([f"{self._hidden} not shown"] if self._hidden else [])]
        if live.health.condition in (Condition.GONE, Condition.UNREADABLE):
            # What follows is of before.
            parts = [condition_text(live.health).partition(";")[0], f"last seen: {parts[0]}", *parts[1:]]
        return "; ".join(parts)

    def draw_detail(self) -> None:
        row, live = self.row, self.session.live
        lines = (
            row.lines
            if row is not None
            else no_finding_lines(live.coverage, condition_text(live.health), self._unread, looking=live.looking)
        )
        self._detail = lines
        parts, end = list[Part](), ""
        if row is not None:
            sign, role = SEVERITIES[row.findings[0].severity]
            severity, _, about = lines[0].text.partition(" ")
            parts = [(f" {sign} {severity}", role), (f" {about} ", "strong")]
            end = f" {row.findings[0].fingerprint[:SHORT_ID]} " if not row.heading else ""
        for bar in self.query(RuleBar):
            bar.part(*parts, end=end)
        self.show_lines(lines if row is None else lines[1:])
        self._draw_keys()

    def copied_lines(self) -> Iterable[Line | LongList]:
        return self._detail

    def copies(self) -> list[Copyable]:
        if (row := self.row) is None or row.heading:
            return super().copies()
        one = row.findings[0]
        path = str(self.session.directory.absolute() / one.file) if one.file else ""
        texts = {"name": [one.name], "digest": [one.digest], "path of the file": [path], "id": [one.fingerprint]}
        return [*super().copies(), *texts_to_copy(texts)]

    def _draw_keys(self) -> None:
        keys = [("x", "Cancel")] if self.session.live.deep.running else [("1-4", "Depth")]
        row = self.row
        if row is not None:
            act = row.action if isinstance(row, FirstRow) else BY_NAME["mend"]
            accepted = all(one.acknowledged for one in row.findings)
            keys += [
                (act.key_label, act.label),
                ("M", "Mend all"),
                ("a", "Unacknowledge" if accepted else "Acknowledge"),
            ]
        keys.append(("A", "Fewer" if self._everything else "All"))
        if row is not None and not row.heading and row.findings[0].digest:
            keys.append(("enter", "Go to"))
        self.show_keys([*keys])

    # What can be done

    def action_check(self, depth: str) -> None:
        """Look again; names, documents and headers are looked at always: only reading all bytes is another thing."""
        live = self.session.live
        if live.deep.running:
            self.say("a deep check is under way; x cancels it")
        elif depth == Depth.LAYERS and live.read_only:
            self.say(f"Layers are not fetched: {live.read_only}")
        elif depth in (Depth.DEEP, Depth.LAYERS):
            self.app.check_deep(Depth(depth))
        else:
            live.deep.error = ""
            live.read_again()
            self._throttle.ask()

    def action_cancel(self) -> None:
        if self.session.live.deep.running:
            self.app.cancel_check()
            self.say("cancelling the check")
        else:
            self.say("no check is under way")

    action_interrupt = action_cancel

    def action_show_everything(self) -> None:
        self._everything, self._findings = not self._everything, None
        self._fill()

    @on(PickList.Picked)
    def _picked(self) -> None:
        row = self.row
        if isinstance(row, FirstRow):
            # From the application: what a screen sends does not come by it.
            self.app.call_later(self.app.simulate_key, row.action.keys[0])
        elif row is not None and not row.heading and row.findings[0].digest:
            one = row.findings[0]
            self.dismiss((one.digest, one.format, one.name))

    def action_mend(self) -> None:
        if (row := self.row) is not None:
            self._open_repair(RepairOptions.about(row.findings, asked=isinstance(row, FirstRow)))

    def action_mend_all(self) -> None:
        if self.rows:
            self._open_repair(RepairOptions())

    def _open_repair(self, options: RepairOptions) -> None:
        if self.session.live.deep.running:
            self.say("a deep check is under way; wait for it, or x cancels it")
            return
        from .repair import RepairScreen

        self.app.push_screen(RepairScreen(options), self._repaired)

    def _repaired(self, message: str | None) -> None:
        self.say(message or "")
        self._throttle.ask()

    def action_acknowledge(self) -> None:
        if (row := self.row) is None:
            return
        if self.session.live.read_only:
            self.say(f"Acknowledge: {self.session.live.read_only}")
            return
        self._acknowledge(row.findings)

    @work(group="acknowledge", exclusive=True)
    async def _acknowledge(self, findings: tuple[Finding, ...]) -> None:
        """Accept these findings, or have them shown again where all of them are accepted."""
        directory = self.session.directory
        accepted = all(one.acknowledged for one in findings)
        with self.saying_errors():
            if accepted:
                await asyncio.to_thread(withdraw, directory, {one.fingerprint for one in findings})
            else:
                await asyncio.to_thread(acknowledge, directory, findings)
            are = counted(len(findings), "finding is", "findings are")
            self.say(f"{are} {'shown again' if accepted else 'acknowledged, until they change'}")
            await self.session.live.remember()
