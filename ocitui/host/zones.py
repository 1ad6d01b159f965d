"""Which zones a host has, and which entries of the cache each of them needs: from the daemon's database `krata.db`,
from the daemon itself where `kratactl` is there to ask it, and from xenstore, which of them run.

A zone is what `crates/daemon/src/db/zone.rs` of krata stores: its uuid, and a `Zone` of
`krata/proto/krata/v1/common.proto`. What it needs is what `reconcile/zone/create.rs` recalls, by digest and format.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from ocitui.cache import FileIdentity, Folder, PackedFormat, PlanChangedError, identity_of, packed_name, usable_digest
from ocitui.stand_in import fact_of

from .daemon import DATABASE_NAME, daemon_socket, find_daemon, held_in, is_served, temporary_folder
from .loop_devices import Loops, users_of
from .programs import UUID_FORM, Domain, answer_of, find_program, read_domains
from .redb import DatabaseState, Table, read_table

HOST_NAME = "host.uuid"
_TABLE, _KEY_WIDTH = "zone", 16
_ASK_SECONDS = 10.0
_STATES = ("unknown", "creating", "created", "exited", "destroying", "destroyed", "failed")
# By their numbers; what is none of them is launched as the first is.
_FORMATS = {2: PackedFormat.EROFS, 3: PackedFormat.TAR}
_USUAL_OF_ROW, _MOST_OF_ROW = 1 << 14, 1 << 20
_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_MOST_GROUPS = 100  # within each other, as prost takes them


class NeedRole(StrEnum):
    """What a zone takes an entry for: its disk, or the files `kernel/image` and `krata/initrd` of a tar."""

    IMAGE = "image"
    KERNEL = "kernel"
    INITRD = "initrd"

    @property
    def path(self) -> str:
        """The file that the daemon takes out of the tar; empty where a zone has all of it as its disk."""
        return {NeedRole.KERNEL: "kernel/image", NeedRole.INITRD: "krata/initrd"}.get(self, "")


class When(StrEnum):
    """When the daemon looks an entry up for a zone. PINNED: a loop device holds its file until the zone stops; at its
    next start it is looked up again. NONE: never, as the zone is."""

    NOW = "now"
    NEXT_START = "next-start"
    PINNED = "pinned"
    NONE = "none"


class Need(msgspec.Struct, frozen=True):
    """An entry that a zone needs, as its ``role``; ``error`` says why no entry would do."""

    role: NeedRole
    digest: str
    format: PackedFormat
    when: When
    error: str = ""

    @property
    def file(self) -> str:
        """The name of its packed file; empty where its digest can be none."""
        return packed_name(self.digest, self.format) if usable_digest(self.digest) else ""


class Zone(msgspec.Struct, frozen=True):
    """A guest that the daemon has in its database. ``error`` is why its last launch failed; ``problem`` is why its row
    does not read, so that the daemon knows nothing of it. ``domid`` is the domain of Xen's that it runs in, None where
    it does not, or nobody can tell."""

    uuid: str
    name: str = ""
    state: str = "unknown"
    needs: tuple[Need, ...] = ()
    error: str = ""
    problem: str = ""
    domid: int | None = None

    @property
    def label(self) -> str:
        """Its name, else the first digits of its uuid."""
        return self.name or self.uuid[:8]


class Zones(msgspec.Struct, frozen=True):
    """What is known of a host's zones. ``doubt`` says why others may need entries too, empty where these are all.
    ``daemon`` is what the daemon said: equal, differs, alone (the database does not tell), silent or unasked. ``leaks``
    are loop devices on files of the cache that no zone accounts for; ``unreadable`` is a database that this user may
    not read. ``domains`` are the guests that run, None where nobody can tell; ``rowless`` are those of them that the
    daemon destroys, as the database has no row that it reads of them."""

    database: DatabaseState
    zones: tuple[Zone, ...] = ()
    note: str = ""
    doubt: str = ""
    daemon: str = "unasked"
    leaks: tuple[str, ...] = ()
    makes_anew: bool = False
    unreadable: bool = False
    domains: tuple[Domain, ...] | None = None
    rowless: tuple[Domain, ...] = ()

    @property
    def sure(self) -> bool:
        return not self.doubt

    @property
    def trouble(self) -> str:
        """Why the daemon does not start on the database, or acts on what is wrong in it; else empty."""
        told = self.database in (DatabaseState.SHORT, DatabaseState.DAMAGED, DatabaseState.REFUSED)
        return self.note if told and not self.unreadable else ""

    def needs(self) -> Iterator[tuple[Zone, Need]]:
        """What the daemon looks for, as the zones are, or has found for them."""
        return ((zone, need) for zone in self.zones for need in zone.needs if need.when is not When.NONE and need.file)


class Users(msgspec.Struct, frozen=True):
    """Who needs each packed file of the cache, by the file's name: zones, as ``zone web (kernel, next-start)``, and
    loop devices by their paths; ``names`` are theirs alone, as one text. ``doubt`` says why others may be needed."""

    by_file: Mapping[str, tuple[str, ...]]
    names: Mapping[str, str]
    doubt: str = ""

    def of_files(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of any of these packed files, each once."""
        found = (self.by_file.get(name, ()) for name in names) if self.by_file else ()
        return tuple(dict.fromkeys(user for users in found for user in users))


