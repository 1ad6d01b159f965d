"""The summary of an entry: what it is, its files, layers, history and how it runs. Read off the event loop."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_PACKED_FORMAT,
    ANNOTATION_REFERENCE,
    Document,
    DocumentError,
    FileKind,
    ImageConfiguration,
    ImageManifest,
    StorageError,
    Transaction,
    TransactionState,
)
from ocitui.cache.documents import BlobDescriptor, ContainerConfig, HistoryItem
from ocitui.cache.files import read_regular
from ocitui.doctor.entries import JudgedEntry
from ocitui.doctor.findings import Depth
from ocitui.host.loop_devices import users_of
from ocitui.text import age_of, human_size, short_digest, short_digests, timestamp

from .widgets.entry_columns import GOOD, SEVERITIES, UNKNOWN
from .widgets.lines import Line, heading

T = TypeVar("T")
LARGEST_PARSED = 4 << 20
"""Bytes of a document up to which the screen has it judged: a parser holds every other thread up."""


def summarize(directory: Path, entry: JudgedEntry) -> list[Line]:
    """The summary's lines; reads the two documents and looks at the three files."""
    names = entry.descriptor.files
    manifest, no_manifest = _read(directory, names.get(FileKind.MANIFEST), lambda raw: Document.manifest(raw).value)
    config, no_config = _read(directory, names.get(FileKind.CONFIG), lambda raw: Document.config(raw).value)
    unread = [Line(why, label, "bad") for label, why in (("manifest", no_manifest), ("config", no_config)) if why]
    return [
        *_identity(entry),
        *unread,
        *_files(directory, names),
        *_users(directory, names),
        *_image(entry, manifest, config),
        *_runtime(config.config if config else None),
        *_annotations(entry),
        *_layers(manifest, config),
    ]


def _read(directory: Path, name: str | None, parse: Callable[[bytes], T]) -> tuple[T | None, str]:
    """A document, or why there is none to show."""
    if name is None:
        return None, ""
    path = directory / name
    try:
        if not path.is_file():
            return None, "not there as a regular file: a miss for the daemon"
        if path.stat().st_size > LARGEST_PARSED:
            return None, f"{human_size(path.stat().st_size)}: too large to be read for the screen"
        return parse(read_regular(path)), ""
    except DocumentError as error:
        place = f" at line {error.line} column {error.column}" if error.line else ""
        return None, f"{error.message}{place}; the daemon fails on it"
    except (StorageError, OSError) as error:
        return None, f"{error}; the daemon fails on it"


def _identity(entry: JudgedEntry) -> Iterator[Line]:
    descriptor = entry.descriptor
    yield _state(entry)
    yield Line(descriptor.image_name or "none: it cannot be resolved, only recalled", "name")
    yield Line(_RESOLVES[entry.resolves], "resolves", "plain" if entry.resolves == "wins" else "muted")
    yield Line(entry.digest, "digest")
    if not entry.format:
        yield Line("none: no lookup finds it", "format")


_RESOLVES = {
    "wins": "▲ its name leads to it",
    "overruled": "▽ a later entry has its name; only its digest leads to it",
    "never": "– no name leads to it",
}


def _state(entry: JudgedEntry) -> Line:
    """The state's word, and how deep that rests."""
    state = entry.state
    if state.severity is not None:
        sign, role = SEVERITIES[state.severity]
        return Line(f"{sign} {state.word}", "state", "bad" if role == "bad" else "warn")
    if state.depth is None:
        return Line(f"{UNKNOWN} not looked into yet", "state", "muted")
    if state.depth is Depth.DEEP and state.checked is not None:
        read = f"all bytes were read and found sound, {timestamp(state.checked)}"
        if state.first_seen:
            read = f"first seen: no earlier hash to compare with; all bytes were read, {timestamp(state.checked)}"
        return Line(f"{GOOD} {state.word}: {read}", "state", "plain" if state.first_seen else "good")
    if state.ok:
        return Line(f"{GOOD} {state.word}: its header was looked at", "state", "good")
    return Line(f"{UNKNOWN} its header was not looked at", "state", "muted")


