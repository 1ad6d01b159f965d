"""Tables, digests, and which status each error gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ocitui
from ocitui.cache import errors
from ocitui.cli.output import Column, ExitCode, cell_width, lay_out, status_of
from ocitui.cli.selectors import whole_digest
from tests.cli.conftest import Ocitui

COLUMNS = (Column("NAME", shrink=True), Column("SIZE", right=True, rank=1), Column("PLACE", rank=2), Column("STATE"))


def test_without_a_terminal_nothing_is_cut() -> None:
    long = "n" * 300
    lines = list(lay_out(COLUMNS, [[long, "1K", "here", "ok"], ["b", "22K", "", "bad"]], None))
    assert lines == [
        "NAME" + " " * 296 + "  SIZE  PLACE  STATE",
        f"{long}    1K  here   ok",
        "b" + " " * 299 + "   22K  -      bad",
    ]


def test_columns_leave_in_a_fixed_order() -> None:
    row = ["a-rather-long-name", "1K", "somewhere", "ok"]
    assert [next(lay_out(COLUMNS, [row], width)).split() for width in (80, 34, 30, 20)] == [
        ["NAME", "SIZE", "PLACE", "STATE"],
        ["NAME", "SIZE", "STATE"],
        ["NAME", "SIZE", "STATE"],
        ["NAME", "STATE"],
    ]


def test_no_rows_leave_the_titles() -> None:
    assert list(lay_out(COLUMNS, [], 80)) == ["NAME  SIZE  PLACE  STATE"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.lists(st.lists(TEXTS, min_size=4, max_size=4), max_size=6), st.integers(20, 120))
def test_a_table_fits_and_is_clean(rows: list[list[str]], width: int) -> None:
    for line in lay_out(COLUMNS, rows, width):
        assert cell_width(line) <= width
        assert "\x1b" not in line
        assert "\n" not in line


def test_wide_characters_take_two_cells() -> None:
    assert cell_width("日本") == 4
    assert cell_width("e\u0301") == 1
    assert list(lay_out((Column("A"), Column("B")), [["日本", "x"], ["abcd", "y"]], None))[1:] == [
        "日本  x",
        "abcd  y",
    ]


A, B = "sha256:" + "ab" * 32, "sha256:" + "ac" * 32


def test_a_whole_digest_needs_no_index() -> None:
    assert (whole_digest(A), whole_digest(f"{A}.tar"), whole_digest(A[:-1]), whole_digest(f"{A}.zip")) == (A, A, "", "")


STATUSES = {
    "AmbiguousDigestError": ExitCode.USAGE,
    "AmbiguousFileError": ExitCode.USAGE,
    "CancelledError": ExitCode.CANCELLED,
    "InvalidNameError": ExitCode.USAGE,
    "InvalidPlaceError": ExitCode.USAGE,
    "LockedError": ExitCode.LOCKED,
    "NoSuchDocumentError": ExitCode.PROBLEMS,
    "NoSuchEntryError": ExitCode.PROBLEMS,
    "NoSuchFindingError": ExitCode.PROBLEMS,
    "NoSuchImportError": ExitCode.PROBLEMS,
    "NoSuchPathError": ExitCode.PROBLEMS,
    "NoSuchTransactionError": ExitCode.PROBLEMS,
    "NotAskedError": ExitCode.USAGE,
    "NotInTrashError": ExitCode.PROBLEMS,
    "UsageProblemError": ExitCode.USAGE,
}
"""Of every other error the status is that of a cache that could not be read or changed."""


def every_error(kind: type[errors.CacheError] = errors.CacheError) -> Iterator[type[errors.CacheError]]:
    """The whole tree of errors, once every module of the package is there."""
    for module in walk_packages(ocitui.__path__, "ocitui."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    return _below(kind)


def _below(kind: type[errors.CacheError]) -> Iterator[type[errors.CacheError]]:
    if kind.__module__.startswith("ocitui."):
        yield kind
    for one in kind.__subclasses__():
        yield from _below(one)


def test_every_error_has_its_status() -> None:
    found = {kind.__name__: status_of(kind.__new__(kind)) for kind in every_error()}
    assert found.keys() >= STATUSES.keys()
    assert found == dict.fromkeys(found, ExitCode.UNCHECKED) | STATUSES


def test_every_error_has_a_code_of_its_own() -> None:
    """By which who reads the JSON tells them apart."""
    names: dict[str, set[str]] = {}
    for kind in every_error():
        assert re.fullmatch("[a-z]+(-[a-z]+)*", kind.code)
        if "code" in vars(kind):
            names.setdefault(kind.code, set()).add(kind.__name__)
    assert len(names) > 20
    assert [kinds for kinds in names.values() if len(kinds) > 1] == []


@pytest.mark.parametrize("command", [["log"], ["trash"], ["trash", "list"]], ids=" ".join)
def test_what_is_typed_behind_a_command_goes_before_what_stands_before_it(
    command: list[str], tmp_path: Path, ocitui: Ocitui
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    assert ocitui("--json", "-C", a, *command).json["cache"] == str(a)
    assert ocitui("--json", "-C", a, *command, "-C", b).json["cache"] == str(b)
    assert ocitui("-C", a, *command, "--json").json["cache"] == str(a)
    assert ocitui("--read-only", "-C", a, "trash", "empty", "--yes").status == ExitCode.UNCHECKED
    assert ocitui("trash", "--read-only", "empty", "--yes", "-C", a).status == ExitCode.UNCHECKED
