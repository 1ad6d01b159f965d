"""Everything of one digest's packed files: their hashes against the ledger, read through, and against each other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from ocitui.cache import DocumentError, FileKind, ImageConfiguration
from ocitui.cache.files import config_name
from ocitui.importing.threads import Stop

from .catalogue import CATALOGUE
from .entry_checks import PackedFile
from .fast_documents import read_config
from .file_checks import unreadable
from .files import CacheFiles
from .findings import Depth, Finding
from .ledger import Ledger, Recorded
from .pacing import Brake, Meter
from .read_through import ReadThrough
from .reading import hash_file, hash_past_cache
from .report import Reach
from .tools import ToolOptions
from .trees import Tree, has_program, lacking

_PATHS_SHOWN = 3


@dataclass(slots=True)
class Reading:
    """One packed file's deep check so far."""

    file: PackedFile
    findings: list[Finding]
    stat: os.stat_result | None = None
    sha256: str = ""
    known: Recorded | None = None
    tree: Tree | None = None
    read_through: bool = False
    earlier: bool = False

    @property
    def sound(self) -> bool:
        return self.stat is not None and bool(self.sha256) and not self.findings

    @property
    def reach(self) -> Reach:
        if self.earlier:
            return Reach(Depth.HEADER, earlier=True)
        hashed = bool(self.sha256) and self.known is not None
        deep = hashed or self.read_through
        return Reach(
            Depth.DEEP if deep else Depth.HEADER,
            hashed=hashed,
            read_through=self.read_through,
            first_seen=self.sound and self.known is None,
        )


