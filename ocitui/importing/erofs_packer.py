"""Packing with mkfs.erofs, which reads tars from erofs-utils 1.7 on; before that, from an unpacked tree."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ocitui.cache import StorageError

from .layer_errors import MissingToolError, PackerError
from .packer_base import FedPacker, Packer, PackOptions, find_tool, heard, help_of
from .packer_process import PackerProcess

# All that the tar says, taken literally; links are made at once, as nobody else can write there.
_UNTAR = (
    "--extract",
    "--file=-",
    "--numeric-owner",
    "--same-owner",
    "--preserve-permissions",
    "--xattrs",
    "--xattrs-include=*",
    "--absolute-names",
    "--delay-directory-restore",
    "--directory",
)


def erofs_packer(output: Path, options: PackOptions) -> Packer:
    """The way that this machine's mkfs.erofs allows. Raises MissingToolError, PackerError, StorageError."""
    tool = find_tool("mkfs.erofs")
    words = help_of(tool, "--help")
    command = [tool, *_options(options, words)]
    if "--tar" in words:
        return _ErofsPacker(output, options, command)
    return _UnpackingErofsPacker(output, options, command)


class _ErofsPacker(FedPacker):
    """``mkfs.erofs --tar=f FILE``: without a source it reads its input."""

    def __init__(self, output: Path, options: PackOptions, command: list[str]) -> None:
        super().__init__(output, options)
        self._process = PackerProcess([*command, "--tar=f", str(output)], options.patience, fed=True)


class _UnpackingErofsPacker(FedPacker):
    """The tar is unpacked beside the output, in a directory that nobody else enters, then packed from there."""

    def __init__(self, output: Path, options: PackOptions, command: list[str]) -> None:
        super().__init__(output, options)
        if os.geteuid() != 0:
            raise MissingToolError(
                "mkfs.erofs here does not read tars, and only root can unpack an image for it",
                hint="install erofs-utils 1.7 or later, run as root, or choose another format",
            )
        untar = [find_tool("tar"), *_UNTAR]
        self._private = private_directory(output)
        tree = self._private / "root"
        self._command = [*command, str(output), str(tree)]
        try:
            self._private.mkdir(0o700)
            tree.mkdir()
            self._process = PackerProcess([*untar, str(tree)], options.patience, fed=True)
        except OSError as error:
            self._clear()
            raise StorageError(f"cannot unpack into {self._private}: {error.strerror}") from error
        except PackerError:
            self._clear()
            raise

    def finish(self) -> None:
        super().finish()
        self._clear()

    def abort(self) -> None:
        super().abort()
        self._clear()

    def _end(self) -> None:
        self._process.finish()
        self.warnings += heard(self._process)
        self._process = PackerProcess(self._command, self._options.patience, fed=False)
        super()._end()

    def _clear(self) -> None:
        shutil.rmtree(self._private, ignore_errors=True)


def private_directory(output: Path) -> Path:
    """Where a packer of this output may unpack: removed with it, whoever ends it."""
    return output.with_name(f".{output.name}.tree")


def _options(options: PackOptions, words: str) -> list[str]:
    """What this version has of them."""
    level = "" if options.level is None else f",{options.level}"
    compression = [] if options.compression is None else [f"-z{options.compression}{level}"]
    # Without it some versions give all files one time.
    return compression + [word for word in ("--quiet", "--preserve-mtime") if word in words]
