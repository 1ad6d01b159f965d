"""Who holds a packed file by a loop device, and how a deleted one is read back."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ocitui.cache import StorageError
from ocitui.cache.files import check_packed
from ocitui.host.loop_devices import Kernel, LoopUse, _Place, read_back, users_of
from tests.doctor.examine_support import Sample
from tests.host.loops import loop_device

NAME = "sha256:abc.squashfs"


class FakeKernel:
    """A /sys, /dev and /proc in which devices hold what the test says."""

    def __init__(self, root: Path) -> None:
        self.kernel = Kernel(root / "sys", root / "dev", root / "proc")
        (root / "sys" / "block").mkdir(parents=True)
        (root / "dev").mkdir()
        (root / "proc" / "self").mkdir(parents=True)
        (root / "proc" / "self" / "mountinfo").write_text(
            "36 35 7:3 / /mnt/a\\040b ro - squashfs /dev/loop3 ro\nshort\n"
        )

    def add(self, number: int, backing: str | Path, *, sectors: int = 8, ro: int = 1, offset: int = 0) -> None:
        block = self.kernel.sys / "block" / f"loop{number}"
        (block / "loop").mkdir(parents=True)
        (block / "holders" / "dm-0").mkdir(parents=True)
        for name, text in {
            "loop/backing_file": str(backing), "loop/offset": str(offset), "size": str(sectors), "ro": str(ro),
            "dev": f"7:{number}",
        }.items():  # fmt: skip
            (block / name).write_text(f"{text}\n")


@pytest.fixture
def fake(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path / "kernel")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    (directory / NAME).write_bytes(bytes(4096))
    return directory


def test_the_devices_of_a_file(fake: FakeKernel, cache: Path) -> None:
    fake.add(12, cache / NAME, ro=0)
    fake.add(3, cache / NAME)
    fake.add(4, "/var/lib/other.img")
    (fake.kernel.sys / "block" / "loop5").mkdir()
    (fake.kernel.sys / "block" / "sda").mkdir()
    found = users_of(cache, fake.kernel)
    assert list(found) == [NAME]
    third, twelfth = found[NAME]
    assert third == LoopUse(
        fake.kernel.dev / "loop3", str(cache / NAME), False, True, 4096, mounts=("/mnt/a b",), holders=("dm-0",)
    )
    assert (twelfth.device.name, twelfth.read_only, twelfth.mounts) == ("loop12", False, ())


def test_a_deleted_file_stands_under_the_name_it_had(fake: FakeKernel, cache: Path) -> None:
    fake.add(0, f"{cache / NAME} (deleted)")
    (use,) = users_of(cache, fake.kernel)[NAME]
    assert use.deleted
    assert use.path == str(cache / NAME)


def test_a_file_that_is_really_called_so(fake: FakeKernel, cache: Path) -> None:
    (cache / f"{NAME} (deleted)").write_bytes(b"x")
    fake.add(0, f"{cache / NAME} (deleted)")
    (use,) = users_of(cache, fake.kernel)[f"{NAME} (deleted)"]
    assert not use.deleted


def test_a_file_of_another_disk_with_the_same_inode_is_another(cache: Path) -> None:
    found, place = (cache / NAME).stat(), _Place(cache)
    for device, name in ((found.st_dev, NAME), (found.st_dev + 1, None)):
        use = LoopUse(Path("/dev/loop3"), "/elsewhere/x", False, True, 512, identity=(device, found.st_ino))
        assert place.name_of(use) == name


def test_a_file_in_the_trash_stands_under_its_path(fake: FakeKernel, cache: Path) -> None:
    (cache / ".ocitui" / "trash").mkdir(parents=True)
    (cache / ".ocitui" / "trash" / "1~x").write_bytes(b"x")
    fake.add(0, cache / ".ocitui" / "trash" / "1~x")
    assert list(users_of(cache, fake.kernel)) == [".ocitui/trash/1~x"]


@pytest.mark.parametrize("suffix", ["", " (deleted)"])
def test_a_cache_under_another_path(fake: FakeKernel, cache: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "link").symlink_to(cache)
    fake.add(0, f"{tmp_path / 'link' / NAME}{suffix}")
    assert list(users_of(cache, fake.kernel)) == [NAME]
    assert list(users_of(tmp_path / "link", fake.kernel)) == [NAME]


def test_a_neighbour_of_the_cache_is_not_of_it(fake: FakeKernel, cache: Path) -> None:
    fake.add(0, f"{cache}2/{NAME}")
    assert users_of(cache, fake.kernel) == {}


def test_no_kernel_that_tells_anything(tmp_path: Path, cache: Path) -> None:
    assert users_of(cache, Kernel(tmp_path / "a", tmp_path / "b", tmp_path / "c")) == {}


def test_a_part_of_a_file_is_not_read_back(fake: FakeKernel, cache: Path, tmp_path: Path) -> None:
    fake.add(0, cache / NAME, offset=512)
    (use,) = users_of(cache, fake.kernel)[NAME]
    with pytest.raises(StorageError, match="only a part"):
        read_back(use, bytes)


def test_more_than_the_device_has_is_not_read_back(fake: FakeKernel, cache: Path) -> None:
    fake.add(0, cache / NAME)
    (use,) = users_of(cache, fake.kernel)[NAME]
    with pytest.raises(StorageError, match="4096 of 4097 bytes"):
        read_back(use, bytes, 4097)
    with pytest.raises(StorageError, match="cannot read"):
        read_back(use, bytes)


def test_a_device_that_ends_too_early(fake: FakeKernel, cache: Path, tmp_path: Path) -> None:
    fake.add(0, cache / NAME)
    (use,) = users_of(cache, fake.kernel)[NAME]
    use.device.write_bytes(b"short")
    with open(tmp_path / "target", "wb") as target, pytest.raises(StorageError, match="ends after 5 of 4096"):
        read_back(use, target.write)


def test_a_real_device_and_what_it_holds_of_a_deleted_file(sample: Sample, tmp_path: Path) -> None:
    packed = sample.file("squashfs")
    content = packed.read_bytes()
    with loop_device(packed) as device:
        (use,) = users_of(sample.directory)[packed.name]
        found = packed.stat()
        assert (use.device, use.identity, use.deleted) == (device, (found.st_dev, found.st_ino), False)
        assert (use.read_only, use.partial, use.readable_size) == (True, False, len(content))
        packed.unlink()
        (use,) = users_of(sample.directory)[packed.name]
        assert use.deleted
        with open(tmp_path / "back", "wb") as target:
            assert read_back(use, target.write) == len(content)
    assert (tmp_path / "back").read_bytes() == content
    assert check_packed(tmp_path / "back").problem is None
    assert users_of(sample.directory) == {}


def test_a_real_device_that_holds_another_file_by_now(sample: Sample) -> None:
    with loop_device(sample.file("squashfs")):
        (use,) = users_of(sample.directory)[sample.file("squashfs").name]
        other = LoopUse(use.device, use.path, False, True, use.readable_size, identity=(1, 2))
        with pytest.raises(StorageError, match="another file"):
            read_back(other, bytes)


def test_a_real_device_of_a_file_that_was_replaced_holds_the_old_one(sample: Sample, tmp_path: Path) -> None:
    packed, content = sample.file("tar"), sample.file("tar").read_bytes()
    with loop_device(packed):
        (tmp_path / "new").write_bytes(bytes(1024))
        os.replace(tmp_path / "new", packed)
        (use,) = users_of(sample.directory)[packed.name]
        assert use.deleted
        with open(tmp_path / "back", "wb") as target:
            read_back(use, target.write)
    assert hashlib.sha256((tmp_path / "back").read_bytes()).digest() == hashlib.sha256(content).digest()


def test_a_real_device_lacks_the_odd_bytes_of_the_last_sector(tmp_path: Path, cache: Path) -> None:
    (cache / NAME).write_bytes(b"x" * 1500)
    with loop_device(cache / NAME):
        (use,) = users_of(cache)[NAME]
        assert use.readable_size == 1024


def test_a_real_device_of_a_file_under_another_name(tmp_path: Path, cache: Path) -> None:
    os.link(cache / NAME, tmp_path / "elsewhere")
    with loop_device(tmp_path / "elsewhere") as device:
        assert [use.device for use in users_of(cache)[NAME]] == [device]
