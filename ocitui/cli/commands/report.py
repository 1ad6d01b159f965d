"""`ocitui report`: what explains an incident, in one file to send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocitui.cache import check_directory
from ocitui.text import counted, human_size

from ..options import agreeing, ended_by_signals, tell_notes
from ..output import Call, ExitCode, paragraph

if TYPE_CHECKING:
    from typing import BinaryIO

    from ocitui.doctor import Incident

_MODE = 0o600


@click.command("report")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@agreeing
def report_command(call: Call, file: Path) -> ExitCode:
    """Write what explains an incident into FILE, for who is to find out: ocitui FILE opens it, as the host was.

    It holds the index and its backups as they are, the journal and the ledger, what each file's stat and each packed
    file's header says, the documents without what they say of the image, the zones and what they need, loop devices,
    the daemon's state and the end of its log, the disk. It never holds a packed file, a document's environment, labels,
    annotations or commands, a registry's login, or another program's command line. ocitui help report tells more.

    A file that is there already is replaced only after a question, or with --yes.
    """
    from ocitui.cache import refuse_inside, write_outside
    from ocitui.doctor import write_report

    check_directory(call.directory)
    refuse_inside(call.directory, file)
    call.refuse_told("write a report")
    made: list[Incident] = []

    def write(opened: BinaryIO) -> None:
        made.append(write_report(call.directory, opened))

    if there := file.exists():
        call.agree([f"there already: {file}"], "replace it?", lambda: {"replaced": str(file)})
    with ended_by_signals():
        write_outside(call.directory, file, write, replace=there, most=_MODE)
    size, files, notes = file.stat().st_size, len(made[0].files), made[0].notes
    tell_notes(notes)
    held = f"{file} has {human_size(size)}: what there is to tell of {counted(files, 'file')}"
    more = f"the index, names and the end of kratad's log are in it as they are; ocitui {file} opens it"
    told = {"file": str(file), "bytes": size, "files": files, "notes": notes}
    call.answer(lambda: told, [held, *paragraph(more)])
    return ExitCode.CLEAN
