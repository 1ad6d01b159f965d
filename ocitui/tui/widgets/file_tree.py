"""The tree inside a packed file: folded and unfolded, sorted, searched; each row is made when it shows."""

from __future__ import annotations

import asyncio
import stat
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload
from weakref import finalize

from textual import on, work
from textual.message import Message

from ocitui.cache import FileIdentity, PackedFormat, identity_of, open_bounded
from ocitui.contents import (
    ROOT,
    ContentsError,
    PackedTree,
    PathPattern,
    TreeLines,
    find_entries,
    open_lazily,
    open_tree,
)
from ocitui.text import clean, counted, human_size, timestamp
from ocitui.threads import Stop, giving_way, in_thread
from ocitui.words import sort_of_file

from .lines import ASCENDING, BAD, DESCENDING, Cell, Kind, PickList, PickRow, SearchDone, bar_text, bound, fit

if TYPE_CHECKING:
    from ..terminal import Role

Sort = Literal["name", "size", "time"]
FOLDED, UNFOLDED = "▸▾"
# The cells of the columns but the name's, with one between, and those of a bar by the width of the list.
_SIZE, _MODE, _OWNER = 5, 4, 9
_BARS = ((100, 20), (72, 10))
_ROOM_FOR_OWNERS = 60


class Contents:
    """What is inside a packed file, or only in its root where the tree is not whole, with all that its rows tell:
    nothing is read while they are drawn. The file is open for as long as anybody has its tree."""

    def __init__(self, tree: PackedTree, name: str, identity: FileIdentity | None, stop: Stop) -> None:
        self.tree, self.name, self.identity = tree, name, identity
        tree.children(ROOT)
        self.is_whole, self.totals = tree.is_whole, tree.totals()
        self.damage = dict(reversed(tree.damage))
        """What is wrong with an entry, by its number."""
        self.targets = dict[int, bytes]()
        for entry, mode in enumerate(tree.modes):
            if stat.S_ISLNK(mode):
                stop.check()
                self._read_target(entry)

    def _read_target(self, entry: int) -> None:
        try:
            self.targets[entry] = self.tree.target(entry)
        except (ContentsError, OSError) as error:
            self.damage.setdefault(entry, str(error))

    def size(self, entry: int) -> int | None:
        """Of a file its own, of a directory that of all below it; None for what has none, or is not known so far."""
        kind = self.tree.kind(entry)
        if kind == stat.S_IFREG:
            return self.tree.sizes[entry]
        return self.totals[entry] if kind == stat.S_IFDIR and self.is_whole else None

    def children(self, entry: int) -> Sequence[int]:
        """Of a directory, as far as it was read."""
        return self.tree.children(entry) if self.is_whole or entry == ROOT else ()

    def path(self, entry: int) -> str:
        """For people, with a slash before it."""
        return f"/{_text(self.tree.path(entry))}"

    def about(self) -> str:
        """How much it is, and how much of it could not be read."""
        if not self.is_whole:
            return "reading the rest"
        bad = f", {BAD} {len(self.damage)} not readable" if self.damage else ""
        return f"{counted(len(self.tree) - 1, 'entry')}, {human_size(self.totals[ROOT])}{bad}"

    def told(self, entry: int) -> str:
        """What the row of an entry has no room for."""
        wrong = f": {BAD} {self.damage[entry]}" if entry in self.damage else ""
        node = self.tree.node(entry)
        return f"{self.path(entry)}, of {node.uid}:{node.gid}, {timestamp(node.mtime)[:16]}{wrong}"


