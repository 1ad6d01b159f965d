"""Commands that examine the cache."""

from __future__ import annotations

from typing import Any

import click

from ..doctor_options import AskedCheck, check_options
from ..exits import ExitCode
from ..options import FORMATS, Settings, reading, writing

_ALL = "all"


@click.command("check")
@check_options
@writing
def check_command(settings: Settings, /, **asked: Any) -> int:
    """Examine the cache: say what is wrong, what the daemon does about it, and what would mend it.

    No entry is ever changed. A corrupt index.json is copied aside, a sound one is kept as a backup, and the hashes of a
    deep check are recorded, all in .ocitui; with --read-only not even that.

    Every depth also does what the ones before it do. With --json each finding is one line, written when it is found;
    the last line is a summary.

    Exits with 0 where all is well, with 1 where something is wrong: what is only worth knowing (info) and what was
    acknowledged does not count. Exits with 4 where the cache could not be examined.
    """
    from ..checking import check

    return check(settings, AskedCheck(**asked))


@click.command("why")
@click.argument("text", metavar="NAME|DIGEST")
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FORMATS, _ALL]),
    default=FORMATS[0],
    show_default=True,
    help="The packed format; all: every one that there is of it.",
)
@reading
def why_command(settings: Settings, text: str, format_: str) -> ExitCode:
    """Say why the daemon answers as it does for a name or a digest: every link from it to the answer.

    The chain goes on where the daemon stops, and looks where it does not: at digests, headers and recorded hashes.
    DIGEST may be its beginning.

    Exits with 0 for a hit, with 1 for a miss, with 4 where the daemon fails, or would lose the index.
    """
    from ..why_chain import explain_why

    return explain_why(settings, text, None if format_ == _ALL else format_)
