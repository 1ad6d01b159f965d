"""krata.db as the real crate wrote it: every fixture, every prefix of a log of writes, what a power loss leaves, and a
writer beside the reader."""

from __future__ import annotations

import json
import lzma
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_hexdigest, xxh3_128_intdigest

from ocitui.host.redb import DatabaseState, Table, read_table
from ocitui.host.zones import Zone, decode_zone

ZONES = Path(__file__).parent.parent / "zones"
LOG = ZONES / "50-writelog"
FIXTURES = sorted(path.name.removesuffix(".db.xz") for path in ZONES.glob("*.db.xz"))
_SHORT = {"30-truncated-half": 200, "32-truncated-recovery": 30}


def database(name: str) -> bytes:
    return lzma.decompress((ZONES / f"{name}.db.xz").read_bytes())


def expected(name: str) -> dict[str, Any]:
    path = ZONES / f"{name}.json"
    data = path.read_bytes() if path.exists() else lzma.decompress((ZONES / f"{name}.json.xz").read_bytes())
    found: dict[str, Any] = json.loads(data)
    return found


def read(path: Path) -> Table:
    return read_table(path, "zone", 16)


def told(zone: Zone) -> dict[str, Any]:
    """As the fixtures have it."""
    if zone.problem:
        return {"uuid": zone.uuid, "invalid": True}
    needs = {need.role.value: {"digest": need.digest, "format": need.format.value} for need in zone.needs}
    return {"uuid": zone.uuid, "name": zone.name, "state": zone.state, "error": zone.error, **needs}


def as_told(row: dict[str, Any]) -> dict[str, Any]:
    """What the daemon makes of a row: a number that it does not know is read as the first there is."""
    if row.get("invalid"):
        return {"uuid": row["uuid"], "invalid": True}
    state = "unknown" if row["state"].startswith("#") else row["state"]
    needs = {role: row[role] for role in ("image", "kernel", "initrd") if row[role]}
    known = {
        role: {**need, "format": need["format"] if need["format"] in ("squashfs", "erofs", "tar") else "squashfs"}
        for role, need in needs.items()
    }
    return {"uuid": row["uuid"], "name": row["name"] or "", "state": state, "error": row["error"], **known}


@pytest.mark.parametrize("name", FIXTURES)
def test_every_database_is_read_as_the_crate_reads_it_or_refused(name: str, tmp_path: Path) -> None:
    path, wanted = tmp_path / "krata.db", expected(name)
    path.write_bytes(database(name))
    table = read(path)
    rows = [told(decode_zone(*row)) for row in table.rows]
    if name in _SHORT:
        assert (table.state, len(rows), table.makes_anew) == (DatabaseState.SHORT, _SHORT[name], False)
        assert "does not start" in table.note
    elif wanted["expect"].startswith(("exact", "no-table")):
        assert (table.state, table.note) == (DatabaseState.EXACT, "")
        assert sorted(rows, key=lambda row: row["uuid"]) == sorted(
            map(as_told, wanted["zones"] or []), key=lambda row: row["uuid"]
        )
    else:
        assert (table.is_sure, rows) == (False, [])
        assert table.note
        assert table.makes_anew is ("WARN" in wanted["expect"])
    assert path.read_bytes() == database(name), "nothing is written"


def test_what_is_not_there_or_no_file_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "krata.db"
    assert (read(path).state, read(path).makes_anew) == (DatabaseState.ABSENT, True)
    path.symlink_to("/dev/zero")
    assert (read(path).state, read(path).makes_anew) == (DatabaseState.REFUSED, False)
    path.unlink()
    os.mkfifo(path)
    assert "no regular file" in read(path).note


def test_the_checksum_is_the_crate_s() -> None:
    for length, hexadecimal, _ in json.loads((ZONES / "xxh3-vectors.json").read_bytes())["vectors"]:
        assert xxh3_128_hexdigest(bytes((at * 131 + 7) & 255 for at in range(length))) == hexadecimal


@cache
def log() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lzma.decompress((LOG / "log.json.xz").read_bytes()))
    return found


@cache
def written() -> bytes:
    return lzma.decompress((LOG / "data.bin.xz").read_bytes())


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "krata.db"
    path.write_bytes(lzma.decompress((LOG / "base.db.xz").read_bytes()))
    return path


def replay(path: Path, events: list[list[Any]]) -> None:
    with open(path, "r+b", buffering=0) as file:
        for kind, where, at, length in events:
            if kind == "write":
                os.pwrite(file.fileno(), written()[at : at + length], where)
            elif kind == "set_len":
                os.ftruncate(file.fileno(), where)
            else:
                assert kind == "sync"


def state_of(table: Table) -> dict[str, Any]:
    return {str(UUID(bytes=key)): told(decode_zone(key, value)) for key, value in table.rows}


def state(number: int) -> dict[str, Any]:
    return {uuid: as_told(log()["values"][value]) for uuid, value in log()["states"][number].items()}