def find_users(directory: Path, zones: Zones | None = None, loops: Loops | None = None) -> Users:
    """Who needs what in a cache now; zones and loops are read where they are not given, which never asks the daemon."""
    loops = users_of(directory) if loops is None else loops
    zones = read_zones(directory, ask=False, loops=loops) if zones is None else zones
    found: dict[str, dict[str, str]] = {}
    for zone, need in zones.needs():
        found.setdefault(need.file, {})[f"zone {zone.label} ({need.role}, {need.when})"] = zone.label
    for name, uses in loops.items():
        found.setdefault(name, {}).update((str(use.device), use.device.name) for use in uses)
    names = {name: ", ".join(dict.fromkeys(users.values())) for name, users in found.items()}
    return Users({name: tuple(users) for name, users in found.items()}, names, zones.doubt)


def check_users(directory: Path, files: Iterable[str], shown: Users) -> None:
    """Look again who needs these packed files. Raises PlanChangedError where the answer for one is not as shown."""
    now = find_users(directory)
    if now.doubt != shown.doubt or any(now.of_files([file]) != shown.of_files([file]) for file in files):
        raise PlanChangedError("zones came or went since the plan was shown")


def database_of(directory: Path) -> Path:
    """The daemon's database, for the cache in ``directory``."""
    return daemon_socket(directory).with_name(DATABASE_NAME)


def database_identity(directory: Path) -> FileIdentity | None:
    """Changes with what is in the database. Costs microseconds."""
    return identity_of(database_of(directory))


def read_zones(directory: Path, *, ask: bool = True, loops: Loops | None = None) -> Zones:
    """The zones of the host, and what they need. Reads the database, xenstore, and loops not given, and asks the
    daemon where it can be asked, which only ever reads; a host that never had krata has none. Never raises."""
    there: Zones | None = fact_of(directory, "zones")
    if there is not None:
        return there
    return zones_in(directory, users_of(directory) if loops is None else loops, read_domains, ask=ask)


def zones_in(
    directory: Path, loops: Loops, domains_now: Callable[[], tuple[Domain, ...] | None], *, ask: bool
) -> Zones:
    """The zones by the database beside a cache, these loops, the domains that there are, and where ``ask``, what the
    daemon says. Never raises."""
    # Before the rows: of a domain that is made meanwhile the row is there first.
    domains = domains_now()
    table, found = _read(directory)
    program = find_program("kratactl") if ask and daemon_socket(directory).is_socket() else None
    told = _asked(directory, program) if program else None
    if program and told is not None and table.is_sure and _alike(found) != _alike(told):
        # One of both is newer than the other.
        (table, found), told = _read(directory), _asked(directory, program)
    daemon = "equal" if told is not None else "silent" if program else "unasked"
    if told is not None and (not table.is_sure or _alike(found) != _alike(told)):
        daemon, found = "differs" if table.is_sure else "alone", _joined(found, told)
    store = database_of(directory).parent
    marks = table.state is not DatabaseState.ABSENT, (store / HOST_NAME).exists(), daemon_socket(directory).exists()
    is_host = any(marks)
    # Who answers at a socket may have another store.
    alone = daemon == "alone" and is_served(directory)
    doubt = _doubt(table, found, differs=daemon == "differs", alone=alone) if is_host else _apart(directory)
    note = table.note if is_host else "it is not there, and no daemon had its store here"
    found = [*placed(found, loops, domains)]
    makes_anew, knows_rows = table.makes_anew and is_host, is_host and (table.is_sure or table.makes_anew or alone)
    leaks, known = _leaks(found, loops, domains, doubt), {zone.uuid for zone in found if not zone.problem}
    rowless = tuple(one for one in domains or () if knows_rows and one.uuid not in known)
    if domains is not None and (leaks or rowless):
        # Guests come and go meanwhile.
        again = domains_now()
        leaks = tuple(one for one in leaks if one in _leaks(found, loops, again, doubt))
        rowless = tuple(one for one in rowless if one in (again or ()))
    return Zones(table.state, tuple(found), note, doubt, daemon, leaks, makes_anew, table.unreadable, domains, rowless)


