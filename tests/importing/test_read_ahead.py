"""Chunks that are made ahead in a thread: the same as without it, errors too, and no thread is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ocitui.importing.errors import LayerError
from ocitui.importing.layers.layers import read_ahead


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("made-ahead")]


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_the_same_chunks(count: int) -> None:
    chunks = [b"%d" % number for number in range(count)]
    with read_ahead(iter(chunks)) as ahead:
        assert list(ahead) == chunks
        assert list(ahead) == []
    assert threads() == []


def cut() -> Iterator[bytes]:
    yield b"a"
    raise LayerError("its gzip data are cut")


def test_errors_come_after_what_was_before_them() -> None:
    with read_ahead(cut()) as ahead:
        assert next(ahead) == b"a"
        with pytest.raises(LayerError, match="cut"):
            next(ahead)
    assert threads() == []


def test_it_runs_ahead_only_so_far() -> None:
    made = []

    def endless() -> Iterator[bytes]:
        while True:
            made.append(1)
            yield bytes(10)

    with read_ahead(endless()) as ahead:
        for _ in range(100):
            next(ahead)
        assert threads()
        assert len(made) <= 110
    assert threads() == []
    assert len(made) <= 110


def test_closing_without_taking_anything() -> None:
    with read_ahead(iter([b"x"] * 1000)), read_ahead(cut()):
        pass
    assert threads() == []
