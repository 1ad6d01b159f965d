"""The pane's summary: what an image says of itself, in the room that there is."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from ocitui.cache import FileKind, Ledger, RecordedSource
from ocitui.tui.summary import _origin, _users, labelled
from tests.tui.cache_support import Image, make_cache
from tests.tui.screen_support import WIDE, desk

_COMMON = "org.opencontainers.image."
_LABELS = {
    f"{_COMMON}revision": "9f31c2e07d",
    "maintainer": "ann",
    f"{_COMMON}description": "A queue",
    f"{_COMMON}source": "https://git.example.com/queue",
}


def test_what_most_labels_begin_with_is_said_once() -> None:
    lines = [(line.label, line.text) for line in labelled("labels", _LABELS)]
    assert lines == [
        ("labels", "maintainer=ann"),
        (" ", _COMMON),
        ("revision", "9f31c2e07d"),
        (" ", "description=A queue"),
        ("source", "https://git.example.com/queue"),
    ]
    assert [line.label for line in labelled("says", {f"{_COMMON}title": "x"})] == ["says", "title"]
    assert list(labelled("labels", {})) == []


def test_one_look_at_the_loop_devices_serves_who_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Mock(return_value=[])
    monkeypatch.setattr("ocitui.host.loop_devices._loops", look)
    assert list(_users(tmp_path, {FileKind.PACKED: "sha256:abc.squashfs"})) == []
    look.assert_called_once()


@pytest.mark.slow
async def test_a_long_label_takes_no_column_from_the_others(tmp_path: Path) -> None:
    image = Image("queue:7.2", labels=_LABELS)
    async with desk(make_cache(tmp_path / "image", [image]), WIDE) as one:
        await one.until(lambda: "description=A queue" in one.text, "the labels")
        [row] = [line for line in one.text.split("\n") if "description=A queue" in line]
        [other] = [line for line in one.text.split("\n") if "maintainer=ann" in line]
        assert row.index("description") == other.index("maintainer")


def test_what_packed_an_image_stands_below_where_it_came_from(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.record_source("a.tar", RecordedSource("oci:/layout", packer="ocitui tar"))
    ledger.record_source("b.tar", RecordedSource("oci:/layout"))
    told = {file: [(line.label, line.text) for line in _origin(tmp_path, file, ledger)] for file in ("a.tar", "b.tar")}
    assert ("packer", "ocitui tar") in told["a.tar"]
    assert "packer" not in dict(told["b.tar"])
