"""The man pages are those that are made now, and troff has nothing to say about them."""

from __future__ import annotations

import subprocess

import pytest

from tests.manpages import PAGES, pages
from tests.tools import need

MADE = pages()


def test_the_pages_are_those_that_are_made_now() -> None:
    """Else `python -m tests.manpages` makes them anew."""
    assert {path.name: path.read_text(encoding="utf-8") for path in PAGES.iterdir()} == MADE


@pytest.mark.parametrize("name", MADE)
def test_troff_takes_a_page(name: str) -> None:
    need("groff")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-K", "utf8", str(PAGES / name)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "ocitui" in done.stdout
