"""What tests need from outside the package: programs, recorded data, and the folder beside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONFORMANCE = ROOT / "tests" / "conformance"
IN_CI = os.environ.get("CI") == "true"


def need(*programs: str) -> None:
    """Skip the test where a program is missing; in CI, where all of them must be there, fail it."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)}"
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def shared(path: str) -> Path:
    """A file of the folder ``shared`` beside the checkout; the test is skipped where that is not there."""
    found = ROOT.parent / "shared" / path
    if not found.exists():
        pytest.skip(f"not there: ../shared/{path}")
    return found


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a tar of files that are known."""
    with tarfile.open(archive) as opened:
        # The first releases of Python 3.11 have no filters.
        opened.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        opened.extractall(directory)


def recorded(name: str) -> list[dict[str, Any]]:
    """The records of ``tests/conformance/NAME``: a JSON list, or JSON lines."""
    text = (CONFORMANCE / name).read_text(encoding="utf-8")
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.split("\n") if line]
    records: list[dict[str, Any]] = json.loads(text)
    return records
