"""The summary of an entry: what it is, its files, layers, history and how it runs. Read off the event loop."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_PACKED_FORMAT,
    ANNOTATION_REFERENCE,
    BlobDescriptor,
    CacheError,
    ContainerConfig,
    Document,
    DocumentError,
    FileKind,
    HistoryItem,
    ImageConfiguration,
    ImageManifest,
    PackerCache,
    StorageError,
    Topic,
    TransactionState,
    read_regular,
)
from ocitui.doctor import Depth, EntryState, FileRecords, Finding, JudgedEntry, Origins, in_order
from ocitui.host import Zones, read_zones, users_of
from ocitui.text import age_of, human_size, short_digest, short_digests, timestamp
from ocitui.words import first_lines, with_text

from .widgets.lines import GOOD, SEVERITIES, UNKNOWN, Kind, Line, heading

T = TypeVar("T")
# Bytes of a document up to which the screen has it judged: a parser holds every other thread up.
_LARGEST_PARSED = 4 << 20


def summarize(
    directory: Path,
    entry: JudgedEntry,
    findings: Sequence[Finding],
    known: FileRecords | None = None,
    zones: Zones | None = None,
) -> list[Line]:
    """The summary's lines, in groups; reads both documents and looks at three files. ``findings`` are the entry's, and
    what is ``known`` of its file tells whether it can come back, and why it is pinned; the host's ``zones`` are read
    where they are not given."""
    names = entry.descriptor.files
    manifest, no_manifest = _read(directory, names.get(FileKind.MANIFEST), lambda raw: Document.manifest(raw).value)
    config, no_config = _read(directory, names.get(FileKind.CONFIG), lambda raw: Document.config(raw).value)
    unread = [Line(why, label, "bad") for label, why in (("manifest", no_manifest), ("config", no_config)) if why]
    digest = Line(entry.digest.removeprefix("sha256:"), "digest")
    groups: tuple[Iterable[Line], ...] = (
        [*_identity(entry, findings), *_users(directory, names, zones), digest],
        [
            *_files(directory, names, [*unread, *_checked(entry.state)]),
            *(_origin(directory, names.get(FileKind.PACKED, ""), known) if known is not None else ()),
            *_image(entry, manifest, config),
        ],
        _runtime(config.config if config else None),
        labelled("labels", (config and config.config and config.config.labels) or {}),
        _annotations(entry),
        _layers(manifest, config),
    )
    lines = [line for group in groups for line in (Line(), *group)]
    return [line for line, after in pairwise([*lines, Line()]) if line != after][1:]


def _origin(directory: Path, file: str, known: FileRecords) -> Iterator[Line]:
    if pin := known.noted(Topic.PINNED).get(file):
        yield Line(f"{pin.text}, {age_of(pin.when)} ago", "pinned")
    if source := known.sources.get(file):
        yield Line(f"{source.text}, {age_of(source.imported)} ago", "from")
        yield from [Line(source.packer, "packer")] if source.packer else ()
    origin = Origins(directory, known).of(file)
    yield Line(origin.text, "again", "plain" if origin.is_sure else "muted")


def _read(directory: Path, name: str | None, parse: Callable[[bytes], T]) -> tuple[T | None, str]:
    """A document, or why there is none to show."""
    if name is None:
        return None, ""
    path = directory / name
    try:
        if not path.is_file():
            return None, "not there as a regular file: a miss for the daemon"
        if path.stat().st_size > _LARGEST_PARSED:
            return None, f"{human_size(path.stat().st_size)}: too large to be read for the screen"
        return parse(read_regular(path)), ""
    except DocumentError as error:
        place = f" at line {error.line} column {error.column}" if error.line else ""
        return None, f"{error.message}{place}; the daemon fails on it"
    except (StorageError, OSError) as error:
        return None, f"{error}; the daemon fails on it"


def document_error(kind: Literal["manifest", "config"], raw: bytes) -> DocumentError | None:
    """What the daemon would refuse in the document; of a very large one, the view finds what is no JSON."""
    try:
        if len(raw) <= _LARGEST_PARSED:
            (Document.manifest if kind == "manifest" else Document.config)(raw)
    except DocumentError as error:
        return error
    return None


def _identity(entry: JudgedEntry, findings: Sequence[Finding]) -> Iterator[Line]:
    """The state's word and what the worst finding is about, and where its name leads."""
    state = entry.state
    if state.severity is not None:
        sign, role = SEVERITIES[state.severity]
        seen = next((f": {one.seen}" for one in in_order(findings) if one.severity is state.severity), "")
        yield Line(f"{sign} {state.word}{seen}", "state", "bad" if role == "bad" else "warn")
    elif state.ok:
        yield Line(f"{GOOD} {state.word}", "state", "plain" if state.first_seen else "good")
    else:
        looked = "its header was not looked at" if state.depth else "not looked into yet"
        yield Line(f"{UNKNOWN} {looked}", "state", "muted")
    name = entry.descriptor.image_name
    kind: Kind = "plain" if entry.resolves == "wins" else "muted"
    yield Line((_RESOLVES[entry.resolves] if name else _NAMELESS).format(name), "resolves", kind)
    if not entry.format:
        yield Line("none: no lookup finds it", "format")


