"""Which copy of the index is good: the four cases, from made-up facts and from real ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ocitui.cache import (
    CacheDirectoryError,
    Change,
    ImageIndex,
    IndexEdit,
    IndexOutcome,
    IndexReplacement,
    Insert,
    PackerCache,
    Transaction,
    TransactionKind,
    Verdict,
    new_index,
    see_index,
)
from ocitui.cache.backups import Backup, keep_backup, list_backups
from ocitui.cache.listing import CacheFiles, Listing
from ocitui.cache.records import RecordedDescriptor, Swap
from ocitui.directory import DEFAULT_DIRECTORY
from ocitui.doctor.assessment import (
    Assessment,
    Case,
    Confidence,
    MemorySeen,
    TimelineFacts,
    assess,
    gather,
    name_to_pull,
    process_trouble,
)
from ocitui.host.daemon import DaemonState
from ocitui.host.zones import Users
from tests.cache.support import SQUASHFS, entry, index_bytes, write_cache

START = 1_000_000.0
RUNS = DaemonState(77, START, True)
EMPTY, FIVE = Verdict(IndexOutcome.LOADED), Verdict(IndexOutcome.LOADED, 5)
RESET = Verdict(IndexOutcome.RESET, 0, "EOF while parsing a value", 1, 0)
REFUSED = Verdict(IndexOutcome.ERROR, 0, "stream did not contain valid UTF-8", 1, 3)
GONE = Verdict(IndexOutcome.CREATED)


def backup(kept: float, entries: int) -> Backup:
    return Backup(kept, entries, 100, False, "0" * 32)


def facts(verdict: Verdict, daemon: DaemonState = RUNS, **more: Any) -> TimelineFacts:
    memory = MemorySeen() if daemon.since is not None else None
    known = {"modified": START + 100, "complete": 5, "free": 1 << 40, "pull": "tea:1", "memory": memory, **more}
    return TimelineFacts(DEFAULT_DIRECTORY, daemon, verdict, **known)


def deleted(at: float, count: int) -> Transaction:
    removed = [RecordedDescriptor("{}", 0)] * count
    return Transaction(id="1", kind=TransactionKind.DELETE, started=at, by="me", removed=removed)


def told(assessment: Assessment) -> tuple[Case, Confidence]:
    assert assessment.reasons
    return assessment.case, assessment.confidence


def texts(assessment: Assessment) -> list[str]:
    return [command.text for command in assessment.commands]


HAS = MemorySeen(look=backup(START + 50, 5), lost=True, has=True)
LACKS = MemorySeen(look=backup(START + 50, 1), lost=True, lacks=True)
STOP, START_IT = "systemctl stop kratad", "systemctl start kratad"
MEND = ["ocitui repair", "ocitui repair --apply"]
PULL, CHECK = "kratactl image pull -o tea:1", "ocitui check"


@pytest.mark.parametrize("verdict", [RESET, REFUSED, GONE])
def test_damage_under_a_running_daemon_came_after_its_start(verdict: Verdict) -> None:
    found = assess(facts(verdict, memory=HAS))
    assert told(found) == (Case.MEMORY_GOOD, Confidence.CERTAIN)
    # Mended at once, as insurance against a crash; then the daemon is made to store, and restarted by nobody.
    assert texts(found) == [*MEND, PULL, CHECK]
    assert "insurance" in found.commands[1].purpose
    assert any("do not restart" in warning for warning in found.never)
    assert not any("restart" in text or "stop" in text for text in texts(found))
    assert not found.futile


def test_where_every_image_is_in_use_no_name_is_offered_to_pull() -> None:
    found = assess(facts(RESET, pull=""))
    assert texts(found) == [*MEND, "", CHECK]
    assert "no zone runs" in found.commands[2].purpose


@pytest.mark.parametrize("verdict", [RESET, GONE, EMPTY])
def test_where_nobody_saw_what_it_has_nothing_is_sure(verdict: Verdict) -> None:
    found = assess(facts(verdict))
    assert told(found) == (Case.MEMORY_GOOD, Confidence.UNSURE)
    assert "nobody saw since" in found.reasons[-1]
    found = assess(facts(verdict, memory=replace(HAS, strays=1)))
    assert told(found) == (Case.MEMORY_GOOD, Confidence.UNSURE)
    assert found.reasons[-1].startswith("the files of 1 more entry are there")


def test_a_daemon_that_had_started_on_an_emptied_index_has_nothing_to_give() -> None:
    found = assess(facts(RESET, memory=LACKS))
    assert told(found) == (Case.MEMORY_EMPTIED, Confidence.UNSURE)
    assert texts(found) == [STOP, *MEND, START_IT, CHECK]
    assert "stop it first" in found.futile


LATER = time.time() + 1e6
"""By the clock of a test: all files were there before."""


@pytest.mark.parametrize(
    ("who", "case", "confidence"),
    [
        ("the daemon", Case.MEMORY_GOOD, Confidence.CERTAIN),
        ("another program", Case.MEMORY_EMPTIED, Confidence.UNSURE),
        ("another program, and stores since", Case.MEMORY_EMPTIED, Confidence.UNSURE),
        ("a deletion", Case.MEMORY_GOOD, Confidence.CERTAIN),
        ("an undo of a repair", Case.MEMORY_EMPTIED, Confidence.UNSURE),
        ("a reset", Case.MEMORY_GOOD, Confidence.UNSURE),
        ("another program, after a deletion and a store", Case.MEMORY_EMPTIED, Confidence.UNSURE),
        ("another program, and a repair since", Case.MEMORY_EMPTIED, Confidence.UNSURE),
        ("nobody, in its first seconds", Case.MEMORY_GOOD, Confidence.UNSURE),
    ],
)
async def test_entries_that_were_gone_at_its_start(
    tmp_path: Path, who: str, case: Case, confidence: Confidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.0)
    index, cache, now = tmp_path / "index.json", PackerCache(tmp_path), LATER
    monkeypatch.setattr(time, "time", lambda: now)
    write_cache(tmp_path, range(3))
    whole = index.read_bytes()
    if who == "another program, after a deletion and a store":
        await cache.delete([(entry(0)["digest"], SQUASHFS)])
        write_cache(tmp_path, (1, 2, 0))
    keep_backup(tmp_path, index.read_bytes())
    daemon = DaemonState(77, LATER + 1000, True)
    now = LATER + (1003 if who == "nobody, in its first seconds" else 2000)
    numbers = {"the daemon": range(4), "another program, and stores since": range(1, 9)}
    if who in numbers or who.startswith("another program"):
        index.write_bytes(index_bytes(map(entry, numbers.get(who, range(1, 3)))))
    elif who == "a deletion":
        await cache.delete([(entry(0)["digest"], SQUASHFS)])
    elif who == "a reset":
        index.write_bytes(b"{")
        new = IndexReplacement(see_index(tmp_path), new_index([]).data)
        await cache.change(Change(index=new), TransactionKind.REPAIR)
    elif who == "an undo of a repair":
        inserts = tuple(Insert(one.raw) for one in ImageIndex.parse(whole).descriptors[:0:-1])
        index.write_bytes(index_bytes([entry(0)]))
        await cache.change(Change(index=IndexEdit(insert=inserts)), TransactionKind.REPAIR)
        await cache.undo()
    keep_backup(tmp_path, left := index.read_bytes())
    index.write_bytes(b"{")
    if who == "another program, and a repair since":
        await cache.change(Change(index=IndexReplacement(see_index(tmp_path), left)), TransactionKind.REPAIR)
        index.write_bytes(b"{")
    assert told(assess(gather(tmp_path, proc=tmp_path / "nowhere", daemon=daemon))) == (case, confidence)


def test_on_a_full_disk_room_is_made_first() -> None:
    found = assess(facts(RESET, free=4096, full=True))
    assert texts(found) == ["", *MEND, PULL, CHECK]
    assert "4.0K are left" in found.commands[0].purpose


def test_an_empty_index_written_at_its_start_was_wiped_by_it() -> None:
    wiped = facts(EMPTY, modified=START + 1, fuller=backup(START - 50, 5), as_made=True)
    found = assess(wiped)
    assert told(found) == (Case.MEMORY_EMPTIED, Confidence.LIKELY)
    assert any("do not pull" in warning for warning in found.never)
    # Whoever wrote other bytes at that time did it before or after the daemon read them.
    assert told(assess(replace(wiped, as_made=False))) == (Case.MEMORY_GOOD, Confidence.UNSURE)


def test_a_wipe_and_then_a_few_pulls() -> None:
    few, stored = Verdict(IndexOutcome.LOADED, 2), MemorySeen(today=True, lost=True, lacks=True)
    found = assess(facts(few, modified=START + 500, fuller=backup(START - 50, 5), memory=stored))
    assert told(found) == (Case.MEMORY_EMPTIED, Confidence.LIKELY)
    # Whatever more there may be that nobody saw is not in the memory either.
    found = assess(facts(few, modified=START + 500, memory=replace(stored, strays=1)))
    assert told(found) == (Case.MEMORY_EMPTIED, Confidence.LIKELY)


def test_a_daemon_that_started_on_the_shrunk_index() -> None:
    found = assess(facts(EMPTY, modified=START - 500, fuller=backup(START - 900, 5)))
    assert told(found) == (Case.MEMORY_EMPTIED, Confidence.LIKELY)


@pytest.mark.parametrize("fuller", [None, backup(START - 50, 5)])
def test_an_index_emptied_long_after_its_start_was_emptied_by_somebody_else(fuller: Backup | None) -> None:
    assert told(assess(facts(EMPTY, fuller=fuller, memory=HAS))) == (Case.MEMORY_GOOD, Confidence.LIKELY)
    assert told(assess(facts(EMPTY, fuller=fuller, memory=LACKS))) == (Case.MEMORY_EMPTIED, Confidence.UNSURE)


def test_entries_that_were_there_since_its_start_are_in_its_memory() -> None:
    few = Verdict(IndexOutcome.LOADED, 2)
    found = assess(facts(few, modified=START + 500, fuller=backup(START + 400, 5), memory=replace(HAS, today=True)))
    assert told(found) == (Case.MEMORY_GOOD, Confidence.LIKELY)


def test_files_that_nothing_tells_of_may_be_of_what_it_stored() -> None:
    found = assess(facts(FIVE, memory=MemorySeen(today=True, strays=1)))
    assert told(found) == (Case.IN_STEP, Confidence.UNSURE)


def test_where_its_start_is_not_known_nothing_is_stopped() -> None:
    for verdict in (RESET, EMPTY):
        found = assess(facts(verdict, DaemonState(77, None, True)))
        assert told(found) == (Case.MEMORY_GOOD, Confidence.UNSURE)


def test_an_index_that_our_last_transaction_emptied_is_no_loss() -> None:
    emptied = facts(EMPTY, transactions=(deleted(START + 60, 5),))
    assert assess(emptied).case is Case.IN_STEP


def test_an_index_that_an_undo_of_a_repair_emptied_again_is_as_lost_as_before() -> None:
    undo = msgspec.structs.replace(deleted(START + 60, 5), id="000002-0000", sequence=2, kind=TransactionKind.UNDO)
    undo = msgspec.structs.replace(undo, of="000001-0000")
    repair = Transaction(id="000001-0000", sequence=1, kind=TransactionKind.REPAIR, started=START + 50, by="me")
    assert assess(facts(EMPTY, transactions=(undo, repair))).case is Case.MEMORY_GOOD
    restore = msgspec.structs.replace(repair, kind=TransactionKind.RESTORE)
    assert assess(facts(EMPTY, transactions=(undo, restore))).case is Case.IN_STEP


def test_in_step() -> None:
    found = assess(facts(FIVE))
    assert told(found) == (Case.IN_STEP, Confidence.LIKELY)
    assert found.commands == ()


def test_hung() -> None:
    found = assess(facts(RESET, answers=False))
    assert told(found) == (Case.HUNG, Confidence.CERTAIN)
    assert texts(found) == [*MEND, "systemctl restart kratad", CHECK]
    waiting = facts(FIVE, trouble="its process waits for a disk in folio_wait_bit")
    assert told(assess(waiting)) == (Case.HUNG, Confidence.UNSURE)
    assert "folio_wait_bit" in assess(waiting).reasons[0]
    assert assess(replace(waiting, answers=True)).case is Case.IN_STEP


@pytest.mark.parametrize(
    ("state", "waits_in", "trouble"),
    [
        ("S (sleeping)", "futex_wait_queue", ""),
        ("R (running)", "0", ""),
        ("I (idle)", "", ""),
        ("", "futex_wait_queue", ""),
        ("D (disk sleep)", "folio_wait_bit", "its process waits for a disk in folio_wait_bit"),
        ("D (disk sleep)", "0", "its process waits for a disk"),
        ("Z (zombie)", "0", "its process is dead"),
    ],
)
def test_what_the_state_of_a_process_tells(state: str, waits_in: str, trouble: str, tmp_path: Path) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "status").write_text(f"Name:\tkratad\nState:\t{state}\n")
    (tmp_path / "77" / "wchan").write_text(waits_in)
    assert process_trouble(77, tmp_path) == trouble


@pytest.mark.parametrize("linked", [False, True])
def test_a_sound_index_that_is_a_link_is_mended_before_a_start(linked: bool, tmp_path: Path) -> None:
    cache, index = tmp_path / "cache", tmp_path / "cache" / "index.json"
    write_cache(cache, range(2))
    if linked:
        index.rename(tmp_path / "elsewhere")
        index.symlink_to(tmp_path / "elsewhere")
    found = assess(gather(cache, daemon=DaemonState()))
    assert (f"ocitui repair -C {cache}" in texts(found), bool(found.headline)) == (linked, linked)
    assert any("where index.json leads" in never for never in found.never) is linked


def test_stopped() -> None:
    found = assess(facts(RESET, DaemonState()))
    assert told(found) == (Case.STOPPED, Confidence.CERTAIN)
    assert texts(found) == [STOP, *MEND, START_IT, CHECK]
    assert found.headline.startswith("mend the index")
    assert "every entry lost" in found.never[0]
    assert texts(assess(facts(REFUSED, DaemonState()))) == [
        STOP,
        *MEND,
        "systemctl reset-failed kratad",
        START_IT,
        CHECK,
    ]
    sound = assess(facts(FIVE, DaemonState()))
    assert (texts(sound), sound.headline) == ([START_IT], "")
    assert texts(assess(facts(EMPTY, DaemonState(), fuller=backup(START, 5)))) == [STOP, *MEND, START_IT, CHECK]


def test_stopped_before_an_index_that_lacks_an_import() -> None:
    found = assess(facts(FIVE, DaemonState(), overwritten=True))
    assert texts(found) == [STOP, *MEND, START_IT, CHECK]
    assert "only 5 entries" in found.never[0]


@pytest.mark.parametrize(
    ("left", "warning"), [(0, "it would know no entry"), (1, "it would know only 1 entry"), (3, "only 3 entries")]
)
def test_stopped_before_a_shrunk_index(left: int, warning: str) -> None:
    found = assess(facts(Verdict(IndexOutcome.LOADED, left), DaemonState(), fuller=backup(500, 9)))
    assert found.case is Case.STOPPED
    assert found.never[0].endswith(warning)


def test_a_corrupt_index_has_no_count() -> None:
    reasons = assess(facts(RESET, DaemonState(), fuller=backup(500, 9))).reasons
    assert any(reason.startswith("the index cannot be read, the backup") for reason in reasons)


def test_a_socket_without_a_process_may_be_of_a_daemon_outside_the_container() -> None:
    assert told(assess(facts(RESET, DaemonState(ours=True)))) == (Case.STOPPED, Confidence.UNSURE)
    assert told(assess(facts(RESET, DaemonState(ours=True, listens=True)))) == (Case.STOPPED, Confidence.UNSURE)
    assert told(assess(facts(RESET, DaemonState(ours=True, listens=False)))) == (Case.STOPPED, Confidence.CERTAIN)


def test_the_daemon_of_another_cache_makes_unsure() -> None:
    assert told(assess(facts(RESET, DaemonState(77, START, False)))) == (Case.MEMORY_GOOD, Confidence.UNSURE)


def test_commands_name_a_cache_that_is_not_the_daemons_own() -> None:
    known = replace(facts(RESET, answers=False), directory=Path("/mnt/a b"))
    assert texts(assess(known))[1] == "ocitui repair -C '/mnt/a b' --apply"


async def test_gathering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.0)
    write_cache(tmp_path, range(3))
    keep_backup(tmp_path, (tmp_path / "index.json").read_bytes())
    async with await PackerCache.open(tmp_path) as cache:
        await cache.delete([(entry(0)["digest"], SQUASHFS)])
    os.utime(tmp_path / "index.json", (2000, 2000))
    found = gather(tmp_path, proc=tmp_path / "nowhere")
    assert (found.verdict.entries, found.modified, found.complete) == (2, 2000.0, 2)
    assert [one.kind for one in found.transactions] == [TransactionKind.DELETE]
    assert max(one.entries for one in list_backups(tmp_path)) == 3
    assert found.free
    assert texts(assess(found)) == [START_IT]
    # As many entries as our deletion leaves, but not the same: by the entries themselves one is gone.
    (tmp_path / "index.json").write_bytes(index_bytes([entry(1), entry(5)]))
    fuller = gather(tmp_path, proc=tmp_path / "nowhere").fuller
    assert fuller is not None
    assert fuller.entries == 3
    (tmp_path / "index.json").write_bytes(index_bytes([entry(1)])[:-3])
    assert gather(tmp_path, proc=tmp_path / "nowhere").verdict.outcome is IndexOutcome.RESET
    (tmp_path / "index.json").unlink()
    assert gather(tmp_path, proc=tmp_path / "nowhere").missing


def test_the_name_to_pull_is_the_smallest_that_nothing_runs_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(tmp_path, range(3))
    kernel = entry(3, format="tar")
    index, users = ImageIndex.parse(index_bytes([*map(entry, range(3)), kernel])), dict[str, tuple[str, ...]]()
    (tmp_path / f"{kernel['digest']}.tar").write_bytes(b"-")
    monkeypatch.setattr("ocitui.doctor.assessment.find_users", lambda directory: Users(users, {}))
    packed = [f"{digest}.{SQUASHFS}" for digest in index.digests[:3]]
    for size, name in zip((20, 10, 30), packed, strict=True):
        (tmp_path / name).write_bytes(bytes(size))
    offered = list[str]()
    for held in (packed[1], packed[0], packed[2]):
        with CacheFiles(tmp_path) as files:
            offered.append(name_to_pull(tmp_path, Listing.read(files), index))
        users[held] = ("loop3",)
    names = index.names
    assert offered == [names[1], names[0], names[2]]
    assert name_to_pull(tmp_path, Listing(), index) == name_to_pull(tmp_path, Listing(), None) == ""


def test_gathering_where_there_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(CacheDirectoryError):
        gather(tmp_path / "nowhere")


def test_a_real_daemon_that_is_stopped_in_its_tracks(tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    with subprocess.Popen([shutil.copy(sleep, tmp_path / "kratad"), "600"]) as running:
        try:
            assert process_trouble(running.pid) == ""
            running.send_signal(signal.SIGSTOP)
            os.waitpid(running.pid, os.WUNTRACED)
            assert process_trouble(running.pid) == "its process is stopped"
        finally:
            running.kill()
    assert process_trouble(running.pid) == process_trouble(None) == ""


def swapped(at: float, content: str) -> Transaction:
    return Transaction(
        id="2", kind=TransactionKind.MEND, started=at, by="me", swap=Swap(None, None, "", content + "0" * 32)
    )


def test_an_index_emptied_after_a_repair() -> None:
    found = assess(facts(EMPTY, modified=START + 400, transactions=(swapped(START + 100, "b" * 32),)))
    assert told(found) == (Case.MEMORY_GOOD, Confidence.UNSURE)
