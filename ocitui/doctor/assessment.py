"""Which copy of the index is good, the one on disk or the one in the daemon's memory, and so what to do in what order.

Measured on the daemon itself: it reads the index once, at its start, and writes all of it from memory at each store. At
a start on an index that it cannot load it writes an empty one, or does not start; so where one runs and the index is
corrupt, the damage came after its start, and its memory is of before. It takes no entry away but for one that it stores
again; so where entries are gone and no transaction of ours took them, somebody emptied or replaced the index.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ocitui.cache import (
    INDEX_NAME,
    LATEST,
    Backup,
    CacheDirectoryError,
    CacheError,
    CacheFiles,
    ImageIndex,
    IndexOutcome,
    Key,
    Listing,
    PackedFormat,
    Transaction,
    TransactionKind,
    Verdict,
    all_changes,
    list_backups,
    read_kernel_file,
    read_patiently,
    taken_back,
)
from ocitui.directory import DEFAULT_DIRECTORY
from ocitui.host import START_SECONDS, DaemonState, find_daemon, find_users
from ocitui.stand_in import fact_of, file_system
from ocitui.text import counted, human_size, timestamp

from .check.cache_checks import index_in, known_history, orphans, room_for_index
from .check.index_checks import History

if TYPE_CHECKING:
    from .check.judge import Judge
    from .report import Report

_PROC = Path("/proc")
_MENDS = (TransactionKind.REPAIR, TransactionKind.ADOPT, TransactionKind.RESTORE, TransactionKind.MEND)


class MemorySeen(msgspec.Struct, frozen=True):
    """What was seen of the memory of a daemon that runs. What an index of since its start holds, and no transaction of
    ours put there since, is in its memory; and where there is any such, nothing else that was to be there is, as it
    writes all that it has. ``look`` is a backup of since its start that has any such, ``today`` is whether the index
    has. ``lost``: something is gone from the index; ``has``: the look has it all; ``lacks``: neither has all of it.
    ``strays`` is of how many more entries there are files: whether it knows their names cannot be told."""

    look: Backup | None = None
    today: bool = False
    lost: bool = False
    has: bool = False
    lacks: bool = False
    strays: int = 0


class TimelineFacts(msgspec.Struct, frozen=True):
    """``verdict`` is of the index as it is now, ``modified`` its mtime (None: there is no file); ``transactions`` are
    newest first; ``complete`` is how many packed files have both documents beside them; ``free`` is in bytes, None
    where it cannot be had. Times are in seconds since the epoch. ``fuller`` is the backup of which entries are gone
    without a transaction of ours; ``memory`` is what was seen of the daemon's, None where none runs, or nobody knows
    since when; ``as_made``: the index is as the daemon makes an empty one, to the byte; ``overwritten``: it lacks what
    a transaction of ours put in. ``full``: the daemon's next store has no room for its index. ``pull`` is a name that
    it may be made to store by, as no loop device holds its packed file; empty where there is none. ``trouble`` is what
    `process_trouble` says. ``answers`` is whether ``kratactl`` gets answers, which only the operator can tell: None
    where nobody did. ``in_place`` is whether index.json, if it is there, is a file of its own."""

    directory: Path
    daemon: DaemonState
    verdict: Verdict
    modified: float | None = None
    transactions: tuple[Transaction, ...] = ()
    complete: int = 0
    free: int | None = None
    fuller: Backup | None = None
    memory: MemorySeen | None = None
    as_made: bool = False
    overwritten: bool = False
    full: bool = False
    pull: str = ""
    trouble: str = ""
    answers: bool | None = None
    in_place: bool = True

    @property
    def missing(self) -> bool:
        """Whether there is no index at all."""
        return self.verdict.outcome is IndexOutcome.CREATED


def gather(
    directory: Path,
    *,
    answers: bool | None = None,
    proc: Path | None = None,
    judge: Judge | None = None,
    daemon: DaemonState | None = None,
) -> TimelineFacts:
    """Read the facts; takes a second where the index is corrupt, because it may be being written. A ``judge`` who
    looked at index and directory is believed as long as the index is the same; without a ``daemon`` one is looked for.
    Raises CacheDirectoryError; a backup or a journal that cannot be read is as none."""
    current = judge if judge is not None and judge.reading.is_current(directory) else None
    seen = current.reading if current is not None else read_patiently(directory)
    daemon = find_daemon(directory, proc) if daemon is None else daemon
    backups, transactions = tuple[Backup, ...](), tuple[Transaction, ...]()
    with suppress(CacheError):
        backups = tuple(list_backups(directory))
    with suppress(CacheError):
        transactions = tuple(all_changes(directory))
    with CacheFiles(directory) as files:
        listing = judge.listing if judge is not None else Listing.read(files)
    history = (current and current.history) or known_history(directory, seen.index)
    room: tuple[bool, int] | None = None
    with suppress(OSError):
        room = room_for_index(file_system(directory), seen.signature.size if seen.signature else 0)
    trouble: str | None = fact_of(directory, "trouble")
    memory: MemorySeen | None = None
    if daemon.since is not None:
        memory = _Looks(directory, daemon.since, backups, transactions).compare(seen.index, history, listing)
    return TimelineFacts(
        directory,
        daemon,
        seen.verdict,
        seen.signature.modified_ns / 1e9 if seen.signature else None,
        transactions,
        listing.complete,
        None if room is None else room[1],
        history.copy if history.gone_from(seen.index or ImageIndex.empty()) else None,
        memory,
        seen.index is not None and seen.index.sha256 == ImageIndex.empty().sha256,
        any(one.missing for one in history.overwritten),
        room is not None and not room[0],
        name_to_pull(directory, listing, seen.index or _newest(directory, backups)) if daemon.running else "",
        process_trouble(daemon.process, proc or _PROC) if trouble is None else trouble,
        answers,
        (there := listing.get(INDEX_NAME)) is None or there.regular,
    )


def name_to_pull(directory: Path, listing: Listing, index: ImageIndex | None) -> str:
    """The name of the smallest image to pull anew, of which no zone needs an entry and no loop device holds one, so
    that it hurts no guest; empty where there is none. Not of kernels and initrds, which are tar files."""
    if index is None:
        return ""
    known, sizes, held = find_users(directory), dict[str, int](), set[str]()
    if known.doubt:
        return ""
    for name, digest, format_ in zip(index.names, index.digests, index.formats, strict=True):
        packed = f"{digest}.{format_}"
        fact = listing.get(packed)
        if not name or name.endswith(f":{LATEST}"):
            continue
        # A pull writes whatever the name stands for by now, which may be any of its entries.
        if packed in known.by_file or format_ != PackedFormat.SQUASHFS:
            held.add(name)
        elif fact is not None:
            sizes[name] = max(fact.size, sizes.get(name, 0))
    free = [(size, name) for name, size in sizes.items() if name not in held]
    return min(free)[1] if free else ""


class _Looks:
    """What was seen of the index before the daemon's start and since, and what transactions of ours made of it."""

    def __init__(self, directory: Path, since: float, backups: Sequence[Backup], transactions: Sequence[Transaction]):
        before, after = since - START_SECONDS, since + START_SECONDS
        self._directory, self._backups = directory, backups
        undone = {one.id for chain in taken_back(transactions) for one in chain}
        self._lasting = [one for one in transactions if one.id not in undone]
        # What was done about its start may be of before or after it; what a repair put in beside it, it had lost.
        self._earlier = {one.id for one in transactions if one.started < before}
        self._since = [one for one in transactions if one.started >= before]
        self._beside = _added(one for one in self._since if one.started > after and one.kind not in _MENDS)
        self._looks = [one for one in backups if one.kept > after and one.entries]
        self._base = max((one for one in backups if one.kept <= after), key=lambda one: one.entries, default=None)

    def compare(self, index: ImageIndex | None, history: History, listing: Listing) -> MemorySeen:
        """What the memory has of the entries that are gone from the index as it is now."""
        here, today = _keys(index), bool(self._own(index))
        gone = {one.key for one in history.gone_from(index or ImageIndex.empty())}
        # It overwrites what is put in beside it; what was there at its start it lost then.
        earlier = (one for one in history.overwritten if one.transaction.id in self._earlier)
        gone |= {missing.key for one in earlier for missing in one.missing}
        look, seen, own = self._look(index) if gone or not today else (None, set[Key](), set[Key]())
        base = set() if today else self._own(index_in(self._directory, self._base, index), self._base)
        wanted = gone - self._beside | own - self._taken(look) | base - self._taken(self._base)
        lost = wanted - here
        # Its store leaves an entry of its own, where it overwrites what was put in beside it.
        told = here | wanted | seen - self._taken(look) | (self._beside if today or own else set())
        strays = sum(one.code == "orphan-entry" for one in orphans(listing, told))
        return MemorySeen(look, today, bool(lost), bool(lost) and lost <= own, bool(lost - seen), strays)

    def _look(self, index: ImageIndex | None) -> tuple[Backup | None, set[Key], set[Key]]:
        """The newest backup of since the start that tells; what it has, and what of that is the daemon's own."""
        for look in self._looks[:3]:
            seen = index_in(self._directory, look, index)
            if own := self._own(seen, look):
                return look, _keys(seen), own
        return None, set(), set()

    def _own(self, index: ImageIndex | None, until: Backup | None = None) -> set[Key]:
        """What an index has that no transaction since the start put in, up to a backup, as far as that is known."""
        left = _keys(index)
        for one in self._since:
            if until is None or one.order < until.order:
                left -= _added([one])
                if (swap := one.swap) is not None:
                    copy = next((copy for copy in self._backups if swap.new_sha256.startswith(copy.content)), None)
                    put = index_in(self._directory, copy)
                    left = left - _keys(put) if put is not None else set()
        return left

    def _taken(self, backup: Backup | None) -> set[Key]:
        since = (one for one in self._lasting if backup is not None and one.order >= backup.order)
        return {(digest, format_) for one in since for digest, format_, _ in one.taken_out}


