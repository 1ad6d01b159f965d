"""A cache as it was found: index, files, and which entries there are to check."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property

from ocitui.cache import ANNOTATION_PACKED_FORMAT, Descriptor, PackedFormat
from ocitui.cache.files import INDEX_NAME, OWN_NAME, manifest_name
from ocitui.cache.index import Key

from ..findings import Finding
from .cache_checks import collisions, inferred_formats, oddities, orphans, strangers
from .descriptor_checks import DescriptorChecks
from .directory import CacheFiles, Facts, Reader
from .document_checks import Carriers
from .entry_checks import grouped
from .entry_files import Holdings
from .index_checks import History, IndexReading, check_index, read_index, shrunk

_FORMATS = frozenset(str(format_) for format_ in PackedFormat)
_PACKED = tuple(f".{format_}" for format_ in PackedFormat)
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class Survey:
    """The index, and every name of the directory with its fact."""

    def __init__(self, reading: IndexReading, facts: Facts) -> None:
        self.reading = reading
        self.facts = facts

    @classmethod
    def of(cls, files: CacheFiles, reader: Reader | None = None) -> Survey:
        """Read the index and list the directory; ``reader`` gets the documents. Raises CacheDirectoryError."""
        return cls(read_index(files), files.survey(reader))

    @cached_property
    def holdings(self) -> Holdings:
        """What there is of each digest, worked out where somebody asks."""
        return Holdings(self.facts)

    @cached_property
    def named(self) -> bool:
        """Whether the index tells what entries there are; else the files do."""
        index = self.reading.index
        return index is not None and bool(len(index) or not self.holdings.files)

    @cached_property
    def descriptors(self) -> Sequence[Descriptor]:
        """Those of the index, where it tells."""
        return list(self.reading.index.descriptors) if self.reading.index is not None and self.named else ()

    def groups(self, keys: Collection[Key] | None) -> dict[str, Carriers]:
        """The entries to check, by digest; only those of ``keys`` where they are given."""
        groups: dict[str, Carriers] = {**grouped(self.descriptors)} if self.named else dict(self._by_files())
        if keys is None:
            return groups
        wanted = {digest for digest, _ in keys}
        return {
            digest: [pair for pair in groups[digest] if pair[1].key in keys] for digest in groups if digest in wanted
        }

    def index_findings(self, checks: DescriptorChecks, history: History) -> list[Finding]:
        """What is wrong with the index and its descriptors."""
        index = self.reading.index
        if not index:
            return check_index(self.reading, self.holdings.complete, self.holdings.files, history)
        odd = [index.descriptors[at] for at, format_ in enumerate(index.formats) if format_ not in _FORMATS]
        inferred = inferred_formats(self.holdings, odd) if odd else {}
        return check_index(self.reading, 0, 0, history) + checks.check(self.descriptors, inferred)

    def holds_only(self, entries_files: int) -> bool:
        """Whether there are so many names beside the index and our own folder."""
        return len(self.facts) - (INDEX_NAME in self.facts) - (OWN_NAME in self.facts) == entries_files

    def index_oddities(self) -> Iterator[Finding]:
        """What is odd about the index's own name and mode."""
        yield from oddities({name: fact for name in (INDEX_NAME,) if (fact := self.facts.get(name))})

    def listing_findings(self, history: History) -> Iterator[Finding]:
        """What is odd about the directory. Where the index does not tell, no file is an orphan."""
        if self.named and self.reading.index is not None:
            yield from orphans(self.holdings, self.descriptors, shrunk(self.reading.index, history))
        yield from strangers(self.facts, sorted(self.holdings.others))
        yield from oddities(self.facts)
        yield from collisions(self.facts)

    @property
    def packed_bytes(self) -> int:
        """What all packed files hold."""
        return sum([fact.size for name, fact in self.facts.items() if name.endswith(_PACKED)])

    def _by_files(self) -> Iterator[tuple[str, Carriers]]:
        for digest in self.holdings.digests():
            carriers = []
            for format_ in self.holdings.formats(digest):
                fact = self.facts.get(manifest_name(digest))
                fields = {
                    "mediaType": _MANIFEST_TYPE,
                    "digest": digest,
                    "size": fact.size if fact else 0,
                    "annotations": {ANNOTATION_PACKED_FORMAT: str(format_)},
                }
                carriers.append((None, Descriptor.from_dict(fields)))
            if carriers:
                yield digest, carriers
