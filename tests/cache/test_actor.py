"""Who did what: in the record, and as a line to the host's log for each transaction."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.cache import ImageName, PackerCache, TransactionKind
from ocitui.cache.actor import SYSLOG_VARIABLE, whoami
from tests.cache.scenes import interrupted_delete, key
from tests.cache.support import make_image, tree, write_cache


@contextmanager
def host_log(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = place / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        log.setblocking(False)
        monkeypatch.setenv(SYSLOG_VARIABLE, str(path))
        yield log


def lines(log: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(log.recv(1 << 16).decode())
        except BlockingIOError:
            return found


async def test_a_line_for_each_transaction(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(6))
    monkeypatch.setenv("SUDO_USER", "alice")
    with host_log(memory_path, monkeypatch) as log:
        cache = PackerCache(directory)
        await cache.list()
        await cache.prepare()
        assert lines(log) == []
        stored = await cache.store(make_image(memory_path / "packed", name="new:1"), kind=TransactionKind.IMPORT)
        done = await cache.delete([key(number) for number in range(5)])
        undone = await cache.undo()
        told = lines(log)
        assert [line.partition(": ")[0] for line in told] == [f"<13>ocitui[{os.getpid()}]"] * 3
        imported, deleted, reversed_ = (line.partition(": ")[2] for line in told)
        assert imported.startswith("import 000001-")
        assert f" new:1 {stored.digest}, by " in imported
        assert deleted.startswith(f"delete {done.id} image0:1, image1:1, image2:1 and 2 more sha256:")
        assert reversed_.startswith(f"undo {undone.id} of {done.id} image0:1, ")
        assert all(line.endswith(f", by {whoami()}") for line in told)
        # One that is finished by another program is that program's; one that is rolled back was none.
        await interrupted_delete(directory)
        (rolled_back,) = (await PackerCache(directory).prepare()).recovered
        assert rolled_back.state == "void"
        assert lines(log) == []


def test_the_user_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    for caller, told in (("alice", "alice as root@"), ("root", " root@"), ("", " root@"), ("a\nb", " root@")):
        monkeypatch.setenv("SUDO_USER", caller)
        assert told in whoami()


async def test_it_is_in_the_record(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(memory_path / "cache", range(2))
    monkeypatch.setenv("SUDO_USER", "alice")
    assert " alice as " in (await PackerCache(memory_path / "cache").delete([key(0)])).by


@pytest.mark.parametrize("obstacle", ["absent", "pipe", "directory", "full", "a long path"])
async def test_the_log_is_in_nobody_s_way(obstacle: str, memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    before = tree(directory)
    path = memory_path / ("x" * 200 if obstacle == "a long path" else "there")
    if obstacle == "pipe":
        os.mkfifo(path)
    elif obstacle == "directory":
        path.mkdir()
    with host_log(memory_path, monkeypatch) as log:
        if obstacle != "full":
            monkeypatch.setenv(SYSLOG_VARIABLE, str(path))
        # Nobody reads it.
        cache = PackerCache(directory)
        for _ in range(40 if obstacle == "full" else 1):
            await cache.delete([key(0)])
            await cache.undo()
        await cache.close()
        assert tree(directory) == before
        assert len(lines(log)) < 40


async def test_a_line_is_bounded_and_moves_no_cursor(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(1))
    with host_log(memory_path, monkeypatch) as log:
        image = make_image(memory_path / "packed", name="host.example/" + "n" * 3000 + "\x1b[31m:1")
        assert image.name == ImageName.parse(str(image.name))
        await PackerCache(directory).store(image)
        (line,) = lines(log)
    assert len(line) <= 1000
    assert line.isprintable()
