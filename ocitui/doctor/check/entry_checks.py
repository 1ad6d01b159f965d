"""One digest's entries: their three files, what the documents say, and what the packed files' headers do; in few steps
where nothing is wrong, else with care. And what deep checks left in the ledger of files that are still the same."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Unpack

import msgspec

from ocitui.cache import (
    CONFIG_PLACE,
    FILE_SUFFIXES,
    LEDGER_NAME,
    MANIFEST_PLACE,
    MOST_DOCUMENT_BYTES,
    OWN_NAME,
    PLACE_OF_SUFFIX,
    ROW_WIDTH,
    SOUND_PACKED,
    CacheFiles,
    Damage,
    Damaged,
    Descriptor,
    DocumentError,
    Fact,
    FileKind,
    ImageConfiguration,
    ImageManifest,
    Ledger,
    Listing,
    Note,
    Notes,
    PackedFormat,
    Platform,
    Sound,
    Sources,
    Topic,
    check_packed_file,
    identity_of,
    is_plain,
    known_format,
    part_of,
    read_bounded,
    read_config,
    read_manifest,
)
from ocitui.stand_in import told_digests

from ..findings import CATALOGUE, LINK_OUTSIDE, PACKED_UNREADABLE, Finding, Where
from .index_checks import where

T = TypeVar("T")
Carriers = Sequence[tuple[int | None, Descriptor]]
"""The descriptors of one digest, each with its position; None where no index names it."""
_ALGORITHMS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
# No file of the format is smaller, so what is, was cut.
_SMALLEST = {PackedFormat.SQUASHFS: 96, PackedFormat.EROFS: 1024 + 128, PackedFormat.TAR: 1024}
_EMPTY = "it has no bytes"
_CUT = ("it is cut short", "it ends within", "the zero block")
_INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")


class DigestCheck:
    """What is wrong with the files of a digest: its documents are read, its packed files looked into where ``headers``.
    ``looked`` is how far was looked, a bit for each place of the listing; ``unchecked`` are the packed files of which
    that does not tell whether they are whole, each with the reason."""

    def __init__(
        self, files: CacheFiles, listing: Listing, digest: str, carriers: Carriers, *, headers: bool = True
    ) -> None:
        self._files, self._listing, self._digest, self._carriers = files, listing, digest, carriers
        self.findings, self.unchecked = list[Finding](), list[tuple[str, str]]()
        self.looked = DOCUMENTS_LOOKED
        self._missing: list[Finding] = []
        # Where a fault of a shared document lies: its digest's first entry, without a format where there are several.
        self._where = where(carriers[0][1])
        if len({descriptor.format for _, descriptor in carriers}) > 1:
            self._where["format"] = ""
        raw_manifest, raw_config = self._raw(FileKind.MANIFEST), self._raw(FileKind.CONFIG)
        manifest = self._read(FileKind.MANIFEST, raw_manifest, digest, read_manifest)
        size = len(raw_manifest or b"")
        if manifest is not None and (others := sorted({one.size for _, one in carriers} - {size})):
            seen = f"it has {size} bytes where the descriptor says {', '.join(map(str, others))}"
            self._say("size-mismatch", seen, FileKind.MANIFEST)
        named = None if manifest is None else manifest.config.digest
        config = self._read(FileKind.CONFIG, raw_config, named, read_config)
        if manifest is not None and config is not None:
            self._compare(manifest, config)
        self._check_packed(headers)

    def _raw(self, kind: FileKind) -> bytes | None:
        """The bytes of a document; None, and a finding, where they are not to be had."""
        name, at = f"{self._digest}.{kind}.json", self._at(kind)
        found = size_of(self._files, self._listing.get(name), name, at)
        if isinstance(found, int):
            try:
                if found <= MOST_DOCUMENT_BYTES:
                    return self._files.read(name, found)
                seen = f"it has {found} bytes, which no document has: it was not read"
                found = CATALOGUE[f"{kind}-unparsable"].finding(seen, **at)
            except FileNotFoundError:
                found = missing_file(at)
            except OSError as error:
                found = unreadable(error, at)
        (self._missing if found.code == "file-missing" else self.findings).append(found)
        return None

    def _say(self, code: str, seen: str, kind: FileKind) -> None:
        self.findings.append(CATALOGUE[code].finding(seen, **self._at(kind)))

    def _at(self, kind: FileKind) -> Where:
        return {**self._where, "kind": kind}

    def _read(self, kind: FileKind, raw: bytes | None, digest: str | None, read: Callable[[bytes], T]) -> T | None:
        """A document, if it is what its digest says, as far as that is known."""
        if raw is None:
            return None
        matches = None if digest is None else has_digest(raw, digest)
        try:
            value = read(raw)
        except DocumentError as error:
            code = f"{kind}-unparsable"
            if kind is FileKind.MANIFEST and _is_index(raw):
                code = "manifest-is-index"
            elif kind is FileKind.CONFIG and _lacks_history(raw, error):
                code = "config-no-history"
            content = "" if matches is None else f"; its content is {'' if matches else 'not '}what its digest says"
            self._say(code, f"the daemon's types refuse it: {error.placed}{content}", kind)
            return None
        if matches is False:
            named = ", which the manifest names" if kind is FileKind.CONFIG else ""
            self._say(f"{kind}-digest", f"its content is not that of {digest}{named}", kind)
            return None
        return value

    def _compare(self, manifest: ImageManifest, config: ImageConfiguration) -> None:
        layers, diff_ids = len(manifest.layers), len(config.rootfs.diff_ids)
        if layers != diff_ids:
            seen = f"the manifest has {layers} layers, the config {diff_ids} diff_ids"
            self._say("layers-disagree", seen, FileKind.CONFIG)
        for _, descriptor in self._carriers:
            platform = descriptor.platform
            if platform is not None and platform_disagrees(platform, config):
                seen = f"the descriptor says {platform}, the config {config.platform}"
                fault = CATALOGUE["platform-disagrees"]
                self.findings.append(fault.finding(seen, **where(descriptor, FileKind.CONFIG)))

    def _check_packed(self, headers: bool) -> None:
        there = lonely = 0
        for format_, (_, descriptor) in first_of_formats(self._carriers):
            name, at = f"{self._digest}.{format_}", where(descriptor, FileKind.PACKED)
            found = size_of(self._files, self._listing.get(name), name, at)
            if found == 0:
                found = CATALOGUE["packed-empty"].finding(_EMPTY, **at)
            elif isinstance(found, Finding) and found.code == "file-missing" and len(self._missing) == 2:
                lonely += 1
                found = CATALOGUE["file-missing"].finding("none of its three files is there", **at)
            if isinstance(found, Finding):
                self.findings.append(found)
                continue
            there += 1
            if headers:
                self._look_at_header(name, format_, at)
        if not lonely or there:
            self.findings += self._missing

    def _look_at_header(self, name: str, format: PackedFormat, at: Where) -> None:
        try:
            with self._files.open(name) as file:
                size = os.fstat(file.fileno()).st_size
                check = check_packed_file(file.fileno(), size)
        except OSError as error:
            self.findings.append(unreadable(error, at))
            return
        found, problem, code, seen = check.found, check.problem or "", "", ""
        if size == 0:
            code, seen = "packed-empty", _EMPTY
        elif found is None and size < _SMALLEST[format]:
            least = f"{size} bytes, where the smallest {format} has {_SMALLEST[format]}"
            code, seen = "packed-truncated", f"it is cut short: {least}"
        elif found is None:
            code, seen = "packed-magic", problem
        elif found is not format:
            code, seen = "packed-magic", f"it is {found} by its magic, and the entry says {format}"
        elif problem:
            code, seen = "packed-truncated" if problem.startswith(_CUT) else "packed-damaged", problem
        elif check.tail:
            code, seen = "packed-tail", f"{check.tail} bytes stand behind the end of its file system"
        if code:
            self.findings.append(CATALOGUE[code].finding(seen, **at))
        if check.unchecked:
            self.unchecked.append((name, check.unchecked))
        else:
            self.looked |= 1 << PLACE_OF_SUFFIX[format]


def has_digest(data: bytes, digest: str) -> bool | None:
    """Whether these bytes have this digest; None for an algorithm that is not known here."""
    algorithm, _, hexadecimal = digest.partition(":")
    hashing = _ALGORITHMS.get(algorithm)
    if hashing is None:
        return None
    return hashing(data).hexdigest() == hexadecimal.lower() or digest in told_digests(data)


def read_document(path: Path | str) -> bytes:
    """A small regular file's bytes, never through a link. Raises OSError."""
    return read_bounded(path, MOST_DOCUMENT_BYTES, follow=False)


