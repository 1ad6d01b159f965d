"""Entries rebuilt from the files alone: all but the name, hints told as hints, faults told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import CacheDirectoryError, ImageIndex, ImageName, PackedFormat
from ocitui.doctor.check.index_checks import IndexReading
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.salvage.salvage import FoundEntry, NameHint, Statement, rebuild
from ocitui.doctor.salvage.sources import JoinedEntries
from tests.doctor.examine_support import Sample
from tests.importing.sources import documents, sha256


def rebuilt(directory: Path) -> list[FoundEntry]:
    """As of a cache whose index is gone."""
    judge = Judge(directory)
    judge.take(IndexReading.none())
    for _ in judge.look():
        continue
    return rebuild(judge)


def by_format(found: list[FoundEntry], digest: str) -> dict[PackedFormat, FoundEntry]:
    return {entry.format: entry for entry in found if entry.digest == digest}


def write_image(directory: Path, manifest: dict[str, Any], config: dict[str, Any]) -> str:
    """An archive of nothing with these documents; gives its digest."""
    raw_config = json.dumps(config).encode()
    manifest["config"] |= {"digest": sha256(raw_config), "size": len(raw_config)}
    raw_manifest = json.dumps(manifest).encode()
    digest = sha256(raw_manifest)
    (directory / f"{digest}.manifest.json").write_bytes(raw_manifest)
    (directory / f"{digest}.config.json").write_bytes(raw_config)
    (directory / f"{digest}.tar").write_bytes(bytes(1024))
    return digest


def test_what_the_files_tell_is_what_the_daemon_wrote_but_the_name(krata_cache: Path) -> None:
    index = ImageIndex.parse((krata_cache / "index.json").read_bytes())
    found = {entry.key: entry for entry in rebuilt(krata_cache)}
    assert found.keys() == {descriptor.key for descriptor in index.descriptors}
    for descriptor in index.descriptors:
        made = found[descriptor.digest, descriptor.format or ""].descriptor
        assert made is not None
        assert (made.digest, made.format, made.size) == (descriptor.digest, descriptor.format, descriptor.size)
        assert made.media_type == descriptor.media_type
        assert made.image_name is None


def test_what_the_judge_read_is_what_the_documents_tell(krata_cache: Path, sample: Sample) -> None:
    entries = [*rebuilt(krata_cache), *rebuilt(sample.directory)]
    assert all(entry.described for entry in entries)
    told = [entry.told.descriptor for entry in entries]
    assert [entry.descriptor for entry in entries] == told
    assert [entry.said for entry in entries] == [Statement.by(one) for one in told if one is not None]


def test_a_sound_entry(sample: Sample) -> None:
    found = rebuilt(sample.directory)
    assert len(found) == 4
    assert all(entry.sound for entry in found)
    entry = by_format(found, sample.digest)[PackedFormat.EROFS]
    assert entry.modified == pytest.approx(sample.file("erofs").stat().st_mtime)
    assert entry.manifest_modified == pytest.approx(sample.file("manifest.json").stat().st_mtime)
    assert entry.descriptor is not None
    assert str(entry.descriptor.platform) == "linux/arm64/v8"


def test_under_a_name_it_is_as_the_daemon_stores_it(sample: Sample) -> None:
    entry = by_format(rebuilt(sample.directory), sample.digest)[PackedFormat.TAR]
    named = entry.named(ImageName.parse("busybox:1.36"))
    assert named is not None
    assert named.annotations == {
        "dev.krata.oci.packer.format": "tar",
        "io.containerd.image.name": "busybox:1.36",
        "org.opencontainers.image.ref.name": "1.36",
    }
    untagged = entry.named(ImageName.parse("busybox"))
    assert untagged is not None
    assert untagged.reference is None


def test_the_oldest_manifest_comes_first(sample: Sample) -> None:
    os.utime(sample.other_file("manifest.json"), (1000, 1000))
    assert JoinedEntries([], [], rebuilt(sample.directory))[0].digest == sample.other


def damage_digest(sample: Sample) -> None:
    raw = sample.file("manifest.json").read_bytes()
    sample.file("manifest.json").write_bytes(raw.replace(b'"layers"', b'"layers" '))


def make_link(sample: Sample) -> None:
    sample.file("manifest.json").unlink()
    sample.file("manifest.json").symlink_to("x")


def make_pipe(sample: Sample) -> None:
    sample.file("config.json").unlink()
    os.mkfifo(sample.file("config.json"))


def make_directory(sample: Sample) -> None:
    sample.file("squashfs").unlink()
    sample.file("squashfs").mkdir()


def copy_erofs(sample: Sample) -> None:
    sample.file("squashfs").write_bytes(sample.file("erofs").read_bytes())


DAMAGES: list[tuple[Callable[[Sample], object], str, bool]] = [
    (lambda s: s.file("manifest.json").unlink(), "the manifest file is not there", True),
    (make_link, "its manifest: it is a link to nothing", True),
    (damage_digest, "its manifest: its content is not that of", True),
    (lambda s: s.file("config.json").unlink(), "the config file is not there", True),
    (make_pipe, "its config: it is a pipe", True),
    (
        lambda s: s.file("config.json").write_bytes(documents(author="x")[1]),
        "its config: its content is not that of",
        True,
    ),
    (
        lambda s: s.file("config.json").write_bytes(b"{"),
        "its config: the daemon's types refuse it: EOF while parsing an object",
        True,
    ),
    (lambda s: os.truncate(s.file("squashfs"), 5000), "its packed file: it is cut short", False),
    (copy_erofs, "its packed file: it is erofs by its magic", False),
    (make_directory, "its packed file: it is a directory", False),
]


@pytest.mark.parametrize(("damage", "problem", "shared"), DAMAGES, ids=[problem for _, problem, _ in DAMAGES])
def test_what_is_wrong_with_an_entry_is_said(
    damage: Callable[[Sample], object], problem: str, shared: bool, sample: Sample
) -> None:
    damage(sample)
    found = rebuilt(sample.directory)
    entry = by_format(found, sample.digest)[PackedFormat.SQUASHFS]
    assert problem in "; ".join(entry.problems)
    assert (entry.descriptor is None) is shared
    assert by_format(found, sample.digest)[PackedFormat.TAR].sound is not shared
    assert by_format(found, sample.other)[PackedFormat.SQUASHFS].sound


def test_a_digest_of_another_algorithm_is_taken_as_it_is_and_said(sample: Sample) -> None:
    digest = "blake3:" + "ab" * 32
    for suffix in ("manifest.json", "config.json", "tar"):
        sample.file(suffix).rename(sample.directory / f"{digest}.{suffix}")
    (entry,) = by_format(rebuilt(sample.directory), digest).values()
    assert entry.descriptor is not None
    assert entry.problems == (f"its manifest cannot be checked: {digest} is of an algorithm that is not known here",)


def test_names_in_the_documents_are_hints(tmp_path: Path) -> None:
    manifest, config = (json.loads(raw) for raw in documents())
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "1.36", "org.opencontainers.image.title": "busybox"}
    config["config"] = {"Labels": {"org.opencontainers.image.title": "BusyBox", "maintainer": "x"}}
    write_image(tmp_path, manifest, config)
    (entry,) = rebuilt(tmp_path)
    assert entry.told.hints == (
        NameHint("1.36", "org.opencontainers.image.ref.name, an annotation of the manifest"),
        NameHint("busybox", "org.opencontainers.image.title, an annotation of the manifest"),
        NameHint("BusyBox", "org.opencontainers.image.title, a label of the config"),
    )
    assert entry.descriptor is not None
    assert entry.descriptor.image_name is None


def test_other_files_are_no_entries(sample: Sample) -> None:
    for name in ("notes.txt", ".hidden.tar", "lost+found", "sha256:xyz.tar", f"{sample.digest}.zip"):
        (sample.directory / name).write_bytes(b"x")
    assert len(rebuilt(sample.directory)) == 4


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CacheDirectoryError):
        rebuilt(tmp_path / "nowhere")
