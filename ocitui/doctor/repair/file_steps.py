"""Files of entries: a good copy is put in their place; else a bad one goes aside, or the entry goes, if asked for.
Files that no descriptor names, what interrupted writers left, and modes."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from ocitui.cache import (
    ANNOTATION_PACKED_FORMAT,
    INDEX_NAME,
    CacheError,
    ChangeMode,
    Descriptor,
    Document,
    DocumentError,
    FileKind,
    Folder,
    ImageName,
    Insert,
    Key,
    Ledger,
    check_packed,
    config_name,
    discardable,
    known_format,
    list_backups,
    manifest_name,
    name_annotations,
    open_journal,
    packed_name,
)
from ocitui.host import Users
from ocitui.importing import describe_image
from ocitui.text import short_digest

from ..check.cache_checks import index_in
from ..check.entry_checks import has_digest, missing_file, read_document
from ..check.examine import program_of
from ..check.index_checks import emptied
from ..findings import LAYER_FAULTS, MISSES, NOTHING, Answer, Finding, Severity, StepKind, Way, Where, mended_by
from ..origins import Origins
from .copies import Copy, OtherFormats, Restorer, WantedFile, right_document
from .steps import Fate, Left, Outcome, RepairOptions, RepairStep, Snapshot, StepChange, StepFile, entry_of

T = TypeVar("T")
_REVERSIBLE = "undo brings it back"
Found = tuple[WantedFile, tuple[Finding, ...], Copy | None]
_OF_TREE = frozenset({"packed-incomplete", "packed-differs"})
"""What is found wrong with a file whose bytes may be those on record."""
_STRICTLY = _OF_TREE | {"packed-changed"}


def _read(parse: Callable[[bytes], Document[T]], raw: bytes | None) -> T | None:
    """What a document says, where the daemon would read it."""
    try:
        return None if raw is None else parse(raw).value
    except DocumentError:
        return None


def drop_step(snapshot: Snapshot, keys: Collection[Key], findings: tuple[Finding, ...], users: Users) -> RepairStep:
    """The step that takes the entries of these keys, all of one digest, out of the index. Raises OSError."""
    assert snapshot.index is not None
    wanted = set(keys)
    positions = tuple(snapshot.index.positions_of(wanted))
    going = [snapshot.descriptors[at] for at in positions]
    left = snapshot.index.without(wanted)
    with Folder.open(snapshot.directory) as root:
        unneeded, _ = discardable(root, left, wanted)
    files, change = snapshot.trashing(unneeded)
    names = dict.fromkeys(descriptor.image_name for descriptor in going if descriptor.image_name)
    gone = [name for name in names if left.by_name(name) is None]
    formats = ", ".join(dict.fromkeys(descriptor.format or "no format" for descriptor in going))
    return RepairStep(
        StepKind.DROP_ENTRY,
        f"Drop {entry_of(going[0].digest, '', next(iter(names), ''))} in {formats}",
        findings,
        files,
        then=MISSES,
        loses=f"the name {', '.join(gone)}; {_REVERSIBLE}" if gone else "",
        used_by=users.of_files(descriptor.packed_file for descriptor in going),
        change=msgspec.structs.replace(change, remove=positions),
    )


_STAY = _STRICTLY | LAYER_FAULTS | {"config-no-history"}
"""What is no worse for being left where it is, while nothing better is there."""


class FileMends(msgspec.Struct, frozen=True):
    """Mends files, digest by digest; ``ledger`` is the cache's."""

    snapshot: Snapshot
    restorer: Restorer
    users: Users
    ledger: Ledger
    options: RepairOptions

    async def plan(self, findings: Sequence[Finding]) -> Outcome:
        """The steps for findings about files of entries, by digest in the order of the findings."""
        outcome = Outcome()
        by_digest: dict[str, list[Finding]] = {}
        for finding in findings:
            by_digest.setdefault(finding.digest, []).append(finding)
        for digest, found in by_digest.items():
            outcome += await self._plan_digest(digest, found)
        return outcome

    async def _plan_digest(self, digest: str, findings: Sequence[Finding]) -> Outcome:
        outcome, lost = Outcome(), list[tuple[WantedFile, tuple[Finding, ...]]]()
        async for wanted, concerned, copy in self._find(digest, findings):
            if copy is not None:
                outcome.steps.append(self._restore(wanted, concerned, copy))
            else:
                lost.append((wanted, concerned))
        bad = [(wanted, concerned) for wanted, concerned in lost if not _may_stay(concerned)]
        if bad and self.options.drop and not self.snapshot.replaced:
            return self._drop(digest, findings, [wanted for wanted, _ in bad], outcome)
        for wanted, concerned in lost:
            self._without_copy(wanted, concerned, outcome)
        return outcome

    async def _find(self, digest: str, findings: Sequence[Finding]) -> AsyncIterator[Found]:
        """Each file of a digest that is missing or bad, the findings about it, and the good copy of it, if there is
        one; the manifest first, as it says which config is the right one."""
        about, carriers = self._by_file(digest, findings), tuple(self.snapshot.carrying(digest))
        wanted = WantedFile(manifest_name(digest), digest, FileKind.MANIFEST, content=digest, carriers=carriers)
        if wanted.name in about:
            copy = await self._copy_of(wanted)
            manifest = _read(Document.manifest, copy.data if copy is not None else None)
            yield wanted, about.pop(wanted.name), copy
        else:
            manifest = _read(Document.manifest, await self._right(wanted))
        wanted, raw = WantedFile(config_name(digest), digest, FileKind.CONFIG, carriers=carriers), None
        if manifest is not None:
            wanted = msgspec.structs.replace(wanted, content=manifest.config.digest, size=manifest.config.size)
        if wanted.name in about:
            copy = await self._copy_of(wanted) if wanted.content else None
            raw = copy.data if copy is not None else None
            yield wanted, about.pop(wanted.name), copy
        if about and not raw:
            raw = await self._right(wanted)
        config = _read(Document.config, raw) if about else None
        for name, concerned in about.items():
            format, codes = known_format(os.path.splitext(name)[1][1:]), {finding.code for finding in concerned}
            record = self.ledger.sound.get(name) if codes - _OF_TREE else None
            others = OtherFormats(self.snapshot.directory, digest, format, self.ledger)
            wanted = WantedFile(
                name,
                digest,
                FileKind.PACKED,
                format,
                f"sha256:{record.sha256}" if record is not None else "",
                await asyncio.to_thread(others.tree_on_record, name) if codes - _OF_TREE else "",
                strictly=not codes.isdisjoint(_STRICTLY),
                by_layers=not codes.isdisjoint(LAYER_FAULTS),
                program=program_of(config) if config is not None else "",
                carriers=carriers,
                others=others,
            )
            yield wanted, concerned, await self.restorer.find(wanted) if format else None

    def _by_file(self, digest: str, findings: Sequence[Finding]) -> dict[str, tuple[Finding, ...]]:
        about: dict[str, tuple[Finding, ...]] = {}
        for finding in findings:
            about[finding.file] = (*about.get(finding.file, ()), finding)
            if finding.code == "file-missing" and finding.kind is FileKind.PACKED:
                for name in (manifest_name(digest), config_name(digest)):
                    if name not in self.snapshot.listing:
                        # Where nothing is there at all, one finding stands for the three files.
                        about.setdefault(name, (finding,))
        return about

    async def _copy_of(self, wanted: WantedFile) -> Copy | None:
        """None too where the document has the right bytes already: no copy would be any better."""
        return await self.restorer.find(wanted) if await self._right(wanted) is None else None

    async def _right(self, wanted: WantedFile) -> bytes | None:
        return await asyncio.to_thread(right_document, self.snapshot.directory / wanted.name, wanted.content)

    def _restore(self, wanted: WantedFile, findings: tuple[Finding, ...], copy: Copy) -> RepairStep:
        there = self.snapshot.seen_at(wanted.name)
        return RepairStep(
            StepKind.RESTORE_FILE,
            f"Restore the {wanted.kind} file of {_entry(wanted, findings)} from {copy.where}",
            findings,
            (StepFile(wanted.name, Fate.REPLACED if there else Fate.PLACED, there.size if there else copy.size),),
            copy.size,
            then="a hit, as far as this file goes",
            source=copy.where,
            # What somebody may have written on purpose is replaced only when it is chosen, and for what is but a note.
            default=not any(finding.code == "packed-changed" for finding in findings)
            and any(finding.severity is not Severity.INFO for finding in findings),
            used_by=self.users.of_files([wanted.name]),
            change=copy.change(wanted, there),
        )

    def _drop(self, digest: str, findings: Sequence[Finding], lost: Sequence[WantedFile], outcome: Outcome) -> Outcome:
        """The entries that lack a file go; what could be restored for those that stay is restored."""
        formats, carrying = {wanted.format for wanted in lost}, list(self.snapshot.carrying(digest))
        keys = {one.key for one in carrying if None in formats or known_format(one.format) in formats}
        gone = tuple(f".{known}" for _, form in keys if (known := known_format(form)))
        staying = any(one.key not in keys for one in carrying)
        # Of the files that a step restores, a packed one goes with its entry.
        kept = [step for step in outcome.steps if staying and not step.files[0].name.endswith(gone)]
        covered = {finding for step in kept for finding in step.findings}
        concerned = tuple(finding for finding in findings if finding not in covered)
        if not keys:
            outcome.leave(concerned, "no descriptor names these files")
            return outcome
        return Outcome([*kept, drop_step(self.snapshot, keys, concerned, self.users)])

    def _without_copy(self, wanted: WantedFile, findings: tuple[Finding, ...], outcome: Outcome) -> None:
        why, would = f"no good copy is in {self.restorer.labels}", _would(wanted)
        there = self.snapshot.seen_at(wanted.name)
        if there is None or _may_stay(findings):
            outcome.leave(findings, why, would)
            return
        if not self.options.even_if_gone and (gone := self._gone(wanted, findings)):
            outcome.leave(findings, f"{why}, and it stays: {gone}", f"{would}; or {Way.EVEN_IF_GONE}")
            return
        files, change = self.snapshot.trashing([wanted.name])
        # What a check will find once the file went aside.
        like = findings[0]
        at = Where(digest=like.digest, format=like.format, name=like.name, position=like.position, kind=wanted.kind)
        step = RepairStep(
            StepKind.MOVE_ASIDE,
            f"Move the {wanted.kind} file of {_entry(wanted, findings)} aside",
            findings,
            files,
            then=MISSES,
            used_by=self.users.of_files([wanted.name]),
            leaves=(Left(missing_file(at), why, would),),
            change=change,
        )
        outcome.steps.append(step)

    def _gone(self, wanted: WantedFile, findings: Sequence[Finding]) -> str:
        """Why an entry that is a hit, damaged as it is, could not come back once its file is gone; empty where not."""
        if any(finding.answer is not Answer.HIT for finding in findings):
            return ""
        origins = Origins(self.snapshot.directory, self.ledger)
        packed = [packed_name(wanted.digest, form) for one in wanted.carriers if (form := known_format(one.format))]
        found = [origins.of(name) for name in ([wanted.name] if wanted.kind is FileKind.PACKED else packed)]
        return "" if not found or any(one.is_sure for one in found) else found[0].text


