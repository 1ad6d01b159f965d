"""Making room: what entries take, who needs them, whether they can come back, and which a rule takes: for `prune`
and the room screen. By a rule nothing goes that is needed or pinned, nor what cannot come back: that is to be named."""

from __future__ import annotations

import os
import re
import time
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ocitui.cache import (
    TRASH_NAME,
    CacheError,
    CacheFiles,
    ImageIndex,
    Key,
    Ledger,
    Listing,
    Topic,
    author_of,
    read_bounded,
    sizes_in_own_folder,
    stem_of,
    storage_errors,
    whoami,
)
from ocitui.host import Leftover, Users, daemon_leftovers, find_users
from ocitui.stand_in import file_system
from ocitui.text import first_of, parse_span, timestamp

from .check.index_checks import read_index
from .origins import FileRecords, Origin, Origins

_DOWNLOADS = ("import", "blobs")
_SEEN_ANEW_SECONDS = 12 * 3600
_MOST_POLICY = 1 << 16


class Candidate(msgspec.Struct, frozen=True):
    """An entry that has a packed file: ``names`` are those it carries, ``size`` is the bytes that its removal frees,
    ``written`` and ``used`` are seconds since the epoch, of its file and when it was last seen in use (None: never).
    ``users`` need it now, whose names alone are ``used_by``; ``pin`` says why it is kept (empty: it is not)."""

    key: Key
    file: str
    names: tuple[str, ...]
    size: int
    written: float
    used: float | None
    users: tuple[str, ...]
    used_by: str
    pin: str
    origin: Origin

    @property
    def name(self) -> str:
        """What it is called in a line."""
        return self.names[-1] if self.names else self.key[0]

    @property
    def last(self) -> float:
        """When it was last of any use, as far as that is known."""
        return max(self.used or 0.0, self.written)


class Room(msgspec.Struct, frozen=True):
    """What takes the room of a cache's file system, in bytes. ``total`` and ``free`` are as a user other than root has
    them; ``inodes`` are how many are free, of how many (None: it does not count them). ``elsewhere`` is not the
    cache's; ``leftovers`` of it are what the daemon has, or left, among its temporary files on this file system.
    ``doubt`` says why others may be needed too, ``watched`` since when use was looked at (None: not yet)."""

    entries: tuple[Candidate, ...]
    carriers: Mapping[str, Sequence[Key]]
    total: int
    free: int
    inodes: tuple[int, int] | None
    trash: int
    downloads: int
    elsewhere: int
    leftovers: tuple[Leftover, ...]
    doubt: str
    watched: float | None


class PruneRules(msgspec.Struct, frozen=True):
    """Which entries may go: those written and used longer ago than ``older_than`` seconds; those that nobody needs, nor
    was seen to for ``unused`` seconds; all but the ``keep`` newest images of a name without its tag. What none of these
    speaks against goes, the longest unused first, until ``until_free`` bytes are free, or no more than ``low``, a share
    of the disk, is used. ``pins`` are patterns of names that stay. Nothing goes until ``high``, a share too, is."""

    older_than: float | None = None
    unused: float | None = None
    keep: int | None = None
    until_free: int | None = None
    pins: tuple[str, ...] = ()
    high: float | None = None
    low: float | None = None

    @property
    def empty(self) -> bool:
        """Whether it says of no entry that it may go."""
        return self.older_than is self.unused is self.keep is self.until_free is self.low is None


class PruneChoice(msgspec.Struct, frozen=True):
    """What goes, in that order, and what the rules would take but stays, with the reason. ``wanted`` is how many bytes
    are to be free (0: as many as there are), ``to_be_free`` how many are then, once the trash is emptied."""

    going: tuple[Candidate, ...]
    staying: tuple[tuple[Candidate, str], ...]
    wanted: int
    to_be_free: int

    @property
    def short(self) -> int:
        """The bytes that it lacks of what is wanted."""
        return max(0, self.wanted - self.to_be_free)


