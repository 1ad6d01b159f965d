"""An image, read from its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocitui.contents.squashfs import squashfs_tree
from ocitui.contents.tree import PackedTree
from ocitui.threads import Stop


@pytest.fixture
def read_squashfs(tmp_path: Path) -> Iterator[Callable[[bytes], PackedTree]]:
    """Reads an image of these bytes."""
    path = tmp_path / "image.squashfs"
    with open(path, "w+b", buffering=0) as packed:

        def of(image: bytes) -> PackedTree:
            packed.truncate(0)
            packed.seek(0)
            packed.write(image)
            return squashfs_tree(packed, Stop())

        yield of
