"""Changes in words: what a delete, a prune, an undo or a point would do, what one was about; what takes room.
And transactions and entries as programs read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ocitui.cache import Condition, Topic, some_of
from ocitui.text import age_of, counted, first_of, human_size, short_digest, short_digests, time_json

from .lines import CommandLine, Kind, Line

if TYPE_CHECKING:
    from pathlib import Path

    from ocitui.cache import (
        DeletePlan,
        Descriptor,
        Discard,
        EmptiedTrash,
        Moved,
        Placed,
        PointPlan,
        Transaction,
        TrashedFile,
        Winners,
    )
    from ocitui.doctor import Candidate, FileRecords, JudgedEntry, Origin, Origins, PruneChoice, Room

T = TypeVar("T")


class Section(msgspec.Struct, Generic[T], frozen=True):
    """A part of a plan: its title, and a line for each of its items, which may be as many as a cache has entries."""

    title: str
    items: Sequence[T]
    line: Callable[[T], Line]


def delete_title(plan: DeletePlan) -> str:
    """How much of the index and of the disk it is about."""
    leave = counted(len(plan.entries), "entry leaves", "entries leave")
    go = counted(len(plan.files), "file goes", "files go")
    return f"{leave} the index, {go} to the trash ({human_size(plan.bytes_trashed)})"


def delete_sections(plan: DeletePlan, origins: Origins, known: FileRecords) -> Iterator[Section[Any]]:
    """What it does, what matters most first, the long lists last; what is ``known`` of files tells which are pinned."""
    files = [f"{digest}.{format}" for digest, format in plan.keys]
    pins = known.noted(Topic.PINNED)
    pinned = [(file, pins[file].text) for file in files if file in pins]
    found = [(file, origins.of(file)) for file in files]
    back, lost = [one for one in found if one[1].is_sure], [one for one in found if not one[1].is_sure]

    def line(one: tuple[str, Origin]) -> Line:
        digest, _, format = one[0].rpartition(".")
        return Line(one[1].text, f"{short_digest(digest)} {format}", "plain" if one[1].is_sure else "bad")

    yield from _filled(
        Section("These names will then stand for another image", plan.uncovered, lambda one: entry_line(one, "bad")),
        Section("Pinned", pinned, lambda one: Line(one[1], short_digest(one[0].partition(".")[0]), "bad")),
        Section("Once it is gone for good, it cannot come back as far as anybody knows", lost, line),
        Section("Can come back", back, line),
        Section("Out of the index", plan.entries, entry_line),
        Section("To the trash; undo brings it back, and the room is free once that is emptied", plan.files, _file_line),
        Section("Kept, because another format of that digest uses them", plan.kept, lambda name: Line(name, "kept")),
    )


def undo_sections(
    target: Transaction, old: Sequence[Descriptor] = (), now: Sequence[Descriptor] = ()
) -> Iterator[Section[Any]]:
    """What comes back and what goes when a transaction is undone; ``old`` and ``now`` are what can be read of the index
    that comes back as a whole, and of the one that is there."""
    swap = [target.swap] if target.swap is not None else []
    as_before = f"comes back as it was before, byte for byte; {counted(len(old), 'entry')} can be read in it"
    back, out = [one.descriptor for one in target.removed], [one.descriptor for one in target.added]
    there, before = {one.identity for one in now}, {one.identity for one in old}
    back += [one for one in old if one.identity not in there]
    out += [one for one in now if one.identity not in before]
    names = names_of_files(target, (*old, *now))

    def line(file: Moved | Placed) -> Line:
        return _file_line(file, some_of(names.get(file.name.partition(".")[0], ())))

    yield from _filled(
        Section("index.json as a whole", swap, lambda one: Line(as_before if one.old else "goes: there was none")),
        Section("Back into the index", back, entry_line),
        Section("Out of the index", out, entry_line),
        Section("Modes as they were", target.modes, lambda mode: Line(mode.name, "mode")),
        Section("Back from the trash", target.trashed, line),
        Section("To the trash, unless another entry needs them", target.placed, line),
    )


def names_of_files(transaction: Transaction, more: Sequence[Descriptor] = ()) -> dict[str, list[str]]:
    """The names of images by their digests, as a transaction and ``more`` descriptors tell them, each once."""
    names: dict[str, dict[str, None]] = {}
    for one in (*(one.descriptor for one in (*transaction.removed, *transaction.added)), *more):
        if one.image_name:
            names.setdefault(one.digest, {})[one.image_name] = None
    if not names and len(transaction.digests) == 1:
        names = {transaction.digests[0]: dict.fromkeys(transaction.names)}
    return {digest: list(known) for digest, known in names.items()}


def _filled(*sections: Section[Any]) -> Iterator[Section[Any]]:
    return (section for section in sections if section.items)


def entry_line(descriptor: Descriptor, kind: Kind = "plain") -> Line:
    """An entry that goes or comes."""
    return Line(f"{descriptor.image_name or 'no name'} {descriptor.digest}", descriptor.format or "no format", kind)


def _file_line(file: Discard | Moved | Placed, of: str = "") -> Line:
    return Line(f"{file.name}  {of}" if of else file.name, f"{human_size(file.size):>5}")


def point_lines(plan: PointPlan) -> Iterator[Line]:
    """Whether the daemon would find the image, what the name stands for, and how it comes to stand for that."""
    if plan.trouble:
        yield Line(f"the daemon would not find it all the same: {short_digests(plan.trouble)}", kind="bad")
    yield Line()
    for label, descriptor in (("stands for", plan.winner), ("will be", plan.entry)):
        yield Line(f"{descriptor.digest} {descriptor.format or 'without a format'}", label)
    yield Line(f"entry {plan.position + 1} moves to the end of index.json, where it wins; nothing is deleted", "how")


def transaction_extent(transaction: Transaction) -> str:
    """How much it was about: the index as a whole, else entries; else, as of many a mend, only files."""
    if transaction.swap is not None:
        return "index.json as a whole"
    entries, files = transaction.entry_count, len(transaction.file_names)
    return counted(entries, "entry") if entries or not files else counted(files, "file")


def total_text(files: Sequence[TrashedFile]) -> str:
    """As ``3 files, 1.2M``."""
    return f"{counted(len(files), 'file')}, {human_size(sum(file.size for file in files))}"


def ended_undos(files: Sequence[TrashedFile]) -> str:
    """What else is lost where these files are removed; empty for nothing."""
    undone = len({file.transaction for file in files if file.undoable})
    return f"{counted(undone, 'transaction')} can then no longer be undone" if undone else ""


def emptied_text(removed: EmptiedTrash) -> str:
    return f"removed {counted(removed.files, 'file')}: {human_size(removed.bytes)} are free again"


def room_lines(room: Room) -> Iterator[Line]:
    """What of the disk is not the cache's, what could be free, and where use is not known."""
    share = (
        f" of {human_size(room.total)}, {human_size(room.elsewhere)} of it are not the cache's" if room.total else ""
    )
    yield Line(f"{human_size(room.free)} are free{share}", "disk")
    if room.inodes is not None and room.inodes[0] < room.inodes[1] / 10:
        yield Line(f"{room.inodes[0]} of {room.inodes[1]} inodes are free", "inodes", "warn")
    if room.trash:
        yield Line(f"{human_size(room.trash)}, free once it is emptied", "trash")
    if room.downloads:
        yield Line(f"{human_size(room.downloads)} of imports that were interrupted", "downloads")
    for one in room.leftovers:
        what = f"of a {one.kind} that is under way" if one.live else f"of a {one.kind} that is no more"
        yield Line(f"{human_size(one.bytes)} {what}, {one.path}", "kratad")
        if one.removal:
            yield CommandLine(one.removal)
    if room.doubt:
        yield Line(f"nobody can tell who else needs an image: {room.doubt}", "use", "bad")
    elif room.watched is None:
        yield Line("who used what was not looked at before", "use")