_NAMELESS = "– it has no name; only its digest leads to it"
_RESOLVES = {
    "wins": "▲ {} leads to it",
    "overruled": "▽ a later entry has {}; only its digest leads to it",
    "never": "– {} leads to nothing; only its digest leads to it",
}


def _checked(state: EntryState) -> Iterator[Line]:
    if state.checked is not None:
        new = "first seen: no earlier hash to compare with; all bytes were read"
        read = new if state.first_seen else "all bytes were read and found sound"
        yield Line(f"{read}, {age_of(state.checked)} ago, {timestamp(state.checked)}", "checked")
    elif state.depth is not None:
        known = "" if state.depth is Depth.DEEP else "; no deep check of these bytes is known"
        yield Line(f"{state.depth}{known}", "checked")


def _files(directory: Path, names: Mapping[FileKind, str], said: Iterable[Line]) -> Iterator[Line]:
    """All three sizes in a line, what is odd about any, what else is ``said``, and when the packed file came."""
    sizes, odd, came = list[str](), list[Line](), list[Line]()
    for kind, name in names.items():
        packed = kind is FileKind.PACKED
        called = name.rpartition(".")[2] if packed else str(kind)
        try:
            found = os.lstat(directory / name)
        except OSError:
            odd += [Line(f"missing: {short_digests(name)}", called, "bad")] if packed else []
            continue
        if stat.S_ISREG(found.st_mode):
            sizes.append(f"{called} {human_size(found.st_size)}")
        elif packed:
            odd.append(Line(_TYPES.get(stat.S_IFMT(found.st_mode), "not a regular file"), called, "bad"))
        if packed:
            came = [Line(f"{age_of(found.st_mtime)} ago, {timestamp(found.st_mtime)}", "came")]
    yield from [*([Line("   ".join(sizes), "files")] if sizes else []), *odd, *said, *came]


def _users(directory: Path, names: Mapping[FileKind, str], zones: Zones | None = None) -> Iterator[Line]:
    """The zones that need the packed file, and the loop devices that hold it, or a deleted one of its name."""
    file, loops = names.get(FileKind.PACKED, ""), users_of(directory)
    zones = zones or read_zones(directory, ask=False, loops=loops)
    having = [(zone, need) for zone, need in zones.needs() if need.file == file]
    using = (Line(f"zone {zone.label}, {zone.state}: its {need.role}, {need.when}", "used by") for zone, need in having)
    yield from first_lines(using, len(having), label="used by")
    if zones.doubt:
        yield Line(f"not sure: {zones.doubt}", "used by", "warn")
    for use in loops.get(file, []):
        parts = ["read-only" if use.read_only else "read-write"]
        parts += [f"mounted at {mount}" for mount in use.mounts] + [f"under {holder}" for holder in use.holders]
        parts += ["holds a deleted file of this name, which can be read back"] if use.deleted else []
        yield Line(f"{use.device}, {', '.join(parts)}", "used by", "bad" if use.deleted else "plain")


_TYPES = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe"}


def _image(entry: JudgedEntry, manifest: ImageManifest | None, config: ImageConfiguration | None) -> Iterator[Line]:
    platform = entry.platform or (str(config.platform) if config else "")
    built = ", ".join(filter(None, (_since(config.created) if config else "", f"for {platform}" if platform else "")))
    yield from with_text(Line(built, "built"), Line((config and config.author) or "", "author"))
    if manifest is not None:
        size = sum(layer.size for layer in manifest.layers)
        yield Line(f"{len(manifest.layers)}, {human_size(size)} compressed", "layers")


