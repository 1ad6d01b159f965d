"""What is shown before an import is what the daemon's rules answer after it: which formats of the name are a hit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from ocitui.cache import ImageName, PackedFormat, PackerCache
from ocitui.importing import ImportDesk, ImportRequest, import_image, inspect_source, standing_of
from ocitui.importing.errors import RepointsNameError
from tests.cache.support import write_cache
from tests.importing.image_makers import make_image
from tests.importing.pipeline import layout_of
from tests.tools import seeds

pytestmark = pytest.mark.slow

TAR, SQUASHFS, EROFS = PackedFormat.TAR, PackedFormat.SQUASHFS, PackedFormat.EROFS
NAMES = ("a/b:1", "c/d:2")


async def found(cache: PackerCache, name: str) -> dict[PackedFormat, str]:
    """The digest that each format of a name gives, where its files are there."""
    answers = {}
    for format in PackedFormat:
        image = await cache.resolve(ImageName.parse(name), format)
        if image is not None and await cache.recall(ImageName.parse(name), image.digest, format) is not None:
            answers[format] = image.digest
    return answers


@pytest.mark.parametrize("seed", seeds(6, 200))
@pytest.mark.usefixtures("packed_here")
async def test_what_a_preview_says_is_what_resolve_answers(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    write_cache(tmp_path / "cache", [])
    cache = PackerCache(tmp_path / "cache")
    desk = ImportDesk(cache)
    images = [layout_of(tmp_path / f"layout{number}", make_image(b"%d" % number)) for number in range(3)]
    for _ in range(6):
        request = ImportRequest(
            source=f"oci:{chance.choice(images)}:x",
            name=chance.choice(NAMES),
            format=chance.choice([TAR, SQUASHFS]),
            platform="linux/amd64",
            rename=True,
        )
        if chance.random() < 0.3:
            for path in (await cache.list())[:1]:
                (cache.directory / f"{path.digest}.{path.format}").unlink(missing_ok=True)
        before = await found(cache, request.name or "")
        inspection = await inspect_source(request)
        standing = await standing_of(cache, inspection, request)
        told = ""
        try:
            await import_image(desk, request)
        except RepointsNameError as error:
            told = error.message
            await import_image(desk, replace(request, repoint=True))
        after = await found(cache, request.name or "")
        assert after == dict.fromkeys(standing.hits, inspection.digest)
        assert set(standing.misses) == before.keys() - after.keys()
        assert bool(standing.displaced) == bool(told)
        assert ("it would be a miss then" in told) == bool(standing.misses)
