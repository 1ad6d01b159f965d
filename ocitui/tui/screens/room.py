"""Making room: what takes it, the largest first, who needs it, whether it comes back, and marks against a goal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
from rich.cells import set_cell_size
from textual import on, work
from textual.widget import Widget

from ocitui.cache import DeletePlan, Ledger, TrashedFile
from ocitui.doctor import Candidate, ComesBack, Origins, PruneChoice, Room, choose, note_use, parse_rules, survey_room
from ocitui.host import find_users
from ocitui.text import age_of, clean, counted, first_of, human_size, parse_size
from ocitui.words import choice_title, delete_sections, emptied_text, room_lines, total_text

from ..terminal import Role
from ..widgets.bars import Bar, OneLineQuestion, Part
from ..widgets.lines import (
    CURSOR,
    MARK,
    Cell,
    Line,
    LongList,
    PickList,
    PickRow,
    bar_text,
    bound,
    cut,
    devices_text,
    fit,
    format_text,
)
from .base import ConfirmScreen, EntryToShow, ListScreen, Throttle
from .changes import section_lines
from .popups import pin_entries

_LOOK_SECONDS = 2.0
_TITLES, _TRASH, _DOWNLOADS = "titles", "trash", "downloads"
_USUAL_RULE = "age>30d unused keep=2"
# The cells of the columns but the name's, with one between, and those of a bar by the width of the list.
_SIZE, _AGE, _LAST, _BACK, _USED = 5, 4, 6, 9, 10
_BARS = ((100, 24), (76, 8))
_WIDE = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomRow(PickRow):
    """What takes ``size`` bytes, of ``most`` that any does; ``candidate`` is the entry, None for what else does."""

    size: int
    most: int
    marked: bool = False
    candidate: Candidate | None = None
    watched: float | None = field(default=None, compare=False)

    def cells(self, width: int, pointed: bool) -> Sequence[Cell]:
        """It in columns, as wide as asked; the heading has their titles."""
        one, bar = self.candidate, next((cells for least, cells in _BARS if width >= least), 0)
        drawn = bar_text(self.size, self.most, bar)
        names = max(width - 4 - sum(cells + 1 for cells in (_SIZE, bar, _AGE, _LAST, _BACK, _USED)), 8)
        if self.rule:
            told = ("SIZE", "", "IMAGE", "AGE", "LAST", "BACK", "IN USE BY")
        elif one is None:
            told = (human_size(self.size), drawn, self.text, self.right, "", "", "")
        else:
            # What was never seen in use is unseen, since when that is looked at.
            never = "unseen" if self.watched else "-"
            last = "now" if one.users else never if one.used is None else age_of(one.used)
            back = one.origin.comes_back.value.removeprefix("registry-").replace("-", " ")
            used = devices_text(one.used_by)
            name = f"{one.name} {format_text(one.key[1] or '', 8 if width >= _WIDE else 3).strip()}"
            told = (human_size(self.size), drawn, name, age_of(one.written), last, back, used)
        size, drawn, name, age, last, back, used = map(clean, told)
        mark = f"{CURSOR if pointed else ' '}{MARK if self.marked else ' '} "
        middle = fit(name, names, middle=True)
        named: Role = "mark" if self.marked else "muted" if self.rule else "plain"
        gone = one is not None and one.origin.comes_back is ComesBack.NO
        return (
            (mark, "mark"),
            (f"{size:>{_SIZE}} ", "muted" if self.size < 1 << 20 or self.rule else "strong"),
            (set_cell_size(drawn, bar + 1) if bar else "", "gauge"),
            (f"{middle} ", named),
            (f"{age:>{_AGE}} {last:>{_LAST}} ", "muted"),
            (f"{cut(back, _BACK):<{_BACK}} ", "warn" if gone else "muted"),
            (fit("pinned" if one and one.pin and not used else used, _USED), "muted" if self.rule else "zone"),
        )


class RoomScreen(ListScreen[EntryToShow | None, RoomRow]):
    """What takes the room; what is marked goes, by a rule or by hand."""

    BINDINGS = bound(
        {
            "space": "mark", "A": "clear_marks", "a": "by_rule", "r": "rule", "f": "goal", "p": "pin",
            "d": "prune(False)", "D": "prune(True)",
        }
    )  # fmt: skip
    CSS = "RoomScreen { Bar#sum { height: 2; } #detail { height: 5; } &.-beside #detail { height: 1fr; } }"
    subject = "room"
    shown_as = "the room"
    asks = takes_nothing = True

    def __init__(self) -> None:
        super().__init__()
        self._room: Room | None = None
        self._marked: frozenset[str] = frozenset()
        self._rule, self._wanted, self._asking = _USUAL_RULE, 0, ""
        self._done = ""  # what was, that is said once it is seen: another look may come before
        self._throttle = Throttle(self, _LOOK_SECONDS, self._look)

    def compose_body(self) -> Iterable[Widget]:
        yield Bar(id="sum")
        yield from super().compose_body()

    def begin(self) -> None:
        self.stand("looking what takes the room")
        self._look()

    def entries_changed(self) -> None:
        self._throttle.ask()

    @work(group="look", exclusive=True)
    async def _look(self) -> None:
        directory, writable = self.session.directory, not self.session.live.read_only

        def look() -> Room:
            ledger, users = Ledger.open(directory), find_users(directory)
            if writable:
                note_use(directory, users, ledger)
            return survey_room(directory, ledger, users)

        with self.saying_errors():
            room = self._room = await asyncio.to_thread(look)
            self._marked &= {_TRASH, *(one.file for one in room.entries)}
            self._show()
            self.stand("" if room.entries else "no entry has a packed file")
            if self._done:
                self.say(self._done)
                self._done = ""

    def _show(self) -> None:
        """Draw what is known, with the marks as they are."""
        room = self._room
        if room is None:
            return
        others = [(_TRASH, "the trash", room.trash), (_DOWNLOADS, "downloads of interrupted imports", room.downloads)]
        sizes = [*(one.size for one in room.entries), room.trash, room.downloads]
        most, marked = max(sizes, default=0), self._marked
        rows = [
            RoomRow(key, text, size=size, most=most, marked=key in marked) for key, text, size in others if size
        ] + [
            RoomRow(one.file, one.name, size=one.size, most=most, marked=one.file in marked, candidate=one,
                    watched=room.watched)
            for one in room.entries
        ]  # fmt: skip
        rows.sort(key=lambda row: (-row.size, row.key))
        self.show_rows([RoomRow(_TITLES, "", rule=True, size=0, most=0), *rows])
        self._draw_sum(room)

    @property
    def _chosen(self) -> list[Candidate]:
        return [one for one in self._room.entries if one.file in self._marked] if self._room else []

    def _draw_sum(self, room: Room) -> None:
        """Free, in the trash and marked, as parts of what is wanted."""
        chosen, width = self._chosen, max(self.app.size.width - 2, 10)
        trash = room.trash if _TRASH in self._marked else 0
        marked = sum(one.size for one in chosen if not one.users)
        held, total = sum(one.size for one in chosen if one.users), room.free + trash + marked
        whole = max(self._wanted, total, 1)
        free, in_trash, of_marked = (size * width // whole for size in (room.free, trash, marked))
        rest = width - free - in_trash - of_marked if self._wanted > total else 0
        bar: list[Part] = [" ", ("█" * free, "gauge"), ("▓" * in_trash, "gauge"), ("▒" * of_marked, "mark")]
        parts = f" █ {human_size(room.free)} free"
        parts += f" + ▓ {human_size(trash)} trash" if trash else ""
        parts += f" + ▒ {human_size(marked)} marked = {human_size(total)}" if marked or trash else ""
        short = self._wanted - total
        goal = f" of {human_size(self._wanted)} wanted" if self._wanted else ""
        needed = sum(bool(one.users) for one in chosen)
        late = f", {needed} needed{f' ({human_size(held)} later)' if held else ''}" if needed else ""
        right: list[Part] = [(f"{human_size(room.elsewhere)} are not the cache's ", "muted")]
        if self._wanted and short > 0:
            right = [(f"! {human_size(short)} short ", "warn")]
        for view in self.query("#sum").results(Bar):
            view.show([*bar, ("·" * rest, "faint")], [(f"{parts}{goal}{late}", "strong"), "  ", *right])

    def draw_detail(self) -> None:
        row, room = self.row, self._room
        if room is None:
            return
        one = row.candidate if row is not None else None
        if one is not None:
            lines = [
                Line(first_of(one.names) or one.key[0], "image"),
                Line(one.origin.text, "again", "warn" if one.origin.comes_back is ComesBack.NO else "plain"),
                Line(f"needed by {first_of(one.users)}" if one.users else self._unneeded(one, room), "use"),
            ]
            lines += [Line(one.pin, "pinned", "good")] if one.pin else []
        else:
            lines = [*room_lines(room)]
        self.show_lines([*lines, Line(self._rule, "rule", "muted")])
        keys = [("space", "Mark"), ("a", "By rule"), ("d", "To trash"), ("D", "For good"), ("f", "Goal"), ("r", "Rule")]
        self.show_keys([*keys, ("p", "Unpin" if one is not None and one.pin else "Pin")])

    def _unneeded(self, one: Candidate, room: Room) -> str:
        if room.doubt:
            return f"nobody can tell: {room.doubt}"
        since = f"since {age_of(room.watched)} ago, when it was first looked at" if room.watched else "yet"
        return f"nobody needs it; last seen in use {age_of(one.used)} ago" if one.used else f"unseen {since}"

    # Marks

    def action_mark(self) -> None:
        row = self.row
        if row is not None and row.key != _DOWNLOADS:
            self._marked ^= {row.key}
            self._show()
            self.query_one(PickList).action_step(1)
        elif row is not None:
            self.say("I on the first screen goes on with them, or removes them")

    def action_clear_marks(self) -> None:
        self._marked = frozenset()
        self._show()

    def action_by_rule(self) -> None:
        """Mark what the rule takes, the longest unused first, until the goal is reached."""
        if (room := self._room) is None:
            return
        with self.saying_errors():
            rules = msgspec.structs.replace(parse_rules(self._rule), until_free=self._wanted or None)
            choice = choose(room, rules, with_trash=_TRASH in self._marked)
            self._marked = frozenset(one.file for one in choice.going) | (self._marked & {_TRASH})
            self._show()
            stays = f"; {counted(len(choice.staying), 'entry')} stay: {_why(choice)}" if choice.staying else ""
            self.say(f"{counted(len(choice.going), 'entry')} marked by {self._rule}{stays}")

    def action_rule(self) -> None:
        self._asking = "rule"
        self.ask(self._rule, "age>30d unused>30d keep=2")

    def action_goal(self) -> None:
        self._asking = "goal"
        self.ask(
            human_size(self._wanted) if self._wanted else "", "how much is to be free, as 200G; nothing for no goal"
        )

    def answered(self, text: str) -> None:
        with self.saying_errors():
            if self._asking == "rule" and text:
                parse_rules(text)
                self._rule = text
                self.draw_detail()
                self.say("a marks by it")
            elif self._asking == "goal":
                wanted = parse_size(text) if text else 0
                if wanted is None:
                    self.say(f"{text} is no size like 200G")
                else:
                    self._wanted = wanted
                    self._show()

    # What is done

    def action_pin(self) -> None:
        row = self.row
        if row is not None and row.candidate is not None and self.may("pin"):
            one = row.candidate
            pin_entries(self, [one.key], one.name, pinned=bool(one.pin), done=self._tell)

    def action_prune(self, for_good: bool) -> None:
        if not self.may("delete"):
            return
        # Where nothing is marked it is the row.
        marked = self._marked or {self.row.key if self.row is not None else ""}
        chosen = [one for one in self._room.entries if one.file in marked] if self._room else []
        trash = for_good and _TRASH in marked
        if chosen or trash:
            self.app.push_screen(PruneScreen(chosen, for_good=for_good, trash=trash), self._pruned)
        else:
            self.say("nothing is marked; D empties the trash, where that is marked")

    def _pruned(self, message: str | None) -> None:
        if message:
            self._marked = frozenset()
            self._tell(message)

    def _tell(self, done: str) -> None:
        self._done = done
        self._look()

    @on(PickList.Picked)
    def _picked(self) -> None:
        row = self.row
        if row is not None and row.candidate is not None:
            self.dismiss((row.candidate.key[0], row.candidate.key[1] or "", row.candidate.name))


def _why(choice: PruneChoice) -> str:
    """Why entries stay, the reasons' first words."""
    return first_of([*dict.fromkeys(why.partition(" ")[0] for _, why in choice.staying)], 3)


