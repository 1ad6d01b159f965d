"""Whole imports in tests: images as sources of every kind, their trees read back, and what an import leaves behind."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocitui.cache import ImageName, PackedFormat, PackerCache
from ocitui.importing.image_import import ImportDesk, ImportResult, import_image
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.progress import ImportPhase, ImportProgress
from tests.cache.support import OWN, tree
from tests.importing.image_makers import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Made,
    describe,
    layout_files,
    make_config,
    make_index,
    named,
    run,
    write_files,
)
from tests.importing.layer_support import Found, Item, folder, hard, layer, link, tree_of_directory, tree_of_tar
from tests.importing.registry_server import digest_of
from tests.importing.test_packers import mounted
from tests.tools import need, wait_for

NAME = "example.com/team/app:1"
LOWER = layer(
    folder("./", 0o750),
    folder("d", 0o1777, gid=3),
    Item("d/file", data=b"content" * 4000, uid=3_000_000, gid=70_000, mode=0o4755),
    Item("gone", data=b"1"),
    Item("changed", data=b"old"),
    hard("d/hard", "d/file"),
    link("s", "d/" + "t" * 150),
    Item("null", tarfile.CHRTYPE, device=(1, 3), mode=0o666),
    Item("n" * 120 + "/" + "ü" * 60, data=b"long"),
)
UPPER = layer(Item(".wh.gone"), Item("changed", data=b"new"), hard("kept", "d/hard"))
LAYERS = (LOWER, UPPER)


def image_of(
    *tars: bytes, compress: Callable[[bytes], bytes] = lambda tar: zlib.compress(tar, 1, wbits=31), **fields: Any
) -> Made:
    """An image of these layers, compressed, with more ``fields`` in its config."""
    layers = tuple(compress(tar) for tar in tars)
    config = make_config(*tars, **fields)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": describe(config, OCI_CONFIG),
        "layers": [describe(made, OCI_LAYER) for made in layers],
    }
    return Made(json.dumps(document).encode(), config, layers, tars)


def layout_of(directory: Path, image: Made) -> Path:
    """An OCI layout of an image, named ``x``."""
    return write_files(directory, layout_files(make_index(named(image, "x")), *image.blobs))


def archive_of(layout: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(layout, ".")
    return path


def docker_archive_of(layout: Path, path: Path) -> Path:
    """As skopeo writes one."""
    need("skopeo")
    run("skopeo", "copy", "-q", f"oci:{layout}:x", f"docker-archive:{path}:{NAME}")
    return path


def umoci_tree(layout: Path, directory: Path) -> Found:
    need("umoci")
    run("umoci", "raw", "unpack", "--image", f"{layout}:x", str(directory))
    return tree_of_directory(directory)


def packed_tree(path: Path, format: PackedFormat, directory: Path) -> Found:
    """What a packed file holds, read by the format's own tools; the root's owner is not told."""
    if format is PackedFormat.TAR:
        found = tree_of_tar(path.read_bytes())
    elif format is PackedFormat.EROFS:
        with mounted(path, directory) as root:
            found = tree_of_directory(root)
    else:
        command = ["unsquashfs", "-quiet", "-no-progress", "-d", str(directory), str(path)]
        subprocess.run(command, check=True, capture_output=True)
        found = tree_of_directory(directory)
    return without_root_owner(found)


def without_root_owner(found: Found) -> Found:
    found.tree["."] = {key: value for key, value in found.tree["."].items() if key not in ("uid", "gid")}
    return found


def in_cache(directory: Path) -> dict[str, tuple[str, bytes]]:
    """All of a cache that is not ocitui's own."""
    return tree(directory)


def staged(directory: Path) -> list[str]:
    """What lies in the folders that imports work in."""
    place = directory / OWN / "import"
    return os.listdir(place) if place.exists() else []


@dataclass
class Sessions:
    """The sessions of processes that a program starts, by its pid: each import's worker has one of its own."""

    parent: int = field(default_factory=os.getpid)
    seen: set[int] = field(default_factory=set)

    def look(self) -> None:
        self.seen |= {pid for pid, parent, session, _ in _processes() if parent == self.parent and session == pid}

    def left(self) -> list[int]:
        """Processes of these sessions that still run."""
        return [pid for pid, _, session, state in _processes() if session in self.seen and state not in "ZX"]


def _processes() -> list[tuple[int, int, int, str]]:
    """Every process: its id, parent, session and state (proc_pid_stat(5))."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                said = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.append((int(name), int(said[1]), int(said[3]), said[0]))
    return found


@dataclass
class Run:
    """Imports into one cache, and all that was told of them."""

    cache: PackerCache
    heard: list[ImportProgress] = field(default_factory=list)
    sessions: Sessions = field(default_factory=Sessions)

    def __post_init__(self) -> None:
        self.desk = ImportDesk(self.cache)

    @property
    def directory(self) -> Path:
        return self.cache.directory

    async def __call__(self, source: str, name: str | None = NAME, **asked: Any) -> ImportResult:
        request = ImportRequest(source=source, name=name, **{"platform": "linux/amd64", **asked})
        return await import_image(self.desk, request, self._hear)

    def _hear(self, now: ImportProgress) -> None:
        self.heard.append(now)
        self.sessions.look()

    @property
    def phases(self) -> list[ImportPhase]:
        return list(dict.fromkeys(now.phase for now in self.heard))

    async def cancelled_at(self, phase: ImportPhase, source: str, **asked: Any) -> None:
        """Import until this phase has begun (a download has a megabyte), then cancel, and see that it ends."""
        request = ImportRequest(source=source, name=NAME, **{"platform": "linux/amd64", **asked})

        def hear(now: ImportProgress) -> None:
            self._hear(now)
            if now.phase is phase and (now.done > 1_000_000 or phase is not ImportPhase.DOWNLOAD):
                task.cancel()

        task = asyncio.ensure_future(import_image(self.desk, request, hear))
        done = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(done, asyncio.CancelledError), f"{phase} was not seen, or it was not cancelled: {done!r}"

    def assert_nothing_left(self) -> None:
        # A process that was killed closes its files, which is what ocitui waits for, a moment before it is gone.
        wait_for(lambda: not self.sessions.left(), "the end of the workers and packers")
        assert staged(self.directory) == []

    async def assert_whole(self, image: Made | None, name: str, format: PackedFormat, digest: str = "") -> None:
        """The daemon's rules find it under its name, with its documents byte for byte."""
        cache = await PackerCache.open(self.directory)
        digest = image.digest if image else digest
        recalled = await cache.recall(ImageName.parse(name), digest, format)
        resolved = await cache.resolve(ImageName.parse(name), format)
        assert recalled is not None
        assert resolved is not None
        assert resolved.digest == digest
        if image:
            assert (recalled.manifest.raw, recalled.config.raw) == (image.manifest, image.config)
        assert digest_of(recalled.manifest.raw) == digest


def many_files(count: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for number in range(count):
            archive.addfile(tarfile.TarInfo(f"file{number}"))
    return made.getvalue()


async def pid_from(fifo: Path) -> int:
    return int(await asyncio.to_thread(fifo.read_text))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
