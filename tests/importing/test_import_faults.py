"""What goes wrong on the way, through the whole pipeline: a clear message each, and the cache as it was."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import CacheError
from ocitui.contents.tar_headers import Kind
from ocitui.importing.errors import (
    LayerDigestError,
    LayerError,
    LayerLimitError,
    PackerError,
    ReadBackError,
    RegistryError,
    TransferError,
    UnsoundSourceError,
    WorkerError,
)
from ocitui.importing.image_import import import_image
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.layers.flatten import tar_header
from tests.cache.support import SQUASHFS, TAR
from tests.importing.image_makers import Made, put
from tests.importing.layer_support import Item, folder, hard, layer
from tests.importing.pipeline import (
    LAYERS,
    NAME,
    Run,
    image_of,
    in_cache,
    layout_of,
    many_files,
    packed_tree,
    parent_of,
    pid_from,
)
from tests.importing.registry_server import FaultyRegistry, Reply, digest_of
from tests.tools import need

pytestmark = pytest.mark.slow

IMAGE = image_of(*LAYERS)
LAYER = f"/blobs/{digest_of(IMAGE.layers[0])}"


async def refused(run: Run, source: str, error: type[CacheError], message: str, **asked: Any) -> CacheError:
    """An import that fails so, and leaves nothing."""
    before = in_cache(run.directory)
    with pytest.raises(error, match=message) as caught:
        await run(source, **{"format": TAR, **asked})
    assert caught.value.hint
    assert in_cache(run.directory) == before
    run.assert_nothing_left()
    return caught.value


@pytest.fixture
def served(registry: FaultyRegistry, quick: None) -> str:
    put(registry, IMAGE, "v1")
    return f"docker://{registry.host}/team/app:v1"


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (Reply(body=IMAGE.layers[0], cut=50), TransferError, "broke off"),
        (Reply(body=IMAGE.layers[0], cut=50, stall=True), TransferError, "sent nothing for 0.5 seconds"),
        (Reply(503), TransferError, r"503 .*after 5 tries"),
        (Reply(body=bytes(len(IMAGE.layers[0]))), UnsoundSourceError, "of the digest sha256:"),
        (Reply(body=IMAGE.layers[0] + b"more"), RegistryError, "promises"),
        (Reply(headers={"Content-Type": "text/html"}, body=b"<html>"), RegistryError, "web page"),
    ],
    ids=["cuts", "stalls", "busy", "lies in its bytes", "lies in its length", "answers HTML"],
)
async def test_registries(
    reply: Reply, error: type[CacheError], message: str, importing: Run, registry: FaultyRegistry, served: str
) -> None:
    registry.ranges = False
    registry.always(LAYER, reply)
    await refused(importing, served, error, message)


def claim(name: bytes, size: int) -> bytes:
    """A header that promises more than follows."""
    return tar_header(name, Kind.FILE, 0o644, 0, 0, size, 0)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "a hard link out": (
        layer(hard("passwd", "../../../../etc/passwd")),
        "layer 1, 'passwd': it is a hard link to '../../../../etc/passwd', which",
    ),
    "a 10 GB claim": (claim(b"big", 10 << 30), "layer 1, 'big': its tar is cut in this entry"),
    "more than any limit": (claim(b"huge", 1 << 46), "claims 70368744177664 bytes, more than the limit"),
    "a sparse file": (
        layer(Item("holes", tarfile.GNUTYPE_SPARSE)),
        "of GNU's old format are not supported",
    ),
    "cut": (LAYERS[0][:700], "its tar is cut"),
    "no tar": (b"#!/bin/sh\n" * 100, "not a tar, or damaged"),
    "deep": (layer(Item("d/" * 600 + "f")), "below more than 512 directories"),
}


@pytest.mark.parametrize(("tar", "message"), HOSTILE.values(), ids=HOSTILE)
async def test_hostile_layers(tar: bytes, message: str, importing: Run, tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "layout", image_of(tar))
    await refused(importing, f"oci:{layout}:x", LayerError, message)


@pytest.mark.parametrize(
    ("tar", "limit", "message"),
    [
        (many_files(3000), {"max_entries": 1000}, "more than 1000 entries"),
        (layer(Item("zeros", data=bytes(50 << 20))), {"max_bytes": 1 << 20}, "more than the limit of 1048576|unpack"),
    ],
    ids=["entries", "bytes"],
)
async def test_bombs_and_the_option_that_lets_them_in(
    tar: bytes, limit: dict[str, Any], message: str, importing: Run, tmp_path: Path
) -> None:
    source = f"oci:{layout_of(tmp_path / 'layout', image_of(tar))}:x"
    await refused(importing, source, LayerLimitError, message, **limit)
    await importing(source, format=TAR, **{name: value * 100 for name, value in limit.items()})


async def test_names_that_lead_out_stay_in(importing: Run, tmp_path: Path) -> None:
    image = image_of(layer(Item("../../evil", data=b"1"), Item("/abs", data=b"2"), folder("a/../../b")))
    result = await importing(f"oci:{layout_of(tmp_path / 'layout', image)}:x", format=TAR)
    assert set(packed_tree(result.image.path, TAR, tmp_path).tree) == {".", "evil", "abs", "b"}


async def test_a_wrong_diff_id(importing: Run, tmp_path: Path) -> None:
    other = gzip.compress(LAYERS[0], 1, mtime=0)
    image = image_of(*LAYERS, compress=lambda tar: other)
    await refused(importing, f"oci:{layout_of(tmp_path / 'layout', image)}:x", LayerDigestError, "layer 2: its uncomp")


def fake_tool(directory: Path, script: str) -> Path:
    """A mksquashfs that makes its file, then does this."""
    directory.mkdir()
    program = directory / "mksquashfs"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in -help|-version) printf "\\n-tar\\t\\n"; exit;; esac\necho > "$2"\n{script}\n'
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -9 $$", "mksquashfs failed with signal SIGKILL"),
        ("cat > /dev/null; kill -9 $$", "mksquashfs failed with signal SIGKILL"),
        ("echo why >&2; exit 3", "status 3: why"),
        ("cat > /dev/null; echo Could not resolve hardlink x >&2", "lost a file"),
    ],
)
async def test_packers_that_fail(
    script: str, message: str, importing: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = fake_tool(tmp_path / "tools", script)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    layout = layout_of(tmp_path / "layout", IMAGE)
    await refused(importing, f"oci:{layout}:x", PackerError, message, format=SQUASHFS, packer="mksquashfs")


async def test_what_is_packed_otherwise_is_not_stored(
    importing: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("mksquashfs")
    real, program = shutil.which("mksquashfs"), fake_tool(tmp_path / "tools", "")
    bend = "printf x | dd of=$2 bs=1 seek=200 conv=notrunc 2>&-"
    program.write_text(f'#!/bin/sh\n{real} "$@" || exit; [ "$1" = - ] && {bend}; exit 0\n')
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    source = f"oci:{layout_of(tmp_path / 'layout', IMAGE)}:x"
    await refused(importing, source, ReadBackError, "what was packed", format=SQUASHFS, packer="mksquashfs")


@pytest.mark.parametrize(("is_worker", "error"), [(False, PackerError), (True, WorkerError)])
async def test_a_killed_mksquashfs_or_worker(
    is_worker: bool, error: type[CacheError], importing: Run, slow_packer: Path, tmp_path: Path
) -> None:
    """One that has begun to pack, and takes nothing more."""
    source = f"oci:{layout_of(tmp_path / 'layout', IMAGE)}:x"
    before = in_cache(importing.directory)
    request = ImportRequest(source=source, name=NAME, format=SQUASHFS, packer="mksquashfs", platform="linux/amd64")
    task = asyncio.create_task(import_image(importing.desk, request, importing._hear))
    packer = await pid_from(slow_packer)
    os.kill(parent_of(packer) if is_worker else packer, signal.SIGKILL)
    with pytest.raises(error, match="SIGKILL"):
        await task
    assert in_cache(importing.directory) == before
    importing.assert_nothing_left()


@pytest.mark.parametrize("change", [Path.unlink, lambda path: os.truncate(path, 100)], ids=["removed", "cut"])
async def test_sources_that_change_under_way(change: Callable[[Path], None], importing: Run, tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "layout", IMAGE)
    change(layout / "blobs" / "sha256" / digest_of(IMAGE.layers[1]).removeprefix("sha256:"))
    await refused(importing, f"oci:{layout}:x", CacheError, "layer|sha256")


async def test_an_image_of_no_layers(importing: Run, tmp_path: Path) -> None:
    empty: Made = image_of()
    result = await importing(f"oci:{layout_of(tmp_path / 'layout', empty)}:x", format=TAR)
    assert set(packed_tree(result.image.path, TAR, tmp_path).tree) == {"."}
