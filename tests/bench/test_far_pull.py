"""An entry from another host, over a real sshd on loopback: `ocitui pull`, and `export | import`, beside scp of its
packed file in the same run.

``pytest tests/bench/test_far_pull.py --benchmark-enable -s`` prints them for 500 MB: wall time, and the CPU of both
ends, which one machine carries here. Nothing is asserted on time; an ordinary run takes 1 MB.
"""

from __future__ import annotations

import asyncio
import random
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocitui.cache import PackedFormat, PackerCache
from ocitui.importing import ImportOutcome, ImportResult, note_stored
from tests.cache.support import make_image
from tests.importing.sources import make_root, pack
from tests.remote.support import hosts_in, use_ssh
from tests.tools import ROOT, need

_OCITUI = f"env PYTHONPATH={ROOT} {sys.executable} -m ocitui"


def make_entry(folder: Path, size: int) -> tuple[Path, Path]:
    """A cache with one entry of that size, whose hash is on record; and its packed file."""
    home = folder / "home"
    home.mkdir()
    root = make_root(folder)
    with open(root / "data", "wb") as file:
        for number in range(size >> 20):
            file.write(random.Random(number).randbytes(1 << 20))
    image = make_image(pack("tar", root, folder / "packed"), "app:1", name="app:1", format=PackedFormat.TAR)
    stored = asyncio.run(PackerCache(home).store(image))
    note_stored(home, ImportResult(stored, ImportOutcome.STORED))
    return home, stored.path


def test_far_pull(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("scp")
    many = bool(request.config.getoption("--benchmark-enable"))
    home, packed = make_entry(tmp_path, (500 if many else 1) << 20)
    (tmp_path / "ssh").mkdir()
    with hosts_in(tmp_path / "ssh") as hosts:
        monkeypatch.setenv("PATH", use_ssh(tmp_path / "bin", hosts.config))
        scp = f"scp -O -q -S {tmp_path}/bin/ssh {shlex.quote(f'good:{packed}')} {tmp_path}/copy"
        export = shlex.quote(f"{_OCITUI} export app:1 - -C {home}")
        for turn in range(3 if many else 1):
            targets = [tmp_path / f"{name}{turn}" for name in ("pulled", "imported")]
            for target in targets:
                target.mkdir()
            commands = {
                "scp": scp,
                "pull": f"{_OCITUI} pull ssh://good{home} app:1 -C {targets[0]}",
                "export | import": f"ssh good {export} | {_OCITUI} import - -C {targets[1]}",
            }
            for name, command in commands.items():
                wall, cpu = time.perf_counter(), _cpu()
                subprocess.run(command, shell=True, check=True, capture_output=True)
                print(f"{name}: {time.perf_counter() - wall:.2f} s, CPU {_cpu() - cpu:.2f} s")
            for target in targets:
                assert (target / packed.name).read_bytes() == packed.read_bytes()
                (target / packed.name).unlink()


def _cpu() -> float:
    """Of all processes that ended, those of the servers too, which are this one's children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
