"""Small files that unpack to much: bounded in memory, and stopped at the limit that is asked for."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.import_support import snapshot, staged
from tests.cli.test_processes import PROGRAM
from tests.importing.image_makers import (
    OCI_CONFIG,
    OCI_MANIFEST,
    describe,
    layout_files,
    make_index,
    make_tar,
    write_files,
    zstd_compress,
)

pytestmark = pytest.mark.slow
PIECE, PEAK = 16 << 20, 80 << 20
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd_compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
SIZES = [128, pytest.param(1024, marks=pytest.mark.long)]


def bomb(compress: Callable[[bytes], bytes], megabytes: int) -> tuple[bytes, str]:
    """A tar of one file of zeros, compressed in members as small as they get; and its digest, uncompressed."""
    size = megabytes << 20
    header = bytearray(make_tar({"zeros": b""})[:512])
    header[124:136] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    digest = hashlib.sha256(header)
    for _ in range(size // PIECE):
        digest.update(bytes(PIECE))
    digest.update(bytes(1024))
    data = compress(bytes(header)) + compress(bytes(PIECE)) * (size // PIECE) + compress(bytes(1024))
    return data, f"sha256:{digest.hexdigest()}"


MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.stdout.decode(), sep="\\n")
"""


def peak_of(*words: object) -> tuple[int, int, str]:
    """A command's status, the memory in bytes of the largest process that it took, and what it said. It is started by
    a small program: a process begins with the peak of the one that started it."""
    command = [sys.executable, "-c", MEASURE, *PROGRAM, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    status, peak, said = done.stdout.split("\n", 2)
    return int(status), int(peak) << 10, said


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("megabytes", SIZES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_layer(compression: str, megabytes: int, tmp_path: Path, cache: Path) -> None:
    layer, diff_id = bomb(COMPRESSIONS[compression], megabytes)
    assert len(layer) < megabytes << 12
    rootfs = {"type": "layers", "diff_ids": [diff_id]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "history": []}).encode()
    fields = {
        "schemaVersion": 2,
        "config": describe(config, OCI_CONFIG),
        "layers": [describe(layer, "application/vnd.oci.image.layer.v1.tar")],
    }
    manifest = json.dumps(fields).encode()
    index = make_index(describe(manifest, OCI_MANIFEST))
    write_files(tmp_path / "layout", layout_files(index, manifest, config, layer))
    words = ["import", tmp_path / "layout", "--name", "a:1", "-C", cache, "--format", "tar", "--platform", "amd64"]
    status, peak, said = peak_of(*words, "--max-bytes", "100M")
    assert (status, snapshot(cache), staged(cache)) == (4, {}, [])
    assert "more than the limit of 104857600" in said
    assert peak < PEAK
    # The advice holds: it is let in, in as little memory.
    status, peak, said = peak_of(*words, "--max-bytes", f"{megabytes + 1}M")
    assert (status, peak < PEAK) == (0, True), said


@pytest.mark.parametrize("megabytes", SIZES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_archive(compression: str, megabytes: int, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "bomb").write_bytes(bomb(COMPRESSIONS[compression], megabytes)[0])
    for command in ("inspect", "import"):
        status, peak, said = peak_of(command, tmp_path / "bomb", "-C", cache)
        assert (status, peak < PEAK) == (4, True)
        assert "it has no manifest.json" in said
    assert (snapshot(cache), staged(cache)) == ({}, [])
