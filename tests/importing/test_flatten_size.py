"""Layers of very many entries, and what the process that flattens them takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocitui.importing.tar_headers import Kind
from ocitui.importing.tar_writer import END, header

# The ordinary run takes a fifth of the million that the default limit allows.
COUNT = int(os.environ.get("OCITUI_MANY_ENTRIES", "200000"))
# The interpreter with all modules.
BASE_MIB = 60
BYTES_PER_ENTRY = 260

FLATTEN = """
import sys
from pathlib import Path
from ocitui.importing.flatten import Flattening
from ocitui.importing.layers import LayerSource
from ocitui.importing.limits import LayerLimits
from ocitui.importing.merge import Counter

with Flattening([LayerSource(Path(sys.argv[1]))], LayerLimits(), Counter()) as flattening:
    flattening.write(lambda data: None, Counter())
    # Of this program alone: getrusage(2) would count whoever started it.
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    print(flattening.plan.entries, peak.split()[1])
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.tar"
    with open(path, "wb") as layer:
        for number in range(COUNT):
            name = b"some/directory/%05d/of/its/own/file-%07d" % (number // 50, number)
            layer.write(header(name, Kind.FILE, 0o644, 0, 0, 0, 1_500_000_000 + number))
        layer.write(END)
    return path


def test_memory_is_bounded_by_the_number_of_entries(many: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FLATTEN, str(many)],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    entries, peak = map(int, done.stdout.split())
    assert entries > COUNT
    assert peak / 1024 < BASE_MIB + entries * BYTES_PER_ENTRY / (1 << 20)
