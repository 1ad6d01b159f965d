"""What monitoring is told of a cache: the metrics of one examination, or that it failed.

The text of a HELP line never changes once it was released: a host's collector refuses two files that tell of one metric
in other words, as those of two versions would.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ocitui import __version__
from ocitui.cache import TRASH_NAME, CacheError, IndexOutcome, read_bounded, sizes_in_own_folder
from ocitui.host import find_daemon
from ocitui.importing import unfinished_imports
from ocitui.stand_in import fact_of

from .findings import Depth, Severity
from .report import Report

_CACHE = "ocitui_cache_"
_LAST_SUCCESS = f"{_CACHE}check_last_success_timestamp_seconds"
_MOST_METRICS = 1 << 20
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
Samples = Iterable[tuple[Mapping[str, str], float]]
Metric = tuple[str, str, Samples]
"""A name, its HELP text, and the values by their labels."""


def prometheus(report: Report) -> str:
    """All metrics of one examination, each with its cache as a label, in Prometheus' text format, for node_exporter's
    textfile collector: https://prometheus.io/docs/instrumenting/exposition_formats/. What no examination looks at, as
    the trash, is looked at now."""
    of_check = _of_check(report.started, report.started, success=True)
    return _text(report.directory, [*of_check, *_of_report(report), *_beside(report)])


def prometheus_of_failure(directory: Path, started: float, before: Path | None) -> str:
    """The same of a check that failed, which knows nothing but that, and when the last one before it did not, as the
    file ``before`` tells."""
    last = None if before is None else _last_success(directory, before)
    return _text(directory, _of_check(started, last, success=False))


def _of_check(started: float, last_success: float | None, *, success: bool) -> Iterator[Metric]:
    """What is told however a check ended; times are in seconds since the epoch."""
    yield "ocitui_build_info", "The version that wrote these metrics.", [({"version": __version__}, 1)]
    yield f"{_CACHE}check_success", "Whether the last check came to its end.", [({}, success)]
    yield f"{_CACHE}check_timestamp_seconds", "When the check began.", [({}, started)]
    if last_success is not None:
        yield _LAST_SUCCESS, "When the last check began that came to its end.", [({}, last_success)]


def _last_success(directory: Path, before: Path) -> float | None:
    """What a file of metrics tells of this cache; None where it tells nothing."""
    begins = re.escape(f"{_LAST_SUCCESS}{{{_labels(_cache_label(directory))}}}")
    with suppress(OSError):
        text = read_bounded(before, _MOST_METRICS).decode(errors="replace")
        found = re.search(rf"^{begins} (\d{{1,11}}(?:\.\d+)?)$", text, re.MULTILINE)
        return float(found[1]) if found else None
    return None


def _of_report(report: Report) -> Iterator[Metric]:
    coverage, outcome = report.coverage, report.verdict.outcome
    by_code = _by_code(report, acknowledged=False)
    yield f"{_CACHE}findings", "Findings that are not acknowledged, by code and severity.", by_code
    yield f"{_CACHE}findings_acknowledged", "Findings that are acknowledged.", _by_code(report, acknowledged=True)
    counts = Counter(one.severity for one in report.findings if not one.acknowledged)
    severities = [({"severity": severity}, counts[severity]) for severity in Severity]
    yield f"{_CACHE}findings_by_severity", "Findings that are not acknowledged, by severity.", severities
    remembered = sum(one.found is not None for one in report.findings)
    yield f"{_CACHE}findings_remembered", "Findings of an earlier deep check that still hold.", [({}, remembered)]
    verdicts = [({"verdict": one}, one is outcome) for one in IndexOutcome]
    yield f"{_CACHE}index_verdict", "What the daemon would do with the index: 1 for the one that holds.", verdicts
    yield f"{_CACHE}entries", "Entries of the index.", [({}, report.entries)]
    states = [({"state": state}, count) for state, count in report.states().items()]
    yield f"{_CACHE}entries_by_state", "Entries that are ok, bad, or not looked into as far as that tells.", states
    yield f"{_CACHE}packed_bytes", "Bytes of all packed files.", [({}, report.packed_bytes)]
    reached = [({"depth": depth}, getattr(coverage, depth)) for depth in Depth]
    yield f"{_CACHE}checked_entries", "Entries checked at least so deep.", reached
    yield f"{_CACHE}unchecked", "What could not be checked.", [({}, len(coverage.unchecked))]
    yield f"{_CACHE}check_bytes_read", "Bytes of packed files that the check read.", [({}, coverage.bytes_read)]
    yield f"{_CACHE}check_duration_seconds", "How long the check took.", [({}, report.seconds)]


def _beside(report: Report) -> Iterator[Metric]:
    """What is told of a cache beside the findings of a check."""
    directory, judge = report.directory, report.judge
    if judge is not None:
        read = [found[0] for digest, format, _ in judge.depths() if (found := judge.checked(digest, format))]
        yield f"{_CACHE}unread_files", "Packed files that no deep check has read as they are.", [({}, judge.unread())]
        if read:
            oldest = "When that packed file was read through whose last deep check is the oldest."
            yield f"{_CACHE}oldest_deep_check_timestamp_seconds", oldest, [({}, min(read))]
    trash = sizes_in_own_folder(directory, TRASH_NAME).get(TRASH_NAME, 0)
    yield f"{_CACHE}trash_bytes", "Bytes of the trash.", [({}, trash)]
    with suppress(CacheError):
        unfinished = len(unfinished_imports(directory))
        yield f"{_CACHE}unfinished_imports", "Imports that were interrupted.", [({}, unfinished)]
    daemon = find_daemon(directory)
    yield (
        f"{_CACHE}daemon_running",
        "Whether the cache's daemon is seen.",
        [({}, daemon.running or bool(daemon.listens))],
    )


def _by_code(report: Report, *, acknowledged: bool) -> Samples:
    counts = Counter((one.code, one.severity) for one in report.findings if one.acknowledged is acknowledged)
    return [({"code": code, "severity": severity}, number) for (code, severity), number in sorted(counts.items())]


def _text(directory: Path, metrics: Iterable[Metric]) -> str:
    lines, cache = list[str](), _cache_label(directory)
    for name, help_, samples in metrics:
        lines += [f"# HELP {name} {help_}", f"# TYPE {name} gauge"]
        lines += [f"{name}{{{_labels({**cache, **of_one})}}} {_number(value)}" for of_one, value in samples]
    return "".join(f"{line}\n" for line in lines)


def _cache_label(directory: Path) -> dict[str, str]:
    """One spelling for one cache, however it was typed, and wherever it is looked at: else it would be two to whoever
    counts."""
    return {"cache": fact_of(directory, "cache") or os.path.realpath(directory)}


def _labels(labels: Mapping[str, str]) -> str:
    texts = {name: value.encode("utf-8", "replace").decode().translate(_ESCAPES) for name, value in labels.items()}
    return ",".join(f'{name}="{text}"' for name, text in texts.items())


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
