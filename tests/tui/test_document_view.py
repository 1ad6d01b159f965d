import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.app import App, ComposeResult
from textual.events import MouseScrollDown
from textual.pilot import Pilot
from textual.strip import Strip

from ocitui.cache.documents import Document
from ocitui.cache.errors import DocumentError
from ocitui.tui.widgets import document_view
from ocitui.tui.widgets.document_paint import column_of, draw
from ocitui.tui.widgets.document_search import MOST_MATCHES, Needle, find_all
from ocitui.tui.widgets.document_text import DocumentText, diagnose, index_lines, prepare
from ocitui.tui.widgets.document_view import DocumentView
from ocitui.tui.widgets.json_indent import Alive

SIZES = [(80, 24), (120, 40)]
MIB = 1 << 20


class CountingView(DocumentView):
    drawn = 0

    def render_line(self, y: int) -> Strip:
        self.drawn += 1
        return super().render_line(y)


class ViewerApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[int] = []
        self.searches: list[tuple[int, int]] = []
        self.searched = asyncio.Event()

    def compose(self) -> ComposeResult:
        yield CountingView("nothing yet")

    def on_document_view_prepared(self, message: DocumentView.Prepared) -> None:
        self.prepared.append(message.line_count)

    def on_document_view_search_done(self, message: DocumentView.SearchDone) -> None:
        self.searches.append((message.count, message.current))
        self.searched.set()


