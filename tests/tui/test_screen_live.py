"""The screen follows the disk, and nothing moves under the operator's eyes."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import Condition, PackerCache
from ocitui.cache import index as index_module
from ocitui.cache.files import identity_of
from ocitui.cache.listing import CacheFiles
from ocitui.doctor.check.judge import Judge
from ocitui.host.daemon import DaemonState
from ocitui.tui.live import LiveCache
from tests.tui.cache_support import (
    ALPINE,
    BUSYBOX,
    NGINX,
    SEVEN,
    TEA,
    Image,
    add_files,
    index_bytes,
    make_cache,
    many,
    packed_path,
    replace_index,
    write_index,
)
from tests.tui.entry_table_support import marked_names
from tests.tui.screen_support import LIMIT_SECONDS, SMALL, WIDE, Desk, desk

pytestmark = pytest.mark.slow

NEW = Image("docker.io/library/redis:7", ("squashfs",))


def _write_in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _truncate_then_write(path: Path, data: bytes) -> None:
    """As the daemon does, which also makes no new file."""
    with path.open("r+b") as file:
        file.truncate(0)
        file.flush()
        file.write(data)


@pytest.mark.parametrize(
    "write", [lambda path, data: replace_index(path.parent, data), _truncate_then_write, _write_in_place],
    ids=["rename", "truncate", "in place"],
)  # fmt: skip
async def test_entries_come_change_and_go(tmp_path: Path, write: object) -> None:
    assert callable(write)
    cache = make_cache(tmp_path / "image")
    index = cache / "index.json"
    async with desk(cache) as one:
        add_files(cache, NEW)
        write(index, index_bytes((*SEVEN, NEW)))
        await one.until(lambda: one.names[-1:] == ["docker.io/library/redis squashfs ok"], "the new entry")
        assert "8 entries" in one.header
        renamed = {**NGINX.descriptor("squashfs"), "size": 999}
        write(index, index_bytes((*SEVEN[:-1], NEW), [renamed]))
        await one.until(lambda: one.names[-1:] == ["docker.io/library/nginx squashfs ok"], "the changed entry")
        write(index, index_bytes((TEA,)))
        await one.until(lambda: one.table.total == 1, "entries that went")
        assert one.condition is Condition.SOUND
        assert "7 entries left the index" in one.status
        write(index, index_bytes(()))
        await one.until(lambda: one.table.total == 0, "the last entry")
        assert "the cache is empty" in one.text
        index.unlink()
        await one.until(lambda: "there is no index.json" in one.text, "that it is gone")


async def test_the_directory_is_listed_once_when_the_screen_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before the watch began is told again: that is what lists it."""
    listed, items = list[Path](), CacheFiles.items

    def counted(files: CacheFiles) -> Iterable[os.DirEntry[str]]:
        listed.append(files.directory)
        return items(files)

    monkeypatch.setattr(CacheFiles, "items", counted)
    # A busy machine may have the watch begin late.
    monkeypatch.setattr("ocitui.tui.live._WATCH_SECONDS", LIMIT_SECONDS)
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.until(lambda: one.live.complete and not one.live.looking, "all states")
        assert listed == [cache]