class DeepChecks:
    """Checks digest after digest, from several threads; ``note`` is told what could not be checked, and why."""

    def __init__(
        self,
        files: CacheFiles,
        ledger: Ledger,
        stop: Stop,
        meter: Meter,
        brake: Brake,
        note: Callable[[str, str], object],
        tools: ToolOptions | None = None,
        older_than: float | None = None,
    ) -> None:
        self._files, self._ledger, self._stop, self._meter, self._brake = files, ledger, stop, meter, brake
        self._note, self._tools, self._older_than = note, tools or ToolOptions(), older_than

    def run(self, group: Sequence[PackedFile]) -> list[Reading]:
        """Check the packed files of one digest. Raises AbandonedError when the work is to end."""
        readings = [self._read(file) for file in group]
        self._read_for_comparison(readings)
        self._compare([one for one in readings if not one.earlier])
        for reading in readings:
            if reading.sound and reading.stat is not None:
                self._record(reading, reading.stat)
        return readings

    def _read(self, file: PackedFile) -> Reading:
        reading = Reading(file, [])
        try:
            with self._files.open(file.name) as opened:
                reading.stat = os.fstat(opened.fileno())
                reading.known = self._ledger.look(file.name)
                if self._is_fresh(reading):
                    reading.earlier = True
                    self._meter.add(bytes=file.size, read=False)
                else:
                    self._hash(reading, opened)
                    self._read_through(reading, opened)
        except OSError as error:
            reading.findings.append(unreadable(error, file.name, FileKind.PACKED, file.at))
        return reading

    def _read_for_comparison(self, readings: Sequence[Reading]) -> None:
        """Read through once more what was passed over, where another format of the image has a tree to compare with."""
        if all(reading.tree is None for reading in readings):
            return
        for reading in readings:
            if reading.read_through and reading.tree is None and reading.sound:
                try:
                    with self._files.open(reading.file.name) as opened:
                        reading.tree = ReadThrough(opened, reading.file.format, self._tools, self._stop).run().tree
                except OSError as error:
                    file = reading.file
                    reading.findings.append(unreadable(error, file.name, FileKind.PACKED, file.at))

    def _is_fresh(self, reading: Reading) -> bool:
        """Whether it was found sound so shortly before, and not written since, that it is passed over."""
        known, found = reading.known, reading.stat
        if self._older_than is None or known is None or found is None:
            return False
        return known.same_file(found) and 0 <= time.time() - known.checked < self._older_than

    def _hash(self, reading: Reading, opened: BinaryIO) -> None:
        sha256 = hash_file(opened, self._passed)
        after = os.fstat(opened.fileno())
        if reading.stat is None or _moment(after) != _moment(reading.stat):
            reading.stat = None
            self._note("it was written while it was read", reading.file.name)
            return
        reading.sha256 = sha256
        if reading.known is not None and sha256 != reading.known.sha256:
            self._differs(reading, reading.known, after)

    def _differs(self, reading: Reading, known: Recorded, found: os.stat_result) -> None:
        file, since = reading.file, f"{datetime.fromtimestamp(known.checked, UTC):%Y-%m-%d %H:%M:%SZ}"
        code, seen = "packed-changed", "it was written since"
        if known.same_file(found):
            code, seen = "packed-damaged", "its size and time are still the same"
            reading.sha256 = hash_past_cache(file.name, self._files.fd, self._brake.take)
            if reading.sha256 == known.sha256:
                self._note("it was read wrongly once, and rightly from the disk: see to the memory", file.name)
                return
        seen = f"its sha256 is {reading.sha256}, and was {known.sha256} on {since}; {seen}"
        reading.findings.append(CATALOGUE[code].finding(seen, file=file.name, kind=FileKind.PACKED, **file.at))

    def _passed(self, size: int) -> None:
        self._brake.take(size)
        self._meter.add(bytes=size)

    def _read_through(self, reading: Reading, opened: BinaryIO) -> None:
        """By the format's tool, unless the same bytes were read through before."""
        known, file = reading.known, reading.file
        if reading.findings or not reading.sha256:
            return
        if known is not None and known.read_through and known.whole:
            reading.read_through = True
            return
        through = ReadThrough(opened, file.format, self._tools, self._stop).run()
        reading.tree = through.tree
        if through.unchecked:
            self._note(f"not read through: {through.unchecked}", file.name)
        if through.problem:
            seen = f"reading it through failed: {through.problem}"
            fault = CATALOGUE["packed-damaged"]
            reading.findings.append(fault.finding(seen, file=file.name, kind=FileKind.PACKED, **file.at))
        reading.read_through = not through.unchecked

    def _compare(self, readings: Sequence[Reading]) -> None:
        """What one format holds and another lacks; and the program of the image, where it must be in the tree."""
        trees = [(one, one.tree) for one in readings if one.tree is not None and not one.findings]
        for reading, tree in trees:
            for other, other_tree in trees:
                missing = lacking(tree, other_tree) if other is not reading else []
                if missing:
                    self._incomplete(reading, f"it lacks {_listed(missing)}, which the {other.file.format} holds")
                    break
        for reading, tree in trees:
            program = self._program(reading.file.digest) if not reading.findings else ""
            if program and has_program(tree, program.encode()) is False:
                self._incomplete(reading, f"it lacks {program}, which the image is to run")

    @staticmethod
    def _incomplete(reading: Reading, seen: str) -> None:
        file, fault = reading.file, CATALOGUE["packed-incomplete"]
        reading.findings.append(fault.finding(seen, file=file.name, kind=FileKind.PACKED, **file.at))

    def _program(self, digest: str) -> str:
        """The absolute path of what the image runs; empty where it is not known, or looked for in $PATH."""
        name = config_name(digest)
        try:
            config: ImageConfiguration = read_config(self._files.read(name, self._files.lstat(name).st_size))
        except (OSError, DocumentError):
            return ""
        run = config.config
        command = (run.entrypoint or run.cmd or []) if run else []
        return command[0] if command and command[0].startswith("/") else ""

    def _record(self, reading: Reading, found: os.stat_result) -> None:
        known = reading.known
        whole = reading.tree is not None or (known is not None and known.whole)
        self._ledger.record(reading.file.name, found, reading.sha256, read_through=reading.read_through, whole=whole)


def _moment(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _listed(paths: list[bytes]) -> str:
    shown = ", ".join(ascii(path.decode("utf-8", "surrogateescape"))[1:-1] for path in paths[:_PATHS_SHOWN])
    return shown + (f" and {len(paths) - _PATHS_SHOWN} more" if len(paths) > _PATHS_SHOWN else "")
