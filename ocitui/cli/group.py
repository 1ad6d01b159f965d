"""The commands by name; any other word is a directory, which the screen opens."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Where each command is declared, and its line in the help, so that the help imports none of them.
COMMANDS = {
    "list": ("reading", "List the entries and the state of their files."),
    "resolve": ("reading", "Say what the daemon would find for a name, and why."),
    "recall": ("reading", "Say whether the daemon would find a packed file, and why."),
    "show": ("reading", "Print a manifest or config."),
    "verdict": ("reading", "Say what the daemon would do with index.json at its start."),
    "why": ("examining", "Say link by link why the daemon answers as it does."),
    "check": ("examining", "Examine the cache: what is wrong, and what would mend it."),
    "repair": ("mending", "Show what would mend the cache; with --apply do it."),
    "point": ("mending", "Make a digest win its name; nothing is deleted."),
    "delete": ("writing", "Take entries out of the index and their files to the trash."),
    "undo": ("writing", "Reverse a transaction."),
    "log": ("reading", "List the transactions, newest first."),
    "trash": ("mending", "List what was taken out of the cache; restore or empty it."),
    "import": ("importing", "Bring an image into the cache."),
    "imports": ("importing", "List interrupted imports, and go on with them."),
    "inspect": ("importing", "Say what an image to be imported is."),
    "help": ("others", "Explain a topic: three in the morning, the daemon, depths, keys and more."),
    "demo": ("others", "Open a small cache made for trying things out."),
    "completion": ("others", "Print what makes a shell complete commands."),
}


class CommandGroup(click.Group):
    """Loads a command when it is asked for; ``opener`` takes a first word that names none."""

    opener: click.Command | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__package__}.declared.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.opener is not None and args[0] not in COMMANDS:
            _refuse_mistyped(ctx, args[0])
            return self.opener.name, self.opener, args
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*found, *options] or [CompletionItem(incomplete, type="dir")]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _refuse_mistyped(ctx: click.Context, word: str) -> None:
    """A bare word that names neither a command nor a file is no directory to wait for. Raises UsageError."""
    if not word or os.sep in word or os.path.lexists(word):
        return
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise click.UsageError(f"there is no command and no directory {word}{meant}", ctx)
