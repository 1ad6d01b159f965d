"""Commands that write."""

from __future__ import annotations

import click

from ..exits import ExitCode
from ..options import FORMATS, Settings, writing, yes_option


@click.command("delete")
@click.argument("digest")
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, help="Only this format, repeatable.")
@yes_option
@writing
def delete_command(settings: Settings, digest: str, formats: tuple[str, ...], agreed: bool) -> ExitCode:
    """Take the entries of DIGEST out of the index and their files to the trash.

    Shows the plan and asks; only the whole word yes confirms. ocitui undo reverses it.
    """
    from ..deleting import delete

    return delete(settings, digest, formats, agreed)


@click.command("undo")
@click.argument("transaction_id", metavar="[ID]", required=False)
@yes_option
@writing
def undo_command(settings: Settings, transaction_id: str | None, agreed: bool) -> ExitCode:
    """Reverse a transaction: the newest that can be, or the one named.

    Asks first where somebody else made it.
    """
    from ..transactions import undo

    return undo(settings, transaction_id, agreed)
