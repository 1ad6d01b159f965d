"""`ocitui diff`: what differs between two entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..options import images_option, level_option, reading
from ..output import Call, ExitCode, Unread, UsageProblemError, say, say_lines
from ..selectors import complete_entry, packed_file, tree_in

if TYPE_CHECKING:
    from ocitui.cache import Key
    from ocitui.contents import ComparedTree, PackedTree, TreeChange, TreeComparison, TreeLines
    from ocitui.words import LayerChange, SettingChange, Tally


@click.command("diff")
@click.argument("before", metavar="A", shell_complete=complete_entry)
@click.argument("after", metavar="B", shell_complete=complete_entry)
@level_option
@click.option("--text", is_flag=True, help="Of a text of up to 1 MiB the lines that differ, too.")
@images_option
@reading
def diff_command(call: Call, before: str, after: str, level: str, text: bool, images: bool) -> ExitCode:
    """Tell what differs between two entries: what the configs say, layers, then files, a line each.

    A and B are names, digests or their first digits, with .FORMAT where it matters: two formats of one digest are
    compared too. What begins with / or . is a file that ocitui digest --lines wrote, maybe on another host. A path is
    + added, - removed, or ~ changed; the last line counts them. What xattrs and full compare besides, ocitui help
    contents says.

    Exits with 0 where nothing differs, 1 where something does, 4 where a part of either cannot be read.
    """
    from ocitui.contents import TreeComparison, TreeLevel
    from ocitui.threads import Stop
    from ocitui.words import Tally, layer_line, setting_line

    unread, tally = Unread(), Tally()
    with ExitStack() as stack:
        sides = [_side(call, word, level, text=text) for word in (before, after)]
        stored = not (images or text) and all(side.lines or side.key is None for side in sides)
        one, other = (_tree(side, stored, stack, unread) for side in sides)
        is_same = sides[0].key == sides[1].key is not None
        comparison = TreeComparison(one, one if is_same else other, TreeLevel(level))
        settings, layers = _documents(call, sides, unread)
        changes = _counted(comparison.changes(Stop()), tally)
        if call.as_json:
            keys: dict[str, Any] = {"entries": [side.as_json(stored) for side in sides]}
            keys["config"], keys["layers"] = [[each._asdict() for each in found] for found in (settings, layers)]
            items = _items(comparison, changes, text)
            call.emit_list("changes", items, lambda: {"counts": vars(tally), **unread.told()}, level=level, **keys)
        else:
            say(*map(setting_line, settings), *map(layer_line, layers))
            say_lines(_lines(comparison, changes, text))
            say(tally.line() if settings or layers or tally.total else f"nothing differs at the level {level}")
    if unread.complained():
        return ExitCode.UNCHECKED
    return ExitCode.PROBLEMS if settings or layers or tally.total else ExitCode.CLEAN


class _Side(NamedTuple):
    """One of two that are compared: an entry with its packed file, and the lines that are stored of that, if there are
    any; or a file of lines, which has no ``key``, and their ``tree``."""

    word: str
    path: Path
    key: Key | None = None
    lines: TreeLines | None = None
    tree: PackedTree | None = None

    def as_json(self, stored: bool) -> dict[str, Any]:
        if self.key is None:
            return {"digest": None, "format": None, "from": str(self.path)}
        return {"digest": self.key[0], "format": self.key[1], "from": "stored" if stored else "image"}


def _side(call: Call, word: str, level: str, *, text: bool) -> _Side:
    """Raises UsageProblemError where a file of lines has less than is asked for, and as `packed_file`."""
    from ocitui.contents import TreeLevel, TreeStore, read_lines

    if not word.startswith(("/", ".")):
        key, path = packed_file(call, word)
        return _Side(word, path, key, TreeStore(call.directory).right(path))
    has, tree = read_lines(Path(word))
    levels = list(TreeLevel)
    if text:
        raise UsageProblemError(f"{word} has no text of files, only their hashes", hint="leave --text out")
    if levels.index(has) < levels.index(TreeLevel(level)):
        raise UsageProblemError(f"{word} has no more than the level {has}", hint=f"give --level {has}")
    return _Side(word, Path(word), tree=tree)


def _tree(side: _Side, stored: bool, stack: ExitStack, unread: Unread) -> ComparedTree:
    from ocitui.contents import ComparedTree, ContentsError

    tree = side.tree
    if tree is None:
        tree = side.lines.tree() if stored and side.lines else stack.enter_context(tree_in(side.path))
    try:
        return ComparedTree(tree, lambda entry, error: unread.add(side.word, tree.path(entry), str(error)))
    except ContentsError as error:
        raise type(error)(f"{side.word}: {error.message}", hint=error.hint) from error


def _documents(call: Call, sides: Sequence[_Side], unread: Unread) -> tuple[list[SettingChange], list[LayerChange]]:
    """What differs of the configs and manifests; nothing of those that cannot be read."""
    from ocitui.words import document_changes

    words = {side.key[0]: side.word for side in sides if side.key is not None}
    if len(words) < len(sides):
        return [], []
    one, other = words
    return document_changes(call.directory, one, other, lambda of, error: unread.add(words[of], b"", str(error)))


def _counted(changes: Iterator[TreeChange], tally: Tally) -> Iterator[TreeChange]:
    for change in changes:
        tally.count(change)
        yield change


def _items(comparison: TreeComparison, changes: Iterator[TreeChange], text: bool) -> Iterator[dict[str, Any]]:
    from ocitui.words import change_json, text_changes

    for change in changes:
        yield change_json(comparison, change) | ({"text": list(text_changes(comparison, change))} if text else {})


def _lines(comparison: TreeComparison, changes: Iterator[TreeChange], text: bool) -> Iterator[str]:
    from ocitui.words import change_line, text_changes, text_line

    for change in changes:
        yield change_line(comparison, change)
        for line in text_changes(comparison, change) if text else ():
            yield f"    {text_line(line)}"
