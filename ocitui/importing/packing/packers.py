"""From a tar stream to a packed file: squashfs, erofs, or the tar itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ocitui.cache import PackedFormat, StorageError

from ..errors import MissingToolError, PackerError
from .packer_base import (
    FedPacker,
    Owner,
    Packer,
    PackerProcess,
    PackOptions,
    RootDirectory,
    create_file,
    find_tool,
    heard,
    help_of,
    no_room,
)

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


def start_packer(format: PackedFormat, output: Path, root: RootDirectory, size: int, options: PackOptions) -> Packer:
    """A packer that takes a tar of ``size`` bytes. Raises MissingToolError, PackerError, StorageError."""
    if os.path.lexists(output):
        raise PackerError(f"{output} is there already")
    if format is PackedFormat.TAR:
        return TarPacker(output, size)
    if format is PackedFormat.SQUASHFS:
        return SquashfsPacker(output, root, options)
    return erofs_packer(output, options)
