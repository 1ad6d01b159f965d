"""Every recorded run of the daemon's own cache, step by step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import (
    Descriptor,
    Document,
    DocumentError,
    ImageName,
    PackedFormat,
    PackedImage,
    PackerCache,
    ResolvedImage,
    judge_index,
)
from tests.tools import CONFORMANCE

Record = dict[str, Any]
RECORDS: Record = json.loads((CONFORMANCE / "traces.json").read_text(encoding="utf-8"))
DAMAGE = {"truncate": b"", "not_json": b'{"schemaVersion":2,', "wrong_schema": b'{"schemaVersion":2}'}


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Trace:
    """One run: a cache directory, and a folder for what is to be stored."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "cache"
        self.directory.mkdir()
        self.packed = folder / "packed"
        self.cache = PackerCache(self.directory)

    async def make(self, step: Record) -> object:
        """What the step gives, in the form the records have it."""
        match step["op"]:
            case "open":
                return await self.open()
            case "reopen":
                await self.open()
                return {"ok": True}
            case "damage":
                self.damage(self.directory / step["file"], step["action"])
                return None
        try:
            return {"ok": await self.look_up(step)}
        except DocumentError as error:
            return {"error": str(error)}

    async def open(self) -> str:
        index = self.directory / "index.json"
        outcome = judge_index(index.read_bytes() if index.exists() else None)
        self.cache = await PackerCache.open(self.directory, on_corrupt="reset")
        return outcome.value

    async def look_up(self, step: Record) -> object:
        match step["op"]:
            case "list":
                return [descriptor.as_dict() for descriptor in await self.cache.list()]
            case "store":
                image = await self.cache.store(self.image(step))
                assert not self.packed.exists()
                return self.shown(image)
            case "resolve":
                name, format_ = ImageName.parse(step["name"]), PackedFormat(step["format"])
                return self.shown(await self.cache.resolve(name, format_))
            case "recall":
                digest = step.get("digest") or RECORDS["images"][step["image"]]["digest"]
                name, format_ = ImageName.parse(step["name"]), PackedFormat(step["format"])
                return self.shown(await self.cache.recall(name, digest, format_))
        raise AssertionError(step)

    def image(self, step: Record) -> PackedImage:
        image = RECORDS["images"][step["image"]]
        self.packed.write_bytes(b"x" * step["packed_size"])
        return PackedImage(
            name=ImageName.parse(step["name"]),
            digest=image["digest"],
            path=self.packed,
            format=PackedFormat(step["format"]),
            descriptor=Descriptor.from_dict(image["descriptor"]),
            config=Document.config(image["config"].encode()),
            manifest=Document.manifest(image["manifest"].encode()),
        )

    def shown(self, image: PackedImage | ResolvedImage | None) -> Record | None:
        if image is None:
            return None
        shown: Record = {
            "name": str(image.name),
            "digest": image.digest,
            "descriptor": image.descriptor.as_dict(),
            "manifest_sha256": sha256(image.manifest.raw),
        }
        if isinstance(image, PackedImage):
            shown["path"] = os.path.relpath(image.path, self.directory)
            shown["format"] = image.format.value
            shown["config_sha256"] = sha256(image.config.raw)
        return shown

    def damage(self, file: Path, action: str) -> None:
        if action in DAMAGE:
            file.write_bytes(DAMAGE[action])
            return
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
        if action == "to_directory":
            file.mkdir()
        elif action == "symlink_dangling":
            file.symlink_to("nowhere")
        else:
            assert action == "remove"

    def files(self) -> dict[str, object]:
        sizes: dict[str, object] = {}
        for item in os.scandir(self.directory):
            if item.name not in ("index.json", ".ocitui"):
                sizes[item.name] = "symlink" if item.is_symlink() else "dir" if item.is_dir() else item.stat().st_size
        return sizes


@pytest.mark.parametrize("number", range(len(RECORDS["traces"])))
async def test_a_recorded_trace(number: int, tmp_path: Path) -> None:
    run, trace = Trace(tmp_path), RECORDS["traces"][number]
    for step in trace if isinstance(trace, list) else trace["steps"]:
        got, expected, after = await run.make(step), step.get("expect"), step.get("after", {})
        if isinstance(expected, dict) and "error" in expected:
            assert isinstance(got, dict), step
            assert "error" in got, step
        elif step["op"] != "damage":
            assert got == expected, step
        if "index" in after:
            index = run.directory / "index.json"
            assert (json.loads(index.read_bytes()) if index.exists() else None) == after["index"], step
        if "files" in after:
            assert run.files() == after["files"], step
