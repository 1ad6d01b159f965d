"""Commands that write."""

from __future__ import annotations

from pathlib import Path

import click

from ..exits import ExitCode
from ..options import FORMATS, Settings, reading, writing, yes_option

_FILE = click.Path(path_type=Path)
_manifest_option = click.option(
    "--manifest", metavar="FILE", type=_FILE, help="Its manifest [default: beside the packed file]."
)
_config_option = click.option(
    "--config", metavar="FILE", type=_FILE, help="Its config [default: beside the packed file]."
)
_found_format_option = click.option(
    "--format", "format_", type=click.Choice(FORMATS), help="The packed format [default: as the file's name ends]."
)


@click.command("delete")
@click.argument("digest")
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, help="Only this format, repeatable.")
@yes_option
@writing
def delete_command(settings: Settings, digest: str, formats: tuple[str, ...], agreed: bool) -> ExitCode:
    """Take the entries of DIGEST out of the index and their files to the trash.

    Shows the plan and asks; only the whole word yes confirms. ocitui undo reverses it.
    """
    from ..deleting import delete

    return delete(settings, digest, formats, agreed)


@click.command("undo")
@click.argument("transaction_id", metavar="[ID]", required=False)
@yes_option
@writing
def undo_command(settings: Settings, transaction_id: str | None, agreed: bool) -> ExitCode:
    """Reverse a transaction: the newest that can be, or the one named.

    Asks first where somebody else made it.
    """
    from ..transactions import undo

    return undo(settings, transaction_id, agreed)


@click.command("import")
@click.argument("source")
@click.option("--name", required=True, help="The image name that the daemon will find it by.")
@_found_format_option
@click.option("--platform", metavar="OS/ARCH", help="Refuse an image of another platform.")
@_manifest_option
@_config_option
@click.option("--rename", is_flag=True, help="Let NAME take an entry over that is there under another name.")
@writing
def import_command(
    settings: Settings,
    source: str,
    name: str,
    format_: str | None,
    platform: str | None,
    manifest: Path | None,
    config: Path | None,
    rename: bool,
) -> ExitCode:
    """Bring the image at SOURCE into the cache; SOURCE itself stays as it is.

    SOURCE is packed:FILE, a packed root filesystem with FILE's digest.manifest.json and digest.config.json beside it,
    or named by --manifest and --config. It is checked first: its digests, its documents, its superblock.
    """
    from ..imports import ImportRequest, import_image

    return import_image(settings, ImportRequest(source, manifest, config, format_, platform), name, rename)


@click.command("inspect")
@click.argument("source")
@_found_format_option
@_manifest_option
@_config_option
@reading
def inspect_command(
    settings: Settings, source: str, format_: str | None, manifest: Path | None, config: Path | None
) -> ExitCode:
    """Say what the image at SOURCE is, and what would keep it from being imported.

    Exits with 0 where nothing would, with 1 where something would.
    """
    from ..imports import ImportRequest, inspect_source

    return inspect_source(settings, ImportRequest(source, manifest, config, format_))
