"""Commands that examine the cache."""

from __future__ import annotations

from typing import Any

import click

from ..doctor_options import AskedCheck, check_options
from ..options import Settings, writing


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
