"""The checks beside what they cannot do without: stat and read for the quick one, `sha256sum` for the deep one.

``pytest tests/bench/test_doctor.py --benchmark-enable -s`` prints the ratios for 100,000 entries and 512 MB, and what
each depth finds without a ledger. An ordinary run takes a small cache, to see that it works.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ocitui.cache.listing import CacheFiles
from ocitui.doctor.check.examine import examine
from ocitui.doctor.check.index_checks import read_index
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.findings import Depth
from tests.cache.support import CONFIG_TYPE, digest_of, index_bytes
from tests.doctor.examine_support import Sample, bad_positions, descriptor, found, make_sample
from tests.importing.sources import FORMATS, pack
from tests.tools import ROOT, need

DEEP = """
import asyncio, sys, time
from pathlib import Path
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.findings import Depth

began = time.perf_counter()
report = asyncio.run(examine(Path(sys.argv[1]), ExamineOptions(Depth.DEEP)))
seconds = time.perf_counter() - began
assert not report.shown(), report.shown()
# Not getrusage: its peak begins with that of the process this one was forked from.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(seconds, report.coverage.deep, peak)
"""


SOUND_SQUASHFS = struct.pack(
    "<4s4I6H8Q", b"hsqs", 1, 0, 1 << 17, 1, 1, 17, 0, 1, 4, 0, 0, 4000, 3000, 2**64 - 1, 500, 1000, 2**64 - 1, 2**64 - 1
).ljust(4096, b"\0")
"""As much of a squashfs as its header tells."""


@pytest.fixture(scope="module")
def many(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--benchmark-enable"))


def documents(number: int) -> tuple[bytes, bytes]:
    """Documents of an everyday size: three layers, each with a line of history."""
    history = [{"created": "2024-01-01T00:00:00Z", "created_by": f'/bin/sh -c "add {at}"'} for at in range(3)]
    config = json.dumps(
        {
            "created": "2024-01-11T10:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"], "Entrypoint": ["/bin/app"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(b"%d %d" % (number, at)) for at in range(3)]},
            "history": history,
        }
    ).encode()
    blob = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 1000}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
        "layers": [{**blob, "digest": digest_of(b"layer %d %d" % (number, at))} for at in range(3)],
    }
    return json.dumps(manifest).encode(), config


def make_cache(directory: Path, count: int, packed: Callable[[int], bytes], format: str) -> Path:
    """A cache of so many entries."""
    directory.mkdir()
    entries = []
    for number in range(count):
        manifest, config = documents(number)
        digest = digest_of(manifest)
        for suffix, data in (("manifest.json", manifest), ("config.json", config), (format, packed(number))):
            (directory / f"{digest}.{suffix}").write_bytes(data)
        entries.append(descriptor(digest, len(manifest), format, f"team/app{number}:1.{number}"))
    (directory / "index.json").write_bytes(index_bytes(entries))
    return directory


def stat_and_read(directory: Path) -> None:
    """The plain loop: every file's stat, every document's bytes."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        os.stat(path)
        if name.endswith(".json"):
            with open(path, "rb") as file:
                file.read()


