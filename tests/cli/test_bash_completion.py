"""What bash is given to put into the line, where it broke the word at a colon, a quote or a blank."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import ROOT, need

# `compopt` is only there while bash itself completes; what it is asked is written down.
_ASK = """
compopt() { printf 'compopt %s\\n' "$*"; }
COMP_WORDBREAKS=$' \\t\\n"\\'@><=;|&(:'
COMP_LINE=$1 COMP_POINT=${#1}
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_ocitui_completion ocitui
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with sources in it, and a program `ocitui` for the shell."""
    (tmp_path / "layout" / "blobs").mkdir(parents=True)
    (tmp_path / "a dir:x").mkdir()
    (tmp_path / "image.tar").touch()
    program = tmp_path / "bin" / "ocitui"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ocitui "$@"\n')
    program.chmod(0o755)
    return tmp_path


def ask(here: Path, line: str, *words: str) -> list[str]:
    """The replies to Tab at the end of a line that bash has broken into these words."""
    need("bash")
    environment = os.environ | {
        "PATH": f"{here / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(here),
    }
    script = subprocess.run(
        ["ocitui", "completion", "bash"], env=environment, capture_output=True, text=True, check=True
    )
    command = ["bash", "--norc", "-c", script.stdout + _ASK, "bash", line, *words]
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True, check=True)
    assert not done.stderr
    return [reply for reply in done.stdout.splitlines() if not reply.startswith("compopt +o")]


@pytest.mark.parametrize(
    ("line", "words", "replies"),
    [
        ("ocitui import oci:lay", ("ocitui", "import", "oci", ":", "lay"), ["layout/"]),
        ("ocitui import oci:layout/", ("ocitui", "import", "oci", ":", "layout/"), ["layout/blobs/"]),
        ("ocitui import oci:~/lay", ("ocitui", "import", "oci", ":", "~/lay"), ["~/layout/"]),
        ("ocitui import oci:a", ("ocitui", "import", "oci", ":", "a"), [r"a\ dir:x/"]),
        (r"ocitui import oci:a\ dir:", ("ocitui", "import", "oci", ":", r"a\ dir", ":"), ["x/"]),
        ('ocitui import "oci:a', ("ocitui", "import", '"oci:a'), ["oci:a dir:x/"]),
        ("ocitui import docker-", ("ocitui", "import", "docker-"), ["docker-archive:"]),
    ],
)
def test_what_goes_on_has_no_blank_behind_it(line: str, words: tuple[str, ...], replies: list[str], here: Path) -> None:
    *options, reply = ask(here, line, *words)
    assert "compopt -o nospace" in options
    assert [reply] == replies


@pytest.mark.parametrize(
    ("line", "words", "replies"),
    [
        ("ocitui import packed:im", ("ocitui", "import", "packed", ":", "im"), ["image.tar"]),
        ("ocitui import --format=sq", ("ocitui", "import", "--format", "=", "sq"), ["squashfs"]),
        ("ocitui import --format ", ("ocitui", "import", "--format", ""), ["squashfs", "erofs", "tar"]),
        ("ocitui insp", ("ocitui", "insp"), ["inspect"]),
    ],
)
def test_what_is_whole_ends(line: str, words: tuple[str, ...], replies: list[str], here: Path) -> None:
    assert ask(here, line, *words) == replies


def test_a_bare_path_is_left_to_bash(here: Path) -> None:
    assert ask(here, "ocitui import ima", "ocitui", "import", "ima") == ["compopt -o default", ""]