def test_every_prefix_of_a_log_is_what_the_crate_recovers(base: Path) -> None:
    events = log()["events"]
    assert state_of(read(base)) == state(log()["prefix_recovers"][0])
    for number, event in enumerate(events, 1):
        replay(base, [event])
        table = read(base)
        assert table.is_sure, number
        assert state_of(table) == state(log()["prefix_recovers"][number]), number


@pytest.mark.slow
def test_what_a_power_loss_leaves_is_what_the_crate_recovers(base: Path) -> None:
    whole, events = base.read_bytes(), log()["events"]
    for loss in log()["power_loss"]:
        base.write_bytes(whole)
        synced = max((at for at in range(loss["after_sync_event"]) if events[at][0] == "sync"), default=-1)
        replay(base, [*events[: synced + 1], *(events[at] for at in loss["events_applied"])])
        table = read(base)
        assert table.is_sure, loss
        assert state_of(table) == state(loss["recovers_state"]), loss


def test_beside_a_writer_every_answer_is_a_state_that_there_was(base: Path) -> None:
    """A thread that holds the lock and writes as the daemon did, again and again."""
    whole, states = base.read_bytes(), [state(number) for number in range(len(log()["states"]))]
    stopped, answers = threading.Event(), list[Table]()

    def write() -> None:
        with open(base, "r+b", buffering=0) as file:
            flock(file, LOCK_EX)
            while not stopped.is_set():
                for event in log()["events"]:
                    replay(base, [event])
                    stopped.wait(0.0005)
                os.pwrite(file.fileno(), whole, 0)
                os.ftruncate(file.fileno(), len(whole))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(answers) < 200:
            answers.append(read(base))
    finally:
        stopped.set()
        writer.join()
    # Where the log begins anew, pages of its end are still there.
    sure = [table for table in answers if table.is_sure]
    assert len(sure) > 150
    assert all(state_of(table) in states for table in sure)


@cache
def _mutable() -> bytes:
    return database("10-open")


def _damaged() -> Iterator[int]:
    """The pages that are no rubbish."""
    yield from (at for at in range(0, len(_mutable()), 4096) if any(_mutable()[at : at + 4096]))


_changes = st.tuples(st.sampled_from([*_damaged()]), st.integers(0, 4095), st.integers(0, 255))


@pytest.mark.slow
@given(st.lists(_changes, max_size=8), st.integers(0, 1 << 22))
def test_no_bytes_break_the_reader_and_none_are_wrong(changes: list[tuple[int, int, int]], length: int) -> None:
    data = bytearray(_mutable())
    for page, at, value in changes:
        data[page + at] = value
    with tempfile.NamedTemporaryFile() as file:
        file.write(data[: length or None])
        file.flush()
        table = read(Path(file.name))
    if table.is_sure:
        # The crate, too, goes back to the commit before where the last one is damaged, which lacked a zone.
        whole = {row["uuid"]: as_told(row) for row in expected("10-open")["zones"]}
        assert state_of(table).items() <= whole.items() if table.rows else not any(data[64:320])


_HEADER_PAGES = 131
_REGION = (130 + (1 << 20)) * 4096


class Made:
    """A database made by hand, of pages put where a test wants them: the zones' tree, and the trees that lead to it."""

    def __init__(self, path: Path, *, regions: int = 0) -> None:
        self.path, self.pages, self.regions = path, dict[int, bytes](), regions

    def leaf(self, number: int, rows: list[tuple[bytes, bytes]], *, fixed: bool) -> bytes:
        """Puts a leaf there; gives its tree ref, with so many rows."""
        ends, at = list[int](), 4 + 4 * len(rows) * (1 if fixed else 2)
        for column in (0, 1):
            for row in rows:
                at += len(row[column])
                ends += [] if fixed and not column else [at]
        raw = struct.pack(f"<BxH{len(ends)}I", 1, len(rows), *ends) + b"".join(key for key, _ in rows)
        return self.put(number, raw + b"".join(value for _, value in rows), len(rows))

    def branch(self, number: int, children: list[tuple[int, bytes]], length: int) -> bytes:
        """A branch of keys of 16 bytes over pages with these checksums."""
        raw = struct.pack("<BxH4x", 2, len(children) - 1) + b"".join(checksum for _, checksum in children)
        raw += b"".join(struct.pack("<Q", child) for child, _ in children) + bytes(16 * (len(children) - 1))
        return self.put(number, raw, length)

    def put(self, number: int, raw: bytes, length: int) -> bytes:
        self.pages[number] = raw
        return struct.pack("<Q", number) + checksum(raw) + struct.pack("<Q", length)

    def write(self, zones: bytes, *, system: bytes = b"", length: int | None = None) -> Table:
        """With the tables' trees and the header; gives what is read of it."""
        rows = struct.unpack_from("<Q", zones, 24)[0] if length is None else length
        definition = struct.pack("<BQB32sBIBIIII", 3, rows, 1, zones, 1, 16, 0, 0, 1, 1, 5) + b"\x01u128\x01&[u8]"
        user = self.leaf(1000, [(b"zone", definition)], fixed=False)
        slot = struct.pack("<B3B4x32s32s32sQ", 2, 1, bool(system), 0, user, system or bytes(32), bytes(32), 7)
        slot += checksum(slot)
        header = struct.pack("<9sB2xIIIII32x", b"redb\x1a\n\xa9\r\n", 2, 4096, 130, 1 << 20, self.regions, 2000)
        with open(self.path, "wb") as file:
            file.write(header + slot + slot)
            file.truncate(self.regions * _REGION + (_HEADER_PAGES + 2000) * 4096)
            for number, raw in self.pages.items():
                index, region, order = number & 0xFFFFF, number >> 20 & 0xFFFFF, number >> 59
                file.seek(region * _REGION + _HEADER_PAGES * 4096 + index * (4096 << order))
                file.write(raw)
        return read(self.path)


