"""The document view: moving, searching, long lines and large documents."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.events import MouseScrollDown

from ocitui.cache.errors import DocumentError
from ocitui.tui.terminal import THEMES
from ocitui.tui.widgets import document_view
from ocitui.tui.widgets.document_text import DocumentText, column_of, prepare
from ocitui.tui.widgets.document_view import MOST_MATCHES, Needle, find_all
from ocitui.words.documents import Alive
from tests.tui.document_view_support import MIB, SIZES, always, numbers, viewer
from tests.tui.screen_support import until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", SIZES)
async def test_keys_and_wheel_scroll(size: tuple[int, int]) -> None:
    async with viewer(size) as shown:
        await shown.show(numbers(1000))
        view, page = shown.view, size[1] - 1
        for keys, top in [
            ("j down", 2), ("k", 1), ("pagedown", 1 + page), ("pageup up", 0), ("G", 1002 - size[1]),
            ("g", 0), ("end", 1002 - size[1]), ("home", 0),
        ]:  # fmt: skip
            await shown.press(*keys.split())
            assert view.scroll_offset.y == top, keys
        view.post_message(MouseScrollDown(view, 1, 1, 0, 0, 0, False, False, False))
        await shown.pilot.pause()
        assert view.scroll_offset.y > 0


@pytest.mark.parametrize("letters", ["abcdefghij", "äößüñéèêàç", "日本語文字列表示文"])
async def test_a_very_long_line_is_cut_and_scrolled_through(letters: str) -> None:
    text = letters * (5 * MIB // len(letters.encode()))
    async with viewer() as shown:
        await shown.show(json.dumps({"data": text, "end": 1}, ensure_ascii=False).encode())
        view = shown.view
        start = shown.lines[1]
        assert start.startswith(f'  "data": "{letters}')
        assert start.endswith(">")
        assert cell_len(start) == 80
        assert shown.lines[2] == '  "end": 1'
        await shown.press("right", "right")
        assert shown.lines[1] != start
        assert shown.lines[1].rstrip(">").strip() in text
        assert shown.lines[2] == ""
        view.scroll_to(x=view.max_scroll_x // 2, animate=False, force=True)
        assert shown.lines[1].rstrip(">").strip() in text
        view.scroll_to(x=view.max_scroll_x, animate=False, force=True)
        assert shown.lines[1].endswith('",')
        await shown.press("g")
        assert shown.lines[1] == start


async def test_the_colours_go_on_far_within_a_long_string() -> None:
    async with viewer() as shown:
        await shown.show(json.dumps(['1\\"' * 2000, "7" * 200_000]).encode())
        shown.view.scroll_to(x=1001, animate=False, force=True)
        others = ("key", "number", "literal")
        assert not any(shown.styled(name) for name in others)
        assert any(len(text) == 79 for text in shown.styled("string"))
        shown.view.scroll_to(x=100_000, animate=False, force=True)
        assert shown.lines[2] == f"{'7' * 79}>"
        assert not any(shown.styled(name) for name in others)


def test_the_column_of_a_byte_counts_cells() -> None:
    text = prepare('["日本é"]'.encode(), None, always)
    offset = text.data.index("é".encode())
    assert column_of(text, 1, offset) == 7


@pytest.mark.parametrize("size", SIZES)
async def test_search_goes_forward_backward_and_around(size: tuple[int, int]) -> None:
    raw = json.dumps([f"Layer {n}" if n % 100 == 50 else n for n in range(300)]).encode()
    async with viewer(size) as shown:
        await shown.show(raw)
        assert await shown.search("lAYER") == (3, 1)
        assert shown.styled("current-match") == ["Layer"]
        seen = [next(line for line in shown.lines if "Layer" in line)]
        for key in ("n", "n", "n", "N", "N"):
            await shown.press(key)
            seen.append(next(line for line in shown.lines if "Layer" in line))
        assert [line.strip(' ",').split()[1] for line in seen] == ["50", "150", "250", "50", "250", "150"]
        assert [current for _, current in shown.app.searches] == [1, 2, 3, 1, 3, 2]


async def test_search_starts_from_what_is_seen_and_ends_with_empty_text() -> None:
    async with viewer() as shown:
        await shown.show(numbers(1000))
        await shown.press("G")
        count, current = await shown.search("99")
        assert count == 19
        assert current > 1
        assert len(shown.styled("match")) + len(shown.styled("current-match")) >= 10
        assert await shown.search("no such text") == (0, 0)
        assert await shown.search("") == (0, 0)
        assert not shown.styled("match")
        await shown.press("n")
        assert shown.app.searches[-1] == (0, 0)


async def test_search_reaches_into_long_lines_and_other_scripts() -> None:
    async with viewer() as shown:
        await shown.show(json.dumps(["x" * 300_000 + "ÄRGER" + "x" * 9000], ensure_ascii=False).encode())
        assert await shown.search("ärger") == (1, 1)
        assert shown.styled("current-match") == ["ÄRGER"]
        assert shown.view.scroll_offset.x > 299_000


@given(st.text("abA\u00e9\u00c9", max_size=60), st.text("abA\u00e9\u00c9", min_size=1, max_size=3))
def test_search_finds_what_python_finds(text: str, wanted: str) -> None:
    expected, at, folded = [], 0, text.lower()
    while (at := folded.find(wanted.lower(), at)) >= 0:
        expected.append(len(text[:at].encode()))
        at += len(wanted)
    assert list(find_all(text.encode(), Needle(wanted), always)) == expected


def test_matches_across_chunks_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.tui.widgets.document_view.DOCUMENT_CHUNK", 5)
    assert list(find_all(b"aaaaaaaaaaaaab", Needle("aaa"), always)) == [0, 3, 6, 9]
    assert list(find_all(b"xxxxabcdxxxxabcd", Needle("abcd"), always)) == [4, 12]


async def test_the_count_of_matches_is_capped() -> None:
    async with viewer() as shown:
        await shown.show(b'["' + b"a" * (MOST_MATCHES + 5) + b'"]')
        assert await shown.search("a") == (MOST_MATCHES, 1)


async def test_a_newer_document_supersedes_one_still_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def held(raw: bytes, error: DocumentError | None, alive: Alive) -> DocumentText:
        if len(raw) > MIB:
            loop.call_soon_threadsafe(started.set)
            go_on.wait()
        return prepare(raw, error, alive)

    monkeypatch.setattr(document_view, "prepare", held)
    async with viewer() as shown:
        older = asyncio.create_task(shown.view.show_document(numbers(1_000_000)))
        await started.wait()
        assert shown.lines[0].startswith("preparing ")
        await shown.show(b'["newer"]')
        go_on.set()
        await older
        await shown.pilot.pause()
        assert shown.lines[1] == '  "newer"'
        assert shown.view.line_count == 3


async def test_twenty_megabytes_open_while_the_loop_runs() -> None:
    row = {"digest": "sha256:" + "ab" * 32, "size": 1, "annotations": {"name": "x" * 60}}
    raw = json.dumps([row] * (20 * MIB // len(json.dumps(row)))).encode()
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    async with viewer() as shown:
        beating = asyncio.create_task(heart())
        await shown.view.show_document(raw)
        while_preparing, beats = beats, 0
        count, _ = await shown.search("sha256:ab")
        while_searching = beats
        beating.cancel()
        await shown.pilot.pause()
        assert shown.view.line_count > 500_000
        assert count > 90_000
        await shown.press("G")
        assert shown.lines[-1] == "]"
    assert while_preparing > 20
    assert while_searching > 2


async def test_nothing_is_drawn_when_nothing_changed() -> None:
    async with viewer() as shown:
        raw = numbers(100)
        await shown.show(raw)
        await shown.press("j")
        drawn = shown.view.drawn
        await shown.show(bytes(bytearray(raw)))
        assert shown.view.scroll_offset.y == 1
        shown.view.search("")
        await shown.pilot.pause()
        shown.view.scroll_to(y=1, animate=False)
        await shown.pilot.pause()
        assert shown.view.drawn == drawn
        await shown.search("1")
        drawn = shown.view.drawn
        await shown.press("n")
        assert shown.view.drawn - drawn == 2


async def test_an_error_is_scrolled_to_once_the_view_has_a_size() -> None:
    async with viewer() as shown:
        shown.view.display = False
        await shown.pilot.pause()
        await shown.show(b"[" + b"1,\n" * 1000 + b"x")
        shown.view.display = True
        await until(shown.pilot, lambda: shown.styled("wrong") == ["x"], "the place that is wrong")
        await shown.pilot.resize_terminal(60, 20)
        assert shown.view.render_line(0).cell_length == shown.view.size.width <= 60


@pytest.mark.parametrize("theme", THEMES.values())
async def test_every_theme_colours_the_kinds(theme: str) -> None:
    async with viewer() as shown:
        shown.app.theme = theme
        await shown.show(b'{"a": ["b", 1, true]}')
        marks = ("key", "number", "literal", "punctuation", "string", "wrong", "match", "current-match")
        styles = {name: shown.view.style_of(name) for name in marks}
        assert len(set(styles.values())) == len(marks)
        assert len({styles[name].color for name in ("key", "number", "literal", "string")}) == 4
        assert shown.styled("key") == ['"a"']
