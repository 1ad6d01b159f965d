"""`ocitui inspect`: what a source holds, which image an import would take, and whether the cache has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import CacheError
from ocitui.text import human_size, short_digest

from ..import_options import AskedSource, source_argument, source_options
from ..options import FORMATS, cache_of, reading, run_async
from ..output import emit, say
from ..settings import ExitCode, Settings
from ..tables import Column, lay_out, terminal_width

if TYPE_CHECKING:
    from ocitui.cache import Descriptor
    from ocitui.importing.requests import ImportRequest
    from ocitui.importing.sources.images import ListedImage, SourceImage, SourceListing
    from ocitui.importing.sources.packed import PackedSource


@click.command("inspect")
@source_argument
@click.option("--format", type=click.Choice(FORMATS), help="For packed: the format [default: as the file's name ends].")
@source_options
@reading
def inspect_command(settings: Settings, /, **typed: Any) -> ExitCode:
    """Say what images are at SOURCE, which one an import would take, and whether the cache has it.

    SOURCE is what ocitui import takes. Nothing is written; of a registry's image only its documents are fetched.

    Exits with 0 where it could be imported, with 1 where something speaks against it.
    """
    from ocitui.importing.sources.packed import inspect_packed

    from ..import_requests import packed_files, read_request

    asked = AskedSource(**typed)
    request, files = read_request(asked), packed_files(asked)
    if files is not None:
        return _tell_packed(settings, run_async(inspect_packed(files)), run_async(_cached(settings)))
    preview = run_async(_preview(request))
    cached = run_async(_cached(settings))
    if settings.as_json:
        _emit(settings, preview, cached)
    else:
        say(*_describe(preview, cached))
    return ExitCode.CLEAN if preview.chosen else ExitCode.PROBLEMS


_COLUMNS = (
    Column(""),
    Column("NAME", shrink=True),
    Column("PLATFORM", rank=1),
    Column("DIGEST", rank=2),
    Column("SIZE", right=True, rank=4),
    Column("LAYERS", right=True, rank=5),
    Column("CACHED AS", rank=3),
)


@dataclass(frozen=True, slots=True)
class Cached:
    """The entries of the cache, for looking images up; ``problem`` is why there are none to look at."""

    descriptors: Sequence[Descriptor] = ()
    problem: str = ""

    def of(self, digest: str | None) -> list[Descriptor]:
        return [one for one in self.descriptors if one.digest == digest]

    def json_of(self, digest: str | None) -> list[dict[str, Any]] | None:
        """None where the cache could not be read."""
        if self.problem:
            return None
        return [{"format": one.format, "name": one.image_name} for one in self.of(digest)]


@dataclass(frozen=True, slots=True)
class Preview:
    """All that a source holds; ``chosen`` is what an import takes, None with the ``problem`` that keeps it from it."""

    listing: SourceListing
    chosen: SourceImage | None
    problem: str

    @property
    def notes(self) -> list[str]:
        notes = dict.fromkeys((*self.listing.notes, *(self.chosen.notes if self.chosen else ())))
        return [note for note in notes if note not in self.problem]


async def _preview(request: ImportRequest) -> Preview:
    from ocitui.importing.errors import SourceError
    from ocitui.importing.sources.opening import open_source

    notes: list[str] = []
    source = await open_source(request.source, request.source_options(notes.append))
    try:
        listing = await source.listing()
        try:
            return Preview(listing, await source.resolve(), "")
        except SourceError as error:
            return Preview(listing, None, error.one_line)
    finally:
        await source.close()


async def _cached(settings: Settings) -> Cached:
    try:
        return Cached(await cache_of(settings).list())
    except CacheError as error:
        return Cached(problem=error.message)


def _emit(settings: Settings, preview: Preview, cached: Cached) -> None:
    listing, chosen = preview.listing, preview.chosen
    emit(
        settings,
        source=listing.source,
        kind=listing.kind.value,
        images=[_image_json(image, chosen, cached) for image in listing.images],
        notes=preview.notes,
        problems=[preview.problem] if preview.problem else [],
    )


def _image_json(image: ListedImage, chosen: SourceImage | None, cached: Cached) -> dict[str, Any]:
    taken = chosen is not None and _is_chosen(image, chosen)
    return {
        "names": list(image.names),
        "platform": str(image.platform) if image.platform else None,
        "digest": image.digest,
        "size": image.size,
        "layers": image.layers,
        "taken": taken,
        "name": str(chosen.image_name) if taken and chosen and chosen.image_name else None,
        "cached": cached.json_of(image.digest),
    }


def _is_chosen(image: ListedImage, chosen: SourceImage) -> bool:
    return (image.digest, image.names) == (chosen.digest, chosen.names)


def _describe(preview: Preview, cached: Cached) -> list[str]:
    listing, chosen = preview.listing, preview.chosen
    rows = [_row(image, chosen, cached) for image in listing.images]
    lines = list(lay_out(_COLUMNS, rows, terminal_width()))
    if chosen is not None:
        named = f"named {chosen.image_name}" if chosen.image_name else "which needs a --name, as the source gives none"
        lines.append(f"an import takes {chosen.digest}, {named}")
        lines += [f"the cache has it {text}" for text in _entries(cached.of(chosen.digest))]
    else:
        lines.append(f"an import takes none: {preview.problem}")
    lines += [f"note: {note}" for note in preview.notes]
    return lines + _problem_of(cached)


def _row(image: ListedImage, chosen: SourceImage | None, cached: Cached) -> list[str]:
    return [
        ">" if chosen is not None and _is_chosen(image, chosen) else " ",
        ", ".join(image.names),
        str(image.platform or ""),
        short_digest(image.digest),
        human_size(image.size),
        "" if image.layers is None else str(image.layers),
        " ".join(one.format or "?" for one in cached.of(image.digest)),
    ]


def _entries(found: Sequence[Descriptor]) -> list[str]:
    return [f"as {one.format or 'no format'}, named {one.image_name or 'nothing'}" for one in found]


def _problem_of(cached: Cached) -> list[str]:
    return [f"note: whether the cache has it is not known: {cached.problem}"] if cached.problem else []


def _tell_packed(settings: Settings, source: PackedSource, cached: Cached) -> ExitCode:
    if settings.as_json:
        emit(settings, source=str(source.files.packed), kind="packed", images=[_packed_json(source, cached)], notes=[])
    else:
        say(*_describe_packed(source, cached))
    return ExitCode.PROBLEMS if source.problems else ExitCode.CLEAN


def _packed_json(source: PackedSource, cached: Cached) -> dict[str, Any]:
    return {
        "names": [],
        "platform": source.platform or None,
        "digest": source.digest,
        "format": source.format,
        "size": source.size,
        "layers": _layers(source),
        "taken": not source.problems,
        "name": None,
        "cached": cached.json_of(source.digest),
        "problems": list(source.problems),
    }


def _layers(source: PackedSource) -> int | None:
    return len(source.manifest.value.layers) if source.manifest else None


def _describe_packed(source: PackedSource, cached: Cached) -> list[str]:
    layers = _layers(source)
    facts = {
        "file": f"{source.files.packed}, {human_size(source.size)}",
        "format": source.format or "unknown",
        "digest": source.digest or "unknown",
        "platform": source.platform or "unknown",
        "layers": "unknown" if layers is None else str(layers),
    }
    lines = [f"{name + ':':<10} {fact}" for name, fact in facts.items()]
    lines += [f"{'cached:':<10} {text}" for text in _entries(cached.of(source.digest))]
    return lines + [f"{'problem:':<10} {problem}" for problem in source.problems] + _problem_of(cached)
