"""Makes the pictures in screenshots/, from the real application on the demo cache: `python -m tests.screenshots`."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest

from ocitui.cache import list_backups
from ocitui.cli.demo_cache import make_demo_cache, record_demo_sources
from ocitui.host.daemon import DaemonState
from ocitui.tui.widgets.bars import KeyBar
from ocitui.tui.widgets.document_view import DocumentView
from tests.tools import ROOT
from tests.tui.import_support import layout_with_names, look, show_jobs
from tests.tui.screen_support import SMALL, WIDE, Desk, desk, fix_host

PICTURES = ROOT / "screenshots"
_DIRECTORY = Path("krata/cache/image")
# The demo's files are of June 2024; the ages are counted from two weeks later.
_NOW = 1_718_452_800.0
_DAEMON = DaemonState(812, 1_718_000_000.0, True)


async def main_screen(one: Desk) -> None:
    await one.press("down", "down", "down")
    await one.rest()


async def filtered(one: Desk) -> None:
    await one.press("slash", *"state", "colon", *"bad", "enter")
    await one.rest()


async def delete_plan(one: Desk) -> None:
    await one.press("down", "down", "space", "space")
    await one.open("d", "DeleteScreen")
    await one.until(lambda: "y" in one.bar(KeyBar), "the plan")


async def corrupt(one: Desk) -> None:
    data = (_DIRECTORY / "index.json").read_bytes()
    (_DIRECTORY / "index.json").write_bytes(data[: len(data) // 2])
    await one.until_corrupt()
    await one.until(lambda: "✖ 1 crit" in one.header and not one.live.looking, "what is wrong with the index")
    await one.rest()


async def verdict(one: Desk) -> None:
    await corrupt(one)
    await one.open("v", "VerdictScreen")
    await one.until(lambda: "overwrite" in one.lines, "the verdict")
    await one.until(lambda: '65       "an' in one.text, "the place where the index breaks")
    view = one.app.screen.query_one(DocumentView)
    await one.until(lambda: 0 < view.scroll_offset.y == view.vertical_scrollbar.position, "the scroll bar")
    await one.rest()


async def resolve(one: Desk) -> None:
    await one.press("down", "down", "down")
    await one.open("r", "ResolveScreen")
    await one.until(lambda: "MISS" in one.lines, "the answer")


async def help_pages(one: Desk) -> None:
    await one.open("question_mark", "HelpScreen")


async def import_form(one: Desk) -> None:
    layout_with_names(Path("images"), *(f"registry.example.com/team/{name}" for name in ("web:4.2", "worker:4.2")))
    await look(one, "oci:images:registry.example.com/team/web:4.2")
    await one.until(lambda: "nothing is changed before y" in one.status, "the preview")


async def imports(one: Desk) -> None:
    show_jobs(one)
    await one.open("I", "ImportsScreen")
    await one.until(lambda: "4 imports" in one.status, "the list")
    await one.press("j")


async def problems(one: Desk) -> None:
    await one.open("p", "ProblemsScreen")
    await one.until(lambda: "reads all bytes" in one.text and "high" in one.text, "the problems")
    await one.press("down", "down", "down")
    await one.rest()


async def repair(one: Desk) -> None:
    await one.until(lambda: bool(list_backups(_DIRECTORY)), "the backup")
    await corrupt(one)
    await one.open("m", "RepairScreen")
    await one.until(lambda: "nothing is changed" in one.status, "the plan")
    await one.press("down", "down")
    await one.until(lambda: "Index Backup Files" in one.lines, "the sources")


async def room(one: Desk) -> None:
    await one.open("b", "RoomScreen")
    await one.until(lambda: "BACK" in one.text, "what takes the room")
    await one.press("f", *"40G", "enter", "down", "space", "space")
    await one.until(lambda: "short" in one.text, "the goal")


async def files(one: Desk) -> None:
    await one.press("down", "down", "down", "4")
    await one.until(lambda: "OWNER" in one.text, "the tree")
    await one.press("enter", "down", "right", "down", "down", "right", "down", "down", "right", "right")
    await one.rest()


async def difference(one: Desk) -> None:
    await one.press("space", "end", "space")
    await one.open("equals_sign", "DiffScreen")
    await one.until(lambda: "paths added" in one.text, "what differs")


SCENES: dict[str, tuple[tuple[int, int], Callable[[Desk], Awaitable[None]]]] = {
    "main": (SMALL, main_screen),
    "wide": (WIDE, main_screen),
    "filter": (SMALL, filtered),
    "delete": (SMALL, delete_plan),
    "corrupt": (SMALL, corrupt),
    "verdict": (SMALL, verdict),
    "resolve": (SMALL, resolve),
    "problems": (SMALL, problems),
    "repair": (SMALL, repair),
    "room": (SMALL, room),
    "files": (SMALL, files),
    "diff": (SMALL, difference),
    "import": (SMALL, import_form),
    "imports": (SMALL, imports),
    "help": (SMALL, help_pages),
}


@contextmanager
def demo_cache() -> Iterator[Path]:
    """A demo cache under a name that is the same everywhere, in a directory that goes with it."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        make_demo_cache(_DIRECTORY)
        record_demo_sources(_DIRECTORY)
        yield _DIRECTORY


async def draw(snapshot: str) -> str:
    """One snapshot as SVG."""
    size, prepare = SCENES[snapshot]
    with pytest.MonkeyPatch.context() as patch:
        fix_host(patch, _NOW)
        with demo_cache() as directory:
            async with desk(directory, size, daemon=_DAEMON) as one:
                await prepare(one)
                await one.pilot.pause()
                return one.app.export_screenshot(title="ocitui")


def normalized(svg: str) -> str:
    """The drawing without what depends on the run: ids, and the sizes that another packer's release may change."""
    return re.sub(r"\b\d+(\.\d)?[BKM]\b|\b\d+&#160;bytes", "SIZE", re.sub(r"terminal-\d+", "terminal", svg))


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for snapshot in SCENES:
        svg = asyncio.run(draw(snapshot))
        (PICTURES / f"{snapshot}.svg").write_text(svg.rstrip() + "\n")
        os.write(1, f"{snapshot}.svg\n".encode())


if __name__ == "__main__":
    main()
