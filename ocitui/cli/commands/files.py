"""`ocitui files`: what is inside a packed file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ocitui.text import escaped

from ..options import reading
from ..output import Call, ExitCode, complain, say_lines
from ..selectors import complete_entry, entry_at, opened_tree

if TYPE_CHECKING:
    from ocitui.contents import PackedTree

_MOST_COMPLAINTS = 10


@click.command("files")
@click.argument("word", metavar="ENTRY", shell_complete=complete_entry)
@click.argument("path", metavar="[PATH]", default="")
@reading
def files_command(call: Call, word: str, path: str) -> ExitCode:
    """List what is inside a packed file, or PATH in it and what is below: mode, owner, size, time, name.

    ENTRY is a name, a digest or its first digits, with .FORMAT where it matters. Nothing is mounted. Links are shown as
    they are; those on the way to PATH are followed inside the image.

    Exits with 1 where there is no such path, and with 4 where a part is damaged, after what could be read.
    """
    from ocitui.words import file_json, file_line

    with opened_tree(call, word) as ((digest, format), tree):
        top = entry_at(tree, path, follow=False)
        damage = [(tree.path(entry), text) for entry, text in tree.damage]

        def refused(entry: int, error: Exception) -> None:
            damage.append((tree.path(entry), str(error)))

        if call.as_json:
            items = (file_json(tree, entry, first, refused) for entry, first in _entries(tree, top))
            call.emit_list("files", items, lambda: _damage_json(damage), digest=digest, format=format)
        else:
            say_lines(file_line(tree, entry, first, refused) for entry, first in _entries(tree, top))
    for place, text in damage[:_MOST_COMPLAINTS]:
        complain(f"{word}: {_placed(place, text)}", "")
    if damage:
        more = len(damage) - _MOST_COMPLAINTS
        complain(f"{word}: not all of it can be read{f': {more} more' if more > 0 else ''}", _hint())
    return ExitCode.UNCHECKED if damage else ExitCode.CLEAN


def _entries(tree: PackedTree, top: int) -> Iterator[tuple[int, int | None]]:
    """Each with the first name of its inode, where it has another."""
    links = tree.first_names()
    return ((entry, links.get(entry)) for entry in tree.walk(top))


def _placed(place: bytes, text: str) -> str:
    return f"{escaped(place)}: {text}" if place else text


def _hint() -> str:
    from ocitui.contents import DamagedError

    return DamagedError.default_hint


def _damage_json(damage: list[tuple[bytes, str]]) -> dict[str, Any]:
    """What programs are told behind the files; nothing where nothing is damaged."""
    if not damage:
        return {}
    from ocitui.contents import DamagedError

    told = [{"path": escaped(place), "message": text} for place, text in damage]
    message = _placed(*damage[0])
    return {"damage": told, "error": {"code": DamagedError.code, "message": message, "hint": _hint()}}