def _keys(index: ImageIndex | None) -> set[Key]:
    return {*zip(index.digests, index.formats, strict=True)} if index is not None else set()


def _added(transactions: Iterable[Transaction]) -> set[Key]:
    return {added.descriptor.key for one in transactions for added in one.added}


def _newest(directory: Path, backups: Sequence[Backup]) -> ImageIndex | None:
    """The newest backup that has entries and can be read."""
    return next((index for one in backups if (index := index_in(directory, one))), None)


# What is telling of a process, by the letter of its state.
_TROUBLES = {"D": "waits for a disk", "T": "is stopped", "t": "is being traced", "Z": "is dead", "X": "is dead"}


def process_trouble(process: int | None, proc: Path = _PROC) -> str:
    """What is wrong with a process, by /proc/PID/status and /proc/PID/wchan (proc(5)); empty where nothing shows.
    Threads that wait for each other's locks sleep like idle ones, so that a deadlock cannot be told from outside."""
    lines = read_kernel_file(proc / f"{process}" / "status").splitlines() if process is not None else []
    letter = next((line.split()[1] for line in lines if line.startswith("State:") and len(line.split()) > 1), "")
    waits_in = read_kernel_file(proc / f"{process}" / "wchan").strip() if letter == "D" else ""
    inside = f" in {waits_in}" if waits_in not in ("", "0") else ""
    return f"its process {_TROUBLES[letter]}{inside}" if letter in _TROUBLES else ""


