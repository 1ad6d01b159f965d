"""A cache in a tar, on its way: what arrives is what was sent, or nothing of it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import itertools
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ocitui.cache import CacheError, ImageName, Key, Ledger, PackedFormat, PackerCache, RecordedSource
from ocitui.contents import TreeLines, TreeStore
from ocitui.importing import (
    ImportOutcome,
    ImportRequest,
    ImportResult,
    NamedOtherwiseError,
    RepointsNameError,
    UnsoundSourceError,
    given_by,
    note_stored,
)
from ocitui.remote import cache_tar, entries_to_export, receive_cache_tar, write_cache_tar
from ocitui.remote.cache_tar import ExportError
from ocitui.threads import Stop
from tests.cache.support import make_image, trash, until
from tests.importing.sources import make_root, pack

MOST = 1 << 24
_PAX, _RECORD = "pax_global_header", ".ocitui/export.json"
Members = dict[str, bytes]


async def filled(directory: Path, scratch: Path, *names: str) -> list[Key]:
    """A cache of images of real trees, with what is known of them; the keys of its entries."""
    directory.mkdir(parents=True)
    cache, keys = PackerCache(directory), list[Key]()
    for name in names:
        folder = scratch / name.replace(":", "-")
        folder.mkdir(parents=True)
        (folder / "root").mkdir()
        root = make_root(folder)
        (root / "name").write_text(name)
        packed = pack("tar", root, folder / "packed")
        image = make_image(packed, name, name=name, format=PackedFormat.TAR)
        stored = await cache.store(image)
        source = RecordedSource(f"docker://example.org/{name}", packer="ocitui tar")
        note_stored(directory, ImportResult(stored, ImportOutcome.STORED, source=source))
        keys.append((stored.digest, "tar"))
    return keys


async def sent(directory: Path, keys: list[Key]) -> bytes:
    out = io.BytesIO()
    entries = entries_to_export(directory, await PackerCache(directory).index(), keys)
    write_cache_tar(entries, out.write, lambda done, total: None, Stop())
    return out.getvalue()


async def received(
    directory: Path, data: bytes | Iterator[bytes], most: int = MOST, **asked: Any
) -> list[ImportResult]:
    chunks = (data[at : at + 4096] for at in range(0, len(data), 4096)) if isinstance(data, bytes) else data
    request = ImportRequest(source="-", **asked)
    return await receive_cache_tar(PackerCache(directory), lambda stop: chunks, request, most)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def is_untouched(directory: Path) -> bool:
    """Whether nothing of what came is in the cache, in its trash, or in a folder of ours."""
    staged = directory / ".ocitui" / "import"
    return [one for one in os.listdir(directory) if one != ".ocitui"] == [] and not (
        staged.is_dir() and os.listdir(staged)
    )


def members(data: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]


def remade(data: bytes, parts: Members) -> bytes:
    """The same with other members, and a record that is right about them where it is not given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, raw in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    # With the comment that it begins with.
    return data[:1024] + out.getvalue()


