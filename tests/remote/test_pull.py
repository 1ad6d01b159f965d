"""`ocitui pull`: what arrives is what is there, or nothing of it, and what came is not fetched twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ocitui.cache import Disk, ImageName, Key, Ledger, LockedError, PackedFormat, PackerCache, record_stored
from ocitui.cli.main import run
from ocitui.contents import TreeStore
from ocitui.importing import (
    ImportRequest,
    ImportResult,
    NamedOtherwiseError,
    RepointsNameError,
    SourceError,
    UnsoundSourceError,
    staging,
)
from ocitui.importing.staging import BlobStore
from ocitui.remote import (
    ExportedEntry,
    FarFiles,
    HostMirror,
    SshPlace,
    entries_to_export,
    far_files,
    pull_entries,
)
from ocitui.remote.far_files import FarFileError
from ocitui.remote.ssh import RemoteError
from tests.cache.support import until
from tests.remote.support import Hosts
from tests.remote.test_cache_tar import filled, is_untouched
from tests.tools import seeds

pytestmark = pytest.mark.slow

PIECE = 1024
Meanwhile = Callable[[], object]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_files, "_PIECE", PIECE)
    monkeypatch.setattr(staging, "_CHUNK", PIECE)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where each fetch of a file begins."""
    begun, fetch = list[int](), FarFiles.fetch

    async def told(self: FarFiles, name: str, size: int, take: far_files.Take, start: int = 0) -> None:
        begun.append(start)
        await fetch(self, name, size, take, start)

    monkeypatch.setattr(FarFiles, "fetch", told)
    return begun


async def pulled(
    target: Path,
    home: Path,
    keys: list[Key],
    meanwhile: Meanwhile = lambda: None,
    told: list[ExportedEntry] | None = None,
    **asked: Any,
) -> list[ImportResult]:
    """What is pulled of another host's cache; ``told`` gets what its mirror tells of the entries."""
    place = SshPlace.parse(f"ssh://good{home}")
    mirror = HostMirror(place)
    try:
        await mirror.ask()
        entries = entries_to_export(mirror.directory, await PackerCache(mirror.directory).index(), keys)
        if told is not None:
            told += entries
        meanwhile()
        async with FarFiles(place) as files:
            return await pull_entries(PackerCache(target), entries, files, ImportRequest(source="", **asked))
    finally:
        mirror.remove()


def kept(target: Path) -> int:
    return BlobStore(target).size()


def packed(home: Path, key: Key) -> Path:
    return home / f"{key[0]}.{key[1]}"


async def test_what_arrives_is_what_is_there(tmp_path: Path, target: Path, near: None) -> None:
    home = tmp_path / "home"
    keys = await filled(home, tmp_path / "scratch", "app:1", "db:2")
    told = list[ExportedEntry]()
    done = await pulled(target, home, keys, told=told)
    assert [(str(one.image.name), one.outcome) for one in done] == [("app:1", "stored"), ("db:2", "stored")]
    assert (await PackerCache(target).index()).names == (await PackerCache(home).index()).names
    for digest, format in keys:
        for name in (f"{digest}.manifest.json", f"{digest}.config.json", f"{digest}.{format}"):
            assert (target / name).read_bytes() == (home / name).read_bytes()
        ledger, name = Ledger.open(target), f"{digest}.{format}"
        assert ledger.sound[name].sha256 == Ledger.open(home).sound[name].sha256
        assert ledger.sources[name].text.startswith("docker://example.org/")
        assert TreeStore(target, ledger).right(target / name) is not None
        assert (target / name).stat().st_nlink == 1
    assert kept(target) == 0
    # What is on record there came along, to be held against it: a hash, and of what was pulled before the tree too.
    assert [bool(one.sha256) for one in told] == [True, True]
    (tmp_path / "third").mkdir()
    await pulled(tmp_path / "third", target, keys, told=told)
    assert [bool(one.sha256 and one.content) for one in told[2:]] == [True, True]


async def test_where_no_hash_is_on_record_it_is_asked_for(tmp_path: Path, target: Path, near: None) -> None:
    home = tmp_path / "home"
    keys = await filled(home, tmp_path / "scratch", "app:1")
    (home / ".ocitui" / "ledger").unlink()
    assert [one.outcome for one in await pulled(target, home, keys)] == ["stored"]
    assert packed(target, keys[0]).read_bytes() == packed(home, keys[0]).read_bytes()


