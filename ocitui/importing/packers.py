"""From a tar stream to a packed file: squashfs, erofs, or the tar itself."""

from __future__ import annotations

import os
from pathlib import Path

from ocitui.cache import PackedFormat

from .erofs_packer import erofs_packer
from .layer_errors import PackerError
from .packer_base import Packer, PackOptions, RootDirectory
from .squashfs_packer import SquashfsPacker
from .tar_packer import TarPacker


def start_packer(format: PackedFormat, output: Path, root: RootDirectory, size: int, options: PackOptions) -> Packer:
    """A packer that takes a tar of ``size`` bytes. Raises MissingToolError, PackerError, StorageError."""
    if os.path.lexists(output):
        raise PackerError(f"{output} is there already")
    if format is PackedFormat.TAR:
        return TarPacker(output, size)
    if format is PackedFormat.SQUASHFS:
        return SquashfsPacker(output, root, options)
    return erofs_packer(output, options)