def recorded(parts: Members, **told: Any) -> Members:
    """With a record that is right of each member, but for what is told of the packed file."""
    files = {
        name: {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        for name, raw in parts.items()
        if name != _RECORD
    }
    files[packed_in(parts)].update(told)
    return {**parts, _RECORD: json.dumps({"files": files}).encode()}


def packed_in(parts: Members) -> str:
    return next(name for name in parts if name.endswith(".tar"))


async def test_what_arrives_is_what_was_sent(tmp_path: Path, target: Path) -> None:
    home = tmp_path / "home"
    keys = await filled(home, tmp_path / "scratch", "app:1", "db:2")
    done = await received(target, await sent(home, keys))
    assert [(one.image.name.reference, one.outcome) for one in done] == [("1", "stored"), ("2", "stored")]
    index, before = await PackerCache(target).index(), await PackerCache(home).index()
    assert index.names == before.names
    for digest, format in keys:
        for name in (f"{digest}.manifest.json", f"{digest}.config.json", f"{digest}.{format}"):
            assert (target / name).read_bytes() == (home / name).read_bytes()
        ledger, name = Ledger.open(target), f"{digest}.{format}"
        assert ledger.sound[name].sha256 == hashlib.sha256((target / name).read_bytes()).hexdigest()
        assert ledger.sources[name].text.startswith("docker://example.org/")
        assert ledger.sources[name].packer == "ocitui tar"
        assert TreeStore(target, ledger).right(target / name) is not None


async def test_what_is_there_already_is_left_and_sent_twice_is_the_same(tmp_path: Path, target: Path) -> None:
    keys = await filled(tmp_path / "home", tmp_path / "scratch", "app:1")
    data = await sent(tmp_path / "home", keys)
    assert data == await sent(tmp_path / "home", keys)
    await received(target, data)
    assert [one.outcome for one in await received(target, data)] == ["cached"]
    assert [one.outcome for one in await received(target, data, again=True)] == ["stored"]


@pytest.mark.slow
async def test_a_cut_stream_leaves_nothing(tmp_path: Path, target: Path) -> None:
    data = await sent(tmp_path / "home", await filled(tmp_path / "home", tmp_path / "scratch", "app:1"))
    chance = random.Random(14)
    for cut in {0, 1, 512, 1024, len(data) - 513, len(data) - 1, *(chance.randrange(len(data)) for _ in range(40))}:
        with pytest.raises(UnsoundSourceError):
            await received(target, data[:cut])
        assert is_untouched(target), cut
    await received(target, data)


def _without(parts: Members, name: str) -> Members:
    return {key: raw for key, raw in parts.items() if key != name}


def _first(parts: Members, ending: str) -> str:
    return next(name for name in parts if name.endswith(ending))


def _lying_tree(parts: Members) -> Members:
    return recorded(parts, content=f"sha256:{'0' * 64}")


def _rotten(parts: Members) -> Members:
    """A packed file whose hash is right, as it was damaged before."""
    name = packed_in(parts)
    return recorded({**parts, name: parts[name][: len(parts[name]) // 2]})


def _other_document(parts: Members) -> Members:
    name = _first(parts, ".config.json")
    return recorded({**parts, name: parts[name] + b" "})


def _index_of(parts: Members, **changes: Any) -> Members:
    index = json.loads(parts["index.json"])
    index["manifests"][0].update(changes)
    return recorded({**parts, "index.json": json.dumps(index).encode()})


def _doubled(parts: Members) -> Members:
    index = json.loads(parts["index.json"])
    index["manifests"] *= 2
    return recorded({**parts, "index.json": json.dumps(index).encode()})


def _renamed(parts: Members, name: str) -> Members:
    return {name if key == packed_in(parts) else key: raw for key, raw in parts.items()}


LIES: dict[str, tuple[Callable[[Members], Members], str]] = {
    "bytes": (lambda parts: {**parts, packed_in(parts): parts[packed_in(parts)][::-1]}, "did not come as it was sent"),
    "size": (lambda parts: recorded(parts, size=1), "did not come as it was sent"),
    "hash": (lambda parts: recorded(parts, sha256="0" * 64), "did not come as it was sent"),
    "tree": (_lying_tree, "said was sha256:000"),
    "rotten": (_rotten, "not sound|damaged"),
    "document": (_other_document, "not sound"),
    "digest": (lambda parts: _index_of(parts, digest=f"sha256:{'1' * 64}"), "should come it has"),
    "path in a digest": (lambda parts: _index_of(parts, digest="sha256:../../etc"), "none"),
    "twice": (_doubled, "twice"),
    "no entries": (lambda parts: {**parts, "index.json": b'{"schemaVersion":2,"manifests":[]}'}, "0 entries"),
    "no index": (lambda parts: {**parts, "index.json": b"\xff"}, "is none"),
    "no record": (lambda parts: _without(parts, _RECORD), "cut"),
    "record": (lambda parts: {**parts, _RECORD: b"[" * 100_000}, "cannot be read"),
    "a member more": (lambda parts: {**parts, "more": b""}, "does not end"),
    "name": (lambda parts: _renamed(parts, "../../etc/passwd"), "it has '../../etc/passwd'"),
    "escape": (lambda parts: _renamed(parts, "\x1b[31m"), r"it has '\\x1b"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_refused_in_a_line(lie: str, tmp_path: Path, target: Path) -> None:
    data = await sent(tmp_path / "home", await filled(tmp_path / "home", tmp_path / "scratch", "app:1"))
    make, words = LIES[lie]
    with pytest.raises(UnsoundSourceError, match=words) as told:
        await received(target, remade(data, make(members(data))))
    assert told.value.message.isprintable()
    assert is_untouched(target)


async def test_the_truth_passes_the_same_way(tmp_path: Path, target: Path) -> None:
    """Else what is said of lies proves nothing."""
    data = await sent(tmp_path / "home", await filled(tmp_path / "home", tmp_path / "scratch", "app:1"))
    assert await received(target, remade(data, recorded(members(data))))


@pytest.mark.parametrize("kind", [b"g", b"x"])
async def test_what_has_no_end_is_left(kind: bytes, tmp_path: Path, target: Path) -> None:
    data = await sent(tmp_path / "home", await filled(tmp_path / "home", tmp_path / "scratch", "app:1"))
    comment = bytearray(data[:1024])
    comment[156:157] = kind
    comment[148:156] = b" " * 8
    comment[148:156] = b"%06o\0 " % sum(comment[:512])
    with pytest.raises(UnsoundSourceError, match="no end"):
        await received(target, itertools.chain([data[:1024]], itertools.repeat(bytes(comment))))
    assert is_untouched(target)


async def test_more_than_is_allowed_or_fits_is_refused_before_it_comes(tmp_path: Path, target: Path) -> None:
    data = await sent(tmp_path / "home", await filled(tmp_path / "home", tmp_path / "scratch", "app:1"))
    with pytest.raises(CacheError) as told:
        await received(target, data, most=100)
    assert "--max-bytes" in told.value.hint, told.value.message
    assert is_untouched(target)


async def test_a_name_that_stands_for_another_is_refused_before_the_bytes_come(tmp_path: Path, target: Path) -> None:
    data = await sent(tmp_path / "home", await filled(tmp_path / "home", tmp_path / "scratch", "app:1"))
    os.rmdir(target)
    await filled(target, tmp_path / "other", "other:1")
    index = json.loads((target / "index.json").read_bytes())
    index["manifests"][0]["annotations"]["io.containerd.image.name"] = "app:1"
    (target / "index.json").write_text(json.dumps(index))

    def only_the_start() -> Iterator[bytes]:
        yield data[:4096]
        raise AssertionError("it was read on")

    with pytest.raises(RepointsNameError):
        await received(target, only_the_start())
    assert await received(target, data, repoint=True)


async def test_an_entry_keeps_its_name_unless_that_is_asked_for(tmp_path: Path, target: Path) -> None:
    data = await sent(tmp_path / "home", await filled(tmp_path / "home", tmp_path / "scratch", "app:1"))
    await received(target, data, name="mine:1")
    with pytest.raises(NamedOtherwiseError):
        await received(target, data)
    await received(target, data, rename=True)
    assert (await PackerCache(target).index()).names[-1] == "app:1"


async def test_what_changes_while_it_is_sent_is_an_error(tmp_path: Path) -> None:
    home = tmp_path / "home"
    [(digest, format)] = await filled(home, tmp_path / "scratch", "app:1")
    entries = entries_to_export(home, await PackerCache(home).index(), [(digest, format)])
    path, data = home / f"{digest}.{format}", (home / f"{digest}.{format}").read_bytes()

    def replace(_: int, __: int) -> None:
        path.unlink()
        path.write_bytes(data)

    with pytest.raises(ExportError, match="changed while"):
        write_cache_tar(entries, lambda data: None, replace, Stop())
    path.write_bytes(data[:-512])
    with pytest.raises(ExportError, match="changed while"):
        write_cache_tar(entries, lambda data: None, lambda done, total: None, Stop())


async def test_what_is_not_whole_is_not_sent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    [(digest, format)] = await filled(home, tmp_path / "scratch", "app:1")
    path = home / f"{digest}.{format}"
    found, data = path.stat(), bytearray(path.read_bytes())
    data[data.index(b"127.0.0.1")] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(ExportError, match="recorded is another"):
        await sent(home, [(digest, format)])
    (home / f"{digest}.config.json").unlink()
    with pytest.raises(ExportError, match="not whole"):
        await sent(home, [(digest, format)])


async def test_cancelling_leaves_nothing(tmp_path: Path, target: Path) -> None:
    data = await sent(tmp_path / "home", await filled(tmp_path / "home", tmp_path / "scratch", "app:1"))
    reader, writer = os.pipe()
    os.write(writer, data[:8192])
    asked = ImportRequest(source="-")
    work = asyncio.ensure_future(
        receive_cache_tar(PackerCache(target), lambda stop: given_by(reader, stop), asked, MOST)
    )
    await until(lambda: any((target / ".ocitui" / "import").glob("*/*.tar")))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    os.close(reader)
    os.close(writer)
    assert is_untouched(target)
    assert trash(target) == []


async def test_what_stands_for_a_name_does_so_where_it_arrives(tmp_path: Path, target: Path) -> None:
    old, new = await filled(tmp_path / "home", tmp_path / "scratch", "app:1", "app:2")
    cache = PackerCache(tmp_path / "home")
    there = await cache.recall(ImageName.parse("app:2"), *new[:1], PackedFormat.TAR)
    assert there is not None
    await cache.store(msgspec.structs.replace(there, name=ImageName.parse("app:1")))
    for keys in ([old, new], [new, old]):
        await received(target, await sent(tmp_path / "home", keys), repoint=True)
        winner = (await PackerCache(target).index()).by_name("app:1")
        assert winner is not None
        assert winner.digest == new[0]


async def test_documents_are_bounded_together(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = await filled(tmp_path / "home", tmp_path / "scratch", "app:1", "app:2")
    data = await sent(tmp_path / "home", keys)
    monkeypatch.setattr("ocitui.remote.cache_tar._MOST_DOCUMENTS", 600)
    with pytest.raises(UnsoundSourceError, match="more than"):
        await received(target, data)
    assert is_untouched(target)
    with pytest.raises(ExportError, match="more than one import takes"):
        await sent(tmp_path / "home", keys)


async def test_more_entries_than_an_import_takes_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = await filled(tmp_path / "home", tmp_path / "scratch", "app:1", "app:2")
    monkeypatch.setattr("ocitui.remote.cache_tar.MOST_ENTRIES", 1)
    with pytest.raises(ExportError, match="2 entries are more"):
        await sent(tmp_path / "home", keys)


@pytest.mark.slow
async def test_lines_of_what_came_wait_on_the_disk(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 10,000 entries they are more than fit into memory."""
    data = await sent(tmp_path / "home", await filled(tmp_path / "home", tmp_path / "scratch", "app:1", "db:2"))
    really, held, kept = cache_tar.store_arrived, list[int](), list[str]()

    def in_memory() -> int:
        gc.collect()
        return sum(isinstance(one, TreeLines) for one in gc.get_objects())

    async def noted(*words: Any) -> list[ImportResult]:
        held.append(in_memory() - before)
        kept.extend(path.name for path in (target / ".ocitui" / "import").rglob("*.tar.lines"))
        return await really(*words)

    monkeypatch.setattr(cache_tar, "store_arrived", noted)
    before = in_memory()
    await received(target, data)
    assert (held, len(kept)) == ([0], 2)
