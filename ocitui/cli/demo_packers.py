"""A root filesystem packed into one file, by whatever packer is there; a tar needs none."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from .demo_images import EPOCH, Files, directories, make_tar

_TIMEOUT_SECONDS = 20
_UUID = "00000000-0000-4000-8000-000000000000"


def pack(files: Files, wanted: str, target: Path, packers: bool) -> str:
    """Pack ``files`` as ``wanted``, or as a tar where that cannot be done; gives the format.

    ``target`` is the file's path without the format's extension.
    """
    made = Path(f"{target}.{wanted}")
    if packers and wanted in _PACKERS:
        with suppress(OSError, subprocess.SubprocessError):
            _PACKERS[wanted](files, made)
            return wanted
        made.unlink(missing_ok=True)
    Path(f"{target}.tar").write_bytes(make_tar(files))
    return "tar"


def _squashfs(files: Files, target: Path) -> None:
    options = [
        "-tar",
        "-noappend",
        "-no-progress",
        "-quiet",
        "-processors",
        "1",
        "-mkfs-time",
        str(EPOCH),
        "-all-time",
        str(EPOCH),
    ]
    owner = ["-root-mode", "755", "-root-uid", "0", "-root-gid", "0"]
    _run(["mksquashfs", "-", str(target), *options, *owner], make_tar(files))


def _erofs(files: Files, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ocitui-demo-root-") as root:
        _unpack(files, Path(root))
        _run(["mkfs.erofs", "-T", str(EPOCH), "-U", _UUID, "--all-root", str(target), root])


def _run(command: list[str], data: bytes = b"") -> None:
    """Raises OSError, SubprocessError."""
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(command[0])
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    subprocess.run(command, input=data, capture_output=True, check=True, timeout=_TIMEOUT_SECONDS, env=environment)


def _unpack(files: Files, root: Path) -> None:
    for path in directories(files):
        (root / path).mkdir(mode=0o755)
    for path, data in files.items():
        (root / path).write_bytes(data)
        (root / path).chmod(0o755 if "bin/" in path else 0o644)


_PACKERS = {"squashfs": _squashfs, "erofs": _erofs}
