"""Packing with mksquashfs, from squashfs-tools 4.5 on."""

from __future__ import annotations

import os
from pathlib import Path

from .layer_errors import MissingToolError, PackerError
from .packer_base import FedPacker, PackOptions, RootDirectory, create_file, find_tool, heard, help_of
from .packer_process import Owner, PackerProcess

# What it says of ``./``, whose metadata it is told otherwise.
_EXPECTED = "Empty tar filename"
_LOST = "Could not resolve hardlink"


class SquashfsPacker(FedPacker):
    """``mksquashfs - FILE -tar``. Raises MissingToolError, PackerError, StorageError."""

    def __init__(self, output: Path, root: RootDirectory, options: PackOptions) -> None:
        super().__init__(output, options)
        tool = find_tool("mksquashfs")
        words = help_of(tool, "-help")
        if "\n-tar\t" not in words:
            raise MissingToolError(
                "mksquashfs here does not read tars",
                hint="install squashfs-tools 4.5 or later, or choose another format",
            )
        if root.xattrs:
            self.warnings.append("mksquashfs cannot keep the extended attributes of the root directory")
        arguments = ["-tar", "-noappend", "-no-progress", "-quiet", "-no-recovery"]
        arguments += _compression(options) + _root(root, words)
        self._process = self._start([tool, "-"], arguments, self._owner(root))

    def _owner(self, root: RootDirectory) -> Owner | None:
        """Version 4.5 gives a tar's root directory to whoever runs it, whatever ``-root-uid`` says."""
        if (root.uid, root.gid) == (os.getuid(), os.getgid()):
            return None
        if os.geteuid() == 0:
            return Owner(root.uid, root.gid)
        self.warnings.append("mksquashfs 4.5 makes its user the owner of the root directory, which is another's")
        return None

    def _start(self, command: list[str], arguments: list[str], owner: Owner | None) -> PackerProcess:
        if owner is None:
            return PackerProcess([*command, str(self._output), *arguments], self._options.patience, fed=True)
        # That owner may not enter the output's directory, so the file is handed over open.
        fd = create_file(self._output)
        try:
            os.fchown(fd, owner.uid, owner.gid)
            command = [*command, f"/proc/self/fd/{fd}", *arguments]
            return PackerProcess(command, self._options.patience, fed=True, owner=owner, keep=fd)
        except BaseException:
            self._output.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    def _end(self) -> None:
        self._process.finish()
        for line in heard(self._process):
            if _LOST in line:
                # It leaves the file out, and ends with 0.
                raise PackerError(f"mksquashfs lost a file: {line}")
            if not line.startswith(_EXPECTED):
                self.warnings.append(line)
        if os.geteuid() == 0:
            os.chown(self._output, os.getuid(), os.getgid())


def _compression(options: PackOptions) -> list[str]:
    compression = options.compression or "gzip"
    level = 6 if options.level is None and compression == "gzip" else options.level
    words = ["-comp", compression, "-mem", f"{options.memory_mib}M"]
    return words if level is None else [*words, "-Xcompression-level", str(level)]


def _root(root: RootDirectory, words: str) -> list[str]:
    """mksquashfs ignores ``./``: these say the same, as far as this version has them."""
    wanted = {"mode": f"{root.mode:o}", "uid": root.uid, "gid": root.gid, "time": root.mtime}
    return [
        word for name, value in wanted.items() if f"-root-{name} " in words for word in (f"-root-{name}", str(value))
    ]
