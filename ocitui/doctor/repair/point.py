"""Pointing a name: the entry that is to win moves to the end of the index; nothing is deleted."""

from __future__ import annotations

import msgspec

from ocitui.cache import (
    Change,
    ConflictError,
    Descriptor,
    ImageName,
    IndexEdit,
    Insert,
    NoSuchEntryError,
    PackedFormat,
    PackerCache,
    Remove,
    Transaction,
    TransactionKind,
    known_format,
)


class PointPlan(msgspec.Struct, frozen=True):
    """``entry`` stands at ``position`` now and goes to the end; ``winner`` is what the name stands for until then.
    ``trouble`` is why the daemon would not have the image all the same, empty where it would."""

    name: ImageName
    entry: Descriptor
    position: int
    winner: Descriptor
    trouble: str = ""

    @property
    def needed(self) -> bool:
        """Whether the name stands for another image now."""
        return self.winner.digest != self.entry.digest

    @property
    def then(self) -> str:
        """What the daemon will do."""
        if not self.needed:
            return f"{self.name} resolves to {self.entry.digest} already"
        return f"{self.name} resolves to {self.entry.digest}, no longer to {self.winner.digest}"


async def plan_point(cache: PackerCache, name: ImageName, digest: str, format: PackedFormat | None = None) -> PointPlan:
    """How to make a name stand for a digest; without ``format`` the digest's last entry of that name moves. Raises
    NoSuchEntryError where no entry carries both, CorruptIndexError."""
    index, spelling = await cache.index(), str(name)
    named = (at for at in index.positions(digest) if index.names[at] == spelling)
    found = [at for at in named if format is None or index.formats[at] == format]
    winner = index.by_name(spelling)
    if not found or winner is None:
        raise NoSuchEntryError(
            f"no entry of {digest} has the name {spelling}{f' as {format}' if format else ''}",
            hint="ocitui list shows which names it has; ocitui import gives it another one",
        )
    entry = index.descriptors[found[-1]]
    trouble, form = "its format is none that the daemon knows", known_format(entry.format)
    if form is not None:
        answer = await cache.explain_recall(name, entry.digest, form)
        trouble = "" if answer.hit else answer.error or answer.reasons[-1].text
    return PointPlan(name, entry, found[-1], winner, trouble)


async def point(cache: PackerCache, plan: PointPlan) -> Transaction:
    """Move the entry to the end, where it wins its name. Raises ConflictError where it wins already, PlanChangedError
    where it is no longer where it was, and what `PackerCache.change` raises."""
    if not plan.needed:
        raise ConflictError(f"{plan.then}: there is nothing to do", hint="ocitui why shows how the daemon answers")
    move = IndexEdit((Remove(plan.position, plan.entry.raw),), (Insert(plan.entry.raw),))
    return await cache.change(Change(move), TransactionKind.POINT)
