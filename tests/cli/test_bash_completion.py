"""What bash is given to put into the line, where it broke the word at a colon, a quote or a blank."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pexpect
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


CACHE = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": f"sha256:{'ab' * 32}",
    "size": 1,
    "annotations": {"io.containerd.image.name": "registry.example.com:5000/team/a b:1.2"},
}


def environment_of(here: Path) -> dict[str, str]:
    """A cache of one entry, whose name has colons and a blank, and the program."""
    (here / "cache").mkdir(exist_ok=True)
    (here / "cache" / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [CACHE]}))
    return os.environ | {
        "PATH": f"{here / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(here),
        "OCITUI_CACHE": str(here / "cache"),
    }


def ask(here: Path, line: str, *words: str) -> list[str]:
    """The replies to Tab at the end of a line that bash has broken into these words."""
    need("bash")
    environment = environment_of(here)
    script = subprocess.run(
        ["ocitui", "completion", "bash"], env=environment, capture_output=True, text=True, check=True
    )
    command = ["bash", "--norc", "-c", script.stdout + _ASK, "bash", line, *words]
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True, check=True)
    assert not done.stderr
    return [reply for reply in done.stdout.splitlines() if not reply.startswith("compopt +o")]


@pytest.mark.slow
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
        ("ocitui list --filter st", ("ocitui", "list", "--filter", "st"), ["state:"]),
        ("ocitui list --filter !st", ("ocitui", "list", "--filter", "!st"), [r"\!state:"]),
        ("ocitui show s", ("ocitui", "show", "s"), ["sha256:"]),
        ("ocitui repair --adopt ab", ("ocitui", "repair", "--adopt", "ab"), ["ab" * 32 + "="]),
    ],
)
def test_what_goes_on_has_no_blank_behind_it(line: str, words: tuple[str, ...], replies: list[str], here: Path) -> None:
    *options, reply = ask(here, line, *words)
    assert "compopt -o nospace" in options
    assert [reply] == replies


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "words", "replies"),
    [
        ("ocitui import packed:im", ("ocitui", "import", "packed", ":", "im"), ["image.tar"]),
        ("ocitui import --format=sq", ("ocitui", "import", "--format", "=", "sq"), ["squashfs"]),
        ("ocitui import --format ", ("ocitui", "import", "--format", ""), ["squashfs", "erofs", "tar"]),
        ("ocitui insp", ("ocitui", "insp"), ["inspect"]),
        ("ocitui show reg", ("ocitui", "show", "reg"), [r"registry.example.com:5000/team/a\ b:1.2"]),
        ("ocitui show registry.example.com:", ("ocitui", "show", "registry.example.com", ":"), [r"5000/team/a\ b:1.2"]),
        (
            r"ocitui show registry.example.com:5000/team/a\ b:1",
            ("ocitui", "show", "registry.example.com", ":", r"5000/team/a\ b", ":", "1"),
            ["1.2"],
        ),
        ('ocitui show "reg', ("ocitui", "show", '"reg'), ["registry.example.com:5000/team/a b:1.2"]),
        ("ocitui delete sha256:ab", ("ocitui", "delete", "sha256", ":", "ab"), ["ab" * 32]),
        ("ocitui list --filter=state:ba", ("ocitui", "list", "--filter", "=", "state", ":", "ba"), ["bad"]),
    ],
)
def test_what_is_whole_ends(line: str, words: tuple[str, ...], replies: list[str], here: Path) -> None:
    assert ask(here, line, *words) == replies


def test_a_bare_path_is_left_to_bash(here: Path) -> None:
    assert ask(here, "ocitui import ima", "ocitui", "import", "ima") == ["compopt -o default", ""]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("ocitui show reg", "registry.example.com:5000/team/a b:1.2"),
        ("ocitui show registry.example.com:5", "registry.example.com:5000/team/a b:1.2"),
        ("ocitui delete 'reg", "registry.example.com:5000/team/a b:1.2"),
        ("ocitui recall sha256:ab", f"sha256:{'ab' * 32}"),
        ("ocitui list --filter state:ba", "state:bad"),
    ],
)
def test_the_key_in_a_terminal(typed: str, word: str, here: Path) -> None:
    """Tab is pressed in a bash of its own, and the line is then printed word by word."""
    need("bash")
    environment = environment_of(here) | {"PS1": "> ", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    bash = pexpect.spawn("bash", ["--norc", "--noprofile", "-i"], env=environment, encoding="utf-8", timeout=60)
    bash.sendline(
        'PS1=; bind "set enable-bracketed-paste off"; eval "$(ocitui completion bash)"; printf "%s\\n" rea"dy"'
    )
    bash.expect_exact("ready\r\n")
    command, rest = typed.split(" ", 1)
    # The line's first word becomes an argument of printf once it is completed: the key is asked for the last one.
    bash.send(f"{command} {rest}\t")
    bash.send("\x01printf '<%s>' \x05\n")
    bash.expect_exact(f"<{word}>")
    bash.sendline("exit")
    bash.close()


def test_names_that_cannot_be_shown_keep_no_other_from_being_offered(here: Path) -> None:
    for name in (b"im\xff", b"im\ny"):
        (here / os.fsdecode(name)).touch()
    assert ask(here, "ocitui import oci-archive:im", "ocitui", "import", "oci-archive", ":", "im")[-1] == "image.tar"
