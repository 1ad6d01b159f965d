"""A report in Prometheus' text format, for node_exporter's textfile collector.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from ocitui.cache import IndexOutcome
from ocitui.cache.disk import write_outside

from .findings import Depth, Severity
from .report import Report

_PREFIX = "ocitui_cache"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
Sample = tuple[Mapping[str, str], float]


def prometheus(report: Report) -> str:
    """All metrics of one examination, each with its cache as a label."""
    return "".join(f"{line}\n" for line in _lines(report))


def write_prometheus(report: Report, path: Path) -> None:
    """Put the metrics in a file's place at once, so that the collector never reads half of them.

    Raises ConflictError for a file of the cache itself, StorageError, ReadOnlyError.
    """
    write_outside(report.directory, path, prometheus(report), replace=True)


def _lines(report: Report) -> Iterator[str]:
    cache = {"cache": str(report.directory)}
    for name, help_, samples in _metrics(report):
        yield f"# HELP {_PREFIX}_{name} {help_}"
        yield f"# TYPE {_PREFIX}_{name} gauge"
        for labels, value in samples:
            yield f"{_PREFIX}_{name}{{{_labels({**cache, **labels})}}} {_number(value)}"


def _metrics(report: Report) -> Iterator[tuple[str, str, list[Sample]]]:
    coverage, outcome = report.coverage, report.verdict.outcome
    yield "findings", "Findings that are not acknowledged, by code and severity.", _by_code(report, acknowledged=False)
    yield "findings_acknowledged", "Findings that are acknowledged.", _by_code(report, acknowledged=True)
    counts = Counter(one.severity for one in report.findings if not one.acknowledged)
    severities: list[Sample] = [({"severity": severity}, counts[severity]) for severity in Severity]
    yield "findings_by_severity", "Findings that are not acknowledged, by severity.", severities
    verdicts: list[Sample] = [({"verdict": one.value}, float(one is outcome)) for one in IndexOutcome]
    yield "index_verdict", "What the daemon would do with the index: 1 for the one that holds.", verdicts
    yield "entries", "Entries of the index.", [({}, report.entries)]
    states: list[Sample] = [({"state": state}, count) for state, count in report.states().items()]
    yield "entries_by_state", "Entries that are ok, bad, or not looked into as far as that tells.", states
    yield "packed_bytes", "Bytes of all packed files.", [({}, report.packed_bytes)]
    depths = {Depth.QUICK: coverage.quick, Depth.HEADER: coverage.header, Depth.DEEP: coverage.deep}
    reached: list[Sample] = [({"depth": depth}, count) for depth, count in depths.items()]
    yield "checked_entries", "Entries checked at least so deep.", reached
    yield "unchecked", "What could not be checked.", [({}, len(coverage.unchecked))]
    yield "check_bytes_read", "Bytes of packed files that the check read.", [({}, coverage.bytes_read)]
    yield "check_timestamp_seconds", "When the check began.", [({}, report.started)]
    yield "check_duration_seconds", "How long the check took.", [({}, report.seconds)]


def _by_code(report: Report, *, acknowledged: bool) -> list[Sample]:
    counts = Counter((one.code, one.severity) for one in report.findings if one.acknowledged is acknowledged)
    return [({"code": code, "severity": severity}, number) for (code, severity), number in sorted(counts.items())]


def _labels(labels: Mapping[str, str]) -> str:
    texts = {name: value.encode("utf-8", "replace").decode().translate(_ESCAPES) for name, value in labels.items()}
    return ",".join(f'{name}="{text}"' for name, text in texts.items())


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