def _read(directory: Path) -> tuple[Table, list[Zone]]:
    table = read_table(database_of(directory), _TABLE, _KEY_WIDTH)
    return table, [_decoded(key, value) for key, value in table.rows]


def _decoded(key: bytes, value: bytes) -> Zone:
    if len(value) > _MOST_OF_ROW:
        return Zone(str(UUID(bytes=key)), problem=f"it has {len(value)} bytes")
    # What is large is not kept.
    return decode_zone(key, value) if len(value) <= _USUAL_OF_ROW else decode_zone.__wrapped__(key, value)


def _doubt(table: Table, found: Iterable[Zone], *, differs: bool, alone: bool) -> str:
    """Why it is not sure that these are all zones, empty where it is; ``alone``: this database's daemon told them."""
    if differs:
        return "the database and the daemon tell different zones"
    if unread := next((zone for zone in found if zone.problem), None):
        return f"the row of zone {unread.uuid} does not read: {unread.problem}"
    return "" if table.is_sure or alone else f"{DATABASE_NAME}: {table.note}"


def _apart(directory: Path) -> str:
    """Why it is not sure that a cache without a store has no zones: it may be all that is seen of a host."""
    place = Path(os.path.realpath(directory))
    if os.path.ismount(place) or os.path.ismount(place.parent):
        return f"the cache is mounted here without the store around it, in which {DATABASE_NAME} would be"
    return ""


def _alike(zones: Iterable[Zone]) -> set[tuple[object, ...]]:
    """What both sources tell of a zone that reads."""
    return {
        (zone.uuid, zone.state, *((need.role, need.digest, need.format, need.error) for need in zone.needs))
        for zone in zones
        if not zone.problem
    }


def _joined(one: list[Zone], other: list[Zone]) -> list[Zone]:
    """Of both what either tells: whatever may be needed is."""
    known = _alike(one)
    return [*one, *(zone for zone in other if not _alike([zone]) <= known)]


def _leaks(zones: list[Zone], loops: Loops, domains: Sequence[Domain] | None, doubt: str) -> tuple[str, ...]:
    """The devices that no domain has, or where that is not known, of whose files no zone needs any, and that are in no
    other use; none while any zone comes or goes, or it is not sure."""
    if doubt or any(zone.state in ("creating", "exited", "destroying") for zone in zones):
        return ()
    needed = {need.file for zone in zones for need in zone.needs} if domains is None else set[str]()
    taken = {device for domain in domains or () for device in domain.loops}
    uses = ((name, use) for name, held in loops.items() if name not in needed for use in held)
    free = ((name, use) for name, use in uses if not (use.mounts or use.holders or str(use.device) in taken))
    return tuple(f"{use.device} holds {name}" for name, use in free)


# What the daemon stores


class _MalformedError(ValueError):
    """It is no message of protocol buffers, or of another kind; the text says why."""


@lru_cache(1 << 13)
def decode_zone(key: bytes, value: bytes) -> Zone:
    """A zone as the daemon reads it, which goes by the key. Of a database that changed hardly any is decoded again."""
    uuid = str(UUID(bytes=key))
    try:
        fields = _fields(value)
        _text(fields, 1)
        spec, status = _message(fields, 2) or {}, _message(fields, 3) or {}
        state = _number(status, 1)
        told = {role: _message(_message(spec, number) or {}, 1) for role, number in _SPECS.items()}
        needs = {role: (_text(image, 1), _number(image, 2)) for role, image in told.items() if image is not None}
        _text(status, 5)
        error = _text(_message(status, 4) or {}, 1)
        word = _STATES[state] if 0 <= state < len(_STATES) else _STATES[0]
        return make_zone(uuid, _text(spec, 1), word, needs, error)
    except _MalformedError as error:
        return Zone(uuid, problem=str(error))


