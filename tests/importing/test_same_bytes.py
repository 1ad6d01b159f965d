"""The same image gives the same packed file: from every source, on one processor and on two, at any time and place."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.cache import Ledger, PackedFormat, PackerCache, RecordedSource, record_stored
from ocitui.importing.packing.packing import packer_of
from tests.importing.image_makers import put
from tests.importing.layer_support import Item, digest_of, folder, hard, layer, pack_layers, sources
from tests.importing.pipeline import LAYERS, Run, archive_of, docker_archive_of, image_of, layout_of
from tests.importing.registry_server import FaultyRegistry
from tests.importing.test_packers import AS_ROOT, LOWER, UPPER, mounted
from tests.tools import need

pytestmark = [pytest.mark.slow, AS_ROOT]

NEWEST = 1_650_000_000
PACKERS = {
    PackedFormat.TAR: "ocitui tar",
    PackedFormat.SQUASHFS: r"ocitui squashfs deflate \d[\w.-]*",
    PackedFormat.EROFS: "ocitui erofs",
}


def many_items(seed: int) -> Iterator[Item]:
    """Files that fill fragments and blocks, in folders whose order on a disk is by chance."""
    chance = random.Random(seed)
    for number in range(300):
        if number % 30 == 0:
            yield folder(f"p{number // 30}", mtime=NEWEST - number)
        data = chance.randbytes(chance.choice((0, 100, 5000, 300_000 if number % 20 == 0 else 4096)))
        xattrs = {f"user.{name}": "v" * 20 for name in chance.sample("abcdef", chance.choice((0, 0, 3)))}
        yield Item(f"p{number // 30}/f{number}", data=data * 2, mtime=NEWEST - number, xattrs=xattrs)
        if number % 40 == 0:
            yield hard(f"hard{number}", f"p{number // 30}/f{number}")


TARS = (LAYERS[0], layer(*LOWER), layer(*UPPER), layer(*many_items(1)), LAYERS[1])


@contextmanager
def one_processor() -> Iterator[None]:
    """This thread, and what it starts, has one processor; nobody's time is told to packers but ours."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory."""
    directory = tmp_path / "small"
    directory.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "none", directory], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("cannot mount a tmpfs")
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.mark.parametrize("format", PackedFormat)
async def test_every_source_gives_the_same_bytes(
    format: PackedFormat,
    registry: FaultyRegistry,
    tmp_path: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need("mksquashfs", "mkfs.erofs", "skopeo")
    image = image_of(*TARS)
    layout = layout_of(tmp_path / "layout", image)
    found = set()
    for number, source in enumerate(
        (
            f"oci:{layout}:x",
            f"oci-archive:{archive_of(layout, tmp_path / 'layout.tar')}",
            f"docker-archive:{docker_archive_of(layout, tmp_path / 'saved.tar')}",
            f"docker://{put(registry, image, 'v1') and registry.host}/team/app:v1",
        )
    ):
        directory = tmp_path / "/".join("cache" for _ in range(number + 1)) / str(number)
        directory.mkdir(parents=True)
        run = Run(await PackerCache.open(directory))
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(number))
        if number % 2:
            with one_processor():
                result = await run(source, format=format)
        else:
            result = await run(source, format=format)
        found.add(digest_of(result.image.path.read_bytes()))
        assert result.source is not None
        assert re.fullmatch(PACKERS[format], result.source.packer)
    assert len(found) == 1


@pytest.mark.parametrize("format", [PackedFormat.SQUASHFS, PackedFormat.EROFS])
async def test_on_another_file_system(format: PackedFormat, small: Path, tmp_path: Path) -> None:
    """Which lists folders and attributes in another order, and numbers files otherwise."""
    need("mksquashfs", "mkfs.erofs")
    layers, found = sources(tmp_path / "layers", TARS), set()
    for place in (tmp_path, small):
        await pack_layers(layers, place / "out", format)
        found.add(digest_of((place / "out").read_bytes()))
    assert len(found) == 1


async def test_the_time_is_that_of_the_newest_file(tmp_path: Path) -> None:
    """Not that of the packing, which a test can hardly have pass."""
    need("mksquashfs", "unsquashfs", "mkfs.erofs")
    layers = sources(tmp_path / "layers", [layer(folder("d", mtime=5), Item("d/f", mtime=NEWEST))])
    for format in (PackedFormat.SQUASHFS, PackedFormat.EROFS):
        await pack_layers(layers, tmp_path / format, format)
    squashfs, erofs = (tmp_path / "squashfs").read_bytes(), (tmp_path / "erofs").read_bytes()
    assert struct.unpack_from("<I", squashfs, 8) == (NEWEST,)
    assert struct.unpack_from("<Q", erofs, 1024 + 24) == (NEWEST,)
    with mounted(tmp_path / "squashfs", tmp_path / "mount") as root:
        assert [path.stat().st_mtime for path in (root / "d", root / "d/f")] == [5, NEWEST], "files keep their own"


@pytest.mark.parametrize("format", PackedFormat)
async def test_files_of_a_time_to_come_keep_it(format: PackedFormat, tmp_path: Path) -> None:
    need("mksquashfs", "mkfs.erofs")
    last = (1 << 32) - 1
    layers = sources(tmp_path / "layers", [layer(Item("f", data=b"x", mtime=last))])
    assert await pack_layers(layers, tmp_path / "out", format) == ()
    if format is not PackedFormat.TAR:
        with mounted(tmp_path / "out", tmp_path / "mount") as root:
            assert (root / "f").stat().st_mtime == last


async def test_other_layers_have_another_uuid(tmp_path: Path) -> None:
    need("mkfs.erofs")
    uuids = set()
    for number in range(2):
        layers = sources(tmp_path / f"layers{number}", [layer(Item("f", data=b"%d" % number))])
        await pack_layers(layers, tmp_path / f"out{number}", PackedFormat.EROFS)
        uuids.add((tmp_path / f"out{number}").read_bytes()[1024 + 48 : 1024 + 64])
    assert len(uuids) == 2


def test_what_was_asked_of_a_packer_is_recorded_with_it(tmp_path: Path) -> None:
    need("mksquashfs", "mkfs.erofs")
    said = packer_of(PackedFormat.SQUASHFS, "zstd", 3)
    assert re.fullmatch(r"mksquashfs \d[\w.-]* zstd 3", said)
    assert re.fullmatch(r"mkfs.erofs \d[\w.-]* lz4", packer_of(PackedFormat.EROFS, "lz4", None))
    packed = tmp_path / f"sha256:{'1' * 64}.squashfs"
    packed.write_bytes(b"packed")
    record_stored(tmp_path, packed, source=RecordedSource("oci:/layout", packer=said))
    recorded = Ledger.open(tmp_path).sources[packed.name]
    assert (recorded.text, recorded.packer) == ("oci:/layout", said)
