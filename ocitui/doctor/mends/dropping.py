"""Entries that leave the index with the files that only they need: done only when it is asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ocitui.cache.disk import Folder
from ocitui.cache.index import Key
from ocitui.cache.needs import discardable

from ..findings import Finding
from ..used_entries import packed_file
from .scene import Scene, entry_of
from .steps import Change, RepairStep, StepKind
from .words import MISS, REVERSIBLE

if TYPE_CHECKING:
    from .files import Holders


def drop_step(scene: Scene, keys: Collection[Key], findings: tuple[Finding, ...], holders: Holders) -> RepairStep:
    """The step that takes the entries of these keys, all of one digest, out of the index. Raises OSError."""
    assert scene.index is not None
    wanted = set(keys)
    positions = tuple(at for at, descriptor in enumerate(scene.descriptors) if descriptor.key in wanted)
    going = [scene.descriptors[at] for at in positions]
    left = scene.index.without(wanted)
    with Folder.open(scene.directory) as root:
        present, _ = discardable(root, left, wanted)
    discards = scene.discards(present)
    names = dict.fromkeys(descriptor.image_name for descriptor in going if descriptor.image_name)
    gone = [name for name in names if left.by_name(name) is None]
    formats = ", ".join(dict.fromkeys(descriptor.format or "no format" for descriptor in going))
    return RepairStep(
        0,
        StepKind.DROP_ENTRY,
        f"Drop {entry_of(going[0].digest, '', next(iter(names), ''))} in {formats}",
        findings,
        scene.trashed(discards),
        sum(item.seen.size for item in discards),
        then=MISS,
        loses=f"the name {', '.join(gone)}; {REVERSIBLE}" if gone else "",
        used_by=tuple(dict.fromkeys(user for descriptor in going for user in holders.of(packed_file(descriptor)))),
        change=Change(remove=positions, discard=discards),
    )
