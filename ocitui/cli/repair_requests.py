"""What was typed for a repair, as the doctor takes it, with what it names found among the findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocitui.cache import ImageName, NoSuchEntryError
from ocitui.doctor.catalogue import CATALOGUE
from ocitui.doctor.findings import Finding
from ocitui.doctor.repair.index_steps import is_about_index
from ocitui.doctor.repair.plan import RepairOptions

from .digests import find_digest
from .entry_words import spelled
from .failures import UsageProblemError
from .import_options import AskedSource
from .import_requests import read_request
from .repair_options import ANY_KNOWN, AskedRepair

# What is asked of registries is checked as for an import from one.
_SOME_REGISTRY = "docker://localhost/any"
_LEAST_DIGITS = 4
_ORPHANED, _NAMELESS = frozenset({"orphan-entry"}), frozenset({"name-missing", "name-not-canonical"})
_OTHERS = "ocitui check shows the findings that a name can mend"


class NoSuchFindingError(NoSuchEntryError):
    code = "no-such-finding"
    default_hint = "ocitui check shows the findings with their ids; --only also takes codes, digests and names"


def repair_request(asked: AskedRepair, findings: Sequence[Finding], digests: Sequence[str]) -> RepairOptions:
    """``digests`` are those that --adopt and --name may tell by their beginning.

    Raises NoSuchFindingError, AmbiguousDigestError, InvalidNameError, UsageProblemError."""
    access = AskedSource(
        source=_SOME_REGISTRY,
        tls_ca=asked.tls_ca,
        plain_http=asked.plain_http,
        authfile=asked.authfile,
        mirror=asked.mirror,
    )
    return RepairOptions(
        only=frozenset(chosen for word in asked.only for chosen in _chosen(word, findings)),
        drop=asked.drop,
        adopt=tuple(_pair(text, "--adopt", digests) for text in asked.adopt if text != ANY_KNOWN),
        adopt_known=ANY_KNOWN in asked.adopt,
        names=tuple(_pair(text, "--name", digests) for text in asked.names),
        trash_orphans=asked.trash_orphans,
        change_modes=asked.change_modes,
        sources=asked.sources,
        registry=asked.registry,
        even_if_futile=asked.even_if_futile,
        access=read_request(access).source_options(),
    )


def refuse_idle(options: RepairOptions, findings: Sequence[Finding]) -> None:
    """Raises UsageProblemError for a name that would change nothing, whatever the plan.

    Where the index itself is to be mended, any digest may turn out to need one.
    """
    if any(is_about_index(finding) for finding in findings):
        return
    for pairs, option, codes, lacks in (
        (options.adopt, "--adopt", _ORPHANED, "the index names all files of this digest"),
        (options.names, "--name", _NAMELESS, "no entry of this digest lacks a name, or has one that cannot be used"),
    ):
        known = {finding.digest for finding in findings if finding.code in codes}
        for digest, name in pairs:
            if digest not in known:
                raise UsageProblemError(f"{option} {digest}={name}: {lacks}", hint=_OTHERS)


def fingerprints(word: str, findings: Sequence[Finding]) -> list[str]:
    """The fingerprints that begin so. Raises UsageProblemError where these are several."""
    found = list(dict.fromkeys(one.fingerprint for one in findings if one.fingerprint.startswith(word)))
    if len(word) < _LEAST_DIGITS:
        return []
    if len(found) > 1:
        raise UsageProblemError(f"{word} begins the ids of {len(found)} findings", hint="give more of its digits")
    return found


def _chosen(word: str, findings: Sequence[Finding]) -> Iterator[str]:
    """What the doctor knows a word by: a code, a fingerprint, whole digests."""
    if word in CATALOGUE:
        yield word
        return
    found = fingerprints(word, findings) or [one.digest for one in findings if one.name in (word, spelled(word))]
    if not found:
        digest = find_digest((one.digest for one in findings if one.digest), word)
        found = [one.digest for one in findings if one.digest == digest]
    if not found:
        raise NoSuchFindingError(f"no finding has the id, the code, the digest or the name {word}")
    yield from found


def _pair(text: str, option: str, digests: Sequence[str]) -> tuple[str, str]:
    """A digest and a name."""
    digest, equals, name = text.partition("=")
    if not (equals and digest and name):
        raise UsageProblemError(f"{option} {text!r} is not DIGEST=NAME", hint="write it as 0123456789ab=alpine:3.19")
    return find_digest(digests, digest), str(ImageName.parse(name))
