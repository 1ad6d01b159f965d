"""`ocitui help [TOPIC]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from itertools import chain

import click

from ocitui.help import TOPICS, styled, topic_text

from ..options import likely
from ..output import ExitCode, is_terminal


def _complete_topic(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    root = context.find_root()
    commands = root.command.list_commands(root) if isinstance(root.command, click.Group) else ()
    return [one for one in (*TOPICS, *commands) if one.startswith(word)]


@click.command("help")
@click.argument("topic", required=False, shell_complete=_complete_topic)
@click.pass_context
def help_command(context: click.Context, topic: str | None) -> ExitCode:
    """Explain TOPIC, or a command; without one, list the topics."""
    root = context.find_root()
    assert isinstance(root.command, click.Group)
    if topic is None:
        lines = _topics()
    elif topic in TOPICS:
        lines = styled(_text(topic), partial(click.style, bold=True) if is_terminal(sys.stdout) else str)
        if topic == "fleet":
            lines = chain(lines, _shipped())
    elif (command := root.command.get_command(root, topic)) is not None:
        lines = iter([command.get_help(click.Context(command, root, topic))])
    else:
        meant = likely(topic, [*TOPICS, *root.command.list_commands(root)])
        raise click.UsageError(f"there is no topic and no command {topic}{meant}")
    for line in lines:
        click.echo(line)
    return ExitCode.CLEAN


def _topics() -> Iterator[str]:
    yield "ocitui help TOPIC explains:"
    yield ""
    yield from (f"  {topic:<14}{line}" for topic, line in TOPICS.items())
    yield ""
    yield "ocitui help COMMAND, or ocitui COMMAND --help, has the options of a command; ocitui --help lists them."


def _shipped() -> Iterator[str]:
    """Where the files lie that come with ocitui for other programs."""
    yield ""
    paths = sorted(map(str, (files("ocitui") / "deploy").iterdir()))
    yield from (f"    {path}" for path in paths if path.endswith(".yml"))


def _text(topic: str) -> str:
    if topic != "keys":
        return topic_text(topic)
    from ocitui.tui import keys_text

    return keys_text()
