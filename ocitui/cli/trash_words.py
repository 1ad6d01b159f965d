"""Files of the trash as an operator names them, and as they are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from ocitui.cache import NoSuchEntryError, Transaction, TrashedFile
from ocitui.text import human_size, timestamp

from .failures import UsageProblemError
from .prose import counted, shortened

_MOST_OF_ONE = 12
NO_TRANSACTION = "no transaction"


class NotInTrashError(NoSuchEntryError):
    code = "not-in-trash"
    default_hint = "ocitui trash lists what it holds"


class AmbiguousFileError(UsageProblemError):
    code = "ambiguous-file"
    default_hint = "give a whole name, or a transaction's id"


def find_files(files: Sequence[TrashedFile], words: Sequence[str]) -> list[TrashedFile]:
    """What these words name, each once. Raises NotInTrashError, AmbiguousFileError."""
    return list(dict.fromkeys(file for word in words for file in _find(files, word)))


def file_json(file: TrashedFile) -> dict[str, Any]:
    """A file of the trash as programs read it; ``name`` and ``transaction`` are null where nobody knows."""
    return {
        "trash": file.trash,
        "name": file.name or None,
        "transaction": file.transaction or None,
        "kind": file.kind,
        "size": file.size,
        "when": datetime.fromtimestamp(file.when, UTC).isoformat(),
        "undoable": file.undoable,
        "recorded": file.recorded,
    }


def trash_lines(files: Sequence[TrashedFile], transactions: Mapping[str, Transaction]) -> Iterator[str]:
    """Transaction by transaction, the newest first, and the files of each."""
    for transaction_id, group in groupby(files, key=lambda file: file.transaction):
        same = list(group)
        yield _title(transaction_id, same, transactions.get(transaction_id))
        yield from file_lines(same)


def file_lines(files: Sequence[TrashedFile]) -> Iterator[str]:
    """A line for each, as far as they are few enough to be read."""
    for file in files[:_MOST_OF_ONE]:
        yield f"  {human_size(file.size):>5}  {_described(file)}"
    if len(files) > _MOST_OF_ONE:
        yield f"{'':9}and {len(files) - _MOST_OF_ONE} more; --json has them all"


def total_text(files: Sequence[TrashedFile]) -> str:
    """As ``3 files, 1.2M``."""
    return f"{counted(len(files), 'file')}, {human_size(sum(file.size for file in files))}"


def _find(files: Sequence[TrashedFile], word: str) -> list[TrashedFile]:
    """By a transaction's id, by the whole name in the trash or in the cache, by the beginning of a digest."""
    for same in (
        [file for file in files if file.transaction == word],
        [file for file in files if file.trash == word],
    ):
        if same:
            return same
    named = [file for file in files if file.name == word or _begins(file.name, word)]
    if not named:
        raise NotInTrashError(f"the trash holds nothing of {word}")
    if len({file.name for file in named}) < len(named):
        choices = ", ".join(sorted({file.transaction or NO_TRANSACTION for file in named}))
        raise AmbiguousFileError(f"the trash holds more than one version of {word}, of {choices}")
    return named


def _begins(name: str, word: str) -> bool:
    return len(word) >= 4 and (name.startswith(word) or name.partition(":")[2].startswith(word))


def _title(transaction_id: str, files: Sequence[TrashedFile], transaction: Transaction | None) -> str:
    when = timestamp(max(file.when for file in files))
    if transaction is None:
        what = f"{transaction_id}, whose record cannot be read" if transaction_id else "of no known transaction"
        return f"{when}  {what}"
    undoable = any(file.undoable for file in files)
    fate = "can be undone" if undoable else f"{transaction.state}, cannot be undone"
    names = f"  {transaction.about}" if transaction.about else ""
    return f"{when}  {transaction.kind} {transaction_id}{names}  {fate}"


def _described(file: TrashedFile) -> str:
    name = shortened(file.name or file.trash)
    return name if file.kind == "file" else f"{name}  ({file.kind})"
