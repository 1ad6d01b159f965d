"""Histories of a cache, its daemon and all who write to it, and which copy of the index is good at the end of one.

The daemon is a process (`tests.kratad`), ocitui writes through `PackerCache` and its repairs, and somebody damages the
index. Time passes by a clock of ours: it is what backups are dated by, and the times of index.json and of the daemon's
start, which are given to a grain, as a file system and /proc give them. What the daemon has in memory it says itself.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from ocitui.cache import (
    CacheError,
    ImageIndex,
    ImageName,
    Key,
    PackedFormat,
    PackerCache,
    TransactionKind,
    all_changes,
    examine_index,
    list_backups,
    read_backup,
)
from ocitui.doctor import keep_index
from ocitui.doctor.assessment import Assessment, Case, assess, gather
from ocitui.doctor.findings import Depth
from ocitui.doctor.repair.plan import apply_plan, plan_repair
from ocitui.doctor.repair.steps import RepairOptions
from ocitui.host import START_SECONDS
from ocitui.host.zones import read_zones
from tests.cache.support import documents, entry, make_image
from tests.doctor.examine_support import found
from tests.host.test_redb import database
from tests.kratad import Kratad, index_bytes

IMAGES, TAR, EMPTY_TAR = range(8), PackedFormat.TAR, bytes(1024)
# Later than it is, so that what stands there by the true time was there before.
BOOT, TICKS = 4_000_000_000.0, os.sysconf("SC_CLK_TCK")
PAUSES = (0, 0, 0.004, 0.4, 1.5, 4.0, 30.0, 3600.0)
# What somebody does to the index; the last as often again.
WAYS = ("cut", "truncated", "zeros", "no UTF-8", "of another type", "removed", "emptied as the daemon does", "emptied")
_MENDS = ("repair", "adopt", "restore", "reset")


def keys_of(index: ImageIndex) -> set[Key]:
    return {*zip(index.digests, index.formats, strict=True)}


class Host(AbstractContextManager["Host"]):
    """A cache, and all that happens to it. ``wanted`` are the entries that a daemon or the operator brought in and the
    operator did not take out. ``beside`` are those that he put in beside the daemon that runs, and ``mended`` those
    that a repair did, which are not in its memory; ``overwritten`` and ``unmended`` were such, and are gone by a store
    of a daemon. ``returned`` are entries that he took out and a store brought back. ``noted`` are those that ocitui put
    in, or saw when it looked, and did not take out. ``story`` is for who reads why a history failed. One that is
    ``watched`` is looked at after each step, and goes by slowly."""

    def __init__(self, folder: Path, random: Random, patch: pytest.MonkeyPatch, *, watched: bool = False) -> None:
        self.random, self._patch, self._watched = random, patch, watched
        self.home, self.proc, self.source = folder / "krata", folder / "proc", folder / "source"
        self.directory = self.home / "cache" / "image"
        for path in (self.directory, self.proc, self.source):
            path.mkdir(parents=True)
        self.index = self.directory / "index.json"
        self.now, self._boot = BOOT + random.uniform(1e5, 1e6), BOOT + random.random()
        (self.home / "krata.db").write_bytes(database("01-empty"))
        (self.proc / "stat").write_text(f"btime {int(self._boot)}\n")
        self._grain_ns = random.choice([1, 4_000_000, 1_000_000_000, 2_000_000_000])
        self.daemon: Kratad | None = None
        self.is_hung = False
        self.wanted, self.beside, self.mended = set[Key](), set[Key](), set[Key]()
        self.overwritten, self.unmended, self.returned = set[Key](), set[Key](), set[Key]()
        self.noted = set[Key]()
        self.story = list[str]()
        self._started = 0.0
        self._stack, self._dated = ExitStack(), dict[str, tuple[int, int]]()
        patch.setattr(time, "time", lambda: self.now)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def step(self, name: str, *details: str) -> None:
        """Make a step, of a name that a method here has, and let time pass."""
        said = await getattr(self, name)(*details)
        self._date()
        for put in (self.beside, self.mended):
            put &= self.wanted - self.memory
        for gone in (self.overwritten, self.unmended):
            gone -= self.memory | (self.on_disk or set())
        self.returned -= self.wanted
        self.story.append(f"{self.now - BOOT:.3f} {said or name}")
        self.now += self.random.choice(PAUSES[-2:] if self._watched else PAUSES)
        if self._watched:
            await self.look()
            self.now += PAUSES[-2]

    def _date(self, *names: str) -> None:
        """Give files the time of now that were written, the index among them."""
        at = int(self.now * 1e9) // self._grain_ns * self._grain_ns
        for name in (self.index.name, *names):
            with suppress(FileNotFoundError):
                there = os.stat(self.directory / name)
                if (there.st_ino, there.st_mtime_ns) != self._dated.get(name):
                    os.utime(self.directory / name, ns=(at, at))
                    self._dated[name] = there.st_ino, at

    # What is so

    @property
    def memory(self) -> set[Key]:
        return self.daemon.keys if self.daemon is not None else set()

    @property
    def on_disk(self) -> set[Key] | None:
        """The entries of the index; None where the daemon would not load it."""
        index = examine_index(self.index.read_bytes() if self.index.exists() else None)[1]
        return keys_of(index) if index is not None else None

    def known(self) -> set[Key]:
        """The entries of which the index, a backup or the journal has the name."""
        known = self.on_disk or set()
        for backup in list_backups(self.directory):
            known |= keys_of(ImageIndex.parse(read_backup(self.directory, backup)))
        for one in all_changes(self.directory):
            known |= {recorded.descriptor.key for recorded in (*one.removed, *one.added)}
        return known

    def right(self, *, asked: bool = True) -> set[Case]:
        """The cases that may be told without being unsure. Of a daemon that runs, and answers or was not ``asked``, by
        what the disk lost:

        - IN_STEP: nothing but what was put in beside the daemon, and the index loads;
        - MEMORY_GOOD: something that the memory has, which lacks nothing but what was put in beside it;
        - MEMORY_EMPTIED: something that the memory lacks too, and to stop the daemon costs no name.

        What was taken out and brought back may be missed or not.
        """
        if self.daemon is None:
            return {Case.STOPPED}
        if self.is_hung and asked:
            return {Case.HUNG}
        disk = self.on_disk or set()
        return self._right(self.wanted - disk) | self._right((self.wanted | self.returned) - disk)

    def _right(self, lost: set[Key]) -> set[Case]:
        cases, loads, beside = set[Case](), self.on_disk is not None, self.beside | self.overwritten
        lacks = lost - beside - self.memory
        if loads and lost <= beside | self.unmended:
            cases.add(Case.IN_STEP)
        if (lost & self.memory or not (loads or lost)) and not lacks:
            cases.add(Case.MEMORY_GOOD)
        if (lacks or (lost and not lost & self.memory)) and not lost & self.memory - self.known():
            cases.add(Case.MEMORY_EMPTIED)
        return cases

    def judge(self, *, asked: bool = True) -> Assessment:
        """What ocitui says, when the operator has seen whether the daemon answers, or not."""
        answers: bool | None = None
        if self.daemon is not None and asked:
            # One that hangs never answers, however long it is given.
            self._patch.setattr("ocitui.host.zones._ASK_SECONDS", 0.01 if self.is_hung else 60.0)
            said = read_zones(self.directory).daemon
            assert said == ("silent" if self.is_hung else "equal")
            answers = said == "equal"
        return assess(gather(self.directory, answers=answers, proc=self.proc))

    # What the daemon does

    async def start(self) -> str:
        """It reads the index a moment after its process began."""
        if self.daemon is not None:
            return await self.look()
        self._started = began = self.now
        self.now += self.random.choice([0.02, 0.02, 0.5, 2.5])
        daemon = self._stack.enter_context(Kratad(self.home, self.proc))
        if not daemon.runs:
            return "start: it does not"
        self.daemon, stat = daemon, daemon.folder / "stat"
        stat.unlink()
        fields = " ".join(["S", *["0"] * 18, str(int((began - self._boot) * TICKS)), "0"])
        stat.write_text(f"{daemon.pid} (kratad) {fields}\n")
        self.beside.clear()
        self.mended.clear()
        return f"start: {daemon.steps['index']} {len(daemon.keys)}"

    async def start_second(self) -> str:
        """Another one, which reads the index before it meets the lock."""
        if self.daemon is None:
            return await self.start()
        with Kratad(self.home, self.proc) as second:
            assert not second.runs
            return f"start a second: {second.steps['index']}"

    async def store(self) -> str:
        if self.daemon is None:
            return await self.take_in()
        label, name = self._any_image()
        manifest, config = documents(label)
        packed = self.source / "packed"
        packed.write_bytes(EMPTY_TAR)
        descriptor = {key: entry(int(label))[key] for key in ("mediaType", "digest", "size")}
        told = {"name": str(name), "reference": name.reference, "format": TAR.value, "packed": str(packed)}
        documents_ = {"manifest": manifest.decode(), "config": config.decode()}
        before = self.on_disk or set()
        self.daemon.store({**told, **documents_, "descriptor": descriptor})
        self.wanted.add((descriptor["digest"], TAR))
        self.overwritten |= self.beside & before - self.memory
        self.unmended |= self.mended & before - self.memory
        self.returned |= self.memory - self.wanted
        self._date(*(f"{descriptor['digest']}.{suffix}" for suffix in ("manifest.json", "config.json", TAR)))
        return f"store {label}: it has {len(self.daemon.keys)}"

    async def end(self) -> str:
        if self.daemon is None:
            return await self.look()
        self.daemon.end(self.random.choice([signal.SIGKILL, signal.SIGTERM]))
        self.daemon, self.is_hung = None, False
        return ""

    async def hang(self) -> str:
        if self.daemon is None or self.is_hung:
            return ""
        self.is_hung = True
        if self.random.random() < 0.3:
            self.daemon.stop()
            return "its process is stopped"
        self.daemon.hang()
        return ""

    # What ocitui does

    async def take_in(self) -> str:
        label, name = self._any_image()
        image = make_image(self.source / "packed", label, name=str(name), format=TAR, content=EMPTY_TAR)
        try:
            await PackerCache(self.directory).store(image, kind=TransactionKind.IMPORT)
        except CacheError as error:
            (self.source / "packed").unlink(missing_ok=True)
            return f"take in {label}: not, {error}"
        self._edited({(image.digest, TAR)}, set())
        return f"take in {label}"

    async def delete(self) -> str:
        keys = sorted(self.on_disk or ())
        chosen = self.random.sample(keys, min(len(keys), self.random.choice([1, 1, 2])))
        if not chosen:
            return ""
        await PackerCache(self.directory).delete(chosen)
        self._edited(set(), set(chosen))
        return f"delete {', '.join(map(self._label, chosen))}"

    async def undo(self) -> str:
        """What a repair brought is lost again when it is undone: it is wanted all the same."""
        cache = PackerCache(self.directory)
        try:
            target = await cache.undo_target()
            done = await cache.undo()
        except CacheError as error:
            return f"undo: not, {error}"
        added = {one.descriptor.key for one in done.added}
        if target.kind not in _MENDS:
            self._edited(added, {(digest, format_) for digest, format_, _ in done.taken_out} - added)
        else:
            self.mended |= added
        return f"undo the {target.kind}"

    async def move_name(self) -> str:
        """Have a name stand for another of its digests."""
        cache, keys = PackerCache(self.directory), sorted(self.on_disk or ())
        if not keys:
            return ""
        index = await cache.index()
        at = self.random.randrange(len(index))
        try:
            await cache.point(await cache.plan_point(ImageName.parse(index.names[at] or ""), index.digests[at]))
        except CacheError as error:
            return f"move a name: not, {error}"
        return f"move {index.names[at]}"

    async def repair(self) -> str:
        """As the command does, who keeps what it sees first; where it would not last some do it all the same."""
        await self.look()
        before = self.on_disk or set()
        report = await found(self.directory, Depth.HEADER)
        assessment = assess(gather(self.directory, proc=self.proc, judge=report.judge))
        options = RepairOptions(even_if_futile=self.random.random() < 0.5)
        cache = PackerCache(self.directory)
        plan = await plan_repair(cache, report, options, assessment)
        await apply_plan(cache, replace(plan, depth=Depth.HEADER))
        now = self.on_disk or set()
        self.mended |= now - before
        self.returned -= before - now
        return f"repair: {assessment.case} {assessment.confidence}, {len(plan.made)} steps"

    async def look(self) -> str:
        keep_index(self.directory, self.proc)
        self.noted |= self.on_disk or set()
        return ""

    def _any_image(self) -> tuple[str, ImageName]:
        return str(self.random.choice(IMAGES)), ImageName.parse(self.random.choice(("web:1", "web:2", "db:1")))

    def _edited(self, added: set[Key], removed: set[Key]) -> None:
        self.wanted = self.wanted - removed | added
        self.noted = self.noted - removed | added
        self.beside |= added
        self.mended -= added
        self.returned -= removed

    # What somebody does

    async def damage(self, way: str = "") -> str:
        """Corrupt, cut, empty or remove the index, in one of these ways or any."""
        ways = [*WAYS, WAYS[-1]]
        if self.daemon is not None and self.now < self._started + START_SECONDS:
            # Nobody else has reason to in these seconds; what the daemon does looks the same to the byte.
            ways.remove("emptied as the daemon does")
        way = way or self.random.choice(ways)
        data = self.index.read_bytes() if self.index.exists() else b""
        if way == "removed":
            self.index.unlink(missing_ok=True)
            return f"somebody: {way}"
        put = {
            "cut": data[: self.random.randrange(1, max(2, len(data) - 2))],
            "truncated": b"",
            "zeros": bytes(len(data)),
            "no UTF-8": data.replace(b"sha256", b"sha\xff56", 1) + b"\xff",
            "of another type": b'{"schemaVersion": 2, "manifests": null}\n',
            "emptied as the daemon does": index_bytes([]),
            "emptied": b'{"schemaVersion":2,"manifests":[]}',
        }
        self.index.write_bytes(put[way])
        return f"somebody: {way}"

    def __str__(self) -> str:
        names = ("wanted", "beside", "mended", "overwritten", "unmended", "returned")
        sets = {name: getattr(self, name) for name in names}
        sets |= {"memory": self.memory, "on disk": self.on_disk or set(), "known": self.known()}
        return "\n".join([*self.story, *(f"{what}: {sorted(map(self._label, keys))}" for what, keys in sets.items())])

    @staticmethod
    def _label(key: Key) -> str:
        return next(str(number) for number in IMAGES if entry(number)["digest"] == key[0])