def _may_stay(findings: Sequence[Finding]) -> bool:
    return all(finding.code in _STAY for finding in findings)


def _entry(wanted: WantedFile, findings: Sequence[Finding]) -> str:
    name = next((finding.name for finding in findings if finding.name), "")
    return entry_of(wanted.digest, wanted.format or "", name)


def _would(wanted: WantedFile) -> str:
    """What the operator can still do."""
    name = next((descriptor.image_name for descriptor in wanted.carriers if descriptor.image_name), "")
    registry = f", or {Way.REGISTRY} for {name} by its digest" if name else ""
    again = f"; import {name} again" if name else ""
    what = "an image with the same digest" if wanted.kind is FileKind.PACKED else "the document with its digest"
    if wanted.by_layers:
        return f"{Way.FROM} a layout or an archive that holds {what}{registry}{again}"
    sources = f"{Way.FROM} a layout, an archive or another cache that holds {what}"
    return f"{sources}{registry}{again}; or {Way.DROP} the entry"


Known = Mapping[tuple[str, str], Descriptor]
"""Descriptors with a name that the index once had, by digest and format."""


def remembered(directory: Path, wanted: set[tuple[str, str]]) -> Known:
    """The newest descriptor that is known of each of these digests and formats; what cannot be read tells nothing."""
    found: dict[tuple[str, str], Descriptor] = {}
    for descriptor in _all(directory) if wanted else ():
        if (key := (descriptor.digest, descriptor.format or "")) in wanted and descriptor.image_name:
            found.setdefault(key, descriptor)
            if len(found) == len(wanted):
                break
    return found