class Case(StrEnum):
    """IN_STEP: nothing speaks against the index on disk. MEMORY_GOOD: the daemon has what the disk lost.
    MEMORY_EMPTIED: it has lost it too. HUNG: it answers no more. STOPPED: it does not run."""

    IN_STEP = "in-step"
    MEMORY_GOOD = "memory-good"
    MEMORY_EMPTIED = "memory-emptied"
    HUNG = "hung"
    STOPPED = "stopped"


class Confidence(StrEnum):
    """CERTAIN: it cannot be otherwise. LIKELY: it could be only in rare ways. UNSURE: look before acting on it."""

    CERTAIN = "certain"
    LIKELY = "likely"
    UNSURE = "unsure"


class Command(msgspec.Struct, frozen=True):
    """One step: what to type, and what it is for. ``text`` is empty where it is not a command."""

    text: str
    purpose: str


class Assessment(msgspec.Struct, frozen=True):
    """``reasons`` are what the case follows from, ``commands`` what to do, in order, ``never`` what not to do."""

    case: Case
    confidence: Confidence
    reasons: tuple[str, ...]
    commands: tuple[Command, ...]
    never: tuple[str, ...]

    @property
    def headline(self) -> str:
        """What to do about the index, in a line; empty where it is as it should be."""
        return "" if self.commands in ((), (_START_ON_SOUND,)) else HEADLINES[self.case]

    @property
    def futile(self) -> str:
        """Why an edit of the index would not last now; empty where it may."""
        if self.case is not Case.MEMORY_EMPTIED:
            return ""
        return "kratad, which runs, has lost the entries too, and its next store writes that: stop it first"

    def bears_on(self, report: Report) -> bool:
        """Whether it matters to what was found: the index is not what it was, or the daemon is in trouble."""
        if self.case not in (Case.IN_STEP, Case.STOPPED) or not report.verdict.sound:
            return True
        codes = {finding.code for finding in report.findings} - {"index-overwritten"}
        return any(code.startswith("index-") for code in codes)


