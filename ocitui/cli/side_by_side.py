"""The sources of an index that was lost, side by side, entry by entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from ocitui.doctor.salvage.sources import Fact, JoinedEntry, Source, sources_shown

from .prose import counted, paragraph, short_digest, text_width
from .tables import Column, lay_out

_FIRST = (Column("", right=True), Column("NAME", shrink=True), Column("DIGEST"), Column("FORMAT"))
_LAST = Column("TAKEN FROM")
_MOST_ROWS = 40
_LOST = "(lost)"
_HAS, _HAS_NOT, _BAD = "yes", "no", "bad"


def source_lines(entries: Sequence[JoinedEntry]) -> Iterator[str]:
    """A row for each entry, in the order of the new index; of many, those with something to be said of them."""
    shown, sources = _shown(entries), sources_shown(entries)
    columns = (*_FIRST, *(Column(source.upper()) for source in sources), _LAST)
    for line in lay_out(columns, [_row(number, entry, sources) for number, entry in shown], text_width() - 2):
        yield f"  {line}"
    if len(shown) < len(entries):
        yield f"  {counted(len(entries) - len(shown), 'more entry', 'more entries')}; --json has them all"
    for number, entry in shown:
        for remark in _remarks(entry):
            yield from paragraph(remark, f"  {number:>3} ")
    yield from paragraph(_tally(entries), "  ")


def _shown(entries: Sequence[JoinedEntry]) -> list[tuple[int, JoinedEntry]]:
    """The entries with their numbers; of many, those that say at once that something is wrong with them. Only where
    these are few all documents are read, to find what is told differently."""
    numbered = list(enumerate(entries, 1))
    if len(numbered) <= _MOST_ROWS:
        return numbered
    shown = [pair for pair in numbered if pair[1].problems or pair[1].name is None]
    if len(shown) < _MOST_ROWS:
        shown = list(islice((pair for pair in numbered if _remarks(pair[1])), _MOST_ROWS))
    return shown[:_MOST_ROWS]


def _row(number: int, entry: JoinedEntry, sources: Sequence[Source]) -> list[str]:
    return [
        str(number),
        entry.name or _LOST,
        short_digest(entry.digest),
        entry.format or "none",
        *(_cell(entry, source) for source in sources),
        str(entry.taken_from) if entry.taken_from else "left out",
    ]


def _cell(entry: JoinedEntry, source: Source) -> str:
    if source not in entry.sources:
        return _HAS_NOT
    return _BAD if source is Source.FILES and entry.problems else _HAS


def _remarks(entry: JoinedEntry) -> list[str]:
    """What is wrong with an entry, what is told differently, and what may help to name it."""
    remarks = [_conflict(fact) for fact in entry.conflicts]
    remarks += [f"files: {problem}" for problem in entry.problems]
    if entry.removed_by:
        remarks.append(f"taken out on purpose by transaction {entry.removed_by}, and stays so; undo brings it back")
    if entry.name is None:
        digest = short_digest(entry.digest)
        hints = ", ".join(f"{hint.text!r} ({hint.source})" for hint in entry.hints)
        remarks.append(f"no source tells its name: --name {digest}=NAME" + (f"; perhaps {hints}" if hints else ""))
    return remarks


def _conflict(fact: Fact) -> str:
    return f"{fact.what}: " + ", but ".join(f"the {source} says {value}" for source, value in fact.told)


def _tally(entries: Sequence[JoinedEntry]) -> str:
    counts = Counter(source for entry in entries for source in entry.sources)
    told = ", ".join(f"by the {source}: {counts[source]}" for source in sources_shown(entries))
    named = sum(entry.name is not None for entry in entries)
    total = f"{counted(len(entries), 'entry', 'entries')}, {named} with a name"
    return f"{total}; told of {told}"
