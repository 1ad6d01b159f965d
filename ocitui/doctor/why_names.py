"""The links of the chain between a name and the entries that carry it."""

from __future__ import annotations

from collections.abc import Iterator

from ocitui.cache import Descriptor, Explanation, ImageIndex
from ocitui.cache.lookup import LATEST

from .why_links import Link, Standing, ok_or_bad

_MOST_NAMES = 5


def name_links(index: ImageIndex, found: Explanation, spelling: str, winner: Descriptor | None) -> Iterator[Link]:
    """What a lookup says before it goes on with the winner's digest."""
    carriers = sum(descriptor.image_name == spelling for descriptor in index.descriptors)
    first, *rest = found.reasons[: 1 + carriers] if winner is not None else found.reasons
    yield Link("name", ok_or_bad(first.ok), first.text)
    for reason in rest:
        yield Link("carriers", ok_or_bad(reason.ok), reason.text, "" if reason.ok else _advice(index, spelling))


def _advice(index: ImageIndex, spelling: str) -> str:
    """What to do about a name that no entry wins."""
    if spelling.endswith(f":{LATEST}"):
        return f"ask for {spelling.removesuffix(f':{LATEST}')!r} without a tag, or pull another tag"
    stem = _stem(spelling)
    like = {d.image_name for d in index.descriptors if d.image_name and _stem(d.image_name) == stem}
    if not like:
        return ""
    names = sorted(like)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"there is {', '.join(names[:_MOST_NAMES])}{more}"


def carrier_link(index: ImageIndex, at: int, descriptor: Descriptor) -> Link:
    """What name an entry carries, and whether that leads to it; ``at`` is its position, from 1."""
    name, what = descriptor.image_name, f"entry {at}, {descriptor.format or 'without a format'},"
    if name is None:
        return Link("names", Standing.BAD, f"{what} has no name: only its digest leads to it")
    winner = index.by_name(name)
    if winner is not None and winner.digest != descriptor.digest:
        advice = f"`ocitui point {name} {descriptor.digest}` lets it win, and deletes nothing"
        return Link("names", Standing.BAD, f"{what} carries {name!r}, which {winner.digest} wins", advice)
    if descriptor.reference == LATEST:
        return Link("names", Standing.BAD, f"{what} carries {name!r}, whose tag is never resolved from the cache")
    return Link("names", Standing.OK, f"{what} carries {name!r} and wins it")


def _stem(name: str) -> str:
    """A name without its tag and digest, in lower case, for telling what is alike."""
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}".lower()
