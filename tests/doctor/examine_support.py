"""A sound cache of real packed files, and short ways to examine one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocitui.cache import PackedFormat
from ocitui.cache.listing import CacheFiles
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.findings import Depth, Finding, Severity
from ocitui.doctor.report import Report
from tests.cache.support import MANIFEST_TYPE, index_bytes
from tests.importing.sources import FORMATS, documents, make_root, pack, sha256

NAME, OTHER_NAME = "busybox:1.36", "team/tool:2"


@dataclass(frozen=True, slots=True)
class Sample:
    """A cache: one digest in three formats, and another in squashfs."""

    directory: Path
    digest: str
    other: str

    @property
    def index(self) -> Path:
        return self.directory / "index.json"

    def file(self, suffix: str, digest: str | None = None) -> Path:
        return self.directory / f"{digest or self.digest}.{suffix}"

    def other_file(self, suffix: str) -> Path:
        return self.file(suffix, self.other)

    def edit_index(self, edit: Callable[[dict[str, Any]], object]) -> None:
        """Change the index as decoded JSON."""
        fields = json.loads(self.index.read_bytes())
        edit(fields)
        self.index.write_bytes(json.dumps(fields, indent=2).encode() + b"\n")

    def edit_entry(self, position: int, edit: Callable[[dict[str, Any]], object]) -> None:
        self.edit_index(lambda fields: edit(fields["manifests"][position]))

    def replace_documents(self, manifest: bytes | None = None, config: bytes | None = None) -> str:
        """Give the second entry other documents, under a digest that fits the manifest."""
        manifest = self.other_file("manifest.json").read_bytes() if manifest is None else manifest
        digest = sha256(manifest)
        for suffix in ("manifest.json", "config.json", "squashfs"):
            self.other_file(suffix).rename(self.file(suffix, digest))
        self.file("manifest.json", digest).write_bytes(manifest)
        if config is not None:
            self.file("config.json", digest).write_bytes(config)
        self.edit_entry(3, lambda entry: entry.update(digest=digest, size=len(manifest)))
        return digest


def descriptor(digest: str, size: int, format: str, name: str) -> dict[str, Any]:
    """A descriptor of the index, as decoded JSON."""
    return {
        "mediaType": MANIFEST_TYPE,
        "digest": digest,
        "size": size,
        "annotations": {
            "dev.krata.oci.packer.format": format,
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        },
    }


def make_sample(directory: Path) -> Sample:
    """Pack a small root filesystem with the real packers; the test is skipped where they are missing."""
    cache = directory / "cache"
    cache.mkdir()
    root = make_root(directory)
    (root / "bin" / "tool").symlink_to("sh")
    one = _write(cache, root, FORMATS, config={"Entrypoint": ["/bin/sh"]})
    other = _write(cache, root, FORMATS[:1], config={"Cmd": ["/bin/tool", "--serve"]})
    entries = [descriptor(one[0], one[1], format_, NAME) for format_ in FORMATS]
    entries.append(descriptor(other[0], other[1], FORMATS[0], OTHER_NAME))
    (cache / "index.json").write_bytes(index_bytes(entries))
    return Sample(cache, one[0], other[0])


def _write(cache: Path, root: Path, formats: Collection[str], **config: Any) -> tuple[str, int]:
    manifest, raw_config = documents(**config)
    digest = sha256(manifest)
    (cache / f"{digest}.manifest.json").write_bytes(manifest)
    (cache / f"{digest}.config.json").write_bytes(raw_config)
    for format_ in formats:
        pack(format_, root, cache / f"{digest}.{format_}")
    return digest, len(manifest)


def copied(sample: Sample, directory: Path) -> Sample:
    """The same cache elsewhere, to be damaged."""
    return Sample(Path(shutil.copytree(sample.directory, directory / "copy")), sample.digest, sample.other)


async def found(
    directory: Path,
    depth: Depth = Depth.QUICK,
    *,
    open_files: Callable[[Path], CacheFiles] = CacheFiles,
    judge: Judge | None = None,
    **options: Any,
) -> Report:
    return await examine(directory, ExamineOptions(depth=depth, **options), open_files=open_files, judge=judge)


def codes(findings: Collection[Finding]) -> set[str]:
    """The codes of all that is more than information."""
    return {finding.code for finding in findings if finding.severity is not Severity.INFO}


def all_codes(findings: Collection[Finding]) -> set[str]:
    """Every code but those about the host."""
    return {finding.code for finding in findings} - {"daemon-running", "cache-read-only", "disk-full"}


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


SQUASHFS, EROFS, TAR = PackedFormat.SQUASHFS, PackedFormat.EROFS, PackedFormat.TAR


def bad_positions(judge: Judge) -> list[int]:
    """Where the entries stand that are bad."""
    return [position for position in range(judge.entries) if judge.state_at(position).bad]
