"""`ocitui extract`: files out of a packed file onto the disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ocitui.text import counted, first_of

from ..options import agreeing
from ..output import Call, ExitCode, Unread
from ..selectors import complete_entry, entry_at, opened_tree


@click.command("extract")
@click.argument("word", metavar="ENTRY", shell_complete=complete_entry)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Where they go.")
@click.option("--privileged", is_flag=True, help="As root: devices, setuid bits and trusted attributes too.")
@agreeing
def extract_command(call: Call, word: str, paths: Sequence[str], output: Path, privileged: bool) -> ExitCode:
    """Write files out of a packed file below DIR, each PATH with all below it, under the paths that they have inside.

    ENTRY is a name, a digest or its first digits, with .FORMAT where it matters; / is all of it. Modes, times, links
    and attributes are restored, owners as root. No link is followed, neither of the image nor below DIR. What is there
    already is replaced only after a question, or with --yes.

    Exits with 1 where there is no such path, and with 4 where the file is damaged; what was written by then stays.
    """
    from ocitui.cache import refuse_inside
    from ocitui.contents import Extraction
    from ocitui.threads import Stop
    from ocitui.words import extracted_lines

    refuse_inside(call.directory, output)
    with opened_tree(call, word, whole=False) as ((digest, format), tree):
        entries = [entry_at(tree, path, follow=False) for path in paths]
        extraction = Extraction(tree, entries, output, privileged=privileged)
        taken = [path.decode("utf-8", "backslashreplace") for path in extraction.in_the_way()]
        if taken:
            lines, question = [f"there already: {first_of(taken)}"], f"replace {counted(len(taken), 'file')}?"
            call.agree(lines, question, lambda: {"replaced": taken})
        done, unread = extraction.run(Stop(), replace=bool(taken)), Unread()
        for place, why in extraction.unread:
            unread.add(word, place, why)
    counts = {"entries": done.entries, "bytes": done.bytes, "left_out": done.left_out}
    about = {"digest": digest, "format": format, "directory": str(output), **counts}
    call.answer(lambda: about | unread.told(), extracted_lines(done, output))
    return ExitCode.UNCHECKED if unread.complained() else ExitCode.CLEAN
