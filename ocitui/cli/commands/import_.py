"""`ocitui import` and `pull`: what comes into the cache."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
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
    on_mirror,
    run_async,
    source_argument,
    source_options,
    sudo_option,
    with_options,
    writing_cache,
)
from ..output import Call, ExitCode, UsageProblemError, is_terminal, say
from ..selectors import chosen_entries, complete_far_entry, filter_option, need_entries

if TYPE_CHECKING:
    from ocitui.cache import PackerCache
    from ocitui.importing import ImportRequest, ImportResult, ProgressCall
    from ocitui.remote import HostMirror
    from ocitui.threads import Stop

    from ..import_run import Imported

_name_option = click.option("--name", help="The name the daemon will find it by [default: as the source calls it].")
_taking_over = with_options(
    click.option("--rename", is_flag=True, help="Let the name take an entry over that is there under another name."),
    click.option("--again", is_flag=True, help="Bring it in even where the cache has it already."),
)


@click.command("import")
@source_argument
@_name_option
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
@_taking_over
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


@click.command("pull")
@click.argument("place", metavar="ssh://[USER@]HOST[:PORT][/DIR]")
@click.argument("words", metavar="ENTRY...", nargs=-1, shell_complete=complete_far_entry)
@filter_option
@_name_option
@_taking_over
@sudo_option
@changing
def pull_command(
    call: Call, /, place: str, words: Sequence[str], filter_text: str | None, sudo: bool, **typed: Any
) -> int:
    """Bring entries of the cache DIR of another host in, over ssh; nothing is installed or changed there.

    ENTRY is a name, a digest or its first digits, with .FORMAT where it matters, in the cache there. What came is
    verified before any of it is stored: the documents by their digests, the packed file by the hash that is on record
    there and by all that is in it. Python 3.6 is enough there; a host without it takes `ocitui export` and `import -`.

    Asks where a name stands for another image now, that the daemon finds.

    Exits with 0 where the cache has the entries then. What came is kept where ctrl+c or a cut line ends it: the same
    again goes on there. ocitui imports says how much that is.
    """
    need_entries(words, filter_text)
    writing_cache(call, "pull entries")
    say(*call.daemon_warning(), err=True)

    def pulled(_: Call, mirror: HostMirror) -> int:
        # Reported while it is known which path its directory stands for.
        return call.reported(lambda: _brought_in(call, _pulled(call, mirror, words, filter_text, sudo, typed)))

    return on_mirror(call, place, pulled, sudo=sudo)


def _pulled(
    call: Call, mirror: HostMirror, words: Sequence[str], filter_text: str | None, sudo: bool, typed: dict[str, Any]
) -> list[Imported]:
    """What the words name in another host's cache, once it is in this one."""
    from ocitui.remote import FarFiles, entries_to_export, pull_entries
    from ocitui.threads import in_thread

    from ..import_run import take_in, travelling

    try:
        index, keys = chosen_entries(replace(call, directory=mirror.directory, read_only=True), words, filter_text)
        entries = run_async(in_thread(lambda _: entries_to_export(mirror.directory, index, keys)))
    except UsageProblemError:
        raise
    except CacheError as error:
        # It has the path of a cache that may be the same on both hosts.
        error.message = f"on {mirror.place.name}: {error.message}"
        if "ocitui" in error.hint:
            error.hint = f"see ocitui list -C {mirror.place}, and ocitui check -C {mirror.place}"
        raise

    async def receive(cache: PackerCache, asked: ImportRequest, progress: ProgressCall) -> list[ImportResult]:
        async with FarFiles(mirror.place, sudo=sudo) as files:
            return await pull_entries(cache, entries, files, asked, progress)

    return take_in(call, travelling({"source": str(mirror.place), **typed}), receive)


def _brought_in(call: Call, done: Sequence[Imported]) -> ExitCode:
    """Tell of entries that came from another cache."""
    from ..import_run import imported_json, imported_lines

    lines = (line for one in done for line in imported_lines(one))
    call.answer(lambda: {"entries": [imported_json(call.directory, one) for one in done]}, lines)
    return ExitCode.CLEAN
