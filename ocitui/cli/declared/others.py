"""Commands that work on no cache of the operator's."""

from __future__ import annotations

import click

from ..exits import ExitCode
from ..options import THEMES


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the cache there; without a terminal it is only made.")
@click.option("--theme", type=click.Choice(THEMES), help="Colours [default: by the terminal].")
@click.option("--no-mouse", is_flag=True, help="Leave the mouse to the terminal.")
def demo_command(keep: bool, theme: str | None, no_mouse: bool) -> int:
    """Make a small cache with a few faults in it, in a temporary directory, and open it."""
    from ..demo import run_demo

    return run_demo(keep, theme, mouse=not no_mouse)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> ExitCode:
    """Print what makes SHELL complete ocitui's commands: eval "$(ocitui completion bash)"."""
    from ..completion import completion_script

    click.echo(completion_script(context.find_root().command, shell))
    return ExitCode.CLEAN


@click.command("help")
@click.argument("topic", required=False)
@click.pass_context
def help_command(context: click.Context, topic: str | None) -> ExitCode:
    """Explain TOPIC, or a command; without one, list the topics."""
    from ..help_topics import show_topic

    return show_topic(context, topic)
