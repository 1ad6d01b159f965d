"""The demo's cache: real images, the faults it promises, the same bytes each time."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from ocitui.cache import ImageName, PackerCache
from ocitui.cache.files import check_packed
from ocitui.cli.demo_cache import FORGOTTEN, PROXY, QUEUE, SITE, make_demo_cache
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.entries import Entries
from ocitui.tui.session import ScreenOptions
from tests.cli.conftest import ODD_NAME, Ocitui
from tests.doctor.examine_support import bad_positions


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


@pytest.mark.parametrize("packers", [False, True])
def test_it_is_the_same_each_time(packers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_demo_cache(tmp_path / "one", packers)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    make_demo_cache(tmp_path / "two", packers)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_is_in_it_needs_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    make_demo_cache(tmp_path)
    judge = Judge(tmp_path)
    judge.read()
    assert len([*judge.look()]) == 1
    assert judge.reading.index is not None
    entries = Entries(judge.reading.index, judge)
    assert [entry.format for entry in entries if entry.name == "busybox"] == ["squashfs", "erofs"]
    assert {entry.format for entry in entries} == {"squashfs", "erofs", "tar"}
    assert len({entry.digest for entry in entries if entry.name == "alpine"}) == 2
    assert [entries[at].name for at in bad_positions(judge)] == [
        "registry.example.com:5000/team/site",
        "quay.io/example/queue",
    ]
    assert {entry.platform for entry in entries} == {"linux/amd64", "linux/arm64/v8"}
    assert any(entry.reference == "latest" for entry in entries)
    assert not any(entry.digest == FORGOTTEN.digest for entry in entries)
    assert (tmp_path / f"{FORGOTTEN.digest}.tar").exists()


async def test_every_name_is_krata_s_spelling_and_every_sound_entry_recalls(demo: Path) -> None:
    cache = await PackerCache.open(demo)
    for entry in await cache.list():
        name = ImageName.parse(entry.image_name or "")
        assert str(name) == entry.image_name
        found = await cache.explain_recall(name, entry.digest, "tar")  # type: ignore[arg-type]
        assert found.hit is (entry.digest != SITE.digest)
        assert not found.error


@pytest.mark.parametrize("packers", [False, True])
def test_every_packed_file_is_whole_but_one(packers: bool, tmp_path: Path) -> None:
    make_demo_cache(tmp_path, packers)
    broken = [path.name for path in tmp_path.iterdir() if path.suffix != ".json" and check_packed(path).problem]
    assert [name.startswith(QUEUE.digest) for name in broken] == [True]


def test_documents_have_what_the_panes_show() -> None:
    config = json.loads(PROXY.config_raw)
    assert config["config"]["Labels"]
    assert config["config"]["Env"]
    assert sum(not step.get("empty_layer") for step in config["history"]) == len(config["rootfs"]["diff_ids"]) == 3
    assert len(json.loads(PROXY.manifest_raw)["layers"]) == 3


def test_the_odd_name_is_odd(demo: Path, ocitui: Ocitui) -> None:
    names = [entry["name"] for entry in ocitui("list", "-C", demo, "--json").json["entries"]]
    assert ODD_NAME in names


def test_kept_without_a_terminal(tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = ocitui("demo", "--keep")
    assert done.status == 0
    directory = Path(done.out.removeprefix("the demo's cache is in ").strip())
    assert directory.is_relative_to(tmp_path)
    assert ocitui("list", "-C", directory).status == 0


@pytest.mark.parametrize(
    "words", [["demo", "--theme", "light", "--no-mouse"], ["--theme", "light", "--no-mouse", "demo"]]
)
def test_removed_once_it_was_shown(
    words: list[str], tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def show(options: ScreenOptions) -> int:
        seen.append(options.directory)
        assert (options.directory / "index.json").exists()
        assert (options.theme, options.mouse) == ("light", False)
        return 0

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("ocitui.cli.commands.demo.is_terminal", lambda _: True)
    monkeypatch.setattr("ocitui.tui.app.run_screen", show)
    done = ocitui(*words)
    assert done.status == 0
    assert str(seen[0]) in done.out
    assert os.listdir(tmp_path) == []