def choice_title(choice: PruneChoice, *, for_good: bool) -> str:
    """How many go, where to, and what that gives."""
    size = sum(one.size for one in choice.going)
    go, where = "goes" if len(choice.going) == 1 else "go", "for good" if for_good else "to the trash"
    title = f"{counted(len(choice.going), 'entry')} of {human_size(size)} {go} {where}"
    held = sum(one.size for one in choice.going if one.users)
    title += f"; {human_size(held)} of it are free only once nothing holds them" if held else ""
    if not choice.wanted:
        return title
    then = "" if for_good else " once the trash is emptied"
    short = f", {human_size(choice.short)} short of" if choice.short else " of"
    return f"{title}; {human_size(choice.to_be_free)} are free{then}{short} {human_size(choice.wanted)} wanted"


def choice_sections(choice: PruneChoice) -> Iterator[Section[Any]]:
    """What goes, and what the rules speak of that stays."""

    def going(one: Candidate) -> Line:
        kind: Kind = "plain" if one.origin.is_sure else "bad"
        last = f", last used {age_of(one.used)} ago" if one.used and not one.users else ""
        text = f"{one.name} {one.key[1]}, {age_of(one.written)} old{last}; {short_digests(one.origin.text)}"
        return Line(text, f"{human_size(one.size):>5}", kind)

    def staying(told: tuple[Candidate, str]) -> Line:
        one, why = told
        return Line(f"{one.name} {one.key[1]}: {short_digests(why)}", f"{human_size(one.size):>5}")

    if choice.going:
        yield Section("What goes, the longest unused first", choice.going, going)
    if choice.staying:
        yield Section("What stays, though the rules speak of it; name an entry to take it too", choice.staying, staying)


