"""What differs between two entries, in words for both front ends and for programs: configs, layers, files, texts."""

from __future__ import annotations

import io
import shlex
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ocitui.text import counted, escaped, human_size, timestamp

from .contents import file_json, sort_of_bytes, sort_of_file

if TYPE_CHECKING:
    from pathlib import Path

    from ocitui.cache import ImageConfiguration, ImageManifest
    from ocitui.contents import PackedTree, TreeChange, TreeComparison

MOST_TEXT = 1 << 20
"""The bytes of a file whose lines are compared."""
_NONE = "none"
T = TypeVar("T")
Value = str | list[str] | None


class SettingChange(NamedTuple):
    """A setting of a config, as ``env`` and the name of the variable, or ``user`` and nothing; a value is None where
    there is none."""

    field: str
    key: str
    before: Value
    after: Value


class LayerChange(NamedTuple):
    """A layer that only one has; ``change`` is added or removed."""

    change: str
    digest: str
    size: int


class Tally:
    """How many paths differ, and by how many bytes files came and went, counted as they are told."""

    def __init__(self) -> None:
        self.added = self.removed = self.changed = self.bytes_added = self.bytes_removed = 0

    @property
    def total(self) -> int:
        return self.added + self.removed + self.changed

    def count(self, change: TreeChange) -> None:
        self.added += change.before is None
        self.removed += change.after is None
        self.changed += bool(change.what)
        self.bytes_added += max(change.grown, 0)
        self.bytes_removed += max(-change.grown, 0)

    def line(self) -> str:
        paths = f"{counted(self.added, 'path')} added, {self.removed} removed, {self.changed} changed"
        return f"{paths}: {human_size(self.bytes_added)} more, {human_size(self.bytes_removed)} less"


def document_changes(
    directory: Path, before: str, after: str, unread: Callable[[str, Exception], object]
) -> tuple[list[SettingChange], list[LayerChange]]:
    """What differs of the configs and manifests of two digests; nothing of those that cannot be read, of which
    ``unread`` is told."""
    from ocitui.cache import (
        CacheError,
        StorageError,
        config_name,
        manifest_name,
        read_config,
        read_manifest,
        read_regular,
        usable_digest,
    )

    if before == after:
        return [], []

    def read(named: Callable[[str], str], parse: Callable[[bytes], T]) -> list[T]:
        found = []
        for digest in (before, after):
            try:
                if not usable_digest(digest):
                    raise StorageError("no lookup can reach a file of this entry")
                found.append(parse(read_regular(directory / named(digest))))
            except CacheError as error:
                unread(digest, error)
        return found

    configs, manifests = read(config_name, read_config), read(manifest_name, read_manifest)
    settings = setting_changes(*configs) if len(configs) == 2 else []
    return settings, list(layer_changes(*manifests)) if len(manifests) == 2 else []