def checksum(raw: bytes) -> bytes:
    return xxh3_128_intdigest(raw).to_bytes(16, "little")


ROWS = [(bytes(15) + bytes([number]), b"value" * number) for number in range(4)]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "krata.db")


def test_what_is_made_here_is_read(made: Made) -> None:
    table = made.write(made.leaf(0, ROWS, fixed=True))
    assert (table.state, list(table.rows)) == (DatabaseState.EXACT, ROWS)


def test_a_page_beyond_the_first_region_is_found(tmp_path: Path) -> None:
    made = Made(tmp_path / "krata.db", regions=1)
    table = made.write(made.leaf(1 << 20 | 3, ROWS, fixed=True))
    assert (table.state, list(table.rows)) == (DatabaseState.EXACT, ROWS)


def test_a_branch_leads_to_its_leaves_in_order(made: Made) -> None:
    refs = [made.leaf(number, ROWS[2 * number : 2 * number + 2], fixed=True) for number in (0, 1)]
    zones = made.branch(2, [(number, ref[8:24]) for number, ref in enumerate(refs)], 4)
    assert list(made.write(zones).rows) == ROWS


@pytest.mark.parametrize("bits", [1 << 40, 1 << 58])
def test_bits_that_a_page_number_has_no_use_for_lead_nowhere_else(bits: int, made: Made) -> None:
    """The crate masks them: `PageNumber::from_le_bytes`."""
    table = made.write(made.leaf(bits | 3, ROWS, fixed=True))
    assert (table.state, list(table.rows)) == (DatabaseState.EXACT, ROWS)


@pytest.mark.parametrize("alias", [0, 1 << 40, 1 << 58])
def test_no_page_is_read_twice_by_whatever_number(alias: int, made: Made) -> None:
    ref = made.leaf(0, ROWS, fixed=True)
    table = made.write(made.branch(2, [(0, ref[8:24]), (alias, ref[8:24])], 8))
    assert (table.state, table.rows) == (DatabaseState.DAMAGED, ())


def test_a_commit_of_which_any_tree_is_damaged_is_none(made: Made) -> None:
    system = made.leaf(5, [(b"next_savepoint_id", b"short")], fixed=False)
    assert made.write(made.leaf(0, ROWS, fixed=True), system=system).state is DatabaseState.DAMAGED
    broken = system[:8] + bytes(16) + system[24:]
    assert made.write(made.leaf(0, ROWS, fixed=True), system=broken).state is DatabaseState.DAMAGED


def test_rows_are_as_many_as_each_count_says(made: Made) -> None:
    ref = made.leaf(0, ROWS, fixed=True)
    assert made.write(ref, length=3).state is DatabaseState.DAMAGED
    for count in (3, 5):
        assert made.write(ref[:24] + struct.pack("<Q", count)).state is DatabaseState.DAMAGED


def test_more_than_is_ever_there_is_refused(made: Made) -> None:
    ref = made.leaf(0, ROWS, fixed=True)
    many = made.write(ref[:24] + struct.pack("<Q", 1 << 21))
    assert (many.state, many.note) == (DatabaseState.REFUSED, "it has more rows than are read here")
    large = made.write(struct.pack("<Q", 15 << 59) + ref[8:])
    assert (large.state, "a page of" in large.note) == (DatabaseState.REFUSED, True)


def test_a_tree_without_an_end_is_too_deep(made: Made) -> None:
    ref = made.leaf(0, ROWS, fixed=True)
    for number in range(1, 25):
        leaf = made.leaf(100 + number, ROWS, fixed=True)
        ref = made.branch(number, [(number - 1, ref[8:24]), (100 + number, leaf[8:24])], 4 * (number + 1))
    table = made.write(ref)
    assert (table.state, table.note.partition(":")[0]) == (DatabaseState.DAMAGED, "a tree is too deep")
