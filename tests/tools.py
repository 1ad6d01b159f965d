"""What tests need from outside the package: programs, recorded data, and patience."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONFORMANCE = ROOT / "tests" / "conformance"
PATIENT_SECONDS = 60.0
LONG = os.environ.get("OCITUI_LONG") == "1"
"""Whether the long proofs are run, which are given as many examples as they can use."""
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


def hesitant_mksquashfs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the real mksquashfs take more than a second for each megabyte, so that it can be met at its work."""
    need("mksquashfs")
    folder.mkdir(parents=True)
    (folder / "mksquashfs").write_text(
        f"""#!/bin/sh
[ "$1" = - ] && set -- "$@" -throttle 99
exec {shutil.which("mksquashfs")} "$@"
"""
    )
    (folder / "mksquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def has_room(folder: Path) -> bool:
    """Whether a test may stand there: a container's memory may be of 64 MB, which several tests at once fill, and is
    mounted so that none of the programs is run that tests put there."""
    if not os.access(folder, os.W_OK):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize > 1 << 30 and not found.f_flag & os.ST_NOEXEC


_MEMORY = Path("/dev/shm")
_HAS_MEMORY = has_room(_MEMORY)


@contextmanager
def in_memory(fallback: Path) -> Iterator[Path]:
    """A directory on a file system in memory, where there is one with room: for thousands of writes."""
    if not _HAS_MEMORY:
        yield fallback
        return
    # A thread that outlives its test may still write there.
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="ocitui-test-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def seeds(few: int, many: int) -> list[Any]:
    """For parametrize: the seeds of random runs, a few for every run of the tests and the rest for the long proofs, as
    which alone they are collected: each process of a run would make thousands of tests that it leaves out."""
    return [*range(few), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(few, many if LONG else few))]


def examples(few: int) -> int:
    """How many examples of hypothesis: these few in every run, a hundred times as many in the long proofs."""
    return few * 100 if LONG else few


def recorded(name: str) -> list[dict[str, Any]]:
    """The records of ``tests/conformance/NAME``: a JSON list, or JSON lines."""
    text = (CONFORMANCE / name).read_text(encoding="utf-8")
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.split("\n") if line]
    records: list[dict[str, Any]] = json.loads(text)
    return records


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Return once it holds; fails only when it never comes."""
    end = time.monotonic() + PATIENT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.005)


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
    """Have no part of the cache wait longer for another program to end its write of the index."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ocitui.cache.") and hasattr(module, "PATIENCE_SECONDS"):
            monkeypatch.setattr(module, "PATIENCE_SECONDS", seconds)
