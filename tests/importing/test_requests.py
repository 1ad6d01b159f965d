"""Requests as they are kept: whole through JSON, and with paths that mean the same anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import ImageName, InvalidNameError, PackedFormat, Platform
from ocitui.importing.errors import NoSuchImageError, UnreadableSourceError
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.sources.images import SourceKind
from ocitui.importing.sources.opening import recognise_source
from tests.cache.support import write_cache
from tests.importing.image_makers import make_tar
from tests.importing.pipeline import LAYERS, archive_of, image_of, layout_of
from tests.tools import recorded

IMAGE = image_of(*LAYERS)
BAD_NAME = next(record["input"] for record in recorded("names.jsonl") if "error" in record and record["input"])
# What a path on Linux may hold, those bytes too that are not UTF-8.
TEXT = st.text() | st.binary().map(os.fsdecode)
TEXTS = {
    field.name: TEXT
    for field in msgspec.structs.fields(ImportRequest)
    if field.name in ("source", "name", "platform", "compression", "tls_ca", "authfile", "mirror", "manifest")
}


@given(
    st.builds(
        ImportRequest,
        **TEXTS,
        format=st.sampled_from(PackedFormat),
        level=st.none() | st.integers(-100, 100),
        max_bytes=st.none() | st.integers(0, 1 << 62),
        rename=st.booleans(),
        again=st.booleans(),
    )
)
def test_through_json(request_: ImportRequest) -> None:
    kept = request_.to_json()
    assert kept.isascii()
    assert ImportRequest.from_json(kept) == request_


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"source": 1}', b'{"source": "a", "format": "zip"}', b"\xff"]
)
def test_what_is_no_request(data: bytes) -> None:
    with pytest.raises(ValueError):
        ImportRequest.from_json(data)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with sources of every kind, its own name holding what separates a name from a path."""
    place = tmp_path / "a:b@c"
    place.mkdir()
    monkeypatch.chdir(place)
    archive_of(layout_of(place / "layout", IMAGE), place / "layout.tar")
    Path("image.tar").write_bytes(make_tar({"manifest.json": b"[]"}))
    Path("with:colon.tar").write_bytes(make_tar({"manifest.json": b"[]"}))
    Path("image.squashfs").write_bytes(b"hsqs" + bytes(600))
    return place


@pytest.mark.parametrize(
    "source",
    [
        "oci:layout",
        "oci:layout:x",
        "oci:layout:a/b:v1",
        f"oci:layout@{IMAGE.digest}",
        "layout",
        "./layout",
        "./layout:x",
        "layout:x",
        f"layout@{IMAGE.digest}",
        "oci-archive:layout.tar:x",
        "oci-archive:./layout.tar",
        "docker-archive:image.tar:example.com/a:1",
        "docker-archive:image.tar:@0",
        "image.tar",
        "image.tar:example.com/a:1",
        "with:colon.tar",
        "packed:image.squashfs",
        "image.squashfs",
    ],
    ids=str,
)
def test_paths_mean_the_same_anywhere(source: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = recognise_source(source)
    kept = ImportRequest(source=source).with_absolute_paths()
    monkeypatch.chdir("/")
    again = recognise_source(kept.source)
    assert again.kind is found.kind
    assert again.path == here / found.path
    assert (again.name, again.digest, again.number) == (found.name, found.digest, found.number)
    assert kept.name is None
    assert kept.with_absolute_paths() == kept


@pytest.mark.parametrize("name", [None, "a:1"])
def test_an_entry_of_another_cache_keeps_its_name(
    name: str | None, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cache(here / "other", [1])
    kept = ImportRequest(source="cache:other:image1:1", name=name).with_absolute_paths()
    monkeypatch.chdir("/")
    assert recognise_source(kept.source).path.parent == here / "other"
    assert kept.name == (name or "image1:1")
    assert kept.with_absolute_paths() == kept


@pytest.mark.parametrize("source", ["docker://alpine:3.19", "alpine", "localhost:5000/a/b@sha256:" + "0" * 64])
def test_a_registry_is_still_meant_where_a_directory_has_that_name(source: str, here: Path) -> None:
    kept = ImportRequest(source=source).with_absolute_paths()
    assert kept.source == "docker://" + source.removeprefix("docker://")
    (here / "alpine").mkdir()
    (here / "alpine" / "oci-layout").write_text("{}")
    assert recognise_source(kept.source).kind is SourceKind.REGISTRY
    assert kept.with_absolute_paths() == kept


def test_all_paths_are_made_absolute(here: Path) -> None:
    request = ImportRequest(
        source="packed:x", tls_ca="ca.pem", authfile="../auth.json", manifest="m.json", config="/c.json"
    )
    kept = request.with_absolute_paths()
    assert (kept.tls_ca, kept.authfile) == (f"{here}/ca.pem", f"{here.parent}/auth.json")
    assert (kept.manifest, kept.config) == (f"{here}/m.json", "/c.json")
    with pytest.raises(UnreadableSourceError):
        ImportRequest(source="oci:absent").with_absolute_paths()


def test_options_of_a_request() -> None:
    request = ImportRequest(
        source="a",
        name="alpine",
        platform="arm64",
        level=3,
        compression="zstd",
        max_entries=5,
        max_bytes=7,
        tls_ca="~/ca",
        mirror="m",
        plain_http=True,
    )
    notes: list[str] = []
    options = request.source_options(notes.append)
    assert request.image_name == ImageName.parse("alpine")
    assert options.platform == Platform("arm64", "linux")
    assert options.registry.tls_ca == Path("~/ca").expanduser()
    assert (options.registry.mirror, options.registry.plain_http) == ("m", True)
    options.registry.notify("why")
    assert notes == ["why"]
    made = request.pack_options
    assert (made.limits.entries, made.limits.unpacked_bytes) == (5, 7)
    assert (made.level, made.compression) == (3, "zstd")
    assert ImportRequest(source="a").pack_options.limits.entries == 1_000_000
    assert ImportRequest(source="a").image_name is None


def test_what_cannot_be_asked() -> None:
    with pytest.raises(InvalidNameError):
        _ = ImportRequest(source="a", name=BAD_NAME).image_name
    with pytest.raises(NoSuchImageError):
        ImportRequest(source="a", platform="a/b/c/d").source_options()
