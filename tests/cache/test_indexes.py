"""Every recorded index.json as the daemon found it at its start."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_PACKED_FORMAT,
    ANNOTATION_REFERENCE,
    CorruptIndexError,
    Descriptor,
    ImageIndex,
    IndexOutcome,
    PackerCache,
    Platform,
    ReadOnlyError,
    examine_index,
    judge_index,
)
from ocitui.cache.descriptors import Columns
from tests.cache.support import OWN, entry, trash
from tests.kratad import as_read_by_the_daemon
from tests.tools import CONFORMANCE, recorded

Record = dict[str, Any]
RECORDS = recorded("indexes.json")
EMPTY = b'{\n  "schemaVersion": 2,\n  "mediaType": "application/vnd.oci.image.index.v1+json",\n  "manifests": []\n}\n'


def data_of(record: Record) -> bytes | None:
    return (CONFORMANCE / record["input"]).read_bytes() if record["input"] else None


def lay_out(record: Record, directory: Path) -> Path:
    index = directory / "index.json"
    data = data_of(record)
    if data is not None:
        index.write_bytes(data)
    return index


def facts(directory: Path) -> list[tuple[str, int, int]]:
    found = [directory, *directory.rglob("*")]
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in found)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is being written here, so there is nothing to wait for."""
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.0)


@pytest.fixture(params=RECORDS, ids=lambda record: record["case"])
def record(request: pytest.FixtureRequest) -> Record:
    found: Record = request.param
    return found


def test_the_verdict_is_the_daemons(record: Record) -> None:
    verdict, index = examine_index(data_of(record))
    assert judge_index(data_of(record)) == verdict.outcome == record["outcome"]
    assert verdict.entries == record.get("entries", 0)
    assert (index is not None) == (record["outcome"] == "loaded")


def test_a_sound_index_is_kept_byte_for_byte(record: Record) -> None:
    data = data_of(record)
    if record["outcome"] == "loaded" and data is not None:
        index = ImageIndex.parse(data)
        assert index.data == data
        assert ImageIndex.parse(data, index).data == data


def test_the_columns_are_what_the_daemon_lists(record: Record) -> None:
    if record["outcome"] == "loaded":
        index = ImageIndex.parse(data_of(record) or b"")
        listed = record["list"]
        annotations = [one.get("annotations", {}) for one in listed]
        assert list(index.digests) == [one["digest"] for one in listed]
        assert list(index.sizes) == [one["size"] for one in listed]
        assert list(index.media_types) == [one["mediaType"] for one in listed]
        assert list(index.names) == [one.get(ANNOTATION_IMAGE_NAME) for one in annotations]
        assert list(index.formats) == [one.get(ANNOTATION_PACKED_FORMAT) for one in annotations]
        assert list(index.references) == [one.get(ANNOTATION_REFERENCE) for one in annotations]
        assert [platform and str(platform) for platform in index.platforms] == [
            one.get("platform") and str(Platform(**one["platform"])) for one in listed
        ]


ODD = {
    "an unknown field": b'"x":{"a":[1]}',
    "an unknown field twice": b'"x":1,"x":2',
    "a text that is no Unicode": b'"x":"\\ud800"',
    "what looks like the end of a descriptor": b'"data":"a,{"',
    "a list of objects": b'"x":[{"size":1},{"digest":2}]',
}


