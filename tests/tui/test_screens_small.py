"""What a screen of 80x24 must not hide: columns, ends of names, what helps, and what a key is about to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.containers import Vertical

from ocitui.cache import Condition, Health, IndexOutcome, PackerCache, TransactionState, Verdict
from ocitui.cache.files import OWN_NAME
from ocitui.doctor.assessment import HEADLINES, Assessment, Case, Command, Confidence
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.findings import Depth
from ocitui.host.daemon import DaemonState
from ocitui.tui.screens.import_image import ImportScreen
from ocitui.tui.terminal import to_ascii
from ocitui.tui.widgets.bars import Bar, TroubleBar, trouble_lines
from ocitui.tui.widgets.document_view import DocumentView
from ocitui.tui.widgets.lines import LinesView, PickList, PickRow, cut
from tests.tui.cache_support import (
    ALPINE,
    BUSYBOX,
    MODIFIED,
    NGINX,
    TEA,
    Image,
    flip,
    make_cache,
    many,
    packed_path,
    replace_index,
)
from tests.tui.screen_support import SMALL, Desk, desk, plain, text_of

pytestmark = pytest.mark.slow

OTHER = Image(TEA.name, ("squashfs",), size=1_040_384, steps=("another layer",))
"""An image of the same name, which wins it."""
LONG = Image(f"registry.corp.example.com/platform/team-beta/{'web' * 4}:2024.06", labels={f"{'x.' * 20}end": "value"})
RUNNING = DaemonState(process=812, since=MODIFIED, ours=True)


def rows(one: Desk) -> list[str]:
    return [row.text for row in one.app.screen.query_one(PickList).rows]


def drawn(one: Desk) -> list[str]:
    return one.text.split("\n")


def beside_the_bar(one: Desk, view: PickList | LinesView | DocumentView) -> list[str]:
    """What is drawn of a view that scrolls, row by row, without the column of its bar."""
    assert view.show_vertical_scrollbar
    region = view.region
    return [line[region.x : region.right - 1] for line in drawn(one)[region.y : region.bottom]]


async def break_index(one: Desk, cache: Path) -> None:
    data = (cache / "index.json").read_bytes()
    replace_index(cache, data[: len(data) // 2])
    await one.until_corrupt()


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("registry.corp.example.com/team-beta/web", 25, "registry.c…/team-beta/web"),
        ("registry.corp.example.com/team-beta/web", 12, "registr…/web"),
        ("ghcr.io/acme/notification-dispatcher", 24, "ghcr.io/acm…n-dispatcher"),
        ("ghcr.io/acme", 12, "ghcr.io/acme"),
        ("漢" * 9, 9, "漢漢…漢漢"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
    ],
)
def test_a_name_is_cut_in_the_middle_at_a_slash(text: str, width: int, shown: str) -> None:
    assert cut(text, width, middle=True) == shown


@pytest.mark.parametrize(
    ("text", "plain"), [("registry.c…/web", "registry.c~/web"), ("…/web", "~/web"), ("漢字…", "????~"), ("…", "~")]
)
def test_the_mark_of_what_is_cut_is_a_tilde_in_ascii_and_no_wider(text: str, plain: str) -> None:
    assert to_ascii(text) == plain
    assert cell_len(text) == len(plain)


async def test_a_list_is_drawn_beside_its_scroll_bar(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", many(30))
    for image in many(30):
        packed_path(cache, image).unlink()
    async with desk(cache) as one:
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: len(rows(one)) == 34)
        lines = beside_the_bar(one, one.app.screen.query_one(PickList))
        assert all(line.rstrip().endswith(" sq  the packed file is not there") for line in lines if "image0" in line), (
            lines
        )


async def test_a_long_document_is_drawn_beside_its_scroll_bar(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", [LONG])
    (cache / f"{LONG.digest}.config.json").write_text(json.dumps(["a" * 100] * 400))
    async with desk(cache) as one:
        await one.press("3")
        await one.until(lambda: one.pane.searched_view is not None and '"aaa' in one.text)
        view = one.pane.searched_view
        assert view is not None
        await one.until(lambda: view.show_vertical_scrollbar)
        await one.rest()
        cut_rows = [line for line in beside_the_bar(one, view) if line.startswith('  "aaa')]
        assert len(cut_rows) > 1
        assert all(line.endswith("a>") for line in cut_rows), cut_rows


@pytest.mark.parametrize("ascii", [False, True])
async def test_names_and_labels_are_cut_with_a_mark(tmp_path: Path, ascii: bool) -> None:
    mark = "~" if ascii else "…"
    async with desk(make_cache(tmp_path / "image", [LONG, BUSYBOX]), ascii=ascii) as one:
        row = drawn(one)[3]
        assert f"{mark}/team-beta/webwebwebweb " in row
        assert row.strip(" >▸").startswith("reg")
        assert f"{'x.' * 20}end=value" in text_of(one.pane.query_one("#summary", LinesView))
        await one.press("d")
        await one.until(lambda: one.top == "DeleteScreen" and "before y" in one.status)
        path = drawn(one)[0]
        assert f"{mark}/" in path or str(one.session.directory) in path
        assert "image" in path


@pytest.mark.parametrize("key", ["s", "colon"])
async def test_a_menu_stays_on_the_screen(tmp_path: Path, key: str) -> None:
    for size in ((40, 10), SMALL):
        async with desk(make_cache(tmp_path / f"image{size[1]}"), size) as one:
            await one.press(key)
            await one.until(lambda: one.top in ("MenuScreen", "CommandScreen"))
            await one.press("up")
            await one.rest()
            screen = one.app.screen
            frame, listed = screen.query_one(Vertical).region, screen.query_one(PickList).region
            assert screen.region.contains_region(frame), frame
            assert frame.shrink((1, 1, 1, 1)).contains_region(listed), (frame, listed)
            assert listed.height <= 12
            view = screen.query_one(PickList)
            await one.press("down", *["down"] * len(view.rows))
            await one.rest()
            assert f"▸ {view.rows[-1].text[:9]}" in one.text


@pytest.mark.parametrize("height", [10, 13, 17, 18, 24])
async def test_the_import_form_leaves_room_for_what_is_asked(tmp_path: Path, height: int) -> None:
    async with desk(make_cache(tmp_path / "image"), (80, height)) as one:
        await one.open("i", "ImportScreen")
        await one.press("f2")
        screen = one.app.screen
        assert isinstance(screen, ImportScreen)
        for several in (False, True):
            if several:
                screen._show_images([PickRow(str(number), f"image {number}") for number in range(9)])
            screen.conclude("nothing is changed before y")
            await one.rest()
            assert drawn(one)[-2].strip() == "nothing is changed before y"
            assert "F2 More" in drawn(one)[-1]
            assert one.app.focused is not None
            assert screen.query_one("#form").region.contains_region(one.app.focused.region), "what is typed is seen"
            assert "enter looks at the source" in one.text
            assert ("image 0" in one.text) == several


async def test_too_small_a_screen_says_so_whatever_it_is_and_does_nothing(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "before y" in one.status)
        await one.pilot.resize_terminal(20, 5)
        await one.until(lambda: drawn(one)[0].rstrip() == "too small; q quits")
        assert not any(line.strip() for line in drawn(one)[1:])
        await one.press("y")
        await one.rest()
        assert one.table.total == 7
        await one.pilot.resize_terminal(*SMALL)
        await one.until(lambda: "host7" in drawn(one)[0] and one.focused == "LinesView", "the keys work as before")
        assert "too small" not in one.text
        await one.press("y")
        await one.until(lambda: one.table.total == 6)
        await one.pilot.resize_terminal(20, 5)
        await one.until(lambda: "too small" in one.text)
        await one.open("t", "TimelineScreen")
        await one.until(lambda: drawn(one)[0].rstrip() == "too small; q quits", "one that is opened on it")


async def test_one_sign_is_the_mark_everywhere(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", [TEA, BUSYBOX])
    (cache / f"sha256:{'0' * 64}.squashfs").write_bytes(b"hsqs")
    packed_path(cache, TEA).unlink()
    for ascii, mark in ((False, "●"), (True, "*")):
        async with desk(cache, ascii=ascii) as one:
            await one.press("space")
            assert f" {mark} registry" in one.text
            await one.open("p", "ProblemsScreen")
            await one.press("M")
            await one.until(lambda: one.top == "RepairScreen" and "o offers more" in one.status)
            await one.press("o")
            await one.until(lambda: one.top == "RepairOptionsScreen")
            await one.press("space")
            await one.until(lambda mark=mark: f"[{mark}] Ask registries" in one.text)  # type: ignore[misc]


@pytest.mark.parametrize("daemon", [RUNNING, DaemonState()])
async def test_the_banner_shows_what_helps_whole(tmp_path: Path, daemon: DaemonState) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache, daemon=daemon) as one:
        await break_index(one, cache)
        await one.until(lambda: one.live.assessment is not None and one.live.assessment.headline[1:] in one.trouble)
        bar = one.main.query_one(TroubleBar).region
        shown = " ".join(" ".join(drawn(one)[bar.y : bar.bottom]).split())
        assert bar.height <= 3
        assert "✖ index.json is corrupt: EOF while parsing" in shown
        assert "m mends it v shows where it breaks p shows what is known" in shown
        assert one.live.assessment is not None
        assert one.live.assessment.headline[1:] in shown
        assert "…" not in shown


@pytest.mark.parametrize("headline", HEADLINES.values())
def test_what_to_do_fits_a_line_of_the_banner(headline: str) -> None:
    assert cell_len(headline) < SMALL[0]


_UNREADABLE = Verdict(IndexOutcome.RESET, message="invalid type: " + "very " * 30 + "long", line=37, column=67)
_NO_START = Verdict(IndexOutcome.ERROR, message="stream did not contain valid UTF-8")
_BAD = [(Condition.CORRUPT, _UNREADABLE), (Condition.CORRUPT, _NO_START)]
_BAD += [(Condition.MISSING, Verdict(IndexOutcome.CREATED)), (Condition.SOUND, Verdict(IndexOutcome.LOADED))]


@pytest.mark.parametrize(("condition", "verdict"), _BAD)
@pytest.mark.parametrize("case", [None, *(case for case in Case if HEADLINES[case])])
def test_the_banner_says_what_to_do_however_long_the_reason_is(
    condition: Condition, verdict: Verdict, case: Case | None
) -> None:
    """What is cut ends with a mark, or has it in its middle."""
    alarm = "" if condition is not Condition.SOUND else f"3 entries are gone: {'registry.example.com/' * 5}app:1"
    health = Health(condition, verdict.place, verdict)
    told = Assessment(case, Confidence.CERTAIN, (), (Command("", ""),), ()) if case else None
    do = HEADLINES[case].partition(":")[0] if case else ""
    for width in (44, 60, 80):
        lines = trouble_lines(health, alarm, told, width)
        reason, act, keys = ["".join(one if isinstance(one, str) else one[0] for one in line) for line in lines]
        assert do in act.lower()
        assert keys.startswith(" m mends it")
        assert max(cell_len(reason), cell_len(act)) <= width - 1
        assert ("…" in reason) is (verdict is _UNREADABLE or bool(alarm) or cell_len(reason) == width - 1)
        assert width < 80 or "…" not in act
        assert ("m", "key") not in trouble_lines(health, alarm, told, width, may_mend=False)[2]


async def test_the_full_pane_says_which_entry_it_shows(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image", [LONG, BUSYBOX])) as one:
        await one.press("4")
        await one.settle()
        assert not one.pane.query_one("#which").display
        await one.press("enter")
        await one.settle()
        assert "/webwebwebweb:2024.06 squashfs" in " ".join(drawn(one)[2].split())
        await one.press("escape", "j", "enter")
        await one.settle()
        assert BUSYBOX.name in drawn(one)[2]
        assert "erofs" not in plain(one.pane.query_one("#which", Bar))


async def test_only_what_is_marked_or_under_the_cursor_goes_for_good(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        first = await one.session.cache.delete([(TEA.digest, "squashfs")])
        second = await one.session.cache.delete([(NGINX.digest, "squashfs")])
        await one.open("X", "TrashScreen")
        await one.until(lambda: len(rows(one)) == 8)
        await one.open("e", "EmptyTrashScreen")
        await one.until(lambda: "nothing brings them back" in one.status)
        said = one.lines
        assert "3 files, 68M, go for good" in said
        for words in (f"delete of {'2'}", NGINX.name, second.by):
            assert words in " ".join(said.split()), "however it is wrapped"
        assert TEA.name not in said
        await one.press("enter")
        await one.until(lambda: one.top == "TrashScreen")
        assert one.text.split("\n")[-1].rstrip().endswith("esc back")
        await one.press("j", "space")
        await one.until(lambda: "marked: 1 file" in one.status)
        await one.press("home")
        await one.open("e", "EmptyTrashScreen")
        await one.until(lambda: "nothing brings them back" in one.status)
        await one.press("y")
        await one.until(lambda: "removed 1 file" in one.status)
        assert len(await one.session.cache.trash()) == 5
        await one.press("a", "e")
        await one.until(lambda: "nothing brings them back" in one.status)
        assert TEA.name in one.lines
        assert NGINX.name in one.lines
        await one.press("y")
        await one.until(lambda: "removed 5 files" in one.status)
        states = {record.id: record.state for record in await one.session.cache.transactions()}
        assert states == dict.fromkeys((first.id, second.id), TransactionState.EMPTIED)


async def test_an_undo_names_the_files_that_come_back(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.session.cache.delete([(TEA.digest, "squashfs"), (NGINX.digest, "squashfs")])
        await one.open("u", "UndoScreen")
        await one.until(lambda: "before y" in one.status)
        back = one.lines.partition("Back from the trash")[2]
        assert back.count(TEA.name) == back.count(NGINX.name) == 3


async def test_the_undo_of_a_replaced_index_names_what_comes_and_goes(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", [TEA, NGINX, BUSYBOX])
    data = (cache / "index.json").read_bytes()
    async with desk(cache) as one:
        await one.until((cache / OWN_NAME / "backups").is_dir)
        replace_index(cache, data[: data.index(NGINX.digest.encode()) - 20])
        await one.until_corrupt()
        await one.open("m", "RepairScreen")
        await one.until(lambda: "before y" in one.status)
        await one.press("y")
        await one.until(lambda: "mended in" in one.status)
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen" and one.condition is Condition.SOUND)
        await one.open("u", "UndoScreen")
        await one.until(lambda: "before y" in one.status)
        assert "byte for byte; 1 entry can be read in it" in " ".join(one.lines.split())
        out = one.lines.partition("Out of the index")[2]
        assert NGINX.name in out
        assert BUSYBOX.name in out
        assert TEA.name not in out


@pytest.mark.parametrize("known", ["last good index", "backup"])
async def test_under_a_corrupt_index_problems_have_the_names_of_before(tmp_path: Path, known: str) -> None:
    cache = make_cache(tmp_path / "image", [TEA, NGINX, BUSYBOX])
    if known == "backup":
        async with await PackerCache.open(cache) as opened, desk(cache) as one:
            assert len(await opened.list()) == 4
            await one.until(lambda: (cache / OWN_NAME / "backups").is_dir() and not one.live.looking)
        replace_index(cache, b'{"schemaVersion":2,')
    (cache / f"{NGINX.digest}.config.json").write_text("{")
    async with desk(cache) as one:
        if known == "backup":
            await one.until_corrupt()
        else:
            await break_index(one, cache)
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: any(f"{NGINX.name} ({known})" in row for row in rows(one)), known)
        number = next(at for at, row in enumerate(rows(one)) if NGINX.name in row)
        await one.press("home", *["j"] * number)
        await one.until(lambda: f"{NGINX.name} ({known})" in one.lines)


async def test_why_is_about_the_entry_under_the_cursor_though_another_wins_its_name(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image", (TEA, OTHER))) as one:
        await one.open("w", "WhyScreen")
        await one.until(lambda: "= daemon" in one.lines)
        said = " ".join(one.lines.split())
        assert TEA.digest[7:19] in said
        assert f"entry 1, squashfs, carries '{TEA.name}', which {OTHER.digest[:19]}… wins" in said
        assert f"a hit: {TEA.digest[:19]}" in said
        await one.press("escape", "j")
        await one.open("w", "WhyScreen")
        await one.until(lambda: f"a hit: {OTHER.digest[:19]}" in one.lines)


async def test_bytes_that_were_never_seen_before_are_not_found_sound(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA, ALPINE))
    flip(packed_path(cache, TEA))
    summary = "first seen: no earlier hash to compare with"
    async with desk(cache) as one:
        for number in range(2):
            await one.open("p", "ProblemsScreen")
            await one.press("3")
            await one.until(lambda: not one.live.deep.running and "deep check: " in one.live.deep.said)
            await one.press("escape")
            await one.rest()
            assert (summary in (said := _summary(one))) is (number == 0), said
            assert ("found sound" in said) is (number == 1), said
        # It was checked, and is another file since: that it never was would be as wrong as that it is sound.
        packed_path(cache, TEA).write_bytes(packed_path(cache, TEA).read_bytes())
        await one.until(lambda: "header; no deep check of these bytes is known" in _summary(one))


def _summary(one: Desk) -> str:
    return " ".join(text_of(one.pane.query_one("#summary", LinesView)).split())


async def test_what_a_deep_check_said_goes_once_it_is_no_longer_so(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA, NGINX))
    await examine(cache, ExamineOptions(Depth.DEEP))
    async with desk(cache) as one:
        await one.open("p", "ProblemsScreen")
        await one.press("3")
        await one.until(lambda: "deep check: 2 entries" in one.status)
        assert "p shows it" not in one.status
        await one.press("escape", "p")
        packed_path(cache, NGINX).unlink()
        await one.until(lambda: "1 high" in one.bar_at("#coverage"))
        assert "deep check" not in one.status
