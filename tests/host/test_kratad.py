"""The daemon of the tests does what was recorded of the real one, and the package finds and asks it as that."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import ImageName
from ocitui.host.daemon import DaemonState, find_daemon
from ocitui.host.zones import read_zones
from tests.cache.support import entry, index_bytes, write_cache
from tests.host.test_redb import database, expected
from tests.kratad import Kratad, Memory, as_read_by_the_daemon, make_kratactl, zone_lines
from tests.tools import CONFORMANCE, recorded

EMPTY = index_bytes([])
TRACES = json.loads((CONFORMANCE / "traces.json").read_text(encoding="utf-8"))


# Deeper than Python's own parser goes.
INDEXES = [record for record in recorded("indexes.json") if record["case"] != "ignored-nesting-2000"]


@pytest.mark.parametrize("record", INDEXES, ids=lambda record: record["case"])
def test_at_its_start_it_does_what_was_recorded(record: dict[str, Any], tmp_path: Path) -> None:
    index, memory = tmp_path / "index.json", Memory(tmp_path)
    data = (CONFORMANCE / record["input"]).read_bytes() if record["input"] else None
    if data is not None:
        index.write_bytes(data)
    outcome = "error"
    with suppress(UnicodeDecodeError):
        outcome = memory.load()
    assert outcome == record["outcome"]
    assert index.read_bytes() == (EMPTY if outcome in ("created", "reset") else data)
    if outcome == "loaded":
        assert memory.fields["manifests"] == record["list"]


@pytest.mark.parametrize("number", range(len(TRACES["traces"])))
def test_it_stores_as_was_recorded(number: int, tmp_path: Path) -> None:
    trace = TRACES["traces"][number]
    memory, index, stores = Memory(tmp_path), tmp_path / "index.json", 0
    for step in trace if isinstance(trace, list) else trace["steps"]:
        if step["op"] in ("open", "reopen"):
            memory = Memory(tmp_path)
            memory.load()
        elif step["op"] == "store":
            memory.store(image_of(step, tmp_path / "packed"))
            stores += 1
        elif step["op"] == "damage":
            return
        if "index" in (after := step.get("after", {})):
            assert json.loads(index.read_bytes()) == after["index"], step
            sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir() if path != index}
            assert sizes == after["files"], step
    assert stores


def image_of(step: dict[str, Any], packed: Path) -> dict[str, Any]:
    packed.write_bytes(b"x" * step["packed_size"])
    image, name = TRACES["images"][step["image"]], ImageName.parse(step["name"])
    told = {"name": str(name), "reference": name.reference, "format": step["format"], "packed": str(packed)}
    return {**told, **{key: image[key] for key in ("descriptor", "manifest", "config")}}


@pytest.fixture
def store(open_path: Path) -> Path:
    """A daemon's store with a cache of three entries and a database of three zones."""
    write_cache(open_path / "cache" / "image", range(3))
    (open_path / "krata.db").write_bytes(database("03-three"))
    (open_path / "zones.jsonl").write_text(zone_lines(expected("03-three")["zones"]))
    return open_path


@pytest.fixture
def cache(store: Path) -> Path:
    return store / "cache" / "image"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "stat").symlink_to("/proc/stat")
    return folder


@pytest.fixture
def kratad(store: Path, proc: Path) -> Iterator[Kratad]:
    with Kratad(store, proc) as running:
        yield running


@pytest.mark.slow
def test_what_is_seen_at_each_step_of_its_start(store: Path, cache: Path, proc: Path) -> None:
    for step, is_served, has_socket in (("index", False, False), ("database", True, False), ("socket", True, True)):
        with Kratad(store, proc, until=step) as running:
            found = find_daemon(cache, proc)
            assert (found.process, found.ours) == (running.pid, is_served), step
            assert (store / "daemon.socket").exists() is has_socket, step
            assert found.since is not None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_however_it_ends_its_socket_is_left_and_nobody_listens(
    number: signal.Signals, kratad: Kratad, store: Path, cache: Path, proc: Path
) -> None:
    assert find_daemon(cache) == DaemonState(ours=True, listens=True), "as from a container of its own"
    kratad.end(number)
    assert find_daemon(cache, proc) == DaemonState(ours=True, listens=False)
    with Kratad(store, proc) as again:
        assert find_daemon(cache, proc).process == again.pid


def test_a_second_one_wipes_a_corrupt_index_before_it_meets_the_lock(
    kratad: Kratad, store: Path, cache: Path, proc: Path
) -> None:
    (cache / "index.json").write_bytes(b"{")
    with Kratad(store, proc) as second:
        assert not second.runs
        assert second.steps == {"index": "reset", "database": "already open"}
    assert (cache / "index.json").read_bytes() == EMPTY
    assert find_daemon(cache, proc).process == kratad.pid


def test_it_does_not_start_on_what_is_no_utf_8(store: Path, cache: Path, proc: Path) -> None:
    (cache / "index.json").write_bytes(b"\xff")
    with Kratad(store, proc) as refusing:
        assert not refusing.runs
    assert (cache / "index.json").read_bytes() == b"\xff"


def test_its_memory_wins_over_an_edit_made_beside_it(kratad: Kratad, store: Path, cache: Path) -> None:
    (cache / "index.json").write_bytes(index_bytes([entry(7)]))
    image = TRACES["traces"][0]
    step = next(one for one in (image if isinstance(image, list) else image["steps"]) if one["op"] == "store")
    kratad.store(image_of(step, store / "packed"))
    digests = [one["digest"] for one in json.loads((cache / "index.json").read_bytes())["manifests"]]
    stored = TRACES["images"][step["image"]]["digest"]
    assert digests == [*(as_read_by_the_daemon(entry(number))["digest"] for number in range(3)), stored]


def test_it_is_asked_for_its_zones_and_answers_until_it_hangs(
    kratad: Kratad, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_kratactl(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    zones = read_zones(cache)
    assert (zones.daemon, zones.sure, len(zones.zones)) == ("equal", True, 3)
    monkeypatch.setattr("ocitui.host.zones._ASK_SECONDS", 0.05)
    kratad.hang()
    assert read_zones(cache).daemon == "silent"
    kratad.end()
    assert read_zones(cache).daemon == "silent"
