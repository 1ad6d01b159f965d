"""One way to make each fault of the catalogue in a copy of a sound cache, and what is to be found then."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ocitui.doctor.findings import Answer, Depth
from tests.doctor.examine_support import NAME, OTHER_NAME, Sample
from tests.importing.sources import documents, make_root, pack, sha256

Make = Callable[[Sample], object]
HIT, MISS, ERROR, IGNORED = Answer.HIT, Answer.MISS, Answer.ERROR, Answer.IGNORED
WIPE, NO_START, HANGS = Answer.WIPE, Answer.NO_START, Answer.HANGS


@dataclass(frozen=True, slots=True)
class FaultCase:
    """``depth`` is the shallowest at which it shows; ``file`` a suffix of the file that the finding names."""

    code: str
    name: str
    answer: Answer
    make: Make
    depth: Depth = Depth.QUICK
    file: str = ""

    def __str__(self) -> str:
        return f"{self.code}-{self.name}"


def write(suffix: str, data: bytes) -> Make:
    return lambda sample: sample.other_file(suffix).write_bytes(data)


def remove(suffix: str) -> Make:
    return lambda sample: sample.other_file(suffix).unlink()


def tail(suffix: str) -> Make:
    """As a dm-verity tree or a signature makes it."""
    return lambda sample: sample.file(suffix).write_bytes(sample.file(suffix).read_bytes() + bytes(8192))


def index(data: bytes) -> Make:
    return lambda sample: sample.index.write_bytes(data)


def index_change(change: Callable[[bytes], bytes]) -> Make:
    return lambda sample: sample.index.write_bytes(change(sample.index.read_bytes()))


def fields(**changes: Any) -> Make:
    """Set fields of the index; None stands for taking one out."""

    def edit(found: dict[str, Any]) -> None:
        for key, value in changes.items():
            found.pop(key) if value is None else found.update({key: value})

    return lambda sample: sample.edit_index(edit)


def entry(position: int = 3, **changes: Any) -> Make:
    return lambda sample: sample.edit_entry(position, lambda found: found.update(changes))


def without(key: str) -> Make:
    return lambda sample: sample.edit_entry(3, lambda found: found.pop(key))


def annotation(key: str, value: Any) -> Make:
    def edit(found: dict[str, Any]) -> None:
        if value is None:
            del found["annotations"][key]
        else:
            found["annotations"][key] = value

    return lambda sample: sample.edit_entry(3, edit)


def instead(suffix: str, make: Callable[[Path], object]) -> Make:
    """Something else in a file's place; ``index.json`` for the index."""

    def change(sample: Sample) -> None:
        path = sample.index if suffix == "index.json" else sample.other_file(suffix)
        path.unlink()
        make(path)

    return change


def link_index(sample: Sample) -> None:
    elsewhere = sample.directory.parent / "elsewhere.json"
    sample.index.rename(elsewhere)
    sample.index.symlink_to(elsewhere)


def link_out(sample: Sample) -> None:
    path, elsewhere = sample.other_file("squashfs"), sample.directory.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def config_without(key: str) -> Make:
    def make(sample: Sample) -> None:
        found = json.loads(documents()[1])
        del found[key]
        with_config(sample, json.dumps(found).encode())

    return make


def with_config(sample: Sample, raw: bytes) -> None:
    manifest = json.loads(documents()[0])
    manifest["config"].update(digest=sha256(raw), size=len(raw))
    sample.replace_documents(json.dumps(manifest).encode(), raw)


def image_index(sample: Sample) -> None:
    raw = json.dumps({"schemaVersion": 2, "manifests": [], "mediaType": "application/vnd.oci.image.index.v1+json"})
    sample.replace_documents(raw.encode())


def fewer_layers(sample: Sample) -> None:
    manifest, raw = documents(rootfs={"type": "layers", "diff_ids": []})
    sample.replace_documents(manifest, raw)


def repeat_entry(sample: Sample) -> None:
    sample.edit_index(lambda found: found["manifests"].append(found["manifests"][3]))


def rename_third(sample: Sample) -> None:
    sample.edit_entry(3, lambda found: found["annotations"].update({"io.containerd.image.name": NAME}))


def drop(position: int) -> Make:
    return lambda sample: sample.edit_index(lambda found: found["manifests"].pop(position))


def cut(size: int, suffix: str = "squashfs") -> Make:
    return lambda sample: os.truncate(sample.file(suffix), size)


