"""Going on with an interrupted import: its record, from one program to the next."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ocitui.importing.errors import SourceError
from ocitui.importing.image_import import recorded_import, unfinished_imports
from ocitui.importing.inspect import ImportRequest

REQUEST = ImportRequest(source="docker://localhost:1/a:1", name="a:1", level=3)


@pytest.fixture
def interrupted(tmp_path: Path) -> str:
    """The id of an import whose program was told to leave."""
    with pytest.raises(asyncio.CancelledError), recorded_import(tmp_path, REQUEST) as import_id:
        raise asyncio.CancelledError
    return import_id


def test_what_is_gone_on_with_is_as_it_was_asked(interrupted: str, tmp_path: Path) -> None:
    assert [one.request for one in unfinished_imports(tmp_path)] == [REQUEST]
    with recorded_import(tmp_path, REQUEST, interrupted) as import_id:
        assert import_id == interrupted
        assert unfinished_imports(tmp_path) == []
    assert os.listdir(tmp_path / ".ocitui" / "imports") == []


@pytest.mark.parametrize("error", [SourceError("no registry"), asyncio.CancelledError()], ids=["failed", "cancelled"])
def test_what_does_not_come_to_its_end_can_be_tried_again(
    error: BaseException, interrupted: str, tmp_path: Path
) -> None:
    with pytest.raises(type(error)), recorded_import(tmp_path, REQUEST, interrupted):
        raise error
    assert [one.id for one in unfinished_imports(tmp_path)] == [interrupted]


def test_one_program_at_a_time(interrupted: str, tmp_path: Path) -> None:
    with (
        recorded_import(tmp_path, REQUEST, interrupted),
        pytest.raises(SourceError, match="another program goes on with"),
        recorded_import(tmp_path, REQUEST, interrupted),
    ):
        pass
    with (
        pytest.raises(SourceError, match="there is no interrupted import"),
        recorded_import(tmp_path, REQUEST, interrupted),
    ):
        pass


@pytest.mark.parametrize("import_id", ["nothing", "../journal/x", "."])
def test_what_is_not_there(import_id: str, tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError, match="there is no interrupted import"),
        recorded_import(tmp_path, REQUEST, import_id),
    ):
        pass


def test_a_damaged_record_says_how_it_is_removed(interrupted: str, tmp_path: Path) -> None:
    (tmp_path / ".ocitui" / "imports" / f"{interrupted}.json").write_bytes(b"{")
    with pytest.raises(SourceError, match="is damaged"), recorded_import(tmp_path, REQUEST, interrupted):
        pass


def test_paths_of_a_record_mean_the_same_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.chdir(tmp_path)
    request = ImportRequest(source="docker://a/b:1", authfile="~/auth.json", tls_ca="ca.pem").with_absolute_paths()
    assert (request.authfile, request.tls_ca) == ("/home/anna/auth.json", f"{tmp_path}/ca.pem")
