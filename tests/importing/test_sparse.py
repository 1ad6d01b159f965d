"""Sparse files in layers, as GNU tar writes them in the PAX format, each of three ways; maps that lie, and holes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.contents.tar_headers import TarError, TarLimitError
from ocitui.importing.errors import LayerLimitError
from ocitui.importing.layers.layers import LayerLimits
from tests.contents.test_tar_headers import END, raw, read, record
from tests.importing.layer_support import flattened, sources, tree_of_tar
from tests.tools import need

FORMATS = {one: ["--format=posix", f"--sparse-version={one}"] for one in ("0.0", "0.1", "1.0")}


@pytest.mark.parametrize("segments", [0, 1, 3, 40])
@pytest.mark.parametrize("form", FORMATS)
def test_it_is_the_file_that_it_was(form: str, segments: int, tmp_path: Path) -> None:
    need("tar")
    with (tmp_path / "file").open("wb") as file:
        file.truncate(3_000_000)
        for number in range(segments):
            file.seek(100_000 + number * 50_000)
            file.write(b"%d" % number * 4096)
    (tmp_path / "after").write_bytes(b"after")
    command = ["tar", *FORMATS[form], "--sparse", "-C", str(tmp_path), "-cf", str(tmp_path / "it.tar"), "file", "after"]
    subprocess.run(command, check=True)
    layer = (tmp_path / "it.tar").read_bytes()
    assert len(layer) < 1_000_000
    made = tree_of_tar(flattened(sources(tmp_path / "layers", [layer])))
    plain = ["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "plain.tar"), "file", "after"]
    subprocess.run(plain, check=True)
    whole = tree_of_tar(flattened(sources(tmp_path / "whole", [(tmp_path / "plain.tar").read_bytes()])))
    assert made.tree == whole.tree


def sparse(map_: bytes, real: int, stored: bytes) -> bytes:
    """A file as version 0.1 has it."""
    records = record(b"GNU.sparse.map", map_) + record(b"GNU.sparse.size", b"%d" % real)
    return raw(b"x", records) + raw(b"0", stored) + END


@pytest.mark.parametrize(
    ("map_", "real", "reason"),
    [
        (b"0,5,3,5", 100, "out of order"),
        (b"0,5,8", 100, "cut, or too long"),
        (b"0,10", 5, "another size than its bytes"),
        (b"0,4", 100, "another size than its bytes"),
        (b"0,x", 100, "is not a number"),
        (b"0,-5", 100, "is not a number"),
    ],
)
def test_a_map_that_lies(map_: bytes, real: int, reason: str) -> None:
    with pytest.raises(TarError, match=reason):
        read(sparse(map_, real, b"0123456789"))


def test_holes_count_as_bytes() -> None:
    """One of 1 TB, and as many as a layer likes, in a few hundred bytes each."""
    with pytest.raises(TarLimitError, match="claims"):
        read(sparse(b"0,1", 1 << 40, b"x"))
    many = sparse(b"0,1", 1 << 30, b"x").removesuffix(END) * 20
    with pytest.raises(TarLimitError, match="claims"):
        read(many + END, 10 << 30)


def test_maps_count_as_metadata(tmp_path: Path) -> None:
    """Of all layers together, empty segments too: a few bytes that are compressed well stand for much memory."""
    layer = sparse(b"0,0," * 999 + b"0,1", 1, b"x").removesuffix(END) * 3 + END
    limits = LayerLimits(metadata_bytes=144 * 6000 + 1000)
    assert flattened(sources(tmp_path / "two", [layer] * 2), limits)
    with pytest.raises(LayerLimitError, match="sparse files") as caught:
        flattened(sources(tmp_path / "three", [layer] * 3), limits)
    assert caught.value.layer == 3


@given(st.binary(max_size=600), st.binary(max_size=80))
def test_any_map_is_read_or_refused(stored: bytes, map_: bytes) -> None:
    for records in (
        record(b"GNU.sparse.map", map_ or b"0") + record(b"GNU.sparse.size", b"600"),
        record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0") + record(b"GNU.sparse.realsize", b"600"),
        record(b"GNU.sparse.offset", b"0") + record(b"GNU.sparse.numbytes", map_ or b"1"),
    ):
        try:
            read(raw(b"x", records) + raw(b"0", stored) + END)
        except TarError:
            continue
