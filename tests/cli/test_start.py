"""What is imported when, usage errors, and that the parts agree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import ocitui as package
from ocitui.cache import PackedFormat
from ocitui.cli import options
from ocitui.cli.commands.completion import COMPLETION_VARIABLE
from ocitui.cli.demo_cache import ALPINE
from ocitui.cli.main import _COMPLETION_VARIABLE, COMMANDS, cli
from ocitui.directory import DEFAULT_DIRECTORY
from tests.cli.conftest import Ocitui
from tests.tools import ROOT

ALL_COMMANDS = list(COMMANDS)


def imported_by(*words: str | Path, place: Path = ROOT) -> set[str]:
    """The modules that a command line imports, by its end; what it writes lands in ``place``."""
    code = "import sys; from ocitui.cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=place,
    )
    return set(done.stderr.splitlines()[-1].split())


LIGHT = {f"ocitui.cache.{name}" for name in ("actor", "errors", "files", "names")}
"""What of the cache costs next to nothing to import."""


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in ALL_COMMANDS)])
def test_help_is_light_and_of_its_own_command_only(words: list[str]) -> None:
    imported = imported_by(*words)
    assert not imported & {"textual", "rich", "msgspec", "asyncio", "ssl", "subprocess"}
    assert {name for name in imported if name.startswith("ocitui.cache.")} <= LIGHT
    assert commands_of(imported) <= commands_for(words[0])


def commands_of(imported: set[str]) -> set[str]:
    return {name for name in imported if name.startswith("ocitui.cli.commands.")}


def commands_for(word: str) -> set[str]:
    """The module of a command; of none, none."""
    return {f"ocitui.cli.commands.{COMMANDS[word][0]}"} if word in COMMANDS else set()


HEADLESS = {
    "list": [],
    "resolve": ["alpine:3.19"],
    "recall": [ALPINE.digest],
    "show": [ALPINE.digest],
    "files": ["alpine:3.19"],
    "cat": ["alpine:3.19", "etc/passwd"],
    "extract": ["alpine:3.19", "etc/passwd", "-o", "out"],
    "export": ["alpine:3.19", "out.tar"],
    "digest": ["alpine:3.19"],
    "find": ["passwd"],
    "diff": ["alpine:3.19", "busybox:1.36", "--text"],
    "verdict": [],
    "why": ["alpine:3.19"],
    "fleet": ["a b"],
    "zones": [],
    "check": ["--depth", "deep"],
    "repair": ["--apply", "--yes"],
    "point": ["alpine:3.19", ALPINE.digest, "--yes"],
    "delete": [ALPINE.digest, "--yes"],
    "prune": ["--unused", "--ask"],
    "pin": [ALPINE.digest],
    "unpin": [ALPINE.digest],
    "undo": [],
    "log": [],
    "report": ["out"],
    "history": [],
    "trash": [],
    "import": ["oci:nowhere"],
    "pull": ["ssh://-bad", "alpine:3.19"],
    "imports": [],
    "inspect": ["oci:nowhere"],
    "units": [],
    "help": ["night"],
    "completion": ["bash"],
}
"""Words with which each command does its work; the demo opens the screen, and a watch has no end."""
WITHOUT_CACHE = {"help", "completion", "fleet"}


def test_every_command_but_the_demo_is_headless() -> None:
    assert set(HEADLESS) == set(ALL_COMMANDS) - {"demo", "watch"}


@pytest.mark.slow
@pytest.mark.parametrize("command", HEADLESS)
def test_a_headless_command_imports_no_textual(command: str, demo: Path, tmp_path: Path) -> None:
    directory = () if command in WITHOUT_CACHE else ("-C", demo)
    imported = imported_by(command, *HEADLESS[command], *directory, place=tmp_path)
    assert "ocitui.cache" in imported or command in WITHOUT_CACHE
    assert not imported & {"textual", "rich", "watchfiles"}


READERS = {name: HEADLESS[name] for name in ("list", "resolve", "recall", "verdict")}
"""What is asked often, and is to answer at once."""


@pytest.mark.parametrize("command", READERS)
def test_a_reader_imports_no_event_loop_and_nothing_that_writes(command: str, demo: Path) -> None:
    imported = imported_by(command, *READERS[command], "-C", demo)
    writing = ("backups", "cache", "changes", "transactions", "undoing", "workspace")
    assert "ocitui.cache.index" in imported
    assert not imported & {f"ocitui.cache.{name}" for name in writing}
    # What each of these costs is a part of the start that can be seen.
    assert not imported & {"asyncio", "socket", "ssl", "ctypes", "tempfile", "shutil", "random", "subprocess", "json"}
    assert not {name for name in imported if name.startswith(("ocitui.doctor.repair", "ocitui.importing"))}


@pytest.mark.slow
def test_no_module_but_the_screen_s_imports_textual() -> None:
    """Not even where a function of it would: each is imported in its turn, and what came with it is named."""
    code = """
