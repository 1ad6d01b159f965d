"""Other caches as sources: what of theirs is taken for good, and what they call images whose name is lost here."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import CacheError, Ledger, PackerCache, record_stored
from ocitui.doctor.check.cache_checks import keep_index
from ocitui.doctor.findings import Depth, StepKind
from ocitui.doctor.repair.plan import RepairPlan
from ocitui.importing.errors import SourceError
from tests.cache.support import index_bytes
from tests.doctor.examine_support import NAME, OTHER_NAME, Sample, codes, copied, descriptor, flipped, found
from tests.doctor.repair_support import nobody_else_writes, planned, repaired, standing, undone
from tests.importing.sources import make_root, pack

HOST = "ssh://host2"
Take = Callable[[bytes], Awaitable[object]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_else_writes(monkeypatch)


class Far:
    """The way to hosts, whose caches are directories here; one without is away. ``sends`` lies for a host."""

    def __init__(self, **caches: Path | None) -> None:
        self.caches = {f"ssh://{name}": path for name, path in caches.items()}
        self.sends: Callable[[bytes], bytes] = bytes
        self.fetched: list[str] = []
        self.connections = 0

    def leads_to(self, text: str) -> bool:
        return text.startswith("ssh://")

    @asynccontextmanager
    async def look(self, text: str) -> AsyncIterator[Path]:
        if (path := self.caches[text]) is None:
            raise CacheError("it does not answer")
        yield path

    @asynccontextmanager
    async def connect(self, text: str) -> AsyncIterator[Far]:
        self.connections += 1
        yield self

    async def fetch(self, name: str, size: int, take: Take, /) -> None:
        self.fetched.append(name)
        data = self.sends((self.caches[HOST] or Path()).joinpath(name).read_bytes())
        for at in range(0, len(data), 1 << 16):
            await take(data[at : at + (1 << 16)])


@pytest.fixture
def peer(sample: Sample, tmp_path: Path) -> Sample:
    """The same cache on another host."""
    return copied(sample, tmp_path / "peer")


def on_record(*samples: Sample) -> None:
    for one in samples:
        for path in one.directory.glob("*.squashfs"):
            record_stored(one.directory, path)


def pack_incomplete(sample: Sample, folder: Path) -> None:
    """Have the squashfs of an image lack what its other formats hold."""
    root = make_root(folder)
    (root / "etc" / "hosts").unlink()
    pack("squashfs", root, sample.file("squashfs"))


async def from_host(sample: Sample, far: Far, depth: Depth = Depth.HEADER) -> RepairPlan:
    _, plan = await planned(sample.directory, depth, sources=tuple(far.caches), hosts=far)
    return plan


async def refused_when_made(sample: Sample, plan: RepairPlan, why: str) -> None:
    before = standing(sample.directory)
    with pytest.raises(SourceError, match=why):
        await repaired(sample.directory, plan)
    assert standing(sample.directory) == before
    assert not [*sample.directory.glob(".ocitui/import/*/*")]


async def test_all_files_of_an_entry_from_another_host(sample: Sample, peer: Sample) -> None:
    """Documents when the plan is made, the packed file once it is carried out, over one connection."""
    on_record(sample, peer)
    whole, far = standing(sample.directory), Far(host2=peer.directory)
    gone = [*map(sample.other_file, ("manifest.json", "config.json", "squashfs")), sample.file("squashfs")]
    for path in gone:
        path.unlink()
    plan = await from_host(sample, far)
    assert {step.source for step in plan.steps} == {HOST}
    assert plan.bytes_placed == sum(len(whole[path.name].content) for path in gone)
    assert (far.fetched, far.connections, plan.notes) == ([], 0, ())
    before = standing(sample.directory)
    done = await repaired(sample.directory, plan)
    assert (sorted(far.fetched), far.connections) == (sorted(path.name for path in gone if "json" not in path.name), 1)
    assert codes(done.report.findings) == set()
    assert {name: one.content for name, one in standing(sample.directory).items()} == {
        name: one.content for name, one in whole.items()
    }
    await undone(sample.directory, done)
    assert standing(sample.directory) == before


@pytest.mark.parametrize("prefix", ["", "cache:"])
async def test_another_cache_of_this_host(sample: Sample, peer: Sample, prefix: str) -> None:
    sample.other_file("squashfs").unlink()
    _, plan = await planned(sample.directory, sources=(f"{prefix}{peer.directory}",))
    assert [step.kind for step in plan.steps] == [StepKind.RESTORE_FILE]
    done = await repaired(sample.directory, plan)
    assert codes(done.report.findings) == set()


async def test_where_nothing_is_known_here_the_record_there_has_to_be_and_that_is_said(
    sample: Sample, peer: Sample
) -> None:
    far, path = Far(host2=peer.directory), sample.other_file("squashfs")
    path.unlink()
    plan = await from_host(sample, far)
    assert plan.steps == ()
    (note,) = plan.notes
    assert note.startswith(f"{HOST}/{path.name} is refused: its sha256 is not on record there")
    on_record(peer)
    plan = await from_host(sample, far)
    (step,) = plan.steps
    assert step.source == f"{HOST} (it is read through once it is here; only the record there vouches for it)"
    assert codes((await repaired(sample.directory, plan)).report.findings) == set()


async def test_what_was_written_since_it_was_recorded_there_is_refused(sample: Sample, peer: Sample) -> None:
    path = sample.other_file("squashfs")
    on_record(sample, peer)
    path.unlink()
    os.utime(peer.directory / path.name, (1, 1))
    plan = await from_host(sample, Far(host2=peer.directory))
    assert plan.steps == ()
    assert "not on record there" in plan.notes[0]


async def test_what_the_host_knows_to_be_damaged_is_left_for_what_another_has(
    sample: Sample, peer: Sample, tmp_path: Path
) -> None:
    """Though the hash that was on record before is the right one, and the stat still the same."""
    other = copied(peer, tmp_path / "other")
    on_record(sample, peer, other)
    path = peer.other_file("squashfs")
    before = path.stat()
    path.write_bytes(flipped(path.read_bytes(), 8 * 2000))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await found(peer.directory, Depth.DEEP)
    sample.other_file("squashfs").unlink()
    plan = await from_host(sample, Far(host2=peer.directory, host3=other.directory))
    assert [step.source for step in plan.steps] == ["ssh://host3"]
    assert plan.notes[0].startswith(f"{HOST}/{path.name} is refused: its sha256 is ")


async def test_the_very_bytes_that_are_to_be_replaced_are_not_fetched(
    sample: Sample, peer: Sample, tmp_path: Path
) -> None:
    pack_incomplete(sample, tmp_path)
    shutil.copy(sample.file("squashfs"), peer.file("squashfs"))
    on_record(sample, peer)
    plan = await from_host(sample, Far(host2=peer.directory), Depth.DEEP)
    assert plan.steps == ()
    assert plan.notes == (
        f"{HOST}/{sample.file('squashfs').name} is refused: its bytes are those that are to be replaced",
    )


async def test_nothing_is_dropped_for_want_of_a_host_that_was_not_asked(sample: Sample, peer: Sample) -> None:
    sample.other_file("squashfs").unlink()
    for away, kinds in ((True, []), (False, [StepKind.DROP_ENTRY])):
        far = Far(away=None if away else peer.directory)
        _, plan = await planned(sample.directory, sources=("ssh://away",), hosts=far, drop=True)
        assert [step.kind for step in plan.steps] == kinds
    # That it is on no record there was seen.
    far = Far(away=None)
    _, plan = await planned(sample.directory, sources=("ssh://away",), hosts=far, drop=True)
    assert plan.notes == ("ssh://away was not asked, so nothing is dropped: it does not answer",)


def packed_again(sample: Sample, directory: Path, *, without: str = "") -> Path:
    """The squashfs of an image, packed at another time; ``without`` a path that the image has."""
    root, target = make_root(directory), sample.other_file("squashfs")
    (root / "bin" / "tool").symlink_to("sh")
    if without:
        (root / without).unlink()
    pack("squashfs", root, target)
    with target.open("r+b") as file:
        file.seek(8)
        file.write(b"\1\0\0\1")  # when it was packed
    return target


@pytest.mark.parametrize("where", ["host", "directory"])
@pytest.mark.parametrize("known", ["the tree of it", "the tree of another format", "neither"])
async def test_of_other_bytes_the_tree_has_to_be_the_one_on_record(
    sample: Sample, peer: Sample, tmp_path: Path, known: str, where: str
) -> None:
    path = sample.other_file("squashfs")
    if known == "the tree of it":
        await found(sample.directory, Depth.DEEP)
        assert Ledger.open(sample.directory).sound[path.name]
    else:
        on_record(sample)
        if known == "the tree of another format":
            root = make_root(tmp_path / "tar")
            (root / "bin" / "tool").symlink_to("sh")
            pack("tar", root, sample.other_file("tar"))
    path.unlink()
    copy = packed_again(peer, tmp_path / "again")
    on_record(peer)
    far = Far(**{"host2" if where == "host" else "away": peer.directory if where == "host" else None})
    sources = (HOST,) if where == "host" else (str(peer.directory),)
    _, plan = await planned(sample.directory, sources=sources, hosts=far)
    if known == "neither":
        assert [step for step in plan.steps if step.kind is StepKind.RESTORE_FILE] == []
        assert "neither that nor its tree is on record" in plan.notes[0]
        return
    (step,) = (step for step in plan.steps if step.kind is StepKind.RESTORE_FILE)
    assert "packed another time, with the tree on record" in step.source
    await repaired(sample.directory, plan)
    assert path.read_bytes() == copy.read_bytes()


@pytest.mark.parametrize("where", ["host", "host with the tree on record", "directory"])
async def test_another_tree_than_the_one_on_record_is_refused(
    sample: Sample, peer: Sample, tmp_path: Path, where: str
) -> None:
    path = sample.other_file("squashfs")
    await found(sample.directory, Depth.DEEP)
    path.unlink()
    packed_again(peer, tmp_path / "again", without="etc/hosts")
    on_record(peer)
    if "record" in where:
        await found(peer.directory, Depth.DEEP)
    sources = (str(peer.directory),) if where == "directory" else (HOST,)
    _, plan = await planned(sample.directory, sources=sources, hosts=Far(host2=peer.directory))
    if where == "host":
        await refused_when_made(sample, plan, "its tree is not the one on record")
    else:
        assert plan.steps == ()
        assert plan.notes == (f"{sources[0]}/{path.name} is refused: its tree is not the one on record",)


async def test_what_only_that_host_vouches_for_is_held_against_the_other_formats_here(
    sample: Sample, peer: Sample, tmp_path: Path
) -> None:
    pack_incomplete(peer, tmp_path)
    on_record(peer)
    sample.file("squashfs").unlink()
    plan = await from_host(sample, Far(host2=peer.directory))
    assert "only the record there vouches for it" in plan.steps[0].source
    await refused_when_made(sample, plan, r"is not stored: .*it lacks .*etc/hosts, which the erofs holds")


async def test_a_file_that_is_incomplete_here_is_replaced_by_a_whole_one(
    sample: Sample, peer: Sample, tmp_path: Path
) -> None:
    """Though the bytes of the incomplete one, and its tree, are on record."""
    pack_incomplete(sample, tmp_path)
    on_record(sample, peer)
    plan = await from_host(sample, Far(host2=peer.directory), Depth.DEEP)
    assert {finding.code for step in plan.steps for finding in step.findings} >= {"packed-incomplete"}
    await repaired(sample.directory, plan)
    assert sample.file("squashfs").read_bytes() == peer.file("squashfs").read_bytes()
    assert codes((await found(sample.directory, Depth.DEEP)).findings) == set()


@pytest.mark.parametrize("vouched", [True, False], ids=["known there alone", "known here"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "longer"])
async def test_other_bytes_than_were_promised_are_never_stored(
    sample: Sample, peer: Sample, harm: str, vouched: bool
) -> None:
    on_record(peer, *([] if vouched else [sample]))
    sample.other_file("squashfs").unlink()
    far = Far(host2=peer.directory)
    plan = await from_host(sample, far)
    far.sends = {
        "flipped": lambda data: flipped(data, 8 * 2000),
        "cut": lambda data: data[:-5000],
        "longer": lambda data: data + bytes(1 << 20),
    }[harm]
    await refused_when_made(sample, plan, "is not stored")
    far.sends = bytes
    done = await repaired(sample.directory, plan)
    assert codes(done.report.findings) == set()


async def test_a_connection_that_breaks_in_the_middle_leaves_all_as_it_was(sample: Sample, peer: Sample) -> None:
    on_record(sample, peer)
    sample.other_file("squashfs").unlink()
    far = Far(host2=peer.directory)
    plan = await from_host(sample, far)

    class Broken(Far):
        async def fetch(self, name: str, size: int, take: Take, /) -> None:
            await take((peer.directory / name).read_bytes()[: size // 2])
            raise SourceError("the connection ended")

    far.connect = Broken().connect  # type: ignore[method-assign]
    await refused_when_made(sample, plan, "the connection ended")


@pytest.mark.parametrize("suffix", ["manifest.json", "config.json"])
async def test_a_wrong_document_is_refused(sample: Sample, peer: Sample, suffix: str) -> None:
    path = peer.other_file(suffix)
    path.write_bytes(path.read_bytes().replace(b"arm64", b"amd64") + b" ")
    sample.other_file(suffix).unlink()
    plan = await from_host(sample, Far(host2=peer.directory))
    assert plan.steps == ()
    (note,) = plan.notes
    assert note.startswith(f"{HOST}/{path.name} is refused: its bytes have not the digest")


async def test_a_host_that_is_away_is_told_of_and_the_plan_goes_on(sample: Sample, peer: Sample) -> None:
    sample.other_file("config.json").unlink()
    plan = await from_host(sample, Far(away=None, host2=peer.directory))
    assert plan.notes == ("ssh://away was not asked: it does not answer",)
    assert [step.source for step in plan.steps] == [HOST]
    plan = await from_host(sample, Far(away=None))
    assert plan.steps == ()


# Names


def wiped(sample: Sample, entries: list[dict[str, Any]] | None = None) -> None:
    """As the daemon leaves the index when it could not read it, with what it stored since; nothing of ours is there."""
    shutil.rmtree(sample.directory / ".ocitui", ignore_errors=True)
    sample.index.write_bytes(index_bytes(entries or []))


def peers_of(sample: Sample, folder: Path, *renames: dict[str, str]) -> list[str]:
    """Caches like this one, in which these names are others; an empty one goes with its entries."""
    found = []
    for number, renamed in enumerate(renames):
        one = copied(sample, folder / f"peer{number}")
        fields = json.loads(one.index.read_bytes())
        for entry in [*fields["manifests"]]:
            name = entry["annotations"]["io.containerd.image.name"]
            if (other := renamed.get(name, name)) != name:
                fields["manifests"].remove(entry)
            if other != name and other:
                form = entry["annotations"]["dev.krata.oci.packer.format"]
                fields["manifests"].append(descriptor(entry["digest"], entry["size"], form, other))
        one.index.write_bytes(json.dumps(fields).encode())
        found.append(str(one.directory))
    return found


def said(plan: RepairPlan) -> set[tuple[str, str, int, str]]:
    return {(one.name, one.digest, len(one.by), one.why_not) for one in plan.claims}


async def names_of(directory: Path) -> set[tuple[str | None, str, str | None]]:
    return {(one.image_name, one.digest, one.format) for one in await PackerCache(directory).list()}


async def test_the_names_of_a_wiped_index_from_peers_that_agree(sample: Sample, tmp_path: Path) -> None:
    before, sources = await names_of(sample.directory), peers_of(sample, tmp_path, {}, {})
    wiped(sample)
    _, plan = await planned(sample.directory, sources=sources)
    assert said(plan) == {(NAME, sample.digest, 2, ""), (OTHER_NAME, sample.other, 2, "")}
    assert [claim.here for claim in plan.claims if claim.digest == sample.other] == [
        ("manifest.json", "config.json", "squashfs")
    ]
    assert "4 of the peers" in plan.steps[0].title
    done = await repaired(sample.directory, plan)
    assert await names_of(sample.directory) == before
    assert codes(done.report.findings) == set()


async def test_only_the_name_is_taken_of_a_peer_and_the_rest_of_the_files_here(sample: Sample, tmp_path: Path) -> None:
    (source,) = peers_of(sample, tmp_path, {})
    index = Path(source, "index.json")
    fields = json.loads(index.read_bytes())
    for entry in fields["manifests"]:
        entry |= {"size": 7, "urls": ["http://elsewhere"]}
    index.write_bytes(json.dumps(fields).encode())
    wiped(sample)
    _, plan = await planned(sample.directory, sources=[source])
    assert plan.claims
    await repaired(sample.directory, plan)
    text = sample.index.read_bytes()
    assert b"elsewhere" not in text
    sizes = {path.stat().st_size for path in sample.directory.glob("*.manifest.json")}
    assert {one["size"] for one in json.loads(text)["manifests"]} == sizes


async def test_peers_that_disagree_are_shown_and_no_majority_decides(sample: Sample, tmp_path: Path) -> None:
    sources = peers_of(sample, tmp_path, {}, {}, {OTHER_NAME: "team/tool:3"})
    wiped(sample)
    _, plan = await planned(sample.directory, sources=sources)
    assert said(plan) == {
        (NAME, sample.digest, 3, ""),
        (OTHER_NAME, sample.other, 2, "others call it otherwise"),
        ("team/tool:3", sample.other, 1, "others call it otherwise"),
    }
    await repaired(sample.directory, plan)
    assert {name for name, digest, _ in await names_of(sample.directory) if digest == sample.other} == {None}
    _, plan = await planned(sample.directory, sources=sources, names=((sample.other, "team/tool:3"),))
    await repaired(sample.directory, plan)
    assert ("team/tool:3", sample.other, "squashfs") in await names_of(sample.directory)


async def test_a_name_that_stands_for_another_image_elsewhere_is_left_out(sample: Sample, tmp_path: Path) -> None:
    sources = peers_of(sample, tmp_path, {}, {NAME: ""})
    other = Path(sources[1], "index.json")
    fields = json.loads(other.read_bytes())
    fields["manifests"].append(descriptor(f"sha256:{'5' * 64}", 9, "squashfs", OTHER_NAME))
    other.write_bytes(json.dumps(fields).encode())
    wiped(sample)
    _, plan = await planned(sample.directory, sources=sources)
    assert said(plan) == {
        (NAME, sample.digest, 1, ""),
        (OTHER_NAME, sample.other, 1, "others have another image under it"),
        (OTHER_NAME, f"sha256:{'5' * 64}", 1, "it is not here"),
    }
    assert [name for name, digest, _ in _brought(plan) if digest == sample.other] == [None]


def _brought(plan: RepairPlan) -> list[tuple[str | None, str, str | None]]:
    assert plan.whole is not None
    return [(one.image_name, one.digest, one.format) for one in plan.whole.index.descriptors]


async def test_a_name_that_an_entry_here_has_is_not_taken_from_it(sample: Sample, tmp_path: Path) -> None:
    sources = peers_of(sample, tmp_path, {})
    size = sample.file("manifest.json").stat().st_size
    wiped(sample, [descriptor(sample.digest, size, "squashfs", OTHER_NAME)])
    _, plan = await planned(sample.directory, sources=sources, adopt_known=True)
    (claim,) = (claim for claim in plan.claims if claim.digest == sample.other)
    assert claim.why_not.startswith("here it stands for ")
    assert not [step for step in plan.steps if sample.other in {one.digest for one in step.findings}]


async def test_an_image_of_several_names_gets_them_all(sample: Sample, tmp_path: Path) -> None:
    (source,) = peers_of(sample, tmp_path, {})
    fields = json.loads(Path(source, "index.json").read_bytes())
    fields["manifests"].append(descriptor(sample.other, 9, "squashfs", "team/tool:stable"))
    Path(source, "index.json").write_bytes(json.dumps(fields).encode())
    wiped(sample)
    _, plan = await planned(sample.directory, sources=[source])
    names = {name for name, digest, _ in _brought(plan) if digest == sample.other}
    assert names == {OTHER_NAME, "team/tool:stable"}


@pytest.mark.parametrize("name", ["a\x1b[31m:1", "a\u202e:1", "host.x:99999/b:1", "library/a:1"])
async def test_a_name_that_cannot_be_shown_or_is_none_is_not_heard(sample: Sample, tmp_path: Path, name: str) -> None:
    sources = peers_of(sample, tmp_path, {OTHER_NAME: name})
    wiped(sample)
    _, plan = await planned(sample.directory, sources=sources)
    assert said(plan) == {(NAME, sample.digest, 1, "")}


@pytest.mark.parametrize("bad", [b"{", b"", b'{"schemaVersion":2,"manifests":[1]}', b"[" * 100_000])
async def test_a_peer_whose_index_does_not_read_says_nothing(sample: Sample, tmp_path: Path, bad: bytes) -> None:
    sources = peers_of(sample, tmp_path, {}, {})
    Path(sources[0], "index.json").write_bytes(bad)
    wiped(sample)
    _, plan = await planned(sample.directory, sources=sources)
    assert said(plan) == {(NAME, sample.digest, 1, ""), (OTHER_NAME, sample.other, 1, "")}


async def test_orphans_beside_what_was_stored_since_are_adopted_under_the_names_of_peers(
    sample: Sample, tmp_path: Path
) -> None:
    sources = peers_of(sample, tmp_path, {})
    size = sample.file("manifest.json").stat().st_size
    wiped(sample, [descriptor(sample.digest, size, form, NAME) for form in ("squashfs", "erofs", "tar")])
    _, plan = await planned(sample.directory, sources=sources)
    assert plan.steps == ()
    (left,) = (one for one in plan.left if one.finding.code == "orphan-entry")
    assert f"as {OTHER_NAME}" in left.would
    assert said(plan) == {(OTHER_NAME, sample.other, 1, "")}
    _, plan = await planned(sample.directory, sources=sources, adopt_known=True)
    await repaired(sample.directory, plan)
    assert (OTHER_NAME, sample.other, "squashfs") in await names_of(sample.directory)


async def test_an_entry_without_a_name_gets_that_of_peers(sample: Sample, tmp_path: Path) -> None:
    sources = peers_of(sample, tmp_path, {})
    sample.edit_entry(3, lambda entry: entry["annotations"].pop("io.containerd.image.name"))
    _, plan = await planned(sample.directory, sources=sources)
    await repaired(sample.directory, plan)
    assert (OTHER_NAME, sample.other, "squashfs") in await names_of(sample.directory)


async def test_what_was_deleted_on_purpose_is_not_brought_back_by_a_peer(sample: Sample, tmp_path: Path) -> None:
    sources = peers_of(sample, tmp_path, {})
    cache = PackerCache(sample.directory)
    await cache.delete([(sample.other, "squashfs")])
    sample.index.write_bytes(index_bytes([]))
    _, plan = await planned(sample.directory, sources=sources)
    assert sample.other not in {digest for _, digest, _ in _brought(plan)}
    assert OTHER_NAME not in {claim.name for claim in plan.claims if not claim.why_not}


async def test_what_a_backup_knows_is_not_asked_of_peers(sample: Sample, tmp_path: Path) -> None:
    sources = peers_of(sample, tmp_path, {NAME: "something/else:1"})
    keep_index(sample.directory)
    before = await names_of(sample.directory)
    sample.index.write_bytes(index_bytes([]))
    _, plan = await planned(sample.directory, sources=sources)
    assert plan.claims == ()
    await repaired(sample.directory, plan)
    assert await names_of(sample.directory) == before
