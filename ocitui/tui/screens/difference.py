"""What differs between two entries, as `ocitui diff` has it: config and layers, then what is in their packed files."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.cells import cell_len
from textual import on, work
from textual.widget import Widget

from ocitui.cache import known_format
from ocitui.contents import ComparedTree, ContentsError, TreeChange, TreeComparison, TreeLevel, TreeLines, TreeStore
from ocitui.doctor import JudgedEntry
from ocitui.text import clean, human_size, short_digest
from ocitui.threads import Stop, giving_way, in_thread, on_loop
from ocitui.words import (
    MOST_TEXT,
    Tally,
    change_line,
    document_changes,
    layer_line,
    setting_line,
    text_changes,
    text_line,
)

from ..terminal import Role
from ..widgets.bars import RULE, Bar, Part
from ..widgets.file_tree import Contents, read_contents
from ..widgets.lines import BAD, CURSOR, Cell, Kind, Line, LongList, PickList, PickRow, fit, heading
from .base import DRAW_SECONDS, FullScreen, Throttle, run_beside
from .files import FileScreen

_MOST_UNREAD = 20
_SIGNS: dict[str, Role] = {"+": "good", "−": "bad", "~": "warn"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffRow(PickRow):
    """Something that differs: ``sign`` is ``+``, ``−`` or ``~``, and ``told`` all of it; a file has its ``change``. A
    title is a rule, whose ``sign`` is its name."""

    sign: str
    told: str = ""
    change: TreeChange | None = None

    def cells(self, width: int, pointed: bool) -> Sequence[Cell]:
        right = clean(self.right)
        if self.rule:
            rest = RULE * max(width - cell_len(f"{self.sign} {self.text}    "), 0)
            return ((RULE * 2, "faint"), (f" {self.sign}", "strong"), (f" {self.text} ", "muted"), (rest, "faint"))
        room = max(width - 6 - len(right), 8)
        return (
            (f"{CURSOR if pointed else ' '} ", "key"),
            (f"{self.sign} ", _SIGNS.get(self.sign, "muted")),
            (f"{fit(clean(self.text), room, middle=self.change is not None)} ", "plain"),
            (right, "muted"),
        )


class DiffScreen(FullScreen[None]):
    """Config and layers are there at once; files once both trees are read, in a thread that esc ends."""

    AUTO_FOCUS = "PickList"
    CSS = "DiffScreen PickList { height: 1fr; max-height: 100%; }"
    subject = "diff"
    shown_as = "what differs"

    def __init__(self, before: JudgedEntry, after: JudgedEntry) -> None:
        super().__init__()
        self._sides = before, after
        self._rows: list[DiffRow] = []
        self._contents: list[Contents] = []
        self._comparison: TreeComparison | None = None
        self._wrong: list[str] = []
        self._is_done = False

    def compose_body(self) -> Iterable[Widget]:
        yield Bar(id="sides")
        yield PickList()

    def begin(self) -> None:
        self._draw_sides()
        self.stand("reading both; esc cancels")
        self._compare()

    def on_resize(self) -> None:
        super().on_resize()
        self._draw_sides()

    def _draw_sides(self) -> None:
        width, parts = self.app.size.width // 2 - 4, list[Part]()
        for sign, side in zip("−+", self._sides, strict=True):
            digest = short_digest(side.digest)
            name = fit(clean(_called(side)), max(width - len(digest) - 2, 8), middle=True)
            parts += [" ", (sign, _SIGNS[sign]), (f" {name} ", "strong"), (f"{digest} ", "muted")]
        for bar in self.query("#sides").results(Bar):
            bar.show(parts)

    @work(group="compare")
    async def _compare(self) -> None:
        read, wrong = 0, self._wrong

        def tell() -> None:
            if not self._is_done:
                self.stand(f"comparing: {human_size(read)} read; esc cancels")

        throttle = Throttle(self, DRAW_SECONDS, tell)

        def passed(size: int) -> None:
            nonlocal read
            read += size
            throttle.ask()

        told = on_loop(passed)
        with giving_way():
            self._rows = await in_thread(lambda _: [*self._documents(wrong)])
            self._show([*self._rows, _title("FILES", "comparing")])
            found = await in_thread(lambda stop: self._files(stop, told, wrong))
        files, tally, self._comparison = found or ([], None, None)
        unread = [DiffRow(f"unread {at}", text, sign=BAD, told=text) for at, text in enumerate(wrong[:_MOST_UNREAD])]
        more = len(wrong) - len(unread)
        self._rows += [_title(f"NOT READ {len(wrong)}", f"{more} more" if more else ""), *unread] if wrong else []
        self._rows += [_title("FILES", tally.line() if tally else "not compared"), *files]
        self._show(self._rows)
        self._is_done = True
        self.conclude("nothing differs" if all(row.rule for row in self._rows) else "")
        self._tell_row()

    def _show(self, rows: Sequence[DiffRow]) -> None:
        for view in self.query(PickList):
            view.set_rows(rows)
        self.show_keys([("enter", "Lines, or the file"), ("c", "Copy")])

    def _documents(self, wrong: list[str]) -> Iterator[DiffRow]:
        """What differs of config and layers."""
        before, after = (side.digest for side in self._sides)
        settings, layers = document_changes(
            self.session.directory,
            before,
            after,
            lambda digest, error: wrong.append(f"{short_digest(digest)}: {error}"),
        )
        yield _title("CONFIG", _number(settings, wrong))
        for at, one in enumerate(settings):
            text = setting_line(one).removeprefix("config ")
            sign = "+" if one.before is None else "−" if one.after is None else "~"
            yield DiffRow(f"config {at}", text, sign=sign, told=text, start=True)
        yield _title("LAYERS", _number(layers, wrong))
        for at, layer in enumerate(layers):
            sign = "+" if layer.change == "added" else "−"
            yield DiffRow(f"layer {at}", layer.digest, human_size(layer.size), sign=sign, told=layer_line(layer))

    def _files(
        self, stop: Stop, passed: Callable[[int], None], wrong: list[str]
    ) -> tuple[list[DiffRow], Tally, TreeComparison] | None:
        """Each file that differs, how many these are, and what tells more; None where the trees cannot be compared."""
        trees, tally, store = list[ComparedTree](), Tally(), TreeStore(self.session.directory)
        stored = [store.right(self._packed(side)) for side in self._sides]
        for side, kept in zip(self._sides, stored if all(stored) else (None, None), strict=True):
            name = _called(side)
            try:
                contents = self._read(side, name, kept, stop)
                self._contents.append(contents)
                trees.append(ComparedTree(contents.tree, partial(_unread, contents, wrong)))
            except ContentsError as error:
                wrong.append(f"{name}: {error.message}")
            except OSError as error:
                wrong.append(f"{name} cannot be read: {error.strerror}")
        if len(trees) != len(self._sides):
            return None
        comparison = TreeComparison(trees[0], trees[1], TreeLevel.CONTENT)
        rows = []
        for change in comparison.changes(stop, passed):
            tally.count(change)
            rows.append(_file_row(comparison, change))
        return rows, tally, comparison

    def _packed(self, side: JudgedEntry) -> Path:
        return self.session.directory / (side.descriptor.packed_file or "")

    def _read(self, side: JudgedEntry, name: str, kept: TreeLines | None, stop: Stop) -> Contents:
        format = known_format(side.format)
        if format is None or not side.descriptor.packed_file:
            raise ContentsError("no lookup can reach a file of this entry")
        return read_contents(self._packed(side), format, name, stop, kept=kept)

    def copied_lines(self) -> Iterable[Line | LongList]:
        return [heading(row.told) if row.rule else Line(row.told) for row in self._rows]

    @property
    def _row(self) -> DiffRow | None:
        row = self.query_one(PickList).row
        return row if isinstance(row, DiffRow) and not row.rule else None

    @on(PickList.CursorMoved)
    def _tell_row(self) -> None:
        if self._is_done and (row := self._row) is not None:
            self.stand(row.told)

    @on(PickList.Picked)
    def _picked(self) -> None:
        row, comparison = self._row, self._comparison
        change = row.change if row is not None else None
        if row is None or change is None or comparison is None:
            self.say("a file that differs can be opened")
        elif change.before is not None and change.after is not None:
            if {"content", "size"} & {*change.what}:
                self.app.push_screen(TextDiffScreen(comparison, change, self._wrong))
            else:
                self.say(f"no lines to compare: {row.told}")
        else:
            contents = self._contents[change.before is None]
            entry = change.after if change.before is None else change.before
            if entry is not None and contents.tree.kind(entry) == stat.S_IFREG:
                self.app.push_screen(FileScreen(contents, entry))

    def action_interrupt(self) -> None:
        if not self._is_done:
            self.dismiss()
        else:
            super().action_interrupt()


def _number(found: Sequence[object], wrong: Sequence[str]) -> str:
    return f"{len(found)} differ" if found else "not all could be read" if wrong else "the same"


def _called(side: JudgedEntry) -> str:
    return f"{side.descriptor.image_name or short_digest(side.digest)}.{side.format}"


def _title(name: str, about: str) -> DiffRow:
    return DiffRow(name, about, rule=True, sign=name, told=f"{name}: {about}")


def _unread(contents: Contents, wrong: list[str], entry: int, error: Exception) -> None:
    wrong.append(f"{contents.name}: {contents.path(entry)}: {error}")


def _file_row(comparison: TreeComparison, change: TreeChange) -> DiffRow:
    """A path, what is another of it, its size and by how much that grew."""
    side, entry = (comparison.before, change.before) if change.after is None else (comparison.after, change.after)
    sign = "+" if change.before is None else "−" if change.after is None else "~"
    size = human_size(side.weight(entry)) if entry is not None and side.weight(entry) else ""
    grown = f"{'+' if change.grown > 0 else '-'}{human_size(abs(change.grown))}" if change.grown else ""
    what = ", ".join(one for one in change.what if one != "size") or {"+": "new", "−": "gone", "~": ""}[sign]
    path = change.path.decode("utf-8", "backslashreplace") or "/"
    told = change_line(comparison, change)
    # Paths are the keys of none else: a space stands in those.
    return DiffRow(f"/{path}", path, f"{what:>8} {size:>5} {grown:>6}", sign=sign, told=told, change=change)


class TextDiffScreen(FullScreen[None]):
    """The lines that differ of a text, with some around them; what cannot be read is added to what is ``wrong``."""

    subject = "diff"
    shown_as = "the lines that differ"

    def __init__(self, comparison: TreeComparison, change: TreeChange, wrong: list[str]) -> None:
        super().__init__()
        self._comparison, self._change, self._wrong = comparison, change, wrong

    def begin(self) -> None:
        self.stand(f"{change_line(self._comparison, self._change)}: comparing its lines")
        self._compare()

    @work
    async def _compare(self) -> None:
        known = len(self._wrong)

        async def compare() -> list[Line]:
            return [_text_line(line) for line in text_changes(self._comparison, self._change)]

        with giving_way():
            # Of texts that have little in common it may take for minutes, and nothing ends it.
            lines = await run_beside(compare)
        unread = [Line(one, kind="bad") for one in self._wrong[known:]]
        none = Line(f"no text of up to {human_size(MOST_TEXT)}: its lines are not compared")
        self.show_lines(lines or unread or [none])
        self.stand(change_line(self._comparison, self._change))


def _text_line(line: str) -> Line:
    kinds: dict[str, Kind] = {"+": "good", "-": "bad", "@": "muted", "\\": "muted"}
    return Line(text_line(line), kind=kinds.get(line[:1], "plain"))
