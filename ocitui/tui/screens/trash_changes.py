"""What is done with the trash, each with a question: files that come back, and room that is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ocitui.cache import ConflictError, TrashedFile
from ocitui.cache.records import some_of
from ocitui.cache.trash import files_that_go
from ocitui.text import human_size, timestamp

from ..shorten import counted, short_digests
from ..widgets.lines_view import Line, heading
from .confirm import ConfirmScreen

_MOST = 200


class RestoreScreen(ConfirmScreen):
    """Brings files back to where they were, without entries."""

    subject: ClassVar[str] = "restore from the trash"
    verb: ClassVar[str] = "Restore"
    action = "mend"

    def __init__(self, files: Sequence[TrashedFile]) -> None:
        super().__init__()
        self._files = files

    async def plan(self) -> Sequence[Line]:
        return [
            heading(f"On {self.app.host}: {_total(self._files)} come back"),
            Line(
                "Files come back without entries: undo of the transaction brings both, and m adopts files as entries."
            ),
            Line(),
            *_lines(self._files),
        ]

    async def act(self) -> str:
        done = await self.app.cache.restore([file.trash for file in self._files])
        return f"{_total(self._files)} restored in {done.id}; u takes them out again"


class EmptyTrashScreen(ConfirmScreen):
    """Removes for good what the trash holds, and with that the undo of what it came by."""

    subject: ClassVar[str] = "empty the trash"
    verb: ClassVar[str] = "Remove for good"

    async def plan(self) -> Sequence[Line]:
        cache = self.app.cache
        transactions = {one.id: one for one in await cache.transactions()}
        files = files_that_go(await cache.trash(), transactions)
        # What comes into the trash while the question stands was not agreed to.
        self._agreed = [file.trash for file in files]
        if not files:
            raise ConflictError("nothing in the trash is to go", hint="what no transaction is known of stays")
        undone = len({file.transaction for file in files if file.undoable})
        lines = [heading(f"On {self.app.host}: {_total(files)} go for good")]
        of = dict.fromkeys(file.transaction for file in files if file.transaction in transactions)
        if names := some_of(name for one in of for name in transactions[one].image_names):
            lines.append(Line(names, "of"))
        if undone:
            what = f"{counted(undone, 'transaction', 'transactions')} can then no longer be undone"
            lines.append(Line(what, kind="bad"))
        return [*lines, Line(), *_lines(files)]

    async def act(self) -> str:
        removed = await self.app.cache.empty_trash(names=self._agreed)
        return f"removed {counted(removed.files, 'file', 'files')}: {human_size(removed.bytes)} are free again"

    def asked(self) -> str:
        return "nothing brings them back after y"


def _total(files: Sequence[TrashedFile]) -> str:
    return f"{counted(len(files), 'file', 'files')}, {human_size(sum(file.size for file in files))},"


def _lines(files: Sequence[TrashedFile]) -> list[Line]:
    lines = [
        Line(f"{short_digests(file.name or file.trash)}, {timestamp(file.when)}", f"{human_size(file.size):>5}")
        for file in files[:_MOST]
    ]
    return [*lines, *([Line(f"and {len(files) - _MOST} more")] if len(files) > _MOST else [])]
