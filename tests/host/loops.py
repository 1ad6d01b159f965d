"""Real loop devices, where this machine has them and lets the tests set them up: loop(4)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.host.loop_devices import LoopUse

_SET_FD, _CLEAR_FD, _GET_FREE = 0x4C00, 0x4C01, 0x4C82
_TRIES = 5


def uses_of(held: Mapping[str, Sequence[str]]) -> dict[str, list[LoopUse]]:
    """As `users_of` gives them: of each file the devices, by their paths, that hold it for a guest."""
    return {
        name: [LoopUse(Path(device), f"/cache/{name}", False, True, 512) for device in devices]
        for name, devices in held.items()
    }


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """A device that holds a file, read-only; the test is skipped where none is to be had, as in most containers."""
    backing = os.open(file, os.O_RDONLY)
    try:
        device, fd = _attach(backing)
    except OSError as error:
        pytest.skip(f"no loop devices here: {error}")
    finally:
        os.close(backing)
    try:
        yield device
    finally:
        fcntl.ioctl(fd, _CLEAR_FD)
        os.close(fd)


def _attach(backing: int) -> tuple[Path, int]:
    """Another program may take the free device first."""
    for tries_left in reversed(range(_TRIES)):
        control = os.open("/dev/loop-control", os.O_RDWR)
        try:
            device = Path(f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}")
        finally:
            os.close(control)
        fd = os.open(device, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SET_FD, backing)
        except OSError:
            os.close(fd)
            if not tries_left:
                raise
        else:
            return device, fd
    raise AssertionError