def copy_over(source: str, target: str) -> Make:
    return lambda sample: sample.file(target).write_bytes(sample.file(source).read_bytes())


def bend_superblock(sample: Sample) -> None:
    content = bytearray(sample.file("erofs").read_bytes())
    content[1024 + 48] ^= 1
    sample.file("erofs").write_bytes(content)


def own_file(path: str, data: bytes) -> Make:
    def make(sample: Sample) -> None:
        target = sample.directory / ".ocitui" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        os.utime(target, (0, 0))

    return make


PENDING_ID = "20251102T101500000000-5f3c"
PENDING = json.dumps({"id": PENDING_ID, "kind": "delete", "started": 0, "by": "test"}).encode()
OTHER_CASE = f"{'A' * 10}.txt"


def two_cases(sample: Sample) -> None:
    for name in (OTHER_CASE, OTHER_CASE.lower()):
        (sample.directory / name).write_bytes(b"")


def add_entry(sample: Sample, digest: str) -> None:
    """An entry of another digest."""
    sample.edit_index(lambda found: found["manifests"].append({**found["manifests"][3], "digest": digest}))
    position, name = 4, f"{OTHER_NAME}-again"
    sample.edit_entry(position, lambda found: found["annotations"].update({"io.containerd.image.name": name}))


def swap_manifest(sample: Sample) -> None:
    path = sample.other_file("manifest.json")
    path.write_bytes(path.read_bytes().replace(b'"size": 5', b'"size": 6'))


def spaced_config(sample: Sample) -> None:
    path = sample.other_file("config.json")
    path.write_bytes(path.read_bytes() + b" ")


def lonely_packed(sample: Sample) -> None:
    drop(3)(sample)
    for suffix in ("manifest.json", "config.json"):
        sample.other_file(suffix).unlink()


def hardlink(sample: Sample) -> None:
    os.link(sample.other_file("squashfs"), sample.directory.parent / "second-name")


def repack(format: str, path: str, content: bytes | None = None, *, other: bool = False) -> Make:
    """A file packed again without a path, or with other content there."""

    def make(sample: Sample) -> None:
        root = make_root(sample.directory.parent)
        (root / "bin" / "tool").symlink_to("sh")
        (root / path).unlink()
        if content is not None:
            (root / path).write_bytes(content)
        target = sample.other_file(format) if other else sample.file(format)
        target.unlink()
        pack(format, root, target)

    return make


def repack_other(sample: Sample) -> None:
    repack("squashfs", "bin/sh", other=True)(sample)


def bend_block(sample: Sample) -> None:
    """A bit in the first compressed block, which holds text."""
    path = sample.other_file("squashfs")
    content = bytearray(path.read_bytes())
    (inodes,) = struct.unpack_from("<Q", content, 64)
    content[inodes + 20] ^= 0x10
    path.write_bytes(content)


def bend_raw_block(sample: Sample) -> None:
    """A bit in the first block of the squashfs, which is stored as it is."""
    path = sample.file("squashfs")
    content = bytearray(path.read_bytes())
    content[1000] ^= 0x10
    path.write_bytes(content)


