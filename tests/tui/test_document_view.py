"""The document view: how documents are laid out, where they break, and that they command nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style

from ocitui.cache.documents import Document
from ocitui.cache.errors import DocumentError
from ocitui.tui.widgets.document_text import DocumentText, diagnose, draw, index_lines, prepare
from tests.tui.document_view_support import MIB, SIZES, always, numbers, viewer


def plain(_name: str) -> Style:
    return Style.null()


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
        assert shown.view.line_count == 8
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
        assert shown.view.line_count == 0


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
        await shown.show(b"[" * 100_000 + b"]" * 100_000)
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
        patch.setattr("ocitui.tui.widgets.document_text.DOCUMENT_CHUNK", chunk)
        index = index_lines(data, always)
    text = DocumentText(data, *index)
    lines = data.removesuffix(b"\n").split(b"\n")
    assert [data[slice(*text.bounds(line))] for line in range(text.line_count)] == [
        line.removesuffix(b"\r") for line in lines
    ]
    assert text.width == max(map(len, lines))
