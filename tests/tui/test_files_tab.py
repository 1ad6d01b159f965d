"""What is inside a packed file, in the pane: its tree, its files as text and bytes, and files written out of it."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from ocitui.cache import PackedFormat, PackerCache
from ocitui.contents.tree import Inode, PackedTree
from ocitui.importing import ImportDesk, ImportRequest, import_image, note_stored
from ocitui.threads import Stop
from ocitui.tui.screens.files import FileScreen
from ocitui.tui.widgets import file_tree
from ocitui.tui.widgets.document_view import DocumentView
from ocitui.tui.widgets.file_tree import Contents, FileRows
from tests.contents.trees_support import unpacked_fixture
from tests.importing.layer_support import Item, layer
from tests.importing.pipeline import image_of, layout_of
from tests.tui.cache_support import Image, add_files, make_cache, packed_path, write_index
from tests.tui.files_support import FILES, at, file_shown, found, opened, put, shown, tar_of, tree
from tests.tui.screen_support import SMALL, WIDE, desk

pytestmark = pytest.mark.slow

IMAGE, OTHER = Image("example.com/team/web:1", ("tar",)), Image("example.com/team/zoo:2", ("tar",))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = make_cache(tmp_path / "cache" / "image", [IMAGE, OTHER])
    put(directory, IMAGE, tar_of(FILES))
    put(directory, OTHER, tar_of({"other": b"1"}))
    return directory


@pytest.mark.parametrize("size", [SMALL, WIDE])
async def test_a_tree_with_sums_modes_and_owners(cache: Path, size: tuple[int, int]) -> None:
    async with desk(cache, size) as one:
        await opened(one, "down", "right", "right")
        await one.until(lambda: at(one) == "/bin/tool")
        titles, root, folder, file, *_ = shown(one)
        assert titles.split()[:3] == ["SIZE", "NAME▾", "10"]
        assert root.split()[0] == "39K"
        assert folder.split()[-2:] == ["0755", "0:0"]
        assert file.split()[:2] == ["▸", "2.9K"]
        assert file.split()[-3:] == ["tool", "0640", "7:8"]
        assert "/bin/tool, of 7:8, 2023-11-14 22:13" in one.status
        assert one.keys.startswith(" enter Open  ← → Fold  x Extract  / Find  s Sort")
        await one.press("left", "left", "down", "right")
        await one.until(lambda: "> bin" in one.text or "▸ bin" in one.text, "bin is closed")
        assert not any("tool" in row for row in shown(one))
        # What a terminal would obey is not sent there.
        assert "\x1b[31m" not in one.text
        assert "�[31mred�" in one.text


async def test_beside_the_table_names_have_the_room_of_owners(cache: Path) -> None:
    async with desk(cache, WIDE) as one:
        await one.press("4", "tab")
        await one.until(lambda: one.focused == "FileTree" and "MODE" in one.text)
        assert "OWNER" not in one.text
        await one.until(lambda: "/, of 0:0" in one.status)


async def test_sorted_by_size_and_by_name_the_other_way(cache: Path) -> None:
    async with desk(cache) as one:
        await opened(one, "end")
        await one.press("s")
        await one.until(lambda: one.top == "MenuScreen")
        await one.press("s")
        await one.until(lambda: "SIZE▾" in one.text)
        assert [row.split()[-3] for row in shown(one)[2:]] == ["usr", "bin", "etc"]
        assert at(one) == "/usr"
        await one.press("s")
        await one.until(lambda: one.top == "MenuScreen")
        await one.press("N")
        await one.until(lambda: "NAME▴" in one.text)
        assert [row.split()[-3] for row in shown(one)[2:]] == ["usr", "etc", "bin"]


async def test_names_are_found_in_directories_that_are_closed(cache: Path) -> None:
    async with desk(cache) as one:
        await opened(one)
        await found(one, "t*")
        assert at(one) == "/bin/tool"
        await one.press("n")
        await one.until(lambda: at(one) == "/usr/share/text")
        assert "match 2 of 2" in one.status
        await one.press("n")
        await one.until(lambda: at(one) == "/bin/tool")
        await one.press("N")
        await one.until(lambda: at(one) == "/usr/share/text")
        await one.press("slash", *"nothing", "enter")
        await one.until(lambda: "no match" in one.status)


async def test_a_text_is_read_searched_and_seen_as_bytes(cache: Path) -> None:
    async with desk(cache) as one:
        await opened(one)
        await file_shown(one, "text")
        await one.until(lambda: "   1 1 of many lines" in one.text, "its lines")
        assert "/usr/share/text, 36K: text" in one.status
        await one.press("slash", *"1999 OF", "enter")
        await one.until(lambda: "match 1 of 1" in one.status)
        assert "1999 1999 of many lines" in one.text
        await one.press("h")
        await one.until(lambda: "00000000  31 20 6f 66" in one.text, "its bytes")
        assert "1 of many lines." in one.text
        await one.press("h")
        await one.until(lambda: "1999 1999 of many lines" in one.text)
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen")
        assert at(one) == "/usr/share/text"


async def test_what_is_no_text_is_shown_as_bytes(cache: Path) -> None:
    async with desk(cache) as one:
        await opened(one)
        await file_shown(one, "tool")
        await one.until(lambda: "00000000  7f 45 4c 46 02" in one.text, "its bytes")
        assert "an ELF file for x86-64" in one.status
        assert ".ELF" in one.text
        await one.press("end")
        await one.until(lambda: "00000bc0" in one.text, "its end")


async def test_an_empty_file_and_links(cache: Path) -> None:
    async with desk(cache) as one:
        await opened(one)
        await file_shown(one, "red")
        await one.until(lambda: "empty file (0 bytes)" in one.text)
        await one.press("escape")
        await found(one, "link")
        await one.press("enter")
        await one.until(lambda: at(one) == "/etc/passwd", "where the link leads")
        await found(one, "astray")
        await one.press("enter")
        await one.until(lambda: "/usr/share/astray leads to nothing in the image" in one.status)


async def test_a_file_that_is_replaced_or_cut_while_it_is_seen(cache: Path) -> None:
    async with desk(cache) as one:
        await opened(one, "end", "right", "right", "right")
        await one.until(lambda: "text" in one.text)
        put(cache, IMAGE, tar_of({"usr/share/new": b"1", **FILES}))
        await one.until(lambda: "11 entries" in one.text, "it is read again")
        assert at(one) == "/usr/share"
        assert any("new" in row for row in shown(one))
        put(cache, IMAGE, tar_of(FILES)[:-30_000])
        await one.until(lambda: "not readable" in one.text, "what is wrong")
        await one.press("up", "up", "up", "up")
        assert any(" etc " in row for row in shown(one))
        packed_path(cache, IMAGE, "tar").unlink()
        await one.until(lambda: "missing: there is no packed file" in one.text)


async def test_of_a_damaged_file_what_can_be_read_is_shown(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.tui.screens.files._CHUNK", 5_000)
    async with desk(cache) as one:
        await opened(one)
        contents = tree(one).contents
        assert contents is not None
        text = contents.tree.find(b"usr/share/text")
        assert text is not None
        os.truncate(packed_path(cache, IMAGE, "tar"), 20_000)
        one.app.push_screen(FileScreen(contents, text))
        await one.until(lambda: "not readable from byte 10,000 on" in one.text, "what is wrong")
        assert " 1 1 of many lines" in one.text


async def test_names_of_every_kind(tmp_path: Path) -> None:
    image = Image("example.com/team/zoo:1", ("squashfs",))
    cache = make_cache(tmp_path / "cache" / "image", [image])
    put(cache, image, unpacked_fixture("zoo.gzip.squashfs", tmp_path).read_bytes())
    async with desk(cache, WIDE) as one:
        await opened(one)
        view = tree(one)
        assert view.contents is not None
        for row in FileRows(view.contents, range(len(view.contents.tree)), frozenset(), view.rows[0]):
            cells = row.cells(118, pointed=False)
            assert sum(cell_len(text) for text, _ in cells) == 117
            assert "".join(text for text, _ in cells).isprintable()


async def test_the_root_is_there_before_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, go, read = Image("example.com/team/zoo:1", ("squashfs",)), threading.Event(), file_tree.read_contents
    cache = make_cache(tmp_path / "cache" / "image", [image])
    put(cache, image, unpacked_fixture("zoo.gzip.squashfs", tmp_path).read_bytes())

    def later(path: Path, format: PackedFormat, name: str, stop: Stop, *, whole: bool) -> Contents:
        assert not whole or go.wait(30)
        return read(path, format, name, stop, whole=whole)

    monkeypatch.setattr(file_tree, "read_contents", later)
    async with desk(cache, WIDE) as one:
        await opened(one)
        assert "reading the rest" in one.text
        row = next(row for row in shown(one) if row.endswith("etc") or " etc " in row)
        assert not any(letter.isdigit() for letter in row.partition("etc")[0]), "its size is not known"
        while at(one) != "/etc":
            await one.press("down")
        await one.press("right", "slash", *"hostname", "enter")
        await one.until(lambda: one.focused == "FileTree")
        assert at(one) == "/etc"
        assert not any("hostname" in row for row in shown(one))
        go.set()
        # What was asked for meanwhile is done.
        await one.until(lambda: "match 1 of 1" in one.status)
        assert at(one) == "/etc/hostname"
        assert "reading the rest" not in one.text


async def test_what_is_no_packed_file_is_said(cache: Path) -> None:
    put(cache, IMAGE, b"nothing of the kind" * 500)
    async with desk(cache) as one:
        await one.press("4")
        await one.until(lambda: "not a tar" in one.text or "tar" in "".join(shown(one)), "what is wrong")
        assert "OWNER" not in one.text
        assert "ocitui " not in "".join(shown(one))


async def test_of_two_entries_of_one_name_only_that_under_the_cursor_is_shown(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key acts on what is in the entry that the cursor was on."""
    newer, go, read = Image(IMAGE.name, ("tar",), steps=("newer",)), threading.Event(), file_tree.read_contents
    add_files(cache, newer)
    write_index(cache, [IMAGE, newer])
    put(cache, newer, tar_of({"newer": b"1"}))

    def later(*words: Any, **more: Any) -> Contents:
        assert go.wait(30)
        return read(*words, **more)

    async with desk(cache) as one:
        await one.press("4")
        await one.until(lambda: " usr" in one.text, "the first")
        monkeypatch.setattr(file_tree, "read_contents", later)
        await one.press("j")
        assert tree(one).contents is None
        await one.press("x")
        await one.until(lambda: "no files are shown; the pane says why" in one.status)
        go.set()
        await one.until(lambda: " newer" in one.text, "the other")


