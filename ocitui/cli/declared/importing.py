"""Commands about images that come in."""

from __future__ import annotations

from typing import Any

import click

from ..exits import ExitCode
from ..import_options import AskedImport, AskedSource, import_options, source_argument, source_options
from ..options import FORMATS, Settings, reading, writing, yes_option


@click.command("import")
@source_argument
@import_options
@writing
def import_command(settings: Settings, /, **asked: Any) -> ExitCode:
    """Bring the image at SOURCE into the cache; SOURCE itself stays as it is.

    \b
    oci:DIR[:NAME]               an OCI layout
    oci-archive:FILE[:NAME]      the same in a tar
    docker-archive:FILE[:NAME]   what docker save writes
    docker://HOST/NAME:TAG       an image in a registry
    packed:FILE                  a packed root filesystem, its manifest and config

    NAME may also be @DIGEST. A path without a prefix is recognised by what lies there; any other word is the name of an
    image in a registry, without a host on Docker Hub.

    Exits with 0 where the cache has the image then. ctrl+c leaves the cache as it was; what was downloaded is kept, see
    ocitui imports.
    """
    from ..imports import import_image

    return import_image(settings, AskedImport(**asked))


@click.command("imports")
@click.argument("import_ids", metavar="[ID]...", nargs=-1)
@click.option("--go-on", is_flag=True, help="Carry them out, one after the other.")
@click.option("--forget", is_flag=True, help="Forget them; what was downloaded stays.")
@click.option("--clear", is_flag=True, help="Remove what was downloaded and no import uses, after a question.")
@yes_option
@writing
def imports_command(
    settings: Settings, import_ids: tuple[str, ...], go_on: bool, forget: bool, clear: bool, agreed: bool
) -> ExitCode:
    """List the imports that were interrupted, and the bytes that were downloaded and are kept.

    ID, or its beginning, is what --go-on and --forget are about; without one they are about all.
    """
    if go_on + forget + clear > 1:
        raise click.UsageError("--go-on, --forget and --clear cannot be asked for at once")
    if import_ids and not (go_on or forget):
        raise click.UsageError("an ID is for --go-on or --forget")
    from .. import interrupted

    if clear:
        return interrupted.clear_blobs(settings, agreed)
    if forget:
        return interrupted.forget_imports(settings, import_ids)
    if go_on:
        return interrupted.go_on_with(settings, import_ids)
    return interrupted.list_interrupted(settings)


@click.command("inspect")
@source_argument
@click.option("--format", type=click.Choice(FORMATS), help="For packed: the format [default: as the file's name ends].")
@source_options
@reading
def inspect_command(settings: Settings, /, **asked: Any) -> ExitCode:
    """Say what images are at SOURCE, which one an import would take, and whether the cache has it.

    SOURCE is what ocitui import takes. Nothing is written; of a registry's image only its documents are fetched.

    Exits with 0 where it could be imported, with 1 where something speaks against it.
    """
    from ..inspecting import inspect_source

    return inspect_source(settings, AskedSource(**asked))