class Viewer:
    """A document view on a screen, and what a reader does with it."""

    def __init__(self, app: ViewerApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot
        self.view = app.query_one(CountingView)

    async def show(self, raw: bytes, error: DocumentError | None = None) -> None:
        await self.view.show_document(raw, error=error)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def search(self, text: str) -> tuple[int, int]:
        self.app.searched.clear()
        self.view.search(text)
        await self.app.searched.wait()
        await self.pilot.pause()
        return self.app.searches[-1]

    @property
    def lines(self) -> list[str]:
        return [self.view.render_line(y).text.rstrip() for y in range(self.view.size.height)]

    def styled(self, name: str) -> list[str]:
        style = self.view.get_component_rich_style(f"document-view--{name}")
        strips = [self.view.render_line(y) for y in range(self.view.size.height)]
        return [segment.text for strip in strips for segment in strip if segment.style == style]


@asynccontextmanager
async def viewer(size: tuple[int, int] = (80, 24)) -> AsyncIterator[Viewer]:
    app = ViewerApp()
    async with app.run_test(size=size) as pilot:
        opened = Viewer(app, pilot)
        opened.view.focus()
        await pilot.pause()
        yield opened


def always() -> bool:
    return True


def plain(_name: str) -> Style:
    return Style.null()


def numbers(count: int) -> bytes:
    return json.dumps(list(range(count))).encode()


def failure(raw: bytes) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        Document.manifest(raw)
    return caught.value


@pytest.mark.parametrize("size", SIZES)
async def test_json_is_laid_out_as_written(size: tuple[int, int]) -> None:
    async with viewer(size) as shown:
        await shown.show(b'{"b":1.0e5,"a":[],"b":{"c":"\\u00e9","d":-0}}')
        assert shown.lines[:9] == [
            "{", '  "b": 1.0e5,', '  "a": [],', '  "b": {', '    "c": "\\u00e9",', '    "d": -0', "  }", "}", "",
        ]  # fmt: skip
        assert shown.app.prepared == [shown.view.line_count] == [8]
        assert shown.styled("key") == ['"b"', '"a"', '"b"', '"c"', '"d"']
        assert shown.styled("number") == ["1.0e5", "-0"]
        assert all(shown.view.render_line(y).cell_length == size[0] for y in range(size[1]))


async def test_a_placeholder_stands_where_no_document_is() -> None:
    async with viewer() as shown:
        assert shown.lines[0] == "nothing yet"
        shown.view.clear("gone\x1b[2J")
        assert shown.lines[:2] == ["gone�[2J", ""]
        await shown.show(b"")
        assert shown.lines[0] == "empty document (0 bytes)"
        await shown.show(b"", DocumentError("EOF while parsing a value", line=1))
        assert shown.lines[0] == "empty document (0 bytes): EOF while parsing a value"
        assert shown.app.prepared == [0, 0]


@pytest.mark.parametrize("size", SIZES)
async def test_the_place_of_an_error_is_shown(size: tuple[int, int]) -> None:
    raw = b'{\n  "schemaVersion": 2,\n  "mediaType": "applicat'
    async with viewer(size) as shown:
        await shown.show(raw, failure(raw))
        assert shown.lines[:4] == [
            "line 3 column 24: EOF while parsing a string",
            "1 {",
            '2   "schemaVersion": 2,',
            '3   "mediaType": "applicat',
        ]
        assert shown.styled("wrong") == ["t"]
        assert shown.styled("banner")


async def test_an_error_far_down_and_far_right_is_scrolled_to() -> None:
    raw = b"[\n" + b"1,\n" * 5000 + b'"' + b"a" * 3000 + b'" oops'
    async with viewer() as shown:
        await shown.show(raw)
        assert shown.lines[0] == "line 5002 column 3004: expected `,` or `]`"
        assert any(line.startswith("5002 ") and line.endswith('aa" oops') for line in shown.lines)
        assert shown.styled("wrong") == ["o"]


@pytest.mark.parametrize(
    ("raw", "line", "wrong"),
    [
        (b"[1,\n", "line 2 column 0: EOF while parsing a value", " "),
        (b'{"a": 1', "line 1 column 7: EOF while parsing an object", "1"),
        (b"\xef\xbb\xbf{}", "line 1 column 1: expected value", "�"),
        ('"é" é'.encode(), "line 1 column 6: trailing characters", "é"),
        (b'["\xc3\xa9\xff",\r\n x]\r\n', "line 2 column 2: expected value", "x"),
        (b"   ", "line 1 column 3: EOF while parsing a value", " "),
    ],
)
async def test_what_is_wrong_stands_out(raw: bytes, line: str, wrong: str) -> None:
    async with viewer() as shown:
        await shown.show(raw)
        assert shown.lines[0] == line
        assert shown.styled("wrong") == [wrong]


async def test_a_type_error_keeps_the_layout_and_marks_no_wrong_place() -> None:
    raw = b'{"schemaVersion": 2}'
    error = failure(raw)
    async with viewer() as shown:
        await shown.show(raw, error)
        place = f"(in the file as stored: line {error.line} column {error.column})"
        assert shown.lines[:3] == [f"{error.message} {place}", "{", '  "schemaVersion": 2']
        assert not shown.styled("wrong")


async def test_an_error_without_a_place_or_with_an_impossible_one_is_still_told() -> None:
    async with viewer() as shown:
        await shown.show(b"{", DocumentError("bad"))
        assert shown.lines[:2] == ["bad", "1 {"]
        await shown.show(b"{", DocumentError("bad", line=7, column=9))
        assert shown.lines[:2] == ["line 7 column 9: bad", "1 {"]


async def test_a_long_message_takes_at_most_three_rows_and_stays_when_scrolled() -> None:
    async with viewer() as shown:
        await shown.show(numbers(100), DocumentError("mistaken " * 1000, line=1, column=2))
        banner = shown.lines[:3]
        assert banner[0].startswith("mistaken")
        assert shown.lines[3] == "["
        await shown.press("G")
        assert shown.lines[:3] == banner
        assert shown.lines[-1] == "]"


async def test_what_the_daemon_reads_but_nobody_can_lay_out_is_shown_as_stored() -> None:
    async with viewer() as shown:
        await shown.show(b'{"a":"\\ud800"}')
        assert "the daemon can read this" in shown.lines[0]
        assert shown.lines[1] == '1 {"a":"\\ud800"}'
        await shown.show(b"[" * 3000 + b"]" * 3000)
        assert "nested too deeply" in shown.lines[0]


def test_a_large_broken_document_is_diagnosed_without_the_slow_scanner() -> None:
    raw = b'["' + b"a" * (5 * MIB) + b'",\n  x]'
    for text, line, column in ((raw, 2, 3), (raw[:-6], 1, len(raw) - 6)):
        with pytest.raises(msgspec.DecodeError) as refusal:
            msgspec.json.decode(text)
        error = diagnose(text, str(refusal.value))
        assert error
        assert (error.line, error.column) == (line, column)
        assert "byte" not in error.message


@pytest.mark.parametrize(
    "hostile", [b"\x1b]0;owned\x07", b"\xff\xfe\x80", b"\x9b2J", "\u202e\u2028\u200b".encode(), b"\x00\x0b\r"]
)
async def test_nothing_in_a_document_commands_the_terminal(hostile: bytes) -> None:
    async with viewer() as shown:
        for raw in (b'{"a":"' + hostile + b'"}', b'["' + hostile + b'" "b"]', hostile):
            await shown.show(raw, DocumentError("\x1b[31m", line=1, column=1))
            assert all(line.isprintable() for line in shown.lines)
            assert "�" in "".join(shown.lines)


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode), st.integers(0, 300), st.integers(0, 40))
def test_any_bytes_are_drawn_harmlessly_and_exactly_as_wide_as_asked(raw: bytes, left: int, width: int) -> None:
    raw = raw or b"x"
    text = prepare(raw, DocumentError("bad", line=1, column=left), always)
    assert text.starts[0] == 0
    assert text.starts[-1] >= len(text.data)
    for line in range(text.line_count):
        strip = draw(text, line, left, width, [], plain)
        assert strip.cell_length == width == cell_len(strip.text)
        assert strip.text.isprintable()