async def test_the_packed_file_is_let_go(cache: Path) -> None:
    packed = os.path.realpath(packed_path(cache, IMAGE, "tar"))

    def is_open() -> bool:
        fds = Path("/proc/self/fd").iterdir()
        return packed in [os.path.realpath(fd) for fd in fds]

    async with desk(cache) as one:
        await one.press("4")
        await one.until(is_open, "the tree")
        await one.press("1", "j")
        await one.until(lambda: not is_open(), "it is closed")
        await one.press("4")
        await one.until(lambda: " other" in one.text, "that of the other entry")


async def test_files_are_written_out_only_once_that_is_confirmed(cache: Path, tmp_path: Path) -> None:
    there = tmp_path / "out"
    async with desk(cache) as one:
        await opened(one)
        await found(one, "passwd")
        await one.open("x", "DirectoryScreen")
        await one.press(*str(there), "enter")
        await one.until(lambda: one.top == "ExtractScreen" and "before y" in one.status, "the plan")
        assert "/etc/passwd, 1 entry, 11B" in one.lines
        assert str(there) in one.lines.replace("\n", ""), "whole, on as many lines as it takes"
        assert not there.exists()
        await one.press("y")
        await one.until(lambda: one.top == "MainScreen" and "1 entry, 11B" in one.status, "it is written")
        assert (there / "etc/passwd").read_bytes() == b"root:x:0:0\n"
        (there / "etc/passwd").write_bytes(b"mine")
        await one.open("x", "DirectoryScreen")
        await one.press(*str(there), "enter")
        await one.until(lambda: "1 file there already: etc/passwd" in one.lines, "what is replaced")
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen")
        assert (there / "etc/passwd").read_bytes() == b"mine"


