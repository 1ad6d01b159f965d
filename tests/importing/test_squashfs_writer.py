"""squashfs as it is written here: what a kernel, unsquashfs and the project's own reader find in it."""

from __future__ import annotations

import os
import random
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocitui.cache import SOUND_PACKED, PackedFormat, check_packed
from ocitui.contents import digest_lines, open_tree
from ocitui.contents.digest import TreeLevel, tree_digest
from ocitui.importing.errors import PackerError, ReadBackError
from ocitui.importing.layers.layers import LayerSource
from ocitui.importing.packing.packers import TarPacker, flatten_request
from ocitui.importing.packing.packing import FlattenRequest, PackedLayers, PackOptions
from ocitui.threads import Stop
from tests.contents.trees_support import Told, mounted, random_root, told, walked
from tests.importing.layer_support import Item, flattened, folder, hard, layer, layer_source, link, sources, tree_of_tar
from tests.importing.test_packers import AS_ROOT
from tests.tools import need, seeds

pytestmark = pytest.mark.slow

SQUASHFS = PackedFormat.SQUASHFS
BLOCK, LATEST = 1 << 17, (1 << 32) - 1
SIZES = (1, BLOCK, BLOCK + 1, 300_000)
ZOO = (
    folder("./", 0o751, uid=12, gid=34, mtime=0, xattrs={"user.root": "r"}),
    folder("d", 0o1777, uid=LATEST - 1, gid=LATEST - 1, mtime=LATEST, xattrs={"trusted.t": "", "user.l": "v" * 3000}),
    Item("d/both", data=b"content", mode=0o4755, mtime=0, xattrs={"user.a": "1\n2", "security.x": "y"}),
    Item("d/same", data=b"other", xattrs={"user.a": "1\n2", "security.x": "y"}),
    hard("d/again", "d/both"),
    link("s", "t" * 4095),
    Item("attributed", tarfile.SYMTYPE, link="nowhere", xattrs={"trusted.s": "x" * 3000}),
    hard("s2", "s"),
    Item("empty"),
    Item("empty with", xattrs={"user.e": "1"}),
    folder("empty folder"),
    Item("null", tarfile.CHRTYPE, device=(1, 3), mode=0o666),
    Item("disk", tarfile.BLKTYPE, device=(4095, (1 << 20) - 1), xattrs={"trusted.b": "1"}),
    Item("pipe", tarfile.FIFOTYPE, xattrs={"trusted.p": "1"}),
    hard("pipe2", "pipe"),
    *(Item(name, data=name[:1].encode()) for name in ("caf\udce9", "new\nline", "back\\slash", "n" * 255)),
    *(Item(f"size{size}", data=random.Random(size).randbytes(size)) for size in (BLOCK - 1, *SIZES)),
    *(Item(f"again{size}", data=random.Random(size).randbytes(size)) for size in SIZES),
    Item("between", data=b"z" * 200_000),
    Item("holes", data=bytes(5 * BLOCK)),
    Item("holes again", data=bytes(5 * BLOCK)),
    Item("holes and", data=bytes(BLOCK) + b"x" * BLOCK + bytes(BLOCK + 7)),
    *(Item(f"many/{number:04}{'m' * (number % 200)}") for number in range(3000)),
    Item("/".join("p" * 6 for _ in range(400)) + "/deep", data=b"deep"),
)  # fmt: skip


@pytest.fixture
def zoo(tmp_path: Path) -> list[LayerSource]:
    return sources(tmp_path / "layers", [layer(*ZOO)])


def pack(
    layers: list[LayerSource], output: Path, format: PackedFormat = SQUASHFS, packer: str | None = None
) -> PackedLayers:
    options = PackOptions(packer=packer)
    return flatten_request(FlattenRequest(tuple(one.size for one in layers), output, format, options), layers)


def read(image: Path, format: PackedFormat = SQUASHFS) -> Told:
    with open(image, "rb") as file:
        return told(open_tree(file, format, Stop()))


def on_processors(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)))


def test_the_zoo_is_what_the_tar_has_and_what_a_kernel_reads(zoo: list[LayerSource], tmp_path: Path) -> None:
    assert pack(zoo, tmp_path / "out").warnings == ()
    assert check_packed(tmp_path / "out") == SOUND_PACKED[SQUASHFS]
    pack(zoo, tmp_path / "tar", PackedFormat.TAR)
    found = read(tmp_path / "out")
    assert len(found) == len(tree_of_tar(flattened(zoo)).tree) == 3434
    assert found == read(tmp_path / "tar", PackedFormat.TAR)
    with mounted(tmp_path / "out", "squashfs") as mount:
        if mount is None:
            pytest.skip("cannot mount")
        assert walked(mount) == found
        # Holes take no room, what is there twice is there once.
        assert [(mount / name).stat().st_blocks for name in ("holes", "holes and")] == [1, 257]
    assert (tmp_path / "out").stat().st_size < 1_000_000


