"""index.json: read by the daemon's rules, held as its own bytes and as columns, edited by splicing.

An index that is read and written unchanged is byte-identical, whatever wrote it, and unknown fields survive.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from .descriptors import SPACES, Columns, Descriptor, DescriptorArray
from .documents import IMAGE_INDEX, Platform
from .errors import CacheDirectoryError, ConflictError, CorruptIndexError, DocumentError, IndexOutcome, Verdict
from .files import INDEX_NAME, MOST_INDEX_BYTES, Key, check_directory, open_bounded, read_to_end
from .strict_json import Scanner

EMPTY_INDEX = (
    b'{\n  "schemaVersion": 2,\n  "mediaType": "application/vnd.oci.image.index.v1+json",\n  "manifests": []\n}\n'
)
EntryKey = tuple[str, str, str, int]
"""Digest, format, image name, and how many equal ones stand before it: an entry's identity while it is listed."""
Placement = tuple[int, Descriptor, bytes | None]
"""Where an entry goes, and its gap: what stands before it, or after it among those at the very beginning."""

PATIENCE_SECONDS = 1.0
"""How long a file that does not read is taken for one being written."""
# File times advance with the kernel's tick, 10 ms at the coarsest.
_CLOCK_GRAIN_NS = 20_000_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.05
_UTF8_WINDOW = 1 << 20
_MANY_LOOKUPS = 8
_INDENT = re.compile(rb"\n([ \t]*)[^\n]*\[\Z")


class NotUtf8Error(DocumentError):
    """The bytes are not UTF-8: the one fault for which the daemon refuses to start and leaves the file alone."""


class IndexDifference(NamedTuple):
    """What differs between two indexes, which have the ``beginning`` first and the ``end`` last descriptors in common:
    ``added`` and ``changed`` are positions in the new one, ``removed`` in the previous one."""

    beginning: int = 0
    end: int = 0
    added: Sequence[int] = ()
    removed: Sequence[int] = ()
    changed: Sequence[int] = ()


Winners = Mapping[str, tuple[Descriptor | None, Descriptor | None]]


class _Splice(NamedTuple):
    """An edit of the text from ``start`` to ``end``, where ``removed`` descriptors from ``position`` on stand. Each of
    the ``inserted`` comes with what is to stand before it; ``after`` follows the last."""

    position: int
    removed: int
    start: int
    end: int
    inserted: Sequence[tuple[bytes, Descriptor]] = ()
    after: bytes = b""