def advice(directory: Path, judge: Judge | None = None) -> str:
    """What to do about an index as it is now, in a line; empty where there is nothing to do, or no directory."""
    try:
        return assess(gather(directory, judge=judge)).headline
    except CacheDirectoryError:
        return ""


def assess(facts: TimelineFacts) -> Assessment:
    """Tell the case from the facts. Looks at nothing else."""
    case, confidence, reasons = _case(facts)
    if facts.daemon.running and not facts.daemon.ours:
        reasons.append("the socket of the daemon is not where that of this cache would be: it may serve another cache")
        confidence = Confidence.UNSURE
    commands, never = _PROCEDURES[case](facts)
    return Assessment(case, confidence, tuple(reasons), tuple(commands), tuple(never))


Told = tuple[Case, Confidence, list[str]]
Procedure = tuple[list[Command], list[str]]


def _case(facts: TimelineFacts) -> Told:
    trouble = facts.trouble
    if not facts.daemon.running:
        return _stopped(facts)
    if facts.answers is False:
        return Case.HUNG, Confidence.CERTAIN, ["kratactl gets no answer from it", *([trouble] if trouble else [])]
    if trouble and not facts.answers:
        return Case.HUNG, Confidence.UNSURE, [trouble, "see whether `kratactl zone list` answers"]
    if not facts.verdict.sound or facts.missing:
        return _damaged(facts)
    if facts.fuller is not None or _is_emptied(facts) or (facts.memory is not None and facts.memory.lost):
        return _shrunk(facts)
    reasons = [f"the index has {counted(facts.verdict.entries, 'entry')}, and nothing had more"]
    return _strayed(Case.IN_STEP, Confidence.LIKELY, reasons, facts.memory)


def _stopped(facts: TimelineFacts) -> Told:
    reasons = ["no kratad runs, as far as this process sees", f"on this index {facts.verdict.consequence}"]
    if facts.fuller is not None:
        reasons.append(_has_more(facts))
    if facts.daemon.listens is False:
        reasons.append("its socket is left, and nobody listens at it")
    elif facts.daemon.ours:
        left = "its socket is there: it was ended roughly, or it runs outside this container"
        reasons.append(
            "somebody listens at its socket: it runs outside this container" if facts.daemon.listens else left
        )
        return Case.STOPPED, Confidence.UNSURE, reasons
    return Case.STOPPED, Confidence.CERTAIN, reasons


