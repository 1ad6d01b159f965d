"""Archives and documents that nobody made on purpose: read or refused, never anything else."""

from __future__ import annotations

import asyncio
import gzip
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocitui.importing.errors import SourceError, UnreadableSourceError
from ocitui.importing.layers.layers import LayerLimits
from ocitui.importing.sources.archive import Archive
from ocitui.importing.sources.images import media_type_of, read_index, read_manifest
from ocitui.importing.sources.opening import open_source
from ocitui.threads import Stop
from tests.importing.image_makers import (
    OCI_INDEX,
    describe,
    layout_files,
    make_image,
    make_index,
    make_tar,
    named,
    zstd_compress,
)
from tests.importing.registry_server import digest_of
from tests.tools import examples

IMAGE = make_image(b"x")
LONG = "d" * 90 + "/" + "n" * 150
WHOLE = make_tar({LONG: b"long", **layout_files(make_index(named(IMAGE, "v1")), *IMAGE.blobs)})
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
NAMES = st.sampled_from(["schemaVersion", "mediaType", "manifests", "config", "layers", "annotations", "artifactType"])


async def read_all(path: Path) -> None:
    source = await open_source(f"oci-archive:{path}")
    await source.listing()
    await source.resolve()


@settings(max_examples=examples(60))
@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(WHOLE)) | st.none(),
    st.sampled_from([bytes, gzip.compress, zstd_compress]),
)
def test_bent_archives(changes: list[tuple[int, int]], length: int | None, compress: Any) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tar")
        path.write_bytes(compress(bytes(data[:length])))
        with suppress(SourceError):
            asyncio.run(read_all(path))


@settings(max_examples=examples(60))
@given(st.binary(max_size=1200), st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd"]))
def test_noise(data: bytes, magic: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tar")
        path.write_bytes(magic + data)
        with pytest.raises(UnreadableSourceError):
            Archive(path, Stop())


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.sampled_from(["", OCI_INDEX, "text/plain"]))
def test_any_document(fields: dict[str, Any], claimed: str) -> None:
    raw = json.dumps(fields).encode()
    for read in (
        lambda: media_type_of("it", raw, claimed),
        lambda: read_manifest("it", raw),
        lambda: read_index("it", raw),
    ):
        with suppress(SourceError):
            read()


@pytest.mark.parametrize("raw", [b"", b"[" * 100_000, b"\xff", b'"x"', b"{" * 10_000])
def test_documents_that_are_none(raw: bytes) -> None:
    with pytest.raises(SourceError):
        media_type_of("it", raw)


def header(name: bytes, size: int, kind: bytes) -> bytes:
    """A header whose size is what is claimed, in base 256 where it must be."""
    number = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(512)
    block[: len(name)], block[124:136], block[156:157], block[148:156] = name, number, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("kind", [b"0", b"x", b"L", b"g", b"5"])
@pytest.mark.parametrize("size", [10 << 30, 1 << 70])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd_compress])
def test_claims_of_many_bytes(tmp_path: Path, kind: bytes, size: int, compress: Any) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(compress(header(b"file", size, kind) + bytes(4096)))
    with pytest.raises(UnreadableSourceError):
        Archive(path, Stop())


@pytest.mark.parametrize("compress", [gzip.compress, zstd_compress])
def test_what_unpacks_to_more_than_layers_may(tmp_path: Path, compress: Any) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(compress(make_tar({"oci-layout": b"{}", "zeros": bytes(4 << 20)})))
    with pytest.raises(UnreadableSourceError, match="the archive unpacks to more than 4194304 bytes") as raised:
        Archive(path, Stop(), LayerLimits(unpacked_bytes=4 << 20))
    assert "--max-bytes" in raised.value.hint
    assert Archive(path, Stop(), LayerLimits(unpacked_bytes=5 << 20)).find("zeros")


@pytest.mark.parametrize("wrapped", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["BZh", "BZh9-notes", "BZh91AYE", "LZIP.txt"])
def test_a_tar_whose_first_name_begins_as_something_compressed_does(tmp_path: Path, name: str, wrapped: Any) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(wrapped(make_tar({name: b"", "oci-layout": b"{}"})))
    assert Archive(path, Stop()).find("oci-layout")


def test_indexes_without_end(tmp_path: Path) -> None:
    """An index cannot hold itself, but many others that hold many others."""
    inner, blobs = make_index(named(IMAGE, "v1")), list(IMAGE.blobs)
    for _ in range(9):
        blobs.append(inner)
        inner = make_index(*[describe(inner, OCI_INDEX)] * 10)
    (tmp_path / "a.tar").write_bytes(make_tar(layout_files(inner, *blobs)))
    with pytest.raises(SourceError, match="hold too much"):
        asyncio.run(read_all(tmp_path / "a.tar"))


def test_long_names(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(WHOLE)
    archive = Archive(path, Stop())
    assert archive.read(LONG, 100) == b"long"
    assert archive.find(f"./{LONG}") == archive.find(f"/{LONG}")
    assert archive.read(f"blobs/sha256/{digest_of(IMAGE.config)[7:]}", 1000) == IMAGE.config
