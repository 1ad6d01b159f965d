"""Good copies: where they are looked for, in which order, and what is taken for good."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ocitui.cache import (
    Change,
    Discard,
    PackedFormat,
    PackerCache,
    PlanChangedError,
    StorageError,
    TransactionKind,
    see,
)
from ocitui.cache.files import check_packed
from ocitui.cache.ledger import Ledger, RecordedSource, hash_file, record_stored
from ocitui.doctor.check.entry_checks import read_document
from ocitui.doctor.findings import Depth, StepKind, Way
from ocitui.doctor.repair.plan import RepairPlan, plan_repair
from ocitui.doctor.repair.steps import RepairProgress
from ocitui.host.loop_devices import LoopUse
from ocitui.importing.errors import SourceError
from ocitui.importing.image_import import ImportDesk, import_image
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.sources.references import RegistryOptions, SourceOptions
from tests.cli.import_support import running
from tests.contents.trees_support import Clock
from tests.doctor.examine_support import Sample, codes, copied, flipped, found
from tests.doctor.fault_makers import repack
from tests.doctor.repair_support import bytes_in, nobody_else_writes, planned, repaired, standing, undone
from tests.host.loops import loop_device
from tests.importing.conftest import packed_here as packed_here  # a fixture
from tests.importing.image_makers import Made, layout_files, make_image, make_index, make_tar, named, put, write_files
from tests.importing.registry_server import FaultyRegistry
from tests.importing.sources import make_root, pack
from tests.tools import need

SUFFIXES = ["squashfs", "manifest.json", "config.json"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_else_writes(monkeypatch)


async def to_trash(directory: Path, *names: str) -> None:
    """Out of the cache by a transaction of ours."""
    discards = [Discard(name, seen) for name in names if (seen := see(directory / name)) is not None]
    await PackerCache(directory).change(Change(discard=tuple(discards)), TransactionKind.REPAIR)


async def check_restored(directory: Path, plan: RepairPlan, whole: dict[str, Any]) -> None:
    """The plan brings every byte back, and its undo takes it away again."""
    damaged = standing(directory)
    done = await repaired(directory, plan)
    assert codes(done.report.findings) == set()
    assert {name: one.content for name, one in standing(directory).items()} == whole
    await undone(directory, done)
    assert standing(directory) == damaged


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_missing_file_from_the_trash(sample: Sample, suffix: str) -> None:
    whole = bytes_in(sample.directory)
    await to_trash(sample.directory, sample.other_file(suffix).name)
    _, plan = await planned(sample.directory)
    assert [(step.kind, step.source.partition(" (")[0]) for step in plan.steps] == [
        (StepKind.RESTORE_FILE, "the trash")
    ]
    assert plan.left == ()
    await check_restored(sample.directory, plan, whole)


async def test_a_missing_file_from_the_trash_of_a_journal_that_was_lost(sample: Sample) -> None:
    whole = bytes_in(sample.directory)
    await to_trash(sample.directory, sample.other_file("squashfs").name)
    shutil.rmtree(sample.directory / ".ocitui" / "journal")
    assert [file.recorded for file in await PackerCache(sample.directory).trash()] == [False]
    _, plan = await planned(sample.directory)
    await check_restored(sample.directory, plan, whole)


async def test_no_document_is_read_on_the_event_loop(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = set[int]()

    def read(path: Path | str) -> bytes:
        readers.add(threading.get_ident())
        return read_document(path)

    monkeypatch.setattr("ocitui.doctor.repair.copies.read_document", read)
    for path in (sample.other_file("config.json"), sample.file("squashfs")):
        path.write_bytes(path.read_bytes()[:-5000])
    await planned(sample.directory)
    assert readers
    assert threading.get_ident() not in readers


async def test_all_three_files_from_the_trash_at_once(sample: Sample) -> None:
    whole = bytes_in(sample.directory)
    await to_trash(sample.directory, *(sample.other_file(suffix).name for suffix in SUFFIXES))
    _, plan = await planned(sample.directory)
    assert len(plan.steps) == 3
    await check_restored(sample.directory, plan, whole)


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_bad_file_from_the_trash(sample: Sample, suffix: str) -> None:
    whole = bytes_in(sample.directory)
    path = sample.other_file(suffix)
    good = path.read_bytes()
    await to_trash(sample.directory, path.name)
    path.write_bytes(good[:100])
    _, plan = await planned(sample.directory)
    assert [step.kind for step in plan.steps] == [StepKind.RESTORE_FILE]
    assert plan.bytes_trashed == 100
    await check_restored(sample.directory, plan, whole)


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_what_went_aside_for_being_bad_does_not_come_back(sample: Sample, suffix: str) -> None:
    path = sample.other_file(suffix)
    path.write_bytes(path.read_bytes()[:-5000] if suffix == "squashfs" else path.read_bytes()[:-200])
    _, plan = await planned(sample.directory)
    assert [step.kind for step in plan.steps] == [StepKind.MOVE_ASIDE]
    await repaired(sample.directory, plan)
    _, again = await planned(sample.directory)
    assert again.steps == ()
    assert [left.finding.code for left in again.left] == ["file-missing"]
    assert "<from>" in again.left[0].would
    assert "the trash" in again.left[0].why


async def test_the_config_of_a_sibling(sample: Sample) -> None:
    config = sample.file("config.json").read_bytes()
    fields = json.loads(sample.file("manifest.json").read_bytes())
    manifest = json.dumps({**fields, "annotations": {"other": "build"}}).encode()
    digest = sample.replace_documents(manifest, config)
    whole = bytes_in(sample.directory)
    sample.file("config.json", digest).unlink()
    _, plan = await planned(sample.directory)
    (step,) = plan.steps
    assert step.source.startswith(sample.digest)
    await check_restored(sample.directory, plan, whole)


@dataclass
class Imported:
    """A cache that was imported into, and where its image came from."""

    directory: Path
    image: Made
    layout: Path
    registry: FaultyRegistry
    name: str

    def file(self, suffix: str) -> Path:
        return self.directory / f"{self.image.digest}.{suffix}"

    @property
    def access(self) -> SourceOptions:
        return SourceOptions(registry=RegistryOptions(tries=1, environment={}))


@pytest.fixture(scope="module")
def made_import(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imported]:
    need("mksquashfs", "mkfs.erofs")
    image = make_image(b"one" * 999, b"two" * 999)
    layout = tmp_path_factory.mktemp("layout")
    write_files(layout, layout_files(make_index(named(image, "v1")), *image.blobs))
    directory = tmp_path_factory.mktemp("cache")
    with running(FaultyRegistry()) as registry:
        name = f"{registry.host}/team/app:v1"
        desk = ImportDesk(PackerCache(directory))
        for form in (PackedFormat.SQUASHFS, PackedFormat.TAR):
            asyncio.run(import_image(desk, ImportRequest(source=f"oci:{layout}", name=name, format=form)))
        yield Imported(directory, image, layout, registry, name)


@pytest.fixture
def imported(made_import: Imported, tmp_path: Path) -> Imported:
    """A copy of it, to be changed; the registry as it was."""
    put(made_import.registry, made_import.image, "v1")
    made_import.registry.requests.clear()
    return replace(made_import, directory=Path(shutil.copytree(made_import.directory, tmp_path / "cache")))


def as_archive(imported: Imported, folder: Path) -> str:
    path = folder / "archive.tar"
    files = {
        str(one.relative_to(imported.layout)): one.read_bytes() for one in imported.layout.rglob("*") if one.is_file()
    }
    path.write_bytes(make_tar(files))
    return f"oci-archive:{path}"


def as_other_cache(imported: Imported, folder: Path) -> str:
    return str(shutil.copytree(imported.directory, folder / "other", ignore=shutil.ignore_patterns(".ocitui")))


def as_packed_file(imported: Imported, folder: Path) -> str:
    return f"packed:{as_other_cache(imported, folder)}/{imported.image.digest}.squashfs"


SOURCES: dict[str, Callable[[Imported, Path], str]] = {
    "layout": lambda imported, _: f"oci:{imported.layout}",
    "layout by its path": lambda imported, _: str(imported.layout),
    "archive": as_archive,
    "other cache": as_other_cache,
    "packed file": as_packed_file,
}


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.usefixtures("packed_here")
async def test_from_what_the_operator_names(imported: Imported, tmp_path: Path, source: str, suffix: str) -> None:
    text, whole = SOURCES[source](imported, tmp_path), imported.file(suffix).read_bytes()
    imported.file(suffix).unlink()
    _, without = await planned(imported.directory)
    assert without.steps == ()
    _, plan = await planned(imported.directory, sources=(text,))
    (step,) = plan.steps
    assert step.kind is StepKind.RESTORE_FILE
    assert plan.notes == ()
    before = standing(imported.directory)
    done = await repaired(imported.directory, plan)
    assert codes(done.report.findings) == set()
    assert check_packed(imported.file("squashfs")).problem is None
    if suffix != "squashfs" or "cache" in source:
        assert imported.file(suffix).read_bytes() == whole
    await undone(imported.directory, done)
    assert standing(imported.directory) == before


@pytest.mark.parametrize("source", ["layout", "layout by its path", "archive", "packed file"])
@pytest.mark.usefixtures("packed_here")
async def test_from_where_it_was_imported_without_being_told(imported: Imported, tmp_path: Path, source: str) -> None:
    packed = imported.file("squashfs")
    record_stored(imported.directory, packed, source=RecordedSource(SOURCES[source](imported, tmp_path)))
    packed.unlink()
    _, plan = await planned(imported.directory)
    (step,) = plan.steps
    assert step.kind is StepKind.RESTORE_FILE
    done = await repaired(imported.directory, plan)
    assert codes(done.report.findings) == set()


async def test_a_source_that_is_no_more_is_told_and_a_registry_is_not_asked_unasked(imported: Imported) -> None:
    packed = imported.file("squashfs")
    for text, note in (
        ("oci:/nowhere/it", "it was imported from oci:/nowhere/it: "),
        (f"docker://{imported.name}", ""),
    ):
        ledger = Ledger.open(imported.directory)
        ledger.record_source(packed.name, RecordedSource(text))
        ledger.flush()
        packed.unlink(missing_ok=True)
        _, plan = await planned(imported.directory)
        assert plan.steps == ()
        assert any(one.startswith(note) for one in plan.notes) is bool(note)
    imported.registry.manifests.pop("v1")
    _, plan = await planned(imported.directory, registry=True, access=imported.access)
    assert [step.kind for step in plan.steps] == [StepKind.RESTORE_FILE]


@pytest.mark.parametrize("source", ["layout", "other cache"])
async def test_what_came_in_is_on_record_as_it_was_read(
    imported: Imported, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the sha256 of what was read through, which is not asked of the file once more."""
    text, path = SOURCES[source](imported, tmp_path), imported.file("squashfs")
    path.unlink()
    _, plan = await planned(imported.directory, sources=(text,))
    monkeypatch.delattr("ocitui.cache.ledger.hash_file")
    await repaired(imported.directory, plan)
    record = Ledger.open(imported.directory).sound.get(path.name)
    assert record is not None
    assert record.same_file(path.stat())
    assert (record.sha256, record.first_seen) == (hashlib.sha256(path.read_bytes()).hexdigest(), False)


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_from_the_registry_by_digest(imported: Imported, suffix: str) -> None:
    imported.registry.manifests.pop("v1")
    imported.file(suffix).unlink()
    _, plan = await planned(imported.directory, registry=True, access=imported.access)
    (step,) = plan.steps
    assert step.source.endswith(f"/team/app@{imported.image.digest}")
    done = await repaired(imported.directory, plan)
    assert codes(done.report.findings) == set()
    assert imported.registry.asked("/manifests/v1") == []
    fetched = [request.path for request in imported.registry.asked("/blobs/")]
    config = json.loads(imported.image.manifest)["config"]["digest"]
    if suffix != "squashfs":
        assert {path.rpartition("/")[2] for path in fetched} == {config}


