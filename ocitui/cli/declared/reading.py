"""Commands that read."""

from __future__ import annotations

from typing import Literal

import click

from ..exits import ExitCode
from ..options import Settings, format_option, reading


@click.command("list")
@click.option("--filter", "filter_text", metavar="TEXT", default="", help="Words of which each must be found.")
@reading
def list_command(settings: Settings, filter_text: str) -> ExitCode:
    """List the entries and the state of their files.

    TEXT is what the screen's filter takes: words joined by AND, !word excludes, name: tag: digest: format: platform:
    state:bad look in one field, size>100M and size<1G compare the packed file; used: is what a loop device holds.
    """
    from ..listing import list_entries

    return list_entries(settings, filter_text)


@click.command("resolve")
@click.argument("name")
@format_option
@reading
def resolve_command(settings: Settings, name: str, format_: str) -> ExitCode:
    """Say what the daemon would find for NAME, and why.

    Exits with 0 for a hit and 1 for a miss.
    """
    from ..lookups import resolve

    return resolve(settings, name, format_)


@click.command("recall")
@click.argument("digest")
@format_option
@reading
def recall_command(settings: Settings, digest: str, format_: str) -> ExitCode:
    """Say whether the daemon would find the packed file of DIGEST, and why.

    Exits with 0 for a hit and 1 for a miss.
    """
    from ..lookups import recall

    return recall(settings, digest, format_)


@click.command("show")
@click.argument("digest")
@click.argument("kind", type=click.Choice(["manifest", "config"]), default="manifest")
@reading
def show_command(settings: Settings, digest: str, kind: Literal["manifest", "config"]) -> ExitCode:
    """Print a manifest or config: byte for byte, laid out over lines on a terminal.

    DIGEST may be its beginning, with or without sha256:, as long as only one entry's digest begins so.
    """
    from ..documents import show

    return show(settings, digest, kind)


@click.command("verdict")
@reading
def verdict_command(settings: Settings) -> ExitCode:
    """Say what the daemon would do with index.json at its start.

    Exits with 0 where it would load or create it, with 1 where it would lose it or refuse to start.
    """
    from ..verdicts import give_verdict

    return give_verdict(settings)


@click.command("log")
@reading
def log_command(settings: Settings) -> ExitCode:
    """List the transactions, newest first."""
    from ..transactions import show_log

    return show_log(settings)