@pytest.fixture
def read_alone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions of the descriptors that are not decoded with others."""
    positions: list[int] = []

    class Counting(Columns):
        def append(self, descriptor: Descriptor, offset: int) -> None:
            positions.append(len(self))
            super().append(descriptor, offset)

    monkeypatch.setattr("ocitui.cache.descriptors.Columns", Counting)
    return positions


@pytest.mark.parametrize("more", ODD.values(), ids=ODD)
@pytest.mark.parametrize("dump", [{"indent": 2}, {"separators": (",", ":")}], ids=["pretty", "compact"])
def test_an_odd_entry_costs_itself(more: bytes, dump: dict[str, Any], read_alone: list[int]) -> None:
    """It is read alone; all others as they would be without it."""
    raws = [json.dumps(entry(number), **dump).encode() for number in range(1_000)]
    raws[500] = raws[500].replace(b"{", b"{" + more + b",", 1)
    index = ImageIndex.parse(b'{"schemaVersion":2,"manifests":[' + b",".join(raws) + b"]}")
    assert [descriptor.raw for descriptor in index.descriptors] == raws
    assert set(read_alone) <= {499, 500, 501}


@pytest.mark.parametrize("head", [b'"x":["]",{}],', b'"annotations":{"a":"[{,{"},', b'"artifactType":"\\u0022",'])
@pytest.mark.parametrize("tail", [b',"x":["]",{}]', b',"y":{"a":",{"}', b',"subject":null'])
def test_an_odd_head_or_tail_costs_itself(head: bytes, tail: bytes, read_alone: list[int]) -> None:
    raws = [json.dumps(entry(number)).encode() for number in range(1_000)]
    data = b"{" + head + b'"schemaVersion":2,"manifests":[' + b",".join(raws) + b"]" + tail + b"}"
    assert len(ImageIndex.parse(data)) == 1_000
    assert set(read_alone) <= {998, 999}


TOGETHER = {
    "no other annotation": b"",
    "a platform": b'"platform":{"architecture":"amd64","os":"windows","os.version":"10"}',
    "nulls": b'"platform":null,"urls":null,"data":null',
    "every field": b'"urls":["u"],"artifactType":"t","data":"ZA==","platform":{"architecture":"a","os":"l"}',
    "an unknown field": b'"x":{"a":[1,null]}',
    "an escaped quote": b'"artifactType":"\\"t\\""',
}


@pytest.mark.parametrize("more", TOGETHER.values(), ids=TOGETHER)
def test_what_is_alike_is_read_together(more: bytes, read_alone: list[int]) -> None:
    raws = [json.dumps(entry(number)).encode()[:-1] + b"," * bool(more) + more + b"}" for number in range(300)]
    index = ImageIndex.parse(b'{"schemaVersion":2,"manifests":[' + b",".join(raws) + b"]}")
    assert read_alone == []
    for values in (index.media_types, index.formats, index.references, index.platforms):
        assert len({id(value) for value in values}) <= len(index.descriptors.blocks)


@pytest.mark.parametrize("window", [4, 5, 7])
def test_utf8_is_checked_window_by_window(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.index._UTF8_WINDOW", window)
    sound = json.dumps({"schemaVersion": 2, "x": "äß€😀\n" * 5, "manifests": []}, ensure_ascii=False, indent=1).encode()
    assert len(ImageIndex.parse(sound)) == 0
    for at in range(len(sound)):
        for wrong in (sound[:at], sound[:at] + b"\xff" + sound[at:]):
            verdict, _ = examine_index(wrong)
            try:
                wrong.decode()
            except UnicodeDecodeError as error:
                before = wrong[: error.start]
                place = (before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
                assert (verdict.outcome, verdict.line, verdict.column) == (IndexOutcome.ERROR, *place)
            else:
                assert verdict.outcome == IndexOutcome.RESET


def test_an_index_read_again_shares_what_stays() -> None:
    raws = [json.dumps(entry(number), indent=2).encode() for number in range(1_000)]
    before = ImageIndex.parse(b'{"schemaVersion":2,"manifests":[' + b",".join(raws) + b"]}")
    assert ImageIndex.parse(bytes(bytearray(before.data)), before) is before
    del raws[500]
    after = ImageIndex.parse(b'{"schemaVersion":2, "manifests": [' + b",".join(raws) + b"]}", before)
    kept = [*before.digests[:500], *before.digests[501:]]
    shared = sum(one is other for one, other in zip(after.digests, kept, strict=True))
    assert 700 < shared < 1_000
    assert after.digests == ImageIndex.parse(after.data).digests


async def test_opening_changes_nothing(record: Record, tmp_path: Path) -> None:
    lay_out(record, tmp_path)
    before = facts(tmp_path)
    if record["outcome"] in ("created", "loaded"):
        listed = await (await PackerCache.open(tmp_path)).list()
        assert [as_read_by_the_daemon(one.as_dict()) for one in listed] == [
            as_read_by_the_daemon(one) for one in record.get("list", [])
        ]
    else:
        with pytest.raises(CorruptIndexError) as caught:
            await PackerCache.open(tmp_path)
        assert caught.value.hint
        assert caught.value.verdict is not None
        assert caught.value.verdict.outcome == record["outcome"]
    assert facts(tmp_path) == before


async def test_opening_as_the_daemon_does_keeps_the_bytes(record: Record, tmp_path: Path) -> None:
    index, data = lay_out(record, tmp_path), data_of(record)
    if record["outcome"] == "error":
        before = facts(tmp_path)
        with pytest.raises(CorruptIndexError):
            await PackerCache.open(tmp_path, on_corrupt="reset")
        assert facts(tmp_path) == before
        return
    cache = await PackerCache.open(tmp_path, on_corrupt="reset")
    assert len(await cache.list()) == record["entries"]
    if record["outcome"] == "loaded":
        assert index.read_bytes() == data
        assert not (tmp_path / OWN).exists()
    else:
        assert index.read_bytes() == EMPTY
        assert trash(tmp_path) == ([] if data is None else [data])


async def test_a_cache_opened_for_reading_is_not_reset(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(b"{}")
    with pytest.raises(ReadOnlyError):
        await PackerCache.open(tmp_path, on_corrupt="reset", read_only=True)
    assert os.listdir(tmp_path) == ["index.json"]


def test_the_records_are_whole() -> None:
    assert len(RECORDS) >= 40
    assert {record["outcome"] for record in RECORDS} == {"created", "loaded", "reset", "error"}
    assert json.loads(EMPTY)["manifests"] == []
