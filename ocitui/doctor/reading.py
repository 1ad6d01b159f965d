"""Reading whole files: hashed as they go by, past the page cache where it is to be sure, and last in the queue."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

CHUNK = 1 << 20
"""Bytes read at once."""
# ioprio_set(2) has no wrapper in the C library; its number differs by machine.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "i686": 289, "ppc64le": 273, "s390x": 282}
_WHO_PROCESS, _CLASS_IDLE, _CLASS_SHIFT = 1, 3, 13


def hash_file(file: BinaryIO, passed: Callable[[int], object]) -> str:
    """The sha256 of an unbuffered file from where it is, in hexadecimal digits; ``passed`` is called with the number of
    bytes after each read. Raises OSError."""
    hashing, buffer = hashlib.sha256(), bytearray(CHUNK)
    view = memoryview(buffer)
    while True:
        size = file.readinto(buffer)  # type: ignore[attr-defined]
        if not size:
            return hashing.hexdigest()
        hashing.update(view[:size])
        passed(size)


def hash_past_cache(path: str, directory: int, passed: Callable[[int], object]) -> str:
    """The sha256 of what the disk itself holds, as far as the file system lets the page cache be passed by.

    Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(fd, "rb", buffering=0) as file:
        with suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            direct = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return hash_file(file, passed)
        with open(direct, "rb", buffering=0) as unbuffered:
            return _hash_direct(unbuffered, passed)


def _hash_direct(file: BinaryIO, passed: Callable[[int], object]) -> str:
    """O_DIRECT wants memory that begins at a page, which a mapping does."""
    hashing = hashlib.sha256()
    with mmap.mmap(-1, CHUNK) as buffer, memoryview(buffer) as view:
        while True:
            size = file.readinto(buffer)  # type: ignore[attr-defined]
            if not size:
                return hashing.hexdigest()
            hashing.update(view[:size])
            passed(size)


def be_idle() -> bool:
    """Let this thread, and what it starts, read only when nobody else does; False where that is not to be had."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is None:
        return False
    idle = _CLASS_IDLE << _CLASS_SHIFT
    return bool(ctypes.CDLL(None, use_errno=True).syscall(number, _WHO_PROCESS, 0, idle) == 0)
