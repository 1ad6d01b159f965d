"""Real and recorded images through the whole pipeline: conformance layers, other tools' archives, a large tree."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import PackedFormat
from ocitui.importing.errors import LayerError, UnreadableSourceError
from ocitui.importing.image_import import ImportOutcome
from tests.cache.support import EROFS, SQUASHFS, TAR
from tests.importing.builders import DOCKER_1_9, SAVED
from tests.importing.image_makers import run
from tests.importing.layer_support import Found, flattened, sources, tree_of_tar
from tests.importing.pipeline import (
    NAME,
    Run,
    image_of,
    in_cache,
    layout_of,
    packed_tree,
    umoci_tree,
    without_root_owner,
)
from tests.importing.test_packers import mounted
from tests.tools import need, recorded

pytestmark = pytest.mark.slow

RECORDS = recorded("layers.json")
FORMATS = (SQUASHFS, EROFS, TAR)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners and devices")


@AS_ROOT
@pytest.mark.parametrize("number", range(len(RECORDS)), ids=[record["case"] for record in RECORDS])
@pytest.mark.usefixtures("packed_here")
async def test_recorded_layers(number: int, importing: Run, tmp_path: Path) -> None:
    """Each record in one of the formats in turn."""
    need("mksquashfs", "unsquashfs", "mkfs.erofs")
    record: dict[str, Any] = RECORDS[number]
    format = FORMATS[number % len(FORMATS)]
    compressed = {gzipped_tar(data): base64.b64decode(data) for data in record["layers"]}
    image = image_of(*(gzipped_tar(data) for data in record["layers"]), compress=compressed.__getitem__)
    source, before = f"oci:{layout_of(tmp_path / 'layout', image)}:x", in_cache(importing.directory)
    if "error" in record["expect"]:
        with pytest.raises(LayerError, match="layer 1, '"):
            await importing(source, format=format)
        assert in_cache(importing.directory) == before
        importing.assert_nothing_left()
        return
    result = await importing(source, format=format)
    await importing.assert_whole(image, NAME, format)
    found = packed_tree(result.image.path, format, tmp_path / "tree")
    assert_expected(found, record["expect"])


def gzipped_tar(data: str) -> bytes:
    import gzip

    return gzip.decompress(base64.b64decode(data))


def assert_expected(found: Found, expected: dict[str, Any]) -> None:
    tree = dict(expected["tree"])
    tree.setdefault(".", {"type": "directory", "mode": "755"})
    assert found.tree == without_root_owner(Found(tree)).tree
    assert found.hardlinks == sorted(map(sorted, expected["hardlinks"]))


@AS_ROOT
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("tool", SAVED)
@pytest.mark.usefixtures("packed_here")
async def test_archives_by_other_tools(tool: str, format: PackedFormat, importing: Run, tmp_path: Path) -> None:
    need("mksquashfs", "unsquashfs", "mkfs.erofs")
    saved = SAVED[tool]
    archive = saved.archive.write(tmp_path / "a.tar")
    source = f"{archive}:{saved.wanted}" if saved.wanted else str(archive)
    result = await importing(source, format=format, platform=None)
    assert result.outcome is ImportOutcome.STORED
    await importing.assert_whole(None, NAME, format, result.image.digest)
    assert result.image.config.raw == saved.image.config
    found = packed_tree(result.image.path, format, tmp_path / "tree")
    expected = without_root_owner(tree_of_tar(flattened(sources(tmp_path / "layers", saved.image.tars))))
    assert found == expected
    assert set(found.tree) == PATHS[tool]
    importing.assert_nothing_left()


_BASE = {".", "bin", "bin/busybox", "bin/sh", "etc", "etc/hostname", "etc/mtab", "gone.txt", "tmp"}
_CHANGED = _BASE - {"gone.txt"} | {"bin/ash"}
PATHS = {
    **dict.fromkeys(SAVED, _CHANGED),
    "docker": _CHANGED | {f"step{number}" for number in range(11)},
    "docker-first-of-two": _BASE,
    "docker-second-of-two": _BASE | {"srv", "srv/index.html"},
    "docker-25": _BASE,
    "bazel-overwritten": _BASE | {"bar.txt"},
}


async def test_an_archive_of_before_manifests(importing: Run, tmp_path: Path) -> None:
    with pytest.raises(UnreadableSourceError, match=r"Docker before 1\.10"):
        await importing(str(DOCKER_1_9.write(tmp_path / "a.tar")))


@AS_ROOT
async def test_the_same_tree_as_umoci_of_an_archive(importing: Run, tmp_path: Path) -> None:
    need("umoci", "skopeo")
    archive = SAVED["docker"].archive.write(tmp_path / "a.tar")
    layout = tmp_path / "layout"
    run("skopeo", "copy", "-q", f"docker-archive:{archive}", f"oci:{layout}:x")
    result = await importing(f"oci:{layout}:x", format=TAR, platform=None)
    found = packed_tree(result.image.path, TAR, tmp_path / "tree")
    expected = without_root_owner(umoci_tree(layout, tmp_path / "umoci"))
    assert found.tree == expected.tree
    assert found.hardlinks == expected.hardlinks


def made_root(root: Path) -> None:
    """A thousand files and their links, some of them large, no two runs with other bytes."""
    chance = random.Random(1)
    for number in range(1000):
        folder = root / f"d{number % 40}" / f"e{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"file{number}"
        path.write_bytes(chance.randbytes(chance.choice((0, 1, 200, 4096, 30_000))) * chance.choice((1, 1, 3)))
        path.chmod(chance.choice((0o644, 0o755, 0o600, 0o4711)))
        if number % 9 == 0:
            (root / f"d{number % 40}" / f"link{number}").symlink_to(f"e{number % 7}/file{number}")
        if number % 25 == 0:
            (folder / f"hard{number}").hardlink_to(path)
    (root / "large").write_bytes(chance.randbytes(1 << 20) * 8)


def python_root(root: Path) -> None:
    """This machine's Python."""
    for found in (Path("/usr/lib/python3"), Path(os.__file__).parent):
        if found.is_dir():
            target = root / found.relative_to("/")
            shutil.copytree(found, target, symlinks=True, ignore=shutil.ignore_patterns("site-packages", "test"))
    (root / "hard").hardlink_to(next(path for path in root.rglob("*.py") if path.stat().st_size))