def _all(directory: Path) -> Iterator[Descriptor]:
    """Those of the backups, the newest first, then what transactions took out."""
    with suppress(CacheError):
        for backup in list_backups(directory):
            if index := index_in(directory, backup):
                yield from reversed(index.descriptors)
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        for transaction in journal.transactions():
            with suppress(CacheError):
                yield from [one.descriptor for one in transaction.removed]


class Adoption(msgspec.Struct, frozen=True):
    """``names`` are what the operator gives, by digest; ``known`` descriptors, and names that were ``heard`` from other
    caches, are taken where ``take_known``."""

    snapshot: Snapshot
    names: Mapping[str, str]
    known: Known
    heard: Mapping[str, Sequence[str]]
    take_known: bool = False

    def names_known(self, finding: Finding) -> Sequence[str]:
        """What an orphan was once called here, else is called elsewhere; none where nothing tells."""
        once = self.known.get(_key(finding))
        return self.heard.get(finding.digest, ()) if once is None else [once.image_name or ""]

    def wants(self, finding: Finding) -> bool:
        """Whether an orphan is to be adopted."""
        return finding.digest in self.names or (self.take_known and bool(self.names_known(finding)))

    def plan(self, finding: Finding, outcome: Outcome) -> None:
        """The steps that adopt an orphan, one for each of its names, or why it cannot be done."""
        given = self.names.get(finding.digest)
        for name in [given] if given is not None else self.names_known(finding):
            self._plan(finding, name, outcome)

    def _plan(self, finding: Finding, name: str, outcome: Outcome) -> None:
        try:
            descriptor = self._descriptor(finding, name)
        except (CacheError, OSError) as error:
            reason = error.message if isinstance(error, CacheError) else error.strerror or str(error)
            outcome.leave([finding], f"it cannot be adopted: {reason}", f"move it to the trash: {Way.TRASH_ORPHANS}")
            return
        assert self.snapshot.index is not None
        winner = self.snapshot.index.by_name(name)
        place, then = None, f"a hit, and {name} resolves to it"
        if winner is not None and winner.digest != descriptor.digest:
            # First in the index, it takes no name from an entry that has it now.
            place = 0
            then = f"recall by digest hits; {name} stays with {short_digest(winner.digest)}, by `point` it would win"
        title = f"Adopt {entry_of(finding.digest, finding.format)} as {name}"
        source = "its manifest and config"
        if finding.digest not in self.names:
            source = "the index as it once was" if _key(finding) in self.known else f"{source}; other caches name it"
        change = StepChange(insert=(Insert(self.snapshot.index.laid_out(descriptor.raw), place),))
        outcome.steps.append(RepairStep(StepKind.ADOPT, title, (finding,), then=then, source=source, change=change))

    def _descriptor(self, finding: Finding, name: str) -> Descriptor:
        """Raises CacheError and OSError where the files are not what they have to be."""
        directory, digest, form = self.snapshot.directory, finding.digest, known_format(finding.format)
        if form is None:
            raise CacheError(f"{finding.format!r} is no format")
        raw_manifest = read_document(directory / manifest_name(digest))
        raw_config = read_document(directory / config_name(digest))
        manifest, config = Document.manifest(raw_manifest), Document.config(raw_config)
        if not has_digest(raw_manifest, digest):
            raise CacheError("its manifest is not the one of its digest")
        if not has_digest(raw_config, manifest.value.config.digest):
            raise CacheError("its config is not the one that its manifest names")
        check = check_packed(directory / packed_name(digest, form))
        if check.problem or check.found is not form:
            raise CacheError(f"its packed file is no whole {form}")
        if digest not in self.names and _key(finding) in self.known:
            return self.known[_key(finding)]
        annotations = {ANNOTATION_PACKED_FORMAT: form.value, **name_annotations(ImageName.parse(name))}
        return describe_image(digest, manifest, config.value, annotations)


