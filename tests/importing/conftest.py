"""A faulty registry and a blob store for each test that asks for one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ocitui.cache import PackerCache
from ocitui.importing.layers.layers import Layers
from ocitui.importing.packing import packing
from ocitui.importing.packing.packers import flatten_request
from ocitui.importing.packing.packing import FlattenRequest, PackedLayers, decode_layer, decode_request, encode
from ocitui.importing.progress import ProgressCall
from ocitui.importing.sources.references import RegistryOptions
from ocitui.importing.staging import BlobStore
from tests.cache.support import write_cache
from tests.importing.pipeline import Run
from tests.importing.pulling import Pull
from tests.importing.registry_server import FaultyRegistry, serving


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with serving(FaultyRegistry()) as running:
        yield running


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


@pytest.fixture
def pull(registry: FaultyRegistry, blobs: BlobStore) -> Pull:
    """A pull of `team/app:v1` from the faulty registry."""
    return Pull(f"{registry.host}/team/app:v1", blobs)


@pytest.fixture
async def importing(tmp_path: Path) -> Run:
    """Imports into a cache that has an entry already."""
    directory = tmp_path / "cache"
    write_cache(directory, [1])
    return Run(await PackerCache.open(directory))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries are asked again at once, and given up soon; nobody's credentials are used."""

    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    typed = RegistryOptions.typed

    def quick(*asked: Any) -> RegistryOptions:
        return replace(typed(*asked), sleep=at_once, timeout=0.5, environment={})

    monkeypatch.setattr(RegistryOptions, "typed", quick)


@pytest.fixture
def packed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports flatten and pack in this process, for tests of what comes of it: each start of one is 0.1 s of CPU."""

    async def packed(request: FlattenRequest, layers: Layers, progress: ProgressCall) -> PackedLayers:
        there = [decode_layer(encode(layer)) async for layer in layers]
        return flatten_request(decode_request(encode(request)), there, progress)

    monkeypatch.setattr(packing, "_run", packed)


@pytest.fixture
def slow_packer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mksquashfs that makes its file, says its process id, and takes nothing. The FIFO that it says it to."""
    said = tmp_path / "pid"
    os.mkfifo(said)
    program = tmp_path / "tools" / "mksquashfs"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncase "$1" in -help|-version) printf "\\n-tar\\t\\n"; exit;; esac\n'
        f'echo > "$2"; echo $$ > {said}; exec tail -f /dev/null\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return said
