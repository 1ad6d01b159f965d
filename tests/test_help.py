"""What `ocitui help` says: it fits a terminal, and every command and option in it is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ocitui.cli.main import cli
from ocitui.doctor.assessment import HEADLINES, Case
from ocitui.help import TOPICS, paragraphs, styled, topic_text
from ocitui.tui.actions import ACTIONS, keys_text
from ocitui.tui.screens.help import help_lines
from tests.tools import ROOT

TEXTS = {topic: keys_text() if topic == "keys" else topic_text(topic) for topic in TOPICS}


def command_lines(text: str) -> list[list[str]]:
    """The command lines that a text shows, as words: those in blocks, and those in backquotes."""
    shown = [*re.findall(r"^    (ocitui .*?)(?: {2,}.*)?$", text, re.MULTILINE), *re.findall(r"`(ocitui [^`]+)`", text)]
    return [shlex.split(line, comments=True) for line in shown]


def command_of(words: list[str]) -> click.Command | None:
    """The command, or the command within a group, that a command line names."""
    context, command = click.Context(cli), None
    for word in words[1:]:
        group = command if command is not None else cli
        if not isinstance(group, click.Group) or (found := group.get_command(context, word)) is None:
            break
        command = found
    return command


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_fits_a_terminal(topic: str) -> None:
    lines = TEXTS[topic].splitlines()
    assert lines[0].startswith("# ")
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line != line.rstrip() or "\t" in line] == []


@pytest.mark.parametrize("topic", TOPICS)
def test_the_commands_of_a_topic_are_there(topic: str) -> None:
    for words in command_lines(TEXTS[topic]):
        command = command_of(words)
        assert command is not None, words
        options = {name for parameter in (*command.params, *cli.params) for name in parameter.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, words


def test_commands_are_found_in_the_texts() -> None:
    assert len([words for text in TEXTS.values() for words in command_lines(text)]) > 30


def test_a_text_is_read_once_however_much_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = help_lines("index")
    monkeypatch.setattr("ocitui.help.files", lambda _: pytest.fail("it was read before"))
    assert help_lines("index") == before


def test_every_file_is_a_topic() -> None:
    files = {path.stem for path in (ROOT / "ocitui" / "help").glob("*.md")}
    assert files == set(TOPICS) - {"keys"}


@pytest.mark.parametrize("case", [case for case in Case if HEADLINES[case]])
def test_it_advises_what_the_assessment_does(case: Case) -> None:
    assert f"**{HEADLINES[case]}**" in " ".join(TEXTS["daemon"].split())


def test_every_key_is_there() -> None:
    assert all(action.help[:20] in TEXTS["keys"] for action in ACTIONS)


def test_marks_are_for_the_terminal_only() -> None:
    lines = list(styled("# A title\n\n**term** of `code`\n\n    a **block**", lambda text: f"<{text}>"))
    assert lines == ["<A title>", "", "<term> of <code>", "", "    a **block**"]
    assert list(paragraphs("# A title\n\none\n`line`\n\n- a\n  b\n- c\n\n    block")) == [
        "# A title",
        "one line",
        "- a b",
        "- c",
        "    block",
    ]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ocitui", "help", *words], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.slow
def test_the_topics_are_listed_and_explained() -> None:
    listed = run()
    assert listed.returncode == 0
    assert all(topic in listed.stdout for topic in TOPICS)
    assert "five commands" in run("night").stdout
    assert "--depth" in run("check").stdout
    assert "Mark every row" in run("keys").stdout


def test_a_mistyped_topic_is_refused_with_what_was_meant() -> None:
    refused = run("metrix")
    assert refused.returncode == 2
    assert "did you mean metrics?" in refused.stderr


def test_the_topic_of_many_hosts_ends_with_files_that_are_there() -> None:
    paths = [Path(line.strip()) for line in run("fleet").stdout.rpartition("\n\n")[2].splitlines()]
    assert {"rules.yml", "playbook.yml"} <= {path.name for path in paths}
    assert [path for path in paths if not path.is_file()] == []
    assert [path.name for path in paths if f"**{path.name}**" not in TEXTS["fleet"]] == []