async def test_a_registry_is_not_asked_unless_allowed(imported: Imported) -> None:
    imported.file("config.json").unlink()
    asked = len(imported.registry.requests)
    _, plan = await planned(imported.directory)
    assert plan.steps == ()
    assert "<registry>" in plan.left[0].would
    assert len(imported.registry.requests) == asked


async def test_a_registry_named_as_a_source_is_refused_without_a_front_end_s_words(imported: Imported) -> None:
    imported.file("config.json").unlink()
    with pytest.raises(SourceError, match="is no layout, archive") as raised:
        await planned(imported.directory, sources=(f"docker://{imported.name}",))
    assert raised.value.hint.startswith(Way.REGISTRY)


async def test_a_registry_that_has_another_image_by_now(imported: Imported) -> None:
    imported.registry.manifests.clear()
    imported.file("config.json").unlink()
    _, plan = await planned(imported.directory, registry=True, access=imported.access)
    assert plan.steps == ()


async def test_a_source_that_is_not_there_is_an_error(sample: Sample, tmp_path: Path) -> None:
    """A plan without it would be another one than was asked for."""
    sample.other_file("config.json").unlink()
    with pytest.raises(SourceError, match="nowhere does not exist"):
        await planned(sample.directory, sources=(f"oci:{tmp_path / 'nowhere'}",))