def _files(directory: Path, names: Mapping[FileKind, str]) -> Iterator[Line]:
    """When the packed file came, or what is odd about it, and the sizes of all three in a line; what there is to say of
    the documents was said by who read them."""
    sizes = []
    for kind, name in names.items():
        packed = kind is FileKind.PACKED
        called = name.rpartition(".")[2] if packed else str(kind)
        try:
            found = os.lstat(directory / name)
        except OSError:
            if packed:
                yield Line(f"missing: {short_digests(name)}", called, "bad")
            continue
        if stat.S_ISREG(found.st_mode):
            sizes.append(f"{called} {human_size(found.st_size)}")
        elif packed:
            yield Line(_file_type(found.st_mode), called, "bad")
        if packed:
            yield Line(f"{age_of(found.st_mtime)} ago, {timestamp(found.st_mtime)}", "came")
    if sizes:
        yield Line("   ".join(sizes), "files")


def _users(directory: Path, names: Mapping[FileKind, str]) -> Iterator[Line]:
    """The loop devices that hold the packed file, or held one of its name that is deleted by now."""
    uses = users_of(directory).get(names.get(FileKind.PACKED, ""), [])
    for use in uses:
        parts = ["read-only" if use.read_only else "read-write"]
        parts += [f"mounted at {mount}" for mount in use.mounts] + [f"under {holder}" for holder in use.holders]
        parts += ["holds a deleted file of this name, which can be read back"] if use.deleted else []
        text = f"{use.device}, {', '.join(parts)}"
        yield Line(text, "used by", "bad" if use.deleted else "plain")


def _file_type(mode: int) -> str:
    for test, name in ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe")):
        if test(mode):
            return name
    return "not a regular file"


def _image(entry: JudgedEntry, manifest: ImageManifest | None, config: ImageConfiguration | None) -> Iterator[Line]:
    platform = entry.platform or (str(config.platform) if config else "")
    built = ", ".join(filter(None, (config.created if config else "", f"for {platform}" if platform else "")))
    if built:
        yield Line(built, "built")
    if config is not None and config.author:
        yield Line(config.author, "author")
    if manifest is not None:
        layers = manifest.layers
        yield Line(f"{len(layers)}, {human_size(sum(layer.size for layer in layers))} compressed", "layers")


def _annotations(entry: JudgedEntry) -> Iterator[Line]:
    """What else the descriptor says."""
    descriptor = entry.descriptor
    yield Line()
    yield Line(f"{descriptor.media_type}, {descriptor.size} bytes", "entry")
    own = (ANNOTATION_IMAGE_NAME, ANNOTATION_PACKED_FORMAT, ANNOTATION_REFERENCE)
    told = (f"{key}={value}" for key, value in descriptor.annotations.items() if key not in own)
    yield from (Line(text, " " if number else "says") for number, text in enumerate(told))


def _layers(manifest: ImageManifest | None, config: ImageConfiguration | None) -> Iterator[Line]:
    """Layers, each beside the history that made it; steps that made no layer stand between them."""
    if manifest is None:
        return
    yield Line()
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
    yield Line()
    runs = [" ".join(words) for words in (config.entrypoint, config.cmd) if words]
    scalars = (
        ("runs", " ".join(runs)),
        ("as", config.user),
        ("in", config.working_dir),
        ("ports", " ".join(config.exposed_ports or ())),
        ("volumes", " ".join(config.volumes or ())),
        ("stop signal", config.stop_signal),
    )
    yield from (Line(value, label) for label, value in scalars if value)
    yield from (Line(text, "env" if number == 0 else " ") for number, text in enumerate(config.env or ()))
    if config.labels:
        yield Line()
        told = (f"{key}={value}" for key, value in config.labels.items())
        yield from (Line(text, " " if number else "labels") for number, text in enumerate(told))


def history(transactions: Sequence[Transaction], entry: JudgedEntry) -> list[Line]:
    """What was done to an entry: its transactions, the newest first, and what came of reading its bytes."""
    lines = [
        Line(
            f"{one.kind}, {one.state}, by {one.by}",
            timestamp(one.started)[:16],
            "plain" if one.state is TransactionState.DONE else "muted",
        )
        for one in transactions
    ]
    if (checked := entry.state.checked) is not None:
        found = "first seen" if entry.state.first_seen else "sound"
        lines.append(Line(f"deep check: {found}", timestamp(checked)[:16], "good"))
    if entry.modified is not None:
        lines.append(Line("its packed file was written", timestamp(entry.modified)[:16]))
    lines.sort(key=lambda line: line.label, reverse=True)
    return lines if transactions else [*lines, Line(), Line("nothing was done to it here", kind="muted")]
