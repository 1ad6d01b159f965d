"""A program for tests: the screen on a disk that takes its time. Arguments: the cache, a file to make once a
transaction is under way, and how many seconds each step then takes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ocitui.cache.disk import Disk, Folder
from ocitui.tui.options import ScreenOptions
from ocitui.tui.start import run_screen


def main(cache: Path, marker: Path, seconds: float) -> int:
    sync = Disk.sync_folder

    def slow_sync(disk: Disk, folder: Folder) -> None:
        marker.touch()
        time.sleep(seconds)
        sync(disk, folder)

    Disk.sync_folder = slow_sync  # type: ignore[method-assign,assignment]
    return run_screen(ScreenOptions(cache))


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
