"""Which loop devices hold packed files of a cache open, also files that are deleted by now, which can be read back.

The kernel tells in sysfs (Documentation/ABI/testing/sysfs-block-loop) the path of each device's file, which ends with
`` (deleted)`` once no name leads to it any more. LOOP_GET_STATUS64 (loop(4)) tells the file's device and inode, which
hold where a bind mount or a link gives the cache another path; without the right to open the device they are not known.

A device has whole sectors only: of a file whose size is no multiple of 512 its last bytes are not to be had. What
packers write is padded to more; the superblock, or a recorded sha256, says whether all of it came back.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import msgspec

from ocitui.cache import READ_FLAGS, StorageError, read_kernel_file
from ocitui.stand_in import fact_of

SECTOR = 512
_GET_STATUS64 = 0x4C05
# linux/loop.h, struct loop_info64: device, inode, offset and size limit are all that matters here.
_STATUS = struct.Struct("=2Q8x2Q192x")
_DELETED = " (deleted)"
_CHUNK = 1 << 20
_LOOP = re.compile(r"loop([0-9]+)")
_OCTAL = re.compile(r"\\([0-7]{3})")
_MOUNT_DEVICE, _MOUNT_POINT = 2, 4


class LoopUse(msgspec.Struct, frozen=True):
    """A loop device, ``device`` its node, and the file it holds: ``path`` as the kernel tells it, ``identity`` its
    device and inode, None where they cannot be had: then the path alone tells which file it is. ``readable_size`` is
    how many bytes the device gives: the file's size without the odd bytes of its last sector, or less where the device
    is ``partial``, set up to show a part of it. ``mounts`` are where it is mounted, as far as this process sees,
    ``holders`` the devices on top of it; a guest that has it for a disk shows in neither."""

    device: Path
    path: str
    deleted: bool
    read_only: bool
    readable_size: int
    partial: bool = False
    mounts: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    identity: tuple[int, int] | None = None


Loops = Mapping[str, Sequence[LoopUse]]
"""Loop devices by the names of the files they hold, as `users_of` gives them."""


class Kernel(msgspec.Struct, frozen=True):
    """Where the kernel tells of its devices; a test gives others."""

    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    proc: Path = Path("/proc")


def users_of(directory: Path, kernel: Kernel | None = None) -> dict[str, list[LoopUse]]:
    """The uses of each file in the cache, by its path below ``directory``: its name, or the one that it had, or a path
    in the trash. What cannot be read is left out. What is told of another host's are those, unless a ``kernel`` is to
    tell."""
    there: dict[str, list[LoopUse]] | None = None if kernel else fact_of(directory, "loops")
    if there is not None:
        return there
    kernel = kernel or Kernel()
    if not (loops := _loops(kernel.sys)):
        return {}
    place, mounts = _Place(directory), _mounts(kernel.proc)
    users: dict[str, list[LoopUse]] = defaultdict(list)
    for block in loops:
        if (use := _use(block, kernel, mounts)) is not None and (name := place.name_of(use)) is not None:
            users[name].append(use)
    return dict(users)


def read_back(use: LoopUse, write: Callable[[bytes], object], size: int | None = None) -> int:
    """Read the file that a device holds from its first byte on; gives the number of bytes: ``size``, the file's where
    it is known, else all that the device gives. Its superblock or sha256 is to be checked. Raises StorageError where
    the device holds another file by now, shows only a part of it or not as much, or cannot be read."""
    if use.partial:
        raise StorageError(f"{use.device} shows only a part of {use.path}")
    size = use.readable_size if size is None else size
    if size > use.readable_size:
        raise StorageError(
            f"{use.device} gives {use.readable_size} of {size} bytes",
            hint=f"a loop device has no last sector that is not whole: {SECTOR} bytes",
        )
    done = 0
    try:
        with open(os.open(use.device, READ_FLAGS), "rb", buffering=0) as device:
            status = _status(device.fileno())
            if use.identity is not None and (status is None or status.identity != use.identity):
                raise StorageError(f"{use.device} holds another file by now", hint="look again which device holds it")
            while done < size:
                chunk = device.read(min(_CHUNK, size - done))
                if not chunk:
                    raise StorageError(f"{use.device} ends after {done} of {size} bytes")
                write(chunk)
                done += len(chunk)
    except OSError as error:
        raise StorageError(
            f"cannot read {use.path} back from {use.device}: {error.strerror}", hint="start ocitui as root"
        ) from error
    return done


class _Status(msgspec.Struct, frozen=True):
    identity: tuple[int, int]
    partial: bool


def _status(fd: int) -> _Status | None:
    """What LOOP_GET_STATUS64 tells; None for what is no loop device, or holds nothing."""
    buffer = bytearray(_STATUS.size)
    try:
        fcntl.ioctl(fd, _GET_STATUS64, buffer)
    except OSError:
        return None
    device, inode, offset, limit = _STATUS.unpack(buffer)
    return _Status((device, inode), bool(offset or limit))


class _Place:
    """The cache directory, known by its device and inode under whatever path."""

    def __init__(self, directory: Path) -> None:
        self._real = os.path.realpath(directory)
        self._stat = _stat(self._real)

    def name_of(self, use: LoopUse) -> str | None:
        """The path below the directory of the file that a device holds; None for a file of elsewhere."""
        name = self._by_path(use.path)
        if use.identity is None or use.deleted:
            return name
        found = None if name is None else _stat(os.path.join(self._real, name))
        if found is not None and (found.st_dev, found.st_ino) == use.identity:
            return name
        device, inode = use.identity
        return self._names_by_inode.get(inode) if self._stat and device == self._stat.st_dev else None

    def _by_path(self, path: str) -> str | None:
        real = os.path.realpath(path)
        if real.startswith(f"{self._real}/"):
            return real.removeprefix(f"{self._real}/")
        parent = _stat(os.path.dirname(path))
        same = parent is not None and self._stat is not None and os.path.samestat(parent, self._stat)
        return os.path.basename(path) if same else None

    @cached_property
    def _names_by_inode(self) -> dict[int, str]:
        """Every name of the directory itself; asked for only where a path does not tell."""
        with suppress(OSError), os.scandir(self._real) as found:
            return {item.inode(): item.name for item in found}
        return {}


def _stat(path: str) -> os.stat_result | None:
    with suppress(OSError, ValueError):
        return os.stat(path)
    return None


def _loops(sys: Path) -> list[Path]:
    """The loop devices that hold something, in the order of their numbers."""
    blocks = os.path.join(sys, "block")
    numbers = sorted(int(found[1]) for name in _names(blocks) if (found := _LOOP.fullmatch(name)))
    return [Path(f"{blocks}/loop{at}") for at in numbers if os.path.exists(f"{blocks}/loop{at}/loop/backing_file")]


def _use(block: Path, kernel: Kernel, mounts: dict[str, list[str]]) -> LoopUse | None:
    """What a device holds; None where it holds nothing, or cannot be asked."""
    path = _read(block / "loop" / "backing_file").removesuffix("\n")
    sectors = _read(block / "size").strip()
    if not path or not sectors.isdecimal():
        return None
    device = kernel.dev / block.name
    status = _ask(device)
    # A file may really be called so.
    deleted = path.endswith(_DELETED) and not os.path.lexists(path)
    return LoopUse(
        device,
        path.removesuffix(_DELETED) if deleted else path,
        deleted,
        _read(block / "ro").strip() == "1",
        int(sectors) * SECTOR,
        status.partial if status else _read(block / "loop" / "offset").strip() not in ("", "0"),
        tuple(mounts.get(_read(block / "dev").strip(), ())),
        tuple(_names(block / "holders")),
        status.identity if status else None,
    )


def _ask(device: Path) -> _Status | None:
    with suppress(OSError), open(os.open(device, READ_FLAGS), "rb", buffering=0) as opened:
        return _status(opened.fileno())
    return None


def _mounts(proc: Path) -> dict[str, list[str]]:
    """Mount points by ``major:minor``, as proc(5) lists them for this process."""
    mounts: dict[str, list[str]] = defaultdict(list)
    for line in _read(proc / "self" / "mountinfo").splitlines():
        fields = line.split(" ")
        if len(fields) > _MOUNT_POINT:
            mounts[fields[_MOUNT_DEVICE]].append(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[_MOUNT_POINT]))
    return mounts


def _names(folder: Path | str) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def _read(path: Path) -> str:
    return read_kernel_file(path, "surrogateescape")