_SPECS = {NeedRole.IMAGE: 2, NeedRole.KERNEL: 3, NeedRole.INITRD: 4}


def make_zone(uuid: str, name: str, state: str, needs: Mapping[NeedRole, tuple[str, int]], error: str = "") -> Zone:
    """A zone with what it needs, by what the daemon does in that state; ``needs`` are digests and formats' numbers."""

    def need(role: NeedRole, digest: str, number: int) -> Need:
        format, refused = _FORMATS.get(number, PackedFormat.SQUASHFS), ""
        if (format is PackedFormat.TAR) is (role is NeedRole.IMAGE):
            refused = "no zone has a tar for its image" if role is NeedRole.IMAGE else f"the {role} has to be in a tar"
        return Need(role, digest, format, when, refused)

    when = {"creating": When.NOW, "created": When.NEXT_START}.get(state, When.NONE)
    return Zone(uuid, name, state, tuple(need(role, *what) for role, what in needs.items()), error)


def placed(zones: Iterable[Zone], loops: Loops, domains: Iterable[Domain] | None = None) -> Iterator[Zone]:
    """The zones as they are where these loop devices and domains are. One that has a domain runs, whatever the state
    says: the daemon takes it for created. Where the domains are not known, one may run whose image any device holds."""
    running = {domain.uuid: domain for domain in domains or ()}
    for zone in zones:
        domain = running.get(zone.uuid)
        held = {*domain.loops.values(), *loops} if domain else loops
        pinned = any(one.role is NeedRole.IMAGE and (file := one.file) and file in held for one in zone.needs)
        whens = {NeedRole.IMAGE: When.PINNED} if pinned else {}
        if zone.state != "creating" and (pinned if domains is None else domain is not None):
            needs = tuple(replace(one, when=whens.get(one.role, When.NEXT_START)) for one in zone.needs)
            zone = replace(zone, needs=needs)
        yield zone if domain is None else replace(zone, domid=domain.domid)


_Fields = dict[int, list[tuple[int, bytes]]]


def _fields(data: bytes) -> _Fields:
    """The fields of a message by their numbers, each with its wire type, less what groups hold."""
    found: _Fields = {}
    at, groups = 0, list[int]()
    while at < len(data):
        tag, at = _varint(data, at)
        kind, number, start, outside = tag & 7, tag >> 3, at, not groups
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _BYTES:
            size, start = _varint(data, at)
            at = start + size
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        elif kind == _GROUP and len(groups) < _MOST_GROUPS:
            groups.append(number)
        elif kind == _GROUP_END and groups[-1:] == [number]:
            groups.pop()
        else:
            raise _MalformedError(f"a field of the kind {kind}")
        if at > len(data) or not number:
            raise _MalformedError("it is cut short" if at > len(data) else "a field without a number")
        if outside:
            found.setdefault(number, []).append((kind, data[start:at]))
    if groups:
        raise _MalformedError("it is cut short")
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _MalformedError("it is cut short")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise _MalformedError("a number without an end")


def _all(fields: _Fields, number: int, kind: int) -> list[bytes]:
    given = fields.get(number, [])
    if any(one != kind for one, _ in given):
        raise _MalformedError(f"field {number} is of another kind")
    return [value for _, value in given]


def _message(fields: _Fields, number: int) -> _Fields | None:
    """A message inside; one that is given twice is merged, which is to read both as one."""
    given = _all(fields, number, _BYTES)
    return _fields(b"".join(given)) if given else None


def _text(fields: _Fields, number: int) -> str:
    try:
        texts = [value.decode() for value in _all(fields, number, _BYTES)]
    except UnicodeDecodeError:
        raise _MalformedError(f"field {number} is no UTF-8") from None
    return texts[-1] if texts else ""


def _number(fields: _Fields, number: int) -> int:
    """A number of 32 bits with a sign; 0 where it is not given."""
    given = _all(fields, number, _VARINT)
    value = _varint(given[-1], 0)[0] & 0xFFFFFFFF if given else 0
    return value - (1 << 32) if value >> 31 else value


