"""The main screen: what can be done with the cache and its entries. Each action asks the core, or opens a screen."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from ocitui.cache import CacheError
from ocitui.text import clean, counted, short_digest

from ..actions import ACTIONS, BY_NAME
from ..widgets.entry_rows import BY_NAME as BY_COLUMN
from ..widgets.lines import bound
from .base import STATUS_SECONDS, EntryToShow, Throttle
from .entries import EntriesScreen
from .popups import Copyable, MenuScreen, offer_copies, pin_entries, texts_to_copy

if TYPE_CHECKING:
    from ocitui.cache import Key
    from ocitui.doctor import JudgedEntry

    from ..live import LiveChange
    from ..session import Session
    from ..widgets.file_tree import FileTree, Sort


class MainScreen(EntriesScreen):
    """One screen for the daily work. It holds no rules: what may be done, the core says."""

    BINDINGS = bound({",".join(action.keys): action.name for action in ACTIONS if not action.handled_by_widget})

    def __init__(self) -> None:
        super().__init__()
        self._prepared = False
        self._told: frozenset[int] = frozenset()
        self._news = Throttle(self, STATUS_SECONDS, self._tell_imports)

    def live_changed(self, change: LiveChange) -> None:
        super().live_changed(change)
        live = self.session.live
        if live.loaded and not self._prepared and not live.read_only and self.query("EntryTable"):
            self._prepared = True
            self._prepare()

    @work(group="prepare")
    async def _prepare(self) -> None:
        """Begin as commands that write do: finish what was interrupted, make the reserve for a full disk, and say which
        imports can be gone on with. What stands in the way is said when something is to be written."""
        notes: Sequence[str] = ()
        with suppress(CacheError):
            notes = (await self.session.cache.prepare()).notes
        if said := "; ".join(filter(None, (await self._interrupted(), *notes))):
            self.say(said)

    async def _interrupted(self) -> str:
        """Remove what killed imports left half made; gives which can be gone on with, empty where none can."""
        try:
            count = await asyncio.to_thread(self.session.take_stock)
        except CacheError as error:
            return f"what imports left cannot be looked at: {error.message}"
        were = counted(count, "import was", "imports were")
        return f"{were} interrupted: I goes on with {'it' if count == 1 else 'them'}" if count else ""

    def _may(self, action: str) -> bool:
        if reason := self.session.refusal(action):
            self.say(f"{BY_NAME[action].label}: {reason}")
            return False
        return True

    def _chosen(self) -> list[int]:
        """The positions of the marked entries, else of the one under the cursor."""
        if marked := self.table.rows.marked:
            return marked
        return [] if self.table.cursor_position is None else [self.table.cursor_position]

    def _chosen_keys(self) -> list[Key]:
        entries = self.session.live.entries
        keys = ((entries.digests[at], entries.formats[at]) for at in self._chosen()) if entries is not None else ()
        return list(dict.fromkeys(keys))

    def action_delete(self) -> None:
        keys = self._chosen_keys()
        if not self._may("delete"):
            return
        if not keys:
            self.say("Delete: there is no entry under the cursor")
            return
        self._own_deletions = frozenset(keys)
        from .changes import DeleteScreen

        self.app.push_screen(DeleteScreen(keys, self.table.rows.hidden_marks), self._deleted)

    def _deleted(self, message: str | None) -> None:
        if message:
            self.table.clear_marks()
            self.say(message)
        else:
            self._own_deletions = frozenset()

    def action_pin(self) -> None:
        entries, keys, judge = self.session.live.entries, self._chosen_keys(), self.session.live.judge
        if not self._may("pin") or not keys or entries is None or judge is None:
            return
        from ocitui.cache import Topic

        pins = judge.remembered.noted(Topic.PINNED)
        pinned = all(f"{digest}.{format_}" in pins for digest, format_ in keys)
        name = entries.names[self._chosen()[0]] or short_digest(keys[0][0])
        what = name if len(keys) == 1 else counted(len(keys), "entry")
        pin_entries(self, keys, what, pinned=pinned, done=self.say)

    def action_undo(self) -> None:
        if self._may("undo"):
            self._open_undo(None)

    def _open_undo(self, transaction_id: str | None) -> None:
        from .changes import UndoScreen

        self.app.push_screen(UndoScreen(transaction_id), self._said)

    def action_journal(self) -> None:
        from .changes import TimelineScreen

        self.app.push_screen(TimelineScreen(), self._undo_chosen)

    def action_trash(self) -> None:
        from .changes import TrashScreen

        self.app.push_screen(TrashScreen(), self._undo_chosen)

    def _undo_chosen(self, transaction_id: str | None) -> None:
        """A mend can be undone whatever the index is; of others the screen says what is in the way."""
        if not transaction_id:
            return
        if reason := self.session.refusal("mend"):
            self.say(f"Undo: {reason}")
        else:
            self._open_undo(transaction_id)

    # What is wrong

    def action_problems(self) -> None:
        from .problems import ProblemsScreen

        self.app.push_screen(ProblemsScreen(), partial(self._go_to, problems=True))

    def action_mend(self) -> None:
        """Under a banner about the index, the index, wherever the cursor is; else the entries that are bad."""
        if not self._may("mend"):
            return
        live = self.session.live
        if not live.health.sound or live.alarm:
            from ocitui.doctor import INDEX_CODES

            self._plan_repair(INDEX_CODES)
            return
        entries, chosen = live.entries, self._chosen()
        bad = {entries.digests[at] for at in chosen if entries.state(at).bad} if entries is not None else set()
        if not bad:
            what = "nothing is known to be wrong with it" if chosen else "there is no entry under the cursor"
            if not live.complete:
                what = "not everything was looked into yet"
            self.say(f"Mend: {what}; p shows what else is wrong")
            return
        self._plan_repair(frozenset(bad))

    def _plan_repair(self, only: frozenset[str]) -> None:
        from ocitui.doctor import RepairOptions

        from .repair import RepairScreen

        self.app.push_screen(RepairScreen(RepairOptions(only=only)), self._said)

    def _go_to(self, wanted: EntryToShow | None, *, problems: bool = False) -> None:
        """Put the cursor on an entry of a digest, of the format and name if there is one; show its ``problems``."""
        self.draw_status()
        entries, table = self.session.live.entries, self.table
        if wanted is None or entries is None:
            return
        digest, format_, name = wanted
        same = [position for position, other in enumerate(entries.digests) if other == digest]
        if not same:
            self.say("no entry of the index is what that is about")
            return
        formats, names = entries.formats, entries.names
        best = max(same, key=lambda at: ((formats[at] or "") == format_, (names[at] or "") == name))
        if not table.move_cursor_to(best):
            table.filter_by("")
            table.move_cursor_to(best)
        if problems:
            self.action_show_tab("problems")

    def action_why(self) -> None:
        from .answers import WhyScreen

        asked, entry = "", self.table.cursor_entry
        if entry is not None:
            # A name that leads to another entry would from there on be about that one.
            asked = (entry.descriptor.image_name if entry.resolves == "wins" else None) or entry.digest
        self.app.push_screen(WhyScreen(clean(asked)))

    def action_point(self) -> None:
        entry = self.table.cursor_entry
        if not self._may("point"):
            return
        if entry is None:
            self.say("Point: there is no entry under the cursor")
            return
        from .changes import PointScreen

        self.app.push_screen(PointScreen(entry.descriptor), self._said)

    def action_resolve(self) -> None:
        from .answers import ResolveScreen

        entry = self.table.cursor_entry
        name = (entry.descriptor.image_name or "") if entry else ""
        self.app.push_screen(ResolveScreen(clean(name), entry.format if entry else ""))

    def _said(self, message: str | None) -> None:
        if message:
            self.say(message)

    def action_verdict(self) -> None:
        from .answers import VerdictScreen

        self.app.push_screen(VerdictScreen())

    def action_refresh(self) -> None:
        self.session.live.read_again()
        self.say("read again")

    def action_sort(self) -> None:
        if (files := self.pane.files) is not None and files.has_focus:
            self._sort_files(files)
            return

        def chosen(choice: tuple[str, bool] | None) -> None:
            if choice is not None:
                self.table.choose_sort(_COLUMNS[choice[0]], other_way=choice[1])

        now = self.table.rows.sort_column
        rows = {letter: f"{column or 'index order'}{_FIRST.get(letter, '')}" for letter, column in _COLUMNS.items()}
        rows |= {letter: f"{now}, now: again reverses" for letter, column in _COLUMNS.items() if now and column == now}
        self.app.push_screen(MenuScreen("sort by", rows, "a capital: the other way"), chosen)

    def _sort_files(self, files: FileTree) -> None:
        def chosen(choice: tuple[str, bool] | None) -> None:
            if choice is not None:
                files.choose_sort(_FILE_SORTS[choice[0]], other_way=choice[1])

        rows = {letter: f"{sort}{_FIRST.get(letter, '')}" for letter, sort in _FILE_SORTS.items()}
        self.app.push_screen(MenuScreen("sort by", rows, "again, or a capital: the other way"), chosen)

    def on_file_tree_asked(self, event: FileTree.Asked) -> None:
        """Show what a file holds, or where a link leads."""
        from ocitui.words import sort_of_file

        contents, entry, found = event.contents, event.entry, None
        if not contents.is_whole and stat.S_ISLNK(contents.tree.modes[entry]):
            self.say(f"where {contents.path(entry)} leads is told once all is read")
            return
        with suppress(CacheError, OSError):
            found = contents.tree.follow(contents.tree.path(entry))
        if found is None:
            self.say(f"{contents.path(entry)} leads to nothing in the image")
        elif found != entry:
            event.files.reveal(found)
        elif stat.S_ISREG(contents.tree.modes[entry]):
            from .files import FileScreen

            self.app.push_screen(FileScreen(contents, entry))
        else:
            self.say(f"{contents.path(entry)} is {sort_of_file(contents.tree, entry)}")

    def _shown_files(self, action: str, there: str) -> FileTree | None:
        """The tree of the Files tab; where none is shown, an action says how to come ``there``, or that none can be."""
        files = self.pane.files
        if files is None or files.contents is None:
            how = f"4 shows the files of the entry; there {there}"
            self.say(f"{action}: {how if files is None else 'no files are shown; the pane says why'}")
        return files

    def action_extract(self) -> None:
        files = self._shown_files("Extract", "x writes out what the cursor is on")
        if files is None or files.contents is None or files.entry is None:
            return
        from .files import ExtractScreen
        from .popups import DirectoryScreen

        contents, entry = files.contents, files.entry

        def chosen(where: str | None) -> None:
            if where:
                directory = Path(os.path.abspath(os.path.expanduser(where)))
                self.app.push_screen(ExtractScreen(contents, entry, directory), self._said)

        self.app.push_screen(DirectoryScreen(f"extract {contents.path(entry)}"), chosen)

    def action_hidden(self) -> None:
        entry, files = self.pane.entry, self._shown_files("Hidden by layers", "l shows what its layers hold in vain")
        if entry is None or files is None or files.contents is None:
            return
        from .files import HiddenScreen

        self.app.push_screen(HiddenScreen(entry.digest, files.contents.name))

    def action_diff(self) -> None:
        """Of the two that are marked, or of the entry under the cursor and another format of it."""
        entries, chosen = self.session.live.entries, self._chosen()
        if entries is not None and len(chosen) == 1:
            digest, own = entries.digests[chosen[0]], entries.formats[chosen[0]]
            others = (at for at, one in enumerate(entries.digests) if one == digest and entries.formats[at] != own)
            chosen += [at for at in [next(others, None)] if at is not None]
        if entries is None or len(chosen) != 2:
            self.say("Diff: mark two entries with space, or choose one that has two formats")
            return
        from .difference import DiffScreen

        self.app.push_screen(DiffScreen(*(entries[at] for at in chosen)))

    def action_worst_first(self) -> None:
        self.table.sort_by("state")

    def action_bad_row(self, step: int) -> None:
        if not self.table.to_bad_row(step):
            looking = "" if self.session.live.complete else "; not everything was looked into yet"
            self.say(f"no bad row is shown{looking}")

    def action_mark_all(self) -> None:
        self.table.mark_all_shown()

    def action_clear_marks(self) -> None:
        self.table.clear_marks()

    def action_copy(self) -> None:
        entry = self.table.cursor_entry
        offer_copies(self, _copies(self.session, entry) if entry is not None else [])

    def action_keep_settings(self) -> None:
        settings, rows = self.session.settings, self.table.rows
        settings.sort, settings.reverse = rows.sort_column or "", rows.reverse
        super().action_keep_settings()

    # Imports, which go on in a thread of their own

    def action_import_image(self) -> None:
        if self._may("import_image"):
            from .import_image import ImportScreen

            self.app.push_screen(ImportScreen(), self._said)

    def action_zones(self) -> None:
        from .answers import ZonesScreen

        self.app.push_screen(ZonesScreen(), self._go_to)

    def action_room(self) -> None:
        from .room import RoomScreen

        self.app.push_screen(RoomScreen(), self._go_to)

    def action_imports(self) -> None:
        from .imports import ImportsScreen

        self.app.push_screen(ImportsScreen())

    def on_screen_resume(self) -> None:
        if self.session.has_imports:
            self._tell_imports()

    def imports_changed(self) -> None:
        """How imports stand is told once a second, while this screen is on top."""
        self._news.ask()

    def _tell_imports(self) -> None:
        if self.app.screen is not self:
            return
        from ocitui.words import end_text, short_text

        jobs = self.session.imports.queue.jobs
        self._imports_text = short_text([job for job in jobs if job.active])
        ended = [job for job in jobs if not job.active and job.id not in self._told]
        self._told = self._told.union(job.id for job in ended)
        if ended:
            self.say(end_text(ended[-1]))
        else:
            self.draw_status()

    def action_interrupt(self) -> None:
        if self.session.live.deep.running:
            self.app.cancel_check()
            self.say("cancelling the check")
            return
        active = self.session.imports.queue.active if self.session.has_imports else []
        if len(active) == 1:
            self.session.imports.queue.cancel(active[0].id)
            self.say("cancelling the import; what was downloaded is kept")
        elif active:
            self.say(f"{len(active)} imports are under way: I shows them, x there cancels one")
        else:
            self.say("nothing is running; q quits")

    async def action_quit(self) -> None:
        if not (self.session.has_imports and self.session.imports.queue.active):
            self.app.exit(0)
            return
        from .imports import LeavingScreen

        self.app.push_screen(LeavingScreen(), lambda answer: None if answer is None else self.app.exit(0))


# By its letter each column that can be sorted by; the first letter of state is that of size.
_COLUMNS: dict[str, str | None] = {"i": None, **{"x" if name == "state" else name[0]: name for name in BY_COLUMN}}
_FILE_SORTS: dict[str, Sort] = {"n": "name", "s": "size", "a": "time"}
_FIRST = {"s": ", largest first", "a": ", oldest first", "c": ", the longest ago first", "x": ", bad ones first"}


def _copies(session: Session, entry: JudgedEntry) -> list[Copyable]:
    directory = session.directory

    def line() -> list[str]:
        from ocitui.words import entry_json

        judge = session.live.judge
        return [json.dumps(entry_json(entry, directory, judge.remembered))] if judge is not None else []

    file = entry.descriptor.packed_file
    texts: dict[str, list[str | None]] = {
        "name": [entry.descriptor.image_name],
        "digest": [entry.digest],
        "path of the packed file": [file and str(directory.absolute() / file)],
    }
    return [*texts_to_copy(texts), Copyable("e", "entry as a JSON line", line)]
