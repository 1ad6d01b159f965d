"""Examines a cache and mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocitui.front import front

if TYPE_CHECKING:
    from .acknowledged import acknowledge as acknowledge
    from .acknowledged import load_acknowledged as load_acknowledged
    from .acknowledged import remember_told as remember_told
    from .acknowledged import told_last as told_last
    from .acknowledged import withdraw as withdraw
    from .assessment import Assessment as Assessment
    from .assessment import Case as Case
    from .assessment import advice as advice
    from .assessment import assess as assess
    from .assessment import gather as gather
    from .catalogue import CATALOGUE as CATALOGUE
    from .catalogue import FILE_FAULTS as FILE_FAULTS
    from .check.examine import ExamineOptions as ExamineOptions
    from .check.examine import examine as examine
    from .check.history import keep_index as keep_index
    from .check.index_checks import IndexReading as IndexReading
    from .check.index_checks import read_index as read_index
    from .check.judge import Judge as Judge
    from .check.pacing import Progress as Progress
    from .entries import Entries as Entries
    from .entries import JudgedEntry as JudgedEntry
    from .entries import Moves as Moves
    from .entries import Predicate as Predicate
    from .findings import NOT_LOOKED as NOT_LOOKED
    from .findings import STATE_WORDS as STATE_WORDS
    from .findings import Answer as Answer
    from .findings import Depth as Depth
    from .findings import EntryState as EntryState
    from .findings import Finding as Finding
    from .findings import Severity as Severity
    from .findings import Way as Way
    from .findings import by_fault as by_fault
    from .findings import clean_text as clean_text
    from .findings import entry_text as entry_text
    from .findings import in_order as in_order
    from .findings import seen_text as seen_text
    from .findings import tally as tally
    from .repair.apply import Repaired as Repaired
    from .repair.apply import apply_plan as apply_plan
    from .repair.copies import copies_named as copies_named
    from .repair.index_steps import INDEX_CODES as INDEX_CODES
    from .repair.index_steps import is_about_index as is_about_index
    from .repair.plan import RepairPlan as RepairPlan
    from .repair.plan import plan_repair as plan_repair
    from .repair.point import PointPlan as PointPlan
    from .repair.point import plan_point as plan_point
    from .repair.point import point as point
    from .repair.steps import Left as Left
    from .repair.steps import RepairOptions as RepairOptions
    from .repair.steps import RepairProgress as RepairProgress
    from .repair.steps import RepairStep as RepairStep
    from .report import Coverage as Coverage
    from .report import Reach as Reach
    from .report import Report as Report
    from .report import prometheus as prometheus
    from .salvage.salvage import salvage_entries as salvage_entries
    from .salvage.sources import IndexSource as IndexSource
    from .salvage.sources import JoinedEntries as JoinedEntries
    from .salvage.sources import JoinedEntry as JoinedEntry
    from .why import Chain as Chain
    from .why import Link as Link
    from .why import LinkState as LinkState
    from .why import chain_of as chain_of

__getattr__, __dir__, __all__ = front(
    __name__,
    {
        "acknowledged": "acknowledge load_acknowledged remember_told told_last withdraw",
        "assessment": "Assessment Case advice assess gather",
        "catalogue": "CATALOGUE FILE_FAULTS",
        "check.examine": "ExamineOptions examine",
        "check.history": "keep_index",
        "check.index_checks": "IndexReading read_index",
        "check.judge": "Judge",
        "check.pacing": "Progress",
        "entries": "Entries JudgedEntry Moves Predicate",
        "findings": (
            "Answer Depth EntryState Finding NOT_LOOKED STATE_WORDS Severity Way by_fault clean_text entry_text "
            "in_order seen_text tally"
        ),
        "repair.apply": "Repaired apply_plan",
        "repair.copies": "copies_named",
        "repair.index_steps": "INDEX_CODES is_about_index",
        "repair.plan": "RepairPlan plan_repair",
        "repair.point": "PointPlan plan_point point",
        "repair.steps": "Left RepairOptions RepairProgress RepairStep",
        "report": "Coverage Reach Report prometheus",
        "salvage.salvage": "salvage_entries",
        "salvage.sources": "IndexSource JoinedEntries JoinedEntry",
        "why": "Chain Link LinkState chain_of",
    },
)