def _tree(raw: bytes) -> dict[str, Any]:
    try:
        tree = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _is_index(raw: bytes) -> bool:
    tree = _tree(raw)
    return tree.get("mediaType") in _INDEX_TYPES or ("manifests" in tree and "config" not in tree)


def _lacks_history(raw: bytes, error: DocumentError) -> bool:
    """Whether that is all that is wrong: the daemon looks for missing fields last, and for this one last of them."""
    return error.message == "missing field `history`" and bool(_tree(raw))


def platform_disagrees(platform: Platform, config: ImageConfiguration) -> bool:
    """Whether a descriptor's platform is not the config's."""
    variants = platform.variant, config.variant
    return (
        platform.os != config.os
        or platform.architecture != config.architecture
        or (variants[0] != variants[1] and all(variants))
    )


_LARGEST_USUAL = 1 << 22
"""Bytes; of a larger document the careful checks speak."""
DOCUMENTS_LOOKED = 1
_FORMAT_AT = {PLACE_OF_SUFFIX[format_]: str(format_) for format_ in PackedFormat}
_SOUND_AT = {PLACE_OF_SUFFIX[format_]: sound for format_, sound in SOUND_PACKED.items()}
Expected = tuple[int, int, Platform | None]
"""What an entry says: the place of its packed file in the listing, the size of its manifest in bytes, its platform."""


