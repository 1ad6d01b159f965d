"""README.md says what is true."""

from __future__ import annotations

import re

import pytest

from ocitui.doctor.assessment import HEADLINES, Case
from tests.tools import ROOT

README = (ROOT / "README.md").read_text()


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file()


@pytest.mark.parametrize("case", [case for case in Case if HEADLINES[case]])
def test_it_advises_what_the_assessment_does(case: Case) -> None:
    assert f"| {HEADLINES[case]} |" in README
