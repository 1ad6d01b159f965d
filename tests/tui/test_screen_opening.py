"""Opening a cache, whatever it is: a clear word, no traceback, and nothing on disk changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from textual.dom import DOMNode

from ocitui.cache import Condition
from ocitui.tui.app import OcituiApp
from tests.tools import CONFORMANCE, recorded
from tests.tui.cache_support import make_cache, tree
from tests.tui.screen_support import MIDDLE, SMALL, WIDE, desk

pytestmark = pytest.mark.slow

# A sample, an application each: the core's tests have them all.
_LOADED = [one for one in recorded("indexes.json") if one["outcome"] == "loaded"][::6]
_REFUSED = [one for one in recorded("indexes.json") if one["outcome"] in ("reset", "error")][::6]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is being written here, so what does not read is corrupt sooner."""
    monkeypatch.setattr("ocitui.cache.watch.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.1)


@pytest.mark.parametrize("size", [SMALL, MIDDLE, WIDE])
async def test_a_sound_cache(tmp_path: Path, size: tuple[int, int]) -> None:
    cache = make_cache(tmp_path / "image")
    before = tree(tmp_path)
    async with desk(cache, size) as one:
        assert one.table.total == 7
        assert one.condition is Condition.SOUND
        assert not one.trouble
        for word in ("host7", "7 entries", "index in step", "no problems", "kratad", "rw"):
            assert word in one.header
        assert "docker.io/library/busybox:1.36" in one.lines
        assert "no entry" not in one.text
        assert all(len(line) == size[0] for line in one.text.split("\n"))
    assert tree(tmp_path) == before


async def test_a_screen_that_opens_is_styled_as_it_is_mounted_and_not_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    styled, update = list[object](), OcituiApp.update_styles

    def record(app: OcituiApp, node: DOMNode, animate: bool = True) -> None:
        styled.append(node)
        update(app, node, animate=animate)

    monkeypatch.setattr(OcituiApp, "update_styles", record)
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("question_mark", "HelpScreen")
        await one.rest()
        assert one.app.focused in styled
        assert not {*one.app.screen_stack} & {*styled}


@pytest.mark.parametrize("make", ["no index", "empty index"])
async def test_an_empty_cache(tmp_path: Path, make: str) -> None:
    cache = make_cache(tmp_path / "image", ())
    if make == "no index":
        (cache / "index.json").unlink()
    before = tree(tmp_path)
    async with desk(cache) as one:
        assert one.condition is Condition.SOUND
        assert ("there is no index.json" if make == "no index" else "the cache is empty") in one.text
        for key in ("d", "u", "enter", "space", "c", "n", "2", "3", "a", "end", "pagedown"):
            await one.press(key)
        await one.press("escape", "escape", "escape")
    assert tree(tmp_path) == before


async def test_an_absent_directory(tmp_path: Path) -> None:
    async with desk(tmp_path / "nowhere") as one:
        assert one.condition is Condition.GONE
        assert "does not exist" in one.trouble
        assert "gone" in one.header
    assert not any(tmp_path.iterdir())


async def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "image").write_text("not a directory")
    before = tree(tmp_path)
    async with desk(tmp_path / "image") as one:
        assert not one.live.health.sound
        assert "is not a directory" in one.trouble
    assert tree(tmp_path) == before


async def test_an_index_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    really_open = os.open

    def refuse(path: os.PathLike[str] | str, *how: int, **where: int) -> int:
        if os.fspath(path) == str(cache / "index.json"):
            raise PermissionError(13, "Permission denied")
        return really_open(path, *how, **where)

    monkeypatch.setattr(os, "open", refuse)
    async with desk(cache) as one:
        assert one.condition is Condition.UNREADABLE
        assert "Permission denied" in one.trouble


@pytest.mark.parametrize("what", ["directory", "pipe", "dangling link"])
async def test_something_else_in_place_of_the_index(tmp_path: Path, what: str) -> None:
    cache = make_cache(tmp_path / "image")
    (cache / "index.json").unlink()
    if what == "directory":
        (cache / "index.json").mkdir()
    elif what == "pipe":
        os.mkfifo(cache / "index.json")
    else:
        (cache / "index.json").symlink_to(tmp_path / "nowhere")
    before = tree(tmp_path)
    async with desk(cache) as one:
        await one.press("v")
        await one.until(lambda: "outcome" in one.lines, "the verdict")
        await one.press("escape", "d", "u")
        if what == "dangling link":
            assert one.condition is Condition.SOUND
        else:
            assert one.condition is Condition.CORRUPT
            assert "refuse to start" in one.trouble
    assert tree(tmp_path) == before


async def test_a_link_to_an_index_is_read(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    (cache / "index.json").rename(tmp_path / "elsewhere.json")
    (cache / "index.json").symlink_to(tmp_path / "elsewhere.json")
    before = tree(tmp_path)
    async with desk(cache) as one:
        assert one.table.total == 7
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "nothing is changed" in one.status)
        await one.press("y")
        await one.until(lambda: "is a link" in one.lines)
    left = {name: facts for name, facts in tree(tmp_path).items() if ".ocitui" not in name}
    assert left.keys() == before.keys()
    assert left["elsewhere.json"] == before["elsewhere.json"]


@pytest.mark.parametrize("record", _REFUSED, ids=[one["case"] for one in _REFUSED])
async def test_a_corrupt_index(tmp_path: Path, record: dict[str, str]) -> None:
    cache = tmp_path / "image"
    cache.mkdir()
    (cache / "index.json").write_bytes((CONFORMANCE / record["input"]).read_bytes())
    before = tree(tmp_path)
    async with desk(cache, MIDDLE) as one:
        assert one.condition is Condition.CORRUPT
        assert "index broken" in one.header
        consequence = "overwrite it with an empty index" if record["outcome"] == "reset" else "refuse to start"
        assert consequence in one.trouble
        for key in ("d", "u", "i"):
            await one.press(key)
            assert one.top == "MainScreen"
        await one.open("v", "VerdictScreen")
        await one.until(lambda: "outcome" in one.lines, "the verdict")
        assert record["outcome"] in one.lines
        assert "Mend the index before kratad is started" in one.lines
    assert tree(tmp_path) == before


@pytest.mark.parametrize("record", _LOADED, ids=[one["case"] for one in _LOADED])
async def test_an_index_the_daemon_loads(tmp_path: Path, record: dict[str, object]) -> None:
    cache = tmp_path / "image"
    cache.mkdir()
    (cache / "index.json").write_bytes((CONFORMANCE / str(record["input"])).read_bytes())
    before = tree(tmp_path)
    async with desk(cache) as one:
        assert one.condition is Condition.SOUND
        assert one.table.total == record["entries"]
        await one.press("2", "3", "1", "j")
        await one.rest()
    assert tree(tmp_path) == before
