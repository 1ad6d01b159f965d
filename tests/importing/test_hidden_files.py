"""What layers hold and the image has not: hidden by later layers, whichever way they do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.importing.errors import LayerLimitError
from ocitui.importing.layers.layers import LayerLimits
from ocitui.importing.layers.tree import Counter, hidden_files
from tests.importing.layer_support import Item, folder, hard, layer, link, sources

LOWER = layer(
    folder("a"), Item("a/one", data=b"1" * 10), Item("a/b/two", data=b"2" * 20), Item("kept", data=b"k"), link("l", "a")
)
Hidden = list[tuple[str, int, int, int]]


def hidden(tmp_path: Path, *upper: bytes, limits: LayerLimits | None = None) -> tuple[Hidden, int]:
    found, size = hidden_files(sources(tmp_path, (LOWER, *upper)), limits or LayerLimits(), Counter())
    return [(one.path.decode(), *one[1:]) for one in found], size


@pytest.mark.parametrize(
    ("upper", "found"),
    [
        (layer(Item("a/.wh.one")), [("a/one", 10, 1, 2)]),
        (layer(Item(".wh.a")), [("a/b/two", 20, 1, 2), ("a/one", 10, 1, 2)]),
        (layer(Item("a/.wh..wh..opq")), [("a/b/two", 20, 1, 2), ("a/one", 10, 1, 2)]),
        (layer(Item("a", data=b"no folder")), [("a/b/two", 20, 1, 2), ("a/one", 10, 1, 2)]),
        (layer(Item("a/one", data=b"other")), [("a/one", 10, 1, 2)]),
        # Through a link, as the file lies in another place than the layer says.
        (layer(Item("l/one", data=b"other")), [("a/one", 10, 1, 2)]),
        (layer(folder("a", mode=0o700)), []),
        (layer(Item("new", data=b"a"), Item("new", data=b"b")), []),
    ],
    ids=["whiteout", "of a folder", "opaque", "folder to file", "overwritten", "by a link", "folder again", "own"],
)
def test_what_a_later_layer_hides(tmp_path: Path, upper: bytes, found: Hidden) -> None:
    assert hidden(tmp_path, upper)[0] == found


def test_an_inode_with_another_name_is_not_hidden(tmp_path: Path) -> None:
    other = layer(hard("name", "a/one"), Item("a/.wh.one"))
    assert hidden(tmp_path, other)[0] == []
    assert hidden(tmp_path, other, layer(Item(".wh.name")))[0] == [("name", 10, 1, 3)]


def test_each_layer_has_its_own_and_all_are_counted(tmp_path: Path) -> None:
    found, size = hidden(tmp_path, layer(Item("kept", data=b"kk")), layer(Item(".wh.kept"), Item("a/.wh.one")))
    assert found == [("a/one", 10, 1, 3), ("kept", 1, 1, 2), ("kept", 2, 2, 3)]
    assert size == 10 + 20 + 1 + 2


def test_paths_of_hidden_files_are_bounded(tmp_path: Path) -> None:
    """A path counts as often as it is hidden: entries of one character each may lie deep."""
    deep = layer(folder("x" * 200), *(Item(f"{'x' * 200}/{number}") for number in range(9)))
    bound = LayerLimits(metadata_bytes=4096)
    assert len(hidden(tmp_path, deep, layer(Item(f".wh.{'x' * 200}")), limits=bound)[0]) == 9
    moved = layer(folder("x" * 200 + "/y"), *(Item(f"l/{number}") for number in range(200)))
    deeper = layer(link("m", "x" * 200 + "/y"), *(Item(f"m/{number}") for number in range(200)))
    with pytest.raises(LayerLimitError, match=r"take more than 4\.0K, too much to be listed"):
        hidden(tmp_path, moved, deeper, layer(Item(f".wh.{'x' * 200}")), limits=bound)
