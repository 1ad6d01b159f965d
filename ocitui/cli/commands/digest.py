"""`ocitui digest`: what proves that two packed files hold the same tree."""

from __future__ import annotations

from contextlib import ExitStack

import click

from ..options import images_option, level_option, reading
from ..output import Call, ExitCode, say_lines
from ..selectors import complete_entry, packed_file, tree_in


@click.command("digest")
@click.argument("word", metavar="ENTRY", shell_complete=complete_entry)
@level_option
@click.option("--lines", "text", is_flag=True, help="Print the text that is hashed, a line a path.")
@images_option
@reading
def digest_command(call: Call, word: str, level: str, text: bool, images: bool) -> ExitCode:
    """Print the digest of the tree inside a packed file: the same in all formats, on all hosts, whoever packed it.

    ENTRY is a name, a digest or its first digits, with .FORMAT where it matters. The content is comparable with what
    the daemon packs; xattrs adds the attributes that all formats hold, full the root's own and the times. What a deep
    check found in the file is on record, and told as long as its size and times are the same.

    ocitui help contents has the text, line by line. Exits with 4 where a part is damaged: then there is no digest.
    """
    from ocitui.contents import TreeLevel, TreeStore, digest_lines, text_digest
    from ocitui.threads import Stop

    (digest, format), path = packed_file(call, word)
    kept, wanted = None if images else TreeStore(call.directory).right(path), TreeLevel(level)
    with ExitStack() as stack:
        lines = kept.at(wanted) if kept else digest_lines(stack.enter_context(tree_in(path)), wanted, Stop())
        if text and not call.as_json:
            say_lines(line.removesuffix("\n") for line in lines)
            return ExitCode.CLEAN
        found = text_digest(lines)
    about = {"digest": digest, "format": format, "from": "stored" if kept else "image", "level": level, "tree": found}
    call.answer(lambda: about, [f"{level} {found}"])
    return ExitCode.CLEAN
