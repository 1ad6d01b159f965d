"""Packed files that are deleted and still held by a loop device: read back, bit for bit."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ..loop_devices import LoopUse
from ..restore import Copy, WantedFile
from .steps import FetchKind

Users = Mapping[str, Sequence[LoopUse]]
"""The loop devices that hold files of the cache, by the file's name."""
_CHUNK = 1 << 20


class DeviceShelf:
    """What a guest still has for its disk, though the cache has it no more."""

    label = "a loop device"

    def __init__(self, users: Users) -> None:
        self._users = users

    async def find(self, wanted: WantedFile) -> Copy | None:
        return await asyncio.to_thread(self._find, wanted) if wanted.name in self._users else None

    async def close(self) -> None:
        """Nothing is held open."""

    def _find(self, wanted: WantedFile) -> Copy | None:
        for use in self._users.get(wanted.name, ()):
            if use.deleted and not use.partial and wanted.format is not None and use.readable_size:
                with suppress(OSError):
                    sha256 = _good(use, wanted)
                    if sha256 is not None:
                        return Copy(
                            f"{use.device}, which still holds the deleted file",
                            use.readable_size,
                            fetch=FetchKind.DEVICE,
                            origin=str(use.device),
                            sha256=sha256,
                        )
        return None


def _good(use: LoopUse, wanted: WantedFile) -> str | None:
    """The sha256 of what the device holds, where that is the file or nobody can tell; None where it is another.

    Whether it is whole by its headers is seen once it was read back: a device has no size of its own.
    """
    wants = wanted.content.removeprefix("sha256:")
    if not wants and wanted.strictly:
        return None
    hashed = _sha256(use)
    return hashed if wants in ("", hashed) else None


def _sha256(use: LoopUse) -> str:
    hashed, left = hashlib.sha256(), use.readable_size
    with open(os.open(use.device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as device:
        while left and (chunk := device.read(min(_CHUNK, left))):
            hashed.update(chunk)
            left -= len(chunk)
    return hashed.hexdigest()
