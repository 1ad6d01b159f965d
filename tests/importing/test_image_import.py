"""One import through the whole pipeline: every source in every format, what is cached already, and names."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ocitui.cache import CorruptIndexError, ImageName, PackedFormat, PackerCache, ReadOnlyError
from ocitui.importing.errors import LayerError, NamedOtherwiseError, SourceError, TransferError
from ocitui.importing.image_import import ImportOutcome
from ocitui.importing.progress import ImportPhase
from ocitui.importing.staging import BlobStore
from tests.cache.support import SQUASHFS, TAR, digests_and_formats, until
from tests.importing.image_makers import put
from tests.importing.pipeline import (
    LAYERS,
    NAME,
    Run,
    archive_of,
    docker_archive_of,
    image_of,
    in_cache,
    layout_of,
    packed_tree,
    umoci_tree,
    without_root_owner,
)
from tests.importing.registry_server import FaultyRegistry, Reply, Request, digest_of
from tests.importing.sources import make_source
from tests.tools import need

pytestmark = pytest.mark.slow

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners and devices")
IMAGE = image_of(*LAYERS)


@pytest.fixture
def served(registry: FaultyRegistry, quick: None) -> str:
    """The image in a registry, as a source."""
    put(registry, IMAGE, "v1")
    return f"docker://{registry.host}/team/app:v1"


@AS_ROOT
@pytest.mark.parametrize("format", PackedFormat)
@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive", "docker"])
async def test_every_source_in_every_format(
    kind: str, format: PackedFormat, importing: Run, registry: FaultyRegistry, tmp_path: Path, quick: None
) -> None:
    need("mksquashfs", "unsquashfs", "mkfs.erofs")
    layout = layout_of(tmp_path / "layout", IMAGE)
    sources = {
        "oci": lambda: f"oci:{layout}:x",
        "oci-archive": lambda: f"oci-archive:{archive_of(layout, tmp_path / 'layout.tar')}",
        "docker-archive": lambda: f"docker-archive:{docker_archive_of(layout, tmp_path / 'saved.tar')}",
        "docker": lambda: f"docker://{put(registry, IMAGE, 'v1') and registry.host}/team/app:v1",
    }
    result = await importing(sources[kind](), format=format)
    assert result.outcome is ImportOutcome.STORED
    assert result.image.format is format
    made_by_skopeo = kind == "docker-archive"
    await importing.assert_whole(None if made_by_skopeo else IMAGE, NAME, format, result.image.digest)
    expected = without_root_owner(umoci_tree(layout, tmp_path / "umoci"))
    found = packed_tree(result.image.path, format, tmp_path / "unpacked")
    assert found.tree == expected.tree
    assert found.hardlinks == expected.hardlinks
    assert importing.phases[-1] is ImportPhase.STORE
    importing.assert_nothing_left()
    assert importing.desk.blobs.size() == 0


@pytest.mark.parametrize("format", ["tar", "squashfs"])
async def test_packed_files(format: str, importing: Run, tmp_path: Path) -> None:
    source = make_source(tmp_path, format)
    asked = {"platform": None, "format": PackedFormat(format)}
    result = await importing(f"packed:{source.packed}", **asked)
    assert result.outcome is ImportOutcome.STORED
    assert result.image.path.read_bytes() == source.packed.read_bytes()
    await importing.assert_whole(None, NAME, PackedFormat(format), source.digest)
    before = in_cache(importing.directory)
    assert (await importing(f"packed:{source.packed}", **asked)).outcome is ImportOutcome.CACHED
    assert in_cache(importing.directory) == before
    assert (await importing(f"packed:{source.packed}", again=True, **asked)).outcome is ImportOutcome.STORED
    importing.assert_nothing_left()


async def test_the_source_says_the_name(importing: Run, served: str, tmp_path: Path) -> None:
    stored = await importing(served, None, format=TAR)
    assert str(stored.image.name) == served.removeprefix("docker://")
    with pytest.raises(SourceError, match="say no name") as refused:
        await importing(f"packed:{make_source(tmp_path).packed}", None, platform=None)
    assert refused.value.hint


async def transactions(run: Run) -> int:
    return len(await run.cache.transactions())


async def test_what_is_cached_is_neither_fetched_nor_packed(
    importing: Run, served: str, registry: FaultyRegistry
) -> None:
    first = await importing(served, format=TAR)
    before, layers, steps = in_cache(importing.directory), len(registry.asked("/blobs/")), await transactions(importing)
    again = await importing(served, format=TAR)
    assert again.outcome is ImportOutcome.CACHED
    assert again.image.digest == first.image.digest
    assert in_cache(importing.directory) == before
    assert await transactions(importing) == steps
    assert len(registry.asked("/blobs/")) == layers + 1, "the config alone is looked at"


async def test_another_format_of_it_is_packed(importing: Run, served: str) -> None:
    need("mksquashfs")
    await importing(served, format=TAR)
    assert (await importing(served, format=SQUASHFS)).outcome is ImportOutcome.STORED
    before = in_cache(importing.directory)
    for format in (TAR, SQUASHFS):
        assert (await importing(served, format=format)).outcome is ImportOutcome.CACHED
    assert in_cache(importing.directory) == before
    assert [key[1] for key in digests_and_formats(importing.directory)[-2:]] == ["tar", "squashfs"]


async def test_a_name_that_another_image_took_is_won_back(
    importing: Run, served: str, registry: FaultyRegistry
) -> None:
    await importing(served, format=TAR)
    other = put(registry, image_of(LAYERS[0]), "v2")
    await importing(served.replace(":v1", ":v2"), format=TAR, repoint=True)
    await importing.assert_whole(other, NAME, TAR)
    asked, steps = len(registry.asked("/blobs/")), await transactions(importing)
    inode = (importing.directory / f"{IMAGE.digest}.tar").stat().st_ino
    assert (await importing(served, format=TAR, repoint=True)).outcome is ImportOutcome.RENAMED
    await importing.assert_whole(IMAGE, NAME, TAR)
    assert (importing.directory / f"{IMAGE.digest}.tar").stat().st_ino == inode
    assert len(registry.asked("/blobs/")) == asked + 1
    assert await transactions(importing) == steps + 1


async def test_another_name_has_to_be_asked_for(importing: Run, served: str, registry: FaultyRegistry) -> None:
    await importing(served, format=TAR)
    before, asked = in_cache(importing.directory), len(registry.asked("/blobs/"))
    for again in (False, True):
        with pytest.raises(NamedOtherwiseError, match=r"in format tar as example\.com/team/app:1") as refused:
            await importing(served, "other:2", format=TAR, again=again)
        assert "--rename" in refused.value.hint
    assert in_cache(importing.directory) == before
    assert len(registry.asked("/blobs/")) == asked + 2, "no layer was fetched"
    packed = importing.directory / f"{IMAGE.digest}.tar"
    inode, phases = packed.stat().st_ino, len(importing.heard)
    renamed = await importing(served, "other:2", format=TAR, rename=True)
    assert renamed.outcome is ImportOutcome.RENAMED
    assert packed.stat().st_ino == inode
    assert {now.phase for now in importing.heard[phases:]} == {ImportPhase.INSPECT}
    await importing.assert_whole(IMAGE, "other:2", TAR)
    assert await importing.cache.resolve(ImageName.parse(NAME), TAR) is None


async def test_again_packs_anew(importing: Run, served: str, registry: FaultyRegistry) -> None:
    await importing(served, format=TAR)
    packed = importing.directory / f"{IMAGE.digest}.tar"
    inode, asked = packed.stat().st_ino, len(registry.asked("/blobs/"))
    assert (await importing(served, format=TAR, again=True)).outcome is ImportOutcome.STORED
    assert packed.stat().st_ino != inode
    assert len(registry.asked("/blobs/")) == asked + 3


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("tar", Path.unlink),
        ("tar", lambda path: os.truncate(path, 5000)),
        ("manifest.json", Path.unlink),
        ("config.json", lambda path: path.write_bytes(b"{")),
        ("manifest.json", lambda path: os.truncate(path, 0)),
    ],
    ids=["no packed file", "a cut one", "no manifest", "half a config", "an empty manifest"],
)
@pytest.mark.usefixtures("packed_here")
async def test_what_is_not_whole_is_brought_in_once_more(
    kind: str, damage: object, importing: Run, served: str
) -> None:
    await importing(served, format=TAR)
    assert callable(damage)
    whole = in_cache(importing.directory)
    damage(importing.directory / f"{IMAGE.digest}.{kind}")
    assert (await importing(served, format=TAR)).outcome is ImportOutcome.STORED
    assert in_cache(importing.directory).keys() == whole.keys()
    await importing.assert_whole(IMAGE, NAME, TAR)


async def test_two_requests_share_one_job(importing: Run, served: str, registry: FaultyRegistry) -> None:
    for again in (False, True):
        asked, steps = len(registry.asked("/blobs/")), await transactions(importing)
        both = await asyncio.gather(*(importing(served, format=TAR, again=again) for _ in range(2)))
        assert sorted(result.outcome for result in both) == [ImportOutcome.CACHED, ImportOutcome.STORED]
        assert len(registry.asked("/blobs/")) == asked + 4, "two configs, each layer once"
        assert await transactions(importing) == steps + 1
    assert ImportPhase.WAIT in importing.phases


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_who_waits_for_another_carries_on(
    how: str, importing: Run, served: str, registry: FaultyRegistry
) -> None:
    layer = f"/blobs/{digest_of(IMAGE.layers[0])}"
    stalled, refused = Reply(body=IMAGE.layers[0], cut=100, stall=True), [Reply(403)]

    def answer(request: Request) -> Reply | None:
        """The layer stalls until somebody waits; then the first is refused, where that is how it ends."""
        if layer not in request.path:
            return None
        if ImportPhase.WAIT not in importing.phases:
            return stalled
        return refused.pop() if how == "failed" and refused else None

    registry.rules.append(answer)
    first = asyncio.ensure_future(importing(served, format=TAR))
    await until(lambda: bool(registry.asked(layer)))
    second = asyncio.ensure_future(importing(served, format=TAR))
    await until(lambda: ImportPhase.WAIT in importing.phases)
    if how == "cancelled":
        first.cancel()
    outcome = (await asyncio.gather(first, return_exceptions=True))[0]
    assert isinstance(outcome, asyncio.CancelledError if how == "cancelled" else SourceError)
    assert (await second).outcome is ImportOutcome.STORED
    await importing.assert_whole(IMAGE, NAME, TAR)


async def test_a_read_only_or_corrupt_cache_is_said_before_anything_is_asked(
    importing: Run, served: str, registry: FaultyRegistry
) -> None:
    reader = Run(await PackerCache.open(importing.directory, read_only=True))
    with pytest.raises(ReadOnlyError):
        await reader(served)
    (importing.directory / "index.json").write_bytes(b"{")
    with pytest.raises(CorruptIndexError):
        await Run(PackerCache(importing.directory))(served)
    assert registry.requests == []


async def test_layers_that_two_images_share(importing: Run, served: str, registry: FaultyRegistry) -> None:
    """The first to end leaves those that the second still needs."""
    second = put(registry, image_of(LAYERS[0], LAYERS[0] + bytes(1024)), "v2")
    other = digest_of(second.layers[1])
    registry.once(f"/blobs/{other}", Reply(body=second.layers[1], cut=100, stall=True))
    slow = asyncio.ensure_future(importing(served.replace(":v1", ":v2"), "slow:1", format=TAR))
    await until(lambda: bool(registry.asked(other)))
    await importing(served, format=TAR)
    await slow
    assert len(registry.asked(digest_of(IMAGE.layers[0]))) == 1
    assert importing.desk.blobs.size() == 0


async def test_blobs_that_are_held_stay(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.make_directory()
    path = blobs.directory / digest_of(b"x")
    path.write_bytes(b"x")
    with blobs.held([path]) as whole:
        assert whole
        assert BlobStore(tmp_path).clear() == 0
    with blobs.wanted([path.name]):
        assert blobs.clear() == 0
    assert blobs.clear() == 1
    with blobs.held([path]) as whole:
        assert not whole


async def test_a_layer_is_read_while_others_still_come(importing: Run, registry: FaultyRegistry, quick: None) -> None:
    image = image_of(b"no tar at all" * 500, *LAYERS)
    put(registry, image, "v1")
    other = image.layers[1]
    registry.always(f"/blobs/{digest_of(other)}", Reply(body=other, cut=len(other) // 2, stall=True))
    before = in_cache(importing.directory)
    with pytest.raises(LayerError, match="layer 1"):
        await importing(f"docker://{registry.host}/team/app:v1", format=TAR)
    assert in_cache(importing.directory) == before


async def test_what_a_failed_import_fetched_is_used(importing: Run, served: str, registry: FaultyRegistry) -> None:
    registry.always(f"/blobs/{digest_of(IMAGE.layers[1])}", Reply(503))
    before = in_cache(importing.directory)
    with pytest.raises(TransferError):
        await importing(served, format=TAR)
    assert in_cache(importing.directory) == before
    assert importing.desk.blobs.size() == len(IMAGE.layers[0])
    registry.rules.clear()
    await importing(served, format=TAR)
    assert len(registry.asked(digest_of(IMAGE.layers[0]))) == 1