def setting_changes(before: ImageConfiguration, after: ImageConfiguration) -> list[SettingChange]:
    """What differs of two configs."""
    one, other = _settings(before), _settings(after)
    keys = dict.fromkeys((*one, *other))
    return [SettingChange(*key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]


def _settings(config: ImageConfiguration) -> dict[tuple[str, str], Value]:
    """All that is set, each in a word."""
    found: dict[tuple[str, str], Value] = {
        ("created", ""): config.created,
        ("author", ""): config.author,
        ("platform", ""): str(config.platform),
        ("os version", ""): config.os_version,
        ("os features", ""): config.os_features,
    }
    if run := config.config:
        found |= {
            ("entrypoint", ""): run.entrypoint,
            ("cmd", ""): run.cmd,
            ("user", ""): run.user,
            ("workdir", ""): run.working_dir,
            ("stop", ""): run.stop_signal,
        }
        found |= {("env", name): value for name, _, value in (one.partition("=") for one in run.env or ())}
        found |= {("port", one): "exposed" for one in run.exposed_ports or ()}
        found |= {("volume", one): "declared" for one in run.volumes or ()}
        found |= {("label", one): value for one, value in (run.labels or {}).items()}
    return {key: value for key, value in found.items() if value is not None}


def setting_line(change: SettingChange) -> str:
    """As ``config env LANG: C -> none``."""
    values = " -> ".join(_value(value) for value in (change.before, change.after))
    return f"config {change.field}{f' {change.key}' if change.key else ''}: {values}"


def _value(value: Value) -> str:
    if value is None:
        return _NONE
    return shlex.join(value) if isinstance(value, list) else value or '""'


def layer_changes(before: ImageManifest, after: ImageManifest) -> Iterator[LayerChange]:
    """The layers that came and went, in their order; one that moved did both."""
    from difflib import SequenceMatcher

    one, other = ([layer.digest for layer in manifest.layers] for manifest in (before, after))
    for tag, start, end, begin, last in SequenceMatcher(None, one, other).get_opcodes():
        if tag != "equal":
            yield from (LayerChange("removed", one.digest, one.size) for one in before.layers[start:end])
            yield from (LayerChange("added", one.digest, one.size) for one in after.layers[begin:last])


def layer_line(change: LayerChange) -> str:
    """As ``layer + sha256:... 1.2M``."""
    return f"layer {'+' if change.change == 'added' else '-'} {change.digest} {human_size(change.size)}"


def change_line(comparison: TreeComparison, change: TreeChange) -> str:
    """As ``~ etc/passwd: mode 0644 -> 0600, size 3 -> 5``."""
    path = _text(change.path) or "/"
    if change.before is None or change.after is None:
        return f"{'+' if change.before is None else '-'} {path}"
    sides = (comparison.before.tree, change.before), (comparison.after.tree, change.after)
    return f"~ {path}: {', '.join(_fact(comparison, what, sides) for what in change.what)}"


_Sides = tuple[tuple["PackedTree", int], tuple["PackedTree", int]]


def _fact(comparison: TreeComparison, what: str, sides: _Sides) -> str:
    """What is another of a path, and what it was."""
    match what:
        case "content":
            return what
        case "xattrs":
            return f"{what} {' '.join(_xattr_names(sides))}"
        case "link":
            first = comparison.before.first_name(sides[0][1]), comparison.after.first_name(sides[1][1])
            values = [_NONE if path is None else _text(path) for path in first]
        case "type":
            return " -> ".join(sort_of_file(tree, entry) for tree, entry in sides)
        case "target":
            values = [_text(tree.target(entry)) for tree, entry in sides]
        case _:
            values = [_number(what, tree, entry) for tree, entry in sides]
    return f"{what} {' -> '.join(values)}"


def _number(what: str, tree: PackedTree, entry: int) -> str:
    node = tree.node(entry)
    match what:
        case "mode":
            return f"{stat.S_IMODE(node.mode):04o}"
        case "owner":
            return f"{node.uid}:{node.gid}"
        case "device":
            return "{},{}".format(*node.device)
        case "mtime":
            return timestamp(node.mtime)
    return str(node.size)


def _xattr_names(sides: _Sides) -> Iterator[str]:
    from ocitui.contents import kept_xattrs

    before, after = (kept_xattrs(*side) for side in sides)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{'~' if name in before and name in after else '-' if name in before else '+'}{_text(name)}"


def change_json(comparison: TreeComparison, change: TreeChange) -> dict[str, Any]:
    """The same for programs, with the entries as `file_json` has them."""
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    told: dict[str, Any] = {"path": escaped(change.path), "change": kind, "what": change.what}
    for key, side, entry in (("before", comparison.before, change.before), ("after", comparison.after, change.after)):
        first = None if entry is None else side.first_names.get(entry)
        told[key] = None if entry is None else file_json(side.tree, entry, first, side.unread)
    return told


def text_changes(comparison: TreeComparison, change: TreeChange) -> Iterator[str]:
    """The lines that differ of a text, with three around them, as diff(1) has them; none of what is no text or longer
    than MOST_TEXT."""
    if not {"content", "size"} & {*change.what} or change.before is None or change.after is None:
        return
    from difflib import unified_diff

    texts = list[list[str]]()
    for side, entry in ((comparison.before, change.before), (comparison.after, change.after)):
        if side.tree.sizes[entry] > MOST_TEXT:
            return
        data = side.told(entry, side.tree.open(entry).readall)
        if data is None or sort_of_bytes(data):
            return
        # Its end may be the beginning of a letter, which is no reason to call it no text.
        texts.append(io.StringIO(data.decode(errors="backslashreplace"), newline="\n").readlines())
    for line in list(unified_diff(texts[0], texts[1]))[2:]:
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield r"\ no line feed at the end"


def text_line(line: str) -> str:
    """One of these for people: what a terminal would not show is spelt, as ``\\t``."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
