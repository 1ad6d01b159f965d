"""Rules of layers that the records do not show one by one; umoci decides them, where it accepts the image."""

import io
import tarfile
from pathlib import Path

import pytest

from ocitui.importing.errors import LayerError, LayerLimitError
from ocitui.importing.layers.layers import LayerLimits
from tests.importing.layer_support import Found, Item, flattened, folder, hard, layer, link, sources, tree_of_tar

BASE = (folder("d"), Item("d/a", data=b"1"), Item("d/b", data=b"2"), Item("top", data=b"3"))


def flat(directory: Path, *layers: tuple[Item, ...], limits: LayerLimits | None = None) -> Found:
    return tree_of_tar(flattened(sources(directory, [layer(*items) for items in layers]), limits))


def names(directory: Path, *layers: tuple[Item, ...]) -> set[str]:
    return set(flat(directory, *layers).tree) - {"."}


@pytest.mark.parametrize(
    ("upper", "expected"),
    [
        pytest.param((Item("d/n"), Item("d/.wh..wh..opq")), {"d", "d/n", "top"}, id="opaque-after-its-sibling"),
        pytest.param((Item(".wh..wh..opq"), Item("n")), {"n"}, id="opaque-root"),
        pytest.param((Item("n"), Item(".wh..wh..opq")), {"n"}, id="opaque-root-last"),
        pytest.param((Item("d/n"), Item(".wh.d")), {"d", "d/n", "top"}, id="whiteout-after-a-child"),
        pytest.param((folder(".wh.d"),), {"top"}, id="whiteout-of-any-type"),
        pytest.param((Item("./d/../.wh.top"),), {"d", "d/a", "d/b"}, id="whiteout-by-a-crooked-name"),
        pytest.param((hard("h", "d/a"), Item("d/.wh.a")), {"d", "d/b", "h", "top"}, id="linked-then-whited-out"),
        pytest.param((hard("h", "top"), Item(".wh.h")), {"d", "d/a", "d/b", "h", "top"}, id="own-link-stays"),
        pytest.param(
            (Item("../../x"), Item("/y"), Item("d/../../z")), {"d", "d/a", "d/b", "top", "x", "y", "z"}, id="up"
        ),
        pytest.param((link("l", "d"), Item("l/.wh.a")), {"d", "d/b", "l", "top"}, id="whiteout-through-a-new-link"),
        pytest.param(
            (link("l", "../../../d"), Item("l/n")), {"d", "d/a", "d/b", "d/n", "l", "top"}, id="links-stay-in"
        ),
        pytest.param(
            (link("l", "/x/y"), Item("l/n")), {"d", "d/a", "d/b", "l", "top", "x", "x/y", "x/y/n"}, id="dangling"
        ),
        pytest.param((Item("d/.wh..wh.plnk/1"), Item(".wh..wh.aufs")), {"d", "d/a", "d/b", "top"}, id="aufs"),
        pytest.param((link("d", "top"),), {"d", "top"}, id="directory-to-link"),
        pytest.param((folder("top"), Item("top/n")), {"d", "d/a", "d/b", "top", "top/n"}, id="file-to-directory"),
    ],
)
def test_a_layer_over_another(upper: tuple[Item, ...], expected: set[str], tmp_path: Path) -> None:
    assert names(tmp_path, BASE, upper) == expected


def test_a_new_directory_in_a_links_place_hides_nothing_behind_the_link(tmp_path: Path) -> None:
    lower = (folder("usr"), Item("usr/a"), link("lib", "usr"))
    upper = (folder("lib"), Item("lib/.wh..wh..opq"), Item("lib/n"), Item("lib/.wh.a"))
    assert names(tmp_path, lower, upper) == {"lib", "lib/n", "usr", "usr/a"}


def test_an_inode_keeps_its_names_when_the_first_goes(tmp_path: Path) -> None:
    lower = (Item("a", data=b"1", uid=7), hard("b", "a"), hard("c", "b"))
    found = flat(tmp_path, lower, (Item(".wh.a"),))
    assert set(found.tree) == {".", "b", "c"}
    assert found.hardlinks == [["b", "c"]]
    assert found.tree["c"]["uid"] == 7


