"""Manifests and configs: the fast reader accepts what the strict one does, and reads the same."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocitui.cache import documents as schema
from ocitui.cache.documents import (
    Document,
    ImageConfiguration,
    ImageManifest,
    read_config,
    read_manifest,
    read_strictly,
)
from ocitui.cache.errors import DocumentError
from ocitui.cache.strict_json import Struct
from tests.cache.grammar import document
from tests.tools import recorded

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

MANIFEST = (
    b'{"schemaVersion":2,"mediaType":"m","config":{"mediaType":"c","digest":"d","size":1},'
    b'"layers":[{"mediaType":"l","digest":"e","size":2,"urls":["u"],"annotations":{"k":"v"}}],'
    b'"annotations":{"k":"v"},"x":[1,{"y":null}]}'
)
CONFIG = (
    b'{"architecture":"arm64","os":"linux","variant":"v8","os.version":"1","os.features":["f"],'
    b'"config":{"User":"u","ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"Volumes":{"/v":{"x":1}},"Labels":{"k":"v"}},'
    b'"rootfs":{"type":"layers","diff_ids":["sha256:a"]},"history":[{"created_by":"c","empty_layer":true}]}'
)


def agreed(raw: bytes, strict: Struct, view: type[S], read: Callable[[bytes], S]) -> S | None:
    """What both readers read; None where both refuse. They never differ, and raise nothing but DocumentError."""
    expected = _told(lambda: msgspec.convert(read_strictly(raw, strict), view))
    assert _told(lambda: read(raw)) == expected
    return None if isinstance(expected, str) else expected


def _told(read: Callable[[], T]) -> T | str:
    """What was read, or how it was refused."""
    try:
        return read()
    except DocumentError as error:
        return f"{error.message} at line {error.line} column {error.column}"


def agreed_manifest(raw: bytes) -> ImageManifest | None:
    return agreed(raw, schema.IMAGE_MANIFEST, ImageManifest, read_manifest)


def agreed_config(raw: bytes) -> ImageConfiguration | None:
    return agreed(raw, schema.IMAGE_CONFIGURATION, ImageConfiguration, read_config)


@pytest.mark.parametrize("record", recorded("documents.json"), ids=lambda record: f"{record['kind']}-{record['case']}")
def test_every_recorded_document_is_read_or_refused_as_the_daemon_does(record: dict[str, Any]) -> None:
    raw = base64.b64decode(record["base64"])
    strict = {"manifest": schema.IMAGE_MANIFEST, "config": schema.IMAGE_CONFIGURATION}[record["kind"]]
    reader: Callable[[bytes], object] = {"manifest": Document.manifest, "config": Document.config}[record["kind"]]
    by_reader, strictly = _told(lambda: reader(raw)), _told(lambda: read_strictly(raw, strict))
    if record["recall"] == "hit":
        assert isinstance(strictly, dict)
        assert isinstance(by_reader, Document)
        assert by_reader.raw is raw
    else:
        assert by_reader == strictly == record["error"]


def test_a_manifest_is_read_by_its_fields() -> None:
    manifest = Document.manifest(MANIFEST).value
    assert (manifest.schema_version, manifest.config.digest, manifest.layers[0].size) == (2, "d", 2)
    assert manifest.annotations == {"k": "v"}


def test_a_config_is_read_by_its_fields() -> None:
    value = Document.config(CONFIG).value
    assert str(value.platform) == "linux/arm64/v8"
    assert (value.os_version, value.os_features) == ("1", ["f"])
    assert value.config is not None
    # Of these the daemon keeps the keys.
    assert list(value.config.exposed_ports or {}) == ["80/tcp"]
    assert list(value.config.volumes or {}) == ["/v"]
    assert value.history[0].empty_layer


def test_documents_are_equal_by_their_bytes() -> None:
    one, same = (Document.config(bytes(bytearray(CONFIG))) for _ in range(2))
    assert one.raw is not same.raw
    assert one == same
    assert len({one, same}) == 1
    # Bytes that say the same are other bytes.
    assert Document.config(CONFIG + b"\n") != one
    assert Document.config(CONFIG + b"\n").value == one.value


def test_a_cut_manifest_is_refused() -> None:
    assert [end for end in range(len(MANIFEST)) if agreed_manifest(MANIFEST[:end]) is not None] == []


def test_a_cut_config_is_refused() -> None:
    assert [end for end in range(len(CONFIG)) if agreed_config(CONFIG[:end]) is not None] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"schemaVersion":2', b'"schemaVersion":2,"schemaVersion":2'),
        (b'"schemaVersion":2', b'"schemaVersion":2,"schemaV\\u0065rsion":2'),
        (b'"schemaVersion":2', b'"schemaVersion":-0'),
        (b'"schemaVersion":2', b'"schemaVersion":2.0'),
        (b'"schemaVersion":2', b'"schemaVersion": -0 '),
        (b'"schemaVersion":2', b'"schemaVersion":4294967296'),
        (b'"size":2', b'"size":-0'),
        (b'"x"', b'"subject":{"mediaType":"m","digest":"d","size":-0},"x"'),
        (b'"size":2', b'"size":2e0'),
        (b'"size":2', b'"size":9223372036854775808'),
        (b'"size":2', b'"size":' + b"9" * 5000),
        (b'"size":2', b'"size":2,"size":2'),
        (b'"urls":["u"]', b'"urls":["u"],"urls":null'),
        (b'"annotations":{"k":"v"},"x"', b'"annotations":{"k":"\\ud800"},"x"'),
        (b'"annotations":{"k":"v"},"x"', b'"annotations":{"k":null},"x"'),
        (b'"annotations":{"k":"v"},"x"', b'"annotations":{"k\xff":"v"},"x"'),
        (b'"x"', b'"x\xff"'),
        (b'"x"', b'"\\udc00"'),
        (b'"y":null', b'"y":NaN'),
    ],
)
def test_what_the_daemon_refuses_is_refused(old: bytes, new: bytes) -> None:
    assert old in MANIFEST
    assert agreed_manifest(MANIFEST.replace(old, new)) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"x"', b'"x":1,"x"'),
        (b'"y":null', b'"y":1,"y":2'),
        (b'"y":null', b'"y":-0'),
        (b'"y":null', b'"y":"\\ud800"'),
        (b'"y":null', b'"y":"\xff"'),
        (b'"y":null', b'"y":' + b"1" * 5000),
        (b'"y":null', b'"y":' + b"[" * 100_000 + b"]" * 100_000),
        (b'"size":2', b'"size":-9223372036854775808'),
        (b'"annotations":{"k":"v"},"x"', b'"annotations":{"k":"1","k":"v"},"x"'),
        (b'"annotations":{"k":"v"},"x"', b'"annotations":{"k":":-0,"},"x"'),
        (b'"annotations":{"k":"v"},"x"', b'"annotations":{"\\"k\\"":"\\\\"},"x"'),
        (b'"mediaType":"m"', b'"mediaType":null'),
        (b'"mediaType":"m"', b'"artifactType":"a","subject":{"mediaType":"m","digest":"d","size":1}'),
        (b'{"mediaType":"c","digest":"d","size":1}', b'["c","d",1,null,null,null,null,null]'),
    ],
)
def test_what_the_daemon_reads_is_read(old: bytes, new: bytes) -> None:
    assert old in MANIFEST
    assert agreed_manifest(MANIFEST.replace(old, new)) is not None


@pytest.mark.parametrize(
    ("old", "new", "ok"),
    [
        (b'{"80/tcp":{}}', b'{"80/tcp":{"x":1,"x":2}}', True),
        (b'{"80/tcp":{}}', b'{"80/tcp":[]}', True),
        (b'{"80/tcp":{}}', b'{"80/tcp":[1]}', False),
        (b'{"80/tcp":{}}', b'{"80/tcp":null}', False),
        (b'{"80/tcp":{}}', b'{"80/tcp":{},"80/tcp":{}}', True),
        (b'{"80/tcp":{}}', b"null", True),
        (b'"empty_layer":true', b'"empty_layer":null', True),
        (b'"empty_layer":true', b'"empty_layer":1', False),
        (b'"empty_layer":true', b'"empty_layer":"true"', False),
        (b'"config":{', b'"container_config":{"Cmd":1},"config":{', True),
        (b'"config":{', b'"config":{"Healthcheck":{"Test":1},', True),
        (b'"config":{', b'"config":{"user":1,', True),
        (b'"config":{', b'"config":{"Cmd":"sh",', False),
        (b'"os.version":"1"', b'"os.version":1', False),
        (b'"os.version":"1"', b'"os_version":1', True),
        (b',"history":[{"created_by":"c","empty_layer":true}]', b"", False),
        (b'[{"created_by":"c","empty_layer":true}]', b'[[null,null,"c",null,true]]', True),
    ],
)
def test_the_rules_of_a_config(old: bytes, new: bytes, ok: bool) -> None:
    assert old in CONFIG
    assert (agreed_config(CONFIG.replace(old, new)) is not None) is ok


@given(document(schema.IMAGE_MANIFEST))
@example(b'{"schemaVersion":2,"config":["c","d",1,null,null,null,null,null],"layers":[],"a":-0}')
def test_both_readers_agree_on_any_manifest(raw: bytes) -> None:
    agreed_manifest(raw)


@given(document(schema.IMAGE_CONFIGURATION))
def test_both_readers_agree_on_any_config(raw: bytes) -> None:
    agreed_config(raw)


@given(st.integers(0, len(CONFIG) - 1), st.binary(max_size=2))
def test_both_readers_agree_on_a_config_with_wrong_bytes(at: int, wrong: bytes) -> None:
    agreed_config(CONFIG[:at] + wrong + CONFIG[at + 1 :])


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    agreed_manifest(raw)
    agreed_config(raw)
