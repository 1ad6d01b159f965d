"""The links of the chain behind an entry: its three files, what the documents and the packed file say, its content."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from ocitui.cache import Document, DocumentError, FileKind, PackedFormat, StorageError
from ocitui.cache.files import file_names, read_regular, regular_file
from ocitui.cache.ledger import Ledger
from ocitui.cache.packed_file import check_packed

from .check.document_checks import has_digest
from .finding_texts import found_text

T = TypeVar("T")
REPAIR = "`ocitui repair` shows what can be brought back"
_IMPORT = "import it again, or let the daemon pull it: `ocitui repair` shows what there is to restore it from"
# While the bad file is there the daemon takes it for a hit, and pulls nothing.
_REPLACE = "`ocitui repair` restores it, or moves it aside: then it is a miss, and a pull by name brings it again"
_MOVE_ASIDE = "move it aside with `ocitui repair`: the error becomes a miss, which the daemon heals by pulling"


class Standing(StrEnum):
    """UNKNOWN: it was not looked at, or cannot be told."""

    OK = "ok"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Link:
    """One step from a name to an answer; ``advice`` is what to do about it, empty where there is nothing to do."""

    title: str
    standing: Standing
    text: str
    advice: str = ""


def ok_or_bad(ok: bool) -> Standing:
    return Standing.OK if ok else Standing.BAD


def file_links(directory: Path, digest: str, format_: PackedFormat, ledger: Ledger | None) -> Iterator[Link]:
    """What the files of an entry are, and what is in them, each looked at whatever the one before it was."""
    names = file_names(digest, format_)
    for kind, name in names.items():
        yield _file_link(kind, directory / name)
    yield from _document_links(directory, digest, names)
    packed = directory / names[FileKind.PACKED]
    if regular_file(packed) is not None:
        yield _header_link(packed, format_)
        yield _content_link(packed, ledger)


def _file_link(kind: FileKind, path: Path) -> Link:
    found = regular_file(path)
    title = "packed file" if kind is FileKind.PACKED else kind.value
    if found is not None:
        linked = ", behind a link" if path.is_symlink() else ""
        return Link(title, Standing.OK, f"{path.name}: a regular file of {found.st_size} bytes{linked}")
    if not os.path.lexists(path):
        return Link(title, Standing.BAD, f"{path.name}: missing", _IMPORT)
    problem = "a link to nothing" if path.is_symlink() and not path.exists() else "not a regular file"
    return Link(title, Standing.BAD, f"{path.name}: {problem}", "move it aside with `ocitui repair`")


def _document_links(directory: Path, digest: str, names: dict[FileKind, str]) -> Iterator[Link]:
    link, manifest = _document(directory / names[FileKind.MANIFEST], FileKind.MANIFEST, digest, Document.manifest)
    yield from link
    expected = manifest.value.config.digest if manifest is not None else None
    link, _ = _document(directory / names[FileKind.CONFIG], FileKind.CONFIG, expected, Document.config)
    yield from link


def _document(
    path: Path, kind: FileKind, digest: str | None, parse: Callable[[bytes], Document[T]]
) -> tuple[list[Link], Document[T] | None]:
    """What a document says; nothing where there is none to read. ``digest`` is what its content should have."""
    if regular_file(path) is None:
        return [], None
    title = f"{kind}'s content"
    try:
        raw = read_regular(path)
        document = parse(raw)
    except StorageError as error:
        return [Link(title, Standing.BAD, error.message, _MOVE_ASIDE)], None
    except DocumentError as error:
        place = f" at line {error.line} column {error.column}" if error.line else ""
        text = f"the daemon cannot read it, at any lookup: {error.message}{place}"
        return [Link(title, Standing.BAD, text, _MOVE_ASIDE)], None
    match None if digest is None else has_digest(raw, digest):
        case True:
            return [
                Link(title, Standing.OK, f"the daemon reads it, and it is what its digest says, {digest}")
            ], document
        case False:
            text = f"the daemon reads it, and does not see that it is not what its digest says, {digest}"
            return [Link(title, Standing.BAD, text, _REPLACE)], document
        case _:
            text = "the daemon reads it; whether it is what its digest says cannot be told"
            return [Link(title, Standing.UNKNOWN, text)], document


def _header_link(path: Path, format_: PackedFormat) -> Link:
    try:
        check = check_packed(path)
    except StorageError as error:
        return Link("header", Standing.BAD, error.message, _REPLACE)
    if check.problem is None and check.found is format_:
        return Link("header", Standing.OK, f"{format_}, and the file is as long as its header says")
    problem = check.problem or f"it is {check.found} by its magic, not {format_}"
    text = f"{problem}: the daemon does not look, and the guest fails later"
    return Link("header", Standing.BAD, text, _REPLACE)


def _content_link(path: Path, ledger: Ledger | None) -> Link:
    found = regular_file(path)
    damage = ledger.damage(path.name, found) if ledger is not None and found is not None else None
    if damage is not None:
        text = f"{damage.code}: {damage.seen}; {found_text(damage.found)}, and not read again now"
        return Link("content", Standing.BAD, text, _REPLACE)
    recorded = None if ledger is None else ledger.look(path.name)
    if recorded is None:
        text = "no sha256 of it was recorded, so that a flipped bit would not show"
        return Link("content", Standing.UNKNOWN, text, "`ocitui check --depth deep` reads and records it")
    checked = f"{datetime.fromtimestamp(recorded.checked, UTC):%Y-%m-%d %H:%M:%SZ}"
    if found is None or not recorded.same_file(found):
        text = f"it was written since its sha256 was recorded at {checked}"
        return Link("content", Standing.UNKNOWN, text, "`ocitui check --depth deep` compares it")
    text = f"not written since its sha256 was recorded at {checked}; not read again now"
    return Link("content", Standing.OK, text)