def candidate_json(one: Candidate) -> dict[str, Any]:
    """An entry as programs read it; ``used`` is when it was last seen in use, null for never."""
    return {
        "name": one.names[-1] if one.names else None,
        "digest": one.key[0],
        "format": one.key[1],
        "size": one.size,
        "written": time_json(one.written),
        "used": None if one.used is None else time_json(one.used),
        "used_by": list(one.users),
        "pinned": one.pin or None,
        "comes_back": one.origin.comes_back.value,
        "origin": one.origin.text,
        "source": one.origin.source or None,
    }


def choice_json(choice: PruneChoice, room: Room) -> dict[str, Any]:
    """A choice as programs read it; bytes throughout."""
    return {
        "entries": [candidate_json(one) for one in choice.going],
        "staying": [candidate_json(one) | {"why": why} for one, why in choice.staying],
        "bytes": sum(one.size for one in choice.going),
        "wanted": choice.wanted or None,
        "to_be_free": choice.to_be_free,
        "room": {
            "total": room.total,
            "free": room.free,
            "trash": room.trash,
            "downloads": room.downloads,
            "elsewhere": room.elsewhere,
        },
        "doubt": room.doubt,
    }


def transaction_json(transaction: Transaction) -> dict[str, Any]:
    """A transaction as programs read it."""
    return {
        "id": transaction.id,
        "kind": str(transaction.kind),
        "state": transaction.state.value,
        "started": time_json(transaction.started),
        "by": transaction.by,
        "of": transaction.of,
        "names": transaction.image_names,
        "digests": transaction.image_digests,
        "removed": [removed.descriptor.as_dict() for removed in transaction.removed],
        "added": [added.descriptor.as_dict() for added in transaction.added],
        "bytes_trashed": transaction.bytes_trashed,
        "files_trashed": [moved.name for moved in transaction.trashed],
        "files_placed": [placed.name for placed in transaction.placed],
        "index_replaced": transaction.swap is not None,
        "modes": [{"name": mode.name, "old": f"{mode.old:o}", "new": f"{mode.new:o}"} for mode in transaction.modes],
        "note": transaction.note or None,
    }


def entry_json(entry: JudgedEntry, directory: Path, known: FileRecords) -> dict[str, Any]:
    """An entry as programs read it; ``name`` is the whole of it as the index has it, ``depth`` what its state rests on
    (null: it was not looked into), ``checked`` when all bytes were last found sound, in seconds since the epoch. What
    is ``known`` of the files tells where it came from, whether it can come back, and why it is pinned."""
    from ocitui.doctor import Origins

    descriptor, state, file = entry.descriptor, entry.state, entry.descriptor.packed_file
    origin, pin = Origins(directory, known).of(file), known.noted(Topic.PINNED).get(file)
    return {
        "name": descriptor.image_name,
        "reference": descriptor.reference,
        "digest": descriptor.digest,
        "format": descriptor.format,
        "media_type": descriptor.media_type,
        "size": descriptor.size,
        "packed_size": entry.packed_size,
        "state": state.word,
        "depth": state.depth,
        "checked": state.checked,
        "source": origin.source or None,
        "comes_back": origin.comes_back,
        "pinned": pin.text if pin else None,
        "descriptor": descriptor.as_dict(),
    }


_MOST = 3


def index_change_text(
    came: Sequence[Descriptor], went: Sequence[Descriptor], changed: Sequence[Descriptor] = (), *, won: Winners
) -> str:
    """What an index is to the one before it: the first few entries that came, went and are otherwise than they were,
    and what names stand for now."""
    names, kinds = won.items(), (("+", came), ("-", went), ("~", changed))
    parts = (
        *([_of_format(f"{sign}{one.image_name or 'no name'}", one) for one in some] for sign, some in kinds),
        [
            _of_format(f"{name}={short_digest(now.digest)}", now) if now else f"{name}=nothing"
            for name, (now, _) in names
        ],
    )
    return "; ".join(first_of(part, _MOST) for part in parts if part) or "the same entries, written anew"


def _of_format(stem: str, one: Descriptor) -> str:
    return f"{stem}.{one.format}" if one.format else stem


def index_change_json(came: Sequence[Descriptor], went: Sequence[Descriptor], won: Winners) -> dict[str, Any]:
    """The same for programs, all of it."""
    return {
        "added": [key_json(one, one.image_name) for one in came],
        "removed": [key_json(one, one.image_name) for one in went],
        "winners": [{**key_json(now, name), "before": key_json(before, name)} for name, (now, before) in won.items()],
    }


def key_json(one: Descriptor | None, name: str | None) -> dict[str, Any]:
    """An entry, or none, that has this name."""
    return {"name": name, "digest": one and one.digest, "format": one and one.format}


CONDITIONS = {
    Condition.STALE: "index.json is torn: it keeps changing and does not read",
    Condition.CORRUPT: "index.json is corrupt",
    Condition.MISSING: "index.json is gone",
    Condition.GONE: "the directory is gone",
    Condition.UNREADABLE: "the cache cannot be read",
}
"""What is wrong with index.json or the directory."""