import importlib, pkgutil, sys
import ocitui
for module in pkgutil.walk_packages(ocitui.__path__, "ocitui."):
    if module.name.split(".")[1] not in ("tui", "__main__"):
        importlib.import_module(module.name)
        if {"textual", "rich", "watchfiles"} & sys.modules.keys():
            raise SystemExit(module.name)
        print(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) > 100


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_every_command_has_help(command: str, ocitui: Ocitui) -> None:
    done = ocitui(command, "--help")
    assert done.status == 0
    assert done.out.startswith(f"Usage: ocitui {command}")
    assert command in ocitui("--help").out


@pytest.mark.parametrize("command", [name for name in ALL_COMMANDS if name not in {*WITHOUT_CACHE, "demo"}])
def test_every_command_on_a_cache_takes_a_directory_and_json(command: str, ocitui: Ocitui) -> None:
    help_text = ocitui(command, "--help").out
    assert "-C DIR" in help_text
    assert "--json" in help_text


WRITERS = ["repair", "point", "delete", "prune", "undo", "trash", "import", "pull", "imports"]


@pytest.mark.parametrize("command", WRITERS)
def test_every_command_that_writes_can_be_refused_and_can_wait(command: str, ocitui: Ocitui) -> None:
    help_text = ocitui(command, "--help").out
    assert "--read-only" in help_text
    assert "--wait SECONDS" in help_text


@pytest.mark.parametrize("command", [name for name in ALL_COMMANDS if name not in WRITERS])
def test_no_other_command_waits_for_a_lock(command: str, ocitui: Ocitui) -> None:
    assert "--wait SECONDS" not in ocitui(command, "--help").out


def test_check_refuses_and_has_no_lock_to_wait_for(demo: Path, ocitui: Ocitui) -> None:
    assert "--read-only" in ocitui("check", "--help").out
    waited = ocitui("check", "--wait", "60", "--severity", "critical", "-C", demo)
    assert (waited.status, waited.err) == (1, ""), "it is taken all the same from who always types it"


def test_version(ocitui: Ocitui) -> None:
    first, *lines = ocitui("--version").out.splitlines()
    assert first == f"ocitui, version {package.__version__}", "what scripts read"
    assert lines[0].startswith(f"Python {sys.version.split()[0]}, ")
    assert os.uname().release in lines[1]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    told = dict(one.split() for one in lines[3].split(", "))
    assert set(told) == {re.split(r"[^\w.]", one)[0] for one in wanted}
    assert told["msgspec"] == version("msgspec")