class PruneScreen(ConfirmScreen):
    """Takes entries out, to the trash or for good, which their number confirms, with what is in the trash by then."""

    subject = "make room"
    verb = "Make room"
    asks = takes_nothing = True

    def __init__(self, chosen: Sequence[Candidate], *, for_good: bool, trash: bool) -> None:
        super().__init__()
        self._chosen, self._for_good, self._with_trash = chosen, for_good, trash
        self._plan: DeletePlan | None = None
        self._files: Sequence[TrashedFile] = ()

    async def plan(self) -> Iterable[Line | LongList]:
        cache, directory = self.session.cache, self.session.directory
        size = sum(one.size for one in self._chosen)
        title = choice_title(PruneChoice(tuple(self._chosen), (), 0, size), for_good=self._for_good)
        lines = self.opening(title if self._chosen else "the trash is emptied", "bring these entries back")
        if self._with_trash:
            self._files = await cache.trash()
            lines.append(Line(f"{total_text(self._files)}, go for good", "trash"))
        if not self._chosen:
            return lines
        plan = self._plan = await cache.plan_delete([one.key for one in self._chosen])
        lines += await self.look_for_users([one.file for one in self._chosen])
        ledger = await asyncio.to_thread(Ledger.open, directory)
        sections = delete_sections(plan, Origins(directory, ledger), ledger)
        return lines + await asyncio.to_thread(section_lines, sections)

    def action_confirm(self) -> None:
        if self._for_good and self._may_act():
            self.ask("", f"type {self._count} to remove for good; esc goes back")
        else:
            super().action_confirm()

    @property
    def _count(self) -> int:
        return len(self._chosen) or len(self._files)

    def _end_asking(self, keep: bool) -> None:
        # Nothing goes for good by a tab or a click: only by enter.
        super()._end_asking(keep and self.focused is self.query_one(OneLineQuestion))

    def answered(self, text: str) -> None:
        if text == str(self._count):
            super().action_confirm()
        else:
            self.say(f"not done: {self._count} was to be typed")

    async def act(self) -> str:
        cache, said = self.session.cache, list[str]()
        if self._plan is not None:
            done, count = await cache.delete(self._plan.keys, self._plan), counted(len(self._chosen), "entry")
            if self._for_good:
                said += [f"{count} gone", emptied_text(await cache.empty_trash(ids=[done.id]))]
            else:
                said.append(f"{count} in the trash, u undoes it: {done.id}")
        if self._files:
            ids = {file.transaction for file in self._files if file.transaction}
            names = [file.trash for file in self._files]
            said.append(emptied_text(await cache.empty_trash(ids=ids, names=names)))
        return "; ".join(said)