@given(st.binary(max_size=2000) | st.text("\n\r ab").map(str.encode))
@pytest.mark.parametrize("chunk", [1, 7, 1 << 18])
def test_lines_are_those_between_line_breaks(chunk: int, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ocitui.tui.widgets.document_text.CHUNK", chunk)
        index = index_lines(data, always)
    text = DocumentText(data, *index)
    lines = data.removesuffix(b"\n").split(b"\n")
    assert [data[slice(*text.bounds(line))] for line in range(text.line_count)] == [
        line.removesuffix(b"\r") for line in lines
    ]
    assert text.width == max(map(len, lines))


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
        await shown.show(json.dumps(["a\\" * 2000, "b" * 200_000]).encode())
        shown.view.scroll_to(x=1001, animate=False, force=True)
        assert all(text.strip("\\ab") == "" for text in shown.styled("string"))
        assert shown.styled("string")
        shown.view.scroll_to(x=100_000, animate=False, force=True)
        assert shown.styled("string") == ["b" * 79]


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
    monkeypatch.setattr("ocitui.tui.widgets.document_search.CHUNK", 5)
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
        assert shown.app.prepared == [3]


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
        await shown.pilot.pause()
        assert shown.styled("wrong") == ["x"]
        await shown.pilot.resize_terminal(60, 20)
        assert shown.view.render_line(0).cell_length == shown.view.size.width <= 60


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark", "ansi-light"])
async def test_every_theme_colours_the_kinds(theme: str) -> None:
    async with viewer() as shown:
        shown.app.theme = theme
        await shown.show(b'{"a": ["b", 1, true]}')
        styles = {
            name: shown.view.get_component_rich_style(f"document-view--{name}")
            for name in ("key", "string", "number", "plain", "wrong", "match", "current-match")
        }
        assert styles["key"].color != styles["string"].color != styles["plain"].color
        assert len(set(styles.values())) >= 6
        assert shown.styled("key") == ['"a"']
