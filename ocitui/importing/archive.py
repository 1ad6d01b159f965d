"""Archives that hold an image: plain tars are read in place, compressed ones as a stream.

A compressed archive is passed over once to see what it holds, its documents kept in memory (bounded), and once more
when its layers are wanted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from isal import igzip, igzip_lib

from ocitui.threads import Stop

from .archive_headers import Member, Stream, clean, read_members
from .image_documents import LARGEST_CONFIG
from .regular import open_regular
from .source_errors import UnreadableSourceError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Take = Callable[[Member, Stream], None]
"""Called where the stream stands at a wanted member's first byte; it may read the member."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# Its stub calls it an instance.
_ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)
_CHUNK = 1 << 20
_START = 4
_MOST_LINKS = 16
# What is kept of a compressed archive: every document of a sound one fits.
_MOST_KEPT = 64 << 20


class _Plain:
    """A tar that is a file: skipping costs nothing."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    @property
    def position(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def skip(self, size: int) -> None:
        if self.position + size > self._size:
            raise UnreadableSourceError("the archive is cut")
        self._file.seek(size, 1)


class _Forward:
    """A tar that comes out of a decompressor."""

    def __init__(self, file: IO[bytes], stop: Stop) -> None:
        self._file = file
        self._stop = stop
        self.position = 0

    def read(self, size: int) -> bytes:
        self._stop.check()
        data = self._file.read(size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        while size > 0:
            data = self.read(min(size, _CHUNK))
            if not data:
                raise UnreadableSourceError("the archive is cut")
            size -= len(data)


class Archive:
    """What an archive holds, by name; where a name comes twice, the last counts."""

    def __init__(self, path: Path, compressed: bool) -> None:
        self.path = path
        self.compressed = compressed
        self._members: dict[str, Member] = {}
        self._kept: dict[str, bytes] = {}
        self._starts: dict[str, bytes] = {}

    @classmethod
    def read(cls, path: Path, stop: Stop) -> Archive:
        """Look through an archive. Raises UnreadableSourceError; AbandonedError once ``stop`` is set."""
        with opened(path, stop) as (stream, compressed):
            archive = cls(path, compressed)
            kept = 0
            for member in read_members(stream):
                stop.check()
                archive._members[member.name] = member
                archive._kept.pop(member.name, None)
                if compressed and kept + member.size <= _MOST_KEPT:
                    kept += archive._keep(member, stream)
        if not archive._members:
            raise UnreadableSourceError(f"{path} holds no file")
        return archive

    def _keep(self, member: Member, stream: Stream) -> int:
        """Keep a file's first bytes, and all of one that may be a document: it begins with a brace or bracket."""
        if member.link is not None or not member.size:
            return 0
        start = self._starts[member.name] = stream.read(min(_START, member.size))
        if start[:1] not in (b"{", b"[") or member.size > LARGEST_CONFIG:
            return 0
        self._kept[member.name] = start + stream.read(member.size - len(start))
        return member.size

    def find(self, name: str) -> Member | None:
        """The file of that name, links followed; None where there is none."""
        found = self._members.get(clean(name) or "")
        for _ in range(_MOST_LINKS):
            if found is None or found.link is None:
                return found
            found = self._members.get(found.link)
        return None

    def bytes_of(self, name: str, largest: int) -> bytes | None:
        """A document's bytes; None where it is not there. Raises UnreadableSourceError for one that is too large."""
        member = self.find(name)
        if member is None:
            return None
        if member.size > largest:
            raise UnreadableSourceError(f"{name} in {self.path} has {member.size} bytes, too many for a document")
        if self.compressed:
            kept = self._kept.get(member.name)
            if kept is None:
                raise UnreadableSourceError(f"{name} in {self.path} is no JSON document")
            return kept
        with _reading(self.path), open_regular(self.path) as file:
            file.seek(member.offset)
            return file.read(member.size)

    def start_of(self, member: Member) -> bytes:
        """The first bytes of a file. Raises UnreadableSourceError."""
        if self.compressed:
            return self._starts.get(member.name, b"")
        with _reading(self.path), open_regular(self.path) as file:
            file.seek(member.offset)
            return file.read(min(_START, member.size))

    def pass_over(self, wanted: set[Member], take: Take, stop: Stop) -> None:
        """Go through the archive once, and ``take`` each wanted member. Raises as `read` does, and what it raises."""
        with opened(self.path, stop) as (stream, _):
            for member in read_members(stream):
                if member in wanted:
                    take(member, stream)


@contextmanager
def opened(path: Path, stop: Stop) -> Iterator[tuple[Stream, bool]]:
    """The archive as a tar, and whether it is compressed: by its first bytes, whatever it is called."""
    with _reading(path), ExitStack() as stack:
        file = stack.enter_context(open_regular(path))
        start = file.read(4)
        size = file.seek(0, 2)
        file.seek(0)
        if start.startswith(_GZIP):
            yield _Forward(stack.enter_context(_gunzip(file)), stop), True
        elif start == _ZSTD:
            yield _Forward(cast("IO[bytes]", stack.enter_context(zstd.open(file, "rb"))), stop), True
        else:
            yield _Plain(file, size), False


def _gunzip(file: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", igzip.open(file, "rb"))  # type: ignore[no-untyped-call]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say what cannot be read, and why. Raises UnreadableSourceError."""
    try:
        yield
    except UnreadableSourceError as error:
        if str(path) in error.message:
            raise
        raise UnreadableSourceError(f"{path}: {error.message}", hint=error.hint) from error
    except (EOFError, _ISAL_ERROR, zstd.ZstdError, igzip.BadGzipFile) as error:
        raise UnreadableSourceError(f"{path} cannot be decompressed: {error}") from error
    except OSError as error:
        raise UnreadableSourceError(f"cannot read {path}: {error.strerror or error}") from error
