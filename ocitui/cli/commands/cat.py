"""`ocitui cat`: a file from inside a packed file."""

from __future__ import annotations

import io
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ocitui.cache import StorageError
from ocitui.text import human_size

from ..options import reading
from ..output import Call, ExitCode, UsageProblemError, bytes_json, emit_bytes, is_terminal, say, say_lines
from ..selectors import complete_entry, entry_at, opened_tree

if TYPE_CHECKING:
    from ocitui.contents import PackedTree

_CHUNK, _LONGEST_LINE = 1 << 20, 1 << 16
_MOST_JSON = 64 << 20


@click.command("cat")
@click.argument("word", metavar="ENTRY", shell_complete=complete_entry)
@click.argument("path")
@reading
def cat_command(call: Call, word: str, path: str) -> ExitCode:
    """Print a file from inside a packed file: byte for byte, to a terminal only what is text.

    ENTRY is a name, a digest or its first digits, with .FORMAT where it matters. Links are followed inside the image.

    Exits with 1 where there is no such path, and with 4 where the file is damaged, after what could be read of it.
    """
    with opened_tree(call, word, whole=call.as_json) as ((digest, format), tree):
        entry = entry_at(tree, path, follow=True)
        if tree.kind(entry) != stat.S_IFREG:
            from ocitui.words import sort_of_file

            raise UsageProblemError(f"{path} is {sort_of_file(tree, entry)}", hint="ocitui files ENTRY /PATH shows it")
        if call.as_json:
            call.emit(digest=digest, format=format, files=[_as_json(tree, entry, path)])
        elif is_terminal(sys.stdout):
            _show(tree, entry, path)
        else:
            for chunk in _chunks(tree, entry, path):
                emit_bytes(chunk)
    return ExitCode.CLEAN


def _chunks(tree: PackedTree, entry: int, path: str) -> Iterator[bytes]:
    body = tree.open(entry)
    with _reading(path):
        while data := body.read(_CHUNK):
            yield data


def _lines(tree: PackedTree, entry: int, path: str) -> Iterator[str]:
    """Those of a text; a very long one in parts."""
    text = io.TextIOWrapper(io.BufferedReader(tree.open(entry), _CHUNK), encoding="utf-8", errors="replace")
    with _reading(path):
        while line := text.readline(_LONGEST_LINE):
            yield line.rstrip("\n").expandtabs()


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Name the path in what is wrong with it. Raises ContentsError, StorageError."""
    from ocitui.contents import ContentsError

    try:
        yield
    except ContentsError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error


def _as_json(tree: PackedTree, entry: int, path: str) -> dict[str, object]:
    from ocitui.words import file_json

    if tree.sizes[entry] > _MOST_JSON:
        told = f"{path} has {tree.sizes[entry]} bytes, too many for a document"
        raise UsageProblemError(told, hint="leave --json out")

    def refused(_: int, error: Exception) -> None:
        raise error

    with _reading(path):
        found = file_json(tree, entry, tree.first_names().get(entry), refused)
    return {**found, **bytes_json(b"".join(_chunks(tree, entry, path)))}


def _show(tree: PackedTree, entry: int, path: str) -> None:
    """A text by its lines, or what it is instead."""
    from ocitui.words import sort_of_bytes

    with _reading(path):
        start = tree.open(entry).read(_LONGEST_LINE) or b""
    if what := sort_of_bytes(start):
        say(f"{path}: {what}, {human_size(tree.sizes[entry])}; ocitui cat ENTRY PATH > FILE writes it")
    else:
        say_lines(_lines(tree, entry, path))
