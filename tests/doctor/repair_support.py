"""What a cache holds, byte for byte, and short ways to plan and carry out a repair."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from ocitui.cache import Ledger, PackedFormat, PackerCache, Topic
from ocitui.cache.files import OWN_NAME
from ocitui.doctor.findings import Depth, Finding, Severity
from ocitui.doctor.repair.plan import Repaired, RepairPlan, apply_plan, plan_repair
from ocitui.doctor.repair.steps import RepairOptions
from ocitui.doctor.report import Report
from tests.doctor.examine_support import found


class LinkState(NamedTuple):
    """A name of the directory: its mode, mtime, and bytes (of a link its target).

    The mtime is 0 for what is no regular file, and for an index, which is written anew when it is edited.
    """

    mode: int
    modified_ns: int
    content: bytes


def standing(directory: Path) -> dict[str, LinkState]:
    """Everything in a cache but ocitui's own folder, links not followed."""
    return {path.name: _standing(path) for path in directory.iterdir() if path.name != OWN_NAME}


def _standing(path: Path) -> LinkState:
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        modified_ns = 0 if path.name == "index.json" else status.st_mtime_ns
        return LinkState(status.st_mode, modified_ns, path.read_bytes())
    content = os.fsencode(os.readlink(path)) if stat.S_ISLNK(status.st_mode) else b""
    return LinkState(status.st_mode, 0, content)


def bytes_in(directory: Path) -> dict[str, bytes]:
    """The bytes of every file of a cache."""
    return {name: one.content for name, one in standing(directory).items()}


def contents(directory: Path) -> Counter[str]:
    """The sha256 of every file of the cache or its trash; sound indexes apart."""
    own = directory / OWN_NAME
    counted: Counter[str] = Counter()
    for folder in (directory, own / "trash"):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_file() and not path.is_symlink() and not path.name.endswith(("index.json", ".index")):
                counted[hashlib.sha256(path.read_bytes()).hexdigest()] += 1
    return counted


def nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing waits for another program to end its write."""
    for module in ("index", "transactions", "publish"):
        monkeypatch.setattr(f"ocitui.cache.{module}.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)


def let_come_back(directory: Path) -> None:
    """Have it on record that a registry gives every image that has a packed file here."""
    ledger = Ledger.open(directory)
    for path in directory.iterdir():
        if path.suffix[1:] in tuple(PackedFormat):
            ledger.note(Topic.ASKED, path.name, "daemon a registry gives it")
    ledger.flush()


async def planned(
    directory: Path, depth: Depth = Depth.HEADER, *, come_back: bool = True, **options: Any
) -> tuple[Report, RepairPlan]:
    """A check, and what is planned on it; by default of images that can ``come_back``."""
    if come_back:
        let_come_back(directory)
    report = await found(directory, depth)
    return report, await plan_repair(PackerCache(directory), report, RepairOptions(**options))


async def repaired(directory: Path, plan: RepairPlan) -> Repaired:
    return await apply_plan(PackerCache(directory), replace(plan, depth=Depth.HEADER))


async def undone(directory: Path, done: Repaired) -> None:
    for transaction in reversed(done.transactions):
        await PackerCache(directory).undo(transaction.id)


def worse_than_info(findings: tuple[Finding, ...] | list[Finding]) -> Counter[tuple[str, str, str]]:
    """Which findings there are, by code, digest and file."""
    return Counter(
        (finding.code, finding.digest, finding.file) for finding in findings if finding.severity is not Severity.INFO
    )


def left_by(plan: RepairPlan) -> Counter[tuple[str, str, str]]:
    """What a plan says will be found afterwards."""
    return worse_than_info([left.finding for left in plan.left])
