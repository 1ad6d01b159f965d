"""`ocitui find`: which entries hold a path, or a file of these bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ocitui.text import escaped

from ..options import FORMATS, ended_by_signals, reading
from ..output import Call, ExitCode, Unread, UsageProblemError, say_lines

if TYPE_CHECKING:
    from ocitui.cache import ImageIndex
    from ocitui.contents import PathPattern

_HASH = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


@click.command("find")
@click.argument("pattern", metavar="[PATTERN]", default="")
@click.option("--sha256", "digest", metavar="HEX", help="Files whose bytes have this sha256.")
@reading
def find_command(call: Call, pattern: str, digest: str | None) -> ExitCode:
    """Tell which entries hold a path that is like PATTERN, a line each: ENTRY and the path.

    Without a slash a PATTERN as 'libssl*' is of names, with one of whole paths; * stays between two slashes. sha256:HEX
    is as --sha256, which reads every file that PATTERN leaves. Of several formats of a digest one is looked into.

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
        for hits in _searched(call, seen.contents, wanted, sha256, unread):
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
    """The paths that were found in an entry; ``name`` is one that stands for it, or None."""

    name: str | None
    digest: str
    format: str
    paths: list[bytes]

    def lines(self) -> Iterator[str]:
        entry = f"{self.name or self.digest}.{self.format}"
        return (f"{entry} {path.decode('utf-8', 'backslashreplace') or '/'}" for path in self.paths)

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "paths": [escaped(path) for path in self.paths]}


def _searched(
    call: Call, index: ImageIndex, pattern: PathPattern | None, sha256: bytes | None, unread: Unread
) -> Iterator[_Hits]:
    """What is found in each entry, in the order of the index."""
    from ocitui.contents import ContentsError

    for name, digest, format in _entries(call, index):
        told = partial(unread.add, f"{name or digest}.{format}")
        try:
            paths = _paths(call.directory / f"{digest}.{format}", format, pattern, sha256, told)
        except ContentsError as error:
            told(b"", error.message)
        except OSError as error:
            told(b"", f"it cannot be read: {error.strerror}")
        else:
            if paths:
                yield _Hits(name, digest, format, paths)


def _paths(
    packed: Path,
    format: str,
    pattern: PathPattern | None,
    sha256: bytes | None,
    told: Callable[[bytes, str], object],
) -> list[bytes]:
    """What is found in a packed file; what cannot be read of it is ``told``. Raises ContentsError, OSError."""
    from ocitui.cache import PackedFormat, open_bounded
    from ocitui.contents import find_entries, open_tree
    from ocitui.threads import Stop

    with open_bounded(packed) as file:
        tree = open_tree(file, PackedFormat(format), Stop())

        def unread(entry: int, error: Exception) -> None:
            told(tree.path(entry), str(error))

        for entry, message in tree.damage:
            told(tree.path(entry), message)
        return sorted(map(tree.path, find_entries(tree, Stop(), pattern=pattern, sha256=sha256, unread=unread)))


def _entries(call: Call, index: ImageIndex) -> Iterator[tuple[str | None, str, str]]:
    """Each digest of which there is a packed file, by the first name that stands for it, in the preferred format."""
    from ocitui.cache import regular_file, usable_digest

    # Of several entries that carry a name the last is the one that it stands for.
    winners = dict(zip(index.names, index.digests, strict=True))
    names, formats = dict[str, str | None](), dict[str, set[str | None]]()
    for name, digest, format in zip(index.names, index.digests, index.formats, strict=True):
        names[digest] = names.get(digest) or (name if winners[name] == digest else None)
        formats.setdefault(digest, set()).add(format)
    for digest, name in names.items():
        there = (one for one in FORMATS if one in formats[digest] and regular_file(call.directory / f"{digest}.{one}"))
        if usable_digest(digest) and (format := next(there, None)):
            yield name, digest, format
