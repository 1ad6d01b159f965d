"""Changes: those asked about before they are made (delete, undo, point), and those made: the journal and the trash."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

from textual import on, work

from ocitui.cache import (
    ConflictError,
    DeletePlan,
    Descriptor,
    ImageName,
    Key,
    Ledger,
    NoSuchEntryError,
    PointPlan,
    Transaction,
    TransactionState,
    TrashedFile,
    author_of,
    by_another,
    can_be_undone,
    files_that_go,
    known_format,
)
from ocitui.doctor import Origins, files_of_undo, indexes_of_undo
from ocitui.text import clean, counted, human_size, short_digests, timestamp
from ocitui.words import (
    Section,
    delete_sections,
    delete_title,
    emptied_text,
    ended_undos,
    entry_line,
    first_lines,
    names_of_files,
    point_lines,
    short_lines,
    total_text,
    transaction_extent,
    transaction_json,
    undo_sections,
    with_text,
)

from ..widgets.lines import MARK, Kind, Line, LongList, PickList, PickRow, bound, cut, heading
from .base import ConfirmScreen, ListScreen
from .popups import Copyable, texts_to_copy

# Past so many entries a digest's first digits have to do; past so many, each is for who scrolls.
WHOLE_DIGESTS, _MANY = 3, 1000
_MOST, _NAME_CELLS = 200, 24


class DeleteScreen(ConfirmScreen):
    """Plans the removal of entries by digest and format. The plan that was shown is the one that is done."""

    subject = "delete"
    verb = "Move to the trash"

    def __init__(self, keys: Sequence[Key], hidden: int = 0) -> None:
        """``hidden`` is how many of them the filter hides."""
        super().__init__()
        self._keys, self._hidden = keys, hidden
        self._plan: DeletePlan | None = None

    async def plan(self) -> Iterable[Line | LongList]:
        plan = self._plan = await self.session.cache.plan_delete(self._keys)
        lines = self.opening(delete_title(plan), "bring these entries back")
        lines += await self.look_for_users([one.packed_file for one in plan.entries])
        lines += [Line(f"{self._hidden} of those marked are hidden by the filter", kind="bad")] if self._hidden else []
        judge = self.session.live.judge
        known = judge.remembered if judge is not None else await asyncio.to_thread(Ledger.open, self.session.directory)
        sections = delete_sections(plan, Origins(self.session.directory, known), known)
        return lines + await asyncio.to_thread(section_lines, sections)

    async def act(self) -> str:
        transaction = await self.session.cache.delete(self._keys, self._plan)
        note = f" ({transaction.note})" if transaction.note else ""
        return f"{counted(len(transaction.removed), 'entry')} deleted, u undoes it{note}: {transaction.id}"


def section_lines(sections: Iterable[Section[Any]]) -> list[Line | LongList]:
    """The parts of a plan, each beneath its title. Of few entries the whole digest stands in a line of its own."""
    lines: list[Line | LongList] = []
    for section in sections:
        lines += [Line(), heading(section.title)]
        if len(section.items) > _MANY:
            lines.append(LongList(len(section.items), partial(_short_line, section)))
        elif section.line is entry_line and len(section.items) <= WHOLE_DIGESTS:
            for entry in section.items:
                lines += [Line(entry.image_name or "no name", entry.format or "no format"), Line(entry.digest)]
        else:
            lines += short_lines(map(section.line, section.items))
    return lines


def _short_line(section: Section[Any], number: int) -> Line:
    return short_lines([section.line(section.items[number])])[0]


class UndoScreen(ConfirmScreen):
    """Undoes one transaction, the newest that can be when none is named."""

    subject = "undo"
    verb = "Undo it"

    def __init__(self, transaction_id: str | None) -> None:
        super().__init__()
        self._id = transaction_id

    async def plan(self) -> Iterable[Line | LongList]:
        target = await self.session.cache.undo_target(self._id)
        self._id = target.id
        # A mend is reversed by its own record, whatever the index is.
        self.action = "mend" if target.marked else "undo"
        memory = "bring back what this undoes" if target.changes_index else ""
        lines = self.opening(f"undo the {target.kind} of {timestamp(target.started)}", memory)
        lines += [Line(target.id, "transaction"), Line(target.by, "by", "bad" if by_another(target.by) else "plain")]
        lines += with_text(Line(target.about, "of"))
        indexes = await asyncio.to_thread(indexes_of_undo, self.session.directory, target)
        lines += await self.look_for_users(await asyncio.to_thread(files_of_undo, target, *indexes))
        return lines + await asyncio.to_thread(lambda: section_lines(undo_sections(target, *indexes)))

    async def act(self) -> str:
        done = await self.session.cache.undo(self._id)
        return f"undone by {done.id}: {self._id}" + (f"; {done.explanation}" if done.explanation else "")


class PointScreen(ConfirmScreen):
    """Makes an entry win its name, by moving it to the end of the index."""

    subject = "point"
    verb = "Point it"

    def __init__(self, entry: Descriptor) -> None:
        super().__init__()
        self._entry = entry
        self._plan: PointPlan | None = None

    async def plan(self) -> Iterable[Line | LongList]:
        cache, entry, form = self.session.cache, self._entry, known_format(self._entry.format)
        if not entry.image_name:
            raise NoSuchEntryError("the entry has no name", hint="m plans what mends it, and takes a name")
        plan = await cache.plan_point(ImageName.parse(entry.image_name), entry.digest, form)
        if not plan.needed:
            raise ConflictError(short_digests(plan.then), hint="there is nothing to do; w shows how the daemon answers")
        self._plan = plan
        return [*self.opening(f"point {plan.name}", "undo this"), *point_lines(plan)]

    async def act(self) -> str:
        assert self._plan is not None
        done = await self.session.cache.point(self._plan)
        return f"{short_digests(self._plan.then)}; {done.id}, u points it back"


class TimelineScreen(ListScreen[str | None, PickRow]):
    """What was done, the newest first. Dismissed with the id of a transaction to undo, or None."""

    BINDINGS = bound({"slash": "filter", "u": "undo", "X": "trash"})
    subject = "timeline"
    keys = (("u", "Undo"), ("/", "Filter"), ("X", "Trash, file by file"), ("c", "Copy"))
    shown_as = "the transaction"
    asks = takes_nothing = True

    def begin(self) -> None:
        self._transactions: dict[str, Transaction] = {}
        self._texts: dict[str, str] = {}
        self._wanted = self._shown = ""
        self._read()

    @work(group="read", exclusive=True)
    async def _read(self) -> None:
        wanted = self._wanted
        with self.saying_errors():
            transactions = await self.session.cache.transactions()
            rows, size = await asyncio.to_thread(self._rows, transactions, wanted.lower())
            self._transactions, self._shown = {one.id: one for one in transactions}, wanted
            self.show_rows(rows)
            count = counted(len(transactions), "transaction")
            if wanted:
                count = f"{len(rows)} of {count} with {clean(wanted)!r}"
            self.stand(f"{count}; what they moved to the trash: {size}" if transactions else "no transaction yet")
        # What could not be read is not filtered.
        self._wanted = self._shown

    def _rows(self, transactions: Sequence[Transaction], wanted: str) -> tuple[list[PickRow], str]:
        """The rows of those with what is ``wanted``, and the size of all; in a thread, as there may be long records."""
        if wanted:
            self._texts = {one.id: self._texts.get(one.id) or _searched(one) for one in transactions}
        shown = [one for one in transactions if not wanted or wanted in self._texts[one.id]]
        days = [timestamp(one.started)[:10] for one in shown]
        rows = [timeline_row(one, not at or days[at] != days[at - 1]) for at, one in enumerate(shown)]
        return rows, human_size(sum(one.bytes_in_trash for one in transactions))

    def draw_detail(self) -> None:
        one = self._transactions.get(self.key)
        none = "no transaction is about that" if self._shown else "nothing was done here yet"
        self.show_lines(transaction_lines(one) if one else [Line(none, kind="muted")])

    def action_filter(self) -> None:
        self.ask(self._wanted, "a name, a digest, what was done, by whom; empty shows all")

    def answered(self, text: str) -> None:
        self._wanted = text
        self._read()

    def action_trash(self) -> None:
        def chosen(transaction_id: str | None) -> None:
            if transaction_id:
                self.dismiss(transaction_id)
            else:
                # What was emptied or restored there is another state here.
                self._read()

        self.app.push_screen(TrashScreen(), chosen)

    def copies(self) -> list[Copyable]:
        one = self._transactions.get(self.key)
        if one is None:
            return []
        texts = {"id": [one.id], "names": one.image_names, "digests": one.image_digests}
        line = Copyable("e", "transaction as a JSON line", lambda: [json.dumps(transaction_json(one))])
        return [*super().copies(), *texts_to_copy(texts), line]

    @on(PickList.Picked)
    def action_undo(self) -> None:
        transaction = self._transactions.get(self.key)
        if self._shown != self._wanted:
            self.say("not yet: the filter is at work")
        elif transaction is None:
            self.say("there is nothing to undo")
        elif not can_be_undone(transaction):
            self.say(f"it cannot be undone: it is {transaction.state}, a {transaction.kind}")
        else:
            self.dismiss(transaction.id)


_SIGNS = {"store": "+", "import": "+", "adopt": "+", "delete": "−", "undo": "↩", "redo": "↪", "point": "▲"}
_STATES = {
    TransactionState.PENDING: "pending: the next writer finishes it",
    TransactionState.EMPTIED: "its files were removed from the trash since, for good",
    TransactionState.UNDONE: "a later one reversed it",
    TransactionState.VOID: "rolled back, as if it had never been",
}


def _searched(transaction: Transaction) -> str:
    words = (transaction.kind, transaction.by, transaction.id, *transaction.image_names, *transaction.image_digests)
    return " ".join(words).lower()


def timeline_row(transaction: Transaction, first: bool) -> PickRow:
    """A transaction: when, with its day on the ``first`` of it, what, about what; its size or state, by whom."""
    at, done = timestamp(transaction.started), transaction.state is TransactionState.DONE
    size = human_size(transaction.bytes_in_trash) if transaction.bytes_in_trash else ""
    state = size if done else f"{transaction.state}"
    text = f"{at[5:10] if first else '':<5} {at[11:16]}  {_SIGNS.get(transaction.kind, '↻')} {transaction.kind:<7}"
    right = f"{state}  {cut(author_of(transaction.by).partition('@')[0], 12)}"
    kind: Kind = "plain" if done or transaction.state is TransactionState.PENDING else "muted"
    return PickRow(transaction.id, clean(f"{text} {_about(transaction)}"), clean(right), kind, start=True)


def transaction_lines(transaction: Transaction) -> list[Line]:
    """A transaction in full: by whom, how it stands, and the index before and after as what left it and what came."""
    title = f"{transaction.kind}, {timestamp(transaction.started)}, {counted(len(transaction.file_names), 'file')}"
    stands = _STATES.get(transaction.state, "done; u undoes it" if can_be_undone(transaction) else "done")
    if transaction.bytes_in_trash:
        stands += f"; {human_size(transaction.bytes_in_trash)} lie in the trash"
    lines = [heading(title), Line(transaction.by, "by"), Line(transaction.id, "id"), Line(stands, "now")]
    lines += with_text(Line(transaction.note, "note"), Line(transaction.explanation, "note"))
    if transaction.swap is not None:
        lines.append(Line("index.json was replaced as a whole", "index"))
    for sign, recorded in (("−", transaction.removed), ("+", transaction.added)):
        entries = (one.descriptor for one in recorded)
        listed = (Line(f"{sign} {one.image_name or one.digest}", one.format or "no format") for one in entries)
        lines += first_lines(listed, len(recorded), _MANY)
    return lines


def _about(transaction: Transaction) -> str:
    """The first entry's name, and how many there are besides."""
    if transaction.swap is not None:
        return transaction_extent(transaction)
    entries = [one.descriptor for one in (*transaction.removed, *transaction.added)]
    if not entries:
        names, files = transaction.image_names, transaction.file_names
        what = cut(names[0], _NAME_CELLS, middle=True) if names else short_digests(files[0] if files else "")
        return f"{what} {transaction_extent(transaction)}" if files else "no entry"
    keys = dict.fromkeys(entry.key for entry in entries)
    name = cut(entries[0].image_name or "no name", _NAME_CELLS, middle=True)
    more = f" +{len(keys) - 1}" if len(keys) > 1 else ""
    return f"{name} {entries[0].format or 'no format'}{more}"