class ImageIndex:
    """An index the daemon would load: its bytes, and its descriptors in order, as columns.

    ``data`` are its very bytes. Each of ``descriptors`` is made when it is asked for; loops over many use the columns,
    which have one value a descriptor: ``digests``, ``sizes`` in bytes, ``media_types``; ``names``, ``formats`` and
    ``references``, which are annotations, and ``platforms``, with None where absent. Lookup tables are built at the
    first lookup, and where each descriptor's bytes are is worked out by the block, when one is asked for.
    """

    def __init__(self, columns: Columns) -> None:
        self.descriptors = columns
        self.digests: Sequence[str] = columns.digests
        self.sizes: Sequence[int] = columns.sizes
        self.media_types: Sequence[str] = columns.media_types
        self.names: Sequence[str | None] = columns.names
        self.formats: Sequence[str | None] = columns.formats
        self.references: Sequence[str | None] = columns.references
        self.platforms: Sequence[Platform | None] = columns.platforms
        # The gap that stands between most descriptors, and whether no other does; None until that is looked for.
        self._gap: bytes | None = None
        self._even = False
        self._lookups = 0
        self._asked: tuple[str | None, list[int]] = (None, [])
        self._digests: tuple[dict[str, int], dict[str, list[int]]] | None = None
        # How many bytes at the beginning are hashed, and the hash of these.
        self._hashed = 0, hashlib.sha256()

    @classmethod
    def parse(cls, data: bytes, previous: ImageIndex | None = None) -> ImageIndex:
        """Read an index; quicker where it is much like ``previous``, which is given back where it is the same. Raises
        NotUtf8Error or DocumentError, with the place, where the daemon would not load it."""
        if previous is not None and previous.data == data:
            return previous
        _check_utf8(data)
        array, scanner = DescriptorArray(previous.descriptors if previous else None), Scanner(data)
        msgspec.structs.replace(IMAGE_INDEX, fields={**IMAGE_INDEX.fields, "manifests": array}).read(scanner)
        scanner.end()
        return cls(array.columns)

    @classmethod
    def empty(cls) -> ImageIndex:
        """The index the daemon writes where there is none."""
        return cls.parse(EMPTY_INDEX)

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def data(self) -> bytes:
        return self.descriptors.data

    def identities(self) -> Iterator[tuple[str, str | None, str | None]]:
        """The identity of each descriptor, in order."""
        return zip(self.digests, self.formats, self.names, strict=True)

    def keys(self, start: int = 0, stop: int | None = None) -> list[EntryKey]:
        """The identities of the descriptors from ``start`` to ``stop``, told apart among themselves."""
        return identity_keys(islice(self.identities(), start, stop))

    def position(self, digest: str, format: str | None) -> int | None:
        """Where the entry stands that the daemon recalls: the first of that digest and format."""
        return next((at for at in self.positions(digest) if self.formats[at] == format), None)

    def positions(self, digest: str, hint: int = -1) -> Sequence[int]:
        """Where the entries of a digest stand, in order; ``hint`` is where the only one most probably does."""
        if 0 <= hint < len(self.digests) and self.digests[hint] == digest and digest not in self.repeated:
            return (hint,)
        if self._asked[0] == digest:
            return self._asked[1]
        if self._digests is None and self._is_asked_little():
            self._asked = digest, _find_all(self.digests, digest)
            return self._asked[1]
        if self._digests is None:
            count, others = len(self), dict[str, list[int]]()
            first = dict(zip(reversed(self.digests), range(count - 1, -1, -1), strict=True))
            if len(first) < count:
                for at, one in enumerate(self.digests):
                    if first[one] != at:
                        others.setdefault(one, []).append(at)
            self._digests = first, others
        first, others = self._digests
        return (first[digest], *others.get(digest, ())) if digest in first else ()

    @cached_property
    def repeated(self) -> Collection[str]:
        """The digests that several entries have."""
        if len(set(self.digests)) == len(self):
            return ()
        return {digest for digest, count in Counter(self.digests).items() if count > 1}

    @cached_property
    def winners(self) -> dict[str | None, str]:
        """The digest that the daemon resolves each name to: that of the last entry of the name."""
        return dict(zip(self.names, self.digests, strict=True))

    def _is_asked_little(self) -> bool:
        """Whether a look through all of a column is cheaper than a table of it, going by the lookups so far."""
        self._lookups += 1
        return self._lookups < _MANY_LOOKUPS

    def positions_of(self, keys: Collection[Key]) -> list[int]:
        """Where every entry of these digests and formats stands, in order."""
        if len(keys) > _MANY_LOOKUPS:
            wanted = frozenset(keys)
            return [at for at, key in enumerate(zip(self.digests, self.formats, strict=True)) if key in wanted]
        return sorted({at for digest, format_ in keys for at in self.positions(digest) if self.formats[at] == format_})

    def places(self, raws: Collection[bytes]) -> dict[bytes, list[int]]:
        """Where descriptors of these bytes stand, in order; those that are not there have no place."""
        digests: set[str] = set()
        for raw in raws:
            with suppress(DocumentError):
                digests.add(Descriptor.parse(raw).digest)
        places: dict[bytes, list[int]] = {}
        for at in sorted(at for digest in digests for at in self.positions(digest)):
            if (found := self.raw(at)) in raws:
                places.setdefault(found, []).append(at)
        return places

    def position_of_name(self, name: str) -> int | None:
        """Where the entry stands that the daemon resolves: the last of that name."""
        if "winners" not in vars(self) and self._is_asked_little():
            return max(_find_all(self.names, name), default=None)
        digest = self.winners.get(name)
        return None if digest is None else max(at for at in self.positions(digest) if self.names[at] == name)

    def by_key(self, digest: str, format: str | None) -> Descriptor | None:
        """The entry the daemon recalls: the first of that digest and format."""
        at = self.position(digest, format)
        return None if at is None else self.descriptors[at]

    def by_name(self, name: str) -> Descriptor | None:
        """The entry the daemon resolves: the last of that name."""
        at = self.position_of_name(name)
        return None if at is None else self.descriptors[at]

    @cached_property
    def sha256(self) -> str:
        """That of its bytes, in hexadecimal digits; an edit of the end has only the end hashed again."""
        known, beginning = self._hashed
        hashing, end = beginning.copy(), self.end(len(self) - 1) if self else self.descriptors.first
        for part in self.descriptors.text(known, end):
            hashing.update(part)
        self._hashed = end, hashing.copy()
        for part in self.descriptors.text(end):
            hashing.update(part)
        return hashing.hexdigest()

    def difference(self, previous: ImageIndex) -> IndexDifference:
        """What changed since ``previous``; an entry is the same by its digest, format, name, and which such it is."""
        if self.data == previous.data:
            return IndexDifference(len(self))
        beginning = end = 0
        if self and previous:
            same = previous.descriptors.unchanged(self.data, self.start(0), self.descriptors.last)
            beginning, end = same.beginning, len(previous) - same.end
        least = min(len(self), len(previous)) - end
        while beginning < least and self.raw(beginning) == previous.raw(beginning):
            beginning += 1
        while True:
            old = {key: beginning + at for at, key in enumerate(previous.keys(beginning, len(previous) - end))}
            new = {key: beginning + at for at, key in enumerate(self.keys(beginning, len(self) - end))}
            uneven = {key[0] for key in old.keys() ^ new.keys()}
            if not end or uneven.isdisjoint(islice(self.digests, len(self) - end, None)):
                break
            # Others of these digests follow, and may be another one of their kind by now.
            end = 0
        return IndexDifference(
            beginning,
            end,
            [at for key, at in new.items() if key not in old],
            [at for key, at in old.items() if key not in new],
            [at for key, at in new.items() if key in old and self.raw(at) != previous.raw(old[key])],
        )

    def won(self, previous: ImageIndex, same: IndexDifference) -> Winners:
        """The names that stand for another entry than in ``previous``, or for none: now, and before."""
        names = {name for one in (self, previous) for name in one.names[same.beginning : len(one) - same.end]}
        won = {name: (self.by_name(name), previous.by_name(name)) for name in sorted(filter(None, names))}
        return {name: (now, was) for name, (now, was) in won.items() if (now and now.key) != (was and was.key)}

    def raw(self, position: int) -> bytes:
        """A descriptor's bytes as they stand in the file."""
        return self.descriptors.located(position)[1]

    def start(self, position: int) -> int:
        """The offset at which a descriptor begins."""
        return self.descriptors.start(position)

    def end(self, position: int) -> int:
        """The offset at which a descriptor ends."""
        return self.descriptors.end(position)

    def gap(self, position: int) -> bytes | None:
        """The comma and white space after the entry at a position; None after the last."""
        if not 0 <= position < len(self) - 1:
            return None
        return self.data[self.end(position) : self.start(position + 1)]

    @cached_property
    def brackets(self) -> tuple[bytes, bytes]:
        """The white space just inside the brackets."""
        first, last = self.descriptors.first, self.descriptors.last
        start, end = (self.start(0), self.end(len(self) - 1)) if self else (first, first)
        return b"".join(self.descriptors.text(first, start)), b"".join(self.descriptors.text(end, last))

    # Edits

    def without(self, keys: Collection[Key]) -> ImageIndex:
        """The index less every entry of these digests and formats."""
        return self.without_at(self.positions_of(keys))

    def without_at(self, positions: Collection[int]) -> ImageIndex:
        """The index less the entries at these positions."""
        count = len(self)
        doomed = sorted({at for at in positions if 0 <= at < count})
        if not doomed:
            return self
        if len(doomed) == count:
            return self._spliced([_Splice(0, count, self.descriptors.first, self.descriptors.last)])
        if len(doomed) == count - 1:
            self._common_gap()
        splices: list[_Splice] = []
        first = doomed[0]
        for at, following in pairwise([*doomed, count + 1]):
            if following != at + 1:
                start, end = (self.end(first - 1), self.end(at)) if first else (self.start(0), self.start(at + 1))
                splices.append(_Splice(first, at + 1 - first, start, end))
                first = following
        return self._spliced(splices)

    def appended(self, descriptor: Descriptor) -> ImageIndex:
        """The index with a new entry at the end, which wins its name; its bytes are laid out like the others."""
        descriptor = msgspec.structs.replace(descriptor, raw=self.laid_out(descriptor.raw))
        return self.inserted([(len(self), descriptor, None)])

    def inserted(self, placed: Sequence[Placement]) -> ImageIndex:
        """The index with entries put in, verbatim, each before the entry that now has that position."""
        groups: dict[int, list[Placement]] = {}
        for one in placed:
            groups.setdefault(min(one[0], len(self)), []).append(one)
        common, used = self._common_gap(), set[bytes]()
        splices: list[_Splice] = []
        for position, group in sorted(groups.items()):
            wanted = [gap for _, _, gap in group]
            if position:
                gaps = before = [gap or common for gap in wanted]
                start = end = self.end(position - 1)
                after = b""
            elif self:
                # At the very beginning an entry's gap stands after it.
                gaps = [gap or later or common for gap, later in zip(wanted, [*wanted[1:], None], strict=True)]
                before, after = [b"", *gaps[:-1]], gaps[-1]
                start = end = self.start(0)
            else:
                gaps = [gap or later or common for gap, later in pairwise(wanted)]
                opening, after = self._brackets()
                before, start, end = [opening, *gaps], self.descriptors.first, self.descriptors.last
            used.update(gaps)
            inserted = [(text, descriptor) for text, (_, descriptor, _) in zip(before, group, strict=True)]
            splices.append(_Splice(position, 0, start, end, inserted, after))
        return self._spliced(splices, even=used <= {common}) if splices else self

    def with_gaps(self, opening: bytes, closing: bytes) -> ImageIndex:
        """The same index with this white space inside its brackets."""
        if not self:
            return self._spliced(
                [_Splice(0, 0, self.descriptors.first, self.descriptors.last, after=opening + closing)]
            )
        count = len(self)
        beginning = _Splice(0, 0, self.descriptors.first, self.start(0), after=opening)
        return self._spliced([beginning, _Splice(count, 0, self.end(count - 1), self.descriptors.last, after=closing)])

    def laid_out(self, raw: bytes) -> bytes:
        """A descriptor's JSON with white space as the others have it; as it is where a text in it is no Unicode."""
        _, newline, indent = self._brackets()[0].rpartition(b"\n")
        try:
            laid_out = msgspec.json.format(raw, indent=2 if newline else 0)
        except (ValueError, RecursionError):
            return raw
        return laid_out.replace(b"\n", b"\n" + indent) if newline else laid_out

    def _brackets(self) -> tuple[bytes, bytes]:
        """The white space inside the brackets; where they are empty, what the head's indentation asks for."""
        if self:
            return self.brackets
        indent = _INDENT.search(self.data[: self.descriptors.first])
        return (b"\n" + indent[1] * 2, b"\n" + indent[1]) if indent else (b"", b"")

    def _common_gap(self) -> bytes:
        """The gap that stands between most descriptors; between less than two, the one that fits the brackets."""
        if self._gap is None:
            self._gap, self._even = self._find_gap()
        return self._gap

    def _find_gap(self) -> tuple[bytes, bool]:
        """The same, and whether no other gap is there."""
        gap = self.gap(0)
        if gap is None:
            return b"," + self._brackets()[0], True
        start = self.start(0) + len(self.raw(0)[:-1].rstrip(SPACES))
        seam = self.data[start : self.start(1) + 2]
        # As often there as gaps are, it stands in each of them: a text holds no line break, and hardly ever a seam.
        if self.data.count(seam, self.descriptors.first, self.descriptors.last) >= len(self) - 1:
            return gap, True
        gaps = Counter(self.gap(at) for at in range(len(self) - 1))
        return gaps.most_common(1)[0][0] or b",", len(gaps) == 1

    def _spliced(self, splices: Sequence[_Splice], *, even: bool = True) -> ImageIndex:
        """The index with these edits of its text, in order; ``even`` where they bring no gap but the common one."""
        size, pieces, length, at, kept = sum(map(len, self.descriptors.parts)), list[bytes | memoryview](), 0, 0, 0
        columns, ranges = Columns(), list[tuple[int, int, int]]()
        for splice in [*splices, _Splice(len(self), 0, size, size)]:
            # What stands before it stays as it is.
            if kept < splice.position:
                if kept and not (columns or ranges):
                    columns.begin(length)
                ranges.append((kept, splice.position, length - at))
            pieces += self.descriptors.text(at, splice.start)
            length += splice.start - at
            if splice.inserted or splice.start == size:
                columns.extend(self.descriptors, *ranges)
                ranges.clear()
            for before, descriptor in splice.inserted:
                columns.append(descriptor, length + len(before))
                pieces += before, descriptor.raw
                length += len(before) + len(descriptor.raw)
            pieces.append(splice.after)
            length += len(splice.after)
            at, kept = splice.end, splice.position + splice.removed
        # Where entries only come, what stands before them is not copied: with 100,000 there that is 40 MB. Where some
        # go, the text that they stood in is not kept for what is left of it.
        beginning = b"" if any(splice.removed for splice in splices) else pieces.pop(0)
        columns.parts = beginning, b"".join(pieces)
        columns.first, columns.last = self.descriptors.first, length - (size - self.descriptors.last)
        new = ImageIndex(columns)
        if self._even and even and columns:
            new._gap, new._even = self._gap, True
        if splices and splices[0].start >= self._hashed[0]:
            new._hashed = self._hashed
        return new


