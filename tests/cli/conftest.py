"""A demo cache to work on, and the command line run in this process."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocitui.cli.demo_cache import ALPINE, make_demo_cache
from ocitui.cli.main import run

ODD_NAME = "odd\x1b[31m\x07:1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


Ocitui = Callable[..., Outcome]


@pytest.fixture(scope="session")
def pristine_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pristine") / "image"
    make_demo_cache(directory, packers=False)
    return directory


@pytest.fixture
def demo(tmp_path: Path, pristine_demo: Path) -> Path:
    """A demo cache of tars: nine entries less one, a name carried twice, a missing config, an orphan, an odd name."""
    return Path(shutil.copytree(pristine_demo, tmp_path / "demo"))


@pytest.fixture
def ocitui(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ocitui:
    """Runs a command line. A torn index is not waited for."""
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.0)

    def call(*words: str | Path) -> Outcome:
        status = run([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


def widest(text: str, cache: Path) -> int:
    """The longest line, as if the cache had a short path: that one is never cut."""
    return max(map(len, text.replace(str(cache), "/cache").splitlines()))


def rot(demo: Path, ocitui: Ocitui) -> Path:
    """Flip a bit of a tar that a deep check has read, and leave its stat as it is."""
    ocitui("check", "-C", demo, "--depth", "deep")
    path = demo / f"{ALPINE.digest}.tar"
    found, content = path.stat(), bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    return path
