"""What differs between two entries, on one screen."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from ocitui.cache import PackedFormat
from ocitui.contents import PackedTree, open_lazily
from ocitui.contents.compare import TreeChange, TreeComparison
from ocitui.text import short_digest
from ocitui.threads import Stop
from ocitui.tui.widgets import file_tree
from tests.cli.test_diff import store
from tests.tui.cache_support import Image, make_cache, packed_path, write_index
from tests.tui.files_support import put, tar_of
from tests.tui.screen_support import SMALL, WIDE, Desk, desk

pytestmark = pytest.mark.slow

OLD = Image("example.com/team/web:1", ("tar", "erofs"), labels={"vendor": "old"}, steps=("base", "one"))
NEW = Image("example.com/team/web:2", ("tar",), command=("web", "--h2"), steps=("base", "two"))
FILES = {"etc/web.conf": b"listen 80\nlog off\n", "etc/same": b"1", "gone": b"was here\n", "logo": b"\0\1"}
CHANGED = {"etc/web.conf": b"listen 443\nlog off\n", "etc/same": b"1", "new\n": b"is here\n", "logo": b"\0\2"}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = make_cache(tmp_path / "cache" / "image", [OLD, NEW])
    put(directory, OLD, tar_of({**FILES}))
    put(directory, NEW, tar_of({**CHANGED}))
    return directory


async def compared(one: Desk) -> None:
    """The two tars, the first marked before the second."""
    await one.press("space", "down", "space")
    await one.open("equals_sign", "DiffScreen")
    await one.until(lambda: "FILES" in one.text and "comparing" not in one.text, "what differs")


def rows(one: Desk) -> list[str]:
    return [" ".join(line.strip("▸ ").split()) for line in one.text.splitlines()[2:-2] if line.strip()]


@pytest.mark.parametrize("size", [SMALL, WIDE])
async def test_config_layers_and_files_of_two_entries(cache: Path, size: tuple[int, int]) -> None:
    async with desk(cache, size) as one:
        await compared(one)
        found = rows(one)
        sides = rf"− \S+/team/web:1.tar {short_digest(OLD.digest)} \+ \S+/team/web:2.tar {short_digest(NEW.digest)}"
        assert re.fullmatch(sides, found[0])
        assert "~ cmd: sh -> web --h2" in found
        assert "− label vendor: old -> none" in found
        assert any(line.startswith("− sha256:") and line.endswith("2.0M") for line in found)
        assert "~ etc/web.conf 19B +1B" in found
        assert "− gone gone 9B -9B" in found
        assert "+ new� new 8B +8B" in found
        assert "~ logo content 2B" in found
        assert not any("same " in line or line.endswith("same") for line in found if line.startswith(("~", "+", "−")))
        assert any("FILES 1 path added, 1 removed, 2 changed: 9B more, 9B less" in line for line in found)


async def test_the_lines_of_a_text(cache: Path) -> None:
    async with desk(cache) as one:
        await compared(one)
        await one.press("end", "up")
        await one.until(lambda: "~ logo: content" in one.status)
        await one.open("enter", "TextDiffScreen")
        await one.until(lambda: "its lines are not compared" in one.lines)
        await one.press("escape")
        await one.until(lambda: one.top == "DiffScreen")
        while "~ etc/web.conf: size 18 -> 19" not in one.status:
            await one.press("up")
        await one.open("enter", "TextDiffScreen")
        await one.until(lambda: "-listen 80\n+listen 443\nlog off" in one.lines, "its lines")


async def test_what_is_stored_tells_it_and_packed_files_are_read_for_their_lines(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(*(packed_path(cache, image, "tar") for image in (OLD, NEW)))
    read = list[PackedFormat]()

    def counted(path: Path, file: BinaryIO, format: PackedFormat, stop: Stop) -> PackedTree:
        read.append(format)
        return open_lazily(path, file, format, stop)

    monkeypatch.setattr(file_tree, "open_lazily", counted)
    async with desk(cache) as one:
        await compared(one)
        assert {"~ etc/web.conf 19B +1B", "− gone gone 9B -9B", "~ logo content 2B"} <= {*rows(one)}
        assert read == []
        while "~ etc/web.conf: size 18 -> 19" not in one.status:
            await one.press("down")
        await one.open("enter", "TextDiffScreen")
        await one.until(lambda: "-listen 80\n+listen 443\nlog off" in one.lines, "its lines")
        assert read == [PackedFormat.TAR] * 2


async def test_a_text_that_cannot_be_read_is_not_said_to_be_none(cache: Path) -> None:
    store(*(packed_path(cache, image, "tar") for image in (OLD, NEW)))
    async with desk(cache) as one:
        await compared(one)
        packed_path(cache, NEW, "tar").write_bytes(tar_of({"etc/web.conf": b"another"}))
        while "~ etc/web.conf: size 18 -> 19" not in one.status:
            await one.press("down")
        await one.open("enter", "TextDiffScreen")
        await one.until(lambda: "web:2.tar: /etc/web.conf: it is another file than it was" in one.lines, "why")
        assert "no text" not in one.lines


async def test_what_only_one_has_is_shown(cache: Path) -> None:
    async with desk(cache) as one:
        await compared(one)
        await one.press("end")
        await one.open("enter", "FileScreen")
        await one.until(lambda: "is here" in one.text)


async def test_two_formats_of_one_entry(cache: Path) -> None:
    async with desk(cache) as one:
        packed_path(cache, OLD, "erofs").unlink()
        await one.open("equals_sign", "DiffScreen")
        await one.until(lambda: "NOT READ 1" in one.text, "what cannot be read")
        assert "FILES not compared" in one.text
        assert "CONFIG the same" in one.text


async def test_what_is_to_be_marked_is_said(cache: Path) -> None:
    async with desk(cache) as one:
        await one.press("end", "equals_sign")
        await one.until(lambda: "mark two entries with space" in one.status)
        assert one.top == "MainScreen"


async def test_esc_ends_what_compares(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def changes(_: TreeComparison, stop: Stop, passed: Callable[[int], object]) -> Iterator[TreeChange]:
        begun.set()
        assert stop.wait(30)
        ended.set()
        yield from ()

    monkeypatch.setattr(TreeComparison, "changes", changes)
    async with desk(cache) as one:
        await one.press("space", "down", "space")
        await one.open("equals_sign", "DiffScreen")
        await one.until(begun.is_set)
        assert "cmd: sh -> web --h2" in one.text
        await one.press("escape")
        await one.until(ended.is_set, "the thread is told")
        assert one.top == "MainScreen"


async def test_what_has_no_lines_to_compare_is_told(cache: Path) -> None:
    put(cache, OLD, tar_of({"f": b"abc\n"}))
    put(cache, NEW, tar_of({"f": "abc"}))
    async with desk(cache) as one:
        await compared(one)
        await one.press("end", "enter")
        await one.until(lambda: "no lines to compare: ~ f: a file -> a symbolic link" in one.status)


@pytest.mark.parametrize("digest", ["sha256:a\0b", "../../outside"])
async def test_nothing_is_read_by_a_digest_that_none_may_have(cache: Path, digest: str) -> None:
    for kind in ("config", "manifest"):
        data = (cache / f"{OLD.digest}.{kind}.json").read_bytes()
        (cache.parent.parent / f"outside.{kind}.json").write_bytes(data)
    write_index(cache, [NEW], [OLD.descriptors[0] | {"digest": digest}])
    async with desk(cache) as one:
        await compared(one)
        assert "no lookup can reach" in one.text
        assert "vendor" not in one.text


async def test_of_a_config_that_cannot_be_read_nothing_is_said_to_be_the_same(cache: Path) -> None:
    (cache / f"{OLD.digest}.config.json").write_bytes(b"no")
    async with desk(cache) as one:
        await compared(one)
        assert "CONFIG not all could be read" in one.text
        assert "LAYERS 2 differ" in one.text


async def test_a_disk_that_fails_ends_no_screen(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(*_: object) -> tuple[int, ...]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("ocitui.contents.tar._Members.place", place)
    async with desk(cache) as one:
        await compared(one)
        assert "~ logo content" in " ".join(one.text.split())
