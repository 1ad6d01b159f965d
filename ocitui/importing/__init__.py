"""Bringing images into a cache: packed files, with their manifest and config.

`inspect_packed` says what is there and what speaks against it, `import_packed` brings it in.
"""

from ocitui.importing.errors import NamedOtherwiseError, NoRoomError, SourceError, UnsupportedSourceError
from ocitui.importing.sources.opening import PackedFiles, find_packed_files
from ocitui.importing.sources.packed import PackedSource, import_packed, inspect_packed
from ocitui.importing.staging import Progress

__all__ = [
    "NamedOtherwiseError",
    "NoRoomError",
    "PackedFiles",
    "PackedSource",
    "Progress",
    "SourceError",
    "UnsupportedSourceError",
    "find_packed_files",
    "import_packed",
    "inspect_packed",
]
