"""Findings that somebody has seen and accepted: they stay so until they change.

`.ocitui/acknowledged.json` has the fingerprint of each, and who accepted it, when; `told` beside it has those of what
was told last, a line each, for a shell that completes one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from time import time

import msgspec

from ocitui.cache import (
    OWN_NAME,
    CacheError,
    ConflictError,
    Disk,
    StorageError,
    open_own_folder,
    storage_errors,
    taking_turns,
    whoami,
)

from .findings import Finding

ACKNOWLEDGED_NAME = "acknowledged.json"
_VERSION = 2
"""2 since the file says its version; a list alone is of 1."""
_DRAFT = "acknowledged.temporary"
TOLD_NAME, _TOLD_DRAFT = "told", "told.temporary"
_MOST_TOLD, _TOLD = 1000, re.compile(r"[0-9a-f]{16}")
_LOCK = "acknowledged.lock"
_MOST_BYTES, _LATEST = 64 << 20, 1 << 33


class Acknowledgement(msgspec.Struct, frozen=True):
    """``when`` is in seconds since the epoch."""

    fingerprint: str
    code: str
    file: str
    seen: str
    by: str
    when: float


class _Acknowledgements(msgspec.Struct):
    acknowledged: list[Acknowledgement] = []
    version: int = _VERSION


_decode = msgspec.json.Decoder(_Acknowledgements | list[Acknowledgement]).decode


def load_acknowledged(directory: Path) -> dict[str, Acknowledgement]:
    """By fingerprint; none where there is no such file. Raises StorageError where it cannot be read."""
    try:
        with open_own_folder(directory) as own:
            data = own.read(ACKNOWLEDGED_NAME, _MOST_BYTES)
        return _decoded(data)
    except (FileNotFoundError, ConflictError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StorageError(
            f"{directory / OWN_NAME / ACKNOWLEDGED_NAME} cannot be read: {reason}",
            hint="every finding is shown; remove the file to acknowledge anew",
        ) from error


def _decoded(data: bytes) -> dict[str, Acknowledgement]:
    """Raises ValueError, RecursionError."""
    found = _decode(data)
    if isinstance(found, list):
        found = _Acknowledgements(found)
    if found.version > _VERSION:
        raise ValueError(f"it is of version {found.version}, of a later ocitui")
    if not all(0 <= one.when < _LATEST for one in found.acknowledged):
        raise ValueError("a time in it is out of range")
    return {one.fingerprint: one for one in found.acknowledged}


def acknowledge(directory: Path, findings: Iterable[Finding]) -> None:
    """Accept these findings. Raises ReadOnlyError, StorageError, LockedError, ConflictError."""
    by, when = whoami(), time()
    accepted = (Acknowledgement(one.fingerprint, one.code, one.file, one.seen, by, when) for one in findings)
    _change(directory, accepted, ())


def withdraw(directory: Path, fingerprints: Collection[str]) -> None:
    """Have these findings shown again. Raises ReadOnlyError, StorageError, LockedError, ConflictError."""
    _change(directory, (), fingerprints)


def _change(directory: Path, accepted: Iterable[Acknowledgement], withdrawn: Collection[str]) -> None:
    disk = Disk()
    with (
        storage_errors("acknowledge findings"),
        open_own_folder(directory, making=disk) as own,
        taking_turns(own, disk, _LOCK),
    ):
        records = load_acknowledged(directory) | {one.fingerprint: one for one in accepted}
        kept = [record for fingerprint, record in records.items() if fingerprint not in withdrawn]
        data = msgspec.json.format(msgspec.json.encode(_Acknowledgements(kept)), indent=1)
        disk.rewrite(own, _DRAFT, ACKNOWLEDGED_NAME, data, own.file_mode)


def remember_told(directory: Path, findings: Iterable[Finding]) -> None:
    """Keep the fingerprints of what was told, of a thousand at the most; where there is no room for them, do not."""
    told = [one.fingerprint for one in islice((one for one in findings if one.is_problem), _MOST_TOLD)]
    disk = Disk()
    with suppress(CacheError, OSError):
        if told == told_last(directory):
            return
        with open_own_folder(directory, making=disk) as own, taking_turns(own, disk, _LOCK):
            disk.rewrite(own, _TOLD_DRAFT, TOLD_NAME, "".join(f"{one}\n" for one in told).encode(), own.file_mode)


def told_last(directory: Path) -> list[str]:
    """The fingerprints of the findings that were told last. Raises OSError, ConflictError."""
    try:
        with open_own_folder(directory) as own:
            lines = own.read(TOLD_NAME, 1 << 16).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if _TOLD.fullmatch(line)]


class Accepted:
    """The findings of one cache that were acknowledged; `refresh` keeps them up to date."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.problem = ""
        self._fingerprints: frozenset[str] = frozenset()
        self._about: frozenset[tuple[str, str]] = frozenset()

    def refresh(self) -> None:
        """Read them; what cannot be read leaves them as they were, and ``problem`` says why."""
        try:
            records, self.problem = load_acknowledged(self._directory), ""
        except StorageError as error:
            self.problem = error.message
            return
        self._fingerprints = frozenset(records)
        self._about = frozenset((one.code, one.file) for one in records.values())

    def mark(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Each finding, marked where it was acknowledged."""
        if not self._fingerprints:
            return tuple(findings)
        return tuple(msgspec.structs.replace(one, acknowledged=True) if self._accepts(one) else one for one in findings)

    def _accepts(self, one: Finding) -> bool:
        # A fingerprint is dear: it is worked out only where it may be one of these.
        return (one.code, one.file) in self._about and one.fingerprint in self._fingerprints
