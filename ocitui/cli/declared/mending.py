"""Commands that mend the cache."""

from __future__ import annotations

from typing import Any

import click

from ..doctor_options import Span
from ..exits import ExitCode
from ..options import (
    FORMATS,
    Given,
    Settings,
    directory_option,
    json_option,
    read_only_option,
    reading,
    wait_option,
    writing,
    yes_option,
)
from ..repair_options import AskedRepair, repair_options


@click.command("repair")
@repair_options
@yes_option
@writing
def repair_command(settings: Settings, /, agreed: bool, **asked: Any) -> ExitCode:
    """Show what would mend the cache, step by step and with what it costs; with --apply do it.

    What can be restored is restored, first from the trash, then from loop devices that still hold a file, from the
    other formats of an image, and from what --from and --registry name. Nothing is dropped, adopted or given a name
    unless an option says so. All of it is one transaction, which ocitui undo reverses; what is removed lies in the
    trash.

    After --apply the cache is checked again: exits with 0 where it is clean then, with 3 where problems remain. Without
    it exits with 0 where nothing is wrong, else with 1.
    """
    from ..repairing import repair

    return repair(settings, AskedRepair(**asked), agreed)


@click.command("point")
@click.argument("name")
@click.argument("digest")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="The entry's format, where there are several.")
@yes_option
@writing
def point_command(settings: Settings, name: str, digest: str, format_: str | None, agreed: bool) -> ExitCode:
    """Make DIGEST win NAME: its entry moves to the end of the index, and nothing is deleted.

    The daemon resolves a name to the last entry that carries it. This cures a tag that resolves to the wrong image:
    DIGEST, or its beginning, must be that of an entry with this name. ocitui undo points the name back.
    """
    from ..pointing import point_name

    return point_name(settings, name, digest, format_, agreed)


@click.group("trash", invoke_without_command=True, subcommand_metavar="[COMMAND [ARGS]...]")
@directory_option
@json_option
@read_only_option
@wait_option
@click.pass_context
def trash_command(context: click.Context, /, **shared: Any) -> int:
    """List what transactions took out of the cache; restore files of it, or empty it.

    Without a command it lists. What lies in the trash takes room on the disk until it is emptied, which ocitui never
    does by itself.
    """
    context.obj = Given(**shared).over(context.find_object(Given) or Given())
    return ExitCode.CLEAN if context.invoked_subcommand else int(context.invoke(trash_list_command))


@trash_command.command("list", short_help="List the files, by transaction.")
@reading
def trash_list_command(settings: Settings) -> ExitCode:
    """List the files in the trash by transaction, newest first."""
    from ..trashing import list_trash

    return list_trash(settings)


@trash_command.command("restore", short_help="Bring files back to where they were.")
@click.argument("words", metavar="NAME|ID...", nargs=-1, required=True)
@writing
def trash_restore_command(settings: Settings, words: tuple[str, ...]) -> ExitCode:
    """Bring files back to where they were; nothing that stands there is overwritten.

    NAME is a file's name, in the cache or in the trash, or the beginning of its digest; ID is a transaction, and means
    all the files that it took out. ocitui undo ID brings back the transaction's entries with them.
    """
    from ..trashing import restore_files

    return restore_files(settings, words)


@trash_command.command("empty", short_help="Remove files for good, after a question.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--older-than", metavar="SPAN", type=Span(), help="Only what went there so long ago, as 30d or 12h.")
@yes_option
@writing
def trash_empty_command(settings: Settings, ids: tuple[str, ...], older_than: float | None, agreed: bool) -> ExitCode:
    """Remove what the trash holds for good: all of it, or that of the transactions with these IDs.

    Shows what goes and asks; only the whole word yes confirms. These transactions cannot be undone any more.
    """
    from ..trashing import empty_trash

    return empty_trash(settings, ids, older_than, agreed)