async def least(rounds: int, *steps: Callable[[], Awaitable[object]]) -> list[float]:
    """The best time of each step, all having the same chances on a machine that does other things too."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for taken, step in zip(times, steps, strict=True):
            began = time.perf_counter()
            await step()
            taken.append(time.perf_counter() - began)
    return [min(taken) for taken in times]


async def test_quick_beside_a_plain_loop(many: bool, tmp_path: Path) -> None:
    count = 100_000 if many else 1000
    cache = make_cache(tmp_path / "cache", count, lambda _: SOUND_SQUASHFS, "squashfs")
    report = await examine(cache)
    assert report.shown() == []
    assert report.coverage.quick == count
    ours, plain = await least(3 if many else 1, lambda: examine(cache), lambda: asyncio.to_thread(stat_and_read, cache))
    print(f"\nquick, {count:,} entries: {ours:.2f} s, the plain loop {plain:.2f} s, ratio {ours / plain:.2f}")
    if many:
        assert ours / plain < 2


async def test_one_change_among_many(many: bool, tmp_path: Path) -> None:
    count = 100_000 if many else 1000
    cache = make_cache(tmp_path / "cache", count, lambda _: SOUND_SQUASHFS, "squashfs")
    judge = Judge(cache)

    def look(*names: str) -> int:
        """Take in what changed, and look; gives how many entries are bad then."""
        with CacheFiles(cache) as files:
            judge.take(read_index(files, judge.reading.index), names or None)
        for _ in judge.look():
            continue
        return len(bad_positions(judge))

    began = time.perf_counter()
    assert look() == 0
    first = time.perf_counter() - began
    index = judge.reading.index
    assert index is not None
    (cache / f"{index.digests[count // 2]}.config.json").unlink()
    began = time.perf_counter()
    assert look(f"{index.digests[count // 2]}.config.json") == 1
    change = time.perf_counter() - began
    (cache / "index.json").write_bytes(index.without({(index.digests[0], "squashfs")}).data)
    began = time.perf_counter()
    assert look("index.json") == 1
    entry = time.perf_counter() - began
    print(f"\n{count:,} entries: all {first:.2f} s, then a file {change * 1000:.0f} ms, an entry {entry * 1000:.0f} ms")


def noisy_tar(number: int, size: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for at in range(4):
            member = tarfile.TarInfo(f"bin/{'app' if at == 0 else at}")
            member.size = size // 4
            archive.addfile(member, io.BytesIO(random.Random(number * 4 + at).randbytes(size // 4)))
    return buffer.getvalue()


def deep(cache: Path) -> tuple[float, int, float]:
    """Seconds, entries that were checked so deep, and the peak of the process in MiB."""
    command = [sys.executable, "-c", DEEP, str(cache)]
    said = subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=600).stdout.split()
    return float(said[0]), int(said[1]), int(said[2]) / 1024


def sha256sum(cache: Path) -> float:
    began = time.perf_counter()
    subprocess.run(["sha256sum", *map(str, sorted(cache.glob("*.tar")))], check=True, capture_output=True)
    return time.perf_counter() - began


def test_deep_beside_sha256sum(many: bool, tmp_path: Path) -> None:
    need("sha256sum")
    count, size = (16, 32 << 20) if many else (4, 1 << 20)
    cache = make_cache(tmp_path / "cache", count, lambda number: noisy_tar(number, size), "tar")
    first = deep(cache)
    runs = [(deep(cache), sha256sum(cache)) for _ in range(3 if many else 1)]
    ours, plain = min(run[0][0] for run in runs), min(run[1] for run in runs)
    peak = max(run[0][2] for run in runs)
    assert first[1] == runs[0][0][1] == count
    print(
        f"\ndeep, {count * size >> 20} MiB: first {first[0]:.2f} s, then {ours:.2f} s, sha256sum {plain:.2f} s, "
        f"ratio {ours / plain:.2f}, peak {peak:.0f} MiB"
    )
    assert peak < 150
    if many:
        assert ours / plain < 1.2


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    small = make_cache(tmp_path / "small", 4, lambda number: noisy_tar(number, 1 << 18), "tar")
    large = make_cache(tmp_path / "large", 4, lambda number: noisy_tar(number, 1 << 24), "tar")
    assert deep(large)[2] - deep(small)[2] < 16


async def test_what_is_found_without_a_ledger(many: bool, tmp_path: Path) -> None:
    """faults.md measured 21 of 100 flips on a squashfs that hardly compresses, and 1 on an erofs that does not."""
    sample, tries, chance = make_sample(tmp_path), 100 if many else 2, random.Random(1)
    words = " ".join(f"{chance.getrandbits(32):x}" for _ in range(8000))
    (tmp_path / "root" / "etc" / "words").write_text(words)
    print()
    for format_ in FORMATS:
        sample.file(format_).unlink()
        pack(format_, tmp_path / "root", sample.file(format_))
        header = await try_flips(sample, format_, Depth.HEADER, tries, chance)
        read_through = await try_flips(sample, format_, Depth.DEEP, tries, chance)
        print(f"{format_}: of {tries} flips header {header}, deep without a ledger {read_through}")


async def try_flips(sample: Sample, format: str, depth: Depth, tries: int, chance: random.Random) -> int:
    """How many of so many flipped bits are found at a depth, by a check that has no ledger."""
    path = sample.file(format)
    original, count = path.read_bytes(), 0
    for _ in range(tries):
        content = bytearray(original)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        report = await found(sample.directory, depth, keys=frozenset({(sample.digest, format)}), ledger_writes=False)
        count += bool(report.shown())
    path.write_bytes(original)
    return count