def _key(finding: Finding) -> tuple[str, str]:
    return finding.digest, finding.format


_ORPHANS = ("orphan-entry", "orphan-file")
LISTING_CODES = mended_by(StepKind.CLEAN_UP, StepKind.CHANGE_MODE).union(_ORPHANS)


def plan_orphans(snapshot: Snapshot, findings: Sequence[Finding], adoption: Adoption, *, trash: bool) -> Outcome:
    """The steps for files without a descriptor: neither adopted nor moved to the trash unless that is asked for."""
    outcome = Outcome()
    orphans = [finding for finding in findings if finding.code in _ORPHANS]
    if snapshot.replaced:
        outcome.leave_for_now(orphans)
        return outcome
    going: dict[str, list[Finding]] = {}
    for finding in orphans:
        if finding.code == "orphan-entry" and adoption.wants(finding):
            adoption.plan(finding, outcome)
        elif trash:
            going.setdefault(finding.digest, []).append(finding)
        elif finding.code == "orphan-entry":
            names = ", ".join(adoption.names_known(finding))
            known = f"{Way.ADOPT_KNOWN}, as {names}, or " if names else ""
            would = f"{known}{Way.ADOPT}; or {Way.TRASH_ORPHANS}"
            outcome.leave([finding], "adopting it or not is for you to say", would)
        else:
            outcome.leave(
                [finding], "removing it or not is for you to say", f"{Way.TRASH_ORPHANS} moves it to the trash"
            )
    adopted = {finding.digest for step in outcome.steps for finding in step.findings}
    outcome.steps += [_trash(snapshot, digest, found, adopted) for digest, found in going.items()]
    return outcome


