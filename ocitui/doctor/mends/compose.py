"""Several steps as one change of the cache: one edit of the index, each file once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ocitui.cache import (
    ConflictError,
    ImageIndex,
    IndexEdit,
    IndexReplacement,
    IndexSeen,
    Insert,
    Mend,
    Place,
    Remove,
    see,
)

from .steps import Change, Fetch

T = TypeVar("T")


def compose(
    index: ImageIndex | None,
    seen: IndexSeen | None,
    changes: Sequence[Change],
    staged: Mapping[str, Path] | None = None,
) -> Mend:
    """The changes as one mend; ``staged`` are the paths of fetched files by their name.

    Raises ConflictError where two of them want the same file, or one was not fetched.
    """
    placed = _once(place for change in changes for place in change.place)
    fetched = [_placed(fetch, staged or {}) for fetch in _once(fetch for change in changes for fetch in change.fetch)]
    discarded = _once(item for change in changes for item in change.discard)
    places = [*placed, *fetched]
    names = [place.name for place in places] + [item.name for item in discarded]
    _check_names(names)
    # The mode of what goes anyway stays, so that it comes back with it.
    modes = [mode for mode in _once(mode for change in changes for mode in change.modes) if mode.name not in names]
    return Mend(_index_change(index, seen, changes), tuple(discarded), tuple(places), tuple(modes))


def annotated(index: ImageIndex, position: int, annotations: Mapping[str, str]) -> bytes:
    """The descriptor at a position with these annotations, laid out as the index is."""
    return index.laid_out(index.descriptors[position].with_annotations(dict(annotations)).raw)


def _index_change(
    index: ImageIndex | None, seen: IndexSeen | None, changes: Sequence[Change]
) -> IndexEdit | IndexReplacement | None:
    replacements = _once(change.replacement for change in changes if change.replacement is not None)
    if replacements:
        if len(replacements) > 1 or any(_edits(change) for change in changes):
            raise ConflictError("index.json is replaced whole", hint="mend its entries once it is")
        return replacements[0]
    if index is None or not any(_edits(change) for change in changes):
        return None
    removed = {position for change in changes for position in change.remove}
    edited = _annotations(changes, removed)
    inserts = [Insert(annotated(index, at, new), at) for at, new in sorted(edited.items())]
    inserts += [insert for change in changes for insert in change.insert]
    gone = [Remove(position, index.descriptors[position].raw) for position in sorted(removed | set(edited))]
    # Positions mean something in the index that was seen only; what is put at the end fits any.
    bound = any(insert.position is not None for change in changes for insert in change.insert)
    return IndexEdit(tuple(gone), tuple(inserts), seen if bound else None)


def _annotations(changes: Iterable[Change], removed: set[int]) -> dict[int, dict[str, str]]:
    edited: dict[int, dict[str, str]] = {}
    for change in changes:
        for position, changed in change.annotate:
            if position not in removed:
                edited.setdefault(position, {}).update(changed)
    return edited


def _edits(change: Change) -> bool:
    return bool(change.remove or change.annotate or change.insert)


def _placed(fetch: Fetch, staged: Mapping[str, Path]) -> Place:
    path = staged.get(fetch.name)
    if path is None:
        raise ConflictError(f"{fetch.name} was not fetched")
    return Place(fetch.name, fetch.seen, path=path, source=see(path))


def _once(items: Iterable[T]) -> list[T]:
    """Each that is not equal to an earlier one."""
    return list(dict.fromkeys(items))


def _check_names(names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ConflictError(f"two steps want {name}", hint="choose one of them")