def _damaged(facts: TimelineFacts) -> Told:
    """The daemon runs, and the index is corrupt or gone: it did not start on that."""
    seen = "there is no index" if facts.missing else f"the index is corrupt: {facts.verdict.place}"
    would = {
        IndexOutcome.CREATED: "a daemon that starts without one writes an empty one",
        IndexOutcome.RESET: "a daemon that starts on it overwrites it with an empty one",
    }.get(facts.verdict.outcome, "no daemon starts on it")
    reasons = [seen, f"{would}: the damage came after its start{_at(facts.daemon.since)}"]
    memory = facts.memory
    if memory is None:
        return Case.MEMORY_GOOD, Confidence.UNSURE, [*reasons, "when it started cannot be told"]
    return _by_look(memory, reasons, Confidence.CERTAIN)


def _by_look(memory: MemorySeen, reasons: list[str], confidence: Confidence) -> Told:
    """What a backup of since the daemon's start tells."""
    if (look := memory.look) is None:
        return Case.MEMORY_GOOD, Confidence.UNSURE, [*reasons, "nobody saw since its start what it has in its memory"]
    seen = f"a backup made after its start{_at(look.kept)} has {counted(look.entries, 'entry')}"
    if memory.has:
        return _strayed(Case.MEMORY_GOOD, confidence, [*reasons, seen], memory)
    case = Case.MEMORY_EMPTIED if memory.lacks else Case.MEMORY_GOOD
    return case, Confidence.UNSURE, [*reasons, f"{seen}, but not all; it may have stored the others since"]


def _strayed(case: Case, confidence: Confidence, reasons: list[str], memory: MemorySeen | None) -> Told:
    """The same, or unsure where there are files that nothing tells of."""
    if memory is None or not memory.strays:
        return case, confidence, reasons
    strays = f"the files of {counted(memory.strays, 'more entry')} are there, whose names it may know"
    return case, Confidence.UNSURE, [*reasons, strays]


def _shrunk(facts: TimelineFacts) -> Told:
    """The daemon runs, and entries are gone from a sound index."""
    since, modified, memory, at = facts.daemon.since, facts.modified, facts.memory, _at(facts.daemon.since)
    more = _has_more(facts)
    if since is None or modified is None or memory is None:
        return Case.MEMORY_GOOD, Confidence.UNSURE, [more, "when it started cannot be told"]
    if memory.has:
        reason = f"since its start{at} the daemon took no entry away, as it never does: somebody else did"
        return _by_look(memory, [more, reason], Confidence.LIKELY)
    if memory.today and memory.lacks:
        reason = f"since its start{at} the daemon read or wrote what the index has, and has nothing else in its memory"
    elif modified < since - START_SECONDS:
        reason = f"the index is of before the daemon's start{at}, so it loaded what stands there"
    elif facts.as_made and modified <= since + START_SECONDS:
        reason = f"the daemon made the index at its start{at}: it could not load what stood there"
    else:
        return _by_look(memory, [more], Confidence.LIKELY)
    return Case.MEMORY_EMPTIED, Confidence.LIKELY, [more, reason]


def _is_emptied(facts: TimelineFacts) -> bool:
    """Whether entries are gone without a backup to tell of them, and not by the last transaction."""
    last = next(iter(facts.transactions), None)
    undone = {one.id for chain in taken_back(facts.transactions) for one in chain}
    by_us = last is not None and len(last.removed) > len(last.added) and last.id not in undone
    return facts.verdict.entries == 0 and facts.complete > 0 and not by_us


def _has_more(facts: TimelineFacts) -> str:
    entries = counted(facts.verdict.entries, "entry")
    now = f"the index has {entries}" if facts.verdict.sound else "the index cannot be read"
    now = "there is no index" if facts.missing else now
    if facts.fuller is None:
        return f"{now}, and there are the files of {facts.complete}"
    return f"{now}, the backup{_at(facts.fuller.kept)} has {facts.fuller.entries}, and no transaction took them out"


def _at(moment: float | None) -> str:
    return "" if moment is None else f" of {timestamp(moment)}"


