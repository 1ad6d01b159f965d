"""`ocitui files`: what is inside packed files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ocitui.cache import CacheError, NoSuchEntryError
from ocitui.text import escaped

from ..options import FORMATS, reading, run_async, sources_option
from ..output import Call, ExitCode, Unread, UsageProblemError, complained, say_lines
from ..selectors import (
    chosen_keys,
    entries_argument,
    entry_at,
    filter_option,
    need_entries,
    packed_file,
    standing_names,
    tree_in,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ocitui.cache import Key
    from ocitui.contents import PackedTree


@click.command("files")
@entries_argument
@filter_option
@click.option("--layers", is_flag=True, help="List what its layers hold in vain: files that a later one hides.")
@sources_option("With --layers: they are here, as ocitui import takes it.")
@reading
def files_command(
    call: Call, words: Sequence[str], filter_text: str | None, layers: bool, sources: Sequence[str]
) -> ExitCode:
    """List what is inside packed files, or /PATH in them and what is below: mode, owner, size, time, name.

    ENTRY is a name, a digest or its first digits, with .FORMAT where it matters; a word that begins with / is the path.
    Nothing is mounted. Links are shown as they are; those on the way to the path are followed inside the image.

    With --layers the layers of one entry are read, from --from or from where it was imported, if that is on this host:
    which files they hold that the image has not, as a later layer took them away or put others in their place.

    Exits with 1 where there is no such path, and with 4 where a part is damaged, after what could be read.
    """
    paths = [word for word in words if word.startswith("/")]
    entries = [word for word in words if not word.startswith("/")]
    need_entries(entries, filter_text)
    if layers:
        return _hidden(call, words, filter_text, sources)
    if sources:
        raise UsageProblemError("--from is for --layers", hint="give --layers too")
    if len(paths) > 1:
        raise UsageProblemError(f"there are two paths, {paths[0]} and {paths[1]}", hint="give one, or none")
    unread, failed = Unread(), list[ExitCode]()
    packed = list(_packed(call, entries) if filter_text is None else _passing(call, filter_text, failed))
    found = _found(packed, "".join(paths), unread, failed)
    alone = len(entries) == 1
    if call.as_json:
        _emit(call, found, unread, alone=alone)
    else:
        say_lines(line for one in found for line in _lines(one, unread, alone=alone))
    if unread.complained():
        failed.append(ExitCode.UNCHECKED)
    return max(failed, default=ExitCode.CLEAN)


def _hidden(call: Call, words: Sequence[str], filter_text: str | None, sources: Sequence[str]) -> ExitCode:
    """What layers of the one entry hold in vain. Raises UsageProblemError, SourceError, and as `packed_file`."""
    from ocitui.doctor import hidden_in_layers
    from ocitui.words import hidden_lines

    if filter_text is not None or len(words) > 1:
        raise UsageProblemError("--layers is for one entry", hint="give one, without a path or --filter")
    (digest, format), _ = packed_file(call, words[0])
    try:
        found = run_async(hidden_in_layers(call.directory, digest, sources))
    except CacheError as error:
        hint = "--from SOURCE names what has them: a layout, an archive, a registry"
        raise type(error)(f"the layers cannot be read: {error.message}", hint=hint) from error
    if call.as_json:
        files = ({**one._asdict(), "path": escaped(one.path)} for one in found.files)
        about: dict[str, Any] = {"digest": digest, "format": format, "from": found.origin}
        about |= {"layers": found.layers, "size": found.size}
        call.emit_list("hidden", files, **about)
    else:
        say_lines(hidden_lines(found.files, found.size, found.layers))
    return ExitCode.CLEAN


class _Packed(NamedTuple):
    """The entry that a word names, and its packed file."""

    word: str
    key: Key
    path: Path


class _Found(NamedTuple):
    """The tree inside an entry's packed file, and where in it to begin."""

    word: str
    key: Key
    tree: PackedTree
    top: int


def _packed(call: Call, words: Sequence[str]) -> Iterator[_Packed]:
    """Raises what `packed_file` raises."""
    for word in words:
        try:
            yield _Packed(word, *packed_file(call, word))
        except NoSuchEntryError as error:
            hint = f"a path begins with a slash: /{word}" if len(words) > 1 else error.hint
            raise type(error)(error.message, hint=hint) from error


def _passing(call: Call, filter_text: str, failed: list[ExitCode]) -> Iterator[_Packed]:
    """What passes a filter, each digest in the format that is preferred; what has no packed file is told. Raises what
    `chosen_keys` raises."""
    formats = dict[str, set[str | None]]()
    for digest, format in chosen_keys(call, call.cache(), (), filter_text):
        formats.setdefault(digest, set()).add(format)
    for digest, some in formats.items():
        try:
            yield from _packed(call, [f"{digest}.{next((one for one in FORMATS if one in some), '')}"])
        except NoSuchEntryError as error:
            failed.append(complained(error))


def _found(packed: Sequence[_Packed], path: str, unread: Unread, failed: list[ExitCode]) -> Iterator[_Found]:
    """What cannot be read of a tree goes to ``unread``. Of several the others go on where one cannot be listed, which
    is told. Raises what `tree_in` and `entry_at` raise of one alone."""
    for one in packed:
        try:
            with tree_in(one.path) as tree:
                for entry, text in tree.damage:
                    unread.add(one.word, tree.path(entry), text)
                yield _Found(one.word, one.key, tree, entry_at(tree, path, follow=False))
        except CacheError as error:
            if len(packed) == 1:
                raise
            failed.append(complained(error, f"{one.word}: "))


def _lines(one: _Found, unread: Unread, *, alone: bool) -> Iterator[str]:
    from ocitui.words import file_line

    if not alone:
        yield f"{one.word}:"
    refused = partial(_refused, one, unread)
    yield from (file_line(one.tree, entry, first, refused) for entry, first in _entries(one))


def _emit(call: Call, found: Iterator[_Found], unread: Unread, *, alone: bool) -> None:
    """Of one entry alone its name, digest and format once, else of each file."""
    from ocitui.cache import read_patiently
    from ocitui.words import file_json

    names = standing_names(read_patiently(call.directory).contents)

    def about(one: _Found) -> dict[str, Any]:
        return {"name": names.get(one.key[0]), "digest": one.key[0], "format": one.key[1]}

    def items() -> Iterator[dict[str, Any]]:
        for one in found:
            refused = partial(_refused, one, unread)
            head = {} if alone else about(one)
            yield from (head | file_json(one.tree, entry, first, refused) for entry, first in _entries(one))

    keys = {}
    if alone:
        first = next(found)
        keys, found = about(first), chain((first,), found)
    call.emit_list("files", items(), unread.told, **keys)


def _refused(one: _Found, unread: Unread, entry: int, error: Exception) -> None:
    unread.add(one.word, one.tree.path(entry), str(error))


def _entries(one: _Found) -> Iterator[tuple[int, int | None]]:
    """Each with the first name of its inode, where it has another."""
    links = one.tree.first_names()
    return ((entry, links.get(entry)) for entry in one.tree.walk(one.top))
