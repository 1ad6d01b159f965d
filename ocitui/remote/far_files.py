"""Files of another host's cache, read as they are there: in pieces, several at once over one connection.

`sender` sends them. What came is of a file that stayed as it was all the while, as far as its stat tells; whether these
are the right bytes is for who asks to see, by a digest.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from ocitui.threads import settled

from .ssh import Connection, Patience, RemoteError, SshPlace, program_of

Take = Callable[[bytes], Awaitable[object]]
_SENDER = Path(__file__).with_name("sender.py")
_PIECE, _AT_ONCE = 1 << 18, 4  # Each is to be whole within a connection's patience, on a line of 10 KB a second too.
_SIGN = 1024  # pieces that are hashed between two signs of life
_SHA256 = re.compile(rb"[0-9a-f]{64}").fullmatch
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class FarFileError(RemoteError):
    """A file that is not there, cannot be read, or did not stay as it was."""

    code = "far-file"
    default_hint = "nothing of it counts; try again once nothing writes to it, or see what ocitui check says there"


class _Told(msgspec.Struct):
    """What has a name: device, inode, size, and when it was written; or the error of opening or reading it."""

    file: tuple[_Number, _Number, _Number, int] | None = None
    regular: bool = False
    failed: Annotated[int, msgspec.Meta(ge=0, lt=4096)] = 0


# Read before there are threads.
_TOLD = msgspec.json.Decoder(_Told)


class _FarFile:
    """A file of a size, or of that which is told first, by what is told of it time and again."""

    def __init__(self, place: SshPlace, name: str, size: int = -1) -> None:
        self.name, self.size, self._what = name, size, f"{name} on {place.name}"
        self._seen: tuple[int, ...] | None = None

    def look(self, record: bytes) -> None:
        """Raises FarFileError where that tells of no such file, or of another than before."""
        try:
            told = _TOLD.decode(record)
        except msgspec.MsgspecError:
            raise self.changed() from None
        if told.failed:
            raise FarFileError(f"{self._what} cannot be read: {os.strerror(told.failed)}")
        if not told.regular or told.file is None:
            raise FarFileError(f"{self._what} is not a regular file")
        self.size = told.file[2] if self.size < 0 else self.size
        if told.file[2] != self.size or self._seen not in (None, told.file):
            raise self.changed()
        self._seen = told.file

    def changed(self) -> FarFileError:
        return FarFileError(f"{self._what} was replaced or written to, or does not come as it was told of")


class FarFiles:
    """The files of the cache at a place; within `async with` all that is asked goes over one connection."""

    def __init__(self, place: SshPlace, *, sudo: bool = False, patience: Patience | None = None) -> None:
        self.place, self._sudo = place, sudo
        self._connection = Connection(place, patience=patience or Patience(), shared=True)

    async def __aenter__(self) -> FarFiles:
        await self._connection.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.__aexit__()

    async def fetch(self, name: str, size: int, take: Take, start: int = 0) -> None:
        """Give the bytes of a file of this size, from ``start`` on and in their order, to ``take``. Raises FarFileError
        where it is another or becomes one meanwhile, RemoteError, and what ``take`` raises."""
        file, pieces = _FarFile(self.place, name, size), -(-(size - start) // _PIECE)
        count = max(1, min(_AT_ONCE, pieces))
        channels = [self._pieces(file, start + number * _PIECE, count * _PIECE) for number in range(count)]
        coming = [asyncio.ensure_future(anext(channel, b"")) for channel in channels]
        try:
            for number in range(pieces):
                piece, at = await coming[number % count], number % count
                coming[at] = asyncio.ensure_future(anext(channels[at], b""))
                await take(piece)
            # Nothing more comes but that it is still what it was.
            await asyncio.gather(*coming)
        finally:
            for one in coming:
                one.cancel()
            await settled(asyncio.gather(*coming, return_exceptions=True))
            await settled(asyncio.gather(*(channel.aclose() for channel in channels)))

    async def read(self, name: str, size: int) -> bytes:
        """All of a small file. Raises as `fetch`."""
        came = bytearray()

        async def take(piece: bytes) -> None:
            came.extend(piece)

        await self.fetch(name, size, take)
        return bytes(came)

    async def glance(self, name: str, most: int) -> bytes:
        """A file of at most so many bytes, over a master of the operator's that is open already. Raises as `fetch`."""
        await self._connection.borrow()
        file, came = _FarFile(self.place, name), bytearray()
        async for piece in self._pieces(file, 0, _PIECE):
            came += piece
            if file.size > most:
                raise FarFileError(f"{name} on {self.place.name} is too large")
        return bytes(came)

    async def sha256(self, name: str, size: int) -> str:
        """That of a file, as its host works it out. Raises as `fetch`."""
        file = _FarFile(self.place, name, size)
        async with self._asked(file, 0, _PIECE, hashes=_SIGN) as records:
            for _ in range(-(-size // _PIECE) // _SIGN):
                await anext(records, b"")
            if not _SHA256(digest := await anext(records, b"")):
                file.look(digest)
                raise file.changed()
            await _ended(file, records)
        return digest.decode()

    async def _pieces(self, file: _FarFile, start: int, step: int) -> AsyncGenerator[bytes]:
        """The pieces that begin at ``start`` and each ``step`` behind it."""
        async with self._asked(file, start, step) as records:
            for at in range(start, file.size, step):
                piece = await anext(records, b"")
                if len(piece) != min(_PIECE, file.size - at):
                    file.look(piece)
                    raise file.changed()
                yield piece
            await _ended(file, records)

    @asynccontextmanager
    async def _asked(
        self, file: _FarFile, start: int, step: int, hashes: int = 0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """What is sent behind what the file is."""
        where = {"directory": self.place.there, "name": file.name}
        what = {"start": start, "step": step, "piece": _PIECE, "hashes": hashes}
        # Of a hash there come but signs of life, each of which is waited for as long as for a record.
        reads = file.size if hashes else 0
        async with self._connection.ask(program_of(_SENDER, where | what), sudo=self._sudo, reads=reads) as records:
            file.look(await anext(records, b""))
            yield records


async def _ended(file: _FarFile, records: AsyncIterator[bytes]) -> None:
    """Raises FarFileError unless the last of it is that the file is what it was."""
    file.look(await anext(records, b""))
    if await anext(records, b""):
        raise file.changed()