def survey_room(directory: Path, ledger: Ledger | None = None, users: Users | None = None) -> Room:
    """Look what takes the room. Raises CacheDirectoryError, CorruptIndexError, StorageError."""
    ledger, users = ledger or Ledger.open(directory), users or find_users(directory)
    with CacheFiles(directory) as files:
        reading = read_index(files)
        reading.require_sound(directory)
        listing = Listing.read(files, reading.contents.digests)
    with storage_errors("look at the file system"):
        disk = file_system(directory)
    total, free = (disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize, disk.f_bavail * disk.f_frsize
    own = sizes_in_own_folder(directory)
    watched = ledger.noted(Topic.WATCHED).get("-")
    return Room(
        tuple(_candidates(directory, reading.contents, listing, ledger, users)),
        _carriers(reading.contents),
        total,
        free,
        (disk.f_favail, disk.f_files) if disk.f_files else None,
        own.get(TRASH_NAME, 0),
        sum(own.get(name, 0) for name in _DOWNLOADS),
        max(0, total - free - sum(listing.sizes) - sum(own.values())),
        tuple(one for one in daemon_leftovers(directory) if _is_on(one.path, directory)),
        users.doubt,
        watched.when if watched else None,
    )


def _is_on(path: Path | str, directory: Path) -> bool:
    """Whether both are on one file system."""
    with suppress(OSError):
        return os.stat(path).st_dev == os.stat(directory).st_dev
    return False


def _candidates(
    directory: Path, index: ImageIndex, listing: Listing, ledger: Ledger, users: Users
) -> Iterator[Candidate]:
    names: dict[Key, dict[str, None]] = {}
    for digest, format, name in index.identities():
        names.setdefault((digest, format), {}).update({name: None} if name else {})
    origins, now = Origins(directory, ledger), time.time()
    pins, uses = ledger.noted(Topic.PINNED), ledger.noted(Topic.USED)
    for key, known in names.items():
        file = f"{key[0]}.{key[1]}"
        fact = listing.get(file) if key[1] else None
        if fact is None or not fact.regular:
            continue
        of_it = users.by_file.get(file, ())
        used = now if of_it else uses[file].when if file in uses else None
        pin = pins[file].text if file in pins else ""
        # What has another name stays on the disk by that.
        size = fact.size if fact.links == 1 else 0
        written, who = fact.modified_ns / 1e9, users.names.get(file, "")
        yield Candidate(key, file, tuple(known), size, written, used, of_it, who, pin, origins.of(file))


def _carriers(index: ImageIndex) -> dict[str, list[Key]]:
    """The entries of each name that several have, in the order of the index."""
    carriers: dict[str, list[Key]] = {}
    for digest, format, name in index.identities():
        if name:
            carriers.setdefault(name, []).append((digest, format))
    return {name: keys for name, keys in carriers.items() if len(keys) > 1}


def note_use(directory: Path, users: Users, known: FileRecords | None = None) -> None:
    """Keep who was seen to use what, and since when that is looked at, where it is not ``known`` and can be written."""
    known, fresh = known or Ledger.open(directory), time.time() - _SEEN_ANEW_SECONDS
    used, is_new = known.noted(Topic.USED), "-" not in known.noted(Topic.WATCHED)
    news = {
        file: names
        for file, names in users.names.items()
        if file not in used or used[file].when < fresh or used[file].text != names
    }
    if not (news or is_new):
        return
    ledger = known if isinstance(known, Ledger) else Ledger.open(directory)
    if is_new:
        ledger.note(Topic.WATCHED, "-", "-")
    for file, names in news.items():
        ledger.note(Topic.USED, file, names)
    with suppress(CacheError):
        ledger.flush()


def pin(ledger: Ledger, keys: Iterable[Key], reason: str) -> None:
    """Pin entries, for a reason that names who gives it, or none: then no more. Raises as `Ledger.flush` does."""
    for digest, format in keys:
        ledger.note(Topic.PINNED, f"{digest}.{format}", f"{reason}, by {author_of(whoami())}" if reason else "")
    ledger.flush()


def choose(room: Room, rules: PruneRules, named: Collection[Key] = (), *, with_trash: bool = True) -> PruneChoice:
    """What goes by the rules, and what is ``named``, whatever speaks against it. ``with_trash``: it is emptied next."""
    return _Choosing(room, rules, frozenset(named), room.free + room.trash * with_trash).choice()


class _Choosing:
    def __init__(self, room: Room, rules: PruneRules, named: frozenset[Key], free: int) -> None:
        self._room, self._rules = room, rules
        self._going = {one.key: one for one in room.entries if one.key in named}
        self._staying: list[tuple[Candidate, str]] = []
        self._newest = _newest(room.entries, rules.keep) if rules.keep is not None else set()
        self._used = room.total - free
        self._free = free + sum(one.size for one in self._going.values() if not one.users)
        self._wanted = rules.until_free or (0 if rules.low is None else round(room.total * (1 - rules.low)))

    def choice(self) -> PruneChoice:
        able = list[Candidate]()
        for one in self._room.entries if self._begins() else ():
            if one.key not in self._going and self._is_taken(one):
                if reason := self._protected(one):
                    self._staying.append((one, reason))
                else:
                    able.append(one)
        self._take(sorted(able, key=_order))
        return PruneChoice(tuple(self._going.values()), tuple(self._staying), self._wanted, self._free)

    def _begins(self) -> bool:
        """Whether the rules are to be followed at all."""
        high = self._rules.high
        return not self._rules.empty and (high is None or self._used >= high * self._room.total)

    def _is_taken(self, one: Candidate) -> bool:
        rules, now = self._rules, time.time()
        if rules.older_than is not None and now - one.last <= rules.older_than:
            return False
        if rules.unused is not None and (one.users or (one.used is not None and now - one.used <= rules.unused)):
            return False
        return one.key not in self._newest

    def _protected(self, one: Candidate) -> str:
        """Why an entry that the rules speak of stays; empty where it may go."""
        if one.users:
            return f"needed by {first_of(one.users)}"
        if self._room.doubt:
            return f"may be needed: {self._room.doubt}"
        if one.pin:
            return f"pinned: {one.pin}"
        if pattern := next((it for it in self._rules.pins for name in one.names if fnmatchcase(name, it)), ""):
            return f"pinned by the policy, as {pattern}"
        if self._rules.unused and one.used is None and (since := self._watched_too_late(self._rules.unused)):
            return since
        return "" if one.origin.is_sure else f"cannot come back: {one.origin.text}"

    def _watched_too_late(self, unused: float) -> str:
        watched = self._room.watched
        if watched is not None and time.time() - watched >= unused:
            return ""
        since = f"since {timestamp(watched)}" if watched is not None else "not yet"
        return f"unseen, but who uses what was looked at {since} only"

    def _take(self, able: Sequence[Candidate]) -> None:
        """Take as many as are wanted, in order; what wins a name only once no other of that name is left."""
        waiting, before = list(able), -1
        while waiting and len(waiting) != before:
            before, later = len(waiting), list[Candidate]()
            for one in waiting:
                if self._wanted and self._free >= self._wanted:
                    return
                if self._uncovers(one):
                    later.append(one)
                else:
                    self._going[one.key] = one
                    self._free += one.size
            waiting = later
        for one in waiting:
            self._staying.append((one, f"without it {first_of(one.names)} would stand for another image"))

    def _uncovers(self, one: Candidate) -> bool:
        """Whether a name of it would then stand for another image, which stays."""
        for name in one.names:
            now = [key for key in self._room.carriers.get(name, ()) if key not in self._going]
            left = [key for key in now if key != one.key]
            if left and now[-1][0] != left[-1][0]:
                return True
        return False


def _order(one: Candidate) -> tuple[float, int, Key]:
    """The longest of no use first, and of those alike the largest."""
    return one.last // 86_400, -one.size, one.key


def _newest(entries: Iterable[Candidate], keep: int) -> set[Key]:
    """The entries of the newest images of each name without its tag; those without a name are of none."""
    of_name: dict[str, dict[str, float]] = {}
    for one in entries:
        for stem in {stem_of(name) for name in one.names}:
            images = of_name.setdefault(stem, {})
            images[one.key[0]] = max(images.get(one.key[0], 0.0), one.written)
    kept = {digest for images in of_name.values() for digest in sorted(images, key=lambda it: -images[it])[:keep]}
    return {one.key for one in entries if one.key[0] in kept}


# A policy, in a file


class PolicyError(CacheError):
    code = "policy"
    default_hint = "ocitui help room has an example"


def parse_rules(text: str) -> PruneRules:
    """Rules in a line, as ``age>30d keep=2``; ``unused`` alone is what nobody needs now. Raises PolicyError."""
    found: dict[str, Any] = {}
    for word in text.split():
        match = _WORD.fullmatch(word)
        field, sign, value = match.groups() if match else ("", "", "")
        number = int(value) if sign == "=" and value.isdigit() else parse_span(value) if sign == ">" else None
        if word == "unused":
            found["unused"] = 0.0
        elif number is not None and (field, sign) in _FIELDS:
            found[_FIELDS[field, sign]] = number
        else:
            raise PolicyError(f"{word!r} is no rule", hint="rules are age>30d, unused, unused>30d and keep=2")
    return PruneRules(**found)


_WORD = re.compile(r"([a-z]+)([>=])([0-9]\w{0,11})", re.ASCII)
_FIELDS = {("age", ">"): "older_than", ("unused", ">"): "unused", ("keep", "="): "keep"}


class Policy(msgspec.Struct, frozen=True):
    """Rules that are kept in a file, and whether what goes by them goes ``for_good``."""

    rules: PruneRules
    for_good: bool = False


class _PolicyFile(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    high: str | None = None
    low: str | None = None
    older_than: str | None = None
    unused: bool | str = False
    keep: Annotated[int, msgspec.Meta(ge=0)] | None = None
    pins: tuple[str, ...] = ()
    for_good: bool = False


_convert = partial(msgspec.convert, type=_PolicyFile)
_SHARE = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)%", re.ASCII)


def read_policy(path: Path) -> Policy:
    """The policy of a TOML file. Raises PolicyError."""
    try:
        told = _convert(tomllib.loads(read_bounded(path, _MOST_POLICY).decode()))
        unused = (0.0 if told.unused else None) if isinstance(told.unused, bool) else _span_of(told.unused)
        high, low = _share_of(told.high), _share_of(told.low or told.high)
        rules = PruneRules(_span_of(told.older_than), unused, told.keep, None, told.pins, high, low)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PolicyError(f"{path} is no policy: {reason}") from error
    if low is not None and (high is None or low > high):
        raise PolicyError(f"{path} is no policy: room is made from high on, down to low, which is less")
    if rules.empty:
        raise PolicyError(f"{path} says of no entry that it may go")
    return Policy(rules, told.for_good)


def _span_of(text: str | None) -> float | None:
    """Raises ValueError."""
    if text is None:
        return None
    if (seconds := parse_span(text)) is None:
        raise ValueError(f"{text!r} is no span of time like 30d or 12h")
    return seconds


def _share_of(text: str | None) -> float | None:
    """Raises ValueError."""
    if text is None:
        return None
    if (match := _SHARE.fullmatch(text)) is None:
        raise ValueError(f"{text!r} is no share of the disk like 85%")
    return float(match[1]) / 100
