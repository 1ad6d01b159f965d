"""The formats of packed files, and which reader each has."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import BinaryIO

from ocitui.cache import PackedFormat
from ocitui.stand_in import refuse_told
from ocitui.threads import Stop

from .tree import PackedTree


def open_tree(file: BinaryIO, format: PackedFormat, stop: Stop) -> PackedTree:
    """The tree inside an open packed file, which is to stay open as long as bodies are read. Only the reader of its
    format is imported. Raises DamagedError, UnreadableFormatError, OSError; AbandonedError once ``stop`` is set."""
    refuse_told(file.fileno())
    reader = import_module(f".{format}", __package__)
    read: Callable[[BinaryIO, Stop], PackedTree] = getattr(reader, f"{format}_tree")
    return read(file, stop)
