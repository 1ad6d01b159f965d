"""Imports under way: what is said of them, what can be done about them, and what is left of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from textual.app import App

from ocitui.cache import CacheError, PackedFormat
from ocitui.cache.ledger import Ledger
from ocitui.importing.errors import NamedOtherwiseError, RegistryError
from ocitui.importing.image_import import unfinished_imports
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.jobs import ImportJob, JobState
from ocitui.importing.sources.references import Credentials
from ocitui.importing.staging import BlobStore
from ocitui.tui.screens.base import Throttle
from ocitui.tui.screens.import_image import ImportScreen, make_request
from ocitui.tui.widgets.lines import PickList, PickRow
from tests.importing.registry_server import FaultyRegistry, serving
from tests.tui.cache_support import SEVEN, index_bytes, make_cache, replace_index, tree
from tests.tui.import_support import (
    ALPINE,
    BUSYBOX,
    StillQueue,
    begin,
    layout_with_names,
    leave_interrupted,
    stalled,
)
from tests.tui.screen_support import SMALL, WIDE, Desk, desk

pytestmark = pytest.mark.slow


def _states(one: Desk) -> list[JobState]:
    return [job.state for job in one.session.imports.queue.jobs]


async def _begin_stalled(one: Desk, registry: FaultyRegistry) -> None:
    """An import from a registry that sends half of the last layer."""
    stalled(registry)
    await begin(one, f"{registry.host}/team/app:v1")
    await one.until(lambda: any(job.progress.done > 60_000 for job in one.session.imports.queue.jobs), "half of it")


async def test_where_there_is_no_import_its_key_is_told_and_works(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("I", "ImportsScreen")
        await one.until(lambda: one.lines == "i begins an import")
        await one.open("i", "ImportScreen")


@pytest.mark.parametrize("size", [SMALL, WIDE])
async def test_an_import_is_shown_and_cancelled(tmp_path: Path, size: tuple[int, int]) -> None:
    cache = make_cache(tmp_path / "image")
    async with serving(FaultyRegistry()) as registry, desk(cache, size) as one:
        await _begin_stalled(one, registry)
        await one.until(lambda: "importing: download" in one.status, "the status line")
        await one.open("I", "ImportsScreen")
        await one.until(lambda: "Layers: 2" in one.lines, "its layers")
        await one.until(lambda: re.search(r"download +\S+ +\d\d %", one.text) is not None, "how far it is")
        assert "59K of   59K" in one.lines
        assert "x Cancel" in one.keys
        await one.press("enter")
        assert _states(one) == [JobState.RUNNING]
        await one.press("x")
        await one.until(lambda: _states(one) == [JobState.CANCELLED], "it is cancelled")
        await one.until(lambda: "of downloads kept" in one.status, "what is left is told")
        assert BlobStore(cache).size() > 60_000
        registry.rules.clear()
        await one.press("r")
        await one.until(lambda: _states(one) == [JobState.CANCELLED, JobState.DONE], "it goes on")
        await one.until(lambda: "; u undoes it" in one.lines, "the outcome")
        assert any("range" in request.headers for request in registry.requests)
        assert BlobStore(cache).size() == 0
        assert unfinished_imports(cache) == []
        await one.press("escape")
        await one.until(lambda: one.table.total == 8, "the entry")
        assert "importing" not in one.status
        [done] = [job.result for job in one.session.imports.queue.jobs if job.result is not None]
        packed = done.image.path.name
        await one.until(lambda: Ledger.open(cache).sound.get(packed) is not None, "its hash is noted")


async def test_ctrl_c_cancels_the_import_that_runs(tmp_path: Path) -> None:
    async with serving(FaultyRegistry()) as registry, desk(make_cache(tmp_path / "image")) as one:
        await _begin_stalled(one, registry)
        await one.press("ctrl+c")
        await one.until(lambda: _states(one) == [JobState.CANCELLED])
        await one.until(lambda: "the cache is as it was" in one.status, "its end")
        await one.press("ctrl+c")
        await one.until(lambda: "nothing is running" in one.status)


async def test_one_of_several_imports_has_to_be_chosen(tmp_path: Path) -> None:
    async with serving(FaultyRegistry()) as registry, desk(make_cache(tmp_path / "image")) as one:
        await _begin_stalled(one, registry)
        await begin(one, f"{registry.host}/team/app:v1")
        await one.until(lambda: "importing 2: " in one.status, "both are counted")
        await one.press("ctrl+c")
        await one.until(lambda: "2 imports are under way" in one.status)
        await one.press("I")
        await one.until(lambda: one.top == "ImportsScreen")
        await one.until(lambda: one.session.imports.queue.jobs[1].state is JobState.RUNNING)
        await one.press("j", "ctrl+c")
        await one.until(lambda: _states(one) == [JobState.RUNNING, JobState.CANCELLED])
        await one.press("k", "x")
        await one.until(lambda: _states(one) == [JobState.CANCELLED, JobState.CANCELLED])


async def test_quitting_asks(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with serving(FaultyRegistry()) as registry, desk(cache) as one:
        await _begin_stalled(one, registry)
        await one.open("q", "LeavingScreen")
        await one.until(lambda: "1 import still runs" in one.lines, "what runs")
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen", "enter stays")
        assert _states(one) == [JobState.RUNNING]
        await one.open("q", "LeavingScreen")
        await one.until(lambda: "nothing is stopped before y" in one.status)
        await one.press("y")
        await one.until(lambda: one.app._exit, "the end")
        assert _states(one) == [JobState.INTERRUPTED]
    assert one.app.return_value == 0
    assert len(unfinished_imports(cache)) == 1
    assert BlobStore(cache).size() > 60_000


async def test_an_interrupted_import_is_gone_on_with(tmp_path: Path) -> None:
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", ALPINE, BUSYBOX)
    for name in (ALPINE, BUSYBOX):
        leave_interrupted(cache, ImportRequest(source=f"oci:{layout}:{name}", format=PackedFormat.TAR))
    killed = cache / ".ocitui" / "import" / "77-killed"
    killed.mkdir(parents=True)
    (killed / "packed.tar").write_bytes(b"half")
    async with desk(cache) as one:
        await one.until(lambda: "2 imports were interrupted: I goes on with them" in one.status)
        assert not killed.exists()
        await one.open("I", "ImportsScreen")
        await one.until(lambda: "r goes on with it" in one.lines, "what it was")
        assert one.app.screen.query_one(PickList).rows[0].right.strip() == "interrupted"
        await one.press("r")
        await one.until(lambda: _states(one) == [JobState.DONE], "it went on")
        await one.press("home", "f")
        await one.until(
            lambda: "forgotten" in one.status or unfinished_imports(cache) == [], "the other one is forgotten"
        )
        await one.until(lambda: len(one.app.screen.query_one(PickList).rows) == 1)
        await one.press("escape")
        await one.until(lambda: one.table.total == 8, "the entry")
    assert unfinished_imports(cache) == []


async def test_one_interrupted_import_that_fails_can_be_tried_again(tmp_path: Path) -> None:
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", ALPINE)
    leave_interrupted(cache, ImportRequest(source=f"oci:{layout}", format=PackedFormat.TAR))
    layout.rename(tmp_path / "away")
    async with desk(cache) as one:
        await one.until(lambda: "1 import was interrupted: I goes on with it" in one.status)
        await one.open("I", "ImportsScreen")
        await one.until(lambda: bool(one.app.screen.query_one(PickList).rows))
        await one.press("r")
        await one.until(lambda: _states(one) == [JobState.FAILED])
        await one.until(lambda: len(one.app.screen.query_one(PickList).rows) == 2, "its record is still there")
        (tmp_path / "away").rename(layout)
        await one.until(lambda: "r Again" in one.keys)
        await one.press("r")
        await one.until(lambda: _states(one) == [JobState.FAILED, JobState.DONE])
    assert unfinished_imports(cache) == []


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("r", RegistryError("it sent nothing")),
        ("Y", NamedOtherwiseError("it is named a:1")),
    ],
)
async def test_a_login_is_still_known_when_an_import_is_tried_again(
    tmp_path: Path, key: str, error: CacheError, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = {"registry.example.com": Credentials("anna", "s3cret")}
    request = ImportRequest(source="docker://registry.example.com/team/app:1")
    async with desk(make_cache(tmp_path / "image")) as one:
        queue = StillQueue(ImportJob(1, request, state=JobState.FAILED, error=error, logins=login))
        given = list[object]()

        def submit(*_: object, logins: object) -> int:
            given.append(logins)
            return 2

        monkeypatch.setattr(queue, "submit", submit, raising=False)
        one.session.imports.queue = queue  # type: ignore[assignment]
        await one.open("I", "ImportsScreen")
        await one.until(lambda: error.message in one.lines)
        await one.press(key)
        await one.until(lambda: bool(given))
    assert given == [login]


async def test_what_a_field_would_mend_is_changed_in_the_form_which_is_filled(tmp_path: Path) -> None:
    request = ImportRequest(
        source="registry.example.com/team/app:1",
        name="app:1",
        format=PackedFormat.EROFS,
        compression="lz4hc",
        level=3,
        max_bytes=5 << 30,
        tls_ca="/srv/ca.pem",
        again=True,
    )
    hint = "give --plain-http if it is meant to speak plain http"
    job = ImportJob(1, request, state=JobState.FAILED, error=RegistryError("it does not speak TLS", hint=hint))
    async with desk(make_cache(tmp_path / "image")) as one:
        one.session.imports.queue = StillQueue(job)  # type: ignore[assignment]
        await one.open("I", "ImportsScreen")
        await one.until(lambda: "it does not speak TLS" in one.lines)
        advice = 'give "plain http" (F2) if it is meant to speak plain http; i opens the form, filled as it was'
        assert advice in " ".join(one.lines.split())
        await one.open("i", "ImportScreen")
        await one.pilot.pause()
        screen = one.app.screen
        assert isinstance(screen, ImportScreen)
        assert make_request(screen._typed()) == request
        assert screen._typed()["level"] == "3"
        await one.press("escape")
        job = ImportJob(1, request, state=JobState.FAILED, error=RegistryError("it sent nothing"))
        one.session.imports.queue = StillQueue(job)  # type: ignore[assignment]
        one.app.imports_changed()
        await one.until(lambda: "; r tries it again" in " ".join(one.lines.split()))


async def test_a_name_that_stands_for_another_image_is_let_go_in_the_form(tmp_path: Path) -> None:
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", "new:1")
    async with desk(cache) as one:
        await begin(one, str(layout))
        await one.until(lambda: one.table.total == 8, "the entry")
        other = layout_with_names(tmp_path / "other", "other:1")
        one.session.imports.queue.submit(ImportRequest(source=f"oci:{other}", name="new:1"))
        await one.open("I", "ImportsScreen")
        await one.press("end")
        advice = (
            'give y in the form to let the name stand for the new image, or another one with "name"; i opens the form'
        )
        await one.until(lambda: advice in " ".join(one.lines.split()))
        await one.open("i", "ImportScreen")
        await one.press("enter")
        await one.until(lambda: "new:1 leads to it as squashfs, and no more to" in one.lines)
        await one.press("y")
        await one.until(lambda: one.table.total == 9, "the other image")


async def test_a_name_that_would_be_lost_is_asked_for_afterwards_too(tmp_path: Path) -> None:
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", ALPINE)
    async with desk(cache) as one:
        await begin(one, str(layout))
        await one.until(lambda: one.table.total == 8, "the entry")
        one.session.imports.queue.submit(ImportRequest(source=f"oci:{layout}", name=BUSYBOX))
        await one.until(lambda: "failed; I shows more: the cache has sha256:" in one.status)
        await one.open("I", "ImportsScreen")
        await one.press("end")
        await one.until(lambda: "Y gives that entry the new name" in one.lines)
        await one.press("Y")
        await one.until(lambda: _states(one)[-1] is JobState.DONE)
        await one.until(lambda: "names it" in one.lines)


async def test_downloads_are_removed_after_a_question(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    blobs = cache / ".ocitui" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"sha256:{'a' * 64}.partial").write_bytes(b"x" * 4096)
    async with desk(cache) as one:
        await one.open("I", "ImportsScreen")
        await one.until(lambda: "4.0K of downloads kept" in one.status)
        await one.open("D", "DownloadsScreen")
        await one.until(lambda: "remove 1 downloaded blob, 4.0K" in one.lines)
        await one.press("enter")
        await one.until(lambda: one.top == "ImportsScreen")
        assert BlobStore(cache).size() == 4096
        await one.open("D", "DownloadsScreen")
        await one.until(lambda: "nothing is changed before y" in one.status)
        await one.press("y")
        await one.until(lambda: "4.0K of downloads removed" in one.status)
    assert BlobStore(cache).size() == 0


async def test_an_import_fails_when_the_index_breaks(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with serving(FaultyRegistry()) as registry, desk(cache) as one:
        await _begin_stalled(one, registry)
        replace_index(cache, b"{")
        await one.until(lambda: not one.live.health.sound, "it is corrupt")
        registry.rules.clear()
        # The connection that stalls is given up by who holds it; the next one gets all.
        one.session.imports.queue.cancel(1)
        await one.until(lambda: _states(one) == [JobState.CANCELLED])
        await one.open("I", "ImportsScreen")
        await one.press("r")
        assert "nothing is written while index.json is corrupt" in one.status
        one.session.imports.try_again(one.session.imports.queue.jobs[0])
        await one.until(lambda: _states(one)[-1] is JobState.FAILED)
        await one.until(lambda: " failed " in one.text, "it is shown")
        await one.press("end")
        await one.until(lambda: "every entry lost" in " ".join(one.lines.split()), "why")
        replace_index(cache, index_bytes(SEVEN))
        await one.until(lambda: one.live.health.sound, "it is sound again")
        await one.press("r")
        await one.until(lambda: _states(one)[-1] is JobState.DONE)


async def test_reading_only_changes_nothing(tmp_path: Path) -> None:
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", ALPINE)
    leave_interrupted(cache, ImportRequest(source=f"oci:{layout}"))
    before = tree(cache)
    async with desk(cache, read_only=True) as one:
        assert "interrupted" not in one.status
        await one.open("I", "ImportsScreen")
        await one.until(lambda: "r goes on with it" in one.lines)
        for key in ("r", "f", "D", "i"):
            await one.press(key)
            await one.until(lambda: "not done: started with --read-only" in one.status)
            one.app.screen.query_one(PickList).focus()
            one.app.screen.say("")  # type: ignore[attr-defined]
    assert tree(cache) == before


async def test_a_list_at_rest_writes_nothing(tmp_path: Path) -> None:
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", ALPINE)
    async with desk(cache) as one:
        await begin(one, str(layout))
        await one.until(lambda: "imported " in one.status, "the entry")
        await one.rest()
        await one.open("I", "ImportsScreen")
        await one.rest()
        before = len(one.driver.written)
        for _ in range(3):
            one.app.imports_changed()
            await one.rest()
        assert len(one.driver.written) == before


async def test_a_step_of_a_download_is_cheap(tmp_path: Path) -> None:
    async with serving(FaultyRegistry()) as registry, desk(make_cache(tmp_path / "image")) as one:
        await _begin_stalled(one, registry)
        await one.open("I", "ImportsScreen")
        await one.rest()
        screen = one.app.screen.query_one(PickList)
        before = len(one.driver.written)
        screen.set_rows([PickRow(row.key, row.text, row.right.replace("·", "█", 1)) for row in screen.rows])
        await one.rest()
        assert 0 < len(one.driver.written) - before < 650


async def test_what_is_asked_often_is_done_seldom_but_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = 0.0, []
    monkeypatch.setattr("ocitui.tui.screens.base.monotonic", lambda: now)
    app: App[None] = App()
    async with app.run_test() as pilot:
        throttle = Throttle(app, 0.05, lambda: done.append(now))
        throttle.ask()
        throttle.ask()
        throttle.ask()
        assert done == [0.0]
        now = 0.04
        while len(done) == 1:
            await pilot.pause()
        assert done == [0.0, 0.04]
        now = 1.0
        throttle.ask()
        assert done == [0.0, 0.04, 1.0]


def test_a_row_is_as_wide_as_asked_and_keeps_its_end() -> None:
    row = PickRow("a", "registry.example.com/some/image:1.0\x1b[2J", "done")
    for width in range(60):
        text = "".join(text for text, _ in row.cells(width, pointed=True))
        assert len(text) == width
        assert "\x1b" not in text
    assert row.cells(20, pointed=False)[1][0] == "done"
    assert os.path.basename(row.cells(60, pointed=True)[0][0].split()[1]) == "image:1.0�[2J"
