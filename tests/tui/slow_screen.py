"""A program for tests: the screen on a disk that stands still within a transaction. Arguments: the cache, and a
file to make then; it goes on once that file is taken away, or, unless "for-good" is said, it was told to leave."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ocitui.cache.disk import Disk, Folder
from ocitui.tui.app import OcituiApp, run_screen
from ocitui.tui.session import ScreenOptions, Session


def main(cache: Path, marker: Path, *, for_good: bool) -> int:
    told, stood = threading.Event(), threading.Event()

    def telling(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def tell(owner: Any) -> Any:
            told.set()
            return method(owner)

        return tell

    sync = Disk.sync_folder

    def held_sync(disk: Disk, folder: Folder) -> None:
        if folder.path.name == "journal" and not stood.is_set():
            stood.set()
            marker.touch()
            while marker.exists() and (for_good or not told.is_set()):
                time.sleep(0.01)
            # Time for what must not happen meanwhile.
            time.sleep(0.3)
        sync(disk, folder)

    Disk.sync_folder = held_sync  # type: ignore[method-assign,assignment]
    for owner, name in ((Session, "finish_work"), (OcituiApp, "action_suspend")):
        setattr(owner, name, telling(getattr(owner, name)))
    return run_screen(ScreenOptions(cache))


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2]), for_good="for-good" in sys.argv))