async def test_what_is_left_out_of_a_damaged_image_is_told(cache: Path, tmp_path: Path) -> None:
    data = tar_of(FILES)
    put(cache, IMAGE, data[: data.index(b"usr/share/astray\0")])
    async with desk(cache) as one:
        await opened(one)
        await one.open("x", "DirectoryScreen")
        await one.press(*str(tmp_path / "out"), "enter")
        await one.until(lambda: one.top == "ExtractScreen" and "before y" in one.status, "the plan")
        assert "what cannot be read: what stands behind byte" in one.lines
        await one.press("y")
        await one.until(lambda: one.top == "MainScreen" and "what cannot be read: what stands" in one.status)


async def test_nothing_is_written_into_the_cache(cache: Path) -> None:
    async with desk(cache) as one:
        await opened(one)
        await one.open("x", "DirectoryScreen")
        await one.press(*str(cache / "new"), "enter")
        await one.until(lambda: one.top == "ExtractScreen" and "enter or esc goes back" in one.status, "the refusal")
        await one.press("y", "enter")
        await one.until(lambda: one.top == "MainScreen")
        assert not (cache / "new").exists()


async def test_a_hundred_thousand_files_in_a_directory(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are made for what is seen, whatever there is."""
    node = Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 1, 1)
    packed = PackedTree(None, node)  # type: ignore[arg-type]
    for number in range(100_000):
        packed.add(0, b"%06d" % number, Inode(stat.S_IFREG | 0o644, 0, 0, number, 0, number + 2, 0))
    made, row = list[int](), FileRows._row

    def counted(rows: FileRows, entry: int) -> object:
        made.append(entry)
        return row(rows, entry)

    async with desk(cache) as one:
        await opened(one)
        before = tree(one).contents
        assert before is not None
        contents = Contents(packed, before.name, before.identity, Stop())
        monkeypatch.setattr(FileRows, "_row", counted)
        tree(one).show(contents)
        for key, path in (("end", "/099999"), ("up", "/099998"), ("pageup", ""), ("home", "/"), ("j", "/000000")):
            await one.press(key)
            if path:
                await one.until(lambda path=path: at(one) == path)  # type: ignore[misc]
        await one.rest()
        assert len(made) < 100 * one.app.size.height
        await found(one, "050000")
        assert at(one) == "/050000"
        assert len(made) < 120 * one.app.size.height


async def test_a_text_of_any_size_is_read_to_a_bound(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.tui.screens.files.MOST_SHOWN", 10_000)
    monkeypatch.setattr("ocitui.tui.screens.files._CHUNK", 5_000)
    async with desk(cache) as one:
        await opened(one)
        screen = await file_shown(one, "text")
        await one.until(lambda: "its first 9.8K; x on its row writes all of it" in one.text, "what is left out")
        assert screen.query_one(DocumentView).line_count < 2000


@pytest.mark.parametrize("text", ["/etc/passwd", "share/te", "usr/share/text"])
async def test_a_path_is_found_by_any_part_of_it(cache: Path, text: str) -> None:
    async with desk(cache) as one:
        await opened(one)
        await found(one, text)
        assert text in at(one)


async def test_bytes_that_are_asked_for_too_early(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, read = threading.Event(), FileScreen._beginning

    def later(screen: FileScreen, stop: Stop) -> tuple[bytes, str]:
        assert go.wait(30)
        return read(screen, stop)

    monkeypatch.setattr(FileScreen, "_beginning", later)
    async with desk(cache) as one:
        await opened(one)
        await found(one, "text")
        await one.open("enter", "FileScreen")
        await one.press("h")
        go.set()
        await one.until(lambda: "1 of many lines" in one.text, "the text")
        await one.press("h")
        await one.until(lambda: "00000000" in one.text, "its bytes")


async def test_what_its_layers_hold_in_vain(cache: Path, tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "layout", image_of(layer(Item("gone", data=b"1" * 2048)), layer(Item(".wh.gone"))))
    request = ImportRequest(source=f"oci:{layout}", name="a/first:1", format=PackedFormat.TAR)
    result = await import_image(ImportDesk(PackerCache(cache)), request)
    await asyncio.to_thread(note_stored, cache, result)
    async with desk(cache) as one:
        await one.press("l")
        await one.until(lambda: "4 shows the files of the entry; there l" in one.status)
        await opened(one)
        await one.press("l")
        await one.until(lambda: "The layers of example.com/team/web:1.tar cannot be read" in one.text)
        await one.press("escape", "escape", "end", "4")
        await one.until(lambda: "0 entries, 0B" in one.text)
        await one.press("l")
        await one.until(lambda: "2.0K /gone, by layer 2" in one.text)
        assert f"layers from oci:{layout}" in one.status


async def test_where_no_files_can_be_shown_it_is_not_said_how_to_show_them(cache: Path) -> None:
    packed_path(cache, IMAGE, "tar").unlink()
    async with desk(cache) as one:
        await one.press("4")
        await one.until(lambda: "there is no packed file for this entry" in one.text)
        for key, action in (("l", "Hidden by layers"), ("x", "Extract")):
            await one.press(key)
            await one.until(lambda action=action: f"{action}: no files are shown; the pane says why" in one.status)  # type: ignore[misc]