async def test_a_missing_file_changes_its_own_rows_only(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        sound = one.names
        packed, config = packed_path(cache, BUSYBOX, "erofs"), cache / f"{ALPINE.digest}.config.json"
        packed.rename(tmp_path / "aside")
        await one.until(lambda: one.names[1].endswith("erofs no packed"), "the missing file")
        assert [*one.names[:1], *one.names[2:]] == [*sound[:1], *sound[2:]]
        await one.until(lambda: "✗ 1 high" in one.header)
        (tmp_path / "aside").rename(packed)
        await one.until(lambda: one.names == sound, "the file again")
        config.unlink()
        await one.until(lambda: sum("no config" in name for name in one.names) == 3, "a document of three entries")
        await one.until(lambda: "✗ 1 high" in one.header, "one document, whoever has it")
        config.mkdir()
        await one.until(lambda: sum("config no file" in name for name in one.names) == 3, "a directory there")


async def test_the_pane_follows_the_files_of_its_entry(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache, WIDE) as one:
        packed_path(cache, BUSYBOX).unlink()
        await one.until(lambda: "missing:" in one.lines, "the summary of the missing file")
        assert "no packed" in one.lines


async def _arrange(one: Desk) -> tuple[object, ...]:
    """Somewhere in the middle: a filter, marks, a tab, a scroll position."""
    await one.press("slash", *"fleet", "enter", *["pagedown"] * 3, "space", "j", "j", "space", "2")
    await one.rest()
    return _place(one)


def _place(one: Desk) -> tuple[object, ...]:
    table, entry = one.table, one.table.cursor_entry
    assert entry is not None
    assert table.rows.entries is not None
    first = table.rows.entries[table.rows.view[table.top]].name
    return entry.name, set(marked_names(table)), first, table.rows.filter_text, one.pane.tab


async def test_nothing_moves_under_the_operators_eyes(tmp_path: Path) -> None:
    images = many(200)
    cache = make_cache(tmp_path / "image", images)
    async with desk(cache) as one:
        arranged = await _arrange(one)
        front, back = images[:5], images[150:]
        write_index(cache, [*images[5:150], NEW, *back, *front])
        await one.until(lambda: one.table.total == 201, "the new order")
        await one.rest()
        assert _place(one) == arranged
        write_index(cache, [*many(400), NEW])
        await one.until(lambda: one.table.total == 401, "many more")
        await one.rest()
        assert _place(one) == arranged
        packed_path(cache, images[0]).unlink()
        await one.until(lambda: "high" in one.header)
        assert _place(one) == arranged


async def test_a_torn_index_is_no_news_for_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.watch.PATIENCE_SECONDS", 1e9)
    cache = make_cache(tmp_path / "image")
    index = cache / "index.json"
    whole = index.read_bytes()
    async with desk(cache) as one:
        before = one.text
        looks = _count_looks(monkeypatch)
        index.write_bytes(whole[: len(whole) // 2])
        await one.until(lambda: len(looks) > 5, "the torn file was looked at")
        assert one.condition is Condition.SOUND
        assert one.text == before
        index.write_bytes(index_bytes((TEA,)))
        await one.until(lambda: one.table.total == 1, "the whole file")


def _count_looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    looks: list[None] = []

    def look(directory: Path) -> object:
        looks.append(None)
        return index_module.index_signature(directory)

    monkeypatch.setattr("ocitui.cache.watch.index_signature", look)
    return looks


async def test_a_corrupt_index_keeps_the_rows_and_is_mended(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    index = cache / "index.json"
    whole = index.read_bytes()
    async with desk(cache) as one:
        rows = one.names
        index.write_bytes(whole[:300])
        await one.until_corrupt()
        assert one.names == rows
        assert "7 entries" in one.header
        assert "EOF while parsing" in one.trouble
        packed_path(cache, TEA).unlink()
        await one.until(lambda: any("no packed" in name for name in one.names), "files are still followed")
        index.write_bytes(whole)
        await one.until(lambda: one.condition is Condition.SOUND)
        assert not one.trouble
        assert len(one.names) == 7


async def test_the_copy_of_a_corrupt_index_is_told_once(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    whole, told = (cache / "index.json").read_bytes(), list[str]()
    live = LiveCache(cache, lambda: PackerCache(cache))
    live.tell = lambda change: told.append(change.said)
    replace_index(cache, whole[:300])
    for _ in range(2):
        await live._keep(Condition.CORRUPT)
    assert told == ["the bytes of index.json are copied aside"]
    replace_index(cache, whole)
    await live._keep(Condition.SOUND)
    replace_index(cache, whole[:300])
    await live._keep(Condition.CORRUPT)
    assert len(told) == 2


async def test_an_index_that_goes_keeps_the_rows(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        rows = one.names
        (cache / "index.json").unlink()
        await one.until(lambda: one.condition is Condition.MISSING)
        assert one.names == rows
        assert "last good rows" in one.trouble
        write_index(cache, SEVEN[:2])
        await one.until(lambda: one.table.total == 3)
        assert one.condition is Condition.SOUND


@pytest.mark.parametrize("size", [SMALL, WIDE])
async def test_a_directory_that_goes_and_comes_again(tmp_path: Path, size: tuple[int, int]) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache, size) as one:
        rows = one.names
        shutil.rmtree(cache)
        await one.until(lambda: one.condition is Condition.GONE)
        assert one.names == rows
        assert "the directory is gone" in one.trouble
        assert "is mounted; it is shown again by itself once it is back p shows what is known" in one.trouble
        make_cache(cache, SEVEN[:3])
        await one.until(lambda: one.condition is Condition.SOUND and one.table.total == 6)
        packed_path(cache, TEA).unlink()
        await one.until(lambda: any("no packed" in name for name in one.names), "events of the new directory")


async def test_no_file_is_looked_at_where_the_keys_are_handled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: dict[str, set[bool]] = {}

    def noting(name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def look(*arguments: Any) -> Any:
            looked.setdefault(name, set()).add(threading.current_thread() is threading.main_thread())
            return answer(*arguments)

        return look

    monkeypatch.setattr("ocitui.tui.live_host.identity_of", noting("socket", identity_of))
    monkeypatch.setattr("ocitui.tui.live_host.is_daemon", noting("daemon", lambda _: True))
    monkeypatch.setattr(Judge, "memory", noting("memory", Judge.memory))
    async with desk(make_cache(tmp_path / "image"), daemon=DaemonState(process=812)) as one:
        await one.live.remember()
        looked.clear()
        await one.until(lambda: len(looked) == 3)
        await one.live.remember()
    assert looked == {"socket": {False}, "daemon": {False}, "memory": {False}}


async def test_refresh_begins_again(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.press("j", "space", "R")
        await one.until(lambda: "read again" in one.status)
        assert one.table.total == 7
        assert len(one.table.rows.marked) == 1
        write_index(cache, ())
        await one.press("f5")
        await one.until(lambda: one.table.total == 0, "nothing is left of the rows before")


async def test_refresh_while_it_is_corrupt_keeps_the_rows(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        (cache / "index.json").write_bytes(b"{")
        await one.until_corrupt()
        await one.press("R")
        await one.rest()
        assert one.table.total == 7
        assert "7 entries" in one.header
        write_index(cache, (TEA,))
        await one.until(lambda: one.table.total == 1)
