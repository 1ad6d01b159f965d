"""How the screens look; `pytest --snapshot-update` takes what is drawn now for right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from ocitui.cache import Ledger, RecordedSource, Topic, Transaction, list_backups
from ocitui.doctor import pin
from ocitui.host.daemon import DaemonState
from ocitui.tui.screens.changes import TimelineScreen
from tests.tui.cache_support import (
    ALPINE,
    BUSYBOX,
    MODIFIED,
    NGINX,
    Image,
    add_files,
    make_cache,
    packed_path,
    replace_index,
    write_index,
)
from tests.tui.files_support import FILES, file_shown, opened, put, tar_of
from tests.tui.import_support import ALPINE as ALPINE_NAME
from tests.tui.import_support import BUSYBOX as BUSYBOX_NAME
from tests.tui.import_support import layout_with_names, look, show_jobs
from tests.tui.screen_support import HUGE, SMALL, WIDE, Desk, fix_host, make_app

pytestmark = pytest.mark.slow

Prepare = Callable[[Desk, Path], Awaitable[None]]
Draws = Callable[..., bool]
WEB = Image("example.com/team/web:1", ("tar",), labels={"vendor": "old"})
NEWER = Image("example.com/team/web:2", ("tar",), command=("web", "--h2"), steps=("base", "two"))
_DIRECTORY = Path("krata/cache/image")
_RUNNING = DaemonState(process=812, since=MODIFIED, ours=True)


async def _at_rest(_: Desk, __: Path) -> None:
    return


async def _faults(one: Desk, cache: Path) -> None:
    packed_path(cache, BUSYBOX).unlink()
    (cache / f"{NGINX.digest}.config.json").unlink()
    await one.until(lambda: "2 high" in one.header)
    await one.press("j", "space", "space", "home")


async def _corrupt(one: Desk, cache: Path) -> None:
    index = (cache / "index.json").read_bytes()
    replace_index(cache, index[: len(index) // 2])
    await one.until_corrupt()
    await one.until(lambda: "✖ 1 crit" in one.header and not one.live.looking, "what is wrong with the index")


async def _verdict(one: Desk, cache: Path) -> None:
    await _corrupt(one, cache)
    await one.open("v", "VerdictScreen")
    await one.until(lambda: "EOF while parsing" in one.lines)


async def _plan(one: Desk, _: Path) -> None:
    await one.press("j", "j")
    await one.open("d", "DeleteScreen")
    await one.until(lambda: "nothing is changed" in one.status)


async def _plan_of_many(one: Desk, _: Path) -> None:
    await one.press("a")
    await one.open("d", "DeleteScreen")
    await one.until(lambda: "nothing is changed" in one.status)


async def _resolve(one: Desk, _: Path) -> None:
    await one.open("r", "ResolveScreen")
    await one.until(lambda: "HIT" in one.lines)


async def _help(one: Desk, _: Path) -> None:
    await one.open("question_mark", "HelpScreen")


async def _sort(one: Desk, _: Path) -> None:
    await one.open("s", "MenuScreen")


async def _copy(one: Desk, _: Path) -> None:
    await one.open("c", "MenuScreen")


async def _commands(one: Desk, _: Path) -> None:
    await one.open("colon", "CommandScreen")
    await one.press("t", "i")


async def _nothing(one: Desk, _: Path) -> None:
    await one.press("slash", *"alpine", "space", *"zz")
    await one.until(lambda: "0 of 7 match; 3 without" in one.text)


async def _table_alone(one: Desk, _: Path) -> None:
    await one.press("backslash", "j")


async def _deleted(one: Desk, _: Path) -> None:
    for count in (6, 5):
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "nothing is changed" in one.status)
        await one.press("y")
        await one.until(lambda count=count: one.table.total == count, "the deletion")  # type: ignore[misc]
    await one.until(lambda: one.live.host.trash > 2_000_000, "what lies in the trash")


async def _timeline(one: Desk, cache: Path) -> None:
    await _deleted(one, cache)
    await one.open("t", "TimelineScreen")
    await one.until(lambda: "2 transactions" in one.status)
    screen = one.app.screen
    assert isinstance(screen, TimelineScreen)
    told = [
        replace(done, id=f"00000{number}-5f3c", started=float(MODIFIED), by="ocitui (process 812, alice as root@host7)")
        for number, done in enumerate(screen._transactions.values(), 1)
    ]

    async def transactions() -> list[Transaction]:
        return told

    one.session.cache.transactions = transactions  # type: ignore[method-assign]
    screen._read()
    await one.until(lambda: "000001-5f3c" in one.lines)
    await one.press("j")


async def _history(one: Desk, cache: Path) -> None:
    await _deleted(one, cache)
    await one.press("6")
    await one.until(lambda: "its packed file was written" in one.text)


async def _filter(one: Desk, _: Path) -> None:
    await one.press("slash", *"alpine")
    await one.until(lambda: "3/7" in one.status or "3/8" in one.status)


async def _broken_document(one: Desk, cache: Path) -> None:
    (cache / f"{BUSYBOX.digest}.config.json").write_text('{"architecture": "amd64", "os": }')
    await one.press("3")
    await one.until(lambda: "expected value" in one.text and "1 high" in one.header and not one.live.looking)


async def _form(one: Desk, _: Path) -> None:
    await one.open("i", "ImportScreen")


async def _options(one: Desk, _: Path) -> None:
    await one.open("i", "ImportScreen")
    await one.press("f2")
    await one.until(lambda: "TLS CA file" in one.text)


async def _preview(one: Desk, _: Path) -> None:
    layout_with_names(Path("alpine"), ALPINE_NAME)
    await look(one, "oci:alpine")
    await one.until(lambda: "nothing is changed before y" in one.status)


async def _choice(one: Desk, _: Path) -> None:
    layout_with_names(Path("images"), ALPINE_NAME, BUSYBOX_NAME, "registry.example.com/team/tool:3")
    await look(one, "oci:images")
    await one.until(lambda: "choose one of them" in one.status)
    await one.press("j")


async def _importing(one: Desk, _: Path) -> None:
    show_jobs(one)
    await one.until(lambda: "importing 3: pack 41 %" in one.status)


async def _imports(one: Desk, _: Path) -> None:
    show_jobs(one)
    await one.open("I", "ImportsScreen")
    await one.until(lambda: "4 imports" in one.status)
    await one.press("j")


async def _failed_import(one: Desk, cache: Path) -> None:
    await _imports(one, cache)
    await one.press("home")


async def _quit(one: Desk, _: Path) -> None:
    show_jobs(one)
    await one.open("q", "LeavingScreen")
    await one.until(lambda: "nothing is stopped before y" in one.status)


async def _problem(one: Desk, cache: Path) -> None:
    (cache / f"{BUSYBOX.digest}.config.json").write_text('{"architecture": "amd64", "os": }')
    packed_path(cache, NGINX).unlink()
    (cache / f"sha256:{'0' * 64}.squashfs").write_bytes(b"hsqs")
    await one.until(lambda: "2 high" in one.header and "1 low" in one.header)


async def _problems(one: Desk, cache: Path) -> None:
    await _problem(one, cache)
    await one.open("p", "ProblemsScreen")
    await one.until(lambda: "reads all bytes" in one.text and "1 low" in one.text)
    await one.press("j", "j", "j", "j")


async def _repair(one: Desk, cache: Path) -> None:
    await _problems(one, cache)
    await one.press("M")
    await one.until(lambda: one.top == "RepairScreen" and "nothing is changed" in one.status)


async def _sources(one: Desk, cache: Path) -> None:
    await one.until(lambda: bool(list_backups(cache)))
    await _corrupt(one, cache)
    await one.open("m", "RepairScreen")
    await one.until(lambda: "nothing is changed" in one.status)
    await one.press("j", "j")
    await one.until(lambda: "Index Backup Files" in one.lines)


async def _problems_tab(one: Desk, cache: Path) -> None:
    await _problem(one, cache)
    await one.press("5")
    await one.until(lambda: "config-unparsable" in one.text)


async def _why(one: Desk, cache: Path) -> None:
    packed_path(cache, BUSYBOX, "erofs").unlink()
    await one.until(lambda: "1 high" in one.header and not one.live.looking)
    await one.open("w", "WhyScreen")
    await one.until(lambda: "In erofs" in one.lines)


async def _room(one: Desk, cache: Path) -> None:
    ledger = Ledger.open(cache)
    ledger.record_source(packed_path(cache, NGINX).name, RecordedSource("docker://quay.io/nginx:1"))
    ledger.note(Topic.WATCHED, "-", "-")
    pin(ledger, [(BUSYBOX.digest, "erofs")], "for the release")
    await one.open("b", "RoomScreen")
    await one.until(lambda: "pinned" in one.text and "BACK" in one.text)
    await one.press("space", "space", "f", *"80G", "enter")
    await one.until(lambda: "short" in one.text)


async def _files(one: Desk, cache: Path) -> None:
    put(cache, ALPINE, tar_of(FILES))
    await one.press("down", "down", "down", "down", "down")
    await one.until(lambda: one.table.cursor_entry is not None and one.table.cursor_entry.format == "tar")
    await opened(one, "down", "right", "down", "down", "right", "right")


async def _file(one: Desk, cache: Path) -> None:
    await _files(one, cache)
    await file_shown(one, "text")
    await one.until(lambda: "1 of many lines" in one.text)


async def _bytes(one: Desk, cache: Path) -> None:
    await _files(one, cache)
    await file_shown(one, "tool")
    await one.until(lambda: "7f 45 4c 46" in one.text)


async def _extract(one: Desk, cache: Path) -> None:
    await _files(one, cache)
    await one.open("x", "DirectoryScreen")
    await one.press(*"/nowhere/out", "enter")
    await one.until(lambda: "nothing is written before y" in one.status)


async def _difference(one: Desk, cache: Path) -> None:
    for image, files in ((WEB, FILES), (NEWER, {**FILES, "etc/passwd": b"root:x:0:1\n", "new": b"1"})):
        add_files(cache, image)
        put(cache, image, tar_of(files))
    await one.until(lambda: bool(list_backups(cache)), "what the index had is kept")
    write_index(cache, [WEB, NEWER])
    await one.until(lambda: one.table.total == 2 and "entries lost" in one.header)
    await one.press("home", "space", "space")
    await one.open("equals_sign", "DiffScreen")
    await one.until(lambda: "FILES 1 path" in one.text)


_LOOKS: dict[str, dict[str, Any]] = {
    "dark": {},
    "light": {"theme": "light"},
    "ansi": {"theme": "ansi"},
    "plain": {"theme": "ansi", "no_color": True},
    "ascii": {"theme": "ansi", "ascii": True},
}
_EVERYWHERE: dict[str, tuple[Prepare, dict[str, Any]]] = {
    "main": (_faults, {}),
    "corrupt": (_corrupt, {"daemon": _RUNNING}),
    "problems": (_problems, {"daemon": _RUNNING}),
    "repair": (_repair, {"daemon": _RUNNING}),
}
_PICTURES: dict[str, tuple[tuple[int, int], Prepare, dict[str, Any]]] = {
    **{
        f"{name} {look} {size[0]}": (size, prepare, {**more, **options})
        for name, (prepare, more) in _EVERYWHERE.items()
        for look, options in _LOOKS.items()
        for size in (SMALL, WIDE, HUGE)
    },
    "smallest": ((40, 10), _at_rest, {}),
    "room": (SMALL, _room, {}),
    "room ascii": (SMALL, _room, {"theme": "ansi", "ascii": True}),
    "room wide": (WIDE, _room, {"theme": "light"}),
    "room huge": (HUGE, _room, {}),
    "filter": (SMALL, _filter, {}),
    "nothing matches": (SMALL, _nothing, {}),
    "table alone": (SMALL, _table_alone, {}),
    "verdict": (SMALL, _verdict, {"daemon": _RUNNING}),
    "delete": (SMALL, _plan, {"daemon": _RUNNING}),
    "delete many": (SMALL, _plan_of_many, {}),
    "resolve": (SMALL, _resolve, {}),
    "help": (SMALL, _help, {}),
    "sort": (SMALL, _sort, {}),
    "copy": (SMALL, _copy, {}),
    "commands": (SMALL, _commands, {}),
    "timeline": (SMALL, _timeline, {}),
    "history": (SMALL, _history, {}),
    "broken document": (SMALL, _broken_document, {}),
    "read-only": (SMALL, _at_rest, {"read_only": True}),
    "import form": (SMALL, _form, {}),
    "import options": (SMALL, _options, {}),
    "import preview": (SMALL, _preview, {"daemon": _RUNNING}),
    "import choice": (SMALL, _choice, {}),
    "import choice wide": (WIDE, _choice, {}),
    "importing": (SMALL, _importing, {}),
    "imports": (SMALL, _imports, {}),
    "imports wide": (WIDE, _imports, {}),
    "import failed": (SMALL, _failed_import, {"theme": "ansi"}),
    "quit": (SMALL, _quit, {"daemon": _RUNNING}),
    "problems tab": (SMALL, _problems_tab, {}),
    "sources": (SMALL, _sources, {}),
    "sources wide": (WIDE, _sources, {"theme": "ansi"}),
    "why": (SMALL, _why, {}),
    "files": (SMALL, _files, {}),
    "files ascii": (SMALL, _files, {"theme": "ansi", "ascii": True}),
    "files plain": (SMALL, _files, {"theme": "ansi", "no_color": True}),
    "files wide": (WIDE, _files, {"theme": "light"}),
    "file": (SMALL, _file, {}),
    "bytes": (SMALL, _bytes, {}),
    "extract": (SMALL, _extract, {}),
    "diff": (SMALL, _difference, {}),
    "diff ascii": (SMALL, _difference, {"theme": "ansi", "ascii": True}),
    "diff plain": (SMALL, _difference, {"theme": "ansi", "no_color": True}),
    "diff wide": (WIDE, _difference, {"theme": "light"}),
}


@pytest.mark.parametrize("picture", _PICTURES)
def test_the_screen_looks_like_this(
    picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snap_compare: Draws
) -> None:
    monkeypatch.chdir(tmp_path)
    fix_host(monkeypatch, MODIFIED + 86_400)
    make_cache(_DIRECTORY)
    size, prepare, options = _PICTURES[picture]
    app = make_app(_DIRECTORY, **{name: value for name, value in options.items() if name != "no_color"})
    app.no_color = options.get("no_color", False)

    async def arrange(pilot: Pilot[int]) -> None:
        one = Desk(app, pilot)
        host = one.live.host
        await one.until(lambda: one.live.loaded and host.daemon == host.find_daemon(), "the first reading")
        await one.until(lambda: host.disk is not None, "the room of the disk")
        await one.settle()
        await prepare(one, _DIRECTORY)
        await one.settle()

    assert snap_compare(app, terminal_size=size, run_before=arrange)
