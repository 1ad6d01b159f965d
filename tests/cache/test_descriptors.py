"""Descriptors of the index: read as the daemon reads them, their bytes and unknown fields kept."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import documents as schema
from ocitui.cache.descriptors import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_PACKED_FORMAT,
    ANNOTATION_REFERENCE,
    Columns,
    Descriptor,
)
from ocitui.cache.documents import Platform, read_strictly
from ocitui.cache.errors import DocumentError
from tests.cache.grammar import document
from tests.tools import CONFORMANCE, recorded

TYPICAL: dict[str, Any] = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": "sha256:" + "ab" * 32,
    "size": 428,
    "annotations": {
        ANNOTATION_IMAGE_NAME: "alpine:3.19",
        ANNOTATION_PACKED_FORMAT: "squashfs",
        ANNOTATION_REFERENCE: "3.19",
    },
}
FULL = {
    **TYPICAL,
    "urls": ["u"],
    "platform": {"architecture": "arm64", "os": "linux", "variant": "v8", "os_features": ["f"], "features": []},
    "artifactType": "t",
    "data": "ZA==",
    "unknown": {"b": [1, None], "a": 1.5},
}


def raw_of(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def columns_of(*raws: bytes) -> list[tuple[Any, ...]] | None:
    """What many read at once are, one row each; None where that is left to the strict reader."""
    columns = Columns()
    if not (is_utf8(raws) and columns.read(b"[" + b",".join(raws) + b"]", 0)):
        assert len(columns) == 0
        return None
    return [*zip(*columns.lists(), strict=True)]


def is_utf8(raws: Iterable[bytes]) -> bool:
    try:
        b"".join(raws).decode()
    except UnicodeDecodeError:
        return False
    return True


def row_of(descriptor: Descriptor) -> tuple[Any, ...]:
    return msgspec.structs.astuple(descriptor)[1:]


def agreed(raw: bytes) -> Descriptor | None:
    """The descriptor, after a look that the strict reader reads the same; None where both refuse."""
    sound = columns_of(raw, raw)
    try:
        fields = read_strictly(raw, schema.DESCRIPTOR)
    except DocumentError:
        with pytest.raises(DocumentError):
            Descriptor.parse(raw)
        assert sound is None
        return None
    found = Descriptor.parse(raw)
    if sound is not None:
        assert sound == [row_of(found)] * 2
    annotations = fields.get("annotations") or {}
    platform = fields.get("platform")
    assert found.raw is raw
    assert (found.digest, found.size, found.media_type) == (fields["digest"], fields["size"], fields["mediaType"])
    assert found.annotations == annotations
    assert found.image_name == annotations.get(ANNOTATION_IMAGE_NAME)
    assert found.format == annotations.get(ANNOTATION_PACKED_FORMAT)
    assert found.reference == annotations.get(ANNOTATION_REFERENCE)
    assert found.platform == (platform and msgspec.convert(platform, Platform))
    return found


LISTED = [record for record in recorded("indexes.json") if record.get("list")]


@pytest.mark.parametrize("record", LISTED, ids=lambda record: record["case"])
def test_the_descriptors_of_every_recorded_index_are_read(record: dict[str, Any]) -> None:
    index = read_strictly((CONFORMANCE / record["input"]).read_bytes(), schema.IMAGE_INDEX)
    found = [Descriptor.from_dict(entry) for entry in index["manifests"]]
    assert [one.digest for one in found] == [listed["digest"] for listed in record["list"]]
    assert [one.annotations for one in found] == [listed.get("annotations", {}) for listed in record["list"]]


def test_every_field_is_read_and_unknown_ones_are_kept_in_order() -> None:
    found = agreed(raw_of(FULL))
    assert found is not None
    assert found.key == (FULL["digest"], "squashfs")
    assert str(found.platform) == "linux/arm64/v8"
    assert list(found.as_dict().items()) == list(FULL.items())


def test_absent_annotations_are_an_empty_dict() -> None:
    found = agreed(b'{"mediaType":"m","digest":"d","size":1}')
    assert found is not None
    assert (found.annotations, found.platform, found.format, found.image_name) == ({}, None, None, None)


def test_from_dict_and_as_dict_are_each_others_reverse() -> None:
    assert Descriptor.from_dict(FULL).as_dict() == FULL


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {**TYPICAL, "size": "428"},
        {**TYPICAL, "size": 10**30},
        {**TYPICAL, "size": 1.0},
        {**TYPICAL, "digest": None},
        {**TYPICAL, "digest": "\ud800"},
        {**TYPICAL, "annotations": {"a": 1}},
        {**TYPICAL, "platform": {"os": "linux"}},
        {**TYPICAL, "x": object()},
    ],
)
def test_from_dict_refuses_what_the_daemon_does(fields: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        Descriptor.from_dict(fields)


def test_from_dict_refuses_a_dict_that_holds_itself() -> None:
    endless = dict(TYPICAL)
    endless["x"] = endless
    with pytest.raises(DocumentError):
        Descriptor.from_dict(endless)


def test_a_cut_descriptor_is_refused() -> None:
    raw = raw_of(TYPICAL)
    assert [end for end in range(len(raw)) if agreed(raw[:end]) is not None] == []


@pytest.mark.parametrize(
    "more",
    [
        '"size":428', '"\\u0064igest":"d"', '"urls":null,"urls":null', '"annotations":{}', '"data":"\\ud800"',
        '"platform":{"os":"linux"}', '"platform":{"os":"a","architecture":"b","os":"a"}', '"platform":[]', '"x":01',
    ],
)  # fmt: skip
def test_one_member_more_may_be_one_too_many(more: str) -> None:
    assert agreed(raw_of(TYPICAL)[:-1] + b"," + more.encode() + b"}") is None


@pytest.mark.parametrize(
    "more",
    [
        '"x":1', '"x":1,"x":2', '"x":-0', '"x":"\\ud800"', '"":{"":[]}', '"x":' + "1" * 5000, '"urls":null',
        '"platform":["arm64","linux",null,null,"v8",null]', '"platform":null', '"data":"-0"',
        '"artifactType":"\\"\\\\"', '"x":' + "[" * 100_000 + "]" * 100_000, '"os.version":{"size":-0,"size":-0}',
    ],
)  # fmt: skip
def test_one_member_more_may_do_no_harm(more: str) -> None:
    assert agreed(raw_of(TYPICAL)[:-1] + b"," + more.encode() + b"}") is not None


@pytest.mark.parametrize("size", ["-0", "428.0", "4.28e2", "9223372036854775808", "null"])
def test_a_size_the_daemon_refuses_is_refused(size: str) -> None:
    assert agreed(raw_of(TYPICAL).replace(b"428", size.encode())) is None


@pytest.mark.parametrize("size", [0, -1, 2**63 - 1, -(2**63)])
def test_a_size_the_daemon_reads_is_read(size: int) -> None:
    assert agreed(raw_of({**TYPICAL, "size": size})) is not None


def test_a_whole_descriptor_may_be_an_array() -> None:
    annotations = b'{"%s":"tar"}' % ANNOTATION_PACKED_FORMAT.encode()
    found = agreed(b'["m","d",1,null,%s,["amd64","linux",null,null,null,null],null,null]' % annotations)
    assert found is not None
    assert found.key == ("d", "tar")


@pytest.mark.parametrize("odd", [TYPICAL, FULL, {**TYPICAL, "size": 0}, {**TYPICAL, "annotations": None}])
def test_many_are_read_at_once_as_each_is_alone(odd: dict[str, Any]) -> None:
    raws = [raw_of(TYPICAL), raw_of(odd), raw_of(TYPICAL)]
    assert columns_of(*raws) == [row_of(Descriptor.parse(raw)) for raw in raws]


def test_one_repeated_key_among_many_is_left_to_the_strict_reader() -> None:
    raws = [raw_of(TYPICAL), raw_of(TYPICAL)[:-1] + b',"size":1}']
    assert columns_of(*raws) is None


def test_annotations_are_set_in_place_and_the_rest_is_kept() -> None:
    changed = Descriptor.from_dict(FULL).with_annotations({ANNOTATION_IMAGE_NAME: "b:1", "new": "n"})
    expected = {**FULL, "annotations": {**TYPICAL["annotations"], ANNOTATION_IMAGE_NAME: "b:1", "new": "n"}}
    assert list(changed.as_dict().items()) == list(expected.items())


def test_new_annotations_go_where_the_daemon_writes_them() -> None:
    bare = Descriptor.parse(b'{"mediaType":"m","digest":"d","size":1,"platform":null,"x":1}')
    assert list(bare.with_annotations({"a": "b"}).as_dict()) == [
        "mediaType", "digest", "size", "annotations", "platform", "x",
    ]  # fmt: skip


def test_descriptors_are_equal_by_their_bytes() -> None:
    one, same, spaced = (Descriptor.parse(raw) for raw in (raw_of(TYPICAL), raw_of(TYPICAL), raw_of(TYPICAL) + b" "))
    assert one == same != spaced
    assert len({one, same, spaced}) == 2


@given(document(schema.DESCRIPTOR))
def test_both_readers_agree_on_any_descriptor(raw: bytes) -> None:
    agreed(raw)


@given(st.integers(0, len(raw_of(TYPICAL)) - 1), st.binary(max_size=2))
def test_both_readers_agree_on_a_typical_descriptor_with_wrong_bytes(at: int, wrong: bytes) -> None:
    raw = raw_of(TYPICAL)
    agreed(raw[:at] + wrong + raw[at + 1 :])


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    agreed(raw)
