"""The journal: every transaction, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from ocitui.cache import CacheError, Transaction, TransactionKind, TransactionState
from ocitui.text import clean, human_size, timestamp

from .full import FullScreen


class JournalScreen(FullScreen[str | None]):
    """Dismissed with the id of a transaction to undo, or None."""

    AUTO_FOCUS = "OptionList"
    CSS = """
    JournalScreen OptionList {
        height: 1fr;
        border: none;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """
    subject: ClassVar[str] = "journal"
    keys = (("enter", "Undo that one: a plan first"), ("esc", "Back"))

    def compose_body(self) -> Iterable[Widget]:
        yield OptionList()

    def begin(self) -> None:
        self._read()

    @work
    async def _read(self) -> None:
        try:
            transactions = await self.app.cache.transactions()
        except CacheError as error:
            self.say(f"{error.message}: {error.hint}")
            return
        self._transactions = {one.id: one for one in transactions}
        self.query_one(OptionList).add_options([Option(Content(row_text(one)), id=one.id) for one in transactions])
        size = human_size(sum(one.bytes_trashed for one in transactions if one.state is TransactionState.DONE))
        self.say(f"{len(transactions)} transactions; what they moved to the trash: {size}" if transactions else "empty")

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        transaction = self._transactions[event.option.id or ""]
        if transaction.state is not TransactionState.DONE or transaction.kind is TransactionKind.RESET:
            self.say(f"it cannot be undone: it is {transaction.state}, a {transaction.kind}")
        else:
            self.dismiss(transaction.id)


def row_text(transaction: Transaction) -> str:
    """One transaction in a line."""
    count = len(transaction.removed) or len(transaction.added)
    entries = f"{count} {'entry' if count == 1 else 'entries'}"
    state = (
        "pending: the next writer finishes it" if transaction.state is TransactionState.PENDING else transaction.state
    )
    return clean(
        f"{timestamp(transaction.started)}  {transaction.kind:<6}  {entries:<11} "
        f"{human_size(transaction.bytes_trashed):>5}  {state}  {transaction.by}"
    )
