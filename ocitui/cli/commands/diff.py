"""`ocitui diff`: what differs between two entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..options import reading
from ..output import Call, ExitCode, Unread, say, say_lines
from ..selectors import complete_entry, opened_tree

if TYPE_CHECKING:
    from ocitui.cache import Key
    from ocitui.contents import ComparedTree, TreeChange, TreeComparison
    from ocitui.words import LayerChange, SettingChange, Tally

_LEVELS = ("content", "xattrs", "full")
T = TypeVar("T")
_Named = tuple[str, "Key"]


@click.command("diff")
@click.argument("before", metavar="A", shell_complete=complete_entry)
@click.argument("after", metavar="B", shell_complete=complete_entry)
@click.option(
    "--level",
    type=click.Choice(_LEVELS),
    default="content",
    show_default=True,
    help="How much of the trees.",
)
@click.option("--text", is_flag=True, help="Of a text of up to 1 MiB the lines that differ, too.")
@reading
def diff_command(call: Call, before: str, after: str, level: str, text: bool) -> ExitCode:
    """Tell what differs between two entries: what the configs say, layers, then files, a line each.

    A and B are names, digests or their first digits, with .FORMAT where it matters: two formats of one digest are
    compared too. A path is + added, - removed, or ~ changed; the last line counts them. What xattrs and full compare
    besides, ocitui help contents says.

    Exits with 0 where nothing differs, 1 where something does, 4 where a part of either cannot be read.
    """
    from ocitui.contents import TreeComparison, TreeLevel
    from ocitui.threads import Stop
    from ocitui.words import Tally, layer_line, setting_line

    unread, tally = Unread(), Tally()
    with ExitStack() as stack:
        one, side = _opened(call, before, stack, unread)
        other, beside = _opened(call, after, stack, unread)
        comparison = TreeComparison(side, side if one == other else beside, TreeLevel(level))
        settings, layers = _documents(call, (before, one), (after, other), unread)
        changes = _counted(comparison.changes(Stop()), tally)
        if call.as_json:
            keys: dict[str, Any] = {"entries": [{"digest": key[0], "format": key[1]} for key in (one, other)]}
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


def _opened(call: Call, word: str, stack: ExitStack, unread: Unread) -> tuple[Key, ComparedTree]:
    from ocitui.contents import ComparedTree, ContentsError

    key, tree = stack.enter_context(opened_tree(call, word))
    try:
        return key, ComparedTree(tree, lambda entry, error: unread.add(word, tree.path(entry), str(error)))
    except ContentsError as error:
        raise type(error)(f"{word}: {error.message}", hint=error.hint) from error


def _documents(
    call: Call, before: _Named, after: _Named, unread: Unread
) -> tuple[list[SettingChange], list[LayerChange]]:
    """What differs of the configs and manifests; nothing of those that cannot be read."""
    from ocitui.cache import CacheError, config_name, manifest_name, read_config, read_manifest, read_regular
    from ocitui.words import layer_changes, setting_changes

    if before[1][0] == after[1][0]:
        return [], []

    def read(named: Callable[[str], str], parse: Callable[[bytes], T]) -> list[T]:
        found = []
        for word, (digest, _) in (before, after):
            try:
                found.append(parse(read_regular(call.directory / named(digest))))
            except CacheError as error:
                unread.add(word, b"", str(error))
        return found

    configs, manifests = read(config_name, read_config), read(manifest_name, read_manifest)
    settings = setting_changes(*configs) if len(configs) == 2 else []
    return settings, list(layer_changes(*manifests)) if len(manifests) == 2 else []


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