def once_emptied(left: Sequence[Left]) -> list[Left]:
    """What stays once the last entry left the index: beside none, complete files are no orphans but entries lost."""
    complete = sum(one.finding.code == "orphan-entry" for one in left)
    if not complete:
        return list(left)
    lost = Left(emptied(complete), "the last entry leaves the index", "repair again: these files make entries then")
    return [lost, *(one for one in left if one.finding.code not in _ORPHANS)]


def plan_rest(snapshot: Snapshot, findings: Sequence[Finding], *, change_modes: bool) -> Outcome:
    """The steps for temporary files, interrupted transactions and modes."""
    outcome = Outcome()
    inside = tuple(finding for finding in findings if "/" in finding.file and finding.code != "wrong-mode")
    if inside:
        outcome.steps.append(_clean_up(inside))
    for finding in findings:
        if finding.code == "leftover-temporary" and "/" not in finding.file:
            files, change = snapshot.trashing([finding.file])
            title = f"Move the temporary file {finding.file} to the trash"
            outcome.steps.append(RepairStep(StepKind.CLEAN_UP, title, (finding,), files, then=NOTHING, change=change))
        elif finding.code == "wrong-mode":
            _change_mode(snapshot, finding, outcome, allowed=change_modes)
    return outcome


def finish_first(findings: Sequence[Finding]) -> Outcome:
    """The only step while an interrupted transaction waits: a writer finishes it, or rolls it back, before all else."""
    inside = tuple(finding for finding in findings if finding.code == "transaction-pending")
    outcome = Outcome([_clean_up(inside)])
    others = [finding for finding in findings if finding not in inside and finding.severity is not Severity.INFO]
    outcome.leave(others, "an interrupted transaction comes first", "make a new plan once it is finished")
    return outcome


def _trash(snapshot: Snapshot, digest: str, findings: Sequence[Finding], adopted: set[str]) -> RepairStep:
    assert snapshot.index is not None
    names = [finding.file for finding in findings]
    keys = {(digest, finding.format or None) for finding in findings if finding.code == "orphan-entry"}
    if keys and digest not in adopted:
        with Folder.open(snapshot.directory) as root:
            names += discardable(root, snapshot.index, keys)[0]
    files, change = snapshot.trashing(names)
    title = f"Move the files of {short_digest(digest)}, which no descriptor names, to the trash"
    then = f"{NOTHING}; {_REVERSIBLE}"
    return RepairStep(StepKind.TRASH_ORPHAN, title, tuple(findings), files, then=then, change=change)


def _clean_up(findings: tuple[Finding, ...]) -> RepairStep:
    """Any writer does this first, so there is nothing to change for it."""
    files = tuple(StepFile(finding.file, Fate.REMOVED, 0) for finding in findings if "leftover" in finding.code)
    title = "Finish or roll back what an interrupted writer left in ocitui's own folder"
    return RepairStep(StepKind.CLEAN_UP, title, findings, files, then=NOTHING)


def _change_mode(snapshot: Snapshot, finding: Finding, outcome: Outcome, *, allowed: bool) -> None:
    fact = snapshot.listing.get(finding.file)
    old = stat.S_IMODE(fact.mode) if fact is not None else 0
    new = old | stat.S_IRUSR
    if fact is None or not fact.regular or old == new:
        why, would = "its mode is not what keeps it from being read", "start ocitui as its owner or as root"
    elif finding.file == INDEX_NAME:
        why, would = "the mode of index.json is the daemon's", f"chmod u+r {snapshot.directory / INDEX_NAME}"
    elif not allowed:
        why, would = "a mode is changed only when asked for", Way.CHANGE_MODES
    else:
        title = f"Let the owner read {finding.file}: mode {old:04o} becomes {new:04o}"
        files, change = (StepFile(finding.file, Fate.MODE, fact.size),), ChangeMode(finding.file, old, new)
        then = "as root it reads the file all the same"
        step = RepairStep(StepKind.CHANGE_MODE, title, (finding,), files, then=then, change=StepChange(modes=(change,)))
        outcome.steps.append(step)
        return
    outcome.leave([finding], why, would)
