"""The first pass: every layer read and checked, its headers merged into one tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from .changesets import Changeset
from .chunk_reader import ChunkReader
from .layer_errors import LayerError, LayerLimitError, raised_with
from .layers import OpenLayer
from .limits import LayerLimits
from .read_ahead import ReadAhead
from .tar_headers import TarReader
from .tree import Tree


@dataclass(slots=True)
class Counter:
    """How far a pass has come; whoever adds calls `tick`, often."""

    tick: Callable[[Counter], None] = lambda _: None
    layer: int = 0
    done: int = 0
    total: int = 0
    files: int = 0
    files_total: int = 0

    def begin(self, total: int, files_total: int = 0) -> None:
        """A pass of so many bytes and files begins."""
        self.done, self.total, self.files, self.files_total = 0, total, 0, files_total

    def add(self, count: int) -> None:
        self.done += count
        self.tick(self)


class Merge:
    """Layers on their way into a tree, counted against the limits."""

    def __init__(self, limits: LayerLimits) -> None:
        self.tree = Tree()
        self._limits = limits
        self._bytes = 0
        self._metadata = 0
        self._entries = 0

    def add(self, layer: OpenLayer, number: int, counter: Counter) -> None:
        """Read a layer to its end and apply it. Raises LayerError."""
        counter.layer = number
        with naming(number):
            with closing(ReadAhead(layer.checked_chunks(counter.add))) as chunks:
                reader = ChunkReader(self._counted(chunks))
                tar = TarReader(reader, self._limits)
                self._apply(tar, number, counter)
                # What follows the end of the tar belongs to the digest all the same.
                reader.drain()
            if not tar.is_ended and not layer.is_vouched_for:
                raise LayerError("its tar is cut: it lacks the blocks of zeros that end it")

    def _apply(self, tar: TarReader, number: int, counter: Counter) -> None:
        changeset = Changeset(self.tree, number, self._limits)
        limits = self._limits
        for entry in tar:
            self._entries += 1
            self._metadata += len(entry.name) + len(entry.link)
            if entry.xattrs:
                self._metadata += sum(len(name) + len(value) for name, value in entry.xattrs)
            if self._entries > limits.entries:
                raise LayerLimitError(
                    f"the image has more than {limits.entries} entries, the limit", hint=raised_with("--max-entries")
                )
            if self._metadata > limits.metadata_bytes:
                raise LayerLimitError(f"names and attributes take more than {limits.metadata_bytes} bytes, the limit")
            changeset.apply(entry)
            counter.files += 1

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        limit = self._limits.unpacked_bytes
        for chunk in chunks:
            self._bytes += len(chunk)
            if self._bytes > limit:
                raise LayerLimitError(
                    f"the layers unpack to more than {limit} bytes, the limit", hint=raised_with("--max-bytes")
                )
            yield chunk


def merge_layers(layers: Sequence[OpenLayer], limits: LayerLimits, counter: Counter) -> Tree:
    """The tree of all layers; ``counter`` counts the bytes of their files. Raises LayerError."""
    merge = Merge(limits)
    counter.total = sum(layer.size for layer in layers)
    for number, layer in enumerate(layers, 1):
        merge.add(layer, number, counter)
    return merge.tree


@contextmanager
def naming(number: int) -> Iterator[None]:
    """Errors from inside name this layer."""
    try:
        yield
    except LayerError as error:
        raise error.within(number) from error
