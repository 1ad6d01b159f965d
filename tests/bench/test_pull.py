"""A pull over loopback from Debian's docker-registry, beside `skopeo copy docker://... oci:...` in the same run.

Nothing is asserted on wall time. ``pytest tests/bench/test_pull.py --benchmark-enable -s`` prints the ratio for 256 MB
in four layers; an ordinary run sees with a small image that both pull the same.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ocitui.importing.staging import BlobStore
from tests.importing.debian_registry import DebianRegistry, debian_registry
from tests.importing.image_makers import layout_files, make_image, make_index, named, run, write_files
from tests.importing.pulling import Pull
from tests.tools import need

LAYERS = 4
NAME = "bench/app:v1"
AIM = 1.1


@dataclass(frozen=True)
class Bench:
    registry: DebianRegistry
    folder: Path
    size: int
    rounds: int


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    need("docker-registry", "skopeo")
    many = bool(request.config.getoption("--benchmark-enable"))
    size = (64 << 20) if many else (1 << 20)
    image = make_image(*(random.Random(number).randbytes(size) for number in range(LAYERS)))
    folder = tmp_path_factory.mktemp("bench")
    layout = write_files(folder / "layout", layout_files(make_index(named(image, "v1")), *image.blobs))
    with debian_registry(folder, secure=False) as registry:
        registry.put(f"oci:{layout}:v1", NAME)
        yield Bench(registry, folder, size * LAYERS, 9 if many else 1)


def pull(bench: Bench) -> Path:
    """With the library, its store being new."""
    target = bench.folder / "cache"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    store = BlobStore(target)
    asyncio.run(Pull(f"{bench.registry.host}/{NAME}", store).run())
    return store.directory


def copy(bench: Bench) -> Path:
    target = bench.folder / "skopeo"
    shutil.rmtree(target, ignore_errors=True)
    source = f"docker://{bench.registry.host}/{NAME}"
    run("skopeo", "copy", "-q", "--src-tls-verify=false", source, f"oci:{target}:v1")
    return target / "blobs" / "sha256"


def test_pull(benchmark: BenchmarkFixture, bench: Bench) -> None:
    ours, theirs = [], []
    for _ in range(bench.rounds):
        before = time.perf_counter()
        copied = copy(bench)
        between = time.perf_counter()
        pulled = pull(bench)
        theirs.append(between - before)
        ours.append(time.perf_counter() - between)
    layers = {path.name.removeprefix("sha256:") for path in pulled.iterdir()}
    assert len(layers) == LAYERS
    assert layers < {path.name for path in copied.iterdir()}
    ratio = min(ours) / min(theirs)
    benchmark.pedantic(pull, args=(bench,), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["of skopeo's wall time"] = round(ratio, 3)
    print(f"{bench.size >> 20} MB: {min(ours):.2f} s, skopeo {min(theirs):.2f} s: {ratio:.2f} of its time (aim {AIM})")
