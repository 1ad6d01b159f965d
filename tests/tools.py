"""What tests need from outside the package: programs, and recorded data."""

from __future__ import annotations

import json
import os
import shutil
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


def recorded(name: str) -> list[dict[str, Any]]:
    """The records of ``tests/conformance/NAME``: a JSON list, or JSON lines."""
    text = (CONFORMANCE / name).read_text(encoding="utf-8")
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.split("\n") if line]
    records: list[dict[str, Any]] = json.loads(text)
    return records
