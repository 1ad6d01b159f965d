"""Findings that somebody has seen and accepted: they stay so until they change.

`.ocitui/acknowledged.json` holds their fingerprints, each with who accepted it, when, and what it said then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from time import time

import msgspec

from ocitui.cache import StorageError
from ocitui.cache.disk import Disk, Folder, storage_errors
from ocitui.cache.files import OWN_NAME
from ocitui.cache.lock import whoami
from ocitui.cache.workspace import own_folder, taking_turns

from .findings import Finding

ACKNOWLEDGED_NAME = "acknowledged.json"
_DRAFT = "acknowledged.temporary"
_LOCK = "acknowledged.lock"


class Acknowledgement(msgspec.Struct, frozen=True):
    """``when`` is in seconds since the epoch."""

    fingerprint: str
    code: str
    file: str
    seen: str
    by: str
    when: float


_decode_all = msgspec.json.Decoder(list[Acknowledgement]).decode


def load_acknowledged(directory: Path) -> dict[str, Acknowledgement]:
    """By fingerprint; none where there is no such file. Raises StorageError where it cannot be read."""
    path = directory / OWN_NAME / ACKNOWLEDGED_NAME
    try:
        data = path.read_bytes()
        records = _decode_all(data)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StorageError(
            f"{path} cannot be read: {reason}", hint="every finding is shown; remove the file to acknowledge anew"
        ) from error
    return {record.fingerprint: record for record in records}


def acknowledge(directory: Path, findings: Iterable[Finding]) -> None:
    """Accept these findings. Raises ReadOnlyError, StorageError."""
    by, when = whoami(), time()
    accepted = {
        one.fingerprint: Acknowledgement(one.fingerprint, one.code, one.file, one.seen, by, when) for one in findings
    }
    _change(directory, accepted, ())


def withdraw(directory: Path, fingerprints: Collection[str]) -> None:
    """Have these findings shown again. Raises ReadOnlyError, StorageError."""
    _change(directory, {}, fingerprints)


def _change(directory: Path, accepted: dict[str, Acknowledgement], withdrawn: Collection[str]) -> None:
    with storage_errors("acknowledge findings"), own_folder(directory) as own, taking_turns(own, _LOCK):
        records = {**load_acknowledged(directory), **accepted}
        kept = [record for fingerprint, record in records.items() if fingerprint not in withdrawn]
        _write(own, msgspec.json.format(msgspec.json.encode(kept), indent=1))


def _write(own: Folder, data: bytes) -> None:
    disk = Disk()
    disk.unlink(own, _DRAFT)
    disk.write_new(own, _DRAFT, data)
    disk.replace(own, _DRAFT, own, ACKNOWLEDGED_NAME)
    disk.sync_folder(own)


class Accepted:
    """The findings of one cache that were acknowledged; `refresh` keeps them up to date."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.problem = ""
        self._fingerprints: frozenset[str] = frozenset()
        self._about: frozenset[tuple[str, str]] = frozenset()

    def refresh(self) -> bool:
        """Read them; gives whether they are others than before. What cannot be read leaves them as they were."""
        try:
            records = load_acknowledged(self._directory)
        except StorageError as error:
            self.problem = error.message
            return False
        before, self.problem = self._fingerprints, ""
        self._fingerprints = frozenset(records)
        self._about = frozenset((one.code, one.file) for one in records.values())
        return before != self._fingerprints

    def mark(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Each finding, marked where it was acknowledged."""
        if not self._fingerprints:
            return tuple(findings)
        return tuple(msgspec.structs.replace(one, acknowledged=True) if self._accepts(one) else one for one in findings)

    def _accepts(self, one: Finding) -> bool:
        # A fingerprint is dear: it is worked out only where it may be one of these.
        return (one.code, one.file) in self._about and one.fingerprint in self._fingerprints
