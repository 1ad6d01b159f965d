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
)
from ocitui.cache.documents import BlobDescriptor, ContainerConfig, HistoryItem
from ocitui.cache.files import read_regular
from ocitui.doctor.entries import JudgedEntry
from ocitui.doctor.findings import Depth
from ocitui.host.loop_devices import users_of
from ocitui.text import human_size, short_digest, short_digests, timestamp

from .widgets.lines import Kind, Line, heading

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
        *_identity(entry, config, unread),
        *_files(directory, names),
        *_users(directory, names),
        *_image(config),
        *_layers(manifest, config),
        *_runtime(config.config if config else None),
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


def _identity(entry: JudgedEntry, config: ImageConfiguration | None, unread: Sequence[Line]) -> Iterator[Line]:
    descriptor = entry.descriptor
    yield Line(descriptor.image_name or "none: it cannot be resolved, only recalled", "name")
    yield Line(entry.digest, "digest")
    yield Line(entry.format or "none: no lookup finds it", "format")
    yield Line(entry.platform or (str(config.platform) if config else "unknown"), "platform")
    yield _state(entry)
    yield from unread
    yield Line(f"{descriptor.media_type}, {descriptor.size} bytes", "descriptor")
    own = (ANNOTATION_IMAGE_NAME, ANNOTATION_PACKED_FORMAT, ANNOTATION_REFERENCE)
    yield from (Line(value, key) for key, value in descriptor.annotations.items() if key not in own)


def _state(entry: JudgedEntry) -> Line:
    """The state's word, and how deep that rests."""
    state = entry.state
    if state.depth is None:
        return Line("not looked into yet", "state", "muted")
    if state.depth is Depth.DEEP and state.checked is not None:
        read = f"all bytes were read and found sound, {timestamp(state.checked)}"
        if state.first_seen:
            read = f"first seen: no earlier hash to compare with; all bytes were read, {timestamp(state.checked)}"
        return Line(f"{state.word}: {read}", "state", "plain" if state.first_seen else "good")
    depth = "its header was not looked at" if state.depth is Depth.QUICK else "its header was looked at"
    kind: Kind = "bad" if state.bad else "good" if state.ok else "muted"
    return Line(state.word if state.bad else f"{state.word}: {depth}", "state", kind)


def _files(directory: Path, names: Mapping[FileKind, str]) -> Iterator[Line]:
    yield Line()
    yield heading("Files")
    for kind, name in names.items():
        try:
            found = os.lstat(directory / name)
        except OSError:
            yield Line(f"missing: {short_digests(name)}", kind, "bad")
            continue
        regular = stat.S_ISREG(found.st_mode)
        kind_of_file = "" if regular else f", {_file_type(found.st_mode)}"
        text = f"{_size(found.st_size)}{kind_of_file}, {timestamp(found.st_mtime)}"
        yield Line(text, kind, "plain" if regular else "bad")


def _users(directory: Path, names: Mapping[FileKind, str]) -> Iterator[Line]:
    """The loop devices that hold the packed file, or held one of its name that is deleted by now."""
    uses = users_of(directory).get(names.get(FileKind.PACKED, ""), [])
    if uses:
        yield Line()
        yield heading("Used by")
    for use in uses:
        parts = ["read-only" if use.read_only else "read-write"]
        parts += [f"mounted at {mount}" for mount in use.mounts] + [f"under {holder}" for holder in use.holders]
        parts += ["holds a deleted file of this name, which can be read back"] if use.deleted else []
        yield Line(", ".join(parts), str(use.device), "bad" if use.deleted else "plain")


def _size(size: int) -> str:
    return f"{human_size(size)}, {size} bytes" if size >= 1024 else f"{size} bytes"


def _file_type(mode: int) -> str:
    for test, name in ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe")):
        if test(mode):
            return name
    return "not a regular file"


def _image(config: ImageConfiguration | None) -> Iterator[Line]:
    if config is None:
        return
    yield Line()
    yield heading("Image")
    yield Line(config.created or "unknown", "created")
    if config.author:
        yield Line(config.author, "author")


def _layers(manifest: ImageManifest | None, config: ImageConfiguration | None) -> Iterator[Line]:
    """Layers, each beside the history that made it; steps that made no layer stand between them."""
    if manifest is None:
        return
    layers = manifest.layers
    yield Line()
    yield heading(f"Layers: {len(layers)}, {human_size(sum(layer.size for layer in layers))} compressed")
    rest = iter(layers)
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
    yield heading("Runs")
    for label, words in (("entrypoint", config.entrypoint), ("command", config.cmd)):
        if words:
            yield Line(" ".join(words), label)
    scalars = (
        ("user", config.user),
        ("working dir", config.working_dir),
        ("ports", " ".join(config.exposed_ports or ())),
        ("volumes", " ".join(config.volumes or ())),
        ("stop signal", config.stop_signal),
    )
    yield from (Line(value, label) for label, value in scalars if value)
    yield from (Line(text, "env" if number == 0 else " ") for number, text in enumerate(config.env or ()))
    if config.labels:
        yield Line()
        yield heading("Labels")
        yield from (Line(value, key) for key, value in config.labels.items())
