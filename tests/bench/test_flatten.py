"""Flattening and packing a five-layer image, beside the tools that do the like, in one run.

``pytest tests/bench/test_flatten.py --benchmark-enable -s`` prints the ratios for 830 MB and 66,970 entries. An
ordinary run takes a small image, to see that it works.
"""

import gzip
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO

import pytest
from backports import zstd
from isal import igzip
from pytest_benchmark.fixture import BenchmarkFixture

from ocitui.contents.tar_headers import Kind
from ocitui.importing.layers.flatten import END, tar_header, tar_padding
from ocitui.importing.layers.layers import BLOCK, Compression, OpenLayer, decompressed
from ocitui.importing.packing.packers import BUFFERS
from tests.importing.layer_support import layer_source
from tests.importing.test_flatten_umoci import make_layout
from tests.tools import ROOT, need

_LOOK = 0.03
"""Seconds between two looks at the memory of processes."""
TO_SKIP = b"\x50\x2a\x4d\x18\x08\0\0\0" + bytes(8)
LAYERS, LARGE = 5, (13_394, 11_100)
FLATTEN = """
import asyncio, resource, sys
from pathlib import Path
from ocitui.cache import PackedFormat
from ocitui.importing.layers.layers import LayerSource
from tests.importing.layer_support import pack_layers

known = [text.split("=") for text in sys.argv[3:]]
layers = [LayerSource(Path(path), digest, int(size), diff_id) for path, digest, size, diff_id in known]
asyncio.run(pack_layers(layers, Path(sys.argv[2]), PackedFormat(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@dataclass(frozen=True)
class Taken:
    """What a command and all that it started took; ``peak_mib`` is the largest process, where the command says it, or
    all of them together, where they were watched."""

    wall: float
    cpu: float
    peak_mib: float = 0


@pytest.fixture(scope="module")
def many(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--benchmark-enable"))


@pytest.fixture(scope="module")
def rounds(many: bool) -> int:
    return 3 if many else 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flatten")


@pytest.fixture(scope="module")
def layers(place: Path, many: bool) -> list[Path]:
    """Text and noise, half and half; every layer has as many entries, a twentieth of them links."""
    noise = random.Random(1)
    entries, size = LARGE if many else (200, 10_000)
    pool = noise.randbytes(1 << 22) + b" ".join(b"%x" % noise.getrandbits(40) for _ in range(1 << 19))
    return [make_layer(place / f"layer{number}", number, entries, size, pool) for number in range(LAYERS)]


def gzipped(path: Path) -> IO[bytes]:
    file: IO[bytes] = igzip.open(path, "wb", compresslevel=2)  # type: ignore[no-untyped-call]
    return file


def make_layer(path: Path, layer: int, entries: int, size: int, pool: bytes) -> Path:
    chance = random.Random(layer)
    with gzipped(path) as file:
        for number in range(entries):
            name = b"usr/share/package%d/%04d/file%06d" % (layer, number // 12, number)
            if number % 20 == 0:
                file.write(tar_header(name, Kind.SYMLINK, 0o777, 0, 0, 0, 1_600_000_000, link=b"../target"))
                continue
            length = min(int(chance.expovariate(1 / size) * 1.1), 100 * size)
            at = chance.randrange(len(pool) - length)
            file.write(tar_header(name, Kind.FILE, 0o644, 0, 0, length, 1_600_000_000 + number))
            file.write(pool[at : at + length] + bytes(tar_padding(length)))
        file.write(END)
    return path


def measured(command: list[str | Path], stdin: Path | None = None, *, watched: bool = False) -> Taken:
    """Run a command to its end. Raises CalledProcessError."""
    before = time.perf_counter()
    with open(stdin or os.devnull, "rb") as file, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=file, stdout=said, stderr=subprocess.DEVNULL, cwd=ROOT)
        with ThreadPoolExecutor() as pool:
            peak = pool.submit(peak_memory, process.pid) if watched else None
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - before
        said.seek(0)
        last = said.read().strip()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    kib = peak.result() if peak else int(last) if last.isdigit() else 0
    return Taken(wall, usage.ru_utime + usage.ru_stime, kib / 1024)


def peak_memory(pid: int) -> int:
    """In KiB, of a process and all below it until it ends; what they share counts once (PSS)."""
    most = 0
    while now := sum(map(_memory, _family(pid))):
        most = max(most, now)
        time.sleep(_LOOK)
    return most


def _family(pid: int) -> list[int]:
    with suppress(OSError):
        children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return [pid, *chain.from_iterable(_family(int(child)) for child in chain.from_iterable(children))]
    return []


def _memory(pid: int) -> int:
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


known_layer = cache(layer_source)


def flatten(format: str, output: Path, layers: list[Path]) -> Taken:
    output.unlink(missing_ok=True)
    known = [f"{path}={one.digest}={one.size}={one.diff_id}" for path in layers for one in [known_layer(path)]]
    return measured([sys.executable, "-c", FLATTEN, format, output, *known])


def alternately(rounds: int, *steps: Callable[[], Taken]) -> list[Taken]:
    """The best of each step, all having the same chances on a machine that does other things too."""
    runs = [[step() for step in steps] for _ in range(rounds)]
    return [
        Taken(
            min(run.wall for run in runs_of_one),
            min(run.cpu for run in runs_of_one),
            max(run.peak_mib for run in runs_of_one),
        )
        for runs_of_one in zip(*runs, strict=True)
    ]


def report(benchmark: BenchmarkFixture, **figures: float) -> None:
    benchmark.pedantic(lambda: None, rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info.update({name: round(figure, 3) for name, figure in figures.items()})
    print(", ".join(f"{name.replace('_', ' ')} {figure:.3g}" for name, figure in figures.items()))


@pytest.mark.skipif(os.geteuid() != 0, reason="umoci unpacks owners as root only")
def test_cpu_beside_umoci_and_memory(benchmark: BenchmarkFixture, layers: list[Path], place: Path, rounds: int) -> None:
    need("umoci")
    layout = place / "layout"
    make_layout(layout, [b"".join(chunks(path)) for path in layers], [path.read_bytes() for path in layers])

    def unpack() -> Taken:
        shutil.rmtree(place / "bundle", ignore_errors=True)
        return measured(["umoci", "unpack", "--image", f"{layout}:x", place / "bundle"])

    ours, umoci = alternately(rounds, lambda: flatten("tar", place / "out.tar", layers), unpack)
    shutil.rmtree(place / "bundle")
    shutil.rmtree(layout)
    report(benchmark, cpu_to_umoci=ours.cpu / umoci.cpu, cpu_seconds=ours.cpu, peak_MiB=ours.peak_mib)
    assert ours.peak_mib < 150


def test_squashfs_beside_mksquashfs_fed_with_the_tar(
    benchmark: BenchmarkFixture, layers: list[Path], place: Path, rounds: int
) -> None:
    need("mksquashfs")
    tar, output = place / "ready.tar", place / "out.squashfs"
    flatten("tar", tar, layers)

    def pack(*memory: str) -> Taken:
        options = ["-tar", "-comp", "gzip", "-Xcompression-level", "6", "-noappend", "-no-progress", "-quiet", *memory]
        return measured(["mksquashfs", "-", output, *options], tar)

    ours, plain, bounded = alternately(
        rounds,
        lambda: flatten("squashfs", output, layers),
        pack,
        lambda: pack("-mem", BUFFERS),
    )
    report(
        benchmark,
        wall_to_mksquashfs=ours.wall / plain.wall,
        wall_to_mksquashfs_with_our_memory=ours.wall / bounded.wall,
        cpu_to_mksquashfs=ours.cpu / plain.cpu,
        peak_MiB=ours.peak_mib,
    )


def test_erofs_beside_unpacking_and_mkfs(
    benchmark: BenchmarkFixture, layers: list[Path], place: Path, rounds: int
) -> None:
    need("mkfs.erofs", "tar")
    tar, root, output = place / "ready.tar", place / "root", place / "out.erofs"
    flatten("tar", tar, layers)

    def unpack_and_pack() -> Taken:
        shutil.rmtree(root, ignore_errors=True)
        output.unlink(missing_ok=True)
        root.mkdir()
        return together(measured(["tar", "-x", "-C", root], tar), measured(["mkfs.erofs", "--quiet", output, root]))

    ours, other = alternately(rounds, lambda: flatten("erofs", output, layers), unpack_and_pack)
    report(benchmark, cpu_to_unpack_and_mkfs=ours.cpu / other.cpu, cpu_seconds=ours.cpu, peak_MiB=ours.peak_mib)


@pytest.mark.parametrize(
    ("kind", "size", "between"),
    [(kind, size, b"") for kind in ("gzip", "zstd") for size in (12_000, 500)] + [("zstd", 500, TO_SKIP)],
)
def test_many_members_beside_one(benchmark: BenchmarkFixture, kind: str, size: int, between: bytes, many: bool) -> None:
    """As eStargz and zstd:chunked have them, and smaller ones, with a frame to skip between them too."""
    noise = random.Random(1)
    data = b" ".join(b"%x" % noise.getrandbits(40) for _ in range(1 << (22 if many else 14)))
    compress = (lambda part: gzip.compress(part, 1, mtime=0)) if kind == "gzip" else zstd.compress
    whole, parts = compress(data), between.join(compress(data[at : at + size]) for at in range(0, len(data), size))

    def inflate(stream: bytes) -> Taken:
        before = time.perf_counter(), time.process_time()
        blocks = (stream[at : at + BLOCK] for at in range(0, len(stream), BLOCK))
        assert sum(map(len, decompressed(blocks, Compression(kind)))) == len(data)
        return Taken(time.perf_counter() - before[0], time.process_time() - before[1])

    several, one = alternately(3, lambda: inflate(parts), lambda: inflate(whole))
    report(benchmark, cpu_to_one_member=several.cpu / max(one.cpu, 1e-6), members=len(data) // size)


def test_tar_beside_copying_and_decompressing(
    benchmark: BenchmarkFixture, layers: list[Path], place: Path, rounds: int
) -> None:
    tar, copy = place / "ready.tar", place / "copy.tar"
    flatten("tar", tar, layers)
    ours, other, least = alternately(
        rounds,
        lambda: flatten("tar", place / "out.tar", layers),
        lambda: copy_and_decompress(layers, tar, copy),
        lambda: read_and_copy(layers, tar, copy),
    )
    report(
        benchmark,
        wall_to_copy_and_decompress=ours.wall / other.wall,
        cpu_to_it=ours.cpu / other.cpu,
        wall_to_read_and_copy=ours.wall / least.wall,
    )


def read_and_copy(layers: list[Path], tar: Path, copy: Path) -> Taken:
    """What reading the source once takes, and a copy of the result that is on the disk."""
    return together(measured(["cat", *layers]), copied(tar, copy))


def copy_and_decompress(layers: list[Path], tar: Path, copy: Path) -> Taken:
    """The same, with the source decompressed once, in this process."""
    before = time.perf_counter(), time.process_time()
    for path in layers:
        for _ in chunks(path):
            pass
    return together(Taken(time.perf_counter() - before[0], time.process_time() - before[1]), copied(tar, copy))


def copied(tar: Path, copy: Path) -> Taken:
    return together(measured(["cp", "--reflink=never", tar, copy]), measured(["sync", copy]))


def together(*steps: Taken) -> Taken:
    return Taken(sum(step.wall for step in steps), sum(step.cpu for step in steps))


def chunks(path: Path) -> Iterator[bytes]:
    layer = OpenLayer(known_layer(path))
    yield from layer.chunks()
    layer.close()