class Described(NamedTuple):
    """What the two documents of a digest say of the image; ``manifest_type`` is None where the manifest does not."""

    manifest_type: str | None
    config_type: str
    platform: Platform


@lru_cache(1024)
def _described(
    manifest_type: str | None, config_type: str, architecture: str, system: str, variant: str | None
) -> Described:
    """The same one for all images that are alike."""
    return Described(manifest_type, config_type, Platform(architecture, system, variant=variant))


class PackedFile(NamedTuple):
    """A packed file that is there, for the deeper checks; ``size`` in bytes."""

    digest: str
    format: PackedFormat
    size: int
    descriptor: Descriptor
    position: int | None = None

    @property
    def name(self) -> str:
        return f"{self.digest}.{self.format}"

    @property
    def at(self) -> Where:
        """What a finding says of its entry: the first of this digest and format."""
        return where(self.descriptor, FileKind.PACKED, self.position)


def look_usually(
    files: CacheFiles,
    listing: Listing,
    digest: str,
    row: int,
    entries: list[Expected],
    *,
    headers: bool,
    described: dict[str, Described] | None = None,
) -> int:
    """Look at a digest's files in few steps, as this goes over every entry of the largest caches: how far was looked, a
    bit for each place of the listing; 0 where `DigestCheck` has to tell. What documents say goes into ``described``."""
    at, odd, looked = row * ROW_WIDTH, listing.odd, DOCUMENTS_LOOKED
    modes, sizes = listing.modes[at : at + ROW_WIDTH], listing.sizes[at : at + ROW_WIDTH]
    if (
        not entries
        or (odd and not odd.keys().isdisjoint(range(at, at + ROW_WIDTH)))
        or not is_plain(modes[MANIFEST_PLACE])
        or not is_plain(modes[CONFIG_PLACE])
        or max(sizes[MANIFEST_PLACE], sizes[CONFIG_PLACE]) > _LARGEST_USUAL
    ):
        return 0
    try:
        manifest = files.read(f"{digest}.manifest.json", sizes[MANIFEST_PLACE])
        if len(manifest) != sizes[MANIFEST_PLACE] or not _is_of(manifest, digest):
            return 0
        said = read_manifest(manifest)
        raw = files.read(f"{digest}.config.json", sizes[CONFIG_PLACE])
        if not _is_of(raw, said.config.digest):
            return 0
        config = read_config(raw)
        if len(said.layers) != len(config.rootfs.diff_ids):
            return 0
        for place, expected_size, platform in entries:
            if (
                not place
                or expected_size != sizes[MANIFEST_PLACE]
                or not sizes[place]
                or not is_plain(modes[place])
                or (platform is not None and platform_disagrees(platform, config))
            ):
                return 0
            if headers and not looked >> place & 1:
                fd = files.open_fd(f"{digest}.{_FORMAT_AT[place]}")
                try:
                    if check_packed_file(fd, sizes[place]) is not _SOUND_AT[place]:
                        return 0
                finally:
                    os.close(fd)
                looked |= 1 << place
    except (OSError, DocumentError):
        return 0
    if described is not None:
        types = said.media_type, said.config.media_type
        described[digest] = _described(*types, config.architecture, config.os, config.variant)
    return looked


