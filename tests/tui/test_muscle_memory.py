"""What hands know from other programs: half pages, the next bad row, copying, unknown keys, messages that age."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from ocitui.cache import ConflictError, StorageError
from ocitui.cache.disk import write_outside
from ocitui.cache.errors import FileTakenError
from ocitui.tui.actions import commands
from ocitui.tui.screens.base import FullScreen
from ocitui.tui.widgets.lines import LinesView, PickList
from ocitui.words.lines import CommandLine, Line, heading, markdown
from tests.tui.cache_support import ALPINE, BUSYBOX, TEA, Image, make_cache
from tests.tui.screen_support import Desk, desk

pytestmark = pytest.mark.slow


def _sent(one: Desk) -> str:
    """What was sent last to the terminal's clipboard."""
    return base64.b64decode(one.driver.written.rpartition("\x1b]52;c;")[2].partition("\a")[0]).decode()


async def _copy(one: Desk, letter: str) -> str:
    await one.open("c", "MenuScreen")
    await one.press(letter)
    await one.until(lambda: "sent to the terminal" in one.status)
    return _sent(one)


def _many(count: int) -> list[Image]:
    return [Image(f"docker.io/library/image{number}:1", ("tar",)) for number in range(count)]


async def test_half_a_page_in_the_table_and_in_the_pane(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image", _many(60))) as one:
        page, rows = one.table.page, list[int | None]()
        for key in ("ctrl+d", "ctrl+d", "ctrl+u", "ctrl+f"):
            await one.press(key)
            rows.append(one.table.cursor_row)
        half = page // 2
        assert rows == [half, 2 * half, half, half + page]
        await one.press("tab", "ctrl+d")
        view = one.app.screen.query_one("#summary", LinesView)
        await one.until(lambda: 0 < view.scroll_offset.y <= view.page // 2 or not view.max_scroll_y)
        await one.press("ctrl+u")
        await one.until(lambda: view.scroll_offset.y == 0)


async def test_the_lists_move_alike(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", _many(40))
    for packed in cache.glob("*.tar"):
        packed.unlink()
    async with desk(cache) as one:
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: "file-missing" in one.text)
        view = one.app.screen.query_one(PickList)
        seen, half = [view.rows.index(next(row for row in view.rows if row.key == view.key))], view.size.height // 2
        for key in ("ctrl+d", "ctrl+u", "ctrl+f", "g", "G"):
            await one.press(key)
            seen.append(next(at for at, row in enumerate(view.rows) if row.key == view.key))
        assert seen == [1, 1 + half, 1, 1 + view.size.height, 1, len(view.rows) - 1]


async def test_n_goes_round_the_bad_rows_and_in_a_document_round_the_matches(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    for name in (f"{BUSYBOX.digest}.erofs", f"{TEA.digest}.{TEA.formats[0]}", f"{ALPINE.digest}.{ALPINE.formats[0]}"):
        (cache / name).unlink()
    async with desk(cache) as one:
        bad = [at for at, said in enumerate(one.names) if not said.endswith(" ok")]
        assert len(bad) == 3
        await one.press("end")
        for key, wanted in (("n", bad[0]), ("n", bad[1]), ("N", bad[0]), ("N", bad[-1])):
            await one.press(key)
            assert one.table.cursor_row == wanted, key
        await one.press("2", "tab")
        await one.until(lambda: one.focused == "DocumentView")
        await one.press("n")
        assert one.table.cursor_row == bad[0], "nothing is searched for"
        await one.settle()
        await one.press("slash", *"digest", "enter")
        await one.until(lambda: "match 1 of" in one.status)
        await one.press("n")
        await one.until(lambda: "match 2 of" in one.status)
        assert one.table.cursor_row == bad[0]


async def test_a_message_goes_with_the_next_key_and_what_stands_there_stays(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.press("R")
        await one.until(lambda: "read again" in one.status)
        await one.press("j")
        assert "read again" not in one.status
        await one.press("semicolon")
        await one.until(lambda: "no key ; here" in one.status)
        await one.press("f7")
        await one.until(lambda: "no key f7 here" in one.status)
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "nothing is changed before y" in one.status)
        await one.press("z")
        await one.until(lambda: "no key z here" in one.status)
        await one.press("down")
        assert "nothing is changed before y" in one.status
        await one.press("z")
        screen = one.app.screen
        assert isinstance(screen, FullScreen)
        screen.stand("12 of 40 files")
        assert "no key z here" in one.status, "how far something is takes no message away"
        await one.press("down")
        assert "12 of 40 files" in one.status


async def test_hidden_marks_are_told_and_taken_away(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.press("a", "slash", *"busybox", "enter")
        assert "7 marked, 5 hidden" in one.status
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "5 of those marked are hidden by the filter" in one.lines)
        await one.press("escape")
        await one.press("A")
        assert "marked" not in one.status
        assert not one.table.rows.marked


async def test_what_the_main_screen_copies(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        assert await _copy(one, "n") == BUSYBOX.name
        assert await _copy(one, "d") == BUSYBOX.digest
        assert await _copy(one, "p") == f"{cache}/{BUSYBOX.digest}.squashfs"
        line = await _copy(one, "e")
        assert "\n" not in line
        assert (json.loads(line)["digest"], json.loads(line)["format"]) == (BUSYBOX.digest, "squashfs")
        await one.open("c", "MenuScreen")
        await one.press("down", "enter")
        await one.until(lambda: "sent to the terminal" in one.status)
        assert _sent(one) == BUSYBOX.digest


async def test_what_other_screens_copy(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    (cache / f"{ALPINE.digest}.{ALPINE.formats[0]}").unlink()
    async with desk(cache) as one:
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "nothing is changed before y" in one.status)
        plan = await _copy(one, "m")
        assert plan.startswith("### On host7: 1 entry leaves the index")
        assert BUSYBOX.digest in plan
        await one.press("y")
        await one.until(lambda: one.top == "MainScreen" and "deleted" in one.status)
        await one.open("t", "TimelineScreen")
        await one.until(lambda: "1 transaction" in one.status)
        assert json.loads(await _copy(one, "e"))["digests"] == [BUSYBOX.digest]
        assert await _copy(one, "d") == BUSYBOX.digest
        await one.press("escape")
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: "file-missing" in one.text)
        await one.press("down")
        assert (await _copy(one, "m")).startswith("### HIGH  file-missing\n\n- **about**: ")
        assert await _copy(one, "p") == f"{cache}/{ALPINE.digest}.{ALPINE.formats[0]}"
        await one.open("m", "RepairScreen")
        await one.until(lambda: "before y" in one.status or "nothing to do" in one.status)
        assert "On host7" in await _copy(one, "m")


async def test_a_copy_goes_into_a_file_and_over_another_only_when_that_is_said(tmp_path: Path) -> None:
    cache, path = make_cache(tmp_path / "image"), tmp_path / "out"
    path.write_text("mine")
    async with desk(cache) as one:
        for answer, text in (("escape", "mine"), ("y", f"{BUSYBOX.digest}\n")):
            await one.open("c", "MenuScreen")
            await one.press("D")
            await one.until(lambda: one.top == "FileNameScreen")
            await one.press(*f"{path}", "enter")
            await one.until(lambda: "y replaces it" in one.text)
            await one.press(answer)
            await one.until(lambda: one.top == "MainScreen")
            assert path.read_text() == text
        await one.until(lambda: f"written: {path}" in one.status)
        await one.open("c", "MenuScreen")
        await one.press("N")
        await one.until(lambda: one.top == "FileNameScreen")
        await one.press(*f"{cache}/index.json", "enter")
        await one.until(lambda: "it is in the cache" in one.text)
        await one.press("escape")
    assert json.loads((cache / "index.json").read_text())["manifests"]


async def test_a_second_enter_does_not_find_the_file_that_the_first_one_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, held = tmp_path / "out", threading.Event()
    wrote: list[Path] = []

    def write(directory: Path, path: Path, text: str, *, replace: bool = False, like: Path | None = None) -> None:
        write_outside(directory, path, text, replace=replace, like=like)
        wrote.append(path)
        held.wait()

    monkeypatch.setattr("ocitui.tui.screens.popups.write_outside", write)
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("c", "MenuScreen")
        await one.press("D")
        await one.until(lambda: one.top == "FileNameScreen")
        await one.press(*f"{path}", "enter")
        await one.until(lambda: wrote == [path])
        await one.press("enter")
        await one.pilot.pause()
        held.set()
        await one.until(lambda: "it is there already" in one.text or one.top == "MainScreen")
        assert one.top == "MainScreen"
        assert wrote == [path]


async def test_what_is_too_long_for_a_terminal_is_not_sent(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image", _many(700))) as one:
        await one.press("a")
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "nothing is changed before y" in one.status)
        await one.open("c", "MenuScreen")
        await one.press("m")
        await one.until(lambda: "too much for most terminals; c M writes a file" in one.status)
        assert "\x1b]52;c;" not in one.driver.written


def test_a_file_beside_the_cache_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    cache, path = tmp_path / "image", tmp_path / "out"
    cache.mkdir()
    write_outside(cache, path, "one", replace=False)
    with pytest.raises(FileTakenError):
        write_outside(cache, path, "two", replace=False)
    assert path.read_text() == "one"
    write_outside(cache, path, "two", replace=True)
    assert path.read_text() == "two"
    (tmp_path / "link").symlink_to(cache)
    for inside in (cache / "new", tmp_path / "link" / "new"):
        with pytest.raises(ConflictError):
            write_outside(cache, inside, "three", replace=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError):
        write_outside(cache, tmp_path / "pipe", "three", replace=True)
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["image", "link", "out", "pipe"]


@pytest.mark.parametrize(
    ("index", "umask", "mode"),
    [(0o600, 0o22, 0o600), (0o644, 0o77, 0o600), (0o400, 0o22, 0o600), (0o644, 0o22, 0o644), (None, 0o22, 0o644)],
)
def test_a_file_beside_the_cache_is_no_more_open_than_what_it_tells_of(
    tmp_path: Path, index: int | None, umask: int, mode: int
) -> None:
    cache, path = tmp_path / "image", tmp_path / "out"
    cache.mkdir()
    if index is not None:
        (cache / "index.json").touch(index)
    before = os.umask(umask)
    try:
        write_outside(cache, path, "one", replace=False, like=cache / "index.json")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.chmod(0o640)
        write_outside(cache, path, "two", replace=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_commands_that_are_meant_come_first() -> None:
    first = {text: commands(text)[0].name for text in ("d", "T", "t", "imports", "import", "REPAIR", "exit", "summ")}
    assert first == {
        "d": "delete", "T": "next_theme", "t": "journal", "imports": "imports", "import": "import_image",
        "REPAIR": "mend", "exit": "quit", "summ": "show_tab('summary')",
    }  # fmt: skip
    assert commands("nosuch") == []


def test_lines_as_markdown() -> None:
    lines = [heading("HIGH  <code>"), Line("a_b *c*", "seen"), Line(), Line("plain"), CommandLine("ls *")]
    assert list(markdown(lines)) == [r"### HIGH  \<code>", "", r"- **seen**: a_b \*c\*", "", "- plain", "    ls *"]
