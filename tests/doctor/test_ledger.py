"""The ledger: what was recorded is known again, whatever happens to the file."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import ConflictError
from ocitui.cache import ledger as ledger_module
from ocitui.cache.ledger import Ledger, RecordedSource, record_stored
from tests.doctor.examine_support import digest_of

NAME = f"sha256:{'a' * 64}.squashfs"
HASH = "b" * 64


def ledger_file(directory: Path) -> Path:
    return directory / ".ocitui" / "ledger"


def record(directory: Path, *names: str, sha256: str = HASH) -> Ledger:
    ledger = Ledger.open(directory)
    for name in names:
        ledger.record(name, os.stat(directory), sha256)
    ledger.flush()
    return ledger


def test_what_was_recorded_is_known_to_the_next(tmp_path: Path) -> None:
    ledger, packed = Ledger.open(tmp_path), tmp_path / NAME
    packed.write_bytes(b"packed")
    with patch("time.time", return_value=12.9):
        written = ledger.record(NAME, os.stat(packed), HASH, read_through=True)
    ledger.flush()
    found = Ledger.open(tmp_path).sound.get(NAME)
    assert found == written
    assert found is not None
    assert (found.sha256, found.checked, found.read_through, found.whole) == (HASH, 12, True, False)
    assert found.same_file(os.stat(packed))
    os.utime(packed, (1, 1))
    assert not found.same_file(os.stat(packed))


def test_nothing_is_written_before_the_flush(tmp_path: Path) -> None:
    Ledger.open(tmp_path).record(NAME, os.stat(tmp_path), HASH)
    assert os.listdir(tmp_path) == []


def test_the_last_record_of_a_name_counts(tmp_path: Path) -> None:
    record(tmp_path, NAME)
    record(tmp_path, NAME, sha256="c" * 64)
    found = Ledger.open(tmp_path).sound.get(NAME)
    assert found is not None
    assert found.sha256 == "c" * 64


@pytest.mark.parametrize("name", ["with space.tar", "ü.erofs", "a%20b.tar", "\udcff.squashfs", "line\nbreak.tar"])
def test_any_name(name: str, tmp_path: Path) -> None:
    record(tmp_path, NAME, name)
    assert Ledger.open(tmp_path).sound.keys() == {NAME, name}
    assert Ledger.open(tmp_path, name).sound.keys() == {name}


def test_a_torn_last_line_is_passed_over_and_ended(tmp_path: Path) -> None:
    record(tmp_path, NAME, "other.tar")
    path = ledger_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    assert [Ledger.open(tmp_path).sound.get(name) is not None for name in (NAME, "other.tar")] == [True, False]
    record(tmp_path, "third.tar")
    ledger = Ledger.open(tmp_path)
    assert [ledger.sound.get(name) is not None for name in (NAME, "other.tar", "third.tar")] == [True, False, True]


@given(data=st.data())
def test_a_damaged_line_is_never_believed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("ledger")
    record(directory, NAME)
    path = ledger_file(directory)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = Ledger.open(directory)
    assert not found.sound or at == len(content) - 1


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_ledger(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("ledger")
    ledger_file(directory).parent.mkdir()
    ledger_file(directory).write_bytes(data)
    assert Ledger.open(directory).sound == {}
    record(directory, NAME)
    assert Ledger.open(directory).sound.get(NAME) is not None


@pytest.mark.parametrize("text", ["oci:/a b/ü:1", "docker://a.b/c:1", "packed:/\udcff", "x" * 4000])
def test_where_an_image_came_from_is_known_to_the_next(text: str, tmp_path: Path) -> None:
    packed = tmp_path / NAME
    packed.write_bytes(b"packed")
    for source in ("oci:/before", text, ""):
        record_stored(tmp_path, packed, source=RecordedSource(source))
    ledger = Ledger.open(tmp_path)
    assert ledger.sources[NAME].text == text
    assert NAME in ledger.sound
    ledger.record_source(NAME, RecordedSource("x" * 10_000))
    ledger.flush()
    assert Ledger.open(tmp_path).sources[NAME].text == text, "what is overlong is not written"


def test_sources_outlive_old_lines_as_long_as_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_SLACK_LINES", 10)
    (tmp_path / NAME).write_bytes(b"packed")
    with patch("time.time", return_value=1.0):
        ledger = Ledger.open(tmp_path)
        for name in (NAME, "gone.tar"):
            ledger.record_source(name, RecordedSource("oci:/layout"))
        ledger.flush()
    for number in range(50):
        record(tmp_path, NAME, sha256=f"{number:064x}")
    assert set(Ledger.open(tmp_path).sources) == {NAME}


def test_a_source_of_before_its_line_told_more_is_kept() -> None:
    line = ledger_module._line(f"3 1000 {NAME} oci:/layout")
    read = ledger_module.LedgerRecords()
    assert read.read(line) == []
    assert read.sources == {NAME: RecordedSource("oci:/layout", 1000, private=True)}


def test_old_lines_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_SLACK_LINES", 10)
    for number in range(50):
        record(tmp_path, NAME, sha256=f"{number:064x}")
    lines = ledger_file(tmp_path).read_bytes().count(b"\n")
    assert lines <= 13
    found = Ledger.open(tmp_path).sound.get(NAME)
    assert found is not None
    assert found.sha256 == f"{49:064x}"
    assert sorted(os.listdir(tmp_path / ".ocitui")) == ["ledger", "ledger.lock"]


def test_programs_write_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_SLACK_LINES", 10)

    def write(writer: int) -> None:
        for number in range(40):
            record(tmp_path, f"{writer}-{number % 10}.tar", sha256=f"{number:064x}")

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger = Ledger.open(tmp_path)
    found = {
        f"{writer}-{number}.tar": ledger.sound.get(f"{writer}-{number}.tar")
        for writer in range(4)
        for number in range(10)
    }
    assert {name: one.sha256 for name, one in found.items() if one} == {
        f"{writer}-{number}.tar": f"{30 + number:064x}" for writer in range(4) for number in range(10)
    }


def test_a_stored_file_is_recorded_by_what_it_is(tmp_path: Path) -> None:
    packed = tmp_path / NAME
    packed.write_bytes(b"packed" * 1000)
    record_stored(tmp_path, packed)
    found = Ledger.open(tmp_path).sound.get(NAME)
    assert found is not None
    assert found.sha256 == digest_of(packed)
    assert found.same_file(os.stat(packed))


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / ".ocitui").write_bytes(b"")
    ledger = Ledger.open(tmp_path)
    ledger.record(NAME, os.stat(tmp_path), HASH)
    with pytest.raises(ConflictError):
        ledger.flush()
    record_stored(tmp_path, tmp_path / "absent")
    (tmp_path / ".ocitui").unlink()
    ledger.flush()
    assert Ledger.open(tmp_path).sound.get(NAME) is not None
