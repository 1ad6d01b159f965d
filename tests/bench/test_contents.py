"""Reading packed images: listing, one file, and every byte, beside the tools of the format and Python's tarfile.

``pytest tests/bench/test_contents.py --benchmark-enable -s`` prints the figures, of an image of 44,000 paths; an
ordinary run takes a small one, to see that each can be had. All are CPU seconds; nothing is asserted on time.
"""

from __future__ import annotations

import io
import os
import random
import resource
import subprocess
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ocitui.cache import Ledger, PackedFormat
from ocitui.contents import TreeLevel, TreeLines, keep_lines, open_lazily, open_tree
from ocitui.contents.digest import tree_digest
from ocitui.threads import Stop
from ocitui.tui.widgets.file_tree import read_contents
from tests.tools import need

Say = Callable[[str], None]
Packed = dict[PackedFormat, Path]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a line past pytest's capture."""

    def write(text: str) -> None:
        with capsys.disabled():
            print(f"\n    {text}", end="")

    return write


@pytest.fixture
def packed(tmp_path: Path, request: pytest.FixtureRequest) -> Packed:
    """One tree in three formats: directories of 40 files, of which a few are large; half of it compresses."""
    need("mksquashfs", "unsquashfs", "mkfs.erofs")
    count, chance = 44_000 if request.config.getoption("--benchmark-enable") else 400, random.Random(1)
    words = [chance.randbytes(6).hex().encode() for _ in range(500)]
    image = {one: tmp_path / f"image.{one}" for one in PackedFormat}
    with tarfile.open(image[PackedFormat.TAR], "w") as archive:
        folders = ("usr", "usr/share", *(f"usr/share/d{number}" for number in range(-(-count // 40))))
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for number in range(count):
            name, size = f"usr/share/d{number // 40}/file{number}", int(chance.paretovariate(0.9) * 1500) % 3_000_000
            body = b" ".join(chance.choices(words, k=size // 26)) + chance.randbytes(size // 2)
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    squashfs, root = str(image[PackedFormat.SQUASHFS]), tmp_path / "root"
    mksquashfs = ["mksquashfs", "-", squashfs, "-tar", "-quiet", "-no-progress", "-Xcompression-level", "6"]
    with open(image[PackedFormat.TAR], "rb") as tar:
        subprocess.run(mksquashfs, stdin=tar, check=True, capture_output=True)
    with tarfile.open(image[PackedFormat.TAR]) as archive:
        archive.extractall(root, filter="tar")
    subprocess.run(["mkfs.erofs", image[PackedFormat.EROFS], root], check=True, capture_output=True)
    return image


def spent(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def spent_by(*command: str | Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def begin(path: Path, format: PackedFormat, inside: bytes) -> None:
    """From opening a packed file to the first byte of a file in it."""
    with open(path, "rb") as file:
        tree = open_lazily(path, file, format, Stop())
        entry = tree.follow(inside)
        assert entry is not None
        tree.open(entry).read(1)


def keep(path: Path, lines: TreeLines) -> None:
    """Store what is in a packed file, as an import does."""
    ledger = Ledger.open(path.parent)
    ledger.record(path.name, os.stat(path), "a" * 64)
    ledger.flush()
    keep_lines(path.parent, path, lines)


def test_an_image_is_listed_and_read(packed: Packed, say: Say, tmp_path: Path) -> None:
    def listed_by_tarfile() -> None:
        with tarfile.open(packed[PackedFormat.TAR]) as archive:
            archive.getmembers()

    squashfs = packed[PackedFormat.SQUASHFS]
    theirs = spent(listed_by_tarfile)
    say(f"tarfile lists in {theirs:.2f}, unsquashfs -ll in {spent_by('unsquashfs', '-ll', squashfs):.2f}")
    say(f"unsquashfs unpacks in {spent_by('unsquashfs', '-no-progress', '-d', tmp_path / 'out', squashfs):.2f}")
    for format, path in packed.items():
        with open(path, "rb") as file:
            read = partial(open_tree, file, format, Stop())
            listing, tree = min(spent(read) for _ in range(3)), read()
            body = next(entry for entry in range(len(tree) - 1, 0, -1) if tree.sizes[entry])
            one = spent(partial(tree.open(body).read, 1 << 20))
            began = time.perf_counter()
            every = spent(partial(tree_digest, tree, TreeLevel.FULL, Stop()))
            seconds = time.perf_counter() - began
            if format is PackedFormat.TAR:
                alone = min(spent(partial(begin, path, format, tree.path(len(tree) - 1))) for _ in range(3))
                say(f"tar: by path to its first byte without what an import keeps {alone * 1000:.1f} ms")
                keep(path, TreeLines.of(tree, Stop()))
            first = min(spent(partial(begin, path, format, tree.path(len(tree) - 1))) for _ in range(3))
            page = min(spent(partial(read_contents, path, format, "", Stop(), whole=False)) for _ in range(3))
        size = os.path.getsize(path) >> 20
        say(f"{format} ({len(tree)} entries, {size} MiB): listed in {listing:.2f} ({listing / theirs:.2f} of tarfile)")
        say(f"{format}: by path to its first byte {first * 1000:.1f} ms, its root to be shown {page * 1000:.1f} ms")
        say(f"{format}: one file {one * 1000:.1f} ms, the digest of all {every:.2f}, in {seconds:.2f} s")