def _memory_good(facts: TimelineFacts) -> Procedure:
    left = "" if facts.free is None else f": only {human_size(facts.free)} are left"
    room = f"make room first{left}, and kratad truncates the index before it writes it anew"
    # What has it write its whole index: a pull that packs anew, of an image that nothing runs on.
    store = Command(
        "", "have kratad store, by a pull of an image that no zone runs: something runs on each that the index names"
    )
    if facts.pull:
        pull = shlex.join(["kratactl", "image", "pull", "-o", facts.pull])
        store = Command(pull, "at a store kratad writes its whole index; no loop device holds this one's packed file")
    commands = [
        *([Command("", room)] if facts.full else []),
        *_mend(facts, "at once, as insurance: were kratad to crash, its service would start it on what stands there"),
        store,
        Command(
            _ocitui(facts, "check"), "see that the entries are back; if they are not, its memory had lost them too"
        ),
    ]
    return commands, [
        "do not restart or stop kratad, nor this host, before the index is whole on disk: its memory is the good copy, "
        "and may know names that nothing else does"
    ]


def _memory_emptied(facts: TimelineFacts) -> Procedure:
    stop = Command("systemctl stop kratad", "so that it writes its memory over the index no more")
    return [stop, *_mended(facts, _START)], [
        "do not mend the index before kratad is stopped: its next store overwrites that",
        "do not pull or launch anything before: each store writes its memory over the index",
    ]


def _hung(facts: TimelineFacts) -> Procedure:
    commands = _mended(facts, Command("systemctl restart kratad", _START.purpose))
    return commands, ["do not restart kratad before the index is good: it starts from what is on disk"]


def _start(facts: TimelineFacts) -> Procedure:
    loads = facts.verdict.outcome is IndexOutcome.LOADED
    if loads and facts.in_place and not (facts.fuller or facts.overwritten or _is_emptied(facts)):
        return [_START_ON_SOUND], []
    stop = Command("systemctl stop kratad", "none runs now; this keeps its service from starting one meanwhile")
    reset = Command("systemctl reset-failed kratad", "its service gave up after it had refused to start")
    refused = [reset] if facts.verdict.outcome is IndexOutcome.ERROR else []
    commands = [stop, *_mended(facts, *refused, _START)]
    # What a start on today's index would come to.
    left, loss = facts.verdict.entries, facts.verdict.consequence
    if loads and not facts.in_place:
        loss = "it would follow where index.json leads"
    elif loads:
        loss = f"it would know only {counted(left, 'entry')}" if left else "it would know no entry"
    return commands, [f"do not start kratad before the index is mended: {loss}"]


def _mend(facts: TimelineFacts, why: str = "") -> list[Command]:
    how = f"mend the index {why}" if why else "mend the index"
    return [
        Command(_ocitui(facts, "repair"), "see the plan"),
        Command(_ocitui(facts, "repair", "--apply"), f"{how}; `ocitui undo` takes it back"),
    ]


_START = Command("systemctl start kratad", "it reads the mended index")
_START_ON_SOUND = Command("systemctl start kratad", "the index is sound")


def _mended(facts: TimelineFacts, *afterwards: Command) -> list[Command]:
    return [*_mend(facts), *afterwards, Command(_ocitui(facts, "check"), "see that all is well")]


def _ocitui(facts: TimelineFacts, command: str, *options: str) -> str:
    here = () if facts.directory == DEFAULT_DIRECTORY else ("-C", str(facts.directory))
    return shlex.join(["ocitui", command, *here, *options])


# What to do comes first: where there is no room, the reason is cut.
HEADLINES = {
    Case.IN_STEP: "",
    Case.MEMORY_GOOD: "do not restart kratad: its memory is good; mend now, then have it store",
    Case.MEMORY_EMPTIED: "stop kratad, mend the index, start it: it has lost the entries too",
    Case.HUNG: "mend the index, then restart kratad: it answers no more",
    Case.STOPPED: "mend the index before kratad is started",
}
_PROCEDURES: dict[Case, Callable[[TimelineFacts], Procedure]] = {
    Case.IN_STEP: lambda facts: ([], []),
    Case.MEMORY_GOOD: _memory_good,
    Case.MEMORY_EMPTIED: _memory_emptied,
    Case.HUNG: _hung,
    Case.STOPPED: _start,
}