class RestoreScreen(ConfirmScreen):
    """Brings files back to where they were, without entries."""

    subject = "restore from the trash"
    verb = "Restore"
    action = "mend"

    def __init__(self, files: Sequence[TrashedFile]) -> None:
        super().__init__()
        self._files = files

    async def plan(self) -> Iterable[Line | LongList]:
        without = "Files come back without entries: undo of the transaction brings both."
        then = Line(f"{without} p shows such files, and m there makes entries of them.")
        return [*self.opening(f"{total_text(self._files)}, come back"), then, Line(), *_lines(self._files)]

    async def act(self) -> str:
        done = await self.session.cache.restore([file.trash for file in self._files])
        return f"{total_text(self._files)}, restored in {done.id}; u takes them out again"


class EmptyTrashScreen(ConfirmScreen):
    """Removes these files of the trash for good, and with that the undo of what they came by."""

    subject = "empty the trash"
    verb = "Remove for good"
    asked = "nothing brings them back after y"

    def __init__(self, files: Sequence[TrashedFile]) -> None:
        super().__init__()
        self._chosen = frozenset(file.trash for file in files)
        self._ids = {file.transaction for file in files if file.transaction}

    async def plan(self) -> Iterable[Line | LongList]:
        cache = self.session.cache
        transactions = {one.id: one for one in await cache.transactions()}
        going = files_that_go(await cache.trash(), transactions, ids=self._ids)
        files = [file for file in going if file.trash in self._chosen]
        # What comes into the trash while the question stands was not agreed to.
        self._agreed = [file.trash for file in files]
        if not files:
            raise ConflictError("nothing of that is to go", hint="what no transaction is known of stays")
        lines = self.opening(f"{total_text(files)}, go for good")
        if undone := ended_undos(files):
            lines.append(Line(undone, kind="bad"))
        for transaction_id, group in groupby(files, key=lambda file: file.transaction):
            lines += [Line(), *_lost(tuple(group), transaction_id, transactions.get(transaction_id))]
        return lines

    async def act(self) -> str:
        removed = await self.session.cache.empty_trash(ids=self._ids, names=self._agreed)
        return emptied_text(removed)


