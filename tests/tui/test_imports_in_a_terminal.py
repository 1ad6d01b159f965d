"""Imports and the end of the program: packers are stopped, what was downloaded is kept, and the next start says so."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ocitui.importing.image_import import unfinished_imports
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.staging import BlobStore
from tests.importing.registry_server import FaultyRegistry
from tests.tools import hesitant_mksquashfs
from tests.tui.cache_support import make_cache
from tests.tui.import_support import large_layout, registry_in_a_thread, stalled
from tests.tui.terminal_support import ProgramInPty, screen_on

pytestmark = pytest.mark.slow

SIGNALS = [(signal.SIGTERM, 143), (signal.SIGHUP, 129)]
_FIRST_LAYER = 60_000  # bytes of its file; in a tar, compressed, it is somewhat more


def _begin(program: ProgramInPty, source: str) -> None:
    """Have it imported by mksquashfs."""
    program.wait_for("7 entries")
    program.press("i")
    program.wait_for("from")
    program.press(f"{source}\x1bOQ")
    program.wait_for("most bytes")
    program.press("\t\tmksquashfs\r")
    program.wait_for("says no name")
    program.press("a:1\r")
    program.wait_for("nothing is changed before y")
    program.press("y")


def _staged(cache: Path) -> list[Path]:
    return list((cache / ".ocitui" / "import").glob("*/packed.squashfs"))


def _processes_about(cache: Path) -> list[str]:
    """The command lines that name the cache, but for this one's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(cache) in command and int(process.name) != os.getpid():
            found.append(command)
    return found


def _assert_stopped(cache: Path) -> ImportRequest:
    """Nothing is half done: no packer, no staging, an index as it was; and a record of what can be gone on with."""
    assert _processes_about(cache) == []
    assert list((cache / ".ocitui" / "import").glob("*")) == []
    assert len(json.loads((cache / "index.json").read_bytes())["manifests"]) == 7
    [record] = unfinished_imports(cache)
    return record.request


@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_stops_the_packer(
    tmp_path: Path, number: int, status: int, reading: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hesitant_mksquashfs(tmp_path / "bin", monkeypatch)
    cache, layout = make_cache(tmp_path / "image"), large_layout(tmp_path / "layout", 8)
    with screen_on(cache) as program:
        _begin(program, f"oci:{layout}")
        program.until(lambda: bool(_staged(cache)), "a packer", reading=reading)
        if not reading:
            program.fill()
        os.kill(program.process, number)
        program.until(program.ended, "the end", reading=reading)
        assert program.status == status
    assert _assert_stopped(cache).source == f"oci:{layout}"
    with screen_on(cache) as program:
        program.wait_for("1 import was interrupted")


def _begin_stalled(program: ProgramInPty, registry: FaultyRegistry, cache: Path) -> None:
    stalled(registry, os.urandom(_FIRST_LAYER), os.urandom(4 << 20))
    program.wait_for("7 entries")
    program.press("i")
    program.wait_for("from")
    program.press(f"{registry.host}/team/app:v1\r")
    program.wait_for("nothing is changed before y")
    program.press("y")
    program.until(lambda: _begun(cache), "half of the last layer")


def _begun(cache: Path) -> bool:
    """Whether there is a part of the last layer: a part of the first may be all of it a moment later."""
    return any(blob.partial and blob.size > 2 * _FIRST_LAYER for blob in BlobStore(cache).stored())


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_what_was_downloaded_is_kept_and_gone_on_with(tmp_path: Path, number: int, status: int) -> None:
    cache = make_cache(tmp_path / "image")
    with registry_in_a_thread() as registry:
        with screen_on(cache) as program:
            _begin_stalled(program, registry, cache)
            os.kill(program.process, number)
            program.until(program.ended, "the end")
            assert program.status == status
        _assert_stopped(cache)
        assert _begun(cache)
        registry.rules.clear()
        registry.requests.clear()
        with screen_on(cache) as program:
            program.wait_for("1 import was interrupted")
            program.press("I")
            program.wait_for("goes on with it")
            program.press("r")
            program.until(lambda: not unfinished_imports(cache) and BlobStore(cache).size() == 0, "it is brought in")
            program.press("\x1b")
            program.wait_to_see("of 8 ─")
            program.press("q")
            program.until(program.ended, "the end")
            assert program.status == 0
        assert any("range" in request.headers for request in registry.requests)


def test_quitting_with_an_import_under_way(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    with registry_in_a_thread() as registry, screen_on(cache) as program:
        _begin_stalled(program, registry, cache)
        program.press("q")
        program.wait_for("nothing is stopped before y")
        program.press("\r")
        program.wait_for("alpine")
        program.press("q")
        program.wait_for("nothing is stopped before y")
        program.press("y")
        program.until(program.ended, "the end")
        assert program.status == 0
        assert program.echoes()
    _assert_stopped(cache)
