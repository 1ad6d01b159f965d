"""Downloads: how much of them is kept for imports that did not come to their end, and their removal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from ocitui.importing.unfinished import blob_store
from ocitui.text import human_size

from ..shorten import counted
from ..widgets.lines_view import Line, heading
from .confirm import ConfirmScreen


class DownloadsScreen(ConfirmScreen):
    """Removes all blobs that no import is writing. They can be downloaded again."""

    subject: ClassVar[str] = "downloads"
    verb: ClassVar[str] = "Remove them"

    async def plan(self) -> Sequence[Line]:
        blobs = await asyncio.to_thread(blob_store(self.app.options.directory).stored)
        size = human_size(sum(blob.size for blob in blobs))
        count = counted(len(blobs), "downloaded blob", "downloaded blobs")
        lines = [heading(f"On {self.app.host}: remove {count}, {size}")]
        if interrupted := len(self.app.imports.interrupted):
            which = counted(interrupted, "interrupted import", "interrupted imports")
            lines.append(Line(f"{which} would go on from them; without them all is downloaded again.", kind="bad"))
        lines += [Line("They are layers on their way into the cache; no entry needs them. There is no undo."), Line()]
        return lines + [
            Line(f"{blob.digest}{', a part' if blob.partial else ''}", f"{human_size(blob.size):>5}") for blob in blobs
        ]

    async def act(self) -> str:
        freed = await asyncio.to_thread(blob_store(self.app.options.directory).clear)
        return f"{human_size(freed)} of downloads removed"
