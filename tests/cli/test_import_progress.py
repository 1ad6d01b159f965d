"""The progress of an import, as a line."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cli.output import cell_width
from ocitui.cli.progress import progress_text
from ocitui.importing.progress import ImportPhase, ImportProgress, LayerProgress
from ocitui.text import human_span

MIB = 1 << 20
LAYERS = (LayerProgress("a", MIB, MIB), LayerProgress("b", MIB, 4 * MIB))
DOWNLOAD = ImportProgress(
    ImportPhase.DOWNLOAD, 2 * MIB, 5 * MIB, layers=LAYERS, layers_total=2, rate=float(MIB), left=3.0
)
PACK = ImportProgress(
    ImportPhase.WRITE, MIB, 4 * MIB, files=7, files_total=90, layer=1, layers_total=2, rate=2e6, left=4000.0
)
NOTE = "registry.example.com:5000 answers 429 Too Many Requests; trying again in 16 s"


@pytest.mark.parametrize(
    ("now", "seconds", "idle", "text"),
    [
        (DOWNLOAD, 9, 0, "download  2.0M of 5.0M  1 of 2 layers  1.0M/s  3s left"),
        (DOWNLOAD, 9, 12, "download  2.0M of 5.0M  1 of 2 layers  nothing for 12s"),
        (PACK, 9, 0, "pack  1.0M of 4.0M  layer 1 of 2  7 of 90 files  1.9M/s  1h06m left"),
        (ImportProgress(ImportPhase.READ, 1, 2, files=1, layer=1, layers_total=1), 9, 0,
         "read layers  1B of 2B  layer 1 of 1  1 file"),
        (ImportProgress(ImportPhase.FINISH, files=90, files_total=90), 75, 0, "finish  90 of 90 files  1m15s"),
        (ImportProgress(ImportPhase.INSPECT), 0, 0, "inspect"),
        (ImportProgress(ImportPhase.INSPECT, note=NOTE), 0, 0, f"inspect  {NOTE}"),
    ],
)  # fmt: skip
def test_what_it_says(now: ImportProgress, seconds: float, idle: float, text: str) -> None:
    assert progress_text(now, seconds, idle, 120) == text


def test_what_leaves_a_narrow_terminal_first() -> None:
    drawn = [progress_text(PACK, 9, 0, width) for width in range(80, 10, -1)]
    assert [text for text, _ in itertools.groupby(drawn)] == [
        "pack  1.0M of 4.0M  layer 1 of 2  7 of 90 files  1.9M/s  1h06m left",
        "pack  1.0M of 4.0M  layer 1 of 2  1.9M/s  1h06m left",
        "pack  1.0M of 4.0M  1.9M/s  1h06m left",
        "pack  1.0M of 4.0M  1h06m left",
        "pack  1.0M of 4.0M",
        "pack",
    ]


def test_when_it_is_tried_again_is_cut_last() -> None:
    waiting = ImportProgress(ImportPhase.DOWNLOAD, 1, 2, note=NOTE)
    assert progress_text(waiting, 0, 0, 79) == NOTE
    assert progress_text(waiting, 0, 0, 60) == "registry.example.com:5000 answers 429…; trying again in 16 s"
    assert progress_text(waiting, 0, 0, 20) == "trying again in 16 s"


@given(
    st.builds(
        ImportProgress,
        st.sampled_from(ImportPhase),
        done=st.integers(0, 1 << 60),
        total=st.integers(0, 1 << 60),
        files=st.integers(0, 10**9),
        files_total=st.integers(0, 10**9),
        layers=st.just(LAYERS) | st.just(()),
        layer=st.integers(0, 200),
        rate=st.none() | st.floats(0, 1e12),
        left=st.none() | st.floats(0, 1e12),
        note=st.sampled_from(["", NOTE, "x" * 300]),
    ),
    st.integers(1, 200),
)
def test_it_fits(now: ImportProgress, width: int) -> None:
    assert cell_width(progress_text(now, 5, 0, width)) <= width


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.2, "1s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (7260, "2h01m")]
)
def test_spans(seconds: float, text: str) -> None:
    assert human_span(seconds) == text
