"""The repair screen: a plan that can be narrowed, a question, one transaction, and what the second check found."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ocitui.cache import (
    Condition,
    PackedFormat,
    PackerCache,
    RecordedSource,
    TransactionKind,
    TransactionState,
    list_backups,
    record_stored,
)
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.findings import Depth
from ocitui.doctor.repair.plan import RepairPlan, plan_repair
from ocitui.importing import ImportDesk, ImportRequest, import_image
from ocitui.tui.widgets.bars import OneLineQuestion
from ocitui.tui.widgets.lines import PickList
from tests.doctor.repair_support import let_come_back
from tests.importing.layer_support import Item, flattened, layer, sources
from tests.importing.pipeline import image_of, layout_of
from tests.remote.support import near_ssh
from tests.tui.cache_support import (
    ALPINE,
    BUSYBOX,
    NGINX,
    TEA,
    flip,
    make_cache,
    packed_path,
    replace_index,
    tree,
    write_index,
)
from tests.tui.screen_support import MIDDLE, SMALL, WIDE, Desk, codes, desk, first_acts, planned

pytestmark = pytest.mark.slow


def rows(one: Desk) -> list[str]:
    return [row.text for row in one.app.screen.query_one(PickList).rows]


async def mend_all(one: Desk) -> None:
    """Open the plan for all there is."""
    await one.open("p", "ProblemsScreen")
    await one.until(lambda: not one.live.looking and bool(rows(one)), "the check")
    await one.press("M")
    await one.until(lambda: one.top == "RepairScreen" and "on host7: " in one.status and "making" not in one.status)


async def mended(one: Desk) -> None:
    await one.press("y")
    await one.until(lambda: "checked again" in one.status, "the second check")


def break_config(cache: Path) -> None:
    (cache / f"{BUSYBOX.digest}.config.json").write_text("{")


@pytest.mark.parametrize("size", [SMALL, MIDDLE, WIDE])
async def test_a_plan_is_made_and_shown_and_done_only_with_y(tmp_path: Path, size: tuple[int, int]) -> None:
    cache = make_cache(tmp_path / "image")
    break_config(cache)
    before = tree(cache)
    async with desk(cache, size) as one:
        await one.open("m", "RepairScreen")
        await planned(one)
        assert one.header.startswith(" host7 ")
        assert "kratad" in one.header
        assert "On host7: 1 step" in one.lines
        assert all(len(line) == size[0] for line in one.text.split("\n"))
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen")
        assert tree(cache) == before
        await one.open("m", "RepairScreen")
        await planned(one)
        await one.press("m")
        assert one.top == "RepairScreen"
        await mended(one)
        assert "Mended in transaction" in one.lines
        assert "remains" in one.lines
        assert not (cache / f"{BUSYBOX.digest}.config.json").exists()
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen")
        await one.open("u", "UndoScreen")
        await one.until(lambda: "nothing is changed" in one.status)
        await one.press("y")
        await one.until(lambda: "undone by" in one.status)
    assert (cache / f"{BUSYBOX.digest}.config.json").read_text() == "{"


async def test_a_corrupt_index_is_mended_from_what_was_kept_of_it(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    good = (cache / "index.json").read_bytes()
    async with desk(cache) as one:
        await one.until(lambda: bool(list_backups(cache)))
        replace_index(cache, good[: len(good) // 2])
        await one.until_corrupt()
        await one.press("d")
        await one.until(lambda: "nothing is written while" in one.status)
        await one.open("m", "RepairScreen")
        await planned(one)
        assert any("Which copy of the index is good" in row for row in rows(one))
        await one.press("j")
        await one.until(lambda: "the daemon does not run" in one.lines)
        await one.press("j")
        await one.until(lambda: "Index Backup Files From" in one.lines)
        assert "7 entries, 7 with a name" in one.lines
        await mended(one)
        assert "the cache is clean" in one.lines
        await one.press("escape")
        await one.until(lambda: one.condition is Condition.SOUND and one.table.total == 7)
    assert [one["digest"] for one in _manifests(cache)] == [one["digest"] for one in _of(good)]


def _manifests(cache: Path) -> Any:
    return _of((cache / "index.json").read_bytes())


def _of(data: bytes) -> Any:
    import json

    return json.loads(data)["manifests"]


async def test_a_lost_name_is_given_by_hand(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA,))
    replace_index(cache, b"")
    async with desk(cache) as one:
        await one.until_corrupt()
        await one.open("m", "RepairScreen")
        await planned(one)
        number = next(at for at, row in enumerate(rows(one)) if "name lost" in row)
        await one.press(*["j"] * number, "n")
        await one.until(lambda: one.focused == "OneLineQuestion")
        await one.press(*"tea/pot", "colon", *"ynm", "enter")
        await one.until(lambda: not any("name lost" in row for row in rows(one)))
        await planned(one)
        await mended(one)
        await one.press("escape")
        await one.until(lambda: one.names == ["tea/pot squashfs ok"])


async def test_a_directory_that_was_made_anew_gets_the_names_that_the_screen_knows(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    kept = {path.name: path.read_bytes() for path in cache.glob("sha256*")}
    async with desk(cache) as one:
        await one.until(lambda: bool(list_backups(cache)))
        shutil.rmtree(cache)
        await one.until(lambda: one.condition is Condition.GONE)
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: "the directory is gone; last seen: 7 entries" in one.bar_at("#coverage"))
        await one.press("escape")
        cache.mkdir()
        for name, data in kept.items():
            (cache / name).write_bytes(data)
        await one.until(lambda: one.condition is Condition.MISSING)
        await one.until(lambda: "index.json is gone; these are the last good rows" in one.trouble)
        await one.until(lambda: bool(list_backups(cache)))
        await one.until(lambda: not one.live.looking and bool(one.live.about_cache))
        await one.open("m", "RepairScreen")
        await planned(one)
        assert "7 of the backup" in one.lines
        assert not any("name lost" in row for row in rows(one))
        await mended(one)
        await one.press("escape")
        await one.until(lambda: one.condition is Condition.SOUND and one.table.total == 7)


async def test_an_orphan_is_adopted_under_a_name(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA, NGINX))
    write_index(cache, (NGINX,))
    async with desk(cache, read_only=False) as one:
        await mend_all(one)
        number = next(at for at, row in enumerate(rows(one)) if "orphan-entry" in row)
        await one.press(*["j"] * number, "n")
        await one.until(lambda: one.focused == "OneLineQuestion")
        await one.press(*"tea", "enter")
        await one.until(lambda: any(row.startswith("[●]") for row in rows(one)))
        await planned(one)
        await mended(one)
        assert "the cache is clean" in one.lines


async def test_a_step_is_taken_out(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    break_config(cache)
    (cache / f"{NGINX.digest}.manifest.json").write_text("{")
    async with desk(cache) as one:
        await mend_all(one)
        await planned(one)
        assert "On host7: 2 steps" in one.lines
        await one.press("j", "space", "home")
        await one.until(lambda: "On host7: 1 step," in one.lines)
        await mended(one)
        assert (cache / f"{BUSYBOX.digest}.config.json").exists()
        assert not (cache / f"{NGINX.digest}.manifest.json").exists()


async def test_a_plan_without_a_step_offers_no_mending(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, TEA).unlink()
    async with desk(cache) as one:
        await mend_all(one)
        await one.until(lambda: "there is nothing to do" in one.status)
        assert "y Mend" not in one.keys
        await one.press("escape", "escape")
        break_config(cache)
        await one.until(lambda: sum(one.live.severities.values()) > 1, "what can be mended is found")
        await mend_all(one)
        await planned(one)
        for shown in (False, True):
            await one.press(*(() if shown else ("j",)), "space")
            await one.until(lambda shown=shown: ("nothing to do" not in one.status) is shown)  # type: ignore[misc]
            assert ("y Mend" in one.keys) is shown


async def test_only_the_chosen_finding_is_mended(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    break_config(cache)
    (cache / f"{NGINX.digest}.manifest.json").write_text("{")
    async with desk(cache) as one:
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: not one.live.looking and len(codes(one)) == 3)
        await one.press("m")
        await planned(one)
        assert "On host7: 1 step," in one.lines


async def test_a_plan_that_no_longer_holds_is_made_and_shown_again(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    break_config(cache)
    async with desk(cache) as one:
        await one.open("m", "RepairScreen")
        await planned(one)
        (cache / f"{BUSYBOX.digest}.config.json").write_text("{]")
        await one.press("y")
        await one.until(lambda: "since the plan was shown" in one.lines.replace("\n", " "))
        await planned(one)
        assert not await one.session.cache.transactions()
        await mended(one)


async def test_what_is_in_use_is_asked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, TEA).unlink()

    async def used(*asked: Any) -> RepairPlan:
        plan = await plan_repair(*asked)
        return replace(plan, steps=tuple(replace(step, used_by=("/dev/loop3",)) for step in plan.steps))

    monkeypatch.setattr("ocitui.tui.screens.repair.plan_repair", used)
    async with desk(cache) as one:
        await one.press("j", "j")
        await one.open("m", "RepairScreen")
        await one.until(lambda: "there is nothing to do" in one.status)
        await one.press("o")
        await one.until(lambda: one.top == "RepairOptionsScreen")
        await one.press("j", "j", "space", "enter")
        await one.until(lambda: one.top == "RepairScreen" and "/dev/loop3" in one.lines)
        await planned(one)
        await one.press("y")
        await one.until(lambda: "Y drops it all the same" in one.status)
        assert not await one.session.cache.transactions()
        await one.press("Y")
        await one.until(lambda: "checked again" in one.status)
        [done] = await one.session.cache.transactions()
        assert (done.kind, done.state) == (TransactionKind.REPAIR, TransactionState.DONE)


async def test_an_overwritten_edit_is_made_again(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    index = (cache / "index.json").read_bytes()
    async with desk(cache) as one:
        await one.session.cache.delete([(ALPINE.digest, "tar")])
        await one.until(lambda: one.table.total == 6)
        replace_index(cache, index)
        await one.until(lambda: "p offers it again" in one.status)
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: not one.live.looking and codes(one) == ["MEDIUM", "index-overwritten"])
        await one.press("m")
        await planned(one)
        await mended(one)
        await one.press("escape", "escape")
        await one.until(lambda: one.table.total == 6)


async def test_sources_and_allowances_make_another_plan(tmp_path: Path) -> None:
    cache, other = make_cache(tmp_path / "image"), make_cache(tmp_path / "other")
    (cache / f"{TEA.digest}.config.json").unlink()
    async with desk(cache) as one:
        await one.press("j", "j")
        await one.open("m", "RepairScreen")
        await one.until(lambda: "there is nothing to do" in one.status)
        await one.press("y")
        assert one.top == "RepairScreen"
        await one.press("o")
        await one.until(lambda: one.top == "RepairOptionsScreen")
        await one.press("s", *"oci", "colon", *"/nowhere", "enter")
        await one.until(lambda: "not a source: /nowhere does not exist" in one.status)
        await one.press("s")
        one.app.screen.query_one(OneLineQuestion).value = f"/{'x' * 300}"
        await one.press("enter")
        await one.until(lambda: "not a source: /xxx" in one.status)
        await one.press("s")
        one.app.screen.query_one(OneLineQuestion).value = "docker.io/tea:1"
        await one.press("enter")
        await one.until(lambda: "(ask registries (o) for what" in one.status)
        assert not any("Restore from" in row for row in rows(one))
        await one.press("s", *os.fspath(other).replace("-", "-"), "enter")
        await one.until(lambda: any("Restore from" in row for row in rows(one)), "the source")
        await one.press("enter")
        await planned(one)
        await mended(one)
        assert "the cache is clean" in one.lines
    assert (cache / f"{TEA.digest}.config.json").read_bytes() == TEA.config


async def test_another_host_is_a_source_and_tells_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", near_ssh(tmp_path / "near"))
    cache, other = make_cache(tmp_path / "image"), make_cache(tmp_path / "other")
    write_index(cache, ())
    async with desk(cache) as one:
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: not one.live.looking and bool(rows(one)), "the check")
        await one.open("M", "RepairScreen")
        await one.until(lambda: "making" not in one.status, "the plan")
        await one.press("o")
        await one.until(lambda: one.top == "RepairOptionsScreen")
        await one.press("s")
        one.app.screen.query_one(OneLineQuestion).value = "ssh://-o"
        await one.press("enter")
        await one.until(lambda: "names no host" in one.status)
        await one.press("s")
        one.app.screen.query_one(OneLineQuestion).value = f"ssh://web1{other}"
        await one.press("enter")
        await one.until(lambda: "Restore from ssh" in rows(one)[-1], "the source")
        await one.press("enter")
        await one.until(lambda: one.top == "RepairScreen" and any("other caches call" in row for row in rows(one)))
        await planned(one)
        await one.press("down", "down", "down")
        await one.until(lambda: f"forssh://web1{other}" in "".join(one.lines.split()))
        await mended(one)
        assert "the cache is clean" in one.lines
    assert NGINX.name in (cache / "index.json").read_text()


async def test_what_the_plan_reads_is_told_and_esc_ends_it(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA,))
    trash, packed = cache / ".ocitui" / "trash", packed_path(cache, TEA)
    trash.mkdir(parents=True)
    os.truncate(packed, 1 << 38)
    packed.rename(trash / f"000001-0000~{packed.name}")
    async with desk(cache) as one:
        await one.open("m", "RepairScreen")
        told = f"reading a copy of {packed.name[:19]}….squashfs"
        await one.until(lambda: told in one.status and "of 256G; esc cancels" in one.status)
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen")
        await one.until(lambda: not any(thread.name == "ocitui-look" for thread in threading.enumerate()), "the end")


async def test_what_a_deep_check_found_is_mended_and_not_forgotten(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA, NGINX))
    await examine(cache, ExamineOptions(Depth.DEEP))
    let_come_back(cache)
    for image in (TEA, NGINX):
        flip(packed_path(cache, image))
    async with desk(cache) as one:
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: not one.live.looking)
        await one.press("3")
        await one.until(lambda: "packed-damaged  2 findings" in one.text)
        await one.press("escape")
        await one.until(lambda: "damaged" in one.names[0])
        await one.press("home")
        await one.open("m", "RepairScreen")
        await planned(one)
        assert "packed-damaged" in one.lines
        await mended(one)
        assert "packed-damaged" in one.lines, "that of the other entry remains"
        assert not packed_path(cache, TEA).exists()


async def test_what_only_layers_tell_is_found_and_packed_anew(tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "layout", image_of(layer(Item("a"), Item("b", data=b"right"))))
    cache = make_cache(tmp_path / "image", ())
    source = ImportRequest(source=f"oci:{layout}", name="team/app:1", format=PackedFormat.TAR)
    packed = (await import_image(ImportDesk(PackerCache(cache)), source)).image.path
    right = packed.read_bytes()
    await asyncio.to_thread(note_as_wrong, tmp_path, cache, packed, RecordedSource(source.source))
    async with desk(cache) as one:
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: not one.live.looking)
        await one.press("4")
        await one.until(lambda: "1 by their layers" in one.status, "the end")
        act = "1 medium: Pack the layers of 1 packed file anew; nothing is lost: m Mend"
        await one.until(lambda: act in first_acts(one), "what to do first")
        assert "1 path not as the layers make it: /b (content)" in " ".join(one.lines.split())
        # What all bytes tell is another thing, and what the layers told holds.
        await one.press("3")
        await one.until(lambda: "deep check: 1 entry: 1 header, 1 deep" in one.status, "the end")
        await one.until(lambda: "packed-unlike-layers" in codes(one))
        await one.open("m", "RepairScreen")
        await planned(one)
        assert f"the layers in oci:{layout}".replace(" ", "") in "".join(one.lines.split())
        await mended(one)
        assert packed.read_bytes() == right


def note_as_wrong(folder: Path, cache: Path, packed: Path, source: RecordedSource) -> None:
    """Pack another file than the image has, as one that the first check found so."""
    packed.write_bytes(flattened(sources(folder / "wrong", (layer(Item("a"), Item("b", data=b"wrong")),))))
    shutil.rmtree(cache / ".ocitui")
    record_stored(cache, packed, source=source)


async def test_layers_are_not_fetched_for_a_cache_that_is_not_to_be_written(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image", (TEA,)), read_only=True) as one:
        await one.open("p", "ProblemsScreen")
        await one.press("4")
        await one.until(lambda: "Layers are not fetched: started with --read-only" in one.status)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_root_reads_another_host_where_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = near_ssh(tmp_path / "near")
    (tmp_path / "near" / "sudo").write_text('#!/bin/sh\nshift 2\nSUDO=yes exec "$@"\n')
    nobody = "import os, sys; os.setuid(65534); os.execv('/usr/bin/python3', ['python3', *sys.argv[1:]])"
    python = f'#!/bin/sh\n[ "$SUDO" ] || exec /usr/bin/python3 -c "{nobody}" "$@"\nexec /usr/bin/python3 "$@"\n'
    (tmp_path / "near" / "python3").write_text(python)
    for program in ("sudo", "python3"):
        (tmp_path / "near" / program).chmod(0o755)
    monkeypatch.setenv("PATH", path)
    cache, other = make_cache(tmp_path / "image"), make_cache(tmp_path / "other")
    other.chmod(0o700)
    (cache / f"{TEA.digest}.config.json").unlink()
    async with desk(cache) as one:
        await mend_all(one)
        await one.until(lambda: one.top == "RepairScreen" and "making" not in one.status, "the plan")
        await one.press("o")
        await one.until(lambda: one.top == "RepairOptionsScreen")
        await one.press("s")
        one.app.screen.query_one(OneLineQuestion).value = f"ssh://web1{other}"
        await one.press("enter")
        await one.until(lambda: "Restore from ssh" in rows(one)[-1], "the source")
        await one.press("enter")
        await one.until(lambda: "or read it as root: o allows it" in " ".join(one.lines.split()), "what to do")
        await one.press("o")
        await one.until(lambda: one.top == "RepairOptionsScreen")
        one.app.screen.query_one(PickList).move_to("sudo")
        await one.press("space")
        await one.until(lambda: "[●] Read as root there" in "\n".join(rows(one)), "the mark")
        await one.press("s")
        one.app.screen.query_one(OneLineQuestion).value = f"ssh://web2{other}"
        await one.press("enter", "enter")
        await planned(one)
        assert "cannot be read" not in one.lines
        await mended(one)
    assert (cache / f"{TEA.digest}.config.json").read_bytes() == TEA.config
