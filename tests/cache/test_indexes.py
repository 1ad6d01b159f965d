"""Every recorded index.json as the daemon found it at its start."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import CorruptIndexError, ImageIndex, PackerCache, ReadOnlyError, examine_index, judge_index
from tests.cache.support import OWN, trash
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


def as_read_by_the_daemon(descriptor: Record) -> Record:
    """Without what it drops: unknown fields, and nulls."""
    known = ("mediaType", "digest", "size", "urls", "annotations", "platform", "artifactType", "data")
    kept = {key: descriptor[key] for key in known if descriptor.get(key) is not None}
    if "platform" in kept:
        fields = ("architecture", "os", "os_version", "os_features", "variant", "features")
        kept["platform"] = {key: kept["platform"][key] for key in fields if kept["platform"].get(key) is not None}
    return kept


def facts(directory: Path) -> list[tuple[str, int, int]]:
    found = [directory, *directory.rglob("*")]
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in found)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is being written here, so there is nothing to wait for."""
    monkeypatch.setattr("ocitui.cache.index_file.PATIENCE_SECONDS", 0.0)


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
        assert index.to_bytes() == data
        assert ImageIndex.parse(data, index).to_bytes() == data


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