def read_contents(
    path: Path, format: PackedFormat, name: str, stop: Stop, *, whole: bool = True, kept: TreeLines | None = None
) -> Contents:
    """Those of an entry called ``name``, at least of its root, or as the ``kept`` lines of it tell them; not on the
    event loop. Raises ContentsError, OSError, AbandonedError."""
    with ExitStack() as stack:
        # Taken first: what comes into its place meanwhile is another one by that.
        identity = identity_of(path)
        file = stack.enter_context(open_bounded(path))
        if kept is not None:
            tree = kept.tree(partial(open_lazily, path, file, format, Stop()))
        else:
            tree = open_tree(file, format, stop) if whole else open_lazily(path, file, format, stop)
        # Whoever reads a body in a thread may have it for longer than the screen.
        finalize(tree, stack.pop_all().close)
        return Contents(tree, name, identity, stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow(PickRow):
    """An entry as it is drawn: ``size`` of ``most``, ``depth`` directories down."""

    size: int | None
    most: int
    depth: int
    sign: str
    more: str
    mode: str
    owner: str

    def cells(self, width: int, pointed: bool) -> Sequence[Cell]:
        bar = next((cells for least, cells in _BARS if width >= least), 0)
        owners = _OWNER if width >= _ROOM_FOR_OWNERS else 0
        room = max(width - 4 - sum(cells + 1 for cells in (_SIZE, bar, _MODE, owners) if cells), 8)
        size = self.sign if self.rule else "" if self.size is None else human_size(self.size)
        weight: Role = "muted" if (self.size or 0) < 1 << 20 or self.rule else "strong"
        name = f"{clean(self.text)}{clean(self.more)}"
        name = name if self.rule else f"{' ' * min(self.depth * 2, room // 2)}{self.sign} {name}"
        named: Role = "muted" if self.rule else "bad" if self.kind == "bad" else "plain"
        drawn = bar_text(self.size or 0, self.most, bar)
        return (
            (f"{'▸' if pointed else ' '}  ", "key"),
            (f"{size:>{_SIZE}} ", weight),
            (f"{drawn:<{bar}} " if bar else "", "gauge"),
            (f"{fit(name, room)} ", named),
            (f"{self.mode:>{_MODE}}{f' {fit(self.owner, owners, right=True)}' if owners else ''}", "muted"),
        )


class FileRows(Sequence[PickRow]):
    """The rows of the entries that are not folded away, each made as it is asked for, below a row of titles."""

    def __init__(self, contents: Contents, shown: Sequence[int], unfolded: frozenset[int], titles: PickRow) -> None:
        self.shown = shown
        self._contents, self._unfolded, self._titles = contents, unfolded, titles

    def __len__(self) -> int:
        return len(self.shown) + 1

    @overload
    def __getitem__(self, at: int) -> PickRow: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[PickRow]: ...
    def __getitem__(self, at: int | slice) -> PickRow | Sequence[PickRow]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        return self._row(self.shown[at - 1]) if at else self._titles

    def _row(self, entry: int) -> PickRow:
        contents, tree = self._contents, self._contents.tree
        depth, above = 0, entry
        while above != ROOT:
            depth, above = depth + 1, tree.parents[above]
        kind, is_bad = tree.kind(entry), entry in contents.damage
        sign = (UNFOLDED if entry in self._unfolded else FOLDED) if kind == stat.S_IFDIR else " "
        more = "" if kind in (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK) else f"  {sort_of_file(tree, entry)}"
        if entry in contents.targets:
            more = f" → {_text(contents.targets[entry])}"
        return FileRow(
            str(entry),
            _text(tree.name(entry)) or "/",
            kind="bad" if is_bad else "plain",
            size=contents.size(entry),
            most=contents.totals[ROOT],
            depth=depth,
            sign=BAD if is_bad and kind != stat.S_IFDIR else sign,
            more=f"{more}  {BAD} not readable" if is_bad else more,
            mode=f"{stat.S_IMODE(tree.modes[entry]):04o}",
            owner=f"{tree.uids[entry]}:{tree.gids[entry]}",
        )


class FileTree(PickList):
    """The keys go from row to row; enter opens a directory here, and has a file opened by the screen."""

    BINDINGS = bound({"right": "unfold", "left": "fold", "n": "match(1)", "N": "match(-1)"})
    DEFAULT_CSS = "FileTree { height: 1fr; max-height: 100%; }"

    @dataclass
    class Asked(Message):
        """The operator asked for what an entry that is no directory holds."""

        files: FileTree
        contents: Contents
        entry: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.contents: Contents | None = None
        self.sort: Sort = "name"
        self.reverse = False
        self._unfolded = frozenset({ROOT})
        self._matches: Sequence[int] = ()
        self._match, self._sought = 0, ""

    @property
    def entry(self) -> int | None:
        """What the cursor is on; None where nothing is shown."""
        return int(self.key) if self.contents is not None and self.key else None

    def clear(self, *texts: str, bad: bool = False) -> None:
        """Show these lines instead of a tree."""
        self.contents, self._matches, self._sought = None, (), ""
        kind: Kind = "bad" if bad else "muted"
        self.set_rows([PickRow("", text, kind=kind, start=True, rule=True) for text in texts if text])

    def show(self, contents: Contents) -> None:
        """Show another tree; what is unfolded, and where the cursor is, stays where the same paths are there."""
        before, at = self.contents, self.entry
        was = before.tree if before is not None else contents.tree
        kept = (contents.tree.find(was.path(entry)) for entry in self._unfolded if before is not None)
        found = None if at is None else contents.tree.find(was.path(at))
        self.contents, self._matches = contents, ()
        self._unfolded = frozenset({ROOT, *(entry for entry in kept if entry is not None)})
        self._draw(ROOT if found is None else found)
        if self._sought and contents.is_whole:
            self.search(self._sought)

    async def load(self, path: Path, format: PackedFormat, name: str) -> None:
        """Read and show a packed file, unless it is the one that is shown; its root at once. Raises ContentsError,
        OSError."""
        now = self.contents
        if now is not None and now.is_whole and now.identity == await asyncio.to_thread(identity_of, path):
            return
        with giving_way():
            found = None
            while found is None or not found.is_whole:
                whole = (found or now) is not None
                found = await in_thread(partial(read_contents, path, format, name, whole=whole))
                self.show(found)

    def _draw(self, cursor: int) -> None:
        """Show what is not folded away, with the cursor on an entry, or on the nearest directory that it is in."""
        if (contents := self.contents) is None:
            return
        while (cursor != ROOT) and not self._is_shown(contents, cursor):
            cursor = contents.tree.parents[cursor]
        shown = array("I", self._shown(contents))
        way = ASCENDING if self.reverse else DESCENDING
        titles = {"size": "SIZE", "name": "NAME"} | {self.sort: f"{self.sort.upper()}{way}"}
        about = f"{titles['name']}{'  TIME' + way if self.sort == 'time' else ''}  {contents.about()}"
        self.set_rows(
            FileRows(contents, shown, self._unfolded, _titles(titles["size"], about)), shown.index(cursor) + 1
        )

    def _is_shown(self, contents: Contents, entry: int) -> bool:
        parents = contents.tree.parents
        while entry != ROOT:
            entry = parents[entry]
            if entry not in self._unfolded:
                return False
        return True

    def _shown(self, contents: Contents, *, unfolded: bool = False) -> Iterator[int]:
        """The entries in the order in which they stand, without those that are folded away, or all of them."""
        pending = [ROOT]
        while pending:
            entry = pending.pop()
            yield entry
            if unfolded or entry in self._unfolded:
                pending += reversed(self._sorted(contents, contents.children(entry)))

    def _sorted(self, contents: Contents, entries: Sequence[int]) -> Sequence[int]:
        if self.sort == "size":
            return sorted(entries, key=lambda entry: contents.size(entry) or 0, reverse=not self.reverse)
        if self.sort == "time":
            return sorted(entries, key=contents.tree.mtimes.__getitem__, reverse=self.reverse)
        return entries[::-1] if self.reverse else entries

    def choose_sort(self, sort: Sort, *, other_way: bool) -> None:
        """As is mostly wanted, the largest and oldest first, or the other way; that in force is reversed."""
        self.reverse = not self.reverse if sort == self.sort else other_way
        self.sort, self._matches = sort, ()
        self._draw(self.entry or ROOT)

    # The keys

    @on(PickList.Picked)
    def _picked(self, event: PickList.Picked) -> None:
        event.stop()
        contents, entry = self.contents, self.entry
        if contents is None or entry is None:
            return
        if contents.tree.kind(entry) == stat.S_IFDIR:
            self._fold(entry, unfold=entry not in self._unfolded)
        else:
            self.post_message(self.Asked(self, contents, entry))

    def action_unfold(self) -> None:
        """Open the directory; of one that is open the cursor goes to the first that it has."""
        contents, entry = self.contents, self.entry
        if contents is None or entry is None or contents.tree.kind(entry) != stat.S_IFDIR:
            return
        if entry not in self._unfolded:
            self._fold(entry, unfold=True)
        elif contents.children(entry):
            self.action_step(1)

    def action_fold(self) -> None:
        """Close the directory; of anything else the cursor goes to the one that it is in."""
        if self.contents is None or (entry := self.entry) is None:
            return
        if entry in self._unfolded:
            self._fold(entry, unfold=False)
        else:
            self.reveal(self.contents.tree.parents[entry])

    def _fold(self, entry: int, *, unfold: bool) -> None:
        self._unfolded ^= {entry}
        self._draw(entry)

    def reveal(self, entry: int) -> None:
        """Put the cursor on an entry, and open the directories that it is in."""
        if (contents := self.contents) is None:
            return
        above = entry
        while above != ROOT:
            above = contents.tree.parents[above]
            self._unfolded |= {above}
        self._draw(entry)

    def search(self, text: str) -> None:
        """Look for names or paths that have ``text`` in them, or are like a pattern with a ``*``, once all is read;
        SearchDone tells."""
        self.workers.cancel_group(self, "search")
        self._matches, self._sought = (), ""
        if text and self.contents is not None and not self.contents.is_whole:
            self._sought = text
        elif text and self.contents is not None:
            # What begins with a slash is the beginning of a name.
            part = f"**{text}*" if text.startswith("/") else f"**/*{text}*"
            self._search(self.contents, text if {"*", "?"} & {*text} else part)
        else:
            self.post_message(SearchDone(0, 0))

    @work(group="search", exclusive=True)
    async def _search(self, contents: Contents, pattern: str) -> None:
        def look(stop: Stop) -> list[int]:
            found = {*find_entries(contents.tree, stop, pattern=PathPattern(pattern), unread=lambda *_: None)}
            return [entry for entry in self._shown(contents, unfolded=True) if entry in found] if found else []

        with giving_way():
            found = await in_thread(look)
        if contents is self.contents:
            self._matches, self._match = found, 0
            self._show_match()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a search its keys are the screen's."""
        return action != "match" or bool(self._matches)

    def action_match(self, step: int) -> None:
        """Go to the next match or the one before; past either end it goes on at the other."""
        self._match = (self._match + step) % len(self._matches)
        self._show_match()

    def _show_match(self) -> None:
        if self._matches:
            self.reveal(self._matches[self._match])
        self.post_message(SearchDone(len(self._matches), self._match + 1 if self._matches else 0))


def _titles(size: str, name: str) -> FileRow:
    return FileRow("", name, rule=True, size=None, most=0, depth=0, sign=size, more="", mode="MODE", owner="OWNER")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
