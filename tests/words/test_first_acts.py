"""What to do first: a line for each group of findings for which it is the same."""

from __future__ import annotations

import pytest

from ocitui.cache import FileKind
from ocitui.doctor.findings import CATALOGUE, INDEX_UNREADABLE, NEEDED_ORPHAN, Finding, StepKind, in_order
from ocitui.doctor.repair.steps import RepairOptions
from ocitui.words.findings import first_acts
from ocitui.words.lines import Line, first_lines


def found(code: str, digest: str = "", kind: FileKind | None = None) -> Finding:
    return CATALOGUE[code].finding("seen", digest=digest, format="squashfs" if digest else "", kind=kind)


def lines(*findings: Finding, trashed: str = "") -> list[tuple[str, int]]:
    acts = first_acts(in_order(findings), lambda one: "the trash" if one.digest in trashed.split() else "")
    return [(text, len(same)) for text, same in acts]


def test_like_steps_are_one_line_of_a_severity_a_source_and_a_kind_of_file() -> None:
    packed, config = FileKind.PACKED, FileKind.CONFIG
    assert lines(
        found("orphan-file", "f", packed),
        found("packed-truncated", "a", packed),
        found("packed-damaged", "b", packed),
        found("config-digest", "b", config),
        found("file-missing", "c", packed),
        found("packed-changed", "d", packed),
        trashed="a b d",
    ) == [
        ("Restore 2 packed files from the trash; nothing is lost", 2),
        ("Restore 1 config from the trash; nothing is lost", 1),
        ("Look for copies of 1 packed file; nothing is lost", 1),
        ("Restore 1 changed file from the trash; nothing is lost", 1),
        ("Trash 1 file that no entry names; nothing is lost", 1),
    ]


def test_the_worst_comes_first_and_says_what_may_be_lost() -> None:
    assert lines(
        found("file-missing", "a", FileKind.MANIFEST), INDEX_UNREADABLE.finding("seen", path="index.json")
    ) == [
        ("Rewrite index.json; may lose names that no backup holds", 1),
        ("Look for copies of 1 manifest; nothing is lost", 1),
    ]


def test_what_is_done_of_two_severities_is_two_lines() -> None:
    needed = NEEDED_ORPHAN.finding("seen", digest="a")
    acts = first_acts(in_order([found("orphan-entry", "a", FileKind.PACKED), needed]), lambda _: "")
    assert [[one.severity for one in same] for _, same in acts] == [["critical"], ["low"]]


@pytest.mark.parametrize(("count", "more"), [(3, []), (4, [Line("and 1 more", "failed", "muted")])])
def test_of_many_lines_the_first_are_told_and_how_many_there_are(count: int, more: list[Line]) -> None:
    lines = [Line(str(number)) for number in range(count)]
    assert [*first_lines(iter(lines), count, 3, "failed")] == [*lines[:3], *more]


def test_what_no_repair_mends_stands_there_as_it_is_to_be_done_by_hand() -> None:
    """What is to be done about it only; of what nothing is to be done, nothing."""
    assert lines(found("zone-needs-missing", "a"), found("hardlinked", "b", FileKind.PACKED)) == [
        ("Bring that very image in again, by its digest", 1)
    ]


@pytest.mark.parametrize("step", StepKind)
def test_every_step_of_the_catalogue_has_its_words(step: StepKind) -> None:
    for fault in CATALOGUE.values():
        if fault.step is step:
            ((text, _),) = first_acts([fault.finding("seen")], lambda _: "a device")
            # With the key and the count there is room for so many at 80 columns.
            assert len(text.partition("; may")[0]) <= 55
            assert text.endswith("; nothing is lost") != bool(fault.loses)


def test_what_a_line_asks_for_is_allowed_and_nothing_else() -> None:
    asked = RepairOptions.about([found("orphan-file", "a")], asked=True)
    assert asked == RepairOptions(only=asked.only, trash_orphans=True)
    assert RepairOptions.about([found("wrong-mode", "a")], asked=True).change_modes
    adopting = RepairOptions.about([NEEDED_ORPHAN.finding("seen", digest="abc")], asked=True)
    assert adopting == RepairOptions(only=frozenset({"abc"}), adopt_known=True)
    finding = found("orphan-entry", "a")
    assert RepairOptions.about([finding], asked=False) == RepairOptions(only=frozenset({finding.fingerprint}))
