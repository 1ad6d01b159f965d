"""What can be asked of a repair, as it is typed. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .doctor_options import depth_option, with_options
from .import_options import SourceText

F = Callable[..., Any]
_FILE = click.Path(path_type=Path)
ANY_KNOWN = "*"
"""What --adopt stands for without a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRepair:
    """A repair; ``adopt`` and ``names`` are written DIGEST=NAME."""

    apply: bool = False
    depth: str = "header"
    only: tuple[str, ...] = ()
    drop: bool = False
    adopt: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    trash_orphans: bool = False
    change_modes: bool = False
    sources: tuple[str, ...] = ()
    registry: bool = False
    even_if_futile: bool = False
    daemon_hangs: bool = False
    tls_ca: Path | None = None
    plain_http: bool = False
    authfile: Path | None = None
    mirror: str | None = None


_OPTIONS = (
    click.option("--apply", is_flag=True, help="Do it, after a question; without it the plan is only shown."),
    click.option(
        "--only",
        metavar="CODE|ID|DIGEST|NAME",
        multiple=True,
        help="Only for these findings, with the steps that are otherwise merely offered. Repeatable.",
    ),
    depth_option,
    click.option(
        "--from",
        "sources",
        metavar="SOURCE",
        type=SourceText(),
        multiple=True,
        help="Restore from here: another cache, or what ocitui import takes. Repeatable.",
    ),
    click.option("--registry", is_flag=True, help="Restore from the registry of the entry's name, by its digest."),
    click.option(
        "--name",
        "names",
        metavar="DIGEST=NAME",
        multiple=True,
        help="The name of an entry that has none, or lost it. Repeatable.",
    ),
    click.option(
        "--adopt",
        metavar="[DIGEST=NAME]",
        is_flag=False,
        flag_value=ANY_KNOWN,
        multiple=True,
        help="Make an entry for complete files without one; alone: for all whose name a backup or the trash tells.",
    ),
    click.option("--trash-orphans", is_flag=True, help="Move files that no entry names to the trash."),
    click.option("--change-modes", is_flag=True, help="Make files readable and writable as their neighbours are."),
    click.option("--drop", is_flag=True, help="Drop entries whose files cannot be restored; their names go with them."),
    click.option("--even-if-futile", is_flag=True, help="Make edits of the index too that kratad will overwrite."),
    click.option(
        "--daemon-hangs", is_flag=True, help="Say that kratactl gets no answers; it cannot be seen from here."
    ),
    click.option("--tls-ca", metavar="FILE", type=_FILE, help="For registries: trust this authority (PEM) too."),
    click.option("--plain-http", is_flag=True, help="For registries: speak http without TLS."),
    click.option("--authfile", metavar="FILE", type=_FILE, help="For registries: credentials."),
    click.option("--mirror", metavar="HOST[:PORT]", help="For Docker Hub's images: this mirror."),
)


def repair_options(function: F) -> F:
    """Give a command the options of a repair; their values are fields of AskedRepair."""
    return with_options(function, _OPTIONS)
