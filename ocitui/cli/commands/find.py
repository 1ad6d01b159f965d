"""`ocitui find`: which entries hold a path, or a file of these bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ocitui.text import escaped

from ..options import FORMATS, ended_by_signals, images_option, reading
from ..output import Call, ExitCode, Unread, UsageProblemError, say_lines
from ..selectors import standing_names

if TYPE_CHECKING:
    from ocitui.cache import ImageIndex
    from ocitui.contents import PackedTree, PathPattern, TreeLines

_Told = Callable[[bytes, str], object]
_HASH = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


@click.command("find")
@click.argument("pattern", metavar="[PATTERN]", default="")
@click.option("--sha256", "digest", metavar="HEX", help="Files whose bytes have this sha256.")
@images_option
@reading
def find_command(call: Call, pattern: str, digest: str | None, images: bool) -> ExitCode:
    """Tell which entries hold a path that is like PATTERN, a line each: ENTRY and the path.

    Without a slash a PATTERN as 'libssl*' is of names, with one of whole paths,
    behind **/ of the ends of paths; * stays between two slashes. sha256:HEX
    is as --sha256. What is stored of an entry, by deep checks, tells at once; of others the packed file is read. Of
    several formats of a digest one is looked into.

    Exits with 0 where something is found, 1 where nothing is, 4 where a part of an entry cannot be read.
    """
    from ocitui.cache import read_patiently
    from ocitui.contents import PathPattern

    if digest is None and pattern.startswith("sha256:"):
        pattern, digest = "", pattern
    if digest is not None and _HASH.fullmatch(digest) is None:
        raise UsageProblemError(f"{digest!r} is no sha256", hint="it has 64 hexadecimal digits")
    if digest is None and not pattern:
        raise UsageProblemError("there is nothing to find", hint="give a PATTERN, or --sha256 HEX")
    wanted = PathPattern(pattern) if pattern else None
    sha256 = None if digest is None else bytes.fromhex(digest.removeprefix("sha256:"))
    unread, found = Unread(), False

    def noted() -> Iterator[_Hits]:
        nonlocal found
        for hits in _searched(call, seen.contents, _Wanted(wanted, sha256, images), unread):
            found = True
            yield hits

    with ended_by_signals():
        seen = read_patiently(call.directory)
        seen.require_sound(call.directory)
        if call.as_json:
            call.emit_list("images", (hits.as_json() for hits in noted()), unread.told)
        else:
            say_lines(line for hits in noted() for line in hits.lines())
    if unread.complained():
        return ExitCode.UNCHECKED
    return ExitCode.CLEAN if found else ExitCode.PROBLEMS


class _Hits(NamedTuple):
    """The paths that were found in an entry; ``name`` is one that stands for it, or None. ``source`` is where they were
    found: what is stored, or the image."""

    name: str | None
    digest: str
    format: str
    source: str
    paths: list[bytes]

    def lines(self) -> Iterator[str]:
        entry = f"{self.name or self.digest}.{self.format}"
        return (f"{entry} {path.decode('utf-8', 'backslashreplace') or '/'}" for path in self.paths)

    def as_json(self) -> dict[str, Any]:
        found = {"name": self.name, "digest": self.digest, "format": self.format, "from": self.source}
        return {**found, "paths": [escaped(path) for path in self.paths]}


class _Wanted(NamedTuple):
    """What is looked for; with ``images`` in packed files only."""

    pattern: PathPattern | None
    sha256: bytes | None
    images: bool


def _searched(call: Call, index: ImageIndex, wanted: _Wanted, unread: Unread) -> Iterator[_Hits]:
    """What is found in each entry, in the order of the index."""
    from ocitui.cache import Ledger
    from ocitui.contents import ContentsError, TreeStore

    store = TreeStore(call.directory, None if wanted.images else Ledger.open(call.directory))
    for name, digest, format in _entries(call, index):
        told, packed = partial(unread.add, f"{name or digest}.{format}"), call.directory / f"{digest}.{format}"
        try:
            kept = None if wanted.images else store.right(packed)
            paths = _in_lines(kept, wanted, told) if kept else _in_image(packed, format, wanted, told)
        except ContentsError as error:
            told(b"", error.message)
        except OSError as error:
            told(b"", f"it cannot be read: {error.strerror}")
        else:
            if paths:
                yield _Hits(name, digest, format, "stored" if kept else "image", paths)


def _in_lines(kept: TreeLines, wanted: _Wanted, told: _Told) -> list[bytes]:
    """What is found in stored lines. Raises ContentsError."""
    if wanted.sha256 is not None:
        from ocitui.contents import TreeLevel

        hashed = f" sha256:{wanted.sha256.hex()} "
        if not any(hashed in line for line in kept.at(TreeLevel.FULL)):
            return []
    return _paths(kept.tree(), wanted, told)


def _in_image(packed: Path, format: str, wanted: _Wanted, told: _Told) -> list[bytes]:
    """What is found in a packed file. Raises ContentsError, OSError."""
    from ocitui.cache import PackedFormat, open_bounded
    from ocitui.contents import open_tree
    from ocitui.threads import Stop

    with open_bounded(packed) as file:
        return _paths(open_tree(file, PackedFormat(format), Stop()), wanted, told)


def _paths(tree: PackedTree, wanted: _Wanted, told: _Told) -> list[bytes]:
    """What is found in a tree; what cannot be read of it is ``told``."""
    from ocitui.contents import find_entries
    from ocitui.threads import Stop

    def unread(entry: int, error: Exception) -> None:
        told(tree.path(entry), str(error))

    for entry, message in tree.damage:
        told(tree.path(entry), message)
    found = find_entries(tree, Stop(), pattern=wanted.pattern, sha256=wanted.sha256, unread=unread)
    return sorted(map(tree.path, found))


def _entries(call: Call, index: ImageIndex) -> Iterator[tuple[str | None, str, str]]:
    """Each digest of which there is a packed file, by the first name that stands for it, in the preferred format."""
    from ocitui.cache import regular_file, usable_digest

    formats = dict[str, set[str | None]]()
    for digest, format in zip(index.digests, index.formats, strict=True):
        formats.setdefault(digest, set()).add(format)
    for digest, name in standing_names(index).items():
        there = (one for one in FORMATS if one in formats[digest] and regular_file(call.directory / f"{digest}.{one}"))
        if usable_digest(digest) and (format := next(there, None)):
            yield name, digest, format
