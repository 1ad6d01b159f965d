"""Layers flattened into one tar stream, in two passes, nothing unpacked.

The first pass reads every layer, checks it and merges the headers into a tree. Then every byte to come is known, and
the second pass writes the tar, reading those layers again of which files are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from types import TracebackType
from typing import Protocol

from .chunk_reader import ChunkReader
from .decompress import Compression
from .layer_errors import LayerError
from .layers import LayerSource, OpenLayer
from .limits import LayerLimits
from .merge import Counter, merge_layers, naming
from .plan import Plan
from .read_ahead import ReadAhead
from .tar_writer import END, padding

_BUFFER = 1 << 18

Write = Callable[[memoryview], None]


class _Bodies(Protocol):
    """The bytes of a layer's files, asked for in the order that they have in it."""

    def read(self, offset: int, size: int) -> Iterator[bytes | memoryview]: ...

    def close(self) -> None: ...


class Flattening:
    """An image's layers, opened; `plan` says what they come to, `write` writes it. A context manager."""

    def __init__(self, sources: Sequence[LayerSource], limits: LayerLimits, counter: Counter) -> None:
        """Reads all layers; ``counter`` counts the bytes of their files. Raises LayerError."""
        self._layers: list[OpenLayer] = []
        try:
            for number, source in enumerate(sources, 1):
                with naming(number):
                    self._layers.append(OpenLayer(source))
            self.plan = Plan(merge_layers(self._layers, limits, counter))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Flattening:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._layers:
            self._layers.pop().close()

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(layer.diff_id for layer in self._layers)

    def write(self, write: Write, counter: Counter) -> None:
        """Write the tar: `plan.size` bytes, counted by ``counter``. Raises LayerError, and what ``write`` raises."""
        counter.begin(self.plan.size, self.plan.files)
        output = _Output(write, counter)
        for header in self.plan.headers_before_files():
            output.put(header)
        for layer, files in groupby(self.plan.file_headers(), lambda file: self.plan.tree.layers[file[0]]):
            counter.layer = layer
            with naming(layer):
                self._write_files(self._layers[layer - 1], files, output, counter)
        for header in self.plan.hard_links():
            output.put(header)
        output.put(END)
        output.flush()

    def _write_files(
        self, layer: OpenLayer, files: Iterator[tuple[int, bytes]], output: _Output, counter: Counter
    ) -> None:
        tree = self.plan.tree
        with closing(_bodies(layer)) as bodies:
            for inode, header in files:
                output.put(header)
                if size := tree.sizes[inode]:
                    for part in bodies.read(tree.offsets[inode], size):
                        output.put(part)
                    output.put(bytes(padding(size)))
                counter.files += 1
        layer.check_unchanged()


class _Output:
    """Small pieces gathered into larger writes."""

    def __init__(self, write: Write, counter: Counter) -> None:
        self._write = write
        self._counter = counter
        self._parts: list[bytes | memoryview] = []
        self._size = 0

    def put(self, data: bytes | memoryview) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        self._write(memoryview(b"".join(self._parts)))
        self._parts.clear()
        self._counter.add(self._size)
        self._size = 0


def _bodies(layer: OpenLayer) -> _Bodies:
    return _PlainBodies(layer) if layer.compression is Compression.NONE else _StreamBodies(layer)


class _PlainBodies:
    def __init__(self, layer: OpenLayer) -> None:
        self._layer = layer

    def read(self, offset: int, size: int) -> Iterator[bytes]:
        return self._layer.part(offset, size)

    def close(self) -> None:
        """The layer stays open."""


class _StreamBodies:
    def __init__(self, layer: OpenLayer) -> None:
        self._chunks = ReadAhead(layer.chunks(lambda _: None))
        self._reader = ChunkReader(self._chunks)

    def close(self) -> None:
        self._chunks.close()

    def read(self, offset: int, size: int) -> Iterator[bytes | memoryview]:
        self._reader.skip(offset - self._reader.position)
        left = size
        for part in self._reader.parts(size):
            left -= len(part)
            yield part
        if left:
            raise LayerError("it was cut while it was read")
