"""A file of another host's cache comes as it is there, or not at all, over a real sshd."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from ocitui.remote import FarFiles, SshPlace, far_files, ssh
from ocitui.remote.far_files import FarFileError
from ocitui.remote.ssh import FarAnswerError, LostConnectionError, RemoteError
from tests.remote.support import Hosts
from tests.remote.test_ssh import HURRIED, SENDER

pytestmark = pytest.mark.slow

SIZE = (9 << 20) + 12_345
NAME = "sha256:some.squashfs"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A file of several pieces, the last of which is not whole."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / NAME).write_bytes(random.Random(14).randbytes(SIZE))
    return tmp_path / "cache" / NAME


def files_of(path: Path, host: str = "good", *, sudo: bool = False) -> FarFiles:
    return FarFiles(SshPlace.parse(f"ssh://{host}{path.parent}"), sudo=sudo, patience=HURRIED)


async def fetched(files: FarFiles, start: int = 0, size: int = SIZE) -> bytes:
    came = bytearray()

    async def take(piece: bytes) -> None:
        came.extend(piece)

    await files.fetch(NAME, size, take, start)
    return bytes(came)


async def test_all_of_it_comes_from_any_place_on(there: Path, hosts: Hosts) -> None:
    data = there.read_bytes()
    async with files_of(there) as files:
        for start in (0, 5_000_000, SIZE):
            assert await fetched(files, start) == data[start:]


async def test_the_small_the_empty_and_the_hash(there: Path, near: None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = there.read_bytes()
    (there.parent / "small").write_bytes(b"{}")
    (there.parent / "empty").touch()
    async with files_of(there) as files:
        assert (await files.read("small", 2), await files.read("empty", 0)) == (b"{}", b"")
        assert await files.sha256("empty", 0) == hashlib.sha256(b"").hexdigest()
        for pieces in (256, 2):
            # Between signs of life it is the same.
            monkeypatch.setattr(far_files, "_SIGN", pieces)
            assert await files.sha256(NAME, SIZE) == hashlib.sha256(data).hexdigest()


async def test_a_large_file_may_take_long_to_be_hashed(
    there: Path, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though but signs of life come of it meanwhile, here one in 10 seconds."""
    clock = itertools.count(0, 10)
    monkeypatch.setattr(ssh, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(far_files, "_SIGN", 1)
    async with FarFiles(SshPlace.parse(f"ssh://good{there.parent}")) as files:
        assert await files.sha256(NAME, SIZE) == hashlib.sha256(there.read_bytes()).hexdigest()


async def test_root_reads_it_by_sudo(there: Path, hosts: Hosts) -> None:
    async with files_of(there, "sudo", sudo=True) as files:
        assert await fetched(files) == there.read_bytes()


async def test_what_is_no_file_of_the_cache_is_not_read(there: Path, near: None) -> None:
    folder = there.parent
    (folder.parent / "outside").write_bytes(b"secret")
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    came = list[bytes]()

    async def take(piece: bytes) -> None:
        came.append(piece)

    async with files_of(there) as files:
        for name in ("gone", "link", "folder", "pipe", "../outside", f"{folder.parent}/outside", "$(id)", "..", ""):
            with pytest.raises(FarFileError) as raised:
                await files.fetch(name, 6, take)
            assert raised.value.message.isprintable()
    assert came == []


async def test_what_has_another_size_is_not_taken(there: Path, near: None) -> None:
    async with files_of(there) as files:
        for size in (SIZE - 1, SIZE + 1, 0):
            with pytest.raises(FarFileError, match="replaced or written to"):
                await fetched(files, size=size)


@pytest.mark.parametrize("how", ["replaced", "written", "cut", "gone"])
async def test_what_changes_meanwhile_is_an_error(how: str, there: Path, near: None) -> None:
    async def take(_: bytes) -> None:
        if how in ("replaced", "gone"):
            there.unlink(missing_ok=True)
        if how == "replaced":
            there.write_bytes(bytes(SIZE))
        elif how != "gone":
            os.truncate(there, SIZE - (how == "cut"))

    async with files_of(there) as files:
        with pytest.raises(FarFileError):
            await files.fetch(NAME, SIZE, take)


async def test_what_takes_it_may_fail_or_be_cancelled(there: Path, near: None) -> None:
    begun = asyncio.Event()

    async def fail(_: bytes) -> None:
        raise ValueError("full")

    async def wait(_: bytes) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with files_of(there) as files:
        with pytest.raises(ValueError, match="full"):
            await files.fetch(NAME, SIZE, fail)
        work = asyncio.ensure_future(files.fetch(NAME, SIZE, wait))
        await begun.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert await fetched(files) == there.read_bytes()


@pytest.mark.parametrize("mode", ["cut", "freeze"])
async def test_a_connection_that_ends_in_the_middle(mode: str, there: Path, hosts: Hosts) -> None:
    hosts.proxied(mode, mode, 3 << 20)
    with pytest.raises(LostConnectionError):
        async with files_of(there, mode) as files:
            await fetched(files)


LYING = """
import json
def main(asked):
    piece, told = bytes(1 << 18), json.dumps({"file": [1, 2, SIZE, 4], "regular": True}).encode()
    LIE
    sys.stdout.flush()
"""


@pytest.mark.parametrize(
    ("lie", "error"),
    [
        ("send(told); [send(piece) for _ in range(99)]", FarFileError),
        ("send(told); send(piece, '0' * 64)", FarAnswerError),
        ("send(told); send(bytes(8 << 20))", FarFileError),
        ("send(told); [send(piece) for _ in iter(int, 1)]", FarFileError),
        ("send(told)", LostConnectionError),
        ("send(told); send(piece); print('end 2')", FarFileError),
        ("[send(piece) for _ in iter(int, 1)]", FarFileError),
        ("send(json.dumps({'failed': 1 << 40}).encode())", FarFileError),
        ("send(json.dumps({'file': [0, 0, -1, 0], 'regular': True}).encode())", FarFileError),
        ("send(b'\\x1b[2J')", FarFileError),
        ("print('\\x1b[2J')", FarAnswerError),
        ("sys.stderr.write('\\x1b[2Jgotcha'); sys.exit(3)", LostConnectionError),
    ],
)
async def test_a_host_that_lies_is_refused(
    lie: str, error: type[RemoteError], there: Path, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (there.parent / "lying.py").write_text(SENDER + LYING.replace("SIZE", str(SIZE)).replace("LIE", lie))
    monkeypatch.setattr(far_files, "_SENDER", there.parent / "lying.py")
    async with files_of(there) as files:
        with pytest.raises(error) as raised:
            await fetched(files)
        assert raised.value.message.isprintable()
        with pytest.raises(RemoteError):
            await files.sha256(NAME, SIZE)
