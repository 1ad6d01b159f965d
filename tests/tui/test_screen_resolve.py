"""Resolve and verdict: the answer, and why; documents and where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input

from ocitui.cache import Condition, Ledger, Topic
from ocitui.host.daemon import DaemonState
from tests.tui.cache_support import BUSYBOX, SEVEN, TEA, Image, make_cache, packed_path, tree, write_index
from tests.tui.screen_support import SMALL, Desk, desk


async def _ask(one: Desk, name: str) -> None:
    one.app.screen.query_one(Input).value = name
    await one.press("enter")


async def test_hit_miss_and_another_format(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    before = tree(tmp_path)
    async with desk(cache, SMALL) as one:
        await one.press("j", "j")
        await one.open("r", "ResolveScreen")
        await one.until(lambda: one.lines.startswith("HIT"))
        assert TEA.digest in one.lines
        assert "both documents parse" in one.text
        await one.press("down")
        await one.until(lambda: one.lines.startswith("MISS"))
        assert "it is there as squashfs" in one.lines
        await one.press("up")
        await one.until(lambda: one.lines.startswith("HIT"))
        await _ask(one, BUSYBOX.name)
        await one.until(lambda: "overruled by a later one" in one.lines)
        assert "krata spells the name 'docker.io/library/busybox:1.36'" in one.lines
        assert "carries it and wins" in one.lines
        await _ask(one, "nobody/nothing:1")
        await one.until(lambda: "no entry carries this name" in one.lines)
        await _ask(one, "busybox:latest")
        await one.until(lambda: "never resolved from the cache" in one.lines)
        await _ask(one, "host.io:99999/x:1")
        await one.until(lambda: "with a port of at most 65535" in one.lines)
        await one.press("pagedown", "pageup", "escape")
        await one.until(lambda: one.top == "MainScreen")
    assert tree(tmp_path) == before


async def test_a_missing_file_and_a_broken_document(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, TEA).unlink()
    (cache / f"{SEVEN[3].digest}.config.json").write_text('{"os": "linux"}')
    async with desk(cache) as one:
        await one.press("j", "j")
        await one.open("r", "ResolveScreen")
        await one.until(lambda: "MISS" in one.lines)
        assert "squashfs: missing" in one.lines
        await _ask(one, SEVEN[3].name)
        await one.until(lambda: one.lines.startswith("ERROR"))
        assert "missing field" in one.lines


async def test_documents_and_where_they_are_wrong(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    config = cache / f"{BUSYBOX.digest}.config.json"
    async with desk(cache) as one:
        assert "the daemon fails on it" not in one.lines
        await one.press("3")
        await one.until(lambda: '"architecture": "amd64"' in one.text)
        config.write_text('{"architecture": }')
        await one.until(lambda: "expected value" in one.text, "the document is read again")
        assert "line 1 column 18" in one.text
        await one.press("1")
        await one.until(lambda: "the daemon fails on it" in one.lines)
        config.unlink()
        await one.press("3")
        await one.until(lambda: "missing: there is no config file" in one.text)


@pytest.mark.parametrize("megabytes", [0, 20])
async def test_documents_of_any_size(tmp_path: Path, megabytes: int) -> None:
    cache = make_cache(tmp_path / "image")
    config = cache / f"{BUSYBOX.digest}.config.json"
    config.write_bytes(b'{"a":"' + b"x" * (megabytes << 20) + b'"}' if megabytes else b"")
    async with desk(cache) as one:
        await one.press("3")
        await one.until(lambda: ("xxxx" if megabytes else "empty document") in one.text)
        await one.press("1", "j", "k", "q")


async def test_the_verdict_on_a_sound_index(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("v", "VerdictScreen")
        await one.until(lambda: "the daemon would load 7 entries" in one.lines)
        assert "loaded" in one.lines


async def test_the_verdict_shows_where_it_breaks(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache, daemon=DaemonState(process=1)) as one:
        index = cache / "index.json"
        index.write_text(index.read_text().replace('"schemaVersion": 2', '"schemaVersion": two'))
        await one.until_corrupt()
        await one.open("v", "VerdictScreen")
        await one.until(lambda: '"schemaVersion": two' in one.text)
        assert "Do not restart kratad: its memory is good" in one.lines.replace("\n", " ")
        assert "line 2" in one.lines
        write_index(cache, SEVEN)
        await one.press("escape")
        await one.until(lambda: one.condition is Condition.SOUND)


async def test_names_of_many_kinds(tmp_path: Path) -> None:
    images = (Image("映像/" + "層" * 60 + ":1"), Image("x" * 300 + ":1"), Image(":"), Image(""))
    async with desk(make_cache(tmp_path / "image", images)) as one:
        for _ in images:
            await one.open("r", "ResolveScreen")
            await one.press("enter", "escape")
            await one.open("d", "DeleteScreen")
            await one.until(lambda: "nothing is changed" in one.status)
            assert all(len(line) <= 80 for line in one.text.split("\n"))
            await one.press("escape", "j")


async def test_what_is_found_was_of_use_then(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    known = Ledger.open(cache)
    known.note(Topic.WATCHED, "-", "-")
    known.flush()
    async with desk(cache) as one:
        await one.press("j", "j")
        await one.open("r", "ResolveScreen")
        await one.until(lambda: one.lines.startswith("HIT"))
    assert list(Ledger.open(cache).noted(Topic.USED)) == [packed_path(cache, TEA).name]
