"""Chunks made ahead in a thread, by work that gives up the interpreter's lock: inflating and hashing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

_CHUNKS = 4
"""How many may wait, of a megabyte each."""


class ReadAhead:
    """An iterator over ``chunks``, which run ahead in a thread; `close` ends it, wherever it is."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._made: queue.Queue[bytes | None] = queue.Queue(_CHUNKS)
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Raises what making the chunk raised."""
        chunk = None if self._stopped else self._made.get()
        if chunk is not None:
            return chunk
        self._stopped = True
        self._thread.join()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """No thread is left."""
        self._stopped = True
        while self._thread.is_alive():
            self._take_all()
            self._thread.join(0.01)

    def _take_all(self) -> None:
        """So that the thread, which may wait for room, sees that it is to stop."""
        while not self._made.empty():
            self._made.get_nowait()

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                self._made.put(chunk)
                if self._stopped:
                    return
        except BaseException as error:  # noqa: BLE001  it is raised where the chunks are taken
            self._error = error
        self._made.put(None)
