"""A plan of repair as programs read it."""

from __future__ import annotations

from typing import Any

from ocitui.doctor.repair.plan import Left, RepairPlan, RepairStep

from .finding_json import finding_json
from .side_by_side import sources_json


def plan_json(plan: RepairPlan) -> dict[str, Any]:
    """A plan; of a step that is not ``chosen`` nothing is done."""
    return {
        "steps": [_step_json(step, step.number in plan.chosen) for step in plan.steps],
        "left": [_left_json(left) for left in plan.left],
        "sources": sources_json(plan.joined),
        "notes": list(plan.notes),
        "bytes_trashed": plan.bytes_trashed,
        "bytes_placed": plan.bytes_placed,
        "used_by": list(plan.used_by),
        "depth": plan.depth.value,
    }


def _step_json(step: RepairStep, chosen: bool) -> dict[str, Any]:
    return {
        "number": step.number,
        "kind": step.kind.value,
        "title": step.title,
        "chosen": chosen,
        "findings": [{"code": finding.code, "fingerprint": finding.fingerprint} for finding in step.findings],
        "files": [{"name": file.name, "fate": file.fate.name.lower(), "size": file.size} for file in step.files],
        "bytes_trashed": step.bytes_trashed,
        "bytes_placed": step.bytes_placed,
        "source": step.source or None,
        "then": step.then,
        "loses": step.loses or None,
        "futile": step.futile or None,
        "used_by": list(step.used_by),
    }


def _left_json(left: Left) -> dict[str, Any]:
    return {"finding": finding_json(left.finding), "why": left.why, "would": left.would or None}
