"""Room in words: what takes it, what may come back, and what goes by a rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ocitui.text import age_of, counted, human_size, short_digests

from .changes import Section
from .json_values import time_json
from .lines import CommandLine, Kind, Line

if TYPE_CHECKING:
    from ocitui.doctor import Candidate, ComesBack, PruneChoice, Room


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


def last_text(one: Candidate, watched: float | None) -> str:
    """When an entry was last seen in use; what was never is unseen, since when that is looked at."""
    if one.users:
        return "now"
    return age_of(one.used) if one.used is not None else "unseen" if watched else "-"


def comes_back_word(kind: ComesBack) -> str:
    """In a column."""
    return kind.value.removeprefix("registry-").replace("-", " ")


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
