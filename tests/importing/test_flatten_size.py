"""Layers of very many entries, and what the process that flattens them takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from ocitui.contents.tar_headers import Kind
from ocitui.importing.layers.flatten import END, tar_header
from tests.importing.layer_support import layer_source
from tests.tools import ROOT

pytestmark = pytest.mark.slow

FEW = 1000

FLATTEN = """
import sys
from pathlib import Path
from ocitui.importing.layers.flatten import flattening
from ocitui.importing.layers.layers import LayerLimits, LayerSource
from ocitui.importing.layers.tree import Counter

path, digest, size = sys.argv[1:]
with flattening([LayerSource(Path(path), digest, int(size), digest)], LayerLimits(), Counter()) as image:
    image.write(lambda data: None, Counter())
    # Of this program alone: getrusage(2) would count whoever started it.
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    print(len(image.plan.tree), peak.split()[1])
"""


def peak_of(count: int, path: Path) -> int:
    """The most bytes that flattening a layer of so many entries takes."""
    with open(path, "wb") as layer:
        for number in range(count):
            name = b"some/directory/%05d/of/its/own/file-%07d" % (number // 50, number)
            layer.write(tar_header(name, Kind.FILE, 0o644, 0, 0, 0, 1_500_000_000 + number))
        layer.write(END)
    source = layer_source(path)
    command = [sys.executable, "-c", FLATTEN, str(path), source.digest, str(source.size)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    entries, peak = map(int, done.stdout.split())
    assert entries > count
    return peak * 1024


@pytest.mark.parametrize(("count", "most_bytes"), [(60_000, 360), pytest.param(1_000_000, 280, marks=pytest.mark.long)])
def test_memory_is_bounded_by_the_number_of_entries(count: int, most_bytes: int, tmp_path: Path) -> None:
    """So many bytes for each, of which the tables that grow by steps are a larger part where there are fewer; the
    default limit allows a million."""
    assert peak_of(count, tmp_path / "many.tar") - peak_of(FEW, tmp_path / "few.tar") < count * most_bytes
