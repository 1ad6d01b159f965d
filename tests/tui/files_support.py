"""Packed files with something in them, and the screens that show it: for tests of these."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from ocitui.tui.screens.files import FileScreen
from ocitui.tui.widgets.file_tree import FileTree
from tests.tui.cache_support import MODIFIED, Image, packed_path
from tests.tui.screen_support import Desk

TEXT = b"".join(b"%d of many lines\n" % number for number in range(1, 2001))
FILES: dict[str, bytes | str] = {
    "bin/tool": b"\x7fELF\2" + bytes(13) + b"\x3e" + bytes(3000),
    "etc/passwd": b"root:x:0:0\n",
    "etc/\x1b[31mred\n": b"",
    "usr/share/text": TEXT,
    "usr/share/link": "../../etc/passwd",
    "usr/share/astray": "nowhere",
}


def tar_of(files: dict[str, bytes | str]) -> bytes:
    """Files, and where links lead, in directories of their own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, held in files.items():
            member = tarfile.TarInfo(path)
            member.mode, member.uid, member.gid, member.mtime = 0o640, 7, 8, 1_700_000_000
            if isinstance(held, str):
                member.type, member.linkname = tarfile.SYMTYPE, held
            member.size = 0 if isinstance(held, str) else len(held)
            archive.addfile(member, None if isinstance(held, str) else io.BytesIO(held))
    return buffer.getvalue()


def put(cache: Path, image: Image, data: bytes) -> None:
    """Put another packed file in an image's place, as whoever packs does."""
    (cache / "draft").write_bytes(data)
    os.utime(cache / "draft", (MODIFIED, MODIFIED))
    os.replace(cache / "draft", packed_path(cache, image, "tar" if "tar" in image.formats else image.formats[0]))


def shown(one: Desk) -> list[str]:
    """The rows of the tree as they are drawn, the titles first."""
    lines = one.text.splitlines()
    start = next((at for at, line in enumerate(lines) if "4 Files" in line), len(lines))
    return [line.rstrip() for line in lines[start + 1 : -2] if line.strip()]


def tree(one: Desk) -> FileTree:
    assert one.pane.files is not None
    return one.pane.files


def at(one: Desk) -> str:
    """The path that the cursor of the tree is on."""
    view = tree(one)
    assert view.contents is not None
    assert view.entry is not None
    return view.contents.path(view.entry)


async def opened(one: Desk, *keys: str) -> None:
    """The tab, with the keys in the tree and the whole screen."""
    await one.press("4")
    await one.until(lambda: " MODE" in one.text, "the tree")
    await one.press("enter", *keys)
    await one.until(lambda: one.focused == "FileTree", "the tree has the keys")


async def found(one: Desk, name: str) -> None:
    await one.press("slash", *name, "enter")
    await one.until(lambda: "match 1 of" in one.status, f"{name} is found")


async def file_shown(one: Desk, name: str) -> FileScreen:
    await found(one, name)
    await one.open("enter", "FileScreen")
    screen = one.app.screen
    assert isinstance(screen, FileScreen)
    await one.until(lambda: "reading it" not in one.text, "the file")
    return screen
