"""What was found of a source, in words: the images to choose from, the one that would be taken, what the cache has."""

from __future__ import annotations

from collections.abc import Iterator

from ocitui.cache import ImageName, PackedFormat
from ocitui.importing.inspect import Sight, Standing
from ocitui.importing.requests import ImportRequest
from ocitui.importing.sources.images import ListedImage, SourceImage, SourceKind
from ocitui.importing.sources.packed import PackedSource
from ocitui.text import human_size

from .shorten import counted, short_digests
from .widgets.lines_view import Line, heading
from .widgets.pick_list import PickRow

_KINDS = {
    SourceKind.OCI_LAYOUT: "an OCI layout",
    SourceKind.OCI_ARCHIVE: "an OCI archive",
    SourceKind.DOCKER_ARCHIVE: "a Docker archive",
    SourceKind.REGISTRY: "a registry",
    SourceKind.PACKED: "packed files",
}


def image_rows(sight: Sight) -> list[PickRow]:
    """A row for each image, where there are several to choose from."""
    if len(sight.images) < 2:
        return []
    taken = sight.image
    rows = []
    for number, image in enumerate(sight.images):
        sign = "*" if taken is not None and (image.digest, image.names) == (taken.digest, taken.names) else " "
        rows.append(PickRow(str(number), f"{sign} {', '.join(image.names) or 'no name'}", _row_end(image)))
    return rows


def _row_end(image: ListedImage) -> str:
    size = human_size(image.size)
    return f"{image.platform or 'unknown'!s:<14} {size:>5} {image.digest.rpartition(':')[2][:12]}"


def preview_lines(
    sight: Sight, standing: Standing, request: ImportRequest, missing: dict[PackedFormat, str]
) -> list[Line]:
    """All that is to be known before `y`."""
    lines = [heading(_found(sight))]
    if sight.packed is not None:
        lines += _packed_lines(sight.packed)
    elif sight.image is not None:
        lines += _image_lines(sight.image)
    if sight.refusal is not None:
        lines += [Line(sight.refusal.message, kind="bad")]
        lines.append(Line("choose one above: enter takes it" if len(sight.images) > 1 else sight.refusal.hint))
    if sight.can_be_taken:
        lines += _cache_lines(sight, standing, request)
        lines += _packer_lines(sight, request, missing)
    lines += [Line(note, "note") for note in _notes(sight)]
    return lines


def _found(sight: Sight) -> str:
    count = counted(len(sight.images), "image", "images") if sight.listing else "an image"
    return f"Found in {_KINDS[sight.kind]}: {count}"


def _image_lines(image: SourceImage) -> Iterator[Line]:
    layers = counted(len(image.layers), "layer", "layers")
    yield Line(image.digest, "digest")
    yield Line(f"{image.platform}, {layers}, {human_size(image.size)}", "image")
    if image.names:
        yield Line(", ".join(image.names), "called")


def _packed_lines(packed: PackedSource) -> Iterator[Line]:
    format_, platform = packed.format or "no known format", packed.platform or "no platform"
    yield Line(packed.digest or "unknown", "digest")
    yield Line(f"{format_}, {platform}, {human_size(packed.size)}", "image")
    if packed.problems:
        yield Line()
        yield heading("It cannot be imported")
        yield from (Line(problem, kind="bad") for problem in packed.problems)


def _cache_lines(sight: Sight, standing: Standing, request: ImportRequest) -> Iterator[Line]:
    name = request.name or ""
    format_ = sight.format(request.format)
    if not name:
        yield Line("none: a name is needed", "krata's name", "bad")
    elif ImageName.parse(name).reference == "latest":
        yield Line("the daemon never resolves the tag latest from its cache", "note", "bad")
    if not standing.there:
        yield Line(f"it has nothing of this digest in format {format_}", "cache")
    elif standing.is_other(name):
        called = standing.called or "an entry without a name"
        yield Line(f"it has it in format {format_} as {called}", "cache", "bad")
        yield Line("A digest and format has one name: Y gives that entry the new one, and nothing is packed again.")
    elif request.again:
        yield Line(f"it has it in format {format_} under this name, and it is packed again", "cache")
    else:
        won = "nothing is fetched or packed" if standing.wins else "the name only is made to stand for it"
        yield Line(f"it has it in format {format_} under this name: {won}", "cache", "good")


def _packer_lines(sight: Sight, request: ImportRequest, missing: dict[PackedFormat, str]) -> Iterator[Line]:
    if sight.packed is None and (what := missing.get(request.format)):
        yield Line(f"{request.format} cannot be packed here: {what}, or choose another format", "packer", "bad")


def _notes(sight: Sight) -> list[str]:
    """What the listing and the image say, each once."""
    listing = sight.listing.notes if sight.listing and sight.refusal is None else ()
    image = sight.image.notes if sight.image else ()
    return [short_digests(note) for note in dict.fromkeys((*image, *listing))]
