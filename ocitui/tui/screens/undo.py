"""Undo: what a transaction did, what comes back, then the question."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from ocitui.cache import NoSuchTransactionError, Transaction
from ocitui.cache.lock import whoami
from ocitui.cache.undoing import latest_undoable
from ocitui.text import human_size, timestamp

from ..widgets.lines_view import Line, heading
from .confirm import ConfirmScreen


class UndoScreen(ConfirmScreen):
    """Undoes one transaction, the newest that can be when none is named."""

    subject: ClassVar[str] = "undo"
    verb: ClassVar[str] = "Undo it"

    def __init__(self, transaction_id: str | None) -> None:
        super().__init__()
        self._id = transaction_id

    async def plan(self) -> Iterable[Line]:
        transactions = await self.app.cache.transactions()
        target = latest_undoable(transactions) if self._id is None else _find(transactions, self._id)
        self._id = target.id
        return undo_lines(target, self.app.host)

    async def act(self) -> str:
        done = await self.app.cache.undo(self._id)
        return f"{self._id} undone by {done.id}"


def _find(transactions: list[Transaction], transaction_id: str) -> Transaction:
    found = next((one for one in transactions if one.id == transaction_id), None)
    if found is None:
        raise NoSuchTransactionError(f"there is no transaction {transaction_id}")
    return found


def undo_lines(target: Transaction, host: str) -> list[Line]:
    """What undoing a transaction means, in words."""
    lines = [
        heading(f"On {host}: undo the {target.kind} of {timestamp(target.started)}"),
        Line(target.id, "transaction"),
        Line(target.by, "by", "plain" if target.by == whoami() else "bad"),
    ]
    if target.removed:
        lines += [Line(), heading("Entries that come back into the index")]
        lines += [_entry_line(removed.raw) for removed in target.removed]
    if target.added:
        lines += [Line(), heading("Entries that leave the index")]
        lines += [_entry_line(added.raw) for added in target.added]
    if target.trashed:
        lines += [Line(), heading(f"{len(target.trashed)} files come back from the trash")]
        lines += [Line(moved.name, human_size(moved.size)) for moved in target.trashed]
    if target.placed:
        lines += [Line(), heading("Files that go to the trash, unless another entry needs them")]
        lines += [Line(placed.name, human_size(placed.size)) for placed in target.placed]
    return lines


def _entry_line(raw: str) -> Line:
    from ocitui.cache import Descriptor

    descriptor = Descriptor.parse(raw.encode())
    return Line(f"{descriptor.image_name or 'no name'}  {descriptor.digest}", descriptor.format or "no format")
