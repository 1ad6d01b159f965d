"""What is wrong with a cache beside its entries: the index as a whole, files that nobody names, our own records."""

from __future__ import annotations

from pathlib import Path

from .descriptor_checks import DescriptorChecks
from .files import CacheFiles
from .findings import Finding
from .known_history import known_history
from .own_checks import check_own
from .report import in_order
from .survey import Survey


def check_cache(directory: Path) -> tuple[Finding, ...]:
    """The findings that are of no entry of the index, in order. No file of an entry is opened.

    Raises CacheDirectoryError.
    """
    with CacheFiles(directory) as files:
        survey = Survey.of(files)
    history = known_history(directory, survey.reading.index)
    findings = [one for one in survey.index_findings(DescriptorChecks(), history) if one.position is None]
    named = {descriptor.digest for descriptor in survey.descriptors}
    # What is odd about an entry's file is the entry's; a file that no descriptor names is nobody's.
    findings += [
        one
        for one in survey.listing_findings(history)
        if one.digest not in named or one.code in ("orphan-entry", "orphan-file")
    ]
    return in_order([*findings, *check_own(directory)])
