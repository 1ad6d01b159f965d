"""Advice of the doctor's names no option and no key: each front end puts its own there."""

from __future__ import annotations

import pytest

from ocitui.cli.output import laid_out
from ocitui.doctor.findings import Way
from ocitui.words.lines import KEYS, OPTIONS, CommandLine, Line, Ways, said

ADVICE = f"{Way.ADOPT_KNOWN}, as alpine:3.19, or {Way.ADOPT}; or {Way.TRASH_ORPHANS}"


@pytest.mark.parametrize("ways", [OPTIONS, KEYS])
def test_each_front_end_has_a_word_for_every_way(ways: Ways) -> None:
    assert set(ways) == set(Way)
    assert "<" not in said(" ".join(Way), ways)


def test_options_on_the_command_line_keys_on_the_screen() -> None:
    assert said(ADVICE, OPTIONS, "0123456789ab") == (
        "--adopt alone, as alpine:3.19, or --adopt 0123456789ab=NAME; or --trash-orphans"
    )
    assert said(ADVICE, KEYS, "0123456789ab") == "adopt orphans (o), as alpine:3.19, or n; or trash orphans (o)"


def test_what_is_about_no_digest_says_what_goes_there() -> None:
    assert said(f"give it with {Way.NAME}", OPTIONS) == "give it with --name DIGEST=NAME"


def test_a_name_that_looks_like_a_way_s_word_stays() -> None:
    assert said("import a{}b<x> again", OPTIONS, "0123456789ab") == "import a{}b<x> again"


def test_a_command_is_laid_out_to_be_copied_and_prose_to_be_read() -> None:
    digest = f"sha256:{'0123456789abcdef' * 4}"
    command = f"ocitui repair -C /a/directory/with/a/rather/long/name --apply --only {digest}"
    assert [*laid_out([CommandLine(command, "2.", "good")])] == [f"    2.        {command}"]
    assert [*laid_out([Line(f"of {digest}", "from")])] == ["    from      of 0123456789ab"]
