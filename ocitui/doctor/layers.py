"""`examine_layers`: a check to the depth ``layers``, of each packed file against the tree that the image's layers make.

They are fetched and flattened as by an import, from where they are at hand; nothing is packed. Compared is what
`contents.digest` has at the level ``xattrs``: what kratad's packers set anew, times and the root's attributes, is not.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import BinaryIO, TypeVar

import msgspec
from msgspec.structs import replace

from ocitui.cache import CacheError, Disk, FileKind, PackedFormat, open_bounded
from ocitui.contents import (
    ComparedTree,
    ContentsError,
    DamagedError,
    TreeChange,
    TreeComparison,
    TreeLevel,
    kept_xattrs,
    open_tree,
)
from ocitui.directory import FAR
from ocitui.importing import (
    BlobStore,
    Counter,
    HiddenFile,
    ImportProgress,
    PackOptions,
    SourceError,
    SourceOptions,
    clear_blobs,
    fetch_and_pack,
    hidden_files,
    open_source,
    staging_folder,
)
from ocitui.text import counted, escaped
from ocitui.threads import Brake, Stop, in_thread

from .check.entry_checks import PackedFile, Remembered
from .check.examine import ExamineOptions, examine
from .check.judge import Judge
from .findings import CAPABILITIES_LOST, CATALOGUE, FILE_FAULTS, Finding
from .repair.copies import WantedFile, origins_in, peer_here, registry_origins
from .report import Progress, Report

T = TypeVar("T")
_HASH_BYTES, _TOLD = 32, 3
_CAPABILITY = b"security.capability"


async def examine_layers(
    directory: Path,
    options: ExamineOptions,
    progress: Callable[[Progress], object] = lambda now: None,
    on_findings: Callable[[list[Finding]], object] = lambda findings: None,
    *,
    sources: Sequence[str] = (),
    access: SourceOptions | None = None,
    judge: Judge | None = None,
) -> Report:
    """`examine` to the depth ``deep``, then each image against its layers: from ``sources``, where it was imported
    from, the registry of its name. Where they are not at hand it is not checked so, and that is said. Raises as
    `examine`."""
    judge = judge or Judge(directory)
    report = await examine(directory, options, progress, on_findings, judge=judge)
    texts = await asyncio.to_thread(lambda: tuple(one for one in sources if not is_cache(one)))
    checks = _LayerChecks(judge, options.max_rate, texts, access or SourceOptions(), progress, on_findings)
    damaged = {one.file for one in report.findings if one.code in FILE_FAULTS - {"packed-changed"}}
    images = dict[str, list[PackedFile]]()
    for file in judge.packed_files(options.keys):
        if file.name not in damaged:
            images.setdefault(file.digest, []).append(file)
    for number, files in enumerate(images.values()):
        await checks.check(files, number, len(images))
    layered = report.with_layers(checks.findings, checks.compared, checks.unchecked)
    return replace(layered, seconds=time.time() - report.started)


def is_cache(source: str) -> bool:
    """Whether it is another cache, here or over ssh, which a repair takes too: it has no layers."""
    return source.startswith(FAR) or peer_here(source) is not None


class _LayerChecks(msgspec.Struct):
    """Compares image after image; ``unchecked`` gets the files that could not be, each with why."""

    judge: Judge
    max_rate: float | None
    sources: tuple[str, ...]
    access: SourceOptions
    progress: Callable[[Progress], object]
    on_findings: Callable[[list[Finding]], object]
    findings: list[Finding] = []
    unchecked: list[tuple[str, str]] = []
    compared: int = 0

    async def check(self, files: Sequence[PackedFile], number: int, images: int) -> None:
        """Compare the packed files of one image, the ``number``th of so many."""
        began = time.monotonic()

        def told(done: int, total: int) -> None:
            self.progress(Progress("layers", number, images, done, total, time.monotonic() - began))

        told(0, 0)
        digest = files[0].digest
        carriers = tuple(descriptor for _, descriptor in self.judge.carriers(digest))
        wanted = WantedFile(files[0].name, digest, FileKind.PACKED, carriers=carriers)
        texts = (*self.sources, *_recorded(self.judge.remembered, digest), "")
        try:
            await _first_of(texts, wanted, self.access, lambda origin: self._check_against(origin, files, told))
        except SourceError as error:
            reason = f"not compared with its layers: {error.message}"
            self.unchecked += [(file.name, reason) for file in files]

    async def _check_against(self, origin: str, files: Sequence[PackedFile], told: Callable[[int, int], None]) -> None:
        """Raises SourceError, LayerError, NoRoomError, StorageError where the layers are not to be had whole."""

        def packing(now: ImportProgress) -> None:
            told(now.done, now.total)

        directory, disk = self.judge.directory, Disk()
        blobs = BlobStore(directory, disk)
        async with aclosing(await open_source(origin, self.access)) as source:
            image = await source.resolve()
            if image.digest != files[0].digest:
                raise SourceError(f"{origin} holds {image.digest}")
            with staging_folder(directory, disk) as folder:
                made, options = folder / "layers", PackOptions(limits=self.access.limits)
                await fetch_and_pack(
                    source, image, blobs, made, None, options, lambda _, done, total: told(done, total), packing
                )
                await asyncio.to_thread(clear_blobs, blobs, image)
                for file in files:
                    found = await in_thread(partial(self._compare, file, made, origin))
                    self.findings += (marked := [*self.judge.accepted.mark(found)])
                    self.on_findings(marked)

    def _compare(self, file: PackedFile, made: Path, origin: str, stop: Stop) -> list[Finding]:
        """What is wrong with a packed file. Raises AbandonedError."""
        brake, unread = Brake(self.max_rate, stop), list[str]()
        others, xattrs = _Changes(), _Changes()
        try:
            with open_bounded(self.judge.directory / file.name) as packed, open(made, "rb") as layers:
                before = ComparedTree(open_tree(packed, file.format, stop), lambda _, error: unread.append(str(error)))
                after = _made_tree(layers, stop)
                for change in TreeComparison(before, after, TreeLevel.XATTRS).changes(stop, brake.take):
                    if change.what == ("xattrs",):
                        xattrs.add(change, lost=_loses_capability(before, after, change))
                    else:
                        others.add(change)
        except (ContentsError, OSError) as error:
            unread.append(str(error))
        if unread:
            self.unchecked.append((file.name, f"not compared whole with its layers: {unread[0]}"))
        else:
            self.compared += 1
        return [*_findings(file, origin, others, xattrs)]


def _recorded(known: Remembered, digest: str) -> Iterator[str]:
    """Where packed files of an image were imported from."""
    for format in PackedFormat:
        if (source := known.sources.get(f"{digest}.{format}")) is not None:
            yield source.text


async def _first_of(
    texts: Sequence[str], wanted: WantedFile, access: SourceOptions, take: Callable[[str], Awaitable[T]]
) -> T:
    """What ``take`` gives of the first source that has the layers of an image, asked for by its digest there; an empty
    text stands for the registries of its names. Raises SourceError, which says why none has them."""
    why = list[str]()

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except (CacheError, ValueError, OSError) as error:
            why.append(error.message if isinstance(error, CacheError) else str(error))

    for text in dict.fromkeys(texts):
        origins = list[str]()
        with noting():
            origins = await (origins_in(text, access, wanted) if text else registry_origins(wanted))
        for origin in origins:
            with noting():
                return await take(origin)
    raise SourceError("; ".join(dict.fromkeys(why)) or "they are nowhere at hand")


class HiddenInLayers(msgspec.Struct, frozen=True):
    """The ``files`` that ``layers``, digests from the lowest on, hold and the image has not, the largest of each layer
    first; ``size`` is what the files of all layers have in bytes, ``origin`` where these came from."""

    files: Sequence[HiddenFile]
    size: int
    layers: Sequence[str]
    origin: str


async def hidden_in_layers(directory: Path, digest: str, sources: Sequence[str] = ()) -> HiddenInLayers:
    """What layers of an image hold in vain, by ``sources``, else by where it was imported from, if that is on this
    host. Nothing is written but, of a compressed archive or a registry, into a folder that goes. Raises SourceError."""
    access, known = SourceOptions(), Remembered(directory)
    await asyncio.to_thread(known.refresh)
    recorded = (one for one in _recorded(known, digest) if not one.startswith("docker://"))

    async def look(origin: str) -> HiddenInLayers:
        async with aclosing(await open_source(origin, access)) as source:
            image = await source.resolve()
            if image.digest != digest:
                raise SourceError(f"{origin} holds {image.digest}")
            with TemporaryDirectory(prefix="ocitui-") as folder:
                layers = [layer async for layer in source.fetch(image, BlobStore(Path(folder)))]
                files, size = await in_thread(
                    lambda stop: hidden_files(layers, access.limits, Counter(lambda _: stop.check()))
                )
        return HiddenInLayers(files, size, [layer.digest for layer in layers], origin)

    return await _first_of((*sources, *recorded), WantedFile(digest, digest, FileKind.PACKED), access, look)


def _made_tree(layers: BinaryIO, stop: Stop) -> ComparedTree:
    """The tree of `Flattening.write_hashes`."""
    tree = open_tree(layers, PackedFormat.TAR, stop)
    files = tree.files()
    layers.seek(-_HASH_BYTES * len(files), os.SEEK_END)
    tree.hashes.update((tree.numbers[entry], layers.read(_HASH_BYTES)) for entry in files)

    def unread(entry: int, error: Exception) -> None:
        raise DamagedError(f"the tree of its layers cannot be read: {error}")

    return ComparedTree(tree, unread)


def _loses_capability(before: ComparedTree, after: ComparedTree, change: TreeChange) -> bool:
    if change.before is None or change.after is None:
        return False
    return _CAPABILITY in kept_xattrs(after.tree, change.after) and _CAPABILITY not in kept_xattrs(
        before.tree, change.before
    )


class _Changes:
    """How many paths are others than the layers make them, and the first of them in words."""

    def __init__(self) -> None:
        self.count = self.lost = 0
        self._first = list[str]()

    def add(self, change: TreeChange, *, lost: bool = False) -> None:
        self.count += 1
        self.lost += lost
        if self.count <= _TOLD:
            more = "lacking" if change.before is None else "added" if change.after is None else ", ".join(change.what)
            self._first.append(f"{escaped(b'/' + change.path)} ({more})")

    def __str__(self) -> str:
        rest = f" and {self.count - _TOLD:,} more" if self.count > _TOLD else ""
        return ", ".join(self._first) + rest


def _findings(file: PackedFile, origin: str, others: _Changes, xattrs: _Changes) -> Iterator[Finding]:
    """Of what is another than in the layers of the ``origin``, from where it can be imported again."""
    name = file.descriptor.image_name
    named = f" --name {quote(name)}" if name else ""
    again = f"mended by ocitui import {quote(origin)}{named} --format {file.format} --again"
    if others.count:
        text = f"{counted(others.count, 'path')} not as the layers make it: {others}; {again}"
        yield CATALOGUE["packed-unlike-layers"].finding(text, **file.at)
    if xattrs.count:
        fault = CAPABILITIES_LOST if xattrs.lost else CATALOGUE["packed-xattrs"]
        lost = f", {xattrs.lost:,} without the capabilities they should have" if xattrs.lost else ""
        text = f"{counted(xattrs.count, 'path')} with other extended attributes than the layers give{lost}: {xattrs}"
        yield fault.finding(f"{text}; {again}", **file.at)
