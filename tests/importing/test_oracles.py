"""Layers packed here, and what programs that others wrote find in it: tar -d against the layers' own tar through a
mount, and PySquashfsImage, which reads squashfs in Python."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import PackedFormat
from tests.contents.trees_support import Told, mounted, random_root
from tests.importing.layer_support import flattened, layer_source, sources
from tests.importing.test_packers import AS_ROOT
from tests.importing.test_squashfs_writer import pack, read
from tests.tools import need, recorded, seeds

CASES = [record for record in recorded("layers.json") if "error" not in record["expect"]]
KINDS = {
    "is_dir": "d",
    "is_symlink": "l",
    "is_file": "f",
    "is_fifo": "p",
    "is_block_device": "b",
    "is_char_device": "c",
}


@pytest.fixture(autouse=True)
def names_of_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """PySquashfsImage takes every name for UTF-8."""
    files = pytest.importorskip("PySquashfsImage.file")
    monkeypatch.setattr(files.File, "name", property(lambda self: os.fsdecode(self._name)))


def seen_by_another(image: Path) -> Told:
    """What PySquashfsImage finds: names, types, modes, owners, times, targets, bytes, and which names are one file."""
    from PySquashfsImage import SquashFsImage

    made, several = Told(), dict[int, bytes]()
    with SquashFsImage.from_file(str(image)) as opened:
        for one in sorted(opened, key=lambda one: os.fsencode(one.path)):
            path, kind = os.fsencode(one.path)[1:], next(KINDS[name] for name in KINDS if getattr(one, name))
            about: dict[str, Any] = {"mode": stat.S_IMODE(one.mode), "uid": one.uid, "gid": one.gid}
            about |= {"mtime": int(one.time), "type": kind}
            if kind == "f":
                data = one.read_bytes()
                about |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            elif kind == "l":
                about["target"] = one.inode._symlink  # which it would take for UTF-8, too
            elif kind in "bc":
                about["rdev"] = [one.major, one.minor]
            # Its plain inode of a file has no count of names.
            if kind != "d" and (count := getattr(one.inode, "nlink", 1)) > 1:
                about |= {"nlink": count, "hardlink": several.setdefault(one.inode.inode_number, path)}
            made[path] = about
    return made


def without_xattrs(found: Told) -> Told:
    """It reads the table of attributes, but not whose they are."""
    return {path: {key: value for key, value in one.items() if key != "xattrs"} for path, one in found.items()}


def is_like(tar: Path, image: Path, format: PackedFormat) -> bool:
    """Whether tar finds nothing else in a mount than in a tar; False where nothing can be mounted."""
    with mounted(image, format) as mount:
        if mount is None:
            return False
        command = ["tar", "--compare", "--numeric-owner", "-f", str(tar), "-C", str(mount)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    assert (done.returncode, done.stdout) == (0, "")
    return True


@AS_ROOT
@pytest.mark.parametrize("record", CASES, ids=[record["case"] for record in CASES])
def test_a_recorded_image(record: dict[str, Any], tmp_path: Path) -> None:
    layers = sources(tmp_path / "layers", map(base64.b64decode, record["layers"]))
    (tmp_path / "tar").write_bytes(flattened(layers))
    pack(layers, tmp_path / "out")
    assert seen_by_another(tmp_path / "out") == without_xattrs(read(tmp_path / "out"))
    is_like(tmp_path / "tar", tmp_path / "out", PackedFormat.SQUASHFS)


@AS_ROOT
@pytest.mark.parametrize("seed", seeds(4, 1000))
def test_random_trees(seed: int, tmp_path: Path) -> None:
    need("tar")
    root = random_root(tmp_path / "root", random.Random(seed))
    tar = f"tar -C {root} --format=pax --xattrs --xattrs-include=* -cf {tmp_path}/layer ."
    subprocess.run(tar.split(), check=True, capture_output=True)
    layers = [layer_source(tmp_path / "layer")]
    for format in (PackedFormat.SQUASHFS, PackedFormat.EROFS):
        pack(layers, tmp_path / format, format)
        is_like(tmp_path / "layer", tmp_path / format, format)
    packed = tmp_path / PackedFormat.SQUASHFS
    assert seen_by_another(packed) == without_xattrs(read(packed))