async def test_nothing_happens_where_a_file_changed_since(sample: Sample) -> None:
    path = sample.other_file("config.json")
    await to_trash(sample.directory, path.name)
    _, plan = await planned(sample.directory)
    path.write_bytes(b"{}")
    before = standing(sample.directory)
    with pytest.raises(PlanChangedError):
        await repaired(sample.directory, plan)
    assert standing(sample.directory) == before


async def test_a_deleted_file_that_a_guest_still_has(sample: Sample) -> None:
    path = sample.other_file("squashfs")
    whole = bytes_in(sample.directory)
    with loop_device(path) as device:
        path.unlink()
        _, plan = await planned(sample.directory)
        (step,) = plan.steps
        assert str(device) in step.source
        assert step.used_by == (str(device),)
        done = await repaired(sample.directory, plan)
        assert codes(done.report.findings) == set()
        assert bytes_in(sample.directory) == whole


@pytest.mark.parametrize("harm", ["", "has let go of", "has changed since"])
async def test_a_device_is_asked_again_when_the_plan_is_made_true(
    sample: Sample, tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, device = sample.other_file("squashfs"), tmp_path / "loop7"
    content = path.read_bytes()
    path.rename(device)
    users = {path.name: [LoopUse(device, str(path), True, True, len(content))]}
    monkeypatch.setattr("ocitui.doctor.repair.plan.users_of", lambda directory: users)
    _, plan = await planned(sample.directory)
    before = standing(sample.directory)
    if not harm:
        await repaired(sample.directory, plan)
        assert path.read_bytes() == content
        return
    if harm == "has let go of":
        users.clear()
    else:
        device.write_bytes(flipped(content, 8 * 100))
    with pytest.raises(SourceError, match=harm):
        await repaired(sample.directory, plan)
    assert standing(sample.directory) == before


async def test_who_uses_an_entry_stands_in_the_plan(sample: Sample) -> None:
    path = sample.other_file("squashfs")
    sample.other_file("manifest.json").unlink()
    with loop_device(path) as device:
        _, plan = await planned(sample.directory, drop=True)
        assert plan.used_by == (str(device),)
        _, careful = await planned(sample.directory)
        assert careful.used_by == ()


@pytest.mark.parametrize("harm", ["too early", "has changed since"])
async def test_a_source_that_changed_after_the_plan(imported: Imported, tmp_path: Path, harm: str) -> None:
    other = Path(as_other_cache(imported, tmp_path))
    imported.file("squashfs").unlink()
    _, plan = await planned(imported.directory, sources=(str(other),))
    copy = other / f"{imported.image.digest}.squashfs"
    copy.write_bytes(b"" if harm == "too early" else flipped(copy.read_bytes(), 8 * 100))
    before = standing(imported.directory)
    with pytest.raises(SourceError, match=harm):
        await repaired(imported.directory, plan)
    assert standing(imported.directory) == before


async def test_a_copy_that_goes_while_it_is_read(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, path = copied(sample, tmp_path / "other").directory, sample.other_file("squashfs")
    path.unlink()

    def read(file: BinaryIO, passed: Callable[[int], object]) -> str:
        sha256 = hash_file(file, passed)
        (other / path.name).unlink()
        return sha256

    monkeypatch.setattr("ocitui.doctor.repair.copies.hash_file", read)
    _, plan = await planned(sample.directory, sources=(str(other),))
    before = standing(sample.directory)
    with pytest.raises(StorageError, match="No such file"):
        await repaired(sample.directory, plan)
    assert standing(sample.directory) == before


def spoil(path: Path) -> None:
    """Damage that no header tells: a hole in the table of inodes."""
    content = path.read_bytes()
    inodes = int.from_bytes(content[64:72], "little")
    path.write_bytes(content[: inodes + 20] + bytes(16) + content[inodes + 36 :])


@pytest.mark.parametrize("depth", Depth)
@pytest.mark.parametrize("place", ["other cache", "packed file", "trash"])
async def test_a_copy_that_cannot_be_read_through_is_never_stored(
    sample: Sample, tmp_path: Path, place: str, depth: Depth
) -> None:
    path, other = sample.other_file("squashfs"), copied(sample, tmp_path / "other").directory
    spoil(other / path.name)
    sources = {"other cache": str(other), "packed file": f"packed:{other / path.name}"}
    if place == "trash":
        spoil(path)
        await to_trash(sample.directory, path.name)
    else:
        path.unlink()
    _, plan = await planned(sample.directory, depth, sources=[sources[place]] if place in sources else [])
    assert plan.steps == ()
    (note,) = plan.notes
    assert f"{path.name} is refused: reading it through failed" in note
    assert place != "other cache" or str(other) in note


def lacking(sample: Sample, tmp_path: Path, path: str) -> Path:
    """Another cache's squashfs, packed without this path; that of the sample's own cache is gone."""
    other, root = copied(sample, tmp_path / "other"), make_root(tmp_path)
    (root / "bin" / "tool").symlink_to("sh")
    (root / path).unlink()
    pack("squashfs", root, other.file("squashfs"))
    sample.file("squashfs").unlink()
    return other.file("squashfs")


async def test_a_copy_without_what_the_image_runs_is_refused(sample: Sample, tmp_path: Path) -> None:
    copy = lacking(sample, tmp_path, "bin/sh")
    for suffix in ("erofs", "tar"):
        sample.file(suffix).unlink()
    _, plan = await planned(sample.directory, sources=(f"packed:{copy}",))
    assert plan.steps == ()
    assert "it lacks /bin/sh, which the image is to run" in plan.notes[0]


async def test_a_copy_without_what_another_format_holds_is_refused(sample: Sample, tmp_path: Path) -> None:
    """As a deep check would find it, and whatever the other cache has on record."""
    copy = lacking(sample, tmp_path, "etc/hosts")
    _, plan = await planned(sample.directory, sources=(str(copy.parent),))
    assert plan.steps == ()
    (note,) = plan.notes
    assert note == f"{copy} is refused: it lacks etc/hosts, which the erofs holds"
    record_stored(copy.parent, copy)
    _, plan = await planned(sample.directory, sources=(str(copy.parent),))
    assert (plan.steps, plan.notes) == ((), (note,))


async def test_a_copy_that_cannot_be_compared_is_refused_and_ends_no_plan(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, root = copied(sample, tmp_path / "other"), make_root(tmp_path)
    for number in range(200):
        (root / f"link{number}").symlink_to("x" * 200)
    pack("squashfs", root, other.file("squashfs"))
    sample.file("squashfs").unlink()
    monkeypatch.setattr("ocitui.contents.digest.MOST_TEXT", 20_000)
    _, plan = await planned(sample.directory, sources=(str(other.directory),))
    assert plan.steps == ()
    (note,) = plan.notes
    assert "is refused: its lines are longer" in note


async def test_a_copy_that_was_found_incomplete_is_refused_though_its_sha256_is_on_record(sample: Sample) -> None:
    path = sample.file("erofs")
    repack("erofs", "etc/hosts")(sample)
    record_stored(sample.directory, path)
    assert codes((await found(sample.directory, Depth.DEEP)).findings) == {"packed-incomplete"}
    await to_trash(sample.directory, path.name)
    _, plan = await planned(sample.directory)
    assert plan.steps == ()
    (note,) = plan.notes
    assert note.endswith(" is refused: it lacks etc/hosts, which the squashfs holds")


@pytest.mark.usefixtures("packed_here")
async def test_what_is_packed_anew_and_lacks_what_another_format_holds_is_refused(imported: Imported) -> None:
    tar = imported.file("tar")
    with tarfile.open(tar, "a") as archive:
        archive.addfile(tarfile.TarInfo("more"))
    imported.file("squashfs").unlink()
    _, plan = await planned(imported.directory, sources=(f"oci:{imported.layout}",))
    with pytest.raises(SourceError, match=r"is not stored: .* it lacks more, which the tar holds"):
        await repaired(imported.directory, plan)
    assert not imported.file("squashfs").exists()


@pytest.mark.parametrize("harm", ["cut", "rotten", "found damaged", "a link"])
async def test_a_copy_is_held_against_what_is_sound_alone(sample: Sample, tmp_path: Path, harm: str) -> None:
    copy, tar = lacking(sample, tmp_path, "etc/hosts"), sample.file("tar")
    sample.file("erofs").unlink()
    content = tar.read_bytes()
    if harm == "cut":
        os.truncate(tar, -(-len(content.rstrip(b"\0")) // 512) * 512)
    elif harm == "rotten":
        record_stored(sample.directory, tar)
        tar.write_bytes(flipped(content, 8 * 100_000))
    elif harm == "a link":
        tar.symlink_to(tar.rename(tmp_path / "elsewhere"))
    else:
        ledger = Ledger.open(sample.directory)
        ledger.note_damage(tar.name, tar.stat(), "packed-damaged", "it was")
        ledger.flush()
    _, plan = await planned(sample.directory, sources=(f"packed:{copy}",))
    (step,) = (one for one in plan.steps if one.kind is StepKind.RESTORE_FILE)
    assert step.files[0].name == copy.name


async def test_what_is_read_of_copies_is_told(sample: Sample) -> None:
    path = sample.other_file("squashfs")
    size = path.stat().st_size
    await to_trash(sample.directory, path.name)
    told: list[RepairProgress] = []
    await plan_repair(PackerCache(sample.directory), await found(sample.directory), progress=told.append)
    *reading, through = told
    assert {one.doing for one in reading} == {f"reading a copy of {path.name}"}
    assert through.doing == f"reading what is in a copy of {path.name}"
    assert [one.done for one in reading] == sorted({one.done for one in reading})
    assert (reading[-1].done, {one.total for one in reading}) == (size, {size})


async def test_a_plan_that_is_cancelled_reads_no_further(sample: Sample) -> None:
    path, began = sample.other_file("squashfs"), asyncio.Event()
    os.truncate(path, 1 << 38)
    await to_trash(sample.directory, path.name)
    report = await found(sample.directory)
    making = asyncio.ensure_future(plan_repair(PackerCache(sample.directory), report, progress=lambda now: began.set()))
    await began.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making


async def test_what_took_too_long_is_not_called_read_through(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copied(sample, tmp_path / "other").directory
    sample.other_file("squashfs").unlink()
    monkeypatch.setattr("ocitui.contents.soundness.time", Clock(100.0))
    _, plan = await planned(sample.directory, sources=(str(other),))
    assert "not read through: it took too long, and was ended" in plan.steps[0].source