def entry_keys(descriptors: Iterable[Descriptor]) -> list[EntryKey]:
    """The key of each descriptor, in order."""
    return identity_keys(one.identity for one in descriptors)


def identity_keys(identities: Iterable[tuple[str, str | None, str | None]]) -> list[EntryKey]:
    """The key of each entry by its digest, format and image name, in order."""
    seen: dict[tuple[str, str, str], int] = {}
    keys: list[EntryKey] = []
    for digest, format_, name in identities:
        identity = (digest, format_ or "", name or "")
        nth = seen.get(identity, 0)
        seen[identity] = nth + 1
        keys.append((*identity, nth))
    return keys


def _find_all(values: Sequence[object], wanted: object) -> list[int]:
    """Where a value stands, in order."""
    found, at = list[int](), -1
    with suppress(ValueError):
        while True:
            found.append(at := values.index(wanted, at + 1))
    return found


def _check_utf8(data: bytes) -> None:
    """Raises NotUtf8Error. What is decoded is looked at a window at a time, as it may be four times as long."""
    at = 0
    while at < len(data):
        window = data[at : at + _UTF8_WINDOW]
        try:
            is_last = at + len(window) >= len(data)
            at += len(window) if window.isascii() else codecs.utf_8_decode(window, "strict", is_last)[1]
        except UnicodeDecodeError as error:
            at += error.start
            line, column = data.count(b"\n", 0, at) + 1, at - data.rfind(b"\n", 0, at)
            raise NotUtf8Error("stream did not contain valid UTF-8", line=line, column=column) from None


