"""What the daemon would do: with index.json, with a name in a format, and why; and what zones need of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import on, work
from textual.widget import Widget
from textual.widgets import Input, Static

from ocitui.cache import (
    INDEX_NAME,
    MOST_INDEX_BYTES,
    CacheError,
    Condition,
    DocumentError,
    Explanation,
    Health,
    ImageName,
    PackedFormat,
    StorageError,
    Verdict,
    known_format,
    note_resolved,
    read_regular,
)
from ocitui.doctor import Answer, Assessment, Chain, JudgedNeed, Link, LinkState, chain_of, judged_needs
from ocitui.host import Zone, Zones, read_zones
from ocitui.text import counted, short_digests
from ocitui.words import capital, with_text, zone_lines, zones_lines

from ..widgets.bars import FieldRow, Question
from ..widgets.document_view import DocumentView
from ..widgets.lines import BAD, GOOD, UNKNOWN, Kind, Line, LinesView, PickList, PickRow, bound, heading
from .base import DRAW_SECONDS, TYPED_INTO, EntryToShow, FullScreen, ListScreen, Throttle, error_lines, run_beside

_MARKS: dict[LinkState, tuple[str, Kind]] = {
    LinkState.OK: (GOOD, "plain"), LinkState.BAD: (BAD, "bad"), LinkState.UNKNOWN: (UNKNOWN, "muted"),
}  # fmt: skip


class VerdictScreen(FullScreen[None]):
    """Reads the file again, as it is now; changes nothing."""

    subject = "verdict"
    CSS = """
    VerdictScreen LinesView { height: auto; max-height: 50%; }
    VerdictScreen DocumentView { height: 1fr; }
    """

    def compose_body(self) -> Iterable[Widget]:
        yield LinesView()
        yield DocumentView()

    def begin(self) -> None:
        self.show_lines([Line("reading index.json; a torn one is given a second", kind="muted")])
        self._read()

    @work
    async def _read(self) -> None:
        try:
            live = self.session.live
            verdict, assessment = await asyncio.gather(self.session.cache.examine(), live.assess())
            self.show_lines(verdict_lines(verdict, live.health, assessment))
            if not verdict.sound:
                await self._show_bytes(verdict)
        except CacheError as error:
            self.show_lines(error_lines(error))

    async def _show_bytes(self, verdict: Verdict) -> None:
        """The file as it is stored, at the place where it breaks."""
        view = self.query_one(DocumentView)
        try:
            raw = await asyncio.to_thread(read_regular, self.session.directory / INDEX_NAME, MOST_INDEX_BYTES)
        except StorageError as error:
            view.clear(error.message)
            return
        await view.show_document(raw, error=DocumentError(verdict.message, line=verdict.line, column=verdict.column))
        view.focus()


def verdict_lines(verdict: Verdict, health: Health, assessment: Assessment | None) -> list[Line]:
    """The verdict in words, and what an operator should do, as the assessment says."""
    lines = [
        Line(verdict.outcome, "outcome", "good" if verdict.sound else "bad"),
        Line(f"If it started now, {verdict.consequence}.", "daemon"),
    ]
    lines += with_text(Line(verdict.place, "error", "bad"))
    if health.condition is Condition.MISSING:
        held = "It held entries when it was last read; a running daemon writes it at its next store."
        lines.append(Line(held, "gone", "bad"))
    if assessment is not None and assessment.headline:
        lines.append(Line(f"{capital(assessment.headline)}.", "advice", "bad"))
    if not verdict.sound:
        lines.append(Line("No entry is written while it is so; m on the first screen plans what mends it.", "mend"))
    return lines


class AnswerScreen(FullScreen[None]):
    """Answers while it stands: enter asks again. What is ``asked`` at first is answered at once, unless it is empty."""

    AUTO_FOCUS = "Input"
    always = TYPED_INTO
    label: ClassVar[str] = "Name"

    def __init__(self, asked: str) -> None:
        super().__init__()
        self._asked = asked

    def compose_body(self) -> Iterable[Widget]:
        yield FieldRow((self.label, Question(self._asked, id="name")))
        yield LinesView()

    async def answer(self, asked: str) -> list[Line]:
        """The answer. Raises CacheError where there is none."""
        raise AssertionError("a screen of its own says this")

    def begin(self) -> None:
        if self._asked:
            self.look_up()

    @on(Input.Submitted)
    @work(exclusive=True)
    async def look_up(self) -> None:
        """Show the answer to what stands in the field."""
        try:
            lines = await self.answer(self.query_one("#name", Input).value)
        except CacheError as error:
            lines = error_lines(error)
        self.show_lines(lines)


class ResolveScreen(AnswerScreen):
    """Tells hit or miss of a name in a format, and why."""

    BINDINGS = bound({"up": "next_format(-1)", "down": "next_format(1)"}, priority=True)
    subject = "resolve"
    keys = (("enter", "Ask"), ("↑ ↓", "Format"), ("PgUp PgDn", "Scroll"))

    def __init__(self, name: str, format: str) -> None:
        super().__init__(name)
        self._format = known_format(format) or PackedFormat.SQUASHFS

    def compose_body(self) -> Iterable[Widget]:
        name, lines = super().compose_body()
        return name, FieldRow(("Format", Static(self._format, id="format"))), lines

    def action_next_format(self, by: int) -> None:
        formats = list(PackedFormat)
        self._format = formats[(formats.index(self._format) + by) % len(formats)]
        self.query_one("#format", Static).update(self._format)
        self.look_up()

    async def answer(self, asked: str) -> list[Line]:
        cache = self.session.cache
        found = await cache.explain_resolve(ImageName.parse(asked), self._format)
        if found.image and not cache.read_only:
            await asyncio.to_thread(note_resolved, cache.directory, found.image.path.name)
        return explanation_lines(found)


def explanation_lines(explanation: Explanation) -> list[Line]:
    """Hit, miss or error, then the reasons."""
    if explanation.image is not None:
        first = Line("HIT", kind="good")
    elif explanation.error:
        first = Line(f"ERROR: {short_digests(explanation.error)}", kind="bad")
    else:
        first = Line("MISS: the daemon would pull the image", kind="bad")
    found = [Line(explanation.descriptor.digest)] if explanation.descriptor else []
    marks = _MARKS[LinkState.OK], _MARKS[LinkState.BAD]
    reasons = [Line(short_digests(reason.text), *marks[not reason.ok]) for reason in explanation.reasons]
    return [first, *found, Line(), heading("Why"), *reasons]


class WhyScreen(AnswerScreen):
    """Follows a name or digest to the daemon's answer."""

    BINDINGS = bound({"f2": "ask_upstream"}, priority=True)
    subject = "why"
    keys = (("enter", "Ask"), ("F2", "Ask the registry"), ("PgUp PgDn", "Scroll"))
    label = "Name, digest"
    _upstream = False

    async def answer(self, asked: str) -> list[Line]:
        directory, upstream, self._upstream = self.session.directory, self._upstream, False
        chain = await run_beside(lambda: chain_of(directory, asked.strip()))
        if not upstream:
            return chain_lines(chain)
        from ocitui.doctor import ask_upstream_of
        from ocitui.importing import RegistryOptions

        self.show_lines([*chain_lines(chain), Line("asking the registry", "upstream", "muted")])
        keep = not self.session.live.read_only
        return chain_lines(await run_beside(lambda: ask_upstream_of(directory, chain, RegistryOptions(), keep=keep)))

    def action_ask_upstream(self) -> None:
        """Whether the name is the same there today, and whether the image can be had again."""
        self._upstream = True
        self.look_up()