@AS_ROOT
def test_the_zoo_as_unsquashfs_unpacks_it(zoo: list[LayerSource], tmp_path: Path) -> None:
    need("unsquashfs")
    pack(zoo, tmp_path / "out")
    command = ["unsquashfs", "-quiet", "-no-progress", "-d", str(tmp_path / "tree"), str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    found, wanted = walked(tmp_path / "tree"), read(tmp_path / "out")
    # It leaves the owner of what it unpacks into, and its attributes.
    del found[b""], wanted[b""]
    assert found == wanted


@pytest.mark.parametrize("count", [2, 5])
def test_so_many_threads_give_the_same_bytes(
    count: int, zoo: list[LayerSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, processors in (("one", 1), ("more", count)):
        on_processors(processors, monkeypatch)
        pack(zoo, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "more").read_bytes()


@pytest.mark.parametrize("packer", [None, "mksquashfs"])
def test_an_empty_image(packer: str | None, tmp_path: Path) -> None:
    need(*[packer] if packer else [])
    pack(sources(tmp_path / "layers", [layer()]), tmp_path / "out", packer=packer)
    assert [*read(tmp_path / "out")] == [b""]
    with mounted(tmp_path / "out", "squashfs") as mount:
        assert mount is None or walked(mount) == read(tmp_path / "out")


@pytest.mark.parametrize("seed", seeds(6, 1000))
def test_random_trees(seed: int, tmp_path: Path) -> None:
    root = random_root(tmp_path / "root", random.Random(seed))
    tar = f"tar -C {root} --format=pax --xattrs --xattrs-include=* -cf {tmp_path}/layer ."
    subprocess.run(tar.split(), check=True, capture_output=True)
    wanted = {path: one for path, one in walked(root).items() if one["type"] != "s"}
    notes = pack([layer_source(tmp_path / "layer")], tmp_path / "out").warnings
    assert notes == ()
    found = read(tmp_path / "out")
    with mounted(tmp_path / "out", "squashfs") as mount:
        assert mount is None or walked(mount) == found
    for one in (found, wanted):
        for about in one.values():
            about.pop("nlink", None)
    assert found == wanted


def owners(count: int) -> Iterator[Item]:
    """The root's is one, and each of these has two that no other has."""
    for number in range(1, count // 2 + 1):
        yield Item(f"f{number}", uid=2 * number, gid=2 * number - 1)


def test_as_many_owners_as_squashfs_numbers_and_one_more(tmp_path: Path) -> None:
    most = layer(*owners(65_534))
    pack(sources(tmp_path / "layers", [most]), tmp_path / "out")
    found = read(tmp_path / "out")
    assert [found[b"f32767"][key] for key in ("uid", "gid")] == [65_534, 65_533]
    with mounted(tmp_path / "out", "squashfs") as mount:
        assert mount is None or (mount / "f32767").stat().st_uid == 65_534
    one_more = layer(Item("more", uid=70_000))[: tarfile.BLOCKSIZE] + most
    with pytest.raises(PackerError, match="it has 65,536 users and groups, and squashfs holds 65,535") as refused:
        pack(sources(tmp_path / "more", [one_more]), tmp_path / "out2")
    assert "--format erofs" in refused.value.hint
    assert not (tmp_path / "out2").exists()


def test_an_attribute_that_is_too_large_is_left_out_and_told(tmp_path: Path) -> None:
    items = Item("f", xattrs={"user.large": "v" * 65_537, "user.": "x", "user.fits": "v" * 65_536})
    notes = pack(sources(tmp_path / "layers", [layer(items)]), tmp_path / "out").warnings
    assert {note.partition(":")[0] for note in notes} == {
        "squashfs holds no extended attribute 'user.large'",
        "squashfs holds no extended attribute 'user.'",
    }
    assert read(tmp_path / "out")[b"f"]["xattrs"] == {b"user.fits": "76" * 65_536}


@pytest.mark.long
def test_a_wide_directory(tmp_path: Path) -> None:
    wide = layer(folder("w"), *(Item(f"w/{'n' * (number % 250)}{number}") for number in range(70_000)))
    pack(sources(tmp_path / "layers", [wide]), tmp_path / "out")
    found = read(tmp_path / "out")
    assert len(found) == 70_002
    with mounted(tmp_path / "out", "squashfs") as mount:
        # Every name is looked up, by the index.
        assert mount is None or walked(mount) == found


@pytest.mark.long
def test_a_file_of_more_than_four_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with open(tmp_path / "root" / "large", "wb") as file:
        file.write(b"begin")
        file.truncate((4 << 30) + 200_000)
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    tar = f"tar -C {tmp_path}/root --format=pax --sparse -cf {tmp_path}/layer large"
    subprocess.run(tar.split(), check=True)
    pack([layer_source(tmp_path / "layer")], tmp_path / "out")
    assert (tmp_path / "out").stat().st_size < 1 << 20
    with mounted(tmp_path / "out", "squashfs") as mount:
        assert mount is None or walked(mount)[b"large"] == walked(tmp_path / "root")[b"large"]


@pytest.mark.parametrize("format", PackedFormat)
def test_the_lines_of_what_was_packed_come_with_it(
    format: PackedFormat, zoo: list[LayerSource], tmp_path: Path
) -> None:
    kept = pack(zoo, tmp_path / "out", format).lines
    assert kept is not None
    lines = "".join(kept.at(TreeLevel.FULL))
    with open(tmp_path / "out", "rb") as file:
        assert lines == "".join(digest_lines(open_tree(file, format, Stop()), TreeLevel.FULL, Stop()))
        assert kept.content == tree_digest(open_tree(file, format, Stop()), TreeLevel.CONTENT, Stop())
    assert lines.count("\n") == 3435
    assert bool(kept.path_index) is (format is PackedFormat.TAR)


@pytest.mark.parametrize("format", PackedFormat)
@pytest.mark.parametrize("what", ["a byte", "the end"])
def test_what_the_disk_does_not_keep_is_found_and_not_left(
    what: str, format: PackedFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = os.urandom(50_000)
    finish = TarPacker.finish

    def bent(self: TarPacker) -> None:
        finish(self)
        data = bytearray((tmp_path / "out").read_bytes())
        at = data.index(noise[20_000:20_100])
        data[at] ^= 1
        (tmp_path / "out").write_bytes(data if what == "a byte" else data[: at + 1])

    monkeypatch.setattr(TarPacker, "finish", bent)
    said = "'/f': its content is another" if what == "a byte" else "cannot be read back"
    if format is SQUASHFS and what == "a byte":
        said = "cannot be read back|its content is another"
    with pytest.raises(ReadBackError, match=said):
        pack(sources(tmp_path / "layers", [layer(Item("f", data=noise))]), tmp_path / "out", format)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([Item("f", data=b"12"), hard("h", "f")], "'/f': its content is another"),
        ([Item("f", data=b"y"), hard("h", "f")], "'/h': its content is another"),
        ([Item("f", data=b"x", mode=0o600), hard("h", "f")], "'/f': its mode is another"),
        ([Item("f", data=b"x", uid=1), hard("h", "f")], "'/f': its owner is another"),
        ([Item("f", data=b"x", mtime=9), hard("h", "f")], "'/f': its time is another"),
        ([Item("f", data=b"x", xattrs={"user.a": "2"}), hard("h", "f")], "'/f': its set of extended attributes"),
        ([Item("f", data=b"x"), Item("h", data=b"x")], "'/h': it is linked otherwise"),
        ([Item("f", data=b"x"), hard("h", "f"), hard("z", "f")], "'/z': it is linked otherwise"),
        ([Item("f", data=b"x")], "lacks 1 name of"),
        ([Item("f", data=b"x"), hard("h", "f"), Item("more")], "'/more': no layer has it"),
        ([folder("f"), Item("h", data=b"x")], "'/f': its type is another"),
        ([Item("f", data=b"x"), hard("h", "f"), link("l", "b")], "'/l': its target is another"),
        ([Item("f", data=b"x"), hard("h", "f"), Item("n", tarfile.CHRTYPE, device=(1, 4))], "'/n': its device"),
        ([folder("./", 0o700), Item("f", data=b"x"), hard("h", "f")], "'/': its mode is another"),
    ],
)
@pytest.mark.parametrize("format", PackedFormat)
def test_another_tree_is_not_what_the_layers_hold(
    format: PackedFormat, other: list[Item], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_more = link("l", "a"), Item("n", tarfile.CHRTYPE, device=(1, 3)), Item("z", data=b"x")
    more = [one for one in all_more if f"/{one.name}'" in said]
    pack(sources(tmp_path / "other-layers", [layer(*other)]), tmp_path / "other", format)
    finish = TarPacker.finish

    def exchanged(self: TarPacker) -> None:
        finish(self)
        os.replace(tmp_path / "other", tmp_path / "out")

    monkeypatch.setattr(TarPacker, "finish", exchanged)
    with pytest.raises(ReadBackError, match=said):
        pack(
            sources(tmp_path / "layers", [layer(Item("f", data=b"x"), hard("h", "f"), *more)]), tmp_path / "out", format
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", PackedFormat)
def test_lines_too_long_to_be_kept_are_no_reason_to_refuse_an_image(
    zoo: list[LayerSource], tmp_path: Path, format: PackedFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.contents.digest.MOST_TEXT", 10_000)
    assert pack(zoo, tmp_path / "out", format).lines is None
    assert len(read(tmp_path / "out", format)) == 3434
