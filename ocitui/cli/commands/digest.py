"""`ocitui digest`: what proves that two packed files hold the same tree."""

from __future__ import annotations

import click

from ..options import reading
from ..output import Call, ExitCode, say_lines
from ..selectors import complete_entry, opened_tree

_LEVELS = ("content", "xattrs", "full")


@click.command("digest")
@click.argument("word", metavar="ENTRY", shell_complete=complete_entry)
@click.option(
    "--level", type=click.Choice(_LEVELS), default="content", show_default=True, help="How much of the tree it is of."
)
@click.option("--lines", "text", is_flag=True, help="Print the text that is hashed, a line a path.")
@reading
def digest_command(call: Call, word: str, level: str, text: bool) -> ExitCode:
    """Print the digest of the tree inside a packed file: the same in all formats, on all hosts, whoever packed it.

    ENTRY is a name, a digest or its first digits, with .FORMAT where it matters. The content is comparable with what
    the daemon packs; xattrs adds the attributes that all formats hold, full the root's own and the times.

    ocitui help contents has the text, line by line. Exits with 4 where a part is damaged: then there is no digest.
    """
    from ocitui.contents import TreeLevel, digest_lines, tree_digest
    from ocitui.threads import Stop

    with opened_tree(call, word) as ((digest, format), tree):
        if text and not call.as_json:
            say_lines(line.removesuffix("\n") for line in digest_lines(tree, TreeLevel(level), Stop()))
            return ExitCode.CLEAN
        found = tree_digest(tree, TreeLevel(level), Stop())
    call.answer(lambda: {"digest": digest, "format": format, "level": level, "tree": found}, [f"{level} {found}"])
    return ExitCode.CLEAN