def chain_lines(chain: Chain) -> list[Line]:
    """A line or more for each link, and in each format the answer."""
    lines = [*_links(chain.links)]
    if chain.assumed:
        lines.append(Line("from here on as it would be once index.json is mended", kind="muted"))
    for one in chain.formats:
        kind: Kind = "good" if one.answer is Answer.HIT else "bad"
        lines += [Line(), heading(f"In {one.format}"), *_links(one.links)]
        lines.append(Line(short_digests(one.text), "= daemon", kind))
    return lines


def _links(links: Sequence[Link]) -> Iterable[Line]:
    for link in links:
        mark, kind = _MARKS[link.standing]
        yield Line(short_digests(link.text), f"{mark} {link.title}", kind)
        if link.advice:
            # A command is to be typed as it stands.
            yield Line(link.advice, "  do", "muted")


class ZonesScreen(ListScreen[EntryToShow | None, PickRow]):
    """Tells which zone needs which entry, and whether that is there."""

    BINDINGS = bound({"r": "read"})
    subject = "zones"
    shown_as = "the zone"

    def __init__(self) -> None:
        super().__init__()
        self._zones: Zones | None = None
        self._needs: dict[str, list[JudgedNeed]] = {}
        # What the daemon says is asked for once, and by key.
        self._throttle = Throttle(self, DRAW_SECONDS, lambda: self._read(ask=False))

    def begin(self) -> None:
        self.stand("reading krata.db, and asking the daemon")
        self.action_read()

    def entries_changed(self) -> None:
        self._throttle.ask()

    def action_read(self) -> None:
        self._read(ask=True)

    @work(group="read", exclusive=True)
    async def _read(self, *, ask: bool) -> None:
        directory = self.session.directory
        with self.saying_errors():
            zones = await asyncio.to_thread(lambda: read_zones(directory, ask=ask))
            needs = await asyncio.to_thread(judged_needs, directory, zones)
            # Database and daemon may tell of one zone otherwise.
            keys = {id(zone): f"{number} {zone.uuid}" for number, zone in enumerate(zones.zones)}
            self._zones, self._needs = zones, {key: [] for key in keys.values()}
            for one in needs:
                self._needs[keys[id(one.zone)]].append(one)
            title = f"{counted(len(zones.zones), 'zone')}{'' if zones.sure else ', and perhaps others'}"
            rows = [_row(keys[id(zone)], zone, self._needs[keys[id(zone)]]) for zone in zones.zones]
            self.show_rows([PickRow("all", title, "sure" if zones.sure else "not sure", "heading"), *rows])
            self.stand("" if zones.zones else "no zone is known")

    def draw_detail(self) -> None:
        zones, key = self._zones, self.key
        if zones is None:
            return
        zone = zones.zones[int(key.partition(" ")[0])] if key in self._needs else None
        every = [need for needs in self._needs.values() for need in needs]
        lines = [*zones_lines(zones, every)] if zone is None else [*zone_lines(zone, self._needs[key])]
        self.show_lines(lines or [Line("every entry that a zone needs is there", kind="good")])
        self.show_keys([("r", "Read again"), *([("enter", "Go to")] if self._needs.get(key) else [])])

    @on(PickList.Picked)
    def _picked(self) -> None:
        # Of several one that is not there as it should be.
        if needs := sorted(self._needs.get(self.key, ()), key=lambda one: not one.fails):
            self.dismiss((needs[0].need.digest, needs[0].need.format, needs[0].name))


def _row(key: str, zone: Zone, needs: Sequence[JudgedNeed]) -> PickRow:
    said = "  ".join(f"{one.need.role} {one.verdict}" for one in needs)
    failing = any(one.fails for one in needs)
    kind: Kind = "bad" if failing or zone.problem else "muted" if zone.state not in ("created", "creating") else "plain"
    return PickRow(key, f"{zone.label}  {zone.state}", zone.problem or said, kind)