def _since(created: str | None) -> str:
    """The date, and how long ago that is; as it stands where it is none."""
    with suppress(ValueError, OverflowError):
        return f"{age_of(datetime.fromisoformat(created or '').timestamp())} ago, {(created or '')[:10]}"
    return created or ""


def _annotations(entry: JudgedEntry) -> Iterator[Line]:
    """What else the descriptor says."""
    descriptor = entry.descriptor
    yield Line(f"{descriptor.media_type}, {descriptor.size} bytes", "entry")
    own = (ANNOTATION_IMAGE_NAME, ANNOTATION_PACKED_FORMAT, ANNOTATION_REFERENCE)
    yield from labelled("says", {key: value for key, value in descriptor.annotations.items() if key not in own})


def labelled(label: str, pairs: Mapping[str, str]) -> Iterator[Line]:
    """Labels, each in a line; what most begin with is said once, and short ends of that are labels themselves."""
    common = {key.removeprefix(_COMMON): value for key, value in pairs.items() if key.startswith(_COMMON)}
    for key in [key for key in pairs if not key.startswith(_COMMON)]:
        yield Line(f"{key}={pairs[key]}", label)
        label = " "
    if common:
        yield Line(_COMMON, label, "muted")
    for end, value in common.items():
        yield Line(value, end) if len(end) <= _SHORTEST_COLUMN else Line(f"{end}={value}", " ")


_COMMON, _SHORTEST_COLUMN = "org.opencontainers.image.", len("resolves")


def _layers(manifest: ImageManifest | None, config: ImageConfiguration | None) -> Iterator[Line]:
    """Layers, each beside the history that made it; steps that made no layer stand between them."""
    if manifest is None:
        return
    yield heading("Layers")
    rest = iter(manifest.layers)
    for step in config.history if config else ():
        layer = None if step.empty_layer else next(rest, None)
        yield _layer_line(layer, step)
    yield from (_layer_line(layer, None) for layer in rest)


def _layer_line(layer: BlobDescriptor | None, step: HistoryItem | None) -> Line:
    made_by = (step.created_by or step.comment or "") if step else ""
    if layer is None:
        return Line(made_by, "-", "muted")
    return Line(f"{short_digest(layer.digest)} {made_by}", human_size(layer.size))


def _runtime(config: ContainerConfig | None) -> Iterator[Line]:
    if config is None:
        return
    runs = [" ".join(words) for words in (config.entrypoint, config.cmd) if words]
    scalars = (
        ("runs", " ".join(runs)),
        ("as", " in ".join(filter(None, (config.user, config.working_dir))) if config.user else ""),
        ("in", "" if config.user else config.working_dir),
        ("env", "  ".join(config.env or ())),
        ("ports", " ".join(config.exposed_ports or ())),
        ("volumes", " ".join(config.volumes or ())),
        ("stop", config.stop_signal),
    )
    yield from with_text(*(Line(value or "", label) for label, value in scalars))


async def history(cache: PackerCache, entry: JudgedEntry) -> list[Line]:
    """What was done to an entry: its transactions, the newest first, and what came of reading its bytes."""
    try:
        transactions = await cache.transactions()
    except CacheError as error:
        return [Line(error.one_line, kind="bad")]
    # A record may be of very many images.
    of_it = await asyncio.to_thread(lambda: [one for one in transactions if entry.digest in one.image_digests])
    lines: list[Line] = []
    for one in of_it:
        kind: Kind = "plain" if one.state is TransactionState.DONE else "muted"
        lines.append(Line(f"{one.kind}, {one.state}, by {one.by}", timestamp(one.started)[:16], kind))
    if (checked := entry.state.checked) is not None:
        found = "first seen" if entry.state.first_seen else "sound"
        lines.append(Line(f"deep check: {found}", timestamp(checked)[:16], "good"))
    if entry.modified is not None:
        lines.append(Line("its packed file was written", timestamp(entry.modified)[:16]))
    lines.sort(key=lambda line: line.label, reverse=True)
    return lines if of_it else [*lines, Line(), Line("nothing was done to it here", kind="muted")]
