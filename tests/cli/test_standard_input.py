"""Archives from standard input: told by content, kept in a private file, and nothing of it left."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import json
import lzma
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ocitui.cache import PackedFormat, PackerCache
from ocitui.importing import ImportDesk, ImportRequest, SourceError, import_image
from ocitui.importing.errors import NoRoomError
from ocitui.importing.sources.opening import received
from tests.cache.support import write_cache
from tests.cli.conftest import Ocitui
from tests.cli.import_support import make_layout, snapshot, staged
from tests.cli.test_processes import PROGRAM, TIMEOUT, ended, spawn
from tests.importing.builders import BASE, SITE, docker_image, docker_save, oci_archive
from tests.importing.conftest import packed_here as packed_here  # a fixture
from tests.importing.image_makers import make_image, run, zstd_compress
from tests.tools import need, wait_for

ONE = docker_image(BASE, SITE)
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd_compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return docker_save((ONE, "team/app:1")).write(tmp_path / "archive.tar")


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    """Have standard input give these bytes."""
    with ExitStack() as stack:

        def give(data: bytes) -> None:
            (tmp_path / "given").write_bytes(data)
            monkeypatch.setattr("sys.stdin", stack.enter_context(open(tmp_path / "given", encoding="utf-8")))

        yield give


def piped(data: bytes, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    """A command whose standard input is a pipe."""
    return subprocess.run([*PROGRAM, *map(str, words)], input=data, capture_output=True, timeout=TIMEOUT, check=False)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["docker", "oci"])
@pytest.mark.usefixtures("packed_here")
def test_an_archive_is_told_by_its_content(
    kind: str,
    compression: str,
    archive: Path,
    cache: Path,
    ocitui: Ocitui,
    given: Callable[[bytes], None],
    tmp_path: Path,
) -> None:
    if kind == "oci":
        archive = oci_archive(ONE, name="team/app:1").write(tmp_path / "oci.tar")
    words = ["--format", "tar", "-C", cache, "--json"]
    seen = ocitui("inspect", archive, "-C", cache, "--json").json["images"]
    given(COMPRESSIONS[compression](archive.read_bytes()))
    found = ocitui("inspect", "-", "-C", cache, "--json")
    assert (found.status, found.json["source"], found.json["images"]) == (0, "-", seen)
    given(COMPRESSIONS[compression](archive.read_bytes()))
    done = ocitui("import", "-", *words)
    assert done.status == 0
    assert (done.json["entry"]["name"], done.json["entry"]["digest"]) == ("team/app:1", seen[0]["digest"])
    assert staged(cache) == []


def test_what_came_so_cannot_come_back_from_there(
    archive: Path, cache: Path, ocitui: Ocitui, given: Callable[[bytes], None]
) -> None:
    given(archive.read_bytes())
    assert ocitui("import", "-", "--format", "tar", "-C", cache).status == 0
    (entry,) = ocitui("list", "-C", cache, "--json").json["entries"]
    assert (entry["source"], entry["comes_back"]) == ("-", "no")
    given(archive.read_bytes())
    (packed,) = cache.glob("*.tar")
    packed.unlink()
    # A repair looks where an image was imported from: it neither reads nor waits for standard input.
    told = ocitui("repair", "-C", cache)
    assert "it was imported from -: standard input cannot be read again" in told.out + told.err
    assert "it came by standard input, which gives nothing twice" in ocitui("delete", "team/app:1", "-C", cache).out


@pytest.mark.parametrize("command", ["import", "inspect"])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "standard input is empty (see what the command before the pipe says)"),
        (bytes(5000), "standard input gives no archive (pipe an archive into it"),
        (b"hsqs" + bytes(5000), "a packed file is kept beside its documents, and named packed:FILE"),
        (b"\x7fELF" + bytes(5000), "standard input is a program"),
        (b"#!/usr/bin/env run-singularity\n" + bytes(2000), "`skopeo copy sif:FILE oci-archive:image.tar`"),
        (b"\x04\x22\x4d\x18" + bytes(2000), "standard input: compressed with lz4, which is not read (unpack it with"),
    ],
    ids=["nothing", "zeros", "squashfs", "program", "sif", "lz4"],
)
def test_what_is_no_archive_is_told(
    data: bytes, said: str, command: str, cache: Path, ocitui: Ocitui, given: Callable[[bytes], None]
) -> None:
    given(data)
    done = ocitui(command, "-", "-C", cache)
    assert done.status == 4
    assert said in done.err
    assert done.err.count("\n") <= 2
    assert snapshot(cache) == {}
    assert staged(cache) == []


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_pipe_that_ends_early_is_told(
    compress: Callable[[bytes], bytes], archive: Path, cache: Path, ocitui: Ocitui, given: Callable[[bytes], None]
) -> None:
    data = compress(archive.read_bytes())
    given(data[: len(data) * 2 // 3])
    done = ocitui("import", "-", "-C", cache, "--format", "tar", "--json")
    assert done.json["error"]["message"].startswith("standard input: ")
    assert "cut" in done.json["error"]["message"]
    assert done.json["error"]["hint"] == "see what the command before the pipe says"


def test_of_several_images_one_is_named_as_it_says(
    tmp_path: Path, cache: Path, ocitui: Ocitui, given: Callable[[bytes], None]
) -> None:
    two = docker_save((docker_image(BASE), "team/pair:1"), (ONE, "team/pair:2")).write(tmp_path / "two.tar")
    given(two.read_bytes())
    refused = ocitui("import", "-", "-C", cache, "--format", "tar", "--json").json["error"]
    assert refused["message"] == "standard input holds several images: team/pair:1, team/pair:2"
    assert refused["hint"] == "name one of them, as docker-archive:-:NAME"
    given(two.read_bytes())
    assert "as docker-archive:-:NAME" in ocitui("inspect", "-", "-C", cache).out
    given(two.read_bytes())
    done = ocitui("import", "docker-archive:-:team/pair:2", "-C", cache, "--format", "tar", "--json")
    assert done.json["entry"]["name"] == "team/pair:2"


@pytest.mark.slow
def test_a_name_that_stands_for_another_image_takes_yes(
    tmp_path: Path, archive: Path, cache: Path, ocitui: Ocitui, given: Callable[[bytes], None]
) -> None:
    layout = make_layout(tmp_path / "layout", ("team/app:1", make_image(b"other")))
    assert ocitui("import", layout, "-C", cache, "--format", "tar").status == 0
    given(archive.read_bytes())
    refused = ocitui("import", "-", "-C", cache, "--format", "tar", "--json")
    assert refused.status == 4
    assert "give --yes" in refused.json["error"]["hint"]
    given(archive.read_bytes())
    assert ocitui("import", "-", "-C", cache, "--format", "tar", "--yes").status == 0


async def imported(cache: Path, most: int | None = None) -> None:
    write_cache(cache, [])
    request = ImportRequest(source="-", format=PackedFormat.TAR, max_bytes=most)
    await import_image(ImportDesk(PackerCache(cache)), request)


async def test_it_is_bounded_and_a_file_is_not(archive: Path, cache: Path, given: Callable[[bytes], None]) -> None:
    given(archive.read_bytes())
    most = sum(map(len, ONE.tars))
    assert most < archive.stat().st_size
    with pytest.raises(SourceError, match="standard input gives more than") as refused:
        await imported(cache, most)
    assert refused.value.hint == "keep it in a file, and name that"
    assert staged(cache) == []
    request = ImportRequest(source=str(archive), format=PackedFormat.TAR, max_bytes=most)
    await import_image(ImportDesk(PackerCache(cache)), request)


async def test_room_is_left(
    archive: Path, cache: Path, given: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    given(archive.read_bytes())
    monkeypatch.setattr("ocitui.importing.staging.minimum_free", lambda directory: 1 << 60)
    with pytest.raises(NoRoomError):
        await imported(cache)
    assert staged(cache) == []


@pytest.mark.slow
def test_a_real_pipe(archive: Path, cache: Path, ocitui: Ocitui, tmp_path: Path) -> None:
    need("skopeo")
    run("skopeo", "copy", "-q", f"docker-archive:{archive}:team/app:1", f"oci-archive:{tmp_path}/oci.tar:team/app:2")
    for name, path in ("team/app:1", archive), ("team/app:2", tmp_path / "oci.tar"):
        done = piped(path.read_bytes(), "import", "-", "-C", cache, "--format", "tar", "--json")
        assert json.loads(done.stdout)["entry"]["name"] == name
        assert done.stderr == b""
    assert staged(cache) == []
    ended_before = subprocess.run(
        f"false | {' '.join(PROGRAM)} import - -C {cache}", shell=True, capture_output=True, check=False
    )
    assert b"standard input is empty" in ended_before.stderr


def test_read_only_keeps_nothing(
    archive: Path, cache: Path, ocitui: Ocitui, given: Callable[[bytes], None], tmp_path: Path
) -> None:
    given(archive.read_bytes())
    for command in ("inspect", "import"):
        assert ocitui(command, "-", "-C", cache, "--read-only").status == 4
    assert list(cache.iterdir()) == []


async def test_what_came_is_told_also_while_nothing_comes(archive: Path, cache: Path, tmp_path: Path) -> None:
    """To the last byte: the line would stand still at the first of them."""
    write_cache(cache, [])
    heard: list[tuple[int, int]] = []
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as pipe, pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr("sys.stdin", pipe)
        os.write(writing, archive.read_bytes()[:8000])
        os.write(writing, archive.read_bytes()[8000:20_000])

        def hear(done: int, total: int) -> None:
            if (done, total) in heard and done == 20_000:
                stack.callback(os.close, writing)
                stack.close()
            heard.append((done, total))

        async with asyncio.timeout(TIMEOUT), received("-", cache, hear) as source:
            assert Path(source.removeprefix("docker-archive:")).read_bytes() == archive.read_bytes()[:20_000]
    assert heard.count((20_000, 0)) >= 2
    assert staged(cache) == []


@pytest.mark.slow
def test_a_terminal_is_no_source(cache: Path) -> None:
    for command in ("import", "inspect"):
        text, status = ended(spawn(command, "-", "-C", cache, columns=200))
        assert status == 4
        assert "standard input is a terminal (pipe an archive into it, as `docker save NAME | ocitui import -`" in text
    command = f"{' '.join(PROGRAM)} import - -C {cache} <&-"
    closed = subprocess.run(command, shell=True, capture_output=True, check=False, timeout=TIMEOUT)
    assert b"standard input is not to be read here" in closed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_nothing_comes(number: signal.Signals, archive: Path, cache: Path, ocitui: Ocitui) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "import", "-", "-C", cache], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(archive.read_bytes()[:8000])
    process.stdin.flush()
    kept = cache / ".ocitui" / "import"
    wait_for(lambda: [*kept.glob("*/standard-input")] if kept.exists() else [], "what came is kept")
    process.send_signal(number)
    # Its standard input is still open: nothing is waited for that may never come.
    assert process.wait(TIMEOUT) == 128 + number
    said = process.communicate()[1].decode()
    how = "cancelled" if number is signal.SIGINT else "interrupted by SIGTERM"
    assert said.splitlines()[-1] == f"ocitui: {how} (the cache is as it was)"
    assert staged(cache) == []
    assert ocitui("imports", "-C", cache, "--json").json["imports"] == []
