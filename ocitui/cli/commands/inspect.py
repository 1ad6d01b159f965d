"""`ocitui inspect`: what a source holds, which image an import would take, and whether the cache has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ocitui.cache import CacheError, known_format
from ocitui.text import human_size, short_digest

from ..options import FORMATS, reading, run_async, source_argument, source_options
from ..output import Call, Column, ExitCode, table

if TYPE_CHECKING:
    from ocitui.cache import Descriptor
    from ocitui.importing import Inspection, ListedImage, PackedSource, Standing


@click.command("inspect")
@source_argument
@click.option("--format", type=click.Choice(FORMATS), help="For packed: the format [default: as the file's name ends].")
@source_options
@reading
def inspect_command(call: Call, /, login: bool, allow_realm: str | None, **typed: Any) -> ExitCode:
    """Say what images are at SOURCE, which one an import would take, and whether the cache has it.

    SOURCE is what ocitui import takes. Nothing is written, but for what standard input gives, which is kept meanwhile;
    of a registry's image only its documents are fetched.

    Exits with 0 where it could be imported, with 1 where something speaks against it.
    """
    from ocitui.importing import inspect_source, standing_of
    from ocitui.words import size_lines

    from ..import_run import agreed_login, read_request, with_realms

    request = read_request(**typed)
    logins = agreed_login(call, request, login=login, realm=allow_realm)

    async def see() -> tuple[Inspection, Cached]:
        form, place = known_format(typed["format"]), None if call.read_only else call.directory
        found = await inspect_source(request, format=form, directory=place, logins=logins)
        try:
            cache = call.cache()
            return found, Cached(await cache.list(), standing=await standing_of(cache, found, request))
        except CacheError as error:
            return found, Cached(problem=error.message)

    inspection, cached = with_realms(call, lambda: run_async(see()))
    packed = inspection.packed
    lines = _describe_packed(packed, cached) if packed else _describe(inspection, cached)
    if inspection.image is not None:
        sizes = size_lines(inspection.image, cached.standing, request)
        lines = chain(lines, (f"{line.label}: {line.text}" for line in sizes))
    told = partial(_packed_json, inspection.packed, cached) if inspection.packed else partial(_json, inspection, cached)
    call.answer(told, chain(lines, cached.note))
    return ExitCode.CLEAN if inspection.can_be_taken else ExitCode.PROBLEMS


_COLUMNS = (
    Column(""),
    Column("NAME", shrink=True),
    Column("PLATFORM", rank=1),
    Column("DIGEST", rank=2),
    Column("SIZE", right=True, rank=4),
    Column("LAYERS", right=True, rank=5),
    Column("CACHED AS", rank=3),
)


class Cached(NamedTuple):
    """The entries of the cache, and what it has of what would be taken; ``problem`` is why nobody can tell."""

    descriptors: Sequence[Descriptor] = ()
    problem: str = ""
    standing: Standing | None = None

    @property
    def note(self) -> list[str]:
        return [f"note: whether the cache has it is not known: {self.problem}"] if self.problem else []

    def of(self, digest: str | None) -> list[Descriptor]:
        return [one for one in self.descriptors if one.digest == digest]

    def json_of(self, digest: str | None) -> list[dict[str, Any]] | None:
        """None where the cache could not be read."""
        if self.problem:
            return None
        return [{"format": one.format, "name": one.image_name} for one in self.of(digest)]


def _json(inspection: Inspection, cached: Cached) -> dict[str, Any]:
    assert inspection.listing is not None
    return {
        "source": inspection.listing.source,
        "kind": inspection.kind.value,
        "images": [_image_json(image, inspection, cached) for image in inspection.images],
        "notes": list(inspection.notes),
        "login": inspection.listing.login,
        "problems": [inspection.refusal.one_line] if inspection.refusal else [],
    }


def _image_json(image: ListedImage, inspection: Inspection, cached: Cached) -> dict[str, Any]:
    taken = inspection.is_taken(image)
    return {
        "names": list(image.names),
        "platform": str(image.platform) if image.platform else None,
        "digest": image.digest,
        "size": image.size,
        "layers": image.layers,
        "taken": taken,
        "name": str(inspection.name) if taken and inspection.name else None,
        "cached": cached.json_of(image.digest),
        "kept": cached.standing.kept if taken and cached.standing else None,
        "layers_kept": cached.standing.layers if taken and cached.standing else None,
        "problem": image.problem or None,
    }


def _describe(inspection: Inspection, cached: Cached) -> Iterator[str]:
    rows = [_row(image, inspection, cached) for image in inspection.images]
    yield from table(_COLUMNS, rows)
    if inspection.image is not None:
        named = f"named {inspection.name}" if inspection.name else "which needs a --name, as the source gives none"
        yield f"an import takes {inspection.digest}, {named}"
        yield from (f"the cache has it {text}" for text in _entries(cached.of(inspection.digest)))
    elif inspection.refusal is not None:
        yield f"an import takes none: {inspection.refusal.one_line}"
    if inspection.listing is not None and inspection.listing.login:
        yield f"logged in as {inspection.listing.login}"
    yield from (f"note: {note}" for note in inspection.notes)


def _row(image: ListedImage, inspection: Inspection, cached: Cached) -> list[str]:
    return [
        ">" if inspection.is_taken(image) else " ",
        ", ".join(image.names),
        str(image.platform or ""),
        short_digest(image.digest),
        human_size(image.size),
        "" if image.layers is None else str(image.layers),
        " ".join(one.format or "?" for one in cached.of(image.digest)),
    ]


def _entries(found: Sequence[Descriptor]) -> list[str]:
    return [f"as {one.format or 'no format'}, named {one.image_name or 'nothing'}" for one in found]


def _packed_json(source: PackedSource, cached: Cached) -> dict[str, Any]:
    image = {
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
    return {"source": str(source.files.packed), "kind": "packed", "images": [image], "notes": [], "login": None}


def _layers(source: PackedSource) -> int | None:
    return len(source.manifest.value.layers) if source.manifest else None


def _describe_packed(source: PackedSource, cached: Cached) -> Iterator[str]:
    layers = _layers(source)
    facts = [
        ("file", f"{source.files.packed}, {human_size(source.size)}"),
        ("format", source.format or "unknown"),
        ("digest", source.digest or "unknown"),
        ("platform", source.platform or "unknown"),
        ("layers", "unknown" if layers is None else str(layers)),
        *(("cached", text) for text in _entries(cached.of(source.digest))),
        *(("problem", problem) for problem in source.problems),
    ]
    return (f"{f'{name}:':<10} {fact}" for name, fact in facts)
