"""`ocitui import`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import CacheError
from ocitui.text import counted

from ..options import (
    COMPRESSIONS,
    FORMATS,
    PACKERS,
    changing,
    run_async,
    source_argument,
    source_options,
    writing_cache,
)
from ..output import Call, ExitCode, is_terminal, say

if TYPE_CHECKING:
    from ocitui.threads import Stop

    from ..import_run import Imported


@click.command("import")
@source_argument
@click.option("--name", help="The name the daemon will find it by [default: as the source calls it].")
@click.option(
    "--format", type=click.Choice(FORMATS), help=f"The packed format [default: {FORMATS[0]}; packed: as it is]."
)
@click.option("--compression", type=click.Choice(COMPRESSIONS), help="[default: gzip in squashfs, none in erofs].")
@click.option("--level", metavar="N", type=int, help="The compression's level [default: 6 for gzip in squashfs].")
@click.option("--packer", type=click.Choice(PACKERS), help="What packs squashfs [default: ocitui itself].")
@click.option(
    "--max-entries",
    metavar="N",
    type=click.IntRange(min=1),
    help="The most files that the layers may hold [default: 1000000].",
)
@click.option("--rename", is_flag=True, help="Let the name take an entry over that is there under another name.")
@click.option("--again", is_flag=True, help="Bring it in even where the cache has it already.")
@source_options
@changing
def import_command(call: Call, /, login: bool, allow_realm: str | None, **typed: Any) -> ExitCode:
    """Bring the image at SOURCE into the cache; SOURCE itself stays as it is.

    \b
    oci:DIR[:NAME]               an OCI layout
    oci-archive:FILE[:NAME]      the same in a tar
    docker-archive:FILE[:NAME]   what docker save writes
    docker://HOST/NAME:TAG       an image in a registry
    packed:FILE                  a packed root filesystem, its manifest and config
    cache:DIR:ENTRY              an entry of another cache
    -                            an archive from standard input, or what ocitui export writes

    Asks where the name stands for another image now, that the daemon finds.

    NAME may also be @DIGEST. A path without a prefix is recognised by what lies there; any other word is the name of an
    image in a registry, without a host on Docker Hub.

    Exits with 0 where the cache has the image then. ctrl+c leaves the cache as it was; what was downloaded is kept, see
    ocitui imports.
    """
    from ocitui.importing import (
        file_start,
        given_by,
        home_path,
        is_cache_tar,
        standard_input_start,
        unfinished_imports,
    )
    from ocitui.threads import in_thread

    from ..import_run import agreed_login, bring_in, carry_out, import_request, imported_json, imported_lines

    writing_cache(call, "import an image")
    source, start = typed["source"], b""
    if is_cache_tar(file_start(home_path(source))):

        def chunks(stop: Stop) -> Iterator[bytes]:
            with open(home_path(source), "rb") as file:
                yield from given_by(file.fileno(), stop)

        return _brought_in(call, bring_in(call, typed | {"login": login, "allow_realm": allow_realm}, chunks))
    request = import_request(**typed)
    logins = agreed_login(call, request, login=login, realm=allow_realm)
    count = 0
    with suppress(CacheError):
        count = len(unfinished_imports(call.directory))
    if is_terminal(sys.stderr) or not call.as_json:
        were = counted(count, "import was", "imports were")
        said = [f"{were} interrupted earlier; ocitui imports lists them, and goes on with them"] if count else []
        say(*said, *call.daemon_warning(), err=True)
    if source == "-":
        start = run_async(in_thread(standard_input_start))
        if is_cache_tar(start):
            return _brought_in(
                call, bring_in(call, typed, lambda stop: chain([start], given_by(sys.stdin.fileno(), stop)))
            )
    done = carry_out(call, request, logins=logins, start=start)
    call.answer(lambda: imported_json(call.directory, done), imported_lines(done))
    return ExitCode.CLEAN


def _brought_in(call: Call, done: Sequence[Imported]) -> ExitCode:
    """Tell of entries that came from another cache."""
    from ..import_run import imported_json, imported_lines

    lines = (line for one in done for line in imported_lines(one))
    call.answer(lambda: {"entries": [imported_json(call.directory, one) for one in done]}, lines)
    return ExitCode.CLEAN
