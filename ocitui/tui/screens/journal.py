"""The journal: every transaction, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from ocitui.cache import CacheError, Transaction, TransactionState
from ocitui.cache.undoing import can_be_undone
from ocitui.text import clean, human_size, timestamp

from ..shorten import counted, short_digests
from .full import FullScreen


class JournalScreen(FullScreen[str | None]):
    """Dismissed with the id of a transaction to undo, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "step('down')", "Down", show=False),
        Binding("k", "step('up')", "Up", show=False),
        Binding("g", "step('first')", "First", show=False),
        Binding("G", "step('last')", "Last", show=False),
    ]
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
            transactions = await self.session.cache.transactions()
        except CacheError as error:
            self.say(error.one_line)
            return
        self._transactions = {one.id: one for one in transactions}
        options = self.query_one(OptionList)
        options.add_options([Option(Content(row_text(one)), id=one.id) for one in transactions])
        options.action_first()
        size = human_size(sum(one.bytes_in_trash for one in transactions))
        count = counted(len(transactions), "transaction", "transactions")
        self.say(f"{count}; what they moved to the trash: {size}" if transactions else "no transaction yet")

    async def action_step(self, where: str) -> None:
        await self.query_one(OptionList).run_action(f"cursor_{where}" if where in ("down", "up") else where)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        transaction = self._transactions[event.option.id or ""]
        if not can_be_undone(transaction):
            self.say(f"it cannot be undone: it is {transaction.state}, a {transaction.kind}")
        else:
            self.dismiss(transaction.id)


def row_text(transaction: Transaction) -> str:
    """One transaction in a line: when, what, how it stands, what it was about, by whom."""
    state = (
        "pending: the next writer finishes it" if transaction.state is TransactionState.PENDING else transaction.state
    )
    size = human_size(transaction.bytes_in_trash)
    return clean(
        f"{timestamp(transaction.started)} {transaction.kind:<6} {state:<6} {size:>5}  "
        f"{_about(transaction)}  {transaction.by}"
    )


def _about(transaction: Transaction) -> str:
    """The first entry's name without its registry, and how many there are besides."""
    if transaction.swap is not None:
        return "index.json as a whole"
    entries = [one.descriptor for one in (*transaction.removed, *transaction.added)]
    if not entries:
        files = [one.name for one in transaction.placed] + [one.name for one in transaction.trashed]
        names = transaction.image_names
        what = names[0].rpartition("/")[2] if names else short_digests(files[0] if files else "")
        return f"{what} {counted(len(files), 'file', 'files')}" if files else "no entry"
    keys = dict.fromkeys(entry.key for entry in entries)
    name = (entries[0].image_name or "no name").rpartition("/")[2]
    more = f" +{len(keys) - 1}" if len(keys) > 1 else ""
    return f"{name} {entries[0].format or 'no format'}{more}"
