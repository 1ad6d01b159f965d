"""Sources for imports on the command line: small layouts, and registries that serve while a command runs."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.importing.image_makers import Made, layout_files, make_image, make_index, named, put, write_files
from tests.importing.registry_server import FaultyRegistry, Reply, serving
from tests.tools import PATIENT_SECONDS

LARGE = os.urandom(3 << 20)


def make_layout(directory: Path, *images: tuple[str, Made]) -> Path:
    """An OCI layout of images by their names."""
    index = make_index(*(named(image, name) for name, image in images))
    return write_files(directory, layout_files(index, *(blob for _, image in images for blob in image.blobs)))


@contextmanager
def running(registry: FaultyRegistry) -> Iterator[FaultyRegistry]:
    """Have a registry serve from a thread of its own."""
    loop, ready, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with serving(registry):
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(PATIENT_SECONDS)
    try:
        yield registry
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENT_SECONDS)
        loop.close()


def put_image(registry: FaultyRegistry, *contents: bytes, name: str = "1.0") -> Made:
    """Have it serve an image of these layers."""
    return put(registry, make_image(*contents), name)


def stall(registry: FaultyRegistry, image: Made, layer: int, after: int) -> None:
    """Let one layer stop coming after so many bytes, until the rules are cleared."""
    digest = json.loads(image.manifest)["layers"][layer]["digest"]
    registry.always(digest, Reply(body=image.layers[layer], cut=after, stall=True))


def snapshot(directory: Path) -> dict[str, bytes]:
    """The cache as the daemon sees it."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def staged(directory: Path) -> list[str]:
    """What lies in the folders that imports work in."""
    folder = directory / ".ocitui" / "import"
    return os.listdir(folder) if folder.is_dir() else []


def downloaded(directory: Path) -> int:
    """The bytes of the blobs that are kept."""
    size = 0
    for path in (directory / ".ocitui" / "blobs").glob("*"):
        # A part that is whole by now has another name.
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size