def test_links_to_links_and_devices_are_inodes_too(tmp_path: Path) -> None:
    found = flat(
        tmp_path,
        (link("s", "x"), hard("s2", "s"), Item("c", tarfile.CHRTYPE, device=(1, 3)), hard("c2", "c")),
        (Item("n"),),
    )
    assert found.hardlinks == [["c", "c2"], ["s", "s2"]]


def test_a_directory_described_again_loses_its_old_attributes(tmp_path: Path) -> None:
    lower = (folder("d", xattrs={"user.a": "1"}, uid=3), Item("d/a"))
    found = flat(tmp_path, lower, (folder("d", 0o700),))
    assert found.tree["d"] == {"type": "directory", "uid": 0, "gid": 0, "mode": "700"}
    assert "d/a" in found.tree


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ((Item("./"),), "would replace the root"),
        ((link("/", "x"),), "would replace the root"),
        ((Item("d/.wh."),), "names no entry"),
        ((Item("d/.wh..."),), "names no entry"),
        ((link("a", "b"), link("b", "a"), Item("a/x")), "too many symbolic links"),
        ((link("a", "a/a"), Item("a/x")), "too many symbolic links"),
        ((hard("h", "h"),), "not there"),
        ((Item("f"), hard("f", "f")), "not there"),
        ((folder("d"), hard("h", "d")), "a directory"),
        ((hard("h", "/"),), "not there"),
        ((link("s", ""),), "a symbolic link to nothing"),
        ((Item("x" * 256),), "more than 255 bytes"),
        ((Item("x" * 256 + "/y"),), "more than 255 bytes"),
        ((Item("f", uid=1 << 33),), "owner"),
        ((Item("c", tarfile.CHRTYPE, device=(5000, 1)),), "device number"),
        # More than any reader of what is packed takes.
        ((Item("many", xattrs={f"user.{number}": "" for number in range(4097)}),), "4,096 extended attributes"),
    ],
)
def test_what_no_root_filesystem_can_hold_is_refused_by_name(
    items: tuple[Item, ...], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(LayerError, match=reason) as caught:
        flat(tmp_path, (), items)
    assert caught.value.layer == 2
    assert caught.value.entry is not None
    assert caught.value.message.startswith("layer 2, '")


@pytest.mark.parametrize(
    ("limits", "reason", "hint"),
    [
        (LayerLimits(entries=3), "3 entries", "--max-entries raises the limit"),
        (LayerLimits(metadata_bytes=6), "6 bytes", "which is fixed"),
        (LayerLimits(unpacked_bytes=2000), "2000 bytes", "--max-bytes raises the limit"),
        (LayerLimits(depth=0), "0 directories", "which is fixed"),
        (LayerLimits(path_bytes=2), "2 bytes", "which is fixed"),
    ],
)
def test_limits(limits: LayerLimits, reason: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(LayerLimitError, match=reason) as caught:
        flat(tmp_path, BASE, limits=limits)
    assert caught.value.layer == 1
    assert hint in caught.value.hint


def test_paths_that_links_make_longer_are_bounded(tmp_path: Path) -> None:
    deep = "/".join("d" * 200 for _ in range(15))
    steps = [link(f"l{step}", f"l{step - 1}/{deep}" if step else deep) for step in range(3)]
    with pytest.raises(LayerLimitError, match="4096 bytes"):
        flat(tmp_path, (*steps, Item("l2/x")))


def test_times_are_clamped(tmp_path: Path) -> None:
    data = flattened(sources(tmp_path, [layer(Item("old", mtime=-5), Item("new", mtime=1 << 40))]))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {info.name: info.mtime for info in archive} == {".": 0, "old": 0, "new": (1 << 32) - 1}


@pytest.mark.slow
def test_many_whiteouts_of_one_directory_take_no_square_of_time(tmp_path: Path) -> None:
    count = 20_000
    header = tarfile.BLOCKSIZE
    named = layer(*(Item(f"d/{number}") for number in range(count)))[: count * header]
    upper = named + layer(Item(".wh.d"))[:header] * count + bytes(2 * header)
    found = tree_of_tar(flattened(sources(tmp_path, [layer(*BASE), upper])))
    assert len(found.tree) == count + 3
