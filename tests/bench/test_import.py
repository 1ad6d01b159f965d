"""Whole imports of a five-layer image out of an OCI layout, beside the tools that do part of it, in one run.

``pytest tests/bench/test_import.py --benchmark-enable -s`` prints the ratios for 830 MB and 66,970 entries; nothing is
asserted on wall time. An ordinary run takes a small image, to see that it works.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ocitui.importing.packing.packers import BUFFERS
from tests.bench.test_flatten import (
    LARGE,
    LAYERS,
    Taken,
    alternately,
    chunks,
    copy_and_decompress,
    flatten,
    make_layer,
    many,
    measured,
    read_and_copy,
    report,
    rounds,
)
from tests.importing.image_makers import layout_files, make_index, named, write_files
from tests.importing.pipeline import image_of
from tests.tools import need

__all__ = ["many", "rounds"]
CPU_AIM, WALL_AIM, SIZE_AIM, MOST_MIB = 0.7, 0.85, 1.01, 90
IMPORT = """
import asyncio, sys
from ocitui.cache import PackedFormat, PackerCache
from ocitui.importing.image_import import ImportDesk, import_image
from ocitui.importing.inspect import ImportRequest

async def main(format, directory, layout):
    asked = {"format": PackedFormat(format), "platform": "linux/amd64"}
    request = ImportRequest(source=f"oci:{layout}:x", name="bench:1", **asked)
    await import_image(ImportDesk(PackerCache(directory)), request)

asyncio.run(main(*sys.argv[1:]))
"""


class Bench:
    """An image as a layout, its layers and its flattened tar."""

    def __init__(self, place: Path, many: bool) -> None:
        self.place = place
        noise = random.Random(1)
        entries, size = LARGE if many else (200, 10_000)
        pool = noise.randbytes(1 << 22) + b" ".join(b"%x" % noise.getrandbits(40) for _ in range(1 << 19))
        self.layers = [make_layer(place / f"layer{number}", number, entries, size, pool) for number in range(LAYERS)]
        compressed = {b"".join(chunks(path)): path.read_bytes() for path in self.layers}
        image = image_of(*compressed, compress=compressed.__getitem__)
        self.layout = write_files(place / "layout", layout_files(make_index(named(image, "x")), *image.blobs))
        self.tar = place / "ready.tar"
        flatten("tar", self.tar, self.layers)

    def whole_import(self, format: str) -> Taken:
        """Into a new cache; the memory is that of all its processes together."""
        cache = self.place / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        return measured([sys.executable, "-c", IMPORT, format, cache, self.layout], watched=True)

    def mksquashfs(self, *memory: str) -> Taken:
        options = ["-tar", "-comp", "gzip", "-Xcompression-level", "6", "-noappend", "-no-progress", "-quiet", *memory]
        return measured(["mksquashfs", "-", self.place / "out.squashfs", *options], self.tar)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, many: bool) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("import")
    yield Bench(place, many)
    shutil.rmtree(place)


def test_to_squashfs(benchmark: BenchmarkFixture, bench: Bench, rounds: int) -> None:
    need("mksquashfs")
    ours, plain, bounded = alternately(
        rounds,
        lambda: bench.whole_import("squashfs"),
        bench.mksquashfs,
        lambda: bench.mksquashfs("-mem", BUFFERS),
    )
    (packed,) = (bench.place / "cache").glob("*.squashfs")
    size = packed.stat().st_size / (bench.place / "out.squashfs").stat().st_size
    report(
        benchmark,
        wall_to_mksquashfs=ours.wall / plain.wall,
        wall_to_mksquashfs_with_our_memory=ours.wall / bounded.wall,
        wall_aim=WALL_AIM,
        cpu_to_mksquashfs=ours.cpu / plain.cpu,
        cpu_aim=CPU_AIM,
        size_to_mksquashfs=size,
        seconds=ours.wall,
        peak_MiB=ours.peak_mib,
    )
    assert ours.peak_mib < MOST_MIB
    assert size < SIZE_AIM


def test_to_tar(benchmark: BenchmarkFixture, bench: Bench, rounds: int) -> None:
    copying = bench.layers, bench.tar, bench.place / "copy.tar"
    ours, other, least = alternately(
        rounds,
        lambda: bench.whole_import("tar"),
        lambda: copy_and_decompress(*copying),
        lambda: read_and_copy(*copying),
    )
    report(
        benchmark,
        wall_to_copy_and_decompress=ours.wall / other.wall,
        wall_to_read_and_copy=ours.wall / least.wall,
        cpu_to_it=ours.cpu / other.cpu,
        seconds=ours.wall,
        peak_MiB=ours.peak_mib,
    )
    assert ours.peak_mib < MOST_MIB