def test_a_version_tells_which_programs_there_are(
    tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them is run."""
    program = tmp_path / "mksquashfs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert f"{program}, mkfs.erofs -, " in ocitui("--version").out
    assert not (tmp_path / "ran").exists()


def test_the_light_copies_of_the_cache_s_constants_agree() -> None:
    assert tuple(format_.value for format_ in PackedFormat) == options.FORMATS
    assert _COMPLETION_VARIABLE == COMPLETION_VARIABLE


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["./list"],
        ["/nowhere/at/all"],
        ["chekc"],
        ["--no-mouse", "--theme", "ansi"],
        ["list", "extra"],
        ["list", "--nonsense"],
        ["resolve"],
        ["resolve", "a", "--format", "zip"],
        ["show"],
        ["show", "config", "--filter", ""],
        ["show", "abc", "--filter", "abc"],
        ["undo", "--wait", "-1"],
        ["delete", ""],
        ["import"],
        ["import", "127.0.0.1:1/a", "--format", "zip"],
        ["imports", "--go-on", "--clear"],
        ["imports", "20240601T120000-abcd"],
        ["completion", "tcsh"],
        ["demo"],
    ],
)
def test_usage_errors_are_one_line_and_exit_2(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    done = ocitui(*words, *(["-C", demo] if words and words[0] == "delete" else []))
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("ocitui: ")
    assert done.err.count("\n") == 1


def test_a_usage_error_as_json(ocitui: Ocitui) -> None:
    done = ocitui("resolve", "--json")
    assert done.status == 2
    assert set(done.json) == {"schema", "version", "host", "cache", "error"}
    assert done.json["error"]["code"] == "usage"


def test_without_a_terminal_the_screen_names_what_needs_none(ocitui: Ocitui) -> None:
    done = ocitui("-C", "/tmp")
    assert done.status == 2
    assert "these need none: ocitui check" in done.err
    assert "ocitui help keys" in done.err


def test_the_directory_of_the_environment_and_of_the_options(
    demo: Path, tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCITUI_CACHE", str(demo))
    assert ocitui("list", "--json").json["cache"] == str(demo)
    assert ocitui("list", "--json", "-C", tmp_path).json["cache"] == str(tmp_path)
    assert ocitui("-C", tmp_path, "list", "--json").json["cache"] == str(tmp_path)
    assert ocitui("-C", tmp_path, "list", "--json", "-C", demo).json["cache"] == str(demo)
    monkeypatch.setenv("OCITUI_CACHE", "")
    assert ocitui("verdict", "--json").json["cache"] == str(DEFAULT_DIRECTORY)


def test_read_only_before_the_command_holds_for_it(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("--read-only", "-C", demo, "undo", "--json")
    assert done.status == 4
    assert done.json["error"]["code"] == "read-only"


def test_the_module_and_the_program_are_the_same(demo: Path) -> None:
    command = [sys.executable, "-m", "ocitui", "list", "--json", "-C", str(demo)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["schema"] == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, ocitui: Ocitui) -> None:
    done = ocitui("completion", shell)
    assert done.status == 0
    assert COMPLETION_VARIABLE in done.out


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("ocitui ver", "plain,verdict"), ("ocitui list --fil", "plain,--filter"), ("ocitui ./", "dir,./")],
)
def test_completion_answers(typed: str, expected: str) -> None:
    environment = {
        **os.environ,
        COMPLETION_VARIABLE: "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-m", "ocitui"], capture_output=True, text=True, check=False, timeout=60, env=environment
    )
    assert done.stdout.split() == [expected]
    assert done.stderr == ""


def test_every_command_is_there() -> None:
    context = cli.make_context("ocitui", ["--json"], resilient_parsing=True)
    for name in ALL_COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize(
    "words", [["list", "--json", "-C", "named", "extra"], ["resolve", "-Cnamed", "--json", "--no"]]
)
def test_a_usage_error_names_the_cache_that_was_named(words: list[str], ocitui: Ocitui) -> None:
    assert ocitui(*words).json["cache"].endswith("/named")


def test_a_mistyped_command_is_no_directory(ocitui: Ocitui) -> None:
    assert "no command and no directory chekc; did you mean check?" in ocitui("chekc").err
    assert "no terminal" in ocitui("./chekc").err
