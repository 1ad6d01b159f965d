"""A faulty registry and a blob store for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ocitui.importing.blobs import BlobStore
from tests.importing.pulling import Pull
from tests.importing.registry_server import FaultyRegistry, serving


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with serving(FaultyRegistry()) as running:
        yield running


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def pull(registry: FaultyRegistry, blobs: BlobStore) -> Pull:
    """A pull of `team/app:v1` from the faulty registry."""
    return Pull(f"{registry.host}/team/app:v1", blobs)