def judge_index(data: bytes | None) -> IndexOutcome:
    """What the daemon would do with these bytes as index.json; None means that there is no file."""
    return examine_index(data)[0].outcome


def examine_index(data: bytes | None, previous: ImageIndex | None = None) -> tuple[Verdict, ImageIndex | None]:
    """The verdict, and the index where the daemon would load it; quicker where ``previous`` is much the same."""
    if data is None:
        return Verdict(IndexOutcome.CREATED), None
    try:
        index = ImageIndex.parse(data, previous)
    except DocumentError as error:
        outcome = IndexOutcome.ERROR if isinstance(error, NotUtf8Error) else IndexOutcome.RESET
        return Verdict(outcome, 0, error.message, error.line, error.column), None
    return Verdict(IndexOutcome.LOADED, len(index)), index


class Signature(NamedTuple):
    """What changes whenever a file does."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class IndexFile(msgspec.Struct, frozen=True):
    """One reading of index.json. ``data`` is kept only where it is not sound; ``index`` only where it is."""

    signature: Signature | None
    verdict: Verdict
    index: ImageIndex | None
    data: bytes | None = None
    settled: bool = True
    """False where the file had changed so shortly before that another change may not show in the signature."""

    @property
    def exists(self) -> bool:
        return self.signature is not None

    @property
    def contents(self) -> ImageIndex:
        """The index; an empty one where there is no file."""
        return ImageIndex.empty() if self.index is None else self.index

    def require_sound(self, directory: Path) -> None:
        """Raises CorruptIndexError where the daemon would reset or refuse."""
        if not self.verdict.sound:
            told = f"{directory / INDEX_NAME} is corrupt: {self.verdict.place}; {self.verdict.consequence}"
            raise CorruptIndexError(told, verdict=self.verdict)


def index_signature(directory: Path) -> Signature | None:
    """The signature of index.json, links followed as the daemon does; None where there is none."""
    try:
        # A path made of parts costs more than the look.
        found = os.stat(f"{directory}/{INDEX_NAME}")
    except OSError:
        return None
    return _signature(found)


def refuse_link(directory: Path) -> None:
    """Raises ConflictError where index.json is a link: what it leads to is not ours to write."""
    if os.path.islink(f"{directory}/{INDEX_NAME}"):
        raise ConflictError("index.json is a link and is not written", hint="replace the link with the file itself")


def read_once(directory: Path, previous: ImageIndex | None = None) -> IndexFile:
    """Read index.json as it is now, quicker where it is much like ``previous``. Raises CacheDirectoryError."""
    try:
        with open_bounded(directory / INDEX_NAME, MOST_INDEX_BYTES) as file:
            found, data = os.fstat(file.fileno()), read_to_end(file, MOST_INDEX_BYTES)
    except FileNotFoundError:
        check_directory(directory)
        return IndexFile(None, Verdict(IndexOutcome.CREATED), None)
    except OSError as error:
        check_directory(directory)
        if error.errno in (errno.EISDIR, errno.EINVAL):
            kind = "a directory" if error.errno == errno.EISDIR else "not a regular file"
            verdict = Verdict(IndexOutcome.ERROR, message=f"it is {kind}")
            return IndexFile(index_signature(directory), verdict, None, b"")
        denied, told = isinstance(error, PermissionError), f"{directory / INDEX_NAME} cannot be read: {error.strerror}"
        hint = "start ocitui as a user who may read it" if denied else "look at the disk's health"
        raise CacheDirectoryError(told, hint=hint) from error
    settled = abs(time.time_ns() - found.st_mtime_ns) > _CLOCK_GRAIN_NS
    verdict, index = examine_index(data, previous)
    return IndexFile(_signature(found), verdict, index, data if index is None else None, settled)


def read_patiently(directory: Path, previous: ImageIndex | None = None) -> IndexFile:
    """Read index.json, and again for PATIENCE_SECONDS while it does not read: it may be being written."""
    seen = read_once(directory, previous)
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, _FIRST_PAUSE
    while not seen.verdict.sound and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
        if index_signature(directory) != seen.signature:
            seen = read_once(directory, previous)
    return seen


def _signature(found: os.stat_result) -> Signature:
    return Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
