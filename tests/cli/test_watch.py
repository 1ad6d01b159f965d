"""watch: a line for each change of the index, until it is stopped."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.cli.demo_cache import ALPINE
from tests.cli.conftest import Ocitui
from tests.cli.test_processes import PROGRAM, TIMEOUT

pytestmark = pytest.mark.slow


@contextmanager
def watching(demo: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command at work, after its first line."""
    words = [*PROGRAM, "watch", "-C", str(demo), *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert next_line(process)
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    if process.stdout is None:
        return ""
    return process.stdout.readline()


def replace_index(demo: Path, data: bytes) -> None:
    (demo / "new").write_bytes(data)
    (demo / "new").rename(demo / "index.json")


def test_each_change_is_a_line(demo: Path, ocitui: Ocitui) -> None:
    good = (demo / "index.json").read_bytes()
    with watching(demo) as process:
        ocitui("delete", f"{ALPINE.digest}.tar", "--yes", "-C", demo)
        assert "Z  -alpine:3.19.tar" in next_line(process)
        replace_index(demo, b'{"schemaVersion":2,')
        assert "  index.json is corrupt: EOF while parsing" in next_line(process)
        replace_index(demo, good)
        assert "Z  +alpine:3.19.tar" in next_line(process)
        (demo / "index.json").unlink()
        assert next_line(process).endswith("  index.json is gone\n")
        replace_index(demo, good)
        assert next_line(process).endswith("  index.json reads, as it was, with 8 entries\n")
        replace_index(demo, b'{"schemaVersion":2,"manifests":[]}')
        assert "  none of those before is left of 0 entries: -" in next_line(process)


def test_programs_are_told_of_every_entry(demo: Path, ocitui: Ocitui) -> None:
    with watching(demo, "--json") as process:
        ocitui("delete", f"{ALPINE.digest}.tar", "--yes", "-C", demo)
        told = json.loads(next_line(process))
        assert (told["type"], told["condition"], told["entries"], told["replaced"]) == ("change", "sound", 7, False)
        key = {"digest": ALPINE.digest, "format": "tar"}
        assert [{name: one[name] for name in key} for one in told["removed"]] == [key]
        assert told["added"] == told["changed"] == []
        data = (demo / "index.json").read_bytes()
        replace_index(demo, re.sub(rb'("annotations":\s*{)', rb'\1"else":"x",', data, count=1))
        told = json.loads(next_line(process))
        digests = {name: [one["digest"] for one in told[name]] for name in ("added", "removed", "changed")}
        assert digests == {"added": [], "removed": [], "changed": [json.loads(data)["manifests"][0]["digest"]]}


def test_what_is_beside_the_index_is_no_change_of_it(demo: Path, ocitui: Ocitui) -> None:
    with watching(demo) as process:
        (demo / "beside").write_bytes(b"")
        (demo / "index.json").touch()
        ocitui("delete", f"{ALPINE.digest}.tar", "--yes", "-C", demo)
        assert "  -alpine:3.19.tar" in next_line(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(number: signal.Signals, demo: Path) -> None:
    with watching(demo) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + number
    assert (out, err) == ("", f"ocitui: interrupted by {number.name} (nothing was changed)\n")


def test_a_reader_that_goes_away_ends_it_without_a_word(demo: Path) -> None:
    """Though no change comes that it could not be told of."""
    with watching(demo) as process:
        if process.stdout is not None:
            process.stdout.close()
        assert process.wait(TIMEOUT) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_without_a_cache_there_is_nothing_to_watch(tmp_path: Path, ocitui: Ocitui) -> None:
    assert ocitui("watch", "-C", tmp_path / "gone").status == 4