def _is_of(raw: bytes, digest: str) -> bool:
    return f"sha256:{sha256(raw).hexdigest()}" == digest or digest in told_digests(raw)


def first_of_formats(carriers: Carriers) -> Iterable[tuple[PackedFormat, tuple[int | None, Descriptor]]]:
    """Each format of the digest once, with its first entry."""
    found: dict[PackedFormat, tuple[int | None, Descriptor]] = {}
    for carrier in carriers:
        if (format_ := known_format(carrier[1].format)) is not None:
            found.setdefault(format_, carrier)
    return found.items()


def missing_file(at: Where) -> Finding:
    """A file that an entry has to have, and has not."""
    return CATALOGUE["file-missing"].finding(f"the {at['kind']} file is not there", **at)


def size_of(files: CacheFiles, fact: Fact | None, name: str, at: Where) -> int | Finding:
    """The size of a file that there is, through a link that stays in the cache, in bytes; or what is wrong with it."""
    if fact is None:
        return missing_file(at)
    if fact.failed:
        return unreadable(OSError(fact.failed, ""), at)
    if fact.regular:
        return fact.size
    seen = fact.word
    if fact.link:
        target = files.target(name)
        if target is not None and target.regular:
            return target.size
        if target is None and (files.directory / name).exists():
            return LINK_OUTSIDE.finding("it is a link out of the cache", **at)
        seen = f"a link to {'nothing' if target is None else target.word}"
    return CATALOGUE["file-not-regular"].finding(f"it is {seen}", **at)


def unreadable(error: OSError, at: Where) -> Finding:
    """A file that the disk does not give, or that this user may not read."""
    reason = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
    if error.errno in (errno.EACCES, errno.EPERM):
        return CATALOGUE["wrong-mode"].finding(f"this user may not read it: {reason}", **at)
    fault = PACKED_UNREADABLE if at["kind"] is FileKind.PACKED else CATALOGUE["read-error"]
    return fault.finding(f"it cannot be read: {reason}", **at)


def oddities(listing: Listing, digest: str) -> Iterator[Finding]:
    """Files of a digest with a second name, or a mode in which they cannot be read."""
    if (row := listing.rows.get(digest)) is None:
        return
    for place, kind in enumerate(FILE_SUFFIXES.values(), row * ROW_WIDTH):
        if listing.has(place) and not listing.plain(place):
            form, kind = (str(kind), FileKind.PACKED) if isinstance(kind, PackedFormat) else ("", kind)
            yield from odd(listing.fact(place), digest=digest, format=form, kind=kind)


