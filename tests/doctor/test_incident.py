"""A report: opened elsewhere, the cache is judged as it was judged on its host, and no secret is in it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import DocumentError, PackerCache, index, read_config, read_manifest
from ocitui.doctor import assess, examine, gather, opened_report, plan_repair, write_report
from ocitui.doctor.findings import Depth
from ocitui.doctor.redaction import redacted
from ocitui.words import assessment_json, finding_json, plan_json
from tests.cache.support import write_cache
from tests.doctor.examine_support import Sample, found
from tests.doctor.fault_makers import CASES, FaultCase, as_parameters
from tests.host.test_redb import database
from tests.tools import ROOT

DOCUMENTS = ROOT / "tests" / "conformance" / "documents.json"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes these files meanwhile."""
    monkeypatch.setattr(index, "PATIENCE_SECONDS", 0.0)


def reported(directory: Path, to: Path) -> Path:
    with open(to, "xb") as file:
        write_report(directory, file)
    return to


async def judged(directory: Path) -> dict[str, Any]:
    """What is found, and planned, without the place where the cache lies."""
    report = await examine(directory)
    assessment = assess(gather(directory, judge=report.judge))
    plan = await plan_repair(PackerCache(directory, read_only=True), report, assessment=assessment)
    told = {
        "findings": [finding_json(one) for one in report.findings],
        "coverage": str(report.coverage),
        "assessment": assessment_json(assessment),
        "plan": plan_json(plan),
    }
    text = json.dumps(told, default=str).replace(str(directory), "CACHE")
    answer: dict[str, Any] = json.loads(text)
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("case", as_parameters(CASES))
async def test_a_report_is_judged_as_its_host_was(case: FaultCase, sample: Sample, tmp_path: Path) -> None:
    case.make(sample)
    if case.depth is Depth.DEEP:
        await found(sample.directory, Depth.DEEP)
    there = await judged(sample.directory)
    file = reported(sample.directory, tmp_path / "report")
    with opened_report(file) as directory:
        assert await judged(directory) == there
    assert not directory.exists()


READERS: dict[str, Callable[[bytes], object]] = {"manifest": read_manifest, "config": read_config}


def answer(read: Callable[[bytes], object], raw: bytes) -> tuple[str, int, int] | None:
    """The error of a document and its place; what it quotes of it is overwritten in a report."""
    try:
        read(raw)
    except DocumentError as error:
        return re.sub(r"(string|variant|field) [\"`].*?[\"`](?=,)", r"\1 ...", error.message), error.line, error.column
    return None


@pytest.mark.parametrize("kind", READERS)
def test_a_redacted_document_is_refused_where_it_was(kind: str) -> None:
    """All that the daemon was seen to take and to refuse."""
    read = READERS[kind]
    cases = [one for one in json.loads(DOCUMENTS.read_bytes()) if one["kind"] == kind]
    others = {}
    for case in cases:
        raw = base64.b64decode(case["base64"])
        short = redacted(raw, read, "0123456789abcdef" * 4)
        assert len(short) == len(raw)
        if answer(read, short) != answer(read, raw):
            others[case["case"]] = answer(read, raw), answer(read, short)
    assert len(cases) > 20
    assert others == {}


@pytest.mark.parametrize("kind", READERS)
def test_no_text_of_a_document_is_left_wherever_it_is_cut(kind: str) -> None:
    secret = "Kq8-hunter"
    run = {"Env": [secret], "Labels": {"digest": secret, secret: "os"}, "Cmd": [secret], "digest": secret}
    value = {"config": run, "os": f'"{secret}', "mediaType": secret, "created": secret, "annotations": {"a": secret}}
    raw = json.dumps({**value, "history": [{"created_by": f"\n{secret}\\"}], "layers": [{"urls": [secret]}]}).encode()
    for size in range(len(raw)):
        for data in (raw[:size], raw[:size] + b"\xff" + raw[size:], raw[size:]):
            left = redacted(data, READERS[kind], "0123456789abcdef" * 4)
            assert not any(secret[at : at + 4].encode() in left for at in range(len(secret) - 3)), data


async def test_copies_in_the_trash_are_known_by_what_is_on_record(sample: Sample, tmp_path: Path) -> None:
    """The documents by their true digests, the packed file by the ledger: the plan brings all three back."""
    await found(sample.directory, Depth.DEEP)
    trash = sample.directory / ".ocitui" / "trash"
    trash.mkdir(parents=True, exist_ok=True)
    for suffix in ("squashfs", "manifest.json", "config.json"):
        file = sample.other_file(suffix)
        file.rename(trash / f"000001-0000~{file.name}")
    there = await judged(sample.directory)
    assert json.dumps(there["plan"]["steps"]).count("from the trash") == 3, there["plan"]["steps"]
    with opened_report(reported(sample.directory, tmp_path / "report")) as directory:
        assert await judged(directory) == there


async def test_zones_are_judged_without_their_database(tmp_path: Path) -> None:
    directory = tmp_path / "cache" / "image"
    directory.mkdir(parents=True)
    write_cache(directory, range(2))
    (tmp_path / "host.uuid").touch()
    (tmp_path / "krata.db").write_bytes(database("03-three"))
    there = await judged(directory)
    assert "zone-needs-missing" in {one["code"] for one in there["findings"]}
    report = reported(directory, tmp_path / "report")
    (tmp_path / "krata.db").unlink()
    with opened_report(report) as place:
        assert await judged(place) == there
        assert not [*place.parent.parent.glob("*.db")]
