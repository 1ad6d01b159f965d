"""`ocitui import`."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import click

from ocitui.cache import CacheError
from ocitui.text import counted

from ..options import (
    COMPRESSIONS,
    FORMATS,
    PACKERS,
    byte_size,
    changing,
    source_argument,
    source_options,
    writing_cache,
)
from ..output import Call, ExitCode, is_terminal, say


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
    "--max-bytes", metavar="SIZE", type=byte_size, help="The most that the layers may unpack to [default: 64G]."
)
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
    -                            an archive from standard input

    Asks where the name stands for another image now, that the daemon finds.

    NAME may also be @DIGEST. A path without a prefix is recognised by what lies there; any other word is the name of an
    image in a registry, without a host on Docker Hub.

    Exits with 0 where the cache has the image then. ctrl+c leaves the cache as it was; what was downloaded is kept, see
    ocitui imports.
    """
    from ocitui.importing import unfinished_imports

    from ..import_run import agreed_login, carry_out, import_request, imported_json, imported_lines

    writing_cache(call, "import an image")
    request = import_request(**typed)
    logins = agreed_login(call, request, login=login, realm=allow_realm)
    count = 0
    with suppress(CacheError):
        count = len(unfinished_imports(call.directory))
    if is_terminal(sys.stderr) or not call.as_json:
        were = counted(count, "import was", "imports were")
        said = [f"{were} interrupted earlier; ocitui imports lists them, and goes on with them"] if count else []
        say(*said, *call.daemon_warning(), err=True)
    done = carry_out(call, request, logins=logins)
    call.answer(lambda: imported_json(call.directory, done), imported_lines(done))
    return ExitCode.CLEAN
