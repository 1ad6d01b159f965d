"""Reading exact numbers of bytes from a stream of chunks."""

from __future__ import annotations

from collections.abc import Iterator


class ChunkReader:
    """A stream of chunks, read by the byte; what is skipped is not copied."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self._before = 0

    @property
    def position(self) -> int:
        return self._before + self._at

    def read(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        end = self._at + count
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        return b"".join(self.parts(count))

    def skip(self, count: int) -> int:
        """Pass over bytes; how many there were."""
        end = self._at + count
        if end <= len(self._chunk):
            self._at = end
            return count
        left = count
        while left:
            there = len(self._chunk) - self._at
            if there >= left:
                self._at += left
                return count
            left -= there
            if not self._next():
                break
        return count - left

    def parts(self, count: int) -> Iterator[bytes | memoryview]:
        """The next bytes as they come; fewer at the end."""
        while count:
            part = memoryview(self._chunk)[self._at : self._at + count]
            if part:
                self._at += len(part)
                count -= len(part)
                yield part
            elif not self._next():
                return

    def drain(self) -> None:
        """Read up to the end."""
        while self._next():
            pass

    def _next(self) -> bool:
        self._before += len(self._chunk)
        self._at = 0
        self._chunk = next(self._chunks, b"")
        return bool(self._chunk)
