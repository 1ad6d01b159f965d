"""Whatever bytes stand in a cache: no traceback, no hang, and no wrong word on what the daemon would read."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocitui.cache import (
    Document,
    DocumentError,
    ImageName,
    InvalidNameError,
    PackerCache,
    judge_index,
    new_index,
)
from ocitui.cache.documents import read_config, read_manifest
from ocitui.cache.files import valid_digest
from ocitui.cache.listing import CacheFiles
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.check.index_checks import DescriptorChecks
from ocitui.doctor.findings import Answer, Depth
from ocitui.doctor.report import Report
from tests.doctor.examine_support import Sample, all_codes, copied
from tests.importing.sources import documents
from tests.tools import examples

pytestmark = pytest.mark.slow

SOME = settings(max_examples=examples(60))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
JSON_TEXT = JSON.map(lambda value: json.dumps(value).encode())


@pytest.fixture(scope="module")
def place(made_sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return copied(made_sample, tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.0)


@st.composite
def bent(draw: st.DrawFn, original: bytes) -> bytes:
    """Some bytes with a few changed, cut, repeated or put in."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0 if data:
                data[at] = draw(st.integers(0, 255))
            case 1:
                del data[at:]
            case 2:
                data[at:at] = draw(st.sampled_from([b'"', b"{", b"}", b"\\", b"-0", b"\0", b"\xff", b',"size":1']))
            case 3:
                data[at:at] = data[at : at + draw(st.integers(0, 80))]
            case _:
                del data[at : at + draw(st.integers(0, 80))]
    return bytes(data)


def examined(directory: Path, depth: Depth = Depth.HEADER) -> Report:
    return asyncio.run(examine(directory, ExamineOptions(depth)))


@SOME
@given(data=st.data())
def test_any_index(data: st.DataObject, place: Sample, made_sample: Sample) -> None:
    raw = data.draw(bent(made_sample.index.read_bytes()) | st.binary(max_size=200) | JSON_TEXT)
    place.index.write_bytes(raw)
    report = examined(place.directory, Depth.QUICK)
    outcome = judge_index(raw)
    about_index = {one.answer for one in report.findings if one.code.startswith(("index-", "descriptor-"))}
    assert (Answer.WIPE in about_index) is (outcome == "reset")
    assert (Answer.NO_START in about_index) is (outcome == "error")


@SOME
@given(data=st.data(), kind=st.sampled_from(["manifest", "config"]))
def test_any_document(data: st.DataObject, kind: str, place: Sample, made_sample: Sample) -> None:
    shutil.copy(made_sample.index, place.index)
    for name in ("manifest.json", "config.json"):
        shutil.copy(made_sample.other_file(name), place.other_file(name))
    path = place.other_file(f"{kind}.json")
    original = path.read_bytes()
    raw = data.draw(bent(original) | st.binary(max_size=200) | JSON_TEXT)
    path.write_bytes(raw)
    found = all_codes(examined(place.directory, Depth.QUICK).findings)
    # Whatever differs from what its digest says is said.
    assert bool(found) is (raw != original)
    assert bool(found & {f"{kind}-unparsable", "manifest-is-index", "config-no-history"}) is fails(kind, raw)


def fails(kind: str, raw: bytes) -> bool:
    try:
        Document.manifest(raw) if kind == "manifest" else Document.config(raw)
    except DocumentError:
        return True
    return False


@given(data=st.data())
def test_the_quick_reader_reads_as_the_strict_one(data: st.DataObject) -> None:
    manifest, config = documents(config={"Env": ['A="b"'], "Labels": {"ü": "\\"}})
    for kind, original, quick in (("manifest", manifest, read_manifest), ("config", config, read_config)):
        raw = data.draw(bent(original))
        try:
            value: object = quick(raw)
        except DocumentError:
            assert fails(kind, raw)
        else:
            assert value == (Document.manifest(raw) if kind == "manifest" else Document.config(raw)).value


@SOME
@given(data=st.data(), format=st.sampled_from(["squashfs", "erofs", "tar"]))
def test_any_packed_file(data: st.DataObject, format: str, place: Sample, made_sample: Sample) -> None:
    for path in made_sample.directory.iterdir():
        shutil.copy(path, place.directory)
    head = made_sample.file(format).read_bytes()
    place.file(format).write_bytes(data.draw(bent(head[:2048])) + head[2048:])
    report = examined(place.directory)
    assert all(one.file == place.file(format).name for one in report.findings if one.code.startswith("packed"))


def annotated(name: str) -> dict[str, str]:
    return {"io.containerd.image.name": name, "dev.krata.oci.packer.format": "squashfs"}


@given(names=st.lists(st.text(alphabet="ab:/@.-1 library latest", max_size=20) | st.text(max_size=10), max_size=5))
def test_any_name(names: list[str]) -> None:
    digests = [f"sha256:{number:064x}" for number in range(len(names))]
    raws = [
        json.dumps({"mediaType": "type", "digest": digest, "size": 1, "annotations": annotated(name)}).encode()
        for digest, name in zip(digests, names, strict=True)
    ]
    index, checks = new_index(raws), DescriptorChecks()
    for _ in range(2):
        findings = checks.check(index, {})
        odd = {one.name for one in findings if one.code in ("name-not-canonical", "latest-never-resolves")}
        assert odd == {name for name in names if not resolves(name)}


def resolves(name: str) -> bool:
    try:
        parsed = ImageName.parse(name)
    except InvalidNameError:
        return False
    return str(parsed) == name and parsed.reference != "latest"


@given(digest=st.text(max_size=80) | st.from_regex(r"sha(256|512):[0-9a-fA-F]{60,66}", fullmatch=True))
def test_a_valid_digest_stays_in_the_cache(digest: str) -> None:
    if valid_digest(digest):
        assert "/" not in digest
        assert ".." not in digest
        assert Path(f"/cache/{digest}.tar").resolve().parent == Path("/cache")


async def test_a_file_of_every_kind_of_name(tmp_path: Path) -> None:
    for name in (b"\xff\xfe", b"a\nb", b"sha256:x.tar", b".hidden", b"sha256:" + b"a" * 64 + b".tar.gz", b"x.json"):
        Path(tmp_path / name.decode("utf-8", "surrogateescape")).write_bytes(b"")
    report = await examine(tmp_path, ExamineOptions(Depth.DEEP), open_files=CacheFiles)
    assert all_codes(report.findings) == {"index-missing", "unknown-file"}
    assert len(report.findings) >= 7
    assert await PackerCache(tmp_path).list() == []
