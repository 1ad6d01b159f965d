"""The catalogue against the table of the design."""

from __future__ import annotations

import re

from ocitui.doctor.catalogue import CATALOGUE
from ocitui.doctor.findings import Answer, Severity
from tests.doctor.fault_makers import CASES
from tests.tools import shared

OURS = {"packed-changed", "journal-damaged", "transaction-pending"}
MADE_ELSEWHERE = {
    "index-overwritten",
    "index-shrunk",
    "read-error",
    "packed-changed",
    "cache-read-only",
    "disk-full",
    "daemon-running",
}


def rows() -> dict[str, str]:
    """The severity of each code of the table; a row may have several."""
    found = {}
    for line in shared("design/faults.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 5 and re.fullmatch(r"[a-z0-9-]+( / [a-z0-9-]+)*", cells[1]) and cells[1] != "code":
            found.update(dict.fromkeys(cells[1].split(" / "), cells[4]))
    return {code: severity for code, severity in found.items() if not code.startswith("--")}


def test_every_row_is_a_fault_of_that_severity() -> None:
    assert {code: fault.severity for code, fault in CATALOGUE.items() if code not in OURS} == rows()


def test_every_fault_says_what_the_daemon_does() -> None:
    for fault in CATALOGUE.values():
        assert fault.daemon
        assert fault.answer in Answer
        assert fault.severity in Severity
        assert (
            fault.mend
            or fault.severity is Severity.INFO
            or fault.code
            in {
                "config-no-history",
                "layers-disagree",
                "platform-disagrees",
                "hardlinked",
                "case-collision",
            }
        )


def test_every_fault_is_made_in_a_test() -> None:
    assert {case.code for case in CASES} | MADE_ELSEWHERE == set(CATALOGUE)


def test_a_fingerprint_does_not_depend_on_the_position() -> None:
    fault = CATALOGUE["entry-duplicate"]
    one, other = fault.finding("x", digest="d", position=1), fault.finding("x", digest="d", position=2)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != fault.finding("y", digest="d").fingerprint
    assert fault.finding("\ud800\udcff").fingerprint
