"""Caches and archives that other people's programs made, where a directory of them is named; nothing rests on these.

OCITUI_EXTRAS is a directory with `caches/*.tar.xz`, each a cache that krata's daemon wrote, and `images/*.tar`.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from ocitui.cache import ImageName, PackedFormat, PackerCache
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.findings import Depth, Severity
from ocitui.importing.errors import SourceError
from ocitui.importing.sources.images import this_platform
from ocitui.importing.sources.opening import open_source
from tests.cache.support import TAR, tree
from tests.importing.image_makers import run
from tests.importing.pipeline import Run, packed_tree, umoci_tree, without_root_owner
from tests.tools import need

EXTRAS = os.environ.get("OCITUI_EXTRAS")
pytestmark = pytest.mark.skipif(not EXTRAS, reason="only where OCITUI_EXTRAS names a directory of other people's files")


def there(pattern: str) -> list[Path]:
    """At least one file, so that a wrong directory does not pass for a sound one."""
    return (sorted(Path(EXTRAS).glob(pattern)) or [Path(EXTRAS, pattern)]) if EXTRAS else [Path(pattern)]


@pytest.mark.parametrize("archive", there("caches/*.tar.xz"), ids=lambda path: path.name)
async def test_a_cache_of_krata_s_own(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as opened:
        # The first releases of Python 3.11 have no filters.
        opened.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        opened.extractall(tmp_path / "image")
    before, cache = tree(tmp_path / "image"), await PackerCache.open(tmp_path / "image")
    descriptors = await cache.list()
    assert descriptors
    for one in descriptors:
        name, format = ImageName.parse(one.image_name or ""), PackedFormat(one.format or "")
        assert await cache.recall(name, one.digest, format) is not None
        assert (await cache.resolve(name, format) is None) == (name.reference == "latest")
    report = await examine(cache.directory, ExamineOptions(depth=Depth.HEADER))
    assert {one.code for one in report.findings if one.severity is not Severity.INFO} == set()
    done = await cache.delete([one.key for one in descriptors])
    await cache.undo(done.id)
    assert tree(cache.directory) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners and devices")
@pytest.mark.parametrize("archive", there("images/*.tar"), ids=lambda path: path.name)
async def test_an_archive_gives_the_tree_that_umoci_gives(archive: Path, tmp_path: Path) -> None:
    """Each of its images; what is refused, skopeo refuses too."""
    need("umoci", "skopeo")
    try:
        source = await open_source(str(archive))
        images = (await source.listing()).images
    except SourceError:
        with pytest.raises(AssertionError, match="skopeo inspect"):
            run("skopeo", "inspect", f"docker-archive:{archive}")
        return
    importing = Run(await PackerCache.open(tmp_path))
    for number, image in enumerate(images):
        wanted = f":@{number}" if len(images) > 1 else ""
        result = await importing(f"{archive}{wanted}", f"extra:{number}", format=TAR, platform=None)
        found = packed_tree(result.image.path, TAR, tmp_path / "tree")
        assert len(found.tree) > 1
        if any("zstd" in layer.media_type for layer in result.image.manifest.value.layers):
            continue  # umoci reads none
        layout = tmp_path / f"layout{number}"
        architecture = (image.platform or this_platform()).architecture
        one, other = f"{source.kind}:{archive}{wanted}", f"oci:{layout}:x"
        run("skopeo", "--override-arch", architecture, "copy", "-q", one, other)
        assert found == without_root_owner(umoci_tree(layout, tmp_path / f"umoci{number}"))