def debian_root(root: Path) -> None:
    """A root filesystem by mmdebstrap, which takes a network, where it is asked for."""
    if not os.environ.get("OCITUI_LARGE"):
        pytest.skip("only where OCITUI_LARGE asks for it: it takes a network")
    need("mmdebstrap")
    subprocess.run(["mmdebstrap", "--variant=minbase", "stable", str(root)], check=True)


MAKERS = [made_root, *(pytest.param(maker, marks=pytest.mark.long) for maker in (python_root, debian_root))]


@AS_ROOT
@pytest.mark.parametrize("format", [SQUASHFS, EROFS])
@pytest.mark.parametrize("make", MAKERS)
async def test_a_large_image(
    make: Callable[[Path], None], format: PackedFormat, importing: Run, tmp_path: Path
) -> None:
    """Read back through the kernel, file by file, it is what it was made of."""
    need("mksquashfs", "mkfs.erofs", "umoci", "tar")
    root, layout = tmp_path / "root", tmp_path / "layout"
    make(root)
    run("umoci", "init", "--layout", str(layout))
    run("umoci", "new", "--image", f"{layout}:x")
    run("umoci", "insert", "--image", f"{layout}:x", str(root), "/")
    result = await importing(f"oci:{layout}:x", format=format, platform=None)
    importing.assert_nothing_left()
    with mounted(result.image.path, tmp_path / "mount") as tree:
        assert listing(tree) == listing(root)
    assert len(listing(root)) > 1000


def listing(root: Path) -> dict[str, tuple[int, int, int, int, str]]:
    """Every path with its mode, owner, names and content."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else ""
        if path.is_file() and not path.is_symlink():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        links = 0 if path.is_dir() else status.st_nlink
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, links, content)
    return found
