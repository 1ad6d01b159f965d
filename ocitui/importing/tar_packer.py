"""The tar itself as the packed file."""

from __future__ import annotations

import os
from pathlib import Path

from ocitui.cache import StorageError

from .packer_base import create_file, no_room


class TarPacker:
    """The tar as it is."""

    def __init__(self, output: Path, size: int) -> None:
        self.warnings: list[str] = []
        self._output = output
        free = os.statvfs(output.parent)
        if free.f_bavail * free.f_frsize < size:
            raise no_room(output)
        self._fd = create_file(output)

    def write(self, data: memoryview) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise StorageError(f"cannot write {self._output}: {error.strerror}") from error

    def finish(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise StorageError(f"cannot write {self._output}: {error.strerror}") from error
        os.close(self._fd)

    def abort(self) -> None:
        os.close(self._fd)
        self._output.unlink(missing_ok=True)
