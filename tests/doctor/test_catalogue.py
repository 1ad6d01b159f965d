"""The catalogue of faults, and the ways to make each, against the table that people read."""

from __future__ import annotations

import pytest

from ocitui.doctor.findings import CATALOGUE
from tests.doctor.fault_makers import CASES, TABLE, Row

NOT_BY_A_CASE = {
    "index-overwritten",
    "index-shrunk",
    "index-late-update",
    "read-error",
    "packed-changed",
    "packed-unlike-layers",
    "packed-xattrs",
    "cache-read-only",
    "disk-full",
    "daemon-running",
    "zone-needs-missing",
    "zone-file-missing",
    "database-lost",
    "database-damaged",
    "domain-without-row",
}
"""Of these, tests of their own make what is met: a journal, a backup, a disk, a ledger, layers, a daemon, zones."""


def test_every_fault_has_its_row() -> None:
    assert list(TABLE) == sorted(TABLE, key=list(CATALOGUE).index)
    assert set(TABLE) == set(CATALOGUE)


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_a_fault_is_as_its_row_says(row: Row) -> None:
    fault = CATALOGUE[row.code]
    assert fault.severity == row.severity
    assert fault.answer in row.answers
    assert (fault.step is None) == (row.mended == "told") == row.repair.startswith("none")
    assert fault.mend or fault.step is None
    assert bool(fault.loses) == (row.loses != "no")
    # Options and keys are the front ends' words.
    assert "--" not in fault.mend + fault.loses
    # The daemon's answer is a sentence of its own for each fault or kind of fault.
    assert len(fault.daemon.split()) >= 3


@pytest.mark.parametrize(
    "row", [row for row in TABLE.values() if row.code not in NOT_BY_A_CASE], ids=lambda row: row[0]
)
def test_every_fault_is_made_at_each_depth_and_with_each_answer(row: Row) -> None:
    cases = [case for case in CASES if case.code == row.code]
    assert {case.depth.value for case in cases} == set(row.found_by.split(", "))
    assert {case.answer.value for case in cases} == row.answers


def test_no_case_is_of_another_fault() -> None:
    assert {case.code for case in CASES} == set(TABLE) - NOT_BY_A_CASE


def test_a_fingerprint_does_not_depend_on_the_position() -> None:
    fault = CATALOGUE["entry-duplicate"]
    one, other = fault.finding("x", digest="d", position=1), fault.finding("x", digest="d", position=2)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != fault.finding("y", digest="d").fingerprint
    assert fault.finding("\ud800\udcff").fingerprint
