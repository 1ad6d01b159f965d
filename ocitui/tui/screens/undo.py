"""Undo: what a transaction did, what comes back, then the question."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from ocitui.cache import NoSuchTransactionError, Transaction
from ocitui.cache.actor import whoami
from ocitui.cache.undoing import latest_undoable
from ocitui.doctor.assessment_texts import memory_warning
from ocitui.text import timestamp

from ..shorten import short_digests
from ..widgets.lines_view import Line, LongList, heading
from .confirm import ConfirmScreen
from .delete import entries_lines, file_line, long_list


class UndoScreen(ConfirmScreen):
    """Undoes one transaction, the newest that can be when none is named."""

    subject: ClassVar[str] = "undo"
    verb: ClassVar[str] = "Undo it"

    def __init__(self, transaction_id: str | None) -> None:
        super().__init__()
        self._id = transaction_id

    async def plan(self) -> Iterable[Line | LongList]:
        transactions = await self.app.cache.transactions()
        target = latest_undoable(transactions) if self._id is None else _find(transactions, self._id)
        self._id = target.id
        # A mend is reversed by its own record, whatever the index is.
        self.action = "mend" if target.marked else "undo"
        lines = await asyncio.to_thread(undo_lines, target, self.app.host)
        if target.changes_index and self.app.live.daemon.running:
            lines.insert(1, Line(f"{memory_warning('bring back what this undoes')}.", kind="bad"))
        return lines

    async def act(self) -> str:
        done = await self.app.cache.undo(self._id)
        return f"undone by {done.id}: {self._id}" + (f"; {done.explanation}" if done.explanation else "")


def _find(transactions: list[Transaction], transaction_id: str) -> Transaction:
    found = next((one for one in transactions if one.id == transaction_id), None)
    if found is None:
        raise NoSuchTransactionError(f"there is no transaction {transaction_id}")
    return found


def undo_lines(target: Transaction, host: str) -> list[Line | LongList]:
    """What undoing a transaction means, in words."""
    lines: list[Line | LongList] = [
        heading(f"On {host}: undo the {target.kind} of {timestamp(target.started)}"),
        Line(target.id, "transaction"),
        Line(target.by, "by", "plain" if target.by == whoami() else "bad"),
    ]
    if target.about:
        lines.append(Line(target.about, "of"))
    back, away = [one.descriptor for one in target.removed], [one.descriptor for one in target.added]
    for title, descriptors in (("Back into the index", back), ("Out of the index", away)):
        if descriptors:
            lines += [Line(), heading(title), *entries_lines(descriptors)]
    if target.swap is not None:
        lines += [Line(), heading("index.json as a whole")]
        lines.append(Line("comes back as it was before, byte for byte" if target.swap.old else "goes: there was none"))
    if target.modes:
        lines += [Line(), heading("Modes as they were")]
        lines += [Line(short_digests(mode.name), "mode") for mode in target.modes]
    if target.trashed:
        lines += [Line(), heading("Back from the trash")]
        lines += long_list(target.trashed, lambda file: file_line(file.name, file.size))
    if target.placed:
        lines += [Line(), heading("To the trash, unless another entry needs them")]
        lines += long_list(target.placed, lambda file: file_line(file.name, file.size))
    return lines