# What the daemon says


def _asked(directory: Path, program: str) -> list[Zone] | None:
    """The zones as the daemon lists them; None where it does not answer as it should."""
    command = [program, "-c", f"unix://{daemon_socket(directory)}", "zone", "list", "-f", "jsonl"]
    answer = answer_of(command, _ASK_SECONDS)
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None if answer is None else [*_listed(answer.decode())]
    return None


def _listed(text: str) -> Iterator[Zone]:
    """The zones of a list as JSON Lines, in protocol buffers' mapping to JSON: what has its usual value is left out."""
    for line in filter(None, text.split("\n")):
        zone = json.loads(line)
        spec, status = zone.get("spec", {}), zone.get("status", {})
        state = str(status.get("state", "")).removeprefix("ZONE_STATE_").lower()
        given = {role: spec.get(role.value, {}).get("oci") for role in NeedRole}
        needs = {
            role: (str(oci.get("digest", "")), _FORMAT_NUMBERS.get(oci.get("format"), 0))
            for role, oci in given.items()
            if oci is not None
        }
        error = str(status.get("errorStatus", {}).get("message", ""))
        known = state if state in _STATES else "unknown"
        yield make_zone(str(UUID(zone["id"])), str(spec.get("name", "")), known, needs, error)


_FORMAT_NUMBERS: Mapping[Any, int] = {
    f"OCI_IMAGE_FORMAT_{word}": number for number, word in enumerate(("UNKNOWN", "SQUASHFS", "EROFS", "TAR"))
}


# What the daemon has outside of the cache

# In its folder for temporary files, `oci-assemble-UUID` while it pulls an image (`crates/oci/src/assemble.rs`), and
# `krata-cfg-UUID` as long as that zone is there (`crates/runtime/src/cfgblk.rs`). If it is killed they stay. They are
# only told: nothing outside of the cache is ever removed.
_LEFTOVER = re.compile(rf"(?:(oci-assemble)|krata-cfg)-{UUID_FORM}")
_CLOCK_SECONDS = 2.0  # by which the start of a process is known


class Leftover(msgspec.Struct, frozen=True):
    """A folder that a daemon made for a ``kind``, pull or zone: the bytes in it, and since when it is as it is, in
    seconds since the epoch. ``live``: it may be needed still, or nobody can tell."""

    path: Path
    bytes: int
    since: float
    kind: str
    live: bool = True

    @property
    def removal(self) -> str:
        """The command that removes it; empty where it may be needed."""
        return "" if self.live else shlex.join(["rm", "-r", str(self.path)])


def daemon_leftovers(directory: Path, proc: Path = Path("/proc")) -> list[Leftover]:
    """By their names, for the cache in ``directory``. Only root can tell that one is not needed. Never raises."""
    of_report: list[Leftover] | None = fact_of(directory, "leftovers")
    if of_report is not None:
        return of_report
    daemon, found = find_daemon(directory, proc), list[Leftover]()
    place = temporary_folder(daemon.process, proc)
    with suppress(OSError), Folder.open(place) as folder:
        for named in filter(None, map(_LEFTOVER.fullmatch, sorted(folder.names()))):
            there = folder.lstat(named[0])
            if there is not None and stat.S_ISDIR(there.st_mode) and there.st_uid in (0, os.geteuid()):
                kind = "pull" if named[1] else "zone"
                found.append(Leftover(place / named[0], folder.size(named[0]), there.st_ctime, kind))
    held = held_in(place, daemon.process if daemon.ours else None, proc) if found else None
    if held is None:
        return found
    held |= {name.partition("/")[0] for name in users_of(place)}
    # After the folders: the row of a zone is there first.
    zones = read_zones(directory, ask=False)
    known = {zone.uuid for zone in zones.zones} | {domain.uuid for domain in zones.domains or ()}
    knows_zones = zones.sure and zones.database is not DatabaseState.ABSENT
    until = (daemon.since or 0.0) - _CLOCK_SECONDS if daemon.running else float("inf")

    def is_over(one: Leftover) -> bool:
        is_of_none = knows_zones and one.path.name[-36:] not in known
        return one.path.name not in held and (is_of_none if one.kind == "zone" else one.since < until)

    return [replace(one, live=not is_over(one)) for one in found]