def _lost(files: Sequence[TrashedFile], transaction_id: str, known: Transaction | None) -> list[Line]:
    """What goes of one transaction: of which images, who took it out and when, and the files."""
    if known is None:
        return [heading(f"{total_text(files)}: of {transaction_id}, whose record cannot be read"), *_lines(files)]
    names = names_of_files(known)
    told = (names.get(file.name.partition(".")[0], ()) for file in files)
    of = dict.fromkeys(name for some in told for name in some) or known.image_names
    lines = [heading(f"{total_text(files)}: {known.kind} of {timestamp(known.started)}, by {known.by}")]
    return [*lines, *(Line(name, "of") for name in list(of)[:_MOST]), *_lines(files)]


def _lines(files: Sequence[TrashedFile]) -> list[Line]:
    lines = [
        Line(f"{short_digests(file.name or file.trash)}, {timestamp(file.when)}", f"{human_size(file.size):>5}")
        for file in files[:_MOST]
    ]
    return [*lines, *([Line(f"and {len(files) - _MOST} more")] if len(files) > _MOST else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashRow(PickRow):
    """A row, and the files it stands for: those of a transaction for its heading, one for any other."""

    files: tuple[TrashedFile, ...] = field(compare=False)
    transaction: Transaction | None = field(compare=False)


class TrashScreen(ListScreen[str | None, TrashRow]):
    """Dismissed with the id of a transaction to undo, or None."""

    BINDINGS = bound(
        {"r": "restore", "e": "empty", "u": "undo", "space": "mark", "a": "mark_all(True)", "A": "mark_all(False)"}
    )
    CSS = "TrashScreen PickList { height: 2fr; }"
    subject = "trash"
    keys = (("r", "Restore"), ("u", "Undo"), ("space a A", "Mark, all, none"), ("e", "Empty"))

    def begin(self) -> None:
        self._files: Sequence[TrashedFile] = ()
        self._marked: frozenset[str] = frozenset()
        self._read()

    @work(group="read", exclusive=True)
    async def _read(self, said: str = "") -> None:
        with self.saying_errors():
            files = await self.session.cache.trash()
            transactions = {one.id: one for one in await self.session.cache.transactions()}
            self._files, self._marked = files, self._marked.intersection(file.trash for file in files)
            self.show_rows(await asyncio.to_thread(lambda: [*trash_rows(files, transactions, self._marked)]))
            self.stand(f"{total_text(files)}; the room is free once it is emptied" if files else "the trash is empty")
            self.say(said)

    def draw_detail(self) -> None:
        row = self.row
        self.show_lines(_detail(row) if row is not None else [Line("the trash is empty", kind="muted")])

    def _mark(self, marked: frozenset[str]) -> None:
        """Have these marked, by their names in the trash, and no others."""
        changed = [self.rows[f"file {name}"] for name in self._marked ^ marked]
        self._marked = marked
        for key in {key for row in changed for key in (row.key, f"of {row.files[0].transaction}")}:
            row = self.rows[key]
            self.rows[key] = replace(row, text=f"{_mark(row.files, marked)}{row.text[1:]}")
        self.show_rows(self.rows.values())
        chosen = [file for file in self._files if file.trash in marked]
        none = "nothing is marked: a key is for the row under the cursor"
        self.say(f"marked: {total_text(chosen)}" if chosen else none)

    def action_mark(self) -> None:
        """Mark the row's files, or take their marks away where all have one, and go on to the next row."""
        if (row := self.row) is not None:
            names = frozenset(file.trash for file in row.files)
            self._mark(self._marked - names if names <= self._marked else self._marked | names)
            self.query_one(PickList).action_step(1)

    def action_mark_all(self, marked: bool) -> None:
        self._mark(frozenset(file.trash for file in self._files if marked))

    @property
    def _chosen(self) -> Sequence[TrashedFile]:
        """What is marked, else what the row under the cursor stands for."""
        marked = [file for file in self._files if file.trash in self._marked]
        return marked or (self.row.files if self.row is not None else ())

    def action_restore(self) -> None:
        if chosen := self._chosen:
            self.app.push_screen(RestoreScreen(chosen), self._changed)

    def action_empty(self) -> None:
        if chosen := self._chosen:
            self.app.push_screen(EmptyTrashScreen(chosen), self._changed)
        else:
            self.say("the trash is empty")

    def _changed(self, message: str | None) -> None:
        if message:
            self._read(message)

    def action_undo(self) -> None:
        row = self.row
        if row is None:
            return
        if row.transaction is None or not any(file.undoable for file in row.files):
            self.say("no transaction that can be undone took it there; r brings the file back")
        else:
            self.dismiss(row.transaction.id)


def trash_rows(
    files: Sequence[TrashedFile], transactions: dict[str, Transaction], marked: frozenset[str]
) -> Iterator[TrashRow]:
    """Transaction by transaction, the newest first, and the files of each, those with a mark that are ``marked``."""
    for transaction_id, group in groupby(files, key=lambda file: file.transaction):
        same = tuple(group)
        transaction = transactions.get(transaction_id)
        what = transaction_id or "of no known transaction"
        if transaction is not None:
            names = f" {transaction.about}" if transaction.about else ""
            what = f"{transaction.kind} {transaction_id}{names}"
        fate = "can be undone" if any(file.undoable for file in same) else "cannot be undone"
        text = f"{_mark(same, marked)} {timestamp(max(file.when for file in same))} {what}"
        key = f"of {transaction_id}"
        yield TrashRow(key, text, fate, "heading", start=True, files=same, transaction=transaction)
        for file in same:
            name = short_digests(file.name or file.trash)
            kind = "" if file.kind == "file" else f" ({file.kind})"
            key, text = f"file {file.trash}", f"{_mark((file,), marked)}   {name}{kind}"
            yield TrashRow(key, text, human_size(file.size), files=(file,), transaction=transaction)


def _mark(files: Iterable[TrashedFile], marked: frozenset[str]) -> str:
    return MARK if marked.issuperset(file.trash for file in files) else " "


def _detail(row: TrashRow) -> list[Line]:
    if len(row.files) == 1:
        file = row.files[0]
        lines = [Line(file.name or "nobody knows", "was"), Line(file.trash, "in the trash")]
        lines.append(Line(f"{human_size(file.size)}, {file.size} bytes", "size"))
    else:
        lines = [heading(total_text(row.files))]
    if row.transaction is not None:
        lines += [Line(row.transaction.by, "by"), Line(str(row.transaction.state), "transaction")]
    return lines
