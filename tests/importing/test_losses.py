"""What a packed format cannot hold is left out, and told: counted, with the first examples."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from ocitui.cache import PackedFormat, PackerCache
from ocitui.importing import ImportDesk, ImportRequest, import_image, inspect_source
from ocitui.importing.errors import PackerError
from ocitui.importing.layers.flatten import flattening
from ocitui.importing.layers.layers import LayerLimits
from ocitui.importing.layers.tree import Counter
from ocitui.importing.packing.packers import flatten_request
from ocitui.importing.packing.packing import FlattenRequest, PackOptions
from tests.cache.support import write_cache
from tests.importing.image_makers import layout_files as files_of
from tests.importing.image_makers import make_image, make_index, named, write_files
from tests.importing.layer_support import Item, folder, layer, sources, tree_of_tar
from tests.importing.pipeline import image_of, layout_of
from tests.importing.test_packers import AS_ROOT, mounted
from tests.tools import ROOT, need

TAR, SQUASHFS, EROFS = PackedFormat.TAR, PackedFormat.SQUASHFS, PackedFormat.EROFS
USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 1, 2, 4, 16, 32
ENTRIES = ((USER_OBJ, 6, -1), (USER, 4, 7), (GROUP_OBJ, 4, -1), (MASK, 4, -1), (OTHER, 4, -1))
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in ENTRIES)
"""As linux/posix_acl_xattr.h has it; user 7 may read."""


def packed(
    place: Path, format: PackedFormat, *layers: bytes, compression: str | None = None, packer: str | None = None
) -> tuple[str, ...]:
    layers_there = tuple(sources(place.with_name(f"{place.name}-layers"), layers))
    request = FlattenRequest(
        tuple(one.size for one in layers_there), place, format, PackOptions(compression, packer=packer)
    )
    return flatten_request(request, layers_there).warnings


def with_acls() -> bytes:
    text = ACL.decode("latin-1").encode("latin-1").decode("utf-8", "surrogateescape")
    access, default = {"system.posix_acl_access": text}, {"system.posix_acl_default": text}
    return layer(folder("d", xattrs={**access, **default}), Item("d/file", xattrs={**access, "user.a": "b"}))


def test_squashfs_is_told_to_hold_no_acls_and_what_does(tmp_path: Path) -> None:
    (note,) = packed(tmp_path / "out", SQUASHFS, with_acls())
    assert note == (
        "squashfs holds no POSIX ACL: that of 2 files is left out ('d', 'd/file'); --format erofs or tar keeps it"
    )


def test_a_tar_keeps_acls_as_that_note_says(tmp_path: Path) -> None:
    assert packed(tmp_path / "out", TAR, with_acls()) == ()
    found = tree_of_tar((tmp_path / "out").read_bytes()).tree
    assert set(found["d"]["xattrs"]) == {"system.posix_acl_access", "system.posix_acl_default"}
    assert set(found["d/file"]["xattrs"]) == {"system.posix_acl_access", "user.a"}


@AS_ROOT
def test_erofs_keeps_acls_as_that_note_says(tmp_path: Path) -> None:
    need("mkfs.erofs")
    assert packed(tmp_path / "out", EROFS, with_acls()) == ()
    with mounted(tmp_path / "out", tmp_path / "mount") as root:
        assert os.getxattr(root / "d" / "file", "system.posix_acl_access") == ACL
        assert os.getxattr(root / "d", "system.posix_acl_default") == ACL


@pytest.mark.slow
@AS_ROOT
@pytest.mark.parametrize("format", [SQUASHFS, EROFS])
def test_attributes_that_linux_does_not_have_are_one_note(format: PackedFormat, tmp_path: Path) -> None:
    many = layer(*(Item(f"f{number}", xattrs={"com.apple.provenance": "x"}) for number in range(3000)))
    (note,) = packed(tmp_path / "out", format, many)
    assert note == (
        f"{format} holds no extended attribute 'com.apple.provenance': "
        "that of 3000 files is left out ('f0', 'f1', 'f2', ...)"
    )


def test_so_many_kinds_of_attributes_are_a_few_notes(tmp_path: Path) -> None:
    odd = layer(*(Item(f"f{number}", xattrs={f"odd.{number}": "x"}) for number in range(100)))
    notes = packed(tmp_path / "out", SQUASHFS, odd)
    assert len(notes) == 11
    assert notes[-1] == "squashfs holds 90 more extended attributes neither"


@pytest.mark.slow
@pytest.mark.parametrize("format", [SQUASHFS, TAR])
def test_times_that_are_clamped_are_one_note(format: PackedFormat, tmp_path: Path) -> None:
    old = layer(*(Item(f"f{number}", mtime=-1 if number % 2 else 1 << 33) for number in range(3000)), Item("good"))
    (note,) = packed(tmp_path / "out", format, old)
    assert note == ("3000 times before 1970 or after 2106 became the nearest that can be held ('f0', 'f1', 'f2', ...)")


def test_what_the_image_no_longer_has_is_no_loss(tmp_path: Path) -> None:
    lower = layer(
        Item("gone", mtime=-1, xattrs={"com.apple.x": "1"}),
        Item("replaced", mtime=-1, xattrs={"com.apple.x": "1"}),
        folder("again", mtime=-1, xattrs={"com.apple.x": "1"}),
    )
    upper = layer(Item(".wh.gone"), Item("replaced"), folder("again"))
    assert packed(tmp_path / "out", SQUASHFS, lower, upper) == ()


def test_what_is_left_out_is_not_in_the_tar(tmp_path: Path) -> None:
    """The size that was foretold is that of what is written."""
    mixed = layer(folder("./", xattrs={"com.apple.x": "1"}), Item("f", xattrs={"com.apple.x": "1", "user.a": "b"}))
    counter, made = Counter(), bytearray()
    with flattening(sources(tmp_path, [mixed]), LayerLimits(), counter, (b"user.", b"trusted.")) as image:
        image.write(made.extend, counter)
        assert len(made) == image.plan.size
    tree = tree_of_tar(bytes(made)).tree
    assert "xattrs" not in tree["."]
    assert set(tree["f"]["xattrs"]) == {"user.a"}


def test_what_a_packer_says_of_each_file_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("mksquashfs")
    tool = tmp_path / "tools" / "mksquashfs"
    tool.parent.mkdir()
    said = "for n in $(seq 300); do echo \"cannot do this to 'file $n'\" >&2; done; echo other >&2"
    tool.write_text(f'#!/bin/sh\n[ "$1" = - ] && {{ {said}; }}\nexec {shutil.which("mksquashfs")} "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    root = layer(folder("./", uid=os.getuid(), gid=os.getgid()))
    notes = packed(tmp_path / "out", SQUASHFS, root, packer="mksquashfs")
    assert notes == ("cannot do this to 'file 1' (299 more like it)", "other")


async def test_the_case_with_many_attributes(tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", [])
    source = str(ROOT / "tests" / "cases" / "07-many-mac-xattrs.oci.tar")
    request = ImportRequest(source=source, name="a/b:1", platform="linux/amd64")
    done = await import_image(ImportDesk(PackerCache(tmp_path / "cache")), request)
    (note,) = done.notes
    assert "that of 400 files is left out" in note


async def test_verdicts_on_many_neighbours_are_a_few_notes(tmp_path: Path) -> None:
    image = make_image(b"x")
    charts = [make_image(b"x", config_type="application/vnd.cncf.helm.config.v1+json", number=n) for n in range(40)]
    index = make_index(named(image, "good"), *(named(one, f"chart{n}") for n, one in enumerate(charts)))
    write_files(tmp_path / "layout", files_of(index, *image.blobs, *(one.manifest for one in charts)))
    found = await inspect_source(ImportRequest(source=f"oci:{tmp_path}/layout:good", platform="linux/amd64"))
    assert len(found.notes) == 11
    assert found.notes[-1] == "30 more are no images"
    assert sum(bool(one.problem) for one in found.images) == 40


async def test_the_note_reaches_who_imports(tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", [])
    layout = layout_of(tmp_path / "layout", image_of(with_acls()))
    desk = ImportDesk(PackerCache(tmp_path / "cache"))
    request = ImportRequest(source=f"oci:{layout}:x", name="a/b:1", platform="linux/amd64")
    assert any("POSIX ACL" in note for note in (await import_image(desk, request)).notes)


@AS_ROOT
@pytest.mark.parametrize("place", ["", "d/"])
def test_a_name_that_erofs_loses_is_refused_before_it_packs(place: str, tmp_path: Path) -> None:
    """Version 1.5 cuts it: it fails, or, where a shorter name is there, takes that one's file without a word."""
    need("mkfs.erofs", "unsquashfs")
    longest, shorter = "n" * 255, "n" * 254
    both = layer(folder("d"), Item(place + longest, data=b"long"), Item(place + shorter, data=b"short"))
    refused: PackerError | None = None
    try:
        packed(tmp_path / "out", EROFS, both, compression="lz4")
    except PackerError as error:
        refused = error
    if refused is not None:
        assert refused.message == f"mkfs.erofs loses names of 255 bytes: '{longest}'"
        assert refused.hint == "--format squashfs holds it"
    else:  # a version that holds it
        with mounted(tmp_path / "out", tmp_path / "mount") as root:
            assert (root / place / longest).read_bytes() == b"long"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    assert packed(tmp_path / "squashfs", SQUASHFS, both) == packed(tmp_path / "tar", TAR, both) == ()
    assert tree_of_tar((tmp_path / "tar").read_bytes()).tree[place + longest]["size"] == 4
    listed = subprocess.run(["unsquashfs", "-ll", tmp_path / "squashfs"], capture_output=True, check=True)
    assert f"squashfs-root/{place}{longest}\n".encode() in listed.stdout


@AS_ROOT
def test_the_longest_name_that_erofs_holds_is_packed(tmp_path: Path) -> None:
    need("mkfs.erofs")
    for compression, longest in ((None, 255), ("lz4", 254)):
        out, name = tmp_path / f"{longest}", "n" * longest
        assert packed(out, EROFS, layer(Item(name, data=b"long")), compression=compression) == ()
        with mounted(out, tmp_path / f"{longest}-mount") as root:
            assert (root / name).read_bytes() == b"long"