CASES = [
    FaultCase("index-missing", "removed", MISS, lambda sample: sample.index.unlink(), file="index.json"),
    FaultCase("index-unparsable", "empty", WIPE, index(b"")),
    FaultCase("index-unparsable", "truncated", WIPE, index_change(lambda data: data[: len(data) // 2])),
    FaultCase("index-unparsable", "zeroed", WIPE, index_change(lambda data: bytes(len(data)))),
    FaultCase("index-unparsable", "trailing", WIPE, index_change(lambda data: data + b"x")),
    FaultCase("index-unparsable", "comment", WIPE, index_change(lambda data: b"// no\n" + data)),
    FaultCase("index-unparsable", "bom", WIPE, index_change(lambda data: b"\xef\xbb\xbf" + data)),
    FaultCase("index-unparsable", "nan", WIPE, index_change(lambda data: data.replace(b'"size": ', b'"size": NaN', 1))),
    FaultCase(
        "index-unparsable", "control", WIPE, index_change(lambda data: data.replace(b"busybox", b"busy\x01ox", 1))
    ),
    FaultCase(
        "index-unparsable", "surrogate", WIPE, index_change(lambda data: data.replace(b"busybox", b"\\ud800", 1))
    ),
    FaultCase(
        "index-unparsable",
        "duplicate-key",
        WIPE,
        index_change(lambda data: data.replace(b'"size": ', b'"size": 1, "size": ', 1)),
    ),
    FaultCase("index-not-utf8", "utf16", NO_START, index_change(lambda data: data.decode().encode("utf-16"))),
    FaultCase(
        "index-not-utf8", "stray", NO_START, index_change(lambda data: data.replace(b"busybox", b"busyb\xff", 1))
    ),
    FaultCase("index-schema", "no-version", WIPE, fields(schemaVersion=None)),
    FaultCase("index-schema", "version-text", WIPE, fields(schemaVersion="2")),
    FaultCase("index-schema", "version-float", WIPE, fields(schemaVersion=2.0)),
    FaultCase("index-schema", "no-manifests", WIPE, fields(manifests=None)),
    FaultCase("index-schema", "manifests-object", WIPE, fields(manifests={})),
    FaultCase("descriptor-invalid", "no-digest", WIPE, without("digest")),
    FaultCase("descriptor-invalid", "no-size", WIPE, without("size")),
    FaultCase("descriptor-invalid", "size-text", WIPE, entry(size="1")),
    FaultCase("descriptor-invalid", "size-float", WIPE, entry(size=1.5)),
    FaultCase("descriptor-invalid", "size-huge", WIPE, entry(size=2**63)),
    FaultCase("descriptor-invalid", "annotation", WIPE, annotation("extra", 1)),
    FaultCase("descriptor-invalid", "platform", WIPE, entry(platform={"os": "linux"})),
    FaultCase("descriptor-invalid", "urls", WIPE, entry(urls="x")),
    FaultCase("index-not-a-file", "link", HIT, link_index),
    FaultCase("index-not-a-file", "directory", NO_START, instead("index.json", Path.mkdir)),
    FaultCase("index-not-a-file", "pipe", HANGS, instead("index.json", os.mkfifo)),
    FaultCase("index-not-a-file", "dangling", HIT, instead("index.json", lambda path: path.symlink_to("nowhere"))),
    FaultCase("index-emptied", "emptied", MISS, fields(manifests=[])),
    FaultCase("digest-invalid", "short", MISS, lambda sample: add_entry(sample, "sha256:abc")),
    FaultCase("digest-invalid", "outside", HIT, lambda sample: add_entry(sample, "../" * 9 + "etc/x")),
    FaultCase("digest-invalid", "nul", MISS, lambda sample: add_entry(sample, "sha256:\0")),
    FaultCase("format-unknown", "absent", MISS, annotation("dev.krata.oci.packer.format", None)),
    FaultCase("format-unknown", "case", MISS, annotation("dev.krata.oci.packer.format", "Squashfs")),
    FaultCase("name-missing", "absent", MISS, annotation("io.containerd.image.name", None)),
    FaultCase("name-not-canonical", "library", MISS, annotation("io.containerd.image.name", "library/tool:2")),
    FaultCase("name-not-canonical", "port", MISS, annotation("io.containerd.image.name", "a.b:99999/x/y:1")),
    FaultCase("entry-duplicate", "twice", HIT, repeat_entry),
    FaultCase("name-duplicate", "moved-tag", HIT, rename_third),
    FaultCase("size-mismatch", "size", IGNORED, entry(size=5), file="manifest.json"),
    FaultCase("latest-never-resolves", "latest", MISS, annotation("io.containerd.image.name", "tool:latest")),
    FaultCase("file-missing", "packed", MISS, remove("squashfs"), file="squashfs"),
    FaultCase("file-missing", "manifest", MISS, remove("manifest.json"), file="manifest.json"),
    FaultCase("file-missing", "config", MISS, remove("config.json"), file="config.json"),
    FaultCase("file-not-regular", "directory", MISS, instead("squashfs", Path.mkdir), file="squashfs"),
    FaultCase("file-not-regular", "pipe", MISS, instead("manifest.json", os.mkfifo), file="manifest.json"),
    FaultCase("file-not-regular", "dangling", MISS, instead("config.json", lambda path: path.symlink_to("nowhere"))),
    FaultCase("file-not-regular", "escaping", HIT, link_out),
    FaultCase("manifest-unparsable", "empty", ERROR, write("manifest.json", b""), file="manifest.json"),
    FaultCase("manifest-unparsable", "zeroed", ERROR, write("manifest.json", bytes(512))),
    FaultCase("config-unparsable", "cut", ERROR, write("config.json", b'{"os": "lin'), file="config.json"),
    FaultCase("config-unparsable", "no-rootfs", ERROR, config_without("rootfs")),
    FaultCase("config-no-history", "absent", ERROR, config_without("history"), file="config.json"),
    FaultCase("manifest-digest", "other", HIT, swap_manifest, file="manifest.json"),
    FaultCase("config-digest", "other", HIT, spaced_config, file="config.json"),
    FaultCase("manifest-is-index", "index", ERROR, image_index, file="manifest.json"),
    FaultCase("layers-disagree", "fewer", HIT, fewer_layers),
    FaultCase("platform-disagrees", "os", HIT, entry(platform={"os": "plan9", "architecture": "arm64"})),
    FaultCase("packed-empty", "empty", HIT, write("squashfs", b""), file="squashfs"),
    FaultCase("packed-magic", "other", HIT, copy_over("tar", "squashfs"), Depth.HEADER, "squashfs"),
    FaultCase("packed-magic", "zeroed", HIT, write("squashfs", bytes(8192)), Depth.HEADER, "squashfs"),
    FaultCase("packed-truncated", "squashfs", HIT, cut(5000), Depth.HEADER, "squashfs"),
    FaultCase("packed-truncated", "erofs", HIT, cut(8192, "erofs"), Depth.HEADER, "erofs"),
    FaultCase("packed-truncated", "tar", HIT, cut(8192, "tar"), Depth.HEADER, "tar"),
    FaultCase("packed-truncated", "tiny", HIT, cut(3), Depth.HEADER, "squashfs"),
    FaultCase("packed-tail", "squashfs", HIT, tail("squashfs"), Depth.HEADER, "squashfs"),
    FaultCase("packed-tail", "erofs", HIT, tail("erofs"), Depth.HEADER, "erofs"),
    FaultCase("packed-damaged", "superblock", HIT, bend_superblock, Depth.HEADER, "erofs"),
    FaultCase("packed-incomplete", "lists", HIT, repack("erofs", "etc/hosts"), Depth.DEEP, "erofs"),
    FaultCase("packed-incomplete", "shorter", HIT, repack("tar", "etc/hosts", b"short"), Depth.DEEP, "tar"),
    FaultCase("packed-incomplete", "program", HIT, repack_other, Depth.DEEP, "squashfs"),
    FaultCase("packed-differs", "raw block", HIT, bend_raw_block, Depth.DEEP, "squashfs"),
    FaultCase("packed-damaged", "block", HIT, bend_block, Depth.DEEP, "squashfs"),
    FaultCase("case-collision", "notes", IGNORED, two_cases, file=OTHER_CASE),
    FaultCase("orphan-entry", "dropped", IGNORED, drop(3), file="squashfs"),
    FaultCase("orphan-entry", "format", IGNORED, drop(1), file="erofs"),
    FaultCase("orphan-file", "documents", IGNORED, lambda sample: (drop(3)(sample), remove("squashfs")(sample))),
    FaultCase("orphan-file", "packed", IGNORED, lonely_packed, file="squashfs"),
    FaultCase("leftover-temporary", "staging", IGNORED, own_file("staging/x.packed", b"x")),
    FaultCase("leftover-temporary", "draft", IGNORED, own_file("journal/x.draft", b"x")),
    FaultCase("journal-damaged", "cut", IGNORED, own_file("journal/x.done.json", b'{"id": "')),
    FaultCase("transaction-pending", "killed", IGNORED, own_file(f"journal/{PENDING_ID}.pending.json", PENDING)),
    FaultCase("unknown-file", "notes", IGNORED, lambda sample: (sample.directory / "notes.txt").write_bytes(b"")),
    FaultCase("hardlinked", "packed", IGNORED, hardlink, file="squashfs"),
    FaultCase("wrong-mode", "packed", IGNORED, lambda sample: sample.other_file("squashfs").chmod(0o000)),
]


def as_parameters(cases: list[FaultCase]) -> list[Any]:
    return [pytest.param(case, id=str(case)) for case in cases]


class Row(NamedTuple):
    """A row of the table of faults; its columns are explained there."""

    code: str
    severity: str
    daemon: str
    found_by: str
    mended: str
    repair: str
    loses: str

    @property
    def answers(self) -> set[str]:
        return set(self.daemon.split(", "))


def _rows() -> dict[str, Row]:
    lines = Path(__file__).with_name("faults.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    # The titles and the line under them come first.
    rows = [Row(*row) for row in cells[2:]]
    assert len({row.code for row in rows}) == len(rows)
    return {row.code: row for row in rows}


TABLE = _rows()
