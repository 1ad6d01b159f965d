"""A plan of repair: put together of what was seen, of the places that copies come from and of each family's steps in
their order; then carried out, and checked once more."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ocitui.cache import (
    CacheError,
    Change,
    ConflictError,
    Disk,
    FileKind,
    Identity,
    ImageIndex,
    IndexSeen,
    Ledger,
    PackerCache,
    Place,
    ReadOnlyError,
    Transaction,
    TransactionKind,
    TransactionState,
    open_bounded,
    open_journal,
    record_stored,
    see,
    storage_errors,
)
from ocitui.host import find_users, read_back, users_of
from ocitui.importing import (
    BlobProgress,
    BlobStore,
    ImportProgress,
    PackOptions,
    SourceError,
    SourceOptions,
    check_room,
    clear_blobs,
    fetch_and_pack,
    open_source,
    staging_folder,
)
from ocitui.threads import Stop, in_thread, on_loop, settled

from ..assessment import Assessment
from ..check.cache_checks import known_history
from ..check.examine import ExamineOptions, examine
from ..check.judge import Judge
from ..findings import FILE_FAULTS, LAYER_FAULTS, Depth, Finding, Severity, StepKind, Way, mended_by
from ..report import Report
from ..salvage.sources import JoinedEntries, PeerName, PeerNames, given_names, join_sources
from . import file_steps, index_steps
from .copies import Copy, OtherFormats, Restorer, WantedFile, good_packed, peer_here, places
from .file_steps import Adoption, FileMends, once_emptied
from .steps import (
    Fetch,
    FetchKind,
    HostFiles,
    Left,
    OtherHosts,
    Outcome,
    Peer,
    ProgressCall,
    RepairOptions,
    RepairProgress,
    RepairStep,
    Snapshot,
    WholeIndex,
    take_snapshot,
)

SHORTEST_DIGEST = 12


def concerns(wanted: Collection[int | str], finding: Finding) -> bool:
    """Whether a finding has one of these codes, digests (also the beginning of one) or fingerprints."""
    if finding.code in wanted or finding.fingerprint in wanted:
        return True
    beginnings = tuple(one for one in wanted if isinstance(one, str) and len(one) >= SHORTEST_DIGEST)
    return finding.digest.startswith(beginnings) or finding.digest.partition(":")[2].startswith(beginnings)


async def _planned(
    snapshot: Snapshot,
    report: Report,
    options: RepairOptions,
    progress: ProgressCall | None,
    notes: list[str],
    peers: Sequence[Peer],
) -> tuple[Outcome, JoinedEntries, list[PeerName]]:
    """The steps, the sources of an index that is given entries back, and what ``peers`` say of lost names. Raises
    CacheDirectoryError, SourceError."""
    findings = [finding for finding in snapshot.findings if _is_wanted(finding, options)]
    if await asyncio.to_thread(_is_pending, snapshot.directory):
        return file_steps.finish_first(findings), JoinedEntries(), []
    loops = await asyncio.to_thread(users_of, snapshot.directory)
    hosts = [peer for peer in peers if peer.far]
    found = await asyncio.to_thread(places, snapshot, options, loops, hosts)
    restorer = Restorer(found, notes, on_loop(progress), {str(host.directory): host.text for host in hosts})
    ledger = await asyncio.to_thread(Ledger.open, snapshot.directory)
    users = await asyncio.to_thread(find_users, snapshot.directory, loops=loops)
    notes += [f"not sure who needs what: {users.doubt}"] if users.doubt else []
    names = dict(options.names)
    told = await asyncio.to_thread(PeerNames.of, peers, snapshot.listing)
    about_index = [finding for finding in findings if index_steps.is_about_index(finding)]
    joined, outcome = JoinedEntries(), Outcome()
    no_more = (one for one in snapshot.gone if one.severity is not Severity.INFO and _is_wanted(one, options))
    outcome.leave(no_more, "it is no longer so", "check again")
    if about_index:
        history = snapshot.judge.history
        if history is None:
            history = await asyncio.to_thread(known_history, snapshot.directory, snapshot.index)
        joined = await asyncio.to_thread(join_sources, snapshot, history, names, told if peers else None)
        outcome += await asyncio.to_thread(index_steps.plan_index, snapshot, about_index, joined, report.findings)
    # What is to be mended of entries is planned on the index as it will be, so that it is one transaction.
    later, found_later = _on_whole_index(snapshot, outcome, options)
    findings += found_later
    mends = FileMends(later, restorer, users, ledger, options)
    orphans = {(one.digest, one.format) for one in findings if one.code == "orphan-entry"}
    known = await asyncio.to_thread(file_steps.remembered, snapshot.directory, orphans)
    descriptors = _of(findings, index_steps.DESCRIPTOR_CODES)
    lost = [key[0] for key in orphans if key not in known and key[0] not in dict(options.adopt)]
    lost += [one.digest for one in descriptors if one.code == "name-missing" and one.digest not in names]
    claims = [*joined.claims, *told.claims(lost, later.holder)]
    heard = given_names(claims)
    adoption = Adoption(later, dict(options.adopt), known, heard, options.adopt_known)
    names = {digest: some[0] for digest, some in heard.items() if len(some) == 1} | names
    outcome += index_steps.plan_descriptors(later, descriptors, names, even_if_gone=options.even_if_gone)
    of_files = _of(findings, FILE_FAULTS | LAYER_FAULTS)
    outcome += await mends.plan([one for one in of_files if not index_steps.is_about_index(one)])
    rest = _of(findings, file_steps.LISTING_CODES)
    outcome += await asyncio.to_thread(file_steps.plan_orphans, later, rest, adoption, trash=options.trash_orphans)
    outcome += file_steps.plan_rest(later, rest, change_modes=options.change_modes)
    outcome += await asyncio.to_thread(index_steps.plan_redo, later, _of(findings, mended_by(StepKind.REDO)), users)
    if later is not snapshot:
        edits = ((step, step.change) for step in outcome.steps)
        outcome.steps = [replace(step, after=edit.edits_index and edit.whole is None) for step, edit in edits]
    _leave_the_rest(findings, outcome)
    return outcome, joined, claims


def _is_pending(directory: Path) -> bool:
    """Whether an interrupted transaction waits for a writer, which changes the cache before anything else is done."""
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        return bool(journal.transactions([TransactionState.PENDING]))
    return False


def _on_whole_index(snapshot: Snapshot, outcome: Outcome, options: RepairOptions) -> tuple[Snapshot, list[Finding]]:
    """The cache as it will be once entries have come back, and what there is to mend of it then."""
    for at, step in enumerate(outcome.steps):
        if step.change.whole is not None:
            found = [left.finding for left in step.leaves if _is_wanted(left.finding, options)]
            leaves = tuple(left for left in step.leaves if not _is_wanted(left.finding, options))
            outcome.steps[at] = replace(step, leaves=leaves)
            return replace(snapshot, index=step.change.whole.index, replaced=False), found
    return snapshot, []


def _is_wanted(finding: Finding, options: RepairOptions) -> bool:
    if options.only:
        return concerns(options.only, finding)
    return not finding.acknowledged


def _of(findings: Iterable[Finding], codes: Collection[str]) -> list[Finding]:
    return [finding for finding in findings if finding.code in codes]


def _leave_the_rest(findings: Iterable[Finding], outcome: Outcome) -> None:
    """What no step is about and no family has spoken of; what is only worth knowing is not said again."""
    covered = {finding for step in outcome.steps for finding in step.findings}
    covered |= outcome.left.keys()
    for finding in findings:
        if finding not in covered and finding.severity is not Severity.INFO:
            outcome.leave([finding], "there is no safe mend for it", finding.fault.mend)


class RepairPlan(msgspec.Struct, frozen=True):
    """``steps`` are all that can be done, ``chosen`` the numbers of those that will be; none mends ``unmended``.
    ``notes`` say where could not be looked for copies, and why. ``seen`` is the index that the plan is bound to, None
    where it cannot be read, and ``depth`` how far its check looked. ``joined`` are the sources of a whole index,
    ``by_layers`` the findings that only layers tell, of so many files that were ``compared`` with them while others
    were ``uncompared``, ``claims`` what other caches say of names that were lost."""

    steps: tuple[RepairStep, ...]
    unmended: tuple[Left, ...]
    seen: IndexSeen | None
    chosen: frozenset[int]
    notes: tuple[str, ...] = ()
    depth: Depth = Depth.QUICK
    joined: JoinedEntries = msgspec.field(default_factory=JoinedEntries)
    index: ImageIndex | None = None
    access: SourceOptions = msgspec.field(default_factory=SourceOptions)
    by_layers: tuple[Finding, ...] = ()
    compared: int = 0
    uncompared: tuple[tuple[str, str], ...] = ()
    hosts: OtherHosts | None = None
    claims: tuple[PeerName, ...] = ()

    @property
    def whole(self) -> WholeIndex | None:
        """The index once entries have come back; None where that is not chosen."""
        chosen = (step.change.whole for step in self.steps if step.number in self.chosen)
        return next((whole for whole in chosen if whole is not None), None)

    @property
    def made(self) -> tuple[RepairStep, ...]:
        """The steps that will be made."""
        brought = self.whole is not None
        return tuple(step for step in self.steps if step.number in self.chosen and (brought or not step.after))

    @property
    def left(self) -> tuple[Left, ...]:
        """All findings that will be there afterwards, also those of steps that are not made."""
        made = {step.number for step in self.made}
        passed = [step for step in self.steps if step.number not in made]
        return (
            *(left for step in self.made for left in step.leaves),
            *(once_emptied(self.unmended) if self._empties_index else self.unmended),
            *(_passed_over(step, finding) for step in passed for finding in step.findings),
        )

    @property
    def _empties_index(self) -> bool:
        """Whether every entry goes, and none comes."""
        changes = [step.change for step in self.made]
        gone = {position for change in changes for position in change.remove}
        if not gone or self.index is None or any(change.insert or change.whole for change in changes):
            return False
        return len(gone) == len(self.index)

    @property
    def given_up(self) -> list[Identity]:
        """The entries that could come back, and are dropped in the same plan."""
        whole = self.whole
        if whole is None:
            return []
        gone = {at for step in self.made for at in step.change.remove}
        identities = list(whole.index.identities())
        kept = {one for at, one in enumerate(identities) if at not in gone}
        return [one for at in sorted(gone) if whole.origins[at] is None and (one := identities[at]) not in kept]

    @property
    def bytes_trashed(self) -> int:
        return sum(step.bytes_trashed for step in self.made)

    @property
    def bytes_placed(self) -> int:
        return sum(step.bytes_placed for step in self.made)

    @property
    def used_by(self) -> tuple[str, ...]:
        """The loop devices that hold files of entries which are dropped: who does that is asked twice."""
        dropped = (step for step in self.made if step.kind in (StepKind.DROP_ENTRY, StepKind.REDO))
        return tuple(dict.fromkeys(user for step in dropped for user in step.used_by))

    @property
    def fetches(self) -> tuple[Fetch, ...]:
        """What has to be brought into the staging folder first."""
        return tuple(fetch for step in self.made for fetch in step.change.fetch)

    @property
    def futile(self) -> tuple[RepairStep, ...]:
        """The steps that are left out as the daemon would overwrite what they do."""
        return tuple(step for step in self.steps if step.futile and step.number not in self.chosen)

    def narrowed(self, wanted: Collection[int | str]) -> RepairPlan:
        """The same plan with only these steps made: by number, or by a code, a digest or a fingerprint of findings, and
        then none that would be futile and was not chosen."""
        chosen = {step.number for step in self.steps if step.number in wanted}
        lasting = (step for step in self.steps if not step.futile or step.number in self.chosen)
        chosen |= {one.number for one in lasting if any(concerns(wanted, finding) for finding in one.findings)}
        return replace(self, chosen=frozenset(chosen))

    def composed(self, staged: Mapping[str, Path] | None = None) -> Change:
        """The chosen steps as one change of the cache; ``staged`` are the files that were fetched, by their name.
        Raises ConflictError where two steps want the same file, or one was not fetched."""
        changes, paths = [step.change for step in self.made], staged or {}
        fetches = dict.fromkeys(self.fetches)
        if missing := next((fetch.name for fetch in fetches if fetch.name not in paths), ""):
            raise ConflictError(f"{missing} was not fetched")
        fetched = (Place(one.name, one.seen, path=paths[one.name], source=see(paths[one.name])) for one in fetches)
        places = [*dict.fromkeys(place for change in changes for place in change.place), *fetched]
        discarded = dict.fromkeys(item for change in changes for item in change.discard)
        names = Counter([*(place.name for place in places), *(item.name for item in discarded)])
        if twice := next((name for name, count in names.items() if count > 1), ""):
            raise ConflictError(f"two steps want {twice}", hint="choose one of them")
        # The mode of what goes anyway stays, so that it comes back with it.
        modes = dict.fromkeys(mode for change in changes for mode in change.modes if mode.name not in names)
        return Change(
            index_steps.index_change(self.index, self.seen, changes), tuple(discarded), tuple(places), tuple(modes)
        )


def _passed_over(step: RepairStep, finding: Finding) -> Left:
    if step.futile:
        return Left(finding, step.futile, f"then repair again; or {Way.EVEN_IF_FUTILE}: {step.title}")
    why = "it is mended with the step that brings entries back only" if step.after else "its step is not chosen"
    return Left(finding, why, step.title)


@asynccontextmanager
async def peers_asked(options: RepairOptions, notes: list[str]) -> AsyncIterator[list[Peer]]:
    """The other caches among the sources, as long as they are read, hosts asked side by side; of one that cannot be
    asked, ``notes`` tell why."""
    hosts = options.hosts

    async def asked(text: str) -> Peer | None:
        if hosts is None or not hosts.leads_to(text):
            return await asyncio.to_thread(peer_here, text)
        try:
            return Peer(text, await stack.enter_async_context(hosts.look(text)), far=True)
        except CacheError as error:
            notes.append(f"{text} was not asked{', so nothing is dropped' if options.drop else ''}: {error.one_line}")
        return None

    async with AsyncExitStack() as stack:
        yield [peer for peer in await asyncio.gather(*map(asked, dict.fromkeys(options.sources))) if peer is not None]


async def plan_repair(
    cache: PackerCache,
    report: Report,
    options: RepairOptions | None = None,
    assessment: Assessment | None = None,
    progress: ProgressCall | None = None,
) -> RepairPlan:
    """What would mend these findings; nothing is written. Edits of the index that by the ``assessment`` would not last
    are no defaults. ``progress`` is told of the copies that are read, on the event loop. Raises CacheDirectoryError
    where the directory is gone, SourceError for a source that is none."""
    options = options or RepairOptions()
    snapshot = await asyncio.to_thread(take_snapshot, cache.directory, report)
    notes: list[str] = []
    async with peers_asked(options, notes) as peers:
        # What a host has that is away is not lost.
        allowed = replace(options, drop=options.drop and not notes)
        outcome, joined, claims = await _planned(snapshot, report, allowed, progress, notes, peers)
    futile = assessment.futile if assessment is not None else ""
    steps = tuple(
        replace(
            step,
            number=number,
            futile=futile if step.change.edits_index else "",
            default=step.default and (options.even_if_futile or not futile or not step.change.edits_index),
        )
        for number, step in enumerate(outcome.steps, 1)
    )
    plan = RepairPlan(
        steps,
        tuple(outcome.left.values()),
        snapshot.seen,
        frozenset(step.number for step in steps if step.default),
        tuple(notes),
        report.depth,
        joined,
        None if snapshot.replaced else snapshot.index,
        options.access,
        tuple(_of(report.findings, LAYER_FAULTS)),
        report.coverage.layers,
        report.uncompared,
        options.hosts,
        tuple(claims),
    )
    return plan.narrowed(options.only) if options.only else plan


# Carried out: fetched first what has to be, then one transaction, then the check once more

_KINDS = {StepKind.ADOPT: TransactionKind.ADOPT, StepKind.REDO: TransactionKind.REDO}
_CHUNK = 1 << 20


class Fetcher(msgspec.Struct, frozen=True):
    """Brings files for the cache in ``directory`` into ``folder``; ``report`` is called on the event loop, and
    connections last as long as ``stack``."""

    directory: Path
    folder: Path
    disk: Disk
    access: SourceOptions
    report: BlobProgress
    hosts: OtherHosts | None
    stack: AsyncExitStack
    connections: dict[str, HostFiles]

    async def bring(self, number: int, fetch: Fetch) -> tuple[Path, str]:
        """The whole file's path and sha256. Raises SourceError, NoRoomError, StorageError, LayerError, PackerError, and
        what a connection to another host raises."""
        output = self.folder / f"{number}.{fetch.format}"
        if fetch.kind in (FetchKind.IMPORT, FetchKind.HOST):
            await (self._pack if fetch.kind is FetchKind.IMPORT else self._receive)(fetch, output)
            return output, await in_thread(lambda stop: require_good(self.directory, fetch, output, stop))
        told = on_loop(self.report)
        with storage_errors(f"copy {fetch.origin}"):
            check_room(self.directory, fetch.size)
            await in_thread(lambda stop: self._copy(fetch, output, told, stop))
        # Read through when the plan was made: it is the same by its sha256.
        return output, fetch.sha256

    async def _receive(self, fetch: Fetch, output: Path) -> None:
        """Raises as `bring`."""
        if self.hosts is None:
            raise SourceError(f"nothing leads to {fetch.origin}")
        if fetch.origin not in self.connections:
            self.connections[fetch.origin] = await self.stack.enter_async_context(self.hosts.connect(fetch.origin))
        done = 0
        with storage_errors(f"fetch {fetch.name}"):
            check_room(self.directory, fetch.size)
            with self.disk.writing(output) as write:

                async def take(piece: bytes) -> None:
                    nonlocal done
                    done += len(piece)
                    await settled(asyncio.to_thread(write, piece))
                    self.report(fetch.name, done, fetch.size)

                await self.connections[fetch.origin].fetch(fetch.name, fetch.size, take)

    def _copy(self, fetch: Fetch, output: Path, told: BlobProgress, stop: Stop) -> None:
        """Raises SourceError where these are not the bytes of the plan, StorageError, OSError."""
        hashed, done = hashlib.sha256(), 0
        with self.disk.writing(output) as write:

            def take(chunk: bytes) -> None:
                nonlocal done
                stop.check()
                hashed.update(chunk)
                write(chunk)
                done += len(chunk)
                told(fetch.name, done, fetch.size)

            self._read(fetch, take)
        if hashed.hexdigest() != fetch.sha256:
            raise SourceError(f"{fetch.origin} has changed since it was looked at", hint="make the plan again")

    def _read(self, fetch: Fetch, take: Callable[[bytes], object]) -> None:
        if fetch.kind is FetchKind.DEVICE:
            uses = users_of(self.directory).get(fetch.name, ())
            use = next((use for use in uses if use.deleted and str(use.device) == fetch.origin), None)
            if use is None:
                raise SourceError(f"{fetch.origin} has let go of {fetch.name}", hint="make the plan again")
            read_back(use, take, fetch.size)
            return
        left = fetch.size
        with open_bounded(fetch.origin) as original:
            while left and (chunk := original.read(min(_CHUNK, left))):
                take(chunk)
                left -= len(chunk)
        if left:
            raise SourceError(f"{fetch.origin} ends {left} bytes too early")

    async def _pack(self, fetch: Fetch, output: Path) -> None:
        def downloaded(_: str, done: int, total: int) -> None:
            self.report(fetch.name, done, total)

        def packed(said: ImportProgress) -> None:
            self.report(fetch.name, said.done, said.total)

        blobs = BlobStore(self.directory, self.disk)
        async with aclosing(await open_source(fetch.origin, self.access)) as source:
            image = await source.resolve()
            if image.digest != fetch.digest:
                raise SourceError(f"{fetch.origin} holds {image.digest} by now")
            await fetch_and_pack(source, image, blobs, output, fetch.format, PackOptions(), downloaded, packed)
            await asyncio.to_thread(clear_blobs, blobs, image)


def require_good(directory: Path, fetch: Fetch, output: Path, stop: Stop) -> str:
    """The sha256 of what was packed, or came from another host. Raises SourceError where it is damaged, is not what the
    plan was made for, or lacks what another format holds."""
    others = None
    if not fetch.by_layers:
        others = OtherFormats(directory, fetch.digest, fetch.format, Ledger.open(directory))
    wanted = WantedFile(fetch.name, fetch.digest, FileKind.PACKED, fetch.format, others=others)
    if fetch.kind is FetchKind.HOST:
        wanted = replace(wanted, content=fetch.content, tree=fetch.tree, program=fetch.program)
    told = Restorer(called={str(output): f"the {wanted.kind} file"})
    good = good_packed(output, wanted, Copy(fetch.origin, 0, sha256=fetch.sha256), told, stop)
    if good is None or fetch.sha256 not in ("", good.sha256):
        why = ", ".join(told.notes) or "it is not the file that the plan was made for"
        raise SourceError(f"what was fetched from {fetch.origin} is not stored: {why}")
    return good.sha256


class Repaired(msgspec.Struct, frozen=True):
    """What a plan came to; ``report`` is the second check."""

    transactions: tuple[Transaction, ...]
    report: Report


async def apply_plan(
    cache: PackerCache, plan: RepairPlan, tell: ProgressCall = lambda now: None, judge: Judge | None = None
) -> Repaired:
    """Make the chosen steps of a plan as one transaction, then check again as deep as before. A ``judge`` that looked
    already looks only at what changed since. Raises PlanChangedError where the cache is no longer what the plan was
    made for, and what fetching and `PackerCache.change` raise; the cache is then as it was."""
    if cache.read_only:
        raise ReadOnlyError("cannot repair the cache: it was opened read-only")
    transactions = await _make(cache, plan, tell)
    tell(RepairProgress("checking again"))
    report = await examine(cache.directory, ExamineOptions(depth=plan.depth), judge=judge)
    # What was packed anew was read back against its layers, which are not fetched once more.
    mended = {finding for step in plan.made for finding in step.findings}
    left = [one for one in plan.by_layers if one not in mended]
    return Repaired(transactions, report.with_layers(left, plan.compared, plan.uncompared))


async def _make(cache: PackerCache, plan: RepairPlan, tell: ProgressCall) -> tuple[Transaction, ...]:
    def fetching(name: str, done: int, total: int) -> None:
        tell(RepairProgress(f"fetching {name}", done, total))

    brought: dict[str, tuple[Path, str]] = {}
    async with AsyncExitStack() as stack:
        if plan.fetches:
            folder = stack.enter_context(staging_folder(cache.directory, cache.disk))
            fetcher = Fetcher(cache.directory, folder, cache.disk, plan.access, fetching, plan.hosts, stack, {})
            for number, fetch in enumerate(plan.fetches):
                fetching(fetch.name, 0, fetch.size)
                brought[fetch.name] = await fetcher.bring(number, fetch)
        try:
            change = plan.composed({name: path for name, (path, _) in brought.items()})
            if not change:
                if plan.made:
                    await cache.prepare()
                return ()
            tell(RepairProgress("mending"))
            digests, names = _about(plan)
            done = await cache.change(change, _kind(plan), names=names, digests=digests, given_up=plan.given_up)
            for name, (_, sha256) in brought.items():
                # What came in may have other bytes than the ledger knew.
                await asyncio.to_thread(record_stored, cache.directory, cache.directory / name, sha256, cache.disk)
            return (done,)
        finally:
            # A call that was cancelled leaves its transaction to end: its files are not to go before.
            await cache.close()


def _kind(plan: RepairPlan) -> TransactionKind:
    kinds = {step.kind for step in plan.made}
    return _KINDS.get(kinds.pop(), TransactionKind.REPAIR) if len(kinds) == 1 else TransactionKind.REPAIR


def _about(plan: RepairPlan) -> tuple[list[str], list[str]]:
    """The digests that the steps are about, and the names that they have in the index."""
    digests = dict.fromkeys(f.digest for step in plan.made for f in step.findings if f.digest)
    index = plan.index if plan.index is not None and digests else ImageIndex.empty()
    named = zip(index.digests, index.names, strict=True)
    return list(digests), list(dict.fromkeys(name for digest, name in named if name and digest in digests))
