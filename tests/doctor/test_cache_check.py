"""What is wrong beside the entries, copies of the index as they are made, and the entries that devices hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocitui.cache import list_backups
from ocitui.doctor.check.cache_checks import keep_index
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.entries import Entries
from tests.cache.support import corrupt_copies
from tests.tui.cache_support import BUSYBOX, NGINX, TEA, add_files, make_cache, packed_path, write_index


def codes(cache: Path) -> list[str]:
    judge = Judge(cache)
    judge.read()
    return [one.code for one in judge.look_at_cache() if one.code != "daemon-running"]


def test_nothing_is_wrong_beside_the_entries_of_a_sound_cache(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, NGINX).unlink()
    (cache / f"{TEA.digest}.config.json").write_text("{")
    assert codes(cache) == [], "these are faults of entries"


def test_what_nobody_names_is_told_and_what_is_odd_about_an_entry_is_not(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (BUSYBOX,))
    add_files(cache, TEA)
    os.link(packed_path(cache, BUSYBOX), tmp_path / "another name")
    assert codes(cache) == ["orphan-entry"]


def test_entries_that_are_gone_are_told(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (BUSYBOX, TEA))
    assert keep_index(cache) == ""
    assert [kept.entries for kept in list_backups(cache)] == [3]
    write_index(cache, ())
    assert codes(cache)[0] == "index-emptied"
    write_index(cache, (BUSYBOX,))
    assert codes(cache) == ["index-shrunk"]


@pytest.mark.slow
def test_corrupt_bytes_are_copied_aside_once(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (TEA,))
    (cache / "index.json").write_bytes(b"{broken")
    first, again = keep_index(cache), keep_index(cache)
    [(name, kept)] = corrupt_copies(cache).items()
    assert first == again == f"the bytes of index.json are copied aside, as .ocitui/corrupt/{name}"
    assert kept == b"{broken"
    assert codes(cache) == ["index-unparsable"]


def test_where_there_is_nothing_to_keep_nothing_is_made(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", ())
    (cache / "index.json").unlink()
    assert keep_index(cache) == keep_index(tmp_path / "nowhere") == ""
    assert os.listdir(cache) == []


def test_entries_with_the_devices_that_hold_them(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", (BUSYBOX, TEA))
    judge = Judge(cache)
    judge.read()
    assert judge.reading.index is not None
    entries = Entries(judge.reading.index, judge, {packed_path(cache, BUSYBOX, "erofs").name: "loop3, loop4"})
    assert [one.used for one in entries] == ["", "loop3, loop4", ""]
    assert entries.passing("used:loop4") == [1]
    assert entries.passing("!used:") == [0, 2]