@pytest.mark.parametrize("seed", seeds(4, 200))
async def test_what_is_cut_anywhere_goes_on_there(
    seed: int, tmp_path: Path, target: Path, near: None, starts: list[int]
) -> None:
    home = tmp_path / "home"
    [key] = await filled(home, tmp_path / "scratch", "app:1")
    script, size = tmp_path / "near" / "ssh", packed(home, key).stat().st_size
    whole, at = script.read_text(), seed * 7919 % (size // 4)

    def cut() -> None:
        some = f'case $last in *python3*) sh -c "$last" | head -c {at};; *) exec cat;; esac'
        script.write_text(whole.replace('exec sh -c "$last"', some))

    with pytest.raises(RemoteError):
        await pulled(target, home, [key], cut)
    assert is_untouched(target)
    script.write_text(whole)
    came = kept(target)
    assert came < size
    assert [one.outcome for one in await pulled(target, home, [key])] == ["stored"]
    assert starts[-1] == came
    assert packed(target, key).read_bytes() == packed(home, key).read_bytes()
    assert kept(target) == 0


def rewrite(path: Path, *, stealthily: bool) -> None:
    """Put other bytes into a file, of which its stat tells where it is not done stealthily."""
    found, data = path.stat(), bytearray(path.read_bytes())
    data[data.index(b"127.0.0.1")] ^= 1
    path.write_bytes(data)
    if stealthily:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


async def test_what_changes_after_it_was_told_of_is_refused(tmp_path: Path, target: Path, near: None) -> None:
    home = tmp_path / "home"
    [key] = await filled(home, tmp_path / "scratch", "app:1")
    path = packed(home, key)

    def longer() -> None:
        path.write_bytes(path.read_bytes() + bytes(512))

    def rotten() -> None:
        rewrite(path, stealthily=True)

    for change, error in ((rotten, UnsoundSourceError), (longer, FarFileError), (path.unlink, FarFileError)):
        with pytest.raises(error) as raised:
            await pulled(target, home, [key], change)
        assert raised.value.message.isprintable()
        assert is_untouched(target)
        assert kept(target) == 0


async def test_what_is_rotten_and_on_no_record_is_read_through_first(tmp_path: Path, target: Path, near: None) -> None:
    home = tmp_path / "home"
    [key] = await filled(home, tmp_path / "scratch", "app:1")
    data = bytearray(packed(home, key).read_bytes())
    data[len(data) // 2 // 512 * 512 + 150] ^= 1
    (home / ".ocitui" / "ledger").unlink()

    def rot() -> None:
        packed(home, key).write_bytes(bytes(len(data) // 2) + data[len(data) // 2 :])

    with pytest.raises(UnsoundSourceError, match=r"not sound|damaged"):
        await pulled(target, home, [key], rot)
    assert is_untouched(target)
    assert kept(target) == 0


async def test_it_is_moved_in_and_not_copied(
    tmp_path: Path, target: Path, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would take twice the room that was looked for, while the cache is locked."""

    def refuse(*_: object) -> None:
        raise AssertionError("it was copied")

    monkeypatch.setattr(Disk, "copy_in", refuse)
    keys = await filled(tmp_path / "home", tmp_path / "scratch", "app:1", "db:2")
    assert [one.outcome for one in await pulled(target, tmp_path / "home", keys)] == ["stored", "stored"]


async def test_what_cannot_be_stored_is_kept(
    tmp_path: Path, target: Path, near: None, starts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    [key] = await filled(home, tmp_path / "scratch", "app:1")

    async def refuse(*_: object, **__: object) -> None:
        raise LockedError("another program has it")

    with monkeypatch.context() as patched:
        patched.setattr(PackerCache, "store", refuse)
        with pytest.raises(LockedError):
            await pulled(target, home, [key])
    assert is_untouched(target)
    assert kept(target) == packed(home, key).stat().st_size
    assert [one.outcome for one in await pulled(target, home, [key])] == ["stored"]
    assert len(starts) == 1


async def test_a_host_that_lies_about_a_size_costs_nothing_that_is_kept(
    tmp_path: Path, target: Path, near: None, starts: list[int]
) -> None:
    home = tmp_path / "home"
    [key] = await filled(home, tmp_path / "scratch", "app:1")
    data, blobs = packed(home, key).read_bytes(), BlobStore(target)

    async def give(blob: staging.PartialBlob) -> None:
        await blob.append(data)

    await blobs.fetch(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data), give)
    with packed(home, key).open("ab") as file:
        file.write(bytes(512))
    record_stored(home, packed(home, key), hashlib.sha256(data).hexdigest())
    with pytest.raises(UnsoundSourceError, match=f"is told of with {len(data) + 512} bytes, and has {len(data)}"):
        await pulled(target, home, [key])
    assert (kept(target), starts) == (len(data), [])


async def test_what_another_program_clears_comes_again(
    tmp_path: Path, target: Path, near: None, starts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    [key] = await filled(home, tmp_path / "scratch", "app:1")
    lend = BlobStore.lend

    def cleared(self: BlobStore, digest: str, path: Path) -> bool:
        if len(starts) == 1:
            BlobStore(target).clear([digest])
        return lend(self, digest, path)

    monkeypatch.setattr(BlobStore, "lend", cleared)
    assert [one.outcome for one in await pulled(target, home, [key])] == ["stored"]
    assert len(starts) == 2


@pytest.mark.parametrize("known", [True, False], ids=["by its hash", "by what is in it"])
async def test_of_several_only_the_bad_one_comes_again(
    known: bool, tmp_path: Path, target: Path, near: None, starts: list[int]
) -> None:
    home = tmp_path / "home"
    keys = await filled(home, tmp_path / "scratch", "app:1", "db:2")
    bad, good = packed(home, keys[1]), packed(home, keys[1]).read_bytes()
    if not known:
        (home / ".ocitui" / "ledger").unlink()

    def rot() -> None:
        if known:
            rewrite(bad, stealthily=True)
        else:
            bad.write_bytes(bytes(len(good) // 2) + good[len(good) // 2 :])

    with pytest.raises(UnsoundSourceError, match=bad.name):
        await pulled(target, home, keys, rot)
    assert is_untouched(target)
    assert kept(target) == packed(home, keys[0]).stat().st_size
    bad.write_bytes(good)
    assert [one.outcome for one in await pulled(target, home, keys)] == ["stored", "stored"]
    assert len(starts) == 3


@pytest.mark.parametrize("name", ["a\x1b[31m:1", "a\u202eb:1", None])
async def test_a_name_that_cannot_be_shown_is_not_taken(
    name: str | None, tmp_path: Path, target: Path, near: None
) -> None:
    home = tmp_path / "home"
    [key] = await filled(home, tmp_path / "scratch", "app:1")
    index = json.loads((home / "index.json").read_bytes())
    index["manifests"][0]["annotations"]["io.containerd.image.name"] = name
    if name is None:
        del index["manifests"][0]["annotations"]["io.containerd.image.name"]
    (home / "index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match="no name that can be shown") as raised:
        await pulled(target, home, [key])
    assert "--name" in raised.value.hint
    assert [str(one.image.name) for one in await pulled(target, home, [key], name="mine:1")] == ["mine:1"]


async def test_what_is_here_is_not_fetched(tmp_path: Path, target: Path, near: None, starts: list[int]) -> None:
    home = tmp_path / "home"
    keys = await filled(home, tmp_path / "scratch", "app:1", "db:2")
    await pulled(target, home, keys[:1])
    assert [one.outcome for one in await pulled(target, home, keys)] == ["cached", "stored"]
    assert len(starts) == 2
    packed(target, keys[1]).write_bytes(b"")
    assert [one.outcome for one in await pulled(target, home, keys)] == ["cached", "stored"]
    assert [one.outcome for one in await pulled(target, home, keys, again=True)] == ["stored", "stored"]
    assert len(starts) == 5


@pytest.mark.parametrize("first", [0, 1])
async def test_what_stands_for_a_name_does_so_here(first: int, tmp_path: Path, target: Path, near: None) -> None:
    home = tmp_path / "home"
    keys = await filled(home, tmp_path / "scratch", "app:1", "app:2")
    cache = PackerCache(home)
    there = await cache.recall(ImageName.parse("app:2"), keys[1][0], PackedFormat.TAR)
    assert there is not None
    await cache.store(msgspec.structs.replace(there, name=ImageName.parse("app:1")))
    await pulled(target, home, [keys[first]])
    await pulled(target, home, keys, repoint=True)
    winner = (await PackerCache(target).index()).by_name("app:1")
    assert winner is not None
    assert winner.digest == keys[1][0]


async def test_a_name_that_is_taken_is_asked_about_before_anything_comes(
    tmp_path: Path, target: Path, near: None, starts: list[int]
) -> None:
    home = tmp_path / "home"
    [key] = await filled(home, tmp_path / "scratch", "app:1")
    os.rmdir(target)
    await filled(target, tmp_path / "other", "other:1")
    index = json.loads((target / "index.json").read_bytes())
    index["manifests"][0]["annotations"]["io.containerd.image.name"] = "app:1"
    (target / "index.json").write_text(json.dumps(index))
    with pytest.raises(RepointsNameError):
        await pulled(target, home, [key])
    assert starts == []
    assert await pulled(target, home, [key], name="mine:1")
    with pytest.raises(NamedOtherwiseError):
        await pulled(target, home, [key], repoint=True)
    done = await pulled(target, home, [key], repoint=True, rename=True)
    assert [one.outcome for one in done] == ["renamed"]
    assert len(starts) == 1


async def test_cancelling_keeps_what_came(tmp_path: Path, target: Path, near: None, starts: list[int]) -> None:
    home = tmp_path / "home"
    [key] = await filled(home, tmp_path / "scratch", "app:1")
    script = tmp_path / "near" / "ssh"
    whole = script.read_text()

    def stall() -> None:
        stalled = f'sh -c "$last" | {{ head -c {2 * PIECE}; kill -STOP $$; }}'
        script.write_text(whole.replace('exec sh -c "$last"', f"case $last in *python3*) {stalled};; *) cat;; esac"))

    work = asyncio.ensure_future(pulled(target, home, [key], stall))
    await until(lambda: kept(target) > 0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert is_untouched(target)
    script.write_text(whole)
    came = kept(target)
    await pulled(target, home, [key])
    assert starts[-1] == came > 0


def test_the_command(tmp_path: Path, target: Path, hosts: Hosts, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    [key, _] = asyncio.run(filled(home, tmp_path / "scratch", "app:1", "db:2"))

    def pull(*words: str, host: str = "good") -> tuple[int, str, str]:
        status = run(["pull", f"ssh://{host}{home}", *words, "-C", str(target)])
        return status, *capsys.readouterr()

    status, out, err = pull("app:1")
    assert (status, out.splitlines()[0]) == (0, "imported app:1 as tar"), err
    status, out, _ = pull("--filter", "name:db", "--json")
    [told] = json.loads(out)["entries"]
    assert (status, told["outcome"], told["entry"]["name"]) == (0, "stored", "db:2")
    status, out, _ = pull("app:3", "--json")
    assert (status, json.loads(out)["error"]["code"]) == (1, "no-such-entry")
    status, _, err = pull("app:1", host="nopython")
    assert (status, "export | import" in err) == (4, True)
    # Of which host's cache it is said, whose path may be that of the one here, and what is typed here to see it.
    for word, harm in (("nope:1", None), ("app:1", packed(home, key)), ("app:1", home / "index.json")):
        if harm is not None:
            harm.write_bytes(b"{")
        status, _, err = pull(word, "--again")
        assert status == (4 if harm is not None else 1)
        assert err.startswith("ocitui: on good: ")
        assert f"ocitui check -C ssh://good{home}" in err
        assert "ocitui-mirror" not in err
        assert "repair" not in err


def test_what_cannot_be_pulled_is_a_mistake(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["ssh://-oProxyCommand=x", "app:1"], ["ssh://h"], ["ssh://h", "app:1", "--filter", "x"]):
        assert run(["pull", *words, "-C", str(target)]) == 2
    assert run(["pull", "ssh://h", "app:1", "-C", "ssh://other"]) == 2
    assert "only on the host" in capsys.readouterr().err
    assert run(["pull", "ssh://h", "app:1", "-C", str(target), "--read-only"]) == 4


def test_ctrl_c_says_what_is_kept(
    tmp_path: Path, target: Path, near: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    asyncio.run(filled(home, tmp_path / "scratch", "app:1"))
    fetch = FarFiles.fetch

    async def interrupted(self: FarFiles, name: str, size: int, take: far_files.Take, start: int = 0) -> None:
        async def take_some(piece: bytes) -> None:
            await take(piece)
            if kept(target) > PIECE:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()

        await fetch(self, name, size, take_some, start)

    monkeypatch.setattr(FarFiles, "fetch", interrupted)
    assert run(["pull", f"ssh://good{home}", "app:1", "-C", str(target)]) == 130
    err = capsys.readouterr().err
    assert "ocitui: cancelled (" in err
    assert "that were downloaded are kept, see ocitui imports" in err
    assert is_untouched(target)
    assert run(["imports", "-C", str(target)]) == 0
    assert "that were downloaded are kept; --clear removes them" in capsys.readouterr().out
