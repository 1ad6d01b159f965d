"""What can be asked of an image's source and of an import: the options as they are typed. Nothing heavy is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocitui.directory import FILE_PREFIXES, PREFIXES, paths_from

from .options import FORMATS, byte_size, with_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


# These are known to the importing library too, which is a heavy import; a test holds them together.
COMPRESSIONS = ("gzip", "lzo", "lz4", "xz", "zstd", "lzma", "lz4hc", "deflate", "libdeflate")
_FILE = click.Path()


def complete_source(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """The kinds of sources, and the paths behind them."""
    from click.shell_completion import CompletionItem

    prefix = next((prefix for prefix in PREFIXES if word.startswith(prefix)), "")
    if prefix in FILE_PREFIXES:
        return [CompletionItem(prefix + path) for path in paths_from(word.removeprefix(prefix))]
    begun = [CompletionItem(prefix) for prefix in PREFIXES if word and prefix.startswith(word)]
    return begun or ([] if prefix else [CompletionItem(word, type="file")])


source_argument = click.argument("source", shell_complete=complete_source)
# Their values are fields of ImportRequest, None and False where nothing was typed.
registry_options = with_options(
    click.option("--tls-ca", metavar="FILE", type=_FILE, help="Trust this authority (PEM) besides the system's."),
    click.option("--plain-http", is_flag=True, help="Speak http without TLS; this machine itself is asked so anyway."),
    click.option(
        "--authfile",
        metavar="FILE",
        type=_FILE,
        help="Credentials [default: REGISTRY_AUTH_FILE, else those of skopeo login, else of docker login].",
    ),
    click.option("--mirror", metavar="HOST[:PORT]", help="Fetch images of Docker Hub from this mirror."),
)
source_options = with_options(
    click.option(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="The image's platform, as linux/arm64 [default: this machine's].",
    ),
    registry_options,
    click.option("--manifest", metavar="FILE", type=_FILE, help="For packed: its manifest [default: beside the file]."),
    click.option("--config", metavar="FILE", type=_FILE, help="For packed: its config [default: beside the file]."),
)
import_options = with_options(
    click.option("--name", help="The name the daemon will find it by [default: as the source calls it]."),
    click.option(
        "--format", type=click.Choice(FORMATS), help=f"The packed format [default: {FORMATS[0]}; packed: as it is]."
    ),
    click.option("--compression", type=click.Choice(COMPRESSIONS), help="[default: gzip in squashfs, none in erofs]."),
    click.option("--level", metavar="N", type=int, help="The compression's level [default: 6 for gzip in squashfs]."),
    click.option(
        "--max-bytes", metavar="SIZE", type=byte_size, help="The most that the layers may unpack to [default: 64G]."
    ),
    click.option(
        "--max-entries",
        metavar="N",
        type=click.IntRange(min=1),
        help="The most files that the layers may hold [default: 1000000].",
    ),
    click.option("--rename", is_flag=True, help="Let the name take an entry over that is there under another name."),
    click.option("--again", is_flag=True, help="Bring it in even where the cache has it already."),
    source_options,
)