def odd(fact: Fact | None, **at: Unpack[Where]) -> Iterator[Finding]:
    """The same of a file."""
    if fact is None or not fact.regular:
        return
    if fact.links > 1:
        yield CATALOGUE["hardlinked"].finding(f"the file has {fact.links} names", **at)
    if not fact.mode & stat.S_IRUSR:
        seen = f"its mode is {stat.S_IMODE(fact.mode):04o}: its owner may not read it"
        yield CATALOGUE["wrong-mode"].finding(seen, **at)


def damage_finding(damage: Damage, file: PackedFile) -> Finding:
    """The finding as the deep check made it, and when."""
    fault = PACKED_UNREADABLE if damage.code == "read-error" else CATALOGUE[damage.code]
    finding = fault.finding(damage.seen, **file.at)
    return msgspec.structs.replace(finding, found=damage.found)


class Remembered:
    """What deep checks found of one cache's packed files, damage or when they were sound: as last read, or taken."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.problem = ""
        # Unlike that of a ledger that is there, and of none.
        self._signature: object = ""
        self._damaged: Damaged = {}
        self._digests: frozenset[str] = frozenset()
        # By a hash of name and identity, as there may be 100,000: twice the time, and 1 where it was first seen then.
        self._checked: dict[int, int] = {}
        # What was found here and could not be written down.
        self._here: Damaged = {}
        self.sources: Sources = {}
        """Where images were imported from, by the names of their packed files."""
        self._notes: Notes = {}

    def noted(self, topic: Topic) -> dict[str, Note]:
        """What is noted of files, by name."""
        return self._notes.get(topic, {})

    def refresh(self) -> set[str]:
        """Read the ledger where it changed; gives the digests of which other damage is known now. Where it cannot be
        read, what was known stays so, and ``problem`` says why."""
        signature = identity_of(self._directory / OWN_NAME / LEDGER_NAME)
        if signature == self._signature:
            return set()
        ledger = Ledger.open(self._directory)
        self._signature, self.problem = signature, ledger.problem
        if ledger.problem:
            return set()
        self.sources, self._notes = ledger.sources, ledger.notes
        return self._know(ledger.sound, {**ledger.damaged, **self._here})

    def take(self, ledger: Ledger) -> set[str]:
        """Know what a deep check of this program noted, whether it could be written down or not."""
        self._here = dict(ledger.damaged) if ledger.unwritten else {}
        return self._know(ledger.sound, ledger.damaged)

    def _know(self, sound: Sound, damaged: Damaged) -> set[str]:
        self._checked = {hash((name, one.identity)): one.checked << 1 | one.first_seen for name, one in sound.items()}
        before, self._damaged = self._damaged, damaged
        self._digests = frozenset(part[0] for name in damaged if (part := part_of(name)))
        changed = [name for name in {*before, *damaged} if before.get(name) != damaged.get(name)]
        return {part[0] for name in changed if (part := part_of(name))}

    def knows(self, digest: str) -> bool:
        """Whether there is damage of a digest's files, if they are still the same."""
        return digest in self._digests

    def findings(self, file: PackedFile, fact: Fact) -> Iterator[Finding]:
        """What was found in a packed file, where it is still the same."""
        known = self._damaged.get(file.name, ())
        yield from [damage_finding(one, file) for one in known if one.identity == fact.identity][:1]

    def checked(self, listing: Listing, place: int) -> tuple[int, bool] | None:
        """When a file of the listing was last found sound, in seconds since the epoch, and whether first then."""
        fact = listing.fact(place) if self._checked else None
        known = None if fact is None else self._checked.get(hash((listing.name_at(place), fact.identity)))
        return None if known is None else (known >> 1, bool(known & 1))
